/* What all questions have in common; private to agent/ask*.c. */
#ifndef SHIPLOG_AGENT_ASKING_H
#define SHIPLOG_AGENT_ASKING_H

#include "agent/ask.h"

#define MODSEQ_MAX ((uint64_t)INT64_MAX) /* RFC 7162 */

int ask_malformed(const char *what); /* fails: ERR_PROTOCOL */
/* A question to be filled; ask_wait() frees it. */
struct buf ask_begin(enum question kind);
/* Asks, and waits. *in reads `answer`, which the caller frees, behind its first byte; that one
 * tells whether there is anything: ERR_END if not. */
int ask_wait(const struct asker *asker, struct buf *question, struct buf *answer,
             struct reader *in);
/* A mailbox as it is now, as several answers begin with it. */
int ask_read_now(struct reader *in, uint64_t mailbox, struct mailbox_state_now *now);

#endif
