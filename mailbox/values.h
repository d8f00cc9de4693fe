/* What users would miss after a failover beside mail: seen sets of users who do not own a mailbox,
 * and meta values (RFC 5464).
 *
 * Rows are keyed by mailbox id, so that they follow a mailbox through renames, and carry modseq and
 * time; a removed meta value leaves a tombstone. Each row has a share of its mailbox's (or the
 * store's) digest.
 */
#ifndef SHIPLOG_MAILBOX_VALUES_H
#define SHIPLOG_MAILBOX_VALUES_H

#include "base/db.h"
#include "base/uidset.h"
#include "mailbox/change.h"

/* A user's seen set. VALUE_NONE: the user never changed any; *seen is empty then. `seen` may be
 * NULL. */
int seen_get(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct uidset *seen,
             struct versioned *version);
int seen_put(struct db_txn *txn, uint64_t mailbox, struct bytes user, const struct uidset *seen,
             struct former version);
/* 0 for an empty set: to have seen nothing is to have no set. */
uint64_t seen_digest(struct bytes user, const struct uidset *seen, struct former version);

/* A meta value. `user` empty: shared; mailbox 0: the store's. The value is valid as db_get()'s are.
 */
int meta_get(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct bytes key,
             struct versioned *value);
int meta_put(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct bytes key,
             const struct versioned *value);
uint64_t meta_digest(struct bytes user, struct bytes key,
                     const struct versioned *value); /* 0 unless VALUE_SET */

/* Rows of one mailbox in key order. `row` starts empty and names where to go on; free it with
 * buf_free(). ERR_END: no more. Views are valid as db_get()'s. */
int seen_next(struct db_txn *txn, uint64_t mailbox, struct buf *row, struct bytes *user,
              struct uidset *seen, struct versioned *version);
int meta_next(struct db_txn *txn, uint64_t mailbox, struct buf *row, struct bytes *user,
              struct bytes *key, struct versioned *value);
/* The sum of their items: these rows' share of a digest. */
int values_digest(struct db_txn *txn, uint64_t mailbox, uint64_t *items, uint64_t *rows);
/* Removes every row of a purged mailbox. */
int values_delete_all(struct db_txn *txn, uint64_t mailbox);

#endif
