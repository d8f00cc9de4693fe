/* What an upstream sends, read from its store: journal entries, and before those that introduce
 * content, that content; and content that was asked for.
 *
 * Runs where blocking is allowed; used by one thread at a time. Every read is one short
 * transaction.
 */
#ifndef SHIPLOG_AGENT_FEEDER_H
#define SHIPLOG_AGENT_FEEDER_H

#include "agent/source.h"
#include "mailbox/store.h"

struct feeder;

/* What was tried on this connection already. */
struct tried {
    bool repair;
    bool heal;
};
/* Decides whether a follower with this greeting can be fed from this store, and what to say to it.
 * An error of the store's is a refusal, too. */
void feeder_check(struct store *store, const struct hello *hello, struct tried tried,
                  struct verdict *verdict);
/* A refusal for another reason; printf-style. */
void feeder_refuse(struct verdict *verdict, enum refusal why, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For a follower that feeder_check() welcomed. Does not block. */
int feeder_open(struct store *store, const struct hello *hello, const struct verdict *verdict,
                struct feeder **feeder);
void feeder_close(struct feeder *feeder); /* NULL is fine */
/* GUIDs, one behind another, whose content goes out next. Does not block. */
int feeder_want(struct feeder *feeder, struct bytes guids);
/* Appends frames of about `most` bytes; *all tells whether nothing is left. ERR_TRIMMED: the window
 * was cut away under it; ERR_DIFFERS: the journal was replaced, or damage was found here of which
 * the follower was not asked when it came. */
int feeder_fill(struct feeder *feeder, size_t most, struct buf *out, bool *all);

#endif
