/* The bytes of one archive file: a header, blocks of packed and deflated entries, strings that
 * entries share, an index of the blocks (docs/FORMAT.md). Pure functions over bytes;
 * journal/archive.h knows the files.
 *
 * An entry is packed without what the others tell: its chain and CRC-32 are made again when it is
 * unpacked, and the chain at the end of a block proves that every entry in it is byte for byte the
 * one that was packed. Strings that do not deflate and come more than once (GUIDs) are kept once in
 * a file; bodies refer to them by number.
 */
#ifndef SHIPLOG_JOURNAL_ARCHIVE_FILE_H
#define SHIPLOG_JOURNAL_ARCHIVE_FILE_H

#include "journal/entry.h"

#define ARCHIVE_VERSION 1u
#define ARCHIVE_HEADER_SIZE 108u
#define ARCHIVE_ROW_SIZE 44u /* of the index */
#define ARCHIVE_STRING_SIZE 32u
#define ARCHIVE_BLOCK_SIZE (128u << 10) /* packed bytes after which a block ends */
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
    uint32_t strings;  /* that entries share; they stand before the index */
    uint64_t index_at; /* offset of the index; it is the end of the file */
    uint32_t index_crc;
};

struct archive_block {
    struct journal_point before; /* of the entry before its first */
    uint64_t at;                 /* offset of its stored bytes */
    uint32_t stored;             /* bytes, deflated */
    uint32_t packed;             /* bytes, inflated, of what was deflated */
    uint32_t entries;
    uint32_t first_string; /* number of the first string that is new in it */
    uint32_t crc;          /* of the stored bytes */
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

/* Where a body has a shared string. */
struct archive_use {
    uint32_t offset; /* in the body; those of one entry in ascending order, without overlap */
    uint32_t string; /* its number: of those before, or the next new one */
};

/* What entries have in common stands together, so that it deflates: each thing in a column of its
 * own. The order is that on disk. */
enum archive_column {
    COLUMN_DIGEST,   /* u64 each; does not deflate, and is not */
    COLUMN_KIND,     /* u8: kind times two, and one more when the commit ends there */
    COLUMN_STEP,     /* varint: modseq less the one before */
    COLUMN_TIME,     /* varint: time less the one before, without its low 16 bits */
    COLUMN_TIME_LOW, /* u8, u8: these */
    COLUMN_EPOCH,    /* varint */
    COLUMN_MAILBOX,  /* varint: which of those below, from 1; 0: the next of them */
    COLUMN_IDS,      /* u64: the mailboxes, each once */
    COLUMN_PREVIOUS, /* varint: modseq less that of the entry before about the same mailbox */
    COLUMN_ACTOR,    /* bytes */
    COLUMN_STRINGS,  /* varint: how many the body has */
    COLUMN_GAPS,     /* varint: of each the bytes between it and the one before */
    COLUMN_BACK,     /* varint: of each how far back it is from the next new one, or 0: that */
    COLUMN_BODY,     /* bytes, without the strings; from here on a column for each kind */
    COLUMN_COUNT = COLUMN_BODY + 16
};
_Static_assert(ENTRY_KIND_COUNT <= COLUMN_COUNT - COLUMN_BODY, "a column for each kind");

/* A block that is being filled. Zero-initialise; archive_packing_free(). */
struct archive_packing {
    struct buf columns[COLUMN_COUNT];
    uint32_t next_string; /* number of the next new one */
};
size_t archive_packing_size(const struct archive_packing *packing); /* bytes so far */
void archive_packing_free(struct archive_packing *packing);

/* Adds an entry to a block whose last entry, or the one before it, is at `before`. */
void archive_pack(struct archive_packing *packing, const struct entry *entry,
                  struct journal_point before, const struct archive_use *uses, size_t count);
/* Puts the block's stored bytes at the end of `out`, sets its sizes and CRC-32, and empties
 * `packing`. */
int archive_deflate(struct archive_packing *packing, struct buf *out, struct archive_block *block);

/* Gives a string by its number. ERR_CORRUPT when there is none. */
typedef int archive_fetch(void *arg, uint32_t string, uint8_t out[ARCHIVE_STRING_SIZE]);
/* Unpacks a block's stored bytes to encoded entries, one behind another, with the place of each in
 * `places` (room for block->entries). `after` is where it must end. ERR_CORRUPT; or what `fetch`
 * returned. */
int archive_unpack(struct bytes stored, const struct archive_block *block,
                   struct journal_point after, archive_fetch *fetch, void *arg, struct buf *entries,
                   struct archive_place *places);

#endif
