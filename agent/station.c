/* One store in the agent's care: it notices commits, remembers how far the followers are, keeps the
 * journal's window within its limits, and keeps a connection to the upstream.
 *
 * Happy path: a commit's datagram makes the wake socket readable → the followers' peers are told.
 * An acknowledgement changes the follower's mooring; what changed is written as slots in one
 * transaction, every ten seconds, when a follower comes or goes, and at once while somebody waits
 * for them (mailbox/wait.h). Of a store that follows: the redial timer dials → the peer is welcomed
 * → station_following(). Every ten seconds the store's policy for the window is carried out, a
 * file's worth at a time.
 *
 * Failure modes: a commit whose datagram was lost is found by polling, as long as there are
 * followers; a change of role, or an older data file that was put back, within ten seconds. Slots
 * that cannot be written are tried again with the next ones. An upstream that is lost, refuses or
 * cannot be reached is dialled again after a pause that grows while connections do not last.
 */
#include "agent/agent.h"
#include "agent/edge.h"
#include "agent/log.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/times.h"
#include "mailbox/draft.h"
#include "mailbox/role.h"
#include "mailbox/retain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_INTERVAL 200u            /* milliseconds */
#define KEEP_INTERVAL 10000u          /* milliseconds */
#define TELL_AGAIN INT64_C(600000000) /* microseconds before the same trouble is logged again */

/* What the followers may have, and what this store may follow. */

/* Whoever was named at the start, else whom the store names, when that is an address. */
static int begin_following(struct station *station, const char *follow)
{
    struct duty *duty = &station->duty;
    int rc = upstream_look(station->store, duty);
    if (rc)
        return rc;
    if (!*follow && station->follow_fd < 0 && !station->once && duty->role == ROLE_REPLICA &&
        address_to_follow(duty->master, &station->address) == ERR_OK)
        follow = duty->master;
    upstream_init(&station->upstream, follow, duty);
    return ERR_OK;
}

static int take_options(struct station *station, const struct agent_store *options)
{
    const char *name = options->name ? options->name : "";
    const char *follow = options->follow ? options->follow : "";
    station->follow_fd = -1;
    station->wanted_store = options->wanted_store;
    station->once = options->once;
    station->beside = options->beside;
    if (options->follow_by_fd) {
        station->follow_fd = options->follow_fd;
        follow = name;
        name = "";
    }
    if (strlen(name) >= sizeof station->name)
        return fail(ERR_INVALID, "a name of more than %u bytes", PEER_NAME_MAX);
    if (strlen(follow) >= sizeof station->upstream.follow)
        return fail(ERR_INVALID, "an address of more than %u bytes", PEER_MAX_SIZE);
    snprintf(station->name, sizeof station->name, "%s", name);
    if (!options->follow_by_fd && *follow) {
        int rc = address_to_follow(follow, &station->address);
        if (rc)
            return rc;
    }
    return begin_following(station, follow);
}

/* What an agent before this one may have left. */
static int tidy_up(struct station *station)
{
    int rc = draft_sweep(store_db(station->store), NULL);
    return rc ? rc : moorings_disconnect(station->store);
}

int station_open(struct agent *agent, const struct agent_store *options, struct station **out)
{
    struct station *station = calloc(1, sizeof *station);
    *out = NULL;
    if (!station)
        return fail(ERR_NOMEM, "out of memory");
    station->agent = agent;
    station->store = options->store;
    int rc =
        store_is_relaxed(options->store)
            ? fail(ERR_REFUSED, "%s: opened relaxed: its commits could be acknowledged too early",
                   store_path(options->store))
            : take_options(station, options);
    if (rc == ERR_OK && !station->beside)
        rc = wake_open(store_db(station->store), &station->wake);
    if (rc) {
        free(station);
        return rc;
    }
    rc = station->beside ? ERR_OK : tidy_up(station);
    if (rc) {
        wake_close(&station->wake);
        free(station);
        return rc;
    }
    *out = station;
    return ERR_OK;
}

/* Noticing commits. */

static bool is_follower(const struct peer *peer, const struct station *station)
{
    return peer->is_source && !peer->ending && peer->station == station;
}

static void tell_followers(struct station *station)
{
    for (struct peer *peer = station->agent->peers; peer; peer = peer->next)
        if (is_follower(peer, station))
            peer_changed(peer);
}

static void dial(uv_timer_t *timer);

/* Roles change by command: a node that was promoted stops following, one that was demoted follows
 * whom it was told to. A data file may be put back: from where that ends the upstream is followed
 * anew. */

static int find_followed(struct tx *tx, void *arg)
{
    const struct position *followed = arg;
    return position_equal(*followed, tx_window(tx)->last) ? ERR_OK
                                                          : journal_holds(tx_db(tx), *followed);
}

static void do_look(uv_work_t *request)
{
    struct station *station = request->data;
    (void)upstream_look(station->store, &station->duty);
    station->strayed = station->followed.modseq &&
                       store_read(station->store, find_followed, &station->followed) == ERR_END;
}

/* Whom the store names is followed, when that is an address. */
static void take_duty(struct station *station)
{
    const char *master = station->duty.master;
    struct sockaddr_storage address;
    if (!upstream_take_duty(&station->upstream, &station->duty) ||
        address_to_follow(master, &address) != ERR_OK)
        return;
    upstream_follow(&station->upstream, master);
    station->address = address;
    if (station->sink)
        peer_end(station->sink, "another upstream is to be followed");
}

static void look(struct station *station);

static void looked(uv_work_t *request, int status)
{
    struct station *station = request->data;
    (void)status;
    station->looking = false;
    if (station->agent->stopping)
        return;
    take_duty(station);
    if (station->sink && upstream_is_over(&station->upstream))
        peer_end(station->sink, "this node was promoted");
    else if (station->sink && station->strayed)
        peer_end(station->sink, "the journal here was replaced");
    if (station->upstream.follow[0] && !station->sink &&
        !uv_is_active((uv_handle_t *)&station->redial))
        uv_timer_start(&station->redial, dial, 0, 0);
    if (station->look_again)
        look(station);
}

static void look(struct station *station)
{
    station->look_again = station->looking;
    if (station->looking)
        return;
    station->looking = true;
    station->followed = station->sink ? sink_followed(&station->sink->sink) : (struct position){0};
    uv_queue_work(&station->agent->loop, &station->look_work, do_look, looked);
}

static void changed(struct station *station)
{
    tell_followers(station);
    if (!station->once)
        look(station);
}

static void await_followers(struct station *station);

static void on_wake(uv_poll_t *handle, int status, int events)
{
    struct station *station = handle->data;
    (void)status;
    (void)events;
    struct wake_words words = wake_drain(&station->wake);
    if (words.waiting)
        await_followers(station);
    if (words.changed)
        changed(station);
}

void station_applied(struct station *station)
{
    if (station->beside)
        store_wake_agent(station->store, WAKE_CHANGED);
    changed(station);
}

static int get_last(struct tx *tx, void *arg)
{
    *(struct position *)arg = tx_window(tx)->last;
    return ERR_OK;
}

static void do_poll(uv_work_t *request)
{
    struct station *station = request->data;
    /* What is wrong with the store is found out by those who need it. */
    (void)store_read(station->store, get_last, &station->polled);
}

static void polled(uv_work_t *request, int status)
{
    struct station *station = request->data;
    (void)status;
    station->polling = false;
    if (position_equal(station->polled, station->seen))
        return;
    station->seen = station->polled;
    tell_followers(station);
}

static void on_poll(uv_timer_t *timer)
{
    struct station *station = timer->data;
    const struct peer *peer = station->agent->peers;
    while (peer && !is_follower(peer, station))
        peer = peer->next;
    if (!peer) {
        uv_timer_stop(timer);
    } else if (!station->polling) {
        station->polling = true;
        uv_queue_work(&station->agent->loop, &station->poll_work, do_poll, polled);
    }
}

/* Followers. */

static void do_save(uv_work_t *request)
{
    struct station *station = request->data;
    station->save_failed = moorings_write(&station->moorings, station->store) != ERR_OK;
    if (station->save_failed)
        log_warning("slots-not-written", "store=%s reason=\"%s\"", store_path(station->store),
                    err_message());
}

static void on_save(uv_timer_t *timer);

/* Unless that is due sooner anyway. UINT64_MAX: never. */
static void save_within(struct station *station, uint64_t milliseconds)
{
    const uv_handle_t *saver = (const uv_handle_t *)&station->saver;
    if (station->agent->stopping || milliseconds == UINT64_MAX)
        return;
    if (!uv_is_active(saver) || uv_timer_get_due_in(&station->saver) > milliseconds)
        uv_timer_start(&station->saver, on_save, milliseconds, 0);
}

/* At once. Whether there is anything to save. */
static bool save_dirty(struct station *station)
{
    bool dirty = moorings_dirty(&station->moorings);
    if (dirty)
        save_within(station, 0);
    return dirty;
}

static void await_followers(struct station *station)
{
    moorings_await(&station->moorings, agent_now(station->agent));
    save_dirty(station);
}

static void keep(struct station *station);

static void saved(uv_work_t *request, int status)
{
    struct station *station = request->data;
    int64_t now = agent_now(station->agent);
    (void)status;
    save_within(station, moorings_saved(&station->moorings, station->save_failed, now));
    if (station->keep_next)
        keep(station);
}

static void on_save(uv_timer_t *timer)
{
    struct station *station = timer->data;
    if (station->moorings.to_save)
        save_within(station, POLL_INTERVAL);
    else if (moorings_collect(&station->moorings))
        uv_queue_work(&station->agent->loop, &station->save_work, do_save, saved);
}

bool station_admit(struct station *station, struct peer *peer)
{
    const struct verdict *verdict = &peer->source_job.verdict;
    for (struct peer *other = station->agent->peers; other; other = other->next)
        if (other != peer && is_follower(other, station) &&
            source_job_replaces(&peer->source_job, &other->source))
            peer_end(other, "the same follower connected again");
    if (verdict->judgement == JUDGE_REFUSE)
        return false;
    if (!uv_is_active((const uv_handle_t *)&station->poll))
        uv_timer_start(&station->poll, on_poll, POLL_INTERVAL, POLL_INTERVAL);
    return true;
}

void station_acknowledged(struct station *station, const char *name, struct position position)
{
    save_within(station, moorings_acknowledged(&station->moorings, name, position,
                                               agent_now(station->agent), times_now()));
}

void station_follower_gone(struct station *station, const char *name)
{
    if (moorings_gone(&station->moorings, name))
        save_within(station, 0);
}

/* The window. */

struct lookout {
    const struct station *station;
    uint64_t base; /* of the window, before it was cut */
};

static int get_base(struct tx *tx, void *arg)
{
    struct lookout *lookout = arg;
    lookout->base = tx_window(tx)->base.modseq;
    return ERR_OK;
}

/* Those that the window reached before, and does not any more. */
static int tell_lost(struct tx *tx, void *arg)
{
    const struct lookout *lookout = arg;
    struct slot slot = {0};
    int rc;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK)
        if (slot.position.modseq >= lookout->base &&
            slot.position.modseq < tx_window(tx)->base.modseq)
            log_warning("slot-lost", "store=%s name=\"%s\" position=%llu first=%llu",
                        store_path(lookout->station->store), slot.name,
                        (unsigned long long)slot.position.modseq,
                        (unsigned long long)tx_window(tx)->base.modseq + 1);
    return rc == ERR_END ? ERR_OK : rc;
}

static void do_keep(uv_work_t *request)
{
    struct station *station = request->data;
    struct lookout lookout = {.station = station};
    struct retained done = {0};
    int before = station->kept;
    int rc = store_read(station->store, get_base, &lookout);
    if (rc == ERR_OK)
        rc = store_retain(station->store, times_now(), false, &done);
    if (rc == ERR_OK && done.trimmed)
        rc = store_read(station->store, tell_lost, &lookout);
    station->kept = rc;
    if (rc && rc != ERR_BUSY && rc != before)
        log_warning("window-not-cut", "store=%s reason=\"%s\"", store_path(station->store),
                    err_message());
    if (done.trimmed)
        log_info("window-cut", "store=%s trimmed=%llu archived=%llu", store_path(station->store),
                 (unsigned long long)done.trimmed, (unsigned long long)done.archived);
}

static void kept(uv_work_t *request, int status)
{
    struct station *station = request->data;
    (void)status;
    station->keeping = false;
}

static void keep(struct station *station)
{
    station->keep_next = false;
    if (station->keeping || station->agent->stopping)
        return;
    station->keeping = true;
    uv_queue_work(&station->agent->loop, &station->keep_work, do_keep, kept);
}

/* Slots hold the window, so they say first where the followers are by now. */
static void on_keep(uv_timer_t *timer)
{
    struct station *station = timer->data;
    station->keep_next = save_dirty(station);
    if (!station->keep_next)
        keep(station);
    if (!station->once)
        look(station);
}

/* Following. */

static void dial_later(struct station *station);

static void note_trouble(struct station *station, const char *reason)
{
    int64_t now = agent_now(station->agent);
    bool news = strcmp(station->trouble, reason) != 0 || now - station->told >= TELL_AGAIN;
    snprintf(station->trouble, sizeof station->trouble, "%s", reason);
    if (!news)
        return;
    station->told = now;
    log_warning("upstream-gone", "store=%s upstream=%s reason=\"%s\"", store_path(station->store),
                station->upstream.follow, reason);
}

static void dial(uv_timer_t *timer)
{
    struct station *station = timer->data;
    if (peer_dial(station, &station->sink) == ERR_OK)
        return;
    station_upstream_gone(station, err_message());
    station_upstream_freed(station);
}

static void dial_later(struct station *station)
{
    uint64_t random;
    if (station->agent->stopping)
        return;
    hash_random(&random, sizeof random);
    uv_timer_start(&station->redial, dial, upstream_pause(&station->upstream, random), 0);
}

void station_repairing(struct station *station, const char *reason)
{
    if (station->once) {
        station->once->tier = SYNC_MERGE; /* the plan tells why */
        return;
    }
    log_warning("repair", "store=%s upstream=%s reason=\"%s\"", store_path(station->store),
                station->upstream.follow, reason);
}

/* One pass is through. */
void station_caught_up(struct station *station)
{
    struct sync *once = station->once;
    const struct sink *sink = &station->sink->sink;
    if (!once || once->done)
        return;
    once->done = true;
    once->position = sink->applied;
    once->wire_bytes = station->sink->wire_bytes;
    once->waiting = !position_equal(sink->applied, sink->position);
    agent_end(station->agent);
}

void station_following(struct station *station, const struct welcome *welcome)
{
    station->trouble[0] = '\0';
    upstream_welcomed(&station->upstream, agent_now(station->agent));
    uint64_t behind = welcome->last.modseq - station->sink->sink.position.modseq;
    if (station->once) {
        if (behind && station->once->tier == SYNC_NONE)
            station->once->tier = SYNC_TAIL;
        station->once->sent += station->once->dry_run ? 0 : behind;
        /* Equal digests end it at once. */
        bool equal = behind == 0 && welcome->digest == station->sink->sink.digest;
        if (station->once->dry_run || equal)
            station_caught_up(station);
        return;
    }
    log_info("following", "store=%s upstream=%s node=%016llx behind=%llu",
             store_path(station->store), station->upstream.follow,
             (unsigned long long)welcome->node_id, (unsigned long long)behind);
}

static void do_fence(uv_work_t *request)
{
    struct station *station = request->data;
    if (store_fence(station->store, FENCE_EPOCH, station->later_epoch))
        log_warning("not-fenced", "store=%s reason=\"%s\"", store_path(station->store),
                    err_message());
    else
        log_warning("fenced", "store=%s reason=\"another node was promoted\"",
                    store_path(station->store));
}

static void fenced(uv_work_t *request, int status)
{
    struct station *station = request->data;
    (void)status;
    station->fencing = false;
}

void station_fence(struct station *station, uint32_t epoch)
{
    if (station->fencing || station->upstream.duty.fence == FENCE_EPOCH || station->agent->stopping)
        return;
    station->fencing = true;
    station->later_epoch = epoch;
    uv_queue_work(&station->agent->loop, &station->fence_work, do_fence, fenced);
}

void station_upstream_gone(struct station *station, const char *reason)
{
    upstream_gone(&station->upstream, agent_now(station->agent));
    if (station->once) {
        station->once->refused = station->sink && station->sink->sink.refused;
        if (!station->once->done)
            snprintf(station->once->trouble, sizeof station->once->trouble, "%s", reason);
        agent_end(station->agent);
        return;
    }
    note_trouble(station, reason);
}

void station_upstream_freed(struct station *station)
{
    station->sink = NULL;
    if (!station->once)
        dial_later(station);
}

/* From start to end. */

void station_start(struct station *station)
{
    uv_loop_t *loop = &station->agent->loop;
    if (!station->beside)
        uv_poll_init(loop, &station->waker, station->wake.fd);
    uv_timer_init(loop, &station->poll);
    uv_timer_init(loop, &station->saver);
    uv_timer_init(loop, &station->redial);
    uv_timer_init(loop, &station->keeper);
    station->waker.data = station->poll.data = station->saver.data = station;
    station->redial.data = station->poll_work.data = station->save_work.data = station;
    station->look_work.data = station->fence_work.data = station;
    station->keeper.data = station->keep_work.data = station;
    if (!station->beside)
        uv_poll_start(&station->waker, UV_READABLE, on_wake);
    uv_timer_start(&station->keeper, on_keep, 0, KEEP_INTERVAL);
    if (station->upstream.follow[0] || station->follow_fd >= 0)
        uv_timer_start(&station->redial, dial, 0, 0);
}

void station_stop(struct station *station)
{
    if (!station->beside)
        uv_close((uv_handle_t *)&station->waker, NULL);
    uv_close((uv_handle_t *)&station->poll, NULL);
    uv_close((uv_handle_t *)&station->saver, NULL);
    uv_close((uv_handle_t *)&station->redial, NULL);
    uv_close((uv_handle_t *)&station->keeper, NULL);
}

void station_close(struct station *station)
{
    if (moorings_collect(&station->moorings) && moorings_write(&station->moorings, station->store))
        log_warning("slots-not-written", "store=%s reason=\"%s\"", store_path(station->store),
                    err_message());
    if (!station->beside)
        wake_close(&station->wake);
    moorings_free(&station->moorings);
    free(station);
}
