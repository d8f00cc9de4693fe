/* Messages that went on under another UID: a merge gave them a new one, and left a tombstone that
 * names it. An end that did not know of that merge still has them under the old one. */
#include "mailbox/ruling.h"

/* How often a message may have moved on. Hostile tombstones may point in circles. */
#define HOPS_MAX 64u

static struct pair *with_guid(const struct merge *merge, int end, uint32_t uid,
                              const struct guid *guid)
{
    struct pair *pair = rules_find(merge, uid);
    const struct merge_record *record = pair ? pair->side[end].record : NULL;
    return record && guid_equal(&record->record.guid, guid) ? pair : NULL;
}

/* Where a message went from a tombstone. A UID that died with two messages (row 6) has one
 * tombstone, which names M's of then. R's is its neighbour: give_out_one() sees to it that nothing
 * else is. Of two with one GUID the save date tells which is which, unless it is that of another
 * delivery of the same message. */
static struct pair *next_of(const struct merge *merge, int end, const struct merge_record *from,
                            const struct record *message)
{
    uint32_t uid = from->record.successor;
    const uint32_t uids[] = {uid, uid - 1, uid + 1};
    bool named = guid_equal(&from->record.guid, &message->guid);
    bool sure = named && from->record.save_date == message->save_date;
    struct pair *next = NULL;
    for (size_t i = 0; i < (sure ? 1 : 3); i++) {
        struct pair *pair = with_guid(merge, end, uids[i], &message->guid);
        const struct merge_record *record = pair ? pair->side[end].record : NULL;
        if (!pair || (i && !rules_old(merge->ends[end], record)))
            continue;
        if (record->record.save_date == message->save_date)
            return pair;
        if (!next && (i == 0 || !named))
            next = pair;
    }
    return next;
}

/* The end whose base the other knows. */
static int behind(const struct merge *merge)
{
    return merge->ends[M]->base < merge->ends[R]->base ? M : R;
}

/* The message that both had under this UID. Between unequal bases a UID may have had
 * two messages: the lower base had only the one. NULL: not to be known. */
static const struct record *shared_message(const struct merge *merge, const struct pair *pair)
{
    int lower = behind(merge);
    const struct side *sides[] = {&pair->side[lower], &pair->side[OTHER(lower)]};
    for (size_t i = 0; i < (rules_same_bases(merge) ? 2 : 1); i++)
        if (sides[i]->known)
            return &sides[i]->record->record;
    return NULL;
}

enum whereabouts { UNCERTAIN, DEAD, ALIVE };

/* Whether a message that ends in this tombstone was expunged at this end alone. What was dead at
 * the lower base the other end knows already. */
static bool expunged_here(const struct merge *merge, int end, const struct merge_record *tomb,
                          const struct record *message)
{
    bool since = rules_changed(merge->ends[end], tomb) ||
                 merge->ends[end]->base > merge->ends[OTHER(end)]->base;
    return since && guid_equal(&tomb->record.guid, &message->guid);
}

/* What an end has made of the message that both had under this pair's UID. If it went on under
 * another that both had, too, that one's pair tells. */
static enum whereabouts follow(const struct merge *merge, int end, struct pair *pair,
                               const struct record *message, struct pair **found)
{
    for (unsigned hops = 0; pair && hops < HOPS_MAX; hops++) {
        const struct side *side = &pair->side[end];
        const struct record *had = shared_message(merge, pair);
        if (hops && side->known && !(had && !guid_equal(&had->guid, &message->guid)))
            return UNCERTAIN;
        *found = pair;
        if (side->live)
            return ALIVE;
        if (!side->record->record.successor)
            return expunged_here(merge, end, side->record, message) ? DEAD : UNCERTAIN;
        pair = next_of(merge, end, side->record, message);
    }
    return UNCERTAIN;
}

struct trace {
    enum whereabouts state[ENDS];
    struct pair *found[ENDS]; /* where the end has it, if alive */
};

static enum whereabouts trace_end(const struct merge *merge, int end, struct pair *pair,
                                  const struct record *message, struct pair **found)
{
    const struct side *side = &pair->side[end];
    if (!side->record)
        return rules_dead_on_evidence(merge, end, pair) ? DEAD : UNCERTAIN;
    /* The one that both had may be forgotten, and a tombstone of another be buried here. */
    if (rules_tombstone(side) && !rules_old(merge->ends[end], side->record))
        return DEAD;
    return follow(merge, end, pair, message, found);
}

/* Follows both ends' tombstones from a UID that both had. False: they lead nowhere. */
static bool trace_shared(const struct merge *merge, struct pair *pair, const struct record *message,
                         struct trace *trace)
{
    bool moved = false;
    for (int end = M; end <= R; end++) {
        trace->state[end] = trace_end(merge, end, pair, message, &trace->found[end]);
        moved |= trace->state[end] == ALIVE && trace->found[end] != pair;
    }
    return moved;
}

/* The same from a UID under which both got one delivery: it is one message if it lives at both. */
static bool trace_delivery(const struct merge *merge, struct pair *pair, struct trace *trace)
{
    if (!pair->side[M].record || !pair->side[R].record || !rules_one_delivery(merge, pair) ||
        (pair->side[M].live && pair->side[R].live))
        return false;
    for (int end = M; end <= R; end++) {
        const struct record *message = &pair->side[end].record->record;
        trace->state[end] = follow(merge, end, pair, message, &trace->found[end]);
        if (trace->state[end] != ALIVE)
            return false;
    }
    return true;
}

static bool trace(const struct merge *merge, struct pair *pair, struct trace *trace)
{
    const struct record *message = shared_message(merge, pair);
    *trace = (struct trace){{UNCERTAIN, UNCERTAIN}, {NULL, NULL}};
    return message ? trace_shared(merge, pair, message, trace) : trace_delivery(merge, pair, trace);
}

void rules_mark_origins(struct merge *merge)
{
    struct trace way;
    for (size_t i = 0; i < merge->count; i++) {
        struct pair *pair = &merge->pairs[i];
        if (!trace(merge, pair, &way))
            continue;
        for (int end = M; end <= R; end++)
            if (way.state[end] == ALIVE)
                way.found[end]->side[end].origin = pair->uid;
    }
}

static void unite_moved(struct pair *pair, const struct trace *way)
{
    if (way->state[M] != ALIVE || way->state[R] != ALIVE)
        return;
    rules_unite(way->found[M], way->found[R]);
    if (way->found[M] == pair) /* R's clients know that this UID is gone */
        pair->side[M].fate = MOVE;
}

static void kill_moved(const struct trace *way, int end)
{
    if (way->state[end] == ALIVE && way->state[OTHER(end)] == DEAD &&
        !way->found[end]->side[end].twin)
        way->found[end]->side[end].fate = DIE;
}

/* What lives at both ends, by whatever way, is not expunged by another. */
void rules_carry(struct merge *merge)
{
    struct trace way;
    for (size_t i = 0; i < merge->count; i++)
        if (trace(merge, &merge->pairs[i], &way))
            unite_moved(&merge->pairs[i], &way);
    for (size_t i = 0; i < merge->count; i++)
        if (trace(merge, &merge->pairs[i], &way)) {
            kill_moved(&way, M);
            kill_moved(&way, R);
        }
}
