#include "tools/shiplog/out.h"

#include "base/err.h"
#include "base/text.h"
#include "base/times.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

struct out {
    bool json;
    bool first; /* no field of this item was printed yet */
    json_t *item;
    json_t *array;
    const char *array_name;
    size_t elements;
};

static void *need(void *memory)
{
    if (!memory) {
        fputs("shiplog: out of memory\n", stderr);
        exit(5);
    }
    return memory;
}

struct out *out_open(bool json)
{
    struct out *out = need(calloc(1, sizeof *out));
    out->json = json;
    out->first = true;
    if (json)
        out->item = need(json_object());
    return out;
}

int out_close(struct out *out)
{
    json_decref(out->item);
    free(out);
    if (fflush(stdout) != 0 || ferror(stdout))
        return fail(ERR_IO, "standard output: not all could be written");
    return ERR_OK;
}

static void separate(struct out *out)
{
    if (!out->first)
        putchar('\t');
    out->first = false;
}

static void set(struct out *out, const char *name, json_t *value)
{
    json_object_set_new(out->item, name, need(value));
}

/* Control bytes and what is not UTF-8 as \xNN, so that a line stays a line. */
static void escape(struct bytes value, struct buf *to)
{
    for (size_t at = 0; at < value.size;) {
        uint32_t code;
        char hex[8];
        size_t size = text_utf8(value.data + at, value.size - at, &code);
        if (size && !text_is_control(code)) {
            buf_put(to, value.data + at, size);
            at += size;
            continue;
        }
        for (size_t end = at + (size ? size : 1); at < end; at++) {
            snprintf(hex, sizeof hex, "\\x%02x", value.data[at]);
            buf_put(to, hex, 4);
        }
    }
}

static void print_text(struct bytes value)
{
    struct buf escaped = {0};
    escape(value, &escaped);
    fwrite(escaped.data, 1, escaped.size, stdout);
    buf_free(&escaped);
}

static json_t *json_text(struct bytes value)
{
    json_t *whole = json_stringn((const char *)value.data, value.size);
    if (whole || value.size == 0)
        return whole ? whole : json_string("");
    struct buf escaped = {0};
    escape(value, &escaped);
    whole = json_stringn((const char *)escaped.data, escaped.size);
    buf_free(&escaped);
    return whole;
}

void out_number(struct out *out, const char *name, uint64_t value)
{
    if (out->json) {
        set(out, name, json_integer((json_int_t)value));
        return;
    }
    separate(out);
    printf("%" PRIu64, value);
}

void out_hex(struct out *out, const char *name, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, value);
    out_text(out, name, text);
}

void out_bytes(struct out *out, const char *name, struct bytes value)
{
    if (out->json) {
        set(out, name, value.size ? json_text(value) : json_null());
        return;
    }
    separate(out);
    if (value.size)
        print_text(value);
    else
        putchar('-');
}

void out_text(struct out *out, const char *name, const char *value)
{
    out_bytes(out, name, bytes_text(value));
}

void out_time(struct out *out, const char *name, int64_t value)
{
    char text[TIMES_TEXT_SIZE];
    times_print(value, text);
    out_text(out, name, text);
}

void out_bool(struct out *out, const char *name, bool value)
{
    if (out->json)
        set(out, name, json_boolean(value));
    else
        out_text(out, name, value ? "yes" : "no");
}

void out_guid(struct out *out, const char *name, const struct guid *value)
{
    char text[GUID_TEXT_SIZE];
    guid_print(value, text);
    out_text(out, name, text);
}

void out_position(struct out *out, const char *name, struct position value)
{
    char text[64];
    char chain[17];
    snprintf(chain, sizeof chain, "%016" PRIx64, value.chain);
    if (out->json) {
        json_t *position = need(json_object());
        json_object_set_new(position, "modseq", json_integer((json_int_t)value.modseq));
        json_object_set_new(position, "chain", json_string(chain));
        set(out, name, position);
        return;
    }
    snprintf(text, sizeof text, "%" PRIu64 ":%s", value.modseq, chain);
    out_text(out, name, text);
}

void out_array(struct out *out, const char *name)
{
    out->elements = 0;
    out->array_name = name;
    if (out->json)
        out->array = need(json_array());
    else
        separate(out);
}

void out_element(struct out *out, struct bytes value)
{
    if (out->json) {
        json_array_append_new(out->array, need(json_text(value)));
    } else {
        if (out->elements)
            putchar(',');
        print_text(value);
    }
    out->elements++;
}

void out_array_end(struct out *out)
{
    if (out->json)
        set(out, out->array_name, out->array);
    else if (!out->elements)
        putchar('-');
    out->array = NULL;
}

void out_end(struct out *out)
{
    if (out->json) {
        json_dumpf(out->item, stdout, JSON_COMPACT | JSON_PRESERVE_ORDER);
        json_object_clear(out->item);
    }
    putchar('\n');
    out->first = true;
}
