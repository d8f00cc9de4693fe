/* What the plan of a merge decided, carried out by ordinary entries. */
#include "mailbox/merging.h"

#include "base/err.h"
#include "mailbox/content.h"
#include "mailbox/count.h"
#include "mailbox/edit.h"
#include "mailbox/garbage.h"
#include "mailbox/keywords.h"
#include "mailbox/stop.h"
#include "mailbox/undo.h"

int merge_keywords(struct tx *tx, uint64_t hash, struct buf *copy)
{
    struct bytes set;
    int rc = keywords_lookup(tx->db, hash, &set);
    buf_reset(copy);
    if (rc == ERR_OK)
        buf_put(copy, set.data, set.size);
    return rc == ERR_OK && copy->failed ? fail(ERR_NOMEM, "out of memory") : rc;
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
        rc = merge_keywords(work->tx, record.keywords, &before);
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
        rc = merge_keywords(work->tx, record.keywords, &keywords);
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
        rc = merge_keywords(work->tx, before.keywords, &keywords);
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

static int add_appended(const struct entry *entry, const struct change *change, void *arg)
{
    int rc = ERR_OK;
    for (size_t i = 0; entry->kind == ENTRY_APPEND && rc == ERR_OK && i < change->record_count; i++)
        rc = uidset_add(arg, change->records[i].uid);
    return rc;
}

/* Whether damage took a message that the replica never had. */
static int find_lost(struct merging *work, bool *lost)
{
    struct uidset appended = {0};
    struct record record;
    uint32_t uid;
    uint64_t known = merge_known_there(work->session);
    int rc = undo_walk(work->tx, &work->box->header, known, add_appended, &appended);
    *lost = rc == ERR_TRIMMED;
    for (uint32_t at = 1; rc == ERR_OK && !*lost && at && uidset_next(&appended, at, &uid);
         at = uid + 1)
        if (!uidset_contains(&work->expunged, uid)) {
            rc = record_get(work->tx->db, work->box->header.number, uid, &record);
            *lost = rc == ERR_END || rc == ERR_CORRUPT;
            rc = *lost ? ERR_OK : rc;
        }
    uidset_free(&appended);
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

/* Rows that cannot be read, of messages that the replica has no more. */
static int remove_unreadable(struct merging *work)
{
    struct record records[64];
    uint32_t number = work->box->header.number;
    int rc = ERR_OK;
    for (uint32_t from = 1; rc == ERR_OK && from;) {
        size_t count;
        rc = record_batch(work->tx->db, number, from, records, 64, &count);
        from = count ? records[count - 1].uid + 1 : 0;
        if (rc != ERR_CORRUPT || !records[count].uid)
            continue;
        from = records[count].uid + 1;
        rc = record_delete(work->tx->db, number, records[count].uid);
    }
    return rc;
}

/* Whether all that damage took here is accounted for: what the replica had of it has come back, and
 * the rest was expunged there. */
static int is_accounted_for(struct merging *work, bool *accounted)
{
    const struct merge_session *session = work->session;
    bool lost = true;
    int rc = ERR_OK;
    if (merge_damaged(work) && work->other->sound && session->base_known && !session->heal_only &&
        !work->independent)
        rc = find_lost(work, &lost);
    *accounted = !lost;
    return rc || lost ? rc : remove_unreadable(work);
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

/* Rows were put back, or are accounted for. Where counts and digest are then what the header says,
 * they are the very ones that were lost, and no other node need know. Else the header follows the
 * records, and a change, or the mark, says so: a node that has other records finds out by the
 * digest. */
static int settle_damage(struct merging *work)
{
    struct header counted;
    struct header *header = &work->box->header;
    bool accounted;
    if (!merge_damaged(work) && !work->healed.count)
        return ERR_OK;
    int rc = is_accounted_for(work, &accounted);
    if (rc == ERR_OK)
        rc = count_mailbox(work->tx->db, header, &counted);
    if (rc)
        return rc == ERR_CORRUPT ? ERR_OK : rc;
    bool exact = counted.items == header->items && counted.messages == header->messages;
    if (!exact && !accounted && !work->healed.count)
        return ERR_OK;
    work->gone = !exact;
    if (!exact) /* what was lost referred to content */
        rc = garbage_recount(work->tx->db);
    header->items = counted.items;
    header->messages = counted.messages;
    header->bytes = counted.bytes;
    header->unseen = counted.unseen;
    header->tombstones = counted.tombstones;
    work->box->dirty = true;
    if (rc == ERR_OK && !exact)
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
        return do_heal(work, action);
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
int merge_carry_out(struct merging *work)
{
    int rc = do_actions(work, true);
    if (rc == ERR_OK)
        rc = settle_damage(work);
    if (rc || work->session->heal_only)
        return rc;
    rc = do_actions(work, false);
    return rc ? rc : touch(work, &work->touched);
}

void merge_report(struct merging *work, bool for_real)
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
