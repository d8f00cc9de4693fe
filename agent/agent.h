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

struct agent_options {
    const char *listen; /* ADDRESS:PORT to feed followers on; NULL: none. Port 0: the system's */
    bool plaintext;     /* addresses beyond loopback are allowed, though nothing is encrypted */
};

struct agent_store {
    struct store *store; /* must outlive the agent */
    const char *follow;  /* ADDRESS:PORT of its upstream; NULL: none */
    const char *name;    /* what this node calls itself towards its upstream; NULL: its node id */
};

/* ERR_INVALID: the address; ERR_REFUSED: beyond loopback; ERR_IO. */
int agent_open(const struct agent_options *options, struct agent **agent);
/* Before agent_run(). ERR_INVALID, ERR_REFUSED: the upstream's address; ERR_REFUSED: a master
 * follows nobody, or an agent of this store runs already; ERR_IO. */
int agent_add(struct agent *agent, const struct agent_store *options);
/* The address that it listens on, "ADDRESS:PORT"; "" when it does not. Valid until closed. */
const char *agent_address(const struct agent *agent);
/* Runs until SIGTERM, SIGINT or agent_stop(); connections are ended in good order then. */
void agent_run(struct agent *agent);
void agent_stop(struct agent *agent);
/* Writes the slots, and frees it. NULL is fine. Not while it runs. */
void agent_close(struct agent *agent);

#endif
