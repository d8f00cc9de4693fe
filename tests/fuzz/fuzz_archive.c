/* Archive files, as a damaged disk or a stranger may give them: header, index, blocks. CRCs are
 * made right first, or nothing would get past them. A block that unpacks packs to the same bytes.
 */
#include "base/hash.h"
#include "journal/archive_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PACKED_MOST (1u << 20) /* what a few stored bytes may claim is not worth the time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void pack_again(const struct archive_block *block, struct bytes entries,
                       const struct archive_place *places)
{
    struct buf packed = {0};
    struct journal_point at = block->before;
    for (uint32_t i = 0; i < block->entries; i++) {
        struct entry entry;
        size_t end = i + 1 < block->entries ? places[i + 1].offset : entries.size;
        if (entry_decode(bytes_of(entries.data + places[i].offset, end - places[i].offset),
                         &entry) != 0 ||
            entry.modseq != places[i].modseq)
            abort();
        archive_pack(&packed, &entry, at);
        at = (struct journal_point){{entry.modseq, entry.chain}, entry.time};
    }
    if (packed.failed || packed.size != block->packed)
        abort();
    buf_free(&packed);
}

static void try_block(struct bytes file, struct archive_block block, struct journal_point after)
{
    struct buf entries = {0};
    if (block.packed > PACKED_MOST)
        return;
    struct archive_place *places = calloc(block.entries, sizeof *places);
    struct bytes stored = bytes_of(file.data + block.at, block.stored);
    block.crc = hash_crc32(stored.data, stored.size);
    if (places && archive_unpack(stored, &block, after, &entries, places) == 0)
        pack_again(&block, buf_view(&entries), places);
    buf_free(&entries);
    free(places);
}

static void try_file(struct bytes file)
{
    struct archive_header header;
    if (archive_header_decode(bytes_of(file.data, ARCHIVE_HEADER_SIZE), file.size, &header) != 0)
        return;
    struct bytes index = bytes_of(file.data + header.index_at, file.size - header.index_at);
    struct archive_block *blocks = calloc(header.blocks, sizeof *blocks);
    header.index_crc = hash_crc32(index.data, index.size);
    if (blocks && archive_index_decode(index, &header, blocks) == 0)
        for (uint32_t i = 0; i < header.blocks; i++)
            try_block(file, blocks[i], i + 1 < header.blocks ? blocks[i + 1].before : header.last);
    free(blocks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < ARCHIVE_HEADER_SIZE)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    save_u32(copy + ARCHIVE_HEADER_SIZE - 4, hash_crc32(copy, ARCHIVE_HEADER_SIZE - 4));
    try_file(bytes_of(copy, size));
    free(copy);
    return 0;
}
