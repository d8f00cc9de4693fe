/* Naive nodes with one mailbox each, changed and merged at random, and after every merge the
 * promises of docs/MERGE.md checked by whoever knows everything.
 *
 * A history is a list of steps, made from a seed. Every node may be changed at any time, which
 * stands for a promotion; a merge is what follows a demotion. What M does is one commit together
 * with its mark; then R becomes M's copy, unless the merge is cut in between. Few GUIDs, flags and
 * nodes, so that everything collides. A history that fails is made as short as possible and
 * printed.
 *
 * Messages have identities here that no node knows: `ghost`. Two of them are one (`alias`) for a
 * node once a merge in its past has joined them. Another merge, of nodes that did not know of that
 * one, may have joined them otherwise.
 */
#include "base/err.h"
#include "mailbox/rules.h"
#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Two and four nodes, and longer histories, are the compiler's to choose: -DNODES=4u. */
#ifndef NODES
#define NODES 3u
#endif
#ifndef STEPS
#define STEPS 40u
#endif
#define CLIENTS 3u
/* A history ends before it needs more of these. */
#define UIDS 64u
#define ENTRIES 512u
#define UNDOS 64u
#define GHOSTS 64u
#define MARKS 64u
/* Merges over three nodes that cross more often leave more than one way to see who had what first.
 */
#define MERGES_STRICT 3u
#define FLAGS 3u
#define GUIDS 12u

enum state { ABSENT, LIVE, TOMB };

struct message {
    enum state state;
    uint8_t guid;
    unsigned flags; /* bits 0 … FLAGS-1 */
    unsigned appended_flags;
    unsigned ghost;
    uint32_t successor;
    uint64_t append;
    uint64_t modseq;
    int64_t changed;
    int64_t saved;
};

/* Of all nodes together: a tree. */
struct entry {
    unsigned parent;
    uint64_t modseq;
    uint32_t uidnext; /* after it */
};

struct undo {
    uint64_t modseq;
    uint32_t uid;
    unsigned before;
    bool healed; /* no journal tells `before` */
};

struct mark {
    unsigned own;   /* entry of this node's branch */
    unsigned other; /* the last entry of what it took in */
};

struct client {
    bool there;
    uint64_t modseq;
    int view[UIDS]; /* flags, -1: no message */
};

struct node {
    struct message at[UIDS];
    uint32_t uidnext;
    unsigned tip; /* its last entry */
    uint64_t deleted, floor;
    uint64_t trimmed; /* entries up to here are no longer in its journal */
    struct undo journal[UNDOS];
    size_t undos;
    struct mark marks[MARKS];
    size_t mark_count;
    /* what only the model knows */
    uint64_t since[GHOSTS]; /* when this branch got a message, or took it in; 0: never */
    unsigned alias[GHOSTS]; /* which messages merges of this branch have made one */
    bool merged;            /* this branch has taken in another */
    bool purged;            /* this end has forgotten tombstones */
    uint8_t shown[UIDS];    /* by this end, 0: nothing; stays with it when it becomes a copy */
    bool gone[UIDS];        /* clients of this end know that the UID is dead */
    struct client clients[CLIENTS];
};

struct world {
    struct node node[NODES];
    struct entry entries[ENTRIES];
    unsigned entry_count;
    unsigned ghost_count;
    unsigned merges;
    uint8_t guids[GHOSTS];
    bool expunged[256];    /* some copy with this GUID, by a user */
    bool unlinked[GHOSTS]; /* no tombstone says what became of it */
    bool full;             /* of anything: the history ends here */
    bool print;
    const char *failure;
    int line;
};

enum step_kind { APPEND, FLAG, EXPUNGE, PURGE, EXPIRE, TRIM, CLIENT, MERGE, STEP_KINDS };

struct step {
    enum step_kind kind;
    uint32_t node, a, b, c;
};

/* The first promise that broke. */
#define PROMISE(world, condition)                                                                  \
    do {                                                                                           \
        if (!(condition) && !(world)->failure) {                                                   \
            (world)->failure = #condition;                                                         \
            (world)->line = __LINE__;                                                              \
        }                                                                                          \
    } while (0)

/* ---- Nodes ---- */

static uint64_t last(const struct world *world, const struct node *node)
{
    return world->entries[node->tip].modseq;
}

static uint64_t forgotten(const struct node *node)
{
    return node->deleted > node->floor ? node->deleted : node->floor;
}

static uint64_t enter(struct world *world, struct node *node, uint64_t modseq)
{
    if (world->entry_count == ENTRIES) {
        world->full = true;
        return modseq;
    }
    world->entries[world->entry_count] =
        (struct entry){.parent = node->tip, .modseq = modseq, .uidnext = node->uidnext};
    node->tip = world->entry_count++;
    return modseq;
}

static uint64_t next_entry(struct world *world, struct node *node)
{
    return enter(world, node, last(world, node) + 1);
}

static unsigned ancestor(const struct world *world, unsigned a, unsigned b)
{
    while (a != b)
        if (a > b)
            a = world->entries[a].parent;
        else
            b = world->entries[b].parent;
    return a;
}

static unsigned new_ghost(struct world *world)
{
    if (world->ghost_count == GHOSTS) {
        world->full = true;
        return 0;
    }
    return world->ghost_count++;
}

/* What clients of this end get to see from now on. */
static void show(struct world *world, struct node *node)
{
    for (uint32_t uid = 1; uid < node->uidnext; uid++) {
        const struct message *message = &node->at[uid];
        if (message->state == LIVE) {
            PROMISE(world, !node->gone[uid]);
            PROMISE(world, node->shown[uid] == 0 || node->shown[uid] == message->guid);
            node->shown[uid] = message->guid;
        } else if (message->state == TOMB || node->shown[uid]) {
            node->gone[uid] = true;
        }
    }
}

/* A client that was here at an earlier modseq asks for what changed (RFC 7162), and then knows all.
 */
static void check_clients(struct world *world, const struct node *node)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        const struct client *client = &node->clients[i];
        if (!client->there || client->modseq < forgotten(node))
            continue;
        for (uint32_t uid = 1; uid < node->uidnext; uid++) {
            const struct message *message = &node->at[uid];
            int view = client->view[uid];
            if (message->state != ABSENT && message->modseq > client->modseq)
                view = message->state == LIVE ? (int)message->flags : -1;
            PROMISE(world, view == (message->state == LIVE ? (int)message->flags : -1));
        }
    }
}

static void come(struct world *world, struct node *node, uint32_t which)
{
    struct client *client = &node->clients[which % CLIENTS];
    client->there = true;
    client->modseq = last(world, node);
    for (uint32_t uid = 0; uid < UIDS; uid++)
        client->view[uid] = node->at[uid].state == LIVE ? (int)node->at[uid].flags : -1;
}

/* ---- What users and operators do ---- */

static void put(struct world *world, struct node *node, uint32_t uid, const struct message *message,
                uint64_t modseq)
{
    node->at[uid] = *message;
    node->at[uid].append = modseq;
    node->at[uid].modseq = modseq;
    node->at[uid].saved = (int64_t)world->entry_count;
    node->at[uid].appended_flags = message->flags;
    if (!node->since[message->ghost])
        node->since[message->ghost] = modseq;
}

static void append(struct world *world, struct node *node, const struct step *step)
{
    struct message message = {.state = LIVE,
                              .guid = (uint8_t)('a' + step->a % GUIDS),
                              .flags = step->b % (1u << FLAGS) & step->c % (1u << FLAGS),
                              .ghost = new_ghost(world),
                              .changed = (int64_t)(step->c % 5)};
    uint32_t uid = node->uidnext;
    if (uid + 1 >= UIDS || world->full) {
        world->full = true;
        return;
    }
    node->uidnext++;
    world->guids[message.ghost] = message.guid;
    put(world, node, uid, &message, next_entry(world, node));
}

static void keep_undo(struct world *world, struct node *node, uint32_t uid, uint64_t modseq,
                      bool healed)
{
    if (node->undos == UNDOS)
        world->full = true;
    else
        node->journal[node->undos++] = (struct undo){
            .modseq = modseq, .uid = uid, .before = node->at[uid].flags, .healed = healed};
}

static void set_flags(struct world *world, struct node *node, uint32_t uid, unsigned flags,
                      uint64_t modseq)
{
    keep_undo(world, node, uid, modseq, false);
    node->at[uid].flags = flags;
    node->at[uid].modseq = modseq;
}

static void bury(struct node *node, uint32_t uid, uint32_t successor, uint64_t modseq)
{
    node->at[uid].state = TOMB;
    node->at[uid].successor = successor;
    node->at[uid].modseq = modseq;
}

/* Some live UID, 0: none. */
static uint32_t pick(const struct node *node, uint32_t number)
{
    for (uint32_t i = 0; i < node->uidnext; i++) {
        uint32_t uid = (number + i) % node->uidnext;
        if (node->at[uid].state == LIVE)
            return uid;
    }
    return 0;
}

static uint64_t forget(struct node *node, uint64_t until)
{
    uint64_t highest = 0;
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        if (node->at[uid].state == TOMB && node->at[uid].modseq <= until) {
            if (highest < node->at[uid].modseq)
                highest = node->at[uid].modseq;
            node->at[uid] = (struct message){0};
            node->purged = true;
        }
    return highest;
}

static void change(struct world *world, struct node *node, const struct step *step)
{
    uint32_t uid = pick(node, step->a);
    if (!uid)
        return;
    uint64_t modseq = next_entry(world, node);
    node->at[uid].changed = (int64_t)(step->c % 5);
    if (step->kind == FLAG)
        set_flags(world, node, uid, node->at[uid].flags ^ (1u << step->b % FLAGS), modseq);
    else
        bury(node, uid, 0, modseq);
    if (step->kind == EXPUNGE)
        world->expunged[node->at[uid].guid] = true;
}

static void clean(struct world *world, struct node *node, const struct step *step)
{
    uint64_t until = last(world, node) - step->a % 3;
    uint64_t highest = forget(node, until);
    if (!highest)
        return;
    if (step->kind == EXPIRE) {
        if (node->floor < highest)
            node->floor = highest;
        return;
    }
    next_entry(world, node);
    if (node->deleted < highest)
        node->deleted = highest;
}

/* ---- The input of a merge ---- */

struct bases {
    unsigned m, r; /* entries */
    bool marked;   /* not the same one */
    bool known;
};

struct round {
    struct world *world;
    struct node *m;
    struct node *r;
    struct bases bases;
    uint64_t base_m, base_r;                 /* as the rules are told */
    struct merge_record records[2][2][UIDS]; /* whole or left out, M's or R's */
    struct merge_input input;
    struct node before;     /* M */
    unsigned alias[GHOSTS]; /* what both ends know together */
    uint32_t lost;          /* by damage at one end, 0: nothing */
    bool lost_at_m;
    struct message lost_message;
};

/* What `here` took in of the branch of `there`: its mark is then the base of `here`, and up to
 * where it took it in that of `there`. The mark that reaches furthest counts, of two the first.
 * Bases that are there already, from marks at the other end, must not become worse. */
static void find_marks(const struct round *round, const struct node *here, const struct node *there,
                       unsigned *base_here, unsigned *base_there)
{
    const struct world *world = round->world;
    uint64_t known = world->entries[*base_there].modseq;
    uint64_t least = world->entries[*base_here].modseq;
    bool equal_is_better = *base_here != *base_there;
    for (size_t i = 0; i < here->mark_count; i++) {
        const struct mark *mark = &here->marks[i];
        unsigned shared = ancestor(world, mark->other, there->tip);
        uint64_t reach = world->entries[shared].modseq;
        if (world->entries[mark->own].modseq <= least || reach < known ||
            (reach == known && !equal_is_better))
            continue;
        known = reach;
        equal_is_better = false;
        *base_there = shared;
        *base_here = mark->own;
    }
}

static void find_bases(struct round *round)
{
    const struct world *world = round->world;
    struct bases *bases = &round->bases;
    bases->m = bases->r = ancestor(world, round->m->tip, round->r->tip);
    bases->known = true;
    find_marks(round, round->m, round->r, &bases->m, &bases->r);
    find_marks(round, round->r, round->m, &bases->r, &bases->m);
    bases->marked = bases->m != bases->r;
    round->base_m = world->entries[bases->m].modseq;
    round->base_r = world->entries[bases->r].modseq;
}

static bool same_append(const struct message *a, const struct message *b)
{
    return a->state != ABSENT && b->state != ABSENT && a->guid == b->guid &&
           a->append == b->append && a->saved == b->saved;
}

static void forget_bases(struct round *round)
{
    uint64_t proven = 0;
    for (uint32_t uid = 1; uid < round->m->uidnext; uid++)
        if (same_append(&round->m->at[uid], &round->r->at[uid]) &&
            round->m->at[uid].append > proven)
            proven = round->m->at[uid].append;
    round->bases.known = false;
    round->base_m = round->base_r = proven;
}

/* The flags under a UID as of a modseq, from a journal that is never trimmed. */
static unsigned flags_at(const struct node *node, uint32_t uid, uint64_t modseq)
{
    unsigned flags = node->at[uid].flags;
    for (size_t i = node->undos; i > 0; i--)
        if (node->journal[i - 1].uid == uid && node->journal[i - 1].modseq > modseq)
            flags = node->journal[i - 1].before;
    return flags;
}

/* Nothing in the journal says how such a message was before. */
static bool healed_since(const struct node *node, uint32_t uid, uint64_t modseq)
{
    for (size_t i = 0; i < node->undos; i++)
        if (node->journal[i].healed && node->journal[i].uid == uid &&
            node->journal[i].modseq > modseq)
            return true;
    return false;
}

static uint32_t system_of(unsigned flags)
{
    return (flags & 1 ? FLAG_SEEN : 0) | (flags & 2 ? FLAG_FLAGGED : 0);
}

static struct bytes keywords_of(unsigned flags, unsigned spelling)
{
    static const char *const sets[] = {"\4work", "\4Work"};
    return flags & 4 ? bytes_of(sets[spelling % 2], 5) : bytes_of(NULL, 0);
}

static unsigned flags_of(const struct merge_action *action)
{
    return (action->system & FLAG_SEEN ? 1u : 0) | (action->system & FLAG_FLAGGED ? 2u : 0) |
           (action->keywords.size ? 4u : 0);
}

static void fill_record(const struct round *round, const struct node *node, uint32_t uid,
                        struct merge_record *out)
{
    const struct message *message = &node->at[uid];
    uint64_t base = node == round->m ? round->base_m : round->base_r;
    bool after = message->append > base;
    unsigned before = after ? message->appended_flags : flags_at(node, uid, base);
    bool readable =
        after ? node->trimmed < message->append
              : round->bases.known && node->trimmed <= base && !healed_since(node, uid, base);
    *out = (struct merge_record){.record = {.uid = uid,
                                            .flags = system_of(message->flags),
                                            .successor = message->successor,
                                            .modseq = message->modseq,
                                            .append_modseq = message->append,
                                            .changed = message->changed,
                                            .save_date = message->saved},
                                 .keywords = keywords_of(message->flags, (unsigned)message->modseq),
                                 .has_base = readable,
                                 .base_system = system_of(before),
                                 .base_keywords = keywords_of(before, uid)};
    out->record.guid.bytes[0] = message->guid;
    if (message->state == TOMB)
        out->record.flags |= RECORD_EXPUNGED;
}

static bool same_record(const struct message *a, const struct message *b)
{
    return same_append(a, b) && a->state == b->state && a->flags == b->flags &&
           a->modseq == b->modseq && a->successor == b->successor && a->changed == b->changed &&
           (a->state == LIVE || a->successor == 0);
}

/* Whether a tombstone may lead here: of two that died under one UID, one went beside the successor.
 */
static bool named(const struct node *node, uint32_t uid)
{
    for (uint32_t at = 1; at < node->uidnext; at++) {
        uint32_t to = node->at[at].state == TOMB ? node->at[at].successor : 0;
        if (to && uid + 1 >= to && uid <= to + 1)
            return true;
    }
    return false;
}

static bool may_be_left_out(const struct round *round, uint32_t uid)
{
    return same_record(&round->m->at[uid], &round->r->at[uid]) && !named(round->m, uid) &&
           !named(round->r, uid);
}

static bool merged_after(const struct round *round, bool replica)
{
    const struct node *node = replica ? round->r : round->m;
    uint64_t base = replica ? round->base_r : round->base_m;
    for (size_t i = 0; i < node->mark_count; i++)
        if (round->world->entries[node->marks[i].own].modseq > base)
            return true;
    return false;
}

static void fill_end(struct round *round, bool replica, bool leave_out, struct merge_end *end)
{
    const struct node *node = replica ? round->r : round->m;
    struct merge_record *records = round->records[leave_out][replica];
    *end = (struct merge_end){.records = records,
                              .uidnext = node->uidnext,
                              .base = replica ? round->base_r : round->base_m,
                              .forgotten = forgotten(node),
                              .merged = merged_after(round, replica),
                              .sound = !round->lost || round->lost_at_m == replica};
    /* The journal has it, as long as it reaches the base. */
    if (round->bases.known && node->trimmed <= end->base)
        end->base_uidnext =
            round->world->entries[replica ? round->bases.r : round->bases.m].uidnext;
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        if (node->at[uid].state != ABSENT && !(leave_out && may_be_left_out(round, uid)))
            fill_record(round, node, uid, &records[end->count++]);
}

static void fill_input(struct round *round, bool leave_out)
{
    round->input.base_known = round->bases.known;
    fill_end(round, false, leave_out, &round->input.master);
    fill_end(round, true, leave_out, &round->input.replica);
}

/* ---- Carrying a plan out ---- */

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
    copy.flags = flags_of(action);
    switch (action->kind) {
    case MERGE_HEAL:
        PROMISE(world, uid == round->lost && at->state == ABSENT && from->state == LIVE);
        at->flags = round->lost_message.flags;
        keep_undo(world, m, uid, modseq, true);
        put(world, m, uid, &copy, modseq);
        at->append = from->append;
        break;
    case MERGE_ADD:
    case MERGE_RENUMBER:
        PROMISE(world, at->state == ABSENT && from->state == LIVE);
        put(world, m, uid, &copy, modseq);
        break;
    case MERGE_FLAGS:
        PROMISE(world, at->state == LIVE);
        set_flags(world, m, uid, copy.flags, modseq);
        break;
    case MERGE_EXPUNGE:
        PROMISE(world, at->state == LIVE);
        bury(m, uid, action->other, modseq);
        break;
    case MERGE_POINT:
        PROMISE(world, at->state == TOMB && at->successor == 0);
        /* From now on it cannot be told that this one did not go on. */
        world->unlinked[at->ghost] = true;
        bury(m, uid, action->other, modseq);
        break;
    case MERGE_BURY:
        PROMISE(world, at->state == ABSENT && from->state != ABSENT);
        *at = *from;
        at->append = modseq;
        bury(m, uid, action->other, modseq);
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
static void commit(struct round *round, const struct merge_plan *plan)
{
    struct world *world = round->world;
    struct node *m = round->m;
    const struct node *r = round->r;
    uint64_t above = last(world, m) > last(world, r) ? last(world, m) : last(world, r);
    enter(world, m, above + 1);
    for (size_t i = 0; i < plan->count && !world->full; i++) {
        PROMISE(world, plan->actions[i].uid < plan->uidnext);
        act(round, &plan->actions[i], next_entry(world, m));
    }
    PROMISE(world, plan->uidnext >= m->uidnext && plan->uidnext >= r->uidnext);
    m->uidnext = plan->uidnext;
    if (m->deleted < forgotten(r))
        m->deleted = forgotten(r);
    uint64_t modseq = next_entry(world, m);
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
static void copy_node(struct node *to, const struct node *from)
{
    struct node copy = *from;
    if (copy.floor < forgotten(to))
        copy.floor = forgotten(to);
    copy.purged |= to->purged;
    memcpy(copy.shown, to->shown, sizeof copy.shown);
    memcpy(copy.gone, to->gone, sizeof copy.gone);
    memcpy(copy.clients, to->clients, sizeof copy.clients);
    *to = copy;
}

/* ---- Promises ---- */

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

static void share_aliases(struct round *round)
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
                         .readable = node->trimmed <= base && !healed_since(node, uid, base),
                         .then = flags_at(node, uid, base)};
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

static void check_merge(struct round *round)
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

/* The same plan again, from lists without what is the same at both ends. (Two changes may by chance
 * have made a record the same, modseq included: then it need not be touched.) */
static void check_again(struct round *round, const struct merge_plan *plan,
                        struct merge_plan *again)
{
    struct world *world = round->world;
    fill_input(round, true);
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

static void check_finished(struct round *round)
{
    struct merge_plan plan;
    find_bases(round);
    fill_input(round, false);
    PROMISE(round->world, merge_plan_make(&round->input, &plan) == ERR_OK);
    PROMISE(round->world, plan.count == 0 && plan.uidnext == round->m->uidnext);
    merge_plan_free(&plan);
}

/* ---- Merging ---- */

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
            printf("[%u]", flags_of(action));
        printf("\n");
    }
}

static void print_node(const struct world *world, const struct node *node)
{
    printf("  node %u at %llu, next %u, forgotten %llu, trimmed %llu:",
           (unsigned)(node - world->node), (unsigned long long)last(world, node), node->uidnext,
           (unsigned long long)forgotten(node), (unsigned long long)node->trimmed);
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
    uint32_t uid = pick(round->m, number);
    if (!uid || round->m->purged || round->r->purged || round->bases.marked ||
        !round->bases.known || !same_append(&round->m->at[uid], &round->r->at[uid]) ||
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
    fill_input(round, false);
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
    check_again(round, &plan, &again);
    round->before = *round->m;
    share_aliases(round);
    commit(round, left_out ? &again : &plan);
    merge_plan_free(&plan);
    merge_plan_free(&again);
    if (!world->full)
        check_merge(round);
}

static void merge(struct world *world, const struct step *step)
{
    struct round *round = calloc(1, sizeof *round);
    if (!round)
        exit(1);
    round->world = world;
    round->m = &world->node[step->node % NODES];
    round->r = &world->node[(step->node + 1 + step->a % (NODES - 1)) % NODES];
    find_bases(round);
    /* Else R holds nothing that M has not. */
    bool planned = round->bases.r != round->r->tip || round->base_m < round->base_r;
    if (planned) {
        if (step->b % 8 == 0 && !round->bases.marked && !round->m->merged && !round->r->merged)
            forget_bases(round);
        if (step->b % 8 == 1 && step->b % 5)
            damage(round, step->c);
        plan_and_commit(round, step->c % 2);
        if (!world->full)
            show(world, round->m);
    }
    if (!world->full && step->b % 5) {
        copy_node(round->r, round->m);
        show(world, round->r);
        check_clients(world, round->r);
        check_finished(round);
    }
    if (!world->full)
        check_clients(world, round->m);
    free(round);
}

/* ---- Histories ---- */

static const char *const step_names[] = {"append", "flag", "expunge", "purge",
                                         "expire", "trim", "client",  "merge"};

static void take(struct world *world, const struct step *step)
{
    struct node *node = &world->node[step->node % NODES];
    if (world->print)
        printf("%s %u", step_names[step->kind], step->node % NODES);
    if (world->print)
        printf(step->kind == MERGE ? "<%u%s\n" : "\n",
               (step->node + 1 + step->a % (NODES - 1)) % NODES, step->b % 5 ? "" : ", cut");
    switch (step->kind) {
    case APPEND:
        append(world, node, step);
        break;
    case FLAG:
    case EXPUNGE:
        change(world, node, step);
        break;
    case PURGE:
    case EXPIRE:
        clean(world, node, step);
        break;
    case TRIM:
        node->trimmed = last(world, node) - step->a % 4;
        break;
    case CLIENT:
        come(world, node, step->a);
        break;
    default:
        merge(world, step);
        break;
    }
    for (size_t i = 0; i < NODES && world->print; i++)
        print_node(world, &world->node[i]);
    if (world->full)
        return;
    show(world, node);
    check_clients(world, node);
}

static void begin(struct world *world, bool print)
{
    memset(world, 0, sizeof *world);
    world->print = print;
    world->entry_count = 1;
    world->entries[0] = (struct entry){.modseq = 5, .uidnext = 1};
    for (size_t i = 0; i < NODES; i++) {
        world->node[i].uidnext = 1;
        for (unsigned ghost = 0; ghost < GHOSTS; ghost++)
            world->node[i].alias[ghost] = ghost;
    }
}

/* NULL: all promises were kept. */
static const char *run(struct world *world, const struct step *steps, size_t count, bool print)
{
    begin(world, print);
    for (size_t i = 0; i < count && !world->failure && !world->full; i++)
        take(world, &steps[i]);
    return world->failure;
}

static void roll(struct dice *dice, struct step *steps)
{
    static const enum step_kind kinds[] = {APPEND, APPEND,  APPEND,  FLAG,  FLAG,
                                           FLAG,   EXPUNGE, EXPUNGE, PURGE, EXPIRE,
                                           CLIENT, CLIENT,  MERGE,   MERGE, TRIM};
    uint32_t all =
        dice_below(dice, 4) ? sizeof kinds / sizeof kinds[0] : sizeof kinds / sizeof kinds[0] - 1;
    uint32_t guids = 1 + dice_below(dice, GUIDS);
    bool calm = dice_below(dice, 3) == 0; /* nothing is forgotten: the strictest checks */
    for (size_t i = 0; i < STEPS; i++) {
        steps[i] = (struct step){.kind = kinds[dice_below(dice, all)],
                                 .node = dice_below(dice, NODES),
                                 .a = dice_below(dice, 1000),
                                 .b = dice_below(dice, 1000),
                                 .c = dice_below(dice, 1000)};
        if (steps[i].kind == APPEND)
            steps[i].a %= guids;
        if (calm && (steps[i].kind == PURGE || steps[i].kind == EXPIRE || steps[i].kind == TRIM))
            steps[i].kind = FLAG;
    }
}

/* Leaves out whatever the failure of this promise does not need. */
static size_t shrink(struct world *world, struct step *steps, size_t count)
{
    int line = world->line;
    for (size_t size = count / 2; size > 0;) {
        bool shorter = false;
        for (size_t at = 0; at + size <= count;) {
            struct step fewer[STEPS];
            memcpy(fewer, steps, at * sizeof *steps);
            memcpy(fewer + at, steps + at + size, (count - at - size) * sizeof *steps);
            if (run(world, fewer, count - size, false) && world->line == line) {
                memcpy(steps, fewer, sizeof fewer);
                count -= size;
                shorter = true;
            } else {
                at++;
            }
        }
        if (!shorter || size > count)
            size /= 2;
    }
    return count;
}

static int play(struct world *world, uint64_t seed)
{
    struct step steps[STEPS];
    struct dice dice = {.state = seed};
    roll(&dice, steps);
    if (!run(world, steps, STEPS, false))
        return 0;
    size_t count = shrink(world, steps, STEPS);
    run(world, steps, count, true);
    printf("seed %llu, line %d: %s\n", (unsigned long long)seed, world->line, world->failure);
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t seed = scratch_seed(argc, argv);
    time_t until = time(NULL) + (time_t)scratch_seconds();
    unsigned runs = 0;
    struct world *world = malloc(sizeof *world);
    if (!world)
        return 1;
    int failed;
    do {
        failed = play(world, seed + runs++);
    } while (!failed && argc < 2 && time(NULL) < until);
    printf("%u histories from seed %llu, up to %u steps each\n", runs, (unsigned long long)seed,
           STEPS);
    free(world);
    return failed;
}
