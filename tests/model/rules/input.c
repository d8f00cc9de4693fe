/* What the rules are told: the bases of both ends, from marks, and the records of both. */
#include "tests/model/rules/world.h"

#include <string.h>

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
        unsigned shared = world_ancestor(world, mark->other, there->tip);
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

void round_find_bases(struct round *round)
{
    const struct world *world = round->world;
    struct bases *bases = &round->bases;
    bases->m = bases->r = world_ancestor(world, round->m->tip, round->r->tip);
    bases->known = true;
    find_marks(round, round->m, round->r, &bases->m, &bases->r);
    find_marks(round, round->r, round->m, &bases->r, &bases->m);
    bases->marked = bases->m != bases->r;
    round->base_m = world->entries[bases->m].modseq;
    round->base_r = world->entries[bases->r].modseq;
}

bool message_same_append(const struct message *a, const struct message *b)
{
    return a->state != ABSENT && b->state != ABSENT && a->guid == b->guid &&
           a->append == b->append && a->saved == b->saved;
}

void round_forget_bases(struct round *round)
{
    uint64_t proven = 0;
    for (uint32_t uid = 1; uid < round->m->uidnext; uid++)
        if (message_same_append(&round->m->at[uid], &round->r->at[uid]) &&
            round->m->at[uid].append > proven)
            proven = round->m->at[uid].append;
    round->bases.known = false;
    round->base_m = round->base_r = proven;
}

unsigned node_flags_at(const struct node *node, uint32_t uid, uint64_t modseq)
{
    unsigned flags = node->at[uid].flags;
    for (size_t i = node->undos; i > 0; i--)
        if (node->journal[i - 1].uid == uid && node->journal[i - 1].modseq > modseq)
            flags = node->journal[i - 1].before;
    return flags;
}

bool node_healed_since(const struct node *node, uint32_t uid, uint64_t modseq)
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

unsigned action_flags(const struct merge_action *action)
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
    unsigned before = after ? message->appended_flags : node_flags_at(node, uid, base);
    bool readable =
        after ? node->trimmed < message->append
              : round->bases.known && node->trimmed <= base && !node_healed_since(node, uid, base);
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
    return message_same_append(a, b) && a->state == b->state && a->flags == b->flags &&
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
                              .forgotten = node_forgotten(node),
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

void round_fill_input(struct round *round, bool leave_out)
{
    round->input.base_known = round->bases.known;
    fill_end(round, false, leave_out, &round->input.master);
    fill_end(round, true, leave_out, &round->input.replica);
}
