#include "tools/shiplog/describe.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void describe_nothing(struct described *it)
{
    it->there = false;
    buf_reset(&it->texts);
}

void describe_free(struct described *it)
{
    buf_free(&it->texts);
}

void describe_print(struct out *out, const char *name, const struct described *it)
{
    struct reader in = reader_of(buf_view(&it->texts));
    if (!it->there) {
        out_text(out, name, NULL);
        return;
    }
    out_array(out, name);
    while (reader_left(&in)) {
        uint32_t size = read_u32(&in);
        out_element(out, read_view(&in, size));
    }
    out_array_end(out);
}

/* Begins a text; its parts follow. */
static void begin(struct described *it, size_t size)
{
    it->there = true;
    buf_u32(&it->texts, (uint32_t)size);
}

static void put(struct described *it, struct bytes part)
{
    buf_put(&it->texts, part.data, part.size);
}

static void put_element(struct bytes text, void *arg)
{
    begin(arg, text.size);
    put(arg, text);
}

void describe_text(struct described *it, const char *text)
{
    put_element(bytes_text(text), it);
}

void describe_number(struct described *it, const char *fact, uint64_t value)
{
    char text[64];
    snprintf(text, sizeof text, "%s=%" PRIu64, fact, value);
    describe_text(it, text);
}

void describe_flags(struct described *it, uint32_t system, struct bytes keywords)
{
    it->there = true;
    flags_each(system & FLAG_SYSTEM, keywords, put_element, it);
}

static struct bytes as(struct bytes user)
{
    return bytes_text(user.size ? " as " : "");
}

void describe_seen(struct described *it, bool seen, struct bytes user)
{
    const struct bytes flag = bytes_text("\\Seen");
    it->there = true;
    if (!seen)
        return;
    begin(it, flag.size + as(user).size + user.size);
    put(it, flag);
    put(it, as(user));
    put(it, user);
}

void describe_meta(struct described *it, struct bytes key, struct bytes value, struct bytes user)
{
    begin(it, key.size + 1 + value.size + as(user).size + user.size);
    put(it, key);
    put(it, bytes_text("="));
    put(it, value);
    put(it, as(user));
    put(it, user);
}

static void put_flag(struct bytes name, void *arg)
{
    out_element(arg, name);
}

void describe_array(struct out *out, const char *name, uint32_t system, struct bytes keywords)
{
    out_array(out, name);
    flags_each(system & FLAG_SYSTEM, keywords, put_flag, out);
    out_array_end(out);
}
