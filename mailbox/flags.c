#include "mailbox/flags.h"

#include "base/err.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
    uint32_t bit;
    const char *name;
} system_flags[] = {
    /* sorted as bytes: flags_each() relies on it */
    {FLAG_ANSWERED, "\\Answered"}, {FLAG_DELETED, "\\Deleted"}, {FLAG_DRAFT, "\\Draft"},
    {FLAG_FLAGGED, "\\Flagged"},   {FLAG_SEEN, "\\Seen"},
};
#define SYSTEM_FLAGS (sizeof system_flags / sizeof system_flags[0])

void flags_free(struct flags *flags)
{
    buf_free(&flags->keywords);
    flags->system = 0;
}

static bool atom_byte(uint8_t c)
{
    return c > 0x20 && c < 0x7f && !strchr("(){%*\"\\],", c);
}

static bool keyword_valid(struct bytes name)
{
    if (name.size == 0 || name.size > KEYWORD_MAX_SIZE)
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (!atom_byte(name.data[i]))
            return false;
    return true;
}

bool keywords_next(struct bytes set, size_t *at, struct bytes *name)
{
    if (*at >= set.size)
        return false;
    *name = bytes_of(set.data + *at + 1, set.data[*at]);
    *at += 1u + name->size;
    return true;
}

static int compare_names(struct bytes a, struct bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static bool same_keyword(struct bytes a, struct bytes b)
{
    return a.size == b.size && strncasecmp((const char *)a.data, (const char *)b.data, a.size) == 0;
}

bool keywords_contain(struct bytes set, struct bytes name)
{
    struct bytes each;
    for (size_t at = 0; keywords_next(set, &at, &each);)
        if (same_keyword(each, name))
            return true;
    return false;
}

static void put_name(struct buf *out, struct bytes name)
{
    buf_u8(out, (uint8_t)name.size);
    buf_put(out, name.data, name.size);
}

/* `out` becomes `set` with `name` in its place. */
static void insert_name(struct bytes set, struct bytes name, struct buf *out)
{
    struct bytes each;
    bool placed = false;
    for (size_t at = 0; keywords_next(set, &at, &each);) {
        if (!placed && compare_names(name, each) < 0) {
            put_name(out, name);
            placed = true;
        }
        put_name(out, each);
    }
    if (!placed)
        put_name(out, name);
}

static int check_set(const struct buf *set)
{
    if (set->failed)
        return fail(ERR_NOMEM, "out of memory");
    if (set->size > KEYWORDS_MAX_SIZE)
        return fail(ERR_INVALID, "a message's keywords: more than %u bytes", KEYWORDS_MAX_SIZE);
    return ERR_OK;
}

int keywords_merge(struct bytes set, struct bytes more, struct buf *out)
{
    struct bytes name;
    buf_reset(out);
    buf_put(out, set.data, set.size);
    for (size_t at = 0; keywords_next(more, &at, &name) && out->size <= KEYWORDS_MAX_SIZE;) {
        if (keywords_contain(buf_view(out), name))
            continue;
        struct buf grown = {0};
        insert_name(buf_view(out), name, &grown);
        buf_free(out);
        *out = grown;
    }
    return check_set(out);
}

int keywords_without(struct bytes set, struct bytes less, struct buf *out)
{
    struct bytes name;
    buf_reset(out);
    for (size_t at = 0; keywords_next(set, &at, &name);)
        if (!keywords_contain(less, name))
            put_name(out, name);
    return check_set(out);
}

uint64_t keywords_hash(struct bytes set)
{
    if (set.size == 0)
        return 0;
    uint64_t hash = hash_xxh3(set.data, set.size);
    return hash ? hash : 1;
}

int keywords_read(struct reader *from, struct bytes *set)
{
    *set = read_bytes(from);
    struct bytes last = {0};
    size_t at = 0;
    bool good = !from->failed && set->size <= KEYWORDS_MAX_SIZE;
    while (good && at < set->size) {
        size_t size = set->data[at];
        good = size <= set->size - at - 1;
        if (!good)
            break;
        struct bytes name = bytes_of(set->data + at + 1, size);
        good = keyword_valid(name) && (!last.data || compare_names(last, name) < 0);
        last = name;
        at += 1 + size;
    }
    if (!good) {
        from->failed = true;
        *set = bytes_of(NULL, 0);
        return fail(ERR_CORRUPT, "malformed set of keywords");
    }
    return ERR_OK;
}

void keywords_write(struct bytes set, struct buf *out)
{
    buf_bytes(out, set);
}

static int add_system(struct flags *flags, const char *text, size_t size)
{
    for (size_t i = 0; i < SYSTEM_FLAGS; i++) {
        const char *name = system_flags[i].name;
        if (strlen(name) == size && strncasecmp(name, text, size) == 0) {
            flags->system |= system_flags[i].bit;
            return ERR_OK;
        }
    }
    return fail(ERR_INVALID, "flag %.*s: not one of \\Seen \\Answered \\Flagged \\Deleted \\Draft",
                (int)(size < 64 ? size : 64), text);
}

int flags_add(struct flags *flags, const char *text, size_t size)
{
    if (size && text[0] == '\\')
        return add_system(flags, text, size);
    struct bytes name = bytes_of(text, size);
    if (!keyword_valid(name))
        return fail(
            ERR_INVALID,
            "flag \"%.*s\": not a keyword (1 to %u printable ASCII bytes, none of (){%%*\"\\],)",
            (int)(size < 64 ? size : 64), text, KEYWORD_MAX_SIZE);
    uint8_t one[1 + KEYWORD_MAX_SIZE];
    one[0] = (uint8_t)size;
    memcpy(one + 1, text, size);
    struct buf grown = {0};
    int rc = keywords_merge(buf_view(&flags->keywords), bytes_of(one, 1 + size), &grown);
    if (rc) {
        buf_free(&grown);
        return rc;
    }
    buf_free(&flags->keywords);
    flags->keywords = grown;
    return ERR_OK;
}

int flags_add_list(struct flags *flags, const char *text)
{
    while (*text) {
        size_t size = strcspn(text, ",");
        int rc = flags_add(flags, text, size);
        if (rc)
            return rc;
        text += size;
        if (*text == ',' && *++text == '\0')
            return fail(ERR_INVALID, "flags: a comma at the end");
    }
    return ERR_OK;
}

void flags_each(uint32_t system, struct bytes keywords, void (*each)(struct bytes name, void *arg),
                void *arg)
{
    size_t at = 0;
    struct bytes keyword;
    bool more = keywords_next(keywords, &at, &keyword);
    for (size_t i = 0; i < SYSTEM_FLAGS; i++) {
        if (!(system & system_flags[i].bit))
            continue;
        struct bytes name = bytes_text(system_flags[i].name);
        for (; more && compare_names(keyword, name) < 0;
             more = keywords_next(keywords, &at, &keyword))
            each(keyword, arg);
        each(name, arg);
    }
    for (; more; more = keywords_next(keywords, &at, &keyword))
        each(keyword, arg);
}

static void print_one(struct bytes name, void *arg)
{
    struct buf *out = arg;
    if (out->size)
        buf_u8(out, ',');
    buf_put(out, name.data, name.size);
}

void flags_print(uint32_t system, struct bytes keywords, struct buf *out)
{
    struct buf text = {0};
    flags_each(system, keywords, print_one, &text);
    if (!text.size)
        buf_u8(&text, '-');
    buf_put(out, text.data, text.size);
    out->failed |= text.failed;
    buf_free(&text);
}
