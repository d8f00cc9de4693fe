#include "agent/address.h"
#include "base/err.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_prints(const char *text, const char *printed)
{
    struct sockaddr_storage address;
    char out[ADDRESS_TEXT_SIZE];
    assert_int_equal(address_parse(text, &address), ERR_OK);
    address_print(&address, out);
    assert_string_equal(out, printed);
}

static void addresses_come_back_as_they_were(void **state)
{
    (void)state;
    assert_prints("127.0.0.1:0", "127.0.0.1:0");
    assert_prints("255.255.255.255:65535", "255.255.255.255:65535");
    assert_prints("[::1]:7700", "[::1]:7700");
    assert_prints("[2001:db8:1:2:3:4:5:6]:1", "[2001:db8:1:2:3:4:5:6]:1");
    assert_prints("localhost:00080", "127.0.0.1:80");
}

static void what_is_no_address_is_refused(void **state)
{
    static const char *const wrong[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        ":80",
        "127.0.0.1:65536",
        "127.0.0.1:123456",
        "127.0.0.1:-1",
        "127.0.0.1:+1",
        "127.0.0.1: 1",
        "127.0.0.1:1x",
        "127.0.0.1:0x1",
        "127.0.0:80",
        "256.0.0.1:80",
        "::1:80",
        "[::1]80",
        "[::1:80",
        "[]:80",
        "[127.0.0.1]:80",
        "[localhost]:80",
        "example.org:80",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:80",
    };
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct sockaddr_storage address;
        assert_int_equal(address_parse(wrong[i], &address), ERR_INVALID);
        assert_non_null(strstr(err_message(), "ADDRESS:PORT"));
    }
}

static bool is_loopback(const char *text)
{
    struct sockaddr_storage address;
    assert_int_equal(address_parse(text, &address), ERR_OK);
    return address_is_loopback(&address);
}

static void loopback_is_told_from_everything_else(void **state)
{
    (void)state;
    assert_true(is_loopback("127.0.0.1:1"));
    assert_true(is_loopback("127.255.255.254:1"));
    assert_true(is_loopback("localhost:1"));
    assert_true(is_loopback("[::1]:1"));
    assert_false(is_loopback("0.0.0.0:1"));
    assert_false(is_loopback("126.255.255.255:1"));
    assert_false(is_loopback("128.0.0.1:1"));
    assert_false(is_loopback("1.0.0.127:1"));
    assert_false(is_loopback("[::]:1"));
    assert_false(is_loopback("[::2]:1"));
    assert_false(is_loopback("[fe80::1]:1"));
}

static void what_may_be_listened_on_and_followed(void **state)
{
    (void)state;
    struct sockaddr_storage address;
    assert_int_equal(address_to_listen("127.0.0.1:0", &address), ERR_OK);
    assert_int_equal(address_to_follow("127.0.0.1:1", &address), ERR_OK);
    assert_int_equal(address_to_follow("127.0.0.1:0", &address), ERR_INVALID);
    assert_int_equal(address_to_follow("[::1]:0", &address), ERR_INVALID);
    assert_int_equal(address_to_listen("10.0.0.1:1", &address), ERR_REFUSED);
    assert_int_equal(address_to_follow("10.0.0.1:1", &address), ERR_REFUSED);
    assert_int_equal(address_to_follow("10.0.0.1", &address), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_come_back_as_they_were),
        cmocka_unit_test(what_is_no_address_is_refused),
        cmocka_unit_test(loopback_is_told_from_everything_else),
        cmocka_unit_test(what_may_be_listened_on_and_followed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
