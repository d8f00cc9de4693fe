/* The agent: one libuv loop that feeds followers of stores and follows upstreams, for any number of
 * stores.
 *
 * The process ignores SIGPIPE. Everything here is used by one thread, which is the loop's; only
 * agent_stop() may be called by any. Storage work runs in libuv's thread pool, one piece at a time
 * for each connection, never on the loop.
 */
#ifndef SHIPLOG_AGENT_AGENT_H
#define SHIPLOG_AGENT_AGENT_H

#include "mailbox/store.h"

struct agent;
struct sync;

struct agent_options {
    const char *listen; /* ADDRESS:PORT to feed followers on; NULL: none. Port 0: the system's */
};

struct agent_store {
    struct store *store; /* must outlive the agent; opened without `relaxed` */
    const char *follow;  /* ADDRESS:PORT of its upstream; NULL: none */
    const char *name;    /* what this node calls itself towards its upstream; NULL: its node id */
    int follow_fd;       /* instead of `follow`: a connected socket, which becomes the agent's; used
                            when `follow_by_fd` */
    bool follow_by_fd;
    uint64_t
        wanted_store;  /* id of the upstream's store that an empty replica takes; 0: its only one
                        */
    bool beside;       /* another agent of the store may run: commits are found by polling */
    struct sync *once; /* one pass is made, then the agent stops; filled in. Its line() may be
                          called in another thread. NULL: it follows until it is stopped */
};

/* ERR_INVALID: the address; ERR_REFUSED: beyond loopback; ERR_IO. */
int agent_open(const struct agent_options *options, struct agent **agent);
/* Before agent_run(). A master that is told to follow asks the upstream now and then, so that it
 * learns of a later epoch; it follows when it is demoted. ERR_INVALID, ERR_REFUSED: the upstream's
 * address; ERR_REFUSED: an agent of this store runs already, the store was opened `relaxed`;
 * ERR_IO.
 */
int agent_add(struct agent *agent, const struct agent_store *options);
/* Feeds one follower on a connected socket, which becomes the agent's; when that one has gone, the
 * agent stops. ERR_NOMEM. */
int agent_serve(struct agent *agent, int fd);
/* The address that it listens on, "ADDRESS:PORT"; "" when it does not. Valid until closed. */
const char *agent_address(const struct agent *agent);
/* Runs until SIGTERM, SIGINT or agent_stop(); connections are ended in good order then. */
void agent_run(struct agent *agent);
void agent_stop(struct agent *agent);
/* Writes the slots, and frees it. NULL is fine. Not while it runs. */
void agent_close(struct agent *agent);

#endif
