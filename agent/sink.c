#include "agent/sink.h"

#include "base/err.h"

#include <stdio.h>

/* A source that was below its window may fill once more, and what it fills may end with a frame of
 * the largest size. */
#define SLACK (SOURCE_FILL_SIZE + 2u * FRAME_MAX_PAYLOAD)

void sink_init(struct sink *sink, const struct sink_actions *actions, void *context, int64_t now)
{
    *sink = (struct sink){
        .actions = actions, .context = context, .heartbeat = HEARTBEAT, .working = true};
    talk_init(&sink->talk, &actions->talk, context, now);
    sink->talk.mute = true;
    actions->work(context, SINK_LOAD, bytes_of(NULL, 0));
}

void sink_free(struct sink *sink)
{
    talk_free(&sink->talk);
    buf_free(&sink->queued);
    buf_free(&sink->applying);
}

void sink_closed(struct sink *sink, const char *reason)
{
    talk_closed(&sink->talk, reason);
}

void sink_end(struct sink *sink, const char *reason)
{
    talk_end(&sink->talk, reason);
}

static bool is(const struct sink *sink, enum sink_state state)
{
    return !sink->talk.closed && sink->state == state;
}

static void acknowledge(struct sink *sink, int64_t now)
{
    struct buf out = {0};
    struct ack ack = {.position = sink->position, .consumed = sink->consumed};
    message_encode_ack(&ack, &out);
    talk_send(&sink->talk, &out, now);
}

/* What does not fit is found again by the next search. */
static void ask(struct sink *sink, struct bytes guids, int64_t now)
{
    struct buf out = {0};
    uint64_t room = SOURCE_WANTS_MAX - sink->outstanding;
    uint64_t count = guids.size / GUID_SIZE;
    if (count > WANT_MAX)
        count = WANT_MAX;
    if (count > room)
        count = room;
    if (count < guids.size / GUID_SIZE)
        sink->looking = true;
    if (!count)
        return;
    sink->outstanding += count;
    message_encode_want(bytes_of(guids.data, count * GUID_SIZE), &out);
    talk_send(&sink->talk, &out, now);
}

static void start_apply(struct sink *sink)
{
    struct buf empty = sink->applying;
    sink->applying = sink->queued;
    buf_reset(&empty);
    sink->queued = empty;
    sink->working = true;
    sink->actions->work(sink->context, SINK_APPLY, buf_view(&sink->applying));
}

static void proceed(struct sink *sink)
{
    if (!is(sink, SINK_TAILING) || sink->working)
        return;
    if (sink->queued.size) {
        start_apply(sink);
    } else if (sink->looking && !sink->outstanding) {
        sink->working = true;
        sink->actions->work(sink->context, SINK_LOOK, bytes_of(NULL, 0));
    } else if (!sink->looking && !sink->outstanding && sink->applied.modseq >= sink->goal.modseq) {
        sink->actions->caught_up(sink->context);
    }
}

void sink_loaded(struct sink *sink, int rc, const struct hello *hello, int64_t now)
{
    struct buf out = {0};
    sink->working = false;
    if (!is(sink, SINK_LOADING))
        return;
    if (rc) {
        sink_end(sink, err_message());
        return;
    }
    message_encode_hello(hello, &out);
    sink->master = hello->master;
    sink->dry_run = hello->dry_run;
    sink->position = sink->applied = hello->position;
    sink->digest = hello->digest;
    sink->state = SINK_GREETING;
    sink->talk.mute = false;
    talk_send(&sink->talk, &out, now);
}

static int take_refusal(struct sink *sink, struct bytes payload)
{
    struct refuse refuse;
    char text[REASON_MAX + 1];
    char reason[REASON_MAX + 64];
    int rc = message_decode_refuse(payload, &refuse);
    if (rc)
        return rc;
    message_plain(refuse.text, text);
    snprintf(reason, sizeof reason, "refused: %s: %s", refusal_name(refuse.why), text);
    sink->refused = true;
    sink->refusal = refuse.why;
    sink->later_epoch = refuse.epoch;
    sink_closed(sink, reason);
    return ERR_OK;
}

static int take_welcome(struct sink *sink, struct bytes payload, int64_t now)
{
    struct welcome welcome;
    int rc = message_decode_welcome(payload, &welcome);
    if (rc == ERR_OK && sink->working)
        rc = fail(ERR_PROTOCOL, "a welcome before the last question was answered");
    if (rc == ERR_OK && sink->master)
        rc = fail(ERR_PROTOCOL, "a master was welcomed as a follower");
    if (rc)
        return rc;
    sink->state = SINK_TAILING;
    sink->node_id = welcome.node_id;
    sink->window = welcome.window;
    sink->heartbeat = (int64_t)welcome.heartbeat * 1000;
    sink->goal = welcome.last;
    sink->looking = true;
    sink->looked = now;
    sink->actions->welcomed(sink->context, &welcome);
    if (!sink->dry_run)
        proceed(sink);
    return ERR_OK;
}

static int take_repair(struct sink *sink, struct bytes payload)
{
    struct bytes reason;
    char text[REASON_MAX + 1];
    int rc = message_decode_repair(payload, &reason);
    if (rc)
        return rc;
    message_plain(reason, text);
    sink->state = SINK_ANSWERING;
    sink->actions->repairing(sink->context, text);
    return ERR_OK;
}

/* A question or a plan. */
static int start_repair_work(struct sink *sink, enum sink_work work, struct bytes payload)
{
    int rc = talk_take_question(&sink->talk, payload, sink->working);
    if (rc)
        return rc;
    sink->working = true;
    sink->state = work == SINK_EQUALISE ? SINK_EQUALISING : SINK_ANSWERING;
    sink->actions->work(sink->context, work, buf_view(&sink->talk.question));
    return ERR_OK;
}

static int enqueue(struct sink *sink, struct bytes whole)
{
    buf_put(&sink->queued, whole.data, whole.size);
    if (sink->queued.failed)
        return fail(ERR_NOMEM, "out of memory");
    if (sink->queued.size > sink->window + SLACK)
        return fail(ERR_PROTOCOL, "more was sent than may be under way");
    proceed(sink);
    return ERR_OK;
}

static int take_frame(struct sink *sink, const struct frame *frame, int64_t now)
{
    bool tailing = sink->state == SINK_TAILING;
    bool greeting = sink->state == SINK_GREETING;
    bool greeted = greeting || sink->state == SINK_ANSWERING;
    if (greeted && frame->type == FRAME_WELCOME)
        return take_welcome(sink, frame->payload, now);
    if (greeted && frame->type == FRAME_REFUSE)
        return take_refusal(sink, frame->payload);
    if (tailing && !sink->dry_run && (frame->type == FRAME_ENTRIES || frame->type == FRAME_CONTENT))
        return enqueue(sink, frame->whole);
    if (greeting && !sink->master && frame->type == FRAME_REPAIR)
        return take_repair(sink, frame->payload);
    if (greeted && !sink->master && frame->type == FRAME_ASK)
        return start_repair_work(sink, SINK_ANSWER, frame->payload);
    if (sink->state == SINK_ANSWERING && frame->type == FRAME_PLAN)
        return start_repair_work(sink, SINK_EQUALISE, frame->payload);
    if (sink->state == SINK_EQUALISING && frame->type == FRAME_ANSWER)
        return talk_take_answer(&sink->talk, frame->payload);
    if (sink->state != SINK_GREETING && sink->state != SINK_LOADING && frame->type == FRAME_PING)
        return message_decode_ping(frame->payload);
    if (frame->type == FRAME_BYE)
        return talk_take_bye(&sink->talk, frame->payload);
    return fail(ERR_PROTOCOL, "a frame that does not belong here");
}

void sink_frame(struct sink *sink, const struct frame *frame, int64_t now)
{
    sink->talk.heard = now;
    if (!sink->talk.closed && take_frame(sink, frame, now))
        sink_end(sink, err_message());
}

void sink_applied(struct sink *sink, int rc, const struct taken *taken, int64_t now)
{
    sink->working = false;
    if (!is(sink, SINK_TAILING))
        return;
    if (rc == ERR_OK && taken->answered > sink->outstanding)
        rc = fail(ERR_PROTOCOL, "content came that nobody had asked for");
    if (rc) {
        sink_end(sink, err_message());
        return;
    }
    sink->consumed += sink->applying.size;
    sink->outstanding -= taken->answered;
    sink->position = taken->position;
    sink->applied = taken->applied;
    acknowledge(sink, now);
    if (taken->stopped) {
        sink_end(sink, "a mailbox does not hold what the journal says: it has to be repaired");
        return;
    }
    if (is(sink, SINK_TAILING) && taken->missed.size)
        ask(sink, taken->missed, now);
    proceed(sink);
}

void sink_looked(struct sink *sink, int rc, struct bytes missing, bool all, int64_t now)
{
    sink->working = false;
    if (!is(sink, SINK_TAILING))
        return;
    if (rc) {
        sink_end(sink, err_message());
        return;
    }
    sink->looking = !all;
    if (missing.size)
        ask(sink, missing, now);
    proceed(sink);
}

void sink_answered(struct sink *sink, int rc, struct bytes answer, int64_t now)
{
    sink->working = false;
    if (is(sink, SINK_ANSWERING))
        talk_answer(&sink->talk, rc, answer, now);
}

void sink_ask(struct sink *sink, struct bytes question, int64_t now)
{
    if (is(sink, SINK_EQUALISING))
        talk_ask(&sink->talk, question, now);
}

void sink_equalised(struct sink *sink, int rc, int64_t now)
{
    (void)now;
    sink->working = false;
    if (!is(sink, SINK_EQUALISING))
        return;
    if (rc) {
        sink_end(sink, err_message());
        return;
    }
    sink->state = SINK_LOADING;
    sink->working = true;
    sink->actions->work(sink->context, SINK_LOAD, bytes_of(NULL, 0));
}

bool sink_is_deposed(const struct sink *sink)
{
    return sink->master && sink->refused && sink->refusal == REFUSAL_EPOCH;
}

struct position sink_followed(const struct sink *sink)
{
    return is(sink, SINK_TAILING) ? sink->applied : (struct position){0};
}

void sink_tick(struct sink *sink, int64_t now)
{
    if (sink->talk.closed)
        return;
    if (now - sink->talk.heard > 3 * sink->heartbeat) {
        sink_end(sink, "the upstream is silent");
        return;
    }
    bool repairing = sink->state == SINK_ANSWERING || sink->state == SINK_EQUALISING;
    bool quiet = now - sink->talk.said >= sink->heartbeat;
    if (repairing && quiet)
        talk_ping(&sink->talk, now);
    if (sink->state != SINK_TAILING)
        return;
    if (quiet)
        acknowledge(sink, now);
    if (now - sink->looked >= LOOK_INTERVAL) {
        sink->looked = now;
        sink->looking = true;
        proceed(sink);
    }
}
