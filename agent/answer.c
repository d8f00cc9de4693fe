#include "agent/answer.h"

#include "agent/ask.h"
#include "base/err.h"
#include "mailbox/content.h"
#include "mailbox/count.h"
#include "mailbox/keywords.h"
#include "mailbox/stop.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

#include <stdlib.h>
#include <string.h>

#define PAGE_SIZE (512u << 10) /* bytes of an answer, about */
#define RECORDS_PER_PAGE 4096u
#define CHANGES_MOST 8192u /* UIDs that are told beside sums */

struct answering {
    struct reader in; /* the question behind its kind */
    struct buf *out;
    size_t start;
    bool upstream; /* the follower asks */
};

static int malformed(void)
{
    return fail(ERR_PROTOCOL, "malformed question");
}

static bool is_full(const struct answering *work)
{
    return work->out->size - work->start > PAGE_SIZE;
}

static int put_stops(struct tx *tx, struct buf *out)
{
    struct buf items = {0};
    struct stop stop;
    uint64_t id = 0, count = 0;
    int rc = ERR_END;
    while (tx_node(tx)->role == ROLE_REPLICA) {
        rc = stop_next(tx_db(tx), &id, &stop);
        if (rc)
            break;
        if (stop_abreast(&stop, tx))
            continue;
        count++;
        buf_u64(&items, stop.mailbox);
        buf_varint(&items, stop.epoch.number);
        buf_u64(&items, stop.epoch.node);
        buf_varint(&items, stop.as_of);
    }
    buf_varint(out, count);
    buf_put(out, items.data, items.size);
    bool failed = items.failed;
    buf_free(&items);
    return failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

static int answer_branch(struct tx *tx, struct answering *work)
{
    struct buf *out = work->out;
    const struct node *node = tx_node(tx);
    struct buf items = {0};
    struct epoch epoch;
    struct epoch_id id = {0};
    struct mark mark = {0};
    uint64_t count = 0;
    int rc;
    buf_u8(out, 1);
    buf_u64(out, node->store_id);
    buf_u64(out, node->node_id);
    buf_u8(out, node->role == ROLE_REPLICA);
    buf_varint(out, node->epoch.number);
    buf_u64(out, node->epoch.node);
    buf_position(out, tx_window(tx)->base);
    buf_position(out, tx_window(tx)->last);
    buf_u64(out, (uint64_t)tx_window(tx)->last_time);
    buf_u64(out, node_digest(node));
    buf_u8(out, node->discard);
    for (; (rc = epoch_next(tx_db(tx), &id, &epoch)) == ERR_OK; count++)
        epoch_encode(&epoch, &items);
    buf_varint(out, count);
    buf_put(out, items.data, items.size);
    buf_reset(&items);
    if (rc == ERR_END)
        for (count = 0; (rc = mark_next(tx_db(tx), &mark)) == ERR_OK; count++) {
            buf_u64(&items, mark.mailbox);
            buf_u64(&items, mark.modseq);
            buf_varint(&items, mark.epoch.number);
            buf_u64(&items, mark.epoch.node);
            buf_position(&items, mark.taken);
        }
    buf_varint(out, count);
    buf_put(out, items.data, items.size);
    bool failed = items.failed;
    buf_free(&items);
    if (rc == ERR_END)
        rc = put_stops(tx, out);
    if (rc == ERR_END && (failed || out->size > ANSWER_MAX))
        return fail(failed ? ERR_NOMEM : ERR_INVALID, "too many epochs and marks to tell");
    return rc == ERR_END ? ERR_OK : rc;
}

static int answer_chains(struct tx *tx, struct answering *work)
{
    uint64_t count = read_varint(&work->in);
    if (work->in.failed || count > ASK_CHAINS_MAX)
        return malformed();
    buf_u8(work->out, 1);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t modseq = read_u64(&work->in);
        struct entry entry = {0};
        int rc = journal_get(tx_db(tx), modseq, &entry, NULL);
        if (rc == ERR_END && modseq == tx_window(tx)->base.modseq)
            entry.chain = tx_window(tx)->base.chain;
        else if (rc && rc != ERR_END)
            return rc;
        buf_u64(work->out, entry.chain);
    }
    return reader_done(&work->in) ? ERR_OK : malformed();
}

static int put_mailbox(struct tx *tx, const struct header *header, uint64_t at, struct buf *page)
{
    struct facts facts;
    uint64_t digest = header_digest(header);
    int rc = undo_facts(tx, header, at, &facts);
    if (rc == ERR_OK && header->lastmodseq > at)
        digest = 0;
    if (rc)
        return rc;
    buf_u64(page, header->id);
    buf_u64(page, digest);
    buf_u64(page, header->lastmodseq);
    buf_u8(page, (uint8_t)facts.state);
    buf_bytes(page, name_encoded(&facts.name));
    struct stop stop;
    rc = stop_get(tx_db(tx), header->id, &stop);
    buf_u8(page, rc == ERR_OK && !stop_abreast(&stop, tx));
    return rc == ERR_END ? ERR_OK : rc;
}

static int answer_mailboxes(struct tx *tx, struct answering *work)
{
    uint64_t at = read_u64(&work->in);
    uint64_t id = read_u64(&work->in);
    struct buf page = {0};
    struct header header;
    uint64_t count = 0;
    int rc = reader_done(&work->in) ? ERR_OK : malformed();
    while (rc == ERR_OK && page.size < PAGE_SIZE) {
        rc = header_next(tx_db(tx), &id, &header);
        if (rc == ERR_OK)
            rc = put_mailbox(tx, &header, at, &page);
        count += rc == ERR_OK;
    }
    buf_u8(work->out, 1);
    buf_varint(work->out, count);
    buf_put(work->out, page.data, page.size);
    bool failed = page.failed;
    buf_free(&page);
    if (failed)
        return fail(ERR_NOMEM, "out of memory");
    return rc == ERR_END ? ERR_OK : rc;
}

static void put_now(struct tx *tx, const struct header *header, bool sound, struct buf *out)
{
    buf_position(out, tx_window(tx)->last);
    buf_varint(out, tx_node(tx)->epoch.number);
    buf_u64(out, tx_node(tx)->epoch.node);
    buf_u8(out, sound);
    ask_encode_header(header, out);
}

static int put_former(struct tx *tx, const struct header *header, uint64_t base, struct buf *out)
{
    struct facts facts;
    int rc = base ? undo_facts(tx, header, base, &facts) : ERR_TRIMMED;
    if (rc && rc != ERR_TRIMMED)
        return rc;
    buf_u8(out, rc == ERR_OK);
    if (rc)
        return ERR_OK;
    buf_u8(out, (uint8_t)facts.state);
    buf_u32(out, facts.uidnext);
    buf_bytes(out, name_encoded(&facts.name));
    return ERR_OK;
}

static int answer_header(struct tx *tx, struct answering *work)
{
    struct header header;
    bool sound = false;
    uint64_t id = read_u64(&work->in);
    uint8_t wanted = read_u8(&work->in);
    uint64_t base = read_u64(&work->in);
    if (!reader_done(&work->in))
        return malformed();
    int rc = header_get(tx_db(tx), id, &header);
    if (rc == ERR_OK && wanted)
        rc = count_proves(tx_db(tx), &header, &sound);
    if (rc)
        return rc;
    buf_u8(work->out, 1);
    put_now(tx, &header, sound, work->out);
    return put_former(tx, &header, base, work->out);
}

/* A page of records: which ones, and how they are written. */
struct paging {
    struct tx *tx;
    struct header header;
    uint64_t since;
    uint64_t base; /* 0: nobody asked for former flags */
    uint32_t next; /* in: the first UID; out: where the next page begins, 0: this is the last */
    struct uidset uids;
};

/* Records of the wanted UIDs, whatever their modseq. */
static int find_all(struct paging *page, struct uidset *found)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < page->uids.count; i++) {
        struct uid_range range = page->uids.ranges[i];
        size_t room = RECORDS_PER_PAGE - (size_t)uidset_size(found);
        if (range.last < page->next || room == 0)
            continue;
        if (range.first < page->next)
            range.first = page->next;
        rc = record_changed(tx_db(page->tx), page->header.number, 0, range.first, range.last, room,
                            found);
    }
    return rc;
}

static int find_changed(struct paging *page, struct uidset *found)
{
    bool mail;
    int rc = undo_uids(page->tx, &page->header, page->since, found, &mail);
    if (rc != ERR_TRIMMED) /* else beside what the journal still tells of: */
        return rc;
    return record_changed(tx_db(page->tx), page->header.number, page->since, page->next, UINT32_MAX,
                          RECORDS_PER_PAGE, found);
}

/* Narrows the wanted UIDs down to those of this page. */
static int find_page(struct paging *page)
{
    struct uidset found = {0};
    struct uidset kept = {0};
    uint32_t uid;
    uint32_t next = page->next;
    size_t taken = 0;
    int rc = page->since ? find_changed(page, &found) : find_all(page, &found);
    for (; rc == ERR_OK && next && taken < RECORDS_PER_PAGE; taken++) {
        if (!uidset_next(&found, next, &uid)) {
            next = 0;
            break;
        }
        if (uidset_contains(&page->uids, uid))
            rc = uidset_add(&kept, uid);
        next = uid + 1;
    }
    page->next = next;
    uidset_free(&found);
    uidset_free(&page->uids);
    page->uids = kept;
    return rc;
}

static int put_line(struct paging *page, const struct record *record, struct former_flags *former,
                    bool reaches, struct buf *out)
{
    struct bytes set;
    struct record_line line = {.record = *record};
    int rc = keywords_lookup(tx_db(page->tx), record->keywords, &set);
    if (rc)
        return rc;
    line.keywords = set;
    line.has_base = page->base && ((reaches && !former->mended) || record->modseq <= page->base);
    line.base_system = former->known ? former->system : record->flags & FLAG_SYSTEM;
    line.base_keywords = former->known ? buf_view(&former->keywords) : set;
    ask_encode_record(&line, out);
    return ERR_OK;
}

static int put_records(struct paging *page, struct buf *out, uint64_t *count, struct uidset *absent)
{
    size_t wanted = (size_t)uidset_size(&page->uids);
    struct former_flags *flags = calloc(wanted + 1, sizeof *flags);
    bool reaches = false;
    uint32_t uid;
    size_t at = 0;
    int rc = flags ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && page->base) {
        rc = undo_flags(page->tx, &page->header, page->base, &page->uids, flags);
        reaches = rc == ERR_OK;
        rc = rc == ERR_TRIMMED ? ERR_OK : rc;
    }
    for (uint32_t from = 1; rc == ERR_OK && from && uidset_next(&page->uids, from, &uid);
         from = uid + 1, at++) {
        struct record record;
        rc = record_get(tx_db(page->tx), page->header.number, uid, &record);
        if (rc == ERR_OK) {
            if (out->size > PAGE_SIZE) { /* keywords may take much room */
                page->next = uid;
                break;
            }
            rc = put_line(page, &record, &flags[at], reaches, out);
            (*count)++;
        } else if (rc == ERR_END || rc == ERR_CORRUPT) {
            rc = uidset_add(absent, uid); /* gone, or damaged: as if it were not there */
        }
    }
    if (flags)
        undo_flags_free(flags, wanted);
    free(flags);
    return rc;
}

/* Which of those that are absent were expunged after `since`. */
static int put_expunged(struct paging *page, const struct uidset *absent, struct buf *out)
{
    struct uidset expunged = {0};
    struct uidset told = {0};
    uint32_t uid;
    int rc = ERR_OK;
    if (page->since && page->base && absent->count)
        rc = undo_expunged(page->tx, &page->header, page->since, &expunged);
    for (uint32_t from = 1;
         rc == ERR_OK && expunged.count && from && uidset_next(absent, from, &uid); from = uid + 1)
        if (uidset_contains(&expunged, uid))
            rc = uidset_add(&told, uid);
    uidset_encode(&told, out);
    uidset_free(&told);
    uidset_free(&expunged);
    return rc;
}

static int answer_records(struct tx *tx, struct answering *work)
{
    struct paging page = {.tx = tx};
    struct uidset absent = {0};
    struct buf records = {0};
    uint64_t count = 0;
    uint64_t id = read_u64(&work->in);
    page.since = read_u64(&work->in);
    page.base = read_u64(&work->in);
    page.next = read_u32(&work->in);
    int rc = uidset_decode(&page.uids, &work->in, UINT32_MAX);
    if (rc == ERR_CORRUPT || (rc == ERR_OK && (!reader_done(&work->in) || page.next == 0)))
        rc = malformed();
    if (rc == ERR_OK)
        rc = header_get(tx_db(tx), id, &page.header);
    if (rc == ERR_OK)
        rc = find_page(&page);
    if (rc == ERR_OK)
        rc = put_records(&page, &records, &count, &absent);
    if (rc == ERR_OK)
        rc = put_expunged(&page, &absent, &records);
    if (rc == ERR_OK) {
        buf_u8(work->out, 1);
        put_now(tx, &page.header, false, work->out);
        buf_varint(work->out, page.next);
        buf_varint(work->out, count);
        buf_put(work->out, records.data, records.size);
        rc = records.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
    }
    buf_free(&records);
    uidset_free(&absent);
    uidset_free(&page.uids);
    return rc;
}

static int read_ranges(struct reader *in, struct uid_range *ranges, uint64_t count)
{
    uint64_t last = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t first = last + read_varint32(in);
        uint64_t end = first + read_varint32(in);
        if (in->failed || first == last || end > UINT32_MAX)
            return malformed();
        ranges[i] = (struct uid_range){.first = (uint32_t)first, .last = (uint32_t)end};
        last = end;
    }
    return ERR_OK;
}

static int put_sums(struct tx *tx, const struct header *header, enum record_item item,
                    uint64_t base, const struct record_sums *sums, struct record_changes *changes,
                    struct buf *out)
{
    bool wanted = changes->since > 0;
    int rc = record_sums(tx_db(tx), header->number, item, base, sums, wanted ? changes : NULL);
    if (rc)
        return rc;
    buf_u8(out, 1);
    for (size_t i = 0; i < sums->count; i++) {
        buf_varint(out, sums->sums[i].count);
        if (sums->sums[i].count)
            buf_u64(out, sums->sums[i].sum);
    }
    if (wanted) {
        buf_u8(out, !changes->more);
        uidset_encode(&changes->uids, out);
    }
    return ERR_OK;
}

static int answer_sums(struct tx *tx, struct answering *work)
{
    struct header header;
    uint64_t id = read_u64(&work->in);
    uint8_t item = read_u8(&work->in);
    uint64_t base = read_u64(&work->in);
    struct record_changes changes = {.since = read_u64(&work->in), .most = CHANGES_MOST};
    uint64_t count = read_varint(&work->in);
    if (work->in.failed || count > ASK_RANGES_MAX || item > RECORD_IDENTITY)
        return malformed();
    int rc = header_get(tx_db(tx), id, &header);
    if (rc)
        return rc;
    struct uid_range *ranges = malloc((count + 1) * sizeof *ranges);
    struct record_sum *sums = malloc((count + 1) * sizeof *sums);
    const struct record_sums wanted = {.ranges = ranges, .count = count, .sums = sums};
    if (!ranges || !sums)
        rc = fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = read_ranges(&work->in, ranges, count);
    if (rc == ERR_OK && !reader_done(&work->in))
        rc = malformed();
    if (rc == ERR_OK)
        rc = put_sums(tx, &header, (enum record_item)item, base, &wanted, &changes, work->out);
    uidset_free(&changes.uids);
    free(ranges);
    free(sums);
    return rc;
}

static int put_seen(struct tx *tx, const struct header *header, uint64_t base, struct bytes user,
                    const struct uidset *seen, const struct versioned *version, struct buf *out)
{
    struct uidset added = {0};
    struct uidset removed = {0};
    int rc = base ? undo_seen(tx, header, base, user, &added, &removed) : ERR_TRIMMED;
    if (rc == ERR_OK || rc == ERR_TRIMMED) {
        buf_u8(out, 0);
        buf_bytes(out, user);
        buf_u64(out, version->version.modseq);
        buf_u64(out, (uint64_t)version->version.changed);
        uidset_encode(seen, out);
        buf_u8(out, rc == ERR_OK);
    }
    if (rc == ERR_OK) {
        uidset_encode(&added, out);
        uidset_encode(&removed, out);
    }
    uidset_free(&added);
    uidset_free(&removed);
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

static void put_meta(struct bytes user, struct bytes key, const struct versioned *value,
                     struct buf *out)
{
    buf_u8(out, 1);
    buf_bytes(out, user);
    buf_bytes(out, key);
    buf_u8(out, (uint8_t)value->state);
    buf_u64(out, value->version.modseq);
    buf_u64(out, (uint64_t)value->version.changed);
    buf_bytes(out, value->value);
}

/* A page of values; where the next one begins is 's' or 'm' and the row. */
struct values_page {
    struct tx *tx;
    const struct header *header;
    uint64_t mailbox;
    uint64_t since;
    uint64_t base;
    struct buf row;
    struct buf out;
    uint64_t count;
};

static int page_seen(struct values_page *page)
{
    struct bytes user;
    struct uidset seen = {0};
    struct versioned version;
    int rc = ERR_OK;
    while (rc == ERR_OK && page->out.size < PAGE_SIZE) {
        rc = seen_next(tx_db(page->tx), page->mailbox, &page->row, &user, &seen, &version);
        if (rc == ERR_OK && version.version.modseq > page->since) {
            rc = put_seen(page->tx, page->header, page->base, user, &seen, &version, &page->out);
            page->count++;
        }
    }
    uidset_free(&seen);
    return rc;
}

static int page_metas(struct values_page *page)
{
    struct bytes user, key;
    struct versioned value;
    int rc = ERR_OK;
    while (rc == ERR_OK && page->out.size < PAGE_SIZE) {
        rc = meta_next(tx_db(page->tx), page->mailbox, &page->row, &user, &key, &value);
        if (rc == ERR_OK && value.version.modseq > page->since) {
            put_meta(user, key, &value, &page->out);
            page->count++;
        }
    }
    return rc;
}

static int fill_values(struct values_page *page, char *table)
{
    int rc = ERR_OK;
    if (*table == 's') {
        rc = page->mailbox ? page_seen(page) : ERR_END;
        if (rc != ERR_END)
            return rc;
        *table = 'm';
        buf_reset(&page->row);
    }
    return page_metas(page);
}

static int answer_values(struct tx *tx, struct answering *work)
{
    struct header header = {0};
    struct values_page page = {.tx = tx, .header = &header};
    char table = 's';
    page.mailbox = read_u64(&work->in);
    page.since = read_u64(&work->in);
    page.base = read_u64(&work->in);
    struct bytes row = read_bytes(&work->in);
    if (!reader_done(&work->in) || (row.size && row.data[0] != 's' && row.data[0] != 'm'))
        return malformed();
    if (row.size) {
        table = (char)row.data[0];
        buf_put(&page.row, row.data + 1, row.size - 1);
    }
    int rc = page.mailbox ? header_get(tx_db(tx), page.mailbox, &header) : ERR_OK;
    if (rc)
        return rc;
    rc = fill_values(&page, &table);
    if (rc == ERR_OK || rc == ERR_END) {
        buf_u8(work->out, 1);
        buf_u64(work->out, tx_window(tx)->last.modseq);
        buf_varint(work->out, tx_node(tx)->epoch.number);
        buf_u64(work->out, tx_node(tx)->epoch.node);
        buf_u64(work->out, page.mailbox ? header.lastmodseq : tx_node(tx)->meta_modseq);
        buf_varint(work->out, page.count);
        buf_put(work->out, page.out.data, page.out.size);
        buf_varint(work->out, rc == ERR_END ? 0 : page.row.size + 1);
        if (rc == ERR_OK) {
            buf_u8(work->out, (uint8_t)table);
            buf_put(work->out, page.row.data, page.row.size);
        }
        rc = page.out.failed || page.row.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
    }
    buf_free(&page.row);
    buf_free(&page.out);
    return rc;
}

/* One message's content from `offset` on, as far as the answer has room. *done: it is all there. */
static int put_content(struct tx *tx, struct answering *work, const struct guid *guid,
                       uint64_t offset, bool *done)
{
    struct content content;
    struct buf data = {0};
    int rc = content_get(tx_db(tx), guid, &content);
    *done = true;
    if (rc == ERR_OK && content.number && content.references)
        rc = content_copy(tx_db(tx), &content, offset, PAGE_SIZE, &data);
    if (rc == ERR_END || rc == ERR_CORRUPT ||
        (rc == ERR_OK && (content.number == 0 || content.references == 0))) {
        buf_u8(work->out, 2);
        buf_varint(work->out, 0);
        rc = ERR_OK;
    } else if (rc == ERR_OK) {
        *done = offset + data.size >= content.stored;
        buf_u8(work->out, *done);
        buf_bytes(work->out, buf_view(&data));
    }
    buf_free(&data);
    return rc;
}

static int answer_content(struct tx *tx, struct answering *work)
{
    uint64_t offset = read_u64(&work->in);
    uint64_t count = read_varint(&work->in);
    bool done = true;
    int rc = ERR_OK;
    if (work->in.failed || count > ASK_CONTENT_MAX || reader_left(&work->in) != count * GUID_SIZE)
        return malformed();
    buf_u8(work->out, 1);
    for (uint64_t i = 0; rc == ERR_OK && done && i < count && !is_full(work); i++) {
        struct guid guid;
        struct bytes view = read_view(&work->in, GUID_SIZE);
        memcpy(guid.bytes, view.data, GUID_SIZE);
        rc = put_content(tx, work, &guid, offset, &done);
        offset = 0;
    }
    return rc;
}

/* In the transaction of every answer: a repair of this node may begin while it makes another one
 * equal. */
static int check_whole(struct tx *tx)
{
    bool stops;
    int rc = stop_any(tx_db(tx), &stops);
    return rc == ERR_OK && stops && tx_node(tx)->role == ROLE_REPLICA
               ? fail(ERR_REFUSED, "this node is being repaired itself")
               : rc;
}

static int answer_one(struct tx *tx, void *arg)
{
    static int (*const answers[])(struct tx * tx, struct answering * work) = {
        [ASK_BRANCH] = answer_branch,       [ASK_CHAINS] = answer_chains,
        [ASK_MAILBOXES] = answer_mailboxes, [ASK_HEADER] = answer_header,
        [ASK_RECORDS] = answer_records,     [ASK_SUMS] = answer_sums,
        [ASK_VALUES] = answer_values,       [ASK_CONTENT] = answer_content,
    };
    struct answering *work = arg;
    uint8_t kind = read_u8(&work->in);
    if (work->in.failed || kind == 0 || kind >= sizeof answers / sizeof answers[0])
        return malformed();
    int rc = work->upstream ? check_whole(tx) : ERR_OK;
    if (rc == ERR_OK)
        rc = answers[kind](tx, work);
    if (rc == ERR_END) {
        work->out->size = work->start;
        buf_u8(work->out, 0);
        rc = ERR_OK;
    }
    return rc;
}

static int run(struct store *store, struct bytes question, bool upstream, struct buf *out)
{
    struct answering work = {
        .in = reader_of(question), .out = out, .start = out->size, .upstream = upstream};
    int rc = store_read(store, answer_one, &work);
    return rc == ERR_OK && out->failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

int answer(struct store *store, struct bytes question, struct buf *out)
{
    return run(store, question, false, out);
}

int answer_follower(struct store *store, struct bytes question, struct buf *out)
{
    return run(store, question, true, out);
}
