/* The loop, the listener, and the way to the end.
 *
 * Happy path: agent_open() listens → agent_add() for each store → agent_run() starts the stations;
 * connections become peers, which look after themselves; a tick a second tells them the time.
 *
 * The end, by a signal or agent_stop(): nothing new is begun, every peer says why it goes, and the
 * loop runs until the last of them is closed; the tick cuts off those that take too long.
 *
 * Failure modes: a connection that cannot be taken now (memory, too many) waits in the listener's
 * queue until a tick finds room.
 */
#include "agent/agent.h"

#include "agent/edge.h"
#include "agent/log.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TICK_INTERVAL 1000u /* milliseconds */
#define BACKLOG 64          /* connections that wait to be accepted */

static void accept_peer(struct agent *agent)
{
    agent->full = peer_accept(agent, (uv_stream_t *)&agent->listener) != ERR_OK;
    if (agent->full)
        log_warning("connection-waits", "reason=\"%s\"", err_message());
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct agent *agent = listener->data;
    if (status == 0 && !agent->stopping)
        accept_peer(agent);
}

static void on_tick(uv_timer_t *timer)
{
    struct agent *agent = timer->data;
    for (struct peer *peer = agent->peers; peer; peer = peer->next)
        peer_tick(peer);
    if (agent->full && !agent->stopping)
        accept_peer(agent);
}

/* The tick goes on as long as there are peers, but does not keep the loop alive. */
static void stop(struct agent *agent)
{
    if (agent->stopping)
        return;
    agent->stopping = true;
    if (agent->started)
        log_info("stopping", "address=%s", agent->listening ? agent->address : "-");
    if (agent->listening)
        uv_close((uv_handle_t *)&agent->listener, NULL);
    uv_close((uv_handle_t *)&agent->term, NULL);
    uv_close((uv_handle_t *)&agent->interrupt, NULL);
    uv_close((uv_handle_t *)&agent->stopper, NULL);
    uv_unref((uv_handle_t *)&agent->tick);
    for (struct station *station = agent->stations; agent->started && station;
         station = station->next)
        station_stop(station);
    for (struct peer *peer = agent->peers; peer; peer = peer->next)
        peer_end(peer, "the agent there stops");
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    stop(handle->data);
}

static void on_stopper(uv_async_t *async)
{
    stop(async->data);
}

static int listen_on(struct agent *agent, const char *text)
{
    struct sockaddr_storage address;
    struct sockaddr_storage bound = {0};
    int size = sizeof bound;
    int rc = address_to_listen(text, &address);
    if (rc)
        return rc;
    uv_tcp_init(&agent->loop, &agent->listener);
    agent->listener.data = agent;
    agent->listening = true;
    int error = uv_tcp_bind(&agent->listener, (struct sockaddr *)&address, 0);
    if (!error)
        error = uv_listen((uv_stream_t *)&agent->listener, BACKLOG, on_connection);
    if (!error)
        error = uv_tcp_getsockname(&agent->listener, (struct sockaddr *)&bound, &size);
    if (error)
        return fail(ERR_IO, "%s: %s", text, uv_strerror(error));
    address_print(&bound, agent->address);
    return ERR_OK;
}

static int open_handles(struct agent *agent)
{
    uv_timer_init(&agent->loop, &agent->tick);
    uv_signal_init(&agent->loop, &agent->term);
    uv_signal_init(&agent->loop, &agent->interrupt);
    agent->tick.data = agent->term.data = agent->interrupt.data = agent->stopper.data = agent;
    int error = uv_async_init(&agent->loop, &agent->stopper, on_stopper);
    return error ? fail(ERR_IO, "the agent's loop: %s", uv_strerror(error)) : ERR_OK;
}

int agent_open(const struct agent_options *options, struct agent **out)
{
    struct agent *agent = calloc(1, sizeof *agent);
    *out = NULL;
    if (!agent)
        return fail(ERR_NOMEM, "out of memory");
    int error = uv_loop_init(&agent->loop);
    if (error) {
        free(agent);
        return fail(ERR_IO, "the agent's loop: %s", uv_strerror(error));
    }
    int rc = open_handles(agent);
    if (rc == ERR_OK && options->listen)
        rc = listen_on(agent, options->listen);
    if (rc) {
        agent_close(agent);
        return rc;
    }
    *out = agent;
    return ERR_OK;
}

int agent_add(struct agent *agent, const struct agent_store *options)
{
    struct station *station;
    int rc = station_open(agent, options, &station);
    if (rc)
        return rc;
    station->next = agent->stations;
    agent->stations = station;
    return ERR_OK;
}

int agent_serve(struct agent *agent, int fd)
{
    return peer_serve(agent, fd);
}

const char *agent_address(const struct agent *agent)
{
    return agent->address;
}

void agent_run(struct agent *agent)
{
    agent->started = true;
    for (struct station *station = agent->stations; station; station = station->next)
        station_start(station);
    uv_timer_start(&agent->tick, on_tick, TICK_INTERVAL, TICK_INTERVAL);
    uv_signal_start(&agent->term, on_signal, SIGTERM);
    uv_signal_start(&agent->interrupt, on_signal, SIGINT);
    uv_run(&agent->loop, UV_RUN_DEFAULT);
}

void agent_stop(struct agent *agent)
{
    agent_end(agent);
}

void agent_close(struct agent *agent)
{
    if (!agent)
        return;
    stop(agent);
    uv_close((uv_handle_t *)&agent->tick, NULL);
    uv_run(&agent->loop, UV_RUN_DEFAULT);
    uv_loop_close(&agent->loop);
    while (agent->stations) {
        struct station *station = agent->stations;
        agent->stations = station->next;
        station_close(station);
    }
    free(agent);
}
