/* A draft: content on its way in. Feed it raw bytes (they are hashed and deflated) or deflated ones
 * (they are inflated and hashed, to prove what they are, and kept as they came).
 *
 * Small content is written in the transaction that refers to it; what deflates to more than
 * CONTENT_STAGE_SIZE is written before, in bounded transactions, and belongs to an owner that dies
 * with the process (base/lock.h), so that what a crash leaves behind is swept.
 *
 * Not thread-safe; drafts of one db may be used by different threads.
 */
#ifndef SHIPLOG_MAILBOX_DRAFT_H
#define SHIPLOG_MAILBOX_DRAFT_H

#include "mailbox/content.h"

#define CONTENT_STAGE_SIZE (1u << 20) /* deflated bytes that may wait in memory */

struct draft;
enum draft_form { DRAFT_RAW, DRAFT_DEFLATED };
int draft_open(struct db *db, enum draft_form form, struct draft **draft);
int draft_write(struct draft *draft, const void *data,
                size_t size); /* may commit a transaction of its own */
/* No more bytes. ERR_CORRUPT: deflated bytes that do not inflate. */
int draft_finish(struct draft *draft);
const struct guid *draft_guid(const struct draft *draft); /* after draft_finish() */
uint64_t draft_size(const struct draft *draft);           /* raw bytes so far */
uint64_t draft_stored(const struct draft *draft);         /* deflated bytes so far */
size_t draft_memory(const struct draft *draft);           /* deflated bytes that wait in memory */
/* Writes what waits in memory to the store now, so that these drafts of one db cost no memory: all
 * small ones in one transaction. NULLs are passed over. */
int draft_stage_all(struct draft **drafts, size_t count);
/* Within a write transaction: makes sure that the store has this content (finished drafts only). It
 * may be run again when the transaction was not committed. *introduced (may be NULL) tells whether
 * no record referred to it before. */
int draft_adopt(struct db_txn *txn, struct draft *draft, bool *introduced);
/* Frees it, and what it staged unless that was adopted. NULL is fine. */
void draft_close(struct draft *draft);
/* The same for many of one db, in few transactions; NULLs are passed over. */
void draft_close_all(struct draft **drafts, size_t count);

/* Removes staged content whose owner is dead; *swept tells how many (may be NULL). */
int draft_sweep(struct db *db, uint64_t *swept);
/* A row of the table of staged content; ERR_CORRUPT. */
int draft_staged_decode(struct bytes key, struct bytes value, uint64_t *number);

#endif
