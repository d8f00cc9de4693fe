#include "base/times.h"

#include "base/err.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

/* 2002-08-22T12:36:23Z */
#define THAT_DAY INT64_C(1030019783)

/* Zones that need no zone files: central Europe, and India, which has no daylight time. */
#define BERLIN "CET-1CEST,M3.5.0,M10.5.0/3"
#define KOLKATA "IST-5:30"
#define NEW_YORK "EST5EDT,M3.2.0,M11.1.0"

typedef int parse_sized(const char *text, uint64_t size, int64_t *time);

static struct dice dice;

static void check_prints(int64_t time, const char *expected)
{
    char text[TIMES_TEXT_SIZE];
    times_print(time, text);
    assert_string_equal(text, expected);
}

static void times_print_as_rfc3339_in_utc(void **state)
{
    (void)state;
    check_prints(0, "1970-01-01T00:00:00.000000Z");
    check_prints(-1, "1969-12-31T23:59:59.999999Z");
    check_prints(THAT_DAY * TIMES_SECOND + 42, "2002-08-22T12:36:23.000042Z");
    check_prints(INT64_C(951782399999999), "2000-02-28T23:59:59.999999Z");
    check_prints(INT64_C(951782400000000), "2000-02-29T00:00:00.000000Z");
    check_prints(INT64_C(4107542400000000), "2100-03-01T00:00:00.000000Z");
}

static void times_outside_four_digit_years_are_clamped(void **state)
{
    (void)state;
    static const char first[] = "0000-01-01T00:00:00.000000Z";
    static const char last[] = "9999-12-31T23:59:59.999999Z";
    check_prints(INT64_MIN, first);
    check_prints(INT64_C(-62167219200000001), first);
    check_prints(INT64_C(-62167219200000000), first);
    check_prints(INT64_C(253402300799999999), last);
    check_prints(INT64_C(253402300800000000), last);
    check_prints(INT64_MAX, last);
}

static void printed_times_agree_with_the_c_library_and_parse_back(void **state)
{
    (void)state;
    const int64_t first = INT64_C(-62167219200);
    const int64_t span = INT64_C(253402300800) - first;
    for (int i = 0; i < 200000; i++) {
        int64_t seconds = first + (int64_t)(dice_next(&dice) % (uint64_t)span);
        int micros = (int)(dice_next(&dice) % 1000000);
        time_t moment = (time_t)seconds;
        struct tm tm;
        assert_non_null(gmtime_r(&moment, &tm));
        char expected[80];
        snprintf(expected, sizeof expected, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ",
                 tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 micros);
        int64_t time = seconds * TIMES_SECOND + micros;
        check_prints(time, expected);
        int64_t again = 0;
        assert_int_equal(times_parse_rfc3339(expected, &again), ERR_OK);
        assert_int_equal(again, time);
    }
}

static void now_is_after_this_was_written(void **state)
{
    (void)state;
    int64_t before = (int64_t)time(NULL) * TIMES_SECOND;
    int64_t now = times_now();
    assert_true(now > INT64_C(1767225600000000));
    assert_true(now >= before && now < before + 100 * TIMES_SECOND);
}

static void check_rfc3339(const char *text, int64_t seconds, int64_t micros)
{
    int64_t time = 7;
    if (times_parse_rfc3339(text, &time))
        fail_msg("%s", err_message());
    if (time != seconds * TIMES_SECOND + micros)
        fail_msg("%s: %lld", text, (long long)time);
}

static void rfc3339_with_a_zone_is_parsed(void **state)
{
    (void)state;
    check_rfc3339("2002-08-22T12:36:23Z", THAT_DAY, 0);
    check_rfc3339("2002-08-22t12:36:23z", THAT_DAY, 0);
    check_rfc3339("2002-08-22 12:36:23Z", THAT_DAY, 0);
    check_rfc3339("2002-08-22T12:36:23+00:00", THAT_DAY, 0);
    check_rfc3339("2002-08-22T12:36:23-00:00", THAT_DAY, 0);
    check_rfc3339("2002-08-22T14:36:23+02:00", THAT_DAY, 0);
    check_rfc3339("2002-08-22T07:06:23-05:30", THAT_DAY, 0);
    check_rfc3339("2002-08-22T12:36:23.5Z", THAT_DAY, 500000);
    check_rfc3339("2002-08-22T12:36:23.000001Z", THAT_DAY, 1);
    check_rfc3339("2002-08-22T12:36:23.9999999999999999999Z", THAT_DAY, 999999);
    check_rfc3339("1969-12-31T23:59:59.25Z", -1, 250000);
    check_rfc3339("2016-12-31T23:59:60Z", 1483228800, 0);
    check_rfc3339("2000-02-29T00:00:00Z", 951782400, 0);
    check_rfc3339("0000-01-01T00:00:00Z", INT64_C(-62167219200), 0);
}

static void local_times_follow_tz(void **state)
{
    (void)state;
    setenv("TZ", BERLIN, 1);
    check_rfc3339("2002-08-22T14:36:23", THAT_DAY, 0);
    check_rfc3339("2002-08-22 14:36:23.75", THAT_DAY, 750000);
    check_rfc3339("2002-01-22", 1011654000, 0);
    check_rfc3339("2002-08-22", 1029967200, 0);
    setenv("TZ", KOLKATA, 1);
    check_rfc3339("2002-08-22T18:06:23", THAT_DAY, 0);
    setenv("TZ", NEW_YORK, 1);
    check_rfc3339("2002-08-22T08:36:23", THAT_DAY, 0);
    unsetenv("TZ");
}

/* The last Sundays of March and October 2026: both changes are at 01:00 UTC. */
static void the_hours_around_a_change_of_the_clock_are_always_read_alike(void **state)
{
    (void)state;
    const int64_t spring = 1774746000;
    const int64_t autumn = 1792890000;
    setenv("TZ", BERLIN, 1);
    for (int round = 0; round < 2; round++) {
        check_rfc3339("2026-03-29T01:59:59", spring - 1, 0);
        check_rfc3339("2026-03-29T03:00:00", spring, 0);
        check_rfc3339("2026-03-29T02:30:00", spring + 1800, 0);
        check_rfc3339("2026-10-25T01:59:59", autumn - 3601, 0);
        check_rfc3339("2026-10-25T02:00:00", autumn - 3600, 0);
        check_rfc3339("2026-10-25T02:59:59", autumn - 1, 0);
        check_rfc3339("2026-10-25T03:00:00", autumn + 3600, 0);
    }
    unsetenv("TZ");
}

static void malformed_rfc3339_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "now",
        "2026",
        "2026-11",
        "2026-11-2",
        "26-11-23",
        "2026-11-23T",
        "2026-11-23T10:00",
        "2026-11-23T10:00Z",
        "2026-11-23T10:00:0Z",
        "2026-11-23T10:00:00.Z",
        "2026-11-23T10:00:00ZZ",
        "2026-11-23T10:00:00 Z",
        "2026-11-23T10:00:00+01",
        "2026-11-23T10:00:00+0100",
        "2026-11-23T10:00:00+24:00",
        "2026-11-23T10:00:00+01:60",
        "2026-11-23T10:00:00+01:00Z",
        "2026-11-23T10:00:00+-1:00",
        "2026-11-23x10:00:00Z",
        "2026-11-23  10:00:00Z",
        "2026-11-23T24:00:00Z",
        "2026-11-23T10:60:00Z",
        "2026-11-23T10:00:61Z",
        "2026-00-23T10:00:00Z",
        "2026-13-23T10:00:00Z",
        "2026-11-00",
        "2026-11-31",
        "2026-02-29",
        "1900-02-29",
        "12026-11-23T10:00:00Z",
        "-026-11-23T10:00:00Z",
        " 2026-11-23",
        "2026-11-23 ",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        int64_t time = 0;
        if (times_parse_rfc3339(bad[i], &time) != ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
    }
    int64_t time = 0;
    assert_int_equal(times_parse_rfc3339("2026-02-30\n", &time), ERR_INVALID);
    assert_string_equal(err_message(), "time \"2026-02-30\\x0a\": no such day");
}

/* From memory of exactly its size, so that a sanitizer sees a byte read beyond it. */
static int parse_alone(parse_sized *parse, const char *text, int64_t *time)
{
    size_t size = strlen(text);
    char *copy = malloc(size ? size : 1);
    assert_non_null(copy);
    if (size)
        memcpy(copy, text, size);
    int rc = parse(copy, size, time);
    free(copy);
    return rc;
}

static void check_all(parse_sized *parse, const char *const *texts, size_t count, int64_t seconds)
{
    for (size_t i = 0; i < count; i++) {
        int64_t time = 7;
        if (parse_alone(parse, texts[i], &time))
            fail_msg("%s", err_message());
        if (time != seconds * TIMES_SECOND)
            fail_msg("%s: %lld", texts[i], (long long)(time / TIMES_SECOND - seconds));
    }
}

static void refuse_all(parse_sized *parse, const char *const *texts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t time = 7;
        if (parse_alone(parse, texts[i], &time) != ERR_INVALID)
            fail_msg("accepted: %s", texts[i]);
    }
}

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

static void dates_of_mail_are_parsed(void **state)
{
    (void)state;
    static const char *const same[] = {
        "Thu, 22 Aug 2002 12:36:23 +0000",
        "Thu, 22 Aug 2002 13:36:23 +0100 (BST)",
        "Thu, 22 Aug 2002 07:36:23 -0500\r\n",
        "22 Aug 2002 12:36:23 -0000",
        "  thu ,\r\n 22 AUG 2002 12:36:23 GMT",
        "Thursday, 22 August 2002 12:36:23 UT",
        "Thurs 22 Aug 02 12:36:23 Z",
        "Thu, 22 Aug 102 12:36:23 +0000",
        "Thu, 22-Aug-02 12:36:23 UTC",
        "Thu (a \\) (nested) one), 22 (day)Aug(month) 2002 12 : (min) 36 : 23 (zone) +0 (end",
        "Thu, 22 Aug 2002 08:36:23 EDT",
        "Thu, 22 Aug 2002 05:36:23 pdt",
        "Thu, 22 Aug 2002 14:36:23 +0200 CEST",
        "Thu, 22 Aug 2002 14:36:23 CEST",
        "Thu, 22 Aug 2002 13:36:23 GMT+0100",
        "Thu, 22 Aug 2002 13:36:23 UTC+1",
        "Thu, 22 Aug 2002 18:06:23 +05:30",
        "Thu, 22 Aug 2002 12:36:23",
        "Thu, 22 Aug 2002 12:36:23 A",
        "Thu, 22 Aug 2002 12:36:23 NOWHERE",
        "Mon, 22 Aug 2002 12:36:23.999 +0000",
        "Thu, 22 Aug 2002 12.36.23 +0000",
        "Thu Aug 22 12:36:23 2002",
        "Thu Aug 22 14:36:23 2002 +0200",
        "Aug 22 08:36:23 EDT 2002",
    };
    check_all(times_parse_rfc5322, same, COUNT(same), THAT_DAY);
    static const char *const no_seconds[] = {"Thu, 22 Aug 2002 12:36 +0000",
                                             "22 Aug 02 12:36 (no zone)"};
    check_all(times_parse_rfc5322, no_seconds, COUNT(no_seconds), THAT_DAY - 23);
    static const char *const new_year[] = {"1 Jan 70 0:00 +0000", "Thu, 01 Jan 1970 00:00:00 GMT"};
    check_all(times_parse_rfc5322, new_year, COUNT(new_year), 0);
    static const char *const year_49[] = {"1 Jan 49 00:00:00 +0000", "1 Jan 2049 00:00:00 +0000"};
    check_all(times_parse_rfc5322, year_49, COUNT(year_49), INT64_C(2493072000));
    static const char *const year_50[] = {"1 Jan 50 00:00:00 +0000", "1 Jan 1950 00:00:00 +0000"};
    check_all(times_parse_rfc5322, year_50, COUNT(year_50), INT64_C(-631152000));
}

static void every_month_has_its_name(void **state)
{
    (void)state;
    static const char *const names[] = {"Jan", "Feb", "Mar",  "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sept", "Oct", "Nov", "December"};
    for (int month = 1; month <= 12; month++) {
        char mail[64];
        char standard[64];
        int64_t a = 1;
        int64_t b = 2;
        snprintf(mail, sizeof mail, "Sat, 7 %s 2013 01:02:03 +0000", names[month - 1]);
        snprintf(standard, sizeof standard, "2013-%02d-07T01:02:03Z", month);
        assert_int_equal(times_parse_rfc5322(mail, strlen(mail), &a), ERR_OK);
        assert_int_equal(times_parse_rfc3339(standard, &b), ERR_OK);
        assert_int_equal(a, b);
    }
}

static void malformed_dates_of_mail_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "(only a comment",
        "Thu,",
        "Thu, 22",
        "Thu, 22 Aug",
        "Thu, 22 Aug 2002",
        "Thu, 22 Aug 2002 12",
        "Thu, 22 Aug 2002 12:3:23 +0000",
        "Thu, 22 Aug 2 12:36:23 +0000",
        "Thu, 22 Aug 20022 12:36:23 +0000",
        "Thu, 22 Augustus 2002 12:36:23 +0000",
        "Thu, 22 Au 2002 12:36:23 +0000",
        "Thu, 22 08 2002 12:36:23 +0000",
        "Xyz, 22 Aug 2002 12:36:23 +0000",
        "Thu, 31 Jun 2002 12:36:23 +0000",
        "Thu, 0 Aug 2002 12:36:23 +0000",
        "Thu, 29 Feb 2001 12:36:23 +0000",
        "Thu, 22 Aug 2002 24:36:23 +0000",
        "Thu, 22 Aug 2002 12:60:23 +0000",
        "Thu, 22 Aug 2002 12:36:61 +0000",
        "Thu, 22 Aug 2002 12:36:23 +9999",
        "Thu, 22 Aug 2002 12:36:23 +0060",
        "Thu, 22 Aug 2002 12:36:23 +",
        "Thu, 22 Aug 2002 12:36:23 +010",
        "Thu, 22 Aug 2002 12:36:23 +01000",
        "Thu, 22 Aug 2002 12:36:23 PM",
        "Thu, 22 Aug 2002 12:36:23 +0000 2002",
        "Thu, 22 Aug 2002 12:36:23 +0000 \xc3\xbc",
        "2002-08-22T12:36:23Z",
    };
    refuse_all(times_parse_rfc5322, bad, COUNT(bad));
    int64_t time = 0;
    assert_int_equal(times_parse_rfc5322("22 Aug 2002 12:36:23 +0000\0", 27, &time), ERR_INVALID);
}

static void dates_of_mbox_lines_are_parsed(void **state)
{
    (void)state;
    static const char *const same[] = {
        "Thu Aug 22 12:36:23 2002",       "Thu Aug 22 12:36:23 2002\n",
        " Thu Aug 22 12:36:23 2002\r\n",  "Thu Aug 22 08:36:23 EDT 2002",
        "Thu Aug 22 14:36:23 2002 +0200", "Thu Aug 22 14:36:23 +0200 2002",
        "Thu Aug 22 12:36:23 GMT 2002",
    };
    check_all(times_parse_asctime, same, COUNT(same), THAT_DAY);
    static const char *const others[] = {"Sat Sep  7 00:00 2002"};
    check_all(times_parse_asctime, others, COUNT(others), 1031356800);
}

static void sentences_are_no_dates_of_mbox_lines(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "Aug 22 12:36:23 2002",
        "Foo Aug 22 12:36:23 2002",
        "Thu, 22 Aug 2002 12:36:23 +0000",
        "Thu Aug 22 12:36:23",
        "Thu Aug 22 2002",
        "Thu Aug 22 12:36:23 02",
        "Thu Aug 22 12:36:23 2002 and then",
        "Thu (x) Aug 22 12:36:23 2002",
        "Thu Aug 2212:36:23 2002",
        "Thu Aug 32 12:36:23 2002",
        "here on it went well",
        "Monday on",
    };
    refuse_all(times_parse_asctime, bad, COUNT(bad));
}

static void check_age(const char *text, bool ago, int64_t seconds)
{
    int64_t age = 7;
    if (times_parse_age(text, ago, &age))
        fail_msg("%s", err_message());
    if (age != seconds * TIMES_SECOND)
        fail_msg("%s: %lld", text, (long long)age);
}

static void ages_are_parsed(void **state)
{
    (void)state;
    check_age("10m", false, 600);
    check_age("2 days", false, 172800);
    check_age("36h", false, 129600);
    check_age("1w", false, 604800);
    check_age("90 s", false, 90);
    check_age("1 second", false, 1);
    check_age("2 seconds", false, 2);
    check_age("1 minute", false, 60);
    check_age("3 minutes", false, 180);
    check_age("1 hour", false, 3600);
    check_age("1hours", false, 3600);
    check_age("1 day", false, 86400);
    check_age("1d", false, 86400);
    check_age("1 week", false, 604800);
    check_age("0 Weeks", false, 0);
    check_age("10m ago", true, 600);
    check_age("2 days  ago", true, 172800);
    check_age("2 DAYS AGO", true, 172800);
    check_age("9223372036854s", false, INT64_C(9223372036854));
}

static void malformed_ages_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "m",
        "10",
        "10 ",
        "-1m",
        "+1m",
        "1.5h",
        " 10m",
        "10m ",
        "10x",
        "10mo",
        "10M",
        "1D",
        "10 month",
        "10y",
        "10min",
        "1h30m",
        "10m agoo",
        "10mago",
        "10m ago ",
        "10m since",
        "ago",
        "10 ago",
        "9223372036855s",
        "15250285w",
        "99999999999999999999999999s",
        "9223372036854775807s",
    };
    for (size_t i = 0; i < COUNT(bad); i++) {
        int64_t age = 0;
        if (times_parse_age(bad[i], true, &age) != ERR_INVALID ||
            times_parse_age(bad[i], false, &age) != ERR_INVALID)
            fail_msg("accepted: %s", bad[i]);
    }
    int64_t age = 0;
    assert_int_equal(times_parse_age("10m ago", false, &age), ERR_INVALID);
    assert_string_equal(err_message(), "age \"10m ago\": more follows than an age");
    assert_int_equal(times_parse_age("10m", true, &age), ERR_INVALID);
    assert_string_equal(err_message(), "age \"10m\": \"ago\" must follow the unit");
    assert_int_equal(times_parse_age("10M ago", true, &age), ERR_INVALID);
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(times_print_as_rfc3339_in_utc),
        cmocka_unit_test(times_outside_four_digit_years_are_clamped),
        cmocka_unit_test(printed_times_agree_with_the_c_library_and_parse_back),
        cmocka_unit_test(now_is_after_this_was_written),
        cmocka_unit_test(rfc3339_with_a_zone_is_parsed),
        cmocka_unit_test(local_times_follow_tz),
        cmocka_unit_test(the_hours_around_a_change_of_the_clock_are_always_read_alike),
        cmocka_unit_test(malformed_rfc3339_is_refused),
        cmocka_unit_test(dates_of_mail_are_parsed),
        cmocka_unit_test(every_month_has_its_name),
        cmocka_unit_test(malformed_dates_of_mail_are_refused),
        cmocka_unit_test(dates_of_mbox_lines_are_parsed),
        cmocka_unit_test(sentences_are_no_dates_of_mbox_lines),
        cmocka_unit_test(ages_are_parsed),
        cmocka_unit_test(malformed_ages_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
