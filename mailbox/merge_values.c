/* Other users' seen sets and the meta values of a mailbox, or of the store, in a merge: key by key,
 * a seen set as one more flag of each message. */
#include "mailbox/merging.h"

#include "base/err.h"
#include "mailbox/edit.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

#include <stdlib.h>

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

/* Messages that got a new UID, the master's own (`kind` MERGE_RENUMBER) or the replica's
 * (MERGE_ADD): who had seen them under the old one, has. Nobody else's set tells of them: the other
 * end had nothing, or another message, under that UID. */
static int follow_messages(struct merging *work, enum merge_kind kind, struct bytes user,
                           const struct uidset *seen)
{
    struct uidset uids = {0};
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->plan.count; i++) {
        const struct merge_action *action = &work->plan.actions[i];
        if (action->kind == kind && uidset_contains(seen, action->from->record.uid))
            rc = uidset_add(&uids, action->uid);
    }
    if (rc == ERR_OK && uids.count)
        rc = write_seen(work, user, &uids, true);
    uidset_free(&uids);
    return rc;
}

static bool is_added(const struct merging *work, uint32_t uid)
{
    for (size_t i = 0; i < work->plan.count; i++)
        if (work->plan.actions[i].kind == MERGE_ADD &&
            work->plan.actions[i].from->record.uid == uid)
            return true;
    return false;
}

static int order_ways(const void *a, const void *b)
{
    const struct merge_way *x = a;
    const struct merge_way *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* Where the replica's message is at the master now, if the master had it; 0: nowhere. A seen set
 * keeps the UIDs of messages that are gone, and under such a one the master may have had another.
 */
static int map_uid(struct merging *work, uint32_t uid, uint32_t *mapped)
{
    const struct merge_plan *plan = &work->plan;
    const struct merge_record *theirs = merge_other_find(work->other, uid);
    const struct merge_way key = {.from = uid};
    *mapped = 0;
    if (is_added(work, uid) || (theirs && !record_live(&theirs->record)) ||
        (!theirs && uidset_contains(&work->other->looked, uid)))
        return ERR_OK;
    const struct merge_way *way =
        plan->way_count ? bsearch(&key, plan->ways, plan->way_count, sizeof key, order_ways) : NULL;
    struct record record;
    int rc = record_get(work->tx->db, work->box->header.number, way ? way->to : uid, &record);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    if (record_live(&record) && (!theirs || guid_equal(&theirs->record.guid, &record.guid)))
        *mapped = record.uid;
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

/* A user's seen set here, as it was before anything was merged into it. */
struct own_seen {
    struct uidset seen;
    struct versioned version;
};

/* No journal says what the set was at the base. But whoever changes it gives the record a new
 * modseq: where one end alone has that, the message is seen there as its user wants it. Takes from
 * `changes`, which would make the master's set like the replica's, what the master's user did, and
 * adds of `wanted`, which would do so too, what the replica's user did. */
static int sort_by_record(struct merging *work, struct uidset *changes, const struct uidset *wanted)
{
    const struct merge_session *session = work->session;
    uint32_t uid;
    int rc = ERR_OK;
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(wanted, at, &uid); at = uid + 1) {
        const struct merge_record *here = merge_other_find(&work->mine, uid);
        const struct merge_record *there = merge_other_find(work->other, uid);
        bool changed_here = here && here->record.modseq > session->base_master;
        bool changed_there = there && there->record.modseq > session->base_replica;
        if (changed_here && !changed_there)
            rc = uidset_remove_range(changes, uid, uid);
        else if (changed_there && !changed_here)
            rc = uidset_add(changes, uid);
    }
    return rc;
}

static int guess_by_records(struct merging *work, const struct merge_seen *theirs,
                            const struct uidset *mine, struct uidset *added, struct uidset *removed)
{
    struct uidset wanted = {0};
    int rc = uidset_copy(&wanted, &theirs->seen);
    if (rc == ERR_OK)
        rc = uidset_remove_all(&wanted, mine);
    if (rc == ERR_OK)
        rc = sort_by_record(work, added, &wanted);
    if (rc == ERR_OK)
        rc = uidset_copy(&wanted, mine);
    if (rc == ERR_OK)
        rc = uidset_remove_all(&wanted, &theirs->seen);
    if (rc == ERR_OK)
        rc = sort_by_record(work, removed, &wanted);
    uidset_free(&wanted);
    return rc;
}

/* What the user changed at the replica, when its own journal does not say: against the set at the
 * base, undone here; or, when that is not known either, message by message as the records tell, and
 * for those that do not tell the later set. */
static int guess_seen(struct merging *work, const struct own_seen *mine,
                      const struct merge_seen *theirs, struct uidset *added, struct uidset *removed)
{
    const struct merge_session *session = work->session;
    struct tx *tx = work->tx;
    struct bytes user = buf_view(&theirs->user);
    const struct versioned *version = &mine->version;
    struct uidset base = {0};
    int rc = uidset_copy(&base, &mine->seen);
    bool same_base = session->base_known && session->base_master == session->base_replica;
    if (rc == ERR_OK && same_base) {
        rc = undo_seen(tx, &work->box->header, session->base_master, user, added, removed);
        if (rc == ERR_OK)
            rc = uidset_remove_all(&base, added);
        if (rc == ERR_OK)
            rc = uidset_add_all(&base, removed);
        same_base = rc != ERR_TRIMMED;
        rc = rc == ERR_TRIMMED ? ERR_OK : rc;
    }
    bool later = theirs->version.modseq > version->version.modseq &&
                 theirs->version.changed >= version->version.changed;
    bool mine_changed =
        version->state != VALUE_NONE && version->version.modseq > session->base_master;
    uidset_clear(added);
    uidset_clear(removed);
    if (rc == ERR_OK && (same_base || later || !mine_changed))
        rc = uidset_copy(added, &theirs->seen);
    if (rc == ERR_OK && (same_base || later))
        rc = uidset_copy(removed, &base);
    if (rc == ERR_OK)
        rc = uidset_remove_all(removed, &theirs->seen);
    if (rc == ERR_OK && same_base)
        rc = uidset_remove_all(added, &base);
    if (rc == ERR_OK && !same_base && session->base_known)
        rc = guess_by_records(work, theirs, &base, added, removed);
    uidset_free(&base);
    return rc;
}

/* All that the replica has counts, but where the master's user changed something after the base:
 * *changed, of the master's UIDs, which may be another message's at the replica. */
static int take_seen(struct merging *work, const struct own_seen *mine,
                     const struct merge_seen *theirs, struct uidset *added, struct uidset *removed,
                     struct uidset *changed)
{
    struct bytes user = buf_view(&theirs->user);
    int rc =
        undo_seen(work->tx, &work->box->header, work->session->base_master, user, added, changed);
    if (rc == ERR_OK)
        rc = uidset_add_all(changed, added);
    if (rc == ERR_OK)
        rc = uidset_copy(added, &theirs->seen);
    if (rc == ERR_OK)
        rc = uidset_copy(removed, &mine->seen);
    if (rc == ERR_OK)
        rc = uidset_remove_all(removed, &theirs->seen);
    return rc ? rc : uidset_remove_all(removed, changed);
}

/* What the replica's user did to messages that both ends have under one UID. */
static int find_seen(struct merging *work, const struct own_seen *mine,
                     const struct merge_seen *theirs, struct uidset *added, struct uidset *removed,
                     struct uidset *changed)
{
    if (work->independent)
        return ERR_OK;
    int rc = work->session->newer_there ? take_seen(work, mine, theirs, added, removed, changed)
                                        : ERR_TRIMMED;
    if (rc != ERR_TRIMMED)
        return rc;
    uidset_clear(changed);
    if (!theirs->known)
        return guess_seen(work, mine, theirs, added, removed);
    rc = uidset_copy(added, &theirs->added);
    return rc ? rc : uidset_copy(removed, &theirs->removed);
}

/* What both ends' users did is found out before anything is written here. */
static int merge_seen(struct merging *work, const struct merge_seen *theirs)
{
    struct own_seen mine = {0};
    struct uidset added = {0};
    struct uidset removed = {0};
    struct uidset mapped = {0};
    struct uidset changed = {0};
    struct bytes user = buf_view(&theirs->user);
    int rc = seen_get(work->tx->db, work->box->header.id, user, &mine.seen, &mine.version);
    if (rc == ERR_OK)
        rc = find_seen(work, &mine, theirs, &added, &removed, &changed);
    if (rc == ERR_OK)
        rc = follow_messages(work, MERGE_RENUMBER, user, &mine.seen);
    if (rc == ERR_OK)
        rc = follow_messages(work, MERGE_ADD, user, &theirs->seen);
    if (rc == ERR_OK)
        rc = map_uids(work, &added, &mapped);
    if (rc == ERR_OK)
        rc = uidset_remove_all(&mapped, &changed);
    if (rc == ERR_OK)
        rc = write_seen(work, user, &mapped, true);
    if (rc == ERR_OK)
        rc = map_uids(work, &removed, &mapped);
    if (rc == ERR_OK)
        rc = write_seen(work, user, &mapped, false);
    uidset_free(&mine.seen);
    uidset_free(&added);
    uidset_free(&removed);
    uidset_free(&mapped);
    uidset_free(&changed);
    return rc;
}

static bool changed_there(const struct merging *work, struct bytes user)
{
    for (size_t i = 0; i < work->other->seen_count; i++)
        if (bytes_equal(buf_view(&work->other->seen[i].user), user))
            return true;
    return false;
}

/* Seen sets of which the replica says nothing. */
static int keep_seen(struct merging *work)
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
        if (changed_there(work, found))
            continue;
        buf_reset(&user);
        buf_put(&user, found.data, found.size);
        rc = user.failed ? fail(ERR_NOMEM, "out of memory")
                         : follow_messages(work, MERGE_RENUMBER, buf_view(&user), &seen);
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

int merge_values(struct merging *work)
{
    /* The store's own values are nobody's seen sets. */
    int rc = work->box ? keep_seen(work) : ERR_OK;
    for (size_t i = 0; rc == ERR_OK && work->box && i < work->other->seen_count; i++)
        rc = merge_seen(work, &work->other->seen[i]);
    for (size_t i = 0; rc == ERR_OK && i < work->other->meta_count; i++)
        rc = merge_meta(work, &work->other->metas[i]);
    return rc;
}
