/* Content that damage took: records refer to it, it cannot be read here or at the master either,
 * and whoever has it is asked for it at the next contact.
 *
 * A mark goes when the content comes, or when nothing refers to it any more. Content that merely
 * has not arrived yet, or belongs to a tombstone that another node made, bears no mark.
 */
#ifndef SHIPLOG_MAILBOX_LACKING_H
#define SHIPLOG_MAILBOX_LACKING_H

#include "base/db.h"
#include "base/hash.h"

int lacking_mark(struct db_txn *txn, const struct guid *guid);
int lacking_unmark(struct db_txn *txn, const struct guid *guid); /* no mark is no error */
int lacking_count(struct db_txn *txn, uint64_t *count);
/* Up to `most` of them in order, behind *after. Rows that cannot be read are passed over: a check
 * tells them. */
int lacking_list(struct db_txn *txn, const struct guid *after, struct guid *guids, size_t most,
                 size_t *count);
/* Of the table of state's rows. */
bool lacking_is_mark(struct bytes key);
int lacking_decode(struct bytes key, struct bytes value, struct guid *guid); /* ERR_CORRUPT */

#endif
