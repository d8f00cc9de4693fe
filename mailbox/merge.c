/* Taking a replica's changes in: what mailbox/rules.h decides, carried out by ordinary entries.
 *
 * Happy path: the epoch is opened, unless an earlier mailbox of this merge has done so; the mailbox
 * is found, made or revived; both lists are read, the plan is made and carried out; header, seen
 * sets and meta values follow; name and state come last, then the mark. All of it is one commit, so
 * a merge that was cut off has either happened to a mailbox or not.
 */
#include "mailbox/merging.h"

#include "base/err.h"
#include "mailbox/draft.h"
#include "mailbox/count.h"
#include "mailbox/edit.h"
#include "mailbox/undo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u

struct looking {
    uint64_t id;
    uint64_t base;
    struct merge_look *look;
};

static int look(struct tx *tx, void *arg)
{
    struct looking *work = arg;
    struct merge_look *found = work->look;
    struct header header, counted;
    bool mail;
    int rc = header_get(tx->db, work->id, &header);
    found->seen_at = tx->window.last.modseq;
    found->exists = rc == ERR_OK;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    found->facts = header.facts;
    found->forgotten = header_forgotten(&header);
    rc = count_mailbox(tx->db, &header, &counted);
    found->sound = rc == ERR_OK && counted.items == header.items;
    if (rc && rc != ERR_CORRUPT)
        return rc;
    rc = undo_uids(tx, &header, work->base, &found->uids, &mail);
    if (rc == ERR_TRIMMED)
        rc = record_changed(tx->db, header.number, work->base, 1, UINT32_MAX, SIZE_MAX,
                            &found->uids);
    return rc;
}

int merge_look(struct store *store, uint64_t mailbox, uint64_t base, struct merge_look *found)
{
    struct looking work = {.id = mailbox, .base = base, .look = found};
    *found = (struct merge_look){0};
    return store_read(store, look, &work);
}

void merge_look_free(struct merge_look *found)
{
    uidset_free(&found->uids);
}

static void run_free(struct merging *work)
{
    merge_other_free(&work->mine);
    merge_plan_free(&work->plan);
    uidset_free(&work->touched);
    uidset_free(&work->healed);
    uidset_free(&work->expunged);
}

/* A mark about this mailbox (0: about all) that was made meanwhile: what was taken for the base of
 * this merge is not any more. */
static int check_unmarked(struct tx *tx, uint64_t mailbox, uint64_t since)
{
    struct mark mark = {.mailbox = mailbox, .modseq = since + 1};
    int rc = mark_next(tx->db, &mark);
    if (rc == ERR_OK && mark.mailbox == mailbox)
        return fail(ERR_DIFFERS, "%s: another node was taken in meanwhile", store_path(tx->store));
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_base(struct merging *work)
{
    uint64_t since = work->session->compared;
    uint64_t mailbox = work->other->header.id;
    int rc = check_unmarked(work->tx, 0, since);
    return rc || !mailbox ? rc : check_unmarked(work->tx, mailbox, since);
}

static int open_epoch(struct merging *work)
{
    struct merge_session *session = work->session;
    struct tx *tx = work->tx;
    work->opened = session->opened;
    if (session->opened.number && epoch_compare(session->opened, tx->node.epoch) == 0)
        return ERR_OK;
    uint64_t first = session->position.modseq > tx->window.last.modseq ? session->position.modseq
                                                                       : tx->window.last.modseq;
    int rc = tx_open_epoch(tx, "merge of two branches", first + 1, session->epoch.number);
    work->opened = tx->node.epoch;
    return rc;
}

static bool is_live(enum mailbox_state state)
{
    return state == MAILBOX_LIVE;
}

static int make_live(struct merging *work, const struct name *name)
{
    struct change *change;
    int rc = edit_begin(work->tx, work->box, ENTRY_CREATE, &change);
    if (rc)
        return rc;
    change->after.state = MAILBOX_LIVE;
    change->after.name = *name;
    if (!change->after.uidvalidity) {
        change->after.uidvalidity = work->other->header.facts.uidvalidity;
        change->after.uidnext = 1;
    }
    return edit_finish(work->tx, work->box, change, true);
}

/* The mailbox at the master, live. */
static int find_target(struct merging *work)
{
    struct tx *tx = work->tx;
    const struct facts *theirs = &work->other->header.facts;
    struct name name;
    uint64_t id;
    int rc = tx_box(tx, work->other->header.id, &work->box);
    if (rc == ERR_OK) {
        bool keep = is_live(work->box->header.facts.state);
        bool revive = is_live(theirs->state) && work->other->mail;
        /* One that was deleted at both ends may be brought back: with what either had. */
        work->buried = !keep && !revive && work->box->header.facts.state != MAILBOX_DELETED;
        if (keep || !revive)
            return ERR_OK;
        rc = header_free_name(tx->db, work->other->header.id, &theirs->name, &name);
        return rc ? rc : make_live(work, &name);
    }
    if (rc != ERR_END)
        return rc;
    work->ends = !is_live(theirs->state);
    if (work->ends)
        return ERR_OK;
    rc = header_id_of(tx->db, &theirs->name, &id);
    if (rc == ERR_OK) {
        work->independent = true;
        return tx_box(tx, id, &work->box);
    }
    if (rc == ERR_END)
        rc = tx_box_new(tx, work->other->header.id, &work->box);
    return rc ? rc : make_live(work, &theirs->name);
}

bool merge_damaged(const struct merging *work)
{
    return work->look->exists && !work->look->sound;
}

/* Where this end took the replica's branch in, what had changed here was news to the replica. */
uint64_t merge_known_there(const struct merge_session *session)
{
    bool knew = session->base_master == session->base_replica || session->newer_there;
    return knew ? session->base_master : session->shared;
}

/* What the master had at the base, before anything is changed here. */
static int remember_master(struct merging *work)
{
    struct tx *tx = work->tx;
    struct header header;
    struct uidset uids = {0};
    const struct merge_session *session = work->session;
    uint64_t base = session->base_master;
    int rc = header_get(tx->db, work->other->header.id, &header);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    rc = undo_facts(tx, &header, base, &work->master_before);
    work->master_known = rc == ERR_OK && work->session->base_known;
    if (rc == ERR_OK)
        rc = undo_uids(tx, &header, merge_known_there(session), &uids, &work->master_mail);
    uidset_free(&uids);
    if (rc == ERR_TRIMMED) {
        work->master_mail = true;
        rc = ERR_OK;
    }
    return rc;
}

/* The master's record, with its flags as of the base. */
static int add_mine(struct merging *work, const struct record *record,
                    const struct former_flags *former, bool reaches)
{
    struct buf keywords = {0};
    int rc = merge_keywords(work->tx, record->keywords, &keywords);
    uint32_t system = record->flags & FLAG_SYSTEM;
    struct bytes base = buf_view(&keywords);
    bool known = (reaches && !former->mended) || record->modseq <= work->session->base_master;
    if (reaches && former->known) {
        system = former->system;
        base = buf_view(&former->keywords);
    }
    if (rc == ERR_OK)
        rc =
            merge_other_add(&work->mine, record, buf_view(&keywords), known ? &system : NULL, base);
    buf_free(&keywords);
    return rc;
}

/* Where the message of a tombstone went: of two that died under one UID, one went beside it. */
static int add_successor(struct uidset *uids, uint32_t uid)
{
    return uidset_add_range(uids, uid > 1 ? uid - 1 : uid, uid < UINT32_MAX ? uid + 1 : uid);
}

/* Adds a UID and those under which its message went on. */
static int add_with_successors(struct merging *work, struct uidset *uids, uint32_t uid)
{
    struct record record;
    int rc = uidset_add(uids, uid);
    for (unsigned steps = 0; rc == ERR_OK && steps < SUCCESSORS_MAX; steps++) {
        rc = record_get(work->tx->db, work->box->header.number, uid, &record);
        if (rc == ERR_END || rc == ERR_CORRUPT)
            return ERR_OK;
        if (rc || record_live(&record) || !record.successor)
            return rc;
        uid = record.successor;
        rc = add_successor(uids, uid);
    }
    return rc;
}

/* All that is compared here must have been fetched. */
static int find_unknown(struct merging *work, const struct uidset *uids)
{
    uint32_t end = work->other->header.facts.uidnext;
    int rc = uidset_copy(work->unknown, uids);
    if (rc == ERR_OK && end)
        rc = uidset_remove_range(work->unknown, end, UINT32_MAX);
    if (rc == ERR_OK)
        rc = uidset_remove_all(work->unknown, &work->other->looked);
    return rc == ERR_OK && work->unknown->count
               ? fail(ERR_BUSY, "a merge: more messages matter than were looked at")
               : rc;
}

static int collect_uids(struct merging *work, struct uidset *uids)
{
    const struct merge_other *other = work->other;
    struct uidset since = {0};
    bool mail;
    int rc = uidset_copy(uids, &work->look->uids);
    if (rc == ERR_OK)
        rc = uidset_add_all(uids, &other->looked);
    if (rc == ERR_OK && work->look->exists)
        rc = undo_uids(work->tx, &work->box->header, work->look->seen_at, &since, &mail);
    if (rc == ERR_OK)
        rc = uidset_add_all(uids, &since);
    uidset_clear(&since);
    for (size_t i = 0; rc == ERR_OK && i < other->count; i++) {
        const struct record *record = &other->records[i].record;
        rc = uidset_add(&since, record->uid);
        if (rc == ERR_OK && record->successor)
            rc = add_successor(&since, record->successor);
    }
    uint32_t uid;
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(&since, at, &uid); at = uid + 1)
        rc = add_with_successors(work, uids, uid);
    uidset_free(&since);
    return rc ? rc : find_unknown(work, uids);
}

/* Keeps of `uids` those that have a record here: the rest may span much. */
static int keep_existing(struct merging *work, struct uidset *uids)
{
    struct record records[BATCH];
    struct uidset kept = {0};
    uint32_t uid;
    int rc = ERR_OK;
    for (uint32_t from = 1; rc == ERR_OK && from && uidset_next(uids, from, &uid);) {
        size_t count;
        rc = record_batch(work->tx->db, work->box->header.number, uid, records, BATCH, &count);
        from = count ? records[count - 1].uid + 1 : 0;
        if (rc == ERR_CORRUPT && records[count].uid) { /* as if it were not there */
            from = records[count].uid + 1;
            rc = ERR_OK;
        }
        for (size_t i = 0; rc == ERR_OK && i < count; i++)
            if (uidset_contains(uids, records[i].uid))
                rc = uidset_add(&kept, records[i].uid);
    }
    uidset_free(uids);
    *uids = kept;
    return rc;
}

static int collect_mine(struct merging *work)
{
    struct tx *tx = work->tx;
    struct uidset uids = {0};
    int rc = work->independent ? uidset_add_range(&uids, 1, UINT32_MAX) : collect_uids(work, &uids);
    if (rc == ERR_OK)
        rc = keep_existing(work, &uids);
    size_t count = (size_t)uidset_size(&uids);
    struct former_flags *flags = calloc(count + 1, sizeof *flags);
    if (!flags)
        rc = fail(ERR_NOMEM, "out of memory");
    bool reaches = false;
    if (rc == ERR_OK) {
        rc = undo_flags(tx, &work->box->header, work->session->base_master, &uids, flags);
        reaches = rc == ERR_OK && work->session->base_known;
        rc = rc == ERR_TRIMMED ? ERR_OK : rc;
    }
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        struct record record;
        rc = record_get(tx->db, work->box->header.number, flags[i].uid, &record);
        if (rc == ERR_OK)
            rc = add_mine(work, &record, &flags[i], reaches);
    }
    if (flags)
        undo_flags_free(flags, count);
    free(flags);
    uidset_free(&uids);
    return rc;
}

static int make_plan(struct merging *work)
{
    const struct merge_other *other = work->other;
    const struct header *mine = &work->box->header;
    const struct header *theirs = &other->header;
    uint64_t forgotten = header_forgotten(mine);
    struct merge_input input = {
        .master = {.records = work->mine.records,
                   .count = work->mine.count,
                   .uidnext = mine->facts.uidnext,
                   .base = work->session->base_master,
                   .base_uidnext = work->master_known ? work->master_before.uidnext : 0,
                   .forgotten = forgotten,
                   .expunged = &work->expunged,
                   .merged = work->session->master_merged,
                   .sound = !merge_damaged(work)},
        .replica = {.records = other->records,
                    .count = other->count,
                    .uidnext = theirs->facts.uidnext,
                    .base = work->session->base_replica,
                    .base_uidnext = other->facts_known ? other->facts_before.uidnext : 0,
                    .merged = work->session->replica_merged,
                    .forgotten = header_forgotten(theirs),
                    .expunged = &other->expunged,
                    .sound = other->sound},
        .base_known = work->session->base_known};
    return work->independent ? merge_plan_independent(&input, &work->plan)
                             : merge_plan_make(&input, &work->plan);
}

/* UIDNEXT, UIDVALIDITY and DELETEDMODSEQ become the higher of the two; HIGHESTMODSEQ, which the
 * entry raises, is above both. */
static int raise_header(struct merging *work)
{
    const struct header *theirs = &work->other->header;
    struct change *change;
    int rc = edit_begin(work->tx, work->box, ENTRY_HEADER, &change);
    if (rc)
        return rc;
    struct facts *facts = &change->after;
    uint32_t uidnext = work->plan.uidnext > facts->uidnext ? work->plan.uidnext : facts->uidnext;
    if (work->independent) {
        uint32_t highest = work->tx->node.last_uidvalidity;
        if (highest < theirs->facts.uidvalidity)
            highest = theirs->facts.uidvalidity;
        facts->uidvalidity = highest < UINT32_MAX ? highest + 1 : highest;
    } else {
        uint64_t forgotten = header_forgotten(theirs);
        /* What damage took may be gone for good: clients of that end cannot be told what. */
        if (!work->other->sound || work->gone)
            forgotten = change->modseq;
        if (facts->deletedmodseq < forgotten)
            facts->deletedmodseq = forgotten;
        if (facts->uidvalidity < theirs->facts.uidvalidity)
            facts->uidvalidity = theirs->facts.uidvalidity;
        if (uidnext < theirs->facts.uidnext)
            uidnext = theirs->facts.uidnext;
    }
    facts->uidnext = uidnext;
    bool same = facts->uidnext == change->before.uidnext &&
                facts->uidvalidity == change->before.uidvalidity &&
                facts->deletedmodseq == change->before.deletedmodseq &&
                facts->highestmodseq >= theirs->facts.highestmodseq;
    return same ? ERR_OK : edit_finish(work->tx, work->box, change, true);
}

static int rename_target(struct merging *work)
{
    uint64_t id;
    const struct name *name = &work->other->header.facts.name;
    struct change *change;
    int rc = header_id_of(work->tx->db, name, &id);
    if (rc != ERR_END)
        return rc; /* taken: the master's name stays */
    rc = edit_begin(work->tx, work->box, ENTRY_RENAME, &change);
    if (rc)
        return rc;
    change->after.name = *name;
    return edit_finish(work->tx, work->box, change, true);
}

/* What became of the mailbox itself: the master's word counts, but for a rename or a deletion that
 * only the replica made. */
static int merge_fate(struct merging *work)
{
    const struct merge_other *other = work->other;
    const struct facts *theirs = &other->header.facts;
    const struct facts *mine = &work->box->header.facts;
    struct change *change;
    if (work->independent || !work->master_known || !is_live(mine->state))
        return ERR_OK;
    if (!is_live(theirs->state)) {
        bool both_had_it = is_live(work->master_before.state);
        if (!both_had_it || work->master_mail)
            return ERR_OK;
        int rc = edit_begin(work->tx, work->box, ENTRY_DELETE, &change);
        if (rc)
            return rc;
        change->after.state = MAILBOX_DELETED;
        return edit_finish(work->tx, work->box, change, true);
    }
    bool renamed_here = !name_equal(&mine->name, &work->master_before.name);
    bool renamed_there = other->facts_known ? !name_equal(&theirs->name, &other->facts_before.name)
                                            : !name_equal(&theirs->name, &work->master_before.name);
    bool was_live = is_live(work->master_before.state);
    return was_live && renamed_there && !renamed_here && !name_equal(&theirs->name, &mine->name)
               ? rename_target(work)
               : ERR_OK;
}

/* What the replica's branch had taken in is taken in with it: as far as this entry's mailbox goes.
 */
static size_t choose_marks(const struct merge_session *session, uint64_t mailbox,
                           struct mark *marks)
{
    size_t count = 1;
    marks[0] = (struct mark){.epoch = session->epoch, .taken = session->taken};
    for (size_t i = 0; i < session->mark_count && count < MARK_BODY_MARKS_MAX; i++) {
        const struct mark *before = &session->marks[i];
        bool note = before->mailbox == MARK_EPOCH;
        if (mailbox && before->mailbox && before->mailbox != mailbox && !note)
            continue;
        marks[count] = *before;
        if (mailbox && !note)
            marks[count].mailbox = 0;
        count++;
    }
    return count;
}

/* The mark raises HIGHESTMODSEQ where nothing else did so above the replica's. */
static int write_mark(struct tx *tx, struct box *box, const struct merge_session *session,
                      uint64_t highestmodseq)
{
    struct change *change;
    struct buf body = {0};
    struct mark *marks = malloc((session->mark_count + 1) * sizeof *marks);
    if (!marks)
        return fail(ERR_NOMEM, "out of memory");
    int rc = edit_begin(tx, box, ENTRY_MARK, &change);
    bool raise = box && box->header.facts.highestmodseq < highestmodseq;
    if (rc == ERR_OK) {
        size_t count = choose_marks(session, change->mailbox, marks);
        mark_body_encode(marks, count, session->epochs, session->epoch_count, &body);
        change->mark = buf_view(&body);
        rc = body.failed ? fail(ERR_NOMEM, "out of memory") : edit_finish(tx, box, change, raise);
    }
    free(marks);
    buf_free(&body);
    return rc;
}

/* What is absent in a damaged mailbox may have been expunged all the same. */
static int find_expunged(struct merging *work)
{
    return merge_damaged(work) ? undo_expunged(work->tx, &work->box->header,
                                               merge_known_there(work->session), &work->expunged)
                               : ERR_OK;
}

static int merge_records(struct merging *work)
{
    int rc = collect_mine(work);
    if (rc == ERR_OK)
        rc = find_expunged(work);
    if (rc == ERR_OK)
        rc = make_plan(work);
    if (rc == ERR_OK)
        rc = merge_carry_out(work);
    return rc || work->session->heal_only ? rc : raise_header(work);
}

/* Nothing of the replica's mailbox is kept but its numbers. */
static int bury(struct merging *work)
{
    if (work->session->heal_only)
        return ERR_OK;
    int rc = raise_header(work);
    return rc ? rc : write_mark(work->tx, work->box, work->session, 0);
}

/* The replica's mailbox does not go on here, or under another id; its own id is kept as that of a
 * purged one, with the numbers that it gave out: a third node may still have the mailbox. */
static int keep_id(struct merging *work)
{
    struct box *box;
    struct change *change;
    int rc = tx_box_new(work->tx, work->other->header.id, &box);
    if (rc == ERR_OK)
        rc = edit_begin(work->tx, box, ENTRY_CREATE, &change);
    if (rc)
        return rc;
    change->after = work->other->header.facts;
    change->after.state = MAILBOX_PURGED;
    change->after.deletedmodseq = change->modseq;
    rc = edit_finish(work->tx, box, change, true);
    return rc ? rc : write_mark(work->tx, box, work->session, 0);
}

static int merge_box(struct merging *work)
{
    struct tx *tx = work->tx;
    int rc = remember_master(work);
    if (rc == ERR_OK)
        rc = find_target(work);
    if (rc || work->ends)
        return rc ? rc : keep_id(work);
    name_print(&work->box->header.facts.name, &tx->node.owner, work->name);
    rc = work->buried ? bury(work) : merge_records(work);
    if (rc || work->buried)
        return rc;
    if (!work->session->heal_only)
        rc = merge_values(work);
    if (rc == ERR_OK && !work->session->heal_only)
        rc = merge_fate(work);
    work->counts = (struct merge_counts){.renumbered = work->plan.renumbered,
                                         .copied_back = work->plan.copied_back,
                                         .expunged = work->plan.expunged,
                                         .damaged = work->plan.damaged};
    if (rc == ERR_OK && !work->session->heal_only)
        rc = write_mark(tx, work->box, work->session, work->other->header.facts.highestmodseq);
    return rc == ERR_OK && work->independent && !work->session->adopted ? keep_id(work) : rc;
}

static int merge_one(struct tx *tx, void *arg)
{
    struct merging *work = arg;
    run_free(work);
    work->tx = tx;
    work->box = NULL;
    work->ends = work->buried = work->independent = work->gone = false;
    work->master_known = work->master_mail = false;
    tx->merging = true;
    int rc = work->session->heal_only ? ERR_OK : check_base(work);
    if (rc == ERR_OK && !work->session->heal_only)
        rc = open_epoch(work);
    for (size_t i = 0; rc == ERR_OK && i < work->draft_count; i++)
        rc = draft_adopt(tx->db, work->drafts[i], NULL);
    if (rc == ERR_OK && work->other->header.id)
        rc = merge_box(work);
    else if (rc == ERR_OK)
        rc = merge_values(work);
    for (size_t i = 0; rc == ERR_OK && i < work->draft_count; i++)
        rc = content_drop_unreferenced(tx->db, draft_guid(work->drafts[i]));
    merge_report(work, rc == ERR_OK);
    if (rc == ERR_OK && work->session->dry_run)
        rc = fail(ERR_NO, "a dry run");
    return rc;
}

int merge_mailbox(struct store *store, struct merge_session *session,
                  const struct merge_other *other, const struct merge_look *found,
                  struct draft **drafts, size_t draft_count, struct merge_counts *counts,
                  char name[NAME_TEXT_SIZE], struct uidset *unknown)
{
    struct merging work = {.store = store,
                           .session = session,
                           .other = other,
                           .look = found,
                           .drafts = drafts,
                           .draft_count = draft_count,
                           .unknown = unknown};
    int rc = store_commit(store, merge_one, &work, NULL);
    if (rc == ERR_NO && session->dry_run)
        rc = ERR_OK;
    else if (rc == ERR_OK)
        session->opened = work.opened;
    if (rc == ERR_OK) {
        counts->renumbered += work.counts.renumbered;
        counts->copied_back += work.counts.copied_back;
        counts->expunged += work.counts.expunged;
        counts->damaged += work.counts.damaged;
    }
    memcpy(name, work.name, sizeof work.name);
    run_free(&work);
    return rc;
}

struct discarding {
    struct merge_session *session;
    uint64_t mailbox;
    uint32_t uidvalidity; /* the replica's */
};

static int discard(struct tx *tx, void *arg)
{
    struct discarding *work = arg;
    struct merging opening = {.session = work->session, .tx = tx};
    struct change *change;
    struct box *box;
    tx->merging = true;
    int rc = open_epoch(&opening);
    if (rc == ERR_OK)
        rc = tx_box(tx, work->mailbox, &box);
    if (rc == ERR_OK) {
        rc = edit_begin(tx, box, ENTRY_HEADER, &change);
        if (rc == ERR_OK) {
            uint32_t highest = tx->node.last_uidvalidity;
            if (highest < work->uidvalidity)
                highest = work->uidvalidity;
            change->after.uidvalidity = highest < UINT32_MAX ? highest + 1 : highest;
            rc = edit_finish(tx, box, change, true);
        }
    }
    if (rc == ERR_OK || rc == ERR_END)
        work->session->opened = opening.opened;
    return rc == ERR_END ? ERR_OK : rc;
}

int merge_discard(struct store *store, struct merge_session *session, uint64_t mailbox,
                  uint32_t uidvalidity)
{
    struct discarding work = {.session = session, .mailbox = mailbox, .uidvalidity = uidvalidity};
    return session->dry_run ? ERR_OK : store_commit(store, discard, &work, NULL);
}

static int finish(struct tx *tx, void *arg)
{
    return write_mark(tx, NULL, arg, 0);
}

int merge_finish(struct store *store, struct merge_session *session)
{
    if (session->dry_run || !session->opened.number)
        return ERR_OK;
    return store_commit(store, finish, session, NULL);
}
