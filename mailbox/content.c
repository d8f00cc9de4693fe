#include "mailbox/content.h"

#include "base/err.h"
#include "base/lock.h"
#include "journal/tables.h"

#include <libdeflate.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define PAGE_SIZE 4096u   /* LMDB's, on every machine that this runs on; only a matter of space */
#define PAGE_OVERHEAD 16u /* LMDB's header of a run of pages */
#define CHUNK_PAGES 16u
#define CHUNK_OVERHEAD 4u /* the CRC-32 */
#define INLINE_SIZE 1900u /* a value up to this size shares a leaf page with others */
#define CHUNK_MAX (CHUNK_PAGES * PAGE_SIZE - PAGE_OVERHEAD - CHUNK_OVERHEAD)
#define STAGE_BATCH (1u << 20) /* deflated bytes in one transaction of a draft's own */
#define SWEEP_BATCH 256u       /* chunks removed in one transaction */
#define DEFLATE_LEVEL 6
/* Raw bytes up to this size are deflated at once by libdeflate, which takes half of zlib's time but
 * has no stream; more are a stream of zlib's. Both write the same format. */
#define WHOLE_SIZE (1u << 20)
#define ROW_SIZE 36u
#define STAGED_SIZE 12u
#define NUMBER_KEY "content"
#define PIECE 65536u

/* How many of `left` bytes the next chunk takes: the most that fills whole pages, and a small rest
 * goes inside a leaf page. */
static size_t chunk_size(size_t left)
{
    if (left + CHUNK_OVERHEAD <= INLINE_SIZE)
        return left;
    if (left >= CHUNK_MAX)
        return CHUNK_MAX;
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

/* Removes up to `most` chunks from `*chunk` on; *chunk is advanced, ERR_END when there are no more.
 */
static int remove_chunks(struct db_txn *txn, uint64_t number, uint32_t *chunk, uint32_t most)
{
    uint8_t key[12];
    for (uint32_t i = 0; i < most; i++, (*chunk)++) {
        int rc = db_delete(txn, TABLE_CONTENT, chunk_key(key, number, *chunk));
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int remove_all_chunks(struct db_txn *txn, uint64_t number)
{
    uint32_t chunk = 0;
    int rc = remove_chunks(txn, number, &chunk, UINT32_MAX);
    return rc == ERR_END ? ERR_OK : rc;
}

static int drop(struct db_txn *txn, const struct content *content)
{
    int rc = db_delete(txn, TABLE_GUIDS, guid_key(&content->guid));
    return rc == ERR_OK && content->number ? remove_all_chunks(txn, content->number) : rc;
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

static int next_number(struct db_txn *txn, uint64_t *number)
{
    uint8_t out[12];
    int rc = content_next_number(txn, number);
    if (rc)
        return rc;
    save_u64(out, *number + 1);
    save_u32(out + 8, hash_crc32(out, 8));
    return db_put(txn, TABLE_STATE, bytes_text(NUMBER_KEY), bytes_of(out, sizeof out));
}

static int put_chunk(struct db_txn *txn, uint64_t number, uint32_t chunk, const uint8_t *data,
                     size_t size)
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
    uint32_t chunk = (uint32_t)(offset / CHUNK_MAX) + (offset % CHUNK_MAX ? 1 : 0);
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

/* The number that says whose what was staged is; drafts that were staged together share one, since
 * the system looks through all the locks of a file for each. */
struct owner {
    uint64_t number;
    atomic_size_t drafts;
};

struct draft {
    struct db *db;
    enum draft_form form;
    struct guid_hash *hash;
    z_stream zlib;
    bool zlib_open;
    bool zlib_ended;    /* the deflated stream is complete */
    struct buf raw;     /* raw bytes that may be deflated at once, if no more come */
    struct buf waiting; /* deflated bytes not written yet */
    struct guid guid;
    uint64_t size;
    uint64_t stored;
    uint64_t number;     /* of what was staged; 0: nothing was */
    struct owner *owner; /* of what was staged */
    uint32_t chunks;     /* staged so far */
};

static void close_zlib(struct draft *draft)
{
    if (draft->zlib_open && draft->form == DRAFT_RAW)
        deflateEnd(&draft->zlib);
    else if (draft->zlib_open)
        inflateEnd(&draft->zlib);
    draft->zlib_open = false;
}

int draft_open(struct db *db, enum draft_form form, struct draft **out)
{
    struct draft *draft = calloc(1, sizeof *draft);
    *out = NULL;
    if (!draft)
        return fail(ERR_NOMEM, "out of memory");
    draft->db = db;
    draft->form = form;
    draft->hash = hash_guid_start();
    draft->zlib_open = form == DRAFT_DEFLATED && inflateInit(&draft->zlib) == Z_OK;
    if (!draft->hash || (form == DRAFT_DEFLATED && !draft->zlib_open)) {
        draft_close(draft);
        return fail(ERR_NOMEM, "out of memory");
    }
    *out = draft;
    return ERR_OK;
}

static int stage_chunks(struct draft *draft, struct db_txn *txn, bool whole, size_t *written)
{
    uint32_t chunk = draft->chunks;
    size_t at = 0;
    while (at < draft->waiting.size && at < STAGE_BATCH) {
        size_t left = draft->waiting.size - at;
        if (!whole && left < 2 * CHUNK_MAX)
            break;
        size_t size = chunk_size(left);
        int rc = put_chunk(txn, draft->number, chunk++, draft->waiting.data + at, size);
        if (rc)
            return rc;
        at += size;
    }
    *written = at;
    return ERR_OK;
}

/* Gives drafts that have no owner yet one that they share. */
static int own_all(struct draft *const *drafts, size_t count)
{
    struct owner *owner = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!drafts[i] || drafts[i]->owner)
            continue;
        if (!owner) {
            owner = calloc(1, sizeof *owner);
            if (!owner)
                return fail(ERR_NOMEM, "out of memory");
            int rc = owner_lock_take(db_writer_lock(drafts[i]->db), &owner->number);
            if (rc) {
                free(owner);
                return rc;
            }
        }
        drafts[i]->owner = owner;
        atomic_fetch_add(&owner->drafts, 1);
    }
    return ERR_OK;
}

static void disown(struct draft *draft)
{
    struct owner *owner = draft->owner;
    draft->owner = NULL;
    if (!owner || atomic_fetch_sub(&owner->drafts, 1) != 1)
        return;
    owner_lock_release(db_writer_lock(draft->db), owner->number);
    free(owner);
}

static int begin_staging(struct draft *draft, struct db_txn *txn)
{
    uint8_t key[8], owner[STAGED_SIZE];
    int rc = next_number(txn, &draft->number);
    if (rc)
        return rc;
    save_be64(key, draft->number);
    save_u64(owner, draft->owner->number);
    save_u32(owner + 8, hash_crc32(key, sizeof key) ^ hash_crc32(owner, 8));
    return db_put(txn, TABLE_STAGED, bytes_of(key, sizeof key), bytes_of(owner, sizeof owner));
}

/* One bounded transaction of staging. */
static int stage_once(struct draft *draft, bool whole)
{
    struct db_txn *txn;
    size_t written = 0;
    int rc = own_all(&draft, 1);
    if (rc)
        return rc;
    for (;;) {
        bool fresh = draft->number == 0;
        rc = db_begin_write(draft->db, &txn);
        if (rc)
            return rc;
        rc = fresh ? begin_staging(draft, txn) : ERR_OK;
        if (rc == ERR_OK)
            rc = stage_chunks(draft, txn, whole, &written);
        if (rc == ERR_OK)
            rc = db_commit(txn);
        else
            db_abort(txn);
        if (rc == ERR_OK)
            break;
        if (fresh)
            draft->number = 0;
        if (rc == ERR_AGAIN)
            rc = db_grow(draft->db);
        if (rc)
            return rc;
    }
    draft->chunks += (uint32_t)((written + CHUNK_MAX - 1) / CHUNK_MAX);
    memmove(draft->waiting.data, draft->waiting.data + written, draft->waiting.size - written);
    draft->waiting.size -= written;
    return ERR_OK;
}

static int stage_if_large(struct draft *draft)
{
    while (draft->waiting.size >= CONTENT_STAGE_SIZE + 2 * CHUNK_MAX) {
        int rc = stage_once(draft, false);
        if (rc)
            return rc;
    }
    return draft->waiting.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int deflate_more(struct draft *draft, const void *data, size_t size, int flush)
{
    draft->zlib.next_in = (Bytef *)(uintptr_t)data;
    draft->zlib.avail_in = (uInt)size;
    for (;;) {
        uint8_t *room = buf_reserve(&draft->waiting, 4096);
        if (!room)
            return fail(ERR_NOMEM, "out of memory");
        draft->zlib.next_out = room;
        draft->zlib.avail_out = 4096;
        int z = deflate(&draft->zlib, flush);
        size_t made = 4096 - draft->zlib.avail_out;
        draft->waiting.size -= draft->zlib.avail_out;
        draft->stored += made;
        if (z == Z_STREAM_END || (flush == Z_NO_FLUSH && draft->zlib.avail_out > 0))
            return ERR_OK;
        if (z != Z_OK && z != Z_BUF_ERROR)
            return fail(ERR_IO, "zlib: deflate failed");
    }
}

/* What deflating at once needs, and keeps for the next message. */
struct deflater {
    struct libdeflate_compressor *compressor;
    struct buf room;
};

/* One that nobody uses: whoever needs one takes it, or makes another. */
static _Atomic(struct deflater *) spare_deflater;

static void deflater_free(struct deflater *deflater)
{
    if (!deflater)
        return;
    libdeflate_free_compressor(deflater->compressor);
    buf_free(&deflater->room);
    free(deflater);
}

static struct deflater *deflater_take(void)
{
    struct deflater *deflater = atomic_exchange(&spare_deflater, NULL);
    if (deflater)
        return deflater;
    deflater = calloc(1, sizeof *deflater);
    if (deflater)
        deflater->compressor = libdeflate_alloc_compressor(DEFLATE_LEVEL);
    if (!deflater || !deflater->compressor) {
        free(deflater);
        return NULL;
    }
    return deflater;
}

static void deflater_give_back(struct deflater *deflater)
{
    deflater_free(atomic_exchange(&spare_deflater, deflater));
}

static int deflate_at_once(struct draft *draft)
{
    struct deflater *deflater = deflater_take();
    if (!deflater)
        return fail(ERR_NOMEM, "out of memory");
    size_t bound = libdeflate_zlib_compress_bound(deflater->compressor, draft->raw.size);
    buf_reset(&deflater->room);
    uint8_t *room = buf_reserve(&deflater->room, bound);
    if (room) {
        const void *raw = draft->raw.size ? draft->raw.data : room;
        size_t size =
            libdeflate_zlib_compress(deflater->compressor, raw, draft->raw.size, room, bound);
        buf_put(&draft->waiting, room, size);
        draft->stored = size;
    }
    deflater_give_back(deflater);
    buf_free(&draft->raw);
    return room && !draft->waiting.failed ? ERR_OK : fail(ERR_NOMEM, "out of memory");
}

static int start_stream(struct draft *draft)
{
    draft->zlib_open = deflateInit(&draft->zlib, DEFLATE_LEVEL) == Z_OK;
    if (!draft->zlib_open)
        return fail(ERR_NOMEM, "out of memory");
    int rc = deflate_more(draft, draft->raw.data, draft->raw.size, Z_NO_FLUSH);
    buf_free(&draft->raw);
    return rc;
}

static int take_raw(struct draft *draft, const void *data, size_t size)
{
    hash_guid_update(draft->hash, data, size);
    draft->size += size;
    if (draft->size <= WHOLE_SIZE) {
        buf_put(&draft->raw, data, size);
        return draft->raw.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
    }
    int rc = draft->zlib_open ? ERR_OK : start_stream(draft);
    return rc ? rc : deflate_more(draft, data, size, Z_NO_FLUSH);
}

static int inflate_more(struct draft *draft, const void *data, size_t size)
{
    uint8_t raw[PIECE];
    draft->zlib.next_in = (Bytef *)(uintptr_t)data;
    draft->zlib.avail_in = (uInt)size;
    do {
        if (draft->zlib_ended)
            return fail(ERR_CORRUPT, "content: bytes behind its end");
        draft->zlib.next_out = raw;
        draft->zlib.avail_out = sizeof raw;
        int z = inflate(&draft->zlib, Z_NO_FLUSH);
        if (z != Z_OK && z != Z_STREAM_END && z != Z_BUF_ERROR)
            return fail(ERR_CORRUPT, "content: it does not inflate");
        size_t made = sizeof raw - draft->zlib.avail_out;
        hash_guid_update(draft->hash, raw, made);
        draft->size += made;
        draft->zlib_ended = z == Z_STREAM_END;
    } while (draft->zlib.avail_in > 0 || (draft->zlib.avail_out == 0 && !draft->zlib_ended));
    buf_put(&draft->waiting, data, size);
    draft->stored += size;
    return ERR_OK;
}

int draft_write(struct draft *draft, const void *data, size_t size)
{
    const uint8_t *at = data;
    while (size) {
        size_t piece = size < PIECE ? size : PIECE;
        int rc =
            draft->form == DRAFT_RAW ? take_raw(draft, at, piece) : inflate_more(draft, at, piece);
        if (rc == ERR_OK)
            rc = stage_if_large(draft);
        if (rc)
            return rc;
        at += piece;
        size -= piece;
    }
    return ERR_OK;
}

int draft_finish(struct draft *draft)
{
    int rc = ERR_OK;
    if (draft->form == DRAFT_RAW)
        rc = draft->zlib_open ? deflate_more(draft, NULL, 0, Z_FINISH) : deflate_at_once(draft);
    else if (!draft->zlib_ended)
        rc = fail(ERR_CORRUPT, "content: cut short");
    if (rc == ERR_OK && draft->number)
        rc = draft_stage(draft);
    if (rc)
        return rc;
    hash_guid_finish(draft->hash, &draft->guid);
    draft->hash = NULL;
    close_zlib(draft);
    return ERR_OK;
}

int draft_stage(struct draft *draft)
{
    while (draft->waiting.size || !draft->number) {
        int rc = stage_once(draft, true);
        if (rc)
            return rc;
    }
    buf_free(&draft->waiting);
    return ERR_OK;
}

/* Everything that `draft` holds in memory, in a transaction of the caller's. */
static int stage_whole(struct draft *draft, struct db_txn *txn)
{
    int rc = begin_staging(draft, txn);
    uint32_t chunk = 0;
    for (size_t at = 0; rc == ERR_OK && at < draft->waiting.size;) {
        size_t size = chunk_size(draft->waiting.size - at);
        rc = put_chunk(txn, draft->number, chunk++, draft->waiting.data + at, size);
        at += size;
    }
    return rc;
}

static bool is_small(const struct draft *draft)
{
    return draft && draft->number == 0 && draft->waiting.size;
}

static int stage_small(struct draft **drafts, size_t count, struct db *db)
{
    struct db_txn *txn;
    int rc = db_begin_write(db, &txn);
    if (rc)
        return rc;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (is_small(drafts[i]))
            rc = stage_whole(drafts[i], txn);
    if (rc == ERR_OK)
        rc = db_commit(txn);
    else
        db_abort(txn);
    for (size_t i = 0; i < count; i++) {
        if (!drafts[i] || !drafts[i]->waiting.size)
            continue;
        if (rc)
            drafts[i]->number = 0;
        else
            buf_free(&drafts[i]->waiting);
    }
    return rc;
}

int draft_stage_all(struct draft **drafts, size_t count)
{
    struct db *db = NULL;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        if (drafts[i] && drafts[i]->number)
            rc = draft_stage(drafts[i]);
        if (is_small(drafts[i]))
            db = drafts[i]->db;
    }
    if (rc == ERR_OK && db)
        rc = own_all(drafts, count);
    if (rc || !db)
        return rc;
    while ((rc = stage_small(drafts, count, db)) == ERR_AGAIN) {
        rc = db_grow(db);
        if (rc)
            return rc;
    }
    return rc;
}

const struct guid *draft_guid(const struct draft *draft)
{
    return &draft->guid;
}

uint64_t draft_size(const struct draft *draft)
{
    return draft->size;
}

uint64_t draft_stored(const struct draft *draft)
{
    return draft->stored;
}

size_t draft_memory(const struct draft *draft)
{
    return draft->waiting.capacity;
}

static int write_waiting(struct db_txn *txn, const struct draft *draft, uint64_t *number)
{
    int rc = next_number(txn, number);
    uint32_t chunk = 0;
    for (size_t at = 0; rc == ERR_OK && at < draft->waiting.size;) {
        size_t size = chunk_size(draft->waiting.size - at);
        rc = put_chunk(txn, *number, chunk++, draft->waiting.data + at, size);
        at += size;
    }
    return rc;
}

int draft_adopt(struct db_txn *txn, struct draft *draft, bool *introduced)
{
    uint8_t key[8];
    struct content content;
    int rc = content_get(txn, &draft->guid, &content);
    if (rc && rc != ERR_END)
        return rc;
    bool fresh = rc == ERR_END;
    if (introduced)
        *introduced = fresh || content.references == 0;
    if (fresh)
        content = (struct content){.guid = draft->guid};
    else if (content.number)
        return ERR_OK;
    content.size = draft->size;
    content.stored = draft->stored;
    if (draft->number) {
        save_be64(key, draft->number);
        rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
        if (rc)
            return rc == ERR_END ? fail(ERR_CORRUPT, "content: what was staged is no longer there")
                                 : rc;
        content.number = draft->number;
    } else {
        rc = write_waiting(txn, draft, &content.number);
        if (rc)
            return rc;
    }
    return content_put(txn, &content);
}

/* Removes staged content in bounded transactions, the row that names its owner last. */
static int unstage(struct db *db, uint64_t number)
{
    uint8_t key[8];
    uint32_t chunk = 0;
    struct db_txn *txn;
    save_be64(key, number);
    for (;;) {
        uint32_t start = chunk;
        int rc = db_begin_write(db, &txn);
        if (rc)
            return rc;
        rc = db_get(txn, TABLE_STAGED, bytes_of(key, sizeof key), NULL);
        if (rc) { /* adopted, or swept by another */
            db_abort(txn);
            return rc == ERR_END ? ERR_OK : rc;
        }
        rc = remove_chunks(txn, number, &chunk, SWEEP_BATCH);
        bool last = rc == ERR_END;
        if (last)
            rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
        if (rc == ERR_OK)
            rc = db_commit(txn);
        else
            db_abort(txn);
        if (rc == ERR_AGAIN) {
            chunk = start;
            rc = db_grow(db);
        } else if (rc == ERR_OK && last) {
            return ERR_OK;
        }
        if (rc)
            return rc;
    }
}

void draft_close(struct draft *draft)
{
    if (!draft)
        return;
    close_zlib(draft);
    hash_guid_finish(draft->hash, NULL);
    /* A failure leaves it to content_sweep(): the owner is gone with the last of its drafts. */
    if (draft->number)
        (void)unstage(draft->db, draft->number);
    disown(draft);
    buf_free(&draft->raw);
    buf_free(&draft->waiting);
    free(draft);
}

/* What one draft staged goes in a transaction of the caller's, unless it was adopted. */
static int unstage_within(struct db_txn *txn, uint64_t number)
{
    uint8_t key[8];
    save_be64(key, number);
    int rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
    if (rc == ERR_OK)
        rc = remove_all_chunks(txn, number);
    return rc == ERR_END ? ERR_OK : rc;
}

/* What drafts from `from` on staged goes in one bounded transaction; gives where to go on. After a
 * failure the rest is left to draft_close(). */
static size_t unstage_some(struct draft **drafts, size_t count, size_t from)
{
    struct db_txn *txn = NULL;
    uint64_t bytes = 0;
    size_t at = from;
    int rc = ERR_OK;
    for (; rc == ERR_OK && at < count && bytes < CONTENT_STAGE_SIZE; at++) {
        const struct draft *draft = drafts[at];
        if (!draft || !draft->number || draft->stored > CONTENT_STAGE_SIZE)
            continue;
        if (!txn)
            rc = db_begin_write(draft->db, &txn);
        if (rc == ERR_OK)
            rc = unstage_within(txn, draft->number);
        bytes += draft->stored;
    }
    if (rc == ERR_OK && txn)
        rc = db_commit(txn);
    else
        db_abort(txn);
    for (size_t i = from; rc == ERR_OK && i < at; i++)
        if (drafts[i] && drafts[i]->stored <= CONTENT_STAGE_SIZE)
            drafts[i]->number = 0;
    return rc == ERR_OK ? at : count;
}

void draft_close_all(struct draft **drafts, size_t count)
{
    for (size_t at = 0; at < count;)
        at = unstage_some(drafts, count, at);
    for (size_t i = 0; i < count; i++)
        draft_close(drafts[i]);
}

int content_staged_decode(struct bytes key, struct bytes value, uint64_t *number)
{
    if (key.size != 8 || value.size != STAGED_SIZE ||
        load_u32(value.data + 8) != (hash_crc32(key.data, 8) ^ hash_crc32(value.data, 8)))
        return fail(ERR_CORRUPT, "table of staged content: CRC-32 of a row does not match");
    *number = load_be64(key.data);
    return ERR_OK;
}

/* The first staged content at or above *number whose owner is dead. ERR_END: none. */
static int find_orphan(struct db *db, uint64_t *number)
{
    uint8_t key[8];
    struct bytes found, value;
    struct db_txn *txn;
    struct db_cursor *cursor;
    int rc = db_begin_read(db, &txn);
    if (rc)
        return rc;
    rc = db_cursor_open(txn, TABLE_STAGED, &cursor);
    if (rc) {
        db_abort(txn);
        return rc;
    }
    save_be64(key, *number);
    for (rc = db_seek(cursor, bytes_of(key, sizeof key), &found, &value); rc == ERR_OK;
         rc = db_next(cursor, &found, &value)) {
        uint64_t staged;
        rc = content_staged_decode(found, value, &staged);
        if (rc)
            break;
        if (owner_lock_is_dead(db_writer_lock(db), load_u64(value.data))) {
            *number = staged;
            break;
        }
    }
    db_cursor_close(cursor);
    db_abort(txn);
    return rc;
}

int content_sweep(struct db *db, uint64_t *swept)
{
    uint64_t number = 0;
    uint64_t count = 0;
    int rc;
    while ((rc = find_orphan(db, &number)) == ERR_OK) {
        rc = unstage(db, number++);
        if (rc)
            break;
        count++;
    }
    if (swept)
        *swept = count;
    return rc == ERR_END ? ERR_OK : rc;
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
        rc = content_get(txn, guid, &reader->content);
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
    rc = content_get(txn, &reader->content.guid, &now);
    if (rc == ERR_END || (rc == ERR_OK && now.number != reader->content.number))
        rc = fail_gone(&reader->content.guid);
    buf_reset(&reader->deflated);
    if (rc == ERR_OK)
        rc = content_copy(txn, &now, reader->offset, 4 * CHUNK_MAX, &reader->deflated);
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
    rc = remove_all_chunks(txn, content.number);
    content.number = 0;
    content.size = 0;
    content.stored = 0;
    return rc ? rc : content_put(txn, &content);
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
