/* Asking about the records of a mailbox. */
#include "agent/asking.h"

#include "base/err.h"

#include <string.h>

#define UIDSET_MAX 4096u /* ranges of UIDs in one question about records */

void ask_encode_record(const struct record_line *line, struct buf *out)
{
    const struct record *record = &line->record;
    buf_varint(out, record->uid);
    buf_varint(out, record->flags);
    buf_varint(out, record->successor);
    buf_put(out, record->guid.bytes, GUID_SIZE);
    buf_varint(out, record->size);
    buf_varint(out, record->modseq);
    buf_varint(out, record->append_modseq);
    buf_zigzag(out, record->changed);
    buf_zigzag(out, record->save_date);
    buf_zigzag(out, record->internal_date);
    keywords_write(line->keywords, out);
    buf_u8(out, line->has_base);
    if (!line->has_base)
        return;
    buf_varint(out, line->base_system);
    keywords_write(line->base_keywords, out);
}

static int decode_record(struct reader *from, struct record_line *line)
{
    struct record *record = &line->record;
    *line = (struct record_line){0};
    record->uid = read_varint32(from);
    record->flags = read_varint32(from);
    record->successor = read_varint32(from);
    struct bytes guid = read_view(from, GUID_SIZE);
    record->size = read_varint(from);
    record->modseq = read_varint(from);
    record->append_modseq = read_varint(from);
    record->changed = read_zigzag(from);
    record->save_date = read_zigzag(from);
    record->internal_date = read_zigzag(from);
    if (from->failed || record->uid == 0 || record->uid == UINT32_MAX ||
        record->flags & ~RECORD_FLAGS || record->modseq > MODSEQ_MAX ||
        record->append_modseq > MODSEQ_MAX || keywords_read(from, &line->keywords))
        return ask_malformed("a record");
    memcpy(record->guid.bytes, guid.data, GUID_SIZE);
    record->keywords = keywords_hash(line->keywords);
    uint8_t has_base = read_u8(from);
    line->has_base = has_base == 1;
    if (line->has_base) {
        line->base_system = read_varint32(from);
        if (keywords_read(from, &line->base_keywords))
            return ask_malformed("a record's former keywords");
    }
    return from->failed || has_base > 1 || line->base_system & ~FLAG_SYSTEM
               ? ask_malformed("a record")
               : ERR_OK;
}

struct record_page {
    uint32_t next; /* UID to go on from; 0: this was the last page */
    struct mailbox_state_now now;
};

static int read_records(struct reader *in, uint64_t mailbox, struct record_page *page,
                        int (*each)(const struct record_line *line, void *arg), void *arg)
{
    uint32_t from = page->next;
    int rc = ask_read_now(in, mailbox, &page->now);
    if (rc)
        return rc;
    page->next = read_varint32(in);
    uint64_t count = read_varint(in);
    uint32_t last = from - 1;
    for (uint64_t i = 0; i < count && rc == ERR_OK; i++) {
        struct record_line line;
        rc = decode_record(in, &line);
        if (rc == ERR_OK && line.record.uid <= last)
            rc = ask_malformed("records out of order");
        last = line.record.uid;
        if (rc == ERR_OK)
            rc = each(&line, arg);
    }
    if (rc == ERR_OK && (in->failed || (page->next && (page->next <= last || page->next == from))))
        rc = ask_malformed("a page of records");
    return rc;
}

static int read_expunged(struct reader *in, struct uidset *expunged)
{
    struct uidset uids = {0};
    int rc = uidset_decode(&uids, in, UINT32_MAX);
    if (rc == ERR_CORRUPT || (rc == ERR_OK && !reader_done(in)))
        rc = ask_malformed("what was expunged");
    if (rc == ERR_OK && expunged)
        rc = uidset_add_all(expunged, &uids);
    uidset_free(&uids);
    return rc;
}

/* Of `all` the part at or above `from` that one question has room for. *behind: the first UID that
 * has to be asked for after it; 0: none. */
static int cut_uids(const struct uidset *all, uint32_t from, struct uidset *part, uint32_t *behind)
{
    int rc = ERR_OK;
    size_t i = 0;
    uidset_clear(part);
    while (i < all->count && all->ranges[i].last < from)
        i++;
    for (; rc == ERR_OK && i < all->count && part->count < UIDSET_MAX; i++)
        rc = uidset_add_range(part, all->ranges[i].first > from ? all->ranges[i].first : from,
                              all->ranges[i].last);
    *behind = i < all->count ? all->ranges[i].first : 0;
    return rc;
}

int ask_records(const struct asker *asker, uint64_t mailbox, const struct records_wanted *wanted,
                int (*each)(const struct record_line *line, void *arg), void *arg,
                struct mailbox_state_now *first, struct mailbox_state_now *last)
{
    struct record_page page = {.next = 1};
    struct buf answer = {0};
    struct uidset all = {0};
    struct uidset part = {0};
    bool any = false;
    int rc = wanted->uids ? uidset_copy(&all, wanted->uids) : uidset_add_range(&all, 1, UINT32_MAX);
    while (rc == ERR_OK && page.next) {
        struct buf question = ask_begin(ASK_RECORDS);
        struct reader in;
        uint32_t behind;
        rc = cut_uids(&all, page.next, &part, &behind);
        if (rc)
            break;
        buf_u64(&question, mailbox);
        buf_u64(&question, wanted->since);
        buf_u64(&question, wanted->base);
        buf_u32(&question, page.next);
        uidset_encode(&part, &question);
        rc = ask_wait(asker, &question, &answer, &in);
        if (rc == ERR_OK)
            rc = read_records(&in, mailbox, &page, each, arg);
        if (rc == ERR_OK)
            rc = read_expunged(&in, wanted->expunged);
        if (rc == ERR_OK && !any && first)
            *first = page.now;
        if (rc == ERR_OK && page.next == 0)
            page.next = behind;
        any = true;
    }
    if (rc == ERR_OK && last)
        *last = page.now;
    uidset_free(&part);
    uidset_free(&all);
    buf_free(&answer);
    return rc;
}

static int read_changes(struct reader *in, struct record_changes *changes)
{
    uint8_t all = read_u8(in);
    int rc = uidset_decode(&changes->uids, in, UINT32_MAX);
    changes->more = all == 0;
    return rc == ERR_CORRUPT || (rc == ERR_OK && all > 1) ? ask_malformed("changed records") : rc;
}

int ask_sums(const struct asker *asker, uint64_t mailbox, enum record_item item, uint64_t base,
             const struct record_sums *sums, struct record_changes *changes)
{
    struct buf question = ask_begin(ASK_SUMS);
    struct buf answer = {0};
    struct reader in;
    uint32_t last = 0;
    buf_u64(&question, mailbox);
    buf_u8(&question, (uint8_t)item);
    buf_u64(&question, base);
    buf_u64(&question, changes ? changes->since : 0);
    buf_varint(&question, sums->count);
    for (size_t i = 0; i < sums->count; i++) {
        buf_varint(&question, sums->ranges[i].first - last);
        buf_varint(&question, sums->ranges[i].last - sums->ranges[i].first);
        last = sums->ranges[i].last;
    }
    int rc = ask_wait(asker, &question, &answer, &in);
    for (size_t i = 0; rc == ERR_OK && i < sums->count; i++) {
        struct record_sum *sum = &sums->sums[i];
        sum->count = read_varint(&in);
        sum->sum = sum->count ? read_u64(&in) : 0;
    }
    if (rc == ERR_OK && changes)
        rc = read_changes(&in, changes);
    if (rc == ERR_OK && !reader_done(&in))
        rc = ask_malformed("sums");
    buf_free(&answer);
    return rc;
}
