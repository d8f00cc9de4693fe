/* The libuv edge.
 *
 * Happy path of a follower's connection: accepted (peer_new) → bytes read, frames cut out and given
 * to the source → the source asks for work, which runs in the thread pool and answers on the loop →
 * frames are written. Of an upstream's: the timer dials → connected → the same with a sink.
 *
 * Failure modes: whatever ends a connection goes through end_peer(), which closes the handle; the
 * peer is freed by maybe_free() when the handle is closed and no work is under way, whichever comes
 * last. An upstream that is lost is dialled again after a growing, jittered pause. A commit that
 * wakes nobody (the datagram was lost) is found by the poll timer.
 */
#include "agent/agent.h"

#include "agent/feeder.h"
#include "agent/log.h"
#include "agent/receiver.h"
#include "agent/sink.h"
#include "agent/source.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"
#include "mailbox/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#define POLL_INTERVAL 200u   /* milliseconds */
#define TICK_INTERVAL 1000u  /* milliseconds */
#define SLOT_INTERVAL 10000u /* milliseconds */
#define REDIAL_FIRST 50u     /* milliseconds */
#define REDIAL_MOST 5000u    /* milliseconds */
#define READ_SIZE (64u << 10)
#define BACKLOG 64

struct peer {
    struct agent *agent;
    struct peer *next;
    uv_tcp_t tcp;
    uv_connect_t connect;
    uv_work_t work;
    bool working;
    bool ending;
    bool closed;
    bool is_source;
    struct buf input; /* bytes that are no whole frame yet */
    struct source source;
    struct sink sink;
    struct feeder *feeder;
    struct receiver *receiver;
    struct slot slot;
    bool slot_dirty;
    /* the work under way and its answer */
    int task;
    int rc;
    char message[512];
    struct buf filled;
    bool all;
    struct bytes frames;
    struct hello hello;
    struct welcome welcome;
    struct position position;
};

struct agent {
    uv_loop_t loop;
    struct store *store;
    const char *follow;
    const char *name;
    char address[80];
    struct sockaddr_storage upstream;
    uv_tcp_t listener;
    uv_timer_t poll, tick, slots, redial;
    uv_signal_t term, interrupt;
    uv_poll_t wake;
    int wake_fd;
    bool stopping;
    bool saving;
    uv_work_t save;
    struct slot *to_save;
    size_t to_save_count;
    uint64_t pause; /* milliseconds before the next dial */
    struct peer *peers;
    struct peer *sink; /* the connection to the upstream; NULL: none */
};

static int64_t now_of(struct agent *agent)
{
    return (int64_t)uv_now(&agent->loop) * 1000;
}

static void dial_later(struct agent *agent);

static void peer_unlink(struct peer *peer)
{
    for (struct peer **at = &peer->agent->peers; *at; at = &(*at)->next) {
        if (*at == peer) {
            *at = peer->next;
            return;
        }
    }
}

static void save_slots(struct agent *agent);

static void maybe_free(struct peer *peer)
{
    struct agent *agent = peer->agent;
    if (!peer->closed || peer->working)
        return;
    if (peer->is_source && peer->slot.name[0]) {
        peer->slot.connected = false;
        peer->slot_dirty = true;
        save_slots(agent);
    }
    peer_unlink(peer);
    if (agent->sink == peer) {
        agent->sink = NULL;
        dial_later(agent);
    }
    feeder_close(peer->feeder);
    receiver_close(peer->receiver);
    sink_free(&peer->sink);
    buf_free(&peer->input);
    buf_free(&peer->filled);
    free(peer);
}

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    peer->closed = true;
    maybe_free(peer);
}

static void end_peer(struct peer *peer, const char *reason)
{
    if (peer->ending)
        return;
    peer->ending = true;
    log_info(peer->is_source ? "follower-gone" : "upstream-gone", "reason=\"%s\"", reason);
    uv_close((uv_handle_t *)&peer->tcp, on_closed);
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
        end_peer(write->peer, uv_strerror(status));
    free(write);
}

static void send_bytes(void *context, struct bytes frames)
{
    struct peer *peer = context;
    if (peer->ending)
        return;
    struct write *write = malloc(sizeof *write + frames.size);
    if (!write) {
        end_peer(peer, "out of memory");
        return;
    }
    write->peer = peer;
    memcpy(write->data, frames.data, frames.size);
    uv_buf_t buffer = uv_buf_init((char *)write->data, (unsigned)frames.size);
    int error = uv_write(&write->request, (uv_stream_t *)&peer->tcp, &buffer, 1, on_written);
    if (error) {
        free(write);
        end_peer(peer, uv_strerror(error));
    }
}

static void close_peer(void *context, const char *reason)
{
    end_peer(context, reason);
}

static void acknowledged(void *context, struct position position)
{
    struct peer *peer = context;
    snprintf(peer->slot.name, sizeof peer->slot.name, "%s", peer->source.name);
    peer->slot.position = position;
    peer->slot.time = times_now();
    peer->slot.connected = true;
    peer->slot_dirty = true;
}

/* In the thread pool. */
static void do_source_work(uv_work_t *request)
{
    struct peer *peer = request->data;
    struct store *store = peer->agent->store;
    if (peer->task == SOURCE_CHECK) {
        peer->rc = feeder_check(store, &peer->source.hello, &peer->welcome);
        if (peer->rc == ERR_OK)
            peer->rc = feeder_open(store, peer->source.hello.position.modseq, &peer->feeder);
    } else {
        buf_reset(&peer->filled);
        peer->rc = feeder_fill(peer->feeder, SOURCE_FILL, &peer->filled, &peer->all);
    }
    snprintf(peer->message, sizeof peer->message, "%s", peer->rc ? err_message() : "");
}

static void source_work_done(uv_work_t *request, int status)
{
    struct peer *peer = request->data;
    int64_t now = now_of(peer->agent);
    int rc = status ? ERR_IO : peer->rc;
    peer->working = false;
    if (rc)
        (void)fail(rc, "%s", peer->message);
    if (rc && peer->task == SOURCE_CHECK)
        log_warning("follower-refused", "peer=\"%s\" reason=\"%s\"", peer->source.name,
                    peer->message);
    if (peer->task == SOURCE_CHECK)
        source_checked(&peer->source, rc, &peer->welcome, now);
    else
        source_filled(&peer->source, rc, buf_view(&peer->filled), peer->all, now);
    maybe_free(peer);
}

static void start_source_work(void *context, enum source_work work)
{
    struct peer *peer = context;
    peer->task = (int)work;
    peer->working = true;
    peer->work.data = peer;
    uv_queue_work(&peer->agent->loop, &peer->work, do_source_work, source_work_done);
}

static void do_sink_work(uv_work_t *request)
{
    struct peer *peer = request->data;
    if (peer->task == SINK_LOAD)
        peer->rc = receiver_hello(peer->receiver, &peer->hello);
    else
        peer->rc = receiver_take(peer->receiver, peer->frames, &peer->position);
    snprintf(peer->message, sizeof peer->message, "%s", peer->rc ? err_message() : "");
}

static void sink_work_done(uv_work_t *request, int status)
{
    struct peer *peer = request->data;
    int64_t now = now_of(peer->agent);
    int rc = status ? ERR_IO : peer->rc;
    peer->working = false;
    if (rc)
        (void)fail(rc, "%s", peer->message);
    if (peer->task == SINK_LOAD) {
        peer->hello.name = bytes_text(peer->agent->name);
        sink_loaded(&peer->sink, rc, &peer->hello, now);
    } else {
        sink_applied(&peer->sink, rc, peer->position, now);
    }
    maybe_free(peer);
}

static void start_sink_work(void *context, enum sink_work work, struct bytes frames)
{
    struct peer *peer = context;
    peer->task = (int)work;
    peer->frames = frames;
    peer->working = true;
    peer->work.data = peer;
    if (work == SINK_APPLY)
        receiver_welcome(peer->receiver, &peer->sink.welcome);
    uv_queue_work(&peer->agent->loop, &peer->work, do_sink_work, sink_work_done);
}

static const struct source_actions source_actions = {send_bytes, start_source_work, acknowledged,
                                                     close_peer};
static const struct sink_actions sink_actions = {send_bytes, start_sink_work, close_peer};

static void give_frame(struct peer *peer, const struct frame *frame, struct bytes raw)
{
    int64_t now = now_of(peer->agent);
    if (peer->is_source) {
        source_frame(&peer->source, frame, now);
        return;
    }
    enum sink_state before = peer->sink.state;
    sink_frame(&peer->sink, frame, raw, now);
    if (before != SINK_TAILING && peer->sink.state == SINK_TAILING) {
        peer->agent->pause = REDIAL_FIRST;
        log_info("following", "upstream=%s from=%llu", peer->agent->follow,
                 (unsigned long long)peer->sink.position.modseq);
    }
}

static void cut_frames(struct peer *peer)
{
    struct bytes left = buf_view(&peer->input);
    while (!peer->ending) {
        struct frame frame;
        size_t taken;
        int rc = frame_decode(left, &frame, &taken);
        if (rc == ERR_END)
            break;
        if (rc) {
            end_peer(peer, err_message());
            return;
        }
        give_frame(peer, &frame, bytes_of(left.data, taken));
        left = bytes_of(left.data + taken, left.size - taken);
    }
    if (left.size)
        memmove(peer->input.data, left.data, left.size);
    peer->input.size = left.size;
}

static void on_room(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    struct peer *peer = handle->data;
    (void)suggested;
    uint8_t *room = buf_reserve(&peer->input, READ_SIZE);
    *buffer = uv_buf_init((char *)room, room ? READ_SIZE : 0);
    if (room)
        peer->input.size -= READ_SIZE;
}

static void on_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *buffer)
{
    struct peer *peer = stream->data;
    (void)buffer;
    if (got < 0) {
        end_peer(peer, got == UV_EOF ? "the other end closed" : uv_strerror((int)got));
        return;
    }
    peer->input.size += (size_t)got;
    cut_frames(peer);
}

static struct peer *peer_new(struct agent *agent, bool is_source)
{
    struct peer *peer = calloc(1, sizeof *peer);
    if (!peer)
        return NULL;
    peer->agent = agent;
    peer->is_source = is_source;
    uv_tcp_init(&agent->loop, &peer->tcp);
    peer->tcp.data = peer;
    peer->next = agent->peers;
    agent->peers = peer;
    return peer;
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct agent *agent = listener->data;
    if (status < 0 || agent->stopping)
        return;
    struct peer *peer = peer_new(agent, true);
    if (!peer)
        return;
    source_init(&peer->source, &source_actions, peer, now_of(agent));
    int error = uv_accept(listener, (uv_stream_t *)&peer->tcp);
    if (!error)
        error = uv_read_start((uv_stream_t *)&peer->tcp, on_room, on_read);
    uv_tcp_nodelay(&peer->tcp, 1);
    if (error)
        end_peer(peer, uv_strerror(error));
}

static void on_connected(uv_connect_t *request, int status)
{
    struct peer *peer = request->data;
    if (peer->ending)
        return;
    int error = status ? status : uv_read_start((uv_stream_t *)&peer->tcp, on_room, on_read);
    if (error) {
        end_peer(peer, uv_strerror(error));
        return;
    }
    uv_tcp_nodelay(&peer->tcp, 1);
    sink_init(&peer->sink, &sink_actions, peer, now_of(peer->agent));
}

static void dial(uv_timer_t *timer)
{
    struct agent *agent = timer->data;
    if (agent->stopping || agent->sink)
        return;
    struct peer *peer = peer_new(agent, false);
    if (!peer || receiver_open(agent->store, agent->follow, &peer->receiver) != ERR_OK) {
        dial_later(agent);
        return;
    }
    agent->sink = peer;
    /* Not tailing until it is: a tick must not take it for silent. */
    peer->sink.state = SINK_CLOSED;
    peer->connect.data = peer;
    int error = uv_tcp_connect(&peer->connect, &peer->tcp,
                               (const struct sockaddr *)&agent->upstream, on_connected);
    if (error)
        end_peer(peer, uv_strerror(error));
}

static void dial_later(struct agent *agent)
{
    uint64_t jitter;
    if (agent->stopping)
        return;
    hash_random(&jitter, sizeof jitter);
    uv_timer_start(&agent->redial, dial, agent->pause / 2 + jitter % (agent->pause / 2 + 1), 0);
    agent->pause = agent->pause * 2 < REDIAL_MOST ? agent->pause * 2 : REDIAL_MOST;
}

static void tell_sources(struct agent *agent)
{
    for (struct peer *peer = agent->peers; peer; peer = peer->next)
        if (peer->is_source && !peer->ending)
            source_changed(&peer->source);
}

static void on_poll(uv_timer_t *timer)
{
    tell_sources(timer->data);
}

static void on_wake(uv_poll_t *poll, int status, int events)
{
    struct agent *agent = poll->data;
    char drop[64];
    (void)status;
    (void)events;
    while (recv(agent->wake_fd, drop, sizeof drop, MSG_DONTWAIT) >= 0)
        continue;
    tell_sources(agent);
}

static void on_tick(uv_timer_t *timer)
{
    struct agent *agent = timer->data;
    struct peer *next;
    for (struct peer *peer = agent->peers; peer; peer = next) {
        next = peer->next;
        if (peer->is_source)
            source_tick(&peer->source, now_of(agent));
        else if (peer->sink.actions)
            sink_tick(&peer->sink, now_of(agent));
    }
}

static int write_slots(struct tx *tx, void *arg)
{
    struct agent *agent = arg;
    int rc = ERR_OK;
    for (size_t i = 0; i < agent->to_save_count && rc == ERR_OK; i++)
        rc = slot_put(tx_db(tx), &agent->to_save[i]);
    return rc;
}

static void do_save(uv_work_t *request)
{
    struct agent *agent = request->data;
    if (store_maintain(agent->store, write_slots, agent))
        log_warning("slots-not-written", "reason=\"%s\"", err_message());
}

static void saved(uv_work_t *request, int status)
{
    struct agent *agent = request->data;
    (void)status;
    agent->saving = false;
    free(agent->to_save);
    agent->to_save = NULL;
}

static void save_slots(struct agent *agent)
{
    size_t count = 0;
    for (struct peer *peer = agent->peers; peer; peer = peer->next)
        count += peer->slot_dirty;
    if (agent->saving || !count)
        return;
    agent->to_save = calloc(count, sizeof *agent->to_save);
    if (!agent->to_save)
        return;
    agent->to_save_count = 0;
    for (struct peer *peer = agent->peers; peer; peer = peer->next) {
        if (!peer->slot_dirty)
            continue;
        agent->to_save[agent->to_save_count++] = peer->slot;
        peer->slot_dirty = false;
    }
    agent->saving = true;
    agent->save.data = agent;
    uv_queue_work(&agent->loop, &agent->save, do_save, saved);
}

static void on_slots(uv_timer_t *timer)
{
    save_slots(timer->data);
}

static void close_handle(uv_handle_t *handle)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

static void stop(struct agent *agent)
{
    struct peer *next;
    if (agent->stopping)
        return;
    agent->stopping = true;
    log_info("stopping", "store=%s", store_path(agent->store));
    if (agent->address[0])
        close_handle((uv_handle_t *)&agent->listener);
    close_handle((uv_handle_t *)&agent->poll);
    close_handle((uv_handle_t *)&agent->tick);
    close_handle((uv_handle_t *)&agent->slots);
    close_handle((uv_handle_t *)&agent->redial);
    close_handle((uv_handle_t *)&agent->term);
    close_handle((uv_handle_t *)&agent->interrupt);
    close_handle((uv_handle_t *)&agent->wake);
    for (struct peer *peer = agent->peers; peer; peer = next) {
        next = peer->next;
        end_peer(peer, "this agent stops");
    }
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    stop(handle->data);
}

/* ADDRESS:PORT, [ADDRESS]:PORT; numbers only: names are looked up by nobody here. */
static int parse_address(const char *text, struct sockaddr_storage *address)
{
    char host[64];
    const char *colon = strrchr(text, ':');
    size_t size = colon ? (size_t)(colon - text) : 0;
    char *end = NULL;
    long port = colon ? strtol(colon + 1, &end, 10) : -1;
    if (!colon || !colon[1] || *end || port < 0 || port > 65535 || size == 0 || size >= sizeof host)
        return fail(ERR_INVALID, "%s: not ADDRESS:PORT", text);
    bool brackets = text[0] == '[' && text[size - 1] == ']';
    snprintf(host, sizeof host, "%.*s", (int)(brackets ? size - 2 : size), text + brackets);
    if (strcmp(host, "localhost") == 0)
        snprintf(host, sizeof host, "127.0.0.1");
    *address = (struct sockaddr_storage){0};
    if (uv_ip4_addr(host, (int)port, (struct sockaddr_in *)address) == 0) {
        if ((ntohl(((struct sockaddr_in *)address)->sin_addr.s_addr) >> 24) == 127)
            return ERR_OK;
    } else if (uv_ip6_addr(host, (int)port, (struct sockaddr_in6 *)address) == 0) {
        if (IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)address)->sin6_addr))
            return ERR_OK;
    } else {
        return fail(ERR_INVALID, "%s: not ADDRESS:PORT", text);
    }
    return fail(ERR_REFUSED, "%s: not loopback: mail would travel in plain text", text);
}

static int start_listening(struct agent *agent, const char *text)
{
    struct sockaddr_storage address;
    struct sockaddr_storage bound = {0};
    int size = sizeof bound;
    char host[64];
    int rc = parse_address(text, &address);
    if (rc)
        return rc;
    uv_tcp_init(&agent->loop, &agent->listener);
    agent->listener.data = agent;
    int error = uv_tcp_bind(&agent->listener, (struct sockaddr *)&address, 0);
    if (!error)
        error = uv_listen((uv_stream_t *)&agent->listener, BACKLOG, on_connection);
    if (!error)
        error = uv_tcp_getsockname(&agent->listener, (struct sockaddr *)&bound, &size);
    if (error) {
        uv_close((uv_handle_t *)&agent->listener, NULL);
        return fail(ERR_IO, "%s: %s", text, uv_strerror(error));
    }
    bool six = bound.ss_family == AF_INET6;
    uv_ip_name((struct sockaddr *)&bound, host, sizeof host);
    unsigned port = ntohs(six ? ((struct sockaddr_in6 *)&bound)->sin6_port
                              : ((struct sockaddr_in *)&bound)->sin_port);
    snprintf(agent->address, sizeof agent->address, six ? "[%s]:%u" : "%s:%u", host, port);
    return ERR_OK;
}

static int open_wake(struct agent *agent)
{
    int directory = db_directory_fd(store_db(agent->store));
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory,
             STORE_WAKE_SOCKET);
    agent->wake_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (agent->wake_fd < 0)
        return fail_errno("wake socket");
    if (connect(agent->wake_fd, (struct sockaddr *)&address, sizeof address) == 0) {
        close(agent->wake_fd);
        return fail(ERR_REFUSED, "%s: an agent of this store runs already",
                    store_path(agent->store));
    }
    /* What a dead agent left. */
    unlinkat(directory, STORE_WAKE_SOCKET, 0);
    if (bind(agent->wake_fd, (struct sockaddr *)&address, sizeof address) != 0) {
        int rc = fail_errno("%s/%s", store_path(agent->store), STORE_WAKE_SOCKET);
        close(agent->wake_fd);
        return rc;
    }
    return ERR_OK;
}

static int get_role(struct tx *tx, void *arg)
{
    *(enum role *)arg = tx_node(tx)->role;
    return ERR_OK;
}

static int check_options(const struct agent_options *options, struct sockaddr_storage *upstream)
{
    enum role role;
    if (!options->follow)
        return ERR_OK;
    int rc = parse_address(options->follow, upstream);
    if (rc == ERR_OK)
        rc = store_read(options->store, get_role, &role);
    if (rc == ERR_OK && role == ROLE_MASTER)
        rc = fail(ERR_REFUSED, "%s: a master follows nobody", store_path(options->store));
    return rc;
}

static void start_handles(struct agent *agent)
{
    uv_timer_init(&agent->loop, &agent->poll);
    uv_timer_init(&agent->loop, &agent->tick);
    uv_timer_init(&agent->loop, &agent->slots);
    uv_timer_init(&agent->loop, &agent->redial);
    uv_signal_init(&agent->loop, &agent->term);
    uv_signal_init(&agent->loop, &agent->interrupt);
    uv_poll_init(&agent->loop, &agent->wake, agent->wake_fd);
    agent->poll.data = agent->tick.data = agent->slots.data = agent->redial.data = agent;
    agent->term.data = agent->interrupt.data = agent->wake.data = agent;
    uv_timer_start(&agent->poll, on_poll, POLL_INTERVAL, POLL_INTERVAL);
    uv_timer_start(&agent->tick, on_tick, TICK_INTERVAL, TICK_INTERVAL);
    uv_timer_start(&agent->slots, on_slots, SLOT_INTERVAL, SLOT_INTERVAL);
    uv_signal_start(&agent->term, on_signal, SIGTERM);
    uv_signal_start(&agent->interrupt, on_signal, SIGINT);
    uv_poll_start(&agent->wake, UV_READABLE, on_wake);
    if (agent->follow)
        uv_timer_start(&agent->redial, dial, 0, 0);
}

int agent_open(const struct agent_options *options, struct agent **out)
{
    *out = NULL;
    struct agent *agent = calloc(1, sizeof *agent);
    if (!agent)
        return fail(ERR_NOMEM, "out of memory");
    agent->store = options->store;
    agent->follow = options->follow;
    agent->name = options->name;
    agent->pause = REDIAL_FIRST;
    int rc = check_options(options, &agent->upstream);
    if (rc == ERR_OK)
        rc = content_sweep(store_db(agent->store), NULL);
    if (rc == ERR_OK)
        rc = open_wake(agent);
    if (rc) {
        free(agent);
        return rc;
    }
    uv_loop_init(&agent->loop);
    rc = options->listen ? start_listening(agent, options->listen) : ERR_OK;
    if (rc == ERR_OK)
        start_handles(agent);
    if (rc) {
        agent_close(agent);
        return rc;
    }
    *out = agent;
    return ERR_OK;
}

const char *agent_address(const struct agent *agent)
{
    return agent->address;
}

int agent_run(struct agent *agent)
{
    /* Peers that went while slots were being written may have left theirs: stop() is followed by
     * closing, and closing writes them. */
    uv_run(&agent->loop, UV_RUN_DEFAULT);
    return ERR_OK;
}

void agent_close(struct agent *agent)
{
    if (!agent)
        return;
    uv_run(&agent->loop, UV_RUN_DEFAULT);
    uv_loop_close(&agent->loop);
    unlinkat(db_directory_fd(store_db(agent->store)), STORE_WAKE_SOCKET, 0);
    close(agent->wake_fd);
    free(agent);
}
