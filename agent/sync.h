/* One pass from a master to a replica, both opened by this process: repair if need be, then the
 * tail.
 *
 * The same parts as the agents' connections are made of, called one after another.
 */
#ifndef SHIPLOG_AGENT_SYNC_H
#define SHIPLOG_AGENT_SYNC_H

#include "agent/make_equal.h"
#include "agent/plan.h"
#include "mailbox/store.h"

enum sync_tier { SYNC_NONE, SYNC_TAIL, SYNC_MERGE };
const char *sync_tier_name(enum sync_tier tier);

/* A mailbox that was merged. */
struct sync_line {
    const char *mailbox;
    const char *reason;
    uint64_t sent; /* records */
    uint64_t renumbered;
    uint64_t copied_back;
    uint64_t expunged;
    bool done; /* false: it waits, because the master's own copy is damaged */
};

struct sync {
    const char *master_name; /* whom the replica's refusals name */
    bool adopt;
    bool dry_run;
    void (*line)(void *arg, const struct sync_line *line);
    /* Dry run: each action that would be taken. */
    void (*action)(void *arg, const char *mailbox, const char *what, uint32_t uid, uint32_t other);
    /* Before each question that one end asks the other: no transaction is open. What is not ERR_OK
     * ends the pass there. May be NULL. */
    int (*asking)(void *arg);
    void *arg;
    /* out */
    enum sync_tier tier;
    char reason[PLAN_REASON_SIZE];
    uint64_t sent; /* entries and records */
    uint64_t renumbered;
    uint64_t copied_back;
    uint64_t expunged;
    uint64_t wire_bytes;      /* that would have gone over a wire, both ways */
    struct position position; /* the replica's afterwards */
    char *aside;              /* file of what was set aside; NULL: none. Owned: free() */
    bool more_actions;        /* than were told: over a connection there is room for so many */
    bool waiting;             /* mailboxes are left that could not be repaired */
    bool done;                /* over a connection: it came to its end */
    bool refused;             /* else: the master would not have it */
    char trouble[512];        /* and why */
};

/* What the master decided is carried out at the replica, and told of; in a dry run only told of.
 * Lines come from the thread that calls this. */
int sync_carry_out(struct sync *sync, struct store *replica, const struct asker *master,
                   const struct plan *plan);
/* ERR_REFUSED: roles, another store, a fence. */
int sync_stores(struct store *master, struct store *replica, struct sync *sync);

#endif
