#include "base/text.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Encodes as RFC 3629 describes, without its exclusions. */
static size_t encode(uint32_t code, uint8_t out[4])
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    size_t length = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (uint8_t)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (uint8_t)(lead[length] | code);
    return length;
}

static void every_code_point_is_read_and_surrogates_are_not(void **state)
{
    (void)state;
    for (uint32_t code = 0; code < 0x110000; code++) {
        uint8_t bytes[4];
        size_t length = encode(code, bytes);
        uint32_t found = 0;
        size_t got = text_utf8(bytes, length, &found);
        if (code >= 0xd800 && code < 0xe000) {
            assert_int_equal(got, 0);
        } else {
            assert_int_equal(got, length);
            assert_int_equal(found, code);
            assert_int_equal(text_utf8(bytes, length - 1, &found), 0);
        }
    }
}

static void malformed_sequences_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80",         "\xbf",         "\xc0\x80",         "\xc1\xbf",         "\xc3(",
        "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80",
        "\xff",         "\xe2\x82(",    "\xe2(\xac",        "\xf0\x9f\x98(",
    };
    uint32_t code = 0;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(text_utf8(bad[i], strlen(bad[i]), &code), 0);
}

static void controls_are_c0_del_and_c1(void **state)
{
    (void)state;
    assert_true(text_is_control(0));
    assert_true(text_is_control(0x1f));
    assert_false(text_is_control(' '));
    assert_false(text_is_control('~'));
    assert_true(text_is_control(0x7f));
    assert_true(text_is_control(0x9f));
    assert_false(text_is_control(0xa0));
}

static void quotes_show_controls_and_bad_bytes_escaped(void **state)
{
    (void)state;
    char out[TEXT_QUOTE_SIZE];
    assert_string_equal(text_quote("a\nb\xff\x7f", 5, out), "\"a\\x0ab\\xff\\x7f\"");
    assert_string_equal(text_quote("Gr\xc3\xbc\xc3\x9f\x65", 7, out), "\"Gr\xc3\xbc\xc3\x9f\x65\"");
    assert_string_equal(text_quote("\xc2\x85", 2, out), "\"\\xc2\\x85\"");
    assert_string_equal(text_quote(NULL, 0, out), "\"\"");
}

static void quotes_of_any_length_end_inside_the_room(void **state)
{
    (void)state;
    char text[4 * TEXT_QUOTE_SIZE];
    static const char *const fill[] = {"a", "\xc3\xbc", "\xc2\x80", "\xff", "\xf0\x9f\x98\x80"};
    for (size_t f = 0; f < sizeof fill / sizeof fill[0]; f++) {
        size_t step = strlen(fill[f]);
        for (size_t size = 0; size + step <= sizeof text; size += step) {
            memcpy(text + size, fill[f], step);
            char out[TEXT_QUOTE_SIZE + 1];
            out[TEXT_QUOTE_SIZE] = 'X';
            text_quote(text, size + step, out);
            size_t length = strlen(out);
            assert_in_range(length, 3, TEXT_QUOTE_SIZE - 1);
            assert_int_equal(out[TEXT_QUOTE_SIZE], 'X');
            assert_int_equal(out[length - 1], '"');
        }
    }
}

static void a_text_becomes_one_line_and_nothing_else_changes(void **state)
{
    (void)state;
    char text[] = "a\nb\r\t\x1b[1m\x7f gr\xc3\xbc\xff~ ";
    text_to_line(text);
    assert_string_equal(text, "a?b???[1m? gr\xc3\xbc\xff~ ");
    assert_int_equal((fail)(ERR_NOTFOUND, "%s: not\nthere", "x\ny"), ERR_NOTFOUND);
    assert_string_equal(err_message(), "x?y: not?there");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_point_is_read_and_surrogates_are_not),
        cmocka_unit_test(malformed_sequences_are_refused),
        cmocka_unit_test(controls_are_c0_del_and_c1),
        cmocka_unit_test(quotes_show_controls_and_bad_bytes_escaped),
        cmocka_unit_test(quotes_of_any_length_end_inside_the_room),
        cmocka_unit_test(a_text_becomes_one_line_and_nothing_else_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
