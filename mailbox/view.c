/* Views: how they are loaded, walk back, and what they show. */
#include "mailbox/viewing.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/count.h"
#include "mailbox/keywords.h"
#include "mailbox/mailbox.h"
#include "mailbox/stop.h"

#include <stdlib.h>
#include <string.h>

#define LOAD_BATCH 256u
#define STEPS_IN_ONE_READ 4096u

static int load_records(struct view *view, struct db_txn *txn, struct header *counted)
{
    struct record batch[LOAD_BATCH];
    size_t count = LOAD_BATCH;
    for (uint32_t from = 1; count == LOAD_BATCH && from; from = batch[count - 1].uid + 1) {
        int rc = record_batch(txn, view->header.number, from, batch, LOAD_BATCH, &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++) {
            if (!record_live(&batch[i]))
                continue;
            rc = record_table_add(&view->records, &batch[i]);
            count_record(counted, &batch[i], 1);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

int view_add_seen(struct view *view, struct bytes user, struct seen_set **out)
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

struct seen_set *view_find_seen(struct view *view, struct bytes user)
{
    for (size_t i = 0; i < view->seen_count; i++)
        if (bytes_equal(buf_view(&view->seen[i].user), user))
            return &view->seen[i];
    return NULL;
}

int view_put_meta(struct view *view, struct bytes user, struct bytes key,
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
        rc = view_put_meta(view, user, key, &value);
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
        rc = view_add_seen(view, user, &seen);
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
        return rc == ERR_END ? mailbox_unknown(tx, id) : rc;
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
    record_table_free(&view->records);
    free(view->shown);
    change_free(&view->change);
    history_close(view->history);
    free(view);
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
            rc = view_settle(view);
        if (rc == ERR_OK && !view->loose)
            rc = view_prove_entry(view, &entry);
        if (rc == ERR_OK)
            rc = view_undo(view, &entry);
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
    return view_prove_entry(view, &entry);
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
    const struct seen_set *seen = view_find_seen(view, bytes_text(user));
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
