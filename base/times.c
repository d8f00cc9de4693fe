/* Dates are read by hand: strptime() and friends depend on the locale and accept too much. Only the
 * offset of local time comes from the C library. */
#include "base/times.h"

#include "base/err.h"
#include "base/text.h"

#include <stddef.h>
#include <string.h>
#include <time.h>

#define DAY_SECONDS INT64_C(86400)
#define YEAR_ZERO (-719528 * DAY_SECONDS)         /* 0000-01-01T00:00:00Z */
#define YEAR_TEN_THOUSAND (2932897 * DAY_SECONDS) /* 10000-01-01T00:00:00Z */

/* A date and a time of day on the proleptic Gregorian calendar; second may be 60. */
struct civil {
    int year;
    int month;
    int day;
    int hour;
    int minute;
    int second;
    int microsecond;
};

/* Days since 1970-01-01. Counts years from March, so that the leap day is the last of its year. */
static int64_t days_of(int year, int month, int day)
{
    int64_t y = (int64_t)year + 400 - (month <= 2); /* of year 0: keeps the divisions positive */
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    return y * 365 + y / 4 - y / 100 + y / 400 + day_of_year - 719468 - 146097;
}

static int64_t seconds_of(const struct civil *c)
{
    return days_of(c->year, c->month, c->day) * DAY_SECONDS + c->hour * 3600 + c->minute * 60 +
           c->second;
}

/* The inverse of days_of(), for years 0 to 9999. */
static void set_date(struct civil *c, int64_t days)
{
    int64_t z = days + 719468 + 146097;
    int64_t era = z / 146097;
    int64_t day_of_era = z % 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153; /* from March */
    c->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    c->month = (int)(month < 10 ? month + 3 : month - 9);
    c->year = (int)(year_of_era + era * 400 - 400 + (c->month <= 2));
}

static bool is_date(const struct civil *c)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (c->month < 1 || c->month > 12)
        return false;
    bool leap = c->year % 4 == 0 && (c->year % 100 != 0 || c->year % 400 == 0);
    int length = lengths[c->month - 1] + (c->month == 2 && leap);
    return c->day >= 1 && c->day <= length;
}

static bool is_time_of_day(const struct civil *c)
{
    return c->hour <= 23 && c->minute <= 59 && c->second <= 60;
}

int64_t times_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * TIMES_SECOND + now.tv_nsec / 1000;
}

static char *put_digits(char *out, int value, int width, char after)
{
    for (int i = width - 1; i >= 0; i--) {
        out[i] = (char)('0' + value % 10);
        value /= 10;
    }
    out[width] = after;
    return out + width + 1;
}

void times_print(int64_t time, char out[TIMES_TEXT_SIZE])
{
    int64_t first = YEAR_ZERO * TIMES_SECOND;
    int64_t last = YEAR_TEN_THOUSAND * TIMES_SECOND - 1;
    if (time < first)
        time = first;
    if (time > last)
        time = last;
    /* From year 0, so that the divisions round down. */
    int64_t since = time - first;
    int64_t seconds = since / TIMES_SECOND;
    int of_day = (int)(seconds % DAY_SECONDS);
    struct civil c = {.microsecond = (int)(since % TIMES_SECOND)};
    set_date(&c, (seconds + YEAR_ZERO - of_day) / DAY_SECONDS);
    out = put_digits(out, c.year, 4, '-');
    out = put_digits(out, c.month, 2, '-');
    out = put_digits(out, c.day, 2, 'T');
    out = put_digits(out, of_day / 3600, 2, ':');
    out = put_digits(out, of_day / 60 % 60, 2, ':');
    out = put_digits(out, of_day % 60, 2, '.');
    out = put_digits(out, c.microsecond, 6, 'Z');
    *out = '\0';
}

/* What is left of a text. The functions below return whether they found what they looked for; they
 * move on only over what they found. */
struct scan {
    const char *at;
    const char *end;
    bool comments; /* skip_space() skips RFC 5322's comments too */
};

static char peek(const struct scan *s)
{
    return s->at < s->end ? *s->at : '\0';
}

static bool at_end(const struct scan *s)
{
    return s->at == s->end;
}

static bool take(struct scan *s, char c)
{
    if (at_end(s) || *s->at != c)
        return false;
    s->at++;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c)
{
    return lower(c) >= 'a' && lower(c) <= 'z';
}

/* All the digits that stand here, between `least` and `most` of them. Gives how many, 0 if none. */
static int take_number(struct scan *s, int least, int most, int *value)
{
    int count = 0;
    int sum = 0;
    while (s->at + count < s->end && is_digit(s->at[count])) {
        if (count == most)
            return 0;
        sum = sum * 10 + (s->at[count] - '0');
        count++;
    }
    if (count < least)
        return 0;
    s->at += count;
    *value = sum;
    return count;
}

static struct scan take_word(struct scan *s)
{
    struct scan word = {.at = s->at, .end = s->at};
    while (word.end < s->end && is_letter(*word.end))
        word.end++;
    s->at = word.end;
    return word;
}

static size_t length_of(const struct scan *word)
{
    return (size_t)(word->end - word->at);
}

/* Whether the word is `name` (in lower case), in any case, or its beginning of `least` letters or
 * more. */
static bool abbreviates(const struct scan *word, const char *name, size_t least)
{
    size_t length = length_of(word);
    if (length < least || length > strlen(name))
        return false;
    for (size_t i = 0; i < length; i++) {
        if (lower(word->at[i]) != name[i])
            return false;
    }
    return true;
}

static bool is_word(const struct scan *word, const char *name)
{
    return abbreviates(word, name, strlen(name));
}

/* Comments nest. One that never ends goes to the end of the text. */
static void skip_comment(struct scan *s)
{
    int64_t depth = 0;
    do {
        char c = *s->at++;
        if (c == '\\' && !at_end(s))
            s->at++;
        else
            depth += (c == '(') - (c == ')');
    } while (depth > 0 && !at_end(s));
}

static void skip_space(struct scan *s)
{
    for (;;) {
        char c = peek(s);
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            s->at++;
        else if (c == '(' && s->comments)
            skip_comment(s);
        else
            return;
    }
}

/* "Z" or "+01:00"; the offset in seconds. */
static bool take_rfc3339_zone(struct scan *s, int *offset)
{
    int hours = 0;
    int minutes = 0;
    *offset = 0;
    if (take(s, 'Z') || take(s, 'z'))
        return true;
    int sign = peek(s) == '-' ? -1 : 1;
    if (!take(s, '+') && !take(s, '-'))
        return false;
    if (!take_number(s, 2, 2, &hours) || !take(s, ':') || !take_number(s, 2, 2, &minutes))
        return false;
    *offset = sign * (hours * 3600 + minutes * 60);
    return hours <= 23 && minutes <= 59;
}

/* How far local time is ahead of UTC at a moment. */
static bool local_offset(int64_t seconds, int64_t *offset)
{
    time_t moment = (time_t)seconds;
    struct tm tm;
    if (!localtime_r(&moment, &tm))
        return false;
    struct civil c = {.year = tm.tm_year + 1900,
                      .month = tm.tm_mon + 1,
                      .day = tm.tm_mday,
                      .hour = tm.tm_hour,
                      .minute = tm.tm_min,
                      .second = tm.tm_sec};
    *offset = seconds_of(&c) - seconds;
    return true;
}

/* The moment that a local clock shows as `shown` (seconds, as if it were UTC). Where it shows that
 * twice, the first one; where it skips it, as if it had not been put forward yet. mktime() leaves
 * both open: there its answer depends on the calls before. */
static bool local_moment(int64_t shown, int64_t *moment)
{
    int64_t before = 0;
    int64_t after = 0;
    int64_t found = 0;
    tzset();
    if (!local_offset(shown - DAY_SECONDS, &before) || !local_offset(shown + DAY_SECONDS, &after))
        return false;
    *moment = shown - before;
    if (before == after || !local_offset(*moment, &found) || found == before)
        return true;
    if (local_offset(shown - after, &found) && found == after)
        *moment = shown - after;
    return true;
}

static const char *parse_rfc3339_date(struct scan *s, struct civil *c)
{
    if (!take_number(s, 4, 4, &c->year) || !take(s, '-') || !take_number(s, 2, 2, &c->month) ||
        !take(s, '-') || !take_number(s, 2, 2, &c->day))
        return "not of the form 2026-11-23T10:00:00Z";
    return is_date(c) ? NULL : "no such day";
}

static const char *parse_rfc3339_clock(struct scan *s, struct civil *c)
{
    if (!take_number(s, 2, 2, &c->hour) || !take(s, ':') || !take_number(s, 2, 2, &c->minute) ||
        !take(s, ':') || !take_number(s, 2, 2, &c->second))
        return "not of the form 2026-11-23T10:00:00Z";
    if (take(s, '.')) {
        if (!is_digit(peek(s)))
            return "digits are missing after the point";
        for (int unit = 100000; is_digit(peek(s)); unit /= 10, s->at++)
            c->microsecond += unit * (*s->at - '0');
    }
    return is_time_of_day(c) ? NULL : "no such time of day";
}

static const char *parse_rfc3339(struct scan *s, int64_t *time)
{
    struct civil c = {0};
    int offset = 0;
    const char *wrong = parse_rfc3339_date(s, &c);
    bool local = at_end(s);
    if (!wrong && !local) {
        if (!take(s, 'T') && !take(s, 't') && !take(s, ' '))
            return "not of the form 2026-11-23T10:00:00Z";
        wrong = parse_rfc3339_clock(s, &c);
        local = at_end(s);
    }
    if (wrong)
        return wrong;
    if (!local && (!take_rfc3339_zone(s, &offset) || !at_end(s)))
        return "after the time only a zone may follow, Z or of the form +01:00";
    int64_t seconds = seconds_of(&c) - offset;
    if (local && !local_moment(seconds, &seconds))
        return "local time is not known then";
    *time = seconds * TIMES_SECOND + c.microsecond;
    return NULL;
}

static struct scan scan_of(const char *text, uint64_t size, bool comments)
{
    return (struct scan){.at = text, .end = text + size, .comments = comments};
}

static int malformed(const char *what, const char *text, uint64_t size, const char *wrong)
{
    char shown[TEXT_QUOTE_SIZE];
    return fail(ERR_INVALID, "%s %s: %s", what, text_quote(text, size, shown), wrong);
}

int times_parse_rfc3339(const char *text, int64_t *time)
{
    struct scan s = scan_of(text, strlen(text), false);
    const char *wrong = parse_rfc3339(&s, time);
    return wrong ? malformed("time", text, strlen(text), wrong) : ERR_OK;
}

static bool is_weekday(const struct scan *word)
{
    static const char *const names[] = {"monday", "tuesday",  "wednesday", "thursday",
                                        "friday", "saturday", "sunday"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (abbreviates(word, names[i], 3))
            return true;
    }
    return false;
}

static bool take_month(struct scan *s, int *month)
{
    static const char *const names[] = {"january",   "february", "march",    "april",
                                        "may",       "june",     "july",     "august",
                                        "september", "october",  "november", "december"};
    struct scan word = take_word(s);
    for (int i = 0; i < 12; i++) {
        if (abbreviates(&word, names[i], 3)) {
            *month = i + 1;
            return true;
        }
    }
    return false;
}

/* RFC 5322, 4.3: two digits from 50 on and three digits count from 1900. */
static bool take_year(struct scan *s, int *year)
{
    int digits = take_number(s, 2, 4, year);
    if (digits == 2 && *year < 50)
        *year += 2000;
    else if (digits == 2 || digits == 3)
        *year += 1900;
    return digits > 0;
}

/* "12:36:23", "12:36"; some programs write points for the colons, or a fraction of a second. */
static const char *parse_clock(struct scan *s, struct civil *c)
{
    static const char form[] = "the time of day is not of the form 12:36:23";
    int ignored = 0;
    if (!take_number(s, 1, 2, &c->hour))
        return form;
    skip_space(s);
    char between = peek(s) == '.' ? '.' : ':';
    if (!take(s, between))
        return form;
    skip_space(s);
    if (!take_number(s, 2, 2, &c->minute))
        return form;
    skip_space(s);
    if (take(s, between)) {
        skip_space(s);
        if (!take_number(s, 1, 2, &c->second))
            return form;
        if (take(s, '.') && !take_number(s, 1, 9, &ignored))
            return form;
    }
    return is_time_of_day(c) ? NULL : "no such time of day";
}

/* In hours. A name that stands for several zones has none here: RFC 5322 takes those, and letters
 * alone, for UTC. */
static int hours_of_zone(const struct scan *word)
{
    static const struct {
        char name[5];
        signed char hours;
    } zones[] = {{"est", -5},  {"edt", -4}, {"cst", -6},  {"cdt", -5},  {"mst", -7},  {"mdt", -6},
                 {"pst", -8},  {"pdt", -7}, {"akst", -9}, {"akdt", -8}, {"hst", -10}, {"west", 1},
                 {"bst", 1},   {"cet", 1},  {"cest", 2},  {"met", 1},   {"mest", 2},  {"eet", 2},
                 {"eest", 3},  {"msk", 3},  {"jst", 9},   {"kst", 9},   {"aest", 10}, {"aedt", 11},
                 {"nzst", 12}, {"nzdt", 13}};
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        if (is_word(word, zones[i].name))
            return zones[i].hours;
    }
    return 0;
}

/* "+0100", "+01:00" or "+1", after its sign. */
static const char *parse_numeric_zone(struct scan *s, int sign, int *offset)
{
    int hours = 0;
    int minutes = 0;
    int digits = take_number(s, 1, 4, &hours);
    if (digits == 4) {
        minutes = hours % 100;
        hours /= 100;
    } else if (digits == 0 || digits == 3 || (take(s, ':') && !take_number(s, 2, 2, &minutes))) {
        return "the zone is not of the form +0100";
    }
    *offset = sign * (hours * 3600 + minutes * 60);
    return hours <= 23 && minutes <= 59 ? NULL : "no such zone";
}

static bool at_sign(const struct scan *s)
{
    return peek(s) == '+' || peek(s) == '-';
}

/* A zone by number or by name, or by both as in "GMT+0100"; without one it is UTC. */
static const char *parse_zone(struct scan *s, int *offset)
{
    struct scan word = take_word(s);
    *offset = 0;
    if (is_word(&word, "am") || is_word(&word, "pm"))
        return "a clock of 12 hours";
    if (length_of(&word) > 0 && !is_word(&word, "gmt") && !is_word(&word, "utc")) {
        *offset = hours_of_zone(&word) * 3600;
        return NULL;
    }
    if (!at_sign(s))
        return NULL;
    int sign = *s->at++ == '-' ? -1 : 1;
    return parse_numeric_zone(s, sign, offset);
}

/* "Aug 22 12:36:23 2002", with a zone before or after the year or nowhere. */
static const char *parse_month_first(struct scan *s, struct civil *c, int *offset)
{
    if (!take_month(s, &c->month))
        return "the name of a month is missing";
    skip_space(s);
    if (!take_number(s, 1, 2, &c->day))
        return "the day of the month is missing";
    skip_space(s);
    const char *wrong = parse_clock(s, c);
    if (wrong)
        return wrong;
    skip_space(s);
    bool zone_first = !is_digit(peek(s));
    wrong = zone_first ? parse_zone(s, offset) : NULL;
    if (wrong)
        return wrong;
    skip_space(s);
    if (!take_number(s, 4, 4, &c->year))
        return "the year is missing";
    skip_space(s);
    return zone_first ? NULL : parse_zone(s, offset);
}

/* "22 Aug 2002 12:36:23 +0100", or "22-Aug-2002 …". */
static const char *parse_day_first(struct scan *s, struct civil *c, int *offset)
{
    if (!take_number(s, 1, 2, &c->day))
        return "the day of the month is missing";
    skip_space(s);
    (void)take(s, '-');
    if (!take_month(s, &c->month))
        return "the name of a month is missing";
    skip_space(s);
    (void)take(s, '-');
    if (!take_year(s, &c->year))
        return "the year is missing";
    skip_space(s);
    const char *wrong = parse_clock(s, c);
    if (wrong)
        return wrong;
    skip_space(s);
    wrong = parse_zone(s, offset);
    if (wrong)
        return wrong;
    /* As in "+0200 CEST", where the comment's parentheses were forgotten. */
    skip_space(s);
    (void)take_word(s);
    return NULL;
}

static const char *finish_date(struct scan *s, const struct civil *c, int offset, int64_t *time)
{
    skip_space(s);
    if (!at_end(s))
        return "more follows than a date";
    if (!is_date(c))
        return "no such day";
    *time = (seconds_of(c) - offset) * TIMES_SECOND;
    return NULL;
}

static const char *parse_rfc5322(struct scan *s, int64_t *time)
{
    struct civil c = {0};
    int offset = 0;
    skip_space(s);
    struct scan start = *s;
    struct scan word = take_word(s);
    if (is_weekday(&word)) {
        skip_space(s);
        (void)take(s, ',');
        skip_space(s);
    } else {
        *s = start;
    }
    bool day_first = is_digit(peek(s));
    const char *wrong =
        day_first ? parse_day_first(s, &c, &offset) : parse_month_first(s, &c, &offset);
    return wrong ? wrong : finish_date(s, &c, offset, time);
}

int times_parse_rfc5322(const char *text, uint64_t size, int64_t *time)
{
    struct scan s = scan_of(text, size, true);
    const char *wrong = parse_rfc5322(&s, time);
    return wrong ? malformed("date", text, size, wrong) : ERR_OK;
}

static const char *parse_asctime(struct scan *s, int64_t *time)
{
    struct civil c = {0};
    int offset = 0;
    skip_space(s);
    struct scan word = take_word(s);
    if (!is_weekday(&word))
        return "the name of a weekday is missing";
    skip_space(s);
    const char *wrong = parse_month_first(s, &c, &offset);
    return wrong ? wrong : finish_date(s, &c, offset, time);
}

int times_parse_asctime(const char *text, uint64_t size, int64_t *time)
{
    struct scan s = scan_of(text, size, false);
    const char *wrong = parse_asctime(&s, time);
    return wrong ? malformed("date", text, size, wrong) : ERR_OK;
}

static int64_t unit_of(const struct scan *word)
{
    static const struct {
        char letter;
        char name[7];
        char names[8];
        int seconds;
    } units[] = {{'s', "second", "seconds", 1},
                 {'m', "minute", "minutes", 60},
                 {'h', "hour", "hours", 3600},
                 {'d', "day", "days", 86400},
                 {'w', "week", "weeks", 604800}};
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        bool letter = length_of(word) == 1 && *word->at == units[i].letter;
        if (letter || is_word(word, units[i].name) || is_word(word, units[i].names))
            return units[i].seconds * TIMES_SECOND;
    }
    return 0;
}

static void take_spaces(struct scan *s)
{
    while (peek(s) == ' ')
        s->at++;
}

static const char *parse_age(struct scan *s, bool ago, int64_t *age)
{
    if (!is_digit(peek(s)))
        return "not of the form 10m or 2 days";
    int64_t count = 0;
    for (; is_digit(peek(s)); s->at++) {
        if (count > INT64_MAX / 10 - 1)
            return "too long";
        count = count * 10 + (*s->at - '0');
    }
    take_spaces(s);
    struct scan word = take_word(s);
    int64_t unit = unit_of(&word);
    if (unit == 0)
        return "the unit is not s, m, h, d or w, or its name";
    if (ago) {
        bool apart = peek(s) == ' ';
        take_spaces(s);
        word = take_word(s);
        if (!apart || !is_word(&word, "ago"))
            return "\"ago\" must follow the unit";
    }
    if (!at_end(s))
        return "more follows than an age";
    if (count > INT64_MAX / unit)
        return "too long";
    *age = count * unit;
    return NULL;
}

int times_parse_age(const char *text, bool ago, int64_t *age)
{
    struct scan s = scan_of(text, strlen(text), false);
    const char *wrong = parse_age(&s, ago, age);
    return wrong ? malformed("age", text, strlen(text), wrong) : ERR_OK;
}
