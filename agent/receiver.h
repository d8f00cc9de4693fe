/* What a follower does with the frames that it gets: content becomes drafts, entries wait until
 * their commit is whole, whole commits are applied, as many in one transaction as keeps it small.
 *
 * Runs where blocking is allowed; used by one thread at a time. Memory is bounded: drafts are
 * staged in the store when they grow. After an error it can only be closed.
 */
#ifndef SHIPLOG_AGENT_RECEIVER_H
#define SHIPLOG_AGENT_RECEIVER_H

#include "agent/sink.h"
#include "mailbox/store.h"

struct receiver;

/* `master`: whom the store names as its master from then on. `former`: whom it named when `master`
 * was chosen; who is named instead by now was named by an operator, and stays. NULL: whom it names
 * when this node greets. Copied. */
int receiver_open(struct store *store, const char *master, const char *former,
                  struct receiver **receiver);
void receiver_close(struct receiver *receiver); /* NULL is fine */
/* This node's greeting, without its name. */
int receiver_hello(struct receiver *receiver, struct hello *hello);
void receiver_welcome(struct receiver *receiver, const struct welcome *welcome);
/* Takes whole frames in. `missed` is valid until the next call. */
int receiver_take(struct receiver *receiver, struct bytes frames, struct taken *taken);
/* Goes on with the search for content that records refer to and that is not here: up to WANT_MAX
 * GUIDs, valid until the next call. *all: it came to the end, and begins anew next time. */
int receiver_look(struct receiver *receiver, struct bytes *missing, bool *all);

#endif
