/* The store's table of keyword sets: hash → names. Sets are never removed; a mailbox has few
 * distinct ones. */
#ifndef SHIPLOG_MAILBOX_KEYWORDS_H
#define SHIPLOG_MAILBOX_KEYWORDS_H

#include "base/db.h"

/* Makes sure that this canonical set is in the table. ERR_INVALID if another set has the same hash.
 */
int keywords_intern(struct db_txn *txn, struct bytes set);
/* The canonical set with this hash; valid as db_get()'s values. ERR_CORRUPT if it is missing or
 * damaged. */
int keywords_lookup(struct db_txn *txn, uint64_t hash, struct bytes *set);

#endif
