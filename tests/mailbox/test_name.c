#include "mailbox/name.h"

#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static const struct owner anna = {.user = "anna"};
static const struct owner bob = {.user = "bob", .domain = "example.org"};

static struct name parsed(const char *text)
{
    struct name name;
    memset(&name, 0xee, sizeof name);
    if (name_parse(text, strlen(text), &anna, &name))
        fail_msg("%s", err_message());
    return name;
}

static void check_prints(const struct name *name, const struct owner *store_owner,
                         const char *expected)
{
    char text[NAME_TEXT_SIZE];
    name_print(name, store_owner, text);
    assert_string_equal(text, expected);
}

static void check_text(const char *text, const char *expected)
{
    struct name name = parsed(text);
    check_prints(&name, &anna, expected);
    struct name again;
    assert_int_equal(name_parse(expected, strlen(expected), &anna, &again), ERR_OK);
    assert_true(name_equal(&name, &again));
    assert_int_equal(name_decode(name_encoded(&name), &again), ERR_OK);
    assert_true(name_equal(&name, &again));
}

static void text_parses_and_prints(void **state)
{
    (void)state;
    check_text("A", "A");
    check_text("A/B/C", "A/B/C");
    check_text("~bob/A", "~bob/A");
    check_text("~bob@example.org/A/B", "~bob@example.org/A/B");
    check_text("a b/%*.\\\"~@", "a b/%*.\\\"~@");
    check_text("Gr\xc3\xbc\xc3\x9f/\xf0\x9f\x98\x80", "Gr\xc3\xbc\xc3\x9f/\xf0\x9f\x98\x80");
    check_text("a/~b", "a/~b");
}

static void the_stores_owner_named_or_not_is_the_same(void **state)
{
    (void)state;
    check_text("~anna/A", "A");
    struct name with = parsed("~anna/A");
    struct name without = parsed("A");
    assert_true(name_equal(&with, &without));
    struct name other = parsed("~anna@example.org/A");
    assert_false(name_equal(&with, &other));
    check_prints(&with, &bob, "~anna/A");
    struct name own;
    assert_int_equal(name_parse("~bob@example.org/A", 18, &bob, &own), ERR_OK);
    check_prints(&own, &bob, "A");
}

static void a_first_component_may_begin_with_a_tilde(void **state)
{
    (void)state;
    check_text("~anna/~bob/A", "~anna/~bob/A");
    check_text("~~bob/A", "~~bob/A");
    struct name hers = parsed("~anna/~bob/A");
    struct name his = parsed("~bob/A");
    assert_false(name_equal(&hers, &his));
}

static void inbox_is_one_name_in_any_case(void **state)
{
    (void)state;
    check_text("inbox", "INBOX");
    check_text("InBoX/a", "INBOX/a");
    check_text("~bob/inbox", "~bob/INBOX");
    check_text("A/inbox", "A/inbox");
    check_text("inboxes", "inboxes");
    check_text("inbo", "inbo");
}

static void refuse(const char *text, size_t size)
{
    struct name name = {.size = 3};
    if (name_parse(text, size, &anna, &name) != ERR_INVALID)
        fail_msg("accepted: %s", text);
    assert_int_equal(name.size, 3);
}

static void bad_names_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",     "/",         "/A",      "A/",      "A//B",     "~",         "~/",           "~/A",
        "~bob", "~bob/",     "~bob//A", "~bob@/A", "~@x/A",    "~b@c@d/A",  "A\nB",         "A\x7f",
        "\x01", "A\xc2\x80", "\x80",    "A\xc3",   "~b\x01/A", "~b@\xff/A", "\xed\xa0\x80",
    };
    for (size_t i = 0; i < COUNT(bad); i++)
        refuse(bad[i], strlen(bad[i]));
    refuse("A\0B", 3);
    refuse(NULL, 0);
}

static void the_message_quotes_what_was_refused(void **state)
{
    (void)state;
    refuse("A\nB", 3);
    assert_string_equal(err_message(), "mailbox name \"A\\x0aB\": a control character");
    refuse("A\xff", 2);
    assert_string_equal(err_message(), "mailbox name \"A\\xff\": not UTF-8");
    struct owner owner;
    assert_int_equal(owner_parse("a@b@c", &owner), ERR_INVALID);
    assert_string_equal(err_message(), "owner \"a@b@c\": more than one @ in the owner");
}

static void names_reach_exactly_480_encoded_bytes(void **state)
{
    (void)state;
    char text[600];
    memset(text, 'x', sizeof text);
    size_t most = NAME_MAX_SIZE - strlen("anna") - 2;
    struct name name;
    assert_int_equal(name_parse(text, most, &anna, &name), ERR_OK);
    assert_int_equal(name.size, NAME_MAX_SIZE);
    char printed[NAME_TEXT_SIZE];
    name_print(&name, &bob, printed);
    assert_int_equal(strlen(printed), strlen("~anna/") + most);
    refuse(text, most + 1);
    refuse(text, sizeof text);
    text[100] = '/';
    assert_int_equal(name_parse(text, most, &anna, &name), ERR_OK);
    refuse(text, most + 1);
}

static void owners_have_bounded_parts(void **state)
{
    (void)state;
    struct owner owner;
    char text[400];
    char printed[400];
    memset(text, 'x', sizeof text);
    text[127] = '@';
    text[383] = '\0';
    assert_int_equal(owner_parse(text, &owner), ERR_OK);
    assert_int_equal(strlen(owner.user), 127);
    assert_int_equal(strlen(owner.domain), 255);
    owner_print(&owner, printed);
    assert_string_equal(printed, text);
    struct name name;
    assert_int_equal(name_parse("A", 1, &owner, &name), ERR_OK);
    struct owner again;
    name_owner(&name, &again);
    assert_true(owner_equal(&owner, &again));

    text[383] = 'x';
    text[384] = '\0';
    assert_int_equal(owner_parse(text, &owner), ERR_INVALID);
    memset(text, 'x', sizeof text);
    text[128] = '\0';
    assert_int_equal(owner_parse(text, &owner), ERR_INVALID);
    static const char *const bad[] = {"", "@", "a@", "@b", "a/b", "a@b/c", "a@b@c", "a\n", "\xff"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(owner_parse(bad[i], &owner), ERR_INVALID);
}

static void owners_are_equal_in_user_and_domain(void **state)
{
    (void)state;
    struct owner a;
    assert_int_equal(owner_parse("bob@example.org", &a), ERR_OK);
    assert_true(owner_equal(&a, &bob));
    assert_int_equal(owner_parse("bob", &a), ERR_OK);
    assert_false(owner_equal(&a, &bob));
    assert_int_equal(owner_parse("ann@example.org", &a), ERR_OK);
    assert_false(owner_equal(&a, &bob));
}

static void the_encoding_is_domain_owner_components(void **state)
{
    (void)state;
    static const char golden[] = "example.org\0bob\0INBOX\0x";
    struct name name = parsed("~bob@example.org/inbox/x");
    assert_true(bytes_equal(name_encoded(&name), bytes_of(golden, sizeof golden - 1)));
    static const char own[] = "\0anna\0A";
    name = parsed("A");
    assert_true(bytes_equal(name_encoded(&name), bytes_of(own, sizeof own - 1)));
}

static int compare(const char *a, const char *b)
{
    struct name first = parsed(a);
    struct name second = parsed(b);
    size_t least = first.size < second.size ? first.size : second.size;
    int order = memcmp(first.encoded, second.encoded, least);
    return order ? order : (int)first.size - (int)second.size;
}

static void encoded_names_sort_by_owner_and_parents_before_children(void **state)
{
    (void)state;
    static const char *const sorted[] = {"A", "A/B", "A/B/C", "A/C", "A ", "A-", "B", "~bob/A"};
    for (size_t i = 1; i < COUNT(sorted); i++)
        assert_true(compare(sorted[i - 1], sorted[i]) < 0);
}

static void bytes_that_no_name_encodes_to_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
    } bad[] = {
        {"", 0},         {"\0", 1},          {"\0a", 2},
        {"\0a\0", 3},    {"\0\0A", 3},       {"d\0\0A", 4},
        {"\0a\0A\0", 5}, {"\0a\0A\0\0B", 7}, {"\0a\0A/B", 6},
        {"\0a/\0A", 5},  {"\0a@b\0A", 6},    {"d@\0a\0A", 6},
        {"d/\0a\0A", 6}, {"\0a\0inbox", 8},  {"\0a\0Inbox\0A", 10},
        {"\0a\0A\n", 5}, {"\0a\0\xff", 4},   {"\xff\0a\0A", 5},
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct name name = {.size = 3};
        if (name_decode(bytes_of(bad[i].bytes, bad[i].size), &name) != ERR_CORRUPT)
            fail_msg("accepted: %zu", i);
        assert_int_equal(name.size, 3);
    }
    char large[NAME_MAX_SIZE + 1];
    struct name name;
    memset(large, 'x', sizeof large);
    memcpy(large, "\0a", 3);
    assert_int_equal(name_decode(bytes_of(large, NAME_MAX_SIZE), &name), ERR_OK);
    assert_int_equal(name_decode(bytes_of(large, sizeof large), &name), ERR_CORRUPT);
    memset(large, 'x', sizeof large);
    large[1] = '\0';
    large[130] = '\0';
    assert_int_equal(name_decode(bytes_of(large, 200), &name), ERR_CORRUPT);
    assert_int_equal(name_decode(bytes_of(NULL, 0), &name), ERR_CORRUPT);
}

static void components_are_counted_and_found(void **state)
{
    (void)state;
    struct name name = parsed("~bob@example.org/A/Bc/D");
    assert_int_equal(name_depth(&name), 3);
    assert_true(bytes_equal(name_component(&name, 0), bytes_text("A")));
    assert_true(bytes_equal(name_component(&name, 1), bytes_text("Bc")));
    assert_true(bytes_equal(name_component(&name, 2), bytes_text("D")));
    assert_int_equal(name_component(&name, 3).size, 0);
    assert_int_equal(name_component(&name, 1000).size, 0);
    name = parsed("A");
    assert_int_equal(name_depth(&name), 1);
    struct owner owner;
    name_owner(&name, &owner);
    assert_true(owner_equal(&owner, &anna));
}

static void below_is_strict_and_by_whole_components(void **state)
{
    (void)state;
    struct name a = parsed("A");
    struct name ab = parsed("A/B");
    struct name abc = parsed("A/B/C");
    struct name ax = parsed("Ax/B");
    struct name his = parsed("~bob/A/B");
    assert_true(name_is_below(&ab, &a));
    assert_true(name_is_below(&abc, &a));
    assert_false(name_is_below(&a, &a));
    assert_false(name_is_below(&a, &ab));
    assert_false(name_is_below(&ax, &a));
    assert_false(name_is_below(&his, &a));
}

static void children_follow_a_renamed_parent(void **state)
{
    (void)state;
    struct name from = parsed("A/B");
    struct name to = parsed("X");
    struct name child = parsed("A/B/C/D");
    assert_int_equal(name_rebase(&child, &from, &to, &child), ERR_OK);
    check_prints(&child, &anna, "X/C/D");
    struct name again = parsed("X/C/D");
    assert_true(name_equal(&again, &child));
}

static void a_rename_that_makes_a_child_too_long_is_refused(void **state)
{
    (void)state;
    char text[NAME_MAX_SIZE];
    memset(text, 'x', sizeof text);
    struct name from = parsed("A");
    struct name child = parsed("A/12345");
    struct name to;
    struct name moved;
    size_t most = NAME_MAX_SIZE - strlen("anna") - 2 - strlen("/12345");
    assert_int_equal(name_parse(text, most, &anna, &to), ERR_OK);
    assert_int_equal(name_rebase(&child, &from, &to, &moved), ERR_OK);
    assert_int_equal(moved.size, NAME_MAX_SIZE);
    assert_int_equal(name_parse(text, most + 1, &anna, &to), ERR_OK);
    assert_int_equal(name_rebase(&child, &from, &to, &moved), ERR_INVALID);
    assert_string_equal(err_message(),
                        "mailbox name \"A/12345\": its new name would be longer than 480 bytes");
}

static void a_suffix_is_added_to_the_last_component(void **state)
{
    (void)state;
    struct name name = parsed("~bob/A/B");
    name_with_suffix(&name, "1f", &name);
    check_prints(&name, &anna, "~bob/A/B~1f");
    name = parsed("inbox");
    name_with_suffix(&name, "1f", &name);
    check_prints(&name, &anna, "INBOX~1f");
}

static void a_long_name_is_cut_between_characters_for_its_suffix(void **state)
{
    (void)state;
    char text[NAME_MAX_SIZE];
    for (size_t shift = 0; shift < 4; shift++) {
        size_t size = shift;
        memset(text, 'x', shift);
        for (; size + 4 <= NAME_MAX_SIZE - 6; size += 4)
            memcpy(text + size, "\xf0\x9f\x98\x80", 4);
        struct name name;
        struct name out;
        struct name again;
        assert_int_equal(name_parse(text, size, &anna, &name), ERR_OK);
        name_with_suffix(&name, "suffix", &out);
        assert_int_equal(name_decode(name_encoded(&out), &again), ERR_OK);
        assert_in_range(out.size, NAME_MAX_SIZE - 3, NAME_MAX_SIZE);
        assert_memory_equal(out.encoded + out.size - 7, "~suffix", 7);
        assert_memory_equal(out.encoded, name.encoded, out.size - 7);
    }
}

static void a_suffix_finds_room_below_long_parents_and_a_long_owner(void **state)
{
    (void)state;
    char text[NAME_MAX_SIZE];
    char suffix[NAME_SUFFIX_MAX + 1];
    memset(suffix, 's', NAME_SUFFIX_MAX);
    suffix[NAME_SUFFIX_MAX] = '\0';
    for (size_t size = 1; size <= NAME_MAX_SIZE - 6; size++) {
        memset(text, 'x', size);
        for (size_t i = 1; i + 1 < size; i += 2)
            text[i] = '/';
        struct name name;
        struct name out;
        struct name again;
        assert_int_equal(name_parse(text, size, &anna, &name), ERR_OK);
        name_with_suffix(&name, suffix, &out);
        assert_int_equal(name_decode(name_encoded(&out), &again), ERR_OK);
        assert_memory_equal(out.encoded + out.size - NAME_SUFFIX_MAX, suffix, NAME_SUFFIX_MAX);
    }
    struct owner owner = {0};
    struct name name;
    struct name out;
    memset(owner.user, 'u', sizeof owner.user - 1);
    memset(owner.domain, 'd', sizeof owner.domain - 1);
    assert_int_equal(name_parse("A/B", 3, &owner, &name), ERR_OK);
    name_with_suffix(&name, suffix, &out);
    memset(text, 'x', sizeof text);
    assert_int_equal(name_parse(text, 95, &owner, &name), ERR_OK);
    name_with_suffix(&name, suffix, &out);
    struct name again;
    assert_int_equal(name_decode(name_encoded(&out), &again), ERR_OK);
    assert_int_equal(out.size, NAME_MAX_SIZE);
}

static void a_child_is_one_component_more(void **state)
{
    (void)state;
    struct name name = parsed("A");
    assert_int_equal(name_child(&name, "inbox", 5, &name), ERR_OK);
    check_prints(&name, &anna, "A/inbox");
    struct name child = {.size = 3};
    assert_int_equal(name_child(&name, "", 0, &child), ERR_INVALID);
    assert_int_equal(name_child(&name, "a/b", 3, &child), ERR_INVALID);
    assert_int_equal(name_child(&name, "a\0b", 3, &child), ERR_INVALID);
    char large[NAME_MAX_SIZE];
    memset(large, 'x', sizeof large);
    assert_int_equal(name_child(&name, large, sizeof large, &child), ERR_INVALID);
    assert_int_equal(name_child(&name, large, (size_t)(NAME_MAX_SIZE - name.size), &child),
                     ERR_INVALID);
    assert_int_equal(child.size, 3);
    assert_int_equal(name_child(&name, large, (size_t)(NAME_MAX_SIZE - name.size - 1), &child),
                     ERR_OK);
    assert_int_equal(child.size, NAME_MAX_SIZE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_parses_and_prints),
        cmocka_unit_test(the_stores_owner_named_or_not_is_the_same),
        cmocka_unit_test(a_first_component_may_begin_with_a_tilde),
        cmocka_unit_test(inbox_is_one_name_in_any_case),
        cmocka_unit_test(bad_names_are_refused),
        cmocka_unit_test(the_message_quotes_what_was_refused),
        cmocka_unit_test(names_reach_exactly_480_encoded_bytes),
        cmocka_unit_test(owners_have_bounded_parts),
        cmocka_unit_test(owners_are_equal_in_user_and_domain),
        cmocka_unit_test(the_encoding_is_domain_owner_components),
        cmocka_unit_test(encoded_names_sort_by_owner_and_parents_before_children),
        cmocka_unit_test(bytes_that_no_name_encodes_to_are_refused),
        cmocka_unit_test(components_are_counted_and_found),
        cmocka_unit_test(below_is_strict_and_by_whole_components),
        cmocka_unit_test(children_follow_a_renamed_parent),
        cmocka_unit_test(a_rename_that_makes_a_child_too_long_is_refused),
        cmocka_unit_test(a_suffix_is_added_to_the_last_component),
        cmocka_unit_test(a_long_name_is_cut_between_characters_for_its_suffix),
        cmocka_unit_test(a_suffix_finds_room_below_long_parents_and_a_long_owner),
        cmocka_unit_test(a_child_is_one_component_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
