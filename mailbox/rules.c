/* The merge rules: the table of docs/MERGE.md as code, and the walk over it. The parts, in the
 * order in which merge_plan_make() goes through them, always in UID order:
 *   rules_pair_up        both lists become one of pairs: what either end has under a UID
 *   rules_mark_origins   a message that an earlier merge gave another UID is known by its
 * tombstones classify             the first row that fits says what becomes of each end's message
 *   rules_carry          row 2: what was done to a UID reaches the message under its new one
 *   rules_join           row 5: one delivery that was tried at both ends becomes one message again
 *   rules_give_out       new UIDs
 *   rules_list_ways      R's messages that are M's under another UID
 *   rules_emit           actions for M, with the flags (rules_flags.h)
 */
#include "mailbox/ruling.h"

#include "base/err.h"

#include <stdlib.h>

typedef bool condition(const struct merge *merge, const struct pair *pair);

static condition by_f_spoilt_at_master, by_f_live_at_both, by_f_dead_at_other, by_f_lost_at_other,
    one_message, one_message_expunged, two_messages, other_tombstone, uid_unused, uid_used_up,
    tombstone_after_f, tombstone_by_f;

/* What is damage has no number: it is no row, but seen before it can be taken for a change. */
enum { DAMAGE = 0 };

struct row {
    unsigned number;
    condition *fits;
    enum fate fate[ENDS]; /* of M's, of R's */
};

static const struct row rows[] = {
    {DAMAGE, by_f_spoilt_at_master, {KEEP, KEEP}},
    {1, by_f_live_at_both, {KEEP, JOIN}},
    {2, by_f_dead_at_other, {DIE, DIE}}, /* or what rules_carry() says */
    {DAMAGE, by_f_lost_at_other, {KEEP, KEEP}},
    {3, one_message, {KEEP, JOIN}},
    {4, one_message_expunged, {DIE, DIE}},
    /* 5 is about two UIDs: rules_join(), over what the next four catch */
    {6, two_messages, {MOVE, MOVE}},
    {7, other_tombstone, {MOVE, MOVE}},
    {8, uid_unused, {KEEP, KEEP}},
    {9, uid_used_up, {MOVE, MOVE}},
    {10, tombstone_after_f, {DIE, DIE}},
    {11, tombstone_by_f, {KEEP, KEEP}},
};

/* ---- Live at one end or at both ---- */

/* The end at which alone the UID is live; ENDS: none. */
static int sole(const struct pair *pair)
{
    if (pair->side[M].live == pair->side[R].live)
        return ENDS;
    return pair->side[M].live ? M : R;
}

static bool live_against_tombstone(const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && rules_tombstone(&pair->side[OTHER(end)]);
}

/* ---- By F: damage, rows 1 and 2 ---- */

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
    return rules_same_bases(merge) && !merge->ends[M]->sound && merge->ends[R]->sound &&
           by_f_live_at_both(merge, pair) && !rules_changed(merge->ends[M], m) &&
           !rules_changed(merge->ends[R], r) && !same_record(m, r);
}

/* Row 1. */
static bool by_f_live_at_both(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    /* Where one end's append is newer, it was put back there. */
    return rules_both_live(pair) && (pair->side[M].known || pair->side[R].known) &&
           rules_same_guid(pair);
}

/* Row 2. */
static bool by_f_dead_at_other(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->side[end].known &&
           (rules_tombstone(&pair->side[OTHER(end)]) ||
            rules_dead_on_evidence(merge, OTHER(end), pair));
}

/* What row 2 has left; but a mailbox that is made here by the merge has lost nothing. */
static bool by_f_lost_at_other(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->side[end].known && pair->uid < merge->ends[OTHER(end)]->uidnext;
}

/* ---- After F: rows 3, 4 and 6 to 9. Each is what those before it have left ---- */

static bool same_message(const struct merge *merge, const struct pair *pair)
{
    return pair->side[M].origin == pair->side[R].origin && rules_one_delivery(merge, pair);
}

/* Row 3. */
static bool one_message(const struct merge *merge, const struct pair *pair)
{
    return rules_both_live(pair) && same_message(merge, pair);
}

/* Row 4. */
static bool one_message_expunged(const struct merge *merge, const struct pair *pair)
{
    return live_against_tombstone(pair) && same_message(merge, pair);
}

/* Row 6. */
static bool two_messages(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    return rules_both_live(pair);
}

/* Row 7. */
static bool other_tombstone(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    return live_against_tombstone(pair);
}

/* Row 8. */
static bool uid_unused(const struct merge *merge, const struct pair *pair)
{
    int end = sole(pair);
    return end != ENDS && pair->uid >= merge->ends[OTHER(end)]->uidnext;
}

/* Row 9. */
static bool uid_used_up(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    return sole(pair) != ENDS;
}

/* ---- Live at neither: rows 10 and 11 ---- */

/* Row 10. Or by F, but M lacks it and cannot have purged it. (M's own tombstones stand anyway.) */
static bool tombstone_after_f(const struct merge *merge, const struct pair *pair)
{
    const struct side *r = &pair->side[R];
    return r->record && (!r->known || rules_changed(merge->ends[R], r->record) ||
                         r->record->record.modseq > merge->ends[M]->forgotten);
}

/* Row 11. */
static bool tombstone_by_f(const struct merge *merge, const struct pair *pair)
{
    (void)merge;
    (void)pair;
    return true;
}

/* ---- The walk ---- */

static void classify(struct merge *merge)
{
    for (size_t i = 0; i < merge->count; i++) {
        struct pair *pair = &merge->pairs[i];
        const struct row *row = rows;
        while (!row->fits(merge, pair))
            row++;
        pair->damage = row->number == DAMAGE;
        for (int end = M; end <= R; end++)
            pair->side[end].fate = row->fate[end];
        if (row->fate[R] == JOIN)
            rules_unite(pair, pair);
    }
}

static int plan_all(struct merge *merge)
{
    int rc = rules_pair_up(merge);
    if (rc)
        return rc;
    rules_mark_origins(merge);
    classify(merge);
    rules_carry(merge);
    if (merge->input->base_known)
        rc = rules_join(merge, true);
    if (rc == ERR_OK && merge->input->base_known)
        rc = rules_join(merge, false);
    if (rc == ERR_OK)
        rc = rules_give_out(merge);
    if (rc == ERR_OK)
        rc = rules_list_ways(merge);
    return rc ? rc : rules_emit(merge);
}

static int check_order(const struct merge_end *end)
{
    for (size_t i = 0; i < end->count; i++)
        if (end->records[i].record.uid <= (i ? end->records[i - 1].record.uid : 0))
            return fail(ERR_CORRUPT, "merging a mailbox: records are not in UID order");
    return ERR_OK;
}

int rules_begin(struct merge *merge, const struct merge_input *input, struct merge_plan *plan)
{
    *plan = (struct merge_plan){0};
    *merge =
        (struct merge){.input = input, .ends = {&input->master, &input->replica}, .plan = plan};
    int rc = check_order(&input->master);
    return rc ? rc : check_order(&input->replica);
}

int rules_finish(struct merge *merge, int rc)
{
    free(merge->pairs);
    if (rc)
        merge_plan_free(merge->plan);
    return rc;
}

int merge_plan_make(const struct merge_input *input, struct merge_plan *plan)
{
    struct merge merge;
    int rc = rules_begin(&merge, input, plan);
    return rules_finish(&merge, rc ? rc : plan_all(&merge));
}

void merge_plan_free(struct merge_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        buf_free(&plan->actions[i].keywords);
    free(plan->actions);
    free(plan->ways);
    *plan = (struct merge_plan){0};
}
