/* Slots: how far each replica is, as the node that feeds it remembers. */
#ifndef SHIPLOG_JOURNAL_SLOTS_H
#define SHIPLOG_JOURNAL_SLOTS_H

#include "base/db.h"
#include "journal/journal.h"

#define SLOT_NAME_SIZE 256u /* with the NUL */

struct slot {
    char name[SLOT_NAME_SIZE]; /* the peer's, or its node id in hexadecimal digits */
    struct position position;  /* acknowledged: durable there */
    int64_t time;              /* of the last acknowledgement, microseconds since 1970 */
    bool connected;            /* when this was written */
};

int slot_get(struct db_txn *txn, const char *name, struct slot *slot); /* ERR_END: none */
int slot_put(struct db_txn *txn, const struct slot *slot);
int slot_drop(struct db_txn *txn, const char *name); /* ERR_END: none */
/* The slot behind *slot in the order of names; begin with an empty name. ERR_END: no more. */
int slot_next(struct db_txn *txn, struct slot *slot);

/* How far a slot lags behind the journal. What a lost one lacks is not in the window any more, and
 * is not counted. */
enum slot_state { SLOT_CONNECTED, SLOT_AWAY, SLOT_LOST };
const char *slot_state_name(enum slot_state state);
struct slot_lag {
    enum slot_state state;
    struct journal_tail tail; /* unless lost: what it has not acknowledged */
    int64_t
        age; /* microseconds since what it lacks was written; of a lost one since it was heard */
};
int slot_lag(struct db_txn *txn, const struct slot *slot, int64_t now, struct slot_lag *lag);

#endif
