/* The follower's side of one connection, as a state machine: events in, actions out. It knows no
 * socket, clock, thread or store.
 *
 * Connected → its own position is looked up (work LOAD) → HELLO → WELCOME → frames are queued and
 * taken in (work APPLY), as many at once as have come while the last ones were; each time an ACK
 * goes out. When nothing is queued it is looked for content that is missing here (work LOOK), from
 * the start of a connection on and again every now and then, and that is asked for. Instead of a
 * WELCOME there may come a REPAIR: the upstream's questions are answered (work ANSWER) → PLAN →
 * this node becomes equal (work EQUALISE, which asks questions by sink_ask()) → LOAD and HELLO
 * again. One work at a time. Every way out goes through close(), once.
 */
#ifndef SHIPLOG_AGENT_SINK_H
#define SHIPLOG_AGENT_SINK_H

#include "agent/talk.h"

/* Microseconds between two searches of missing content. */
#define LOOK_INTERVAL INT64_C(600000000)

enum sink_work {
    SINK_LOAD,    /* this node's greeting. Answered by sink_loaded() */
    SINK_APPLY,   /* take in `frames`. Answered by sink_applied() */
    SINK_LOOK,    /* go on with the search for missing content. Answered by sink_looked() */
    SINK_ANSWER,  /* the question in `frames`. Answered by sink_answered() */
    SINK_EQUALISE /* carry the plan in `frames` out: agent/make_equal.h. Answered by
                     sink_equalised() */
};

/* None of these may call back into the sink before it returns. */
struct sink_actions {
    struct talk_actions talk;
    /* `frames` (whole ones), a question or a plan are valid until the answer. */
    void (*work)(void *context, enum sink_work work, struct bytes frames);
    void (*welcomed)(void *context, const struct welcome *welcome);
    void (*repairing)(void *context, const char *reason); /* a REPAIR came */
    /* All that the upstream had when it welcomed this node is here. May be called again. */
    void (*caught_up)(void *context);
};

/* ANSWERING: the upstream asks. EQUALISING: this side does. */
enum sink_state { SINK_LOADING, SINK_GREETING, SINK_TAILING, SINK_ANSWERING, SINK_EQUALISING };

struct sink {
    struct talk talk;
    const struct sink_actions *actions;
    void *context;
    enum sink_state state; /* the last one, when the talk is closed */
    bool working;
    struct buf queued;    /* frames that wait */
    struct buf applying;  /* frames that are being taken in */
    uint64_t consumed;    /* bytes of frames */
    bool looking;         /* the search for missing content is not through */
    int64_t looked;       /* when it was begun last */
    uint64_t outstanding; /* GUIDs asked for and not answered yet */
    bool master;          /* this node is one, and only asks whether it still is */
    bool dry_run;         /* this node only asks what would be done */
    bool refused;
    enum refusal refusal;
    uint32_t later_epoch; /* number of the one for which this node was refused; 0: none */
    uint64_t node_id;     /* the upstream's */
    uint32_t window;      /* bytes that it may have under way */
    int64_t heartbeat;
    struct position position; /* as acknowledged */
    struct position applied;
    struct position goal; /* the upstream's last when it welcomed this node */
    uint64_t digest;      /* of this node's mail as it greeted */
};

void sink_init(struct sink *sink, const struct sink_actions *actions, void *context,
               int64_t now);       /* connected */
void sink_free(struct sink *sink); /* when no work is under way */
/* rc of this and the next two: not ERR_OK ends the connection with err_message(). */
void sink_loaded(struct sink *sink, int rc, const struct hello *hello, int64_t now);
void sink_frame(struct sink *sink, const struct frame *frame, int64_t now);
struct taken {
    struct position position; /* durable now, and all mailboxes are followed up to here */
    struct position applied;  /* durable now */
    uint64_t answered;        /* GUIDs that had been asked for */
    struct bytes missed;      /* GUIDs of content that is referred to and did not come */
    bool stopped;             /* another mailbox stopped: it must be made equal */
};
void sink_applied(struct sink *sink, int rc, const struct taken *taken, int64_t now);
/* `missing`: GUIDs, at most WANT_MAX; `all`: the search is through. */
void sink_looked(struct sink *sink, int rc, struct bytes missing, bool all, int64_t now);
/* rc: not ERR_OK is told to the upstream, with err_message(). */
void sink_answered(struct sink *sink, int rc, struct bytes answer, int64_t now);
void sink_equalised(struct sink *sink, int rc, int64_t now); /* rc as of sink_loaded() */
/* A question of EQUALISE's; one at a time. Answered by answered(), unless close() comes first. */
void sink_ask(struct sink *sink, struct bytes question, int64_t now);
/* Closed, and this is why: this node is a master, and there is a later epoch than its own. */
bool sink_is_deposed(const struct sink *sink);
/* Up to here the upstream's entries have been taken in; modseq 0 when it does not send them. */
struct position sink_followed(const struct sink *sink);
void sink_tick(struct sink *sink, int64_t now);
/* This side wants to end it: says why to the upstream. */
void sink_end(struct sink *sink, const char *reason);
/* The connection is gone. */
void sink_closed(struct sink *sink, const char *reason);

#endif
