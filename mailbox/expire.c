/* Expiry: tombstones purged by age, mailbox after mailbox, in bounded transactions. */
#include "base/err.h"
#include "mailbox/edit.h"
#include "mailbox/mailbox.h"
#include "mailbox/stop.h"

#define CLEAR_UIDS 1024u /* of a seen set, in one commit */

struct expiry {
    uint64_t id;
    int64_t age;
    bool begun;      /* an earlier commit did a part of it: the mailbox was old enough */
    uint64_t purged; /* in this commit */
    bool more;
};

/* What the UIDs of a seen set have as records; those of purged ones have nothing. */
static int add_formers(struct tx *tx, struct box *box, struct change *change)
{
    struct record record;
    uint32_t uid;
    int rc = ERR_OK;
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(&change->uids, at, &uid);
         at = uid + 1) {
        rc = record_get(tx->db, box->header.number, uid, &record);
        if (rc == ERR_END)
            record = (struct record){0};
        if (rc == ERR_OK || rc == ERR_END)
            rc = change_add_former(change, record.modseq, record.changed);
    }
    return rc;
}

static int clear_some_seen(struct tx *tx, struct box *box, struct bytes user,
                           const struct uidset *seen)
{
    struct change *change = edit_begin_expiry(tx, box, ENTRY_SEEN);
    uint32_t uid;
    unsigned taken = 0;
    int rc = seen_get(tx->db, change->mailbox, user, NULL, &change->value_before);
    change->user = user;
    change->seen_after = false;
    for (uint32_t at = 1; rc == ERR_OK && at && taken < CLEAR_UIDS && uidset_next(seen, at, &uid);
         at = uid + 1) {
        rc = uidset_add(&change->uids, uid);
        taken++;
    }
    if (rc == ERR_OK)
        rc = add_formers(tx, box, change);
    return rc ? rc : edit_finish(tx, box, change, true);
}

/* Purging a mailbox removes its rows. What users had seen must be undone by entries before, or
 * nobody could look further back than that. */
static int clear_seen(struct tx *tx, struct box *box, bool *cleared)
{
    struct buf row = {0};
    struct buf name = {0};
    struct bytes user;
    struct versioned version;
    struct uidset seen = {0};
    int rc = seen_next(tx->db, box->header.id, &row, &user, &seen, &version);
    while (rc == ERR_OK && seen.count == 0)
        rc = seen_next(tx->db, box->header.id, &row, &user, &seen, &version);
    *cleared = rc == ERR_OK;
    if (rc == ERR_OK) {
        buf_put(&name, user.data, user.size);
        rc = name.failed ? fail(ERR_NOMEM, "out of memory")
                         : clear_some_seen(tx, box, buf_view(&name), &seen);
    }
    uidset_free(&seen);
    buf_free(&row);
    buf_free(&name);
    return rc == ERR_END ? ERR_OK : rc;
}

/* One meta value, likewise. */
static int clear_meta(struct tx *tx, struct box *box, bool *cleared)
{
    struct buf row = {0};
    struct buf texts = {0};
    struct bytes user, key;
    struct versioned value;
    int rc = meta_next(tx->db, box->header.id, &row, &user, &key, &value);
    while (rc == ERR_OK && value.state != VALUE_SET)
        rc = meta_next(tx->db, box->header.id, &row, &user, &key, &value);
    *cleared = rc == ERR_OK;
    if (rc == ERR_OK) {
        struct change *change = edit_begin_expiry(tx, box, ENTRY_META);
        buf_put(&texts, user.data, user.size);
        buf_put(&texts, key.data, key.size);
        change->user = bytes_of(texts.data, user.size);
        change->key = bytes_of(texts.data + user.size, key.size);
        change->value_before = value;
        change->value_after_state = VALUE_REMOVED;
        rc = texts.failed ? fail(ERR_NOMEM, "out of memory") : edit_finish(tx, box, change, true);
    }
    buf_free(&row);
    buf_free(&texts);
    return rc == ERR_END ? ERR_OK : rc;
}

/* Damage took records that the header counts. What is not there cannot go. */
static int missing(const struct mailbox *mailbox)
{
    return fail(ERR_CORRUPT, "mailbox id:%016llx: records are missing",
                (unsigned long long)mailbox->box->header.id);
}

/* The live records of a deleted mailbox, expunged by ordinary entries, one commit's worth at a
 * time. */
static int expunge_deleted(struct mailbox *mailbox, struct expiry *expiry)
{
    struct uidset uids = {0};
    struct uidset some = {0};
    uint32_t uid;
    uint64_t taken = 0;
    int rc = uidset_add_range(&uids, 1, UINT32_MAX);
    if (rc == ERR_OK)
        rc = mailbox_select(mailbox, &uids, &some);
    uidset_clear(&uids);
    for (uint32_t at = 1;
         rc == ERR_OK && at && taken < MAILBOX_COMMIT_RECORDS && uidset_next(&some, at, &uid);
         at = uid + 1) {
        rc = uidset_add(&uids, uid);
        taken++;
    }
    if (rc == ERR_OK)
        rc = taken ? mailbox_expunge(mailbox, &uids, true, &expiry->purged) : missing(mailbox);
    uidset_free(&uids);
    uidset_free(&some);
    expiry->more = true;
    return rc;
}

/* Nothing is left of it but tombstones, and these may go, whatever their age: the mailbox itself is
 * old enough. */
static int purge_deleted(struct mailbox *mailbox, struct expiry *expiry)
{
    struct change *change;
    struct box *box = mailbox->box;
    int rc;
    if (box->header.tombstones) {
        rc = mailbox_purge(mailbox, INT64_MAX, &expiry->purged, &expiry->more);
        expiry->more = true;
        return rc == ERR_OK && !expiry->purged ? missing(mailbox) : rc;
    }
    rc = edit_begin(mailbox->tx, box, ENTRY_PURGE, &change);
    if (rc)
        return rc;
    change->after.state = MAILBOX_PURGED;
    return edit_finish(mailbox->tx, box, change, false);
}

static int expire_at_master(struct tx *tx, void *arg)
{
    struct expiry *expiry = arg;
    struct mailbox *mailbox;
    int64_t until = tx_time(tx) - expiry->age;
    expiry->purged = 0;
    expiry->more = false;
    int rc = mailbox_open_id(tx, expiry->id, NULL, &mailbox);
    if (rc)
        return rc;
    const struct header *header = mailbox_header(mailbox);
    if (header->facts.state == MAILBOX_LIVE)
        return mailbox_purge(mailbox, until, &expiry->purged, &expiry->more);
    /* Expiring touches it: once begun, its mail is gone, and it is carried on with. */
    bool begun = header->messages == 0 && header->facts.deletedmodseq > 0;
    if (header->facts.state != MAILBOX_DELETED ||
        (header->changed > until && !begun && !expiry->begun))
        return ERR_OK;
    rc = clear_seen(tx, mailbox->box, &expiry->more);
    if (rc == ERR_OK && !expiry->more)
        rc = clear_meta(tx, mailbox->box, &expiry->more);
    if (rc || expiry->more)
        return rc;
    return header->messages ? expunge_deleted(mailbox, expiry) : purge_deleted(mailbox, expiry);
}

/* A mailbox that is being repaired waits: its rows are compared with the upstream's. */
static int expire_at_replica(struct tx *tx, void *arg)
{
    struct expiry *expiry = arg;
    struct mailbox *mailbox;
    struct stop stop;
    expiry->purged = 0;
    expiry->more = false;
    int rc = stop_get(tx->db, expiry->id, &stop);
    if (rc != ERR_END)
        return rc;
    rc = mailbox_open_id(tx, expiry->id, NULL, &mailbox);
    return rc ? rc
              : mailbox_purge_local(mailbox, tx_time(tx) - expiry->age, &expiry->purged,
                                    &expiry->more);
}

static int expire_mailbox(struct store *store, enum role role, uint64_t id, int64_t age,
                          uint64_t *purged)
{
    struct expiry expiry = {.id = id, .age = age, .more = true};
    int rc = ERR_OK;
    while (rc == ERR_OK && expiry.more) {
        rc = role == ROLE_REPLICA ? store_maintain(store, expire_at_replica, &expiry)
                                  : store_commit(store, expire_at_master, &expiry, NULL);
        if (rc == ERR_OK)
            *purged += expiry.purged;
        expiry.begun = true;
    }
    return rc;
}

struct next {
    uint64_t id;
    enum role role;
    bool end;
};

static int find_next(struct tx *tx, void *arg)
{
    struct next *next = arg;
    struct header header;
    int rc = header_next(tx_db(tx), &next->id, &header);
    next->role = tx_node(tx)->role;
    next->end = rc == ERR_END;
    return next->end ? ERR_OK : rc;
}

int store_expire(struct store *store, uint64_t id, int64_t age, uint64_t *purged)
{
    struct next next = {.id = id ? id - 1 : 0};
    *purged = 0;
    for (;;) {
        int rc = store_read(store, find_next, &next);
        if (rc || next.end || (id && next.id != id))
            return rc;
        rc = expire_mailbox(store, next.role, next.id, age, purged);
        if (rc || id)
            return rc;
    }
}
