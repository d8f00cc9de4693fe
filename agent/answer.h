/* Answering the questions of a repair (agent/ask.h) from a store: reading only, in short
 * transactions. */
#ifndef SHIPLOG_AGENT_ANSWER_H
#define SHIPLOG_AGENT_ANSWER_H

#include "mailbox/store.h"

/* Appends the answer. ERR_PROTOCOL: the question is malformed; others: this store cannot tell. */
int answer(struct store *store, struct bytes question, struct buf *out);
/* The same to a follower that this node makes equal. ERR_REFUSED: this node is a replica and waits
 * for a repair itself, so its mailboxes are of different moments. */
int answer_follower(struct store *store, struct bytes question, struct buf *out);

#endif
