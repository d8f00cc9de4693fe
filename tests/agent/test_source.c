/* The upstream's side without a socket: what it sends is cut into frames and kept, and work stays
 * open until the test answers it. */
#include "agent/source.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

struct stage {
    struct source source;
    int64_t now;
    struct buf sent;
    size_t read; /* bytes of `sent` that the test has looked at */
    int works[5];
    unsigned answers;
    bool working;
    struct position acknowledged;
    unsigned acknowledgements;
    unsigned closes;
    char reason[REASON_MAX + 1];
};

static void on_send(void *context, struct bytes frames)
{
    struct stage *stage = context;
    assert_int_equal(stage->closes, 0);
    buf_put(&stage->sent, frames.data, frames.size);
}

static void on_work(void *context, enum source_work work)
{
    struct stage *stage = context;
    assert_false(stage->working);
    stage->working = true;
    stage->works[work]++;
}

static void on_acknowledged(void *context, struct position position)
{
    struct stage *stage = context;
    stage->acknowledged = position;
    stage->acknowledgements++;
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

static const struct source_actions actions = {
    {on_send, on_close, on_answered}, on_work, on_acknowledged};

static void set_up(struct stage *stage)
{
    *stage = (struct stage){.now = 1000000};
    source_init(&stage->source, &actions, stage, stage->now);
}

static void tear_down(struct stage *stage)
{
    source_free(&stage->source);
    buf_free(&stage->sent);
}

static void give(struct stage *stage, struct buf *out)
{
    struct frame frame;
    assert_int_equal(frame_decode(buf_view(out), FRAME_MAX_PAYLOAD, &frame), ERR_OK);
    source_frame(&stage->source, &frame, stage->now);
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

static void give_hello(struct stage *stage, const char *name)
{
    struct buf out = {0};
    struct hello hello = {.oldest = 1,
                          .newest = 1,
                          .node_id = 0xabc,
                          .position = {.modseq = 5, .chain = 50},
                          .name = bytes_text(name)};
    message_encode_hello(&hello, &out);
    give(stage, &out);
}

static void give_ack(struct stage *stage, uint64_t modseq, uint64_t consumed)
{
    struct buf out = {0};
    struct ack ack = {.position = {.modseq = modseq, .chain = modseq * 10}, .consumed = consumed};
    message_encode_ack(&ack, &out);
    give(stage, &out);
}

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

static void answer_check(struct stage *stage)
{
    struct verdict verdict = {
        .welcome = {.store_id = 7, .node_id = 8, .last = {.modseq = 9, .chain = 90}}};
    stage->working = false;
    source_checked(&stage->source, &verdict, stage->now);
}

/* `size` bytes of frames, which are not looked at. */
static void answer_fill(struct stage *stage, size_t size, bool all)
{
    struct buf frames = {0};
    size_t begun = frame_begin(&frames, FRAME_ENTRIES);
    while (frames.size < size)
        buf_u8(&frames, 0);
    frame_end(&frames, begun);
    stage->working = false;
    source_filled(&stage->source, ERR_OK, size ? buf_view(&frames) : bytes_of(NULL, 0), all,
                  stage->now);
    buf_free(&frames);
}

/* Until it has sent all there is. */
static void begin_tailing(struct stage *stage)
{
    set_up(stage);
    give_hello(stage, "rosa");
    answer_check(stage);
    answer_fill(stage, 0, true);
    assert_int_equal(next_frame(stage).type, FRAME_WELCOME);
    assert_false(stage->working);
}

static void assert_ended(struct stage *stage, const char *reason)
{
    struct frame frame = next_frame(stage);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_int_equal(stage->closes, 1);
    assert_non_null(strstr(stage->reason, reason));
    assert_true(bytes_equal(frame.payload, bytes_text(stage->reason)));
    assert_true(stage->source.talk.closed);
}

static void a_greeting_is_checked_and_answered_by_a_welcome(void **state)
{
    struct stage stage;
    struct welcome welcome;
    (void)state;
    set_up(&stage);
    give_hello(&stage, "rosa");
    assert_int_equal(stage.works[SOURCE_CHECK], 1);
    assert_string_equal(stage.source.name, "rosa");
    assert_int_equal(stage.sent.size, 0);
    answer_check(&stage);
    struct frame frame = next_frame(&stage);
    assert_int_equal(frame.type, FRAME_WELCOME);
    assert_int_equal(message_decode_welcome(frame.payload, &welcome), ERR_OK);
    assert_int_equal(welcome.store_id, 7);
    assert_int_equal(welcome.last.modseq, 9);
    assert_int_equal(welcome.window, SOURCE_WINDOW);
    assert_int_equal(welcome.heartbeat, HEARTBEAT / 1000);
    assert_int_equal(stage.works[SOURCE_FILL], 1);
    assert_int_equal(stage.acknowledged.modseq, 5);
    tear_down(&stage);
}

static void begin_healing(struct stage *stage)
{
    struct verdict verdict = {.judgement = JUDGE_HEAL};
    give_hello(stage, "rosa");
    stage->working = false;
    source_checked(&stage->source, &verdict, stage->now);
}

static void a_follower_is_asked_once_for_lost_content_before_it_is_welcomed(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    begin_healing(&stage);
    assert_int_equal(stage.works[SOURCE_HEAL], 1);
    assert_true(stage.source.healed);
    source_ask(&stage.source, bytes_text("?"), stage.now);
    assert_int_equal(next_frame(&stage).type, FRAME_ASK);
    give_raw(&stage, FRAME_ANSWER, "\0!", 2);
    assert_int_equal(stage.answers, 1);
    stage.working = false;
    source_healed(&stage.source, (fail)(ERR_FULL, "no room for it"), stage.now);
    assert_int_equal(stage.works[SOURCE_CHECK], 2);
    answer_check(&stage);
    assert_int_equal(next_frame(&stage).type, FRAME_WELCOME);
    assert_int_equal(stage.works[SOURCE_FILL], 1);
    tear_down(&stage);
}

static void an_answer_that_breaks_the_protocol_ends_the_healing_and_the_connection(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    begin_healing(&stage);
    source_healed(&stage.source, (fail)(ERR_PROTOCOL, "content of another name"), stage.now);
    assert_ended(&stage, "content of another name");
    assert_int_equal(stage.works[SOURCE_CHECK], 1);
    tear_down(&stage);
}

static void a_follower_without_a_name_is_called_by_its_node_id(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    give_hello(&stage, "");
    assert_string_equal(stage.source.name, "0000000000000abc");
    tear_down(&stage);
}

static void a_refusal_says_why_and_closes(void **state)
{
    struct stage stage;
    struct refuse refuse;
    struct verdict verdict = {
        .judgement = JUDGE_REFUSE, .why = REFUSAL_GAP, .text = "gap: too old"};
    (void)state;
    set_up(&stage);
    give_hello(&stage, "rosa");
    source_checked(&stage.source, &verdict, stage.now);
    struct frame frame = next_frame(&stage);
    assert_int_equal(frame.type, FRAME_REFUSE);
    assert_int_equal(message_decode_refuse(frame.payload, &refuse), ERR_OK);
    assert_int_equal(refuse.why, REFUSAL_GAP);
    assert_true(bytes_equal(refuse.text, bytes_text("gap: too old")));
    assert_int_equal(next_frame(&stage).type, 0);
    assert_int_equal(stage.closes, 1);
    assert_int_equal(stage.acknowledgements, 0);
    tear_down(&stage);
}

static void frames_are_made_as_long_as_there_are_more(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    give_hello(&stage, "rosa");
    answer_check(&stage);
    assert_int_equal(next_frame(&stage).type, FRAME_WELCOME);
    answer_fill(&stage, 100, false);
    assert_int_equal(next_frame(&stage).whole.size, 100);
    assert_int_equal(stage.works[SOURCE_FILL], 2);
    answer_fill(&stage, 50, true);
    assert_int_equal(next_frame(&stage).whole.size, 50);
    assert_false(stage.working);
    source_changed(&stage.source);
    assert_int_equal(stage.works[SOURCE_FILL], 3);
    tear_down(&stage);
}

static void a_commit_while_frames_are_made_is_not_forgotten(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    source_changed(&stage.source);
    assert_int_equal(stage.works[SOURCE_FILL], 2);
    answer_fill(&stage, 0, true);
    assert_int_equal(stage.works[SOURCE_FILL], 3);
    answer_fill(&stage, 0, true);
    assert_false(stage.working);
    tear_down(&stage);
}

static void no_more_than_the_window_and_one_fill_is_under_way(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    uint64_t sent = 0;
    while (stage.working) {
        answer_fill(&stage, SOURCE_FILL_SIZE, false);
        sent += SOURCE_FILL_SIZE;
        assert_true(sent < SOURCE_WINDOW + 2 * SOURCE_FILL_SIZE);
    }
    assert_true(sent >= SOURCE_WINDOW);
    source_changed(&stage.source);
    assert_false(stage.working);
    /* Exactly what is taken in makes room. */
    give_ack(&stage, 5, sent - SOURCE_WINDOW);
    assert_false(stage.working);
    give_ack(&stage, 6, sent - SOURCE_WINDOW + 1);
    assert_true(stage.working);
    tear_down(&stage);
}

static void acknowledgements_are_told_when_they_move(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    assert_int_equal(stage.acknowledgements, 1);
    source_changed(&stage.source);
    answer_fill(&stage, 100, true);
    give_ack(&stage, 6, 60);
    assert_int_equal(stage.acknowledgements, 2);
    assert_int_equal(stage.acknowledged.modseq, 6);
    assert_int_equal(stage.acknowledged.chain, 60);
    give_ack(&stage, 6, 100);
    assert_int_equal(stage.acknowledgements, 2);
    assert_int_equal(stage.closes, 0);
    tear_down(&stage);
}

static void acknowledging_what_was_not_sent_is_a_breach(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    answer_fill(&stage, 100, true);
    next_frame(&stage);
    give_ack(&stage, 6, 101);
    assert_ended(&stage, "not sent");
    assert_int_equal(stage.acknowledgements, 1);
    tear_down(&stage);
}

static void an_acknowledgement_never_goes_back(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    answer_fill(&stage, 100, true);
    next_frame(&stage);
    give_ack(&stage, 7, 50);
    give_ack(&stage, 6, 60);
    assert_ended(&stage, "was before");
    assert_int_equal(stage.acknowledged.modseq, 7);
    tear_down(&stage);
    begin_tailing(&stage);
    source_changed(&stage.source);
    answer_fill(&stage, 100, true);
    next_frame(&stage);
    give_ack(&stage, 7, 50);
    give_ack(&stage, 7, 49);
    assert_ended(&stage, "was before");
    tear_down(&stage);
}

static void wanted_content_is_fetched_and_only_so_much_may_wait(void **state)
{
    static uint8_t guids[WANT_MAX * GUID_SIZE];
    struct stage stage;
    struct buf out = {0};
    (void)state;
    begin_tailing(&stage);
    message_encode_want(bytes_of(guids, GUID_SIZE), &out);
    give(&stage, &out);
    assert_true(stage.working);
    assert_int_equal(stage.source.wants.size, GUID_SIZE);
    for (unsigned i = 0; stage.closes == 0 && i < 8; i++) {
        message_encode_want(bytes_of(guids, sizeof guids), &out);
        give(&stage, &out);
        assert_true(stage.closes || stage.source.wants.size <= SOURCE_WANTS_MAX * GUID_SIZE);
    }
    assert_ended(&stage, "asked for");
    tear_down(&stage);
}

static void silence_is_ended_by_a_ping_here_and_by_closing_there(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    int64_t start = stage.now;
    source_tick(&stage.source, start + HEARTBEAT - 1);
    assert_int_equal(next_frame(&stage).type, 0);
    source_tick(&stage.source, start + HEARTBEAT);
    assert_int_equal(next_frame(&stage).type, FRAME_PING);
    source_tick(&stage.source, start + HEARTBEAT + 1);
    assert_int_equal(next_frame(&stage).type, 0);
    /* Whatever the follower says counts. */
    stage.now = start + 2 * HEARTBEAT;
    give_raw(&stage, FRAME_PING, "", 0);
    source_tick(&stage.source, stage.now);
    assert_int_equal(next_frame(&stage).type, FRAME_PING);
    source_tick(&stage.source, stage.now + SILENCE);
    assert_int_equal(next_frame(&stage).type, FRAME_PING);
    assert_int_equal(stage.closes, 0);
    source_tick(&stage.source, stage.now + SILENCE + 1);
    assert_ended(&stage, "silent");
    tear_down(&stage);
}

static void a_stranger_who_says_nothing_is_closed(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    source_tick(&stage.source, stage.now + HEARTBEAT);
    assert_int_equal(stage.sent.size, 0);
    source_tick(&stage.source, stage.now + SILENCE + 1);
    assert_ended(&stage, "silent");
    tear_down(&stage);
}

static void frames_out_of_place_end_the_connection(void **state)
{
    static const enum frame_type of_an_upstream[] = {FRAME_WELCOME, FRAME_REFUSE, FRAME_ENTRIES,
                                                     FRAME_CONTENT};
    struct stage stage;
    (void)state;
    for (int type = FRAME_WELCOME; type < FRAME_TYPE_END; type++) {
        set_up(&stage);
        give_raw(&stage, (enum frame_type)type, "", 0);
        assert_ended(&stage, "does not belong here");
        assert_int_equal(stage.works[SOURCE_CHECK], 0);
        tear_down(&stage);
    }
    for (size_t i = 0; i < sizeof of_an_upstream / sizeof *of_an_upstream; i++) {
        begin_tailing(&stage);
        give_raw(&stage, of_an_upstream[i], "", 0);
        assert_ended(&stage, "does not belong here");
        tear_down(&stage);
    }
    begin_tailing(&stage);
    give_hello(&stage, "again");
    assert_ended(&stage, "does not belong here");
    assert_string_equal(stage.source.name, "rosa");
    tear_down(&stage);
    set_up(&stage);
    give_hello(&stage, "rosa");
    give_ack(&stage, 6, 0);
    assert_ended(&stage, "does not belong here");
    answer_check(&stage);
    assert_int_equal(stage.closes, 1);
    tear_down(&stage);
}

static void malformed_payloads_end_the_connection(void **state)
{
    struct stage stage;
    (void)state;
    set_up(&stage);
    give_raw(&stage, FRAME_HELLO, "GET / HTTP/1.1", 14);
    assert_ended(&stage, "not a shiplog follower");
    tear_down(&stage);
    begin_tailing(&stage);
    give_raw(&stage, FRAME_ACK, "short", 5);
    assert_ended(&stage, "malformed acknowledgement");
    tear_down(&stage);
    begin_tailing(&stage);
    give_raw(&stage, FRAME_WANT, "short", 5);
    assert_ended(&stage, "malformed want");
    tear_down(&stage);
    begin_tailing(&stage);
    give_raw(&stage, FRAME_PING, "x", 1);
    assert_ended(&stage, "malformed ping");
    tear_down(&stage);
}

static void begin_equalising(struct stage *stage)
{
    struct verdict verdict = {.judgement = JUDGE_REPAIR, .text = "a gap"};
    set_up(stage);
    give_hello(stage, "rosa");
    stage->working = false;
    source_checked(&stage->source, &verdict, stage->now);
    assert_int_equal(stage->works[SOURCE_TAKE_IN], 1);
    stage->working = false;
    source_taken(&stage->source, ERR_OK, bytes_text("a plan"), stage->now);
    assert_int_equal(stage->source.state, SOURCE_EQUALISING);
    assert_int_equal(next_frame(stage).type, FRAME_REPAIR);
    assert_int_equal(next_frame(stage).type, FRAME_PLAN);
}

/* It was looked up and let in by its name, and for one store. */
static void who_was_repaired_greets_again_and_nobody_else(void **state)
{
    struct stage stage;
    struct buf out = {0};
    struct hello other = {.oldest = 1, .newest = 1, .node_id = 0xdef, .name = bytes_text("rosa")};
    (void)state;
    begin_equalising(&stage);
    give_hello(&stage, "rosa");
    assert_int_equal(stage.works[SOURCE_CHECK], 2);
    tear_down(&stage);
    begin_equalising(&stage);
    give_hello(&stage, "zita");
    assert_ended(&stage, "another follower greets");
    assert_int_equal(stage.works[SOURCE_CHECK], 1);
    assert_string_equal(stage.source.name, "rosa");
    tear_down(&stage);
    begin_equalising(&stage);
    message_encode_hello(&other, &out);
    give(&stage, &out);
    assert_ended(&stage, "another follower greets");
    tear_down(&stage);
}

static void a_failed_fill_ends_the_connection_with_its_reason(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    source_filled(&stage.source, (fail)(ERR_IO, "the disk is on fire"), bytes_of(NULL, 0), false,
                  stage.now);
    assert_ended(&stage, "the disk is on fire");
    tear_down(&stage);
}

static void a_bye_is_not_answered(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    give_raw(&stage, FRAME_BYE, "that\nwas \"it\"", 13);
    assert_int_equal(next_frame(&stage).type, 0);
    assert_int_equal(stage.closes, 1);
    assert_string_equal(stage.reason, "that was 'it'");
    tear_down(&stage);
}

static void after_the_end_nothing_is_done(void **state)
{
    struct stage stage;
    (void)state;
    begin_tailing(&stage);
    source_changed(&stage.source);
    source_end(&stage.source, "enough");
    assert_ended(&stage, "enough");
    answer_fill(&stage, 100, false);
    source_changed(&stage.source);
    give_ack(&stage, 6, 0);
    source_tick(&stage.source, stage.now + 10 * SILENCE);
    source_end(&stage.source, "again");
    source_closed(&stage.source, "gone");
    assert_int_equal(stage.closes, 1);
    assert_int_equal(stage.works[SOURCE_FILL], 2);
    assert_int_equal(next_frame(&stage).type, 0);
    tear_down(&stage);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_greeting_is_checked_and_answered_by_a_welcome),
        cmocka_unit_test(a_follower_is_asked_once_for_lost_content_before_it_is_welcomed),
        cmocka_unit_test(an_answer_that_breaks_the_protocol_ends_the_healing_and_the_connection),
        cmocka_unit_test(a_follower_without_a_name_is_called_by_its_node_id),
        cmocka_unit_test(a_refusal_says_why_and_closes),
        cmocka_unit_test(frames_are_made_as_long_as_there_are_more),
        cmocka_unit_test(a_commit_while_frames_are_made_is_not_forgotten),
        cmocka_unit_test(no_more_than_the_window_and_one_fill_is_under_way),
        cmocka_unit_test(acknowledgements_are_told_when_they_move),
        cmocka_unit_test(acknowledging_what_was_not_sent_is_a_breach),
        cmocka_unit_test(an_acknowledgement_never_goes_back),
        cmocka_unit_test(wanted_content_is_fetched_and_only_so_much_may_wait),
        cmocka_unit_test(silence_is_ended_by_a_ping_here_and_by_closing_there),
        cmocka_unit_test(a_stranger_who_says_nothing_is_closed),
        cmocka_unit_test(frames_out_of_place_end_the_connection),
        cmocka_unit_test(malformed_payloads_end_the_connection),
        cmocka_unit_test(who_was_repaired_greets_again_and_nobody_else),
        cmocka_unit_test(a_failed_fill_ends_the_connection_with_its_reason),
        cmocka_unit_test(a_bye_is_not_answered),
        cmocka_unit_test(after_the_end_nothing_is_done),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
