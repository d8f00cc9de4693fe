#include "base/uidset.h"

#include "base/err.h"
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

void uidset_free(struct uidset *set)
{
    free(set->ranges);
    *set = (struct uidset){0};
}

void uidset_clear(struct uidset *set)
{
    set->count = 0;
}

static int reserve(struct uidset *set, size_t count)
{
    if (count <= set->capacity)
        return ERR_OK;
    size_t capacity = set->capacity ? set->capacity : 8;
    while (capacity < count && capacity <= SIZE_MAX / 2 / sizeof *set->ranges)
        capacity *= 2;
    struct uid_range *ranges = NULL;
    if (capacity >= count)
        ranges = realloc(set->ranges, capacity * sizeof *ranges);
    if (!ranges)
        return fail(ERR_NOMEM, "a set of UIDs: out of memory");
    set->ranges = ranges;
    set->capacity = capacity;
    return ERR_OK;
}

/* The index of the first range that ends at or above `uid`; `count` when there is none. */
static size_t find(const struct uidset *set, uint32_t uid)
{
    size_t low = 0;
    size_t high = set->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (set->ranges[middle].last < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Puts `with` in the place of the ranges from..to-1 (to >= from). */
static int splice(struct uidset *set, size_t from, size_t to, const struct uid_range *with,
                  size_t with_count)
{
    size_t count = set->count - (to - from) + with_count;
    int rc = reserve(set, count);
    if (rc)
        return rc;
    if (from + with_count != to && to < set->count)
        memmove(set->ranges + from + with_count, set->ranges + to,
                (set->count - to) * sizeof *set->ranges);
    for (size_t i = 0; i < with_count; i++)
        set->ranges[from + i] = with[i];
    set->count = count;
    return ERR_OK;
}

int uidset_add(struct uidset *set, uint32_t uid)
{
    return uidset_add_range(set, uid, uid);
}

int uidset_add_range(struct uidset *set, uint32_t first, uint32_t last)
{
    struct uid_range range = {.first = first ? first : 1, .last = last};
    if (range.last < range.first)
        return ERR_OK;
    struct uid_range *top = set->count ? &set->ranges[set->count - 1] : NULL;
    if (!top || range.first - 1 > top->last)
        return splice(set, set->count, set->count, &range, 1);
    if (range.first >= top->first) {
        if (range.last > top->last)
            top->last = range.last;
        return ERR_OK;
    }

    /* Ranges that overlap or touch the new one become one with it. */
    size_t from = find(set, range.first - 1);
    size_t to;
    if (range.last == UINT32_MAX) {
        to = set->count;
    } else {
        to = find(set, range.last + 1);
        if (to < set->count && set->ranges[to].first <= range.last + 1)
            to++;
    }
    if (to > from) {
        if (set->ranges[from].first < range.first)
            range.first = set->ranges[from].first;
        if (set->ranges[to - 1].last > range.last)
            range.last = set->ranges[to - 1].last;
    }
    return splice(set, from, to, &range, 1);
}

int uidset_remove_range(struct uidset *set, uint32_t first, uint32_t last)
{
    size_t from = find(set, first);
    size_t to = find(set, last);
    if (to < set->count && set->ranges[to].first <= last)
        to++;
    if (last < first || to <= from)
        return ERR_OK;
    struct uid_range left[2];
    size_t kept = 0;
    if (set->ranges[from].first < first)
        left[kept++] = (struct uid_range){.first = set->ranges[from].first, .last = first - 1};
    if (set->ranges[to - 1].last > last)
        left[kept++] = (struct uid_range){.first = last + 1, .last = set->ranges[to - 1].last};
    return splice(set, from, to, left, kept);
}

int uidset_add_all(struct uidset *set, const struct uidset *more)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < more->count; i++)
        rc = uidset_add_range(set, more->ranges[i].first, more->ranges[i].last);
    return rc;
}

int uidset_remove_all(struct uidset *set, const struct uidset *less)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < less->count; i++)
        rc = uidset_remove_range(set, less->ranges[i].first, less->ranges[i].last);
    return rc;
}

int uidset_copy(struct uidset *to, const struct uidset *from)
{
    if (to == from)
        return ERR_OK;
    int rc = reserve(to, from->count);
    if (rc)
        return rc;
    if (from->count)
        memcpy(to->ranges, from->ranges, from->count * sizeof *from->ranges);
    to->count = from->count;
    return ERR_OK;
}

bool uidset_contains(const struct uidset *set, uint32_t uid)
{
    size_t i = find(set, uid);
    return i < set->count && set->ranges[i].first <= uid;
}

uint64_t uidset_size(const struct uidset *set)
{
    uint64_t size = 0;
    for (size_t i = 0; i < set->count; i++)
        size += (uint64_t)set->ranges[i].last - set->ranges[i].first + 1;
    return size;
}

bool uidset_equal(const struct uidset *a, const struct uidset *b)
{
    if (a->count != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        if (a->ranges[i].first != b->ranges[i].first || a->ranges[i].last != b->ranges[i].last)
            return false;
    }
    return true;
}

bool uidset_next(const struct uidset *set, uint32_t uid, uint32_t *found)
{
    size_t i = find(set, uid);
    if (i == set->count)
        return false;
    *found = set->ranges[i].first > uid ? set->ranges[i].first : uid;
    return true;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One end of a range; 0 is `*` in an empty mailbox. NULL, or what is wrong. */
static const char *parse_end(const char **at, uint32_t highest, uint32_t *uid)
{
    const char *p = *at;
    if (*p == '*') {
        *at = p + 1;
        *uid = highest;
        return NULL;
    }
    if (!is_digit(*p))
        return "a number or * is missing";
    if (*p == '0')
        return "a UID does not begin with 0";
    uint64_t value = 0;
    for (; is_digit(*p); p++) {
        value = value * 10 + (uint64_t)(*p - '0');
        if (value > UINT32_MAX)
            return "a UID is at most 4294967295";
    }
    *at = p;
    *uid = (uint32_t)value;
    return NULL;
}

/* "7" or "3:9" or "9:*"; `first` is 0 when it names nothing. */
static const char *parse_part(const char **at, uint32_t highest, struct uid_range *range)
{
    uint32_t a = 0;
    const char *wrong = parse_end(at, highest, &a);
    if (wrong)
        return wrong;
    uint32_t b = a;
    if (**at == ':') {
        ++*at;
        wrong = parse_end(at, highest, &b);
        if (wrong)
            return wrong;
    }
    *range = (struct uid_range){.first = a < b ? a : b, .last = a < b ? b : a};
    return NULL;
}

static int compare_ranges(const void *left, const void *right)
{
    const struct uid_range *a = left;
    const struct uid_range *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Makes a set of ranges in any order, so that text in any order costs n log n. */
static void normalise(struct uidset *set)
{
    if (set->count == 0)
        return;
    qsort(set->ranges, set->count, sizeof *set->ranges, compare_ranges);
    size_t kept = 0;
    for (size_t i = 1; i < set->count; i++) {
        struct uid_range *top = &set->ranges[kept];
        if (set->ranges[i].first - 1 > top->last)
            set->ranges[++kept] = set->ranges[i];
        else if (set->ranges[i].last > top->last)
            top->last = set->ranges[i].last;
    }
    set->count = kept + 1;
}

static int malformed(const char *text, const char *at, const char *wrong)
{
    char whole[TEXT_QUOTE_SIZE];
    if (at == text)
        return fail(ERR_INVALID, "UID set %s: %s", text_quote(text, strlen(text), whole), wrong);
    char rest[TEXT_QUOTE_SIZE];
    return fail(ERR_INVALID, "UID set %s: at %s: %s", text_quote(text, strlen(text), whole),
                *at ? text_quote(at, strlen(at), rest) : "its end", wrong);
}

static int parse(struct uidset *set, const char *text, uint32_t highest, struct uidset *singles)
{
    const char *at = text;
    for (;; at++) {
        const char *part = at;
        struct uid_range range;
        const char *wrong = parse_part(&at, highest, &range);
        if (!wrong && *at != ',' && *at != '\0')
            wrong = "only a comma may follow here";
        if (wrong)
            return malformed(text, at, wrong);
        int rc = range.first ? splice(set, set->count, set->count, &range, 1) : ERR_OK;
        if (rc == ERR_OK && singles && strspn(part, "0123456789") == (size_t)(at - part))
            rc = splice(singles, singles->count, singles->count, &range, 1);
        if (rc || *at == '\0')
            return rc;
    }
}

int uidset_parse(struct uidset *set, const char *text, uint32_t highest, struct uidset *singles)
{
    uidset_clear(set);
    if (singles)
        uidset_clear(singles);
    int rc = parse(set, text, highest, singles);
    if (rc) {
        uidset_clear(set);
        if (singles)
            uidset_clear(singles);
        return rc;
    }
    normalise(set);
    if (singles)
        normalise(singles);
    return ERR_OK;
}

static void put_number(struct buf *out, uint32_t value)
{
    char digits[10];
    size_t n = sizeof digits;
    do {
        digits[--n] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    buf_put(out, digits + n, sizeof digits - n);
}

void uidset_print(const struct uidset *set, struct buf *out)
{
    for (size_t i = 0; i < set->count; i++) {
        if (i > 0)
            buf_u8(out, ',');
        put_number(out, set->ranges[i].first);
        if (set->ranges[i].last != set->ranges[i].first) {
            buf_u8(out, ':');
            put_number(out, set->ranges[i].last);
        }
    }
}

void uidset_encode(const struct uidset *set, struct buf *out)
{
    uint32_t before = 0;
    buf_varint(out, set->count);
    for (size_t i = 0; i < set->count; i++) {
        buf_varint(out, set->ranges[i].first - before);
        buf_varint(out, set->ranges[i].last - set->ranges[i].first);
        before = set->ranges[i].last;
    }
}

static const char *decode_ranges(struct uidset *set, struct reader *from, uint64_t count,
                                 uint64_t at_most)
{
    uint64_t before = 0;
    uint64_t named = 0;
    for (uint64_t i = 0; i < count; i++) {
        uint64_t gap = read_varint32(from);
        uint64_t more = read_varint32(from);
        if (from->failed)
            return "cut short, or not a number";
        if (gap < (i > 0 ? 2 : 1))
            return "ranges out of order, or not joined";
        uint64_t last = before + gap + more;
        if (last > UINT32_MAX)
            return "above the highest UID";
        named += more + 1;
        if (named > at_most)
            return "more UIDs than allowed here";
        set->ranges[set->count++] =
            (struct uid_range){.first = (uint32_t)(before + gap), .last = (uint32_t)last};
        before = last;
    }
    return NULL;
}

int uidset_decode(struct uidset *set, struct reader *from, uint64_t at_most)
{
    uidset_clear(set);
    uint64_t count = read_varint(from);
    const char *wrong = NULL;
    if (from->failed || count > reader_left(from) / 2) {
        wrong = "cut short, or not a number";
    } else {
        int rc = reserve(set, (size_t)count);
        if (rc)
            return rc;
        wrong = decode_ranges(set, from, count, at_most);
    }
    if (!wrong)
        return ERR_OK;
    uidset_clear(set);
    from->failed = true;
    return fail(ERR_CORRUPT, "stored set of UIDs: %s", wrong);
}
