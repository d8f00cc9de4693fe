/* One mailbox of a follower's: what was changed in it since the base is fetched, with what the
 * master has of the same UIDs in mind and with the content that is lacking here, and is merged in
 * one commit. Where users, or the follower's own expiry, were faster, more is fetched, or all anew.
 */
#include "agent/taking.h"

#include "agent/compare.h"
#include "agent/fetch.h"
#include "agent/meanwhile.h"
#include "base/err.h"

#include <stdio.h>
#include <string.h>

#define PASSES_MOST 64u /* over a mailbox that changes meanwhile */

struct mailbox_work {
    struct taking *taking;
    uint64_t id;
    struct merge_other other;
    struct merge_look look;
    struct uidset differing;
    uint64_t base_master;
    uint64_t base_replica;
    uint64_t since; /* the follower's records up to here are known here */
    bool base_known;
    struct draft **drafts;
    size_t draft_count;
};

static void close_drafts(struct mailbox_work *work)
{
    fetch_close(work->drafts, work->draft_count);
    work->drafts = NULL;
    work->draft_count = 0;
}

static void mailbox_work_free(struct mailbox_work *work)
{
    merge_other_free(&work->other);
    merge_look_free(&work->look);
    uidset_free(&work->differing);
    close_drafts(work);
}

static int take_record(const struct record_line *line, void *arg)
{
    struct mailbox_work *work = arg;
    int rc = uidset_add(&work->other.looked, line->record.uid);
    return rc ? rc
              : merge_other_add(&work->other, &line->record, line->keywords,
                                line->has_base ? &line->base_system : NULL, line->base_keywords);
}

/* The follower's records of these UIDs, unless they are there already. */
static int fetch_uids(struct mailbox_work *work, const struct uidset *uids)
{
    struct uidset missing = {0};
    const struct records_wanted wanted = {.uids = &missing,
                                          .base = work->base_known ? work->base_replica : 0};
    int rc = uidset_copy(&missing, uids);
    if (rc == ERR_OK)
        rc = uidset_remove_all(&missing, &work->other.looked);
    if (rc == ERR_OK && missing.count)
        rc = ask_records(work->taking->follower, work->id, &wanted, take_record, work, NULL, NULL);
    if (rc == ERR_OK)
        rc = uidset_add_all(&work->other.looked, &missing);
    uidset_free(&missing);
    return rc;
}

struct summing {
    uint64_t id;
    enum record_item item;
    uint64_t base;
    const struct record_sums *sums;
};

static int sum_own(struct tx *tx, void *arg)
{
    struct summing *work = arg;
    struct header header;
    int rc = header_get(tx_db(tx), work->id, &header);
    if (rc == ERR_END)
        header.number = 0;
    else if (rc)
        return rc;
    return record_sums(tx_db(tx), header.number, work->item, work->base, work->sums, NULL);
}

/* Where both share one base, records that changed since say so themselves, unless they are
 * damaged. */
static enum record_item compared_item(const struct mailbox_work *work)
{
    bool damaged = (work->look.exists && !work->look.sound) || !work->other.sound;
    bool shared = work->base_known && work->base_master == work->base_replica;
    return shared && !damaged ? RECORD_IDENTITY : RECORD_WHOLE;
}

static int own_sums(void *context, const struct record_sums *sums)
{
    struct mailbox_work *work = context;
    struct summing summing = {
        .id = work->id, .item = compared_item(work), .base = work->base_master, .sums = sums};
    return store_read(work->taking->store, sum_own, &summing);
}

/* Messages that one end has and the other has not, although no record says what became of them. */
static int find_absent(struct mailbox_work *work)
{
    const struct comparison comparison = {.asker = work->taking->follower,
                                          .mailbox = work->id,
                                          .item = compared_item(work),
                                          .base = work->base_replica,
                                          .sums = own_sums,
                                          .context = work};
    uint32_t here = work->look.facts.uidnext;
    uint32_t there = work->other.header.facts.uidnext;
    int rc = compare_records(&comparison, here > there ? here : there, &work->differing);
    return rc ? rc : fetch_uids(work, &work->differing);
}

struct proof {
    struct mailbox_work *work;
    uint64_t highest; /* append modseq that both ends prove to share */
};

static void prove_pair(struct proof *proof, const struct record *mine)
{
    const struct merge_other *other = &proof->work->other;
    for (size_t i = 0; i < other->count; i++) {
        const struct record *theirs = &other->records[i].record;
        if (theirs->uid == mine->uid && theirs->append_modseq == mine->append_modseq &&
            theirs->save_date == mine->save_date && guid_equal(&theirs->guid, &mine->guid) &&
            proof->highest < mine->append_modseq)
            proof->highest = mine->append_modseq;
    }
}

/* What is not among the differences is the same at both ends. */
static int prove_shared(struct tx *tx, void *arg)
{
    struct proof *proof = arg;
    struct record records[64];
    struct header header;
    size_t count = 64;
    int rc = header_get(tx_db(tx), proof->work->id, &header);
    for (uint32_t from = 1; rc == ERR_OK && count == 64 && from;) {
        rc = record_batch(tx_db(tx), header.number, from, records, 64, &count);
        for (size_t i = 0; rc == ERR_OK && i < count; i++) {
            if (uidset_contains(&proof->work->differing, records[i].uid))
                prove_pair(proof, &records[i]);
            else if (record_live(&records[i]) && proof->highest < records[i].append_modseq)
                proof->highest = records[i].append_modseq;
        }
        from = count ? records[count - 1].uid + 1 : 0;
    }
    return rc == ERR_END || rc == ERR_CORRUPT ? ERR_OK : rc;
}

static int prove_base(struct mailbox_work *work)
{
    struct proof proof = {.work = work, .highest = work->taking->proven};
    int rc = store_read(work->taking->store, prove_shared, &proof);
    work->base_master = work->base_replica = proof.highest;
    return rc;
}

/* The follower's records, as far as they may matter. */
static int fetch_records(struct mailbox_work *work, bool all)
{
    const struct asker *follower = work->taking->follower;
    const struct header *header = &work->other.header;
    uint64_t forgotten = header_forgotten(header);
    struct uidset every = {0};
    int rc;
    if (all) {
        rc = uidset_add_range(&every, 1, UINT32_MAX);
        if (rc == ERR_OK)
            rc = fetch_uids(work, &every);
        uidset_free(&every);
        return rc;
    }
    const struct records_wanted changed = {
        .since = work->since, .base = work->base_replica, .expunged = &work->other.expunged};
    rc = work->base_known ? ask_records(follower, work->id, &changed, take_record, work, NULL, NULL)
                          : ERR_OK;
    bool absence = !work->base_known || !work->other.sound || !work->look.sound ||
                   work->base_master != work->base_replica || forgotten > work->base_replica ||
                   work->look.forgotten > work->base_master;
    if (rc == ERR_OK && work->look.exists && absence)
        rc = find_absent(work);
    if (rc == ERR_OK && work->base_known)
        rc = fetch_uids(work, &work->look.uids);
    return rc;
}

/* Content that is lacking here, before anything refers to it. */
static int fetch_lacking(struct mailbox_work *work)
{
    close_drafts(work);
    return fetch_content(work->taking->store, work->taking->follower, &work->other, &work->drafts,
                         &work->draft_count, NULL);
}

/* Whether the mailbox will be merged with another of its name: then all of both matters. */
struct name_taken {
    const struct merge_other *other;
    bool taken;
};

static int is_name_taken(struct tx *tx, void *arg)
{
    struct name_taken *work = arg;
    uint64_t id;
    int rc = header_id_of(tx_db(tx), &work->other->header.facts.name, &id);
    work->taken = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

/* Records of which the follower changed nothing came along because the master did. */
static bool has_changed_mail(const struct mailbox_work *work)
{
    bool changed = work->other.seen_count > 0 || work->other.meta_count > 0;
    for (size_t i = 0; i < work->other.count && !changed; i++)
        changed = work->other.records[i].record.modseq > work->since;
    return changed;
}

static int look_here(void *arg)
{
    struct mailbox_work *work = arg;
    return merge_look(work->taking->store, work->id, work->base_master, &work->look);
}

static int look_there(void *arg)
{
    struct mailbox_work *work = arg;
    struct mailbox_state_now now;
    int rc = ask_header(work->taking->follower, work->id, true, work->base_known ? work->since : 0,
                        &now);
    if (rc)
        return rc;
    work->other.header = now.header;
    work->other.sound = now.sound;
    work->other.facts_known = now.former_known;
    work->other.facts_before = now.former;
    return ERR_OK;
}

static int fetch_mailbox(struct mailbox_work *work)
{
    const struct asker *follower = work->taking->follower;
    struct name_taken taken = {.other = &work->other};
    int rc = meanwhile(look_here, work, look_there, work);
    if (rc == ERR_OK && !work->look.exists)
        rc = store_read(work->taking->store, is_name_taken, &taken);
    if (rc == ERR_OK)
        rc = fetch_records(work, !work->look.exists);
    if (rc == ERR_OK && !work->base_known && work->look.exists) {
        rc = prove_base(work);
        merge_look_free(&work->look);
        if (rc == ERR_OK)
            rc = merge_look(work->taking->store, work->id, UINT64_MAX, &work->look);
    }
    if (rc == ERR_OK)
        rc = ask_values(follower, work->id, work->look.exists && work->base_known ? work->since : 0,
                        work->base_known ? work->since : 0, &work->other, NULL);
    work->other.mail = has_changed_mail(work);
    merge_other_sort(&work->other);
    return rc;
}

static int tell(struct taking *work, uint64_t id, const char *name,
                const struct merge_counts *counts)
{
    struct plan_line line = {.mailbox = id,
                             .renumbered = counts->renumbered,
                             .copied_back = counts->copied_back,
                             .expunged = counts->expunged,
                             .damaged = counts->damaged};
    snprintf(line.name, sizeof line.name, "%s", name);
    return *name ? plan_add(work->plan, &line) : ERR_OK;
}

/* The mark will say that the follower was taken in up to its position: it must not have gone on
 * meanwhile, as one that was promoted may. What it expired meanwhile came as if it had never been
 * there, and the follower had not said yet that it forgets that much. */
static int check_unmoved(struct mailbox_work *work)
{
    struct mailbox_state_now now;
    int rc = ask_header(work->taking->follower, work->id, false, 0, &now);
    if (rc)
        return rc;
    if (!position_equal(now.position, work->taking->theirs.last))
        return fail(ERR_REFUSED, "the replica has changed since its changes were looked for");
    return now.header.floor == work->other.header.floor
               ? ERR_OK
               : fail(ERR_AGAIN, "the replica has purged tombstones since they were asked for");
}

/* What the master has may have changed since it was looked at: then more is fetched. */
static int merge_fetched(struct mailbox_work *work, struct merge_counts *counts,
                         char name[NAME_TEXT_SIZE])
{
    struct taking *taking = work->taking;
    struct uidset unknown = {0};
    int rc = ERR_BUSY;
    for (unsigned pass = 0; rc == ERR_BUSY && pass < PASSES_MOST; pass++) {
        rc = fetch_uids(work, &unknown);
        merge_other_sort(&work->other);
        if (rc == ERR_OK && !taking->options->dry_run)
            rc = fetch_lacking(work);
        if (rc == ERR_OK)
            rc = check_unmoved(work);
        if (rc == ERR_OK)
            rc = merge_mailbox(taking->store, &taking->session, &work->other, &work->look,
                               work->drafts, work->draft_count, counts, name, &unknown);
    }
    uidset_free(&unknown);
    return rc;
}

static int take_mailbox_once(struct taking *taking, uint64_t id)
{
    struct mailbox_work work = {.taking = taking, .id = id};
    struct merge_counts counts = {0};
    char name[NAME_TEXT_SIZE] = "";
    struct fork_bases bases;
    int rc = fork_bases(&taking->fork, &taking->mine, &taking->theirs, id, &bases);
    if (rc)
        return rc;
    work.base_known = taking->fork.base_known && bases.known;
    work.base_master = bases.master;
    work.base_replica = bases.replica;
    work.since = bases.since;
    rc = fetch_mailbox(&work);
    taking->session.base_known = work.base_known;
    taking->session.base_master = work.base_master;
    taking->session.base_replica = work.base_replica;
    taking->session.newer_there = bases.replica > bases.since;
    taking->session.shared = taking->fork.common_known ? taking->fork.common.modseq : 0;
    taking->session.master_merged = bases.master_merged;
    taking->session.replica_merged = bases.replica_merged;
    take_say(taking, id);
    if (rc == ERR_OK)
        rc = merge_fetched(&work, &counts, name);
    if (rc == ERR_OK)
        rc = tell(taking, id, name, &counts);
    mailbox_work_free(&work);
    return rc == ERR_END ? ERR_OK : rc; /* it went meanwhile */
}

int take_mailbox(struct taking *taking, uint64_t id)
{
    int rc = ERR_AGAIN;
    for (unsigned tries = 0; rc == ERR_AGAIN && tries < TAKING_TRIES_MOST; tries++)
        rc = take_mailbox_once(taking, id);
    return rc == ERR_AGAIN ? fail(ERR_BUSY, "%s", err_message()) : rc;
}

int take_store_values(struct taking *taking)
{
    struct mailbox_work work = {.taking = taking};
    struct merge_counts counts = {0};
    char name[NAME_TEXT_SIZE];
    struct fork_bases bases;
    int rc = fork_bases(&taking->fork, &taking->mine, &taking->theirs, 0, &bases);
    if (rc)
        return rc;
    struct values_as_of as_of;
    rc = ask_values(taking->follower, 0, taking->fork.base_known ? bases.since : 0, 0, &work.other,
                    &as_of);
    if (rc == ERR_OK && as_of.modseq != taking->theirs.last.modseq)
        rc = fail(ERR_REFUSED, "the replica has changed since its changes were looked for");
    taking->session.base_known = taking->fork.base_known;
    taking->session.base_master = bases.master;
    taking->session.base_replica = bases.replica;
    if (rc == ERR_OK && work.other.meta_count)
        rc = merge_mailbox(taking->store, &taking->session, &work.other, &work.look, NULL, 0,
                           &counts, name, NULL);
    mailbox_work_free(&work);
    return rc;
}

int take_discarded(struct taking *taking, uint64_t id)
{
    struct mailbox_state_now now = {0};
    int rc = ask_header(taking->follower, id, false, 0, &now);
    return rc && rc != ERR_END ? rc
                               : merge_discard(taking->store, &taking->session, id,
                                               rc ? 0 : now.header.facts.uidvalidity);
}
