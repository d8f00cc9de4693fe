/* Checking headers, records, values and names: what refers to each other is looked at from both
 * sides. Counts, and the table of names, follow from headers and records, and are mended; a digest
 * that fails says that mail is missing or changed, and is never made to fit. */
#include "mailbox/checking.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/count.h"
#include "mailbox/garbage.h"
#include "mailbox/stop.h"
#include "mailbox/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void place_of(char place[40], uint64_t id)
{
    snprintf(place, 40, "mailbox id:%016" PRIx64, id);
}

static int add_box(struct check *check, const struct check_box *box)
{
    if (box->number >= check->tx->node.next_number)
        check_wrong(check, false, "store", "local number %u was never given out", box->number);
    buf_put(&check->boxes, box, sizeof *box);
    return check->boxes.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int each_header(struct check *check, struct db_cursor *cursor, struct bytes key,
                       struct bytes value)
{
    struct check_box box = {0};
    (void)cursor;
    int rc = header_decode(key, value, &box.header);
    if (rc) {
        check->headless = true;
        return check_note(check, "mailboxes", rc);
    }
    box.number = box.header.number;
    box.id = box.header.id;
    box.counted.id = box.id;
    return add_box(check, &box);
}

static int each_stop(struct check *check, struct db_cursor *cursor, struct bytes key,
                     struct bytes value)
{
    struct stop stop;
    struct check_box beside = {0};
    (void)value;
    (void)cursor;
    int rc = key.size == 8 ? stop_get(check->txn, load_be64(key.data), &stop)
                           : fail(ERR_CORRUPT, "malformed key");
    if (rc)
        return check_note(check, "stops", rc);
    beside.number = stop.beside;
    return stop.beside ? add_box(check, &beside) : ERR_OK;
}

static int each_garbage(struct check *check, struct db_cursor *cursor, struct bytes key,
                        struct bytes value)
{
    struct check_box left = {0};
    int rc = garbage_decode(key, value, &left.number);
    if (rc) {
        check_wrong(check, check->repair, "garbage", "%s", err_message());
        return check->repair ? db_cursor_delete(cursor) : ERR_OK;
    }
    return left.number ? add_box(check, &left) : ERR_OK;
}

static int by_number(const void *a, const void *b)
{
    const struct check_box *x = a;
    const struct check_box *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

static int load_boxes(struct check *check)
{
    size_t count;
    int rc = check_rows(check, TABLE_MAILBOXES, each_header);
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_STOPS, each_stop);
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_GARBAGE, each_garbage);
    if (rc)
        return rc;
    struct check_box *boxes = check_boxes(check, &count);
    if (count)
        qsort(boxes, count, sizeof *boxes, by_number);
    for (size_t i = 1; i < count; i++)
        if (boxes[i].number == boxes[i - 1].number)
            check_wrong(check, false, "mailboxes", "local number %u is used twice",
                        boxes[i].number);
    return ERR_OK;
}

/* Whether every mailbox that there is has its header: the store's digest says so. */
static void check_shares(struct check *check)
{
    size_t count;
    uint64_t shares = 0;
    const struct check_box *boxes = check_boxes(check, &count);
    for (size_t i = 0; i < count; i++)
        shares += boxes[i].id ? header_store_share(&boxes[i].header) : 0;
    if (shares == check->tx->node.mailboxes)
        return;
    check->headless = true;
    check_wrong(check, false, "store", "its digest is not that of its mailboxes");
}

/* Of a mailbox that was left, where no header is missing. */
static int note_stray(struct check *check, uint32_t number, uint32_t uid)
{
    bool mend = check->repair && !check->headless && number && number < check->tx->node.next_number;
    check_wrong(check, mend, "records", "UID %u of local number %u: no such mailbox", uid, number);
    return mend ? garbage_put(check->txn, number) : ERR_OK;
}

static int note_keywords(struct check *check, uint64_t hash)
{
    for (size_t at = 0; at < check->keywords.size; at += 8)
        if (load_u64(check->keywords.data + at) == hash)
            return ERR_OK;
    buf_u64(&check->keywords, hash);
    return check->keywords.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int each_record(struct check *check, struct db_cursor *cursor, struct bytes key,
                       struct bytes value)
{
    struct record record;
    uint32_t number = key.size == 8 ? load_be32(key.data) : 0;
    struct check_box *box = check_box_numbered(check, number);
    (void)cursor;
    int rc = record_decode(key, value, &record);
    if (rc) {
        check->lost = true;
        if (box)
            box->damaged = true;
        return check_note(check, "records", rc);
    }
    struct check_reference reference = {.guid = record.guid, .live = record_live(&record)};
    buf_put(&check->referred, &reference, sizeof reference);
    if (check->referred.failed)
        return fail(ERR_NOMEM, "out of memory");
    if (!box)
        return note_stray(check, number, record.uid);
    count_record(&box->counted, &record, 1);
    if (box->id && record.uid >= box->header.facts.uidnext)
        check_wrong(check, false, "records",
                    "mailbox id:%016" PRIx64 ": UID %u is not below UIDNEXT %u", box->id,
                    record.uid, box->header.facts.uidnext);
    return record.keywords ? note_keywords(check, record.keywords) : ERR_OK;
}

static int check_values(struct check *check)
{
    size_t count;
    uint64_t seen, meta, items;
    uint64_t rows, known;
    struct check_box *boxes = check_boxes(check, &count);
    int rc = check_note(check, "meta", values_digest(check->txn, 0, &check->meta, &known));
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        if (!boxes[i].id)
            continue;
        char place[40];
        place_of(place, boxes[i].id);
        rc = values_digest(check->txn, boxes[i].id, &items, &rows);
        boxes[i].counted.items += items;
        boxes[i].damaged = boxes[i].damaged || rc == ERR_CORRUPT;
        known += rows;
        rc = check_note(check, place, rc);
    }
    if (rc == ERR_OK)
        rc = db_count(check->txn, TABLE_SEEN, &seen);
    if (rc == ERR_OK)
        rc = db_count(check->txn, TABLE_META, &meta);
    if (rc == ERR_OK && seen + meta != known)
        check_wrong(check, false, "seen, meta",
                    "%" PRIu64 " rows, %" PRIu64
                    " of them readable and of mailboxes that there are",
                    seen + meta, known);
    return rc;
}

static bool counts_agree(const struct header *a, const struct header *b)
{
    return a->messages == b->messages && a->tombstones == b->tombstones && a->bytes == b->bytes &&
           a->unseen == b->unseen;
}

/* Records whose digest is right are the right ones: then the counts are what is wrong. */
static int mend_counts(struct check *check, const struct check_box *checked)
{
    struct box *box;
    int rc = tx_box(check->tx, checked->id, &box);
    if (rc)
        return rc;
    box->header.messages = checked->counted.messages;
    box->header.tombstones = checked->counted.tombstones;
    box->header.bytes = checked->counted.bytes;
    box->header.unseen = checked->counted.unseen;
    box->dirty = true;
    return ERR_OK;
}

/* A purged mailbox has nothing but its id; what its items were is no longer known. */
static int check_sums(struct check *check, struct check_box *box, const char *place)
{
    const struct header *header = &box->header;
    const struct header *counted = &box->counted;
    bool purged = header->facts.state == MAILBOX_PURGED;
    if (!purged && !box->damaged && counted->items != header->items) {
        check_wrong(check, false, place,
                    "digest of its records and values %016" PRIx64 ", of its header %016" PRIx64,
                    counted->items, header->items);
        box->damaged = true;
    }
    check->lost = check->lost || box->damaged;
    if (box->damaged && check->repair)
        return stop_damaged(check->tx, box->id, "check found its records or values damaged");
    if (box->damaged || counts_agree(counted, header))
        return ERR_OK;
    check_wrong(check, check->repair, place,
                "its header counts %" PRIu64 " messages and %" PRIu64
                " tombstones, there are %" PRIu64 " and %" PRIu64,
                header->messages, header->tombstones, counted->messages, counted->tombstones);
    return check->repair ? mend_counts(check, box) : ERR_OK;
}

static int check_stop(struct check *check, struct check_box *box, const char *place)
{
    struct stop stop;
    int rc = stop_get(check->txn, box->id, &stop);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    box->stopped = true;
    check_wrong(check, false, place, "waits for the other end since entry %" PRIu64 ": %s",
                stop.modseq, stop.reason);
    return ERR_OK;
}

static int check_name(struct check *check, const struct check_box *box, const char *place)
{
    uint64_t id = 0;
    if (box->header.facts.state != MAILBOX_LIVE)
        return ERR_OK;
    int rc = header_id_of(check->txn, &box->header.facts.name, &id);
    if (rc == ERR_OK && id == box->id)
        return ERR_OK;
    if (rc && rc != ERR_END && rc != ERR_CORRUPT)
        return rc;
    struct check_box *other = rc == ERR_OK ? check_box_of(check, id) : NULL;
    bool taken = other && other->header.facts.state == MAILBOX_LIVE &&
                 name_equal(&other->header.facts.name, &box->header.facts.name);
    check_wrong(check, check->repair && !taken, place,
                taken ? "has the name of mailbox id:%016" PRIx64
                      : "the table of names does not lead to it",
                id);
    return check->repair && !taken ? header_name_put(check->txn, &box->header.facts.name, box->id)
                                   : ERR_OK;
}

static int each_name(struct check *check, struct db_cursor *cursor, struct bytes key,
                     struct bytes value)
{
    struct name name;
    uint64_t id;
    int rc = header_name_decode(key, value, &name, &id);
    const struct check_box *box = rc == ERR_OK ? check_box_of(check, id) : NULL;
    if (box && box->header.facts.state == MAILBOX_LIVE &&
        name_equal(&name, &box->header.facts.name))
        return ERR_OK;
    struct header unread;
    bool keep = rc == ERR_OK && header_get(check->txn, id, &unread) == ERR_CORRUPT;
    check_wrong(check, check->repair && !keep, "names",
                "a name that leads to no mailbox of this name");
    return check->repair && !keep ? db_cursor_delete(cursor) : ERR_OK;
}

static int check_totals(struct check *check)
{
    if (check->meta != check->tx->node.meta) {
        check_wrong(check, false, "store", "its digest is not that of its own values");
        if (check->repair)
            return stop_damaged(check->tx, 0, "check found its values damaged");
    }
    return ERR_OK;
}

int check_mail(struct check *check)
{
    size_t count;
    int rc = load_boxes(check);
    check_shares(check);
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_RECORDS, each_record);
    if (rc == ERR_OK)
        rc = check_values(check);
    struct check_box *boxes = check_boxes(check, &count);
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        char place[40];
        place_of(place, boxes[i].id);
        if (!boxes[i].id)
            continue;
        rc = check_note(check, place, check_stop(check, &boxes[i], place));
        if (rc == ERR_OK)
            rc = check_note(check, place, check_sums(check, &boxes[i], place));
        if (rc == ERR_OK)
            rc = check_name(check, &boxes[i], place);
    }
    if (rc == ERR_OK)
        rc = check_rows(check, TABLE_NAMES, each_name);
    return rc ? rc : check_totals(check);
}
