/* Sums over ranges of UIDs show where a mailbox differs from the upstream's, with what is known so
 * far taken into account: tombstones were purged there, or one end is damaged. All records of these
 * ranges are fetched, whatever their modseq.
 */
#include "agent/rebuild.h"

#include "agent/meanwhile.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

static void adjust(const struct record_sums *sums, uint32_t uid, const struct record *record,
                   uint64_t sign)
{
    size_t low = 0, high = sums->count;
    if (!record_live(record))
        return;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (uid > sums->ranges[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == sums->count || uid < sums->ranges[low].first)
        return;
    sums->sums[low].sum += sign * record_digest(record);
    sums->sums[low].count += sign;
}

struct summing {
    struct rebuild *work;
    const struct record_sums *sums;
    bool rows_known; /* they are in the sums already */
};

/* The local number under which the rows are that will be changed; 0: there are none. */
static int find_number(struct tx *tx, const struct rebuild *work, uint32_t *number)
{
    struct header header = {0};
    int rc = work->beside ? ERR_OK : header_get(tx_db(tx), work->stop.mailbox, &header);
    *number = work->beside ? work->beside : header.number;
    return rc == ERR_END ? ERR_OK : rc;
}

static int sum_rows(struct tx *tx, void *arg)
{
    struct summing *summing = arg;
    struct rebuild *work = summing->work;
    struct record before;
    uint32_t number, uid;
    int rc = find_number(tx, work, &number);
    if (rc == ERR_OK && !summing->rows_known)
        rc = record_sums(tx_db(tx), number, RECORD_WHOLE, 0, summing->sums, NULL);
    for (size_t i = 0; rc == ERR_OK && i < work->diff.count; i++) {
        struct record after = work->diff.records[i].record;
        after.keywords = keywords_hash(work->diff.records[i].keywords);
        if (record_get(tx_db(tx), number, after.uid, &before) == ERR_OK)
            adjust(summing->sums, after.uid, &before, (uint64_t)-1);
        adjust(summing->sums, after.uid, &after, 1);
    }
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(&work->gone, at, &uid); at = uid + 1)
        if (record_get(tx_db(tx), number, uid, &before) == ERR_OK)
            adjust(summing->sums, uid, &before, (uint64_t)-1);
    return rc;
}

/* The sums as they will be with the differences that are known so far. */
static int own_sums(void *context, const struct record_sums *sums)
{
    struct rebuild *work = context;
    struct summing summing = {.work = work, .sums = sums};
    return store_read(work->store, sum_rows, &summing);
}

struct living {
    struct rebuild *work;
    const struct uidset *among;
    struct uidset *uids;
};

static int find_living(struct tx *tx, void *arg)
{
    struct living *living = arg;
    uint32_t number;
    uidset_clear(living->uids);
    int rc = find_number(tx, living->work, &number);
    for (size_t i = 0; rc == ERR_OK && i < living->among->count; i++)
        rc = record_changed(tx_db(tx), number, 0, living->among->ranges[i].first,
                            living->among->ranges[i].last, SIZE_MAX, living->uids);
    return rc;
}

/* Everything that the upstream has where the two differ; what it has not got is gone. */
static int fetch_differing(struct rebuild *work, const struct uidset *differing)
{
    struct uidset here = {0};
    struct living living = {.work = work, .among = differing, .uids = &here};
    int rc = store_read(work->store, find_living, &living);
    if (rc == ERR_OK)
        rc = uidset_add_all(&work->gone, &here);
    uidset_free(&here);
    const struct records_wanted wanted = {.uids = differing};
    if (rc == ERR_OK)
        rc = ask_records(work->upstream, work->stop.mailbox, &wanted, rebuild_take_record, work,
                         NULL, &work->now);
    return rc;
}

/* The upstream's records, by the ranges by which this end's are counted. */
struct theirs {
    struct rebuild *work;
    struct record_sum *sums;
    struct record_changes changes; /* `since` 0: they are not wanted */
};

static int sum_theirs(void *arg)
{
    struct theirs *theirs = arg;
    struct rebuild *work = theirs->work;
    const struct record_sums sums = {
        .ranges = work->ranges, .count = work->range_count, .sums = theirs->sums};
    return ask_sums(work->upstream, work->stop.mailbox, RECORD_WHOLE, 0, &sums,
                    theirs->changes.since ? &theirs->changes : NULL);
}

/* What changed there is known: tombstones that no sum shows are among it. */
static int take_changes(struct rebuild *work, const struct theirs *theirs)
{
    const struct record_changes *changes = &theirs->changes;
    if (!changes->since)
        return ERR_OK;
    if (changes->more)
        return rebuild_fetch_changes(work);
    const struct records_wanted wanted = {.uids = &changes->uids};
    return changes->uids.count ? ask_records(work->upstream, work->stop.mailbox, &wanted,
                                             rebuild_take_record, work, NULL, &work->now)
                               : ERR_OK;
}

/* Of the first ranges those whose sums will differ, with what is known so far. */
static int find_ranges(struct rebuild *work, const struct record_sum *theirs,
                       struct uid_range ranges[COMPARE_FIRST], size_t *count)
{
    struct record_sum *mine = malloc((work->range_count + 1) * sizeof *mine);
    const struct record_sums sums = {
        .ranges = work->ranges, .count = work->range_count, .sums = mine};
    struct summing summing = {.work = work, .sums = &sums, .rows_known = work->counted_known};
    *count = 0;
    if (!mine)
        return fail(ERR_NOMEM, "out of memory");
    memcpy(mine, work->sums, work->range_count * sizeof *mine);
    int rc = store_read(work->store, sum_rows, &summing);
    for (size_t i = 0; rc == ERR_OK && i < work->range_count; i++)
        if (mine[i].count != theirs[i].count || mine[i].sum != theirs[i].sum)
            ranges[(*count)++] = work->ranges[i];
    free(mine);
    return rc;
}

static int find_differences(struct rebuild *work, struct theirs *theirs, struct uidset *differing)
{
    const struct comparison comparison = {.asker = work->upstream,
                                          .mailbox = work->stop.mailbox,
                                          .item = RECORD_WHOLE,
                                          .sums = own_sums,
                                          .context = work};
    struct uid_range ranges[COMPARE_FIRST];
    size_t count = 0;
    int rc = meanwhile(rebuild_count_own, work, sum_theirs, theirs);
    if (rc == ERR_OK)
        rc = take_changes(work, theirs);
    if (rc == ERR_OK)
        rc = find_ranges(work, theirs->sums, ranges, &count);
    if (rc == ERR_OK)
        rc = compare_within(&comparison, ranges, count, differing);
    return rc ? rc : uidset_add_all(differing, &work->damaged);
}

int rebuild_compare(struct rebuild *work, const struct mailbox_state_now *now, uint64_t since)
{
    struct uidset differing = {0};
    struct theirs theirs = {.work = work, .changes = {.since = since}};
    theirs.sums = malloc(COMPARE_FIRST * sizeof *theirs.sums);
    if (!theirs.sums)
        return fail(ERR_NOMEM, "out of memory");
    int rc = find_differences(work, &theirs, &differing);
    if (rc == ERR_OK && differing.count)
        rc = fetch_differing(work, &differing);
    uidset_free(&differing);
    uidset_free(&theirs.changes.uids);
    free(theirs.sums);
    if (rc == ERR_OK) {
        work->since = now->position.modseq;
        rc = rebuild_fetch_changes(work);
    }
    return rc;
}
