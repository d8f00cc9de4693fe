#include "agent/ask.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/draft.h"
#include "mailbox/undo.h"

#include <stdlib.h>
#include <string.h>

#define UIDSET_MAX 4096u /* ranges of UIDs in one question about records */
#define STOP_LEAST 18u   /* bytes of one that waits */
#define MAILBOXES_MOST (1u << 22)
#define MODSEQ_MAX ((uint64_t)INT64_MAX) /* RFC 7162 */

static int malformed(const char *what)
{
    return fail(ERR_PROTOCOL, "malformed answer: %s", what);
}

/* Asks and gives a reader of the answer; its first byte tells whether there is one. */
static int ask(const struct asker *asker, struct buf *question, struct buf *answer,
               struct reader *in)
{
    buf_reset(answer);
    int rc = question->failed ? fail(ERR_NOMEM, "out of memory")
                              : asker->ask(asker->context, buf_view(question), answer);
    buf_free(question);
    if (rc)
        return rc;
    *in = reader_of(buf_view(answer));
    uint8_t found = read_u8(in);
    if (in->failed || found > 1)
        return malformed("its first byte");
    return found ? ERR_OK : ERR_END;
}

static struct buf begin(enum question kind)
{
    struct buf out = {0};
    buf_u8(&out, (uint8_t)kind);
    return out;
}

void branch_free(struct branch *branch)
{
    free(branch->epochs);
    free(branch->marks);
    free(branch->stops);
    *branch = (struct branch){0};
}

static int read_stops(struct reader *in, struct branch *branch)
{
    uint64_t count = read_varint(in);
    if (in->failed || count > ANSWER_MAX / STOP_LEAST)
        return malformed("stops");
    branch->stops = calloc(count + 1, sizeof *branch->stops);
    if (!branch->stops)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->stop_count < count && !in->failed; branch->stop_count++) {
        struct mark *stop = &branch->stops[branch->stop_count];
        stop->mailbox = read_u64(in);
        stop->epoch.number = read_varint32(in);
        stop->epoch.node = read_u64(in);
        stop->taken.modseq = read_varint(in);
    }
    return in->failed ? malformed("stops") : ERR_OK;
}

static int read_marks(struct reader *in, struct branch *branch)
{
    uint64_t count = read_varint(in);
    if (in->failed || count > ANSWER_MAX / 16)
        return malformed("marks");
    branch->marks = calloc(count + 1, sizeof *branch->marks);
    if (!branch->marks)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->mark_count < count && !in->failed; branch->mark_count++) {
        struct mark *mark = &branch->marks[branch->mark_count];
        mark->mailbox = read_u64(in);
        mark->modseq = read_u64(in);
        mark->epoch.number = read_varint32(in);
        mark->epoch.node = read_u64(in);
        mark->taken = read_position(in);
    }
    return ERR_OK;
}

static int read_branch(struct reader *in, struct branch *branch)
{
    branch->store_id = read_u64(in);
    branch->node_id = read_u64(in);
    uint8_t role = read_u8(in);
    branch->role = role ? ROLE_REPLICA : ROLE_MASTER;
    branch->epoch.number = read_varint32(in);
    branch->epoch.node = read_u64(in);
    branch->base = read_position(in);
    branch->last = read_position(in);
    branch->last_time = (int64_t)read_u64(in);
    branch->digest = read_u64(in);
    branch->discard = read_u8(in) == 1;
    uint64_t count = read_varint(in);
    if (in->failed || role > ROLE_REPLICA || count > ANSWER_MAX / 40 ||
        branch->last.modseq > MODSEQ_MAX)
        return malformed("a branch");
    branch->epochs = calloc(count + 1, sizeof *branch->epochs);
    if (!branch->epochs)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->epoch_count < count; branch->epoch_count++)
        if (epoch_decode(in, &branch->epochs[branch->epoch_count]))
            return malformed("an epoch");
    int rc = read_marks(in, branch);
    if (rc == ERR_OK)
        rc = read_stops(in, branch);
    return rc == ERR_OK && !reader_done(in) ? malformed("a branch") : rc;
}

int ask_branch(const struct asker *asker, struct branch *branch)
{
    struct buf question = begin(ASK_BRANCH);
    struct buf answer = {0};
    struct reader in;
    *branch = (struct branch){0};
    int rc = ask(asker, &question, &answer, &in);
    if (rc == ERR_OK)
        rc = read_branch(&in, branch);
    if (rc)
        branch_free(branch);
    buf_free(&answer);
    return rc;
}

int ask_chains(const struct asker *asker, const uint64_t *modseqs, size_t count,
               struct position *positions)
{
    struct buf question = begin(ASK_CHAINS);
    struct buf answer = {0};
    struct reader in;
    buf_varint(&question, count);
    for (size_t i = 0; i < count; i++)
        buf_u64(&question, modseqs[i]);
    int rc = ask(asker, &question, &answer, &in);
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        positions[i] = (struct position){.modseq = modseqs[i], .chain = read_u64(&in)};
    if (rc == ERR_OK && !reader_done(&in))
        rc = malformed("chains");
    buf_free(&answer);
    return rc;
}

static int read_mailboxes(struct reader *in, uint64_t *after, uint64_t *told,
                          int (*each)(const struct mailbox_line *line, void *arg), void *arg)
{
    uint64_t count = read_varint(in);
    *told += count;
    if (count > MAILBOXES_MOST || *told > MAILBOXES_MOST)
        return malformed("more mailboxes than there can be");
    for (uint64_t i = 0; i < count; i++) {
        struct mailbox_line line = {.id = read_u64(in)};
        line.digest = read_u64(in);
        line.lastmodseq = read_u64(in);
        uint8_t state = read_u8(in);
        struct bytes name = read_bytes(in);
        uint8_t stopped = read_u8(in);
        if (in->failed || state > MAILBOX_PURGED || line.id <= *after || stopped > 1)
            return malformed("a mailbox");
        line.stopped = stopped;
        line.state = (enum mailbox_state)state;
        if (name.size && name_decode(name, &line.name))
            return malformed("a mailbox's name");
        *after = line.id;
        int rc = each(&line, arg);
        if (rc)
            return rc;
    }
    return count ? ERR_OK : ERR_END;
}

int ask_mailboxes(const struct asker *asker, uint64_t at,
                  int (*each)(const struct mailbox_line *line, void *arg), void *arg)
{
    struct buf answer = {0};
    uint64_t after = 0;
    uint64_t told = 0;
    int rc = ERR_OK;
    while (rc == ERR_OK) {
        struct buf question = begin(ASK_MAILBOXES);
        struct reader in;
        buf_u64(&question, at);
        buf_u64(&question, after);
        rc = ask(asker, &question, &answer, &in);
        if (rc == ERR_OK)
            rc = read_mailboxes(&in, &after, &told, each, arg);
    }
    buf_free(&answer);
    return rc == ERR_END ? ERR_OK : rc;
}

void ask_encode_header(const struct header *header, struct buf *out)
{
    const struct facts *facts = &header->facts;
    buf_u64(out, header->id);
    buf_u8(out, (uint8_t)facts->state);
    buf_u32(out, facts->uidvalidity);
    buf_u32(out, facts->uidnext);
    buf_u64(out, facts->highestmodseq);
    buf_u64(out, facts->deletedmodseq);
    buf_bytes(out, name_encoded(&facts->name));
    buf_u64(out, header->lastmodseq);
    buf_u64(out, (uint64_t)header->changed);
    buf_u64(out, header->floor);
    buf_u64(out, header->messages);
    buf_u64(out, header->unseen);
    buf_u64(out, header->bytes);
    buf_u64(out, header->tombstones);
    buf_u64(out, header->items);
}

static int decode_header(struct reader *from, struct header *header)
{
    struct facts *facts = &header->facts;
    *header = (struct header){.id = read_u64(from)};
    uint8_t state = read_u8(from);
    facts->uidvalidity = read_u32(from);
    facts->uidnext = read_u32(from);
    facts->highestmodseq = read_u64(from);
    facts->deletedmodseq = read_u64(from);
    struct bytes name = read_bytes(from);
    header->lastmodseq = read_u64(from);
    header->changed = (int64_t)read_u64(from);
    header->floor = read_u64(from);
    header->messages = read_u64(from);
    header->unseen = read_u64(from);
    header->bytes = read_u64(from);
    header->tombstones = read_u64(from);
    header->items = read_u64(from);
    if (from->failed || state > MAILBOX_PURGED || state == MAILBOX_NONE ||
        header->lastmodseq > MODSEQ_MAX || header->floor > MODSEQ_MAX ||
        facts->highestmodseq > MODSEQ_MAX || facts->deletedmodseq > MODSEQ_MAX ||
        name_decode(name, &facts->name))
        return malformed("a header");
    facts->state = (enum mailbox_state)state;
    return ERR_OK;
}

static int read_now(struct reader *in, uint64_t mailbox, struct mailbox_state_now *now)
{
    now->position = read_position(in);
    now->epoch.number = read_varint32(in);
    now->epoch.node = read_u64(in);
    now->sound = read_u8(in) == 1;
    int rc = decode_header(in, &now->header);
    return rc == ERR_OK && now->header.id != mailbox ? malformed("another mailbox's header") : rc;
}

static int read_former(struct reader *in, struct mailbox_state_now *now)
{
    uint8_t known = read_u8(in);
    now->former_known = known == 1;
    now->former = (struct facts){0};
    if (known != 1)
        return known || in->failed ? malformed("a header") : ERR_OK;
    uint8_t state = read_u8(in);
    now->former.uidnext = read_u32(in);
    struct bytes name = read_bytes(in);
    if (in->failed || state > MAILBOX_PURGED || (name.size && name_decode(name, &now->former.name)))
        return malformed("a header's former facts");
    now->former.state = (enum mailbox_state)state;
    return ERR_OK;
}

int ask_header(const struct asker *asker, uint64_t mailbox, bool prove, uint64_t base,
               struct mailbox_state_now *now)
{
    struct buf question = begin(ASK_HEADER);
    struct buf answer = {0};
    struct reader in;
    buf_u64(&question, mailbox);
    buf_u8(&question, prove);
    buf_u64(&question, base);
    int rc = ask(asker, &question, &answer, &in);
    if (rc == ERR_OK)
        rc = read_now(&in, mailbox, now);
    if (rc == ERR_OK)
        rc = read_former(&in, now);
    if (rc == ERR_OK && !reader_done(&in))
        rc = malformed("a header");
    buf_free(&answer);
    return rc;
}

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
        return malformed("a record");
    memcpy(record->guid.bytes, guid.data, GUID_SIZE);
    record->keywords = keywords_hash(line->keywords);
    uint8_t has_base = read_u8(from);
    line->has_base = has_base == 1;
    if (line->has_base) {
        line->base_system = read_varint32(from);
        if (keywords_read(from, &line->base_keywords))
            return malformed("a record's former keywords");
    }
    return from->failed || has_base > 1 || line->base_system & ~FLAG_SYSTEM ? malformed("a record")
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
    int rc = read_now(in, mailbox, &page->now);
    if (rc)
        return rc;
    page->next = read_varint32(in);
    uint64_t count = read_varint(in);
    uint32_t last = from - 1;
    for (uint64_t i = 0; i < count && rc == ERR_OK; i++) {
        struct record_line line;
        rc = decode_record(in, &line);
        if (rc == ERR_OK && line.record.uid <= last)
            rc = malformed("records out of order");
        last = line.record.uid;
        if (rc == ERR_OK)
            rc = each(&line, arg);
    }
    if (rc == ERR_OK &&
        (!reader_done(in) || (page->next && (page->next <= last || page->next == from))))
        rc = malformed("a page of records");
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

int ask_records(const struct asker *asker, uint64_t mailbox, uint64_t since,
                const struct uidset *uids, uint64_t base,
                int (*each)(const struct record_line *line, void *arg), void *arg,
                struct mailbox_state_now *first, struct mailbox_state_now *last)
{
    struct record_page page = {.next = 1};
    struct buf answer = {0};
    struct uidset all = {0};
    struct uidset part = {0};
    bool any = false;
    int rc = uids ? uidset_copy(&all, uids) : uidset_add_range(&all, 1, UINT32_MAX);
    while (rc == ERR_OK && page.next) {
        struct buf question = begin(ASK_RECORDS);
        struct reader in;
        uint32_t behind;
        rc = cut_uids(&all, page.next, &part, &behind);
        if (rc)
            break;
        buf_u64(&question, mailbox);
        buf_u64(&question, since);
        buf_u64(&question, base);
        buf_u32(&question, page.next);
        uidset_encode(&part, &question);
        rc = ask(asker, &question, &answer, &in);
        if (rc == ERR_OK)
            rc = read_records(&in, mailbox, &page, each, arg);
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
    return rc == ERR_CORRUPT || (rc == ERR_OK && all > 1) ? malformed("changed records") : rc;
}

int ask_sums(const struct asker *asker, uint64_t mailbox, enum record_item item, uint64_t base,
             const struct record_sums *sums, struct record_changes *changes)
{
    struct buf question = begin(ASK_SUMS);
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
    int rc = ask(asker, &question, &answer, &in);
    for (size_t i = 0; rc == ERR_OK && i < sums->count; i++) {
        struct record_sum *sum = &sums->sums[i];
        sum->count = read_varint(&in);
        sum->sum = sum->count ? read_u64(&in) : 0;
    }
    if (rc == ERR_OK && changes)
        rc = read_changes(&in, changes);
    if (rc == ERR_OK && !reader_done(&in))
        rc = malformed("sums");
    buf_free(&answer);
    return rc;
}

static int buf_keep(struct buf *to, struct bytes from)
{
    buf_put(to, from.data, from.size);
    return to->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int read_set(struct reader *in, struct uidset *set)
{
    int rc = uidset_decode(set, in, UINT32_MAX);
    return rc == ERR_CORRUPT ? malformed("a set of UIDs") : rc;
}

static int read_seen(struct reader *in, struct merge_other *other)
{
    struct merge_seen *all =
        array_room(other->seen, other->seen_count, &other->seen_capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    other->seen = all;
    struct merge_seen *seen = &all[other->seen_count++];
    *seen = (struct merge_seen){0};
    struct bytes user = read_bytes(in);
    seen->version.modseq = read_u64(in);
    seen->version.changed = (int64_t)read_u64(in);
    if (in->failed || user.size == 0 || user.size > USER_MAX_SIZE ||
        memchr(user.data, 0, user.size))
        return malformed("a user");
    int rc = buf_keep(&seen->user, user);
    if (rc == ERR_OK)
        rc = read_set(in, &seen->seen);
    uint8_t known = read_u8(in);
    seen->known = known == 1;
    if (rc == ERR_OK && seen->known)
        rc = read_set(in, &seen->added);
    if (rc == ERR_OK && seen->known)
        rc = read_set(in, &seen->removed);
    return rc == ERR_OK && (in->failed || known > 1) ? malformed("a seen set") : rc;
}

static int read_meta(struct reader *in, struct merge_other *other)
{
    struct merge_meta *all =
        array_room(other->metas, other->meta_count, &other->meta_capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    other->metas = all;
    struct merge_meta *meta = &all[other->meta_count++];
    *meta = (struct merge_meta){0};
    struct bytes user = read_bytes(in);
    struct bytes key = read_bytes(in);
    uint8_t state = read_u8(in);
    meta->version.modseq = read_u64(in);
    meta->version.changed = (int64_t)read_u64(in);
    struct bytes value = read_bytes(in);
    if (in->failed || key.size == 0 || user.size + key.size > USER_MAX_SIZE ||
        (user.size && memchr(user.data, 0, user.size)) || memchr(key.data, 0, key.size) ||
        (state != VALUE_SET && state != VALUE_REMOVED) || value.size > META_VALUE_MAX_SIZE)
        return malformed("a meta value");
    meta->state = (enum value_state)state;
    int rc = buf_keep(&meta->user, user);
    if (rc == ERR_OK)
        rc = buf_keep(&meta->key, key);
    return rc ? rc : buf_keep(&meta->value, value);
}

/* Each page begins behind the one before: seen sets come first, then meta values. */
static bool is_behind(struct bytes next, struct bytes row)
{
    if (row.size == 0 || next.data[0] != row.data[0])
        return row.size == 0 || row.data[0] == 's';
    int order = memcmp(next.data, row.data, next.size < row.size ? next.size : row.size);
    return order ? order > 0 : next.size > row.size;
}

static int read_values(struct reader *in, uint64_t mailbox, struct merge_other *other,
                       struct buf *row)
{
    uint64_t count = read_varint(in);
    int rc = ERR_OK;
    for (uint64_t i = 0; i < count && rc == ERR_OK; i++) {
        uint8_t kind = read_u8(in);
        if (in->failed || kind > 1 || (kind == 0 && mailbox == 0))
            return malformed("a value");
        rc = kind ? read_meta(in, other) : read_seen(in, other);
    }
    if (rc)
        return rc;
    struct bytes next = read_bytes(in);
    if (!reader_done(in) || (next.size && (count == 0 || !is_behind(next, buf_view(row)))))
        return malformed("a page of values");
    buf_reset(row);
    rc = buf_keep(row, next);
    return rc ? rc : next.size ? ERR_OK : ERR_END;
}

int ask_values(const struct asker *asker, uint64_t mailbox, uint64_t since, uint64_t base,
               struct merge_other *other, struct values_as_of *as_of)
{
    struct values_as_of now = {0};
    struct buf answer = {0};
    struct buf row = {0};
    uint64_t changed = 0, first_changed = 0;
    bool any = false;
    int rc = ERR_OK;
    while (rc == ERR_OK) {
        struct buf question = begin(ASK_VALUES);
        struct reader in;
        buf_u64(&question, mailbox);
        buf_u64(&question, since);
        buf_u64(&question, base);
        buf_bytes(&question, buf_view(&row));
        rc = ask(asker, &question, &answer, &in);
        if (rc == ERR_OK) {
            now.modseq = read_u64(&in);
            now.epoch.number = read_varint32(&in);
            now.epoch.node = read_u64(&in);
            changed = read_u64(&in);
            first_changed = any ? first_changed : changed;
            any = true;
            rc = read_values(&in, mailbox, other, &row);
        }
    }
    if (changed != first_changed)
        now.modseq = 0;
    if (as_of)
        *as_of = now;
    buf_free(&answer);
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

/* Content that is coming in, piece by piece. */
struct fetch {
    struct db *db;
    const struct guid *guids;
    size_t count;
    struct draft **drafts;
    size_t at;       /* of the GUID that comes next, or goes on */
    uint64_t offset; /* of it */
    uint64_t bytes;
};

static int finish_draft(struct fetch *fetch)
{
    struct draft *draft = fetch->drafts[fetch->at];
    int rc = draft_finish(draft);
    if (rc == ERR_CORRUPT ||
        (rc == ERR_OK && !guid_equal(draft_guid(draft), &fetch->guids[fetch->at])))
        return malformed("content that is not what its GUID says");
    return rc;
}

/* One piece: u8 state (0 more follows, 1 the last, 2 not there), bytes. */
static int read_piece(struct reader *in, struct fetch *fetch)
{
    uint8_t state = read_u8(in);
    struct bytes data = read_bytes(in);
    if (in->failed || state > 2 || fetch->at == fetch->count)
        return malformed("content");
    struct draft **draft = &fetch->drafts[fetch->at];
    int rc = ERR_OK;
    if (state == 2) {
        draft_close(*draft);
        *draft = NULL;
    } else if (!*draft) {
        rc = draft_open(fetch->db, DRAFT_DEFLATED, draft);
    }
    if (rc == ERR_OK && *draft)
        rc = draft_write(*draft, data.data, data.size);
    if (rc == ERR_CORRUPT)
        rc = malformed("content that does not inflate");
    fetch->bytes += data.size;
    fetch->offset += data.size;
    if (rc || state == 0)
        return rc;
    rc = *draft ? finish_draft(fetch) : ERR_OK;
    fetch->at++;
    fetch->offset = 0;
    return rc;
}

static int fetch_some(const struct asker *asker, struct fetch *fetch, struct buf *answer)
{
    struct buf question = begin(ASK_CONTENT);
    struct reader in;
    size_t at = fetch->at;
    uint64_t offset = fetch->offset;
    buf_u64(&question, fetch->offset);
    buf_varint(&question, fetch->count - fetch->at);
    for (size_t i = fetch->at; i < fetch->count; i++)
        buf_put(&question, fetch->guids[i].bytes, GUID_SIZE);
    int rc = ask(asker, &question, answer, &in);
    while (rc == ERR_OK && reader_left(&in))
        rc = read_piece(&in, fetch);
    if (rc == ERR_OK && fetch->at == at && fetch->offset == offset)
        rc = malformed("no content");
    return rc;
}

static int stage_above(struct draft **drafts, size_t count, size_t memory)
{
    size_t held = 0;
    for (size_t i = 0; i < count; i++)
        held += drafts[i] ? draft_memory(drafts[i]) : 0;
    return held > memory ? draft_stage_all(drafts, count) : ERR_OK;
}

int ask_content(const struct asker *asker, struct db *db, const struct guid *guids, size_t count,
                size_t memory, struct draft **drafts, uint64_t *bytes)
{
    struct fetch fetch = {.db = db, .guids = guids, .count = count, .drafts = drafts};
    struct buf answer = {0};
    int rc = ERR_OK;
    memset(drafts, 0, count * sizeof(struct draft *));
    while (rc == ERR_OK && fetch.at < count) {
        rc = fetch_some(asker, &fetch, &answer);
        if (rc == ERR_OK)
            rc = stage_above(drafts, fetch.at, memory);
    }
    for (size_t i = 0; rc && i < count; i++) {
        draft_close(drafts[i]);
        drafts[i] = NULL;
    }
    if (bytes)
        *bytes += fetch.bytes;
    buf_free(&answer);
    return rc;
}
