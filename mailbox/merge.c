/* Taking a replica's changes in: what mailbox/rules.h decides, carried out by ordinary entries.
 *
 * Happy path: the epoch is opened, unless an earlier mailbox of this merge has done so; the mailbox
 * is found, made or revived; both lists are read, the plan is made and carried out; header, seen
 * sets and meta values follow; name and state come last, then the mark. All of it is one commit, so
 * a merge that was cut off has either happened to a mailbox or not.
 */
#include "mailbox/merge.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/draft.h"
#include "mailbox/count.h"
#include "mailbox/edit.h"
#include "mailbox/garbage.h"
#include "mailbox/keywords.h"
#include "mailbox/stop.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 64u
#define SUCCESSORS_MAX 64u

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
    found->forgotten =
        header.floor > header.facts.deletedmodseq ? header.floor : header.facts.deletedmodseq;
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

/* One commit's work. */
struct merging {
    struct store *store;
    struct merge_session *session;
    const struct merge_other *other;
    const struct merge_look *look;
    struct draft **drafts;
    size_t draft_count;
    struct epoch_id opened;
    struct merge_counts counts;
    char name[NAME_TEXT_SIZE];
    /* within one run */
    struct tx *tx;
    struct box *box;
    bool independent;
    bool skipped;               /* there is nothing to merge it with, and nothing to keep */
    bool buried;                /* only its id and its numbers are left here, and nothing to keep */
    struct facts master_before; /* as of the base; only when `master_known` */
    bool master_known;
    bool master_mail; /* more than name and state changed here since the base */
    struct merge_other mine;
    struct merge_plan plan;
    struct uidset touched;
    struct uidset healed;
    struct uidset expunged; /* here, since the base, as the journal says */
    struct uidset *unknown; /* see merge_mailbox() */
};

static void run_free(struct merging *work)
{
    merge_other_free(&work->mine);
    merge_plan_free(&work->plan);
    uidset_free(&work->touched);
    uidset_free(&work->healed);
    uidset_free(&work->expunged);
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

/* `wanted`, or with ~id behind it when another mailbox has it. */
static int free_name(struct merging *work, const struct name *wanted, struct name *name)
{
    uint64_t id;
    char suffix[20];
    *name = *wanted;
    int rc = header_id_of(work->tx->db, name, &id);
    if (rc == ERR_END || (rc == ERR_OK && id == work->other->header.id))
        return ERR_OK;
    snprintf(suffix, sizeof suffix, "%016" PRIx64, work->other->header.id);
    name_with_suffix(wanted, suffix, name);
    return rc;
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
        rc = free_name(work, &theirs->name, &name);
        return rc ? rc : make_live(work, &name);
    }
    if (rc != ERR_END)
        return rc;
    work->skipped = !is_live(theirs->state);
    if (work->skipped)
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

/* What the master had at the base, before anything is changed here. */
static int remember_master(struct merging *work)
{
    struct tx *tx = work->tx;
    struct header header;
    struct uidset uids = {0};
    uint64_t base = work->session->base_master;
    /* What came with another node's branch is news to the replica, too. */
    uint64_t known = base != work->session->base_replica ? work->session->shared : base;
    int rc = header_get(tx->db, work->other->header.id, &header);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    rc = undo_facts(tx, &header, base, &work->master_before);
    work->master_known = rc == ERR_OK && work->session->base_known;
    if (rc == ERR_OK)
        rc = undo_uids(tx, &header, known, &uids, &work->master_mail);
    uidset_free(&uids);
    if (rc == ERR_TRIMMED) {
        work->master_mail = true;
        rc = ERR_OK;
    }
    return rc;
}

static int keywords_copy(struct tx *tx, uint64_t hash, struct buf *copy)
{
    struct bytes set;
    int rc = keywords_lookup(tx->db, hash, &set);
    buf_reset(copy);
    if (rc == ERR_OK)
        buf_put(copy, set.data, set.size);
    return rc == ERR_OK && copy->failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

/* The master's record, with its flags as of the base. */
static int add_mine(struct merging *work, const struct record *record,
                    const struct former_flags *former, bool reaches)
{
    struct buf keywords = {0};
    int rc = keywords_copy(work->tx, record->keywords, &keywords);
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
    const struct uidset *looked = &work->other->looked;
    uint32_t end = work->other->header.facts.uidnext;
    int rc = uidset_copy(work->unknown, uids);
    if (rc == ERR_OK && end)
        rc = uidset_remove_range(work->unknown, end, UINT32_MAX);
    for (size_t i = 0; rc == ERR_OK && i < looked->count; i++)
        rc = uidset_remove_range(work->unknown, looked->ranges[i].first, looked->ranges[i].last);
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
    for (size_t i = 0; rc == ERR_OK && i < other->looked.count; i++)
        rc = uidset_add_range(uids, other->looked.ranges[i].first, other->looked.ranges[i].last);
    if (rc == ERR_OK && work->look->exists)
        rc = undo_uids(work->tx, &work->box->header, work->look->seen_at, &since, &mail);
    for (size_t i = 0; rc == ERR_OK && i < since.count; i++)
        rc = uidset_add_range(uids, since.ranges[i].first, since.ranges[i].last);
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
    uint64_t forgotten =
        mine->floor > mine->facts.deletedmodseq ? mine->floor : mine->facts.deletedmodseq;
    struct merge_input input = {
        .master = {.records = work->mine.records,
                   .count = work->mine.count,
                   .uidnext = mine->facts.uidnext,
                   .base = work->session->base_master,
                   .base_uidnext = work->master_known ? work->master_before.uidnext : 0,
                   .forgotten = forgotten,
                   .merged = work->session->master_merged,
                   .sound = !work->look->exists || work->look->sound},
        .replica = {.records = other->records,
                    .count = other->count,
                    .uidnext = theirs->facts.uidnext,
                    .base = work->session->base_replica,
                    .base_uidnext = other->facts_known ? other->facts_before.uidnext : 0,
                    .merged = work->session->replica_merged,
                    .forgotten = theirs->floor > theirs->facts.deletedmodseq
                                     ? theirs->floor
                                     : theirs->facts.deletedmodseq,
                    .sound = other->sound},
        .base_known = work->session->base_known};
    return work->independent ? merge_plan_independent(&input, &work->plan)
                             : merge_plan_make(&input, &work->plan);
}

static int get(struct merging *work, uint32_t uid, struct record *record)
{
    int rc = record_get(work->tx->db, work->box->header.number, uid, record);
    return rc == ERR_END ? fail(ERR_CORRUPT, "UID %u: a merge found no record", uid) : rc;
}

static int do_flags(struct merging *work, const struct merge_action *action)
{
    struct record record;
    struct buf before = {0};
    struct change *change;
    int rc = get(work, action->uid, &record);
    if (rc == ERR_OK)
        rc = keywords_copy(work->tx, record.keywords, &before);
    if (rc == ERR_OK)
        rc = edit_begin(work->tx, work->box, ENTRY_FLAGS, &change);
    if (rc == ERR_OK)
        rc = uidset_add(&change->uids, action->uid);
    if (rc == ERR_OK)
        rc = change_add_former(change, record.modseq, record.changed);
    if (rc == ERR_OK) {
        change->system_before = record.flags & FLAG_SYSTEM;
        change->system_after = action->system;
        change->keywords_before = buf_view(&before);
        change->keywords_after = buf_view(&action->keywords);
        rc = edit_finish(work->tx, work->box, change, true);
    }
    buf_free(&before);
    return rc;
}

static int do_expunge(struct merging *work, const struct merge_action *action)
{
    struct record record;
    struct buf keywords = {0};
    struct change *change;
    int rc = get(work, action->uid, &record);
    if (rc == ERR_OK)
        rc = keywords_copy(work->tx, record.keywords, &keywords);
    if (rc == ERR_OK)
        rc = edit_begin(work->tx, work->box, ENTRY_EXPUNGE, &change);
    if (rc == ERR_OK)
        rc = change_add_set(change, buf_view(&keywords));
    if (rc == ERR_OK)
        rc = change_add_record(change, &record);
    if (rc == ERR_OK) {
        change->successor = action->other;
        rc = edit_finish(work->tx, work->box, change, true);
    }
    buf_free(&keywords);
    return rc;
}

/* A tombstone where there was none, or one that gets a successor. */
static int do_bury(struct merging *work, const struct merge_action *action)
{
    struct record before = {0};
    struct record tombstone;
    struct buf keywords = {0};
    struct change *change;
    bool point = action->kind == MERGE_POINT;
    int rc = point ? get(work, action->uid, &before) : ERR_OK;
    tombstone = point ? before : action->from->record;
    if (rc == ERR_OK && point)
        rc = keywords_copy(work->tx, before.keywords, &keywords);
    else if (rc == ERR_OK)
        buf_put(&keywords, action->from->keywords.data, action->from->keywords.size);
    if (rc == ERR_OK)
        rc = edit_begin(work->tx, work->box, ENTRY_BURY, &change);
    if (rc == ERR_OK)
        rc = change_add_set(change, buf_view(&keywords));
    if (rc == ERR_OK) {
        tombstone.uid = action->uid;
        tombstone.flags |= RECORD_EXPUNGED;
        tombstone.successor = action->other;
        tombstone.modseq = change->modseq;
        if (!point) /* it is new here: not from before the two went apart */
            tombstone.append_modseq = change->modseq;
        tombstone.changed = change->time;
        tombstone.keywords = keywords_hash(buf_view(&keywords));
        rc = change_add_buried(change, &tombstone, point ? &before : NULL);
    }
    if (rc == ERR_OK) {
        if (change->after.uidnext <= action->uid)
            change->after.uidnext = action->uid + 1;
        rc = edit_finish(work->tx, work->box, change, true);
    }
    buf_free(&keywords);
    return rc;
}

static int do_add(struct merging *work, const struct merge_action *action)
{
    struct content content;
    struct change *change;
    struct record record = action->from->record;
    int rc = content_get(work->tx->db, &record.guid, &content);
    bool introduces = rc == ERR_END || (rc == ERR_OK && content.references == 0);
    if (rc == ERR_OK || rc == ERR_END)
        rc = edit_begin(work->tx, work->box, ENTRY_APPEND, &change);
    if (rc == ERR_OK)
        rc = change_add_set(change, buf_view(&action->keywords));
    if (rc)
        return rc;
    record.uid = action->uid;
    record.flags = action->system & FLAG_SYSTEM;
    record.successor = 0;
    record.keywords = keywords_hash(buf_view(&action->keywords));
    record.modseq = change->modseq;
    record.append_modseq = change->modseq;
    record.changed = change->time;
    change->introduces = introduces;
    rc = change_add_record(change, &record);
    if (rc)
        return rc;
    if (change->after.uidnext <= action->uid)
        change->after.uidnext = action->uid + 1;
    return edit_finish(work->tx, work->box, change, true);
}

/* The row goes back as the replica has it; what that does to counts and digest is seen at the end.
 * Whether what was lost is still counted as a reference is not known. */
static int do_heal(struct merging *work, const struct merge_action *action)
{
    struct record record = action->from->record;
    struct record damaged;
    int rc = keywords_intern(work->tx->db, action->from->keywords);
    record.keywords = keywords_hash(action->from->keywords);
    bool same =
        record_get(work->tx->db, work->box->header.number, action->uid, &damaged) == ERR_OK &&
        guid_equal(&damaged.guid, &record.guid);
    if (rc == ERR_OK)
        rc = record_put(work->tx->db, work->box->header.number, &record);
    if (rc == ERR_OK && !same) {
        rc = content_ref(work->tx->db, &record.guid);
        if (rc == ERR_OK)
            rc = garbage_recount(work->tx->db);
    }
    return rc ? rc : uidset_add(&work->healed, action->uid);
}

static int add_expunged(const struct entry *entry, const struct change *change, void *arg)
{
    int rc = ERR_OK;
    for (size_t i = 0; entry->kind == ENTRY_EXPUNGE && rc == ERR_OK && i < change->record_count;
         i++)
        rc = uidset_add(arg, change->records[i].uid);
    return rc;
}

/* What is absent in a damaged mailbox may have been expunged all the same. */
static int find_expunged(struct merging *work)
{
    if (!work->look->exists || work->look->sound)
        return ERR_OK;
    int rc = undo_walk(work->tx, &work->box->header, work->session->base_master, add_expunged,
                       &work->expunged);
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

static int heal(struct merging *work, const struct merge_action *action)
{
    if (!uidset_contains(&work->expunged, action->uid))
        return do_heal(work, action);
    return work->session->heal_only ? ERR_OK : do_bury(work, action);
}

static int touch_some(struct merging *work, const struct uidset *uids, uint32_t *at)
{
    struct change *change;
    uint32_t uid;
    int rc = edit_begin(work->tx, work->box, ENTRY_TOUCH, &change);
    for (unsigned taken = 0; rc == ERR_OK && taken < CHANGE_MAX_RECORDS && *at; taken++) {
        struct record record;
        if (!uidset_next(uids, *at, &uid)) {
            *at = 0;
            break;
        }
        *at = uid + 1;
        rc = get(work, uid, &record);
        if (rc == ERR_OK)
            rc = uidset_add(&change->uids, uid);
        if (rc == ERR_OK)
            rc = change_add_former(change, record.modseq, record.changed);
    }
    return rc || !change->former_count ? rc : edit_finish(work->tx, work->box, change, true);
}

static int touch(struct merging *work, const struct uidset *uids)
{
    int rc = ERR_OK;
    for (uint32_t at = 1; rc == ERR_OK && at;)
        rc = touch_some(work, uids, &at);
    return rc;
}

/* Rows were put back. Where counts and digest are then what the header says, they are the very ones
 * that were lost, and no other node need know. Else the header follows the records, and a change
 * says so: a node that has other records finds out by the digest. */
static int settle_damage(struct merging *work)
{
    struct header counted;
    struct header *header = &work->box->header;
    if (!work->look->exists || work->look->sound)
        return ERR_OK;
    int rc = count_mailbox(work->tx->db, header, &counted);
    if (rc)
        return rc == ERR_CORRUPT ? ERR_OK : rc;
    bool exact = counted.items == header->items && counted.messages == header->messages;
    if (!exact && !work->healed.count)
        return ERR_OK;
    header->items = counted.items;
    header->messages = counted.messages;
    header->bytes = counted.bytes;
    header->unseen = counted.unseen;
    header->tombstones = counted.tombstones;
    work->box->dirty = true;
    if (!exact)
        rc = touch(work, &work->healed);
    if (rc == ERR_OK)
        rc = stop_drop(work->tx->db, header->id);
    return rc == ERR_END ? ERR_OK : rc;
}

static const char *action_name(enum merge_kind kind)
{
    static const char *const names[] = {
        [MERGE_FLAGS] = "flags", [MERGE_EXPUNGE] = "expunge", [MERGE_POINT] = "point",
        [MERGE_BURY] = "bury",   [MERGE_ADD] = "add",         [MERGE_RENUMBER] = "renumber",
        [MERGE_HEAL] = "heal",   [MERGE_TOUCH] = "touch",
    };
    return names[kind];
}

static int do_action(struct merging *work, const struct merge_action *action)
{
    switch (action->kind) {
    case MERGE_FLAGS:
        return do_flags(work, action);
    case MERGE_EXPUNGE:
        return do_expunge(work, action);
    case MERGE_POINT:
    case MERGE_BURY:
        return do_bury(work, action);
    case MERGE_ADD:
    case MERGE_RENUMBER:
        return do_add(work, action);
    case MERGE_HEAL:
        return heal(work, action);
    case MERGE_TOUCH:
        return uidset_add(&work->touched, action->uid);
    }
    return fail(ERR_INVALID, "unknown action of a merge");
}

static int do_actions(struct merging *work, bool heals)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->plan.count; i++) {
        bool is_heal = work->plan.actions[i].kind == MERGE_HEAL;
        if (is_heal == heals)
            rc = do_action(work, &work->plan.actions[i]);
    }
    return rc;
}

/* Heals first: other actions may be about what they bring back. */
static int carry_out(struct merging *work)
{
    int rc = find_expunged(work);
    if (rc == ERR_OK)
        rc = do_actions(work, true);
    if (rc == ERR_OK)
        rc = settle_damage(work);
    if (rc || work->session->heal_only)
        return rc;
    rc = do_actions(work, false);
    return rc ? rc : touch(work, &work->touched);
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
        uint64_t forgotten = theirs->floor > theirs->facts.deletedmodseq
                                 ? theirs->floor
                                 : theirs->facts.deletedmodseq;
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

/* Seen or unseen for one user, as far as it is not so already; UIDs without a live record are
 * passed over. */
static int write_seen(struct merging *work, struct bytes user, const struct uidset *uids,
                      bool seen_after)
{
    struct tx *tx = work->tx;
    struct uidset seen = {0};
    struct versioned version;
    struct change *change;
    uint32_t uid;
    int rc = seen_get(tx->db, work->box->header.id, user, &seen, &version);
    for (uint32_t at = 1; rc == ERR_OK && at;) {
        rc = edit_begin(tx, work->box, ENTRY_SEEN, &change);
        unsigned taken = 0;
        while (rc == ERR_OK && taken < CHANGE_MAX_RECORDS && at) {
            struct record record;
            if (!uidset_next(uids, at, &uid)) {
                at = 0;
                break;
            }
            at = uid + 1;
            rc = record_get(tx->db, work->box->header.number, uid, &record);
            if (rc == ERR_END || (rc == ERR_OK && !record_live(&record)) ||
                (rc == ERR_OK && uidset_contains(&seen, uid) == seen_after)) {
                rc = ERR_OK;
                continue;
            }
            if (rc == ERR_OK)
                rc = uidset_add(&change->uids, uid);
            if (rc == ERR_OK)
                rc = change_add_former(change, record.modseq, record.changed);
            taken++;
        }
        if (rc || !taken)
            continue;
        change->user = user;
        change->seen_after = seen_after;
        rc = seen_get(tx->db, change->mailbox, user, NULL, &change->value_before);
        if (rc == ERR_OK)
            rc = edit_finish(tx, work->box, change, true);
    }
    uidset_free(&seen);
    return rc;
}

/* The replica's record, of those that were given; NULL: not given. */
static const struct merge_record *their_record(const struct merging *work, uint32_t uid)
{
    const struct merge_record key = {.record = {.uid = uid}};
    const struct merge_other *other = work->other;
    return other->count ? bsearch(&key, other->records, other->count, sizeof key, by_uid) : NULL;
}

/* Where the replica's message under this UID is at the master now; 0: nowhere. A seen set keeps the
 * UIDs of messages that are gone, and under such a one the master may have had another. */
static int map_uid(struct merging *work, uint32_t uid, uint32_t *mapped)
{
    const struct merge_record *theirs = their_record(work, uid);
    *mapped = 0;
    for (size_t i = 0; i < work->plan.count; i++) {
        const struct merge_action *action = &work->plan.actions[i];
        if (action->kind == MERGE_ADD && action->from->record.uid == uid) {
            *mapped = action->uid;
            return ERR_OK;
        }
    }
    if (work->independent || (theirs && !record_live(&theirs->record)) ||
        (!theirs && uidset_contains(&work->other->looked, uid)))
        return ERR_OK;
    for (unsigned steps = 0; uid && steps < SUCCESSORS_MAX; steps++) {
        struct record record;
        int rc = record_get(work->tx->db, work->box->header.number, uid, &record);
        if (rc)
            return rc == ERR_END ? ERR_OK : rc;
        if (record_live(&record)) {
            if (!theirs || guid_equal(&theirs->record.guid, &record.guid))
                *mapped = uid;
            return ERR_OK;
        }
        uid = record.successor;
    }
    return ERR_OK;
}

static int map_uids(struct merging *work, const struct uidset *uids, struct uidset *mapped)
{
    uint32_t uid, to;
    int rc = ERR_OK;
    uidset_clear(mapped);
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(uids, at, &uid); at = uid + 1) {
        rc = map_uid(work, uid, &to);
        if (rc == ERR_OK && to)
            rc = uidset_add(mapped, to);
    }
    return rc;
}

static int subtract(struct uidset *set, const struct uidset *less)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < less->count; i++)
        rc = uidset_remove_range(set, less->ranges[i].first, less->ranges[i].last);
    return rc;
}

/* What the user changed at the replica, when its own journal does not say: against the set at the
 * base, undone here; or, when that is not known either, the later set as a whole. */
static int guess_seen(struct merging *work, const struct merge_seen *theirs, struct uidset *added,
                      struct uidset *removed)
{
    const struct merge_session *session = work->session;
    struct tx *tx = work->tx;
    struct bytes user = buf_view(&theirs->user);
    struct uidset base = {0};
    struct versioned version;
    int rc = seen_get(tx->db, work->box->header.id, user, &base, &version);
    bool same_base = session->base_known && session->base_master == session->base_replica;
    if (rc == ERR_OK && same_base && !work->independent) {
        rc = undo_seen(tx, &work->box->header, session->base_master, user, added, removed);
        if (rc == ERR_OK)
            rc = subtract(&base, added);
        for (size_t i = 0; rc == ERR_OK && i < removed->count; i++)
            rc = uidset_add_range(&base, removed->ranges[i].first, removed->ranges[i].last);
        same_base = rc != ERR_TRIMMED;
        rc = rc == ERR_TRIMMED ? ERR_OK : rc;
    }
    bool later = theirs->version.modseq > version.version.modseq &&
                 theirs->version.changed >= version.version.changed;
    bool mine_changed =
        version.state != VALUE_NONE && version.version.modseq > session->base_master;
    uidset_clear(added);
    uidset_clear(removed);
    if (rc == ERR_OK && (same_base || later || !mine_changed || work->independent))
        rc = uidset_copy(added, &theirs->seen);
    if (rc == ERR_OK && (same_base || (later && !work->independent)))
        rc = uidset_copy(removed, &base);
    if (rc == ERR_OK)
        rc = subtract(removed, &theirs->seen);
    if (rc == ERR_OK && same_base)
        rc = subtract(added, &base);
    uidset_free(&base);
    return rc;
}

static int add_all(struct uidset *set, const struct uidset *more)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < more->count; i++)
        rc = uidset_add_range(set, more->ranges[i].first, more->ranges[i].last);
    return rc;
}

/* All that the replica has counts, but where the master's user changed something after the base:
 * *changed, of the master's UIDs, which may be another message's at the replica. */
static int take_seen(struct merging *work, const struct merge_seen *theirs, struct uidset *added,
                     struct uidset *removed, struct uidset *changed)
{
    struct tx *tx = work->tx;
    struct bytes user = buf_view(&theirs->user);
    struct uidset mine = {0};
    struct versioned version;
    int rc = undo_seen(tx, &work->box->header, work->session->base_master, user, added, changed);
    if (rc == ERR_OK)
        rc = add_all(changed, added);
    if (rc == ERR_OK)
        rc = seen_get(tx->db, work->box->header.id, user, &mine, &version);
    if (rc == ERR_OK)
        rc = uidset_copy(added, &theirs->seen);
    if (rc == ERR_OK)
        rc = uidset_copy(removed, &mine);
    if (rc == ERR_OK)
        rc = subtract(removed, &theirs->seen);
    if (rc == ERR_OK)
        rc = subtract(removed, changed);
    uidset_free(&mine);
    return rc;
}

static int merge_seen(struct merging *work, const struct merge_seen *theirs)
{
    struct uidset added = {0};
    struct uidset removed = {0};
    struct uidset mapped = {0};
    struct uidset changed = {0};
    struct bytes user = buf_view(&theirs->user);
    bool whole = work->session->newer_there && !work->independent;
    int rc = whole ? take_seen(work, theirs, &added, &removed, &changed) : ERR_TRIMMED;
    if (rc == ERR_TRIMMED)
        uidset_clear(&changed);
    if (rc == ERR_TRIMMED && theirs->known) {
        rc = uidset_copy(&added, &theirs->added);
        if (rc == ERR_OK)
            rc = uidset_copy(&removed, &theirs->removed);
    } else if (rc == ERR_TRIMMED) {
        rc = guess_seen(work, theirs, &added, &removed);
    }
    if (rc == ERR_OK)
        rc = map_uids(work, &added, &mapped);
    if (rc == ERR_OK)
        rc = subtract(&mapped, &changed);
    if (rc == ERR_OK)
        rc = write_seen(work, user, &mapped, true);
    if (rc == ERR_OK)
        rc = map_uids(work, &removed, &mapped);
    if (rc == ERR_OK)
        rc = write_seen(work, user, &mapped, false);
    uidset_free(&added);
    uidset_free(&removed);
    uidset_free(&mapped);
    uidset_free(&changed);
    return rc;
}

/* The new UIDs of the master's own messages that `user` had seen under the old ones. */
static int follow_renumbered(struct merging *work, struct bytes user, const struct uidset *seen)
{
    struct uidset uids = {0};
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->plan.count; i++) {
        const struct merge_action *action = &work->plan.actions[i];
        if (action->kind == MERGE_RENUMBER && uidset_contains(seen, action->from->record.uid))
            rc = uidset_add(&uids, action->uid);
    }
    if (rc == ERR_OK && uids.count)
        rc = write_seen(work, user, &uids, true);
    uidset_free(&uids);
    return rc;
}

static int renumber_seen(struct merging *work)
{
    struct buf row = {0};
    struct buf user = {0};
    struct bytes found;
    struct uidset seen = {0};
    struct versioned version;
    int rc;
    if (!work->plan.renumbered)
        return ERR_OK;
    while ((rc = seen_next(work->tx->db, work->box->header.id, &row, &found, &seen, &version)) ==
           ERR_OK) {
        buf_reset(&user);
        buf_put(&user, found.data, found.size);
        rc = user.failed ? fail(ERR_NOMEM, "out of memory")
                         : follow_renumbered(work, buf_view(&user), &seen);
        if (rc)
            break;
    }
    buf_free(&row);
    buf_free(&user);
    uidset_free(&seen);
    return rc == ERR_END ? ERR_OK : rc;
}

/* A value that only the replica changed wins; of two that were changed the later one, else the
 * master's. */
static int merge_meta(struct merging *work, const struct merge_meta *theirs)
{
    struct tx *tx = work->tx;
    struct change *change;
    struct versioned mine;
    uint64_t id = work->box ? work->box->header.id : 0;
    struct bytes user = buf_view(&theirs->user);
    struct bytes key = buf_view(&theirs->key);
    int rc = meta_get(tx->db, id, user, key, &mine);
    if (rc)
        return rc;
    bool changed = mine.state != VALUE_NONE &&
                   (work->independent || mine.version.modseq > work->session->base_master);
    bool later = theirs->version.modseq > mine.version.modseq &&
                 theirs->version.changed >= mine.version.changed;
    bool same = mine.state == theirs->state ? bytes_equal(mine.value, buf_view(&theirs->value))
                                            : mine.state != VALUE_SET && theirs->state != VALUE_SET;
    /* That it was unset is news for a third node, even if it never was set here. */
    if (mine.state == VALUE_NONE && !work->independent)
        same = false;
    if (same || (changed && !later))
        return ERR_OK;
    rc = edit_begin(tx, work->box, ENTRY_META, &change);
    if (rc)
        return rc;
    change->user = user;
    change->key = key;
    change->value_before = mine;
    change->value_after_state = theirs->state;
    change->value_after = buf_view(&theirs->value);
    return edit_finish(tx, work->box, change, true);
}

static int merge_values(struct merging *work)
{
    int rc = work->box ? renumber_seen(work) : ERR_OK;
    /* The store's own values are nobody's seen sets. */
    for (size_t i = 0; rc == ERR_OK && work->box && i < work->other->seen_count; i++)
        rc = merge_seen(work, &work->other->seen[i]);
    for (size_t i = 0; rc == ERR_OK && i < work->other->meta_count; i++)
        rc = merge_meta(work, &work->other->metas[i]);
    return rc;
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
    marks[0] = (struct mark){.epoch = session->epoch, .taken = session->position};
    for (size_t i = 0; i < session->mark_count && count < MARK_BODY_MARKS_MAX; i++) {
        const struct mark *before = &session->marks[i];
        if (mailbox && before->mailbox && before->mailbox != mailbox)
            continue;
        marks[count] = *before;
        if (mailbox)
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

static void report(struct merging *work, bool for_real)
{
    const struct merge_session *session = work->session;
    for (size_t i = 0; session->report && for_real && i < work->plan.count; i++) {
        const struct merge_action *action = &work->plan.actions[i];
        uint32_t other = action->other;
        if (action->kind == MERGE_ADD || action->kind == MERGE_RENUMBER)
            other = action->from->record.uid;
        session->report(session->arg, work->name, action_name(action->kind), action->uid, other);
    }
}

static int merge_records(struct merging *work)
{
    int rc = collect_mine(work);
    if (rc == ERR_OK)
        rc = make_plan(work);
    if (rc == ERR_OK)
        rc = carry_out(work);
    return rc || work->session->heal_only ? rc : raise_header(work);
}

static int merge_box(struct merging *work)
{
    struct tx *tx = work->tx;
    int rc = remember_master(work);
    if (rc == ERR_OK)
        rc = find_target(work);
    if (rc || work->skipped)
        return rc;
    name_print(&work->box->header.facts.name, &tx->node.owner, work->name);
    if (work->buried)
        return work->session->heal_only ? ERR_OK : raise_header(work);
    rc = merge_records(work);
    if (rc == ERR_OK && !work->session->heal_only)
        rc = merge_values(work);
    if (rc == ERR_OK && !work->session->heal_only)
        rc = merge_fate(work);
    work->counts = (struct merge_counts){.renumbered = work->plan.renumbered,
                                         .copied_back = work->plan.copied_back,
                                         .expunged = work->plan.expunged,
                                         .damaged = work->plan.damaged};
    if (rc == ERR_OK && !work->session->heal_only)
        rc = write_mark(tx, work->box, work->session, work->other->header.facts.highestmodseq);
    return rc;
}

static int merge_one(struct tx *tx, void *arg)
{
    struct merging *work = arg;
    run_free(work);
    work->tx = tx;
    work->box = NULL;
    work->skipped = work->buried = work->independent = false;
    work->master_known = work->master_mail = false;
    tx->merging = true;
    int rc = work->session->heal_only ? ERR_OK : open_epoch(work);
    for (size_t i = 0; rc == ERR_OK && i < work->draft_count; i++)
        rc = draft_adopt(tx->db, work->drafts[i], NULL);
    if (rc == ERR_OK && work->other->header.id)
        rc = merge_box(work);
    else if (rc == ERR_OK)
        rc = merge_values(work);
    for (size_t i = 0; rc == ERR_OK && i < work->draft_count; i++)
        rc = content_drop_unreferenced(tx->db, draft_guid(work->drafts[i]));
    report(work, rc == ERR_OK);
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
