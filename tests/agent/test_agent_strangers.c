/* What strangers get from an agent, who may not be what they say: refusals, reasons, and not more
 * than a window. */
#include "agent/answer.h"
#include "agent/ask.h"
#include "agent/source.h"
#include "base/err.h"
#include "tests/support/post.h"
#include "tests/support/stranger.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static void who_cannot_be_fed_is_told_why(void **state)
{
    struct host *a = host_start_master(*state);
    struct host_view view = host_view(a);
    struct hello hello = stranger_hello("rosa", 99);
    hello.oldest = hello.newest = PROTOCOL_VERSION + 1;
    stranger_assert_refused(a, &hello, REFUSAL_VERSION);
    hello = stranger_hello("rosa", 99);
    hello.store_id = view.store_id + 1;
    stranger_assert_refused(a, &hello, REFUSAL_STORE);
    hello = stranger_hello("rosa", view.node_id);
    stranger_assert_refused(a, &hello, REFUSAL_STORE);
    hello = stranger_hello("rosa", 99);
    hello.store_id = view.store_id;
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    host_start(b, "127.0.0.1:0", NULL);
    hello = stranger_hello("rosa", 99);
    stranger_assert_refused(b, &hello, REFUSAL_NOT_READY);
}

static void one_name_is_one_follower(void **state)
{
    struct host *a = host_start_master(*state);
    struct stranger first, second;
    struct hello hello = stranger_hello("rosa", 98);
    stranger_dial(&first, a);
    stranger_greet(&first, &hello);
    assert_int_equal(stranger_hear(&first).type, FRAME_WELCOME);
    struct hello other = stranger_hello("rosa", 99);
    stranger_assert_refused(a, &other, REFUSAL_NAME);
    /* The same node again: it has noticed the end of its connection first. */
    stranger_dial(&second, a);
    stranger_greet(&second, &hello);
    assert_int_equal(stranger_hear(&second).type, FRAME_WELCOME);
    struct frame frame;
    for (frame = stranger_hear(&first); frame.type == FRAME_ENTRIES; frame = stranger_hear(&first))
        continue;
    assert_int_equal(frame.type, FRAME_BYE);
    assert_int_equal(stranger_hear(&first).type, 0);
    stranger_hang_up(&first);
    stranger_hang_up(&second);
}

static enum frame_type answer_to(struct host *host, const struct hello *hello)
{
    struct stranger stranger;
    stranger_dial(&stranger, host);
    stranger_greet(&stranger, hello);
    enum frame_type type = stranger_hear(&stranger).type;
    stranger_hang_up(&stranger);
    return type;
}

static void a_name_is_free_when_its_bearer_hangs_up(void **state)
{
    struct host *a = host_start_master(*state);
    struct hello hello = stranger_hello("rosa", 98);
    struct hello other = stranger_hello("rosa", 99);
    assert_int_equal(answer_to(a, &hello), FRAME_WELCOME);
    enum frame_type type = answer_to(a, &other);
    for (unsigned waits = 0; type == FRAME_REFUSE && waits < 1000; waits++) {
        hosts_rest();
        type = answer_to(a, &other);
    }
    assert_int_equal(type, FRAME_WELCOME);
}

static void assert_thrown_out(struct host *node, struct bytes bytes)
{
    struct stranger stranger;
    stranger_dial(&stranger, node);
    stranger_say(&stranger, bytes);
    struct frame frame = stranger_hear(&stranger);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_true(frame.payload.size > 0);
    assert_int_equal(stranger_hear(&stranger).type, 0);
    stranger_hang_up(&stranger);
}

static void garbage_changes_nothing_and_the_agent_goes_on(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    struct host_view before = host_view(a);
    struct buf out = {0};
    hosts_wait_equal(a, b);
    assert_thrown_out(a, bytes_text("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_thrown_out(a, bytes_of("\xff\xff\xff\xff\0\0\0\0\1", 9));
    /* A byte more than a greeting may have: what strangers say is not kept for long. */
    assert_thrown_out(a, bytes_of("\1\x10\0\0\0\0\0\0\1", 9));
    struct hello hello = stranger_hello("rosa", 99);
    message_encode_hello(&hello, &out);
    out.data[out.size - 1] ^= 1;
    assert_thrown_out(a, buf_view(&out));
    buf_reset(&out);
    frame_end(&out, frame_begin(&out, FRAME_ENTRIES));
    assert_thrown_out(a, buf_view(&out));
    buf_reset(&out);
    message_encode_want(bytes_of("12345678901234567890123456789012", GUID_SIZE), &out);
    assert_thrown_out(a, buf_view(&out));
    buf_free(&out);
    assert_true(position_equal(host_view(a).position, before.position));
    assert_int_equal(host_view(a).digest, before.digest);
    host_append(a, "INBOX", "after all that");
    hosts_wait_equal(a, b);
}

static void an_upstream_that_talks_nonsense_changes_nothing(void **state)
{
    struct hosts *hosts = *state;
    struct host *b = host_make(hosts, 1, ROLE_REPLICA);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t size = sizeof address;
    char text[ADDRESS_TEXT_SIZE];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    host_start(b, NULL, text);
    /* Welcomes it, then sends entries that are none. */
    struct welcome welcome = {.version = PROTOCOL_VERSION,
                              .store_id = 5,
                              .node_id = 6,
                              .last = {.modseq = 1, .chain = 1},
                              .heartbeat = 5000,
                              .window = SOURCE_WINDOW};
    struct buf out = {0};
    message_encode_welcome(&welcome, &out);
    size_t begun = frame_begin(&out, FRAME_ENTRIES);
    buf_put(&out, "no entries at all", 17);
    frame_end(&out, begun);
    for (unsigned round = 0; round < 2; round++) {
        struct stranger stranger = {.fd = accept(listener, NULL, NULL)};
        frame_parser_init(&stranger.parser, FRAME_MAX_PAYLOAD);
        assert_int_equal(stranger_hear(&stranger).type, FRAME_HELLO);
        stranger_say(&stranger, buf_view(&out));
        assert_int_equal(stranger_hear(&stranger).type, FRAME_BYE);
        assert_int_equal(stranger_hear(&stranger).type, 0);
        stranger_hang_up(&stranger);
    }
    buf_free(&out);
    close(listener);
    assert_int_equal(host_view(b).position.modseq, 0);
    assert_int_equal(host_view(b).store_id, 0);
    host_assert_sound(b);
}

static void a_slow_follower_slows_nobody_and_costs_a_window(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    struct stranger slow;
    struct hello hello = stranger_hello("slow", 99);
    stranger_dial(&slow, a);
    stranger_greet(&slow, &hello);
    assert_int_equal(stranger_hear(&slow).type, FRAME_WELCOME);
    for (unsigned i = 0; i < 30; i++)
        host_append_noise(a, 200000);
    hosts_wait_equal(a, b);
    /* It gets its window and not much more, until it acknowledges. */
    while (slow.got < SOURCE_WINDOW)
        assert_true(stranger_take(&slow));
    while (stranger_readable(&slow, 100))
        assert_true(stranger_take(&slow));
    assert_true(slow.got < SOURCE_WINDOW + 2 * SOURCE_FILL_SIZE);
    stranger_hang_up(&slow);
}

/* Greets as this node, whose agent does not run, and answers all that it is asked, until it may
 * ask. */
static void be_repaired(struct stranger *stranger, struct host *upstream, struct host *node)
{
    struct host_view view = host_view(node);
    struct hello hello = stranger_hello("", view.node_id);
    struct buf made = {0};
    struct buf out = {0};
    hello.store_id = view.store_id;
    hello.position = view.position;
    hello.digest = view.digest;
    hello.repairing = true;
    stranger_dial(stranger, upstream);
    stranger_greet(stranger, &hello);
    assert_int_equal(stranger_hear(stranger).type, FRAME_REPAIR);
    struct frame frame;
    for (frame = stranger_hear(stranger); frame.type == FRAME_ASK;
         frame = stranger_hear(stranger)) {
        buf_reset(&made);
        buf_reset(&out);
        assert_int_equal(answer(node->store, frame.payload, &made), ERR_OK);
        message_encode_answer(&(struct answered){.bytes = buf_view(&made)}, &out);
        stranger_say(stranger, buf_view(&out));
    }
    assert_int_equal(frame.type, FRAME_PLAN);
    buf_free(&made);
    buf_free(&out);
}

#define ASKED_MOST 60u
#define RESTS 20u          /* between two questions */
#define PIECE (512u << 10) /* bytes of content in an answer */

/* Asks for a piece of content again and again, and reads none of it. Whether the agent was through
 * with each before the next: else that was what it found fault with. */
static bool ask_without_reading(struct stranger *stranger, const struct guid *guid)
{
    struct buf question = {0};
    struct buf out = {0};
    struct frame frame;
    buf_u8(&question, ASK_CONTENT);
    buf_u64(&question, 0);
    buf_varint(&question, 1);
    buf_put(&question, guid->bytes, GUID_SIZE);
    message_encode_ask(buf_view(&question), &out);
    for (unsigned i = 0; i < ASKED_MOST; i++) {
        (void)!send(stranger->fd, out.data, out.size, MSG_NOSIGNAL);
        for (unsigned rests = 0; rests < RESTS; rests++)
            hosts_rest();
    }
    buf_free(&question);
    buf_free(&out);
    do
        frame = stranger_hear(stranger);
    while (frame.type == FRAME_ANSWER);
    return frame.type == 0;
}

static void who_does_not_read_what_it_asks_for_is_cut_off(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    static uint8_t noise[PIECE + 1000];
    struct stranger stranger;
    struct guid guid;
    bool in_turn = false;
    hash_random(noise, sizeof noise);
    assert_int_equal(post_message(a->store, "INBOX", bytes_of(noise, sizeof noise), &guid), ERR_OK);
    hosts_wait_equal(a, b);
    host_stop(b);
    for (unsigned tries = 0; !in_turn && tries < 20; tries++) {
        be_repaired(&stranger, a, b);
        in_turn = ask_without_reading(&stranger, &guid);
        stranger_hang_up(&stranger);
    }
    assert_true(in_turn);
    assert_true(stranger.got < ASKED_MOST / 2 * PIECE);
    host_start(b, NULL, a->address);
    host_append(a, "INBOX", "after all that");
    hosts_wait_equal(a, b);
}

static void an_agent_that_stops_says_so(void **state)
{
    struct host *a = host_start_master(*state);
    struct stranger stranger;
    struct hello hello = stranger_hello("rosa", 99);
    stranger_dial(&stranger, a);
    stranger_greet(&stranger, &hello);
    assert_int_equal(stranger_hear(&stranger).type, FRAME_WELCOME);
    agent_stop(a->agent);
    struct frame frame = stranger_hear(&stranger);
    while (frame.type == FRAME_ENTRIES)
        frame = stranger_hear(&stranger);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_true(bytes_equal(frame.payload, bytes_text("the agent there stops")));
    assert_int_equal(stranger_hear(&stranger).type, 0);
    stranger_hang_up(&stranger);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hosts_set_up, hosts_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_cannot_be_fed_is_told_why),
        TEST(one_name_is_one_follower),
        TEST(a_name_is_free_when_its_bearer_hangs_up),
        TEST(garbage_changes_nothing_and_the_agent_goes_on),
        TEST(an_upstream_that_talks_nonsense_changes_nothing),
        TEST(a_slow_follower_slows_nobody_and_costs_a_window),
        TEST(who_does_not_read_what_it_asks_for_is_cut_off),
        TEST(an_agent_that_stops_says_so),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
