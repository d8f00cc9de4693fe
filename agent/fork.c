/* Four ways to know, the surest first: both journals hold the position: it is found by bisection;
 * the trees of epochs say where the branches part; a slot remembers a position that the follower
 * had acknowledged; or a mark says that a merge has taken the follower's branch in up to a
 * position.
 */
#include "agent/fork.h"

#include "base/array.h"
#include "base/err.h"
#include "journal/slots.h"

#include <stdlib.h>
#include <string.h>

#define PROBES 64u /* positions in one question */

#define NO_MAILBOX UINT64_MAX /* the path of the journal itself */

/* A branch's epochs from the root to its tip. */
struct path {
    struct epoch *epochs;
    size_t count;
    struct position end;
    bool apart; /* a mailbox's, which is not the journal's: a repair was given up on the way */
    bool cut;   /* the same, and what came before that is not known any more */
};

static const struct epoch *find_epoch(const struct branch *branch, struct epoch_id id)
{
    for (size_t i = 0; i < branch->epoch_count; i++)
        if (epoch_compare(branch->epochs[i].id, id) == 0)
            return &branch->epochs[i];
    return NULL;
}

/* Whether the mark tells what a mailbox began this epoch of its branch's journal with. */
static bool is_start(const struct mark *mark, const struct epoch *epoch)
{
    return mark->modseq == epoch->first && mark->taken.chain == 0 && mark->mailbox != MARK_EPOCH;
}

/* What the mailbox began this epoch with, when that is not where its parent ended
 * (journal/epoch.h). */
static const struct mark *find_start(const struct branch *branch, const struct epoch *epoch,
                                     uint64_t mailbox)
{
    for (size_t i = 0; mailbox != NO_MAILBOX && i < branch->mark_count; i++) {
        const struct mark *mark = &branch->marks[i];
        if (is_start(mark, epoch) && mark->mailbox == mailbox)
            return mark;
    }
    return NULL;
}

bool fork_on_journal(const struct branch *branch, struct epoch_id id)
{
    const struct epoch *at = find_epoch(branch, branch->epoch);
    while (at && epoch_compare(at->id, id) > 0 && epoch_compare(at->parent, at->id) < 0)
        at = find_epoch(branch, at->parent);
    return at && epoch_compare(at->id, id) == 0;
}

static struct epoch as_mailbox_has_it(const struct branch *branch, const struct epoch *epoch,
                                      uint64_t mailbox, bool *apart)
{
    struct epoch here = *epoch;
    const struct mark *start = find_start(branch, epoch, mailbox);
    /* Entries of another branch may have the same modseqs. */
    if (start && fork_on_journal(branch, epoch->id)) {
        here.parent = start->epoch;
        here.before = start->taken;
        *apart = true;
    }
    return here;
}

/* Of an epoch of another branch that began when a repair was given up, all that is known is that
 * its mailboxes need not go on where its parent ended. */
static bool begins_anew(const struct branch *branch, const struct epoch *epoch)
{
    for (size_t i = 0; i < branch->mark_count; i++) {
        const struct mark *mark = &branch->marks[i];
        if (mark->mailbox == MARK_EPOCH && mark->taken.modseq == epoch->first &&
            epoch_compare(mark->epoch, epoch->id) == 0)
            return !fork_on_journal(branch, epoch->id);
    }
    return false;
}

static int path_from(const struct branch *branch, struct epoch_id tip, struct position end,
                     uint64_t mailbox, struct path *path)
{
    const struct epoch *epoch = find_epoch(branch, tip);
    *path =
        (struct path){.epochs = calloc(branch->epoch_count + 1, sizeof *path->epochs), .end = end};
    if (!path->epochs)
        return fail(ERR_NOMEM, "out of memory");
    while (epoch) {
        struct epoch *here = &path->epochs[path->count++];
        *here = as_mailbox_has_it(branch, epoch, mailbox, &path->apart);
        path->cut = mailbox != NO_MAILBOX && begins_anew(branch, epoch);
        if (path->cut)
            break;
        /* A parent is below its child: this ends. */
        epoch = epoch_compare(here->parent, here->id) < 0 ? find_epoch(branch, here->parent) : NULL;
    }
    for (size_t i = 0; i < path->count / 2; i++) {
        struct epoch swap = path->epochs[i];
        path->epochs[i] = path->epochs[path->count - 1 - i];
        path->epochs[path->count - 1 - i] = swap;
    }
    return ERR_OK;
}

static int path_of(const struct branch *branch, uint64_t mailbox, struct path *path)
{
    return path_from(branch, branch->epoch, branch->last, mailbox, path);
}

/* A master that lost commits without noticing may open an epoch of one name twice. */
static bool same_epoch(const struct epoch *a, const struct epoch *b)
{
    return epoch_compare(a->id, b->id) == 0 && a->first == b->first && a->time == b->time;
}

static size_t count_shared(const struct path *here, const struct path *there)
{
    size_t shared = 0;
    while (shared < here->count && shared < there->count &&
           same_epoch(&here->epochs[shared], &there->epochs[shared]))
        shared++;
    return shared;
}

/* Where the path leaves the first so many epochs. */
static struct position end_of(const struct path *path, size_t shared)
{
    return shared < path->count ? path->epochs[shared].before : path->end;
}

/* Up to where two paths are one; 0: nowhere. */
static uint64_t parting(const struct path *here, const struct path *there)
{
    size_t shared = count_shared(here, there);
    uint64_t mine = end_of(here, shared).modseq;
    uint64_t theirs = end_of(there, shared).modseq;
    return shared == 0 ? 0 : mine < theirs ? mine : theirs;
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
        if (rc == ERR_OK && rounded > last && rounded == tx_window(tx)->base.modseq)
            return fail(ERR_TRIMMED, "modseq %llu: trimmed meanwhile", (unsigned long long)last);
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
    size_t capacity;
};

static int collect_slots(struct tx *tx, void *arg)
{
    struct slots *slots = arg;
    struct slot slot = {0};
    int rc;
    slots->count = 0;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK) {
        struct position *all = array_room(slots->all, slots->count, &slots->capacity, sizeof *all);
        if (!all)
            return ERR_NOMEM;
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

/* The lower of two ends in one epoch, and whether it is this node's. */
struct common_end {
    struct position position;
    struct position other; /* the higher one */
    bool mine;
    bool open; /* that node goes on from there */
};

static struct common_end lower_end(const struct path *here, const struct path *there, size_t shared)
{
    struct position mine = end_of(here, shared);
    struct position theirs = end_of(there, shared);
    if (mine.modseq <= theirs.modseq)
        return (struct common_end){mine, theirs, true, shared == here->count};
    return (struct common_end){theirs, mine, false, shared == there->count};
}

/* The other's end, or its journal, may prove that it was there, or that it was not. */
static int disprove(struct store *store, const struct asker *follower, const struct common_end *end,
                    bool *wrong)
{
    struct holding holding = {.position = end->position};
    struct position there;
    if (end->other.modseq == end->position.modseq) {
        *wrong = !position_equal(end->other, end->position);
        return ERR_OK;
    }
    int rc = end->mine ? ask_chains(follower, &end->position.modseq, 1, &there)
                       : store_read(store, look_for, &holding);
    if (rc)
        return rc;
    *wrong = end->mine ? there.chain && there.chain != end->position.chain
                       : !holding.holds && !holding.trimmed;
    return ERR_OK;
}

/* The journal had been taken back by a repair that was given up when this epoch began. */
static bool gave_up_before(const struct branch *branch, const struct epoch *epoch)
{
    bool found = false;
    if (!fork_on_journal(branch, epoch->id))
        return begins_anew(branch, epoch);
    for (size_t i = 0; i < branch->mark_count && !found; i++)
        found = is_start(&branch->marks[i], epoch);
    return found;
}

/* An epoch's master that has fewer entries of it than another, where it still goes on or where it
 * opened the next one itself, lost commits, and may have made others under their numbers. */
static bool lost_commits(const struct path *path, const struct branch *branch, size_t shared,
                         bool open)
{
    uint64_t master = path->epochs[shared - 1].id.node;
    return open ? master == branch->node_id && !branch->stop_count
                : path->epochs[shared].id.node == master &&
                      !gave_up_before(branch, &path->epochs[shared]);
}

/* By the trees. An epoch that goes on at both proves nothing about where its entries end. */
static int find_by_epochs(struct store *store, const struct asker *follower,
                          const struct branch *mine, const struct branch *theirs,
                          const struct path *here, const struct path *there, struct fork *fork)
{
    size_t shared = count_shared(here, there);
    if (shared == 0)
        return ERR_OK;
    if (shared == here->count && shared == there->count)
        return find_by_slots(store, follower, theirs, fork);
    struct common_end end = lower_end(here, there, shared);
    const struct branch *branch = end.mine ? mine : theirs;
    bool wrong = false;
    int rc = disprove(store, follower, &end, &wrong);
    if (rc)
        return rc;
    bool behind = end.position.modseq < end.other.modseq;
    wrong = wrong || (behind && lost_commits(end.mine ? here : there, branch, shared, end.open));
    if (wrong)
        return find_by_slots(store, follower, theirs, fork);
    fork->common_known = true;
    fork->common = end.position;
    return ERR_OK;
}

static size_t find_on_path(const struct path *path, struct epoch_id id)
{
    size_t i = 0;
    while (i < path->count && epoch_compare(path->epochs[i].id, id) != 0)
        i++;
    return i;
}

/* How far what was taken in by a mark of `branch`, whose path is `own`, reaches along another path:
 * along the epoch that the mark names, or along those that this one came from; 0: it has nothing of
 * it. */
static uint64_t reach(const struct branch *branch, const struct path *own, const struct mark *mark,
                      const struct path *other)
{
    const struct epoch *epoch = find_epoch(branch, mark->epoch);
    uint64_t end = mark->taken.modseq;
    while (epoch) {
        size_t at = find_on_path(own, epoch->id);
        const struct epoch *here = at < own->count ? &own->epochs[at] : epoch;
        for (size_t i = 0; i < other->count; i++) {
            uint64_t theirs = end_of(other, i + 1).modseq;
            if (same_epoch(&other->epochs[i], here))
                return end < theirs ? end : theirs;
        }
        bool ends = epoch_compare(here->parent, here->id) >= 0 || begins_anew(branch, epoch);
        epoch = ends ? NULL : find_epoch(branch, here->parent);
        end = here->before.modseq;
    }
    return 0;
}

/* Whether the mailbox has what the mark says was taken in: its own way leads through the mark's
 * entry, and not only the journal's; and the mark does not say what an epoch began with. */
static bool has_mark(const struct branch *branch, const struct path *own, const struct mark *mark)
{
    size_t at = find_on_path(own, fork_epoch_at(branch, mark->modseq));
    if (at == own->count || mark->modseq > end_of(own, at + 1).modseq)
        return false;
    return mark->taken.chain || mark->modseq != own->epochs[at].first;
}

static bool concerns(const struct mark *mark, uint64_t mailbox)
{
    return mark->mailbox == 0 || mark->mailbox == mailbox;
}

/* What `here` took in of the branch of `other`: its mark is then the base here, and up to where it
 * took that in is the base there. The mark that reaches furthest counts, of two the first. Bases
 * that are there already must not become worse. */
static void take_marks(const struct branch *here, const struct path *own, const struct path *other,
                       uint64_t mailbox, uint64_t *base_here, uint64_t *base_other)
{
    uint64_t least = *base_here;
    bool equal_is_better = *base_here != *base_other;
    for (size_t i = 0; i < here->mark_count; i++) {
        const struct mark *mark = &here->marks[i];
        bool counts = concerns(mark, mailbox) && has_mark(here, own, mark);
        bool later = mark->modseq > least && mark->taken.modseq >= *base_other;
        uint64_t taken = counts && later ? reach(here, own, mark, other) : 0;
        if (taken == 0 || taken < *base_other || (taken == *base_other && !equal_is_better))
            continue;
        equal_is_better = false;
        *base_other = taken;
        *base_here = mark->modseq;
    }
}

static bool has_merged(const struct branch *branch, const struct path *path, uint64_t mailbox,
                       uint64_t base)
{
    for (size_t i = 0; i < branch->mark_count; i++)
        if (concerns(&branch->marks[i], mailbox) && branch->marks[i].modseq > base &&
            has_mark(branch, path, &branch->marks[i]))
            return true;
    return false;
}

static void find_bases(const struct fork *fork, const struct branch *mine,
                       const struct branch *theirs, const struct path *here,
                       const struct path *there, uint64_t mailbox, struct fork_bases *bases)
{
    bases->master = fork->common_known ? fork->common.modseq : 0;
    if (here->apart || there->apart || here->cut || there->cut)
        bases->master = parting(here, there);
    bases->replica = bases->master;
    take_marks(mine, here, there, mailbox, &bases->master, &bases->replica);
    bases->since = bases->replica;
    take_marks(theirs, there, here, mailbox, &bases->replica, &bases->master);
    bases->known = bases->master || !(here->cut || there->cut);
    bases->master_merged = has_merged(mine, here, mailbox, bases->master);
    bases->replica_merged = has_merged(theirs, there, mailbox, bases->replica);
}

int fork_bases(const struct fork *fork, const struct branch *mine, const struct branch *theirs,
               uint64_t mailbox, struct fork_bases *bases)
{
    struct path here = {0};
    struct path there = {0};
    int rc = path_of(mine, mailbox, &here);
    if (rc == ERR_OK)
        rc = path_of(theirs, mailbox, &there);
    if (rc == ERR_OK)
        find_bases(fork, mine, theirs, &here, &there, mailbox, bases);
    free(here.epochs);
    free(there.epochs);
    return rc;
}

/* What a mark says was taken in of the path, of the last epoch that is on it: up to `taken`, or up
 * to where the branch that was taken in left it. Index of the epoch; the path's count: of none. */
static size_t taken_on_path(const struct branch *mine, const struct mark *mark,
                            const struct path *there, struct position *taken)
{
    const struct epoch *epoch = find_epoch(mine, mark->epoch);
    size_t at = find_on_path(there, mark->epoch);
    *taken = mark->taken;
    while (at == there->count && epoch && epoch_compare(epoch->parent, epoch->id) < 0) {
        at = find_on_path(there, epoch->parent);
        *taken = epoch->before;
        epoch = find_epoch(mine, epoch->parent);
    }
    return at;
}

/* Whether the other node has not got what a mark of `branch` says was taken in along its path. */
static int is_disproved(const struct asker *other, const struct branch *branch,
                        const struct branch *theirs, const struct path *there,
                        const struct mark *mark, bool *disproved)
{
    struct position taken, held;
    size_t at = taken_on_path(branch, mark, there, &taken);
    *disproved = false;
    if (at == there->count || mark->taken.chain == 0 || taken.chain == 0)
        return ERR_OK;
    held = end_of(there, at + 1);
    if (taken.modseq > held.modseq) {
        *disproved = lost_commits(there, theirs, at + 1, at + 1 == there->count);
        return ERR_OK;
    }
    int rc = taken.modseq < held.modseq ? ask_chains(other, &taken.modseq, 1, &held) : ERR_OK;
    *disproved = rc == ERR_OK && held.chain && held.chain != taken.chain;
    return rc;
}

int fork_doubt_marks(struct branch *branch, const struct asker *other, const struct branch *theirs)
{
    struct path there = {0};
    struct mark *doubted = calloc(branch->mark_count + 1, sizeof *doubted);
    int rc = doubted ? path_of(theirs, NO_MAILBOX, &there) : fail(ERR_NOMEM, "out of memory");
    size_t kept = 0, count = 0;
    for (size_t i = 0; rc == ERR_OK && i < branch->mark_count; i++) {
        bool disproved = false;
        rc = is_disproved(other, branch, theirs, &there, &branch->marks[i], &disproved);
        if (disproved)
            doubted[count++] = branch->marks[i];
        else
            branch->marks[kept++] = branch->marks[i];
    }
    if (rc == ERR_OK) {
        memcpy(branch->marks + kept, doubted, count * sizeof *doubted);
        branch->mark_count = kept;
        branch->doubted_count = count;
    }
    free(doubted);
    free(there.epochs);
    return rc;
}

/* Whether `here`, or a mark of its branch, has all of what waits at another node. */
static bool has_all_of(const struct branch *branch, const struct path *here,
                       const struct path *there, const struct mark *stop)
{
    bool all = parting(here, there) >= stop->taken.modseq;
    for (size_t i = 0; !all && i < branch->mark_count; i++) {
        const struct mark *mark = &branch->marks[i];
        all = concerns(mark, stop->mailbox) && has_mark(branch, here, mark) &&
              reach(branch, here, mark, there) >= stop->taken.modseq;
    }
    return all;
}

/* An epoch's own entry changes no mailbox. */
static void leave_empty_epochs(const struct branch *branch, struct mark *stop)
{
    const struct epoch *epoch;
    while ((epoch = find_epoch(branch, stop->epoch)) && epoch->first >= stop->taken.modseq &&
           epoch->parent.number) {
        bool apart = false;
        struct epoch here = as_mailbox_has_it(branch, epoch, stop->mailbox, &apart);
        if (epoch_compare(here.parent, epoch->id) >= 0)
            return; /* a parent is below its child: this ends */
        stop->epoch = here.parent;
        if (stop->taken.modseq > here.before.modseq)
            stop->taken.modseq = here.before.modseq;
    }
}

static int is_stranded(const struct branch *mine, const struct branch *theirs, struct mark stop,
                       bool *stranded)
{
    struct path here = {0};
    struct path there = {0};
    leave_empty_epochs(theirs, &stop);
    int rc = path_of(mine, stop.mailbox, &here);
    if (rc == ERR_OK)
        rc = path_from(theirs, stop.epoch, stop.taken, stop.mailbox, &there);
    *stranded = rc == ERR_OK && !has_all_of(mine, &here, &there, &stop);
    free(here.epochs);
    free(there.epochs);
    return rc;
}

int fork_strands(const struct branch *mine, const struct branch *theirs, bool *stranded)
{
    int rc = ERR_OK;
    *stranded = false;
    for (size_t i = 0; rc == ERR_OK && !*stranded && i < theirs->stop_count; i++)
        if (theirs->stops[i].epoch.number)
            rc = is_stranded(mine, theirs, theirs->stops[i], stranded);
    return rc;
}

/* Of the epochs of other branches that are known one may begin with the same modseq. */
const struct epoch *fork_start(const struct branch *branch, const struct mark *mark)
{
    bool may_be = mark->taken.chain == 0 && mark->mailbox != MARK_EPOCH;
    const struct epoch *epoch = may_be ? find_epoch(branch, branch->epoch) : NULL;
    while (epoch && epoch->first != mark->modseq) {
        bool apart = false;
        struct epoch here = as_mailbox_has_it(branch, epoch, mark->mailbox, &apart);
        epoch = epoch_compare(here.parent, here.id) < 0 ? find_epoch(branch, here.parent) : NULL;
    }
    return epoch;
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
    int rc = path_of(mine, NO_MAILBOX, &here);
    if (rc == ERR_OK)
        rc = path_of(theirs, NO_MAILBOX, &there);
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
        fork->bases = (struct fork_bases){.known = true,
                                          .master = theirs->last.modseq,
                                          .replica = theirs->last.modseq,
                                          .since = theirs->last.modseq};
        return ERR_OK;
    }
    fork->later = is_later(mine, theirs);
    fork->behind =
        epoch_compare(mine->epoch, theirs->epoch) == 0 && theirs->last.modseq > mine->last.modseq;
    return find_parting(store, follower, mine, theirs, fork);
}
