/* Happy path: both ends' branches are compared; mailboxes that the follower changed after the last
 * common position are taken in one by one (take_mailbox.c); a last mark says that all of the branch
 * was taken in. The plan then names a position that is held for the follower by its slot.
 *
 * A follower that changed nothing, or whose changes a merge has taken in before, is only told how
 * to become equal.
 */
#include "agent/take_in.h"

#include "agent/answer.h"
#include "agent/taking.h"
#include "base/array.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"
#include "mailbox/repair.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Modseqs that a follower may be ahead: a merge goes on above it, and must not use them up. */
#define LEAP_MOST (UINT64_C(1) << 48)

static void taking_free(struct taking *work)
{
    branch_free(&work->mine);
    branch_free(&work->theirs);
    free(work->foreign);
    free(work->taken);
    free(work->candidates);
    free(work->stopped);
}

static int ask_own(void *context, struct bytes question, struct buf *out)
{
    return answer(context, question, out);
}

static void give_reason(struct plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void give_reason(struct plan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(plan->reason, sizeof plan->reason, format, args);
    va_end(args);
}

static void explain(struct taking *work)
{
    const struct position *last = &work->theirs.last;
    const struct fork *fork = &work->fork;
    if (!fork->same_store)
        give_reason(work->plan, work->theirs.store_id ? "a store with a history of its own"
                                                      : "an empty replica");
    else if (fork->on_journal)
        give_reason(work->plan, "damage");
    else if (fork->common_known && fork->common.modseq == last->modseq)
        give_reason(work->plan, "gap: the replica is at %llu, the journal begins behind %llu",
                    (unsigned long long)last->modseq, (unsigned long long)work->mine.base.modseq);
    else if (fork->common_known)
        give_reason(work->plan, "fork: both share entries up to %llu, the replica went on to %llu",
                    (unsigned long long)fork->common.modseq, (unsigned long long)last->modseq);
    else
        give_reason(work->plan, "fork at an unknown position: the replica is at %llu",
                    (unsigned long long)last->modseq);
}

/* What the follower shows may mean that this node must not write, or cannot feed it. */
static int check_relation(struct taking *work)
{
    const struct fork *fork = &work->fork;
    const char *path = store_path(work->store);
    bool master = work->mine.role == ROLE_MASTER;
    if (work->theirs.last.modseq > work->mine.last.modseq &&
        work->theirs.last.modseq - work->mine.last.modseq > LEAP_MOST)
        return fail(ERR_REFUSED, "%s: nobody can be as far as the replica says: %llu", path,
                    (unsigned long long)work->theirs.last.modseq);
    if (!fork->same_store && work->theirs.store_id && !work->options->adopt)
        return fail(ERR_REFUSED, "another store: %016llx here, %016llx there (--adopt takes it in)",
                    (unsigned long long)work->mine.store_id,
                    (unsigned long long)work->theirs.store_id);
    if (fork->later && master) {
        int rc = store_fence(work->store, FENCE_EPOCH, work->theirs.epoch.number);
        return rc ? rc
                  : fail(ERR_REFUSED,
                         "%s: fenced: the replica follows a later epoch (%u:%016llx): demote this "
                         "node, or promote it again",
                         path, work->theirs.epoch.number,
                         (unsigned long long)work->theirs.epoch.node);
    }
    if (fork->behind && master && work->mine.epoch.node == work->mine.node_id) {
        int rc = store_fence(work->store, FENCE_BEHIND, work->theirs.epoch.number);
        return rc ? rc
                  : fail(ERR_REFUSED,
                         "%s: fenced: the replica is at %llu, this master never came further than "
                         "%llu: it has lost commits; promote it to take them back",
                         path, (unsigned long long)work->theirs.last.modseq,
                         (unsigned long long)work->mine.last.modseq);
    }
    if (!master && (fork->later || fork->behind))
        return fail(ERR_REFUSED, "%s: a replica that is behind its follower", path);
    return ERR_OK;
}

static int add_id(uint64_t **ids, size_t *count, size_t *capacity, uint64_t id)
{
    uint64_t *room = array_room(*ids, *count, capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    *ids = room;
    room[(*count)++] = id;
    return ERR_OK;
}

static int add_candidate(struct taking *work, uint64_t id)
{
    return add_id(&work->candidates, &work->candidate_count, &work->candidate_capacity, id);
}

struct own_header {
    uint64_t id;
    struct header header;
    bool exists;
    bool damaged; /* a stop says so */
};

static int get_header(struct tx *tx, void *arg)
{
    struct own_header *work = arg;
    struct stop stop;
    int rc = header_get(tx_db(tx), work->id, &work->header);
    work->exists = rc == ERR_OK;
    if (rc == ERR_OK)
        rc = stop_get(tx_db(tx), work->id, &stop);
    work->damaged = work->exists && rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

static int consider(const struct mailbox_line *line, void *arg)
{
    struct taking *work = arg;
    struct own_header own = {.id = line->id};
    struct fork_bases bases;
    int rc = store_read(work->store, get_header, &own);
    if (rc == ERR_OK && line->stopped)
        rc = add_id(&work->stopped, &work->stopped_count, &work->stopped_capacity, line->id);
    if (rc)
        return rc;
    if (own.damaged)
        return add_candidate(work, line->id);
    /* One that waits to be made equal has had its changes taken in, and then ends at the base; but
     * one that was marked as damaged waits as well. */
    if (work->fork.on_journal || work->fork.taken || line->state == MAILBOX_NONE)
        return ERR_OK;
    if (!work->fork.same_store)
        return line->state == MAILBOX_LIVE ? add_candidate(work, line->id) : ERR_OK;
    bool same = own.exists && line->digest && line->digest == header_digest(&own.header);
    if (!work->fork.base_known) {
        if (same && work->proven < own.header.facts.highestmodseq)
            work->proven = own.header.facts.highestmodseq;
        return same ? ERR_OK : add_candidate(work, line->id);
    }
    rc = fork_bases(&work->fork, &work->mine, &work->theirs, line->id, &bases);
    return rc == ERR_OK && line->lastmodseq > bases.since ? add_candidate(work, line->id) : rc;
}

/* Those that the master has, too, come first: they may leave names that new ones take. */
static int take_all(struct taking *work, bool existing)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->candidate_count; i++) {
        struct own_header own = {.id = work->candidates[i]};
        rc = store_read(work->store, get_header, &own);
        if (rc || own.exists != existing)
            continue;
        if (work->theirs.discard && !work->session.heal_only)
            rc = take_discarded(work, own.id);
        else
            rc = take_mailbox(work, own.id);
    }
    return rc;
}

static int merge(struct taking *work)
{
    int rc = ask_mailboxes(work->follower, UINT64_MAX, consider, work);
    if (rc == ERR_OK)
        rc = take_foreign_epochs(work);
    if (rc == ERR_OK)
        rc = take_foreign_marks(work);
    bool own = !work->fork.on_journal && !work->fork.taken && work->theirs.store_id;
    work->session =
        (struct merge_session){.adopted = !work->fork.same_store,
                               .dry_run = work->options->dry_run,
                               .heal_only = !own,
                               .compared = work->mine.last.modseq,
                               .epoch = work->theirs.epoch,
                               .position = work->theirs.last,
                               .taken = work->theirs.last,
                               .epochs = work->foreign,
                               .epoch_count = work->foreign_count,
                               .marks = work->taken,
                               .mark_count = work->taken_count,
                               .report = work->options->dry_run ? work->options->report : NULL,
                               .arg = work->options->arg};
    if (rc || (!work->candidate_count && !own))
        return rc;
    if (work->mine.role != ROLE_MASTER)
        return fail(ERR_REFUSED,
                    "%s: only a master merges, and the follower has changes of its own: it must "
                    "follow the master",
                    store_path(work->store));
    rc = take_all(work, true);
    if (rc == ERR_OK)
        rc = take_all(work, false);
    take_say(work, 0);
    if (rc == ERR_OK && own && !work->theirs.discard)
        rc = take_store_values(work);
    return rc ? rc : merge_finish(work->store, &work->session);
}

/* Decides how the follower becomes equal, and holds the window for it. */
static int decide(struct tx *tx, void *arg)
{
    struct taking *work = arg;
    struct plan *plan = work->plan;
    const struct fork *fork = &work->fork;
    const struct journal_window *window = tx_window(tx);
    int rc = fork->common_known && fork->same_store ? journal_holds(tx_db(tx), fork->common)
                                                    : ERR_TRIMMED;
    if (rc && rc != ERR_TRIMMED && rc != ERR_END)
        return rc;
    bool reaches = rc == ERR_OK && work->theirs.base.modseq <= fork->common.modseq;
    bool from_nothing = !fork->same_store && !work->theirs.store_id;
    plan->kind = reaches ? PLAN_REWIND : PLAN_RESET;
    plan->from = work->theirs.last;
    plan->at = reaches ? fork->common : window->last;
    plan->time = window->last_time;
    plan->epoch = reaches ? fork_epoch_at(&work->mine, plan->at.modseq) : tx_node(tx)->epoch;
    plan->since = fork->common_known && !work->apart ? fork->common.modseq : 0;
    plan->compare = fork->on_journal && position_equal(work->theirs.last, window->last) &&
                    work->theirs.digest != node_digest(tx_node(tx));
    plan->own_after = UINT64_MAX;
    if (!fork->common_known && !from_nothing)
        plan->own_after = 0;
    else if (fork->common_known && work->theirs.last.modseq > fork->common.modseq)
        plan->own_after = fork->common.modseq;
    struct slot slot = {.position = plan->at, .time = times_now(), .connected = true};
    snprintf(slot.name, sizeof slot.name, "%s", work->options->slot);
    return work->options->dry_run ? ERR_OK : slot_put(tx_db(tx), &slot);
}

static void find_apart(struct taking *work)
{
    const struct branch *ends[] = {&work->mine, &work->theirs};
    for (size_t end = 0; end < 2; end++)
        for (size_t i = 0; i < ends[end]->mark_count; i++)
            work->apart = work->apart || (ends[end]->marks[i].modseq > work->fork.common.modseq &&
                                          fork_start(ends[end], &ends[end]->marks[i]));
    /* What was taken in, and what not, is to be seen by each mailbox. */
    work->fork.taken = work->fork.taken && !work->apart;
}

/* The follower is to come again when it has given up the repair that it is in. */
static int send_back(struct taking *work)
{
    struct plan *plan = work->plan;
    plan->kind = PLAN_GIVE_UP;
    plan->from = work->theirs.last;
    plan->own_after = UINT64_MAX;
    give_reason(plan, "a repair by another node, which it gives up");
    return ERR_OK;
}

static int look_at_branches(struct taking *work, bool *again)
{
    const struct asker own = {.ask = ask_own, .context = work->store};
    struct branch now = {0};
    branch_free(&work->mine);
    branch_free(&work->theirs);
    int rc = ask_branch(work->follower, &work->theirs);
    if (rc == ERR_OK)
        rc = ask_branch(&own, &work->mine);
    bool same_store = rc == ERR_OK && work->mine.store_id == work->theirs.store_id;
    if (same_store)
        rc = fork_doubt_marks(&work->mine, work->follower, &work->theirs);
    if (same_store && rc == ERR_OK)
        rc = fork_doubt_marks(&work->theirs, &own, &work->mine);
    if (rc == ERR_OK)
        rc = fork_find(work->store, work->follower, &work->mine, &work->theirs, &work->fork);
    if (rc == ERR_OK && !work->fork.on_journal)
        rc = ask_branch(work->follower, &now);
    *again = rc == ERR_TRIMMED || (rc == ERR_OK && !work->fork.on_journal &&
                                   !position_equal(now.base, work->theirs.base));
    branch_free(&now);
    return rc;
}

/* A journal that is trimmed meanwhile looks as if the branches had parted earlier. */
static int find_fork(struct taking *work)
{
    bool again = true;
    int rc = ERR_OK;
    for (unsigned tries = 0; again && tries < TAKING_TRIES_MOST; tries++)
        rc = look_at_branches(work, &again);
    return rc == ERR_OK && again ? fail(ERR_BUSY, "the journals are trimmed all the time") : rc;
}

/* Every plan says which store it is of. */
static int name_store(struct tx *tx, void *arg)
{
    struct plan *plan = arg;
    plan->store_id = tx_node(tx)->store_id;
    plan->owner = tx_node(tx)->owner;
    return ERR_OK;
}

static int take(struct taking *work)
{
    bool stranded = false;
    int rc = store_recognise(work->store);
    if (rc == ERR_OK)
        rc = find_fork(work);
    if (rc == ERR_OK)
        rc = check_relation(work);
    if (rc == ERR_OK)
        rc = store_read(work->store, name_store, work->plan);
    if (rc == ERR_OK && work->fork.same_store)
        rc = fork_strands(&work->mine, &work->theirs, &stranded);
    if (rc)
        return rc;
    if (stranded)
        return send_back(work);
    find_apart(work);
    explain(work);
    rc = merge(work);
    if (rc == ERR_OK && !work->options->dry_run)
        rc = repair_sweep(work->store);
    return rc ? rc : store_maintain(work->store, decide, work);
}

int take_in(struct store *store, const struct asker *follower, const struct take_in *options,
            struct plan *plan)
{
    int rc = ERR_DIFFERS;
    *plan = (struct plan){0};
    /* Another follower that is taken in at the same time changes what is the base of this one. */
    for (unsigned tries = 0; rc == ERR_DIFFERS && tries < TAKING_TRIES_MOST; tries++) {
        struct taking work = {
            .store = store, .follower = follower, .options = options, .plan = plan};
        rc = take(&work);
        taking_free(&work);
        if (rc) {
            plan_free(plan);
            *plan = (struct plan){0};
        }
    }
    if (rc == ERR_DIFFERS)
        return fail(ERR_BUSY, "%s", err_message());
    return rc == ERR_END ? fail(ERR_PROTOCOL, "the follower does not know itself") : rc;
}
