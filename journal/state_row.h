/* Small rows of the table of state, each with its CRC-32 behind it. Threads: as the transaction. */
#ifndef SHIPLOG_JOURNAL_STATE_ROW_H
#define SHIPLOG_JOURNAL_STATE_ROW_H

#include "base/db.h"

#define STATE_ROW_MAX 64u /* bytes, without the CRC-32 */

/* Copies a row of `size` bytes. ERR_END: there is none; ERR_CORRUPT, which is told as `damaged`: a
 * sentence; as db_get(). */
int state_row_get(struct db_txn *txn, const char *key, void *row, size_t size, const char *damaged);
/* At most STATE_ROW_MAX bytes. As db_put(). */
int state_row_put(struct db_txn *txn, const char *key, const void *row, size_t size);

#endif
