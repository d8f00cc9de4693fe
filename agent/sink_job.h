/* What a sink wants done, done on a store. Where that runs, and when, is its owner's business:
 * begin and end belong to the thread of the sink, run to one where blocking is allowed.
 */
#ifndef SHIPLOG_AGENT_SINK_JOB_H
#define SHIPLOG_AGENT_SINK_JOB_H

#include "agent/make_equal.h"
#include "agent/receiver.h"

/* The sink's jobs, one at a time. */
struct sink_job {
    struct sink *sink;
    struct receiver *receiver; /* owned: receiver_open() */
    enum sink_work work;
    struct bytes frames; /* or a question, or a plan */
    bool adopt;          /* for the greeting */
    bool dry_run;        /* for the greeting */
    struct hello hello;
    struct taken taken;
    struct bytes missing;
    struct buf made; /* an answer */
    bool all;
    int rc;
    char message[512];
};

void sink_job_free(struct sink_job *job); /* when none is under way */
void sink_job_begin(struct sink_job *job, enum sink_work work, struct bytes frames);
void sink_job_run(struct sink_job *job, struct store *store); /* not EQUALISE */
/* EQUALISE; *plan (zero) is the caller's to free, whatever comes of it. The result is to be given
 * to sink_job_result(). */
int sink_job_equalise(struct sink_job *job, struct store *store, const struct asker *upstream,
                      struct plan *plan, struct equal_report *report);
/* Keeps a result with err_message(), which belongs to this thread. */
void sink_job_result(struct sink_job *job, int rc);
/* The sink is told. `name`: of this follower, may be empty; valid as long as the job. `store_id`:
 * which one a node that has met no master wants, of several that the upstream may have; 0: any. */
void sink_job_end(struct sink_job *job, const char *name, uint64_t store_id, int64_t now);

#endif
