/* The follower's side without a socket: what it sends is kept, and work stays open until the test
 * answers it. */
#include "agent/sink.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define BEAT INT64_C(2000000) /* microseconds; another one than the built-in */

struct stage {
    struct sink sink;
    int64_t now;
    struct buf sent;
    size_t read; /* bytes of `sent` that the test has looked at */
    int works[5];
    unsigned answers;
    unsigned repairs;
    unsigned caught_up;
    bool working;
    struct buf applying; /* what the last APPLY got */
    unsigned welcomes;
    unsigned closes;
    char reason[REASON_MAX + 100];
};

static void on_send(void *context, struct bytes frames)
{
    struct stage *stage = context;
    assert_int_equal(stage->closes, 0);
    buf_put(&stage->sent, frames.data, frames.size);
}

static void on_work(void *context, enum sink_work work, struct bytes frames)
{
    struct stage *stage = context;
    assert_false(stage->working);
    stage->working = true;
    stage->works[work]++;
    buf_reset(&stage->applying);
    buf_put(&stage->applying, frames.data, frames.size);
}

static void on_welcomed(void *context, const struct welcome *welcome)
{
    struct stage *stage = context;
    assert_int_equal(welcome->store_id, 7);
    stage->welcomes++;
}

static void on_close(void *context, const char *reason)
{
    struct stage *stage = context;
    stage->closes++;
    snprintf(stage->reason, sizeof stage->reason, "%s", reason);
}

static void on_answered(void *context, const struct answered *answer)
{
    struct stage *stage = context;
    (void)answer;
    stage->answers++;
}

static void on_repairing(void *context, const char *reason)
{
    struct stage *stage = context;
    (void)reason;
    stage->repairs++;
}

static void on_caught_up(void *context)
{
    struct stage *stage = context;
    stage->caught_up++;
}

static const struct sink_actions actions = {
    {on_send, on_close, on_answered}, on_work, on_welcomed, on_repairing, on_caught_up};

static void set_up(struct stage *stage)
{
    *stage = (struct stage){.now = 1000000};
    sink_init(&stage->sink, &actions, stage, stage->now);
    assert_int_equal(stage->works[SINK_LOAD], 1);
}

static void tear_down(struct stage *stage)
{
    sink_free(&stage->sink);
    buf_free(&stage->sent);
    buf_free(&stage->applying);
}

static void give(struct stage *stage, struct buf *out)
{
    struct frame frame;
    assert_int_equal(frame_decode(buf_view(out), FRAME_MAX_PAYLOAD, &frame), ERR_OK);
    sink_frame(&stage->sink, &frame, stage->now);
    buf_free(out);
}

static void give_raw(struct stage *stage, enum frame_type type, const char *payload, size_t size)
{
    struct buf out = {0};
    size_t begun = frame_begin(&out, type);
    buf_put(&out, payload, size);
    frame_end(&out, begun);
    give(stage, &out);
}

#define GIVE_TEXT(stage, type, text) give_raw(stage, type, text, sizeof(text) - 1)

/* The next frame that was sent; its type is 0 when there is none. */
static struct frame next_frame(struct stage *stage)
{
    struct frame frame = {0};
    struct bytes left = bytes_of(stage->sent.data + stage->read, stage->sent.size - stage->read);
    if (left.size) {
        assert_int_equal(frame_decode(left, FRAME_MAX_PAYLOAD, &frame), ERR_OK);
        stage->read += frame.whole.size;
    }
    return frame;
}

static void load(struct stage *stage)
{
    struct hello hello = {.oldest = 1,
                          .newest = 1,
                          .node_id = 3,
                          .position = {.modseq = 5, .chain = 50},
                          .name = bytes_text("rosa")};
    stage->working = false;
    sink_loaded(&stage->sink, ERR_OK, &hello, stage->now);
}

static void give_welcome(struct stage *stage)
{
    struct buf out = {0};
    struct welcome welcome = {.version = PROTOCOL_VERSION,
                              .store_id = 7,
                              .node_id = 8,
                              .last = {.modseq = 9, .chain = 90},
                              .heartbeat = BEAT / 1000,
                              .window = SOURCE_WINDOW};
    message_encode_welcome(&welcome, &out);
    give(stage, &out);
}

static void answer_look(struct stage *stage, size_t missing, bool all)
{
    static uint8_t guids[WANT_MAX * GUID_SIZE];
    stage->working = false;
    sink_looked(&stage->sink, ERR_OK, bytes_of(guids, missing * GUID_SIZE), all, stage->now);
}

static void answer_apply(struct stage *stage, uint64_t modseq, uint64_t answered, size_t missed)
{
    static uint8_t guids[(SOURCE_WANTS_MAX + 1) * GUID_SIZE];
    struct taken taken = {.position = {.modseq = modseq, .chain = modseq * 10},
                          .answered = answered,
                          .missed = bytes_of(guids, missed * GUID_SIZE)};
    stage->working = false;
    sink_applied(&stage->sink, ERR_OK, &taken, stage->now);
}

/* Until it waits for frames. */
static void begin_tailing(struct stage *stage)
{
    set_up(stage);
    load(stage);
    assert_int_equal(next_frame(stage).type, FRAME_HELLO);
    give_welcome(stage);
    answer_look(stage, 0, true);
    assert_false(stage->working);
}

static void assert_ended(struct stage *stage, const char *reason)
{
    struct frame frame = next_frame(stage);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_int_equal(stage->closes, 1);
    assert_non_null(strstr(stage->reason, reason));
    assert_true(bytes_equal(frame.payload, bytes_text(stage->reason)));
    assert_true(stage->sink.talk.closed);
}

static void assert_ack(struct stage *stage, uint64_t modseq, uint64_t consumed)
{
    struct ack ack;
    struct frame frame = next_frame(stage);
    assert_int_equal(frame.type, FRAME_ACK);
    assert_int_equal(message_decode_ack(frame.payload, &ack), ERR_OK);
    assert_int_equal(ack.position.modseq, modseq);
    assert_int_equal(ack.position.chain, modseq * 10);
    assert_int_equal(ack.consumed, consumed);
}

static void it_greets_with_its_own_position(void **state)
{
    struct stage stage;
    struct hello hello;
    (void)state;
    set_up(&stage);
    assert_int_equal(stage.sent.size, 0);
    load(&stage);
    struct frame frame = next_frame(&stage);
    assert_int_equal(frame.type, FRAME_HELLO);
    assert_int_equal(message_decode_hello(frame.payload, &hello), ERR_OK);
    assert_int_equal(hello.position.modseq, 5);
    assert_true(bytes_equal(hello.name, bytes_text("rosa")));
    give_welcome(&stage);
    assert_int_equal(stage.welcomes, 1);
    assert_int_equal(stage.sink.node_id, 8);
    tear_down(&stage);
}

static void a_node_that_cannot_greet_says_nothing(void **state)
{
    struct stage stage;
    struct hello hello = {0};
    (void)state;
    set_up(&stage);
    sink_loaded(&stage.sink, (fail)(ERR_REFUSED, "a master follows nobody"), &hello, stage.now);
    assert_int_equal(stage.sent.size, 0);
    assert_int_equal(stage.closes, 1);
    assert_string_equal(stage.reason, "a master follows nobody");
    tear_down(&stage);
}

static void a_refusal_is_told_with_its_reason(void **state)
{
    struct stage stage;
    struct buf out = {0};
    struct refuse refuse = {
        .why = REFUSAL_FORK, .text = bytes_text("not\non this journal"), .epoch = 5};
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    message_encode_refuse(&refuse, &out);
    give(&stage, &out);
    assert_int_equal(next_frame(&stage).type, 0);
    assert_int_equal(stage.closes, 1);
    assert_string_equal(stage.reason, "refused: fork: not on this journal");
    assert_true(stage.sink.refused);
    assert_int_equal(stage.sink.refusal, REFUSAL_FORK);
    assert_int_equal(stage.sink.later_epoch, 5);
    tear_down(&stage);
}

static void answer_question(struct stage *stage)
{
    stage->working = false;
    sink_answered(&stage->sink, ERR_OK, bytes_text("an answer"), stage->now);
}

static void an_upstream_may_ask_before_it_welcomes(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    GIVE_TEXT(&stage, FRAME_ASK, "a question");
    assert_int_equal(stage.works[SINK_ANSWER], 1);
    answer_question(&stage);
    assert_int_equal(next_frame(&stage).type, FRAME_ANSWER);
    GIVE_TEXT(&stage, FRAME_PING, "");
    stage.now += HEARTBEAT;
    sink_tick(&stage.sink, stage.now);
    assert_int_equal(next_frame(&stage).type, FRAME_PING);
    give_welcome(&stage);
    assert_int_equal(stage.welcomes, 1);
    assert_int_equal(stage.works[SINK_LOOK], 1);
    tear_down(&stage);
}

static void a_welcome_before_the_last_answer_is_a_breach(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    GIVE_TEXT(&stage, FRAME_ASK, "a question");
    give_welcome(&stage);
    assert_ended(&stage, "before the last question was answered");
    assert_int_equal(stage.welcomes, 0);
    tear_down(&stage);
}

static bool is_deposed(bool master, enum refusal why)
{
    struct stage stage;
    struct buf out = {0};
    struct hello hello = {.oldest = 1, .newest = 1, .node_id = 3, .master = master};
    struct refuse refuse = {.why = why, .text = bytes_text("no"), .epoch = 5};
    set_up(&stage);
    stage.working = false;
    sink_loaded(&stage.sink, ERR_OK, &hello, stage.now);
    next_frame(&stage);
    message_encode_refuse(&refuse, &out);
    give(&stage, &out);
    assert_int_equal(stage.closes, 1);
    bool deposed = sink_is_deposed(&stage.sink);
    tear_down(&stage);
    return deposed;
}

static void a_master_that_is_told_of_a_later_epoch_is_deposed(void **state)
{
    (void)state;
    assert_true(is_deposed(true, REFUSAL_EPOCH));
    assert_false(is_deposed(true, REFUSAL_STORE));
    assert_false(is_deposed(false, REFUSAL_EPOCH));
}

static void frames_that_come_during_work_are_the_next_work_together(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
    assert_int_equal(stage.works[SINK_APPLY], 1);
    assert_int_equal(stage.applying.size, FRAME_HEADER_SIZE + 3);
    GIVE_TEXT(&stage, FRAME_CONTENT, "two");
    GIVE_TEXT(&stage, FRAME_ENTRIES, "three");
    assert_int_equal(stage.works[SINK_APPLY], 1);
    answer_apply(&stage, 6, 0, 0);
    assert_ack(&stage, 6, FRAME_HEADER_SIZE + 3);
    assert_int_equal(stage.works[SINK_APPLY], 2);
    assert_int_equal(stage.applying.size, 2 * FRAME_HEADER_SIZE + 8);
    assert_memory_equal(stage.applying.data + FRAME_HEADER_SIZE, "two", 3);
    answer_apply(&stage, 8, 0, 0);
    assert_ack(&stage, 8, 3 * FRAME_HEADER_SIZE + 11);
    assert_false(stage.working);
    tear_down(&stage);
}

static void nothing_is_acknowledged_before_it_is_durable(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
    sink_tick(&stage.sink, stage.now + BEAT);
    assert_ack(&stage, 5, 0);
    stage.working = false;
    struct taken taken = {.position = {.modseq = 6, .chain = 60}};
    sink_applied(&stage.sink, (fail)(ERR_FULL, "no space"), &taken, stage.now);
    assert_ended(&stage, "no space");
    tear_down(&stage);
}

static void an_upstream_that_ignores_the_window_is_ended(void **state)
{
    static char payload[SOURCE_FILL_SIZE];
    struct stage stage;
    size_t most = SOURCE_WINDOW + SOURCE_FILL_SIZE + 2 * FRAME_MAX_PAYLOAD;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "this one is being taken in");
    for (unsigned i = 0; stage.closes == 0 && i < 100; i++) {
        give_raw(&stage, FRAME_ENTRIES, payload, sizeof payload);
        assert_true(stage.closes || stage.sink.queued.size <= most);
    }
    assert_ended(&stage, "more was sent");
    tear_down(&stage);
}

static void a_full_window_and_one_fill_are_taken(void **state)
{
    static char payload[SOURCE_FILL_SIZE];
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "this one is being taken in");
    for (unsigned i = 0; i < SOURCE_WINDOW / SOURCE_FILL_SIZE + 1; i++)
        give_raw(&stage, FRAME_ENTRIES, payload, sizeof payload);
    assert_int_equal(stage.closes, 0);
    tear_down(&stage);
}

static void missing_content_is_searched_from_the_start_and_asked_for(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    give_welcome(&stage);
    assert_int_equal(stage.works[SINK_LOOK], 1);
    answer_look(&stage, 2, false);
    struct frame frame = next_frame(&stage);
    assert_int_equal(frame.type, FRAME_WANT);
    assert_int_equal(frame.payload.size, 2 * GUID_SIZE);
    /* The search goes on when that is answered. */
    assert_false(stage.working);
    GIVE_TEXT(&stage, FRAME_CONTENT, "one");
    answer_apply(&stage, 5, 1, 0);
    assert_int_equal(stage.works[SINK_LOOK], 1);
    GIVE_TEXT(&stage, FRAME_CONTENT, "two");
    answer_apply(&stage, 5, 1, 0);
    assert_int_equal(stage.works[SINK_LOOK], 2);
    answer_look(&stage, 0, true);
    assert_false(stage.working);
    tear_down(&stage);
}

static void a_search_waits_for_frames(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    give_welcome(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
    answer_look(&stage, 0, false);
    assert_int_equal(stage.works[SINK_APPLY], 1);
    answer_apply(&stage, 6, 0, 0);
    assert_int_equal(stage.works[SINK_LOOK], 2);
    tear_down(&stage);
}

static void the_search_is_made_again_now_and_then(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    int64_t start = stage.now;
    for (stage.now = start; stage.now < start + LOOK_INTERVAL; stage.now += BEAT) {
        give_raw(&stage, FRAME_PING, "", 0);
        sink_tick(&stage.sink, stage.now);
        assert_int_equal(stage.works[SINK_LOOK], 1);
    }
    stage.now = start + LOOK_INTERVAL;
    sink_tick(&stage.sink, stage.now);
    assert_int_equal(stage.works[SINK_LOOK], 2);
    tear_down(&stage);
}

static void content_that_an_entry_refers_to_and_that_did_not_come_is_asked_for(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
    answer_apply(&stage, 6, 0, 3);
    assert_ack(&stage, 6, FRAME_HEADER_SIZE + 3);
    struct frame frame = next_frame(&stage);
    assert_int_equal(frame.type, FRAME_WANT);
    assert_int_equal(frame.payload.size, 3 * GUID_SIZE);
    tear_down(&stage);
}

static void no_more_is_asked_for_than_may_wait(void **state)
{
    struct stage stage;
    size_t asked = 0;
    (void)state;
    begin_tailing(&stage);
    for (unsigned i = 0; i < 6; i++) {
        GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
        answer_apply(&stage, 6 + i, 0, WANT_MAX + 1);
    }
    for (struct frame frame = next_frame(&stage); frame.type; frame = next_frame(&stage)) {
        if (frame.type != FRAME_WANT)
            continue;
        assert_true(frame.payload.size <= WANT_MAX * GUID_SIZE);
        asked += frame.payload.size / GUID_SIZE;
    }
    assert_int_equal(asked, SOURCE_WANTS_MAX);
    /* What was left out is found by a search once those are answered. */
    assert_int_equal(stage.works[SINK_LOOK], 1);
    GIVE_TEXT(&stage, FRAME_CONTENT, "all");
    answer_apply(&stage, 20, SOURCE_WANTS_MAX, 0);
    assert_int_equal(stage.works[SINK_LOOK], 2);
    tear_down(&stage);
}

static void content_that_nobody_asked_for_is_a_breach(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_CONTENT, "one");
    answer_apply(&stage, 5, 1, 0);
    assert_ended(&stage, "nobody had asked");
    tear_down(&stage);
}

static void silence_is_ended_by_an_ack_here_and_by_closing_there(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    int64_t start = stage.now;
    sink_tick(&stage.sink, start + BEAT - 1);
    assert_int_equal(next_frame(&stage).type, 0);
    sink_tick(&stage.sink, start + BEAT);
    assert_ack(&stage, 5, 0);
    stage.now = start + BEAT;
    give_raw(&stage, FRAME_PING, "", 0);
    sink_tick(&stage.sink, stage.now + 3 * BEAT);
    assert_ack(&stage, 5, 0);
    assert_int_equal(stage.closes, 0);
    sink_tick(&stage.sink, stage.now + 3 * BEAT + 1);
    assert_ended(&stage, "silent");
    tear_down(&stage);
}

static void an_upstream_that_does_not_answer_the_greeting_is_left(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    sink_tick(&stage.sink, stage.now + SILENCE);
    assert_int_equal(stage.closes, 0);
    sink_tick(&stage.sink, stage.now + SILENCE + 1);
    assert_ended(&stage, "silent");
    tear_down(&stage);
}

static void frames_out_of_place_end_the_connection(void **state)
{
    static const enum frame_type early[] = {FRAME_HELLO, FRAME_ENTRIES, FRAME_CONTENT,
                                            FRAME_ACK,   FRAME_WANT,    FRAME_PING};
    static const enum frame_type late[] = {FRAME_HELLO, FRAME_WELCOME, FRAME_REFUSE, FRAME_ACK,
                                           FRAME_WANT};
    struct stage stage;
    (void)state;
    for (size_t i = 0; i < sizeof early / sizeof *early; i++) {
        set_up(&stage);
        load(&stage);
        next_frame(&stage);
        give_raw(&stage, early[i], "", 0);
        assert_ended(&stage, "does not belong here");
        tear_down(&stage);
    }
    for (size_t i = 0; i < sizeof late / sizeof *late; i++) {
        begin_tailing(&stage);
        give_raw(&stage, late[i], "", 0);
        assert_ended(&stage, "does not belong here");
        tear_down(&stage);
    }
}

static void malformed_payloads_end_the_connection(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    GIVE_TEXT(&stage, FRAME_WELCOME, "short");
    assert_ended(&stage, "malformed welcome");
    assert_int_equal(stage.welcomes, 0);
    tear_down(&stage);
    set_up(&stage);
    load(&stage);
    next_frame(&stage);
    GIVE_TEXT(&stage, FRAME_REFUSE, "x");
    assert_ended(&stage, "malformed refusal");
    tear_down(&stage);
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_PING, "x");
    assert_ended(&stage, "malformed ping");
    tear_down(&stage);
}

static void after_the_end_nothing_is_done(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_ENTRIES, "one");
    sink_end(&stage.sink, "enough");
    assert_ended(&stage, "enough");
    GIVE_TEXT(&stage, FRAME_ENTRIES, "two");
    answer_apply(&stage, 6, 0, 1);
    sink_tick(&stage.sink, stage.now + 10 * SILENCE);
    sink_end(&stage.sink, "again");
    sink_closed(&stage.sink, "gone");
    assert_int_equal(stage.closes, 1);
    assert_int_equal(stage.works[SINK_APPLY], 1);
    assert_int_equal(next_frame(&stage).type, 0);
    tear_down(&stage);
}

static void a_bye_is_not_answered(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    GIVE_TEXT(&stage, FRAME_BYE, "the agent there stops");
    assert_int_equal(next_frame(&stage).type, 0);
    assert_int_equal(stage.closes, 1);
    assert_string_equal(stage.reason, "the agent there stops");
    tear_down(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_greets_with_its_own_position),
        cmocka_unit_test(a_node_that_cannot_greet_says_nothing),
        cmocka_unit_test(a_refusal_is_told_with_its_reason),
        cmocka_unit_test(an_upstream_may_ask_before_it_welcomes),
        cmocka_unit_test(a_welcome_before_the_last_answer_is_a_breach),
        cmocka_unit_test(a_master_that_is_told_of_a_later_epoch_is_deposed),
        cmocka_unit_test(frames_that_come_during_work_are_the_next_work_together),
        cmocka_unit_test(nothing_is_acknowledged_before_it_is_durable),
        cmocka_unit_test(an_upstream_that_ignores_the_window_is_ended),
        cmocka_unit_test(a_full_window_and_one_fill_are_taken),
        cmocka_unit_test(missing_content_is_searched_from_the_start_and_asked_for),
        cmocka_unit_test(a_search_waits_for_frames),
        cmocka_unit_test(the_search_is_made_again_now_and_then),
        cmocka_unit_test(content_that_an_entry_refers_to_and_that_did_not_come_is_asked_for),
        cmocka_unit_test(no_more_is_asked_for_than_may_wait),
        cmocka_unit_test(content_that_nobody_asked_for_is_a_breach),
        cmocka_unit_test(silence_is_ended_by_an_ack_here_and_by_closing_there),
        cmocka_unit_test(an_upstream_that_does_not_answer_the_greeting_is_left),
        cmocka_unit_test(frames_out_of_place_end_the_connection),
        cmocka_unit_test(malformed_payloads_end_the_connection),
        cmocka_unit_test(after_the_end_nothing_is_done),
        cmocka_unit_test(a_bye_is_not_answered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
