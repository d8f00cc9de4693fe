/* Changes at a master: each function finds out what a wish means for the records there are, fills a
 * struct change, and has it carried out and journaled by edit_finish(). */
#include "mailbox/edit.h"

#include "base/array.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/keywords.h"
#include "mailbox/mailbox.h"

#include <stdlib.h>
#include <string.h>

#define BATCH 64u

static void begin(struct tx *tx, struct box *box, enum entry_kind kind)
{
    struct change *change = &tx->change;
    change_reset(change);
    change->kind = kind;
    change->modseq = tx_next_modseq(tx);
    change->time = tx->time;
    if (box) {
        change->mailbox = box->header.id;
        change->before = box->header.facts;
        change->after = box->header.facts;
        change->facts_changed = FACT_ALL;
    }
}

int edit_begin(struct tx *tx, struct box *box, enum entry_kind kind, struct change **out)
{
    if (box && box->header.facts.state != MAILBOX_LIVE && !tx->merging && kind != ENTRY_CREATE &&
        kind != ENTRY_PURGE && kind != ENTRY_EXPUNGE && kind != ENTRY_MARK)
        return fail(ERR_REFUSED, "mailbox id:%016llx: it is deleted",
                    (unsigned long long)box->header.id);
    begin(tx, box, kind);
    *out = &tx->change;
    return ERR_OK;
}

struct change *edit_begin_expiry(struct tx *tx, struct box *box, enum entry_kind kind)
{
    begin(tx, box, kind);
    return &tx->change;
}

int edit_finish(struct tx *tx, struct box *box, struct change *change, bool visible)
{
    uint64_t previous = box ? box->header.lastmodseq : tx->node.meta_modseq;
    tx->records += change_size(change);
    if (tx->records > MAILBOX_COMMIT_RECORDS && !tx->merging)
        return fail(ERR_INVALID, "one commit about more than %u messages", MAILBOX_COMMIT_RECORDS);
    if (box && visible)
        change->after.highestmodseq = change->modseq;
    /* The body first: views in the change may point at what carrying it out overwrites. */
    buf_reset(&tx->body);
    int rc = change_encode(change, &tx->body);
    if (rc == ERR_OK)
        rc = apply_change(tx, box, change);
    if (rc)
        return rc == ERR_DIFFERS ? fail(ERR_CORRUPT, "%s", err_message()) : rc;
    uint64_t digest = box ? header_digest(&box->header) : tx->node.meta;
    return tx_journal(tx, change->kind, change->mailbox, previous, digest, buf_view(&tx->body));
}

static int refuse_taken(struct tx *tx, const struct name *name)
{
    uint64_t id;
    char text[NAME_TEXT_SIZE];
    int rc = header_id_of(tx->db, name, &id);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    name_print(name, &tx->node.owner, text);
    return fail(ERR_EXISTS, "mailbox %s: exists already", text);
}

/* Seconds, as RFC 3501 suggests, but never one that this store has seen: a mailbox that is deleted
 * and made again gives out its UIDs anew. */
static uint32_t fresh_uidvalidity(const struct tx *tx)
{
    uint32_t seconds = (uint32_t)(tx->time / 1000000);
    uint32_t last = tx->node.last_uidvalidity;
    return seconds > last || last == UINT32_MAX ? seconds : last + 1;
}

static int fresh_id(struct tx *tx, uint64_t *id)
{
    struct header header;
    int rc;
    do {
        *id = hash_random_id();
        rc = header_get(tx->db, *id, &header);
    } while (rc == ERR_OK);
    return rc == ERR_END ? ERR_OK : rc;
}

int mailbox_create(struct tx *tx, const struct name *name, uint64_t *id_out)
{
    struct box *box;
    struct change *change;
    uint64_t id;
    int rc = refuse_taken(tx, name);
    if (rc == ERR_OK)
        rc = fresh_id(tx, &id);
    if (rc == ERR_OK)
        rc = tx_box_new(tx, id, &box);
    if (rc == ERR_OK)
        rc = edit_begin(tx, box, ENTRY_CREATE, &change);
    if (rc)
        return rc;
    change->after.state = MAILBOX_LIVE;
    change->after.name = *name;
    change->after.uidvalidity = fresh_uidvalidity(tx);
    change->after.uidnext = 1;
    if (id_out)
        *id_out = id;
    return edit_finish(tx, box, change, true);
}

int mailbox_set_uids(struct mailbox *mailbox, uint32_t uidvalidity, uint32_t uidnext)
{
    struct change *change;
    struct facts *facts = &mailbox->box->header.facts;
    if (uidvalidity == facts->uidvalidity && uidnext == facts->uidnext)
        return ERR_OK;
    bool used = facts->uidnext > 1;
    if (uidnext < facts->uidnext || (used && uidvalidity != facts->uidvalidity) || uidvalidity == 0)
        return fail(ERR_REFUSED, "UIDVALIDITY %u, UIDNEXT %u: this mailbox has %u, %u already",
                    uidvalidity, uidnext, facts->uidvalidity, facts->uidnext);
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_HEADER, &change);
    if (rc)
        return rc;
    change->after.uidvalidity = uidvalidity;
    change->after.uidnext = uidnext;
    return edit_finish(mailbox->tx, mailbox->box, change, true);
}

static int rename_one(struct tx *tx, uint64_t id, const struct name *to)
{
    struct box *box;
    struct change *change;
    int rc = refuse_taken(tx, to);
    if (rc == ERR_OK)
        rc = tx_box(tx, id, &box);
    if (rc == ERR_OK)
        rc = edit_begin(tx, box, ENTRY_RENAME, &change);
    if (rc)
        return rc;
    change->after.name = *to;
    return edit_finish(tx, box, change, true);
}

/* The first live mailbox below `parent` whose name is above `*at`; *at is advanced. ERR_END: none.
 */
static int next_child(struct tx *tx, const struct name *parent, struct name *at, uint64_t *id)
{
    struct db_cursor *cursor;
    struct bytes found, value;
    int rc = db_cursor_open(tx->db, TABLE_NAMES, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, name_encoded(at), &found, &value);
    if (rc == ERR_OK && bytes_equal(found, name_encoded(at)))
        rc = db_next(cursor, &found, &value);
    if (rc == ERR_OK)
        rc = header_name_decode(found, value, at, id);
    if (rc == ERR_OK && !name_is_below(at, parent))
        rc = ERR_END;
    db_cursor_close(cursor);
    return rc;
}

int mailbox_rename(struct tx *tx, const struct name *from, const struct name *to)
{
    struct mailbox *mailbox;
    struct owner old_owner, new_owner;
    struct name child = *from;
    struct name moved;
    uint64_t id;
    int rc = mailbox_open(tx, from, NULL, &mailbox);
    if (rc)
        return rc;
    name_owner(from, &old_owner);
    name_owner(to, &new_owner);
    if (!owner_equal(&old_owner, &new_owner))
        return fail(ERR_REFUSED, "rename: a mailbox cannot change its owner");
    if (name_is_below(to, from))
        return fail(ERR_REFUSED, "rename: a mailbox cannot move below itself");
    rc = rename_one(tx, mailbox->box->header.id, to);
    while (rc == ERR_OK) {
        rc = next_child(tx, from, &child, &id);
        if (rc == ERR_OK)
            rc = name_rebase(&child, from, to, &moved);
        if (rc == ERR_OK)
            rc = rename_one(tx, id, &moved);
    }
    return rc == ERR_END ? ERR_OK : rc;
}

int mailbox_delete(struct mailbox *mailbox)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_DELETE, &change);
    if (rc)
        return rc;
    change->after.state = MAILBOX_DELETED;
    return edit_finish(mailbox->tx, mailbox->box, change, true);
}

int mailbox_revive(struct mailbox *mailbox, const struct name *name)
{
    struct change *change;
    if (mailbox->box->header.facts.state != MAILBOX_DELETED)
        return fail(ERR_EXISTS, "mailbox id:%016llx: it is not deleted",
                    (unsigned long long)mailbox->box->header.id);
    int rc = refuse_taken(mailbox->tx, name);
    if (rc == ERR_OK)
        rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_CREATE, &change);
    if (rc)
        return rc;
    change->after.state = MAILBOX_LIVE;
    change->after.name = *name;
    return edit_finish(mailbox->tx, mailbox->box, change, true);
}

/* The store has the content by now; *introduced tells whether a record referred to it before. */
static int bring_content(struct tx *tx, const struct append *append, struct record *record,
                         bool *introduced)
{
    struct content content;
    *introduced = false;
    record->guid = append->draft ? *draft_guid(append->draft) : *append->guid;
    if (append->draft) {
        record->size = draft_size(append->draft);
        return draft_adopt(tx->db, append->draft, introduced);
    }
    int rc = content_get(tx->db, &record->guid, &content);
    if (rc == ERR_END || (rc == ERR_OK && content.number == 0))
        return fail(ERR_GONE, "the message's content is not in the store");
    record->size = content.size;
    return rc;
}

int mailbox_append(struct mailbox *mailbox, const struct append *append, uint32_t *uid)
{
    struct tx *tx = mailbox->tx;
    struct box *box = mailbox->box;
    struct change *change;
    uint32_t next = box->header.facts.uidnext;
    if (append->uid ? append->uid < next : next == UINT32_MAX)
        return append->uid ? fail(ERR_REFUSED, "UID %u: was given out already", append->uid)
                           : fail(ERR_REFUSED, "mailbox id:%016llx: its UIDs are used up",
                                  (unsigned long long)box->header.id);
    int rc = edit_begin(tx, box, ENTRY_APPEND, &change);
    if (rc)
        return rc;
    struct record record = {
        .uid = append->uid ? append->uid : next,
        .flags = append->system & FLAG_SYSTEM,
        .internal_date = append->internal_date,
        .save_date = tx->time,
        .modseq = change->modseq,
        .append_modseq = change->modseq,
        .changed = tx->time,
        .keywords = keywords_hash(append->keywords),
    };
    bool seen_by_other = !mailbox->as_owner && (record.flags & FLAG_SEEN);
    if (seen_by_other)
        record.flags &= ~FLAG_SEEN;
    if (record.uid == UINT32_MAX)
        return fail(ERR_REFUSED, "UID %u: the last one is never given out", record.uid);
    rc = bring_content(tx, append, &record, &change->introduces);
    if (rc == ERR_OK)
        rc = change_add_set(change, append->keywords);
    if (rc == ERR_OK)
        rc = change_add_record(change, &record);
    if (rc)
        return rc;
    change->after.uidnext = record.uid + 1;
    rc = edit_finish(tx, box, change, true);
    if (uid)
        *uid = record.uid;
    if (rc || !seen_by_other)
        return rc;
    struct uidset one = {0};
    struct flag_change seen = {.mode = FLAGS_ADD, .flags = {.system = FLAG_SEEN}};
    rc = uidset_add(&one, record.uid);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, &one, &seen, NULL);
    uidset_free(&one);
    return rc;
}

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

/* Runs `each` over the live records among `uids`. */
static int each_live(struct mailbox *mailbox, const struct uidset *uids,
                     int (*each)(struct mailbox *, const struct record *, void *), void *arg)
{
    struct record records[BATCH];
    uint32_t from = 1;
    do {
        size_t count;
        int rc = record_batch_in(mailbox->tx->db, mailbox->box->header.number, uids, &from, records,
                                 BATCH, &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++)
            if (record_live(&records[i]))
                rc = each(mailbox, &records[i], arg);
        if (rc)
            return rc;
    } while (from);
    return ERR_OK;
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
        rc = each_live(mailbox, &work->seen_changes, former_of, change);
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
        rc = each_live(mailbox, uids, flag_record, &work);
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

/* Copies the names out of the table: a write transaction's views die at its next change. */
struct expunging {
    struct change *change;
    struct buf *sets; /* one per distinct keyword set */
    size_t set_count;
    size_t set_capacity;
};

static int keep_set(struct mailbox *mailbox, struct expunging *work, uint64_t hash)
{
    struct bytes set;
    for (size_t i = 0; i < work->change->set_count; i++)
        if (keywords_hash(work->change->sets[i]) == hash)
            return ERR_OK;
    int rc = keywords_lookup(mailbox->tx->db, hash, &set);
    if (rc || hash == 0)
        return rc;
    struct buf *sets = array_room(work->sets, work->set_count, &work->set_capacity, sizeof *sets);
    if (!sets)
        return ERR_NOMEM;
    work->sets = sets;
    sets[work->set_count] = (struct buf){0};
    buf_put(&sets[work->set_count], set.data, set.size);
    return sets[work->set_count].failed
               ? fail(ERR_NOMEM, "out of memory")
               : change_add_set(work->change, buf_view(&sets[work->set_count++]));
}

static int expunge_record(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct expunging *work = arg;
    int rc = keep_set(mailbox, work, record->keywords);
    return rc ? rc : change_add_record(work->change, record);
}

static int purge_uids(struct mailbox *mailbox, const struct uidset *uids, uint64_t deletedmodseq)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_PURGE, &change);
    if (rc == ERR_OK)
        rc = uidset_copy(&change->uids, uids);
    if (rc)
        return rc;
    if (change->after.deletedmodseq < deletedmodseq)
        change->after.deletedmodseq = deletedmodseq;
    return edit_finish(mailbox->tx, mailbox->box, change, false);
}

int mailbox_expunge(struct mailbox *mailbox, const struct uidset *uids, bool immediate,
                    uint64_t *expunged)
{
    struct expunging work = {0};
    struct uidset gone = {0};
    if (immediate)
        tx_frees_space(mailbox->tx);
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_EXPUNGE, &work.change);
    if (rc == ERR_OK)
        rc = each_live(mailbox, uids, expunge_record, &work);
    if (expunged)
        *expunged = rc == ERR_OK ? work.change->record_count : 0;
    uint64_t modseq = rc == ERR_OK ? work.change->modseq : 0;
    if (rc == ERR_OK && work.change->record_count) {
        rc = change_uids(work.change, &gone);
        if (rc == ERR_OK)
            rc = edit_finish(mailbox->tx, mailbox->box, work.change, true);
        if (rc == ERR_OK && immediate) {
            /* The same messages: they count once. */
            mailbox->tx->records -= uidset_size(&gone);
            rc = purge_uids(mailbox, &gone, modseq);
        }
    }
    for (size_t i = 0; i < work.set_count; i++)
        buf_free(&work.sets[i]);
    free(work.sets);
    uidset_free(&gone);
    return rc;
}

struct copying {
    struct mailbox *target;
    struct record *records;
    size_t count;
    size_t capacity;
};

static int collect(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct copying *work = arg;
    (void)mailbox;
    if (work->count == MAILBOX_COMMIT_RECORDS)
        return fail(ERR_INVALID, "one commit about more than %u messages", MAILBOX_COMMIT_RECORDS);
    struct record *room = array_room(work->records, work->count, &work->capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    work->records = room;
    room[work->count++] = *record;
    return ERR_OK;
}

static int copy_record(struct mailbox *mailbox, struct mailbox *target, const struct record *record,
                       uint32_t *uid)
{
    struct bytes set;
    struct buf keywords = {0};
    struct record seen_as = *record;
    int rc = mailbox_record(mailbox, record->uid, &seen_as);
    if (rc == ERR_OK)
        rc = keywords_lookup(mailbox->tx->db, record->keywords, &set);
    if (rc)
        return rc;
    buf_put(&keywords, set.data, set.size);
    struct append append = {.guid = &record->guid,
                            .system = seen_as.flags & FLAG_SYSTEM,
                            .keywords = buf_view(&keywords),
                            .internal_date = record->internal_date};
    rc = keywords.failed ? fail(ERR_NOMEM, "out of memory") : mailbox_append(target, &append, uid);
    buf_free(&keywords);
    return rc;
}

int mailbox_copy(struct mailbox *mailbox, const struct uidset *uids, struct mailbox *target,
                 bool move, struct uidset *from, struct uidset *to)
{
    struct copying work = {.target = target};
    uidset_clear(from);
    uidset_clear(to);
    int rc = each_live(mailbox, uids, collect, &work);
    for (size_t i = 0; i < work.count && rc == ERR_OK; i++) {
        uint32_t uid;
        rc = copy_record(mailbox, target, &work.records[i], &uid);
        if (rc == ERR_OK)
            rc = uidset_add(from, work.records[i].uid);
        if (rc == ERR_OK)
            rc = uidset_add(to, uid);
    }
    if (rc == ERR_OK && move && work.count) {
        mailbox->tx->records -= work.count; /* the same messages: they count once */
        rc = mailbox_expunge(mailbox, from, false, NULL);
    }
    free(work.records);
    return rc;
}

static int touch_record(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct change *change = arg;
    (void)mailbox;
    int rc = uidset_add(&change->uids, record->uid);
    return rc ? rc : change_add_former(change, record->modseq, record->changed);
}

int mailbox_touch(struct mailbox *mailbox, const struct uidset *uids)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_TOUCH, &change);
    if (rc == ERR_OK)
        rc = each_live(mailbox, uids, touch_record, change);
    if (rc || !change->former_count)
        return rc;
    return edit_finish(mailbox->tx, mailbox->box, change, true);
}

static int check_meta(const char *user, const char *key, struct bytes value)
{
    if (!*key || strlen(key) > META_KEY_MAX_SIZE)
        return fail(ERR_INVALID, "key \"%s\": not 1 to %u bytes", key, META_KEY_MAX_SIZE);
    if (user && (!*user || strlen(user) + strlen(key) > USER_MAX_SIZE))
        return fail(ERR_INVALID, "user \"%s\": empty, or too long with its key", user);
    if (value.size > META_VALUE_MAX_SIZE)
        return fail(ERR_INVALID, "value of %s: more than %u bytes", key, META_VALUE_MAX_SIZE);
    return ERR_OK;
}

int mailbox_meta_get(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key,
                     struct bytes *value)
{
    struct versioned found;
    int rc = check_meta(user, key, bytes_of(NULL, 0));
    if (rc == ERR_OK)
        rc = meta_get(tx->db, mailbox ? mailbox->box->header.id : 0, bytes_text(user),
                      bytes_text(key), &found);
    if (rc)
        return rc;
    *value = found.value;
    return found.state == VALUE_SET ? ERR_OK : ERR_END;
}

static int write_meta(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key,
                      enum value_state state, struct bytes value)
{
    struct box *box = mailbox ? mailbox->box : NULL;
    struct change *change;
    int rc = check_meta(user, key, value);
    if (rc == ERR_OK)
        rc = edit_begin(tx, box, ENTRY_META, &change);
    if (rc == ERR_OK)
        rc = meta_get(tx->db, change->mailbox, bytes_text(user), bytes_text(key),
                      &change->value_before);
    if (rc)
        return rc;
    if (change->value_before.state != VALUE_SET && state == VALUE_REMOVED)
        return ERR_END;
    if (change->value_before.state == state && bytes_equal(change->value_before.value, value))
        return ERR_OK;
    change->user = bytes_text(user);
    change->key = bytes_text(key);
    change->value_after_state = state;
    change->value_after = value;
    return edit_finish(tx, box, change, true);
}

int mailbox_meta_set(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key,
                     struct bytes value)
{
    return write_meta(tx, mailbox, user, key, VALUE_SET, value);
}

int mailbox_meta_unset(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key)
{
    return write_meta(tx, mailbox, user, key, VALUE_REMOVED, bytes_of(NULL, 0));
}

struct purging {
    int64_t until;
    struct uidset uids;
    uint64_t modseq; /* the highest of the tombstones */
    bool more;
};

/* Which tombstones are old enough, up to one commit's worth. */
static int find_old(struct mailbox *mailbox, struct purging *work)
{
    struct record records[BATCH];
    size_t count = BATCH;
    uint64_t found = 0;
    if (mailbox->box->header.tombstones == 0)
        return ERR_OK;
    for (uint32_t from = 1; count == BATCH && from; from = records[count - 1].uid + 1) {
        int rc = record_batch(mailbox->tx->db, mailbox->box->header.number, from, records, BATCH,
                              &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++) {
            if (record_live(&records[i]) || records[i].changed > work->until)
                continue;
            if (found++ == MAILBOX_COMMIT_RECORDS) {
                work->more = true;
                return ERR_OK;
            }
            if (work->modseq < records[i].modseq)
                work->modseq = records[i].modseq;
            rc = uidset_add(&work->uids, records[i].uid);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

int mailbox_purge(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more)
{
    struct purging work = {.until = until};
    tx_frees_space(mailbox->tx);
    int rc = find_old(mailbox, &work);
    *purged = uidset_size(&work.uids);
    *more = work.more;
    if (rc == ERR_OK && *purged)
        rc = purge_uids(mailbox, &work.uids, work.modseq);
    uidset_free(&work.uids);
    return rc;
}

int mailbox_purge_local(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more)
{
    struct purging work = {.until = until};
    struct header *header = &mailbox->box->header;
    tx_frees_space(mailbox->tx);
    int rc = find_old(mailbox, &work);
    *purged = uidset_size(&work.uids);
    *more = work.more;
    if (rc == ERR_OK && *purged) {
        /* Carried out like a purge from the journal, but the facts stay as they are: nothing that
         * is replicated changes. */
        struct change change = {.kind = ENTRY_PURGE,
                                .uids = work.uids,
                                .modseq = header->lastmodseq,
                                .time = header->changed};
        rc = apply_change(mailbox->tx, mailbox->box, &change);
        if (header->floor < work.modseq)
            header->floor = work.modseq;
    }
    uidset_free(&work.uids);
    return rc;
}
