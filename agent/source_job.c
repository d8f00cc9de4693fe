#include "agent/source_job.h"

#include "agent/answer.h"
#include "agent/take_in.h"
#include "base/err.h"

#include <stdio.h>
#include <string.h>

#define REPAIRS_MOST 3u /* on one connection */

void source_job_free(struct source_job *job)
{
    feeder_close(job->feeder);
    buf_free(&job->made);
}

void source_job_begin(struct source_job *job, enum source_work work)
{
    struct buf *wants = &job->source->wants;
    job->work = work;
    job->most = SOURCE_FILL_SIZE;
    job->rc = ERR_OK;
    buf_reset(&job->made);
    if (work == SOURCE_FILL && wants->size) {
        /* What does not fit is asked for again by the follower's next search. */
        (void)feeder_want(job->feeder, buf_view(wants));
        buf_reset(wants);
    }
}

bool source_job_is_abreast(const struct source_job *job)
{
    return job->work == SOURCE_FILL && job->all && !job->source->wants.size;
}

static void check(struct source_job *job, struct store *store)
{
    const struct hello *hello = &job->source->hello;
    struct verdict *verdict = &job->verdict;
    unsigned repairs = job->source->repairs;
    if (!store) {
        feeder_refuse(verdict, REFUSAL_STORE, "no such store here");
        return;
    }
    const struct tried tried = {.repair = repairs > 0, .heal = job->source->healed};
    feeder_check(store, hello, tried, verdict);
    if (verdict->judgement == JUDGE_REPAIR && repairs >= REPAIRS_MOST)
        feeder_refuse(verdict, REFUSAL_OTHER, "it was repaired %u times, and still cannot be fed",
                      repairs);
    if (verdict->judgement == JUDGE_WELCOME &&
        feeder_open(store, hello, verdict, &job->feeder) != ERR_OK)
        feeder_refuse(verdict, REFUSAL_OTHER, "%s", err_message());
}

bool source_job_replaces(struct source_job *job, const struct source *other)
{
    const struct source *source = job->source;
    if (strcmp(other->name, source->name) != 0)
        return false;
    if (other->hello.node_id == source->hello.node_id)
        return true;
    feeder_refuse(&job->verdict, REFUSAL_NAME, "another follower bears the name %s", source->name);
    return false;
}

void source_job_result(struct source_job *job, int rc)
{
    job->rc = rc;
    snprintf(job->message, sizeof job->message, "%s", rc ? err_message() : "");
}

void source_job_run(struct source_job *job, struct store *store)
{
    int rc = ERR_OK;
    if (job->work == SOURCE_CHECK)
        check(job, store);
    else if (job->work == SOURCE_ANSWER)
        rc = answer_follower(store, buf_view(&job->source->talk.question), &job->made);
    else
        rc = feeder_fill(job->feeder, job->most, &job->made, &job->all);
    source_job_result(job, rc);
}

/* What does not fit into memory is noticed when the plan is encoded. */
static void add_action(void *arg, const char *mailbox, const char *what, uint32_t uid,
                       uint32_t other)
{
    (void)plan_add_action(arg, mailbox, what, uid, other);
}

int source_job_take_in(struct source_job *job, struct store *store, const struct asker *follower,
                       struct plan *plan)
{
    const struct hello *hello = &job->source->hello;
    struct take_in options = {.slot = job->source->name,
                              .adopt = hello->adopt,
                              .dry_run = hello->dry_run,
                              .report = add_action,
                              .arg = plan};
    int rc = take_in(store, follower, &options, plan);
    if (rc == ERR_OK)
        plan_encode(plan, &job->made);
    if (rc == ERR_OK && (job->made.failed || plan->actions.failed))
        rc = fail(ERR_NOMEM, "out of memory");
    return rc;
}

void source_job_end(struct source_job *job, int64_t now)
{
    struct source *source = job->source;
    int rc = job->rc ? fail(job->rc, "%s", job->message) : ERR_OK;
    if (job->work == SOURCE_CHECK)
        source_checked(source, &job->verdict, now);
    else if (job->work == SOURCE_ANSWER)
        source_answered(source, rc, buf_view(&job->made), now);
    else if (job->work == SOURCE_TAKE_IN)
        source_taken(source, rc, buf_view(&job->made), now);
    else if (job->work == SOURCE_HEAL)
        source_healed(source, rc, now);
    else
        source_filled(source, rc, buf_view(&job->made), job->all, now);
}
