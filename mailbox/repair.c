#include "mailbox/repair.h"

#include "base/array.h"
#include "base/err.h"
#include "journal/archive.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/content.h"
#include "mailbox/count.h"
#include "mailbox/draft.h"
#include "mailbox/garbage.h"
#include "mailbox/keywords.h"
#include "mailbox/tx.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CUT_BATCH 4096u   /* entries in one transaction */
#define COPY_BATCH 4096u  /* records in one transaction */
#define SWEEP_BATCH 2048u /* records in one transaction */
#define BATCH 64u

/* A step of a repair. Between two steps the node may have become a master, whose mail is nobody
 * else's to change. */
struct step {
    int (*work)(struct tx *tx, void *arg);
    void *arg;
};

static int run_step(struct tx *tx, void *arg)
{
    const struct step *step = arg;
    if (tx->node.role != ROLE_REPLICA)
        return fail(ERR_REFUSED, "%s: it was promoted while it was being repaired",
                    store_path(tx->store));
    return step->work(tx, step->arg);
}

static int change_replica(struct store *store, int (*work)(struct tx *tx, void *arg), void *arg)
{
    struct step step = {work, arg};
    return store_maintain(store, run_step, &step);
}

/* A plan was made for a position: what this node did since would be lost. */
static int check_position(const struct tx *tx, struct position from)
{
    return position_equal(tx->window.last, from)
               ? ERR_OK
               : fail(ERR_REFUSED, "%s: it has changed since its repair was planned",
                      store_path(tx->store));
}

/* Records under this number are nobody's any more. */
static int leave(struct tx *tx, uint32_t number)
{
    return number ? garbage_put(tx->db, number) : ERR_OK;
}

/* Whether rows are lost or cannot be read: what they referred to is not known. */
static int recount_if_damaged(struct tx *tx, const struct header *header,
                              const struct header *counted)
{
    bool whole = counted->messages == header->messages && counted->tombstones == header->tombstones;
    return whole ? ERR_OK : garbage_recount(tx->db);
}

static int unname(struct tx *tx, const struct header *header)
{
    uint64_t id;
    if (header->facts.state != MAILBOX_LIVE)
        return ERR_OK;
    int rc = header_id_of(tx->db, &header->facts.name, &id);
    if (rc == ERR_OK && id == header->id)
        rc = db_delete(tx->db, TABLE_NAMES, name_encoded(&header->facts.name));
    return rc == ERR_END ? ERR_OK : rc;
}

static int put_name(struct tx *tx, const struct header *header)
{
    return header->facts.state == MAILBOX_LIVE
               ? header_name_put(tx->db, &header->facts.name, header->id)
               : ERR_OK;
}

/* The mailbox is as if it had never been here. Its box must not be open in this transaction. */
static int forget(struct tx *tx, const struct header *header)
{
    uint8_t key[8];
    struct stop stop;
    save_be64(key, header->id);
    tx->node.mailboxes -= header_store_share(header);
    tx->node_dirty = true;
    int rc = stop_get(tx->db, header->id, &stop);
    if (rc == ERR_OK)
        rc = leave(tx, stop.aside);
    if (rc == ERR_OK)
        rc = stop_drop(tx->db, header->id);
    if (rc == ERR_OK || rc == ERR_END)
        rc = leave(tx, header->number);
    if (rc == ERR_OK)
        rc = values_delete_all(tx->db, header->id);
    if (rc == ERR_OK)
        rc = unname(tx, header);
    return rc ? rc : db_delete(tx->db, TABLE_MAILBOXES, bytes_of(key, sizeof key));
}

/* Whether there is anything: a header alone may only keep a name until the records come. */
static bool is_made(const struct header *header)
{
    return header->facts.state != MAILBOX_NONE && header->facts.uidvalidity;
}

/* Its journal does not tell how it came about: as if the entry `modseq` had changed it. */
static int leave_as_it_is(struct tx *tx, const struct stop *stop, uint64_t modseq)
{
    struct header header;
    struct mark mark = {.mailbox = stop->mailbox, .modseq = modseq};
    int rc = stop->mailbox ? header_get(tx->db, stop->mailbox, &header) : ERR_END;
    bool made = stop->mailbox == 0 || (rc == ERR_OK && is_made(&header));
    if (rc == ERR_OK && made) {
        header.lastmodseq = modseq;
        rc = header_put(tx->db, &header);
    } else if (rc == ERR_OK) {
        rc = forget(tx, &header);
    }
    if (rc && rc != ERR_END)
        return rc;
    if (made) {
        mark.epoch = stop->epoch;
        mark.taken.modseq = stop->as_of;
    }
    return mark_put(tx->db, &mark);
}

int repair_give_up(struct tx *tx, uint64_t modseq)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        rc = leave(tx, stop.aside);
        if (rc == ERR_OK)
            rc = stop_drop(tx->db, stop.mailbox);
        if (rc == ERR_OK)
            rc = leave_as_it_is(tx, &stop, modseq);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* A mailbox that has been purged keeps its id and nothing else. */
int repair_leave_records(struct tx *tx, struct box *box)
{
    struct header *header = &box->header;
    int rc = leave(tx, header->number);
    header->number = tx->node.next_number++;
    header->messages = header->unseen = header->bytes = header->tombstones = 0;
    header->items = 0;
    box->dirty = true;
    tx->node_dirty = true;
    return rc;
}

/* The mailbox waits, and is the upstream's before `modseq`, but for what this node changed. It
 * changed last at `changed`, or before. What is in it stays what it was when it stopped first. */
static int stop_at(struct tx *tx, uint64_t mailbox, uint64_t modseq, uint64_t changed,
                   const char *reason)
{
    struct stop stop;
    struct stop now = {.mailbox = mailbox, .modseq = modseq, .state = STOP_WAITING};
    int rc = stop_get(tx->db, mailbox, &stop);
    stop_stands(&now, tx);
    if (now.as_of > changed)
        now.as_of = changed;
    if (rc == ERR_OK) {
        now.epoch = stop.epoch;
        now.as_of = stop.as_of;
        if (stop.state == STOP_WAITING && stop.modseq < modseq)
            now.modseq = stop.modseq;
        rc = leave(tx, stop.aside);
    }
    if (rc && rc != ERR_END)
        return rc;
    snprintf(now.reason, sizeof now.reason, "%s", reason);
    return stop_put(tx->db, &now);
}

/* The mailbox waits, and nothing is in it. `forgotten`: what clients were told that cannot be known
 * of it. */
static int stop_empty(struct tx *tx, uint64_t mailbox, uint64_t forgotten, const char *reason)
{
    struct stop stop;
    int rc = stop_get(tx->db, mailbox, &stop);
    if (rc == ERR_OK)
        rc = leave(tx, stop.aside);
    if (rc && rc != ERR_END)
        return rc;
    stop =
        (struct stop){.mailbox = mailbox, .modseq = 1, .state = STOP_WAITING, .as_of = forgotten};
    snprintf(stop.reason, sizeof stop.reason, "%s", reason);
    return stop_put(tx->db, &stop);
}

#define ASIDE_FOLDER "aside"
#define ASIDE_PIECE (1u << 20) /* bytes of entries that are written at once */

struct copying {
    uint64_t after;
    struct buf entries;
    struct position last;
    bool end;
};

static int copy_entries(struct tx *tx, void *arg)
{
    struct copying *work = arg;
    buf_reset(&work->entries);
    int rc = journal_copy(tx->db, work->after, ASIDE_PIECE, &work->entries, &work->last);
    work->end = rc == ERR_END;
    return work->end ? ERR_OK : rc;
}

static int write_all(int fd, struct bytes data)
{
    while (data.size) {
        ssize_t written = write(fd, data.data, data.size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_errno("entries set aside");
        data = bytes_of(data.data + written, data.size - (size_t)written);
    }
    return ERR_OK;
}

static int write_entries(struct store *store, int fd, uint64_t after)
{
    struct copying work = {.after = after};
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.end) {
        rc = store_read(store, copy_entries, &work);
        if (rc == ERR_OK)
            rc = write_all(fd, buf_view(&work.entries));
        work.after = work.last.modseq;
    }
    buf_free(&work.entries);
    if (rc == ERR_OK && fsync(fd) != 0)
        rc = fail_errno("entries set aside");
    return rc;
}

static int get_tail(struct tx *tx, void *arg)
{
    struct copying *work = arg;
    if (work->after < tx->window.base.modseq)
        work->after = tx->window.base.modseq;
    work->last = tx->window.last;
    return ERR_OK;
}

/* In the folder, under its own name only when it is whole. */
static int write_aside(struct store *store, int folder, const char *name, uint64_t after)
{
    char temporary[80];
    snprintf(temporary, sizeof temporary, ".%s", name);
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno("%s", name);
    int rc = write_entries(store, fd, after);
    if (close(fd) != 0 && rc == ERR_OK)
        rc = fail_errno("%s", name);
    if (rc == ERR_OK && (renameat(folder, temporary, folder, name) != 0 || fsync(folder) != 0))
        rc = fail_errno("%s", name);
    if (rc)
        unlinkat(folder, temporary, 0);
    return rc;
}

int repair_set_aside(struct store *store, uint64_t after, char **path)
{
    char name[64];
    struct copying tail = {.after = after};
    int directory = db_directory_fd(store_db(store));
    *path = NULL;
    int rc = store_read(store, get_tail, &tail);
    if (rc || tail.last.modseq <= tail.after)
        return rc;
    if (mkdirat(directory, ASIDE_FOLDER, 0700) != 0 && errno != EEXIST)
        return fail_errno("%s/" ASIDE_FOLDER, store_path(store));
    int folder = openat(directory, ASIDE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return fail_errno("%s/" ASIDE_FOLDER, store_path(store));
    snprintf(name, sizeof name, "%llu-%llu-%016llx.journal", (unsigned long long)tail.after + 1,
             (unsigned long long)tail.last.modseq, (unsigned long long)tail.last.chain);
    if (faccessat(folder, name, F_OK, 0) != 0)
        rc = write_aside(store, folder, name, tail.after);
    close(folder);
    if (rc == ERR_OK && asprintf(path, "%s/" ASIDE_FOLDER "/%s", store_path(store), name) < 0) {
        *path = NULL;
        rc = fail(ERR_NOMEM, "out of memory");
    }
    return rc;
}

struct rewind {
    struct position from;
    struct position at;
    struct epoch_id epoch;
    const char *reason;
    bool done;
};

/* Name and state of every mailbox as of `at`: undone along the journal, newest entry first. Not
 * along each mailbox's own entries: one that was made equal before may be ahead of the journal. */
static int undo_names(struct tx *tx, const struct rewind *work)
{
    struct entry entry = {.modseq = tx->window.last.modseq + 1};
    struct box *box;
    int rc;
    while ((rc = journal_below(tx->db, entry.modseq - 1, &entry)) == ERR_OK &&
           entry.modseq > work->at.modseq) {
        if (entry.kind == ENTRY_EPOCH || !entry.mailbox)
            continue;
        rc = change_decode(&entry, &tx->change);
        if (rc == ERR_OK)
            rc = tx_box(tx, entry.mailbox, &box);
        if (rc && rc != ERR_END)
            return rc;
        if (rc == ERR_OK)
            facts_copy(&box->header.facts, &tx->change.before,
                       tx->change.facts_changed & (FACT_STATE | FACT_NAME));
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* All names of mailboxes that changed go before any comes back: they may have changed places. */
static int open_changed(struct tx *tx, const struct rewind *work)
{
    struct header header;
    struct box *box;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx->db, &id, &header)) == ERR_OK) {
        if (header.lastmodseq <= work->at.modseq)
            continue;
        rc = unname(tx, &header);
        if (rc == ERR_OK)
            rc = tx_box(tx, id, &box);
        if (rc)
            return rc;
        box->header.lastmodseq = work->at.modseq;
        box->dirty = true;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* What a client was told that cannot be known of a mailbox that goes, and may come again. */
static int find_forgotten(struct tx *tx, const struct header *header, uint64_t *forgotten)
{
    struct stop stop;
    int rc = stop_get(tx->db, header->id, &stop);
    *forgotten = header_forgotten(header);
    if (rc == ERR_OK && !stop.epoch.number && *forgotten < stop.as_of)
        *forgotten = stop.as_of;
    return rc == ERR_END ? ERR_OK : rc;
}

/* A mailbox that was made since goes, but a stop stays: the upstream may have it, too. */
static int rewind_box(struct tx *tx, const struct rewind *work, struct box *box)
{
    if (box->header.facts.state == MAILBOX_NONE) {
        struct header header;
        uint64_t forgotten = 0;
        int rc = header_get(tx->db, box->header.id, &header);
        if (rc == ERR_OK)
            rc = find_forgotten(tx, &header, &forgotten);
        if (rc == ERR_OK)
            rc = forget(tx, &header);
        box->dirty = false;
        return rc ? rc : stop_empty(tx, box->header.id, forgotten, work->reason);
    }
    int rc = put_name(tx, &box->header);
    return rc ? rc : stop_at(tx, box->header.id, work->at.modseq + 1, UINT64_MAX, work->reason);
}

/* Stops of mailboxes that did not change above `at`: what is in them was equal to what another
 * journal had later on. */
static int rewind_stops(struct tx *tx, const struct rewind *work)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    if (position_equal(work->at, work->from))
        return ERR_OK;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        if (stop.modseq <= work->at.modseq + 1 && stop.state == STOP_WAITING)
            continue;
        rc = leave(tx, stop.aside);
        stop.aside = 0;
        stop.state = STOP_WAITING;
        if (stop.modseq > work->at.modseq + 1)
            stop.modseq = work->at.modseq + 1;
        if (rc == ERR_OK)
            rc = stop_put(tx->db, &stop);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* Marks whose entries go. */
static int drop_marks(struct tx *tx, uint64_t above)
{
    struct mark mark = {0};
    int rc;
    while ((rc = mark_next(tx->db, &mark)) == ERR_OK) {
        if (mark.modseq <= above)
            continue;
        rc = mark_drop(tx->db, &mark);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int rewind_mailboxes(struct tx *tx, void *arg)
{
    struct rewind *work = arg;
    int rc = check_position(tx, work->from);
    if (rc)
        return rc;
    rc = journal_holds(tx->db, work->at);
    if (rc == ERR_TRIMMED)
        return fail(ERR_REFUSED, "%s: its journal was trimmed since its repair was planned",
                    store_path(tx->store));
    if (rc)
        return rc == ERR_END ? fail(ERR_PROTOCOL, "a position that is not on the journal here")
                             : rc;
    rc = open_changed(tx, work);
    if (rc == ERR_OK)
        rc = drop_marks(tx, work->at.modseq);
    if (rc == ERR_OK)
        rc = undo_names(tx, work);
    for (struct box *box = tx->boxes; rc == ERR_OK && box; box = box->next)
        rc = rewind_box(tx, work, box);
    if (rc == ERR_OK)
        rc = rewind_stops(tx, work);
    if (rc == ERR_OK && tx->node.meta_modseq > work->at.modseq) {
        rc = stop_at(tx, 0, work->at.modseq + 1, UINT64_MAX, work->reason);
        tx->node.meta_modseq = work->at.modseq;
    }
    tx->node.discard = false;
    tx->node_dirty = true;
    return rc;
}

static int cut_some(struct tx *tx, void *arg)
{
    struct rewind *work = arg;
    uint64_t removed;
    int rc = journal_cut_back(tx->db, work->at.modseq, CUT_BATCH, &removed);
    work->done = rc == ERR_OK && removed == 0;
    if (!work->done)
        return rc;
    tx->node.epoch = work->epoch;
    tx->node_dirty = true;
    return ERR_OK;
}

int repair_rewind(struct store *store, struct position from, struct position at,
                  struct epoch_id epoch, const char *reason)
{
    struct rewind work = {.from = from, .at = at, .epoch = epoch, .reason = reason};
    int rc = change_replica(store, rewind_mailboxes, &work);
    while (rc == ERR_OK && !work.done)
        rc = change_replica(store, cut_some, &work);
    return rc;
}

struct empty {
    struct position from;
    uint64_t removed;
};

static int trim_all(struct tx *tx, void *arg)
{
    struct empty *work = arg;
    int rc = check_position(tx, work->from);
    return rc ? rc : tx_trim(tx, UINT64_MAX, CUT_BATCH, &work->removed);
}

static const struct repair_mailbox *find_mailbox(const struct repair_reset *reset, uint64_t id)
{
    size_t low = 0, high = reset->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (reset->mailboxes[middle].id == id)
            return &reset->mailboxes[middle];
        if (reset->mailboxes[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* What this node has: goes, stays as it is, or stops. */
static int reset_own(struct tx *tx, const struct repair_reset *reset)
{
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx->db, &id, &header)) == ERR_OK) {
        const struct repair_mailbox *there = find_mailbox(reset, id);
        struct box *box;
        struct stop stop;
        if (!there) {
            rc = forget(tx, &header);
            if (rc)
                return rc;
            continue;
        }
        int waiting = stop_get(tx->db, id, &stop);
        if (waiting && waiting != ERR_END)
            return waiting;
        if (there->digest == header_digest(&header) && waiting == ERR_END &&
            there->state == header.facts.state)
            continue;
        rc = unname(tx, &header);
        if (rc == ERR_OK)
            rc = tx_box(tx, id, &box);
        if (rc)
            return rc;
        box->header.facts.state = there->state;
        box->header.facts.name = there->name;
        if (box->header.lastmodseq > reset->at.modseq)
            box->header.lastmodseq = reset->at.modseq;
        box->dirty = true;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int reset_new(struct tx *tx, const struct repair_reset *reset)
{
    for (size_t i = 0; i < reset->count; i++) {
        const struct repair_mailbox *there = &reset->mailboxes[i];
        struct header header;
        struct box *box;
        int rc = header_get(tx->db, there->id, &header);
        if (rc == ERR_OK)
            continue;
        if (rc == ERR_END)
            rc = tx_box_new(tx, there->id, &box);
        if (rc)
            return rc;
        box->header.facts.state = there->state;
        box->header.facts.name = there->name;
    }
    return ERR_OK;
}

static int reset_stops(struct tx *tx, const struct repair_reset *reset)
{
    int rc = ERR_OK;
    for (struct box *box = tx->boxes; box && rc == ERR_OK; box = box->next) {
        /* One that was not here before has nothing of it. */
        bool made = box->header.facts.uidvalidity == 0;
        rc = made ? stop_empty(tx, box->header.id, 0, reset->reason)
                  : stop_at(tx, box->header.id, reset->since + 1, box->header.lastmodseq,
                            reset->reason);
        if (rc == ERR_OK)
            rc = put_name(tx, &box->header);
    }
    return rc ? rc : stop_at(tx, 0, reset->since + 1, tx->node.meta_modseq, reset->reason);
}

static int begin_anew(struct tx *tx, void *arg)
{
    const struct repair_reset *reset = arg;
    int rc = check_position(tx, reset->from);
    if (rc == ERR_OK)
        rc = reset_own(tx, reset);
    if (rc == ERR_OK)
        rc = reset_new(tx, reset);
    if (rc == ERR_OK)
        rc = reset_stops(tx, reset);
    if (rc == ERR_OK)
        rc = drop_marks(tx, 0);
    for (size_t i = 0; rc == ERR_OK && i < reset->mark_count; i++)
        if (reset->marks[i].modseq <= reset->at.modseq)
            rc = mark_put(tx->db, &reset->marks[i]);
    if (rc)
        return rc;
    tx->node.store_id = reset->store_id;
    tx->node.owner = *reset->owner;
    tx->node.epoch = reset->epoch;
    tx->node.meta_modseq = reset->at.modseq;
    tx->node.discard = false;
    tx->node_dirty = true;
    tx->window = (struct journal_window){
        .base = reset->at, .last = reset->at, .base_time = reset->time, .last_time = reset->time};
    return journal_window_save(tx->db, &tx->window);
}

int repair_reset(struct store *store, const struct repair_reset *reset)
{
    struct empty work = {.from = reset->from};
    int rc;
    do {
        rc = change_replica(store, trim_all, &work);
    } while (rc == ERR_OK && work.removed);
    if (rc == ERR_OK)
        rc = change_replica(store, begin_anew, (void *)(uintptr_t)reset);
    /* What was archived does not lead to where the journal begins now. */
    return rc ? rc : archive_set_aside(db_directory_fd(store_db(store)), 0);
}

struct learning {
    const struct epoch *epochs;
    size_t count;
};

static int learn(struct tx *tx, void *arg)
{
    const struct learning *work = arg;
    struct epoch known;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->count; i++) {
        rc = epoch_get(tx->db, work->epochs[i].id, &known);
        if (rc == ERR_END)
            rc = epoch_put(tx->db, &work->epochs[i]);
    }
    return rc;
}

int repair_learn(struct store *store, const struct epoch *epochs, size_t count)
{
    struct learning work = {epochs, count};
    return store_maintain(store, learn, &work);
}

static int adopt_all(struct tx *tx, struct draft **drafts, size_t count)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (drafts[i])
            rc = draft_adopt(tx->db, drafts[i], NULL);
    return rc;
}

static int drop_unused(struct tx *tx, struct draft **drafts, size_t count)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (drafts[i])
            rc = content_drop_unreferenced(tx->db, draft_guid(drafts[i]));
    return rc;
}

/* Content of records that are replaced or go: a message may come back under another UID, with
 * nobody else who refers to what it holds. */
struct kept {
    struct guid *guids;
    size_t count;
    size_t capacity;
};

static int keep_content(struct tx *tx, struct kept *kept, const struct guid *guid)
{
    struct guid *guids = array_room(kept->guids, kept->count, &kept->capacity, sizeof *guids);
    if (!guids)
        return ERR_NOMEM;
    kept->guids = guids;
    int rc = content_ref(tx->db, guid);
    if (rc == ERR_OK)
        guids[kept->count++] = *guid;
    return rc;
}

static int leave_content(struct tx *tx, struct kept *kept)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < kept->count; i++)
        rc = content_unref(tx->db, &kept->guids[i]);
    return rc;
}

static int replace_record(struct tx *tx, struct box *box, const struct merge_record *record,
                          struct kept *kept, uint64_t *added)
{
    struct record before;
    struct record after = record->record;
    int rc = keywords_intern(tx->db, record->keywords);
    if (rc)
        return rc;
    after.keywords = keywords_hash(record->keywords);
    rc = record_get(tx->db, box->header.number, after.uid, &before);
    *added += record_live(&after) && (rc || !record_live(&before));
    if (rc == ERR_END || rc == ERR_CORRUPT)
        return apply_record(tx, box, NULL, &after);
    if (rc == ERR_OK && !guid_equal(&before.guid, &after.guid))
        rc = keep_content(tx, kept, &before.guid);
    return rc ? rc : apply_record(tx, box, &before, &after);
}

static int remove_record(struct tx *tx, struct box *box, uint32_t uid, struct kept *kept)
{
    struct record before;
    int rc = record_get(tx->db, box->header.number, uid, &before);
    if (rc == ERR_CORRUPT)
        return record_delete(tx->db, box->header.number, uid);
    if (rc == ERR_OK)
        rc = keep_content(tx, kept, &before.guid);
    if (rc == ERR_OK)
        rc = apply_record(tx, box, &before, NULL);
    return rc == ERR_END ? ERR_OK : rc;
}

/* Puts records and removes others under the box's own number. */
static int put_records(struct tx *tx, struct box *box, const struct merge_other *other,
                       const struct uidset *gone, uint64_t *expunged)
{
    struct kept kept = {0};
    uint64_t live = box->header.messages;
    uint64_t added = 0;
    uint32_t uid;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < other->count; i++)
        rc = replace_record(tx, box, &other->records[i], &kept, &added);
    for (uint32_t at = 1; rc == ERR_OK && at && gone && uidset_next(gone, at, &uid); at = uid + 1)
        rc = remove_record(tx, box, uid, &kept);
    if (rc == ERR_OK)
        rc = leave_content(tx, &kept);
    free(kept.guids);
    if (expunged)
        *expunged = live + added - box->header.messages;
    return rc;
}

/* Tombstones are in no digest. Those of UIDs that the upstream never gave out are of a branch that
 * was thrown away. */
static int drop_beyond(struct tx *tx, struct box *box, uint32_t uidnext)
{
    struct record records[BATCH];
    size_t count = BATCH;
    int rc = ERR_OK;
    while (rc == ERR_OK && count == BATCH && uidnext) {
        rc = record_batch(tx->db, box->header.number, uidnext, records, BATCH, &count);
        for (size_t i = 0; rc == ERR_OK && i < count; i++)
            rc = apply_record(tx, box, &records[i], NULL);
    }
    return rc;
}

static int put_seen(struct tx *tx, struct header *header, const struct merge_seen *seen)
{
    struct uidset before = {0};
    struct versioned version;
    struct bytes user = buf_view(&seen->user);
    int rc = seen_get(tx->db, header->id, user, &before, &version);
    if (rc == ERR_OK && version.state != VALUE_NONE)
        header->items -= seen_digest(user, &before, version.version);
    if (rc == ERR_OK)
        rc = seen_put(tx->db, header->id, user, &seen->seen, seen->version);
    header->items += seen_digest(user, &seen->seen, seen->version);
    uidset_free(&before);
    return rc;
}

static int put_meta(struct tx *tx, uint64_t id, uint64_t *items, const struct merge_meta *meta)
{
    struct versioned before;
    struct versioned after = {
        .state = meta->state, .value = buf_view(&meta->value), .version = meta->version};
    struct bytes user = buf_view(&meta->user);
    struct bytes key = buf_view(&meta->key);
    int rc = meta_get(tx->db, id, user, key, &before);
    if (rc)
        return rc;
    *items -= meta_digest(user, key, &before);
    *items += meta_digest(user, key, &after);
    return meta_put(tx->db, id, user, key, &after);
}

static int put_values(struct tx *tx, struct box *box, const struct repair_change *change)
{
    const struct merge_other *other = change->other;
    uint64_t items = 0, rows;
    int rc = change->all_values ? values_delete_all(tx->db, box->header.id)
                                : values_digest(tx->db, box->header.id, &items, &rows);
    if (rc == ERR_CORRUPT)
        rc = fail(ERR_DIFFERS, "%s", err_message());
    box->header.items += items;
    for (size_t i = 0; rc == ERR_OK && i < other->seen_count; i++)
        rc = put_seen(tx, &box->header, &other->seen[i]);
    for (size_t i = 0; rc == ERR_OK && i < other->meta_count; i++)
        rc = put_meta(tx, box->header.id, &box->header.items, &other->metas[i]);
    return rc;
}

/* Counts as they really are, before what is to come. */
static void take_counts(struct header *header, const struct header *counted)
{
    header->messages = counted->messages;
    header->unseen = counted->unseen;
    header->bytes = counted->bytes;
    header->tombstones = counted->tombstones;
    header->items = counted->items;
}

/* Clients were told here that up to `forgotten` nothing can be said: the floor goes on saying so
 * where the header that came, with DELETEDMODSEQ `journaled`, does not. */
static void raise_floor(struct header *header, uint64_t forgotten, uint64_t journaled)
{
    if (forgotten > journaled && forgotten > header->floor)
        header->floor = forgotten;
}

/* All facts but name and state, which follow the journal. */
static int take_facts(struct tx *tx, struct box *box, const struct repair_change *change)
{
    struct header *header = &box->header;
    struct facts proven = change->header.facts;
    if (header->items != change->header.items || header->messages != change->header.messages ||
        header->unseen != change->header.unseen || header->bytes != change->header.bytes)
        return fail(ERR_DIFFERS,
                    "mailbox id:%016llx: its records do not give the upstream's digest",
                    (unsigned long long)header->id);
    proven.state = header->facts.state;
    proven.name = header->facts.name;
    raise_floor(header, header->facts.deletedmodseq, proven.deletedmodseq);
    header->facts = proven;
    header->lastmodseq = change->header.lastmodseq;
    header->changed = change->header.changed;
    if (header->floor < change->floor)
        header->floor = change->floor;
    if (header->floor < change->header.floor)
        header->floor = change->header.floor;
    box->dirty = true;
    if (tx->node.last_uidvalidity < proven.uidvalidity) {
        tx->node.last_uidvalidity = proven.uidvalidity;
        tx->node_dirty = true;
    }
    return ERR_OK;
}

/* What the upstream has taken in of this mailbox, and the journal here does not tell yet. */
static int keep_marks(struct tx *tx, const struct repair_change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < change->mark_count; i++) {
        struct mark mark = change->marks[i];
        if ((mark.mailbox && mark.mailbox != change->header.id) || mark.modseq > change->as_of ||
            mark.modseq <= tx->window.last.modseq)
            continue;
        mark.mailbox = change->header.id;
        rc = mark_put(tx->db, &mark);
    }
    return rc;
}

static int apply(struct tx *tx, void *arg)
{
    const struct repair_change *change = arg;
    struct box *box;
    struct stop stop;
    uint64_t id = change->header.id;
    int rc = tx_box(tx, id, &box);
    if (rc == ERR_END)
        rc = tx_box_new(tx, id, &box);
    if (rc == ERR_OK)
        rc = stop_get(tx->db, id, &stop);
    if (rc)
        return rc == ERR_END ? fail(ERR_REFUSED, "mailbox id:%016llx: it is not stopped",
                                    (unsigned long long)id)
                             : rc;
    if (stop.aside) {
        rc = leave(tx, box->header.number);
        box->header.number = stop.aside;
    } else {
        rc = recount_if_damaged(tx, &box->header, &change->counted);
    }
    take_counts(&box->header, &change->counted);
    if (rc == ERR_OK)
        rc = adopt_all(tx, change->drafts, change->draft_count);
    if (rc == ERR_OK)
        rc = put_records(tx, box, change->other, change->gone, change->expunged);
    if (rc == ERR_OK)
        rc = drop_beyond(tx, box, change->header.facts.uidnext);
    if (rc == ERR_OK)
        rc = put_values(tx, box, change);
    if (rc == ERR_OK)
        rc = take_facts(tx, box, change);
    if (rc == ERR_OK && !stop.epoch.number)
        raise_floor(&box->header, stop.as_of, box->header.facts.deletedmodseq);
    if (rc == ERR_OK)
        rc = keep_marks(tx, change);
    if (rc == ERR_OK)
        rc = drop_unused(tx, change->drafts, change->draft_count);
    if (rc == ERR_OK && change->header.facts.state == MAILBOX_PURGED)
        rc = repair_leave_records(tx, box);
    stop.aside = 0;
    stop.state = STOP_MERGED;
    stop.modseq = change->as_of + 1;
    stop.epoch = change->epoch;
    stop.as_of = change->as_of;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    return rc ? rc : stop_settle(tx);
}

int repair_apply(struct store *store, const struct repair_change *change)
{
    return change_replica(store, apply, (void *)(uintptr_t)change);
}

struct aside {
    uint64_t mailbox;
    uint32_t number;
    uint32_t from;
    const struct merge_other *other;
    const struct uidset *gone;
    struct draft **drafts;
    size_t draft_count;
    uint64_t *expunged;
    const struct header *before; /* counts of the rows that it is built from */
    struct header *counted;
    struct uidset *damaged;
    const struct record_sums *sums;
};

static int begin_aside(struct tx *tx, void *arg)
{
    struct aside *work = arg;
    struct header header;
    struct stop stop;
    int rc = stop_get(tx->db, work->mailbox, &stop);
    if (rc)
        return rc;
    rc = leave(tx, stop.aside);
    work->number = tx->node.next_number++;
    tx->node_dirty = true;
    stop.aside = work->number;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    if (rc == ERR_OK)
        rc = header_get(tx->db, work->mailbox, &header);
    if (rc == ERR_OK)
        rc = recount_if_damaged(tx, &header, work->before);
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_begin_aside(struct store *store, uint64_t mailbox, const struct header *counted,
                       uint32_t *number)
{
    struct aside work = {.mailbox = mailbox, .before = counted};
    int rc = change_replica(store, begin_aside, &work);
    *number = work.number;
    return rc;
}

static int copy_aside(struct tx *tx, void *arg)
{
    struct aside *work = arg;
    struct header header;
    struct record records[BATCH];
    size_t count = BATCH;
    uint32_t from = work->from;
    int rc = header_get(tx->db, work->mailbox, &header);
    for (unsigned copied = 0; rc == ERR_OK && from && copied < COPY_BATCH; copied += BATCH) {
        rc = record_batch(tx->db, header.number, from, records, BATCH, &count);
        from = count == BATCH ? records[count - 1].uid + 1 : 0;
        if (rc == ERR_CORRUPT && records[count].uid) { /* it is not taken along, but fetched */
            from = records[count].uid + 1;
            rc = ERR_OK;
        }
        for (size_t i = 0; rc == ERR_OK && i < count; i++) {
            rc = record_put(tx->db, work->number, &records[i]);
            if (rc == ERR_OK)
                rc = content_ref(tx->db, &records[i].guid);
        }
    }
    if (rc == ERR_OK)
        work->from = from;
    return rc;
}

int repair_copy_aside(struct store *store, uint64_t mailbox, uint32_t number, uint32_t *from)
{
    struct aside work = {.mailbox = mailbox, .number = number, .from = *from};
    int rc = change_replica(store, copy_aside, &work);
    *from = work.from;
    return rc;
}

static int put_aside(struct tx *tx, void *arg)
{
    const struct aside *work = arg;
    struct box box = {.header = {.number = work->number}};
    int rc = adopt_all(tx, work->drafts, work->draft_count);
    if (rc == ERR_OK)
        rc = put_records(tx, &box, work->other, work->gone, work->expunged);
    return rc ? rc : drop_unused(tx, work->drafts, work->draft_count);
}

int repair_put_aside(
    struct store *store, uint32_t number, const struct merge_other *other,
    const struct uidset *gone, struct draft **drafts, size_t draft_count,
    uint64_t *expunged) /* NOLINT(readability-non-const-parameter): written later */
{
    struct aside work = {.number = number,
                         .other = other,
                         .gone = gone,
                         .drafts = drafts,
                         .draft_count = draft_count,
                         .expunged = expunged};
    return change_replica(store, put_aside, &work);
}

static int count_rows(struct tx *tx, void *arg)
{
    struct aside *work = arg;
    struct header header;
    struct stop stop;
    *work->counted = (struct header){0};
    memset(work->sums->sums, 0, work->sums->count * sizeof *work->sums->sums);
    int rc = header_get(tx->db, work->mailbox, &header);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    rc = stop_get(tx->db, work->mailbox, &stop);
    if (rc == ERR_OK && stop.aside)
        header.number = stop.aside;
    uidset_clear(work->damaged);
    return rc ? rc : count_records(tx->db, &header, work->counted, work->damaged, work->sums);
}

int repair_count(struct store *store, uint64_t mailbox, struct header *counted,
                 struct uidset *damaged, const struct record_sums *sums)
{
    struct aside work = {.mailbox = mailbox, .counted = counted, .damaged = damaged, .sums = sums};
    return store_read(store, count_rows, &work);
}

static int remove_mailbox(struct tx *tx, void *arg)
{
    const uint64_t *id = arg;
    struct header header;
    int rc = header_get(tx->db, *id, &header);
    if (rc == ERR_OK)
        return forget(tx, &header);
    if (rc == ERR_END)
        rc = stop_drop(tx->db, *id);
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_remove(struct store *store, uint64_t mailbox)
{
    return change_replica(store, remove_mailbox, &mailbox);
}

struct store_values {
    const struct merge_other *other;
    struct epoch_id epoch;
    uint64_t as_of;
};

static int set_values(struct tx *tx, void *arg)
{
    const struct store_values *work = arg;
    struct stop stop = {.modseq = work->as_of + 1,
                        .state = STOP_MERGED,
                        .epoch = work->epoch,
                        .as_of = work->as_of};
    uint64_t items = 0;
    int rc = values_delete_all(tx->db, 0);
    for (size_t i = 0; rc == ERR_OK && i < work->other->meta_count; i++)
        rc = put_meta(tx, 0, &items, &work->other->metas[i]);
    tx->node.meta = items;
    tx->node_dirty = true;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    return rc ? rc : stop_settle(tx);
}

int repair_values(struct store *store, const struct merge_other *other, struct epoch_id epoch,
                  uint64_t as_of)
{
    struct store_values work = {.other = other, .epoch = epoch, .as_of = as_of};
    return change_replica(store, set_values, &work);
}

struct sweep {
    uint32_t number; /* being swept */
    bool done;
};

/* What a row that cannot be read referred to is found out by counting. */
static int sweep_record(struct tx *tx, uint32_t number, const struct record *record, bool readable)
{
    int rc = record_delete(tx->db, number, record->uid);
    if (rc == ERR_OK && readable)
        rc = content_unref(tx->db, &record->guid);
    bool unsure = !readable || (rc == ERR_CORRUPT && !db_txn_error(tx->db));
    return unsure ? garbage_recount(tx->db) : rc;
}

static int sweep_batch(struct tx *tx, uint32_t number, size_t *swept)
{
    struct record records[BATCH];
    size_t count;
    int rc = record_batch(tx->db, number, 1, records, BATCH, &count);
    bool unreadable = rc == ERR_CORRUPT && !db_txn_error(tx->db) && records[count].uid;
    *swept = count + unreadable;
    if (unreadable)
        rc = sweep_record(tx, number, &records[count], false);
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        rc = sweep_record(tx, number, &records[i], true);
    return rc;
}

static int sweep_some(struct tx *tx, void *arg)
{
    struct sweep *work = arg;
    size_t swept = 1;
    uint32_t number = work->number;
    int rc = garbage_next(tx->db, &number);
    work->done = rc == ERR_END;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    work->number = number;
    for (unsigned all = 0; rc == ERR_OK && swept && all < SWEEP_BATCH; all += (unsigned)swept)
        rc = sweep_batch(tx, number, &swept);
    return rc || swept ? rc : garbage_drop(tx->db, number);
}

static int recount(struct tx *tx, void *arg)
{
    bool counted;
    (void)arg;
    int rc = check_references(tx, &counted);
    return rc || !counted ? rc : garbage_recounted(tx->db);
}

static int is_recount_due(struct tx *tx, void *arg)
{
    return garbage_recount_due(tx->db, arg);
}

int repair_sweep(struct store *store)
{
    struct sweep work = {0};
    bool due = false;
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.done)
        rc = store_maintain(store, sweep_some, &work);
    if (rc == ERR_OK)
        rc = store_read(store, is_recount_due, &due);
    return rc == ERR_OK && due ? store_maintain(store, recount, NULL) : rc;
}
