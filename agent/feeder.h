/* What an upstream sends, read from its store: journal entries, and before those that introduce
 * content, that content.
 *
 * Runs where blocking is allowed; used by one thread at a time. Every read is a short transaction.
 */
#ifndef SHIPLOG_AGENT_FEEDER_H
#define SHIPLOG_AGENT_FEEDER_H

#include "agent/protocol.h"
#include "mailbox/store.h"

struct feeder;

int feeder_open(struct store *store, uint64_t after,
                struct feeder **feeder);  /* sends what is behind this modseq */
void feeder_close(struct feeder *feeder); /* NULL is fine */
/* Appends frames of about `most` bytes; *all tells whether nothing is left. ERR_TRIMMED: the window
 * was cut away under it. */
int feeder_fill(struct feeder *feeder, size_t most, struct buf *out, bool *all);

/* Whether a follower with this greeting can be fed, and what to say to it. ERR_TRIMMED (a gap),
 * ERR_DIFFERS (a fork, or ahead), ERR_REFUSED. */
int feeder_check(struct store *store, const struct hello *hello, struct welcome *welcome);

#endif
