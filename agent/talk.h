/* What the two sides of a connection have in common: how they say something, ask and answer, and
 * end. No I/O, no clock.
 *
 * Every way out goes through close(), once; nothing is said behind it.
 */
#ifndef SHIPLOG_AGENT_TALK_H
#define SHIPLOG_AGENT_TALK_H

#include "agent/message.h"

/* What is under way to a follower is bounded; both sides count on it. */
#define SOURCE_WINDOW (2u << 20)         /* bytes */
#define SOURCE_FILL_SIZE (256u << 10)    /* bytes of frames that are made in one go, about */
#define SOURCE_WANTS_MAX (4u * WANT_MAX) /* GUIDs that a follower may wait for */

#define HEARTBEAT INT64_C(5000000) /* microseconds */
#define SILENCE INT64_C(15000000)  /* microseconds of it that end a connection */

/* None of these may call back before it returns. */
struct talk_actions {
    void (*send)(void *context, struct bytes frames); /* copied */
    void (*close)(void *context, const char *reason); /* after what was sent before is on its way */
    /* What the other end answers to talk_ask(); valid until it returns. */
    void (*answered)(void *context, const struct answered *answer);
};

struct talk {
    const struct talk_actions *actions;
    void *context;
    bool closed;
    bool mute;           /* not even why it ends is said: the greeting comes first */
    bool asking;         /* a question of this side's is under way */
    struct buf question; /* of the other side's, that is being answered; or its plan */
    int64_t heard;       /* when the other end was heard last */
    int64_t said;
};

void talk_init(struct talk *talk, const struct talk_actions *actions, void *context, int64_t now);
void talk_free(struct talk *talk);
/* Sends and frees what was encoded; ends it when that failed. */
void talk_send(struct talk *talk, struct buf *out, int64_t now);
void talk_ping(struct talk *talk, int64_t now);
/* This side wants to end it: says why to the other end. */
void talk_end(struct talk *talk, const char *reason);
/* The connection is gone, or the last word was said. */
void talk_closed(struct talk *talk, const char *reason);

/* A question of this side's; one at a time. */
void talk_ask(struct talk *talk, struct bytes question, int64_t now);
/* The answer to talk->question. rc: not ERR_OK is told to the other end, with err_message(). */
void talk_answer(struct talk *talk, int rc, struct bytes answer, int64_t now);

/* What came from the other end. ERR_PROTOCOL, ERR_NOMEM. */
int talk_take_question(struct talk *talk, struct bytes payload, bool working);
int talk_take_answer(struct talk *talk, struct bytes payload);
int talk_take_bye(struct talk *talk, struct bytes payload);

#endif
