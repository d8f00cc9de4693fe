/* What is done at M: new UIDs, and an action for whatever changes there. */
#include "mailbox/ruling.h"

#include "base/err.h"
#include "mailbox/rules_flags.h"

#include <stdlib.h>

static int out_of_memory(void)
{
    return fail(ERR_NOMEM, "merging a mailbox: out of memory");
}

/* ---- New UIDs ---- */

uint32_t rules_highest_next(const struct merge *merge)
{
    uint32_t next = 1;
    for (int end = M; end <= R; end++) {
        const struct merge_end *here = merge->ends[end];
        uint32_t last = here->count ? here->records[here->count - 1].record.uid : 0;
        if (next < here->uidnext)
            next = here->uidnext;
        if (next <= last)
            next = last + (last < UINT32_MAX);
    }
    return next;
}

int rules_give_new(struct merge *merge, uint32_t *uid)
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
    if (rules_both_live(pair) &&
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
        int rc = rules_give_new(merge, &side->goes_on);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int rules_give_out(struct merge *merge)
{
    int rc = ERR_OK;
    merge->next = rules_highest_next(merge);
    for (size_t i = 0; i < merge->count && rc == ERR_OK; i++)
        rc = give_out_one(merge, &merge->pairs[i]);
    for (size_t i = 0; i < merge->count; i++) {
        struct side *side = &merge->pairs[i].side[R];
        if (side->live && side->fate == JOIN)
            side->goes_on = side->twin->side[M].goes_on;
    }
    return rc;
}

static bool goes_another_way(const struct pair *pair)
{
    const struct side *r = &pair->side[R];
    return r->live && r->fate == JOIN && r->goes_on != pair->uid;
}

int rules_list_ways(struct merge *merge)
{
    struct merge_plan *plan = merge->plan;
    size_t count = 0;
    for (size_t i = 0; i < merge->count; i++)
        count += goes_another_way(&merge->pairs[i]);
    plan->ways = calloc(count + 1, sizeof *plan->ways);
    if (!plan->ways)
        return out_of_memory();
    for (size_t i = 0; i < merge->count; i++) {
        const struct pair *pair = &merge->pairs[i];
        if (goes_another_way(pair))
            plan->ways[plan->way_count++] =
                (struct merge_way){.from = pair->uid, .to = pair->side[R].goes_on};
    }
    return ERR_OK;
}

/* ---- Flags ---- */

/* The flags of M's message, and of R's if that is the same one. */
static int settle(const struct merge *merge, const struct pair *pair, struct flags *out)
{
    const struct merge_record *m = pair->side[M].record;
    if (!pair->side[M].twin)
        return rules_flags_copy(rules_flags_now(m), out);
    const struct merge_record *r = pair->side[M].twin->side[R].record;
    bool deliveries = !pair->side[M].known && !pair->side[M].twin->side[R].known;
    return rules_flags_settle(merge->input, m, r, deliveries, out);
}

/* ---- Actions ---- */

int rules_add_action(struct merge_plan *plan, enum merge_kind kind, uint32_t uid, uint32_t other,
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

/* What R's clients know may be another version of the record: a later modseq than M's may have
 * reached them without it. That of a tombstone says nothing new, unless it is the later one. */
static bool another_version(const struct pair *pair)
{
    const struct record *m = &pair->side[M].record->record;
    const struct record *r = &pair->side[R].record->record;
    return rules_both_live(pair) ? r->modseq != m->modseq : r->modseq > m->modseq;
}

/* A client of either end must see that something happened here: it did, after the base; or M's
 * record is not what R's clients know. */
static int touched(const struct merge *merge, const struct pair *pair, bool *touch)
{
    const struct merge_record *m = pair->side[M].record;
    const struct merge_record *r = pair->side[R].record;
    bool equal = true;
    int rc = ERR_OK;
    *touch = rules_changed(merge->ends[M], m) || pair->side[M].live != pair->side[R].live ||
             (r && (rules_changed(merge->ends[R], r) || another_version(pair)));
    if (!*touch && r && pair->side[M].live)
        rc = rules_flags_equal(rules_flags_now(m), rules_flags_now(r), &equal);
    *touch |= !equal;
    return rc;
}

static int touch(const struct merge *merge, const struct pair *pair)
{
    bool needed;
    int rc = touched(merge, pair, &needed);
    return rc || !needed ? rc
                         : rules_add_action(merge->plan, MERGE_TOUCH, pair->uid, 0,
                                            pair->side[M].record, NULL);
}

/* R's live message is appended at M. */
static int add_replicas(const struct merge *merge, const struct pair *pair)
{
    const struct merge_record *r = pair->side[R].record;
    uint32_t uid = pair->side[R].goes_on;
    struct flags flags = {0};
    int rc = rules_flags_copy(rules_flags_now(r), &flags);
    merge->plan->copied_back += !pair->damage;
    merge->plan->renumbered += uid != pair->uid;
    if (rc) {
        flags_free(&flags);
        return rc;
    }
    return rules_add_action(merge->plan, pair->damage ? MERGE_HEAL : MERGE_ADD, uid, 0, r, &flags);
}

static int keep_masters(const struct merge *merge, const struct pair *pair, struct flags *flags)
{
    bool equal;
    int rc =
        rules_flags_equal(rules_flags_now(pair->side[M].record),
                          (struct flag_view){flags->system, buf_view(&flags->keywords)}, &equal);
    if (rc)
        return rc;
    if (equal)
        return touch(merge, pair);
    return rules_add_action(merge->plan, MERGE_FLAGS, pair->uid, 0, pair->side[M].record, flags);
}

/* Where M's dying UID points: to where its own message goes, else to where R's goes; but never from
 * one message to another with the same GUID, which would be taken for it. */
static uint32_t pointer(const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    const struct side *r = &pair->side[R];
    uint32_t to = m->live ? m->goes_on : 0;
    if (!to && r->live && !(m->record && rules_same_guid(pair)))
        to = r->goes_on;
    if (!to && rules_tombstone(r))
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
        rc = rules_add_action(merge->plan, MERGE_RENUMBER, m->goes_on, 0, m->record, &flags);
    if (rc == ERR_OK && m->fate != KEEP)
        rc =
            rules_add_action(merge->plan, MERGE_EXPUNGE, pair->uid, pointer(pair), m->record, NULL);
    flags_free(&flags);
    return rc;
}

static int emit_tombstone(const struct merge *merge, const struct pair *pair)
{
    const struct merge_record *m = pair->side[M].record;
    uint32_t to = pointer(pair);
    if (to && !m->record.successor)
        return rules_add_action(merge->plan, MERGE_POINT, pair->uid, to, m, NULL);
    return touch(merge, pair);
}

static int emit_absent(const struct merge *merge, const struct pair *pair)
{
    const struct side *r = &pair->side[R];
    if (r->fate == KEEP)
        return ERR_OK;
    return rules_add_action(merge->plan, MERGE_BURY, pair->uid, pointer(pair), r->record, NULL);
}

static int emit_pair(const struct merge *merge, const struct pair *pair)
{
    const struct side *m = &pair->side[M];
    const struct side *r = &pair->side[R];
    int rc = ERR_OK;
    merge->plan->damaged += pair->damage;
    if (r->live) {
        merge->plan->expunged += r->fate == DIE;
        merge->plan->renumbered += r->fate == JOIN && r->twin != pair;
        if (r->fate == KEEP || r->fate == MOVE)
            rc = add_replicas(merge, pair);
    }
    if (rc)
        return rc;
    if (m->live && r->live && pair->damage)
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

void rules_end_plan(struct merge *merge)
{
    struct merge_plan *plan = merge->plan;
    if (plan->count)
        qsort(plan->actions, plan->count, sizeof *plan->actions, compare_actions);
    plan->uidnext = merge->next;
}

int rules_emit(struct merge *merge)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < merge->count && rc == ERR_OK; i++)
        rc = emit_pair(merge, &merge->pairs[i]);
    if (rc == ERR_OK)
        rules_end_plan(merge);
    return rc;
}
