/* Happy path: the mailbox's records that changed at the upstream since are fetched, pass after
 * pass, until one pass is a single answer, which gives the moment as of which the mailbox will be
 * equal; the upstream's digest of that moment proves it.
 *
 * Where it does not prove it, or the upstream's journal does not reach back, the two are compared
 * (rebuild_compare()). With more differences than fit one transaction the mailbox is built beside:
 * under another local number, to which it switches in the end.
 */
#include "agent/rebuild.h"

#include "agent/fetch.h"
#include "base/err.h"
#include "mailbox/draft.h"

#include <string.h>

#define IN_PLACE_MOST 4096u /* records that are changed in one transaction */
#define BATCH 1024u         /* records that go there in one transaction */
#define PASSES_MOST 64u     /* over a mailbox that changes meanwhile */
#define TRIES_MOST 4u

static void rebuild_free(struct rebuild *work)
{
    merge_other_free(&work->diff);
    uidset_free(&work->gone);
    uidset_free(&work->damaged);
}

int rebuild_count_own(void *arg)
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

/* The differences so far go to the one built beside, and are forgotten. */
static int flush_beside(struct rebuild *work)
{
    struct draft **drafts;
    size_t count;
    uint64_t expunged = 0;
    if (!work->beside) {
        uint32_t from = 1;
        int rc = rebuild_count_own(work);
        if (rc == ERR_OK)
            rc =
                repair_begin_beside(work->store, work->stop.mailbox, &work->counted, &work->beside);
        while (rc == ERR_OK && from)
            rc = repair_copy_beside(work->store, work->stop.mailbox, work->beside, &from);
        if (rc)
            return rc;
    }
    work->counted_known = false;
    int rc = fetch_content(work->store, work->upstream, &work->diff, &drafts, &count, &work->bytes);
    if (rc)
        return rc;
    rc = repair_put_beside(work->store, work->beside, &work->diff, &work->gone, drafts, count,
                           &expunged);
    work->expunged += expunged;
    fetch_close(drafts, count);
    merge_other_free(&work->diff);
    uidset_clear(&work->gone);
    return rc;
}

int rebuild_take_record(const struct record_line *line, void *arg)
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
    size_t most = work->beside ? BATCH : IN_PLACE_MOST;
    return rc == ERR_OK && work->diff.count > most ? flush_beside(work) : rc;
}

int rebuild_fetch_changes(struct rebuild *work)
{
    struct records_wanted wanted = {.since = work->since};
    for (unsigned pass = 0; pass < PASSES_MOST; pass++) {
        struct mailbox_state_now first, last;
        int rc = ask_records(work->upstream, work->stop.mailbox, &wanted, rebuild_take_record, work,
                             &first, &last);
        if (rc)
            return rc;
        work->now = last;
        if (position_equal(first.position, last.position) ||
            last.header.lastmodseq <= first.position.modseq)
            return ERR_OK;
        wanted.since = first.position.modseq;
    }
    return fail(ERR_BUSY, "mailbox id:%016llx: it changes faster than it can be read",
                (unsigned long long)work->stop.mailbox);
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

int rebuild_learn_epoch(struct store *store, const struct asker *upstream, struct epoch_id id,
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
    int rc = work->beside && work->diff.count ? flush_beside(work) : ERR_OK;
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
    rc = rebuild_learn_epoch(work->store, work->upstream, work->now.epoch, work->branch);
    change.marks = work->branch->marks;
    change.mark_count = work->branch->mark_count;
    if (rc == ERR_OK)
        rc = rebuild_count_own(work);
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
        rc = rebuild_fetch_changes(work);
    else if (rc == ERR_OK)
        rc = rebuild_compare(work, &now, work->since_known ? since : 0);
    work->since = since;
    work->all_values = !work->since_known;
    for (unsigned tries = 1; rc == ERR_OK; tries++) {
        if (work->beside)
            rc = flush_beside(work);
        if (rc == ERR_OK)
            rc = fetch_values(work);
        if (rc == ERR_OK)
            rc = apply(work);
        if (rc != ERR_DIFFERS || tries == TRIES_MOST)
            return rc;
        work->all_values = true;
        rc = ask_header(work->upstream, work->stop.mailbox, false, 0, &now);
        if (rc == ERR_OK)
            rc = rebuild_compare(work, &now, 0);
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

int rebuild_mailbox(struct store *store, const struct asker *upstream, struct branch *branch,
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
