/* Bytes come in, raw or deflated, and are hashed and deflated. */
#include "mailbox/drafting.h"

#include "base/err.h"

#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>

#define DEFLATE_LEVEL 6
/* Raw bytes up to this size are deflated at once by libdeflate, which takes half of zlib's time but
 * has no stream; more are a stream of zlib's. Both write the same format. */
#define WHOLE_SIZE (1u << 20)
#define PIECE 65536u

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
            rc = draft_stage_if_large(draft);
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

void draft_close(struct draft *draft)
{
    if (!draft)
        return;
    close_zlib(draft);
    hash_guid_finish(draft->hash, NULL);
    draft_unstage(draft);
    buf_free(&draft->raw);
    buf_free(&draft->waiting);
    free(draft);
}
