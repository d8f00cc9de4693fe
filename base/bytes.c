#include "base/bytes.h"

#include <stdlib.h>
#include <string.h>

struct bytes bytes_text(const char *text)
{
    return bytes_of(text, text ? strlen(text) : 0);
}

bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

void buf_free(struct buf *buf)
{
    free(buf->data);
    *buf = (struct buf){0};
}

void buf_reset(struct buf *buf)
{
    buf->size = 0;
    buf->failed = false;
}

uint8_t *buf_reserve(struct buf *buf, size_t size)
{
    if (buf->failed || size > SIZE_MAX / 2 - buf->size) {
        buf->failed = true;
        return NULL;
    }
    if (buf->size + size > buf->capacity) {
        size_t capacity = buf->capacity ? buf->capacity : 128;
        while (capacity < buf->size + size)
            capacity *= 2;
        uint8_t *data = realloc(buf->data, capacity);
        if (!data) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->capacity = capacity;
    }
    uint8_t *room = buf->data + buf->size;
    buf->size += size;
    return room;
}

void buf_put(struct buf *buf, const void *data, size_t size)
{
    if (size == 0)
        return;
    uint8_t *room = buf_reserve(buf, size);
    if (room)
        memcpy(room, data, size);
}

void buf_u8(struct buf *buf, uint8_t value)
{
    buf_put(buf, &value, 1);
}

void buf_u32(struct buf *buf, uint32_t value)
{
    uint8_t *room = buf_reserve(buf, 4);
    if (room)
        save_u32(room, value);
}

void buf_u64(struct buf *buf, uint64_t value)
{
    uint8_t *room = buf_reserve(buf, 8);
    if (room)
        save_u64(room, value);
}

void buf_varint(struct buf *buf, uint64_t value)
{
    uint8_t out[10];
    size_t n = 0;
    while (value >= 0x80) {
        out[n++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t)value;
    buf_put(buf, out, n);
}

void buf_zigzag(struct buf *buf, int64_t value)
{
    uint64_t bits = (uint64_t)value << 1;
    buf_varint(buf, value < 0 ? ~bits : bits);
}

void buf_bytes(struct buf *buf, struct bytes bytes)
{
    buf_varint(buf, bytes.size);
    buf_put(buf, bytes.data, bytes.size);
}

struct bytes buf_view(const struct buf *buf)
{
    return bytes_of(buf->data, buf->size);
}

struct reader reader_of(struct bytes bytes)
{
    return (struct reader){.at = bytes.data,
                           .end = bytes.size ? bytes.data + bytes.size : bytes.data};
}

struct bytes read_view(struct reader *reader, size_t size)
{
    if (reader->failed || size > reader_left(reader)) {
        reader->failed = true;
        return bytes_of(NULL, 0);
    }
    struct bytes view = bytes_of(reader->at, size);
    if (size)
        reader->at += size;
    return view;
}

uint8_t read_u8(struct reader *reader)
{
    struct bytes view = read_view(reader, 1);
    return view.data ? view.data[0] : 0;
}

uint32_t read_u32(struct reader *reader)
{
    struct bytes view = read_view(reader, 4);
    return view.data ? load_u32(view.data) : 0;
}

uint64_t read_u64(struct reader *reader)
{
    struct bytes view = read_view(reader, 8);
    return view.data ? load_u64(view.data) : 0;
}

uint64_t read_varint(struct reader *reader)
{
    uint64_t value = 0;
    if (!reader->failed && reader->at < reader->end && *reader->at < 0x80)
        return *reader->at++; /* as most are */
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = read_u8(reader);
        if (reader->failed)
            return 0;
        uint64_t part = byte & 0x7f;
        bool overflows = shift == 63 && part > 1;
        bool padded = shift > 0 && byte == 0;
        if (overflows || padded)
            break;
        value |= part << shift;
        if (byte < 0x80)
            return value;
    }
    reader->failed = true;
    return 0;
}

uint32_t read_varint32(struct reader *reader)
{
    uint64_t value = read_varint(reader);
    if (value > UINT32_MAX) {
        reader->failed = true;
        return 0;
    }
    return (uint32_t)value;
}

int64_t read_zigzag(struct reader *reader)
{
    uint64_t bits = read_varint(reader);
    uint64_t half = bits >> 1;
    return (int64_t)(bits & 1 ? ~half : half);
}

struct bytes read_bytes(struct reader *reader)
{
    uint64_t size = read_varint(reader);
    if (size > reader_left(reader)) {
        reader->failed = true;
        return bytes_of(NULL, 0);
    }
    return read_view(reader, (size_t)size);
}

size_t reader_left(const struct reader *reader)
{
    return (size_t)(reader->end - reader->at);
}

bool reader_done(const struct reader *reader)
{
    return !reader->failed && reader->at == reader->end;
}

uint32_t load_u32(const void *from)
{
    const uint8_t *b = from;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

uint64_t load_u64(const void *from)
{
    const uint8_t *b = from;
    return (uint64_t)load_u32(b) | (uint64_t)load_u32(b + 4) << 32;
}

void save_u32(void *to, uint32_t value)
{
    uint8_t *b = to;
    for (int i = 0; i < 4; i++)
        b[i] = (uint8_t)(value >> (8 * i));
}

void save_u64(void *to, uint64_t value)
{
    uint8_t *b = to;
    save_u32(b, (uint32_t)value);
    save_u32(b + 4, (uint32_t)(value >> 32));
}

uint32_t load_be32(const void *from)
{
    const uint8_t *b = from;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

uint64_t load_be64(const void *from)
{
    const uint8_t *b = from;
    return (uint64_t)load_be32(b) << 32 | load_be32(b + 4);
}

void save_be32(void *to, uint32_t value)
{
    uint8_t *b = to;
    for (int i = 0; i < 4; i++)
        b[i] = (uint8_t)(value >> (24 - 8 * i));
}

void save_be64(void *to, uint64_t value)
{
    uint8_t *b = to;
    save_be32(b, (uint32_t)(value >> 32));
    save_be32(b + 4, (uint32_t)value);
}
