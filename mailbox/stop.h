/* Stops: mailboxes that this node does not follow entry by entry, why, and from where on it will
 * again. They are the persistent state of a repair: a node with stops is being repaired.
 *
 * A mailbox stops where the upstream's entries and its own records no longer fit (damage), or where
 * a gap or a fork left it behind. It waits; then it is made equal to the upstream's as of one
 * modseq; entries up to that one are only kept, later ones are applied again. At a master a stop
 * says that records were lost by damage, and that a replica may have them.
 *
 * Everything works inside a transaction of the caller's.
 */
#ifndef SHIPLOG_MAILBOX_STOP_H
#define SHIPLOG_MAILBOX_STOP_H

#include "journal/epoch.h"
#include "mailbox/store.h"

#define STOP_REASON_SIZE 200u

enum stop_state {
    STOP_WAITING, /* entries from `modseq` on are kept, not applied */
    STOP_MERGED   /* the same up to `modseq`; those from it on are applied */
};

struct stop {
    uint64_t mailbox; /* id; 0: the store's own values */
    uint64_t modseq;  /* the first entry that is not in it */
    enum stop_state state;
    uint32_t beside; /* local number under which it is built beside; 0: it is not */
    /* What is in it meanwhile: the mailbox as this epoch's branch had it at this modseq, wherever
     * the journal is by now. Number 0: nothing is in it, or it is not known, and clients that know
     * no later modseq than `as_of` cannot be told what changed. */
    struct epoch_id epoch;
    uint64_t as_of;
    char reason[STOP_REASON_SIZE];
};

int stop_get(struct db_txn *txn, uint64_t mailbox, struct stop *stop); /* ERR_END: it goes on */
int stop_put(struct db_txn *txn, const struct stop *stop);
int stop_drop(struct db_txn *txn, uint64_t mailbox); /* ERR_END: there was none */
/* In the order of ids. *mailbox names the one to begin with and is set to the one behind what was
 * found. ERR_END: no more. */
int stop_next(struct db_txn *txn, uint64_t *mailbox, struct stop *stop);
int stop_any(struct db_txn *txn, bool *any);
/* Whether this node is a replica whose mailboxes are of different moments. One that only lost
 * records is as of the node's own position: nothing has begun that a promotion would give up. */
int stop_repairing(struct tx *tx, bool *repairing);
/* Drops those that are merged and whose modseq the journal has reached. */
int stop_settle(struct tx *tx);

/* What is in a mailbox that follows the journal so far. */
void stop_stands(struct stop *stop, const struct tx *tx);
/* Whether the mailbox is that but for records that it lost: it waits for these alone. */
bool stop_abreast(const struct stop *stop, const struct tx *tx);

/* Marks a mailbox as damaged, so that the next contact with the other end heals it. Keeps a stop
 * that is there. */
int stop_damaged(struct tx *tx, uint64_t mailbox, const char *reason);

#endif
