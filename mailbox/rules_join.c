/* Row 5: one delivery that was tried at both ends is one message under two UIDs; and so is one
 * append that merges have brought to both. */
#include "mailbox/ruling.h"

#include "base/err.h"

#include <stdlib.h>

static bool candidate(const struct merge *merge, int end, const struct pair *pair, bool appends)
{
    const struct side *side = &pair->side[end];
    return side->live && side->fate != DIE && !side->twin && side->origin == 0 && !side->known &&
           (appends || rules_surely_new(merge, end, side));
}

int rules_order_items(const void *a, const void *b)
{
    const struct record *x = &((const struct item *)a)->record->record;
    const struct record *y = &((const struct item *)b)->record->record;
    int order = guid_compare(&x->guid, &y->guid);
    return order ? order : (x->uid > y->uid) - (x->uid < y->uid);
}

static int compare_appends(const struct record *x, const struct record *y)
{
    int order = guid_compare(&x->guid, &y->guid);
    return order ? order : (x->save_date > y->save_date) - (x->save_date < y->save_date);
}

static int order_appends(const void *a, const void *b)
{
    int order = compare_appends(&((const struct item *)a)->record->record,
                                &((const struct item *)b)->record->record);
    return order ? order : rules_order_items(a, b);
}

void rules_unite(struct pair *m, struct pair *r)
{
    m->side[M].twin = r;
    r->side[R].twin = m;
    r->side[R].fate = JOIN;
}

static void unite_equal(const struct item *m, size_t count_m, const struct item *r, size_t count_r,
                        bool appends)
{
    for (size_t i = 0, j = 0; i < count_m && j < count_r;) {
        const struct record *x = &m[i].record->record;
        const struct record *y = &r[j].record->record;
        int order = appends ? compare_appends(x, y) : guid_compare(&x->guid, &y->guid);
        if (order == 0)
            rules_unite(m[i].pair, r[j].pair);
        i += order <= 0;
        j += order >= 0;
    }
}

int rules_join(struct merge *merge, bool appends)
{
    struct item *items[ENDS];
    size_t count[ENDS] = {0, 0};
    items[M] = malloc((merge->count + 1) * sizeof *items[M]);
    items[R] = malloc((merge->count + 1) * sizeof *items[R]);
    int rc = items[M] && items[R] ? ERR_OK : fail(ERR_NOMEM, "merging a mailbox: out of memory");
    for (int end = M; end <= R && rc == ERR_OK; end++) {
        for (size_t i = 0; i < merge->count; i++)
            if (candidate(merge, end, &merge->pairs[i], appends))
                items[end][count[end]++] =
                    (struct item){merge->pairs[i].side[end].record, &merge->pairs[i]};
        qsort(items[end], count[end], sizeof *items[end],
              appends ? order_appends : rules_order_items);
    }
    if (rc == ERR_OK)
        unite_equal(items[M], count[M], items[R], count[R], appends);
    free(items[M]);
    free(items[R]);
    return rc;
}
