/* Checking content: records against GUIDs, GUIDs against chunks, and both the other way; what is
 * staged; keyword sets. References are counted anew; chunks that belong to nobody go. */
#include "mailbox/checking.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/draft.h"
#include "mailbox/flags.h"
#include "mailbox/keywords.h"
#include "mailbox/lacking.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* By GUID; of one GUID those of live records come first. */
static int compare_references(const void *a, const void *b)
{
    const struct check_reference *x = a;
    const struct check_reference *y = b;
    int order = guid_compare(&x->guid, &y->guid);
    return order ? order : (int)y->live - (int)x->live;
}

static const struct check_reference *all_references(const struct check *check, size_t *count)
{
    *count = check->referred.size / sizeof(struct check_reference);
    return (const struct check_reference *)(const void *)check->referred.data;
}

/* How many records refer to it: in the sorted list its references stand together. *live: not only
 * tombstones do. A tombstone may be of a message that only another node ever had. */
static uint64_t references(const struct check *check, const struct guid *guid, bool *live)
{
    size_t count;
    const struct check_reference *all = all_references(check, &count);
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (guid_compare(&all[middle].guid, guid) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t found = 0;
    while (low + found < count && guid_equal(&all[low + found].guid, guid))
        found++;
    *live = found > 0 && all[low].live;
    return found;
}

static int add_content(struct check *check, const struct check_content *content)
{
    buf_put(&check->stored, content, sizeof *content);
    return check->stored.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

/* Other nodes may have it. */
static int mark_lacking(struct check *check, const struct guid *guid)
{
    if (!check->repair)
        return ERR_OK;
    check->tx->notify = true;
    return lacking_mark(check->txn, guid);
}

/* A row that cannot be read is made anew; its bytes are found by each_chunk(). */
static int mend_row(struct check *check, struct db_cursor *cursor, struct bytes key)
{
    struct content content = {0};
    bool live;
    if (!check->repair || key.size != GUID_SIZE)
        return ERR_OK;
    memcpy(content.guid.bytes, key.data, GUID_SIZE);
    content.references = references(check, &content.guid, &live);
    if (!content.references)
        return check->lost ? ERR_OK : db_cursor_delete(cursor);
    int rc = content_put(check->txn, &content);
    return rc || !live ? rc : mark_lacking(check, &content.guid);
}

static int each_guid(struct check *check, struct db_cursor *cursor, struct bytes key,
                     struct bytes value)
{
    char text[GUID_TEXT_SIZE];
    struct content content;
    bool live;
    int rc = content_decode(key, value, &content);
    if (rc) {
        rc = check_note(check, "guids", rc);
        return rc ? rc : mend_row(check, cursor, key);
    }
    uint64_t count = references(check, &content.guid, &live);
    guid_print(&content.guid, text);
    if (count != content.references) {
        /* Where records are lost, what they referred to must not be lost as well. */
        bool mend = check->repair && !(check->lost && count < content.references);
        check_wrong(check, mend, text, "%" PRIu64 " records refer to it, its row says %" PRIu64,
                    count, content.references);
        content.references = count;
        rc = mend ? content_put(check->txn, &content) : ERR_OK;
        if (mend && count == 0) {
            buf_put(&check->unused, &content.guid, sizeof content.guid);
            return rc;
        }
    }
    if (rc == ERR_OK && content.number == 0 && live) {
        check_wrong(check, false, text, "its content is not here");
        return mark_lacking(check, &content.guid);
    }
    if (rc || content.number == 0)
        return rc;
    struct check_content stored = {
        .number = content.number, .guid = content.guid, .stored = content.stored};
    return add_content(check, &stored);
}

static int drop_unused(struct check *check)
{
    int rc = check->unused.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
    for (size_t at = 0; rc == ERR_OK && at < check->unused.size; at += sizeof(struct guid)) {
        struct guid guid;
        memcpy(&guid, check->unused.data + at, sizeof guid);
        rc = content_drop_unreferenced(check->txn, &guid);
    }
    return rc;
}

/* The other way: every record's GUID has a row. */
static int check_referred(struct check *check)
{
    size_t count;
    const struct check_reference *all = all_references(check, &count);
    for (size_t i = 0; i < count; i++) {
        struct content content;
        char text[GUID_TEXT_SIZE];
        const struct guid *guid = &all[i].guid;
        bool live;
        if (i > 0 && guid_equal(guid, &all[i - 1].guid))
            continue;
        int rc = content_get(check->txn, guid, &content);
        if (rc == ERR_OK || rc == ERR_CORRUPT) /* which was noted already */
            continue;
        if (rc != ERR_END)
            return rc;
        guid_print(guid, text);
        check_wrong(check, check->repair, text, "records refer to it, and it has no row");
        content = (struct content){.guid = *guid, .references = references(check, guid, &live)};
        rc = check->repair ? content_put(check->txn, &content) : ERR_OK;
        if (rc == ERR_OK && live)
            rc = mark_lacking(check, guid);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

/* A mark for content that is here, or that nothing refers to, is asked for in vain. */
static int each_mark(struct check *check, struct db_cursor *cursor, struct bytes key,
                     struct bytes value)
{
    char text[GUID_TEXT_SIZE] = "state";
    struct content content;
    struct guid guid;
    if (!lacking_is_mark(key))
        return ERR_OK;
    int rc = lacking_decode(key, value, &guid);
    if (rc == ERR_OK) {
        guid_print(&guid, text);
        rc = content_get(check->txn, &guid, &content);
        if (rc == ERR_CORRUPT || (rc == ERR_OK && content_is_lacking(&content)))
            return ERR_OK;
        if (rc && rc != ERR_END)
            return rc;
    }
    check_wrong(check, check->repair, text, "a mark of content that is not lacking");
    return check->repair ? db_cursor_delete(cursor) : ERR_OK;
}

static int each_staged(struct check *check, struct db_cursor *cursor, struct bytes key,
                       struct bytes value)
{
    struct check_content staged = {.staged = true};
    (void)cursor;
    int rc = draft_staged_decode(key, value, &staged.number);
    return rc ? check_note(check, "staged", rc) : add_content(check, &staged);
}

static int by_number(const void *a, const void *b)
{
    const struct check_content *x = a;
    const struct check_content *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static struct check_content *contents(const struct check *check, size_t *count)
{
    *count = check->stored.size / sizeof(struct check_content);
    return (struct check_content *)(void *)check->stored.data;
}

static struct check_content *find_content(const struct check *check, uint64_t number)
{
    size_t count;
    struct check_content *all = contents(check, &count);
    struct check_content wanted = {.number = number};
    return count ? bsearch(&wanted, all, count, sizeof *all, by_number) : NULL;
}

static int sort_contents(struct check *check)
{
    size_t count;
    uint64_t next;
    struct check_content *all = contents(check, &count);
    if (count)
        qsort(all, count, sizeof *all, by_number);
    for (size_t i = 1; i < count; i++)
        if (all[i].number == all[i - 1].number)
            check_wrong(check, false, "guids", "content number %" PRIu64 " is used twice",
                        all[i].number);
    int rc = check_note(check, "state", content_next_number(check->txn, &next));
    if (rc == ERR_OK && count && all[count - 1].number >= next)
        check_wrong(check, false, "state", "content number %" PRIu64 " was never given out",
                    all[count - 1].number);
    return rc;
}

/* Bytes whose row was lost say themselves whose they are. */
static int adopt(struct check *check, uint64_t number, bool *adopted)
{
    struct content found, row;
    int rc = content_identify(check->txn, number, &found);
    if (rc)
        return rc == ERR_CORRUPT && !db_txn_error(check->txn) ? ERR_OK : rc;
    rc = content_get(check->txn, &found.guid, &row);
    if (rc || row.number)
        return rc == ERR_END ? ERR_OK : rc;
    found.references = row.references;
    check->adopted = number;
    *adopted = true;
    rc = content_put(check->txn, &found);
    return rc ? rc : lacking_unmark(check->txn, &found.guid);
}

/* Chunks of one content stand one behind another from 0 on; their bytes are looked at later. */
static int each_chunk(struct check *check, struct db_cursor *cursor, struct bytes key,
                      struct bytes value)
{
    if (key.size != 12 || value.size < 5) {
        check_wrong(check, false, "content", "a chunk of a wrong size");
        return ERR_OK;
    }
    struct check_content *content = find_content(check, load_be64(key.data));
    if (content) {
        content->found = true;
        return ERR_OK;
    }
    uint64_t number = load_be64(key.data);
    if (number == check->adopted)
        return ERR_OK;
    bool adopted = false;
    int rc =
        check->repair && load_be32(key.data + 8) == 0 ? adopt(check, number, &adopted) : ERR_OK;
    if (rc)
        return rc;
    bool mend = adopted || (check->repair && !check->lost);
    check_wrong(check, mend, "content", "number %" PRIu64 ", chunk %u: nobody refers to it", number,
                load_be32(key.data + 8));
    return mend && !adopted ? db_cursor_delete(cursor) : ERR_OK;
}

static int check_chunks(struct check *check)
{
    size_t count;
    int rc = check_rows(check, TABLE_CONTENT, each_chunk);
    const struct check_content *all = contents(check, &count);
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        char text[GUID_TEXT_SIZE];
        guid_print(&all[i].guid, text);
        if (!all[i].staged && !all[i].found && all[i].stored)
            check_wrong(check, false, text, "none of its chunks is there");
    }
    return rc;
}

static int each_keyword_set(struct check *check, struct db_cursor *cursor, struct bytes key,
                            struct bytes value)
{
    size_t at = 0;
    struct bytes name;
    (void)cursor;
    if (key.size == 8 && keywords_hash(value) == load_be64(key.data)) {
        while (keywords_next(value, &at, &name))
            continue;
        if (at == value.size)
            return ERR_OK;
    }
    check_wrong(check, false, "keywords", "a set that is not what its hash says");
    return ERR_OK;
}

static int check_keywords(struct check *check)
{
    struct bytes set;
    int rc = check_rows(check, TABLE_KEYWORDS, each_keyword_set);
    for (size_t at = 0; at < check->keywords.size && rc == ERR_OK; at += 8)
        rc = check_note(check, "keywords",
                        keywords_lookup(check->txn, load_u64(check->keywords.data + at), &set));
    return rc;
}

int check_guids(struct check *check)
{
    if (check->referred.size)
        qsort(check->referred.data, check->referred.size / sizeof(struct check_reference),
              sizeof(struct check_reference), compare_references);
    int rc = check_rows(check, TABLE_GUIDS, each_guid);
    if (rc == ERR_OK)
        rc = drop_unused(check);
    return rc ? rc : check_referred(check);
}

int check_content(struct check *check)
{
    int rc = check_guids(check);
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_STAGED, each_staged);
    if (rc == ERR_OK)
        rc = sort_contents(check);
    if (rc == ERR_OK)
        rc = check_chunks(check);
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_STATE, each_mark);
    return rc ? rc : check_keywords(check);
}
