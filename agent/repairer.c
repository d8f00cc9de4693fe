#include "agent/repairer.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

struct repairer {
    const struct repairer_work *work;
    void *context;
    uv_thread_t thread;
    uv_async_t async;
    uv_mutex_t mutex; /* for everything below */
    uv_cond_t answered;
    struct buf question;
    bool asked;   /* the loop was not told yet */
    bool waiting; /* for the answer */
    struct buf answer;
    bool answer_failed;
    bool has_answer;
    bool cancelled;
    bool ended;
    int rc;
    char message[512];
};

static int end_of_connection(void)
{
    return fail(ERR_PEER, "the connection ended during a repair");
}

static int take_answer(struct repairer *repairer, struct buf *answer)
{
    if (!repairer->has_answer)
        return end_of_connection();
    if (repairer->answer_failed)
        return fail(ERR_PEER, "the other end: %.*s", (int)repairer->answer.size,
                    (const char *)repairer->answer.data);
    buf_put(answer, repairer->answer.data, repairer->answer.size);
    return answer->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

/* In the thread: waits for the loop to bring the answer. */
static int ask(void *context, struct bytes question, struct buf *answer)
{
    struct repairer *repairer = context;
    uv_mutex_lock(&repairer->mutex);
    buf_reset(&repairer->question);
    buf_put(&repairer->question, question.data, question.size);
    repairer->asked = repairer->waiting = true;
    repairer->has_answer = false;
    if (!repairer->cancelled)
        uv_async_send(&repairer->async);
    while (!repairer->has_answer && !repairer->cancelled)
        uv_cond_wait(&repairer->answered, &repairer->mutex);
    int rc = take_answer(repairer, answer);
    repairer->waiting = false;
    uv_mutex_unlock(&repairer->mutex);
    return rc;
}

static void run(void *arg)
{
    struct repairer *repairer = arg;
    const struct asker asker = {.ask = ask, .context = repairer};
    int rc = repairer->work->run(repairer->context, &asker);
    uv_mutex_lock(&repairer->mutex);
    repairer->rc = rc;
    snprintf(repairer->message, sizeof repairer->message, "%s", rc ? err_message() : "");
    repairer->ended = true;
    uv_async_send(&repairer->async);
    uv_mutex_unlock(&repairer->mutex);
}

static void on_closed(uv_handle_t *handle)
{
    struct repairer *repairer = handle->data;
    int rc = repairer->rc ? fail(repairer->rc, "%s", repairer->message) : ERR_OK;
    const struct repairer_work *work = repairer->work;
    void *context = repairer->context;
    uv_cond_destroy(&repairer->answered);
    uv_mutex_destroy(&repairer->mutex);
    buf_free(&repairer->question);
    buf_free(&repairer->answer);
    free(repairer);
    work->done(context, rc);
}

static void on_news(uv_async_t *async)
{
    struct repairer *repairer = async->data;
    struct buf question = {0};
    uv_mutex_lock(&repairer->mutex);
    bool ended = repairer->ended;
    bool asked = repairer->asked && !repairer->cancelled;
    if (asked)
        buf_put(&question, repairer->question.data, repairer->question.size);
    repairer->asked = false;
    uv_mutex_unlock(&repairer->mutex);
    if (asked)
        repairer->work->ask(repairer->context, buf_view(&question));
    buf_free(&question);
    if (!ended)
        return;
    uv_thread_join(&repairer->thread);
    uv_close((uv_handle_t *)async, on_closed);
}

void repairer_answer(struct repairer *repairer, const struct answered *answer)
{
    uv_mutex_lock(&repairer->mutex);
    if (repairer->waiting) {
        buf_reset(&repairer->answer);
        buf_put(&repairer->answer, answer->bytes.data, answer->bytes.size);
        repairer->answer_failed = answer->failed;
        repairer->has_answer = !repairer->answer.failed;
        repairer->cancelled = repairer->cancelled || repairer->answer.failed;
        uv_cond_signal(&repairer->answered);
    }
    uv_mutex_unlock(&repairer->mutex);
}

void repairer_cancel(struct repairer *repairer)
{
    uv_mutex_lock(&repairer->mutex);
    repairer->cancelled = true;
    uv_cond_signal(&repairer->answered);
    uv_mutex_unlock(&repairer->mutex);
}

int repairer_start(uv_loop_t *loop, const struct repairer_work *work, void *context,
                   struct repairer **out)
{
    struct repairer *repairer = calloc(1, sizeof *repairer);
    *out = NULL;
    if (!repairer)
        return fail(ERR_NOMEM, "out of memory");
    repairer->work = work;
    repairer->context = context;
    repairer->async.data = repairer;
    int error = uv_mutex_init(&repairer->mutex);
    if (error)
        goto no_mutex;
    error = uv_cond_init(&repairer->answered);
    if (error)
        goto no_cond;
    error = uv_async_init(loop, &repairer->async, on_news);
    if (error)
        goto no_async;
    error = uv_thread_create(&repairer->thread, run, repairer);
    if (error == 0) {
        *out = repairer;
        return ERR_OK;
    }
    /* The handle is the loop's already: it ends as if the work had failed. */
    repairer->rc = fail(ERR_IO, "a thread for a repair: %s", uv_strerror(error));
    snprintf(repairer->message, sizeof repairer->message, "%s", err_message());
    uv_close((uv_handle_t *)&repairer->async, on_closed);
    *out = repairer;
    return ERR_OK;

no_async:
    uv_cond_destroy(&repairer->answered);
no_cond:
    uv_mutex_destroy(&repairer->mutex);
no_mutex:
    free(repairer);
    return fail(ERR_IO, "a repair: %s", uv_strerror(error));
}
