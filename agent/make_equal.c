/* Happy path: what the upstream knows of epochs and marks is taken over; the journal goes back to
 * what both share, or begins anew; then each stopped mailbox is rebuilt (rebuild.h), and the
 * store's own values are fetched.
 */
#include "agent/make_equal.h"

#include "agent/rebuild.h"
#include "base/array.h"
#include "base/err.h"
#include "mailbox/repair.h"
#include "mailbox/role.h"

#include <stdlib.h>

#define TRIES_MOST 4u

static int rebuild_values(struct store *store, const struct asker *upstream, struct branch *branch)
{
    for (unsigned tries = 0; tries < TRIES_MOST; tries++) {
        struct merge_other other = {0};
        struct values_as_of as_of;
        int rc = ask_values(upstream, 0, 0, 0, &other, &as_of);
        if (rc == ERR_OK)
            rc = rebuild_learn_epoch(store, upstream, as_of.epoch, branch);
        if (rc == ERR_OK && as_of.modseq)
            rc = repair_values(store, &other, as_of.epoch, as_of.modseq);
        merge_other_free(&other);
        if (rc || as_of.modseq)
            return rc;
    }
    return ERR_OK;
}

struct next_stop {
    uint64_t id;
    struct stop stop;
    bool end;
};

static int find_next(struct tx *tx, void *arg)
{
    struct next_stop *next = arg;
    int rc;
    do {
        rc = stop_next(tx_db(tx), &next->id, &next->stop);
    } while (rc == ERR_OK && next->stop.state != STOP_WAITING);
    next->end = rc == ERR_END;
    return next->end ? ERR_OK : rc;
}

static int rebuild_all(struct store *store, const struct asker *upstream, struct branch *branch,
                       struct equal_report *report)
{
    struct next_stop next = {0};
    for (;;) {
        int rc = store_read(store, find_next, &next);
        if (rc || next.end)
            return rc;
        rc = next.stop.mailbox ? rebuild_mailbox(store, upstream, branch, &next.stop, report)
                               : rebuild_values(store, upstream, branch);
        if (rc)
            return rc;
    }
}

struct snapshot {
    struct repair_mailbox *all;
    size_t count;
    size_t capacity;
};

static int add_mailbox(const struct mailbox_line *line, void *arg)
{
    struct snapshot *snapshot = arg;
    if (line->state == MAILBOX_NONE)
        return ERR_OK;
    struct repair_mailbox *all =
        array_room(snapshot->all, snapshot->count, &snapshot->capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    snapshot->all = all;
    all[snapshot->count++] = (struct repair_mailbox){.id = line->id,
                                                     .digest = line->digest,
                                                     .lastmodseq = line->lastmodseq,
                                                     .state = line->state,
                                                     .name = line->name};
    return ERR_OK;
}

static int reset(struct store *store, const struct asker *upstream, const struct plan *plan,
                 const struct branch *branch)
{
    struct snapshot snapshot = {0};
    int rc = ask_mailboxes(upstream, plan->at.modseq, add_mailbox, &snapshot);
    struct repair_reset work = {.from = plan->from,
                                .store_id = plan->store_id,
                                .owner = &plan->owner,
                                .at = plan->at,
                                .time = plan->time,
                                .epoch = plan->epoch,
                                .mailboxes = snapshot.all,
                                .count = snapshot.count,
                                .marks = branch->marks,
                                .mark_count = branch->mark_count,
                                .since = plan->since,
                                .reason = plan->reason};
    if (rc == ERR_OK)
        rc = repair_reset(store, &work);
    free(snapshot.all);
    return rc;
}

/* Mailboxes whose digests differ, although no entry showed it. */
struct comparing {
    struct store *store;
    struct mailbox_line line;
};

static int stop_if_different(struct tx *tx, void *arg)
{
    const struct comparing *work = arg;
    struct header header;
    if (tx_node(tx)->role != ROLE_REPLICA)
        return fail(ERR_REFUSED, "%s: it was promoted while it was being repaired",
                    store_path(tx_store(tx)));
    int rc = header_get(tx_db(tx), work->line.id, &header);
    if (rc == ERR_OK && header_digest(&header) == work->line.digest)
        return ERR_OK;
    return rc && rc != ERR_END
               ? rc
               : stop_damaged(tx, work->line.id, "its digest is not the upstream's");
}

static int compare_mailbox(const struct mailbox_line *line, void *arg)
{
    struct comparing *work = arg;
    work->line = *line;
    if (!line->digest || line->state == MAILBOX_PURGED)
        return ERR_OK;
    return store_maintain(work->store, stop_if_different, work);
}

static int compare_all(struct store *store, const struct asker *upstream, const struct plan *plan)
{
    struct comparing work = {.store = store};
    return ask_mailboxes(upstream, plan->at.modseq, compare_mailbox, &work);
}

static int become_equal(struct store *store, const struct asker *upstream, const struct plan *plan,
                        struct branch *branch, struct equal_report *report)
{
    int rc = repair_learn(store, branch->epochs, branch->epoch_count);
    if (rc == ERR_OK && plan->own_after != UINT64_MAX)
        rc = repair_set_aside(store, plan->own_after, &report->aside);
    if (rc == ERR_OK)
        rc = plan->kind == PLAN_RESET
                 ? reset(store, upstream, plan, branch)
                 : repair_rewind(store, plan->from, plan->at, plan->epoch, plan->reason);
    if (rc == ERR_OK && plan->compare)
        rc = compare_all(store, upstream, plan);
    if (rc == ERR_OK)
        rc = rebuild_all(store, upstream, branch, report);
    return rc ? rc : repair_sweep(store);
}

int make_equal(struct store *store, const struct asker *upstream, const struct plan *plan,
               struct equal_report *report)
{
    struct branch branch;
    if (plan->kind == PLAN_GIVE_UP)
        return store_give_up_repair(store);
    int rc = ask_branch(upstream, &branch);
    if (rc)
        return rc == ERR_END ? fail(ERR_PROTOCOL, "the upstream does not know itself") : rc;
    rc = become_equal(store, upstream, plan, &branch, report);
    branch_free(&branch);
    return rc;
}
