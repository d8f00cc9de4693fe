#include "tests/support/hosts.h"

#include "base/err.h"
#include "mailbox/mailbox.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

void hosts_rest(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    nanosleep(&moment, NULL);
}

int hosts_set_up(void **state)
{
    struct hosts *hosts = calloc(1, sizeof *hosts);
    assert_non_null(hosts);
    scratch_make(hosts->directory);
    *state = hosts;
    return 0;
}

struct host *host_make(struct hosts *hosts, unsigned index, enum role role)
{
    struct host *host = &hosts->nodes[index];
    char name[8];
    snprintf(name, sizeof name, "%u", index);
    assert_int_equal(post_store(hosts->directory, name, role, &host->store), ERR_OK);
    return host;
}

static void *run(void *arg)
{
    agent_run(arg);
    return NULL;
}

/* The address may be in use for a moment after its last owner went. */
void host_open_agent(struct host *host, const char *listen)
{
    const struct agent_options options = {.listen = listen};
    int rc = agent_open(&options, &host->agent);
    for (unsigned tries = 0; rc == ERR_IO && tries < HOSTS_WAITS; tries++) {
        hosts_rest();
        rc = agent_open(&options, &host->agent);
    }
    assert_int_equal(rc, ERR_OK);
}

void host_add_store(struct host *agent, struct store *store, const char *follow, const char *name)
{
    const struct agent_store options = {.store = store, .follow = follow, .name = name};
    assert_int_equal(agent_add(agent->agent, &options), ERR_OK);
}

void host_run_agent(struct host *host)
{
    snprintf(host->address, sizeof host->address, "%s", agent_address(host->agent));
    assert_int_equal(pthread_create(&host->thread, NULL, run, host->agent), 0);
}

void host_start(struct host *host, const char *listen, const char *follow)
{
    host_open_agent(host, listen);
    host_add_store(host, host->store, follow, NULL);
    host_run_agent(host);
}

void host_stop(struct host *host)
{
    if (!host->agent)
        return;
    agent_stop(host->agent);
    pthread_join(host->thread, NULL);
    agent_close(host->agent);
    host->agent = NULL;
}

int hosts_tear_down(void **state)
{
    struct hosts *hosts = *state;
    for (unsigned i = 0; i < HOSTS_MOST; i++)
        host_stop(&hosts->nodes[i]);
    for (unsigned i = 0; i < HOSTS_MOST; i++)
        store_close(hosts->nodes[i].store);
    scratch_remove(hosts->directory);
    free(hosts);
    return 0;
}

struct host *host_start_master(struct hosts *hosts)
{
    struct host *master = host_make(hosts, 0, ROLE_MASTER);
    host_create(master, "INBOX");
    host_start(master, "127.0.0.1:0", NULL);
    return master;
}

struct host *host_start_replica(struct hosts *hosts, unsigned index, const struct host *upstream)
{
    struct host *replica = host_make(hosts, index, ROLE_REPLICA);
    host_start(replica, NULL, upstream->address);
    return replica;
}

void host_create(struct host *host, const char *mailbox)
{
    assert_int_equal(post_create(host->store, mailbox), ERR_OK);
}

void host_append(struct host *host, const char *mailbox, const char *text)
{
    assert_int_equal(post_message(host->store, mailbox, bytes_text(text), NULL), ERR_OK);
}

void host_append_noise(struct host *host, size_t size)
{
    static unsigned number;
    assert_int_equal(post_append(host->store, "INBOX", ++number, size), ERR_OK);
}

static int look(struct tx *tx, void *arg)
{
    *(struct host_view *)arg = (struct host_view){.position = tx_window(tx)->last,
                                                  .digest = node_digest(tx_node(tx)),
                                                  .store_id = tx_node(tx)->store_id,
                                                  .node_id = tx_node(tx)->node_id};
    return ERR_OK;
}

struct host_view host_view(struct host *host)
{
    struct host_view view;
    assert_int_equal(store_read(host->store, look, &view), ERR_OK);
    return view;
}

void hosts_wait_equal(struct host *a, struct host *b)
{
    for (unsigned waits = 0; waits < HOSTS_WAITS; waits++) {
        if (position_equal(host_view(a).position, host_view(b).position))
            break;
        hosts_rest();
    }
    assert_true(position_equal(host_view(a).position, host_view(b).position));
    assert_int_equal(host_view(a).digest, host_view(b).digest);
}

void host_assert_sound(struct host *host)
{
    assert_int_equal(post_check(host->store), 0);
}
