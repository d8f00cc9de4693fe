/* How content lies in LMDB: chunks under a number. Private to content.c and draft.c. */
#ifndef SHIPLOG_MAILBOX_CHUNKS_H
#define SHIPLOG_MAILBOX_CHUNKS_H

#include "base/db.h"

/* The largest chunk's bytes: 16 pages, less LMDB's header of a run of pages and the CRC-32. */
#define CHUNK_MAX_SIZE (16u * 4096u - 16u - 4u)

/* How many of `left` bytes the next chunk takes: the most that fills whole pages, and a small rest
 * goes inside a leaf page. */
size_t chunk_size(size_t left);
/* Writes chunk number `chunk` (from 0) of content `number`, with its CRC-32. */
int chunk_put(struct db_txn *txn, uint64_t number, uint32_t chunk, const uint8_t *data,
              size_t size);
/* Removes chunks from *chunk on, `most` at the most, and moves *chunk behind them. ERR_END: there
 * are no more. */
int chunks_remove(struct db_txn *txn, uint64_t number, uint32_t *chunk, uint32_t most);
int chunks_remove_all(struct db_txn *txn, uint64_t number);

/* The number of new content; none is given out twice. ERR_CORRUPT. */
int content_take_number(struct db_txn *txn, uint64_t *number);

#endif
