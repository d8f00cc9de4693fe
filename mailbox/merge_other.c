/* What the replica has of a mailbox, kept in memory for a merge. */
#include "mailbox/merge.h"

#include "base/array.h"
#include "base/err.h"

#include <stdlib.h>

void merge_other_free(struct merge_other *other)
{
    for (size_t i = 0; i < other->set_count; i++)
        buf_free(&other->sets[i]);
    for (size_t i = 0; i < other->seen_count; i++) {
        buf_free(&other->seen[i].user);
        uidset_free(&other->seen[i].seen);
        uidset_free(&other->seen[i].added);
        uidset_free(&other->seen[i].removed);
    }
    for (size_t i = 0; i < other->meta_count; i++) {
        buf_free(&other->metas[i].user);
        buf_free(&other->metas[i].key);
        buf_free(&other->metas[i].value);
    }
    free(other->records);
    free(other->sets);
    free(other->seen);
    free(other->metas);
    uidset_free(&other->expunged);
    uidset_free(&other->looked);
    *other = (struct merge_other){0};
}

/* A copy of the set that lives as long as `other`. */
static int keep_set(struct merge_other *other, struct bytes set, struct bytes *kept)
{
    *kept = bytes_of(NULL, 0);
    if (set.size == 0)
        return ERR_OK;
    for (size_t i = other->set_count; i > 0 && i + 8 > other->set_count; i--) {
        *kept = buf_view(&other->sets[i - 1]);
        if (bytes_equal(*kept, set))
            return ERR_OK;
    }
    struct buf *sets =
        array_room(other->sets, other->set_count, &other->set_capacity, sizeof *sets);
    if (!sets)
        return ERR_NOMEM;
    other->sets = sets;
    struct buf *copy = &sets[other->set_count++];
    *copy = (struct buf){0};
    buf_put(copy, set.data, set.size);
    *kept = buf_view(copy);
    return copy->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

int merge_other_add(struct merge_other *other, const struct record *record, struct bytes keywords,
                    const uint32_t *base_system, struct bytes base_keywords)
{
    struct merge_record *records =
        array_room(other->records, other->count, &other->capacity, sizeof *records);
    if (!records)
        return ERR_NOMEM;
    other->records = records;
    struct merge_record *added = &other->records[other->count];
    *added = (struct merge_record){.record = *record, .has_base = base_system != NULL};
    added->base_system = base_system ? *base_system : 0;
    int rc = keep_set(other, keywords, &added->keywords);
    if (rc == ERR_OK && base_system)
        rc = keep_set(other, base_keywords, &added->base_keywords);
    other->count += rc == ERR_OK;
    return rc;
}

static int by_uid(const void *a, const void *b)
{
    uint32_t left = ((const struct merge_record *)a)->record.uid;
    uint32_t right = ((const struct merge_record *)b)->record.uid;
    return (left > right) - (left < right);
}

void merge_other_sort(struct merge_other *other)
{
    if (other->count)
        qsort(other->records, other->count, sizeof *other->records, by_uid);
}

const struct merge_record *merge_other_find(const struct merge_other *other, uint32_t uid)
{
    const struct merge_record key = {.record = {.uid = uid}};
    return other->count ? bsearch(&key, other->records, other->count, sizeof key, by_uid) : NULL;
}
