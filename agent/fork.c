/* Four ways to know, the surest first: both journals hold the position: it is found by bisection;
 * the trees of epochs say where the branches part; a slot remembers a position that the follower
 * had acknowledged; or a mark says that a merge has taken the follower's branch in up to a
 * position.
 */
#include "agent/fork.h"

#include "base/err.h"
#include "journal/slots.h"

#include <stdlib.h>
#include <string.h>

#define PROBES 64u /* positions in one question */

/* A branch's epochs from the root to its tip. */
struct path {
    const struct epoch **epochs;
    size_t count;
};

static const struct epoch *find_epoch(const struct branch *branch, struct epoch_id id)
{
    for (size_t i = 0; i < branch->epoch_count; i++)
        if (epoch_compare(branch->epochs[i].id, id) == 0)
            return &branch->epochs[i];
    return NULL;
}

static int path_of(const struct branch *branch, struct path *path)
{
    const struct epoch *epoch = find_epoch(branch, branch->epoch);
    *path = (struct path){.epochs = calloc(branch->epoch_count + 1, sizeof(const struct epoch *))};
    if (!path->epochs)
        return fail(ERR_NOMEM, "out of memory");
    /* A parent's number is below its child's: this ends. */
    for (; epoch; epoch = find_epoch(branch, epoch->parent))
        path->epochs[path->count++] = epoch;
    for (size_t i = 0; i < path->count / 2; i++) {
        const struct epoch *swap = path->epochs[i];
        path->epochs[i] = path->epochs[path->count - 1 - i];
        path->epochs[path->count - 1 - i] = swap;
    }
    return ERR_OK;
}

struct epoch_id fork_epoch_at(const struct branch *branch, uint64_t modseq)
{
    struct epoch_id id = {0};
    const struct epoch *epoch = find_epoch(branch, branch->epoch);
    for (; epoch; epoch = find_epoch(branch, epoch->parent)) {
        id = epoch->id;
        if (epoch->first <= modseq)
            break;
    }
    return id;
}

struct probing {
    uint64_t low;  /* both hold it, and it is the same */
    uint64_t high; /* the same, or not, or beyond */
    uint64_t modseqs[PROBES];
    struct position own[PROBES];
    size_t count;
};

/* Ends of commits that are held here, between low and high. */
static int choose_probes(struct tx *tx, void *arg)
{
    struct probing *work = arg;
    uint64_t step = (work->high - work->low) / PROBES + 1;
    uint64_t last = work->low;
    work->count = 0;
    for (uint64_t at = work->low + step; work->count < PROBES && last < work->high; at += step) {
        struct entry entry;
        uint64_t rounded;
        if (at > work->high)
            at = work->high;
        int rc = journal_round_down(tx_db(tx), at, &rounded);
        if (rc == ERR_OK && rounded > last) {
            rc = journal_get(tx_db(tx), rounded, &entry, NULL);
            if (rc == ERR_OK) {
                work->modseqs[work->count] = rounded;
                work->own[work->count++] =
                    (struct position){.modseq = rounded, .chain = entry.chain};
                last = rounded;
            }
        }
        if (rc)
            return rc;
        if (at == work->high)
            break;
    }
    return ERR_OK;
}

/* The last common position, when `low` is one. */
static int bisect(struct store *store, const struct asker *follower, struct position low,
                  uint64_t high, struct position *common)
{
    struct probing work = {.low = low.modseq, .high = high};
    *common = low;
    while (work.low < work.high) {
        struct position theirs[PROBES];
        size_t same = 0;
        int rc = store_read(store, choose_probes, &work);
        if (rc || !work.count)
            return rc;
        rc = ask_chains(follower, work.modseqs, work.count, theirs);
        if (rc)
            return rc;
        while (same < work.count && position_equal(theirs[same], work.own[same]))
            same++;
        if (same)
            *common = work.own[same - 1];
        work.low = common->modseq;
        if (same < work.count)
            work.high = work.modseqs[same] - 1;
        else if (work.modseqs[same - 1] == work.high || work.count < PROBES)
            return ERR_OK;
    }
    return ERR_OK;
}

struct holding {
    struct position position;
    bool holds;
    bool trimmed;
};

static int look_for(struct tx *tx, void *arg)
{
    struct holding *work = arg;
    int rc = journal_holds(tx_db(tx), work->position);
    work->holds = rc == ERR_OK;
    work->trimmed = rc == ERR_TRIMMED;
    return rc == ERR_END || rc == ERR_TRIMMED ? ERR_OK : rc;
}

struct chain_at {
    uint64_t modseq;
    struct position position;
};

static int get_chain(struct tx *tx, void *arg)
{
    struct chain_at *work = arg;
    struct entry entry;
    const struct journal_window *window = tx_window(tx);
    work->position = window->base;
    if (work->modseq == window->base.modseq)
        return ERR_OK;
    uint64_t rounded;
    int rc = journal_round_down(tx_db(tx), work->modseq, &rounded);
    if (rc || rounded == window->base.modseq)
        return rc;
    rc = journal_get(tx_db(tx), rounded, &entry, NULL);
    work->position = (struct position){.modseq = rounded, .chain = entry.chain};
    return rc;
}

/* By the journals, where both windows reach. */
static int find_on_journals(struct store *store, const struct asker *follower,
                            const struct branch *mine, const struct branch *theirs,
                            struct fork *fork)
{
    uint64_t low =
        mine->base.modseq > theirs->base.modseq ? mine->base.modseq : theirs->base.modseq;
    uint64_t high =
        mine->last.modseq < theirs->last.modseq ? mine->last.modseq : theirs->last.modseq;
    struct chain_at here = {.modseq = low};
    struct position there;
    if (low > high)
        return ERR_OK;
    int rc = store_read(store, get_chain, &here);
    if (rc == ERR_OK)
        rc = ask_chains(follower, &here.position.modseq, 1, &there);
    if (rc || !position_equal(here.position, there))
        return rc;
    fork->common_known = true;
    return bisect(store, follower, here.position, high, &fork->common);
}

struct slots {
    struct position best;
    struct position *all;
    size_t count;
};

static int collect_slots(struct tx *tx, void *arg)
{
    struct slots *slots = arg;
    struct slot slot = {0};
    int rc;
    slots->count = 0;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK) {
        struct position *all = realloc(slots->all, (slots->count + 1) * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        slots->all = all;
        all[slots->count++] = slot.position;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* A position that some follower acknowledged, and that this one has, too. */
static int find_by_slots(struct store *store, const struct asker *follower,
                         const struct branch *theirs, struct fork *fork)
{
    struct slots slots = {0};
    int rc = store_read(store, collect_slots, &slots);
    for (size_t i = 0; rc == ERR_OK && i < slots.count; i++) {
        struct position there = theirs->last;
        if (slots.all[i].modseq > theirs->last.modseq ||
            (fork->common_known && slots.all[i].modseq <= fork->common.modseq))
            continue;
        if (slots.all[i].modseq != there.modseq)
            rc = ask_chains(follower, &slots.all[i].modseq, 1, &there);
        if (rc == ERR_OK && position_equal(there, slots.all[i])) {
            fork->common_known = true;
            fork->common = there;
        }
    }
    free(slots.all);
    return rc;
}

static struct position lower(struct position a, struct position b)
{
    return a.modseq < b.modseq ? a : b;
}

/* By the trees. An epoch that goes on at both proves nothing about where its entries end. */
static int find_by_epochs(struct store *store, const struct asker *follower,
                          const struct branch *mine, const struct branch *theirs,
                          const struct path *here, const struct path *there, struct fork *fork)
{
    size_t shared = 0;
    while (shared < here->count && shared < there->count &&
           epoch_compare(here->epochs[shared]->id, there->epochs[shared]->id) == 0)
        shared++;
    if (shared == 0)
        return ERR_OK;
    bool closed_here = shared < here->count;
    bool closed_there = shared < there->count;
    if (!closed_here && !closed_there)
        return find_by_slots(store, follower, theirs, fork);
    fork->common_known = true;
    fork->common = lower(closed_here ? here->epochs[shared]->before : mine->last,
                         closed_there ? there->epochs[shared]->before : theirs->last);
    return ERR_OK;
}

/* How far a mark reaches along another's branch; 0: it is about a third one. */
static uint64_t reach(const struct mark *mark, const struct branch *other, const struct path *path)
{
    for (size_t i = 0; i < path->count; i++) {
        if (epoch_compare(path->epochs[i]->id, mark->epoch) != 0)
            continue;
        uint64_t end =
            i + 1 < path->count ? path->epochs[i + 1]->before.modseq : other->last.modseq;
        return mark->taken.modseq < end ? mark->taken.modseq : end;
    }
    return 0;
}

static bool concerns(const struct mark *mark, uint64_t mailbox)
{
    return mark->mailbox == 0 || mark->mailbox == mailbox;
}

/* What `here` took in of the branch of `other`: its mark is then the base here, and up to where it
 * took that in is the base there. The mark that reaches furthest counts, of two the first. Bases
 * that are there already must not become worse. */
static void take_marks(const struct branch *here, const struct branch *other,
                       const struct path *path, uint64_t mailbox, uint64_t *base_here,
                       uint64_t *base_other)
{
    uint64_t least = *base_here;
    bool equal_is_better = *base_here != *base_other;
    for (size_t i = 0; i < here->mark_count; i++) {
        const struct mark *mark = &here->marks[i];
        uint64_t taken = concerns(mark, mailbox) ? reach(mark, other, path) : 0;
        if (taken == 0 || mark->modseq <= least || taken < *base_other ||
            (taken == *base_other && !equal_is_better))
            continue;
        equal_is_better = false;
        *base_other = taken;
        *base_here = mark->modseq;
    }
}

static bool has_merged(const struct branch *branch, uint64_t mailbox, uint64_t base)
{
    for (size_t i = 0; i < branch->mark_count; i++)
        if (concerns(&branch->marks[i], mailbox) && branch->marks[i].modseq > base)
            return true;
    return false;
}

static void find_bases(const struct fork *fork, const struct branch *mine,
                       const struct branch *theirs, const struct path *here,
                       const struct path *there, uint64_t mailbox, struct fork_bases *bases)
{
    bases->master = fork->common_known ? fork->common.modseq : 0;
    bases->replica = bases->master;
    take_marks(mine, theirs, there, mailbox, &bases->master, &bases->replica);
    bases->since = bases->replica;
    take_marks(theirs, mine, here, mailbox, &bases->replica, &bases->master);
    bases->master_merged = has_merged(mine, mailbox, bases->master);
    bases->replica_merged = has_merged(theirs, mailbox, bases->replica);
}

int fork_bases(const struct fork *fork, const struct branch *mine, const struct branch *theirs,
               uint64_t mailbox, struct fork_bases *bases)
{
    struct path here = {0};
    struct path there = {0};
    int rc = path_of(mine, &here);
    if (rc == ERR_OK)
        rc = path_of(theirs, &there);
    if (rc == ERR_OK)
        find_bases(fork, mine, theirs, &here, &there, mailbox, bases);
    free(here.epochs);
    free(there.epochs);
    return rc;
}

/* Whether the follower knows a later epoch of somebody else's, who must be the master then. */
static bool is_later(const struct branch *mine, const struct branch *theirs)
{
    struct epoch_id highest = {0};
    for (size_t i = 0; i < mine->epoch_count; i++)
        if (epoch_compare(mine->epochs[i].id, highest) > 0)
            highest = mine->epochs[i].id;
    return epoch_compare(theirs->epoch, highest) > 0 && theirs->epoch.node != theirs->node_id;
}

static int find_parting(struct store *store, const struct asker *follower,
                        const struct branch *mine, const struct branch *theirs, struct fork *fork)
{
    struct path here = {0};
    struct path there = {0};
    int rc = path_of(mine, &here);
    if (rc == ERR_OK)
        rc = path_of(theirs, &there);
    if (rc == ERR_OK)
        rc = find_on_journals(store, follower, mine, theirs, fork);
    if (rc == ERR_OK && !fork->common_known)
        rc = find_by_epochs(store, follower, mine, theirs, &here, &there, fork);
    if (rc == ERR_OK)
        find_bases(fork, mine, theirs, &here, &there, 0, &fork->bases);
    fork->base_known = fork->common_known || fork->bases.replica > 0;
    fork->taken = fork->base_known && fork->bases.since >= theirs->last.modseq;
    free(here.epochs);
    free(there.epochs);
    return rc;
}

int fork_find(struct store *store, const struct asker *follower, const struct branch *mine,
              const struct branch *theirs, struct fork *fork)
{
    struct holding holding = {.position = theirs->last};
    *fork = (struct fork){.same_store = mine->store_id == theirs->store_id};
    if (!fork->same_store)
        return ERR_OK;
    int rc = store_read(store, look_for, &holding);
    if (rc)
        return rc;
    fork->on_journal = holding.holds;
    if (holding.holds) {
        fork->common_known = fork->base_known = true;
        fork->common = theirs->last;
        fork->bases = (struct fork_bases){.master = theirs->last.modseq,
                                          .replica = theirs->last.modseq,
                                          .since = theirs->last.modseq};
        return ERR_OK;
    }
    fork->later = is_later(mine, theirs);
    fork->behind =
        epoch_compare(mine->epoch, theirs->epoch) == 0 && theirs->last.modseq > mine->last.modseq;
    return find_parting(store, follower, mine, theirs, fork);
}
