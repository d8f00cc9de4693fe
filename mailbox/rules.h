/* Merge rules: what becomes of the messages of one mailbox that two nodes changed without knowing
 * of each other.
 *
 * Pure: two lists of records go in, a list of actions for the master comes out; no store, no clock,
 * no random numbers, so the same lists always give the same actions. M is the master, R the replica
 * whose changes are taken in; afterwards R is simply made equal to M. docs/MERGE.md has the table
 * with its reasons; rules.c has it as code.
 *
 * "By F" means made before the two went apart: an append modseq at or below that end's `base`.
 */
#ifndef SHIPLOG_MAILBOX_RULES_H
#define SHIPLOG_MAILBOX_RULES_H

#include "mailbox/record.h"

/* A record as one end has it, tombstones included. Views belong to the caller. */
struct merge_record {
    struct record record;  /* its keyword hash is not looked at */
    struct bytes keywords; /* canonical set */
    bool has_base; /* the flags at this end's base are known: undone from a journal. Where the
                      modseq proves that nothing changed, that is seen without it */
    uint32_t base_system; /* FLAG_… as of the base; of a record made after it: as appended */
    struct bytes base_keywords;
};

/* One end. `records`: in UID order; of every UID that stands in one of the two lists, both ends'
 * records are given, so that who is not in a list is absent at that end. A list may leave out UIDs
 * whose records are the same at both ends, but for tombstones with a successor that changed after
 * the base. The successors that tombstones name are given. */
struct merge_end {
    const struct merge_record *records;
    size_t count;
    uint32_t uidnext;      /* before the merge */
    uint32_t base_uidnext; /* UIDNEXT as of the base; 0: not known. Looked at only in the end whose
                              base is the lower of two that differ (it followed a side that a merge
                              took in): what the other end has at or above it, this end never had */
    uint64_t base;      /* modseq: the end's last entry that the other has, too. After a mark: R's
                           is the marked position, M's the mark's own modseq */
    uint64_t forgotten; /* the higher of DELETEDMODSEQ and the local floor */
    const struct uidset *expunged; /* UIDs that are dead there, as its journal says, whatever is
                                      missing; NULL: none */
    bool merged; /* it has taken in another node after its base (a mark of its own) */
    bool sound;  /* the digest recomputed from its records is its header's */
};

struct merge_input {
    struct merge_end master;
    struct merge_end replica;
    bool base_known; /* false: the two `base` are the highest append modseq that both ends prove to
                        share; above it nothing is expunged on a guess */
};

/* In the order in which a plan has them: whoever reads a record comes before whoever overwrites it.
 */
enum merge_kind {
    MERGE_HEAL, /* M lost `uid` by damage, or has it spoilt: R's record `from` goes back under it,
                   with its append modseq: it is the message that it was */
    MERGE_ADD,  /* R's message `from` is appended at M as `uid` with `system`, `keywords`. It is R's
                   own UID, or a new one (then R's old UID has an action of its own, if M does
                   not have it as a tombstone with a successor already) */
    MERGE_RENUMBER, /* M's live message `from` is appended as `uid` with `system`, `keywords`; the
                       old UID has an action of its own */
    MERGE_FLAGS,    /* M's live `uid` gets `system`, `keywords` */
    MERGE_EXPUNGE,  /* M's live `uid` becomes a tombstone; the message goes on as `other` (0: no) */
    MERGE_POINT,    /* M's tombstone `uid` gets the successor `other` */
    MERGE_BURY,     /* M has nothing under `uid`: a tombstone there, with the GUID of `from`, the
                       successor `other` (0: none), and an append modseq of now */
    MERGE_TOUCH     /* M's record or tombstone `uid` gets a new modseq, nothing else */
};

struct merge_action {
    enum merge_kind kind;
    uint32_t uid;
    uint32_t other;
    const struct merge_record *from; /* never NULL: M's record under `uid` as it was compared, but
                                        of RENUMBER the one that moves, of HEAL, ADD, BURY R's */
    uint32_t system;                 /* HEAL, ADD, RENUMBER, FLAGS */
    struct buf keywords;             /* likewise; owned by the plan */
};

/* One of R's live messages goes on as one of M's, under another UID than R's. */
struct merge_way {
    uint32_t from; /* R's UID */
    uint32_t to;   /* M's afterwards; 0: it dies there */
};

/* What is done at M, in an order in which it can be done one after another: by kind, then by UID,
 * but HEAL, ADD and RENUMBER together, so that UIDs are given out in ascending order. At most one
 * action of those that rewrite a record names a given UID. */
struct merge_plan {
    struct merge_action *actions;
    size_t count;
    size_t capacity;
    struct merge_way *ways; /* in UID order; not of mailboxes that were made independently */
    size_t way_count;
    uint32_t uidnext;     /* of M afterwards: never below either end's */
    uint64_t renumbered;  /* messages of either end that go on under another UID */
    uint64_t copied_back; /* R's messages that were added to M */
    uint64_t expunged;    /* live messages of either end that die here without going on */
    uint64_t damaged; /* records that one end had lost without evidence of an expunge, or spoilt:
                         R's (it gets them back when it is made equal) and M's (MERGE_HEAL) */
};

/* ERR_NOMEM; ERR_REFUSED: UIDs are used up; ERR_CORRUPT: a list is not in UID order. After an error
 * the plan is empty. A pair of equal lists without changes above the base gives an empty plan.
 * The input must outlive the plan. O(n log n). */
int merge_plan_make(const struct merge_input *input, struct merge_plan *plan);
/* The two mailboxes were made independently: UIDs mean nothing across the ends. Messages are
 * matched by GUID and multiplicity, in UID order; what only R has is added under new UIDs, above
 * both ends' UIDNEXT; flags of matched messages: the union. Bases, `forgotten`, `sound` are not
 * looked at. */
int merge_plan_independent(const struct merge_input *input, struct merge_plan *plan);
void merge_plan_free(struct merge_plan *plan);

#endif
