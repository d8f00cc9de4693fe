/* Whom a node follows, and when it dials: what its store says of its role, what was said at the
 * start, and how the connections fared. No I/O, no clock.
 */
#ifndef SHIPLOG_AGENT_UPSTREAM_H
#define SHIPLOG_AGENT_UPSTREAM_H

#include "mailbox/store.h"

/* What the store says of its node. */
struct duty {
    enum role role;
    enum fence fence;
    char master[PEER_MAX_SIZE + 1]; /* whom it follows; "": nobody */
};
int upstream_look(struct store *store, struct duty *duty); /* blocks */

struct upstream {
    char follow[PEER_MAX_SIZE + 1]; /* "": nobody */
    struct duty duty;               /* as of the last look */
    uint64_t pause;                 /* milliseconds, before the next dial */
    int64_t welcomed;               /* when it was by the upstream; 0: it is not */
};

/* `follow`: who was named at the start, or whom the store names, when he can be followed. `duty`:
 * as of then; whatever the store says otherwise later is news. */
void upstream_init(struct upstream *upstream, const char *follow, const struct duty *duty);
/* Whether the store names somebody else from now on, who is followed if he can be:
 * upstream_follow(). */
bool upstream_take_duty(struct upstream *upstream, const struct duty *duty);
void upstream_follow(struct upstream *upstream, const char *address);
/* The connection is of no use any more: this node is a master now. */
bool upstream_is_over(const struct upstream *upstream);

void upstream_welcomed(struct upstream *upstream, int64_t now);
void upstream_gone(struct upstream *upstream, int64_t now);
/* Milliseconds before the next dial; longer from time to time while connections do not last. With
 * jitter, which `random` decides, so that many followers do not come back at once. */
uint64_t upstream_pause(struct upstream *upstream, uint64_t random);

#endif
