/* What the parts of a repair share, all within a transaction; private to mailbox/. */
#ifndef SHIPLOG_MAILBOX_REPAIRING_H
#define SHIPLOG_MAILBOX_REPAIRING_H

#include "mailbox/repair.h"
#include "mailbox/tx.h"

/* store_maintain(), at a replica only. */
int repair_step(struct store *store, int (*work)(struct tx *tx, void *arg), void *arg);

/* The mailbox is as if it had never been here. Its box must not be open in this transaction. */
int repair_forget(struct tx *tx, const struct header *header);
/* Takes the mailbox's name out of the table of names, if it is the one that bears it. */
int repair_unname(struct tx *tx, const struct header *header);
/* Records under this local number are nobody's any more; 0: there are none. */
int repair_leave_number(struct tx *tx, uint32_t number);
/* The records of a mailbox that is purged become garbage. */
int repair_leave_records(struct tx *tx, struct box *box);
/* References to content are counted anew later on if the rows of a mailbox, as `counted`, are not
 * those that its header tells of. */
int repair_recount_if_damaged(struct tx *tx, const struct header *header,
                              const struct header *counted);
/* A repair is given up: its stops go, and marks at `modseq`, the entry that opens an epoch, say as
 * of what each of these mailboxes is. Those of which nothing is here go. No box may be open. */
int repair_give_up(struct tx *tx, uint64_t modseq);
/* Every mailbox that lost records waits for them as of the node's position. */
int repair_wait(struct tx *tx);

/* Content that came is there from now on; drafts may have holes. */
int repair_adopt(struct tx *tx, struct draft **drafts, size_t count);
/* What of it no record refers to goes again. */
int repair_drop_unused(struct tx *tx, struct draft **drafts, size_t count);
/* Puts records, and removes those of `gone`, which may be NULL, under the box's own number; counts
 * and digest in its header follow. *expunged, unless that is NULL: how many live ones went. */
int repair_put_records(struct tx *tx, struct box *box, const struct merge_other *other,
                       const struct uidset *gone, uint64_t *expunged);
/* Puts the mailbox's values, and removes others if `change` says so. */
int repair_put_values(struct tx *tx, struct box *box, const struct repair_change *change);
/* Puts one value, of the store if `id` is 0. *items: the digest of all, goes along. */
int repair_put_meta(struct tx *tx, uint64_t id, uint64_t *items, const struct merge_meta *meta);

#endif
