#include "mailbox/content.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/chunks.h"
#include "mailbox/lacking.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PAGE_SIZE 4096u   /* LMDB's, on every machine that this runs on; only a matter of space */
#define PAGE_OVERHEAD 16u /* LMDB's header of a run of pages */
#define CHUNK_OVERHEAD 4u /* the CRC-32 */
#define INLINE_SIZE 1900u /* a value up to this size shares a leaf page with others */
#define ROW_SIZE 36u
#define NUMBER_KEY "content"
#define PIECE 65536u

size_t chunk_size(size_t left)
{
    if (left + CHUNK_OVERHEAD <= INLINE_SIZE)
        return left;
    if (left >= CHUNK_MAX_SIZE)
        return CHUNK_MAX_SIZE;
    size_t pages = (left + CHUNK_OVERHEAD + PAGE_OVERHEAD) / PAGE_SIZE;
    if (pages == 0)
        return left;
    size_t filled = pages * PAGE_SIZE - PAGE_OVERHEAD - CHUNK_OVERHEAD;
    return left - filled + CHUNK_OVERHEAD <= INLINE_SIZE ? filled : left;
}

static struct bytes chunk_key(uint8_t key[12], uint64_t number, uint32_t chunk)
{
    save_be64(key, number);
    save_be32(key + 8, chunk);
    return bytes_of(key, 12);
}

static struct bytes guid_key(const struct guid *guid)
{
    return bytes_of(guid->bytes, GUID_SIZE);
}

int content_decode(struct bytes key, struct bytes value, struct content *content)
{
    if (key.size != GUID_SIZE || value.size != ROW_SIZE)
        return fail(ERR_CORRUPT, "table of GUIDs: of a wrong size");
    memcpy(content->guid.bytes, key.data, GUID_SIZE);
    content->references = load_u64(value.data);
    content->size = load_u64(value.data + 8);
    content->stored = load_u64(value.data + 16);
    content->number = load_u64(value.data + 24);
    uint32_t crc = hash_crc32(key.data, key.size) ^ hash_crc32(value.data, ROW_SIZE - 4);
    if (crc != load_u32(value.data + ROW_SIZE - 4)) {
        char text[GUID_TEXT_SIZE];
        guid_print(&content->guid, text);
        return fail(ERR_CORRUPT, "content %s: CRC-32 of its row does not match", text);
    }
    return ERR_OK;
}

int content_get(struct db_txn *txn, const struct guid *guid, struct content *content)
{
    struct bytes value;
    int rc = db_get(txn, TABLE_GUIDS, guid_key(guid), &value);
    return rc ? rc : content_decode(guid_key(guid), value, content);
}

/* A row whose key was damaged stands beside where it is looked for now, if the order of keys does
 * not show it. */
static int prove_neighbours(struct db_txn *txn, const struct guid *guid)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    struct content other;
    int rc = db_cursor_open(txn, TABLE_GUIDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, guid_key(guid), &key, &value);
    if (rc == ERR_OK)
        rc = content_decode(key, value, &other);
    if (rc == ERR_OK)
        rc = db_previous(cursor, &key, &value);
    else if (rc == ERR_END)
        rc = db_last(cursor, &key, &value);
    if (rc == ERR_OK)
        rc = content_decode(key, value, &other);
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

int content_find(struct db_txn *txn, const struct guid *guid, struct content *content)
{
    int rc = content_get(txn, guid, content);
    if (rc != ERR_END)
        return rc;
    rc = db_absent(txn, TABLE_GUIDS, guid_key(guid));
    if (rc == ERR_OK)
        rc = prove_neighbours(txn, guid);
    return rc ? rc : ERR_END;
}

bool content_is_lacking(const struct content *content)
{
    return content->references && content->number == 0;
}

int content_lacks(struct db_txn *txn, const struct guid *guid, bool *lacking)
{
    struct content content;
    int rc = content_get(txn, guid, &content);
    *lacking = rc == ERR_OK && content_is_lacking(&content);
    return rc == ERR_END ? ERR_OK : rc;
}

int content_put(struct db_txn *txn, const struct content *content)
{
    uint8_t out[ROW_SIZE];
    save_u64(out, content->references);
    save_u64(out + 8, content->size);
    save_u64(out + 16, content->stored);
    save_u64(out + 24, content->number);
    save_u32(out + ROW_SIZE - 4,
             hash_crc32(content->guid.bytes, GUID_SIZE) ^ hash_crc32(out, ROW_SIZE - 4));
    return db_put(txn, TABLE_GUIDS, guid_key(&content->guid), bytes_of(out, sizeof out));
}

int content_ref(struct db_txn *txn, const struct guid *guid)
{
    struct content content;
    int rc = content_get(txn, guid, &content);
    if (rc == ERR_END)
        content = (struct content){.guid = *guid};
    else if (rc)
        return rc;
    content.references++;
    return content_put(txn, &content);
}

int chunks_remove(struct db_txn *txn, uint64_t number, uint32_t *chunk, uint32_t most)
{
    uint8_t key[12];
    for (uint32_t i = 0; i < most; i++, (*chunk)++) {
        int rc = db_delete(txn, TABLE_CONTENT, chunk_key(key, number, *chunk));
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int chunks_remove_all(struct db_txn *txn, uint64_t number)
{
    uint32_t chunk = 0;
    int rc = chunks_remove(txn, number, &chunk, UINT32_MAX);
    return rc == ERR_END ? ERR_OK : rc;
}

static int drop(struct db_txn *txn, const struct content *content)
{
    int rc = db_delete(txn, TABLE_GUIDS, guid_key(&content->guid));
    if (rc)
        return rc;
    return content->number ? chunks_remove_all(txn, content->number)
                           : lacking_unmark(txn, &content->guid);
}

int content_unref(struct db_txn *txn, const struct guid *guid)
{
    struct content content;
    int rc = content_get(txn, guid, &content);
    if (rc == ERR_END || (rc == ERR_OK && content.references == 0))
        return fail(ERR_CORRUPT,
                    "content: a record refers to what the table of GUIDs does not have");
    if (rc)
        return rc;
    content.references--;
    return content.references ? content_put(txn, &content) : drop(txn, &content);
}

int content_drop_unreferenced(struct db_txn *txn, const struct guid *guid)
{
    struct content content;
    int rc = content_get(txn, guid, &content);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    return content.references ? ERR_OK : drop(txn, &content);
}

/* Numbers are never given out twice, so losing count must not go unnoticed. */
int content_next_number(struct db_txn *txn, uint64_t *number)
{
    struct bytes value;
    uint64_t chunks;
    int rc = db_get(txn, TABLE_STATE, bytes_text(NUMBER_KEY), &value);
    if (rc == ERR_END) {
        *number = 1;
        rc = db_count(txn, TABLE_CONTENT, &chunks);
        return rc || chunks == 0 ? rc : fail(ERR_CORRUPT, "the next content number is missing");
    }
    if (rc)
        return rc;
    if (value.size != 12 || load_u32(value.data + 8) != hash_crc32(value.data, 8))
        return fail(ERR_CORRUPT, "the next content number is damaged");
    *number = load_u64(value.data);
    return ERR_OK;
}

int content_take_number(struct db_txn *txn, uint64_t *number)
{
    uint8_t out[12];
    int rc = content_next_number(txn, number);
    if (rc)
        return rc;
    save_u64(out, *number + 1);
    save_u32(out + 8, hash_crc32(out, 8));
    return db_put(txn, TABLE_STATE, bytes_text(NUMBER_KEY), bytes_of(out, sizeof out));
}

int chunk_put(struct db_txn *txn, uint64_t number, uint32_t chunk, const uint8_t *data, size_t size)
{
    uint8_t key[12];
    uint8_t *room;
    int rc =
        db_reserve(txn, TABLE_CONTENT, chunk_key(key, number, chunk), size + CHUNK_OVERHEAD, &room);
    if (rc)
        return rc;
    save_u32(room, hash_crc32(data, size));
    memcpy(room + CHUNK_OVERHEAD, data, size);
    return ERR_OK;
}

static int check_chunk(struct bytes value, uint64_t number, uint32_t chunk)
{
    if (value.size < CHUNK_OVERHEAD ||
        load_u32(value.data) !=
            hash_crc32(value.data + CHUNK_OVERHEAD, value.size - CHUNK_OVERHEAD))
        return fail(ERR_CORRUPT, "content number %llu, chunk %u: CRC-32 does not match",
                    (unsigned long long)number, chunk);
    return ERR_OK;
}

int content_copy(struct db_txn *txn, const struct content *content, uint64_t offset, size_t most,
                 struct buf *out)
{
    uint8_t key[12];
    size_t start = out->size;
    if (offset >= content->stored)
        return ERR_END;
    /* Every chunk but the last two is of the largest size (chunk_size()), so the chunk at an offset
     * is known. */
    uint32_t chunk = (uint32_t)(offset / CHUNK_MAX_SIZE) + (offset % CHUNK_MAX_SIZE ? 1 : 0);
    while (offset < content->stored) {
        struct bytes value;
        int rc = db_get(txn, TABLE_CONTENT, chunk_key(key, content->number, chunk), &value);
        if (rc == ERR_END)
            return fail(ERR_CORRUPT, "content number %llu: chunk %u is missing",
                        (unsigned long long)content->number, chunk);
        if (rc == ERR_OK)
            rc = check_chunk(value, content->number, chunk);
        if (rc)
            return rc;
        size_t size = value.size - CHUNK_OVERHEAD;
        if (size == 0 || size > content->stored - offset)
            return fail(ERR_CORRUPT, "content number %llu: chunk %u has a wrong size",
                        (unsigned long long)content->number, chunk);
        if (out->size > start && out->size - start + size > most)
            break;
        buf_put(out, value.data + CHUNK_OVERHEAD, size);
        offset += size;
        chunk++;
    }
    return out->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

struct content_reader {
    struct db *db;
    struct content content;
    z_stream zlib;
    struct buf deflated; /* fetched and not inflated yet */
    uint64_t offset;     /* of deflated bytes: behind what was fetched */
    uint64_t given;      /* raw bytes */
    bool ended;
};

static int fail_gone(const struct guid *guid)
{
    char text[GUID_TEXT_SIZE];
    guid_print(guid, text);
    return fail(ERR_GONE, "content %s is gone", text);
}

int content_open(struct db *db, const struct guid *guid, struct content_reader **out)
{
    struct db_txn *txn;
    *out = NULL;
    struct content_reader *reader = calloc(1, sizeof *reader);
    if (!reader || inflateInit(&reader->zlib) != Z_OK) {
        free(reader);
        return fail(ERR_NOMEM, "out of memory");
    }
    reader->db = db;
    int rc = db_begin_read(db, &txn);
    if (rc == ERR_OK) {
        rc = content_find(txn, guid, &reader->content);
        if (rc == ERR_END || (rc == ERR_OK && reader->content.number == 0))
            rc = fail_gone(guid);
        db_abort(txn);
    }
    if (rc) {
        content_close(reader);
        return rc;
    }
    *out = reader;
    return ERR_OK;
}

static int fetch(struct content_reader *reader)
{
    struct db_txn *txn;
    struct content now;
    int rc = db_begin_read(reader->db, &txn);
    if (rc)
        return rc;
    rc = content_find(txn, &reader->content.guid, &now);
    if (rc == ERR_END || (rc == ERR_OK && now.number != reader->content.number))
        rc = fail_gone(&reader->content.guid);
    buf_reset(&reader->deflated);
    if (rc == ERR_OK)
        rc = content_copy(txn, &now, reader->offset, 4 * CHUNK_MAX_SIZE, &reader->deflated);
    db_abort(txn);
    if (rc)
        return rc == ERR_END ? fail(ERR_CORRUPT, "content: it does not end where it should") : rc;
    reader->offset += reader->deflated.size;
    reader->zlib.next_in = reader->deflated.data;
    reader->zlib.avail_in = (uInt)reader->deflated.size;
    return ERR_OK;
}

int content_read(struct content_reader *reader, void *to, size_t size, size_t *got)
{
    *got = 0;
    if (size > UINT32_MAX)
        size = UINT32_MAX;
    reader->zlib.next_out = to;
    reader->zlib.avail_out = (uInt)size;
    while (!reader->ended && reader->zlib.avail_out > 0) {
        if (reader->zlib.avail_in == 0) {
            int rc = fetch(reader);
            if (rc)
                return rc;
        }
        int z = inflate(&reader->zlib, Z_NO_FLUSH);
        if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
            return fail(ERR_CORRUPT, "content: it does not inflate");
        reader->ended = z == Z_STREAM_END;
    }
    *got = size - reader->zlib.avail_out;
    reader->given += *got;
    if (reader->ended && *got == 0 && reader->given != reader->content.size)
        return fail(ERR_CORRUPT, "content: %llu bytes instead of %llu",
                    (unsigned long long)reader->given, (unsigned long long)reader->content.size);
    return ERR_OK;
}

void content_close(struct content_reader *reader)
{
    if (!reader)
        return;
    inflateEnd(&reader->zlib);
    buf_free(&reader->deflated);
    free(reader);
}

int content_verify(struct db *db, const struct content *content)
{
    struct content_reader *reader;
    uint8_t piece[PIECE];
    struct guid guid;
    size_t got = 1;
    int rc = content_open(db, &content->guid, &reader);
    if (rc)
        return rc;
    struct guid_hash *hash = hash_guid_start();
    if (!hash)
        rc = fail(ERR_NOMEM, "out of memory");
    while (rc == ERR_OK && got) {
        rc = content_read(reader, piece, sizeof piece, &got);
        if (rc == ERR_OK)
            hash_guid_update(hash, piece, got);
    }
    hash_guid_finish(hash, &guid);
    content_close(reader);
    if (rc == ERR_OK && !guid_equal(&guid, &content->guid)) {
        char text[GUID_TEXT_SIZE];
        guid_print(&content->guid, text);
        rc = fail(ERR_CORRUPT, "content %s: its bytes have another SHA-256", text);
    }
    return rc;
}

int content_forget(struct db_txn *txn, const struct guid *guid)
{
    struct content content;
    int rc = content_get(txn, guid, &content);
    if (rc || content.number == 0)
        return rc == ERR_END ? ERR_OK : rc;
    rc = chunks_remove_all(txn, content.number);
    content.number = 0;
    content.size = 0;
    content.stored = 0;
    if (rc == ERR_OK)
        rc = content_put(txn, &content);
    return rc ? rc : lacking_mark(txn, guid);
}

/* Inflates and hashes what stands under a number, chunk after chunk. */
static int identify(struct db_txn *txn, z_stream *zlib, struct guid_hash *hash,
                    struct content *content)
{
    uint8_t key[12];
    uint8_t raw[PIECE];
    int z = Z_OK;
    for (uint32_t chunk = 0; z != Z_STREAM_END; chunk++) {
        struct bytes value;
        int rc = db_get(txn, TABLE_CONTENT, chunk_key(key, content->number, chunk), &value);
        if (rc == ERR_OK)
            rc = check_chunk(value, content->number, chunk);
        if (rc)
            return rc == ERR_END ? fail(ERR_CORRUPT, "content: cut short") : rc;
        zlib->next_in = (Bytef *)(uintptr_t)(value.data + CHUNK_OVERHEAD);
        zlib->avail_in = (uInt)(value.size - CHUNK_OVERHEAD);
        content->stored += zlib->avail_in;
        do {
            zlib->next_out = raw;
            zlib->avail_out = sizeof raw;
            z = inflate(zlib, Z_NO_FLUSH);
            if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
                return fail(ERR_CORRUPT, "content: it does not inflate");
            hash_guid_update(hash, raw, sizeof raw - zlib->avail_out);
            content->size += sizeof raw - zlib->avail_out;
        } while (z != Z_STREAM_END && (zlib->avail_in > 0 || zlib->avail_out == 0));
    }
    return ERR_OK;
}

int content_identify(struct db_txn *txn, uint64_t number, struct content *content)
{
    z_stream zlib = {0};
    struct guid_hash *hash = hash_guid_start();
    *content = (struct content){.number = number};
    if (!hash || inflateInit(&zlib) != Z_OK) {
        hash_guid_finish(hash, NULL);
        return fail(ERR_NOMEM, "out of memory");
    }
    int rc = identify(txn, &zlib, hash, content);
    inflateEnd(&zlib);
    hash_guid_finish(hash, &content->guid);
    return rc;
}
