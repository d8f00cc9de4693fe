/* Epochs: which node was master from which entry on. They form a tree, small, replicated, kept for
 * ever. Marks: what merges took in of other branches of that tree; kept like the epochs. */
#ifndef SHIPLOG_JOURNAL_EPOCH_H
#define SHIPLOG_JOURNAL_EPOCH_H

#include "base/db.h"
#include "journal/entry.h"

/* Epochs compare by number, then by node. Number 0 is no epoch. */
struct epoch_id {
    uint32_t number;
    uint64_t node;
};

struct epoch {
    struct epoch_id id;
    struct epoch_id parent;
    struct position before; /* of the entry before its first */
    uint64_t first;         /* modseq of its first entry, which is of kind epoch */
    int64_t time;
};

int epoch_compare(struct epoch_id a, struct epoch_id b);                    /* <0, 0, >0 */
int epoch_get(struct db_txn *txn, struct epoch_id id, struct epoch *epoch); /* ERR_END: not known */
int epoch_put(struct db_txn *txn, const struct epoch *epoch);
/* In ascending order; *id starts at zero and is advanced. ERR_END: no more. */
int epoch_next(struct db_txn *txn, struct epoch_id *id, struct epoch *epoch);
/* Of all that are known or were met; 0: none. */
int epoch_highest(struct db_txn *txn, uint32_t *number);
/* Others are in an epoch of this number that is not known here: whatever is opened next is to be
 * later. */
int epoch_meet(struct db_txn *txn, uint32_t number);

/* One epoch's bytes within an entry or a message. */
void epoch_encode(const struct epoch *epoch, struct buf *out);
int epoch_decode(struct reader *from, struct epoch *epoch); /* ERR_CORRUPT */

/* The body of an epoch entry. Texts are views. */
struct epoch_body {
    uint64_t node;
    struct epoch_id parent;
    struct bytes owner;  /* of the store */
    struct bytes reason; /* why it was opened, for people */
};
void epoch_body_encode(const struct epoch_body *body, struct buf *out);
int epoch_body_decode(struct bytes from, struct epoch_body *body); /* ERR_CORRUPT */

/* A merge's note of what it took in: everything up to `taken`, a position of `epoch`.
 *
 * Where a repair was given up, an epoch begins whose mailboxes are of different moments: then a
 * mark that stands at the epoch's own entry says of a mailbox (0: of the store's own values) which
 * it began with: as `epoch` had it at `taken`, of which only the modseq counts; number 0: with
 * nothing that is known. Elsewhere the epoch's parent says so. Who takes in a branch with such an
 * epoch notes with a mark about no mailbox, MARK_EPOCH, that it began anew with its entry `taken`.
 */
#define MARK_EPOCH UINT64_MAX
struct mark {
    uint64_t mailbox;      /* id; 0: the whole store */
    uint64_t modseq;       /* of the mark's own entry */
    struct epoch_id epoch; /* of the branch that was taken in */
    struct position taken;
};
int mark_put(struct db_txn *txn, const struct mark *mark);
/* *taken of the one with this mailbox, modseq and epoch. ERR_END: there is none. */
int mark_get(struct db_txn *txn, const struct mark *mark, struct position *taken);
int mark_drop(struct db_txn *txn, const struct mark *mark); /* ERR_END: there was none */
/* In the order of mailboxes, modseqs, epochs; *mark starts at zero and is advanced. ERR_END: no
 * more. */
int mark_next(struct db_txn *txn, struct mark *mark);

/* The body of a mark entry behind its facts: what is taken in, first the other branch itself, then
 * what it had taken in before; and the epochs of the other branch, so that every node learns them.
 * Of `marks` only epochs and positions are written, and mailboxes, 0 being the entry's own. */
#define MARK_BODY_MARKS_MAX 4096u
#define MARK_BODY_EPOCHS_MAX 4096u
void mark_body_encode(const struct mark *marks, size_t mark_count, const struct epoch *epochs,
                      size_t epoch_count, struct buf *out);
/* ERR_CORRUPT; or what one of these returned. */
int mark_body_decode(struct bytes from, int (*each_mark)(const struct mark *mark, void *arg),
                     int (*each_epoch)(const struct epoch *epoch, void *arg), void *arg);

#endif
