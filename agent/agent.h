/* The agent: one libuv loop that feeds followers of a store and follows an upstream. The only part
 * that knows libuv.
 *
 * Everything here runs on the loop's thread; storage work runs in libuv's thread pool, one piece at
 * a time for each connection.
 */
#ifndef SHIPLOG_AGENT_AGENT_H
#define SHIPLOG_AGENT_AGENT_H

#include "mailbox/store.h"

struct agent;

struct agent_options {
    struct store *store; /* must outlive the agent */
    const char
        *listen; /* ADDRESS:PORT to feed followers on; NULL: none. Port 0: the system's choice */
    const char *follow; /* ADDRESS:PORT of the upstream; NULL: none */
    const char *name;   /* what this node calls itself towards its upstream; NULL: its node id */
};

/* ERR_INVALID: an address; ERR_REFUSED: beyond loopback, or an agent of this store runs already;
 * ERR_IO. */
int agent_open(const struct agent_options *options, struct agent **agent);
/* The address that it listens on, "ADDRESS:PORT"; "" when it does not. Valid until closed. */
const char *agent_address(const struct agent *agent);
/* Runs until SIGTERM or SIGINT; everything is closed and the slots are written then. */
int agent_run(struct agent *agent);
void agent_close(struct agent *agent); /* NULL is fine */

#endif
