/* Which mailboxes there were, and which of them bore a name: today's headers, and what the
 * journal's entries since then say of before. No records are needed for it. */
#include "base/array.h"
#include "base/err.h"
#include "journal/history.h"
#include "mailbox/trail.h"
#include "mailbox/tx.h"
#include "mailbox/view.h"

#include <stdlib.h>
#include <string.h>

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
        struct header *room =
            array_room(listing->headers, listing->count, &listing->capacity, sizeof *room);
        if (!room)
            return ERR_NOMEM;
        listing->headers = room;
        room[listing->count++] = header;
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

static int not_found(const struct name *name)
{
    char text[NAME_TEXT_SIZE];
    struct owner nobody = {0};
    name_print(name, &nobody, text);
    return fail(ERR_NOTFOUND, "mailbox %s: there is none", text);
}

/* The mailboxes of a point in the past: today's headers, taken back by the entries since. */
struct past {
    struct store *store;
    uint64_t modseq;
    bool counts; /* messages, unseen and bytes, too: every entry is looked into */
    struct listing listing;
    struct taken *taken; /* of each */
    struct change change;
};

struct taken {
    uint64_t last;     /* the header is as of this entry */
    uint32_t known;    /* facts that are those of then already */
    bool any;          /* entries were taken back */
    uint64_t previous; /* the newest entry that was not */
};

static struct header *find_header(const struct listing *listing, uint64_t id)
{
    size_t low = 0, high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (listing->headers[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    bool found = low < listing->count && listing->headers[low].id == id;
    return found ? &listing->headers[low] : NULL;
}

/* A record that was there then and is not now (1), or the other way round (-1). */
static void take(struct header *header, const struct record *record, uint64_t sign)
{
    header->messages += sign;
    header->bytes += sign * record->size;
    if (!(record->flags & FLAG_SEEN))
        header->unseen += sign;
}

static void count_back(struct header *header, const struct change *change)
{
    uint64_t size = uidset_size(&change->uids);
    switch (change->kind) {
    case ENTRY_APPEND:
    case ENTRY_EXPUNGE:
        for (size_t i = 0; i < change->record_count; i++)
            take(header, &change->records[i], change->kind == ENTRY_EXPUNGE ? 1 : (uint64_t)-1);
        break;
    case ENTRY_BURY:
        for (size_t i = 0; i < change->record_count; i++)
            if (change->buried_before[i].uid && record_live(&change->buried_before[i]))
                take(header, &change->buried_before[i], 1);
        break;
    case ENTRY_FLAGS:
        header->unseen += change->system_before & FLAG_SEEN ? 0 : size;
        header->unseen -= change->system_after & FLAG_SEEN ? 0 : size;
        break;
    default:
        break;
    }
}

static bool names_something(const struct entry *entry)
{
    switch (entry->kind) {
    case ENTRY_CREATE:
    case ENTRY_RENAME:
    case ENTRY_DELETE:
    case ENTRY_PURGE:
    case ENTRY_HEADER:
        return true;
    default:
        return false;
    }
}

/* Entries come oldest first: the first one that changed a fact knows what it was. */
static int take_back(struct past *past, const struct entry *entry)
{
    struct header *header = find_header(&past->listing, entry->mailbox);
    if (!header)
        return ERR_OK; /* made after the headers were read */
    struct taken *taken = &past->taken[header - past->listing.headers];
    if (entry->modseq > taken->last)
        return ERR_OK; /* done after that */
    int rc = change_decode(entry, &past->change);
    if (rc)
        return rc;
    const struct change *change = &past->change;
    facts_copy(&header->facts, &change->before, change->facts_changed & ~taken->known);
    taken->known |= change->facts_changed;
    if (!taken->any)
        taken->previous = entry->previous;
    taken->any = true;
    if (past->counts)
        count_back(header, change);
    return ERR_OK;
}

static int take_all_back(struct past *past)
{
    struct trail *trail;
    struct entry entry;
    size_t size;
    int rc = trail_open(past->store, &trail);
    if (rc)
        return rc;
    rc = trail_seek(trail, past->modseq);
    while (rc == ERR_OK && (rc = trail_next(trail, &entry, &size)) == ERR_OK)
        if (entry.mailbox && (past->counts || names_something(&entry)))
            rc = take_back(past, &entry);
    trail_close(trail);
    return rc == ERR_END ? ERR_OK : rc;
}

static int open_past(struct past *past)
{
    int rc = store_read(past->store, list_headers, &past->listing);
    if (rc)
        return rc;
    const struct listing *listing = &past->listing;
    past->taken = calloc(listing->count + 1, sizeof *past->taken);
    if (!past->taken)
        return fail(ERR_NOMEM, "out of memory");
    bool since = false;
    for (size_t i = 0; i < listing->count; i++) {
        past->taken[i].last = listing->headers[i].lastmodseq;
        since = since || past->taken[i].last > past->modseq;
    }
    return since ? take_all_back(past) : ERR_OK;
}

static void close_past(struct past *past)
{
    change_free(&past->change);
    free(past->listing.headers);
    free(past->taken);
}

struct top {
    struct history *history;
    struct header *header;
    uint64_t modseq;
    bool known;
};

/* The digest of then is what the newest entry that was not taken back says. */
static int digest_back(struct tx *tx, void *arg)
{
    struct top *top = arg;
    struct entry entry;
    int rc = history_get(top->history, tx_db(tx), top->modseq, &entry, NULL);
    top->known = rc == ERR_OK && entry.mailbox == top->header->id;
    if (!top->known)
        return rc == ERR_TRIMMED ? ERR_OK
               : rc              ? rc
                                 : fail(ERR_CORRUPT, "journal entry %llu is about another mailbox",
                                        (unsigned long long)top->modseq);
    top->header->items = 0;
    top->header->items = entry.digest - header_digest(top->header);
    top->header->lastmodseq = top->modseq;
    return ERR_OK;
}

/* Where that entry is no longer held, the whole way back tells. */
static int undo_all(struct past *past, struct header *header)
{
    struct view *view;
    int rc = view_open(past->store, header->id, &view);
    if (rc == ERR_OK)
        rc = view_back(view, past->modseq);
    if (rc == ERR_OK)
        *header = *view_header(view);
    view_close(view);
    return rc;
}

static int digests_back(struct past *past)
{
    struct top top = {0};
    int rc = history_open(db_directory_fd(store_db(past->store)), &top.history);
    for (size_t i = 0; i < past->listing.count && rc == ERR_OK; i++) {
        top.header = &past->listing.headers[i];
        top.modseq = past->taken[i].previous;
        if (!past->taken[i].any || top.header->facts.state != MAILBOX_LIVE)
            continue;
        rc = store_read(past->store, digest_back, &top);
        if (rc == ERR_OK && !top.known)
            rc = undo_all(past, top.header);
    }
    history_close(top.history);
    return rc;
}

int view_mailboxes(struct store *store, uint64_t modseq, struct header **headers, size_t *count)
{
    struct past past = {.store = store, .modseq = modseq ? modseq : UINT64_MAX, .counts = true};
    struct header *all;
    size_t live = 0;
    *headers = NULL;
    *count = 0;
    int rc = open_past(&past);
    if (rc == ERR_OK)
        rc = digests_back(&past);
    all = past.listing.headers;
    for (size_t i = 0; i < past.listing.count && rc == ERR_OK; i++)
        if (all[i].facts.state == MAILBOX_LIVE)
            all[live++] = all[i];
    if (rc == ERR_OK) {
        if (live)
            qsort(all, live, sizeof *all, by_name);
        *headers = all;
        *count = live;
        past.listing.headers = NULL;
    }
    close_past(&past);
    return rc;
}

static int search_names(struct store *store, const struct name *name, uint64_t modseq, uint64_t *id)
{
    struct past past = {.store = store, .modseq = modseq};
    bool found = false;
    int rc = open_past(&past);
    for (size_t i = 0; i < past.listing.count && rc == ERR_OK && !found; i++) {
        const struct header *header = &past.listing.headers[i];
        found = header->facts.state == MAILBOX_LIVE && name_equal(&header->facts.name, name);
        if (found)
            *id = header->id;
    }
    close_past(&past);
    return rc || found ? rc : not_found(name);
}

struct bearer {
    const struct name *name;
    struct header header; /* id 0: nobody bears it now */
};

static int find_bearer(struct tx *tx, void *arg)
{
    struct bearer *bearer = arg;
    uint64_t id;
    bearer->header.id = 0;
    int rc = header_id_of(tx_db(tx), bearer->name, &id);
    if (rc == ERR_OK)
        rc = header_get(tx_db(tx), id, &bearer->header);
    return rc == ERR_END ? ERR_OK : rc;
}

int view_mailbox_id(struct store *store, const struct name *name, uint64_t modseq, uint64_t *id)
{
    struct bearer bearer = {.name = name};
    int rc = store_read(store, find_bearer, &bearer);
    if (rc)
        return rc;
    uint64_t until = modseq ? modseq : UINT64_MAX;
    *id = bearer.header.id;
    /* Nothing has happened to it since. */
    if (*id && bearer.header.lastmodseq <= until)
        return ERR_OK;
    return search_names(store, name, until, id);
}

static int open_back(struct store *store, uint64_t id, uint64_t modseq, struct view **view)
{
    int rc = view_open(store, id, view);
    if (rc == ERR_OK)
        rc = view_back(*view, modseq);
    if (rc) {
        view_close(*view);
        *view = NULL;
    }
    return rc;
}

int view_open_at(struct store *store, const struct name *name, uint64_t modseq, struct view **view)
{
    struct bearer bearer = {.name = name};
    uint64_t id;
    *view = NULL;
    int rc = store_read(store, find_bearer, &bearer);
    /* Mostly it is the one that bears it now: looking at that is cheaper than at all others. */
    if (rc == ERR_OK && bearer.header.id) {
        rc = open_back(store, bearer.header.id, modseq, view);
        if (rc)
            return rc;
        const struct facts *facts = &view_header(*view)->facts;
        if (facts->state == MAILBOX_LIVE && name_equal(&facts->name, name))
            return ERR_OK;
        view_close(*view);
        *view = NULL;
    }
    if (rc == ERR_OK)
        rc = search_names(store, name, modseq, &id);
    return rc ? rc : open_back(store, id, modseq, view);
}
