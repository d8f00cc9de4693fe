/* A connection: bytes in, bytes out, work in the thread pool, for one state machine.
 *
 * Happy path of a follower's: accepted → bytes are read, frames cut out of them and given to the
 * source → the source asks for work, which runs in the thread pool and is answered on the loop →
 * frames are written. What was just committed is read on the loop (fill_at_once()). Of the one to
 * an upstream: dialled → connected → the same with a sink.
 *
 * Failure modes: whatever ends a connection goes through the state machine's close action, once:
 * on_close() stops giving frames to it, sends the end of the stream behind what is still to be
 * written, and reads on until the other end has closed too, so that the last words arrive; who
 * takes too long is cut off by peer_tick(). The peer is freed by maybe_free() when its handle
 * is closed and no work is under way, whichever comes last.
 */
#include "agent/edge.h"
#include "agent/log.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_SIZE (64u << 10)
#define PEERS_MAX 1024u          /* connections of one agent */
#define LINGER INT64_C(1000000)  /* microseconds that the other end has to close */
#define CONNECT INT64_C(5000000) /* microseconds for a connection to come about */
#define FOLLOWER_FRAME_MAX (64u << 10)
/* Bytes that wait to be written: all that a follower may have under way. */
#define UNWRITTEN_MAX (SOURCE_WINDOW + SOURCE_FILL_SIZE + 2 * FRAME_MAX_PAYLOAD)
#define FILL_AT_ONCE (16u << 10) /* bytes that are read on the loop, about */

static void maybe_free(struct peer *peer)
{
    struct agent *agent = peer->agent;
    if (!peer->closed || peer->working)
        return;
    struct peer **at = &agent->peers;
    while (*at != peer)
        at = &(*at)->next;
    *at = peer->next;
    agent->peer_count--;
    source_job_free(&peer->source_job);
    sink_job_free(&peer->sink_job);
    source_free(&peer->source);
    sink_free(&peer->sink);
    frame_parser_free(&peer->parser);
    if (!peer->is_source)
        station_upstream_freed(peer->station);
    free(peer);
}

static void on_closed(uv_handle_t *handle);

static void close_handle(struct peer *peer)
{
    if (!uv_is_closing((uv_handle_t *)&peer->stream))
        uv_close((uv_handle_t *)&peer->stream, on_closed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    struct peer *peer = request->data;
    if (status < 0)
        close_handle(peer);
}

static void on_close(void *context, const char *reason)
{
    struct peer *peer = context;
    if (peer->ending)
        return;
    peer->ending = true;
    peer->ended = agent_now(peer->agent);
    if (peer->repairer)
        repairer_cancel(peer->repairer);
    if (!peer->is_source && sink_is_deposed(&peer->sink))
        station_fence(peer->station, peer->sink.later_epoch);
    if (!peer->is_source)
        station_upstream_gone(peer->station, reason);
    else if (peer->station)
        log_info("follower-gone", "store=%s peer=\"%s\" reason=\"%s\"",
                 store_path(peer->station->store), peer->source.name, reason);
    else
        log_warning("follower-refused", "peer=\"%s\" reason=\"%s\"", peer->source.name, reason);
    if (peer->is_source && peer->station)
        station_follower_gone(peer->station, peer->source.name);
    if (peer->is_source && peer->is_pipe)
        agent_end(peer->agent);
    peer->shutdown.data = peer;
    if (!peer->connected || uv_shutdown(&peer->shutdown, &peer->stream, on_shutdown) != 0)
        close_handle(peer);
}

/* The connection is of no use any more, whatever the state machine thinks. */
static void break_off(struct peer *peer, const char *reason)
{
    if (peer->is_source)
        source_closed(&peer->source, reason);
    else if (peer->connected)
        sink_closed(&peer->sink, reason);
    else
        on_close(peer, reason);
    close_handle(peer);
}

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    peer->closed = true;
    if (peer->lost)
        break_off(peer, peer->lost);
    maybe_free(peer);
}

/* For actions of a state machine, which must not be called before they return. */
static void lose(struct peer *peer, const char *why)
{
    peer->lost = why;
    close_handle(peer);
}

void peer_end(struct peer *peer, const char *reason)
{
    if (peer->is_source)
        source_end(&peer->source, reason);
    else if (peer->connected)
        sink_end(&peer->sink, reason);
    else
        on_close(peer, reason);
}

struct write {
    uv_write_t request;
    struct peer *peer;
    uint8_t data[];
};

static void on_written(uv_write_t *request, int status)
{
    struct write *write = (struct write *)request;
    if (status < 0 && status != UV_ECANCELED)
        break_off(write->peer, uv_strerror(status));
    free(write);
}

static void on_send(void *context, struct bytes frames)
{
    struct peer *peer = context;
    if (uv_stream_get_write_queue_size(&peer->stream) > UNWRITTEN_MAX) {
        lose(peer, "it does not read what it asks for");
        return;
    }
    struct write *write = malloc(sizeof *write + frames.size);
    if (!write) {
        lose(peer, "out of memory");
        return;
    }
    write->peer = peer;
    memcpy(write->data, frames.data, frames.size);
    peer->wire_bytes += frames.size;
    uv_buf_t buffer = uv_buf_init((char *)write->data, (unsigned)frames.size);
    if (uv_write(&write->request, &peer->stream, &buffer, 1, on_written) != 0) {
        free(write);
        lose(peer, "it cannot be written to");
    }
}

static void start_work(struct peer *peer, uv_work_cb work, uv_after_work_cb done)
{
    peer->working = true;
    peer->work.data = peer;
    uv_queue_work(&peer->agent->loop, &peer->work, work, done);
}

static int get_store_id(struct tx *tx, void *arg)
{
    *(uint64_t *)arg = tx_node(tx)->store_id;
    return ERR_OK;
}

/* In the thread pool. A follower without a store id gets the only store that there is. */
static struct station *find_station(const struct agent *agent, uint64_t store_id)
{
    struct station *station = agent->stations;
    if (station && !station->next)
        return station;
    for (; station && store_id; station = station->next) {
        uint64_t id = 0;
        if (store_read(station->store, get_store_id, &id) == ERR_OK && id == store_id)
            return station;
    }
    return NULL;
}

static void do_source_work(uv_work_t *request)
{
    struct peer *peer = request->data;
    if (peer->source_job.work == SOURCE_CHECK && !peer->station)
        peer->found = find_station(peer->agent, peer->source.hello.store_id);
    struct station *station = peer->station ? peer->station : peer->found;
    source_job_run(&peer->source_job, station ? station->store : NULL);
}

static const char *said_of(const struct verdict *verdict)
{
    if (verdict->judgement == JUDGE_REPAIR)
        return "repair";
    return verdict->judgement == JUDGE_HEAL ? "heal" : "follower";
}

static void checked(struct peer *peer)
{
    struct verdict *verdict = &peer->source_job.verdict;
    bool asks = verdict->judgement == JUDGE_REPAIR || verdict->judgement == JUDGE_HEAL;
    if (asks && !peer_may_repair(peer))
        feeder_refuse(verdict, REFUSAL_NOT_READY, "too many repairs are under way here");
    if (verdict->judgement == JUDGE_REFUSE || peer->ending || !station_admit(peer->found, peer))
        return;
    peer->station = peer->found;
    /* Who is asked may answer as much as anything. */
    peer->parser.most = asks ? FRAME_MAX_PAYLOAD : FOLLOWER_FRAME_MAX;
    log_info(said_of(verdict), "store=%s peer=\"%s\" from=%llu", store_path(peer->station->store),
             peer->source.name, (unsigned long long)peer->source.hello.position.modseq);
}

/* The job is done, here or in a repair's thread. */
static void source_worked(struct peer *peer)
{
    source_job_end(&peer->source_job, agent_now(peer->agent));
    maybe_free(peer);
}

static void source_work_done(uv_work_t *request, int status)
{
    struct peer *peer = request->data;
    (void)status;
    peer->working = false;
    if (peer->source_job.work == SOURCE_CHECK)
        checked(peer);
    source_worked(peer);
}

/* What was committed a moment ago is in memory: it is read here, because to have another thread
 * read it takes several times as long. Answered when the source has returned. */
static void fill_at_once(struct peer *peer)
{
    peer->source_job.most = FILL_AT_ONCE;
    source_job_run(&peer->source_job, peer->station->store);
    peer->filled = true;
}

static void on_source_work(void *context, enum source_work work)
{
    struct peer *peer = context;
    bool at_once = peer->waking && work == SOURCE_FILL && source_job_is_abreast(&peer->source_job);
    source_job_begin(&peer->source_job, work);
    if (at_once)
        fill_at_once(peer);
    else if (work == SOURCE_TAKE_IN)
        peer_take_in(peer);
    else if (work == SOURCE_HEAL)
        peer_heal(peer);
    else
        start_work(peer, do_source_work, source_work_done);
}

static void on_acknowledged(void *context, struct position position)
{
    struct peer *peer = context;
    station_acknowledged(peer->station, peer->source.name, position);
}

static void do_sink_work(uv_work_t *request)
{
    struct peer *peer = request->data;
    sink_job_run(&peer->sink_job, peer->station->store);
}

/* The job is done, here or in a repair's thread. When that only tried, nothing comes after it. */
static void sink_worked(struct peer *peer)
{
    struct station *station = peer->station;
    struct sink_job *job = &peer->sink_job;
    bool tried = job->work == SINK_EQUALISE && job->rc == ERR_OK && peer->sink.dry_run;
    if (job->work == SINK_APPLY)
        station_applied(station);
    if (tried && !peer->ending)
        station_caught_up(station);
    else
        sink_job_end(job, station->name, station->wanted_store, agent_now(peer->agent));
    maybe_free(peer);
}

static void sink_work_done(uv_work_t *request, int status)
{
    struct peer *peer = request->data;
    (void)status;
    peer->working = false;
    sink_worked(peer);
}

static void on_sink_work(void *context, enum sink_work work, struct bytes frames)
{
    struct peer *peer = context;
    sink_job_begin(&peer->sink_job, work, frames);
    if (work == SINK_EQUALISE)
        peer_equalise(peer);
    else
        start_work(peer, do_sink_work, sink_work_done);
}

static void on_answered(void *context, const struct answered *message)
{
    struct peer *peer = context;
    if (peer->repairer)
        repairer_answer(peer->repairer, message);
}

static void on_repairing(void *context, const char *reason)
{
    struct peer *peer = context;
    station_repairing(peer->station, reason);
}

static void on_caught_up(void *context)
{
    struct peer *peer = context;
    station_caught_up(peer->station);
}

static void on_welcomed(void *context, const struct welcome *welcome)
{
    struct peer *peer = context;
    receiver_welcome(peer->sink_job.receiver, welcome);
    station_following(peer->station, welcome);
}

static const struct source_actions source_actions = {
    {on_send, on_close, on_answered}, on_source_work, on_acknowledged};
static const struct sink_actions sink_actions = {
    {on_send, on_close, on_answered}, on_sink_work, on_welcomed, on_repairing, on_caught_up};

static void give_frames(struct peer *peer)
{
    struct frame frame;
    int rc = ERR_OK;
    while (!peer->ending && (rc = frame_parser_next(&peer->parser, &frame)) == ERR_OK) {
        if (peer->is_source)
            source_frame(&peer->source, &frame, agent_now(peer->agent));
        else
            sink_frame(&peer->sink, &frame, agent_now(peer->agent));
    }
    if (rc && rc != ERR_END)
        peer_end(peer, err_message());
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct peer *peer = handle->data;
    (void)suggested;
    uint8_t *room = frame_parser_room(&peer->parser, READ_SIZE);
    *buffer = uv_buf_init((char *)room, room ? READ_SIZE : 0);
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    struct peer *peer = stream->data;
    (void)buffer;
    if (got < 0) {
        break_off(peer, got == UV_EOF ? "the other end closed" : uv_strerror((int)got));
    } else if (!peer->ending) {
        frame_parser_add(&peer->parser, (size_t)got);
        peer->wire_bytes += (uint64_t)got;
        give_frames(peer);
    }
}

static struct peer *peer_new(struct agent *agent, bool is_source, bool is_pipe)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer || agent->peer_count == PEERS_MAX) {
        free(peer);
        return NULL;
    }
    peer->agent = agent;
    peer->is_source = is_source;
    peer->source_job.source = &peer->source;
    peer->sink_job.sink = &peer->sink;
    peer->repaired = is_source ? source_worked : sink_worked;
    peer->since = agent_now(agent);
    frame_parser_init(&peer->parser, is_source ? HELLO_MAX : FRAME_MAX_PAYLOAD);
    if (is_pipe)
        uv_pipe_init(&agent->loop, &peer->pipe, 0);
    else
        uv_tcp_init(&agent->loop, &peer->tcp);
    peer->is_pipe = is_pipe;
    peer->stream.data = peer;
    peer->next = agent->peers;
    agent->peers = peer;
    agent->peer_count++;
    return peer;
}

static int begin_reading(struct peer *peer)
{
    peer->connected = true;
    if (!peer->is_pipe)
        uv_tcp_nodelay(&peer->tcp, 1);
    return uv_read_start(&peer->stream, on_room, on_read);
}

int peer_accept(struct agent *agent, uv_stream_t *listener)
{
    struct peer *peer = peer_new(agent, true, false);
    if (!peer)
        return fail(ERR_NOMEM, "out of memory, or too many connections");
    source_init(&peer->source, &source_actions, peer, agent_now(agent));
    int error = uv_accept(listener, &peer->stream);
    if (!error)
        error = begin_reading(peer);
    if (error)
        break_off(peer, uv_strerror(error));
    return ERR_OK;
}

static void on_connected(uv_connect_t *request, int status)
{
    struct peer *peer = request->data;
    if (peer->ending)
        return;
    int error = status ? status : begin_reading(peer);
    if (error) {
        peer->connected = false;
        break_off(peer, uv_strerror(error));
        return;
    }
    sink_init(&peer->sink, &sink_actions, peer, agent_now(peer->agent));
}

/* A connection that is there already, as a socket. */
static void connect_pipe(struct peer *peer, int fd)
{
    int error = uv_pipe_open(&peer->pipe, fd);
    on_connected(&peer->connect, error);
}

int peer_serve(struct agent *agent, int fd)
{
    struct peer *peer = peer_new(agent, true, true);
    if (!peer)
        return fail(ERR_NOMEM, "out of memory");
    source_init(&peer->source, &source_actions, peer, agent_now(agent));
    int error = uv_pipe_open(&peer->pipe, fd);
    if (!error)
        error = begin_reading(peer);
    if (error)
        break_off(peer, uv_strerror(error));
    return ERR_OK;
}

int peer_dial(struct station *station, struct peer **out)
{
    struct receiver *receiver;
    *out = NULL;
    int rc = receiver_open(station->store, station->upstream.follow, station->upstream.duty.master,
                           &receiver);
    if (rc)
        return rc;
    struct peer *peer = peer_new(station->agent, false, station->follow_fd >= 0);
    if (!peer) {
        receiver_close(receiver);
        return fail(ERR_NOMEM, "out of memory, or too many connections");
    }
    peer->station = station;
    peer->sink_job.receiver = receiver;
    peer->sink_job.adopt = station->once && station->once->adopt;
    peer->sink_job.dry_run = station->once && station->once->dry_run;
    peer->connect.data = peer;
    *out = peer;
    if (peer->is_pipe) {
        connect_pipe(peer, station->follow_fd);
        return ERR_OK;
    }
    int error = uv_tcp_connect(&peer->connect, &peer->tcp,
                               (const struct sockaddr *)&station->address, on_connected);
    if (error)
        break_off(peer, uv_strerror(error));
    return ERR_OK;
}

void peer_changed(struct peer *peer)
{
    if (!peer->is_source || peer->ending)
        return;
    peer->waking = true;
    source_changed(&peer->source);
    peer->waking = false;
    if (peer->filled) {
        peer->filled = false;
        source_job_end(&peer->source_job, agent_now(peer->agent));
    }
}

void peer_tick(struct peer *peer)
{
    int64_t now = agent_now(peer->agent);
    if (peer->ending) {
        if (now - peer->ended > LINGER)
            close_handle(peer);
    } else if (peer->is_source) {
        source_tick(&peer->source, now);
    } else if (peer->connected) {
        sink_tick(&peer->sink, now);
    } else if (now - peer->since > CONNECT) {
        break_off(peer, "no answer");
    }
}
