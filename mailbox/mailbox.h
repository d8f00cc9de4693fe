/* Mailboxes: the one API through which mail is read and changed. Everything here works inside a
 * transaction (mailbox/store.h).
 *
 * A mailbox is opened as a user. Its owner's \Seen lives in the records, anybody else's in a set of
 * their own; whoever reads or changes flags here sees one \Seen, that user's, and never knows
 * which.
 */
#ifndef SHIPLOG_MAILBOX_MAILBOX_H
#define SHIPLOG_MAILBOX_MAILBOX_H

#include "base/uidset.h"
#include "mailbox/draft.h"
#include "mailbox/flags.h"
#include "mailbox/header.h"
#include "mailbox/record.h"
#include "mailbox/store.h"
#include "mailbox/values.h"

#define MAILBOX_COMMIT_RECORDS 4096u /* how many records one commit may be about */

struct mailbox;

/* Opens a live mailbox. `user` NULL: its owner. The mailbox belongs to the transaction.
 * ERR_NOTFOUND. */
int mailbox_open(struct tx *tx, const struct name *name, const char *user,
                 struct mailbox **mailbox);
/* The same by id, deleted ones included. */
int mailbox_open_id(struct tx *tx, uint64_t id, const char *user, struct mailbox **mailbox);
/* What to say of an id that has no header: ERR_NOTFOUND; ERR_CORRUPT when one is missing. */
int mailbox_unknown(struct tx *tx, uint64_t id);
const struct header *
mailbox_header(const struct mailbox *mailbox); /* valid until the mailbox changes */

/* The record as this user sees it. ERR_END: none; tombstones are given. */
int mailbox_record(struct mailbox *mailbox, uint32_t uid, struct record *record);
/* A batch as record_batch() gives, as this user sees them. */
int mailbox_batch(struct mailbox *mailbox, uint32_t first, struct record *records, size_t most,
                  size_t *count);
/* The live UIDs among those of `wanted`. */
int mailbox_select(struct mailbox *mailbox, const struct uidset *wanted, struct uidset *live);
uint32_t mailbox_highest_uid(const struct mailbox *mailbox); /* of those given out; 0: none */

/* Changes. Each makes its journal entries in the transaction's commit. ERR_REFUSED for a deleted
 * mailbox. */
int mailbox_create(struct tx *tx, const struct name *name,
                   uint64_t *id); /* ERR_EXISTS. `id` may be NULL */
/* UIDVALIDITY and UIDNEXT of an empty mailbox that never gave out a UID, or UIDNEXT raised.
 * ERR_REFUSED otherwise. */
int mailbox_set_uids(struct mailbox *mailbox, uint32_t uidvalidity, uint32_t uidnext);
/* With all mailboxes below it. ERR_EXISTS; ERR_REFUSED: another owner, or `to` is below `from`;
 * ERR_INVALID: one of them would get too long a name. */
int mailbox_rename(struct tx *tx, const struct name *from, const struct name *to);
/* Whether it could be done: ERR_OK, or why not. */
int mailbox_may_rename(struct tx *tx, const struct name *from, const struct name *to);
int mailbox_delete(struct mailbox *mailbox);
/* Brings a deleted mailbox back, under `name`. ERR_EXISTS. */
int mailbox_revive(struct mailbox *mailbox, const struct name *name);

struct append {
    struct draft *draft;     /* finished; or NULL: content that the store has, by `guid` */
    const struct guid *guid; /* when `draft` is NULL */
    uint32_t system;         /* FLAG_… */
    struct bytes keywords;   /* canonical set */
    int64_t internal_date;   /* microseconds */
    uint32_t uid;            /* 0: the next; else one at or above UIDNEXT */
};
/* ERR_REFUSED when UIDs are used up, or `uid` is below UIDNEXT; ERR_GONE when the store lacks the
 * GUID's content. */
int mailbox_append(struct mailbox *mailbox, const struct append *append, uint32_t *uid);

/* Changes flags of live messages; those that have them already are left alone. *changed counts the
 * others (may be NULL). */
int mailbox_flag(struct mailbox *mailbox, const struct uidset *uids,
                 const struct flag_change *change, uint64_t *changed);
/* Expunges the live messages among `uids`; `immediate` purges them in the same commit. */
int mailbox_expunge(struct mailbox *mailbox, const struct uidset *uids, bool immediate,
                    uint64_t *expunged);
/* Copies live messages: `from` and `to` get the UIDs, pairwise in order. A move also expunges them
 * here. */
int mailbox_copy(struct mailbox *mailbox, const struct uidset *uids, struct mailbox *target,
                 bool move, struct uidset *from, struct uidset *to);
/* Gives records a new modseq, and nothing else. */
int mailbox_touch(struct mailbox *mailbox, const struct uidset *uids);

/* Purges tombstones last changed at or before `until`, at most MAILBOX_COMMIT_RECORDS in one
 * commit. *more: call again. */
int mailbox_purge(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more);
/* The same as this node's own act, at a replica: no entry, no digest changes; a floor is raised (in
 * store_maintain()). */
int mailbox_purge_local(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more);

/* Meta values: `mailbox` NULL means the store's, `user` NULL a shared value. ERR_END: not set. The
 * value is valid until the transaction changes anything or ends. */
int mailbox_meta_get(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key,
                     struct bytes *value);
int mailbox_meta_set(struct tx *tx, struct mailbox *mailbox, const char *user, const char *key,
                     struct bytes value);
int mailbox_meta_unset(struct tx *tx, struct mailbox *mailbox, const char *user,
                       const char *key); /* ERR_END: not set */

/* Expires tombstones of one mailbox (id) or of all (0) that are older than `age` microseconds, in
 * as many bounded commits as it takes: at a master as changes, deleted mailboxes included (theirs
 * are expunged first, then they are purged); at a replica locally. ERR_CORRUPT: damage took records
 * of a deleted one, which stays. */
int store_expire(struct store *store, uint64_t id, int64_t age, uint64_t *purged);

#endif
