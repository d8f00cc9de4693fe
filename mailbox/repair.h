/* Making a replica equal to its upstream, mailbox by mailbox: the steps within its store. Who
 * fetches what they need is agent/make_equal.c.
 *
 * First the journal: it is taken back to the last position that both share (repair_rewind()), or
 * begun anew behind the upstream's last entry (repair_reset()); every mailbox that is not as it
 * should be then stops. Then each stopped mailbox: changed in place when the differences fit one
 * transaction, else built beside under another local number, in bounded transactions, and switched
 * to in one. What is left behind is garbage and removed bit by bit.
 *
 * Each step is a transaction of its own or several bounded ones, and may be cut off and run again.
 * Steps that change anything are refused (ERR_REFUSED) when the node is no replica any more.
 */
#ifndef SHIPLOG_MAILBOX_REPAIR_H
#define SHIPLOG_MAILBOX_REPAIR_H

#include "mailbox/merge.h"
#include "mailbox/stop.h"

/* Writes the journal's entries above `after` to a file in the store's directory "aside/", as they
 * are, one behind another: `log --file` reads it. *path: the file, NULL when
 * there is nothing to keep; free() it. */
int repair_set_aside(struct store *store, uint64_t after, char **path);

/* Takes the journal from `from`, where it must end, back to `at`, which it holds; mailboxes that
 * changed above it stop. `epoch`: the one at `at`. */
int repair_rewind(struct store *store, struct position from, struct position at,
                  struct epoch_id epoch, const char *reason);

/* A mailbox of the upstream's, as of where the journal begins anew. */
struct repair_mailbox {
    uint64_t id;
    uint64_t digest;     /* 0: it has changed since */
    uint64_t lastmodseq; /* as of the digest */
    enum mailbox_state state;
    struct name name;
};
struct repair_reset {
    struct position from; /* where the journal must end */
    uint64_t store_id;
    const struct owner *owner; /* of the store */
    struct position at;
    int64_t time; /* of the entry there */
    struct epoch_id epoch;
    const struct repair_mailbox *mailboxes; /* in the order of ids */
    size_t count;
    const struct mark *marks; /* the upstream's; those behind `at` are passed over */
    size_t mark_count;
    uint64_t since; /* this node's mailboxes are the upstream's as of this modseq, but for what
                       this node changed; 0: not known */
    const char *reason;
};
/* Begins the journal anew, with the upstream's marks instead of this node's. Mailboxes that the
 * upstream does not have are removed. */
int repair_reset(struct store *store, const struct repair_reset *reset);

/* Adds what the upstream knows of epochs. */
int repair_learn(struct store *store, const struct epoch *epochs, size_t count);

/* What is to become of a mailbox: what the upstream has, as of one moment. */
struct repair_change {
    struct header header;     /* the upstream's */
    struct epoch_id epoch;    /* the upstream's at that moment */
    const struct mark *marks; /* the upstream's, about any mailbox */
    size_t mark_count;
    uint64_t as_of;                  /* modseq of the journal at that moment */
    const struct merge_other *other; /* its records, keywords and values: those that differ */
    const struct uidset *gone;       /* live here, and nothing there */
    uint64_t floor;                  /* what was expunged up to here may be missing */
    bool all_values;                 /* values that are not in `other` are removed */
    struct draft **drafts;           /* content that came with it */
    size_t draft_count;
    /* What repair_count() said; nobody changes a stopped mailbox. */
    struct header counted;
    uint64_t *expunged; /* is set to how many live messages went; may be NULL */
};
/* Changes the mailbox in one transaction, and lets it be followed behind `as_of`. ERR_DIFFERS: it
 * would not become what the upstream's digest says; nothing was changed then. */
int repair_apply(struct store *store, const struct repair_change *change);

/* Building beside: begins anew under another number, which is kept in the mailbox's stop.
 * `counted`: what repair_count() said of the rows until now. */
int repair_begin_beside(struct store *store, uint64_t mailbox, const struct header *counted,
                        uint32_t *number);
/* Copies this node's own rows there, from UID *from on, in one bounded transaction; *from 0: done.
 */
int repair_copy_beside(struct store *store, uint64_t mailbox, uint32_t number, uint32_t *from);
/* Puts records there, instead of those that are there, and removes others. Bounded by its input. */
int repair_put_beside(struct store *store, uint32_t number, const struct merge_other *other,
                      const struct uidset *gone, struct draft **drafts, size_t draft_count,
                      uint64_t *expunged);

/* Counts of the records that repair_apply() will change: under the number beside, if there is one.
 * `damaged` is set to those that cannot be read and are not in the counts, nor in `sums`. */
int repair_count(struct store *store, uint64_t mailbox, struct header *counted,
                 struct uidset *damaged, const struct record_sums *sums);

/* The mailbox does not exist at the upstream: it goes. */
int repair_remove(struct store *store, uint64_t mailbox);
/* The store's own meta values become the upstream's. */
int repair_values(struct store *store, const struct merge_other *other, struct epoch_id epoch,
                  uint64_t as_of);

/* Removes what repairs left behind, in bounded transactions. Where they met damage references to
 * content are counted anew, in one transaction that looks at all records. */
int repair_sweep(struct store *store);

#endif
