#include "agent/compare.h"

#include "agent/meanwhile.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

#define FANOUT 64u      /* ranges that a differing one is divided into */
#define SMALL_RANGE 16u /* UIDs of a range that is not divided further */
#define RANGES_PER_ASK 1024u

/* Both ends' sums over the same ranges. */
struct two_sums {
    const struct comparison *work;
    struct record_sums mine;
    struct record_sums theirs;
};

static int sum_mine(void *arg)
{
    const struct two_sums *two = arg;
    return two->work->sums(two->work->context, &two->mine);
}

static int sum_theirs(void *arg)
{
    const struct two_sums *two = arg;
    const struct comparison *work = two->work;
    return ask_sums(work->asker, work->mailbox, work->item, work->base, &two->theirs, NULL);
}

/* Of these ranges those that differ, in place. */
static int compare_ranges(const struct comparison *work, struct uid_range *ranges, size_t *count)
{
    struct record_sum *sums = calloc(2 * *count + 1, sizeof *sums);
    size_t kept = 0;
    if (!sums)
        return fail(ERR_NOMEM, "out of memory");
    struct two_sums two = {.work = work,
                           .mine = {.ranges = ranges, .count = *count, .sums = sums},
                           .theirs = {.ranges = ranges, .count = *count, .sums = sums + *count}};
    int rc = meanwhile(sum_mine, &two, sum_theirs, &two);
    for (size_t i = 0; rc == ERR_OK && i < *count; i++)
        if (two.mine.sums[i].count != two.theirs.sums[i].count ||
            two.mine.sums[i].sum != two.theirs.sums[i].sum)
            ranges[kept++] = ranges[i];
    free(sums);
    *count = kept;
    return rc;
}

/* Divides a range into at most `parts` of equal length, behind one another at `out`. */
static size_t divide(struct uid_range range, size_t parts, struct uid_range *out)
{
    uint64_t length = (uint64_t)range.last - range.first + 1;
    uint64_t step = (length + parts - 1) / parts;
    size_t count = 0;
    for (uint64_t first = range.first; first <= range.last; first += step) {
        uint64_t last = first + step - 1 < range.last ? first + step - 1 : range.last;
        out[count++] = (struct uid_range){.first = (uint32_t)first, .last = (uint32_t)last};
    }
    return count;
}

int compare_within(const struct comparison *work, const struct uid_range *ranges, size_t count,
                   struct uidset *differing)
{
    struct uid_range *parts = malloc(RANGES_PER_ASK * sizeof *parts);
    int rc = parts ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    for (size_t at = 0; rc == ERR_OK && at < count;) {
        size_t filled = 0;
        for (; rc == ERR_OK && at < count && filled + FANOUT <= RANGES_PER_ASK; at++) {
            if (ranges[at].last - ranges[at].first < SMALL_RANGE)
                rc = uidset_add_range(differing, ranges[at].first, ranges[at].last);
            else
                filled += divide(ranges[at], FANOUT, parts + filled);
        }
        if (rc == ERR_OK && filled)
            rc = compare_ranges(work, parts, &filled);
        if (rc == ERR_OK && filled)
            rc = compare_within(work, parts, filled, differing);
    }
    free(parts);
    return rc;
}

/* Those that were given out evenly, and the rest, where hardly anything is, in one. */
size_t compare_first_ranges(uint32_t uidnext, struct uid_range ranges[COMPARE_FIRST])
{
    struct uid_range given = {.first = 1, .last = uidnext - 1};
    size_t parts = uidnext / SMALL_RANGE + 1;
    size_t count = 0;
    if (uidnext > 1)
        count = divide(given, parts < COMPARE_FIRST ? parts : COMPARE_FIRST - 1, ranges);
    ranges[count++] = (struct uid_range){.first = uidnext ? uidnext : 1, .last = UINT32_MAX};
    return count;
}

int compare_records(const struct comparison *work, uint32_t uidnext, struct uidset *differing)
{
    struct uid_range ranges[COMPARE_FIRST];
    size_t count = compare_first_ranges(uidnext, ranges);
    uidset_clear(differing);
    int rc = compare_ranges(work, ranges, &count);
    return rc ? rc : compare_within(work, ranges, count, differing);
}
