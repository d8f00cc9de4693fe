#include "mailbox/view.h"

#include "base/err.h"
#include "base/times.h"
#include "journal/history.h"
#include "mailbox/keywords.h"
#include "mailbox/tx.h"

#include <stdlib.h>
#include <string.h>

#define LOAD_BATCH 256u
#define STEPS_IN_ONE_READ 4096u

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
    int64_t age;
    if (times_parse_age(text, true, &age) == ERR_OK) {
        when->time = times_now() - age;
        return ERR_OK;
    }
    if (times_parse_rfc3339(text, &when->time) == ERR_OK)
        return ERR_OK;
    return fail(ERR_INVALID, "%s: not a modseq, a time (2026-11-23T10:00:00Z) or an age (10m ago)",
                text);
}

int when_resolve(struct tx *tx, const struct when *when, uint64_t *modseq)
{
    struct history *history;
    int rc = history_open(db_directory_fd(store_db(tx_store(tx))), &history);
    if (rc)
        return rc;
    rc = when->is_modseq ? history_round_down(history, tx_db(tx), when->modseq, modseq)
                         : history_at_time(history, tx_db(tx), when->time, modseq);
    history_close(history);
    return rc;
}

/* Live records by UID: an array, with an open-addressed table of places in it. */
struct records {
    struct record *all; /* uid 0: a place that is free again */
    size_t count;
    size_t capacity;
    uint32_t *places; /* place + 1; 0: empty */
    size_t place_count;
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
};

struct keyword_set {
    uint64_t hash;
    struct buf names;
};

struct view {
    struct store *store;
    struct history *history;
    struct header header;
    struct records records;
    struct seen_set *seen;
    size_t seen_count;
    struct meta_value *meta;
    size_t meta_count;
    struct keyword_set *keywords;
    size_t keyword_count;
    struct change change;
    struct record *shown;
};

static size_t home(uint32_t uid, size_t count)
{
    return (size_t)(uid * 2654435761u) & (count - 1);
}

static void index_put(struct records *records, uint32_t uid, size_t at)
{
    size_t mask = records->place_count - 1;
    for (size_t i = home(uid, records->place_count);; i = (i + 1) & mask) {
        if (records->places[i] == 0) {
            records->places[i] = (uint32_t)at + 1;
            return;
        }
    }
}

static int records_grow(struct records *records)
{
    size_t live = 0;
    for (size_t i = 0; i < records->count; i++)
        if (records->all[i].uid)
            records->all[live++] = records->all[i];
    records->count = live;
    if (live * 2 > records->capacity || !records->capacity) {
        size_t capacity = records->capacity ? records->capacity * 2 : LOAD_BATCH;
        struct record *all = realloc(records->all, capacity * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        records->all = all;
        records->capacity = capacity;
    }
    free(records->places);
    records->place_count = records->capacity * 2;
    records->places = calloc(records->place_count, sizeof *records->places);
    if (!records->places)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < live; i++)
        index_put(records, records->all[i].uid, i);
    return ERR_OK;
}

static int records_add(struct records *records, const struct record *record)
{
    if (records->count == records->capacity) {
        int rc = records_grow(records);
        if (rc)
            return rc;
    }
    records->all[records->count] = *record;
    index_put(records, record->uid, records->count++);
    return ERR_OK;
}

static struct record *records_find(struct records *records, uint32_t uid)
{
    if (!records->place_count)
        return NULL;
    size_t mask = records->place_count - 1;
    for (size_t i = home(uid, records->place_count); records->places[i]; i = (i + 1) & mask) {
        struct record *record = &records->all[records->places[i] - 1];
        if (record->uid == uid)
            return record;
    }
    return NULL;
}

static void tally(struct header *header, const struct record *record, uint64_t sign)
{
    header->items += sign * record_digest(record);
    header->messages += sign;
    header->bytes += sign * record->size;
    if (!(record->flags & FLAG_SEEN))
        header->unseen += sign;
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
            tally(counted, &batch[i], 1);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

static int add_seen(struct view *view, struct bytes user, struct seen_set **out)
{
    struct seen_set *seen = realloc(view->seen, (view->seen_count + 1) * sizeof *seen);
    if (!seen)
        return fail(ERR_NOMEM, "out of memory");
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
        struct meta_value *all = realloc(view->meta, (view->meta_count + 1) * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        view->meta = all;
        meta = &all[view->meta_count++];
        *meta = (struct meta_value){0};
        buf_put(&meta->user, user.data, user.size);
        buf_put(&meta->key, key.data, key.size);
    }
    meta->state = value->state;
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
        tally(&view->header, record, (uint64_t)-1);
        /* Its place stays taken: searching goes on past it. */
        record->uid = 0;
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
        tally(&view->header, &change->records[i], 1);
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
        tally(&view->header, before, 1);
    }
    return ERR_OK;
}

/* flags, seen, touch: what the records had before. */
static int undo_rewrite(struct view *view, const struct change *change)
{
    size_t at = 0;
    uint32_t uid;
    uint64_t keywords = keywords_hash(change->keywords_before);
    for (uint32_t from = 1; from && uidset_next(&change->uids, from, &uid); from = uid + 1, at++) {
        struct record *record = records_find(&view->records, uid);
        /* Tombstones may get a new modseq, too. */
        if (!record && change->kind != ENTRY_FLAGS)
            continue;
        if (!record || at >= change->former_count)
            return differs(view, uid, "changed, but not there");
        tally(&view->header, record, (uint64_t)-1);
        record->modseq = change->former[at].modseq;
        record->changed = change->former[at].changed;
        if (change->kind == ENTRY_FLAGS) {
            record->flags = (record->flags & ~FLAG_SYSTEM) | change->system_before;
            record->keywords = keywords;
        }
        tally(&view->header, record, 1);
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

static int undo(struct view *view, const struct entry *entry)
{
    struct change *change = &view->change;
    uint64_t digest = header_digest(&view->header);
    if (digest != entry->digest && view->header.facts.state != MAILBOX_PURGED)
        return differs(view, 0, "the mailbox's digest is not the one in the journal");
    int rc = change_decode(entry, change);
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
        int rc = history_get(view->history, txn, modseq, &entry, NULL);
        if (rc == ERR_END)
            return fail(ERR_CORRUPT, "journal entry %llu is missing", (unsigned long long)modseq);
        if (rc == ERR_OK && entry.mailbox != view->header.id)
            rc = fail(ERR_CORRUPT, "journal entry %llu is about another mailbox",
                      (unsigned long long)modseq);
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

int view_back(struct view *view, uint64_t modseq)
{
    struct walk work = {.view = view, .target = modseq, .steps = STEPS_IN_ONE_READ};
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.arrived)
        rc = walk(&work);
    return rc;
}

int view_step(struct view *view)
{
    struct walk work = {.view = view, .target = 0, .steps = 1};
    int rc = walk(&work);
    return rc == ERR_TRIMMED || (rc == ERR_OK && work.arrived) ? ERR_END : rc;
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
        rc ? NULL : realloc(view->keywords, (view->keyword_count + 1) * sizeof *sets);
    if (!sets) {
        buf_free(&lookup.names);
        return rc ? rc : fail(ERR_NOMEM, "out of memory");
    }
    view->keywords = sets;
    sets[view->keyword_count] = (struct keyword_set){.hash = hash, .names = lookup.names};
    *keywords = buf_view(&sets[view->keyword_count++].names);
    return ERR_OK;
}

struct listing {
    struct header *headers;
    size_t count;
    size_t capacity;
};

static int list_headers(struct tx *tx, void *arg)
{
    struct listing *listing = arg;
    uint64_t id = 0;
    uint64_t shares = 0;
    struct header header;
    int rc;
    listing->count = 0;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        if (listing->count == listing->capacity) {
            size_t capacity = listing->capacity ? listing->capacity * 2 : 64;
            struct header *headers = realloc(listing->headers, capacity * sizeof *headers);
            if (!headers)
                return fail(ERR_NOMEM, "out of memory");
            listing->headers = headers;
            listing->capacity = capacity;
        }
        listing->headers[listing->count++] = header;
        shares += header_store_share(&header);
    }
    if (rc == ERR_END && shares != tx_node(tx)->mailboxes)
        return fail(ERR_CORRUPT, "the mailboxes are not those that the store's digest was made of");
    return rc == ERR_END ? ERR_OK : rc;
}

static int by_name(const void *a, const void *b)
{
    struct bytes x = name_encoded(&((const struct header *)a)->facts.name);
    struct bytes y = name_encoded(&((const struct header *)b)->facts.name);
    int order = memcmp(x.data, y.data, x.size < y.size ? x.size : y.size);
    return order ? order : (x.size > y.size) - (x.size < y.size);
}

/* The header as it was. */
static int header_at(struct store *store, struct header *header, uint64_t modseq)
{
    struct view *view;
    if (header->lastmodseq <= modseq)
        return ERR_OK;
    int rc = view_open(store, header->id, &view);
    if (rc)
        return rc;
    rc = view_back(view, modseq);
    if (rc == ERR_OK)
        *header = view->header;
    view_close(view);
    return rc;
}

int view_mailboxes(struct store *store, uint64_t modseq, struct header **headers, size_t *count)
{
    struct listing listing = {0};
    size_t live = 0;
    *headers = NULL;
    *count = 0;
    int rc = store_read(store, list_headers, &listing);
    for (size_t i = 0; i < listing.count && rc == ERR_OK; i++) {
        struct header header = listing.headers[i];
        rc = modseq ? header_at(store, &header, modseq) : ERR_OK;
        if (rc == ERR_OK && header.facts.state == MAILBOX_LIVE)
            listing.headers[live++] = header;
    }
    if (rc) {
        free(listing.headers);
        return rc;
    }
    if (live)
        qsort(listing.headers, live, sizeof *listing.headers, by_name);
    *headers = listing.headers;
    *count = live;
    return ERR_OK;
}

/* Only the facts, undone from the journal: who had which name needs no records. */
struct facts_walk {
    struct history *history;
    struct header header;
    uint64_t modseq;
    struct change change;
};

/* `txn` as in walk_some(). */
static int facts_back(struct facts_walk *work, struct db_txn *txn)
{
    while (work->header.lastmodseq > work->modseq) {
        struct entry entry;
        uint64_t modseq = work->header.lastmodseq;
        int rc = history_get(work->history, txn, modseq, &entry, NULL);
        if (rc == ERR_END)
            return fail(ERR_CORRUPT, "journal entry %llu is missing", (unsigned long long)modseq);
        if (rc == ERR_OK)
            rc = change_decode(&entry, &work->change);
        if (rc)
            return rc;
        facts_copy(&work->header.facts, &work->change.before, work->change.facts_changed);
        work->header.lastmodseq = entry.previous;
        if (txn && history_archived(work->history, entry.previous))
            return ERR_OK;
    }
    return ERR_OK;
}

static int facts_in_txn(struct tx *tx, void *arg)
{
    return facts_back(arg, tx_db(tx));
}

static int facts_at(struct store *store, struct facts_walk *work)
{
    int rc = ERR_OK;
    while (rc == ERR_OK && work->header.lastmodseq > work->modseq)
        rc = history_archived(work->history, work->header.lastmodseq)
                 ? facts_back(work, NULL)
                 : store_read(store, facts_in_txn, work);
    return rc;
}

static int not_found(const struct name *name)
{
    char text[NAME_TEXT_SIZE];
    struct owner nobody = {0};
    name_print(name, &nobody, text);
    return fail(ERR_NOTFOUND, "mailbox %s: there is none", text);
}

int view_mailbox_id(struct store *store, const struct name *name, uint64_t modseq, uint64_t *id)
{
    struct listing listing = {0};
    struct facts_walk work = {.modseq = modseq ? modseq : UINT64_MAX};
    bool found = false;
    int rc = history_open(db_directory_fd(store_db(store)), &work.history);
    if (rc == ERR_OK)
        rc = store_read(store, list_headers, &listing);
    for (size_t i = 0; i < listing.count && rc == ERR_OK && !found; i++) {
        work.header = listing.headers[i];
        rc = facts_at(store, &work);
        found = rc == ERR_OK && work.header.facts.state == MAILBOX_LIVE &&
                name_equal(&work.header.facts.name, name);
        if (found)
            *id = listing.headers[i].id;
    }
    change_free(&work.change);
    history_close(work.history);
    free(listing.headers);
    return rc || found ? rc : not_found(name);
}
