#include "mailbox/view.h"

#include "base/array.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/history.h"
#include "mailbox/count.h"
#include "mailbox/keywords.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"

#include <stdlib.h>
#include <string.h>

#define LOAD_BATCH 256u
#define STEPS_IN_ONE_READ 4096u
#define REWRITES 64u

int when_parse(const char *text, struct when *when)
{
    *when = (struct when){0};
    size_t digits = strspn(text, "0123456789");
    if (digits && !text[digits]) {
        if (digits > 19)
            return fail(ERR_INVALID, "%s: not a modseq", text);
        when->is_modseq = true;
        when->modseq = strtoull(text, NULL, 10);
        return ERR_OK;
    }
    when->is_age = times_parse_age(text, true, &when->time) == ERR_OK;
    if (when->is_age)
        return ERR_OK;
    /* A date alone might mean its first moment or its last. */
    if (strchr(text, ':') && times_parse_rfc3339(text, &when->time) == ERR_OK)
        return ERR_OK;
    return fail(ERR_INVALID, "%s: not a modseq, a time (2026-11-23T10:00:00Z) or an age (10m ago)",
                text);
}

static int64_t before(int64_t now, int64_t age)
{
    return now < INT64_MIN + age ? INT64_MIN : now - age;
}

int64_t when_time(const struct when *when)
{
    return when->is_age ? before(times_now(), when->time) : when->time;
}

/* Of a clock that was put back, the journal's last time is the present: so that an age of nothing
 * is what there is now. */
static int64_t time_of(struct tx *tx, const struct when *when)
{
    int64_t now = times_now();
    int64_t last = tx_window(tx)->last_time;
    return when->is_age ? before(now > last ? now : last, when->time) : when->time;
}

int when_resolve(struct tx *tx, const struct when *when, uint64_t *modseq)
{
    struct history *history;
    int rc = history_open(db_directory_fd(store_db(tx_store(tx))), &history);
    if (rc)
        return rc;
    rc = when->is_modseq ? history_round_down(history, tx_db(tx), when->modseq, modseq)
                         : history_at_time(history, tx_db(tx), time_of(tx, when), modseq);
    history_close(history);
    return rc;
}

/* Live records by UID: an array, with an open-addressed table of places in it. */
struct place {
    uint32_t uid; /* 0 with a place: it was given up, searching goes on past it */
    uint32_t at;  /* in the array, + 1; 0: empty */
};

struct records {
    struct record *all; /* uid 0: a place that is free again */
    size_t count;
    size_t capacity;
    struct place *places;
    size_t place_count; /* a power of two */
    unsigned shift;     /* 32 less its logarithm */
};

struct seen_set {
    struct buf user;
    struct uidset uids;
    struct versioned version;
};

struct meta_value {
    struct buf user;
    struct buf key;
    struct buf value;
    enum value_state state;
    struct former version;
};

struct keyword_set {
    uint64_t hash;
    struct buf names;
};

/* What a record had before an entry. */
struct rewrite {
    uint32_t uid;
    bool flagged; /* flags and keywords, too; then the record must be there */
    uint32_t system;
    uint64_t keywords;
    struct former former;
};

/* On a long way back counts and digest are not kept at each entry: they are made again at the last
 * one, and prove everything behind it. */
struct view {
    bool loose;   /* they are not those of the records now */
    bool stopped; /* the mailbox does not follow the journal just now */
    struct store *store;
    struct history *history;
    struct header header;
    struct records records;
    struct seen_set *seen;
    size_t seen_count;
    size_t seen_capacity;
    struct meta_value *meta;
    size_t meta_count;
    size_t meta_capacity;
    struct keyword_set *keywords;
    size_t keyword_count;
    size_t keyword_capacity;
    struct change change;
    struct record *shown;
    /* They wait, to be carried out many at a time: each finds its record far from the one before,
     * and memory answers several such questions in the time of one. */
    struct rewrite rewrites[REWRITES];
    size_t rewrite_count;
};

/* The upper bits: they are spread however the UIDs are. */
static size_t home(const struct records *records, uint32_t uid)
{
    return (uid * 2654435761u) >> records->shift;
}

static void index_put(struct records *records, uint32_t uid, size_t at)
{
    size_t mask = records->place_count - 1;
    size_t i = home(records, uid);
    while (records->places[i].at)
        i = (i + 1) & mask;
    records->places[i] = (struct place){.uid = uid, .at = (uint32_t)at + 1};
}

static int make_places(struct records *records)
{
    records->place_count = 2;
    records->shift = 31;
    while (records->place_count < records->capacity * 2) {
        records->place_count *= 2;
        records->shift--;
    }
    free(records->places);
    records->places = calloc(records->place_count, sizeof *records->places);
    return records->places ? ERR_OK : fail(ERR_NOMEM, "out of memory");
}

static int records_grow(struct records *records)
{
    size_t live = 0;
    for (size_t i = 0; records->all && i < records->count; i++)
        if (records->all[i].uid)
            records->all[live++] = records->all[i];
    records->count = live;
    if (live * 2 > records->capacity || !records->all) {
        size_t capacity = records->capacity ? records->capacity * 2 : LOAD_BATCH;
        struct record *all = realloc(records->all, capacity * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        records->all = all;
        records->capacity = capacity;
    }
    int rc = make_places(records);
    for (size_t i = 0; i < live && rc == ERR_OK; i++)
        index_put(records, records->all[i].uid, i);
    return rc;
}

static int records_add(struct records *records, const struct record *record)
{
    if (!records->all || records->count == records->capacity) {
        int rc = records_grow(records);
        if (rc)
            return rc;
    }
    records->all[records->count] = *record;
    index_put(records, record->uid, records->count++);
    return ERR_OK;
}

static struct place *find_place(const struct records *records, uint32_t uid)
{
    if (!records->place_count)
        return NULL;
    size_t mask = records->place_count - 1;
    for (size_t i = home(records, uid); records->places[i].at; i = (i + 1) & mask)
        if (records->places[i].uid == uid)
            return &records->places[i];
    return NULL;
}

static struct record *records_find(struct records *records, uint32_t uid)
{
    const struct place *place = find_place(records, uid);
    return place ? &records->all[place->at - 1] : NULL;
}

static void records_remove(struct records *records, uint32_t uid)
{
    struct place *place = find_place(records, uid);
    records->all[place->at - 1].uid = 0;
    place->uid = 0;
}

/* A record that comes (1) or goes (-1). */
static void account(struct view *view, const struct record *record, uint64_t sign)
{
    if (!view->loose)
        count_record(&view->header, record, sign);
}

static int load_records(struct view *view, struct db_txn *txn, struct header *counted)
{
    struct record batch[LOAD_BATCH];
    size_t count = LOAD_BATCH;
    for (uint32_t from = 1; count == LOAD_BATCH && from; from = batch[count - 1].uid + 1) {
        int rc = record_batch(txn, view->header.number, from, batch, LOAD_BATCH, &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++) {
            if (!record_live(&batch[i]))
                continue;
            rc = records_add(&view->records, &batch[i]);
            count_record(counted, &batch[i], 1);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

static int add_seen(struct view *view, struct bytes user, struct seen_set **out)
{
    struct seen_set *seen =
        array_room(view->seen, view->seen_count, &view->seen_capacity, sizeof *seen);
    if (!seen)
        return ERR_NOMEM;
    view->seen = seen;
    *out = &seen[view->seen_count++];
    **out = (struct seen_set){0};
    buf_put(&(*out)->user, user.data, user.size);
    return (*out)->user.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static struct seen_set *find_seen(struct view *view, struct bytes user)
{
    for (size_t i = 0; i < view->seen_count; i++)
        if (bytes_equal(buf_view(&view->seen[i].user), user))
            return &view->seen[i];
    return NULL;
}

/* Sets or replaces what the view has under this name. */
static int put_meta(struct view *view, struct bytes user, struct bytes key,
                    const struct versioned *value)
{
    struct meta_value *meta = NULL;
    for (size_t i = 0; i < view->meta_count && !meta; i++)
        if (bytes_equal(buf_view(&view->meta[i].user), user) &&
            bytes_equal(buf_view(&view->meta[i].key), key))
            meta = &view->meta[i];
    if (!meta) {
        struct meta_value *all =
            array_room(view->meta, view->meta_count, &view->meta_capacity, sizeof *all);
        if (!all)
            return ERR_NOMEM;
        view->meta = all;
        meta = &all[view->meta_count++];
        *meta = (struct meta_value){0};
        buf_put(&meta->user, user.data, user.size);
        buf_put(&meta->key, key.data, key.size);
    }
    meta->state = value->state;
    meta->version = value->version;
    buf_reset(&meta->value);
    buf_put(&meta->value, value->value.data, value->value.size);
    bool failed = meta->user.failed || meta->key.failed || meta->value.failed;
    return failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int load_meta(struct view *view, struct db_txn *txn, struct header *counted)
{
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    int rc;
    while ((rc = meta_next(txn, view->header.id, &row, &user, &key, &value)) == ERR_OK) {
        counted->items += meta_digest(user, key, &value);
        rc = put_meta(view, user, key, &value);
        if (rc)
            break;
    }
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

static int load_seen(struct view *view, struct db_txn *txn, struct header *counted)
{
    struct buf row = {0};
    struct bytes user;
    struct versioned value;
    struct uidset uids = {0};
    int rc;
    while ((rc = seen_next(txn, view->header.id, &row, &user, &uids, &value)) == ERR_OK) {
        struct seen_set *seen = NULL;
        rc = add_seen(view, user, &seen);
        if (rc)
            break;
        seen->version = (struct versioned){.state = value.state, .version = value.version};
        counted->items += seen_digest(user, &uids, value.version);
        seen->uids = uids;
        uids = (struct uidset){0};
    }
    uidset_free(&uids);
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

static int load(struct tx *tx, void *arg)
{
    struct view *view = arg;
    struct header counted = {0};
    uint64_t id = view->header.id;
    int rc = header_get(tx_db(tx), id, &view->header);
    if (rc)
        return rc == ERR_END
                   ? fail(ERR_NOTFOUND, "mailbox id:%016llx: there is none", (unsigned long long)id)
                   : rc;
    struct stop stop;
    rc = stop_get(tx_db(tx), id, &stop);
    view->stopped = rc == ERR_OK;
    if (rc == ERR_OK || rc == ERR_END)
        rc = load_records(view, tx_db(tx), &counted);
    if (rc == ERR_OK)
        rc = load_seen(view, tx_db(tx), &counted);
    if (rc == ERR_OK)
        rc = load_meta(view, tx_db(tx), &counted);
    if (rc)
        return rc;
    const struct header *header = &view->header;
    if (counted.items != header->items || counted.messages != header->messages ||
        counted.bytes != header->bytes || counted.unseen != header->unseen)
        return fail(ERR_CORRUPT,
                    "mailbox id:%016llx: its records are not those that its digest was made of "
                    "(%llu of %llu)",
                    (unsigned long long)id, (unsigned long long)counted.messages,
                    (unsigned long long)header->messages);
    return ERR_OK;
}

int view_open(struct store *store, uint64_t id, struct view **out)
{
    *out = NULL;
    struct view *view = calloc(1, sizeof *view);
    if (!view)
        return fail(ERR_NOMEM, "out of memory");
    view->store = store;
    view->header.id = id;
    int rc = history_open(db_directory_fd(store_db(store)), &view->history);
    if (rc == ERR_OK)
        rc = store_read(store, load, view);
    if (rc) {
        view_close(view);
        return rc;
    }
    *out = view;
    return ERR_OK;
}

int view_prove(struct store *store, uint64_t id)
{
    struct view *view;
    int rc = view_open(store, id, &view);
    if (rc == ERR_OK)
        view_close(view);
    return rc;
}

static int prove_values(struct tx *tx, void *arg)
{
    uint64_t items, rows;
    (void)arg;
    int rc = values_digest(tx_db(tx), 0, &items, &rows);
    if (rc == ERR_OK && items != tx_node(tx)->meta)
        rc = fail(ERR_CORRUPT, "the store's values are not those that its digest was made of");
    return rc;
}

int view_prove_values(struct store *store)
{
    return store_read(store, prove_values, NULL);
}

void view_close(struct view *view)
{
    if (!view)
        return;
    for (size_t i = 0; i < view->seen_count; i++) {
        buf_free(&view->seen[i].user);
        uidset_free(&view->seen[i].uids);
    }
    for (size_t i = 0; i < view->meta_count; i++) {
        buf_free(&view->meta[i].user);
        buf_free(&view->meta[i].key);
        buf_free(&view->meta[i].value);
    }
    for (size_t i = 0; i < view->keyword_count; i++)
        buf_free(&view->keywords[i].names);
    free(view->seen);
    free(view->meta);
    free(view->keywords);
    free(view->records.all);
    free(view->records.places);
    free(view->shown);
    change_free(&view->change);
    history_close(view->history);
    free(view);
}

static int differs(const struct view *view, uint32_t uid, const char *what)
{
    return fail(ERR_CORRUPT, "mailbox id:%016llx, modseq %llu, UID %u: %s",
                (unsigned long long)view->header.id, (unsigned long long)view->header.lastmodseq,
                uid, what);
}

static int undo_append(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        struct record *record = records_find(&view->records, change->records[i].uid);
        if (!record)
            return differs(view, change->records[i].uid, "appended, but not there");
        account(view, record, (uint64_t)-1);
        records_remove(&view->records, record->uid);
    }
    return ERR_OK;
}

static int undo_expunge(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        if (records_find(&view->records, change->records[i].uid))
            return differs(view, change->records[i].uid, "expunged, but there");
        int rc = records_add(&view->records, &change->records[i]);
        if (rc)
            return rc;
        account(view, &change->records[i], 1);
    }
    return ERR_OK;
}

static int undo_bury(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        const struct record *before = &change->buried_before[i];
        if (!before->uid || !record_live(before))
            continue;
        int rc = records_add(&view->records, before);
        if (rc)
            return rc;
        account(view, before, 1);
    }
    return ERR_OK;
}

static int rewrite(struct view *view, const struct rewrite *rewrite, struct record *record)
{
    /* Tombstones may get a new modseq, too. */
    if (!record)
        return rewrite->flagged ? differs(view, rewrite->uid, "changed, but not there") : ERR_OK;
    account(view, record, (uint64_t)-1);
    record->modseq = rewrite->former.modseq;
    record->changed = rewrite->former.changed;
    if (rewrite->flagged) {
        record->flags = (record->flags & ~FLAG_SYSTEM) | rewrite->system;
        record->keywords = rewrite->keywords;
    }
    account(view, record, 1);
    return ERR_OK;
}

/* Carries out what waits. */
static int flush(struct view *view)
{
    struct record *found[REWRITES] = {0};
    int rc = ERR_OK;
    for (size_t i = 0; i < view->rewrite_count; i++)
        found[i] = records_find(&view->records, view->rewrites[i].uid);
    for (size_t i = 0; i < view->rewrite_count && rc == ERR_OK; i++)
        rc = rewrite(view, &view->rewrites[i], found[i]);
    view->rewrite_count = 0;
    return rc;
}

/* flags, seen, touch: what the records had before. */
static int undo_rewrite(struct view *view, const struct change *change)
{
    size_t at = 0;
    uint32_t uid;
    int rc = ERR_OK;
    struct rewrite one = {.flagged = change->kind == ENTRY_FLAGS,
                          .system = change->system_before,
                          .keywords = keywords_hash(change->keywords_before)};
    for (uint32_t from = 1; from && uidset_next(&change->uids, from, &uid); from = uid + 1, at++) {
        if (at >= change->former_count)
            return differs(view, uid, "nothing is said of what it had");
        one.uid = uid;
        one.former = change->former[at];
        view->rewrites[view->rewrite_count++] = one;
        if (view->rewrite_count == REWRITES || !view->loose)
            rc = flush(view);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int undo_seen(struct view *view, const struct change *change)
{
    struct seen_set *seen = find_seen(view, change->user);
    int rc = undo_rewrite(view, change);
    if (rc == ERR_OK && !seen) {
        /* Its row went with the mailbox, empty by then. */
        rc = add_seen(view, change->user, &seen);
        if (rc == ERR_OK)
            seen->version.version =
                (struct former){.modseq = change->modseq, .changed = change->time};
    }
    if (rc)
        return rc;
    view->header.items -= seen_digest(change->user, &seen->uids, seen->version.version);
    for (size_t i = 0; i < change->uids.count && rc == ERR_OK; i++) {
        struct uid_range range = change->uids.ranges[i];
        rc = change->seen_after ? uidset_remove_range(&seen->uids, range.first, range.last)
                                : uidset_add_range(&seen->uids, range.first, range.last);
    }
    seen->version = change->value_before;
    if (seen->version.state != VALUE_NONE)
        view->header.items += seen_digest(change->user, &seen->uids, seen->version.version);
    return rc;
}

static int undo_meta(struct view *view, const struct change *change)
{
    struct versioned after = {.state = change->value_after_state,
                              .value = change->value_after,
                              .version = {.modseq = change->modseq, .changed = change->time}};
    view->header.items -= meta_digest(change->user, change->key, &after);
    view->header.items += meta_digest(change->user, change->key, &change->value_before);
    return put_meta(view, change->user, change->key, &change->value_before);
}

/* Makes counts and digest those of the records. */
static int settle(struct view *view)
{
    struct header *header = &view->header;
    int rc = flush(view);
    view->loose = false;
    header->items = 0;
    header->messages = 0;
    header->bytes = 0;
    header->unseen = 0;
    for (size_t i = 0; i < view->records.count; i++)
        if (view->records.all[i].uid)
            count_record(header, &view->records.all[i], 1);
    for (size_t i = 0; i < view->seen_count; i++) {
        const struct seen_set *seen = &view->seen[i];
        if (seen->version.state != VALUE_NONE)
            header->items += seen_digest(buf_view(&seen->user), &seen->uids, seen->version.version);
    }
    for (size_t i = 0; i < view->meta_count; i++) {
        const struct meta_value *meta = &view->meta[i];
        struct versioned value = {
            .state = meta->state, .value = buf_view(&meta->value), .version = meta->version};
        header->items += meta_digest(buf_view(&meta->user), buf_view(&meta->key), &value);
    }
    return rc;
}

/* The view is at this entry: it must have the digest that the entry recorded. */
static int prove(const struct view *view, const struct entry *entry)
{
    bool proven =
        view->header.facts.state == MAILBOX_PURGED || header_digest(&view->header) == entry->digest;
    return proven ? ERR_OK : differs(view, 0, "the mailbox's digest is not the one in the journal");
}

static bool rewrites_only(enum entry_kind kind)
{
    return kind == ENTRY_FLAGS || kind == ENTRY_TOUCH || kind == ENTRY_SEEN;
}

static int undo(struct view *view, const struct entry *entry)
{
    struct change *change = &view->change;
    int rc = change_decode(entry, change);
    if (rc == ERR_OK && !rewrites_only(entry->kind))
        rc = flush(view);
    if (rc)
        return rc;
    switch (change->kind) {
    case ENTRY_APPEND:
        rc = undo_append(view, change);
        break;
    case ENTRY_EXPUNGE:
        rc = undo_expunge(view, change);
        break;
    case ENTRY_BURY:
        rc = undo_bury(view, change);
        break;
    case ENTRY_FLAGS:
    case ENTRY_TOUCH:
        rc = undo_rewrite(view, change);
        break;
    case ENTRY_SEEN:
        rc = undo_seen(view, change);
        break;
    case ENTRY_META:
        rc = undo_meta(view, change);
        break;
    default:
        break;
    }
    facts_copy(&view->header.facts, &change->before, change->facts_changed);
    view->header.lastmodseq = entry->previous;
    return rc;
}

struct walk {
    struct view *view;
    uint64_t target; /* undo entries above it */
    uint64_t steps;  /* at most */
    bool arrived;
};

/* The entry on top of the view's history. ERR_TRIMMED. */
static int top_entry(struct view *view, struct db_txn *txn, struct entry *entry)
{
    uint64_t modseq = view->header.lastmodseq;
    int rc = history_get(view->history, txn, modseq, entry, NULL);
    if (rc == ERR_END)
        return fail(ERR_CORRUPT, "journal entry %llu is missing", (unsigned long long)modseq);
    if (rc == ERR_OK && entry->mailbox != view->header.id)
        return fail(ERR_CORRUPT, "journal entry %llu is about another mailbox",
                    (unsigned long long)modseq);
    return rc;
}

/* `txn` NULL: as long as entries come from the archive, which is read outside transactions. */
static int walk_some(struct walk *walk, struct db_txn *txn)
{
    struct view *view = walk->view;
    for (uint64_t i = 0; i < walk->steps; i++) {
        struct entry entry;
        uint64_t modseq = view->header.lastmodseq;
        walk->arrived = modseq <= walk->target;
        if (walk->arrived || (i > 0 && !txn != history_archived(view->history, modseq)))
            return ERR_OK;
        int rc = top_entry(view, txn, &entry);
        if (rc == ERR_OK && view->loose && entry.previous <= walk->target)
            rc = settle(view);
        if (rc == ERR_OK && !view->loose)
            rc = prove(view, &entry);
        if (rc == ERR_OK)
            rc = undo(view, &entry);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int walk_in_txn(struct tx *tx, void *arg)
{
    return walk_some(arg, tx_db(tx));
}

static int walk(struct walk *walk)
{
    const struct view *view = walk->view;
    return history_archived(view->history, view->header.lastmodseq)
               ? walk_some(walk, NULL)
               : store_read(view->store, walk_in_txn, walk);
}

/* Where the way back ended, if the entry that made it so can still be read. */
static int prove_top(struct tx *tx, void *arg)
{
    struct view *view = arg;
    struct entry entry;
    bool held = view->header.lastmodseq > tx_window(tx)->base.modseq;
    int rc = held ? top_entry(view, tx_db(tx), &entry) : ERR_END;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    return prove(view, &entry);
}

int view_back(struct view *view, uint64_t modseq)
{
    struct walk work = {.view = view, .target = modseq, .steps = STEPS_IN_ONE_READ};
    int rc = ERR_OK;
    if (view->stopped)
        return fail(ERR_REFUSED,
                    "mailbox id:%016llx: it is being repaired: its past cannot be told",
                    (unsigned long long)view->header.id);
    if (view->header.lastmodseq <= modseq)
        return ERR_OK;
    view->loose = true;
    while (rc == ERR_OK && !work.arrived)
        rc = walk(&work);
    return rc ? rc : store_read(view->store, prove_top, view);
}

int view_prove_history(struct view *view)
{
    struct walk work = {.view = view, .target = 0, .steps = STEPS_IN_ONE_READ};
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.arrived)
        rc = walk(&work);
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

const struct header *view_header(const struct view *view)
{
    return &view->header;
}

static int by_uid(const void *a, const void *b)
{
    const struct record *x = a;
    const struct record *y = b;
    return (x->uid > y->uid) - (x->uid < y->uid);
}

int view_records(struct view *view, const char *user, const struct record **records, size_t *count)
{
    char owner_text[USER_MAX_SIZE];
    struct owner owner;
    *count = 0;
    *records = NULL;
    free(view->shown);
    view->shown = malloc((view->records.count + 1) * sizeof *view->shown);
    if (!view->shown)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < view->records.count; i++)
        if (view->records.all[i].uid)
            view->shown[(*count)++] = view->records.all[i];
    qsort(view->shown, *count, sizeof *view->shown, by_uid);
    *records = view->shown;
    if (!user || view->header.facts.state == MAILBOX_NONE)
        return ERR_OK;
    name_owner(&view->header.facts.name, &owner);
    owner_print(&owner, owner_text);
    if (strcmp(user, owner_text) == 0)
        return ERR_OK;
    const struct seen_set *seen = find_seen(view, bytes_text(user));
    for (size_t i = 0; i < *count; i++) {
        view->shown[i].flags &= ~FLAG_SEEN;
        if (seen && uidset_contains(&seen->uids, view->shown[i].uid))
            view->shown[i].flags |= FLAG_SEEN;
    }
    return ERR_OK;
}

bool view_seen(const struct view *view, size_t at, struct bytes *user, const struct uidset **seen)
{
    if (at >= view->seen_count)
        return false;
    *user = buf_view(&view->seen[at].user);
    *seen = &view->seen[at].uids;
    return true;
}

bool view_meta(const struct view *view, size_t at, struct bytes *user, struct bytes *key,
               struct versioned *value)
{
    if (at >= view->meta_count)
        return false;
    const struct meta_value *meta = &view->meta[at];
    *user = buf_view(&meta->user);
    *key = buf_view(&meta->key);
    *value = (struct versioned){.state = meta->state, .value = buf_view(&meta->value)};
    return true;
}

struct lookup {
    uint64_t hash;
    struct buf names;
};

static int look_up(struct tx *tx, void *arg)
{
    struct lookup *lookup = arg;
    struct bytes set;
    int rc = keywords_lookup(tx_db(tx), lookup->hash, &set);
    if (rc)
        return rc;
    buf_put(&lookup->names, set.data, set.size);
    return lookup->names.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

int view_keywords(struct view *view, uint64_t hash, struct bytes *keywords)
{
    *keywords = bytes_of(NULL, 0);
    if (hash == 0)
        return ERR_OK;
    for (size_t i = 0; i < view->keyword_count; i++) {
        if (view->keywords[i].hash == hash) {
            *keywords = buf_view(&view->keywords[i].names);
            return ERR_OK;
        }
    }
    struct lookup lookup = {.hash = hash};
    int rc = store_read(view->store, look_up, &lookup);
    struct keyword_set *sets =
        rc ? NULL
           : array_room(view->keywords, view->keyword_count, &view->keyword_capacity, sizeof *sets);
    if (!sets) {
        buf_free(&lookup.names);
        return rc ? rc : ERR_NOMEM;
    }
    view->keywords = sets;
    sets[view->keyword_count] = (struct keyword_set){.hash = hash, .names = lookup.names};
    *keywords = buf_view(&sets[view->keyword_count++].names);
    return ERR_OK;
}
