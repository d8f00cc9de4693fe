/* Semi-synchronous writes: waiting until followers hold a commit durably.
 *
 * A follower counts when its slot is at or behind the wanted entry on this very journal. Slots are
 * written by the store's agent, promptly as long as somebody waits; without an agent the wait can
 * only end by what is known already, or by its time limit.
 */
#ifndef SHIPLOG_MAILBOX_WAIT_H
#define SHIPLOG_MAILBOX_WAIT_H

#include "mailbox/store.h"

struct store_wait {
    uint64_t modseq;   /* of the commit; 0: what is the last now */
    uint64_t replicas; /* how many direct followers; 0: this node is enough */
    int64_t timeout;   /* microseconds; 0: look once */
    uint64_t holders;  /* set: how many have it */
};

/* At a replica, waits for the entry to arrive there first. ERR_TIMEOUT: nothing is lost by it, the
 * commit stays and goes on being shipped; ERR_NOTFOUND: a master has no such entry yet.
 * Blocks: not for the agent's loop. */
int store_wait(struct store *store, struct store_wait *wait);

#endif
