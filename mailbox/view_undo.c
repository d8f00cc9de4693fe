/* A view goes back by one entry at a time: what the entry did is undone from what it says of
 * before, and the digest that it recorded tells whether it fits. */
#include "mailbox/viewing.h"

#include "base/err.h"
#include "mailbox/count.h"
#include "mailbox/flags.h"

/* A record that comes (1) or goes (-1). */
static void account(struct view *view, const struct record *record, uint64_t sign)
{
    if (!view->loose)
        count_record(&view->header, record, sign);
}

static int differs(const struct view *view, uint32_t uid, const char *what)
{
    return fail(ERR_CORRUPT, "mailbox id:%016llx, modseq %llu, UID %u: %s",
                (unsigned long long)view->header.id, (unsigned long long)view->header.lastmodseq,
                uid, what);
}

static int undo_append(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        struct record *record = record_table_find(&view->records, change->records[i].uid);
        if (!record)
            return differs(view, change->records[i].uid, "appended, but not there");
        account(view, record, (uint64_t)-1);
        record_table_remove(&view->records, record->uid);
    }
    return ERR_OK;
}

static int undo_expunge(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        if (record_table_find(&view->records, change->records[i].uid))
            return differs(view, change->records[i].uid, "expunged, but there");
        int rc = record_table_add(&view->records, &change->records[i]);
        if (rc)
            return rc;
        account(view, &change->records[i], 1);
    }
    return ERR_OK;
}

static int undo_bury(struct view *view, const struct change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        const struct record *before = &change->buried_before[i];
        if (!before->uid || !record_live(before))
            continue;
        int rc = record_table_add(&view->records, before);
        if (rc)
            return rc;
        account(view, before, 1);
    }
    return ERR_OK;
}

static int rewrite(struct view *view, const struct rewrite *rewrite, struct record *record)
{
    /* Tombstones may get a new modseq, too. */
    if (!record)
        return rewrite->flagged ? differs(view, rewrite->uid, "changed, but not there") : ERR_OK;
    account(view, record, (uint64_t)-1);
    record->modseq = rewrite->former.modseq;
    record->changed = rewrite->former.changed;
    if (rewrite->flagged) {
        record->flags = (record->flags & ~FLAG_SYSTEM) | rewrite->system;
        record->keywords = rewrite->keywords;
    }
    account(view, record, 1);
    return ERR_OK;
}

/* Carries out what waits. */
static int flush(struct view *view)
{
    struct record *found[REWRITES] = {0};
    int rc = ERR_OK;
    for (size_t i = 0; i < view->rewrite_count; i++)
        found[i] = record_table_find(&view->records, view->rewrites[i].uid);
    for (size_t i = 0; i < view->rewrite_count && rc == ERR_OK; i++)
        rc = rewrite(view, &view->rewrites[i], found[i]);
    view->rewrite_count = 0;
    return rc;
}

/* flags, seen, touch: what the records had before. */
static int undo_rewrite(struct view *view, const struct change *change)
{
    size_t at = 0;
    uint32_t uid;
    int rc = ERR_OK;
    struct rewrite one = {.flagged = change->kind == ENTRY_FLAGS,
                          .system = change->system_before,
                          .keywords = keywords_hash(change->keywords_before)};
    for (uint32_t from = 1; from && uidset_next(&change->uids, from, &uid); from = uid + 1, at++) {
        if (at >= change->former_count)
            return differs(view, uid, "nothing is said of what it had");
        one.uid = uid;
        one.former = change->former[at];
        view->rewrites[view->rewrite_count++] = one;
        if (view->rewrite_count == REWRITES || !view->loose)
            rc = flush(view);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int undo_seen(struct view *view, const struct change *change)
{
    struct seen_set *seen = view_find_seen(view, change->user);
    int rc = undo_rewrite(view, change);
    if (rc == ERR_OK && !seen) {
        /* Its row went with the mailbox, empty by then. */
        rc = view_add_seen(view, change->user, &seen);
        if (rc == ERR_OK)
            seen->version.version =
                (struct former){.modseq = change->modseq, .changed = change->time};
    }
    if (rc)
        return rc;
    view->header.items -= seen_digest(change->user, &seen->uids, seen->version.version);
    for (size_t i = 0; i < change->uids.count && rc == ERR_OK; i++) {
        struct uid_range range = change->uids.ranges[i];
        rc = change->seen_after ? uidset_remove_range(&seen->uids, range.first, range.last)
                                : uidset_add_range(&seen->uids, range.first, range.last);
    }
    seen->version = change->value_before;
    if (seen->version.state != VALUE_NONE)
        view->header.items += seen_digest(change->user, &seen->uids, seen->version.version);
    return rc;
}

static int undo_meta(struct view *view, const struct change *change)
{
    struct versioned after = {.state = change->value_after_state,
                              .value = change->value_after,
                              .version = {.modseq = change->modseq, .changed = change->time}};
    view->header.items -= meta_digest(change->user, change->key, &after);
    view->header.items += meta_digest(change->user, change->key, &change->value_before);
    return view_put_meta(view, change->user, change->key, &change->value_before);
}

int view_settle(struct view *view)
{
    struct header *header = &view->header;
    int rc = flush(view);
    view->loose = false;
    header->items = 0;
    header->messages = 0;
    header->bytes = 0;
    header->unseen = 0;
    for (size_t i = 0; i < view->records.count; i++)
        if (view->records.all[i].uid)
            count_record(header, &view->records.all[i], 1);
    for (size_t i = 0; i < view->seen_count; i++) {
        const struct seen_set *seen = &view->seen[i];
        if (seen->version.state != VALUE_NONE)
            header->items += seen_digest(buf_view(&seen->user), &seen->uids, seen->version.version);
    }
    for (size_t i = 0; i < view->meta_count; i++) {
        const struct meta_value *meta = &view->meta[i];
        struct versioned value = {
            .state = meta->state, .value = buf_view(&meta->value), .version = meta->version};
        header->items += meta_digest(buf_view(&meta->user), buf_view(&meta->key), &value);
    }
    return rc;
}

int view_prove_entry(const struct view *view, const struct entry *entry)
{
    bool proven =
        view->header.facts.state == MAILBOX_PURGED || header_digest(&view->header) == entry->digest;
    return proven ? ERR_OK : differs(view, 0, "the mailbox's digest is not the one in the journal");
}

static bool rewrites_only(enum entry_kind kind)
{
    return kind == ENTRY_FLAGS || kind == ENTRY_TOUCH || kind == ENTRY_SEEN;
}

int view_undo(struct view *view, const struct entry *entry)
{
    struct change *change = &view->change;
    int rc = change_decode(entry, change);
    if (rc == ERR_OK && !rewrites_only(entry->kind))
        rc = flush(view);
    if (rc)
        return rc;
    switch (change->kind) {
    case ENTRY_APPEND:
        rc = undo_append(view, change);
        break;
    case ENTRY_EXPUNGE:
        rc = undo_expunge(view, change);
        break;
    case ENTRY_BURY:
        rc = undo_bury(view, change);
        break;
    case ENTRY_FLAGS:
    case ENTRY_TOUCH:
        rc = undo_rewrite(view, change);
        break;
    case ENTRY_SEEN:
        rc = undo_seen(view, change);
        break;
    case ENTRY_META:
        rc = undo_meta(view, change);
        break;
    default:
        break;
    }
    facts_copy(&view->header.facts, &change->before, change->facts_changed);
    view->header.lastmodseq = entry->previous;
    return rc;
}
