/* The follower's side of one connection, as a state machine: events in, actions out. It knows no
 * socket, clock, thread or store.
 *
 * Connected → its own position is looked up (work LOAD) → HELLO → WELCOME → frames are queued and
 * taken in (work APPLY), as many at once as have come while the last ones were; each time an ACK
 * goes out. One work at a time. Every way out goes through close(), once.
 */
#ifndef SHIPLOG_AGENT_SINK_H
#define SHIPLOG_AGENT_SINK_H

#include "agent/protocol.h"

enum sink_work { SINK_LOAD, SINK_APPLY };

struct sink_actions {
    void (*send)(void *context, struct bytes frames);
    /* Answered by sink_loaded() or sink_applied(). For APPLY: `frames` are whole frames, valid
     * until the answer. */
    void (*work)(void *context, enum sink_work work, struct bytes frames);
    void (*close)(void *context, const char *reason);
};

enum sink_state { SINK_LOADING, SINK_GREETING, SINK_TAILING, SINK_CLOSED };

struct sink {
    const struct sink_actions *actions;
    void *context;
    enum sink_state state;
    bool working;
    struct buf queued;   /* frames that wait */
    struct buf applying; /* frames that are being taken in */
    uint64_t consumed;
    int64_t heard;
    int64_t said;
    struct welcome welcome;
    struct position position;
};

void sink_init(struct sink *sink, const struct sink_actions *actions, void *context,
               int64_t now);       /* connected */
void sink_free(struct sink *sink); /* when no work is under way */
void sink_loaded(struct sink *sink, int rc, const struct hello *hello, int64_t now);
/* `raw` are the frame's own bytes, header included. */
void sink_frame(struct sink *sink, const struct frame *frame, struct bytes raw, int64_t now);
void sink_applied(struct sink *sink, int rc, struct position position, int64_t now);
void sink_tick(struct sink *sink, int64_t now);
void sink_broken(struct sink *sink, const char *reason);

#endif
