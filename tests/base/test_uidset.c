#include "base/uidset.h"

#include "base/err.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* The UIDs that random operations touch; a window of them ends at the highest UID there is. */
#define SPAN 200u
#define NEAR_TOP (UINT32_MAX - SPAN + 1)

struct naive {
    bool has[SPAN];
    uint32_t base; /* the UID of has[0] */
};

static struct dice dice;

static void check_shape(const struct uidset *set)
{
    for (size_t i = 0; i < set->count; i++) {
        assert_true(set->ranges[i].first > 0);
        assert_true(set->ranges[i].first <= set->ranges[i].last);
        if (i > 0)
            assert_true(set->ranges[i].first - 1 > set->ranges[i - 1].last);
    }
}

static void check_against(const struct uidset *set, const struct naive *naive)
{
    check_shape(set);
    uint64_t size = 0;
    uint32_t next = 0;
    bool any = false;
    for (uint32_t i = SPAN; i-- > 0;) {
        uint32_t uid = naive->base + i;
        assert_int_equal(uidset_contains(set, uid), naive->has[i]);
        if (naive->has[i]) {
            size++;
            next = uid;
            any = true;
        }
        uint32_t found = 0;
        assert_int_equal(uidset_next(set, uid, &found), any);
        if (any)
            assert_int_equal(found, next);
    }
    assert_int_equal(uidset_size(set), size);
}

static void check_round_trips(const struct uidset *set)
{
    struct buf text = {0};
    struct buf bytes = {0};
    struct uidset again = {0};
    uidset_print(set, &text);
    buf_u8(&text, 0);
    if (set->count) {
        assert_int_equal(uidset_parse(&again, (const char *)text.data, 1, NULL), ERR_OK);
        assert_true(uidset_equal(set, &again));
    }
    uidset_encode(set, &bytes);
    struct reader reader = reader_of(buf_view(&bytes));
    assert_int_equal(uidset_decode(&again, &reader, uidset_size(set)), ERR_OK);
    assert_true(reader_done(&reader));
    assert_true(uidset_equal(set, &again));
    uidset_free(&again);
    assert_int_equal(uidset_copy(&again, set), ERR_OK);
    assert_true(uidset_equal(set, &again));
    uidset_free(&again);
    buf_free(&bytes);
    buf_free(&text);
}

static void random_operations(uint32_t base)
{
    struct uidset set = {0};
    struct naive naive = {.base = base};
    for (int step = 0; step < 20000; step++) {
        uint32_t first = dice_below(&dice, SPAN);
        uint32_t length = dice_below(&dice, 4) ? dice_below(&dice, 6) : dice_below(&dice, SPAN);
        uint32_t last = first + length < SPAN ? first + length : SPAN - 1;
        bool add = dice_below(&dice, 2) == 0;
        if (add && first == last)
            assert_int_equal(uidset_add(&set, base + first), ERR_OK);
        else if (add)
            assert_int_equal(uidset_add_range(&set, base + first, base + last), ERR_OK);
        else
            assert_int_equal(uidset_remove_range(&set, base + first, base + last), ERR_OK);
        for (uint32_t i = first; i <= last; i++)
            naive.has[i] = add && base + i != 0;
        check_against(&set, &naive);
        if (step % 50 == 0)
            check_round_trips(&set);
    }
    uidset_free(&set);
}

static void random_operations_agree_with_an_array(void **state)
{
    (void)state;
    random_operations(0);
    random_operations(1);
    random_operations(NEAR_TOP);
}

static void text_in_any_order_gives_the_same_set(void **state)
{
    (void)state;
    for (int round = 0; round < 200; round++) {
        struct uidset added = {0};
        struct uidset parsed = {0};
        struct buf text = {0};
        for (uint32_t i = 0; i <= dice_below(&dice, 40); i++) {
            uint32_t a = 1 + dice_below(&dice, SPAN);
            uint32_t b = 1 + dice_below(&dice, SPAN);
            struct uidset one = {0};
            uidset_add(&one, a);
            buf_put(&text, ",", text.size ? 1 : 0);
            uidset_print(&one, &text);
            buf_put(&text, ":", 1);
            uidset_clear(&one);
            uidset_add(&one, b);
            uidset_print(&one, &text);
            uidset_free(&one);
            assert_int_equal(uidset_add_range(&added, a < b ? a : b, a < b ? b : a), ERR_OK);
        }
        buf_u8(&text, 0);
        assert_int_equal(uidset_parse(&parsed, (const char *)text.data, 9, NULL), ERR_OK);
        check_shape(&parsed);
        assert_true(uidset_equal(&added, &parsed));
        uidset_free(&added);
        uidset_free(&parsed);
        buf_free(&text);
    }
}

static void zero_and_empty_ranges_add_nothing(void **state)
{
    (void)state;
    struct uidset set = {0};
    assert_int_equal(uidset_add(&set, 0), ERR_OK);
    assert_int_equal(uidset_add_range(&set, 5, 4), ERR_OK);
    assert_int_equal(set.count, 0);
    assert_int_equal(uidset_add_range(&set, 0, 3), ERR_OK);
    assert_false(uidset_contains(&set, 0));
    assert_int_equal(uidset_size(&set), 3);
    assert_int_equal(uidset_remove_range(&set, 3, 2), ERR_OK);
    check_shape(&set);
    assert_int_equal(uidset_size(&set), 3);
    assert_int_equal(uidset_remove_range(&set, 0, UINT32_MAX), ERR_OK);
    assert_int_equal(uidset_size(&set), 0);
    assert_int_equal(uidset_add_range(&set, 1, UINT32_MAX), ERR_OK);
    assert_int_equal(uidset_size(&set), UINT32_MAX);
    uidset_free(&set);
}

static void adding_a_million_in_ascending_order_takes_no_time(void **state)
{
    (void)state;
    struct uidset set = {0};
    clock_t start = clock();
    for (uint32_t uid = 1; uid <= 2000000; uid += 2)
        assert_int_equal(uidset_add(&set, uid), ERR_OK);
    assert_int_equal(set.count, 1000000);
    for (uint32_t uid = 1; uid <= 2000000; uid++)
        assert_int_equal(uidset_contains(&set, uid), uid % 2);
    /* Anything that grows with the square of a million takes minutes. */
    assert_true((clock() - start) / CLOCKS_PER_SEC < 10);
    uidset_free(&set);
}

static void check_parse(const char *text, uint32_t highest, const char *expected)
{
    struct uidset set = {0};
    struct buf out = {0};
    assert_int_equal(uidset_add(&set, 77), ERR_OK);
    assert_int_equal(uidset_parse(&set, text, highest, NULL), ERR_OK);
    uidset_print(&set, &out);
    buf_u8(&out, 0);
    assert_string_equal((const char *)out.data, expected);
    buf_free(&out);
    uidset_free(&set);
}

static void imap_text_is_understood(void **state)
{
    (void)state;
    check_parse("1:5,9,20:*", 30, "1:5,9,20:30");
    check_parse("20:*", 10, "10:20");
    check_parse("9:7,8", 10, "7:9");
    check_parse("*", 12, "12");
    check_parse("*:*", 12, "12");
    check_parse("3,1,2", 0, "1:3");
    check_parse("4294967295", 0, "4294967295");
    check_parse("1:4294967295,5", 0, "1:4294967295");
}

static void star_names_nothing_in_an_empty_mailbox(void **state)
{
    (void)state;
    check_parse("*", 0, "");
    check_parse("1:*", 0, "");
    check_parse("7,*:3", 0, "7");
}

static void malformed_text_is_refused_and_the_message_shows_it(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",    ",",  "1,",  "1,,2", "1:",   ":1",         "1:2:3",
        "a",   "1 ", " 1",  "-1",   "1,-2", "4294967296", "18446744073709551617",
        "0",   "01", "1:0", "**",   "1.5",  "1;2",        "+1",
        "1\n",
    };
    struct uidset set = {0};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(uidset_add(&set, 5), ERR_OK);
        assert_int_equal(uidset_parse(&set, bad[i], 9, NULL), ERR_INVALID);
        assert_int_equal(set.count, 0);
    }
    assert_int_equal(uidset_parse(&set, "1:5,x\n", 9, NULL), ERR_INVALID);
    assert_string_equal(err_message(),
                        "UID set \"1:5,x\\x0a\": at \"x\\x0a\": a number or * is missing");
    uidset_free(&set);
}

static void singles_are_the_parts_that_are_one_number(void **state)
{
    (void)state;
    struct uidset set = {0};
    struct uidset singles = {0};
    static const struct {
        const char *text, *singles;
    } cases[] = {{"7", "7"},     {"7:7", ""},        {"7,7", "7"},    {"*", ""},
                 {"7,8", "7:8"}, {"9,1:5,3", "3,9"}, {"1:5,20:*", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf text = {0};
        assert_int_equal(uidset_parse(&set, cases[i].text, 9, &singles), ERR_OK);
        uidset_print(&singles, &text);
        buf_u8(&text, 0);
        assert_string_equal((const char *)text.data, cases[i].singles);
        buf_free(&text);
    }
    assert_int_equal(uidset_parse(&set, "4,x", 9, &singles), ERR_INVALID);
    assert_int_equal(singles.count, 0);
    uidset_free(&singles);
    uidset_free(&set);
}

static void the_bytes_are_the_documented_ones(void **state)
{
    (void)state;
    struct uidset set = {0};
    struct buf out = {0};
    assert_int_equal(uidset_parse(&set, "1:5,9,300:427", 0, NULL), ERR_OK);
    uidset_encode(&set, &out);
    static const uint8_t golden[] = {3, 1, 4, 4, 0, 0xa3, 0x02, 0x7f};
    assert_int_equal(out.size, sizeof golden);
    assert_memory_equal(out.data, golden, sizeof golden);
    buf_free(&out);
    uidset_free(&set);
}

static int decode(const void *data, size_t size, uint64_t at_most)
{
    struct uidset set = {0};
    assert_int_equal(uidset_add(&set, 5), ERR_OK);
    struct reader reader = reader_of(bytes_of(data, size));
    int rc = uidset_decode(&set, &reader, at_most);
    if (rc) {
        assert_int_equal(set.count, 0);
        assert_true(reader.failed);
    }
    uidset_free(&set);
    return rc;
}

static void bytes_that_are_not_canonical_are_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[12];
        size_t size;
    } bad[] = {
        {{0}, 0},                                              /* nothing */
        {{1}, 1},                                              /* no range */
        {{1, 1}, 2},                                           /* half of one */
        {{1, 0, 0}, 3},                                        /* UID 0 */
        {{2, 1, 0, 0, 0}, 5},                                  /* the same again */
        {{2, 1, 0, 1, 0}, 5},                                  /* adjacent */
        {{1, 0x81, 0x00, 0}, 4},                               /* a padded varint */
        {{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 1}, 7},             /* ends above the highest UID */
        {{1, 0x80, 0x80, 0x80, 0x80, 0x10, 0}, 7},             /* begins above it */
        {{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1}, 9}, /* more ranges than bytes */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(decode(bad[i].bytes, bad[i].size, UINT64_MAX), ERR_CORRUPT);
}

static void more_uids_than_allowed_are_refused(void **state)
{
    (void)state;
    static const uint8_t eight[] = {2, 1, 4, 9, 2}; /* 1:5,14:16 */
    assert_int_equal(decode(eight, sizeof eight, 8), ERR_OK);
    assert_int_equal(decode(eight, sizeof eight, 7), ERR_CORRUPT);
    static const uint8_t none[] = {0};
    assert_int_equal(decode(none, sizeof none, 0), ERR_OK);
}

static void a_copy_is_its_own(void **state)
{
    (void)state;
    struct uidset a = {0};
    struct uidset b = {0};
    assert_int_equal(uidset_add_range(&a, 1, 9), ERR_OK);
    assert_int_equal(uidset_add(&b, 100), ERR_OK);
    assert_int_equal(uidset_copy(&b, &a), ERR_OK);
    assert_int_equal(uidset_copy(&b, &b), ERR_OK);
    assert_true(uidset_equal(&a, &b));
    assert_int_equal(uidset_remove_range(&a, 3, 4), ERR_OK);
    assert_false(uidset_equal(&a, &b));
    assert_int_equal(uidset_size(&b), 9);
    uidset_free(&a);
    assert_int_equal(uidset_copy(&b, &a), ERR_OK);
    assert_int_equal(b.count, 0);
    uidset_free(&b);
}

static void fill(struct uidset *set, bool in[SPAN])
{
    memset(in, 0, SPAN * sizeof *in);
    for (unsigned i = 0; i < SPAN / 2; i++) {
        uint32_t uid = 1 + dice_below(&dice, SPAN - 1);
        assert_int_equal(uidset_add(set, uid), ERR_OK);
        in[uid] = true;
    }
}

static void sets_are_added_and_removed_whole(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        struct uidset a = {0}, b = {0}, c = {0};
        bool in_a[SPAN], in_b[SPAN];
        fill(&a, in_a);
        fill(&b, in_b);
        assert_int_equal(uidset_copy(&c, &a), ERR_OK);
        assert_int_equal(uidset_add_all(&a, &b), ERR_OK);
        assert_int_equal(uidset_remove_all(&c, &b), ERR_OK);
        for (uint32_t uid = 1; uid < SPAN; uid++) {
            assert_int_equal(uidset_contains(&a, uid), in_a[uid] || in_b[uid]);
            assert_int_equal(uidset_contains(&c, uid), in_a[uid] && !in_b[uid]);
        }
        uidset_free(&a);
        uidset_free(&b);
        uidset_free(&c);
    }
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_operations_agree_with_an_array),
        cmocka_unit_test(text_in_any_order_gives_the_same_set),
        cmocka_unit_test(zero_and_empty_ranges_add_nothing),
        cmocka_unit_test(adding_a_million_in_ascending_order_takes_no_time),
        cmocka_unit_test(imap_text_is_understood),
        cmocka_unit_test(star_names_nothing_in_an_empty_mailbox),
        cmocka_unit_test(malformed_text_is_refused_and_the_message_shows_it),
        cmocka_unit_test(singles_are_the_parts_that_are_one_number),
        cmocka_unit_test(the_bytes_are_the_documented_ones),
        cmocka_unit_test(bytes_that_are_not_canonical_are_refused),
        cmocka_unit_test(more_uids_than_allowed_are_refused),
        cmocka_unit_test(a_copy_is_its_own),
        cmocka_unit_test(sets_are_added_and_removed_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
