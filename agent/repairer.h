/* A repair under way within an agent: agent/take_in.h or agent/make_equal.h in a thread of its own,
 * whose questions and end are told to the loop.
 *
 * Happy path: repairer_start() → the work asks: ask() on the loop → repairer_answer() wakes it up →
 * … → done() on the loop, and the repairer is gone. Failure mode: the connection ends:
 * repairer_cancel(), whatever the work asks from then on fails with ERR_PEER, and done() comes
 * soon.
 */
#ifndef SHIPLOG_AGENT_REPAIRER_H
#define SHIPLOG_AGENT_REPAIRER_H

#include "agent/ask.h"
#include "agent/message.h"

#include <uv.h>

struct repairer;

struct repairer_work {
    /* In the thread. Its result, with err_message(), is given to done(). */
    int (*run)(void *context, const struct asker *asker);
    /* On the loop. */
    void (*ask)(void *context, struct bytes question);
    void (*done)(void *context, int rc); /* err_message() is the loop's by then */
};

/* ERR_NOMEM, ERR_IO: it was not started. `work` must outlive it. */
int repairer_start(uv_loop_t *loop, const struct repairer_work *work, void *context,
                   struct repairer **repairer);
void repairer_answer(struct repairer *repairer, const struct answered *answer); /* on the loop */
void repairer_cancel(struct repairer *repairer);                                /* on the loop */

#endif
