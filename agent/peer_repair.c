/* A connection's repair: what the state machines call TAKE_IN, HEAL and EQUALISE, in a thread of
 * its own.
 */
#include "agent/edge.h"
#include "agent/heal.h"
#include "agent/log.h"
#include "base/err.h"

#include <stdlib.h>

#define REPAIRS_MAX 8u /* of one agent at the same time: each has a thread */

bool peer_may_repair(const struct peer *peer)
{
    return peer->agent->repairs < REPAIRS_MAX;
}

static const char *store_of(const struct peer *peer)
{
    return store_path(peer->station->store);
}

static void keep_result(struct peer *peer, int rc)
{
    if (peer->is_source)
        source_job_result(&peer->source_job, rc);
    else
        sink_job_result(&peer->sink_job, rc);
}

static void end(struct peer *peer)
{
    peer->repairer = NULL;
    peer->working = false;
    peer->agent->repairs--;
    peer->repaired(peer);
}

static void done(void *context, int rc)
{
    keep_result(context, rc);
    end(context);
}

static void do_nothing(uv_work_t *request)
{
    (void)request;
}

static void not_started(uv_work_t *request, int status)
{
    (void)status;
    end(request->data);
}

/* What cannot be started ends by way of the loop, too: the state machine that asks for it is not to
 * be called before it goes on. */
static void start(struct peer *peer, const struct repairer_work *work)
{
    peer->working = true;
    peer->agent->repairs++;
    int rc = repairer_start(&peer->agent->loop, work, peer, &peer->repairer);
    if (rc == ERR_OK)
        return;
    keep_result(peer, rc);
    peer->work.data = peer;
    uv_queue_work(&peer->agent->loop, &peer->work, do_nothing, not_started);
}

static void log_taken(const struct peer *peer, const struct plan *plan)
{
    for (size_t i = 0; i < plan->line_count; i++) {
        const struct plan_line *line = &plan->lines[i];
        log_info("inefficient-replication",
                 "store=%s peer=\"%s\" mailbox=\"%s\" reason=\"%s\" renumbered=%llu "
                 "copied_back=%llu expunged=%llu damaged=%llu",
                 store_of(peer), peer->source.name, line->name, plan->reason,
                 (unsigned long long)line->renumbered, (unsigned long long)line->copied_back,
                 (unsigned long long)line->expunged, (unsigned long long)line->damaged);
    }
}

static int run_take_in(void *context, const struct asker *asker)
{
    struct peer *peer = context;
    int rc = source_job_take_in(&peer->source_job, peer->station->store, asker, &peer->plan);
    if (rc == ERR_OK && !peer->source.hello.dry_run)
        log_taken(peer, &peer->plan);
    plan_free(&peer->plan);
    return rc;
}

static void ask_follower(void *context, struct bytes question)
{
    struct peer *peer = context;
    source_ask(&peer->source, question, agent_now(peer->agent));
}

void peer_take_in(struct peer *peer)
{
    static const struct repairer_work work = {run_take_in, ask_follower, done};
    start(peer, &work);
}

static int run_heal(void *context, const struct asker *asker)
{
    struct peer *peer = context;
    struct healed healed;
    int rc = heal(peer->station->store, asker, &healed);
    if (healed.found)
        log_info("content-healed", "store=%s peer=\"%s\" found=%llu of=%llu", store_of(peer),
                 peer->source.name, (unsigned long long)healed.found,
                 (unsigned long long)healed.lacking);
    if (rc || healed.found < healed.lacking)
        log_warning("content-lacking", "store=%s peer=\"%s\" missing=%llu reason=\"%s\"",
                    store_of(peer), peer->source.name,
                    (unsigned long long)(healed.lacking - healed.found),
                    rc ? err_message() : "the follower has not got it either");
    return rc;
}

void peer_heal(struct peer *peer)
{
    static const struct repairer_work work = {run_heal, ask_follower, done};
    start(peer, &work);
}

static void log_equal(void *arg, const struct equal_line *line)
{
    const struct peer *peer = arg;
    log_info("inefficient-replication",
             "store=%s mailbox=\"%s\" reason=\"%s\" records=%llu bytes=%llu expunged=%llu%s",
             store_of(peer), line->name, line->reason, (unsigned long long)line->records,
             (unsigned long long)line->bytes, (unsigned long long)line->expunged,
             line->done ? "" : " state=waiting");
}

static int run_equalise(void *context, const struct asker *asker)
{
    struct peer *peer = context;
    struct equal_report report = {.mailbox = log_equal, .arg = peer};
    int rc = sink_job_equalise(&peer->sink_job, peer->station->store, asker, &peer->plan, &report);
    if (report.aside)
        log_warning("set-aside", "store=%s file=\"%s\"", store_of(peer), report.aside);
    free(report.aside);
    plan_free(&peer->plan);
    return rc;
}

/* The loop reads what became of `once` when the thread has ended. */
static int run_once(void *context, const struct asker *asker)
{
    struct peer *peer = context;
    int rc = plan_decode(peer->sink_job.frames, &peer->plan);
    if (rc == ERR_OK)
        rc = sync_carry_out(peer->station->once, peer->station->store, asker, &peer->plan);
    plan_free(&peer->plan);
    return rc;
}

static void ask_upstream(void *context, struct bytes question)
{
    struct peer *peer = context;
    sink_ask(&peer->sink, question, agent_now(peer->agent));
}

void peer_equalise(struct peer *peer)
{
    static const struct repairer_work follow = {run_equalise, ask_upstream, done};
    static const struct repairer_work once = {run_once, ask_upstream, done};
    start(peer, peer->station->once ? &once : &follow);
}
