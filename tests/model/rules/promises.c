/* The promises of docs/MERGE.md, checked after a merge by whoever knows everything. */
#include "tests/model/rules/world.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static unsigned class_in(const unsigned *alias, unsigned ghost)
{
    while (alias[ghost] != ghost)
        ghost = alias[ghost];
    return ghost;
}

static unsigned class_of(const struct round *round, unsigned ghost)
{
    return class_in(round->alias, ghost);
}

void round_share_aliases(struct round *round)
{
    memcpy(round->alias, round->m->alias, sizeof round->alias);
    for (unsigned i = 0; i < round->world->ghost_count; i++)
        round->alias[class_of(round, i)] = class_of(round, class_in(round->r->alias, i));
}

static bool had_by(const struct round *round, const struct node *node, unsigned ghost,
                   uint64_t base)
{
    for (unsigned i = 0; i < round->world->ghost_count; i++)
        if (class_of(round, i) == ghost && node->since[i] && node->since[i] <= base)
            return true;
    return false;
}

/* Whether both ends had it before they went apart. */
static bool shared(const struct round *round, unsigned ghost)
{
    const struct world *world = round->world;
    return had_by(round, &round->before, ghost, world->entries[round->bases.m].modseq) &&
           had_by(round, round->r, ghost, world->entries[round->bases.r].modseq);
}

static uint32_t live_as(const struct round *round, const struct node *node, unsigned ghost)
{
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        if (node->at[uid].state == LIVE && class_of(round, node->at[uid].ghost) == ghost)
            return uid;
    return 0;
}

static unsigned count_as(const struct round *round, const struct node *node, unsigned ghost)
{
    unsigned count = 0;
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        count += node->at[uid].state == LIVE && class_of(round, node->at[uid].ghost) == ghost;
    return count;
}

/* Tombstones that an earlier merge left may be gone. */
static bool links_may_be_lost(const struct round *round)
{
    return (round->before.purged || round->r->purged) &&
           (round->bases.marked || round->before.merged || round->r->merged);
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

/* How one end had the flags of a message, and has them. */
struct past {
    const struct node *node;
    const struct message *now;
    uint64_t base;
    bool moved;    /* it got this UID after the base */
    bool changed;  /* after the base */
    bool readable; /* the journal says how it was at the base */
    unsigned then;
};

static struct past look_back(const struct node *node, uint32_t uid, uint64_t base)
{
    const struct message *now = &node->at[uid];
    return (struct past){.node = node,
                         .now = now,
                         .base = base,
                         .moved = now->append > base,
                         .changed = now->modseq > base,
                         .readable = node->trimmed <= base && !node_healed_since(node, uid, base),
                         .then = node_flags_at(node, uid, base)};
}

/* `behind`'s base is the lower one, or the same: the other end knows what it was. */
static void check_shared_flags(const struct round *round, uint32_t at_m, uint32_t at_r,
                               uint32_t after)
{
    struct world *world = round->world;
    struct past m = look_back(&round->before, at_m, round->base_m);
    struct past r = look_back(round->r, at_r, round->base_r);
    struct past *behind = m.base < r.base ? &m : &r;
    struct past *ahead = behind == &m ? &r : &m;
    if (behind->moved)
        return;
    bool readable = behind->readable || (!round->bases.marked && !ahead->moved && ahead->readable);
    if (behind->changed && !readable && (ahead->changed || round->bases.marked))
        return;
    if (behind->changed && ahead->changed && !round->bases.known)
        return;
    unsigned then = ahead->moved || !round->bases.marked ? behind->then : ahead->then;
    for (unsigned bit = 1; bit < 1u << FLAGS; bit <<= 1) {
        unsigned now = round->m->at[after].flags & bit;
        bool by_behind = (behind->now->flags ^ behind->then) & bit;
        bool by_ahead = (ahead->now->flags ^ then) & bit;
        if (!by_behind)
            PROMISE(world, now == (ahead->now->flags & bit));
        if (by_behind && !by_ahead)
            PROMISE(world, now == (behind->now->flags & bit));
    }
}

/* The least that holds whatever was forgotten: what nobody expunged is there. */
static bool remains(const struct world *world, const struct node *node, uint8_t guid)
{
    if (world->expunged[guid])
        return true;
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        if (node->at[uid].state == LIVE && node->at[uid].guid == guid)
            return true;
    return false;
}

/* Over three nodes the copies of one message in one mailbox may be taken for each other: each of
 * them has a UID, and nothing else to tell it from the others. None may be lost altogether. */
static bool ambiguous(const struct round *round, uint8_t guid)
{
    const struct world *world = round->world;
    unsigned first = GHOSTS;
    if (!round->bases.marked && !round->before.merged && !round->r->merged)
        return false;
    if (world->merges > MERGES_STRICT)
        return true;
    for (unsigned i = 0; i < world->ghost_count; i++) {
        if (world->guids[i] != guid || (!round->before.since[i] && !round->r->since[i]))
            continue;
        if (world->unlinked[i] || (first != GHOSTS && class_of(round, i) != first))
            return true;
        first = class_of(round, i);
    }
    return false;
}

/* A tombstone names one successor: of three messages that died under one UID two can be found. */
static bool unnamed(const struct round *round, unsigned ghost)
{
    bool m_ahead = round->base_m > round->base_r;
    const struct node *ahead = m_ahead ? &round->before : round->r;
    const struct node *behind = m_ahead ? round->r : &round->before;
    for (uint32_t uid = 1; uid < UIDS; uid++) {
        const struct message *there = &ahead->at[uid];
        const struct message *here = &behind->at[uid];
        if (here->state == ABSENT || class_of(round, here->ghost) != ghost ||
            there->state != TOMB || there->guid == here->guid)
            continue;
        bool named = false;
        for (uint32_t at = there->successor - 1; at <= there->successor + 1 && at < UIDS; at++)
            named |= ahead->at[at].guid == here->guid;
        if (!named)
            return true;
    }
    return false;
}

/* An end has, or had, apart what the other end has joined. Which of the two the joined one is
 * cannot be told. */
static bool parted(const struct round *round, const struct node *node, unsigned ghost)
{
    unsigned first = GHOSTS;
    for (unsigned i = 0; i < round->world->ghost_count; i++) {
        if (!node->since[i] || class_of(round, i) != ghost)
            continue;
        if (first != GHOSTS && class_in(node->alias, i) != first)
            return true;
        first = class_in(node->alias, i);
    }
    return false;
}

static void check_shared(const struct round *round, unsigned ghost)
{
    struct world *world = round->world;
    bool lenient =
        !round->bases.known || ambiguous(round, world->guids[ghost]) || unnamed(round, ghost);
    bool links_lost = links_may_be_lost(round);
    lenient |= links_lost;
    uint32_t at_m = live_as(round, &round->before, ghost);
    uint32_t at_r = live_as(round, round->r, ghost);
    unsigned count = count_as(round, round->m, ghost);
    unsigned most =
        larger(count_as(round, &round->before, ghost), count_as(round, round->r, ghost));
    bool apart = parted(round, &round->before, ghost) || parted(round, round->r, ghost);
    if (count > 1 && (lenient || apart)) /* for ever */
        world->unlinked[ghost] = true;
    if (round->lost && class_of(round, round->lost_message.ghost) == ghost) {
        uint32_t there = round->lost_at_m ? at_r : at_m;
        PROMISE(world, there == 0 || round->m->at[round->lost].state == LIVE);
        return;
    }
    if (!at_m || !at_r) {
        PROMISE(world, count == 0 || lenient || apart);
        return;
    }
    PROMISE(world, count >= 1 || (ambiguous(round, world->guids[ghost]) &&
                                  remains(world, round->m, world->guids[ghost])));
    PROMISE(world, count == 1 || (apart && count <= most) || lenient);
    if (count == 1 && !links_lost && !apart && !ambiguous(round, world->guids[ghost]) &&
        !unnamed(round, ghost))
        check_shared_flags(round, at_m, at_r, live_as(round, round->m, ghost));
}

struct tally {
    unsigned old_m, new_m, old_r, new_r, after, met;
};

/* One end's messages that the other did not have. `met`: expunged at the other under the same
 * UID.*/
static void tally_end(const struct round *round, bool replica, uint8_t guid, struct tally *tally)
{
    const struct node *here = replica ? round->r : &round->before;
    const struct node *there = replica ? &round->before : round->r;
    uint64_t base = replica ? round->base_r : round->base_m;
    for (uint32_t uid = 1; uid < here->uidnext; uid++) {
        const struct message *message = &here->at[uid];
        if (message->state != LIVE || message->guid != guid ||
            shared(round, class_of(round, message->ghost)))
            continue;
        if (there->at[uid].state == TOMB && there->at[uid].guid == guid)
            tally->met++;
        else
            *(message->append > base ? (replica ? &tally->new_r : &tally->new_m)
                                     : (replica ? &tally->old_r : &tally->old_m)) += 1;
    }
}

/* Of what was made at one end alone nothing is lost, and nothing is doubled. */
static void check_counts(const struct round *round, uint8_t guid)
{
    struct world *world = round->world;
    struct tally tally = {0};
    tally_end(round, false, guid, &tally);
    tally_end(round, true, guid, &tally);
    for (uint32_t uid = 1; uid < round->m->uidnext; uid++) {
        const struct message *message = &round->m->at[uid];
        tally.after += message->state == LIVE && message->guid == guid &&
                       !shared(round, class_of(round, message->ghost));
    }
    unsigned least = larger(tally.old_m + tally.new_m, tally.old_r + tally.new_r);
    unsigned most = tally.old_m + tally.old_r + larger(tally.new_m, tally.new_r) + tally.met;
    if (!ambiguous(round, guid))
        PROMISE(world, tally.after >= least);
    else if (least)
        PROMISE(world, remains(world, round->m, guid));
    PROMISE(world, tally.after <= most || links_may_be_lost(round) || !round->bases.known ||
                       ambiguous(round, guid));
}

/* Where R's message is at M now: 0: it died. */
static uint32_t locate(const struct round *round, uint32_t uid)
{
    const struct message *message = &round->r->at[uid];
    uint32_t same = live_as(round, round->m, class_of(round, message->ghost));
    if (same)
        return same;
    for (unsigned hops = 0; uid && uid < UIDS && hops < UIDS; hops++) {
        const struct message *here = &round->m->at[uid];
        if (here->state == LIVE)
            return here->guid == message->guid ? uid : 0;
        uid = here->successor;
    }
    return 0;
}

static void check_joined_flags(const struct round *round, const struct message *r,
                               const struct message *m, const struct message *after)
{
    struct world *world = round->world;
    bool known_m = round->before.trimmed < m->append || m->modseq == m->append;
    bool known_r = round->r->trimmed < r->append || r->modseq == r->append;
    if (!known_m || !known_r || m->append <= round->base_m || r->append <= round->base_r)
        return;
    unsigned both = m->appended_flags & r->appended_flags;
    for (unsigned bit = 1; bit < 1u << FLAGS; bit <<= 1)
        PROMISE(world, (after->flags & bit) ==
                           (both & bit ? m->flags & r->flags & bit : (m->flags | r->flags) & bit));
}

/* M's message that R's must have been joined with, if no tombstone says it: in UID order. */
static uint32_t partner(const struct round *round, const struct message *message, const bool *taken)
{
    for (uint32_t uid = 1; uid < round->before.uidnext; uid++) {
        const struct message *at = &round->before.at[uid];
        if (at->state == LIVE && at->guid == message->guid && at->append > round->base_m &&
            !taken[at->ghost] && !shared(round, class_of(round, at->ghost)))
            return live_as(round, round->m, class_of(round, at->ghost));
    }
    return 0;
}

static void learn_join(struct round *round, uint32_t uid, bool *taken, bool guess)
{
    struct world *world = round->world;
    const struct message *message = &round->r->at[uid];
    uint32_t to = locate(round, uid);
    const struct message *there = &round->before.at[uid];
    bool met = there->state == TOMB && there->guid == message->guid;
    if (guess && !to && !met && message->append > round->base_r &&
        !shared(round, class_of(round, message->ghost)))
        to = partner(round, message, taken);
    bool guessed = to && locate(round, uid) == 0;
    if (!to)
        return;
    unsigned ghost = class_of(round, round->m->at[to].ghost);
    uint32_t was = live_as(round, &round->before, ghost);
    if (class_of(round, message->ghost) == ghost || !was)
        return;
    taken[round->before.at[was].ghost] = true;
    if (!links_may_be_lost(round) && !ambiguous(round, message->guid))
        check_joined_flags(round, message, &round->before.at[was], &round->m->at[to]);
    world->unlinked[ghost] |= guessed || world->unlinked[class_of(round, message->ghost)];
    round->alias[class_of(round, message->ghost)] = ghost;
}

/* Messages that the merge has made one are one from now on. */
static void learn_joins(struct round *round)
{
    bool taken[GHOSTS] = {false};
    for (uint32_t uid = 1; uid < 2 * UIDS; uid++)
        if (round->r->at[uid % UIDS].state == LIVE)
            learn_join(round, uid % UIDS, taken, uid > UIDS);
}

/* Two messages died under one UID, and one of them altogether: its tombstone is the other's. Or one
 * is there twice. */
static void learn_losses(struct round *round)
{
    struct world *world = round->world;
    for (unsigned i = 0; i < world->ghost_count; i++)
        if (round->alias[i] == i && count_as(round, round->m, i) > 1)
            world->unlinked[i] = true;
    for (uint32_t uid = 1; uid < round->m->uidnext; uid++) {
        const struct message *after = &round->m->at[uid];
        const struct message *r = &round->r->at[uid];
        unsigned ghost = class_of(round, r->ghost);
        if (r->state != ABSENT && after->state == TOMB && class_of(round, after->ghost) != ghost &&
            !live_as(round, round->m, ghost))
            world->unlinked[ghost] = true;
    }
}

void round_check_merge(struct round *round)
{
    struct world *world = round->world;
    /* Both got it from a third node, each by a merge of its own: neither knows. */
    for (unsigned i = 0; i < world->ghost_count; i++)
        if (!shared(round, class_of(round, i)) &&
            had_by(round, &round->before, class_of(round, i), UINT64_MAX) &&
            had_by(round, round->r, class_of(round, i), UINT64_MAX))
            world->unlinked[class_of(round, i)] = true;
    for (unsigned ghost = 0; ghost < world->ghost_count; ghost++)
        if (round->alias[ghost] == ghost && shared(round, ghost))
            check_shared(round, ghost);
    for (unsigned i = 0; i < GUIDS && !round->lost; i++)
        check_counts(round, (uint8_t)('a' + i));
    learn_joins(round);
    learn_losses(round);
    memcpy(round->m->alias, round->alias, sizeof round->alias);
}

static bool equal_actions(const struct merge_action *a, const struct merge_action *b)
{
    return a->kind == b->kind && a->uid == b->uid && a->other == b->other &&
           a->from->record.uid == b->from->record.uid && a->system == b->system &&
           bytes_equal(buf_view(&a->keywords), buf_view(&b->keywords));
}

static size_t skip_touches(const struct merge_plan *plan, size_t at)
{
    while (at < plan->count && plan->actions[at].kind == MERGE_TOUCH)
        at++;
    return at;
}

void round_check_again(struct round *round, const struct merge_plan *plan, struct merge_plan *again)
{
    struct world *world = round->world;
    round_fill_input(round, true);
    PROMISE(world, merge_plan_make(&round->input, again) == ERR_OK);
    PROMISE(world, again->uidnext == plan->uidnext);
    size_t i = skip_touches(plan, 0);
    size_t j = skip_touches(again, 0);
    while (i < plan->count && j < again->count) {
        PROMISE(world, equal_actions(&again->actions[j], &plan->actions[i]));
        i = skip_touches(plan, i + 1);
        j = skip_touches(again, j + 1);
    }
    PROMISE(world, i == plan->count && j == again->count);
}

void round_check_finished(struct round *round)
{
    struct merge_plan plan;
    round_find_bases(round);
    round_fill_input(round, false);
    PROMISE(round->world, merge_plan_make(&round->input, &plan) == ERR_OK);
    PROMISE(round->world, plan.count == 0 && plan.uidnext == round->m->uidnext);
    merge_plan_free(&plan);
}
