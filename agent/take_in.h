/* The master's part of a repair: it finds out how the follower relates to it, takes in what the
 * follower changed by itself, and decides how the follower becomes equal.
 *
 * Blocks while the follower answers; holds no lock meanwhile. What it commits at once is one
 * mailbox's differences. Cut off anywhere, it is simply run again.
 */
#ifndef SHIPLOG_AGENT_TAKE_IN_H
#define SHIPLOG_AGENT_TAKE_IN_H

#include "agent/ask.h"
#include "agent/plan.h"

struct take_in {
    const char
        *slot;    /* the follower's name: its slot holds the window from the plan's position on */
    bool adopt;   /* a store with a history of its own is taken in */
    bool dry_run; /* nothing is changed; `report` hears what would be done */
    void (*report)(void *arg, const char *mailbox, const char *what, uint32_t uid, uint32_t other);
    void *arg;
};

/* ERR_REFUSED: this node cannot be the follower's upstream, or is fenced by what the follower
 * shows; the message says why. The plan is the caller's to free. */
int take_in(struct store *store, const struct asker *follower, const struct take_in *options,
            struct plan *plan);

#endif
