#include "agent/source.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

void source_init(struct source *source, const struct source_actions *actions, void *context,
                 int64_t now)
{
    *source = (struct source){.actions = actions, .context = context, .heard = now, .said = now};
}

static void finish(struct source *source, const char *reason)
{
    if (source->state == SOURCE_CLOSED)
        return;
    source->state = SOURCE_CLOSED;
    source->actions->close(source->context, reason);
}

static void send_buf(struct source *source, struct buf *out, int64_t now)
{
    if (out->failed)
        finish(source, "out of memory");
    else
        source->actions->send(source->context, buf_view(out));
    source->said = now;
    buf_free(out);
}

static void start(struct source *source, enum source_work work)
{
    source->working = true;
    source->actions->work(source->context, work);
}

static void proceed(struct source *source)
{
    bool room = source->sent - source->consumed < SOURCE_WINDOW;
    if (source->state == SOURCE_TAILING && !source->working && source->news && room) {
        source->news = false;
        start(source, SOURCE_FILL_WORK);
    }
}

static void on_hello(struct source *source, struct bytes payload)
{
    int rc = hello_decode(payload, &source->hello);
    if (rc) {
        finish(source, err_message());
        return;
    }
    if (source->hello.name.size)
        snprintf(source->name, sizeof source->name, "%.*s", (int)source->hello.name.size,
                 (const char *)source->hello.name.data);
    else
        snprintf(source->name, sizeof source->name, "%016llx",
                 (unsigned long long)source->hello.node_id);
    source->hello.name = bytes_of(NULL, 0);
    source->state = SOURCE_CHECKING;
    start(source, SOURCE_CHECK);
}

static void on_ack(struct source *source, struct bytes payload)
{
    struct ack ack;
    int rc = ack_decode(payload, &ack);
    if (rc == ERR_OK && (ack.consumed < source->consumed || ack.consumed > source->sent))
        rc = fail(ERR_PROTOCOL, "an acknowledgement of what was not sent");
    if (rc) {
        finish(source, err_message());
        return;
    }
    source->consumed = ack.consumed;
    if (ack.position.modseq > source->acknowledged.modseq) {
        source->acknowledged = ack.position;
        source->actions->acknowledged(source->context, ack.position);
    }
    proceed(source);
}

void source_frame(struct source *source, const struct frame *frame, int64_t now)
{
    source->heard = now;
    if (source->state == SOURCE_WAITING && frame->type == FRAME_HELLO)
        on_hello(source, frame->payload);
    else if (source->state == SOURCE_TAILING && frame->type == FRAME_ACK)
        on_ack(source, frame->payload);
    else if (source->state != SOURCE_CLOSED && frame->type != FRAME_PING)
        finish(source, "a frame that does not belong here");
}

void source_checked(struct source *source, int rc, const struct welcome *welcome, int64_t now)
{
    struct buf out = {0};
    source->working = false;
    if (source->state != SOURCE_CHECKING)
        return;
    if (rc) {
        struct refuse refuse = {.code = (uint32_t)rc, .text = bytes_text(err_message())};
        refuse_encode(&refuse, &out);
        send_buf(source, &out, now);
        finish(source, err_message());
        return;
    }
    welcome_encode(welcome, &out);
    source->state = SOURCE_TAILING;
    source->acknowledged = source->hello.position;
    source->news = true;
    send_buf(source, &out, now);
    source->actions->acknowledged(source->context, source->acknowledged);
    proceed(source);
}

void source_filled(struct source *source, int rc, struct bytes frames, bool all, int64_t now)
{
    source->working = false;
    if (source->state != SOURCE_TAILING)
        return;
    if (rc) {
        finish(source, err_message());
        return;
    }
    if (frames.size) {
        source->sent += frames.size;
        source->said = now;
        source->actions->send(source->context, frames);
    }
    source->news |= !all;
    proceed(source);
}

void source_changed(struct source *source)
{
    source->news = true;
    proceed(source);
}

void source_tick(struct source *source, int64_t now)
{
    if (source->state == SOURCE_CLOSED)
        return;
    if (now - source->heard > SILENCE) {
        finish(source, "the follower is silent");
    } else if (source->state == SOURCE_TAILING && now - source->said > HEARTBEAT) {
        struct buf out = {0};
        frame_encode(&out, FRAME_PING, bytes_of(NULL, 0));
        send_buf(source, &out, now);
    }
}

void source_broken(struct source *source, const char *reason)
{
    finish(source, reason);
}
