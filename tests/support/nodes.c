#include "tests/support/nodes.h"

#include "agent/answer.h"
#include "agent/fork.h"
#include "agent/meanwhile.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "tests/support/clock.h"
#include "tests/support/post.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAP_SIZE (UINT64_C(64) << 20)
#define MIDDAY (INT64_C(1764000000) * 1000000)

static const struct store_options options = {.map_size = MAP_SIZE, .actor = "users"};

void nodes_check(const struct nodes *nodes, bool condition, const char *what)
{
    ORACLE_REQUIRE(&nodes->oracle, condition, "%s", what);
}

#define MUST(nodes, call) nodes_check(nodes, (call) == ERR_OK, #call)

struct dice nodes_dice(const struct nodes *nodes, unsigned step)
{
    struct dice dice = {.state = nodes->run->seed * UINT64_C(0x9e3779b97f4a7c15) + step};
    dice.state = dice_next(&dice);
    return dice;
}

static struct store *store_of(const struct nodes *nodes, unsigned node)
{
    return nodes->oracle.nodes[node].store;
}

static void path_of(const struct nodes *nodes, const char *kind, unsigned node, char path[PATH_MAX])
{
    char name[32];
    snprintf(name, sizeof name, "%s%u", kind, node);
    scratch_path(path, nodes->directory, name);
}

static void open_node(struct nodes *nodes, unsigned node)
{
    char path[PATH_MAX];
    path_of(nodes, "node", node, path);
    MUST(nodes, store_open(path, &options, &nodes->oracle.nodes[node].store));
}

static void close_node(struct nodes *nodes, unsigned node)
{
    store_close(store_of(nodes, node));
    nodes->oracle.nodes[node].store = NULL;
}

void nodes_begin(struct nodes *nodes, const struct seed_run *run, unsigned count)
{
    *nodes = (struct nodes){.run = run, .count = count};
    clock_begin(MIDDAY, run->seed);
    oracle_begin(&nodes->oracle);
    nodes->users = (struct users){
        .oracle = &nodes->oracle, .run = run, .next_message = 1, .boxes_most = ORACLE_BOXES - 8};
    scratch_make(nodes->directory);
    for (unsigned i = 0; i < count; i++) {
        char path[PATH_MAX];
        path_of(nodes, "node", i, path);
        MUST(nodes, store_init(path, i ? ROLE_REPLICA : ROLE_MASTER, NULL, &options));
        open_node(nodes, i);
        oracle_look(&nodes->oracle, i, i ? CAUSE_NONE : CAUSE_USER, NULL);
    }
}

bool nodes_may_write(const struct nodes *nodes, unsigned node)
{
    const struct oracle_node *here = &nodes->oracle.nodes[node];
    return here->role == ROLE_MASTER && here->fence == FENCE_NONE;
}

void nodes_change(struct nodes *nodes, unsigned node, struct dice *dice)
{
    if (nodes_may_write(nodes, node))
        users_change(&nodes->users, node, dice);
}

/* --- passes --- */

/* In place of the agent's: what runs in two threads there comes out as if one had come after the
 * other, and here the seed, not the machine, decides which. */
int meanwhile(int (*own)(void *arg), void *own_arg, int (*asking)(void *arg), void *asking_arg)
{
    static bool own_first;
    own_first = !own_first;
    int early = own_first ? own(own_arg) : ERR_OK;
    int rc = asking(asking_arg);
    int late = own_first || rc ? ERR_OK : own(own_arg);
    return rc ? rc : early ? early : late;
}

struct asked {
    struct store *store;
};

static int ask_directly(void *context, struct bytes question, struct buf *out)
{
    return answer(context, question, out);
}

static unsigned hurt_box(const struct nodes *nodes, unsigned node)
{
    const struct oracle_node *here = &nodes->oracle.nodes[node];
    return here->loss_count ? here->losses[0].box : 0;
}

/* How far a branch that is of `epoch` up to `end` has the entries of another epoch, from which it
 * came; 0: it has none of them. */
static uint64_t reach(const struct branch *known, struct epoch_id epoch, uint64_t end,
                      struct epoch_id of)
{
    while (epoch_compare(epoch, of) != 0) {
        size_t i = 0;
        while (i < known->epoch_count && epoch_compare(known->epochs[i].id, epoch) != 0)
            i++;
        if (i == known->epoch_count)
            return 0;
        end = known->epochs[i].before.modseq;
        epoch = known->epochs[i].parent;
    }
    return end;
}

/* The same of all that it has taken in. */
static uint64_t reach_of_marks(const struct branch *branch, struct epoch_id of)
{
    uint64_t furthest = 0;
    for (size_t i = 0; i < branch->mark_count; i++) {
        const struct mark *mark = &branch->marks[i];
        uint64_t end = mark->taken.chain ? reach(branch, mark->epoch, mark->taken.modseq, of) : 0;
        furthest = furthest < end ? end : furthest;
    }
    return furthest;
}

/* Whether each has, by merges of its own, entries that neither branch came from. */
static bool have_crossed(const struct branch *mine, const struct branch *theirs)
{
    bool crossed = false;
    for (size_t i = 0; i < mine->epoch_count; i++) {
        struct epoch_id id = mine->epochs[i].id;
        uint64_t m = reach_of_marks(mine, id);
        uint64_t r = reach_of_marks(theirs, id);
        uint64_t both = m < r ? m : r;
        crossed |= both > reach(mine, mine->epoch, mine->last.modseq, id) &&
                   both > reach(theirs, theirs->epoch, theirs->last.modseq, id);
    }
    return crossed;
}

/* How the two relate, for the oracle: what is known decides how much a merge can promise. */
static void relate(struct nodes *nodes, struct oracle_pass *pass)
{
    struct store *master = store_of(nodes, pass->master);
    struct store *replica = store_of(nodes, pass->replica);
    const struct asker to_master = {.ask = ask_directly, .context = master};
    const struct asker to_replica = {.ask = ask_directly, .context = replica};
    struct branch mine = {0};
    struct branch theirs = {0};
    struct fork fork = {0};
    MUST(nodes, ask_branch(&to_master, &mine));
    MUST(nodes, ask_branch(&to_replica, &theirs));
    if (mine.store_id == theirs.store_id)
        MUST(nodes, fork_find(master, &to_replica, &mine, &theirs, &fork));
    /* What a third node missed may have been forgotten by the others; and one that was promoted in
     * the midst of a repair comes back as a third node does (docs/MERGE.md, Known limits). */
    bool third = nodes->count > 2 || nodes->forced[pass->master] || nodes->forced[pass->replica];
    pass->unsure =
        !fork.base_known || third || nodes->stale[pass->master] || nodes->stale[pass->replica];
    pass->crossed = have_crossed(&mine, &theirs);
    pass->lenient = nodes->restored || nodes->harmed || nodes->dropped;
    bool here =
        fork.base_known && mine.base.modseq <= fork.bases.master && !nodes->forced[pass->master];
    bool there = fork.base_known && theirs.base.modseq <= fork.bases.replica &&
                 !nodes->forced[pass->replica];
    pass->reaches = here && there;
    pass->untold_master = here ? 0 : hurt_box(nodes, pass->master);
    pass->untold_replica = there ? 0 : hurt_box(nodes, pass->replica);
    branch_free(&mine);
    branch_free(&theirs);
}

struct passing {
    struct nodes *nodes;
    struct oracle_pass pass;
    struct disturbance *disturbance;
    unsigned questions;
    bool disturbed;
};

static void look_at_both(struct passing *work)
{
    oracle_look(&work->nodes->oracle, work->pass.master, CAUSE_PASS, &work->pass);
    oracle_look(&work->nodes->oracle, work->pass.replica, CAUSE_PASS, &work->pass);
}

static void interfere(struct passing *work)
{
    struct nodes *nodes = work->nodes;
    struct dice *dice = &work->disturbance->dice;
    unsigned what = dice_below(dice, 20);
    unsigned node = dice_below(dice, 2) ? work->pass.master : work->pass.replica;
    work->disturbed = true;
    if (what == 0) {
        work->pass.reaches = false;
        work->pass.untold_master = hurt_box(nodes, work->pass.master);
        work->pass.untold_replica = hurt_box(nodes, work->pass.replica);
        nodes_trim(nodes, node, dice);
    } else if (what == 1) {
        nodes_expire(nodes, work->pass.replica);
    } else if (what == 2) {
        nodes_promote(nodes, work->pass.replica);
    } else {
        nodes_change(nodes, node, dice);
    }
}

static int before_question(void *arg)
{
    struct passing *work = arg;
    struct disturbance *disturbance = work->disturbance;
    look_at_both(work);
    if (!disturbance)
        return ERR_OK;
    if (++work->questions == disturbance->cut_at)
        return fail(ERR_PEER, "the connection is gone");
    if (dice_below(&disturbance->dice, 100) < disturbance->users)
        interfere(work);
    return ERR_OK;
}

static int sync_once(struct passing *work, enum sync_tier *tier)
{
    struct nodes *nodes = work->nodes;
    struct sync sync = {.master_name = "master", .asking = before_question, .arg = work};
    int rc =
        sync_stores(store_of(nodes, work->pass.master), store_of(nodes, work->pass.replica), &sync);
    seeds_tell(nodes->run, "    %s: %s, %s%s", err_name(rc), sync_tier_name(sync.tier), sync.reason,
               rc ? err_message() : "");
    free(sync.aside);
    *tier = sync.tier;
    if (sync.waiting && rc == ERR_OK && !nodes->oracle.nodes[work->pass.master].loss_count &&
        !nodes->oracle.nodes[work->pass.replica].loss_count)
        oracle_fail(&nodes->oracle, __FILE__, __LINE__, "a mailbox waits, and none is damaged");
    return rc == ERR_OK && sync.waiting ? ERR_BUSY : rc;
}

static void complain(void *arg, const char *where, const char *what)
{
    printf("node %u: %s: %s\n", *(const unsigned *)arg, where, what);
}

static void prove(struct nodes *nodes, unsigned node)
{
    uint64_t wrong;
    if (nodes->hurt[node])
        nodes_repair(nodes, node);
    nodes->hurt[node] = false;
    MUST(nodes, check_store(store_of(nodes, node), false, complain, &node, &wrong));
    nodes_check(nodes, wrong == 0, "the store is sound");
    /* A record that comes back from a replica that was behind is not what the journal says. */
    if (nodes->harmed)
        return;
    MUST(nodes, check_journal(store_of(nodes, node), complain, &node, &wrong));
    nodes_check(nodes, wrong == 0, "the journal is sound");
}

static int get_digest(struct tx *tx, void *arg)
{
    *(uint64_t *)arg = node_digest(tx_node(tx));
    return ERR_OK;
}

static void check_equal(struct passing *work, const struct oracle_before *before)
{
    struct nodes *nodes = work->nodes;
    const struct oracle_pass *pass = &work->pass;
    const struct oracle_node *m = &nodes->oracle.nodes[pass->master];
    const struct oracle_node *r = &nodes->oracle.nodes[pass->replica];
    enum sync_tier tier;
    uint64_t here, there;
    look_at_both(work);
    oracle_after(&nodes->oracle, pass, before);
    nodes_check(nodes, position_equal(m->last, r->last), "both are at one position");
    MUST(nodes, store_read(m->store, get_digest, &here));
    MUST(nodes, store_read(r->store, get_digest, &there));
    nodes_check(nodes, here == there, "digests are equal");
    if (m->loss_count || r->loss_count)
        return;
    prove(nodes, pass->master);
    prove(nodes, pass->replica);
    MUST(nodes, sync_once(work, &tier));
    nodes_check(nodes, tier == SYNC_NONE, "a second pass has nothing to do");
}

static bool may_fail(const struct passing *work, int rc)
{
    const struct nodes *nodes = work->nodes;
    const struct oracle_node *m = &nodes->oracle.nodes[work->pass.master];
    const struct oracle_node *r = &nodes->oracle.nodes[work->pass.replica];
    bool damaged = m->loss_count || r->loss_count;
    return rc == ERR_REFUSED || rc == ERR_PEER ||
           (damaged && (rc == ERR_BUSY || rc == ERR_CORRUPT));
}

static void end_pass(struct passing *work, enum sync_tier tier)
{
    struct nodes *nodes = work->nodes;
    nodes->passes[tier]++;
    nodes->forced[work->pass.replica] = false;
    nodes->stale[work->pass.replica] = nodes->stale[work->pass.master] = false;
}

int nodes_pass(struct nodes *nodes, unsigned master, unsigned replica,
               struct disturbance *disturbance)
{
    struct passing work = {
        .nodes = nodes,
        .pass = {.master = master, .replica = replica, .discard = nodes->dropped},
        .disturbance = disturbance};
    enum sync_tier tier, again;
    relate(nodes, &work.pass);
    seeds_tell(nodes->run, "  pass from node %u to node %u%s%s", master, replica,
               work.pass.unsure ? ", unsure" : "", work.pass.discard ? ", discarding" : "");
    struct oracle_before *before = oracle_before(&nodes->oracle, &work.pass);
    int rc = sync_once(&work, &tier);
    look_at_both(&work);
    work.disturbance = NULL; /* what proves the pass is cut off by nothing */
    if (rc == ERR_OK && work.disturbed) {
        rc = sync_once(&work, &again);
        look_at_both(&work);
    }
    if (rc == ERR_OK) {
        check_equal(&work, before);
        end_pass(&work, tier);
    } else if (!may_fail(&work, rc)) {
        oracle_fail(&nodes->oracle, __FILE__, __LINE__, "a pass failed: %s", err_name(rc));
    }
    nodes->refused += rc == ERR_REFUSED;
    nodes->cut += rc == ERR_PEER;
    oracle_before_free(before);
    return rc;
}

/* --- what happens to nodes --- */

static int get_discard(struct tx *tx, void *arg)
{
    *(bool *)arg = tx_node(tx)->discard;
    return ERR_OK;
}

static bool discards(const struct nodes *nodes, unsigned node)
{
    bool discard;
    MUST(nodes, store_read(store_of(nodes, node), get_discard, &discard));
    return discard;
}

static void promote(struct nodes *nodes, unsigned node)
{
    seeds_tell(nodes->run, "  node %u is promoted", node);
    int rc = store_promote(store_of(nodes, node), false);
    if (rc == ERR_REFUSED) {
        rc = store_promote(store_of(nodes, node), true);
        nodes->forced[node] |= rc == ERR_OK;
    }
    /* One that has met no master yet cannot be. */
    nodes_check(nodes, rc == ERR_OK || rc == ERR_REFUSED, "promote");
    oracle_look(&nodes->oracle, node, CAUSE_NONE, NULL);
}

/* Whose changes are to be thrown away is not promoted before that is done: it would have it both
 * ways (docs/MERGE.md, known limits). */
void nodes_promote(struct nodes *nodes, unsigned node)
{
    if (!discards(nodes, node))
        promote(nodes, node);
}

void nodes_demote(struct nodes *nodes, unsigned node, bool discard)
{
    seeds_tell(nodes->run, "  node %u is demoted%s", node, discard ? ", discarding" : "");
    MUST(nodes, store_demote(store_of(nodes, node), "master", discard));
    nodes->dropped |= discard;
    oracle_look(&nodes->oracle, node, CAUSE_NONE, NULL);
}

void nodes_restart(struct nodes *nodes, unsigned node)
{
    seeds_tell(nodes->run, "  node %u is restarted", node);
    close_node(nodes, node);
    open_node(nodes, node);
    oracle_look(&nodes->oracle, node, CAUSE_NONE, NULL);
}

void nodes_trim(struct nodes *nodes, unsigned node, struct dice *dice)
{
    struct retained done;
    struct cut cut = {.entries = dice_below(dice, 40),
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    seeds_tell(nodes->run, "  node %u is trimmed to %llu entries", node,
               (unsigned long long)cut.entries);
    MUST(nodes, store_cut(store_of(nodes, node), &cut, false, &done));
    oracle_look(&nodes->oracle, node, CAUSE_NONE, NULL);
}

void nodes_expire(struct nodes *nodes, unsigned node)
{
    uint64_t purged;
    bool change = nodes_may_write(nodes, node);
    if (!change && nodes->oracle.nodes[node].role == ROLE_MASTER)
        return; /* fenced */
    seeds_tell(nodes->run, "  node %u expires", node);
    int rc = store_expire(store_of(nodes, node), 0, 0, &purged);
    nodes_check(nodes,
                rc == ERR_OK || rc == ERR_REFUSED ||
                    (rc == ERR_CORRUPT && nodes->oracle.nodes[node].loss_count),
                "expire");
    oracle_look(&nodes->oracle, node, change ? CAUSE_USER : CAUSE_NONE, NULL);
}

struct harm {
    uint64_t box;
    uint32_t uid;
    bool garble;
};

static int harm(struct tx *tx, void *arg)
{
    const struct harm *harm = arg;
    struct header header;
    int rc = header_get(tx_db(tx), harm->box, &header);
    return rc ? rc : post_hurt(tx, header.number, harm->uid, harm->garble);
}

/* Only what another node holds, too. */
static bool held_elsewhere(const struct nodes *nodes, unsigned node, unsigned box,
                           const struct item *item)
{
    for (unsigned i = 0; i < nodes->count; i++) {
        const struct item *other = listing_find(&nodes->oracle.nodes[i].sights[box].now, item->uid);
        if (i != node && other && other->live && other->message == item->message &&
            !nodes->oracle.nodes[i].loss_count)
            return true;
    }
    return false;
}

void nodes_damage(struct nodes *nodes, unsigned node, struct dice *dice)
{
    struct oracle *oracle = &nodes->oracle;
    unsigned box = dice_below(dice, oracle->box_count);
    const struct listing *now = &oracle->nodes[node].sights[box].now;
    if (!now->there || !now->count)
        return;
    const struct item *item = &now->items[dice_below(dice, (uint32_t)now->count)];
    struct harm work = {
        .box = oracle->boxes[box].id, .uid = item->uid, .garble = dice_below(dice, 2)};
    if (!item->live || oracle->nodes[node].loss_count || !held_elsewhere(nodes, node, box, item))
        return;
    seeds_tell(nodes->run, "  node %u box %u UID %u is %s", node, box, item->uid,
               work.garble ? "garbled" : "lost");
    MUST(nodes, store_maintain(store_of(nodes, node), harm, &work));
    nodes->hurt[node] = nodes->harmed = true;
    oracle_lose(oracle, node, box, item);
    oracle_look(oracle, node, CAUSE_NONE, NULL);
}

void nodes_repair(struct nodes *nodes, unsigned node)
{
    struct check_result result;
    seeds_tell(nodes->run, "  node %u is checked and mended", node);
    MUST(nodes, check_repair(store_of(nodes, node), NULL, NULL, &result));
    oracle_look(&nodes->oracle, node, CAUSE_NONE, NULL);
}

static void data_file(const struct nodes *nodes, unsigned node, char data[PATH_MAX])
{
    char path[PATH_MAX];
    path_of(nodes, "node", node, path);
    scratch_path(data, path, "data.mdb");
}

void nodes_keep_copy(struct nodes *nodes, unsigned node)
{
    char data[PATH_MAX], copy[PATH_MAX];
    seeds_tell(nodes->run, "  node %u is backed up", node);
    if (nodes->oracle.nodes[node].loss_count)
        return;
    data_file(nodes, node, data);
    path_of(nodes, "copy", node, copy);
    close_node(nodes, node);
    scratch_copy_file(data, copy);
    open_node(nodes, node);
    nodes->copied[node] = true;
}

/* What one node lost by damage another one may have lost with its newest commits: nobody could
 * bring that back. */
static bool lost_elsewhere(const struct nodes *nodes, unsigned node)
{
    bool lost = false;
    for (unsigned i = 0; i < nodes->count; i++)
        lost = lost || (i != node && nodes->oracle.nodes[i].loss_count);
    return lost;
}

void nodes_put_back(struct nodes *nodes, unsigned node, bool same_file)
{
    char data[PATH_MAX], copy[PATH_MAX];
    if (!nodes->copied[node] || lost_elsewhere(nodes, node))
        return;
    seeds_tell(nodes->run, "  node %u is restored from a backup%s", node,
               same_file ? ", in place" : "");
    data_file(nodes, node, data);
    path_of(nodes, "copy", node, copy);
    close_node(nodes, node);
    if (!same_file)
        unlink(data);
    scratch_copy_file(copy, data);
    open_node(nodes, node);
    nodes->stale[node] = nodes->restored = true;
    oracle_look(&nodes->oracle, node, CAUSE_RESTORE, NULL);
}

/* --- the end --- */

/* A later master is met now and then: then this one is promoted above it. */
static void converge(struct nodes *nodes, unsigned master, unsigned node, bool must)
{
    int rc = ERR_AGAIN;
    for (unsigned tries = 0; rc && tries < 4; tries++) {
        if (nodes->oracle.nodes[master].role != ROLE_MASTER ||
            nodes->oracle.nodes[master].fence != FENCE_NONE)
            promote(nodes, master);
        if (nodes->oracle.nodes[node].role == ROLE_MASTER)
            nodes_demote(nodes, node, false);
        if (nodes->oracle.nodes[master].loss_count)
            nodes_repair(nodes, master);
        if (nodes->oracle.nodes[node].loss_count)
            nodes_repair(nodes, node);
        rc = nodes_pass(nodes, master, node, NULL);
    }
    nodes_check(nodes, rc == ERR_OK || !must, "two nodes become equal in the end");
}

void nodes_end(struct nodes *nodes)
{
    struct oracle *oracle = &nodes->oracle;
    unsigned master = (unsigned)(nodes->run->seed % nodes->count);
    oracle->moment = "the end";
    if (discards(nodes, master))
        master = (master + 1) % nodes->count;
    if (nodes->oracle.nodes[master].last.modseq == 0)
        master = 0;
    /* In the first round only another node may have what was lost. */
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < nodes->count; i++)
            if (i != master)
                converge(nodes, master, i, round > 0);
    for (unsigned i = 0; i < nodes->count; i++)
        nodes_check(nodes, !oracle->nodes[i].loss_count, "what was damaged has come back");
    for (unsigned i = 0; i < nodes->count; i++)
        close_node(nodes, i);
    oracle_end(oracle);
    scratch_remove(nodes->directory);
}
