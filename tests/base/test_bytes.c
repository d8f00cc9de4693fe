#include "base/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The edges of every varint length, and of what fits 32 bits. */
static const uint64_t edges[] = {
    0,
    1,
    0x7f,
    0x80,
    0x3fff,
    0x4000,
    0x1fffff,
    0x200000,
    0xfffffff,
    0x10000000,
    UINT32_MAX,
    UINT64_C(0x100000000),
    UINT64_C(0x7ffffffff),
    UINT64_C(0x800000000),
    UINT64_C(0x3ffffffffff),
    UINT64_C(0x40000000000),
    UINT64_C(0x1ffffffffffff),
    UINT64_C(0x2000000000000),
    UINT64_C(0xffffffffffffff),
    UINT64_C(0x100000000000000),
    INT64_MAX,
    UINT64_C(0x8000000000000000),
    UINT64_MAX,
};

static size_t shortest_varint(uint64_t value)
{
    size_t size = 1;
    for (value >>= 7; value; value >>= 7)
        size++;
    return size;
}

static struct reader reader_of_text(const char *bytes, size_t size)
{
    return reader_of(bytes_of(bytes, size));
}

#define READER(literal) reader_of_text(literal, sizeof(literal) - 1)

static void assert_reads_as_nothing(struct reader *reader)
{
    assert_true(reader->failed);
    assert_false(reader_done(reader));
    assert_int_equal(read_u8(reader), 0);
    assert_int_equal(read_u32(reader), 0);
    assert_int_equal(read_u64(reader), 0);
    assert_int_equal(read_varint(reader), 0);
    assert_int_equal(read_varint32(reader), 0);
    assert_int_equal(read_zigzag(reader), 0);
    assert_int_equal(read_bytes(reader).size, 0);
    assert_int_equal(read_view(reader, 0).size, 0);
    assert_true(reader->failed);
}

static void bytes_of_no_text_are_empty(void **state)
{
    (void)state;
    assert_int_equal(bytes_text(NULL).size, 0);
    assert_int_equal(bytes_text("").size, 0);
    assert_int_equal(bytes_text("INBOX").size, 5);
}

static void bytes_are_equal_when_size_and_content_are(void **state)
{
    (void)state;
    assert_true(bytes_equal(bytes_of("a\0b", 3), bytes_of("a\0b", 3)));
    assert_false(bytes_equal(bytes_of("a\0b", 3), bytes_of("a\0c", 3)));
    assert_false(bytes_equal(bytes_text("ab"), bytes_text("abc")));
    assert_true(bytes_equal(bytes_of(NULL, 0), bytes_text("")));
    assert_false(bytes_equal(bytes_of(NULL, 0), bytes_text("a")));
}

static void varints_come_back_and_are_as_short_as_can_be(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(edges); i++) {
        struct buf buf = {0};
        buf_varint(&buf, edges[i]);
        assert_int_equal(buf.size, shortest_varint(edges[i]));
        struct reader reader = reader_of(buf_view(&buf));
        assert_int_equal(read_varint(&reader), edges[i]);
        assert_true(reader_done(&reader));
        buf_free(&buf);
    }
}

static void a_varint_cut_short_is_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(edges); i++) {
        struct buf buf = {0};
        buf_varint(&buf, edges[i]);
        for (size_t size = 0; size < buf.size; size++) {
            struct reader reader = reader_of(bytes_of(buf.data, size));
            assert_int_equal(read_varint(&reader), 0);
            assert_reads_as_nothing(&reader);
        }
        buf_free(&buf);
    }
}

static void a_varint_with_padding_is_refused(void **state)
{
    (void)state;
    struct reader padded[] = {
        READER("\x80\x00"),
        READER("\xff\x00"),
        READER("\x80\x80\x00"),
        READER("\x81\x80\x80\x00"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x00"),
    };
    for (size_t i = 0; i < COUNT(padded); i++) {
        assert_int_equal(read_varint(&padded[i]), 0);
        assert_reads_as_nothing(&padded[i]);
    }
}

static void a_varint_over_64_bits_is_refused(void **state)
{
    (void)state;
    struct reader over[] = {
        READER("\x80\x80\x80\x80\x80\x80\x80\x80\x80\x02"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x80\x01"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
    };
    for (size_t i = 0; i < COUNT(over); i++) {
        assert_int_equal(read_varint(&over[i]), 0);
        assert_reads_as_nothing(&over[i]);
    }
}

static void a_32_bit_varint_refuses_more(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(edges); i++) {
        struct buf buf = {0};
        buf_varint(&buf, edges[i]);
        struct reader reader = reader_of(buf_view(&buf));
        uint32_t value = read_varint32(&reader);
        assert_int_equal(reader.failed, edges[i] > UINT32_MAX);
        assert_int_equal(value, edges[i] > UINT32_MAX ? 0 : edges[i]);
        buf_free(&buf);
    }
}

static void signed_varints_come_back_and_small_ones_are_short(void **state)
{
    (void)state;
    static const struct {
        int64_t value;
        size_t size;
    } cases[] = {
        {0, 1},   {-1, 1},   {1, 1},     {63, 1},   {-64, 1},        {64, 2},
        {-65, 2}, {8191, 2}, {-8192, 2}, {8192, 3}, {INT64_MAX, 10}, {INT64_MIN, 10},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf buf = {0};
        buf_zigzag(&buf, cases[i].value);
        assert_int_equal(buf.size, cases[i].size);
        struct reader reader = reader_of(buf_view(&buf));
        assert_true(read_zigzag(&reader) == cases[i].value);
        assert_true(reader_done(&reader));
        buf_free(&buf);
    }
}

static void what_was_put_is_read_in_order(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_u8(&buf, 0xfe);
    buf_u32(&buf, 0x01020304);
    buf_u64(&buf, UINT64_C(0x0102030405060708));
    buf_varint(&buf, 300);
    buf_zigzag(&buf, -300);
    buf_bytes(&buf, bytes_of("a\0b", 3));
    buf_bytes(&buf, bytes_of(NULL, 0));
    buf_put(&buf, "tail", 4);

    struct reader reader = reader_of(buf_view(&buf));
    assert_int_equal(read_u8(&reader), 0xfe);
    assert_int_equal(read_u32(&reader), 0x01020304);
    assert_int_equal(read_u64(&reader), UINT64_C(0x0102030405060708));
    assert_int_equal(read_varint(&reader), 300);
    assert_int_equal(read_zigzag(&reader), -300);
    assert_true(bytes_equal(read_bytes(&reader), bytes_of("a\0b", 3)));
    assert_int_equal(read_bytes(&reader).size, 0);
    assert_int_equal(reader_left(&reader), 4);
    assert_false(reader_done(&reader));
    assert_true(bytes_equal(read_view(&reader, 4), bytes_text("tail")));
    assert_true(reader_done(&reader));
    buf_free(&buf);
}

static void integers_are_little_endian(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_u32(&buf, 0x01020304);
    buf_u64(&buf, UINT64_C(0x05060708090a0b0c));
    static const uint8_t expected[] = {4, 3, 2, 1, 12, 11, 10, 9, 8, 7, 6, 5};
    assert_int_equal(buf.size, sizeof expected);
    assert_memory_equal(buf.data, expected, sizeof expected);
    buf_free(&buf);
}

static void keys_are_big_endian_and_sort_as_numbers(void **state)
{
    (void)state;
    uint8_t four[4];
    save_be32(four, 0x01020304);
    assert_memory_equal(four, "\1\2\3\4", 4);
    assert_int_equal(load_be32(four), 0x01020304);
    uint8_t before[8];
    save_be64(before, edges[0]);
    for (size_t i = 1; i < COUNT(edges); i++) {
        uint8_t key[8];
        save_be64(key, edges[i]);
        assert_true(memcmp(before, key, sizeof key) < 0);
        assert_int_equal(load_be64(key), edges[i]);
        memcpy(before, key, sizeof key);
    }
}

static void fixed_width_values_come_back(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(edges); i++) {
        uint8_t to[8];
        save_u64(to, edges[i]);
        assert_int_equal(load_u64(to), edges[i]);
        save_u32(to, (uint32_t)edges[i]);
        assert_int_equal(load_u32(to), (uint32_t)edges[i]);
    }
}

static void fixed_width_reads_stop_at_the_end(void **state)
{
    (void)state;
    struct reader none = READER("");
    assert_int_equal(read_u8(&none), 0);
    assert_reads_as_nothing(&none);
    struct reader three = READER("\1\2\3");
    assert_int_equal(read_u32(&three), 0);
    assert_reads_as_nothing(&three);
    struct reader seven = READER("\1\2\3\4\5\6\7");
    assert_int_equal(read_u64(&seven), 0);
    assert_reads_as_nothing(&seven);
}

static void a_view_never_reaches_past_the_end(void **state)
{
    (void)state;
    struct reader exact = READER("abc");
    assert_int_equal(read_view(&exact, 3).size, 3);
    assert_true(reader_done(&exact));
    assert_int_equal(read_view(&exact, 0).size, 0);
    assert_true(reader_done(&exact));

    static const size_t sizes[] = {4, SIZE_MAX / 2, SIZE_MAX - 1, SIZE_MAX};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct reader reader = READER("abc");
        struct bytes view = read_view(&reader, sizes[i]);
        assert_null(view.data);
        assert_int_equal(view.size, 0);
        assert_reads_as_nothing(&reader);
    }
}

static void a_length_past_the_end_is_refused(void **state)
{
    (void)state;
    struct reader lying[] = {
        READER("\x01"),
        READER("\x04"
               "abc"),
        READER("\xff\xff\xff\xff\x0f"
               "abc"),
        READER("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
               "abc"),
        READER("\x83"),
    };
    for (size_t i = 0; i < COUNT(lying); i++) {
        assert_int_equal(read_bytes(&lying[i]).size, 0);
        assert_reads_as_nothing(&lying[i]);
    }
}

static void nothing_is_read_after_a_failure_though_bytes_are_left(void **state)
{
    (void)state;
    struct reader reader = READER("\x80\x00\x07\x07\x07\x07\x07\x07\x07\x07");
    assert_int_equal(read_varint(&reader), 0);
    assert_reads_as_nothing(&reader);
}

static void no_bytes_can_be_read(void **state)
{
    (void)state;
    struct reader reader = reader_of(bytes_of(NULL, 0));
    assert_int_equal(reader_left(&reader), 0);
    assert_true(reader_done(&reader));
    assert_int_equal(read_view(&reader, 0).size, 0);
    assert_true(reader_done(&reader));
    assert_int_equal(read_u8(&reader), 0);
    assert_reads_as_nothing(&reader);
}

static void a_buffer_grows_and_keeps_what_it_holds(void **state)
{
    (void)state;
    struct buf buf = {0};
    for (uint32_t i = 0; i < 10000; i++)
        buf_u32(&buf, i);
    buf_put(&buf, NULL, 0);
    assert_false(buf.failed);
    assert_int_equal(buf.size, 40000);
    struct reader reader = reader_of(buf_view(&buf));
    for (uint32_t i = 0; i < 10000; i++)
        assert_int_equal(read_u32(&reader), i);
    assert_true(reader_done(&reader));
    buf_free(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.capacity, 0);
}

static void reserved_room_is_counted_at_once(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_u8(&buf, 1);
    uint8_t *room = buf_reserve(&buf, 1000);
    assert_ptr_equal(room, buf.data + 1);
    memset(room, 2, 1000);
    assert_int_equal(buf.size, 1001);
    buf_free(&buf);
}

static void a_failed_buffer_takes_no_more_until_it_is_reset(void **state)
{
    (void)state;
    struct buf buf = {0};
    buf_put(&buf, "kept", 4);
    assert_null(buf_reserve(&buf, SIZE_MAX));
    assert_true(buf.failed);
    buf_u8(&buf, 1);
    buf_u32(&buf, 1);
    buf_u64(&buf, 1);
    buf_varint(&buf, 1);
    buf_zigzag(&buf, 1);
    buf_bytes(&buf, bytes_text("more"));
    assert_null(buf_reserve(&buf, 0));
    assert_true(bytes_equal(buf_view(&buf), bytes_text("kept")));

    buf_reset(&buf);
    assert_int_equal(buf.size, 0);
    assert_true(buf.capacity > 0);
    buf_put(&buf, "new", 3);
    assert_false(buf.failed);
    assert_true(bytes_equal(buf_view(&buf), bytes_text("new")));
    buf_free(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_no_text_are_empty),
        cmocka_unit_test(bytes_are_equal_when_size_and_content_are),
        cmocka_unit_test(varints_come_back_and_are_as_short_as_can_be),
        cmocka_unit_test(a_varint_cut_short_is_refused),
        cmocka_unit_test(a_varint_with_padding_is_refused),
        cmocka_unit_test(a_varint_over_64_bits_is_refused),
        cmocka_unit_test(a_32_bit_varint_refuses_more),
        cmocka_unit_test(signed_varints_come_back_and_small_ones_are_short),
        cmocka_unit_test(what_was_put_is_read_in_order),
        cmocka_unit_test(integers_are_little_endian),
        cmocka_unit_test(keys_are_big_endian_and_sort_as_numbers),
        cmocka_unit_test(fixed_width_values_come_back),
        cmocka_unit_test(fixed_width_reads_stop_at_the_end),
        cmocka_unit_test(a_view_never_reaches_past_the_end),
        cmocka_unit_test(a_length_past_the_end_is_refused),
        cmocka_unit_test(nothing_is_read_after_a_failure_though_bytes_are_left),
        cmocka_unit_test(no_bytes_can_be_read),
        cmocka_unit_test(a_buffer_grows_and_keeps_what_it_holds),
        cmocka_unit_test(reserved_room_is_counted_at_once),
        cmocka_unit_test(a_failed_buffer_takes_no_more_until_it_is_reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
