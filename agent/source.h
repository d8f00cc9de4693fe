/* The upstream's side of one connection, as a state machine: events in, actions out. It knows no
 * socket, clock, thread or store.
 *
 * HELLO → the position is looked up (work CHECK) → WELCOME, then as long as there is something new
 * and the follower has not too much unacknowledged, the next frames are made (work FILL) and sent.
 * One work at a time. Every way out goes through close(), once.
 */
#ifndef SHIPLOG_AGENT_SOURCE_H
#define SHIPLOG_AGENT_SOURCE_H

#include "agent/protocol.h"

#define SOURCE_WINDOW (2u << 20)   /* bytes that a follower may have unacknowledged */
#define SOURCE_FILL (256u << 10)   /* bytes made in one go */
#define HEARTBEAT INT64_C(5000000) /* microseconds of silence before a PING */
#define SILENCE INT64_C(15000000)  /* microseconds of silence that end a connection */

enum source_work { SOURCE_CHECK, SOURCE_FILL_WORK };

struct source_actions {
    void (*send)(void *context, struct bytes frames);
    void (*work)(void *context,
                 enum source_work work); /* answered by source_checked() or source_filled() */
    void (*acknowledged)(void *context, struct position position);
    void (*close)(void *context, const char *reason);
};

enum source_state { SOURCE_WAITING, SOURCE_CHECKING, SOURCE_TAILING, SOURCE_CLOSED };

struct source {
    const struct source_actions *actions;
    void *context;
    enum source_state state;
    bool working;
    bool news; /* the journal may have more than was sent */
    uint64_t sent;
    uint64_t consumed;
    int64_t heard; /* when the follower was heard last */
    int64_t said;
    struct hello hello; /* its name is empty; see `name` */
    char name[PEER_NAME_MAX + 1];
    struct position acknowledged;
};

void source_init(struct source *source, const struct source_actions *actions, void *context,
                 int64_t now);
void source_frame(struct source *source, const struct frame *frame, int64_t now);
/* The answer to SOURCE_CHECK: ERR_OK and what to say, or why not (err_message() is sent along). */
void source_checked(struct source *source, int rc, const struct welcome *welcome, int64_t now);
/* The answer to SOURCE_FILL_WORK: frames, and whether that is all there is. */
void source_filled(struct source *source, int rc, struct bytes frames, bool all, int64_t now);
void source_changed(struct source *source); /* something was committed */
void source_tick(struct source *source, int64_t now);
/* The stream does not hold frames. */
void source_broken(struct source *source, const char *reason);

#endif
