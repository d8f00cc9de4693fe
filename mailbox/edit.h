/* Making changes up at a master; private to mailbox/. */
#ifndef SHIPLOG_MAILBOX_EDIT_H
#define SHIPLOG_MAILBOX_EDIT_H

#include "mailbox/tx.h"

/* Begins a change of this box (NULL: of the store) in the transaction's own struct change: number,
 * time, facts as they are. ERR_REFUSED when the mailbox's state does not allow it. */
int edit_begin(struct tx *tx, struct box *box, enum entry_kind kind, struct change **change);
/* The same for what is done to a deleted mailbox on its way out. */
struct change *edit_begin_expiry(struct tx *tx, struct box *box, enum entry_kind kind);
/* Carries it out and journals it. A `visible` change raises HIGHESTMODSEQ. */
int edit_finish(struct tx *tx, struct box *box, struct change *change, bool visible);

/* Runs `each` over the live records among `uids`, until it fails. */
int edit_each_live(struct mailbox *mailbox, const struct uidset *uids,
                   int (*each)(struct mailbox *mailbox, const struct record *record, void *arg),
                   void *arg);

#endif
