#include "agent/sink.h"

#include "agent/source.h"
#include "base/err.h"

#include <stdio.h>

#define QUEUE_MAX                                                                                  \
    (2u * SOURCE_WINDOW + FRAME_MAX_PAYLOAD) /* more than a well-behaved upstream sends */

void sink_init(struct sink *sink, const struct sink_actions *actions, void *context, int64_t now)
{
    *sink = (struct sink){
        .actions = actions, .context = context, .heard = now, .said = now, .working = true};
    actions->work(context, SINK_LOAD, bytes_of(NULL, 0));
}

void sink_free(struct sink *sink)
{
    buf_free(&sink->queued);
    buf_free(&sink->applying);
}

static void finish(struct sink *sink, const char *reason)
{
    if (sink->state == SINK_CLOSED)
        return;
    sink->state = SINK_CLOSED;
    sink->actions->close(sink->context, reason);
}

static void send_buf(struct sink *sink, struct buf *out, int64_t now)
{
    if (out->failed)
        finish(sink, "out of memory");
    else
        sink->actions->send(sink->context, buf_view(out));
    sink->said = now;
    buf_free(out);
}

static void acknowledge(struct sink *sink, int64_t now)
{
    struct buf out = {0};
    struct ack ack = {.position = sink->position, .consumed = sink->consumed};
    ack_encode(&ack, &out);
    send_buf(sink, &out, now);
}

static void proceed(struct sink *sink)
{
    if (sink->state != SINK_TAILING || sink->working || !sink->queued.size)
        return;
    struct buf empty = sink->applying;
    sink->applying = sink->queued;
    buf_reset(&empty);
    sink->queued = empty;
    sink->working = true;
    sink->actions->work(sink->context, SINK_APPLY, buf_view(&sink->applying));
}

void sink_loaded(struct sink *sink, int rc, const struct hello *hello, int64_t now)
{
    struct buf out = {0};
    sink->working = false;
    if (sink->state != SINK_LOADING)
        return;
    if (rc) {
        finish(sink, err_message());
        return;
    }
    hello_encode(hello, &out);
    sink->position = hello->position;
    sink->state = SINK_GREETING;
    send_buf(sink, &out, now);
}

static void on_refuse(struct sink *sink, struct bytes payload)
{
    struct refuse refuse;
    char reason[512];
    if (refuse_decode(payload, &refuse)) {
        finish(sink, err_message());
        return;
    }
    snprintf(reason, sizeof reason, "refused: %.*s",
             (int)(refuse.text.size < 400 ? refuse.text.size : 400),
             (const char *)refuse.text.data);
    finish(sink, reason);
}

static void on_welcome(struct sink *sink, struct bytes payload)
{
    if (welcome_decode(payload, &sink->welcome))
        finish(sink, err_message());
    else
        sink->state = SINK_TAILING;
}

static void enqueue(struct sink *sink, struct bytes raw)
{
    buf_put(&sink->queued, raw.data, raw.size);
    if (sink->queued.failed || sink->queued.size > QUEUE_MAX)
        finish(sink, "more was sent than was asked for");
    else
        proceed(sink);
}

void sink_frame(struct sink *sink, const struct frame *frame, struct bytes raw, int64_t now)
{
    sink->heard = now;
    if (sink->state == SINK_CLOSED)
        return;
    if (sink->state == SINK_GREETING && frame->type == FRAME_WELCOME)
        on_welcome(sink, frame->payload);
    else if (sink->state == SINK_GREETING && frame->type == FRAME_REFUSE)
        on_refuse(sink, frame->payload);
    else if (sink->state == SINK_TAILING &&
             (frame->type == FRAME_ENTRIES || frame->type == FRAME_CONTENT))
        enqueue(sink, raw);
    else if (sink->state == SINK_TAILING && frame->type == FRAME_PING)
        acknowledge(sink, now);
    else
        finish(sink, "a frame that does not belong here");
}

void sink_applied(struct sink *sink, int rc, struct position position, int64_t now)
{
    sink->working = false;
    if (sink->state != SINK_TAILING)
        return;
    if (rc) {
        finish(sink, err_message());
        return;
    }
    sink->consumed += sink->applying.size;
    sink->position = position;
    acknowledge(sink, now);
    proceed(sink);
}

void sink_tick(struct sink *sink, int64_t now)
{
    if (sink->state == SINK_CLOSED)
        return;
    if (now - sink->heard > SILENCE)
        finish(sink, "the upstream is silent");
    else if (sink->state == SINK_TAILING && now - sink->said > HEARTBEAT)
        acknowledge(sink, now);
}

void sink_broken(struct sink *sink, const char *reason)
{
    finish(sink, reason);
}
