/* Agents with real sockets on loopback, each in a thread of its own, for tests of cmocka that link
 * shiplog_agent. Every function ends the test when something fails. Waiting is for a state of the
 * stores, with a bound.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_HOSTS_H
#define SHIPLOG_TESTS_SUPPORT_HOSTS_H

#include "agent/address.h"
#include "agent/agent.h"
#include "mailbox/store.h"

#include <limits.h>
#include <pthread.h>

#define HOSTS_MOST 4u
#define HOSTS_WAITS 10000u /* of a millisecond */

/* A node, and the agent that serves it. */
struct host {
    struct store *store;
    struct agent *agent; /* NULL: it does not run */
    pthread_t thread;
    char address[ADDRESS_TEXT_SIZE]; /* where it listens, or did */
};

struct hosts {
    char directory[PATH_MAX];
    struct host nodes[HOSTS_MOST];
};

/* For cmocka: *state is a struct hosts without any node. */
int hosts_set_up(void **state);
int hosts_tear_down(void **state);
void hosts_rest(void); /* a millisecond */

/* A node with an empty store. */
struct host *host_make(struct hosts *hosts, unsigned index, enum role role);
/* An agent that serves this one store. `listen`, `follow`: NULL for none. */
void host_start(struct host *host, const char *listen, const char *follow);
/* The same step by step, for an agent with several stores or a name. */
void host_open_agent(struct host *host, const char *listen);
void host_add_store(struct host *agent, struct store *store, const char *follow, const char *name);
void host_run_agent(struct host *host);
void host_stop(struct host *host);
/* Node 0, with an INBOX. */
struct host *host_start_master(struct hosts *hosts);
struct host *host_start_replica(struct hosts *hosts, unsigned index, const struct host *upstream);

void host_create(struct host *host, const char *mailbox);
void host_append(struct host *host, const char *mailbox, const char *text);
void host_append_noise(struct host *host, size_t size); /* to INBOX; it cannot be deflated */

struct host_view {
    struct position position;
    uint64_t digest;
    uint64_t store_id;
    uint64_t node_id;
};
struct host_view host_view(struct host *host);
/* Until both are at one position; their digests are the same then. */
void hosts_wait_equal(struct host *a, struct host *b);
void host_assert_sound(struct host *host);

#endif
