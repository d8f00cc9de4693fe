#include "agent/frame.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void put_frame(struct buf *out, enum frame_type type, const char *payload)
{
    size_t begun = frame_begin(out, type);
    buf_put(out, payload, strlen(payload));
    frame_end(out, begun);
}

static void a_frame_is_size_crc_type_payload(void **state)
{
    static const uint8_t golden[] = {3, 0, 0, 0, 0x9b, 0xd0, 0x43, 0x64, 4, 'a', 'b', 'c'};
    struct buf out = {0};
    (void)state;
    put_frame(&out, FRAME_ENTRIES, "abc");
    assert_int_equal(out.size, sizeof golden);
    assert_memory_equal(out.data, golden, sizeof golden);
    buf_free(&out);
}

static void feed(struct frame_parser *parser, const uint8_t *data, size_t size)
{
    uint8_t *room = frame_parser_room(parser, size);
    assert_non_null(room);
    memcpy(room, data, size);
    frame_parser_add(parser, size);
}

static void expect_frame(struct frame_parser *parser, enum frame_type type, const char *payload)
{
    struct frame frame;
    assert_int_equal(frame_parser_next(parser, &frame), ERR_OK);
    assert_int_equal(frame.type, type);
    assert_true(bytes_equal(frame.payload, bytes_text(payload)));
    assert_int_equal(frame.whole.size, FRAME_HEADER_SIZE + strlen(payload));
}

static void frames_come_out_whole_however_the_stream_is_cut(void **state)
{
    struct buf stream = {0};
    (void)state;
    put_frame(&stream, FRAME_CONTENT, "first");
    put_frame(&stream, FRAME_PING, "");
    put_frame(&stream, FRAME_BYE, "the last");
    for (size_t piece = 1; piece <= stream.size; piece++) {
        struct frame_parser parser;
        struct frame frame = {0};
        size_t frames = 0;
        frame_parser_init(&parser, FRAME_MAX_PAYLOAD);
        for (size_t at = 0; at < stream.size; at += piece) {
            size_t size = stream.size - at < piece ? stream.size - at : piece;
            feed(&parser, stream.data + at, size);
            int rc;
            while ((rc = frame_parser_next(&parser, &frame)) == ERR_OK) {
                static const char *const payloads[] = {"first", "", "the last"};
                assert_true(bytes_equal(frame.payload, bytes_text(payloads[frames++ % 3])));
            }
            assert_int_equal(rc, ERR_END);
        }
        assert_int_equal(frames, 3);
        frame_parser_free(&parser);
    }
    buf_free(&stream);
}

static void frames_behind_one_that_was_taken_stay(void **state)
{
    struct frame_parser parser;
    struct buf stream = {0};
    (void)state;
    put_frame(&stream, FRAME_ACK, "one");
    put_frame(&stream, FRAME_ACK, "two");
    frame_parser_init(&parser, FRAME_MAX_PAYLOAD);
    feed(&parser, stream.data, stream.size);
    expect_frame(&parser, FRAME_ACK, "one");
    feed(&parser, stream.data, stream.size);
    expect_frame(&parser, FRAME_ACK, "two");
    expect_frame(&parser, FRAME_ACK, "one");
    expect_frame(&parser, FRAME_ACK, "two");
    frame_parser_free(&parser);
    buf_free(&stream);
}

static int decode_changed(size_t at, uint8_t change, size_t most)
{
    struct buf stream = {0};
    struct frame frame;
    put_frame(&stream, FRAME_ENTRIES, "a payload");
    stream.data[at] ^= change;
    int rc = frame_decode(buf_view(&stream), most, &frame);
    buf_free(&stream);
    return rc;
}

static void a_bit_that_changed_on_the_way_is_noticed(void **state)
{
    (void)state;
    assert_int_equal(decode_changed(0, 0, 100), ERR_OK);
    for (size_t at = 4; at < FRAME_HEADER_SIZE + 9; at++)
        for (unsigned bit = 0; bit < 8; bit++)
            assert_int_equal(decode_changed(at, (uint8_t)(1u << bit), 100), ERR_PROTOCOL);
}

static void a_payload_above_the_limit_is_refused_before_it_comes(void **state)
{
    struct buf stream = {0};
    struct frame frame;
    (void)state;
    put_frame(&stream, FRAME_ENTRIES, "nine byte");
    struct bytes header = bytes_of(stream.data, FRAME_HEADER_SIZE);
    assert_int_equal(frame_decode(header, 9, &frame), ERR_END);
    assert_int_equal(frame_decode(header, 8, &frame), ERR_PROTOCOL);
    buf_free(&stream);
}

static void what_a_header_promises_costs_no_memory(void **state)
{
    struct frame_parser parser;
    struct frame frame;
    uint8_t header[FRAME_HEADER_SIZE] = {0};
    (void)state;
    save_u32(header, FRAME_MAX_PAYLOAD);
    header[8] = FRAME_ENTRIES;
    frame_parser_init(&parser, FRAME_MAX_PAYLOAD);
    feed(&parser, header, sizeof header);
    assert_int_equal(frame_parser_next(&parser, &frame), ERR_END);
    assert_true(parser.input.capacity < 4096);
    frame_parser_free(&parser);
}

static void unknown_types_are_refused(void **state)
{
    struct buf stream = {0};
    struct frame frame;
    (void)state;
    put_frame(&stream, (enum frame_type)0, "x");
    assert_int_equal(frame_decode(buf_view(&stream), 100, &frame), ERR_PROTOCOL);
    buf_reset(&stream);
    put_frame(&stream, FRAME_TYPE_END, "x");
    assert_int_equal(frame_decode(buf_view(&stream), 100, &frame), ERR_PROTOCOL);
    buf_free(&stream);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_is_size_crc_type_payload),
        cmocka_unit_test(frames_come_out_whole_however_the_stream_is_cut),
        cmocka_unit_test(frames_behind_one_that_was_taken_stay),
        cmocka_unit_test(a_bit_that_changed_on_the_way_is_noticed),
        cmocka_unit_test(a_payload_above_the_limit_is_refused_before_it_comes),
        cmocka_unit_test(what_a_header_promises_costs_no_memory),
        cmocka_unit_test(unknown_types_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
