/* Happy path: what the upstream knows of epochs and marks is taken over; the journal goes back to
 * what both share, or begins anew; then each stopped mailbox is rebuilt: its records that changed
 * at the upstream since are fetched, pass after pass, until one pass is a single answer, which
 * gives the moment as of which the mailbox will be equal; the upstream's digest of that moment
 * proves it.
 *
 * Where it does not prove it, sums over ranges of UIDs show where the two differ, and these records
 * are fetched whatever their modseq: the upstream purged tombstones, or one end is damaged. More
 * differences than fit one transaction are put aside, under another local number.
 */
#include "agent/make_equal.h"

#include "agent/compare.h"
#include "agent/fetch.h"
#include "agent/meanwhile.h"
#include "base/array.h"
#include "base/err.h"
#include "mailbox/draft.h"
#include "mailbox/repair.h"
#include "mailbox/role.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IN_PLACE_MOST 4096u /* records that are changed in one transaction */
#define BATCH 1024u         /* records that go aside in one transaction */
#define PASSES_MOST 64u     /* over a mailbox that changes meanwhile */
#define TRIES_MOST 4u

/* One mailbox that is being rebuilt. */
struct rebuild {
    struct store *store;
    const struct asker *upstream;
    struct branch *branch; /* the upstream's, as it was not long ago */
    struct stop stop;
    uint64_t since;
    bool since_known;
    uint32_t aside; /* local number; 0: it is changed in place */
    struct merge_other diff;
    struct uidset gone;
    struct mailbox_state_now now;
    /* This end's rows; while the mailbox is stopped nobody changes them. */
    bool counted_known;
    struct header counted;
    struct uidset damaged; /* those that cannot be read */
    struct uid_range ranges[COMPARE_FIRST];
    size_t range_count;
    struct record_sum sums[COMPARE_FIRST]; /* over these ranges */
    bool all_values;
    uint64_t records;
    uint64_t bytes;
    uint64_t expunged;
};

static void rebuild_free(struct rebuild *work)
{
    merge_other_free(&work->diff);
    uidset_free(&work->gone);
    uidset_free(&work->damaged);
}

static int count_own(void *arg)
{
    struct rebuild *work = arg;
    const struct record_sums sums = {
        .ranges = work->ranges, .count = work->range_count, .sums = work->sums};
    if (work->counted_known)
        return ERR_OK;
    int rc = repair_count(work->store, work->stop.mailbox, &work->counted, &work->damaged, &sums);
    work->counted_known = rc == ERR_OK;
    return rc;
}

/* The differences so far go aside, and are forgotten. */
static int flush_aside(struct rebuild *work)
{
    struct draft **drafts;
    size_t count;
    uint64_t expunged = 0;
    if (!work->aside) {
        uint32_t from = 1;
        int rc = count_own(work);
        if (rc == ERR_OK)
            rc = repair_begin_aside(work->store, work->stop.mailbox, &work->counted, &work->aside);
        while (rc == ERR_OK && from)
            rc = repair_copy_aside(work->store, work->stop.mailbox, work->aside, &from);
        if (rc)
            return rc;
    }
    work->counted_known = false;
    int rc = fetch_content(work->store, work->upstream, &work->diff, &drafts, &count, &work->bytes);
    if (rc)
        return rc;
    rc = repair_put_aside(work->store, work->aside, &work->diff, &work->gone, drafts, count,
                          &expunged);
    work->expunged += expunged;
    fetch_close(drafts, count);
    merge_other_free(&work->diff);
    uidset_clear(&work->gone);
    return rc;
}

/* A record that came: instead of what an earlier pass had brought. */
static int take_record(const struct record_line *line, void *arg)
{
    struct rebuild *work = arg;
    uint32_t uid = line->record.uid;
    int rc = uidset_remove_range(&work->gone, uid, uid);
    work->records++;
    for (size_t i = 0; rc == ERR_OK && i < work->diff.count; i++) {
        if (work->diff.records[i].record.uid != uid)
            continue;
        work->diff.records[i] = work->diff.records[--work->diff.count];
        break;
    }
    if (rc == ERR_OK)
        rc = merge_other_add(&work->diff, &line->record, line->keywords, NULL, bytes_of(NULL, 0));
    size_t most = work->aside ? BATCH : IN_PLACE_MOST;
    return rc == ERR_OK && work->diff.count > most ? flush_aside(work) : rc;
}

/* What changed at the upstream since then, until one answer holds all that is new. */
static int fetch_changes(struct rebuild *work)
{
    uint64_t since = work->since;
    for (unsigned pass = 0; pass < PASSES_MOST; pass++) {
        struct mailbox_state_now first, last;
        int rc = ask_records(work->upstream, work->stop.mailbox, since, NULL, 0, take_record, work,
                             &first, &last);
        if (rc)
            return rc;
        work->now = last;
        if (position_equal(first.position, last.position) ||
            last.header.lastmodseq <= first.position.modseq)
            return ERR_OK;
        since = first.position.modseq;
    }
    return fail(ERR_BUSY, "mailbox id:%016llx: it changes faster than it can be read",
                (unsigned long long)work->stop.mailbox);
}

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
    int rc = work->aside ? ERR_OK : header_get(tx_db(tx), work->stop.mailbox, &header);
    *number = work->aside ? work->aside : header.number;
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
    for (size_t i = 0; rc == ERR_OK && i < here.count; i++)
        rc = uidset_add_range(&work->gone, here.ranges[i].first, here.ranges[i].last);
    uidset_free(&here);
    if (rc == ERR_OK)
        rc = ask_records(work->upstream, work->stop.mailbox, 0, differing, 0, take_record, work,
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
        return fetch_changes(work);
    return changes->uids.count ? ask_records(work->upstream, work->stop.mailbox, 0, &changes->uids,
                                             0, take_record, work, NULL, &work->now)
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
    int rc = meanwhile(count_own, work, sum_theirs, theirs);
    if (rc == ERR_OK)
        rc = take_changes(work, theirs);
    if (rc == ERR_OK)
        rc = find_ranges(work, theirs->sums, ranges, &count);
    if (rc == ERR_OK)
        rc = compare_within(&comparison, ranges, count, differing);
    for (size_t i = 0; rc == ERR_OK && i < work->damaged.count; i++)
        rc = uidset_add_range(differing, work->damaged.ranges[i].first,
                              work->damaged.ranges[i].last);
    return rc;
}

/* Finds and fetches all that differs, from `now` on also what changes meanwhile. `since`: what
 * changed after it is asked for along with the sums; 0: it is known. */
static int compare(struct rebuild *work, const struct mailbox_state_now *now, uint64_t since)
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
        rc = fetch_changes(work);
    }
    return rc;
}

/* A row that cannot be read stays for ever unless it is replaced. */
static bool replaces_damaged(const struct rebuild *work)
{
    uint32_t uid;
    for (uint32_t at = 1; at && uidset_next(&work->damaged, at, &uid); at = uid + 1) {
        size_t i = 0;
        while (i < work->diff.count && work->diff.records[i].record.uid != uid)
            i++;
        if (i == work->diff.count && !uidset_contains(&work->gone, uid))
            return false;
    }
    return true;
}

static int get_epoch(struct tx *tx, void *arg)
{
    struct epoch *epoch = arg;
    return epoch_get(tx_db(tx), epoch->id, epoch);
}

/* The upstream may have opened an epoch since this repair began, and taken something in. */
static int learn_epoch(struct store *store, const struct asker *upstream, struct epoch_id id,
                       struct branch *branch)
{
    struct epoch epoch = {.id = id};
    struct branch now;
    int rc = store_read(store, get_epoch, &epoch);
    if (rc != ERR_END)
        return rc;
    rc = ask_branch(upstream, &now);
    if (rc)
        return rc;
    branch_free(branch);
    *branch = now;
    return repair_learn(store, branch->epochs, branch->epoch_count);
}

static int apply(struct rebuild *work)
{
    struct draft **drafts;
    size_t draft_count;
    uint64_t expunged = 0;
    int rc = work->aside && work->diff.count ? flush_aside(work) : ERR_OK;
    if (rc == ERR_OK)
        rc = fetch_content(work->store, work->upstream, &work->diff, &drafts, &draft_count,
                           &work->bytes);
    if (rc)
        return rc;
    struct repair_change change = {
        .header = work->now.header,
        .epoch = work->now.epoch,
        .as_of = work->now.position.modseq,
        .other = &work->diff,
        .gone = &work->gone,
        .floor = work->since_known ? 0 : work->now.header.facts.highestmodseq,
        .all_values = work->all_values,
        .drafts = drafts,
        .draft_count = draft_count,
        .expunged = &expunged,
    };
    rc = learn_epoch(work->store, work->upstream, work->now.epoch, work->branch);
    change.marks = work->branch->marks;
    change.mark_count = work->branch->mark_count;
    if (rc == ERR_OK)
        rc = count_own(work);
    change.counted = work->counted;
    if (rc == ERR_OK && !replaces_damaged(work))
        rc = fail(ERR_DIFFERS, "mailbox id:%016llx: records that cannot be read",
                  (unsigned long long)work->stop.mailbox);
    if (rc == ERR_OK)
        rc = repair_apply(work->store, &change);
    work->expunged += rc == ERR_OK ? expunged : 0;
    fetch_close(drafts, draft_count);
    return rc;
}

static void forget_values(struct merge_other *other)
{
    struct merge_other values = {.seen = other->seen,
                                 .seen_count = other->seen_count,
                                 .metas = other->metas,
                                 .meta_count = other->meta_count};
    other->seen = NULL;
    other->metas = NULL;
    other->seen_count = other->meta_count = 0;
    other->seen_capacity = other->meta_capacity = 0;
    merge_other_free(&values);
}

static int fetch_values(struct rebuild *work)
{
    forget_values(&work->diff);
    return ask_values(work->upstream, work->stop.mailbox, work->all_values ? 0 : work->since, 0,
                      &work->diff, NULL);
}

/* Looks at the upstream, and divides the mailbox into ranges by what it sees there. */
static int begin_rebuild(struct rebuild *work, struct mailbox_state_now *now)
{
    int rc = ask_header(work->upstream, work->stop.mailbox, false,
                        work->since_known ? work->since : 0, now);
    if (rc == ERR_OK)
        work->range_count = compare_first_ranges(now->header.facts.uidnext, work->ranges);
    return rc;
}

/* What changed is found in the upstream's journal; where that does not reach back, all of its
 * records have to be looked at, and then their sums cost nothing more. Each try after the first one
 * compares everything. */
static int rebuild_records(struct rebuild *work)
{
    struct mailbox_state_now now;
    uint64_t since = work->since;
    int rc = begin_rebuild(work, &now);
    if (rc == ERR_OK && work->since_known && (since == 0 || now.former_known))
        rc = fetch_changes(work);
    else if (rc == ERR_OK)
        rc = compare(work, &now, work->since_known ? since : 0);
    work->since = since;
    work->all_values = !work->since_known;
    for (unsigned tries = 1; rc == ERR_OK; tries++) {
        if (work->aside)
            rc = flush_aside(work);
        if (rc == ERR_OK)
            rc = fetch_values(work);
        if (rc == ERR_OK)
            rc = apply(work);
        if (rc != ERR_DIFFERS || tries == TRIES_MOST)
            return rc;
        work->all_values = true;
        rc = ask_header(work->upstream, work->stop.mailbox, false, 0, &now);
        if (rc == ERR_OK)
            rc = compare(work, &now, 0);
    }
    return rc;
}

static int get_owner(struct tx *tx, void *arg)
{
    *(struct owner *)arg = tx_node(tx)->owner;
    return ERR_OK;
}

static int tell(struct rebuild *work, struct equal_report *report, bool done)
{
    char name[NAME_TEXT_SIZE];
    struct owner owner;
    struct equal_line line = {.mailbox = work->stop.mailbox,
                              .name = name,
                              .reason = work->stop.reason,
                              .records = work->records,
                              .bytes = work->bytes,
                              .expunged = work->expunged,
                              .done = done};
    if (!report->mailbox)
        return ERR_OK;
    int rc = store_read(work->store, get_owner, &owner);
    if (rc)
        return rc;
    name_print(&work->now.header.facts.name, &owner, name);
    report->mailbox(report->arg, &line);
    return ERR_OK;
}

/* Whether this store holds any record of the mailbox: else all is new. */
static int is_empty(struct tx *tx, void *arg)
{
    struct rebuild *work = arg;
    struct header header;
    int rc = header_get(tx_db(tx), work->stop.mailbox, &header);
    bool empty = rc == ERR_END || (rc == ERR_OK && !header.messages && !header.tombstones);
    work->since_known = work->since > 0 || empty;
    if (empty)
        work->since = 0;
    return rc == ERR_END ? ERR_OK : rc;
}

static int rebuild_mailbox(struct store *store, const struct asker *upstream, struct branch *branch,
                           const struct stop *stop, struct equal_report *report)
{
    struct rebuild work = {.store = store,
                           .branch = branch,
                           .upstream = upstream,
                           .stop = *stop,
                           .since = stop->modseq - 1};
    int rc = store_read(store, is_empty, &work);
    if (rc == ERR_OK)
        rc = rebuild_records(&work);
    if (rc == ERR_END) /* the upstream has no such mailbox */
        rc = repair_remove(store, stop->mailbox);
    else if (rc == ERR_OK)
        rc = tell(&work, report, true);
    else if (rc == ERR_DIFFERS || rc == ERR_BUSY)
        rc = tell(&work, report, false);
    rebuild_free(&work);
    return rc;
}

static int rebuild_values(struct store *store, const struct asker *upstream, struct branch *branch)
{
    for (unsigned tries = 0; tries < TRIES_MOST; tries++) {
        struct merge_other other = {0};
        struct values_as_of as_of;
        int rc = ask_values(upstream, 0, 0, 0, &other, &as_of);
        if (rc == ERR_OK)
            rc = learn_epoch(store, upstream, as_of.epoch, branch);
        if (rc == ERR_OK && as_of.modseq)
            rc = repair_values(store, &other, as_of.epoch, as_of.modseq);
        merge_other_free(&other);
        if (rc || as_of.modseq)
            return rc;
    }
    return ERR_OK;
}

struct next_stop {
    uint64_t id;
    struct stop stop;
    bool end;
};

static int find_next(struct tx *tx, void *arg)
{
    struct next_stop *next = arg;
    int rc;
    do {
        rc = stop_next(tx_db(tx), &next->id, &next->stop);
    } while (rc == ERR_OK && next->stop.state != STOP_WAITING);
    next->end = rc == ERR_END;
    return next->end ? ERR_OK : rc;
}

static int rebuild_all(struct store *store, const struct asker *upstream, struct branch *branch,
                       struct equal_report *report)
{
    struct next_stop next = {0};
    for (;;) {
        int rc = store_read(store, find_next, &next);
        if (rc || next.end)
            return rc;
        rc = next.stop.mailbox ? rebuild_mailbox(store, upstream, branch, &next.stop, report)
                               : rebuild_values(store, upstream, branch);
        if (rc)
            return rc;
    }
}

struct snapshot {
    struct repair_mailbox *all;
    size_t count;
    size_t capacity;
};

static int add_mailbox(const struct mailbox_line *line, void *arg)
{
    struct snapshot *snapshot = arg;
    if (line->state == MAILBOX_NONE)
        return ERR_OK;
    struct repair_mailbox *all =
        array_room(snapshot->all, snapshot->count, &snapshot->capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    snapshot->all = all;
    all[snapshot->count++] = (struct repair_mailbox){
        .id = line->id, .digest = line->digest, .state = line->state, .name = line->name};
    return ERR_OK;
}

static int reset(struct store *store, const struct asker *upstream, const struct plan *plan,
                 const struct branch *branch)
{
    struct snapshot snapshot = {0};
    int rc = ask_mailboxes(upstream, plan->at.modseq, add_mailbox, &snapshot);
    struct repair_reset work = {.from = plan->from,
                                .store_id = plan->store_id,
                                .owner = &plan->owner,
                                .at = plan->at,
                                .time = plan->time,
                                .epoch = plan->epoch,
                                .mailboxes = snapshot.all,
                                .count = snapshot.count,
                                .marks = branch->marks,
                                .mark_count = branch->mark_count,
                                .since = plan->since,
                                .reason = plan->reason};
    if (rc == ERR_OK)
        rc = repair_reset(store, &work);
    free(snapshot.all);
    return rc;
}

/* Mailboxes whose digests differ, although no entry showed it. */
struct comparing {
    struct store *store;
    struct mailbox_line line;
};

static int stop_if_different(struct tx *tx, void *arg)
{
    const struct comparing *work = arg;
    struct header header;
    if (tx_node(tx)->role != ROLE_REPLICA)
        return fail(ERR_REFUSED, "%s: it was promoted while it was being repaired",
                    store_path(tx_store(tx)));
    int rc = header_get(tx_db(tx), work->line.id, &header);
    if (rc == ERR_OK && header_digest(&header) == work->line.digest)
        return ERR_OK;
    return rc && rc != ERR_END
               ? rc
               : stop_damaged(tx, work->line.id, "its digest is not the upstream's");
}

static int compare_mailbox(const struct mailbox_line *line, void *arg)
{
    struct comparing *work = arg;
    work->line = *line;
    if (!line->digest || line->state == MAILBOX_PURGED)
        return ERR_OK;
    return store_maintain(work->store, stop_if_different, work);
}

static int compare_all(struct store *store, const struct asker *upstream, const struct plan *plan)
{
    struct comparing work = {.store = store};
    return ask_mailboxes(upstream, plan->at.modseq, compare_mailbox, &work);
}

static int become_equal(struct store *store, const struct asker *upstream, const struct plan *plan,
                        struct branch *branch, struct equal_report *report)
{
    int rc = repair_learn(store, branch->epochs, branch->epoch_count);
    if (rc == ERR_OK && plan->own_after != UINT64_MAX)
        rc = repair_set_aside(store, plan->own_after, &report->aside);
    if (rc == ERR_OK)
        rc = plan->kind == PLAN_RESET
                 ? reset(store, upstream, plan, branch)
                 : repair_rewind(store, plan->from, plan->at, plan->epoch, plan->reason);
    if (rc == ERR_OK && plan->compare)
        rc = compare_all(store, upstream, plan);
    if (rc == ERR_OK)
        rc = rebuild_all(store, upstream, branch, report);
    return rc ? rc : repair_sweep(store);
}

int make_equal(struct store *store, const struct asker *upstream, const struct plan *plan,
               struct equal_report *report)
{
    struct branch branch;
    if (plan->kind == PLAN_GIVE_UP)
        return store_give_up_repair(store);
    int rc = ask_branch(upstream, &branch);
    if (rc)
        return rc == ERR_END ? fail(ERR_PROTOCOL, "the upstream does not know itself") : rc;
    rc = become_equal(store, upstream, plan, &branch, report);
    branch_free(&branch);
    return rc;
}
