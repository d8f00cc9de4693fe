/* What a source wants done, done on a store. Where that runs, and when, is its owner's business:
 * begin and end belong to the thread of the source, run to one where blocking is allowed.
 */
#ifndef SHIPLOG_AGENT_SOURCE_JOB_H
#define SHIPLOG_AGENT_SOURCE_JOB_H

#include "agent/ask.h"
#include "agent/feeder.h"
#include "agent/plan.h"

/* The follower's jobs, one at a time. */
struct source_job {
    struct source *source;
    struct feeder *feeder; /* once it was welcomed */
    enum source_work work;
    size_t most;            /* bytes of a FILL, about */
    struct verdict verdict; /* of a CHECK; may be made worse before the end */
    struct buf made;        /* frames, an answer or a plan */
    bool all;
    int rc;
    char message[512];
};

void source_job_free(struct source_job *job); /* when none is under way */
void source_job_begin(struct source_job *job, enum source_work work);
/* What was committed since is all that the follower has not got: the next FILL is short, and what
 * it reads was written a moment ago. */
bool source_job_is_abreast(const struct source_job *job);
/* Neither TAKE_IN nor HEAL (agent/heal.h). `store`: NULL when a CHECK finds none that the follower
 * may have. */
void source_job_run(struct source_job *job, struct store *store);
/* TAKE_IN; *plan (zero) is the caller's to free, whatever comes of it. The result is to be given to
 * source_job_result(). */
int source_job_take_in(struct source_job *job, struct store *store, const struct asker *follower,
                       struct plan *plan);
/* After a CHECK that welcomed: whether `other`, who is fed already, has to end, because the same
 * follower has come back before that was noticed. A namesake of another node has this one refused.
 */
bool source_job_replaces(struct source_job *job, const struct source *other);
/* Keeps a result with err_message(), which belongs to this thread. */
void source_job_result(struct source_job *job, int rc);
/* The source is told. */
void source_job_end(struct source_job *job, int64_t now);

#endif
