/* The upstream's side of one connection, as a state machine: events in, actions out. It knows no
 * socket, clock, thread or store.
 *
 * HELLO → the greeting is checked (work CHECK) → WELCOME, then as long as there is something new
 * and the follower has not too much under way, the next frames are made (work FILL) and sent. Where
 * the journal alone will not do: REPAIR, then this side takes in what the follower changed (work
 * TAKE_IN, which asks questions by source_ask()) → PLAN, and the follower's questions are answered
 * (work ANSWER) until it greets again. Where content is lacking here the follower is asked for it
 * (work HEAL) before it is welcomed, and the greeting is checked once more. One work at a time.
 * Every way out goes through close(), once.
 */
#ifndef SHIPLOG_AGENT_SOURCE_H
#define SHIPLOG_AGENT_SOURCE_H

#include "agent/talk.h"

enum source_work {
    SOURCE_CHECK,   /* may source->hello be fed? Answered by source_checked() */
    SOURCE_FILL,    /* about SOURCE_FILL_SIZE bytes of frames. Answered by source_filled() */
    SOURCE_TAKE_IN, /* agent/take_in.h. Answered by source_taken() */
    SOURCE_HEAL,    /* agent/heal.h. Answered by source_healed() */
    SOURCE_ANSWER   /* source->talk.question. Answered by source_answered() */
};

/* None of these may call back into the source before it returns. */
struct source_actions {
    struct talk_actions talk;
    void (*work)(void *context, enum source_work work);
    void (*acknowledged)(void *context, struct position position);
};

/* TAKING_IN: this side asks. EQUALISING: the follower does. */
enum source_state {
    SOURCE_WAITING,
    SOURCE_CHECKING,
    SOURCE_TAILING,
    SOURCE_TAKING_IN,
    SOURCE_EQUALISING
};

struct source {
    struct talk talk;
    const struct source_actions *actions;
    void *context;
    enum source_state state; /* the last one, when the talk is closed */
    bool working;
    bool news;                    /* there may be more than was sent */
    uint64_t sent;                /* bytes of ENTRIES and CONTENT frames */
    uint64_t consumed;            /* of these, by the follower */
    struct hello hello;           /* its name points to `name` */
    char name[PEER_NAME_MAX + 1]; /* the follower's; its node id in digits when it gave none */
    struct buf wants;             /* GUIDs asked for and not given to a FILL yet */
    unsigned repairs;             /* that were begun on this connection */
    bool healed;                  /* the follower was asked for what is lacking here */
    struct position acknowledged;
};

void source_init(struct source *source, const struct source_actions *actions, void *context,
                 int64_t now);
void source_free(struct source *source);
void source_frame(struct source *source, const struct frame *frame, int64_t now);
/* What is to be said to a follower. */
enum judgement {
    JUDGE_WELCOME,
    JUDGE_REFUSE, /* `why`, `text` */
    JUDGE_REPAIR, /* first it must be repaired: `text` says why */
    JUDGE_HEAL    /* first it is asked for content that is lacking here */
};
/* What is wrong with the upstream itself. */
struct damage {
    bool stops;       /* mailboxes */
    uint64_t lacking; /* pieces of content */
};
struct verdict {
    enum judgement judgement;
    enum refusal why;
    uint32_t epoch; /* REFUSAL_EPOCH: number of the later one */
    char text[REASON_MAX + 1];
    struct welcome welcome;
    struct damage damage; /* at that time */
};
void source_checked(struct source *source, const struct verdict *verdict, int64_t now);
/* Frames, and whether that is all there is. rc: not ERR_OK ends the connection with err_message().
 */
void source_filled(struct source *source, int rc, struct bytes frames, bool all, int64_t now);
/* The plan as plan_encode() writes it. rc as above. */
void source_taken(struct source *source, int rc, struct bytes plan, int64_t now);
/* Whatever came of it, the follower is welcomed then; but not after ERR_PROTOCOL. */
void source_healed(struct source *source, int rc, int64_t now);
/* rc: not ERR_OK is told to the follower, with err_message(). */
void source_answered(struct source *source, int rc, struct bytes answer, int64_t now);
/* A question of TAKE_IN's or HEAL's; one at a time. Answered by answered(), unless close() comes
 * first. */
void source_ask(struct source *source, struct bytes question, int64_t now);
void source_changed(struct source *source); /* something was committed */
void source_tick(struct source *source, int64_t now);
/* This side wants to end it: says why to the follower. */
void source_end(struct source *source, const char *reason);
/* The connection is gone. */
void source_closed(struct source *source, const char *reason);

#endif
