/* Epochs: which node was master from which entry on. They form a tree, small, replicated, kept for
 * ever. */
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

/* The body of an epoch entry. Texts are views. */
struct epoch_body {
    uint64_t node;
    struct epoch_id parent;
    struct bytes owner;  /* of the store */
    struct bytes reason; /* why it was opened, for people */
};
void epoch_body_encode(const struct epoch_body *body, struct buf *out);
int epoch_body_decode(struct bytes from, struct epoch_body *body); /* ERR_CORRUPT */

#endif
