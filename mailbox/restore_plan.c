#include "mailbox/restore_plan.h"

#include "base/array.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* NULL: out of memory. */
static struct restore_item *add_item(struct restore_plan *plan, enum restore_act act)
{
    struct restore_item *items =
        array_room(plan->items, plan->count, &plan->capacity, sizeof *plan->items);
    if (!items)
        return NULL;
    plan->items = items;
    items[plan->count] = (struct restore_item){.act = act};
    return &items[plan->count++];
}

static int add_pair(struct restore_plan *plan, const struct record *then, const struct record *now)
{
    struct restore_pair *pairs =
        array_room(plan->pairs, plan->pair_count, &plan->pair_capacity, sizeof *plan->pairs);
    if (!pairs)
        return ERR_NOMEM;
    plan->pairs = pairs;
    pairs[plan->pair_count++] = (struct restore_pair){.then = then, .now = now};
    return ERR_OK;
}

void restore_plan_free(struct restore_plan *plan)
{
    for (size_t i = 0; i < plan->count; i++)
        uidset_free(&plan->items[i].uids);
    free(plan->items);
    free(plan->pairs);
    *plan = (struct restore_plan){0};
}

/* Pairs what has one UID in both; every other message stands alone. */
static int pair_by_uid(struct view *then, struct view *now, struct restore_plan *plan)
{
    const struct record *old, *new = NULL;
    size_t old_count, new_count = 0;
    size_t i = 0, k = 0;
    int rc = view_records(then, NULL, &old, &old_count);
    if (rc == ERR_OK && now)
        rc = view_records(now, NULL, &new, &new_count);
    while (rc == ERR_OK && (i < old_count || k < new_count)) {
        if (k == new_count || (i < old_count && old[i].uid < new[k].uid))
            rc = add_pair(plan, &old[i++], NULL);
        else if (i == old_count || new[k].uid < old[i].uid)
            rc = add_pair(plan, NULL, &new[k++]);
        else
            rc = add_pair(plan, &old[i++], &new[k++]);
    }
    return rc;
}

/* A message that stands alone. */
struct single {
    struct restore_pair *pair;
};

static const struct record *record_of(const struct single *single)
{
    return single->pair->then ? single->pair->then : single->pair->now;
}

/* Equal ones are neighbours, those of now before those of then. */
static int by_message(const void *a, const void *b)
{
    const struct record *p = record_of(a);
    const struct record *q = record_of(b);
    int order = memcmp(&p->guid, &q->guid, sizeof p->guid);
    if (order == 0)
        order = (p->internal_date > q->internal_date) - (p->internal_date < q->internal_date);
    if (order == 0)
        order = (((const struct single *)a)->pair->then != NULL) -
                (((const struct single *)b)->pair->then != NULL);
    return order ? order : (p->uid > q->uid) - (p->uid < q->uid);
}

static bool same_message(const struct record *a, const struct record *b)
{
    return guid_equal(&a->guid, &b->guid) && a->internal_date == b->internal_date;
}

/* The k-th of now goes on as the k-th of then, of equal ones in `singles` from `first` on. Returns
 * where others begin. */
static size_t pair_equal(struct single *singles, size_t count, size_t first)
{
    const struct record *message = record_of(&singles[first]);
    size_t middle = first;
    while (middle < count && singles[middle].pair->now &&
           same_message(record_of(&singles[middle]), message))
        middle++;
    size_t end = middle;
    while (end < count && singles[end].pair->then &&
           same_message(record_of(&singles[end]), message))
        end++;
    for (size_t i = 0; first + i < middle && middle + i < end; i++) {
        singles[middle + i].pair->now = singles[first + i].pair->now;
        singles[first + i].pair->now = NULL;
    }
    return end;
}

static int pair_by_message(struct restore_plan *plan)
{
    size_t count = 0, kept = 0;
    struct single *singles = malloc((plan->pair_count + 1) * sizeof *singles);
    if (!singles)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < plan->pair_count; i++)
        if (!plan->pairs[i].then || !plan->pairs[i].now)
            singles[count++].pair = &plan->pairs[i];
    qsort(singles, count, sizeof *singles, by_message);
    for (size_t at = 0; at < count;)
        at = pair_equal(singles, count, at);
    free(singles);
    for (size_t i = 0; i < plan->pair_count; i++)
        if (plan->pairs[i].then || plan->pairs[i].now)
            plan->pairs[kept++] = plan->pairs[i];
    plan->pair_count = kept;
    return ERR_OK;
}

bool restore_flags_equal(const struct record *a, const struct record *b)
{
    return (a->flags & FLAG_SYSTEM) == (b->flags & FLAG_SYSTEM) && a->keywords == b->keywords;
}

/* By what becomes of them, so that one call changes many. */
static int by_flags(const void *a, const void *b)
{
    const struct restore_item *x = a;
    const struct restore_item *y = b;
    uint32_t p = x->then->flags & FLAG_SYSTEM;
    uint32_t q = y->then->flags & FLAG_SYSTEM;
    if (p != q)
        return p < q ? -1 : 1;
    if (x->then->keywords != y->then->keywords)
        return x->then->keywords < y->then->keywords ? -1 : 1;
    return (x->now->uid > y->now->uid) - (x->now->uid < y->now->uid);
}

static int add_message(struct restore_plan *plan, struct view *then, struct view *now,
                       enum restore_act act, const struct restore_pair *pair)
{
    struct restore_item *item = add_item(plan, act);
    if (!item)
        return ERR_NOMEM;
    item->then = pair->then;
    item->now = pair->now;
    int rc = pair->then ? view_keywords(then, pair->then->keywords, &item->keywords_then) : ERR_OK;
    if (rc == ERR_OK && pair->now)
        rc = view_keywords(now, pair->now->keywords, &item->keywords_now);
    return rc;
}

static int plan_act(struct restore_plan *plan, struct view *then, struct view *now,
                    enum restore_act act)
{
    size_t first = plan->count;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < plan->pair_count; i++) {
        const struct restore_pair *pair = &plan->pairs[i];
        bool fits = act == RESTORE_APPEND ? !pair->now
                    : act == RESTORE_EXPUNGE
                        ? !pair->then
                        : pair->then && pair->now && !restore_flags_equal(pair->then, pair->now);
        if (fits)
            rc = add_message(plan, then, now, act, pair);
    }
    if (rc == ERR_OK && act == RESTORE_FLAGS && plan->count > first)
        qsort(&plan->items[first], plan->count - first, sizeof *plan->items, by_flags);
    return rc;
}

static const struct uidset *seen_of(const struct view *view, struct bytes user)
{
    static const struct uidset nothing;
    struct bytes other;
    const struct uidset *seen;
    for (size_t i = 0; view && view_seen(view, i, &other, &seen); i++)
        if (bytes_equal(other, user))
            return seen;
    return &nothing;
}

struct seen_plan {
    struct restore_plan *plan;
    struct bytes user;
    bool seen;    /* those that become seen, or those that cease to be */
    bool pending; /* of messages that come back first, or of those that are here */
    struct uidset uids;
};

/* What was gathered becomes an item. */
static int end_seen(struct seen_plan *work)
{
    if (!work->uids.count)
        return ERR_OK;
    struct restore_item *item = add_item(work->plan, RESTORE_SEEN);
    if (!item)
        return ERR_NOMEM;
    item->user = work->user;
    item->seen = work->seen;
    item->pending = work->pending;
    item->uids = work->uids;
    work->uids = (struct uidset){0};
    return ERR_OK;
}

static int plan_seen_set(struct seen_plan *work, const struct uidset *then,
                         const struct uidset *now)
{
    size_t gathered = 0;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->plan->pair_count; i++) {
        const struct restore_pair *pair = &work->plan->pairs[i];
        if (!pair->then || work->pending == (pair->now != NULL))
            continue;
        bool was = uidset_contains(then, pair->then->uid);
        bool is = pair->now && uidset_contains(now, pair->now->uid);
        if (was == is || was != work->seen)
            continue;
        rc = uidset_add(&work->uids, work->pending ? pair->then->uid : pair->now->uid);
        if (rc == ERR_OK && ++gathered % RESTORE_BATCH == 0)
            rc = end_seen(work);
    }
    if (rc == ERR_OK)
        rc = end_seen(work);
    uidset_free(&work->uids);
    return rc;
}

static int plan_user(struct restore_plan *plan, struct view *then, struct view *now,
                     struct bytes user)
{
    const struct uidset *was = seen_of(then, user);
    const struct uidset *is = seen_of(now, user);
    struct seen_plan seen = {.plan = plan, .user = user, .seen = true};
    struct seen_plan pending = {.plan = plan, .user = user, .seen = true, .pending = true};
    struct seen_plan unseen = {.plan = plan, .user = user};
    int rc = plan_seen_set(&seen, was, is);
    if (rc == ERR_OK)
        rc = plan_seen_set(&pending, was, is);
    return rc ? rc : plan_seen_set(&unseen, was, is);
}

static int plan_seen(struct restore_plan *plan, struct view *then, struct view *now)
{
    struct bytes user;
    const struct uidset *seen;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && view_seen(then, i, &user, &seen); i++)
        rc = plan_user(plan, then, now, user);
    for (size_t i = 0; rc == ERR_OK && now && view_seen(now, i, &user, &seen); i++)
        if (seen_of(then, user)->count == 0)
            rc = plan_user(plan, then, now, user);
    return rc;
}

static bool meta_of(const struct view *view, struct bytes user, struct bytes key,
                    struct bytes *value)
{
    struct bytes other, name;
    struct versioned found;
    for (size_t i = 0; view && view_meta(view, i, &other, &name, &found); i++) {
        if (bytes_equal(other, user) && bytes_equal(name, key)) {
            *value = found.value;
            return found.state == VALUE_SET;
        }
    }
    return false;
}

static int plan_value(struct restore_plan *plan, const struct view *then, const struct view *now,
                      struct bytes user, struct bytes key)
{
    struct bytes was = {0}, is = {0};
    bool set_after = meta_of(then, user, key, &was);
    bool set_before = meta_of(now, user, key, &is);
    if (set_before == set_after && (!set_after || bytes_equal(was, is)))
        return ERR_OK;
    struct restore_item *item = add_item(plan, RESTORE_META);
    if (!item)
        return ERR_NOMEM;
    item->user = user;
    item->key = key;
    item->set_before = set_before;
    item->set_after = set_after;
    item->value_before = is;
    item->value_after = was;
    return ERR_OK;
}

static int plan_meta(struct restore_plan *plan, const struct view *then, const struct view *now)
{
    struct bytes user, key, ignored;
    struct versioned value;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && view_meta(then, i, &user, &key, &value); i++)
        if (value.state == VALUE_SET)
            rc = plan_value(plan, then, now, user, key);
    for (size_t i = 0; rc == ERR_OK && now && view_meta(now, i, &user, &key, &value); i++)
        if (!meta_of(then, user, key, &ignored))
            rc = plan_value(plan, then, now, user, key);
    return rc;
}

int restore_plan(struct view *then, struct view *now, struct restore_plan *plan)
{
    *plan = (struct restore_plan){0};
    int rc = pair_by_uid(then, now, plan);
    if (rc == ERR_OK)
        rc = pair_by_message(plan);
    if (rc == ERR_OK)
        rc = plan_act(plan, then, now, RESTORE_FLAGS);
    if (rc == ERR_OK)
        rc = plan_act(plan, then, now, RESTORE_APPEND);
    if (rc == ERR_OK)
        rc = plan_act(plan, then, now, RESTORE_EXPUNGE);
    if (rc == ERR_OK)
        rc = plan_seen(plan, then, now);
    if (rc == ERR_OK)
        rc = plan_meta(plan, then, now);
    if (rc)
        restore_plan_free(plan);
    return rc;
}
