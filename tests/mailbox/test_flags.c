/* Flags: what is typed, what is printed, and the algebra of keyword sets. */
#include "mailbox/flags.h"

#include "base/err.h"
#include "tests/support/scratch.h"

#include <ctype.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

static struct dice dice;

static void expect_text(uint32_t system, struct bytes keywords, const char *want)
{
    struct buf out = {0};
    flags_print(system, keywords, &out);
    assert_int_equal(out.size, strlen(want));
    assert_memory_equal(out.data, want, out.size);
    buf_free(&out);
}

static void expect_list(const char *typed, const char *want)
{
    struct flags flags = {0};
    assert_int_equal(flags_add_list(&flags, typed), ERR_OK);
    expect_text(flags.system, buf_view(&flags.keywords), want);
    flags_free(&flags);
}

static void flags_are_printed_sorted_and_once(void **state)
{
    (void)state;
    expect_list("", "-");
    expect_list("\\seen", "\\Seen");
    expect_list("\\FLAGGED,\\Seen,\\answered,\\Deleted,\\draft",
                "\\Answered,\\Deleted,\\Draft,\\Flagged,\\Seen");
    expect_list("work,$Forwarded,\\Seen,Zed", "$Forwarded,Zed,\\Seen,work");
    expect_list("work,WORK,Work", "work");
    expect_list("b,a,b,a", "a,b");
}

static void what_is_no_flag_is_refused(void **state)
{
    static const char *const wrong[] = {"\\Recent", "\\Nonsense", "a b",  "a(b",  "a{",
                                        "a%",       "a*",         "a\"b", "a\\b", "a\tb",
                                        "a]b",      "wörk",       ",",    "a,",   "\\"};
    struct flags flags = {0};
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (flags_add_list(&flags, wrong[i]) != ERR_INVALID)
            fail_msg("taken: %s", wrong[i]);
        flags_free(&flags);
        flags = (struct flags){0};
    }
    char name[KEYWORD_MAX_SIZE + 2];
    memset(name, 'k', sizeof name);
    assert_int_equal(flags_add(&flags, name, KEYWORD_MAX_SIZE), ERR_OK);
    assert_int_equal(flags_add(&flags, name, KEYWORD_MAX_SIZE + 1), ERR_INVALID);
    flags_free(&flags);
}

/* Keywords a..t as bits, in either case, as text for a set. */
#define NAMES 20u
static void make_set(uint32_t bits, struct buf *set)
{
    struct flags flags = {0};
    for (unsigned i = 0; i < NAMES; i++) {
        char name[3] = {'k', (char)('a' + i), '\0'};
        if (bits & (1u << i))
            assert_int_equal(flags_add(&flags, name, 2), ERR_OK);
    }
    *set = flags.keywords;
}

static uint32_t bits_of(struct bytes set)
{
    uint32_t bits = 0;
    size_t at = 0;
    struct bytes name;
    struct bytes before = {0};
    while (keywords_next(set, &at, &name)) {
        assert_int_equal(name.size, 2);
        if (before.size)
            assert_true(memcmp(before.data, name.data, 2) < 0);
        bits |= 1u << (name.data[1] - 'a');
        before = name;
    }
    return bits;
}

static void keyword_sets_are_sets(void **state)
{
    (void)state;
    for (int round = 0; round < 2000; round++) {
        uint32_t a = (uint32_t)dice_next(&dice) & ((1u << NAMES) - 1);
        uint32_t b = dice_below(&dice, 2) ? a : (uint32_t)dice_next(&dice) & ((1u << NAMES) - 1);
        struct buf x = {0};
        struct buf y = {0};
        struct buf both = {0};
        struct buf less = {0};
        make_set(a, &x);
        make_set(b, &y);
        assert_int_equal(keywords_merge(buf_view(&x), buf_view(&y), &both), ERR_OK);
        assert_int_equal(keywords_without(buf_view(&x), buf_view(&y), &less), ERR_OK);
        assert_int_equal(bits_of(buf_view(&both)), a | b);
        assert_int_equal(bits_of(buf_view(&less)), a & ~b);
        assert_true((keywords_hash(buf_view(&x)) == keywords_hash(buf_view(&y))) == (a == b));
        for (unsigned i = 0; i < NAMES; i++) {
            char name[3] = {'K', (char)('A' + i), '\0'}; /* case does not matter */
            assert_int_equal(keywords_contain(buf_view(&x), bytes_text(name)), a >> i & 1);
        }
        buf_free(&x);
        buf_free(&y);
        buf_free(&both);
        buf_free(&less);
    }
    assert_int_equal(keywords_hash(bytes_of(NULL, 0)), 0);
}

static void the_first_spelling_stays(void **state)
{
    struct flags one = {0};
    struct flags other = {0};
    struct buf both = {0};
    (void)state;
    assert_int_equal(flags_add_list(&one, "Work"), ERR_OK);
    assert_int_equal(flags_add_list(&other, "WORK,Also"), ERR_OK);
    assert_int_equal(keywords_merge(buf_view(&one.keywords), buf_view(&other.keywords), &both),
                     ERR_OK);
    expect_text(0, buf_view(&both), "Also,Work");
    flags_free(&one);
    flags_free(&other);
    buf_free(&both);
}

static int read_bytes_of(const void *data, size_t size, struct bytes *set)
{
    struct reader in = reader_of(bytes_of(data, size));
    int rc = keywords_read(&in, set);
    return rc == ERR_OK && !reader_done(&in) ? ERR_CORRUPT : rc;
}

static void only_canonical_bytes_are_a_set(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        bool good;
    } cases[] = {
        {"\x00", 1, true},
        {"\x04\x01"
         "a\x01"
         "b",
         5, true},
        {"\x04\x01"
         "b\x01"
         "a",
         5, false}, /* not sorted */
        {"\x04\x01"
         "a\x01"
         "a",
         5, false},             /* twice */
        {"\x01\x00", 2, false}, /* no name */
        {"\x02\x01 ", 3, false},
        {"\x02\x02"
         "a",
         3, false}, /* cut short */
        {"\x05\x01"
         "a",
         3, false},
    };
    struct bytes set;
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int rc = read_bytes_of(cases[i].bytes, cases[i].size, &set);
        if ((rc == ERR_OK) != cases[i].good)
            fail_msg("case %zu: %d", i, rc);
    }
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flags_are_printed_sorted_and_once),
        cmocka_unit_test(what_is_no_flag_is_refused),
        cmocka_unit_test(keyword_sets_are_sets),
        cmocka_unit_test(the_first_spelling_stays),
        cmocka_unit_test(only_canonical_bytes_are_a_set),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
