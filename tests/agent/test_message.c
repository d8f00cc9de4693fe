#include "agent/message.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* The payload of the one frame in a buffer. */
static struct bytes payload_of(const struct buf *out, enum frame_type type)
{
    struct frame frame;
    assert_int_equal(frame_decode(buf_view(out), FRAME_MAX_PAYLOAD, &frame), ERR_OK);
    assert_int_equal(frame.type, type);
    assert_int_equal(frame.whole.size, out->size);
    return frame.payload;
}

static void assert_payload(const struct buf *out, enum frame_type type, const char *golden,
                           size_t size)
{
    struct bytes payload = payload_of(out, type);
    assert_int_equal(payload.size, size);
    assert_memory_equal(payload.data, golden, size);
}

#define ASSERT_PAYLOAD(out, type, golden) assert_payload(out, type, golden, sizeof(golden) - 1)

static int decode(enum frame_type type, struct bytes payload)
{
    struct hello hello;
    struct welcome welcome;
    struct refuse refuse;
    struct content_part part;
    struct ack ack;
    struct bytes bytes;
    switch (type) {
    case FRAME_HELLO:
        return message_decode_hello(payload, &hello);
    case FRAME_WELCOME:
        return message_decode_welcome(payload, &welcome);
    case FRAME_REFUSE:
        return message_decode_refuse(payload, &refuse);
    case FRAME_CONTENT:
        return message_decode_content(payload, &part);
    case FRAME_ACK:
        return message_decode_ack(payload, &ack);
    case FRAME_WANT:
        return message_decode_want(payload, &bytes);
    case FRAME_PING:
        return message_decode_ping(payload);
    default:
        return message_decode_bye(payload, &bytes);
    }
}

/* Every cut of a payload is refused, in a block of exactly its size; so is one byte more, unless
 * later versions may add to it. */
static void assert_exact(const struct buf *out, enum frame_type type, bool may_grow)
{
    struct bytes payload = payload_of(out, type);
    uint8_t *copy = malloc(payload.size + 1);
    assert_non_null(copy);
    memcpy(copy, payload.data, payload.size);
    copy[payload.size] = 0;
    assert_int_equal(decode(type, bytes_of(copy, payload.size)), ERR_OK);
    assert_int_equal(decode(type, bytes_of(copy, payload.size + 1)),
                     may_grow ? ERR_OK : ERR_PROTOCOL);
    free(copy);
    for (size_t size = 0; size < payload.size; size++) {
        copy = malloc(size ? size : 1);
        assert_non_null(copy);
        memcpy(copy, payload.data, size);
        assert_int_equal(decode(type, bytes_of(copy, size)), ERR_PROTOCOL);
        free(copy);
    }
}

static struct hello some_hello(void)
{
    return (struct hello){.oldest = 1,
                          .newest = 2,
                          .node_id = 0x0102030405060708,
                          .store_id = 0x1112131415161718,
                          .position = {.modseq = 9, .chain = 10},
                          .digest = 11,
                          .repairing = true,
                          .dry_run = true,
                          .epoch = {.number = 3, .node = 4},
                          .name = bytes_text("rosa")};
}

static void a_hello_is_these_bytes(void **state)
{
    struct buf out = {0};
    struct hello hello = some_hello();
    struct hello got;
    (void)state;
    message_encode_hello(&hello, &out);
    ASSERT_PAYLOAD(
        &out, FRAME_HELLO,
        "SHLP\1\0\0\0\2\0\0\0\10\7\6\5\4\3\2\1\30\27\26\25\24\23\22\21"
        "\11\0\0\0\0\0\0\0\12\0\0\0\0\0\0\0\13\0\0\0\0\0\0\0\11\3\0\0\0\4\0\0\0\0\0\0\0\4rosa");
    assert_int_equal(message_decode_hello(payload_of(&out, FRAME_HELLO), &got), ERR_OK);
    assert_int_equal(got.oldest, 1);
    assert_int_equal(got.newest, 2);
    assert_int_equal(got.node_id, hello.node_id);
    assert_int_equal(got.store_id, hello.store_id);
    assert_true(position_equal(got.position, hello.position));
    assert_int_equal(got.digest, 11);
    assert_true(got.dry_run && got.repairing && !got.adopt && !got.master);
    assert_true(bytes_equal(got.name, hello.name));
    assert_exact(&out, FRAME_HELLO, true);
    buf_free(&out);
}

static int decode_this_hello(const struct hello *hello)
{
    struct buf out = {0};
    message_encode_hello(hello, &out);
    int rc = decode(FRAME_HELLO, payload_of(&out, FRAME_HELLO));
    buf_free(&out);
    return rc;
}

static void a_hello_with_a_name_that_cannot_be_printed_is_refused(void **state)
{
    static const char *const names[] = {"a\nb", "a\"b", "\x7f", "a\tb"};
    char longest[PEER_NAME_MAX + 2];
    struct hello hello = some_hello();
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        hello.name = bytes_text(names[i]);
        assert_int_equal(decode_this_hello(&hello), ERR_PROTOCOL);
    }
    hello.name = bytes_of("a\0b", 3);
    assert_int_equal(decode_this_hello(&hello), ERR_PROTOCOL);
    memset(longest, 'n', sizeof longest);
    hello.name = bytes_of(longest, PEER_NAME_MAX + 1);
    assert_int_equal(decode_this_hello(&hello), ERR_PROTOCOL);
    hello.name = bytes_of(longest, PEER_NAME_MAX);
    assert_int_equal(decode_this_hello(&hello), ERR_OK);
    hello.name = bytes_text("");
    assert_int_equal(decode_this_hello(&hello), ERR_OK);
}

static void a_hello_of_something_else_is_refused(void **state)
{
    struct hello hello = some_hello();
    struct buf out = {0};
    (void)state;
    message_encode_hello(&hello, &out);
    out.data[FRAME_HEADER_SIZE] ^= 1;
    struct bytes payload = bytes_of(out.data + FRAME_HEADER_SIZE, out.size - FRAME_HEADER_SIZE);
    assert_int_equal(decode(FRAME_HELLO, payload), ERR_PROTOCOL);
    buf_free(&out);
    hello.oldest = 3;
    assert_int_equal(decode_this_hello(&hello), ERR_PROTOCOL);
}

static void a_hello_may_be_long_but_not_endless(void **state)
{
    struct hello hello = some_hello();
    struct buf out = {0};
    (void)state;
    message_encode_hello(&hello, &out);
    struct buf payload = {0};
    buf_put(&payload, out.data + FRAME_HEADER_SIZE, out.size - FRAME_HEADER_SIZE);
    while (payload.size < HELLO_MAX)
        buf_u8(&payload, 7);
    assert_int_equal(decode(FRAME_HELLO, buf_view(&payload)), ERR_OK);
    buf_u8(&payload, 7);
    assert_int_equal(decode(FRAME_HELLO, buf_view(&payload)), ERR_PROTOCOL);
    buf_free(&payload);
    buf_free(&out);
}

static struct welcome some_welcome(void)
{
    return (struct welcome){.version = PROTOCOL_VERSION,
                            .store_id = 2,
                            .node_id = 3,
                            .base = {.modseq = 4, .chain = 5},
                            .last = {.modseq = 6, .chain = 7},
                            .digest = 8,
                            .heartbeat = 5000,
                            .window = 1u << 21};
}

static void a_welcome_is_these_bytes(void **state)
{
    struct buf out = {0};
    struct welcome welcome = some_welcome();
    struct welcome got;
    (void)state;
    message_encode_welcome(&welcome, &out);
    ASSERT_PAYLOAD(&out, FRAME_WELCOME,
                   "\1\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\4\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0"
                   "\6\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0\10\0\0\0\0\0\0\0\x88\x13\0\0\0\0\x20\0");
    assert_int_equal(message_decode_welcome(payload_of(&out, FRAME_WELCOME), &got), ERR_OK);
    assert_true(position_equal(got.base, welcome.base));
    assert_true(position_equal(got.last, welcome.last));
    assert_int_equal(got.heartbeat, 5000);
    assert_int_equal(got.window, 1u << 21);
    assert_exact(&out, FRAME_WELCOME, false);
    buf_free(&out);
}

static int decode_this_welcome(const struct welcome *welcome)
{
    struct buf out = {0};
    message_encode_welcome(welcome, &out);
    int rc = decode(FRAME_WELCOME, payload_of(&out, FRAME_WELCOME));
    buf_free(&out);
    return rc;
}

static void a_welcome_that_makes_no_sense_is_refused(void **state)
{
    struct welcome welcome = some_welcome();
    (void)state;
    assert_int_equal(decode_this_welcome(&welcome), ERR_OK);
    welcome.version = PROTOCOL_VERSION + 1;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
    welcome = some_welcome();
    welcome.store_id = 0;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
    welcome = some_welcome();
    welcome.base.modseq = 7;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
    welcome = some_welcome();
    welcome.heartbeat = 0;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
    welcome.heartbeat = UINT32_MAX;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
    welcome = some_welcome();
    welcome.window = UINT32_MAX;
    assert_int_equal(decode_this_welcome(&welcome), ERR_PROTOCOL);
}

static void a_refusal_is_these_bytes(void **state)
{
    struct buf out = {0};
    struct refuse refuse = {.why = REFUSAL_EPOCH, .text = bytes_text("no"), .epoch = 3};
    struct refuse got;
    (void)state;
    message_encode_refuse(&refuse, &out);
    ASSERT_PAYLOAD(&out, FRAME_REFUSE, "\7\0\0\0\2no\3\0\0\0");
    assert_exact(&out, FRAME_REFUSE, true);
    assert_int_equal(message_decode_refuse(bytes_of("\x63\0\0\0\2no\3\0\0\0", 11), &got), ERR_OK);
    assert_int_equal(got.why, REFUSAL_OTHER);
    assert_true(bytes_equal(got.text, bytes_text("no")));
    assert_int_equal(got.epoch, 3);
    buf_free(&out);
}

static struct content_part some_part(void)
{
    struct content_part part = {.purpose = CONTENT_WANTED,
                                .state = CONTENT_PART,
                                .size = 100,
                                .stored = 10,
                                .offset = 3,
                                .data = bytes_text("abc")};
    memset(part.guid.bytes, 0x55, GUID_SIZE);
    return part;
}

static void content_is_these_bytes(void **state)
{
    struct buf out = {0};
    struct content_part part = some_part();
    struct content_part got;
    (void)state;
    message_encode_content(&part, &out);
    ASSERT_PAYLOAD(&out, FRAME_CONTENT,
                   "UUUUUUUUUUUUUUUUUUUUUUUUUUUUUUUU\1\0\x64\0\0\0\0\0\0\0\12\0\0\0\0\0\0\0"
                   "\3\0\0\0\0\0\0\0abc");
    assert_int_equal(message_decode_content(payload_of(&out, FRAME_CONTENT), &got), ERR_OK);
    assert_true(guid_equal(&got.guid, &part.guid));
    assert_int_equal(got.purpose, CONTENT_WANTED);
    assert_int_equal(got.state, CONTENT_PART);
    assert_int_equal(got.size, 100);
    assert_int_equal(got.stored, 10);
    assert_int_equal(got.offset, 3);
    assert_true(bytes_equal(got.data, bytes_text("abc")));
    buf_free(&out);
}

static int decode_this_part(const struct content_part *part)
{
    struct buf out = {0};
    message_encode_content(part, &out);
    int rc = decode(FRAME_CONTENT, payload_of(&out, FRAME_CONTENT));
    buf_free(&out);
    return rc;
}

static void content_is_last_exactly_when_it_reaches_the_end(void **state)
{
    struct content_part part = some_part();
    (void)state;
    assert_int_equal(decode_this_part(&part), ERR_OK);
    part.offset = 7;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part.state = CONTENT_LAST;
    assert_int_equal(decode_this_part(&part), ERR_OK);
    part.offset = 6;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part.offset = 8;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part.offset = 11;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part.offset = UINT64_MAX - 1;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part = some_part();
    part.data.size = 0;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
}

static void absent_content_has_no_sizes_and_no_bytes(void **state)
{
    struct content_part part = {.state = CONTENT_GONE};
    (void)state;
    assert_int_equal(decode_this_part(&part), ERR_OK);
    part.state = CONTENT_MISSING;
    assert_int_equal(decode_this_part(&part), ERR_OK);
    part.size = 1;
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part = (struct content_part){.state = CONTENT_GONE, .data = bytes_text("x")};
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part = (struct content_part){.state = (enum content_state)4};
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    part = (struct content_part){.state = CONTENT_GONE, .purpose = (enum content_purpose)2};
    assert_int_equal(decode_this_part(&part), ERR_PROTOCOL);
    assert_int_equal(decode(FRAME_CONTENT, bytes_of("", 0)), ERR_PROTOCOL);
}

static void an_acknowledgement_is_these_bytes(void **state)
{
    struct buf out = {0};
    struct ack ack = {.position = {.modseq = 1, .chain = 2}, .consumed = 3};
    (void)state;
    message_encode_ack(&ack, &out);
    ASSERT_PAYLOAD(&out, FRAME_ACK, "\1\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0");
    assert_exact(&out, FRAME_ACK, false);
    buf_free(&out);
}

static void a_want_is_whole_guids_and_not_too_many(void **state)
{
    static uint8_t guids[(WANT_MAX + 1) * GUID_SIZE];
    struct buf out = {0};
    (void)state;
    memset(guids, 'g', sizeof guids);
    message_encode_want(bytes_of(guids, GUID_SIZE), &out);
    ASSERT_PAYLOAD(&out, FRAME_WANT, "gggggggggggggggggggggggggggggggg");
    assert_exact(&out, FRAME_WANT, false);
    assert_int_equal(decode(FRAME_WANT, bytes_of(guids, WANT_MAX * GUID_SIZE)), ERR_OK);
    assert_int_equal(decode(FRAME_WANT, bytes_of(guids, sizeof guids)), ERR_PROTOCOL);
    buf_free(&out);
}

static void a_ping_is_empty(void **state)
{
    struct buf out = {0};
    (void)state;
    message_encode_ping(&out);
    assert_exact(&out, FRAME_PING, false);
    buf_free(&out);
}

static void a_bye_says_why_in_a_bounded_text(void **state)
{
    char text[REASON_MAX + 10];
    struct buf out = {0};
    (void)state;
    message_encode_bye("enough", &out);
    ASSERT_PAYLOAD(&out, FRAME_BYE, "enough");
    buf_reset(&out);
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    message_encode_bye(text, &out);
    assert_int_equal(payload_of(&out, FRAME_BYE).size, REASON_MAX);
    assert_int_equal(decode(FRAME_BYE, payload_of(&out, FRAME_BYE)), ERR_OK);
    assert_int_equal(decode(FRAME_BYE, bytes_of(text, REASON_MAX + 1)), ERR_PROTOCOL);
    buf_free(&out);
}

static void a_peers_text_cannot_break_a_line_of_the_log(void **state)
{
    char plain[REASON_MAX + 1];
    char text[REASON_MAX + 10];
    (void)state;
    message_plain(bytes_of("a\nb\"c\0d\x7f", 8), plain);
    assert_string_equal(plain, "a b'c d ");
    memset(text, 'x', sizeof text);
    message_plain(bytes_of(text, sizeof text), plain);
    assert_int_equal(strlen(plain), REASON_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hello_is_these_bytes),
        cmocka_unit_test(a_hello_with_a_name_that_cannot_be_printed_is_refused),
        cmocka_unit_test(a_hello_of_something_else_is_refused),
        cmocka_unit_test(a_hello_may_be_long_but_not_endless),
        cmocka_unit_test(a_welcome_is_these_bytes),
        cmocka_unit_test(a_welcome_that_makes_no_sense_is_refused),
        cmocka_unit_test(a_refusal_is_these_bytes),
        cmocka_unit_test(content_is_these_bytes),
        cmocka_unit_test(content_is_last_exactly_when_it_reaches_the_end),
        cmocka_unit_test(absent_content_has_no_sizes_and_no_bytes),
        cmocka_unit_test(an_acknowledgement_is_these_bytes),
        cmocka_unit_test(a_want_is_whole_guids_and_not_too_many),
        cmocka_unit_test(a_ping_is_empty),
        cmocka_unit_test(a_bye_says_why_in_a_bounded_text),
        cmocka_unit_test(a_peers_text_cannot_break_a_line_of_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
