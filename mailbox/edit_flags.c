/* A wish about flags becomes an entry for each group of records that are alike before and after,
 * and one for what a user who is not the owner has seen. */
#include "mailbox/edit.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/keywords.h"
#include "mailbox/mailbox.h"

#include <stdlib.h>

/* A group of records whose flags are equal and become equal: one entry. */
struct group {
    uint32_t system_before;
    uint32_t system_after;
    uint64_t keywords_before;
    struct buf keywords_after;
    struct uidset uids;
    struct former *former;
    size_t count;
    size_t capacity;
};

struct groups {
    struct group *all;
    size_t count;
    size_t capacity;
};

static void groups_free(struct groups *groups)
{
    for (size_t i = 0; i < groups->count; i++) {
        buf_free(&groups->all[i].keywords_after);
        uidset_free(&groups->all[i].uids);
        free(groups->all[i].former);
    }
    free(groups->all);
}

static uint32_t change_system(uint32_t before, const struct flag_change *change)
{
    switch (change->mode) {
    case FLAGS_ADD:
        return before | change->flags.system;
    case FLAGS_REMOVE:
        return before & ~change->flags.system;
    default:
        return change->flags.system;
    }
}

static int change_keywords(struct bytes before, const struct flag_change *change, struct buf *after)
{
    struct bytes given = buf_view(&change->flags.keywords);
    switch (change->mode) {
    case FLAGS_ADD:
        return keywords_merge(before, given, after);
    case FLAGS_REMOVE:
        return keywords_without(before, given, after);
    default:
        return keywords_merge(given, bytes_of(NULL, 0), after);
    }
}

static int group_new(struct tx *tx, struct groups *groups, const struct record *record,
                     const struct flag_change *change, uint32_t own, struct group **out)
{
    struct bytes before;
    struct group *all = array_room(groups->all, groups->count, &groups->capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    groups->all = all;
    struct group *group = &all[groups->count++];
    uint32_t system = record->flags & FLAG_SYSTEM;
    *group = (struct group){.system_before = system,
                            .system_after = (change_system(system, change) & own) | (system & ~own),
                            .keywords_before = record->keywords};
    *out = group;
    int rc = keywords_lookup(tx->db, record->keywords, &before);
    return rc ? rc : change_keywords(before, change, &group->keywords_after);
}

/* `own`: the system flags that live in the record for this user. */
static int group_of(struct tx *tx, struct groups *groups, const struct record *record,
                    const struct flag_change *change, uint32_t own, struct group **group)
{
    for (size_t i = groups->count; i > 0; i--) {
        struct group *known = &groups->all[i - 1];
        if (known->system_before == (record->flags & FLAG_SYSTEM) &&
            known->keywords_before == record->keywords) {
            *group = known;
            return ERR_OK;
        }
    }
    return group_new(tx, groups, record, change, own, group);
}

static int group_add(struct group *group, const struct record *record)
{
    struct former *room = array_room(group->former, group->count, &group->capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    group->former = room;
    room[group->count++] = (struct former){.modseq = record->modseq, .changed = record->changed};
    return uidset_add(&group->uids, record->uid);
}

static bool group_changes(const struct group *group)
{
    return group->system_before != group->system_after ||
           group->keywords_before != keywords_hash(buf_view(&group->keywords_after));
}

static int write_group(struct mailbox *mailbox, const struct group *group)
{
    struct change *change;
    struct buf before = {0};
    struct bytes set;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_FLAGS, &change);
    if (rc == ERR_OK)
        rc = keywords_lookup(mailbox->tx->db, group->keywords_before, &set);
    if (rc)
        return rc;
    buf_put(&before, set.data, set.size);
    change->system_before = group->system_before;
    change->system_after = group->system_after;
    change->keywords_before = buf_view(&before);
    change->keywords_after = buf_view(&group->keywords_after);
    rc = uidset_copy(&change->uids, &group->uids);
    for (size_t i = 0; i < group->count && rc == ERR_OK; i++)
        rc = change_add_former(change, group->former[i].modseq, group->former[i].changed);
    if (rc == ERR_OK)
        rc = before.failed ? fail(ERR_NOMEM, "out of memory")
                           : edit_finish(mailbox->tx, mailbox->box, change, true);
    buf_free(&before);
    return rc;
}

struct flagging {
    const struct flag_change *change;
    struct groups groups;
    struct uidset seen_changes; /* of a user who is not the owner */
    struct uidset seen;
    bool seen_after;
    uint32_t own;
    uint64_t changed;
};

static int flag_record(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct flagging *work = arg;
    struct group *group = NULL;
    int rc = group_of(mailbox->tx, &work->groups, record, work->change, work->own, &group);
    if (rc)
        return rc;
    bool seen_changes = false;
    if (!mailbox->as_owner) {
        uint32_t before = uidset_contains(&work->seen, record->uid) ? FLAG_SEEN : 0;
        uint32_t after = change_system(before, work->change) & FLAG_SEEN;
        seen_changes = before != after;
        if (seen_changes)
            rc = uidset_add(&work->seen_changes, record->uid);
    }
    if (rc == ERR_OK && group_changes(group))
        rc = group_add(group, record);
    work->changed += seen_changes || group_changes(group);
    return rc;
}

static int former_of(struct mailbox *mailbox, const struct record *record, void *arg)
{
    (void)mailbox;
    return change_add_former(arg, record->modseq, record->changed);
}

static int write_seen(struct mailbox *mailbox, const struct flagging *work)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_SEEN, &change);
    if (rc)
        return rc;
    change->user = mailbox->user;
    change->seen_after =
        work->change->mode != FLAGS_REMOVE && (work->change->flags.system & FLAG_SEEN);
    rc = seen_get(mailbox->tx->db, change->mailbox, mailbox->user, NULL, &change->value_before);
    if (rc == ERR_OK)
        rc = uidset_copy(&change->uids, &work->seen_changes);
    if (rc == ERR_OK)
        rc = edit_each_live(mailbox, &work->seen_changes, former_of, change);
    mailbox->seen_loaded = false;
    return rc ? rc : edit_finish(mailbox->tx, mailbox->box, change, true);
}

int mailbox_flag(struct mailbox *mailbox, const struct uidset *uids,
                 const struct flag_change *change, uint64_t *changed)
{
    struct flagging work = {.change = change,
                            .own = mailbox->as_owner ? FLAG_SYSTEM : FLAG_SYSTEM & ~FLAG_SEEN};
    struct versioned version;
    int rc = ERR_OK;
    if (!mailbox->as_owner)
        rc =
            seen_get(mailbox->tx->db, mailbox->box->header.id, mailbox->user, &work.seen, &version);
    if (rc == ERR_OK)
        rc = edit_each_live(mailbox, uids, flag_record, &work);
    for (size_t i = 0; i < work.groups.count && rc == ERR_OK; i++)
        if (work.groups.all[i].count)
            rc = write_group(mailbox, &work.groups.all[i]);
    if (rc == ERR_OK && work.seen_changes.count)
        rc = write_seen(mailbox, &work);
    if (changed)
        *changed = work.changed;
    groups_free(&work.groups);
    uidset_free(&work.seen);
    uidset_free(&work.seen_changes);
    return rc;
}
