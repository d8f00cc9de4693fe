/* Carrying out a change: the only code that writes records, headers, seen sets and meta values.
 *
 * A master comes here with a change that it has just made up, a replica with one from its master's
 * journal. Where the store does not hold what the change says it found, the answer is ERR_DIFFERS:
 * at a replica that is damage, and stops the mailbox.
 */
#include "mailbox/tx.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/content.h"
#include "mailbox/count.h"
#include "mailbox/keywords.h"
#include "mailbox/values.h"

int apply_record(struct tx *tx, struct box *box, const struct record *before,
                 const struct record *after)
{
    uint32_t number = box->header.number;
    int rc = ERR_OK;
    if (before)
        count_record(&box->header, before, (uint64_t)-1);
    if (after)
        count_record(&box->header, after, 1);
    if (after)
        rc = record_put(tx->db, number, after);
    else if (before)
        rc = record_delete(tx->db, number, before->uid);
    bool moved = !before || !after || !guid_equal(&before->guid, &after->guid);
    if (rc == ERR_OK && moved && after)
        rc = content_ref(tx->db, &after->guid);
    if (rc == ERR_OK && moved && before)
        rc = content_unref(tx->db, &before->guid);
    return rc;
}

static int differs(const struct box *box, uint32_t uid, const char *what)
{
    return fail(ERR_DIFFERS, "mailbox %016llx, UID %u: %s", (unsigned long long)box->header.id, uid,
                what);
}

static int find(struct tx *tx, struct box *box, uint32_t uid, struct record *record)
{
    int rc = record_get(tx->db, box->header.number, uid, record);
    return rc == ERR_END ? differs(box, uid, "no record") : rc;
}

int apply_keywords(struct tx *tx, const struct change *change)
{
    int rc = keywords_intern(tx->db, change->keywords_before);
    if (rc == ERR_OK)
        rc = keywords_intern(tx->db, change->keywords_after);
    for (size_t i = 0; i < change->set_count && rc == ERR_OK; i++)
        rc = keywords_intern(tx->db, change->sets[i]);
    return rc;
}

static int apply_append(struct tx *tx, struct box *box, const struct change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < change->record_count && rc == ERR_OK; i++) {
        struct record there;
        const struct record *record = &change->records[i];
        rc = record_get(tx->db, box->header.number, record->uid, &there);
        if (rc == ERR_OK)
            rc = differs(box, record->uid, "a record is there already");
        else if (rc == ERR_END)
            rc = apply_record(tx, box, NULL, record);
    }
    return rc;
}

static int apply_expunge(struct tx *tx, struct box *box, const struct change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < change->record_count && rc == ERR_OK; i++) {
        struct record before;
        rc = find(tx, box, change->records[i].uid, &before);
        if (rc)
            break;
        if (!record_live(&before))
            return differs(box, before.uid, "expunged already");
        struct record after = before;
        after.flags |= RECORD_EXPUNGED;
        after.successor = change->successor;
        after.modseq = change->modseq;
        after.changed = change->time;
        rc = apply_record(tx, box, &before, &after);
    }
    return rc;
}

static int apply_bury(struct tx *tx, struct box *box, const struct change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < change->record_count && rc == ERR_OK; i++) {
        struct record before;
        const struct record *tombstone = &change->records[i];
        rc = record_get(tx->db, box->header.number, tombstone->uid, &before);
        if (rc == ERR_OK)
            rc = apply_record(tx, box, &before, tombstone);
        else if (rc == ERR_END)
            rc = apply_record(tx, box, NULL, tombstone);
    }
    return rc;
}

static int apply_flags(struct tx *tx, struct box *box, const struct change *change)
{
    uint64_t keywords = keywords_hash(change->keywords_after);
    int rc = ERR_OK;
    uint32_t uid;
    for (uint32_t at = 1; at && uidset_next(&change->uids, at, &uid); at = uid + 1) {
        struct record before;
        rc = find(tx, box, uid, &before);
        if (rc)
            return rc;
        if (!record_live(&before))
            return differs(box, uid, "expunged already");
        struct record after = before;
        after.flags = (after.flags & ~FLAG_SYSTEM) | change->system_after;
        after.keywords = keywords;
        after.modseq = change->modseq;
        after.changed = change->time;
        rc = apply_record(tx, box, &before, &after);
    }
    return rc;
}

/* Raises the modseq of records. Tombstones that are gone, purged by this node alone, are nothing to
 * miss; what should be live and is not shows in the digest. */
static int raise(struct tx *tx, struct box *box, const struct change *change)
{
    uint32_t uid;
    for (uint32_t at = 1; at && uidset_next(&change->uids, at, &uid); at = uid + 1) {
        struct record before;
        int rc = record_get(tx->db, box->header.number, uid, &before);
        if (rc == ERR_END)
            continue;
        if (rc)
            return rc;
        struct record after = before;
        after.modseq = change->modseq;
        after.changed = change->time;
        rc = apply_record(tx, box, &before, &after);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int apply_purge(struct tx *tx, struct box *box, const struct change *change)
{
    struct record records[64];
    size_t count = 64;
    for (size_t i = 0; i < change->uids.count; i++) {
        struct uid_range range = change->uids.ranges[i];
        uint64_t next = range.first;
        /* By what is there, not by the numbers of a range, which may span much more. */
        while (next <= range.last) {
            int rc = record_batch(tx->db, box->header.number, (uint32_t)next, records, 64, &count);
            if (rc)
                return rc;
            for (size_t k = 0; k < count && records[k].uid <= range.last; k++) {
                if (record_live(&records[k]))
                    return differs(box, records[k].uid, "live, but purged");
                rc = apply_record(tx, box, &records[k], NULL);
                if (rc)
                    return rc;
            }
            if (count < 64)
                break;
            next = (uint64_t)records[count - 1].uid + 1;
        }
    }
    return ERR_OK;
}

static int apply_seen(struct tx *tx, struct box *box, const struct change *change)
{
    struct uidset seen = {0};
    struct versioned version = {0};
    struct former now = {.modseq = change->modseq, .changed = change->time};
    uint64_t id = box->header.id;
    int rc = raise(tx, box, change);
    if (rc == ERR_OK)
        rc = seen_get(tx->db, id, change->user, &seen, &version);
    if (rc == ERR_OK && version.state != VALUE_NONE)
        box->header.items -= seen_digest(change->user, &seen, version.version);
    for (size_t i = 0; i < change->uids.count && rc == ERR_OK; i++) {
        struct uid_range range = change->uids.ranges[i];
        rc = change->seen_after ? uidset_add_range(&seen, range.first, range.last)
                                : uidset_remove_range(&seen, range.first, range.last);
    }
    if (rc == ERR_OK)
        rc = seen_put(tx->db, id, change->user, &seen, now);
    if (rc == ERR_OK)
        box->header.items += seen_digest(change->user, &seen, now);
    uidset_free(&seen);
    return rc;
}

static int apply_meta(struct tx *tx, struct box *box, const struct change *change)
{
    struct versioned before;
    struct versioned after = {.state = change->value_after_state,
                              .value = change->value_after,
                              .version = {.modseq = change->modseq, .changed = change->time}};
    uint64_t *items = box ? &box->header.items : &tx->node.meta;
    uint64_t id = box ? box->header.id : 0;
    int rc = meta_get(tx->db, id, change->user, change->key, &before);
    if (rc)
        return rc;
    *items -= meta_digest(change->user, change->key, &before);
    *items += meta_digest(change->user, change->key, &after);
    return meta_put(tx->db, id, change->user, change->key, &after);
}

struct marking {
    struct tx *tx;
    const struct change *change;
};

static int learn_epoch(const struct epoch *epoch, void *arg)
{
    struct tx *tx = ((struct marking *)arg)->tx;
    struct epoch known;
    int rc = epoch_get(tx->db, epoch->id, &known);
    return rc == ERR_END ? epoch_put(tx->db, epoch) : rc;
}

static int keep_mark(const struct mark *mark, void *arg)
{
    const struct marking *work = arg;
    struct mark kept = *mark;
    kept.modseq = work->change->modseq;
    if (!kept.mailbox)
        kept.mailbox = work->change->mailbox;
    /* Of two about one epoch the one that reaches further says it all. */
    struct position known;
    int rc = mark_get(work->tx->db, &kept, &known);
    if (rc == ERR_OK && known.modseq >= kept.taken.modseq)
        return ERR_OK;
    return rc && rc != ERR_END ? rc : mark_put(work->tx->db, &kept);
}

int apply_mark(struct tx *tx, const struct change *change)
{
    struct marking work = {.tx = tx, .change = change};
    return mark_body_decode(change->mark, keep_mark, learn_epoch, &work);
}

static int apply_name(struct tx *tx, struct box *box, const struct facts *old,
                      const struct facts *new)
{
    int rc;
    if (old->state == MAILBOX_LIVE) {
        rc = db_delete(tx->db, TABLE_NAMES, name_encoded(&old->name));
        if (rc && rc != ERR_END)
            return rc;
    }
    if (new->state != MAILBOX_LIVE)
        return ERR_OK;
    rc = db_get(tx->db, TABLE_NAMES, name_encoded(&new->name), NULL);
    if (rc != ERR_END)
        return rc ? rc : differs(box, 0, "its name is taken");
    return header_name_put(tx->db, &new->name, box->header.id);
}

static int apply_facts(struct tx *tx, struct box *box, const struct change *change)
{
    struct facts old = box->header.facts;
    struct facts *facts = &box->header.facts;
    facts_copy(facts, &change->after, change->facts_changed);
    int rc = ERR_OK;
    if (old.state != facts->state || !name_equal(&old.name, &facts->name))
        rc = apply_name(tx, box, &old, facts);
    if (rc == ERR_OK && facts->state == MAILBOX_PURGED && old.state != MAILBOX_PURGED) {
        rc = values_delete_all(tx->db, box->header.id);
        box->header.items = 0;
    }
    if (tx->node.last_uidvalidity < facts->uidvalidity) {
        tx->node.last_uidvalidity = facts->uidvalidity;
        tx->node_dirty = true;
    }
    box->header.lastmodseq = change->modseq;
    box->header.changed = change->time;
    box->dirty = true;
    return rc;
}

int apply_change(struct tx *tx, struct box *box, const struct change *change)
{
    int rc = apply_keywords(tx, change);
    if (rc)
        return rc;
    switch (change->kind) {
    case ENTRY_APPEND:
        rc = apply_append(tx, box, change);
        break;
    case ENTRY_FLAGS:
        rc = apply_flags(tx, box, change);
        break;
    case ENTRY_EXPUNGE:
        rc = apply_expunge(tx, box, change);
        break;
    case ENTRY_PURGE:
        rc = apply_purge(tx, box, change);
        break;
    case ENTRY_SEEN:
        rc = apply_seen(tx, box, change);
        break;
    case ENTRY_META:
        rc = apply_meta(tx, box, change);
        break;
    case ENTRY_TOUCH:
        rc = raise(tx, box, change);
        break;
    case ENTRY_BURY:
        rc = apply_bury(tx, box, change);
        break;
    case ENTRY_MARK:
        rc = apply_mark(tx, change);
        break;
    default:
        break;
    }
    if (rc)
        return rc;
    if (box)
        return apply_facts(tx, box, change);
    tx->node.meta_modseq = change->modseq;
    tx->node_dirty = true;
    return ERR_OK;
}
