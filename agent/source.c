#include "agent/source.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

void source_init(struct source *source, const struct source_actions *actions, void *context,
                 int64_t now)
{
    *source = (struct source){.actions = actions, .context = context};
    talk_init(&source->talk, &actions->talk, context, now);
}

void source_free(struct source *source)
{
    talk_free(&source->talk);
    buf_free(&source->wants);
}

void source_closed(struct source *source, const char *reason)
{
    talk_closed(&source->talk, reason);
}

void source_end(struct source *source, const char *reason)
{
    talk_end(&source->talk, reason);
}

static bool is(const struct source *source, enum source_state state)
{
    return !source->talk.closed && source->state == state;
}

static void start(struct source *source, enum source_work work)
{
    source->working = true;
    source->actions->work(source->context, work);
}

static void proceed(struct source *source)
{
    bool room = source->sent - source->consumed < SOURCE_WINDOW;
    if (is(source, SOURCE_TAILING) && !source->working && source->news && room &&
        !source->hello.dry_run) {
        source->news = false;
        start(source, SOURCE_FILL);
    }
}

static int on_hello(struct source *source, struct bytes payload)
{
    struct hello hello;
    char name[PEER_NAME_MAX + 1];
    int rc = message_decode_hello(payload, &hello);
    if (rc)
        return rc;
    if (hello.name.size)
        snprintf(name, sizeof name, "%.*s", (int)hello.name.size, (const char *)hello.name.data);
    else
        snprintf(name, sizeof name, "%016llx", (unsigned long long)hello.node_id);
    if (source->state != SOURCE_WAITING &&
        (hello.node_id != source->hello.node_id || strcmp(name, source->name) != 0))
        return fail(ERR_PROTOCOL, "another follower greets than the one that was repaired");
    memcpy(source->name, name, sizeof name);
    source->hello = hello;
    source->hello.name = bytes_text(source->name);
    source->state = SOURCE_CHECKING;
    start(source, SOURCE_CHECK);
    return ERR_OK;
}

static int on_ack(struct source *source, struct bytes payload)
{
    struct ack ack;
    int rc = message_decode_ack(payload, &ack);
    if (rc)
        return rc;
    if (ack.consumed < source->consumed || ack.consumed > source->sent ||
        ack.position.modseq < source->acknowledged.modseq)
        return fail(ERR_PROTOCOL, "an acknowledgement of what was not sent, or was before");
    source->consumed = ack.consumed;
    if (!source->hello.dry_run && ack.position.modseq > source->acknowledged.modseq) {
        source->acknowledged = ack.position;
        source->actions->acknowledged(source->context, ack.position);
    }
    proceed(source);
    return ERR_OK;
}

static int on_want(struct source *source, struct bytes payload)
{
    struct bytes guids;
    int rc = message_decode_want(payload, &guids);
    if (rc)
        return rc;
    buf_put(&source->wants, guids.data, guids.size);
    if (source->wants.failed)
        return fail(ERR_NOMEM, "out of memory");
    if (source->wants.size > SOURCE_WANTS_MAX * GUID_SIZE)
        return fail(ERR_PROTOCOL, "more content asked for than one can wait for");
    source->news = true;
    proceed(source);
    return ERR_OK;
}

static int on_ask(struct source *source, struct bytes payload)
{
    int rc = talk_take_question(&source->talk, payload, source->working);
    if (rc == ERR_OK)
        start(source, SOURCE_ANSWER);
    return rc;
}

/* A follower greets at first, and again when it has become equal. */
static bool may_greet(const struct source *source)
{
    return source->state == SOURCE_WAITING ||
           (source->state == SOURCE_EQUALISING && !source->working);
}

static int take_frame(struct source *source, const struct frame *frame)
{
    bool greeted = source->state != SOURCE_WAITING;
    if (frame->type == FRAME_HELLO && may_greet(source))
        return on_hello(source, frame->payload);
    if (source->state == SOURCE_TAILING && frame->type == FRAME_ACK)
        return on_ack(source, frame->payload);
    if (source->state == SOURCE_TAILING && frame->type == FRAME_WANT)
        return on_want(source, frame->payload);
    if (source->state == SOURCE_TAKING_IN && frame->type == FRAME_ANSWER)
        return talk_take_answer(&source->talk, frame->payload);
    if (source->state == SOURCE_EQUALISING && frame->type == FRAME_ASK)
        return on_ask(source, frame->payload);
    if (greeted && frame->type == FRAME_PING)
        return message_decode_ping(frame->payload);
    if (greeted && frame->type == FRAME_BYE)
        return talk_take_bye(&source->talk, frame->payload);
    return fail(ERR_PROTOCOL, "a frame that does not belong here");
}

void source_frame(struct source *source, const struct frame *frame, int64_t now)
{
    source->talk.heard = now;
    if (!source->talk.closed && take_frame(source, frame))
        source_end(source, err_message());
}

static void refuse(struct source *source, const struct verdict *verdict, int64_t now)
{
    struct buf out = {0};
    struct refuse refuse = {
        .why = verdict->why, .text = bytes_text(verdict->text), .epoch = verdict->epoch};
    message_encode_refuse(&refuse, &out);
    talk_send(&source->talk, &out, now);
    source_closed(source, verdict->text);
}

static void begin_repair(struct source *source, const struct verdict *verdict, int64_t now)
{
    struct buf out = {0};
    message_encode_repair(verdict->text, &out);
    source->repairs++;
    source->state = SOURCE_TAKING_IN;
    talk_send(&source->talk, &out, now);
    if (is(source, SOURCE_TAKING_IN))
        start(source, SOURCE_TAKE_IN);
}

static void begin_healing(struct source *source)
{
    source->healed = true;
    source->state = SOURCE_TAKING_IN;
    start(source, SOURCE_HEAL);
}

void source_healed(struct source *source, int rc, int64_t now)
{
    (void)now;
    source->working = false;
    if (!is(source, SOURCE_TAKING_IN))
        return;
    if (rc == ERR_PROTOCOL) {
        source_end(source, err_message());
        return;
    }
    source->state = SOURCE_CHECKING;
    start(source, SOURCE_CHECK);
}

void source_ask(struct source *source, struct bytes question, int64_t now)
{
    if (is(source, SOURCE_TAKING_IN))
        talk_ask(&source->talk, question, now);
}

void source_taken(struct source *source, int rc, struct bytes plan, int64_t now)
{
    struct buf out = {0};
    source->working = false;
    if (!is(source, SOURCE_TAKING_IN))
        return;
    if (rc == ERR_REFUSED) {
        struct verdict verdict = {.why = REFUSAL_OTHER};
        snprintf(verdict.text, sizeof verdict.text, "%s", err_message());
        refuse(source, &verdict, now);
        return;
    }
    if (rc) {
        source_end(source, err_message());
        return;
    }
    message_encode_plan(plan, &out);
    source->state = SOURCE_EQUALISING;
    talk_send(&source->talk, &out, now);
}

void source_answered(struct source *source, int rc, struct bytes answer, int64_t now)
{
    source->working = false;
    if (is(source, SOURCE_EQUALISING))
        talk_answer(&source->talk, rc, answer, now);
}

void source_checked(struct source *source, const struct verdict *verdict, int64_t now)
{
    struct buf out = {0};
    source->working = false;
    if (!is(source, SOURCE_CHECKING))
        return;
    if (verdict->judgement == JUDGE_REFUSE) {
        refuse(source, verdict, now);
        return;
    }
    if (verdict->judgement == JUDGE_REPAIR) {
        begin_repair(source, verdict, now);
        return;
    }
    if (verdict->judgement == JUDGE_HEAL) {
        begin_healing(source);
        return;
    }
    struct welcome welcome = verdict->welcome;
    welcome.version = PROTOCOL_VERSION;
    welcome.heartbeat = (uint32_t)(HEARTBEAT / 1000);
    welcome.window = SOURCE_WINDOW;
    message_encode_welcome(&welcome, &out);
    source->state = SOURCE_TAILING;
    source->acknowledged = source->hello.position;
    source->news = true;
    talk_send(&source->talk, &out, now);
    if (!is(source, SOURCE_TAILING) || source->hello.dry_run)
        return;
    source->actions->acknowledged(source->context, source->acknowledged);
    proceed(source);
}

void source_filled(struct source *source, int rc, struct bytes frames, bool all, int64_t now)
{
    source->working = false;
    if (!is(source, SOURCE_TAILING))
        return;
    if (rc) {
        source_end(source, err_message());
        return;
    }
    if (frames.size) {
        source->sent += frames.size;
        source->talk.said = now;
        source->actions->talk.send(source->context, frames);
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
    if (source->talk.closed)
        return;
    if (now - source->talk.heard > SILENCE)
        source_end(source, "the follower is silent");
    else if (source->state != SOURCE_WAITING && now - source->talk.said >= HEARTBEAT)
        talk_ping(&source->talk, now);
}
