/* Restoring a mailbox to how it was: as new changes, through the one API, so that nothing is
 * rewritten and every client and replica sees them as it sees others.
 *
 * What is to be done follows from two views, of then and of now. A message that is in both under
 * one UID goes on under it. What was there then and is not there now is looked for among what is
 * there now and was not then, by GUID and date: so a message that came back already is not brought
 * back again, and a second restore finds nothing to do. The rest comes back under new UIDs, and
 * what remains of now is expunged. UIDVALIDITY, UIDNEXT and dates of saving are not taken back.
 *
 * Threads: a restore is used by one at a time. It holds no transaction between calls.
 */
#ifndef SHIPLOG_MAILBOX_RESTORE_H
#define SHIPLOG_MAILBOX_RESTORE_H

#include "mailbox/view.h"

enum restore_act {
    RESTORE_CREATE,  /* the mailbox: `name_after` */
    RESTORE_REVIVE,  /* the deleted mailbox, as `name_after` */
    RESTORE_RENAME,  /* from `name_before` back to `name_after` */
    RESTORE_TAKEN,   /* left out: another mailbox bears `name_after` now; it stays `name_before` */
    RESTORE_FLAGS,   /* of `now` become those of `then`: system flags (the owner's) and keywords */
    RESTORE_APPEND,  /* `then` comes back */
    RESTORE_GONE,    /* left out: `then`, whose content the store no longer has */
    RESTORE_EXPUNGE, /* `now` was not there then */
    RESTORE_SEEN,    /* `uids` become seen by `user`, or cease to be */
    RESTORE_META     /* `key` of `user` (empty: shared): `value_before`, `value_after` */
};

/* One thing that is to be done, or was done, or cannot be done. What it points at belongs to the
 * views that it was planned from. */
struct restore_item {
    enum restore_act act;
    const struct record *then;
    const struct record *now;
    struct bytes keywords_then; /* canonical sets of these */
    struct bytes keywords_now;
    uint32_t uid; /* an append: the new UID, once it is done */
    struct bytes user;
    struct bytes key;
    struct uidset uids; /* as of now; `pending`: as of then, of messages that come back first */
    bool seen;          /* they become seen */
    bool pending;
    bool set_before, set_after;
    struct bytes value_before, value_after;
    struct name name_before, name_after;
};

struct restore_request {
    uint64_t id;             /* the mailbox */
    uint64_t modseq;         /* a whole commit's last */
    const struct name *into; /* a new mailbox of this name; NULL: the same one */
    bool dry_run;
    /* Called for every item: as planned (dry run), or after the commit that did it. */
    void (*item)(const struct restore_item *item, void *arg);
    void *arg;
};
struct restore_result {
    uint64_t work;     /* items that were done, or are to be */
    uint64_t left_out; /* that cannot be done: RESTORE_GONE, RESTORE_TAKEN */
};
/* In as many commits as it takes, each about a bounded number of messages. Broken off anywhere and
 * run again, it goes on. ERR_REFUSED at a replica (unless it is a dry run), or when `into` has
 * another owner; ERR_EXISTS: `into`, or a deleted mailbox's name, is taken; ERR_NOTFOUND: it was
 * not there then; ERR_TRIMMED; ERR_GONE: the mailbox was purged (it can only be restored `into`
 * another); ERR_BUSY: others kept adding to the mailbox. */
int restore_run(struct store *store, const struct restore_request *request,
                struct restore_result *result);

#endif
