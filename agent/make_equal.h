/* The follower's part of a repair: it becomes equal to its upstream, mailbox by mailbox.
 *
 * Blocks while the upstream answers; holds no lock meanwhile. Cut off anywhere, it is simply run
 * again.
 */
#ifndef SHIPLOG_AGENT_MAKE_EQUAL_H
#define SHIPLOG_AGENT_MAKE_EQUAL_H

#include "agent/ask.h"
#include "agent/plan.h"
#include "mailbox/store.h"

/* A mailbox that was made equal. */
struct equal_line {
    uint64_t mailbox;
    const char *name;
    const char *reason; /* why it had to be */
    uint64_t records;   /* that came over */
    uint64_t bytes;     /* of content */
    uint64_t expunged;  /* live messages that went */
    bool done; /* false: the upstream's own copy is damaged, or changes too fast: it waits */
};
struct equal_report {
    void (*mailbox)(void *arg, const struct equal_line *line); /* may be NULL */
    void *arg;
    char *aside; /* file of what was this node's own branch; NULL: none. Owned: free() */
};
int make_equal(struct store *store, const struct asker *upstream, const struct plan *plan,
               struct equal_report *report);

#endif
