/* Byte strings: a view of bytes owned by another, a growing buffer to encode into, a reader to
 * decode from.
 *
 * All integers are little-endian. Varints are LEB128 of at most 64 bits in their shortest form; a
 * reader refuses longer ones, so every value has exactly one encoding. Both buffer and reader
 * remember their first failure: callers write or read straight down and look at `failed` once, at
 * the end.
 */
#ifndef SHIPLOG_BASE_BYTES_H
#define SHIPLOG_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes that belong to someone else; how long they are valid is said where one is handed out. */
struct bytes {
    const uint8_t *data;
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){.data = (const uint8_t *)data, .size = size};
}
struct bytes bytes_text(const char *text); /* without its NUL; NULL gives no bytes */
bool bytes_equal(struct bytes a, struct bytes b);

/* A buffer that grows. Zero-initialise; buf_free() when done. After a failed allocation every put
 * does nothing. */
struct buf {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed;
};

void buf_free(struct buf *buf);
void buf_reset(struct buf *buf); /* empties it, keeps its memory, forgets the failure */
uint8_t *
buf_reserve(struct buf *buf,
            size_t size); /* room for `size` more bytes, already counted; NULL when failed */
void buf_put(struct buf *buf, const void *data, size_t size);
void buf_u8(struct buf *buf, uint8_t value);
void buf_u32(struct buf *buf, uint32_t value);
void buf_u64(struct buf *buf, uint64_t value);
void buf_varint(struct buf *buf, uint64_t value);
void buf_zigzag(struct buf *buf, int64_t value); /* a signed varint: small magnitudes are short */
void buf_bytes(struct buf *buf, struct bytes bytes); /* varint length, then the bytes */
struct bytes buf_view(const struct buf *buf);        /* valid until the buffer is changed */

/* Reads from bytes that are not trusted. After the first failure everything reads as zero or empty.
 */
struct reader {
    const uint8_t *at;
    const uint8_t *end;
    bool failed;
};

struct reader reader_of(struct bytes bytes);
uint8_t read_u8(struct reader *reader);
uint32_t read_u32(struct reader *reader);
uint64_t read_u64(struct reader *reader);
uint64_t read_varint(struct reader *reader);
uint32_t read_varint32(struct reader *reader); /* fails above UINT32_MAX */
int64_t read_zigzag(struct reader *reader);
struct bytes read_bytes(struct reader *reader); /* as buf_bytes() wrote; a view into the source */
struct bytes read_view(struct reader *reader, size_t size); /* the next `size` bytes */
size_t reader_left(const struct reader *reader);
bool reader_done(const struct reader *reader); /* all was read and nothing failed */

/* Fixed-width access to memory that is known to be large enough. `be` forms are for keys, which
 * sort as bytes. */
uint32_t load_u32(const void *from);
uint64_t load_u64(const void *from);
void save_u32(void *to, uint32_t value);
void save_u64(void *to, uint64_t value);
uint32_t load_be32(const void *from);
uint64_t load_be64(const void *from);
void save_be32(void *to, uint32_t value);
void save_be64(void *to, uint64_t value);

#endif
