#include "journal/archive_file.h"

#include "base/err.h"
#include "base/hash.h"

#include <libdeflate.h>
#include <string.h>

#define MAGIC "shiplogA"
#define MAGIC_SIZE 8u
#define LEVEL 12 /* written once, read seldom */
#define DIGEST_SIZE 8u
/* The fewest bytes of a packed entry: what a block holds at most follows from its size. */
#define PACKED_LEAST 11u

static void put_point(struct buf *out, struct journal_point point)
{
    buf_position(out, point.position);
    buf_u64(out, (uint64_t)point.time);
}

static struct journal_point read_point(struct reader *in)
{
    struct journal_point point;
    point.position = read_position(in);
    point.time = (int64_t)read_u64(in);
    return point;
}

static bool point_equal(struct journal_point a, struct journal_point b)
{
    return position_equal(a.position, b.position) && a.time == b.time;
}

void archive_header_encode(const struct archive_header *header, uint8_t out[ARCHIVE_HEADER_SIZE])
{
    uint8_t *at = out;
    const uint64_t words[] = {header->store_id,
                              header->base.position.modseq,
                              header->base.position.chain,
                              (uint64_t)header->base.time,
                              header->last.position.modseq,
                              header->last.position.chain,
                              (uint64_t)header->last.time,
                              header->entries,
                              header->bytes,
                              header->index_at};
    memcpy(at, MAGIC, MAGIC_SIZE);
    save_u32(at + MAGIC_SIZE, ARCHIVE_VERSION);
    save_u32(at + MAGIC_SIZE + 4, header->blocks);
    at += MAGIC_SIZE + 8;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++, at += 8)
        save_u64(at, words[i]);
    save_u32(at, header->strings);
    save_u32(at + 4, header->index_crc);
    save_u32(at + 8, hash_crc32(out, ARCHIVE_HEADER_SIZE - 4));
}

int archive_header_decode(struct bytes from, uint64_t file_size, struct archive_header *header)
{
    struct reader in = reader_of(from);
    struct bytes magic = read_view(&in, MAGIC_SIZE);
    uint32_t version = read_u32(&in);
    *header = (struct archive_header){0};
    if (in.failed || memcmp(magic.data, MAGIC, MAGIC_SIZE) != 0)
        return fail(ERR_CORRUPT, "not an archive file");
    if (version > ARCHIVE_VERSION)
        return fail(ERR_NEWER, "format %u is newer than this program", version);
    header->blocks = read_u32(&in);
    header->store_id = read_u64(&in);
    header->base = read_point(&in);
    header->last = read_point(&in);
    header->entries = read_u64(&in);
    header->bytes = read_u64(&in);
    header->index_at = read_u64(&in);
    header->strings = read_u32(&in);
    header->index_crc = read_u32(&in);
    uint32_t crc = read_u32(&in);
    if (!reader_done(&in) || crc != hash_crc32(from.data, ARCHIVE_HEADER_SIZE - 4))
        return fail(ERR_CORRUPT, "its header is damaged");
    if (version == 0 || header->blocks == 0 || header->blocks > ARCHIVE_BLOCKS_MAX ||
        header->index_at < ARCHIVE_HEADER_SIZE + (uint64_t)header->strings * ARCHIVE_STRING_SIZE ||
        header->base.position.modseq >= header->last.position.modseq)
        return fail(ERR_CORRUPT, "its header is malformed");
    uint64_t index_size = (uint64_t)header->blocks * ARCHIVE_ROW_SIZE;
    if (file_size < index_size || file_size - index_size != header->index_at)
        return fail(ERR_CORRUPT, "it has %llu bytes, not %llu", (unsigned long long)file_size,
                    (unsigned long long)(header->index_at + index_size));
    return ERR_OK;
}

void archive_row_encode(const struct archive_block *block, struct buf *out)
{
    put_point(out, block->before);
    buf_u32(out, block->stored);
    buf_u32(out, block->packed);
    buf_u32(out, block->entries);
    buf_u32(out, block->first_string);
    buf_u32(out, block->crc);
}

/* Whether a block can be, and end where the next begins. */
static bool plausible(const struct archive_block *block, struct journal_point after,
                      uint32_t strings)
{
    return block->before.position.modseq < after.position.modseq &&
           block->before.time <= after.time && block->first_string <= strings &&
           block->entries > 0 && block->packed <= ARCHIVE_BLOCK_MAX &&
           block->entries <= block->packed / PACKED_LEAST &&
           block->entries <= block->stored / DIGEST_SIZE;
}

int archive_index_decode(struct bytes from, const struct archive_header *header,
                         struct archive_block *blocks)
{
    struct reader in = reader_of(from);
    uint64_t at = ARCHIVE_HEADER_SIZE;
    uint64_t entries = 0;
    bool fits = from.size == (size_t)header->blocks * ARCHIVE_ROW_SIZE &&
                hash_crc32(from.data, from.size) == header->index_crc;
    for (uint32_t i = 0; i < header->blocks && fits; i++) {
        struct archive_block *block = &blocks[i];
        block->before = read_point(&in);
        block->at = at;
        block->stored = read_u32(&in);
        block->packed = read_u32(&in);
        block->entries = read_u32(&in);
        block->first_string = read_u32(&in);
        block->crc = read_u32(&in);
        at += block->stored;
        entries += block->entries;
        if (i > 0)
            fits = plausible(&blocks[i - 1], block->before, block->first_string);
    }
    at += (uint64_t)header->strings * ARCHIVE_STRING_SIZE;
    fits = fits && point_equal(blocks[0].before, header->base) && blocks[0].first_string == 0 &&
           plausible(&blocks[header->blocks - 1], header->last, header->strings) &&
           at == header->index_at && entries == header->entries;
    return fits ? ERR_OK : fail(ERR_CORRUPT, "its index is damaged");
}

void archive_packing_free(struct archive_packing *packing)
{
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        buf_free(&packing->columns[i]);
}

size_t archive_packing_size(const struct archive_packing *packing)
{
    size_t size = 0;
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        size += packing->columns[i].size;
    return size;
}

static void pack_mailbox(struct archive_packing *packing, uint64_t mailbox)
{
    struct buf *ids = &packing->columns[COLUMN_IDS];
    size_t at = 0;
    while (at < ids->size && load_u64(ids->data + at) != mailbox)
        at += 8;
    buf_varint(&packing->columns[COLUMN_MAILBOX], at < ids->size ? at / 8 + 1 : 0);
    if (at == ids->size)
        buf_u64(ids, mailbox);
}

static void pack_body(struct archive_packing *packing, const struct entry *entry,
                      const struct archive_use *uses, size_t count)
{
    struct buf *columns = packing->columns;
    struct buf *out = &packing->columns[COLUMN_BODY + entry->kind];
    struct bytes body = entry->body;
    size_t end = 0;
    buf_varint(&columns[COLUMN_STRINGS], count);
    buf_varint(out, body.size - count * ARCHIVE_STRING_SIZE);
    for (size_t i = 0; i < count; i++) {
        buf_varint(&columns[COLUMN_GAPS], uses[i].offset - end);
        buf_varint(&columns[COLUMN_BACK], packing->next_string - uses[i].string);
        packing->next_string += uses[i].string == packing->next_string;
        buf_put(out, body.data + end, uses[i].offset - end);
        end = uses[i].offset + ARCHIVE_STRING_SIZE;
    }
    buf_put(out, body.data + end, body.size - end);
}

void archive_pack(struct archive_packing *packing, const struct entry *entry,
                  struct journal_point before, const struct archive_use *uses, size_t count)
{
    struct buf *columns = packing->columns;
    buf_u64(&columns[COLUMN_DIGEST], entry->digest);
    buf_u8(&columns[COLUMN_KIND], (uint8_t)(entry->kind << 1 | (entry->end_of_commit ? 1u : 0u)));
    buf_varint(&columns[COLUMN_STEP], entry->modseq - before.position.modseq);
    uint64_t later = (uint64_t)entry->time - (uint64_t)before.time;
    buf_varint(&columns[COLUMN_TIME], later >> 16);
    buf_u8(&columns[COLUMN_TIME_LOW], (uint8_t)later);
    buf_u8(&columns[COLUMN_TIME_LOW], (uint8_t)(later >> 8));
    buf_varint(&columns[COLUMN_EPOCH], entry->epoch);
    pack_mailbox(packing, entry->mailbox);
    buf_varint(&columns[COLUMN_PREVIOUS], entry->modseq - entry->previous);
    buf_bytes(&columns[COLUMN_ACTOR], entry->actor);
    pack_body(packing, entry, uses, count);
}

/* All columns but the first, each with its size before it. */
static int join_columns(struct archive_packing *packing, struct buf *packed)
{
    bool failed = false;
    for (unsigned i = COLUMN_DIGEST + 1; i < COLUMN_COUNT; i++) {
        failed = failed || packing->columns[i].failed;
        buf_bytes(packed, buf_view(&packing->columns[i]));
        buf_reset(&packing->columns[i]);
    }
    return failed || packed->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int deflate_to(struct bytes packed, struct buf *out)
{
    struct libdeflate_compressor *compressor = libdeflate_alloc_compressor(LEVEL);
    if (!compressor)
        return fail(ERR_NOMEM, "out of memory");
    size_t start = out->size;
    size_t bound = libdeflate_zlib_compress_bound(compressor, packed.size);
    uint8_t *room = buf_reserve(out, bound);
    size_t size =
        room ? libdeflate_zlib_compress(compressor, packed.data, packed.size, room, bound) : 0;
    libdeflate_free_compressor(compressor);
    out->size = start + size;
    return size ? ERR_OK : fail(ERR_NOMEM, "out of memory");
}

int archive_deflate(struct archive_packing *packing, struct buf *out, struct archive_block *block)
{
    struct buf packed = {0};
    struct buf *digests = &packing->columns[COLUMN_DIGEST];
    size_t start = out->size;
    buf_put(out, digests->data, digests->size);
    int rc = digests->failed ? fail(ERR_NOMEM, "out of memory") : join_columns(packing, &packed);
    if (rc == ERR_OK)
        rc = deflate_to(buf_view(&packed), out);
    block->packed = (uint32_t)packed.size;
    buf_free(&packed);
    if (rc)
        return rc;
    buf_reset(digests);
    block->stored = (uint32_t)(out->size - start);
    block->crc = hash_crc32(out->data + start, block->stored);
    return ERR_OK;
}

/* A block on its way out. */
struct unpacking {
    struct reader columns[COLUMN_COUNT];
    struct buf packed;
    struct buf body;
    struct buf ids; /* of mailboxes */
    uint32_t next_string;
    archive_fetch *fetch;
    void *arg;
};

static int malformed(void)
{
    return fail(ERR_CORRUPT, "a malformed entry");
}

static uint64_t unpack_mailbox(struct unpacking *block)
{
    struct reader *in = &block->columns[COLUMN_MAILBOX];
    uint64_t which = read_varint(in);
    if (which == 0) {
        uint64_t id = read_u64(&block->columns[COLUMN_IDS]);
        buf_u64(&block->ids, id);
        return id;
    }
    in->failed = in->failed || which > block->ids.size / 8;
    return in->failed ? 0 : load_u64(block->ids.data + (which - 1) * 8);
}

static int unpack_string(struct unpacking *block, uint64_t back)
{
    uint8_t string[ARCHIVE_STRING_SIZE];
    if (back > block->next_string || block->next_string == UINT32_MAX ||
        block->body.size > ENTRY_MAX_SIZE)
        return malformed();
    int rc = block->fetch(block->arg, block->next_string - (uint32_t)back, string);
    if (rc)
        return rc;
    block->next_string += back == 0;
    buf_put(&block->body, string, sizeof string);
    return ERR_OK;
}

static void move(struct unpacking *block, struct reader *rest, uint64_t size)
{
    struct bytes some = read_view(rest, size);
    buf_put(&block->body, some.data, some.size);
}

static int unpack_body(struct unpacking *block, enum entry_kind kind)
{
    struct reader *columns = block->columns;
    struct reader rest = reader_of(read_bytes(&block->columns[COLUMN_BODY + kind]));
    uint64_t count = read_varint(&columns[COLUMN_STRINGS]);
    buf_reset(&block->body);
    for (uint64_t i = 0; i < count; i++) {
        move(block, &rest, read_varint(&columns[COLUMN_GAPS]));
        uint64_t back = read_varint(&columns[COLUMN_BACK]);
        if (columns[COLUMN_GAPS].failed || columns[COLUMN_BACK].failed || rest.failed)
            return malformed();
        int rc = unpack_string(block, back);
        if (rc)
            return rc;
    }
    move(block, &rest, reader_left(&rest));
    return block->body.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

/* How much later than the one before. */
static uint64_t unpack_time(struct unpacking *block)
{
    struct reader *low = &block->columns[COLUMN_TIME_LOW];
    struct reader *high = &block->columns[COLUMN_TIME];
    uint64_t first = read_u8(low);
    uint64_t second = read_u8(low);
    uint64_t rest = read_varint(high);
    high->failed = high->failed || rest > UINT64_MAX >> 16;
    return first | second << 8 | rest << 16;
}

static bool columns_failed(const struct unpacking *block)
{
    bool failed = false;
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        failed = failed || block->columns[i].failed;
    return failed;
}

static int unpack_one(struct unpacking *block, struct journal_point *before, struct buf *entries)
{
    struct reader *columns = block->columns;
    struct entry entry = {0};
    uint8_t kind = read_u8(&columns[COLUMN_KIND]);
    if (kind >> 1 >= ENTRY_KIND_COUNT)
        return malformed();
    int rc = unpack_body(block, (enum entry_kind)(kind >> 1));
    if (rc)
        return rc;
    uint64_t step = read_varint(&columns[COLUMN_STEP]);
    uint64_t since = read_varint(&columns[COLUMN_PREVIOUS]);
    entry.digest = read_u64(&columns[COLUMN_DIGEST]);
    entry.kind = (enum entry_kind)(kind >> 1);
    entry.end_of_commit = kind & 1u;
    entry.modseq = before->position.modseq + step;
    entry.time = (int64_t)((uint64_t)before->time + unpack_time(block));
    entry.epoch = read_varint32(&columns[COLUMN_EPOCH]);
    entry.mailbox = unpack_mailbox(block);
    entry.previous = entry.modseq - since;
    entry.actor = read_bytes(&columns[COLUMN_ACTOR]);
    entry.body = buf_view(&block->body);
    if (columns_failed(block) || step == 0 || entry.modseq < step || entry.time < before->time ||
        since == 0 || since > entry.modseq)
        return malformed();
    rc = entry_encode(entries, &entry, before->position.chain);
    if (rc)
        return rc == ERR_INVALID ? malformed() : rc;
    before->position = (struct position){.modseq = entry.modseq, .chain = entry.chain};
    before->time = entry.time;
    return ERR_OK;
}

static int split_columns(struct unpacking *out, struct bytes digests)
{
    struct reader in = reader_of(buf_view(&out->packed));
    out->columns[COLUMN_DIGEST] = reader_of(digests);
    for (unsigned i = COLUMN_DIGEST + 1; i < COLUMN_COUNT; i++)
        out->columns[i] = reader_of(read_bytes(&in));
    return reader_done(&in) ? ERR_OK : fail(ERR_CORRUPT, "its columns are malformed");
}

static int inflate_to(struct bytes stored, size_t size, struct buf *out)
{
    struct libdeflate_decompressor *decompressor = libdeflate_alloc_decompressor();
    uint8_t *room = buf_reserve(out, size);
    if (!decompressor || !room) {
        libdeflate_free_decompressor(decompressor);
        return fail(ERR_NOMEM, "out of memory");
    }
    enum libdeflate_result result =
        libdeflate_zlib_decompress(decompressor, stored.data, stored.size, room, size, NULL);
    libdeflate_free_decompressor(decompressor);
    return result == LIBDEFLATE_SUCCESS ? ERR_OK : fail(ERR_CORRUPT, "it does not inflate");
}

static int inflate_block(struct bytes stored, const struct archive_block *block,
                         struct unpacking *out)
{
    size_t digests = (size_t)block->entries * DIGEST_SIZE;
    if (stored.size != block->stored || hash_crc32(stored.data, stored.size) != block->crc ||
        digests > stored.size)
        return fail(ERR_CORRUPT, "CRC-32 does not match");
    struct bytes deflated = bytes_of(stored.data + digests, stored.size - digests);
    int rc = inflate_to(deflated, block->packed, &out->packed);
    return rc ? rc : split_columns(out, bytes_of(stored.data, digests));
}

static bool columns_done(const struct unpacking *block)
{
    bool done = true;
    for (unsigned i = 0; i < COLUMN_COUNT; i++)
        done = done && reader_done(&block->columns[i]);
    return done;
}

int archive_unpack(struct bytes stored, const struct archive_block *block,
                   struct journal_point after, archive_fetch *fetch, void *arg, struct buf *entries,
                   struct archive_place *places)
{
    struct unpacking out = {.next_string = block->first_string, .fetch = fetch, .arg = arg};
    struct journal_point at = block->before;
    int rc = inflate_block(stored, block, &out);
    for (uint32_t i = 0; i < block->entries && rc == ERR_OK; i++) {
        places[i].offset = entries->size;
        rc = unpack_one(&out, &at, entries);
        places[i].modseq = at.position.modseq;
    }
    if (rc == ERR_OK && (!columns_done(&out) || !point_equal(at, after)))
        rc = fail(ERR_CORRUPT, "its entries are not chained to what is behind them");
    buf_free(&out.packed);
    buf_free(&out.body);
    buf_free(&out.ids);
    return rc;
}
