/* The merge rules: docs/MERGE.md is the table with its reasons, `rows` below is the same table.
 *
 * merge_plan_make() goes through the UIDs several times, always in UID order:
 *   pair_up     both lists become one of pairs: what either end has under a UID
 *   trace       a message that an earlier merge gave another UID is recognised by the tombstones
 *   classify    the first row that fits says what becomes of each end's message
 *   carry       what one end did to a UID reaches the message under the UID that it has now (row 2)
 *   join        one delivery that was tried at both ends becomes one message again (row 5)
 *   give_out    new UIDs
 *   emit        actions for M
 */
#include "mailbox/rules.h"

#include "base/err.h"
#include "mailbox/rules_flags.h"

#include <stdlib.h>
#include <string.h>

enum { M, R, ENDS };

#define OTHER(end) ((end) == M ? R : M)

/* How often a message may have moved on. Hostile tombstones may point in circles. */
#define HOPS_MAX 64u

/* What becomes of a live message. */
enum fate {
    DIE,
    KEEP, /* goes on under its UID */
    MOVE, /* goes on under a new UID; this one dies */
    JOIN  /* R's only: is the same message as M's, and goes on with it */
};

struct pair;

/* What one end has under a UID. */
struct side {
    const struct merge_record *record; /* NULL: absent */
    bool live;
    bool known;      /* both ends had it at their bases */
    enum fate fate;  /* of a live one */
    uint32_t origin; /* the UID under which both ends had this message at their bases; 0: its own */
    struct pair *twin; /* where the other end has the same message */
    uint32_t goes_on;  /* its UID afterwards; 0: it dies */
};

struct pair {
    uint32_t uid;
    struct side side[ENDS];
    const struct row *row;
};

struct merge {
    const struct merge_input *input;
    const struct merge_end *ends[ENDS];
    struct pair *pairs;
    size_t count;
    uint32_t next; /* the next new UID */
    struct merge_plan *plan;
};

static int out_of_memory(void)
{
    return fail(ERR_NOMEM, "merging a mailbox: out of memory");
}

/* ---- Pairs ---- */

static bool tombstone(const struct side *side)
{
    return side->record && !side->live;
}

static bool changed(const struct merge *merge, int end, const struct merge_record *record)
{
    return merge_changed(merge->ends[end], record);
}

static bool old(const struct merge *merge, int end, const struct merge_record *record)
{
    return merge_old(merge->ends[end], record);
}

static bool same_bases(const struct merge *merge)
{
    return merge->ends[M]->base == merge->ends[R]->base;
}

/* Whether what the other end had under this UID at its base was here at this end's base. Of equal
 * bases that is what they mean. Otherwise the higher one is a merge that took in all that the other
 * had, but not the other way round. */
static bool had(const struct merge *merge, int end, const struct pair *pair)
{
    const struct merge_end *here = merge->ends[end];
    const struct merge_record *record = pair->side[end].record;
    if (here->base >= merge->ends[OTHER(end)]->base)
        return true;
    if (here->base_uidnext)
        return pair->uid < here->base_uidnext;
    return record && old(merge, end, record);
}

static void meet(const struct merge *merge, struct pair *pair)
{
    for (int end = M; end <= R; end++) {
        struct side *side = &pair->side[end];
        side->live = side->record && record_live(&side->record->record);
        side->known = side->record && old(merge, end, side->record) && had(merge, OTHER(end), pair);
    }
}

static int check_order(const struct merge_end *end)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->records[i].record.uid <= (i ? end->records[i - 1].record.uid : 0))
            return fail(ERR_CORRUPT, "merging a mailbox: records are not in UID order");
    return ERR_OK;
}

/* A record that one end lacks never moves the other's cursor. */
static int pair_up(struct merge *merge)
{
    const struct merge_end *m = merge->ends[M];
    const struct merge_end *r = merge->ends[R];
    merge->pairs = calloc(m->count + r->count + 1, sizeof *merge->pairs);
    if (!merge->pairs)
        return out_of_memory();
    for (size_t i = 0, j = 0; i < m->count || j < r->count;) {
        struct pair *pair = &merge->pairs[merge->count++];
        uint32_t at_m = i < m->count ? m->records[i].record.uid : UINT32_MAX;
        uint32_t at_r = j < r->count ? r->records[j].record.uid : UINT32_MAX;
        pair->uid = at_m < at_r ? at_m : at_r;
        if (i < m->count && at_m == pair->uid)
            pair->side[M].record = &m->records[i++];
        if (j < r->count && at_r == pair->uid)
            pair->side[R].record = &r->records[j++];
        meet(merge, pair);
    }
    return ERR_OK;
}

static struct pair *find(const struct merge *merge, uint32_t uid)
{
    size_t low = 0;
    size_t high = merge->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (merge->pairs[middle].uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < merge->count && merge->pairs[low].uid == uid ? &merge->pairs[low] : NULL;
}

/* Absent at this end, on evidence: nothing is missing there, and it may have forgotten a tombstone
 * of that age. What both had at their bases was expunged after this end's. */
static bool dead_on_evidence(const struct merge *merge, int end, const struct pair *pair)
{
    const struct merge_end *here = merge->ends[end];
    const struct merge_record *there = pair->side[OTHER(end)].record;
    uint64_t since = here->base;
    if (there && there->record.append_modseq < since)
        since = there->record.append_modseq;
    return !pair->side[end].record && pair->uid < here->uidnext && here->sound &&
           here->forgotten >= since;
}

/* ---- Messages that went on under another UID ---- */

static struct pair *with_guid(const struct merge *merge, int end, uint32_t uid,
                              const struct guid *guid)
{
    struct pair *pair = find(merge, uid);
    const struct merge_record *record = pair ? pair->side[end].record : NULL;
    return record && guid_equal(&record->record.guid, guid) ? pair : NULL;
}

/* Where the message with this GUID went from a tombstone. A UID that died with two messages (row 6)
 * has one tombstone, which names M's of then. R's is its neighbour: give_out_one() sees to it that
 * nothing else is. */
static struct pair *next_of(const struct merge *merge, int end, const struct merge_record *from,
                            const struct guid *guid)
{
    uint32_t uid = from->record.successor;
    struct pair *pair = with_guid(merge, end, uid, guid);
    if (pair || guid_equal(guid, &from->record.guid))
        return pair;
    const uint32_t beside[] = {uid - 1, uid + 1};
    for (size_t i = 0; i < 2; i++) {
        pair = with_guid(merge, end, beside[i], guid);
        if (pair && old(merge, end, pair->side[end].record))
            return pair;
    }
    return NULL;
}

/* The end whose base the other knows. */
static int behind(const struct merge *merge)
{
    return merge->ends[M]->base < merge->ends[R]->base ? M : R;
}

/* The GUID of the message that both had under this UID. Between unequal bases a UID may have had
 * two messages: the lower base had only the one. NULL: not to be known. */
static const struct guid *shared_guid(const struct merge *merge, const struct pair *pair)
{
    int lower = behind(merge);
    const struct side *sides[] = {&pair->side[lower], &pair->side[OTHER(lower)]};
    for (size_t i = 0; i < (same_bases(merge) ? 2 : 1); i++)
        if (sides[i]->known)
            return &sides[i]->record->record.guid;
    return NULL;
}

enum whereabouts { UNCERTAIN, DEAD, ALIVE };

/* Whether a message that ends in this tombstone was expunged at this end alone. What was dead at
 * the lower base the other end knows already. */
static bool expunged_here(const struct merge *merge, int end, const struct merge_record *tomb,
                          const struct guid *guid)
{
    bool since =
        changed(merge, end, tomb) || merge->ends[end]->base > merge->ends[OTHER(end)]->base;
    return since && guid_equal(&tomb->record.guid, guid);
}

/* What an end has made of the message that both had under this pair's UID. If it went on under
 * another that both had, too, that one's pair tells. */
static enum whereabouts follow(const struct merge *merge, int end, struct pair *pair,
                               const struct guid *guid, struct pair **found)
{
    for (unsigned hops = 0; pair && hops < HOPS_MAX; hops++) {
        const struct side *side = &pair->side[end];
        const struct guid *had_guid = shared_guid(merge, pair);
        if (hops && side->known && !(had_guid && !guid_equal(had_guid, guid)))
            return UNCERTAIN;
        *found = pair;
        if (side->live)
            return ALIVE;
        if (!side->record->record.successor)
            return expunged_here(merge, end, side->record, guid) ? DEAD : UNCERTAIN;
        pair = next_of(merge, end, side->record, guid);
    }
    return UNCERTAIN;
}

struct trace {
    enum whereabouts state[ENDS];
    struct pair *found[ENDS]; /* where the end has it, if alive */
};

static bool same_guid(const struct pair *pair)
{
    return guid_equal(&pair->side[M].record->record.guid, &pair->side[R].record->record.guid);
}

static enum whereabouts trace_end(const struct merge *merge, int end, struct pair *pair,
                                  const struct guid *guid, struct pair **found)
{
    const struct side *side = &pair->side[end];
    if (!side->record)
        return dead_on_evidence(merge, end, pair) ? DEAD : UNCERTAIN;
    /* The one that both had may be forgotten, and a tombstone of another be buried here. */
    if (tombstone(side) && !old(merge, end, side->record))
        return DEAD;
    return follow(merge, end, pair, guid, found);
}

/* Follows both ends' tombstones from a UID that both had. False: they lead nowhere. */
static bool trace_shared(const struct merge *merge, struct pair *pair, const struct guid *guid,
                         struct trace *trace)
{
    bool moved = false;
    for (int end = M; end <= R; end++) {
        trace->state[end] = trace_end(merge, end, pair, guid, &trace->found[end]);
        moved |= trace->state[end] == ALIVE && trace->found[end] != pair;
    }
    return moved;
}

/* The same from a UID under which both got one delivery: it is one message if it lives at both. */
static bool trace_delivery(const struct merge *merge, struct pair *pair, struct trace *trace)
{
    if (!pair->side[M].record || !pair->side[R].record || !same_guid(pair) ||
        (pair->side[M].live && pair->side[R].live))
        return false;
    for (int end = M; end <= R; end++) {
        const struct guid *guid = &pair->side[end].record->record.guid;
        trace->state[end] = follow(merge, end, pair, guid, &trace->found[end]);
        if (trace->state[end] != ALIVE)
            return false;
    }
    return true;
}

static bool trace(const struct merge *merge, struct pair *pair, struct trace *trace)
{
    const struct guid *guid = shared_guid(merge, pair);
    *trace = (struct trace){{UNCERTAIN, UNCERTAIN}, {NULL, NULL}};
    return guid ? trace_shared(merge, pair, guid, trace) : trace_delivery(merge, pair, trace);
}

static void mark_origins(struct merge *merge)
{
    struct trace way;
    for (size_t i = 0; i < merge->count; i++) {
        struct pair *pair = &merge->pairs[i];
        if (!trace(merge, pair, &way))
            continue;
        for (int end = M; end <= R; end++)
            if (way.state[end] == ALIVE && way.found[end] != pair)
                way.found[end]->side[end].origin = pair->uid;
    }
}

/* ---- The table ---- */

/* Whether it is certain that a message, which the other end never had, is not an old one under a
 * new UID: that is, whether the tombstones of the merges that might have moved it are all there. */
static bool surely_new(const struct merge *merge, int end, const struct side *side)
{
    const struct merge_end *here = merge->ends[end];
    if (side->known)
        return false;
    if (old(merge, end, side->record))
        return here->forgotten <= merge->ends[OTHER(end)]->base;
    return !here->merged || here->forgotten <= here->base;
}

static bool same_message(const struct merge *merge, const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    const struct side *r = &pair->side[R];
    return same_guid(pair) && m->origin == r->origin && surely_new(merge, M, m) &&
           surely_new(merge, R, r);
}

static bool both_live(const struct pair *pair)
{
    return pair->side[M].live && pair->side[R].live;
}

/* The end at which alone the UID is live; ENDS: none. */
static int sole(const struct pair *pair)
{
    if (pair->side[M].live == pair->side[R].live)
        return ENDS;
    return pair->side[M].live ? M : R;
}

static bool by_f_live_at_both(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    /* One that was healed has a newer append at that end. */
    return both_live(pair) && (pair->side[M].known || pair->side[R].known) && same_guid(pair);
}

static bool by_f_dead_at_other(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->side[end].known &&
           (tombstone(&pair->side[OTHER(end)]) || dead_on_evidence(merge, OTHER(end), pair));
}

static bool by_f_lost_at_other(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->side[end].known && !pair->side[OTHER(end)].record &&
           pair->uid < merge->ends[OTHER(end)]->uidnext;
}

static bool same_record(const struct merge_record *a, const struct merge_record *b)
{
    const struct record *x = &a->record;
    const struct record *y = &b->record;
    return x->flags == y->flags && x->modseq == y->modseq && x->changed == y->changed &&
           x->size == y->size && x->internal_date == y->internal_date &&
           x->save_date == y->save_date && x->append_modseq == y->append_modseq &&
           bytes_equal(a->keywords, b->keywords);
}

/* Nobody changed it, and yet it is not the same at both ends: R's is the one that is proven. */
static bool by_f_spoilt_at_master(const struct merge *merge, const struct pair *pair)
{
    const struct merge_record *m = pair->side[M].record;
    const struct merge_record *r = pair->side[R].record;
    return same_bases(merge) && !merge->ends[M]->sound && merge->ends[R]->sound &&
           by_f_live_at_both(merge, pair) && !changed(merge, M, m) && !changed(merge, R, r) &&
           !same_record(m, r);
}

static bool one_message(const struct merge *merge, const struct pair *pair)
{
    return both_live(pair) && same_message(merge, pair);
}

static bool one_message_expunged(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && tombstone(&pair->side[OTHER(end)]) && same_message(merge, pair);
}

static bool two_messages(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    return both_live(pair);
}

static bool other_tombstone(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    int end = sole(pair);
    return end != ENDS && tombstone(&pair->side[OTHER(end)]);
}

static bool uid_unused(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->uid >= merge->ends[OTHER(end)]->uidnext;
}

static bool uid_used_up(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    return sole(pair) != ENDS;
}

/* Or by F, but the other end lacks it and cannot have purged it. */
static bool tombstone_after_f(const struct merge *merge, const struct pair *pair)
{
    for (int end = M; end <= R; end++) {
        const struct side *side = &pair->side[end];
        if (!side->record)
            continue;
        if (!side->known || changed(merge, end, side->record))
            return true;
        if (!pair->side[OTHER(end)].record &&
            side->record->record.modseq > merge->ends[OTHER(end)]->forgotten)
            return true;
    }
    return false;
}

static bool tombstone_by_f(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    (void)pair;
    return true;
}

/* Row 5 is no row of its own: join() goes over what rows 6 to 9 have caught. LOST is no row either,
 * but damage, which is seen before it can be taken for a change. */
enum { LOST = 0 };

struct row {
    unsigned number;
    bool (*fits)(const struct merge *merge, const struct pair *pair);
    enum fate fate[ENDS]; /* of M's, of R's, where they are live */
};

static const struct row rows[] = {
    {LOST, by_f_spoilt_at_master, {KEEP, KEEP}},
    {1, by_f_live_at_both, {KEEP, JOIN}},
    {2, by_f_dead_at_other, {DIE, DIE}}, /* or what carry() says */
    {LOST, by_f_lost_at_other, {KEEP, KEEP}},
    {3, one_message, {KEEP, JOIN}},
    {4, one_message_expunged, {DIE, DIE}},
    {6, two_messages, {MOVE, MOVE}},
    {7, other_tombstone, {MOVE, MOVE}},
    {8, uid_unused, {KEEP, KEEP}},
    {9, uid_used_up, {MOVE, MOVE}},
    {10, tombstone_after_f, {DIE, DIE}},
    {11, tombstone_by_f, {DIE, DIE}},
};

static void classify(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++) {
        struct pair *pair = &merge->pairs[i];
        const struct row *row = rows;
        while (!row->fits(merge, pair))
            row++;
        pair->row = row;
        for (int end = M; end <= R; end++)
            pair->side[end].fate = row->fate[end];
        if (pair->side[R].live && row->fate[R] == JOIN) {
            pair->side[M].twin = pair;
            pair->side[R].twin = pair;
        }
    }
}

/* ---- Row 2: what was done to a UID reaches the message under the UID that it has now ---- */

static void unite(struct pair *m, struct pair *r)
{
    m->side[M].twin = r;
    r->side[R].twin = m;
    r->side[R].fate = JOIN;
}

static void unite_moved(struct pair *pair, const struct trace *way)
{
    if (way->state[M] != ALIVE || way->state[R] != ALIVE)
        return;
    unite(way->found[M], way->found[R]);
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
static void carry(struct merge *merge)
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

/* ---- Row 5: one delivery that was tried at both ends ---- */

static bool candidate(const struct merge *merge, int end, const struct pair *pair)
{
    const struct side *side = &pair->side[end];
    return side->live && side->fate != DIE && !side->twin && side->origin == 0 &&
           pair->row->number >= 6 && pair->row->number <= 9 && surely_new(merge, end, side);
}

/* Records in the order in which they are matched. */
struct item {
    const struct merge_record *record;
    struct pair *pair;
};

static int order_items(const void *a, const void *b)
{
    const struct record *x = &((const struct item *)a)->record->record;
    const struct record *y = &((const struct item *)b)->record->record;
    int order = guid_compare(&x->guid, &y->guid);
    return order ? order : (x->uid > y->uid) - (x->uid < y->uid);
}

static void unite_equal(const struct item *m, size_t count_m, const struct item *r, size_t count_r)
{
    for (size_t i = 0, j = 0; i < count_m && j < count_r;) {
        int order = guid_compare(&m[i].record->record.guid, &r[j].record->record.guid);
        if (order == 0)
            unite(m[i].pair, r[j].pair);
        i += order <= 0;
        j += order >= 0;
    }
}

static int join(struct merge *merge)
{
    struct item *items[ENDS];
    size_t count[ENDS] = {0, 0};
    items[M] = malloc((merge->count + 1) * sizeof *items[M]);
    items[R] = malloc((merge->count + 1) * sizeof *items[R]);
    int rc = items[M] && items[R] ? ERR_OK : out_of_memory();
    for (int end = M; end <= R && rc == ERR_OK; end++) {
        for (size_t i = 0; i < merge->count; i++)
            if (candidate(merge, end, &merge->pairs[i]))
                items[end][count[end]++] =
                    (struct item){merge->pairs[i].side[end].record, &merge->pairs[i]};
        qsort(items[end], count[end], sizeof *items[end], order_items);
    }
    if (rc == ERR_OK)
        unite_equal(items[M], count[M], items[R], count[R]);
    free(items[M]);
    free(items[R]);
    return rc;
}

/* ---- New UIDs ---- */

static uint32_t highest_next(const struct merge *merge)
{
    uint32_t next = 1;
    for (int end = M; end <= R; end++)
        if (next < merge->ends[end]->uidnext)
            next = merge->ends[end]->uidnext;
    if (merge->count && merge->pairs[merge->count - 1].uid >= next)
        next =
            merge->pairs[merge->count - 1].uid + (merge->pairs[merge->count - 1].uid < UINT32_MAX);
    return next;
}

static int give_new(struct merge *merge, uint32_t *uid)
{
    if (merge->next >= UINT32_MAX)
        return fail(ERR_REFUSED, "merging a mailbox: its UIDs are used up");
    *uid = merge->next++;
    return ERR_OK;
}

/* The two of row 6 get neighbouring UIDs, the lower GUID first, and a UID before them stays unused:
 * so who has a neighbour has it from the same UID. */
static int give_out_one(struct merge *merge, struct pair *pair)
{
    int first = M;
    if (both_live(pair) &&
        guid_compare(&pair->side[R].record->record.guid, &pair->side[M].record->record.guid) < 0)
        first = R;
    const int order[] = {first, OTHER(first)};
    bool skipped = false;
    for (size_t i = 0; i < ENDS; i++) {
        struct side *side = &pair->side[order[i]];
        if (!side->live || (side->fate != MOVE && side->fate != KEEP))
            continue;
        side->goes_on = pair->uid;
        if (side->fate == KEEP)
            continue;
        merge->next += !skipped && merge->next < UINT32_MAX;
        skipped = true;
        int rc = give_new(merge, &side->goes_on);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int give_out(struct merge *merge)
{
    int rc = ERR_OK;
    merge->next = highest_next(merge);
    for (size_t i = 0; i < merge->count && rc == ERR_OK; i++)
        rc = give_out_one(merge, &merge->pairs[i]);
    for (size_t i = 0; i < merge->count; i++) {
        struct side *side = &merge->pairs[i].side[R];
        if (side->live && side->fate == JOIN)
            side->goes_on = side->twin->side[M].goes_on;
    }
    return rc;
}

/* ---- Flags ---- */

/* The flags of M's message, and of R's if that is the same one. */
static int settle(const struct merge *merge, const struct pair *pair, struct flags *out)
{
    const struct merge_record *m = pair->side[M].record;
    if (!pair->side[M].twin)
        return merge_flags_copy(merge_flags_now(m), out);
    const struct merge_record *r = pair->side[M].twin->side[R].record;
    bool deliveries = !pair->side[M].known && !pair->side[M].twin->side[R].known;
    return merge_flags_settle(merge->input, m, r, deliveries, out);
}

/* ---- Actions ---- */

static int add_action(struct merge_plan *plan, enum merge_kind kind, uint32_t uid, uint32_t other,
                      const struct merge_record *from, struct flags *flags)
{
    if (plan->count == plan->capacity) {
        size_t capacity = plan->capacity ? 2 * plan->capacity : 64;
        struct merge_action *actions = realloc(plan->actions, capacity * sizeof *actions);
        if (!actions) {
            if (flags)
                flags_free(flags);
            return out_of_memory();
        }
        plan->actions = actions;
        plan->capacity = capacity;
    }
    struct merge_action *action = &plan->actions[plan->count++];
    *action = (struct merge_action){.kind = kind, .uid = uid, .other = other, .from = from};
    if (flags) { /* the plan takes them over */
        action->system = flags->system;
        action->keywords = flags->keywords;
        *flags = (struct flags){0};
    }
    return ERR_OK;
}

/* A client of either end must see that something happened here: it did, after the base; or M's
 * record is not what R's clients know, or older than what they know. */
static int touched(const struct merge *merge, const struct pair *pair, bool *touch)
{
    const struct merge_record *m = pair->side[M].record;
    const struct merge_record *r = pair->side[R].record;
    bool equal = true;
    int rc = ERR_OK;
    *touch = changed(merge, M, m) || pair->side[M].live != pair->side[R].live ||
             (r && (changed(merge, R, r) || r->record.modseq > m->record.modseq));
    if (!*touch && r && pair->side[M].live)
        rc = merge_flags_equal(merge_flags_now(m), merge_flags_now(r), &equal);
    *touch |= !equal;
    return rc;
}

static int touch(const struct merge *merge, const struct pair *pair)
{
    bool needed;
    int rc = touched(merge, pair, &needed);
    return rc || !needed
               ? rc
               : add_action(merge->plan, MERGE_TOUCH, pair->uid, 0, pair->side[M].record, NULL);
}

/* R's live message is appended at M. */
static int add_replicas(const struct merge *merge, const struct pair *pair)
{
    const struct merge_record *r = pair->side[R].record;
    uint32_t uid = pair->side[R].goes_on;
    struct flags flags = {0};
    bool lost = pair->row->number == LOST;
    int rc = merge_flags_copy(merge_flags_now(r), &flags);
    merge->plan->copied_back += !lost;
    merge->plan->renumbered += uid != pair->uid;
    if (rc) {
        flags_free(&flags);
        return rc;
    }
    return add_action(merge->plan, lost ? MERGE_HEAL : MERGE_ADD, uid, 0, r, &flags);
}

static int keep_masters(const struct merge *merge, const struct pair *pair, struct flags *flags)
{
    bool equal;
    int rc =
        merge_flags_equal(merge_flags_now(pair->side[M].record),
                          (struct flag_view){flags->system, buf_view(&flags->keywords)}, &equal);
    if (rc)
        return rc;
    if (equal)
        return touch(merge, pair);
    return add_action(merge->plan, MERGE_FLAGS, pair->uid, 0, pair->side[M].record, flags);
}

/* Where M's dying UID points: to where its own message goes, else to where R's goes; but never from
 * one message to another with the same GUID, which would be taken for it. */
static uint32_t pointer(const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    const struct side *r = &pair->side[R];
    uint32_t to = m->live ? m->goes_on : 0;
    if (!to && r->live && !(m->record && same_guid(pair)))
        to = r->goes_on;
    if (!to && tombstone(r))
        to = r->record->record.successor;
    return to == pair->uid ? 0 : to;
}

static int emit_live(const struct merge *merge, const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    struct flags flags = {0};
    int rc = m->fate == DIE ? ERR_OK : settle(merge, pair, &flags);
    merge->plan->expunged += m->fate == DIE;
    merge->plan->renumbered += m->fate == MOVE;
    if (rc == ERR_OK && m->fate == KEEP)
        rc = keep_masters(merge, pair, &flags);
    if (rc == ERR_OK && m->fate == MOVE)
        rc = add_action(merge->plan, MERGE_RENUMBER, m->goes_on, 0, m->record, &flags);
    if (rc == ERR_OK && m->fate != KEEP)
        rc = add_action(merge->plan, MERGE_EXPUNGE, pair->uid, pointer(pair), m->record, NULL);
    flags_free(&flags);
    return rc;
}

static int emit_tombstone(const struct merge *merge, const struct pair *pair)
{
    const struct merge_record *m = pair->side[M].record;
    uint32_t to = pointer(pair);
    if (to && !m->record.successor)
        return add_action(merge->plan, MERGE_POINT, pair->uid, to, m, NULL);
    return touch(merge, pair);
}

static int emit_absent(const struct merge *merge, const struct pair *pair)
{
    const struct side *r = &pair->side[R];
    if ((r->live && r->fate == KEEP) || pair->row->number == 11)
        return ERR_OK;
    return add_action(merge->plan, MERGE_BURY, pair->uid, pointer(pair), r->record, NULL);
}

static int emit_pair(const struct merge *merge, const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    const struct side *r = &pair->side[R];
    int rc = ERR_OK;
    merge->plan->damaged += pair->row->number == LOST;
    if (r->live) {
        merge->plan->expunged += r->fate == DIE;
        merge->plan->renumbered += r->fate == JOIN && r->twin != pair;
        if (r->fate == KEEP || r->fate == MOVE)
            rc = add_replicas(merge, pair);
    }
    if (rc)
        return rc;
    if (m->live && r->live && pair->row->number == LOST)
        return ERR_OK; /* the heal says it all */
    if (m->live)
        return emit_live(merge, pair);
    return m->record ? emit_tombstone(merge, pair) : emit_absent(merge, pair);
}

static int compare_actions(const void *a, const void *b)
{
    const struct merge_action *x = a;
    const struct merge_action *y = b;
    enum merge_kind kind_x = x->kind < MERGE_RENUMBER ? MERGE_RENUMBER : x->kind;
    enum merge_kind kind_y = y->kind < MERGE_RENUMBER ? MERGE_RENUMBER : y->kind;
    if (kind_x != kind_y)
        return kind_x < kind_y ? -1 : 1;
    return (x->uid > y->uid) - (x->uid < y->uid);
}

static void end_plan(struct merge *merge)
{
    struct merge_plan *plan = merge->plan;
    if (plan->count)
        qsort(plan->actions, plan->count, sizeof *plan->actions, compare_actions);
    plan->uidnext = merge->next;
}

static int emit(struct merge *merge)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < merge->count && rc == ERR_OK; i++)
        rc = emit_pair(merge, &merge->pairs[i]);
    if (rc == ERR_OK)
        end_plan(merge);
    return rc;
}

static int plan_all(struct merge *merge)
{
    int rc = pair_up(merge);
    if (rc)
        return rc;
    mark_origins(merge);
    classify(merge);
    carry(merge);
    if (merge->input->base_known)
        rc = join(merge);
    if (rc == ERR_OK)
        rc = give_out(merge);
    return rc ? rc : emit(merge);
}

static int begin(struct merge *merge, const struct merge_input *input, struct merge_plan *plan)
{
    *plan = (struct merge_plan){0};
    *merge =
        (struct merge){.input = input, .ends = {&input->master, &input->replica}, .plan = plan};
    int rc = check_order(&input->master);
    return rc ? rc : check_order(&input->replica);
}

static int finish(struct merge *merge, int rc)
{
    free(merge->pairs);
    if (rc)
        merge_plan_free(merge->plan);
    return rc;
}

int merge_plan_make(const struct merge_input *input, struct merge_plan *plan)
{
    struct merge merge;
    int rc = begin(&merge, input, plan);
    return finish(&merge, rc ? rc : plan_all(&merge));
}

/* ---- Made independently ---- */

static int order_by_uid(const void *a, const void *b)
{
    uint32_t x = ((const struct item *)a)->record->record.uid;
    uint32_t y = ((const struct item *)b)->record->record.uid;
    return (x > y) - (x < y);
}

static size_t list_live(const struct merge_end *end, struct item *items)
{
    size_t count = 0;
    for (size_t i = 0; i < end->count; i++)
        if (record_live(&end->records[i].record))
            items[count++] = (struct item){&end->records[i], NULL};
    qsort(items, count, sizeof *items, order_items);
    return count;
}

static int unite_flags(struct merge *merge, const struct merge_record *m,
                       const struct merge_record *r)
{
    struct flags flags = {0};
    bool equal = false;
    int rc = merge_flags_unite(m, r, &flags);
    if (rc == ERR_OK)
        rc = merge_flags_equal(merge_flags_now(m),
                               (struct flag_view){flags.system, buf_view(&flags.keywords)}, &equal);
    if (rc == ERR_OK && !equal)
        rc = add_action(merge->plan, MERGE_FLAGS, m->record.uid, 0, m, &flags);
    flags_free(&flags);
    return rc;
}

static int add_alone(struct merge *merge, struct item *alone, size_t count)
{
    qsort(alone, count, sizeof *alone, order_by_uid);
    for (size_t i = 0; i < count; i++) {
        struct flags flags = {0};
        uint32_t uid = 0;
        int rc = give_new(merge, &uid);
        if (rc == ERR_OK)
            rc = merge_flags_copy(merge_flags_now(alone[i].record), &flags);
        if (rc == ERR_OK)
            rc = add_action(merge->plan, MERGE_ADD, uid, 0, alone[i].record, &flags);
        flags_free(&flags);
        if (rc)
            return rc;
        merge->plan->copied_back++;
        merge->plan->renumbered++;
    }
    return ERR_OK;
}

/* Both lists have room for all of their end's records. */
static int match(struct merge *merge, struct item *m, struct item *r)
{
    size_t count_m = list_live(merge->ends[M], m);
    size_t count_r = list_live(merge->ends[R], r);
    size_t alone = 0; /* R's that have no partner move to the front of R's list */
    int rc = ERR_OK;
    for (size_t i = 0, j = 0; j < count_r && rc == ERR_OK;) {
        int order = 1;
        if (i < count_m)
            order = guid_compare(&m[i].record->record.guid, &r[j].record->record.guid);
        if (order == 0)
            rc = unite_flags(merge, m[i].record, r[j].record);
        if (order > 0)
            r[alone++] = r[j];
        i += order <= 0;
        j += order >= 0;
    }
    return rc ? rc : add_alone(merge, r, alone);
}

static int plan_independent(struct merge *merge)
{
    struct item *m = malloc((merge->ends[M]->count + 1) * sizeof *m);
    struct item *r = malloc((merge->ends[R]->count + 1) * sizeof *r);
    merge->next = highest_next(merge);
    int rc = m && r ? match(merge, m, r) : out_of_memory();
    free(m);
    free(r);
    if (rc == ERR_OK)
        end_plan(merge);
    return rc;
}

int merge_plan_independent(const struct merge_input *input, struct merge_plan *plan)
{
    struct merge merge;
    int rc = begin(&merge, input, plan);
    if (rc == ERR_OK)
        rc = pair_up(&merge);
    return finish(&merge, rc ? rc : plan_independent(&merge));
}

void merge_plan_free(struct merge_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        buf_free(&plan->actions[i].keywords);
    free(plan->actions);
    *plan = (struct merge_plan){0};
}
