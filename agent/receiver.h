/* What a follower does with the frames that it gets: content becomes drafts, entries wait until
 * their commit is whole, whole commits are applied, as many as there are, in one transaction.
 *
 * Runs where blocking is allowed; used by one thread at a time. Memory is bounded: drafts are
 * staged in the store when they grow.
 */
#ifndef SHIPLOG_AGENT_RECEIVER_H
#define SHIPLOG_AGENT_RECEIVER_H

#include "agent/protocol.h"
#include "mailbox/store.h"

struct receiver;

/* `master`: whom the store names as its master from then on; copied. */
int receiver_open(struct store *store, const char *master, struct receiver **receiver);
void receiver_close(struct receiver *receiver); /* NULL is fine */
/* This node's greeting. ERR_REFUSED: it is a master. */
int receiver_hello(struct receiver *receiver, struct hello *hello);
void receiver_welcome(struct receiver *receiver, const struct welcome *welcome);
/* Takes whole frames in. *position: what is durable here afterwards. */
int receiver_take(struct receiver *receiver, struct bytes frames, struct position *position);

#endif
