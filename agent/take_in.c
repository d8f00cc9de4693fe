/* Happy path: both ends' branches are compared; mailboxes that the follower changed after the last
 * common position are fetched as far as they were changed, with the content that is lacking here,
 * and each is merged in one commit; a last mark says that all of the branch was taken in. The plan
 * then names a position that is held for the follower by its slot.
 *
 * A follower that changed nothing, or whose changes a merge has taken in before, is only told how
 * to become equal.
 */
#include "agent/take_in.h"

#include "agent/answer.h"
#include "agent/compare.h"
#include "agent/fetch.h"
#include "agent/fork.h"
#include "agent/meanwhile.h"
#include "base/array.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"
#include "mailbox/draft.h"
#include "mailbox/count.h"
#include "mailbox/repair.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PASSES_MOST 64u /* over a mailbox that changes meanwhile */
#define TRIES_MOST 8u   /* while the other end trims or expires */
/* Modseqs that a follower may be ahead: a merge goes on above it, and must not use them up. */
#define LEAP_MOST (UINT64_C(1) << 48)

struct taking {
    struct store *store;
    const struct asker *follower;
    const struct take_in *options;
    struct branch mine;
    struct branch theirs;
    struct fork fork;
    struct plan *plan;
    struct merge_session session;
    struct epoch *foreign; /* the follower's epochs that the journal here does not tell of */
    size_t foreign_count;
    struct mark *taken; /* its marks that are not known here */
    size_t taken_count;
    uint64_t *candidates; /* mailboxes that may have to be merged */
    size_t candidate_count;
    size_t candidate_capacity;
    uint64_t *stopped; /* mailboxes that are not what its position says: they wait for a repair */
    size_t stopped_count;
    size_t stopped_capacity;
    bool store_values; /* the store's own values changed there */
    uint64_t proven;   /* base unknown: entries up to here are known to be common */
    bool apart;        /* above the common position a repair was given up at either end */
};

static void taking_free(struct taking *work)
{
    branch_free(&work->mine);
    branch_free(&work->theirs);
    free(work->foreign);
    free(work->taken);
    free(work->candidates);
    free(work->stopped);
}

static int ask_own(void *context, struct bytes question, struct buf *out)
{
    return answer(context, question, out);
}

static void give_reason(struct plan *plan, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void give_reason(struct plan *plan, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(plan->reason, sizeof plan->reason, format, args);
    va_end(args);
}

static void explain(struct taking *work)
{
    const struct position *last = &work->theirs.last;
    const struct fork *fork = &work->fork;
    if (!fork->same_store)
        give_reason(work->plan, work->theirs.store_id ? "a store with a history of its own"
                                                      : "an empty replica");
    else if (fork->on_journal)
        give_reason(work->plan, "damage");
    else if (fork->common_known && fork->common.modseq == last->modseq)
        give_reason(work->plan, "gap: the replica is at %llu, the journal begins behind %llu",
                    (unsigned long long)last->modseq, (unsigned long long)work->mine.base.modseq);
    else if (fork->common_known)
        give_reason(work->plan, "fork: both share entries up to %llu, the replica went on to %llu",
                    (unsigned long long)fork->common.modseq, (unsigned long long)last->modseq);
    else
        give_reason(work->plan, "fork at an unknown position: the replica is at %llu",
                    (unsigned long long)last->modseq);
}

/* What the follower shows may mean that this node must not write, or cannot feed it. */
static int check_relation(struct taking *work)
{
    const struct fork *fork = &work->fork;
    const char *path = store_path(work->store);
    bool master = work->mine.role == ROLE_MASTER;
    if (work->theirs.last.modseq > work->mine.last.modseq &&
        work->theirs.last.modseq - work->mine.last.modseq > LEAP_MOST)
        return fail(ERR_REFUSED, "%s: nobody can be as far as the replica says: %llu", path,
                    (unsigned long long)work->theirs.last.modseq);
    if (!fork->same_store && work->theirs.store_id && !work->options->adopt)
        return fail(ERR_REFUSED, "another store: %016llx here, %016llx there (--adopt takes it in)",
                    (unsigned long long)work->mine.store_id,
                    (unsigned long long)work->theirs.store_id);
    if (fork->later && master) {
        int rc = store_fence(work->store, FENCE_EPOCH, work->theirs.epoch.number);
        return rc ? rc
                  : fail(ERR_REFUSED,
                         "%s: fenced: the replica follows a later epoch (%u:%016llx): demote this "
                         "node, or promote it again",
                         path, work->theirs.epoch.number,
                         (unsigned long long)work->theirs.epoch.node);
    }
    if (fork->behind && master && work->mine.epoch.node == work->mine.node_id) {
        int rc = store_fence(work->store, FENCE_BEHIND, work->theirs.epoch.number);
        return rc ? rc
                  : fail(ERR_REFUSED,
                         "%s: fenced: the replica is at %llu, this master never came further than "
                         "%llu: it has lost commits; promote it to take them back",
                         path, (unsigned long long)work->theirs.last.modseq,
                         (unsigned long long)work->mine.last.modseq);
    }
    if (!master && (fork->later || fork->behind))
        return fail(ERR_REFUSED, "%s: a replica that is behind its follower", path);
    return ERR_OK;
}

static int add_id(uint64_t **ids, size_t *count, size_t *capacity, uint64_t id)
{
    uint64_t *room = array_room(*ids, *count, capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    *ids = room;
    room[(*count)++] = id;
    return ERR_OK;
}

static int add_candidate(struct taking *work, uint64_t id)
{
    return add_id(&work->candidates, &work->candidate_count, &work->candidate_capacity, id);
}

struct own_header {
    uint64_t id;
    struct header header;
    bool exists;
    bool damaged; /* a stop says so */
};

static int get_header(struct tx *tx, void *arg)
{
    struct own_header *work = arg;
    struct stop stop;
    int rc = header_get(tx_db(tx), work->id, &work->header);
    work->exists = rc == ERR_OK;
    if (rc == ERR_OK)
        rc = stop_get(tx_db(tx), work->id, &stop);
    work->damaged = work->exists && rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

static int consider(const struct mailbox_line *line, void *arg)
{
    struct taking *work = arg;
    struct own_header own = {.id = line->id};
    struct fork_bases bases;
    int rc = store_read(work->store, get_header, &own);
    if (rc == ERR_OK && line->stopped)
        rc = add_id(&work->stopped, &work->stopped_count, &work->stopped_capacity, line->id);
    if (rc)
        return rc;
    if (own.damaged)
        return add_candidate(work, line->id);
    /* One that waits to be made equal has had its changes taken in, and then ends at the base; but
     * one that was marked as damaged waits as well. */
    if (work->fork.on_journal || work->fork.taken || line->state == MAILBOX_NONE)
        return ERR_OK;
    if (line->state == MAILBOX_PURGED && (!own.exists || !work->fork.same_store))
        return ERR_OK;
    if (!work->fork.same_store)
        return line->state == MAILBOX_LIVE ? add_candidate(work, line->id) : ERR_OK;
    bool same = own.exists && line->digest && line->digest == header_digest(&own.header);
    if (!work->fork.base_known) {
        if (same && work->proven < own.header.facts.highestmodseq)
            work->proven = own.header.facts.highestmodseq;
        return same ? ERR_OK : add_candidate(work, line->id);
    }
    rc = fork_bases(&work->fork, &work->mine, &work->theirs, line->id, &bases);
    return rc == ERR_OK && line->lastmodseq > bases.since ? add_candidate(work, line->id) : rc;
}

/* --- one mailbox --- */

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

static int remember_looked(struct mailbox_work *work, const struct uidset *uids)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < uids->count; i++)
        rc = uidset_add_range(&work->other.looked, uids->ranges[i].first, uids->ranges[i].last);
    return rc;
}

/* The follower's records of these UIDs, unless they are there already. */
static int fetch_uids(struct mailbox_work *work, const struct uidset *uids)
{
    struct uidset wanted = {0};
    int rc = uidset_copy(&wanted, uids);
    for (size_t i = 0; rc == ERR_OK && i < work->other.looked.count; i++)
        rc = uidset_remove_range(&wanted, work->other.looked.ranges[i].first,
                                 work->other.looked.ranges[i].last);
    if (rc == ERR_OK && wanted.count)
        rc = ask_records(work->taking->follower, work->id, 0, &wanted,
                         work->base_known ? work->base_replica : 0, take_record, work, NULL, NULL);
    if (rc == ERR_OK)
        rc = remember_looked(work, &wanted);
    uidset_free(&wanted);
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
    rc = work->base_known ? ask_records(follower, work->id, work->since, NULL, work->base_replica,
                                        take_record, work, NULL, NULL)
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

/* How far a mailbox (0: all) of the follower's is known to be taken in, for the mark to say: up to
 * its position, but one that waits for a repair has not got what was before that. */
static void say_taken(struct taking *taking, uint64_t id)
{
    struct merge_session *session = &taking->session;
    bool stopped = !id && taking->stopped_count;
    for (size_t i = 0; i < taking->stopped_count && !stopped; i++)
        stopped = taking->stopped[i] == id;
    session->position = taking->theirs.last;
    session->mark_count = taking->taken_count;
    if (!stopped)
        return;
    session->position = taking->fork.common_known ? taking->fork.common : (struct position){0};
    session->mark_count = 0;
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
    work.base_known = taking->fork.base_known;
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
    say_taken(taking, id);
    if (rc == ERR_OK)
        rc = merge_fetched(&work, &counts, name);
    if (rc == ERR_OK)
        rc = tell(taking, id, name, &counts);
    mailbox_work_free(&work);
    return rc == ERR_END ? ERR_OK : rc; /* it went meanwhile */
}

static int take_mailbox(struct taking *taking, uint64_t id)
{
    int rc = ERR_AGAIN;
    for (unsigned tries = 0; rc == ERR_AGAIN && tries < TRIES_MOST; tries++)
        rc = take_mailbox_once(taking, id);
    return rc == ERR_AGAIN ? fail(ERR_BUSY, "%s", err_message()) : rc;
}

static int take_store_values(struct taking *taking)
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

static int discard_mailbox(struct taking *taking, uint64_t id)
{
    struct mailbox_state_now now = {0};
    int rc = ask_header(taking->follower, id, false, 0, &now);
    return rc && rc != ERR_END ? rc
                               : merge_discard(taking->store, &taking->session, id,
                                               rc ? 0 : now.header.facts.uidvalidity);
}

/* Those that the master has, too, come first: they may leave names that new ones take. */
static int take_all(struct taking *work, bool existing)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->candidate_count; i++) {
        struct own_header own = {.id = work->candidates[i]};
        rc = store_read(work->store, get_header, &own);
        if (rc || own.exists != existing)
            continue;
        if (work->theirs.discard && !work->session.heal_only)
            rc = discard_mailbox(work, own.id);
        else
            rc = take_mailbox(work, own.id);
    }
    return rc;
}

/* Whether the journal here tells of it: whoever follows knows these and no others. */
static bool is_on_path(const struct branch *branch, struct epoch_id id)
{
    struct epoch_id at = branch->epoch;
    for (size_t i = branch->epoch_count; i > 0; i--) {
        if (epoch_compare(branch->epochs[i - 1].id, at) != 0)
            continue;
        if (epoch_compare(at, id) == 0)
            return true;
        at = branch->epochs[i - 1].parent;
    }
    return false;
}

static int find_foreign(struct taking *work)
{
    work->foreign = calloc(work->theirs.epoch_count + 1, sizeof *work->foreign);
    if (!work->foreign)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < work->theirs.epoch_count; i++) {
        if (!is_on_path(&work->mine, work->theirs.epochs[i].id) && work->fork.same_store)
            work->foreign[work->foreign_count++] = work->theirs.epochs[i];
    }
    if (work->foreign_count > MARK_BODY_EPOCHS_MAX) {
        size_t oldest = work->foreign_count - MARK_BODY_EPOCHS_MAX;
        work->foreign_count = MARK_BODY_EPOCHS_MAX;
        memmove(work->foreign, work->foreign + oldest, work->foreign_count * sizeof *work->foreign);
    }
    return ERR_OK;
}

static bool same_mark(const struct mark *a, const struct mark *b)
{
    return a->mailbox == b->mailbox && a->modseq == b->modseq &&
           epoch_compare(a->epoch, b->epoch) == 0 && position_equal(a->taken, b->taken);
}

/* This end does not keep what an epoch of the follower's began with, only that it began anew. */
static void note_start(struct taking *work, const struct mark *start)
{
    const struct branch *theirs = &work->theirs;
    size_t i = 0;
    while (i < theirs->epoch_count && theirs->epochs[i].first != start->modseq)
        i++;
    if (i == theirs->epoch_count)
        return;
    struct mark mark = {.epoch = theirs->epochs[i].id, .taken = {.modseq = start->modseq}};
    for (size_t k = 0; k < work->taken_count; k++)
        if (epoch_compare(work->taken[k].epoch, mark.epoch) == 0 &&
            position_equal(work->taken[k].taken, mark.taken))
            return;
    work->taken[work->taken_count++] = mark;
}

static int find_taken(struct taking *work)
{
    work->taken = calloc(2 * work->theirs.mark_count + 1, sizeof *work->taken);
    if (!work->taken)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < work->theirs.mark_count; i++) {
        size_t k = 0;
        if (fork_is_start(&work->theirs, &work->theirs.marks[i])) {
            note_start(work, &work->theirs.marks[i]);
            if (!work->theirs.marks[i].mailbox || !work->theirs.marks[i].epoch.number)
                continue;
        }
        while (k < work->mine.mark_count &&
               !same_mark(&work->mine.marks[k], &work->theirs.marks[i]))
            k++;
        if (k == work->mine.mark_count && work->fork.same_store)
            work->taken[work->taken_count++] = work->theirs.marks[i];
    }
    return ERR_OK;
}

static int merge(struct taking *work)
{
    int rc = ask_mailboxes(work->follower, UINT64_MAX, consider, work);
    if (rc == ERR_OK)
        rc = find_foreign(work);
    if (rc == ERR_OK)
        rc = find_taken(work);
    bool own = !work->fork.on_journal && !work->fork.taken && work->theirs.store_id;
    work->session =
        (struct merge_session){.dry_run = work->options->dry_run,
                               .heal_only = !own,
                               .compared = work->mine.last.modseq,
                               .epoch = work->theirs.epoch,
                               .position = work->theirs.last,
                               .epochs = work->foreign,
                               .epoch_count = work->foreign_count,
                               .marks = work->taken,
                               .mark_count = work->taken_count,
                               .report = work->options->dry_run ? work->options->report : NULL,
                               .arg = work->options->arg};
    if (rc || (!work->candidate_count && !own))
        return rc;
    if (work->mine.role != ROLE_MASTER)
        return fail(ERR_REFUSED,
                    "%s: only a master merges, and the follower has changes of its own: it must "
                    "follow the master",
                    store_path(work->store));
    rc = take_all(work, true);
    if (rc == ERR_OK)
        rc = take_all(work, false);
    say_taken(work, 0);
    if (rc == ERR_OK && own && !work->theirs.discard)
        rc = take_store_values(work);
    return rc ? rc : merge_finish(work->store, &work->session);
}

/* Decides how the follower becomes equal, and holds the window for it. */
static int decide(struct tx *tx, void *arg)
{
    struct taking *work = arg;
    struct plan *plan = work->plan;
    const struct fork *fork = &work->fork;
    const struct journal_window *window = tx_window(tx);
    int rc = fork->common_known && fork->same_store ? journal_holds(tx_db(tx), fork->common)
                                                    : ERR_TRIMMED;
    if (rc && rc != ERR_TRIMMED && rc != ERR_END)
        return rc;
    bool reaches = rc == ERR_OK && work->theirs.base.modseq <= fork->common.modseq;
    bool from_nothing = !fork->same_store && !work->theirs.store_id;
    plan->kind = reaches ? PLAN_REWIND : PLAN_RESET;
    plan->store_id = tx_node(tx)->store_id;
    plan->owner = tx_node(tx)->owner;
    plan->from = work->theirs.last;
    plan->at = reaches ? fork->common : window->last;
    plan->time = window->last_time;
    plan->epoch = reaches ? fork_epoch_at(&work->mine, plan->at.modseq) : tx_node(tx)->epoch;
    plan->since = fork->common_known && !work->apart ? fork->common.modseq : 0;
    plan->compare = fork->on_journal && position_equal(work->theirs.last, window->last) &&
                    work->theirs.digest != node_digest(tx_node(tx));
    plan->own_after = UINT64_MAX;
    if (!fork->common_known && !from_nothing)
        plan->own_after = 0;
    else if (fork->common_known && work->theirs.last.modseq > fork->common.modseq)
        plan->own_after = fork->common.modseq;
    struct slot slot = {.position = plan->at, .time = times_now(), .connected = true};
    snprintf(slot.name, sizeof slot.name, "%s", work->options->slot);
    return work->options->dry_run ? ERR_OK : slot_put(tx_db(tx), &slot);
}

static void find_apart(struct taking *work)
{
    const struct branch *ends[] = {&work->mine, &work->theirs};
    for (size_t end = 0; end < 2; end++)
        for (size_t i = 0; i < ends[end]->mark_count; i++)
            work->apart = work->apart || (ends[end]->marks[i].modseq > work->fork.common.modseq &&
                                          fork_is_start(ends[end], &ends[end]->marks[i]));
    /* What was taken in, and what not, is to be seen by each mailbox. */
    work->fork.taken = work->fork.taken && !work->apart;
}

/* The follower is to come again when it has given up the repair that it is in. */
static int send_back(struct taking *work)
{
    struct plan *plan = work->plan;
    plan->kind = PLAN_GIVE_UP;
    plan->store_id = work->mine.store_id;
    plan->from = work->theirs.last;
    plan->own_after = UINT64_MAX;
    give_reason(plan, "a repair by another node, which it gives up");
    return ERR_OK;
}

static int look_at_branches(struct taking *work, bool *again)
{
    const struct asker own = {.ask = ask_own, .context = work->store};
    struct branch now = {0};
    branch_free(&work->mine);
    branch_free(&work->theirs);
    int rc = ask_branch(work->follower, &work->theirs);
    if (rc == ERR_OK)
        rc = ask_branch(&own, &work->mine);
    if (rc == ERR_OK && work->mine.store_id == work->theirs.store_id)
        rc = fork_drop_disproved(work->follower, &work->mine, &work->theirs);
    if (rc == ERR_OK)
        rc = fork_find(work->store, work->follower, &work->mine, &work->theirs, &work->fork);
    if (rc == ERR_OK && !work->fork.on_journal)
        rc = ask_branch(work->follower, &now);
    *again = rc == ERR_TRIMMED || (rc == ERR_OK && !work->fork.on_journal &&
                                   !position_equal(now.base, work->theirs.base));
    branch_free(&now);
    return rc;
}

/* A journal that is trimmed meanwhile looks as if the branches had parted earlier. */
static int find_fork(struct taking *work)
{
    bool again = true;
    int rc = ERR_OK;
    for (unsigned tries = 0; again && tries < TRIES_MOST; tries++)
        rc = look_at_branches(work, &again);
    return rc == ERR_OK && again ? fail(ERR_BUSY, "the journals are trimmed all the time") : rc;
}

static int take(struct taking *work)
{
    bool stranded = false;
    int rc = store_recognise(work->store);
    if (rc == ERR_OK)
        rc = find_fork(work);
    if (rc == ERR_OK)
        rc = check_relation(work);
    if (rc == ERR_OK && work->fork.same_store)
        rc = fork_strands(&work->mine, &work->theirs, &stranded);
    if (rc)
        return rc;
    if (stranded)
        return send_back(work);
    find_apart(work);
    explain(work);
    rc = merge(work);
    if (rc == ERR_OK && !work->options->dry_run)
        rc = repair_sweep(work->store);
    return rc ? rc : store_maintain(work->store, decide, work);
}

int take_in(struct store *store, const struct asker *follower, const struct take_in *options,
            struct plan *plan)
{
    int rc = ERR_DIFFERS;
    *plan = (struct plan){0};
    /* Another follower that is taken in at the same time changes what is the base of this one. */
    for (unsigned tries = 0; rc == ERR_DIFFERS && tries < TRIES_MOST; tries++) {
        struct taking work = {
            .store = store, .follower = follower, .options = options, .plan = plan};
        rc = take(&work);
        taking_free(&work);
        if (rc) {
            plan_free(plan);
            *plan = (struct plan){0};
        }
    }
    if (rc == ERR_DIFFERS)
        return fail(ERR_BUSY, "%s", err_message());
    return rc == ERR_END ? fail(ERR_PROTOCOL, "the follower does not know itself") : rc;
}
