#include "agent/sink_job.h"

#include "agent/answer.h"
#include "base/err.h"

#include <stdio.h>

void sink_job_free(struct sink_job *job)
{
    receiver_close(job->receiver);
    buf_free(&job->made);
}

void sink_job_begin(struct sink_job *job, enum sink_work work, struct bytes frames)
{
    job->work = work;
    job->frames = frames;
    job->rc = ERR_OK;
    buf_reset(&job->made);
}

void sink_job_result(struct sink_job *job, int rc)
{
    job->rc = rc;
    snprintf(job->message, sizeof job->message, "%s", rc ? err_message() : "");
}

void sink_job_run(struct sink_job *job, struct store *store)
{
    int rc;
    if (job->work == SINK_LOAD)
        rc = receiver_hello(job->receiver, &job->hello);
    else if (job->work == SINK_APPLY)
        rc = receiver_take(job->receiver, job->frames, &job->taken);
    else if (job->work == SINK_ANSWER)
        rc = answer(store, job->frames, &job->made);
    else
        rc = receiver_look(job->receiver, &job->missing, &job->all);
    sink_job_result(job, rc);
}

int sink_job_equalise(struct sink_job *job, struct store *store, const struct asker *upstream,
                      struct plan *plan, struct equal_report *report)
{
    int rc = plan_decode(job->frames, plan);
    return rc ? rc : make_equal(store, upstream, plan, report);
}

static void end_load(struct sink_job *job, const char *name, uint64_t store_id, int rc, int64_t now)
{
    struct hello *hello = &job->hello;
    hello->name = bytes_text(name);
    hello->adopt = job->adopt;
    hello->dry_run = job->dry_run;
    if (hello->store_id == 0 && store_id) {
        hello->store_id = store_id;
        hello->position.chain = entry_chain_start(store_id);
    } else if (job->adopt && store_id) {
        hello->store_id = store_id; /* the upstream asks for this node's own */
    }
    sink_loaded(job->sink, rc, hello, now);
}

void sink_job_end(struct sink_job *job, const char *name, uint64_t store_id, int64_t now)
{
    struct sink *sink = job->sink;
    int rc = job->rc ? fail(job->rc, "%s", job->message) : ERR_OK;
    if (job->work == SINK_LOAD)
        end_load(job, name, store_id, rc, now);
    else if (job->work == SINK_APPLY)
        sink_applied(sink, rc, &job->taken, now);
    else if (job->work == SINK_ANSWER)
        sink_answered(sink, rc, buf_view(&job->made), now);
    else if (job->work == SINK_EQUALISE)
        sink_equalised(sink, rc, now);
    else
        sink_looked(sink, rc, job->missing, job->all, now);
}
