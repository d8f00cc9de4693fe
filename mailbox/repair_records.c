/* What the upstream has is put into the rows of a mailbox here: records with their content and
 * keywords, what users have seen, and meta values. */
#include "mailbox/repairing.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/content.h"
#include "mailbox/draft.h"
#include "mailbox/keywords.h"
#include "mailbox/values.h"

#include <stdlib.h>

int repair_adopt(struct tx *tx, struct draft **drafts, size_t count)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (drafts[i])
            rc = draft_adopt(tx->db, drafts[i], NULL);
    return rc;
}

int repair_drop_unused(struct tx *tx, struct draft **drafts, size_t count)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (drafts[i])
            rc = content_drop_unreferenced(tx->db, draft_guid(drafts[i]));
    return rc;
}

/* Content of records that are replaced or go: a message may come back under another UID, with
 * nobody else who refers to what it holds. */
struct kept {
    struct guid *guids;
    size_t count;
    size_t capacity;
};

static int keep_content(struct tx *tx, struct kept *kept, const struct guid *guid)
{
    struct guid *guids = array_room(kept->guids, kept->count, &kept->capacity, sizeof *guids);
    if (!guids)
        return ERR_NOMEM;
    kept->guids = guids;
    int rc = content_ref(tx->db, guid);
    if (rc == ERR_OK)
        guids[kept->count++] = *guid;
    return rc;
}

static int leave_content(struct tx *tx, struct kept *kept)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < kept->count; i++)
        rc = content_unref(tx->db, &kept->guids[i]);
    return rc;
}

static int replace_record(struct tx *tx, struct box *box, const struct merge_record *record,
                          struct kept *kept, uint64_t *added)
{
    struct record before;
    struct record after = record->record;
    int rc = keywords_intern(tx->db, record->keywords);
    if (rc)
        return rc;
    after.keywords = keywords_hash(record->keywords);
    rc = record_get(tx->db, box->header.number, after.uid, &before);
    *added += record_live(&after) && (rc || !record_live(&before));
    if (rc == ERR_END || rc == ERR_CORRUPT)
        return apply_record(tx, box, NULL, &after);
    if (rc == ERR_OK && !guid_equal(&before.guid, &after.guid))
        rc = keep_content(tx, kept, &before.guid);
    return rc ? rc : apply_record(tx, box, &before, &after);
}

static int remove_record(struct tx *tx, struct box *box, uint32_t uid, struct kept *kept)
{
    struct record before;
    int rc = record_get(tx->db, box->header.number, uid, &before);
    if (rc == ERR_CORRUPT)
        return record_delete(tx->db, box->header.number, uid);
    if (rc == ERR_OK)
        rc = keep_content(tx, kept, &before.guid);
    if (rc == ERR_OK)
        rc = apply_record(tx, box, &before, NULL);
    return rc == ERR_END ? ERR_OK : rc;
}

/* Puts records and removes others under the box's own number. */
int repair_put_records(struct tx *tx, struct box *box, const struct merge_other *other,
                       const struct uidset *gone, uint64_t *expunged)
{
    struct kept kept = {0};
    uint64_t live = box->header.messages;
    uint64_t added = 0;
    uint32_t uid;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < other->count; i++)
        rc = replace_record(tx, box, &other->records[i], &kept, &added);
    for (uint32_t at = 1; rc == ERR_OK && at && gone && uidset_next(gone, at, &uid); at = uid + 1)
        rc = remove_record(tx, box, uid, &kept);
    if (rc == ERR_OK)
        rc = leave_content(tx, &kept);
    free(kept.guids);
    if (expunged)
        *expunged = live + added - box->header.messages;
    return rc;
}

static int put_seen(struct tx *tx, struct header *header, const struct merge_seen *seen)
{
    struct uidset before = {0};
    struct versioned version;
    struct bytes user = buf_view(&seen->user);
    int rc = seen_get(tx->db, header->id, user, &before, &version);
    if (rc == ERR_OK && version.state != VALUE_NONE)
        header->items -= seen_digest(user, &before, version.version);
    if (rc == ERR_OK)
        rc = seen_put(tx->db, header->id, user, &seen->seen, seen->version);
    header->items += seen_digest(user, &seen->seen, seen->version);
    uidset_free(&before);
    return rc;
}

int repair_put_meta(struct tx *tx, uint64_t id, uint64_t *items, const struct merge_meta *meta)
{
    struct versioned before;
    struct versioned after = {
        .state = meta->state, .value = buf_view(&meta->value), .version = meta->version};
    struct bytes user = buf_view(&meta->user);
    struct bytes key = buf_view(&meta->key);
    int rc = meta_get(tx->db, id, user, key, &before);
    if (rc)
        return rc;
    *items -= meta_digest(user, key, &before);
    *items += meta_digest(user, key, &after);
    return meta_put(tx->db, id, user, key, &after);
}

int repair_put_values(struct tx *tx, struct box *box, const struct repair_change *change)
{
    const struct merge_other *other = change->other;
    uint64_t items = 0, rows;
    int rc = change->all_values ? values_delete_all(tx->db, box->header.id)
                                : values_digest(tx->db, box->header.id, &items, &rows);
    if (rc == ERR_CORRUPT)
        rc = fail(ERR_DIFFERS, "%s", err_message());
    box->header.items += items;
    for (size_t i = 0; rc == ERR_OK && i < other->seen_count; i++)
        rc = put_seen(tx, &box->header, &other->seen[i]);
    for (size_t i = 0; rc == ERR_OK && i < other->meta_count; i++)
        rc = repair_put_meta(tx, box->header.id, &box->header.items, &other->metas[i]);
    return rc;
}
