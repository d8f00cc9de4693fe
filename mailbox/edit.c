/* Changes at a master: each function finds out what a wish means for the records there are, fills a
 * struct change, and has it carried out and journaled by edit_finish(). */
#include "mailbox/edit.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/mailbox.h"

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

int edit_each_live(struct mailbox *mailbox, const struct uidset *uids,
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

/* What moves along is not in its own way. */
static int refuse_other(struct tx *tx, const struct name *from, const struct name *to)
{
    return name_equal(to, from) || name_is_below(to, from) ? ERR_OK : refuse_taken(tx, to);
}

int mailbox_may_rename(struct tx *tx, const struct name *from, const struct name *to)
{
    struct owner old_owner, new_owner;
    struct name child = *from;
    struct name moved;
    uint64_t id;
    name_owner(from, &old_owner);
    name_owner(to, &new_owner);
    if (!owner_equal(&old_owner, &new_owner))
        return fail(ERR_REFUSED, "rename: a mailbox cannot change its owner");
    if (name_is_below(to, from))
        return fail(ERR_REFUSED, "rename: a mailbox cannot move below itself");
    int rc = refuse_taken(tx, to);
    while (rc == ERR_OK && (rc = next_child(tx, from, &child, &id)) == ERR_OK) {
        rc = name_rebase(&child, from, to, &moved);
        if (rc == ERR_OK)
            rc = refuse_other(tx, from, &moved);
    }
    return rc == ERR_END ? ERR_OK : rc;
}

int mailbox_rename(struct tx *tx, const struct name *from, const struct name *to)
{
    struct mailbox *mailbox;
    struct name child = *from;
    struct name moved;
    uint64_t id;
    int rc = mailbox_open(tx, from, NULL, &mailbox);
    if (rc == ERR_OK)
        rc = mailbox_may_rename(tx, from, to);
    if (rc == ERR_OK)
        rc = rename_one(tx, mailbox->box->header.id, to);
    while (rc == ERR_OK && (rc = next_child(tx, from, &child, &id)) == ERR_OK) {
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
