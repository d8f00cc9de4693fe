/* A clock and a network that are made up. Connections carry bytes as TCP's do: in order, late, cut
 * anywhere; between two of them there is no order. They are lost as those are: with both ends told,
 * with neither, or held up for a while. What happens when is decided by dice.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_WIRE_H
#define SHIPLOG_TESTS_SUPPORT_WIRE_H

#include "base/bytes.h"
#include "tests/support/scratch.h"

#include <stdbool.h>

typedef void wire_event(void *arg);

struct wire_happening;
struct wire_end;

struct wire {
    int64_t now; /* microseconds; CLOCK_REALTIME moves along (tests/support/clock.h) */
    struct dice dice;
    bool good; /* nothing is late but by a little */
    struct wire_happening *heap;
    size_t count;
    size_t capacity;
    uint64_t order;
    struct wire_end *ends; /* all that there ever were */
};

/* What one end hears. Neither is called from within a call of this end's. */
struct wire_user {
    void (*bytes)(void *context, struct bytes bytes);
    void (*gone)(void *context, const char *reason); /* no more will come */
};

struct wire_end {
    struct wire_end *next;
    struct wire *wire;
    struct wire_end *other;
    const struct wire_user *user;
    void *context;
    struct buf coming; /* on its way here */
    bool ending;       /* and behind that the end of the stream */
    const char *lost;  /* or this error */
    bool deaf;         /* nothing arrives any more, and nobody is told */
    bool closed;
    bool scheduled;
    int64_t held_until;
};

void wire_begin(struct wire *wire, uint64_t seed);
void wire_free(struct wire *wire);
/* `event` happens in so many microseconds. */
void wire_at(struct wire *wire, int64_t delay, wire_event *event, void *arg);
/* Everything up to this moment. */
void wire_run_until(struct wire *wire, int64_t then);

/* A new connection: its two ends, which stay valid as long as the wire. */
void wire_connect(struct wire *wire, struct wire_end **a, struct wire_end **b);
void wire_listen(struct wire_end *end, const struct wire_user *user, void *context);
void wire_send(struct wire_end *end, struct bytes bytes); /* copied */
void wire_shut(struct wire_end *end);                     /* nothing more will be sent */
void wire_close(struct wire_end *end);                    /* nothing more will be heard, either */

/* What happens to a connection. */
void wire_lose(struct wire_end *end);               /* at any byte; both ends are told */
void wire_mute(struct wire_end *end);               /* nothing arrives at either end any more */
void wire_hold(struct wire_end *end, int64_t time); /* nothing arrives for so long */

#endif
