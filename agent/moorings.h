/* Followers' slots as the node that feeds them knows them, and when they are to be written: with a
 * transaction for many acknowledgements, at once when a follower comes or goes or somebody waits
 * for them. No I/O, no clock.
 *
 * What is to be written is taken out by moorings_collect(), written where blocking is allowed, and
 * given back to moorings_saved(); one such at a time.
 */
#ifndef SHIPLOG_AGENT_MOORINGS_H
#define SHIPLOG_AGENT_MOORINGS_H

#include "journal/slots.h"
#include "mailbox/store.h"

#define SLOT_INTERVAL 10000u     /* milliseconds until an acknowledgement is written */
#define AWAITED INT64_C(1000000) /* microseconds for which one who waits is taken to wait on */

struct mooring {
    struct slot slot;
    bool dirty;
};

struct moorings {
    struct mooring *all;
    size_t count;
    size_t capacity;
    int64_t awaited;      /* until when somebody waits for them, as far as is known */
    struct slot *to_save; /* NULL: nothing is being saved */
    size_t to_save_count;
};

/* Blocks. An agent that was killed left its followers as connected: they are not. */
int moorings_disconnect(struct store *store);

void moorings_free(struct moorings *moorings);
/* A follower is so far. Within how many milliseconds it is to be written; UINT64_MAX: memory is
 * short, it is forgotten. `now` is the caller's clock, `time` the calendar's. */
uint64_t moorings_acknowledged(struct moorings *moorings, const char *name,
                               struct position position, int64_t now, int64_t time);
/* A follower went: whether there is anything to write, at once. */
bool moorings_gone(struct moorings *moorings, const char *name);
/* Somebody waits for what the followers acknowledge: it is written as it comes, for a moment. */
void moorings_await(struct moorings *moorings, int64_t now);
bool moorings_dirty(const struct moorings *moorings);

/* Whether there is anything to write: moorings->to_save. */
bool moorings_collect(struct moorings *moorings);
/* Blocks. Several at once in one transaction. */
int moorings_write(const struct moorings *moorings, struct store *store);
/* It was written, or could not be. Within how many milliseconds the next is to be; UINT64_MAX:
 * nothing waits. */
uint64_t moorings_saved(struct moorings *moorings, bool failed, int64_t now);

#endif
