/* A merge: planned by the rules, carried out in one commit with its mark, then R becomes M's copy.
 */
#include "tests/model/rules/world.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void act(struct round *round, const struct merge_action *action, uint64_t modseq)
{
    struct world *world = round->world;
    struct node *m = round->m;
    uint32_t uid = action->uid;
    PROMISE(world, uid > 0);
    if (uid >= UIDS) {
        world->full = true;
        return;
    }
    struct message *at = &m->at[uid];
    const struct message *from = &round->r->at[action->from->record.uid];
    if (action->kind == MERGE_RENUMBER)
        from = &m->at[action->from->record.uid];
    struct message copy = *from;
    copy.flags = action_flags(action);
    switch (action->kind) {
    case MERGE_HEAL:
        PROMISE(world, uid == round->lost && at->state == ABSENT && from->state == LIVE);
        at->flags = round->lost_message.flags;
        node_keep_undo(world, m, uid, modseq, true);
        node_put(world, m, uid, &copy, modseq);
        at->append = from->append;
        break;
    case MERGE_ADD:
    case MERGE_RENUMBER:
        PROMISE(world, at->state == ABSENT && from->state == LIVE);
        node_put(world, m, uid, &copy, modseq);
        break;
    case MERGE_FLAGS:
        PROMISE(world, at->state == LIVE);
        node_set_flags(world, m, uid, copy.flags, modseq);
        break;
    case MERGE_EXPUNGE:
        PROMISE(world, at->state == LIVE);
        node_bury(m, uid, action->other, modseq);
        break;
    case MERGE_POINT:
        PROMISE(world, at->state == TOMB && at->successor == 0);
        /* From now on it cannot be told that this one did not go on. */
        world->unlinked[at->ghost] = true;
        node_bury(m, uid, action->other, modseq);
        break;
    case MERGE_BURY:
        PROMISE(world, at->state == ABSENT && from->state != ABSENT);
        *at = *from;
        at->append = modseq;
        node_bury(m, uid, action->other, modseq);
        break;
    case MERGE_TOUCH:
        PROMISE(world, at->state != ABSENT);
        at->modseq = modseq;
        break;
    }
}

static void add_mark(struct world *world, struct node *node, unsigned own, unsigned other)
{
    if (node->mark_count == MARKS)
        world->full = true;
    else
        node->marks[node->mark_count++] = (struct mark){own, other};
}

/* One commit: an epoch, the actions, the header, the mark. */
static void round_commit(struct round *round, const struct merge_plan *plan)
{
    struct world *world = round->world;
    struct node *m = round->m;
    const struct node *r = round->r;
    uint64_t above =
        node_last(world, m) > node_last(world, r) ? node_last(world, m) : node_last(world, r);
    node_enter(world, m, above + 1);
    for (size_t i = 0; i < plan->count && !world->full; i++) {
        PROMISE(world, plan->actions[i].uid < plan->uidnext);
        act(round, &plan->actions[i], node_next_entry(world, m));
    }
    PROMISE(world, plan->uidnext >= m->uidnext && plan->uidnext >= r->uidnext);
    m->uidnext = plan->uidnext;
    if (m->deleted < node_forgotten(r))
        m->deleted = node_forgotten(r);
    uint64_t modseq = node_next_entry(world, m);
    for (unsigned i = 0; i < world->ghost_count; i++)
        if (r->since[i] && !m->since[i])
            m->since[i] = modseq;
    add_mark(world, m, m->tip, r->tip);
    for (size_t i = 0; i < r->mark_count && !world->full; i++)
        add_mark(world, m, m->tip, r->marks[i].other);
    m->merged = true;
    m->purged |= r->purged;
}

/* R becomes M's copy; what its clients have seen stays what it is, and what
 * either has forgotten stays forgotten. */
static void node_copy(struct node *to, const struct node *from)
{
    struct node copy = *from;
    if (copy.floor < node_forgotten(to))
        copy.floor = node_forgotten(to);
    copy.purged |= to->purged;
    memcpy(copy.shown, to->shown, sizeof copy.shown);
    memcpy(copy.gone, to->gone, sizeof copy.gone);
    memcpy(copy.clients, to->clients, sizeof copy.clients);
    *to = copy;
}

static void print_plan(const struct merge_plan *plan)
{
    static const char *const names[] = {"heal",    "add",   "renumber", "flags",
                                        "expunge", "point", "bury",     "touch"};
    for (size_t i = 0; i < plan->count; i++) {
        const struct merge_action *action = &plan->actions[i];
        printf("    %s %u", names[action->kind], action->uid);
        if (action->from->record.uid != action->uid)
            printf("<%u", action->from->record.uid);
        if (action->other)
            printf(">%u", action->other);
        if (action->kind <= MERGE_FLAGS)
            printf("[%u]", action_flags(action));
        printf("\n");
    }
}

void node_print(const struct world *world, const struct node *node)
{
    printf(
        "  node %u at %llu, next %u, forgotten %llu, trimmed %llu:", (unsigned)(node - world->node),
        (unsigned long long)node_last(world, node), node->uidnext,
        (unsigned long long)node_forgotten(node), (unsigned long long)node->trimmed);
    for (uint32_t uid = 1; uid < UIDS; uid++) {
        const struct message *message = &node->at[uid];
        if (message->state == ABSENT)
            continue;
        printf(" %u%c@%llu%c%llu", uid, message->guid, (unsigned long long)message->append,
               message->state == LIVE ? '~' : 'x', (unsigned long long)message->modseq);
        if (message->successor)
            printf(">%u", message->successor);
        printf("[%u]", message->flags);
    }
    printf("\n");
}

/* A row of a message that both have vanishes without a trace. (At an end that has purged others it
 * could not be told from these.) */
static void damage(struct round *round, uint32_t number)
{
    uint32_t uid = node_pick(round->m, number);
    if (!uid || round->m->purged || round->r->purged || round->bases.marked ||
        !round->bases.known || !message_same_append(&round->m->at[uid], &round->r->at[uid]) ||
        round->r->at[uid].state != LIVE || round->m->at[uid].append > round->base_m)
        return;
    round->lost = uid;
    round->lost_at_m = number & 1;
    struct message *at = round->lost_at_m ? &round->m->at[uid] : &round->r->at[uid];
    round->lost_message = *at;
    *at = (struct message){0};
}

static void plan_and_commit(struct round *round, bool left_out)
{
    struct world *world = round->world;
    struct merge_plan plan, again;
    round_fill_input(round, false);
    int rc = merge_plan_make(&round->input, &plan);
    PROMISE(world, rc == ERR_OK);
    if (rc)
        return;
    if (world->print) {
        printf("  bases %llu %llu%s%s\n", (unsigned long long)round->base_m,
               (unsigned long long)round->base_r, round->bases.marked ? ", marked" : "",
               round->bases.known ? "" : ", unknown");
        print_plan(&plan);
    }
    world->merges++;
    round_check_again(round, &plan, &again);
    round->before = *round->m;
    round_share_aliases(round);
    round_commit(round, left_out ? &again : &plan);
    merge_plan_free(&plan);
    merge_plan_free(&again);
    if (!world->full)
        round_check_merge(round);
}

void world_merge(struct world *world, const struct step *step)
{
    struct round *round = calloc(1, sizeof *round);
    if (!round)
        exit(1);
    round->world = world;
    round->m = &world->node[step->node % NODES];
    round->r = &world->node[(step->node + 1 + step->a % (NODES - 1)) % NODES];
    round_find_bases(round);
    /* Else R holds nothing that M has not. */
    bool planned = round->bases.r != round->r->tip || round->base_m < round->base_r;
    if (planned) {
        if (step->b % 8 == 0 && !round->bases.marked && !round->m->merged && !round->r->merged)
            round_forget_bases(round);
        if (step->b % 8 == 1 && step->b % 5)
            damage(round, step->c);
        plan_and_commit(round, step->c % 2);
        if (!world->full)
            node_show(world, round->m);
    }
    if (!world->full && step->b % 5) {
        node_copy(round->r, round->m);
        node_show(world, round->r);
        node_check_clients(world, round->r);
        round_check_finished(round);
    }
    if (!world->full)
        node_check_clients(world, round->m);
    free(round);
}
