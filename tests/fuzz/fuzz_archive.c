/* Archive files, as a damaged disk or a stranger may give them: header, index, blocks. CRCs are
 * made right first, or nothing would get past them. What unpacks is whole entries. */
#include "base/hash.h"
#include "journal/archive_file.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PACKED_MOST (1u << 20) /* what a few stored bytes may claim is not worth the time */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct file {
    struct bytes bytes;
    struct archive_header header;
};

static int fetch(void *arg, uint32_t string, uint8_t out[ARCHIVE_STRING_SIZE])
{
    const struct file *file = arg;
    if (string >= file->header.strings)
        return -1;
    uint64_t behind = file->header.strings - string;
    memcpy(out, file->bytes.data + file->header.index_at - behind * ARCHIVE_STRING_SIZE,
           ARCHIVE_STRING_SIZE);
    return 0;
}

static void decode_all(const struct archive_block *block, struct bytes entries,
                       const struct archive_place *places)
{
    for (uint32_t i = 0; i < block->entries; i++) {
        struct entry entry;
        size_t end = i + 1 < block->entries ? places[i + 1].offset : entries.size;
        struct bytes one = bytes_of(entries.data + places[i].offset, end - places[i].offset);
        int rc = entry_decode(one, &entry);
        if (rc != 0 || entry.modseq != places[i].modseq)
            abort();
    }
}

static void try_block(struct file *file, struct archive_block block, struct journal_point after)
{
    struct buf entries = {0};
    if (block.packed > PACKED_MOST)
        return;
    struct archive_place *places = calloc(block.entries, sizeof *places);
    struct bytes stored = bytes_of(file->bytes.data + block.at, block.stored);
    block.crc = hash_crc32(stored.data, stored.size);
    if (places && archive_unpack(stored, &block, after, fetch, file, &entries, places) == 0)
        decode_all(&block, buf_view(&entries), places);
    buf_free(&entries);
    free(places);
}

static void try_file(struct bytes bytes)
{
    struct file file = {.bytes = bytes};
    struct archive_header *header = &file.header;
    if (archive_header_decode(bytes_of(bytes.data, ARCHIVE_HEADER_SIZE), bytes.size, header) != 0)
        return;
    struct bytes index = bytes_of(bytes.data + header->index_at, bytes.size - header->index_at);
    struct archive_block *blocks = calloc(header->blocks, sizeof *blocks);
    header->index_crc = hash_crc32(index.data, index.size);
    if (blocks && archive_index_decode(index, header, blocks) == 0)
        for (uint32_t i = 0; i < header->blocks; i++)
            try_block(&file, blocks[i],
                      i + 1 < header->blocks ? blocks[i + 1].before : header->last);
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
