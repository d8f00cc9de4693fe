/* What both ends have under one UID, and what is plain from that alone. */
#include "mailbox/ruling.h"

#include "base/err.h"

#include <stdlib.h>

bool rules_old(const struct merge_end *end, const struct merge_record *record)
{
    return record->record.append_modseq <= end->base;
}

bool rules_changed(const struct merge_end *end, const struct merge_record *record)
{
    return record->record.modseq > end->base;
}

bool rules_tombstone(const struct side *side)
{
    return side->record && !side->live;
}

bool rules_both_live(const struct pair *pair)
{
    return pair->side[M].live && pair->side[R].live;
}

bool rules_same_guid(const struct pair *pair)
{
    return guid_equal(&pair->side[M].record->record.guid, &pair->side[R].record->record.guid);
}

bool rules_same_bases(const struct merge *merge)
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
    return record && rules_old(here, record);
}

static void meet(const struct merge *merge, struct pair *pair)
{
    for (int end = M; end <= R; end++) {
        struct side *side = &pair->side[end];
        side->live = side->record && record_live(&side->record->record);
        side->known = side->record && rules_old(merge->ends[end], side->record) &&
                      had(merge, OTHER(end), pair);
    }
}

/* A record that one end lacks never moves the other's cursor. */
int rules_pair_up(struct merge *merge)
{
    const struct merge_end *m = merge->ends[M];
    const struct merge_end *r = merge->ends[R];
    merge->pairs = calloc(m->count + r->count + 1, sizeof *merge->pairs);
    if (!merge->pairs)
        return fail(ERR_NOMEM, "merging a mailbox: out of memory");
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

struct pair *rules_find(const struct merge *merge, uint32_t uid)
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

/* The journal there says so; or nothing is missing there, and it may have forgotten a tombstone of
 * that age. What both had at their bases was expunged after this end's. */
bool rules_dead_on_evidence(const struct merge *merge, int end, const struct pair *pair)
{
    const struct merge_end *here = merge->ends[end];
    uint64_t since = pair->side[OTHER(end)].record->record.append_modseq;
    if (since > here->base)
        since = here->base;
    if (here->expunged && uidset_contains(here->expunged, pair->uid))
        return true;
    return pair->uid < here->uidnext && here->sound && here->forgotten >= since;
}

/* Whether it is certain that a message, which the other end never had, is not an old one under a
 * new UID: that is, whether the tombstones of the merges that might have moved it are all there. */
bool rules_surely_new(const struct merge *merge, int end, const struct side *side)
{
    const struct merge_end *here = merge->ends[end];
    if (side->known)
        return false;
    if (rules_old(here, side->record))
        return here->forgotten <= merge->ends[OTHER(end)]->base;
    return !here->merged || here->forgotten <= here->base;
}

/* Merges keep the save date: one append that reached both ends by way of others. */
static bool same_append(const struct pair *pair)
{
    return pair->side[M].record->record.save_date == pair->side[R].record->record.save_date;
}

bool rules_one_delivery(const struct merge *merge, const struct pair *pair)
{
    return rules_same_guid(pair) &&
           (same_append(pair) || (rules_surely_new(merge, M, &pair->side[M]) &&
                                  rules_surely_new(merge, R, &pair->side[R])));
}
