/* Two mailboxes that were made independently: UIDs mean nothing across the ends. */
#include "mailbox/ruling.h"

#include "base/err.h"
#include "mailbox/rules_flags.h"

#include <stdlib.h>

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
    qsort(items, count, sizeof *items, rules_order_items);
    return count;
}

static int unite_flags(struct merge *merge, const struct merge_record *m,
                       const struct merge_record *r)
{
    struct flags flags = {0};
    bool equal = false;
    int rc = rules_flags_unite(m, r, &flags);
    if (rc == ERR_OK)
        rc = rules_flags_equal(rules_flags_now(m),
                               (struct flag_view){flags.system, buf_view(&flags.keywords)}, &equal);
    if (rc == ERR_OK && !equal)
        rc = rules_add_action(merge->plan, MERGE_FLAGS, m->record.uid, 0, m, &flags);
    flags_free(&flags);
    return rc;
}

static int add_alone(struct merge *merge, struct item *alone, size_t count)
{
    qsort(alone, count, sizeof *alone, order_by_uid);
    for (size_t i = 0; i < count; i++) {
        struct flags flags = {0};
        uint32_t uid = 0;
        int rc = rules_give_new(merge, &uid);
        if (rc == ERR_OK)
            rc = rules_flags_copy(rules_flags_now(alone[i].record), &flags);
        if (rc == ERR_OK)
            rc = rules_add_action(merge->plan, MERGE_ADD, uid, 0, alone[i].record, &flags);
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
    merge->next = rules_highest_next(merge);
    int rc = m && r ? match(merge, m, r) : fail(ERR_NOMEM, "merging a mailbox: out of memory");
    free(m);
    free(r);
    if (rc == ERR_OK)
        rules_end_plan(merge);
    return rc;
}

int merge_plan_independent(const struct merge_input *input, struct merge_plan *plan)
{
    struct merge merge;
    int rc = rules_begin(&merge, input, plan);
    return rules_finish(&merge, rc ? rc : plan_independent(&merge));
}
