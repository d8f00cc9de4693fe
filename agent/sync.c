#include "agent/sync.h"

#include "agent/answer.h"
#include "agent/feeder.h"
#include "agent/fork.h"
#include "agent/heal.h"
#include "agent/receiver.h"
#include "agent/take_in.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"
#include "mailbox/lacking.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS_MOST 4u /* of repair: tailing may find damage */
#define FILL_SIZE (256u << 10)

const char *sync_tier_name(enum sync_tier tier)
{
    static const char *const names[] = {
        [SYNC_NONE] = "none", [SYNC_TAIL] = "tail", [SYNC_MERGE] = "merge"};
    return names[tier];
}

/* One end as the other sees it. */
struct end {
    struct store *store;
    struct sync *sync;
    int (*answer)(struct store *store, struct bytes question, struct buf *out);
};

static int ask_end(void *context, struct bytes question, struct buf *out)
{
    struct end *end = context;
    struct sync *sync = end->sync;
    int rc = sync->asking ? sync->asking(sync->arg) : ERR_OK;
    if (rc == ERR_OK)
        rc = end->answer(end->store, question, out);
    sync->wire_bytes += question.size + out->size + 2u * FRAME_HEADER_SIZE;
    return rc;
}

struct facts_of_end {
    struct node node;
    struct position last;
    bool stops;
    uint64_t lacking; /* pieces of content */
};

static int look(struct tx *tx, void *arg)
{
    struct facts_of_end *facts = arg;
    facts->node = *tx_node(tx);
    facts->last = tx_window(tx)->last;
    int rc = stop_any(tx_db(tx), &facts->stops);
    return rc ? rc : lacking_count(tx_db(tx), &facts->lacking);
}

static int later_epoch(const struct branch *branch, struct epoch_id id)
{
    bool known = false;
    struct epoch_id highest = {0};
    for (size_t i = 0; i < branch->epoch_count; i++) {
        known = known || epoch_compare(branch->epochs[i].id, id) == 0;
        if (epoch_compare(branch->epochs[i].id, highest) > 0)
            highest = branch->epochs[i].id;
    }
    return !known && epoch_compare(id, highest) > 0;
}

/* Two masters of one store meet: the one of the earlier epoch stops. */
static int two_masters(struct store *master, struct store *replica, const struct branch *mine,
                       const struct branch *theirs)
{
    bool mine_is_later = later_epoch(theirs, mine->epoch);
    struct store *fenced = mine_is_later ? replica : master;
    if (mine->store_id != theirs->store_id || epoch_compare(mine->epoch, theirs->epoch) == 0)
        return fail(ERR_REFUSED, "%s: a master follows nobody (demote makes it a replica)",
                    store_path(replica));
    int rc = store_fence(fenced, FENCE_EPOCH, (mine_is_later ? mine : theirs)->epoch.number);
    return rc ? rc
              : fail(ERR_REFUSED,
                     "%s: fenced: it was the master of an earlier epoch than %s: demote "
                     "it to have its changes merged",
                     store_path(fenced), store_path(fenced == replica ? master : replica));
}

static int check_roles(struct end *master, struct end *replica)
{
    const struct asker source = {.ask = ask_end, .context = master};
    const struct asker target = {.ask = ask_end, .context = replica};
    struct branch mine = {0};
    struct branch theirs = {0};
    int rc = ask_branch(&source, &mine);
    if (rc == ERR_OK)
        rc = ask_branch(&target, &theirs);
    if (rc == ERR_OK && mine.store_id == 0)
        rc = fail(ERR_REFUSED, "%s: it has met no master yet", store_path(master->store));
    if (rc == ERR_OK && mine.node_id == theirs.node_id)
        rc = fail(ERR_REFUSED, "%s: a node cannot follow itself", store_path(master->store));
    if (rc == ERR_OK && theirs.role == ROLE_MASTER)
        rc = two_masters(master->store, replica->store, &mine, &theirs);
    branch_free(&mine);
    branch_free(&theirs);
    return rc;
}

/* Adds a line's figures, and tells of it. */
static void add_line(struct sync *sync, const struct sync_line *line)
{
    sync->sent += line->sent;
    sync->expunged += line->expunged;
    sync->renumbered += line->renumbered;
    sync->copied_back += line->copied_back;
    sync->waiting = sync->waiting || !line->done;
    if (sync->line)
        sync->line(sync->arg, line);
}

/* A mailbox that was made equal, together with what the master had taken in of it. */
static void add_equal(struct sync *sync, const struct plan *plan, const struct equal_line *equal)
{
    const struct plan_line *taken = plan_find(plan, equal->mailbox);
    struct sync_line line = {.mailbox = equal->name,
                             .reason = equal->reason,
                             .sent = equal->records,
                             .expunged = taken ? taken->expunged : equal->expunged,
                             .renumbered = taken ? taken->renumbered : 0,
                             .copied_back = taken ? taken->copied_back : 0,
                             .done = equal->done};
    add_line(sync, &line);
}

struct telling {
    struct sync *sync;
    const struct plan *plan;
    uint64_t *told; /* of the plan's lines */
};

static void tell_equal(void *arg, const struct equal_line *equal)
{
    struct telling *telling = arg;
    const struct plan_line *taken = plan_find(telling->plan, equal->mailbox);
    if (taken)
        telling->told[taken - telling->plan->lines] = 1;
    add_equal(telling->sync, telling->plan, equal);
}

/* What the master took in of mailboxes that the replica has nothing to fetch of. */
static void tell_rest(struct telling *telling)
{
    for (size_t i = 0; i < telling->plan->line_count; i++) {
        const struct plan_line *taken = &telling->plan->lines[i];
        struct sync_line line = {.mailbox = taken->name,
                                 .reason = telling->plan->reason,
                                 .expunged = taken->expunged,
                                 .renumbered = taken->renumbered,
                                 .copied_back = taken->copied_back,
                                 .done = true};
        if (telling->told[i])
            continue;
        add_line(telling->sync, &line);
    }
}

/* What the master would take in. */
static void tell_dry_run(struct sync *sync, const struct plan *plan)
{
    if (sync->action)
        plan_each_action(plan, sync->action, sync->arg);
    sync->more_actions = plan->more_actions;
    for (size_t i = 0; i < plan->line_count; i++) {
        sync->renumbered += plan->lines[i].renumbered;
        sync->copied_back += plan->lines[i].copied_back;
        sync->expunged += plan->lines[i].expunged;
    }
}

int sync_carry_out(struct sync *sync, struct store *replica, const struct asker *master,
                   const struct plan *plan)
{
    struct telling telling = {.sync = sync, .plan = plan};
    struct equal_report report = {.mailbox = tell_equal, .arg = &telling};
    if (!*sync->reason)
        snprintf(sync->reason, sizeof sync->reason, "%s", plan->reason);
    if (sync->dry_run) {
        tell_dry_run(sync, plan);
        return ERR_OK;
    }
    telling.told = calloc(plan->line_count + 1, sizeof *telling.told);
    if (!telling.told)
        return fail(ERR_NOMEM, "out of memory");
    int rc = make_equal(replica, master, plan, &report);
    if (report.aside) {
        free(sync->aside);
        sync->aside = report.aside;
    }
    if (rc == ERR_OK)
        tell_rest(&telling);
    free(telling.told);
    return rc;
}

static int repair_once(struct end *master, struct end *replica, const struct facts_of_end *there,
                       bool *again)
{
    struct sync *sync = master->sync;
    const struct asker source = {.ask = ask_end, .context = master};
    const struct asker target = {.ask = ask_end, .context = replica};
    char name[SLOT_NAME_SIZE];
    snprintf(name, sizeof name, "%016llx", (unsigned long long)there->node.node_id);
    struct take_in options = {.slot = name,
                              .adopt = sync->adopt,
                              .dry_run = sync->dry_run,
                              .report = sync->action,
                              .arg = sync->arg};
    struct plan plan;
    int rc = take_in(master->store, &target, &options, &plan);
    if (rc)
        return rc;
    *again = plan.kind == PLAN_GIVE_UP && !sync->dry_run;
    sync->tier = SYNC_MERGE;
    rc = sync_carry_out(sync, replica->store, &source, &plan);
    plan_free(&plan);
    return rc;
}

/* A replica that had to give up another repair first comes again. */
static int repair(struct end *master, struct end *replica, const struct facts_of_end *there)
{
    bool again = false;
    int rc = repair_once(master, replica, there, &again);
    return rc == ERR_OK && again ? repair_once(master, replica, there, &again) : rc;
}

struct tail {
    struct feeder *feeder;
    struct receiver *receiver;
    struct store *replica;
    struct sync *sync;
    struct buf frames;
};

/* Everything that the feeder has now. */
static int drain(struct tail *tail)
{
    bool all = false;
    int rc = ERR_OK;
    while (rc == ERR_OK && !all) {
        struct taken taken = {0};
        buf_reset(&tail->frames);
        rc = feeder_fill(tail->feeder, FILL_SIZE, &tail->frames, &all);
        tail->sync->wire_bytes += tail->frames.size;
        if (rc == ERR_OK && tail->frames.size)
            rc = receiver_take(tail->receiver, buf_view(&tail->frames), &taken);
        if (taken.applied.modseq)
            store_wake_agent(tail->replica, WAKE_CHANGED);
        if (rc == ERR_OK && tail->frames.size && taken.missed.size)
            rc = feeder_want(tail->feeder, taken.missed);
    }
    return rc;
}

/* Content that records at the replica refer to and that it has not got. */
static int fetch_missing(struct tail *tail)
{
    bool all = false;
    int rc = ERR_OK;
    while (rc == ERR_OK && !all) {
        struct bytes missing;
        rc = receiver_look(tail->receiver, &missing, &all);
        if (rc || !missing.size)
            continue;
        rc = feeder_want(tail->feeder, missing);
        if (rc == ERR_OK)
            rc = drain(tail);
    }
    return rc;
}

static int follow(struct end *master, struct end *replica)
{
    struct sync *sync = master->sync;
    struct tail tail = {.sync = sync, .replica = replica->store};
    struct hello hello;
    struct verdict verdict;
    int rc = receiver_open(replica->store, sync->master_name, NULL, &tail.receiver);
    if (rc == ERR_OK)
        rc = receiver_hello(tail.receiver, &hello);
    if (rc == ERR_OK)
        feeder_check(master->store, &hello, (struct tried){.repair = true, .heal = true}, &verdict);
    if (rc == ERR_OK && verdict.judgement != JUDGE_WELCOME)
        rc = fail(ERR_REFUSED, "%s", verdict.text);
    if (rc == ERR_OK)
        rc = feeder_open(master->store, &hello, &verdict, &tail.feeder);
    if (rc == ERR_OK) {
        receiver_welcome(tail.receiver, &verdict.welcome);
        rc = drain(&tail);
    }
    if (rc == ERR_OK)
        rc = fetch_missing(&tail);
    feeder_close(tail.feeder);
    receiver_close(tail.receiver);
    buf_free(&tail.frames);
    return rc;
}

struct remembering {
    struct slot slot;
};

static int remember(struct tx *tx, void *arg)
{
    const struct slot *slot = arg;
    struct slot known;
    int rc = slot_get(tx_db(tx), slot->name, &known);
    if (rc == ERR_OK && position_equal(known.position, slot->position) && !known.connected)
        return ERR_END;
    return rc && rc != ERR_END ? rc : slot_put(tx_db(tx), slot);
}

/* The master remembers how far the replica is. */
static int remember_slot(struct end *master, const struct facts_of_end *there)
{
    struct slot slot = {.position = there->last, .time = times_now()};
    snprintf(slot.name, sizeof slot.name, "%016llx", (unsigned long long)there->node.node_id);
    int rc = store_maintain(master->store, remember, &slot);
    return rc == ERR_END ? ERR_OK : rc;
}

static bool is_equal(const struct facts_of_end *here, const struct facts_of_end *there)
{
    return here->node.store_id == there->node.store_id && position_equal(here->last, there->last) &&
           !here->stops && !there->stops && node_digest(&here->node) == node_digest(&there->node);
}

static int look_at_both(struct end *master, struct end *replica, struct facts_of_end *here,
                        struct facts_of_end *there)
{
    int rc = store_read(master->store, look, here);
    return rc ? rc : store_read(replica->store, look, there);
}

struct holding {
    struct position position;
    bool holds;
};

static int holds(struct tx *tx, void *arg)
{
    struct holding *work = arg;
    int rc = journal_holds(tx_db(tx), work->position);
    work->holds = rc == ERR_OK;
    return rc == ERR_END || rc == ERR_TRIMMED ? ERR_OK : rc;
}

/* Whether following the journal is enough. */
static int can_tail(struct end *master, const struct facts_of_end *here,
                    const struct facts_of_end *there, bool *tail)
{
    struct holding work = {.position = there->last};
    *tail = false;
    bool differs = position_equal(here->last, there->last) &&
                   node_digest(&here->node) != node_digest(&there->node);
    if (here->stops || there->stops || differs ||
        (there->node.store_id && there->node.store_id != here->node.store_id))
        return ERR_OK;
    if (there->node.store_id == 0)
        work.position = (struct position){.chain = entry_chain_start(here->node.store_id)};
    int rc = store_read(master->store, holds, &work);
    *tail = work.holds;
    return rc;
}

static int one_round(struct end *master, struct end *replica, struct facts_of_end *here,
                     struct facts_of_end *there)
{
    struct sync *sync = master->sync;
    bool tail;
    uint64_t before = there->last.modseq;
    int rc = can_tail(master, here, there, &tail);
    if (rc == ERR_OK && !tail)
        rc = repair(master, replica, there);
    if (rc || sync->dry_run) {
        if (rc == ERR_OK && tail)
            sync->tier = SYNC_TAIL;
        return rc;
    }
    if (tail && sync->tier == SYNC_NONE)
        sync->tier = SYNC_TAIL;
    rc = follow(master, replica);
    if (rc == ERR_OK)
        rc = look_at_both(master, replica, here, there);
    if (rc == ERR_OK && tail)
        sync->sent += there->last.modseq - before;
    return rc;
}

/* Content that damage took at one end, and the other may have. */
static int heal_both(struct end *master, struct end *replica, const struct facts_of_end *here,
                     const struct facts_of_end *there)
{
    const struct asker source = {.ask = ask_end, .context = master};
    const struct asker target = {.ask = ask_end, .context = replica};
    struct healed healed;
    if (master->sync->dry_run || here->node.store_id != there->node.store_id)
        return ERR_OK;
    int rc = here->lacking ? heal(master->store, &target, &healed) : ERR_OK;
    return rc == ERR_OK && there->lacking ? heal(replica->store, &source, &healed) : rc;
}

static int run(struct end *master, struct end *replica)
{
    struct sync *sync = master->sync;
    struct facts_of_end here = {0};
    struct facts_of_end there = {0};
    int rc = store_recognise(master->store);
    if (rc == ERR_OK)
        rc = look_at_both(master, replica, &here, &there);
    if (rc == ERR_OK && (there.node.role == ROLE_MASTER || !is_equal(&here, &there)))
        rc = check_roles(master, replica);
    if (rc == ERR_OK)
        rc = heal_both(master, replica, &here, &there);
    for (unsigned round = 0; rc == ERR_OK && !is_equal(&here, &there) && round < ROUNDS_MOST;
         round++) {
        bool waiting = sync->waiting;
        sync->waiting = false;
        rc = one_round(master, replica, &here, &there);
        if (sync->dry_run || (!here.stops && !there.stops) || (waiting && sync->waiting))
            break;
    }
    sync->position = there.last;
    sync->waiting = sync->waiting || there.stops;
    if (rc == ERR_OK && !sync->dry_run && !there.stops)
        rc = remember_slot(master, &there);
    return rc;
}

int sync_stores(struct store *master, struct store *replica, struct sync *sync)
{
    struct end source = {.store = master, .sync = sync, .answer = answer_follower};
    struct end target = {.store = replica, .sync = sync, .answer = answer};
    sync->tier = SYNC_NONE;
    sync->reason[0] = '\0';
    sync->aside = NULL;
    return run(&source, &target);
}
