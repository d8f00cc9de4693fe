/* The bytes of one archive file: a header, blocks of packed and deflated entries, an index of the
 * blocks (docs/FORMAT.md). Pure functions over bytes; journal/archive.h knows the files.
 *
 * An entry is packed without what the others tell: its chain and CRC-32 are made again when it is
 * unpacked, and the chain at the end of a block proves that every entry in it is byte for byte the
 * one that was packed.
 */
#ifndef SHIPLOG_JOURNAL_ARCHIVE_FILE_H
#define SHIPLOG_JOURNAL_ARCHIVE_FILE_H

#include "journal/entry.h"

#define ARCHIVE_VERSION 1u
#define ARCHIVE_HEADER_SIZE 104u
#define ARCHIVE_ROW_SIZE 40u            /* of the index */
#define ARCHIVE_BLOCK_SIZE (64u << 10)  /* packed bytes after which a block ends */
#define ARCHIVE_BLOCK_MAX (4u << 20)    /* packed bytes; more is refused on reading */
#define ARCHIVE_BLOCKS_MAX (256u << 10) /* in one file */

/* An entry's place and time; also the place before the first entry of something. */
struct journal_point {
    struct position position;
    int64_t time;
};

struct archive_header {
    uint64_t store_id;
    struct journal_point base; /* of the entry before the first */
    struct journal_point last;
    uint64_t entries;
    uint64_t bytes; /* of the entries, encoded */
    uint32_t blocks;
    uint64_t index_at; /* offset of the index; it is the end of the file */
    uint32_t index_crc;
};

struct archive_block {
    struct journal_point before; /* of the entry before its first */
    uint64_t at;                 /* offset of its stored bytes */
    uint32_t stored;             /* bytes, deflated */
    uint32_t packed;             /* bytes, inflated */
    uint32_t entries;
    uint32_t crc; /* of the stored bytes */
};

void archive_header_encode(const struct archive_header *header, uint8_t out[ARCHIVE_HEADER_SIZE]);
/* `file_size`: of the whole file. ERR_CORRUPT, ERR_NEWER. */
int archive_header_decode(struct bytes from, uint64_t file_size, struct archive_header *header);

void archive_row_encode(const struct archive_block *block, struct buf *out);
/* Decodes the whole index to `blocks`, room for header->blocks. ERR_CORRUPT. */
int archive_index_decode(struct bytes from, const struct archive_header *header,
                         struct archive_block *blocks);

/* Where an entry of an unpacked block is. */
struct archive_place {
    uint64_t modseq;
    size_t offset;
};

/* Appends an entry's packed form to a block whose last entry, or the one before it, is at `before`.
 */
void archive_pack(struct buf *packed, const struct entry *entry, struct journal_point before);
/* Deflates packed entries to the end of `out` and sets the block's sizes and CRC-32. */
int archive_deflate(struct bytes packed, struct buf *out, struct archive_block *block);
/* Unpacks a block's stored bytes to encoded entries, one behind another, with the place of each in
 * `places` (room for block->entries). `after` is where it must end. ERR_CORRUPT. */
int archive_unpack(struct bytes stored, const struct archive_block *block,
                   struct journal_point after, struct buf *entries, struct archive_place *places);

#endif
