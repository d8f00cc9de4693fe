/* What is left to be done away with, bit by bit: records under local numbers that nobody has any
 * more, and reference counts that damage has made doubtful. */
#ifndef SHIPLOG_MAILBOX_GARBAGE_H
#define SHIPLOG_MAILBOX_GARBAGE_H

#include "base/bytes.h"
#include "base/db.h"

/* A row: a local number, 0 when references are to be counted. ERR_CORRUPT: never trust it, a live
 * mailbox may have such a number. */
int garbage_decode(struct bytes key, struct bytes value, uint32_t *number);

/* Records under this local number are nobody's any more. */
int garbage_put(struct db_txn *txn, uint32_t number);
int garbage_drop(struct db_txn *txn, uint32_t number);
/* The first one at or above *number, but 0. Rows that cannot be read are passed over: a check tells
 * them. ERR_END: none. */
int garbage_next(struct db_txn *txn, uint32_t *number);

/* References have to be counted anew: records were found lost, or such that cannot be read. */
int garbage_recount(struct db_txn *txn);
int garbage_recount_due(struct db_txn *txn, bool *due);
int garbage_recounted(struct db_txn *txn);

#endif
