/* The journal of a replica is taken back to what it shares with its upstream, or begun anew behind
 * the upstream's last entry. Names and states of mailboxes follow it at once; what is in them may
 * not be as it should be from then on, so they stop. */
#include "mailbox/repairing.h"

#include "base/err.h"
#include "journal/archive.h"
#include "mailbox/draft.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

#include <stdio.h>

#define CUT_BATCH 4096u /* entries in one transaction */

/* A plan was made for a position: what this node did since would be lost. */
static int check_position(const struct tx *tx, struct position from)
{
    return position_equal(tx->window.last, from)
               ? ERR_OK
               : fail(ERR_REFUSED, "%s: it has changed since its repair was planned",
                      store_path(tx->store));
}

static int put_name(struct tx *tx, const struct header *header)
{
    return header->facts.state == MAILBOX_LIVE
               ? header_name_put(tx->db, &header->facts.name, header->id)
               : ERR_OK;
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
        rc = repair_leave_number(tx, stop.beside);
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
        rc = repair_leave_number(tx, stop.beside);
    if (rc && rc != ERR_END)
        return rc;
    stop =
        (struct stop){.mailbox = mailbox, .modseq = 1, .state = STOP_WAITING, .as_of = forgotten};
    snprintf(stop.reason, sizeof stop.reason, "%s", reason);
    return stop_put(tx->db, &stop);
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
        rc = repair_unname(tx, &header);
        if (rc == ERR_OK)
            rc = tx_box(tx, id, &box);
        if (rc)
            return rc;
        box->header.lastmodseq = work->at.modseq;
        box->dirty = true;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* A mailbox that was made since is none any more, but what is in it stays, and its last name, as
 * long as the upstream has not said what it has of it. */
static int unmake(struct tx *tx, struct box *box)
{
    struct header header;
    int rc = header_get(tx->db, box->header.id, &header);
    if (rc)
        return rc;
    box->header.facts.name = header.facts.name;
    if (header.facts.state != MAILBOX_LIVE)
        box->header.facts.state = header.facts.state;
    return ERR_OK;
}

static int rewind_box(struct tx *tx, const struct rewind *work, struct box *box)
{
    int rc = box->header.facts.state == MAILBOX_NONE ? unmake(tx, box) : ERR_OK;
    if (rc == ERR_OK)
        rc = put_name(tx, &box->header);
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
        rc = repair_leave_number(tx, stop.beside);
        stop.beside = 0;
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
    int rc = repair_step(store, rewind_mailboxes, &work);
    while (rc == ERR_OK && !work.done)
        rc = repair_step(store, cut_some, &work);
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
    return rc ? rc : tx_trim(tx, UINT64_MAX, CUT_BATCH, false, &work->removed);
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

static int take_state(struct tx *tx, struct box *box, const struct repair_mailbox *there,
                      uint64_t at)
{
    box->header.facts.state = there->state;
    box->header.facts.name = there->name;
    if (box->header.lastmodseq > at)
        box->header.lastmodseq = at;
    box->dirty = true;
    if (there->state != MAILBOX_PURGED)
        return ERR_OK;
    int rc = values_delete_all(tx->db, box->header.id);
    return rc ? rc : repair_leave_records(tx, box);
}

/* It stays as it is. Its journal may have told another way how it came about. */
static int keep_equal(struct tx *tx, struct header *header, const struct repair_mailbox *there)
{
    if (header->lastmodseq == there->lastmodseq)
        return ERR_OK;
    header->lastmodseq = there->lastmodseq;
    return header_put(tx->db, header);
}

/* It stops, or nothing of it is left. */
static int reset_box(struct tx *tx, const struct header *header, const struct repair_mailbox *there,
                     uint64_t at)
{
    struct box *box;
    int rc = repair_unname(tx, header);
    if (rc == ERR_OK)
        rc = tx_box(tx, header->id, &box);
    return rc ? rc : take_state(tx, box, there, at);
}

/* What this node has: goes, stays as it is, or stops. */
static int reset_own(struct tx *tx, const struct repair_reset *reset)
{
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx->db, &id, &header)) == ERR_OK) {
        const struct repair_mailbox *there = find_mailbox(reset, id);
        struct stop stop;
        int waiting = stop_get(tx->db, id, &stop);
        if (waiting && waiting != ERR_END)
            return waiting;
        if (!there)
            rc = repair_forget(tx, &header);
        else if (there->digest == header_digest(&header) && waiting == ERR_END &&
                 there->state == header.facts.state)
            rc = keep_equal(tx, &header, there);
        else
            rc = reset_box(tx, &header, there, reset->at.modseq);
        if (rc)
            return rc;
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
    rc = journal_forget(tx->db, reset->at.modseq);
    return rc ? rc : journal_window_save(tx->db, &tx->window);
}

int repair_reset(struct store *store, const struct repair_reset *reset)
{
    struct empty work = {.from = reset->from};
    int rc;
    do {
        rc = repair_step(store, trim_all, &work);
    } while (rc == ERR_OK && work.removed);
    if (rc == ERR_OK)
        rc = repair_step(store, begin_anew, (void *)(uintptr_t)reset);
    /* What was archived does not lead to where the journal begins now. */
    return rc ? rc : archive_set_aside(db_directory_fd(store_db(store)), 0);
}
