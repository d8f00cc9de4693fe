/* Times: microseconds since 1970-01-01T00:00:00Z, signed 64 bits. The only file that knows
 * calendars. */
#ifndef SHIPLOG_BASE_TIMES_H
#define SHIPLOG_BASE_TIMES_H

#include <stdbool.h>
#include <stdint.h>

#define TIMES_SECOND INT64_C(1000000)
#define TIMES_TEXT_SIZE 40 /* of a printed time with its NUL */

int64_t times_now(void); /* CLOCK_REALTIME */

/* RFC 3339, UTC, microseconds: "2026-11-23T10:00:00.000000Z". Any int64_t prints (years below 0 or
 * above 9999 are clamped to the nearest printable time). */
void times_print(int64_t time, char out[TIMES_TEXT_SIZE]);

/* RFC 3339 ("2026-11-23T10:00:00Z", "…+01:00", fraction optional and cut to microseconds, 'T', 't'
 * or one space between), without a zone: local time (TZ). Also a bare date "2026-11-23" (local
 * midnight). Of a local time that comes twice, the first; one that is skipped is read as if the
 * clock had not been put forward. ERR_INVALID with a message. */
int times_parse_rfc3339(const char *text, int64_t *time);

/* RFC 5322 date-time with the obsolete and malformed ones met in real mail: weekday optional, years
 * of 2 or 3 digits, named zones (unknown ones and none are UTC), comments in parentheses, missing
 * seconds, asctime's order, hyphens in the date. Bounded by `size`; the text need not end in NUL.
 * ERR_INVALID with a message. */
int times_parse_rfc5322(const char *text, uint64_t size, int64_t *time);

/* The date of an mbox "From " line: asctime ("Thu Aug 22 12:36:23 2002"; seconds optional), with or
 * without a zone before or after the year. Taken as UTC without one. Stricter than the one above,
 * so that a sentence in a message is no date. */
int times_parse_asctime(const char *text, uint64_t size, int64_t *time);

/* An age: "10m", "2 days", "36h", "1w", "90 s"; units s, m, h, d, w (not M: minutes for some,
 * months for others) and their English names, singular or plural, in any case; whole numbers. With
 * `ago` a trailing " ago" is required, without it refused. In microseconds. ERR_INVALID with a
 * message; overflow too. */
int times_parse_age(const char *text, bool ago, int64_t *age);

#endif
