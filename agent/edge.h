/* The inside of the libuv edge: what agent.c, station.c, peer.c and peer_repair.c know of each
 * other. Private to them.
 *
 * agent.c stands above: it starts, ticks and ends the others, and none of them calls it. A station
 * and its peers are one thing in two files, and call each other: the station dials, wakes and ends
 * peers, a peer tells its station what became of the connection. peer_repair.c stands below peer.c,
 * and says by `repaired` that it is through. Everything is called on the loop. */
#ifndef SHIPLOG_AGENT_EDGE_H
#define SHIPLOG_AGENT_EDGE_H

#include "agent/address.h"
#include "agent/moorings.h"
#include "agent/repairer.h"
#include "agent/sink_job.h"
#include "agent/source_job.h"
#include "agent/sync.h"
#include "agent/upstream.h"
#include "agent/wake.h"

#include <uv.h>

struct agent_store;

/* A connection, whichever side dialled it. */
struct peer {
    struct peer *next;
    struct agent *agent;
    struct station *station; /* NULL: a follower that did not say yet what it wants */
    bool is_source;          /* it is fed from here */
    bool connected;
    bool working; /* work is in the thread pool */
    bool ending;
    const char *lost; /* why the handle was closed without a word; NULL: it was not */
    bool closed;      /* the handle is */
    int64_t since;
    int64_t ended;
    bool is_pipe;
    union {
        uv_tcp_t tcp;
        uv_pipe_t pipe;
        uv_stream_t stream; /* of either */
    };
    uint64_t wire_bytes; /* both ways */
    uv_connect_t connect;
    uv_shutdown_t shutdown;
    uv_work_t work;
    struct frame_parser parser;
    /* of a source */
    struct source source;
    struct source_job source_job;
    struct station *found; /* by a CHECK */
    bool waking;           /* it is being told of a commit */
    bool filled;           /* and has had the frames made at once */
    /* of a sink */
    struct sink sink;
    struct sink_job sink_job;
    /* of a repair (peer_repair.c) */
    struct repairer *repairer;           /* NULL: none is under way */
    void (*repaired)(struct peer *peer); /* the job has its result; may free the peer */
    struct plan plan;
};

/* One store in the agent's care. */
struct station {
    struct station *next;
    struct agent *agent;
    struct store *store;
    bool beside; /* another agent has the wake socket */
    struct wake wake;
    uv_poll_t waker;
    uv_timer_t poll;
    uv_timer_t saver;
    uv_timer_t redial;
    /* polling */
    uv_work_t poll_work;
    bool polling;
    struct position polled; /* by the last poll */
    struct position seen;   /* by the one before */
    /* slots */
    struct moorings moorings;
    uv_work_t save_work;
    bool save_failed;
    /* what the store says of its node */
    uv_work_t look_work;
    bool looking;
    bool look_again; /* something changed meanwhile */
    struct duty duty;
    struct position followed; /* up to here, when the look began; 0: not at all */
    bool strayed;             /* the journal does not hold that any more */
    uv_work_t fence_work;
    bool fencing;
    uint32_t later_epoch; /* number of the one because of which */
    /* cutting the journal's window */
    uv_timer_t keeper;
    uv_work_t keep_work;
    bool keeping;
    bool keep_next; /* when the slots are saved */
    int kept;       /* how the last time ended, so that one trouble is told once */
    /* following */
    struct upstream upstream;
    char name[PEER_NAME_MAX + 1];
    struct sockaddr_storage address; /* its */
    int follow_fd;         /* a connection to the upstream that is there already; -1: none */
    uint64_t wanted_store; /* id, of several that the upstream may have; 0: any */
    struct sync *once;     /* one pass is made, and this filled; NULL: it follows for ever */
    struct peer *sink;
    char trouble[REASON_MAX + 112]; /* why it does not follow; "": it does, or nobody knows yet */
    int64_t told;                   /* when that was logged */
};

struct agent {
    uv_loop_t loop;
    bool started; /* the stations are */
    bool stopping;
    bool listening;
    bool full; /* a connection waits that could not be taken */
    char address[ADDRESS_TEXT_SIZE];
    uv_tcp_t listener;
    uv_timer_t tick;
    uv_signal_t term;
    uv_signal_t interrupt;
    uv_async_t stopper;
    struct station *stations;
    struct peer *peers;
    size_t peer_count;
    unsigned repairs; /* under way */
};

/* Microseconds, the loop's clock. */
static inline int64_t agent_now(const struct agent *agent)
{
    return (int64_t)uv_now(&agent->loop) * 1000;
}

/* As a signal does, and by and by: what calls it goes on. */
static inline void agent_end(struct agent *agent)
{
    uv_async_send(&agent->stopper);
}

int station_open(struct agent *agent, const struct agent_store *options, struct station **station);
void station_start(struct station *station);
void station_stop(struct station *station);  /* closes its handles */
void station_close(struct station *station); /* when the loop has ended */
/* The follower may be fed, so far: false, with another verdict, when its name is taken. */
bool station_admit(struct station *station, struct peer *peer);
void station_acknowledged(struct station *station, const char *name, struct position position);
void station_follower_gone(struct station *station, const char *name);
void station_following(struct station *station, const struct welcome *welcome);
void station_upstream_gone(struct station *station, const char *reason);
void station_upstream_freed(struct station *station);
/* The upstream knows of a later epoch than the one that this node is master of. */
void station_fence(struct station *station, uint32_t epoch);
void station_repairing(struct station *station, const char *reason);
void station_caught_up(struct station *station);
void station_applied(struct station *station); /* a sink's work; it may be that nothing was */

/* ERR_NOMEM: not now; the connection waits. */
int peer_accept(struct agent *agent, uv_stream_t *listener);
/* An error: it could not even be tried. Else every way out ends in station_upstream_freed(). */
int peer_dial(struct station *station, struct peer **peer);
int peer_serve(struct agent *agent, int fd); /* feeds a follower on this socket, which is its own */
void peer_end(struct peer *peer, const char *reason); /* in good order */
void peer_changed(struct peer *peer);                 /* something was committed */
void peer_tick(struct peer *peer);

/* Repairs (peer_repair.c): the work TAKE_IN and HEAL of a source, EQUALISE of a sink. */
bool peer_may_repair(const struct peer *peer); /* not too many are under way */
void peer_take_in(struct peer *peer);
void peer_heal(struct peer *peer);
void peer_equalise(struct peer *peer);

#endif
