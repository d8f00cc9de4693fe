#include "journal/archive_file.h"

#include "base/err.h"
#include "base/hash.h"

#include <string.h>
#include <zlib.h>

#define MAGIC "shiplogA"
#define MAGIC_SIZE 8u
#define LEVEL 9 /* written once, read seldom */
/* The fewest bytes of a packed entry: what a block holds at most follows from its size. */
#define PACKED_LEAST 23u

static void put_point(struct buf *out, struct journal_point point)
{
    buf_u64(out, point.position.modseq);
    buf_u64(out, point.position.chain);
    buf_u64(out, (uint64_t)point.time);
}

static struct journal_point read_point(struct reader *in)
{
    struct journal_point point;
    point.position.modseq = read_u64(in);
    point.position.chain = read_u64(in);
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
    save_u32(at, header->index_crc);
    save_u32(at + 4, hash_crc32(out, ARCHIVE_HEADER_SIZE - 4));
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
    header->index_crc = read_u32(&in);
    uint32_t crc = read_u32(&in);
    if (!reader_done(&in) || crc != hash_crc32(from.data, ARCHIVE_HEADER_SIZE - 4))
        return fail(ERR_CORRUPT, "its header is damaged");
    if (version == 0 || header->blocks == 0 || header->blocks > ARCHIVE_BLOCKS_MAX ||
        header->index_at < ARCHIVE_HEADER_SIZE ||
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
    buf_u32(out, block->crc);
}

/* Whether a block can stand behind the one that began at `before` and reach `after`. */
static bool plausible(const struct archive_block *block, uint64_t modseq, int64_t time)
{
    return block->before.position.modseq < modseq && block->before.time <= time &&
           block->entries > 0 && block->packed <= ARCHIVE_BLOCK_MAX &&
           block->entries <= block->packed / PACKED_LEAST;
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
        block->crc = read_u32(&in);
        at += block->stored;
        entries += block->entries;
        if (i > 0)
            fits = plausible(&blocks[i - 1], block->before.position.modseq, block->before.time);
    }
    fits =
        fits && point_equal(blocks[0].before, header->base) &&
        plausible(&blocks[header->blocks - 1], header->last.position.modseq, header->last.time) &&
        at == header->index_at && entries == header->entries;
    return fits ? ERR_OK : fail(ERR_CORRUPT, "its index is damaged");
}

void archive_pack(struct buf *packed, const struct entry *entry, struct journal_point before)
{
    buf_u8(packed, (uint8_t)(entry->kind << 1 | (entry->end_of_commit ? 1u : 0u)));
    buf_varint(packed, entry->modseq - before.position.modseq);
    buf_varint(packed, (uint64_t)entry->time - (uint64_t)before.time);
    buf_varint(packed, entry->epoch);
    buf_varint(packed, entry->modseq - entry->previous);
    buf_u64(packed, entry->mailbox);
    buf_bytes(packed, entry->actor);
    buf_bytes(packed, entry->body);
    buf_u64(packed, entry->digest);
}

int archive_deflate(struct bytes packed, struct buf *out, struct archive_block *block)
{
    uLongf size = compressBound((uLong)packed.size);
    uint8_t *room = buf_reserve(out, size);
    if (!room)
        return fail(ERR_NOMEM, "out of memory");
    if (compress2(room, &size, packed.data, (uLong)packed.size, LEVEL) != Z_OK)
        return fail(ERR_NOMEM, "zlib: out of memory");
    out->size = (size_t)(room - out->data) + size;
    block->packed = (uint32_t)packed.size;
    block->stored = (uint32_t)size;
    block->crc = hash_crc32(room, size);
    return ERR_OK;
}

static int unpack_one(struct reader *in, struct journal_point *before, struct buf *entries)
{
    struct entry entry = {0};
    uint8_t kind = read_u8(in);
    uint64_t step = read_varint(in);
    uint64_t later = read_varint(in);
    entry.epoch = read_varint32(in);
    uint64_t since = read_varint(in);
    entry.mailbox = read_u64(in);
    entry.actor = read_bytes(in);
    entry.body = read_bytes(in);
    entry.digest = read_u64(in);
    entry.kind = (enum entry_kind)(kind >> 1);
    entry.end_of_commit = kind & 1u;
    entry.modseq = before->position.modseq + step;
    entry.time = (int64_t)((uint64_t)before->time + later);
    entry.previous = entry.modseq - since;
    if (in->failed || kind >> 1 >= ENTRY_KIND_COUNT || step == 0 || entry.modseq < step ||
        entry.time < before->time || since == 0 || since > entry.modseq)
        return fail(ERR_CORRUPT, "a malformed entry");
    int rc = entry_encode(entries, &entry, before->position.chain);
    if (rc)
        return rc == ERR_INVALID ? fail(ERR_CORRUPT, "a malformed entry") : rc;
    before->position = (struct position){.modseq = entry.modseq, .chain = entry.chain};
    before->time = entry.time;
    return ERR_OK;
}

static int inflate_block(struct bytes stored, const struct archive_block *block, struct buf *packed)
{
    uLongf size = block->packed;
    if (stored.size != block->stored || hash_crc32(stored.data, stored.size) != block->crc)
        return fail(ERR_CORRUPT, "CRC-32 does not match");
    uint8_t *room = buf_reserve(packed, size);
    if (!room)
        return fail(ERR_NOMEM, "out of memory");
    int z = uncompress(room, &size, stored.data, (uLong)stored.size);
    if (z == Z_MEM_ERROR)
        return fail(ERR_NOMEM, "out of memory");
    return z == Z_OK && size == block->packed ? ERR_OK : fail(ERR_CORRUPT, "it does not inflate");
}

int archive_unpack(struct bytes stored, const struct archive_block *block,
                   struct journal_point after, struct buf *entries, struct archive_place *places)
{
    struct buf packed = {0};
    struct journal_point at = block->before;
    int rc = inflate_block(stored, block, &packed);
    struct reader in = reader_of(buf_view(&packed));
    for (uint32_t i = 0; i < block->entries && rc == ERR_OK; i++) {
        places[i].offset = entries->size;
        rc = unpack_one(&in, &at, entries);
        places[i].modseq = at.position.modseq;
    }
    if (rc == ERR_OK && (!reader_done(&in) || !point_equal(at, after)))
        rc = fail(ERR_CORRUPT, "its entries are not chained to what is behind them");
    buf_free(&packed);
    return rc;
}
