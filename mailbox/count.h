/* Counting a mailbox's rows anew: what its header should say. */
#ifndef SHIPLOG_MAILBOX_COUNT_H
#define SHIPLOG_MAILBOX_COUNT_H

#include "base/uidset.h"
#include "mailbox/header.h"
#include "mailbox/record.h"

/* A record that comes (1) into messages, unseen, bytes, tombstones and items of a header, or goes
 * out of them ((uint64_t)-1). */
void count_record(struct header *counted, const struct record *record, uint64_t sign);
/* Goes over all records: those fields of *counted; the rest of it is 0. `damaged` and `sums` as
 * with record_count(). */
int count_records(struct db_txn *txn, const struct header *header, struct header *counted,
                  struct uidset *damaged, const struct record_sums *sums);
/* Goes over all records, seen sets and meta values: messages, unseen, bytes, tombstones and items
 * of *counted; the rest of it is 0. ERR_CORRUPT: a row cannot be read. */
int count_mailbox(struct db_txn *txn, const struct header *header, struct header *counted);
/* Whether they are what the header says; a row that cannot be read means that they are not. */
int count_proves(struct db_txn *txn, const struct header *header, bool *sound);

#endif
