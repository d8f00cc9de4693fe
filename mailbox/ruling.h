/* Two lists of records while the merge rules are applied to them. Private to mailbox/rules*.c;
 * rules.c has the table, and says in what order the parts below come. */
#ifndef SHIPLOG_MAILBOX_RULING_H
#define SHIPLOG_MAILBOX_RULING_H

#include "mailbox/flags.h"
#include "mailbox/rules.h"

enum { M, R, ENDS };

#define OTHER(end) ((end) == M ? R : M)

/* What becomes of what an end has under a UID. */
enum fate {
    DIE,
    KEEP, /* goes on under its UID; of a tombstone: nothing is done */
    MOVE, /* goes on under a new UID; this one dies */
    JOIN  /* R's only: is the same message as M's, and goes on with it */
};

struct pair;

/* What one end has under a UID. */
struct side {
    const struct merge_record *record; /* NULL: absent */
    bool live;
    bool known; /* both ends had it at their bases */
    enum fate fate;
    uint32_t origin; /* of one that moved at either end: the UID under which both had it; else 0 */
    struct pair *twin; /* where the other end has the same message */
    uint32_t goes_on;  /* its UID afterwards; 0: it dies */
};

/* What both ends have under a UID. */
struct pair {
    uint32_t uid;
    struct side side[ENDS];
    bool damage; /* of the table's rows one of those without a number */
};

struct merge {
    const struct merge_input *input;
    const struct merge_end *ends[ENDS];
    struct pair *pairs; /* in UID order */
    size_t count;
    uint32_t next; /* the next new UID */
    struct merge_plan *plan;
};

/* ---- Pairs, and what is plain from one of them (rules_pairs.c) ---- */

int rules_pair_up(struct merge *merge);
/* NULL: neither end has anything there. */
struct pair *rules_find(const struct merge *merge, uint32_t uid);
/* Made by, or changed since, the end's base. */
bool rules_old(const struct merge_end *end, const struct merge_record *record);
bool rules_changed(const struct merge_end *end, const struct merge_record *record);
bool rules_same_bases(const struct merge *merge);
bool rules_tombstone(const struct side *side);
bool rules_both_live(const struct pair *pair);
/* Of a pair with a record at either end. */
bool rules_same_guid(const struct pair *pair);
/* That this end has nothing there is no accident. */
bool rules_dead_on_evidence(const struct merge *merge, int end, const struct pair *pair);
/* Whether it is certain that a message, which the other end never had, is not an old one under a
 * new UID. */
bool rules_surely_new(const struct merge *merge, int end, const struct side *side);
/* Whether what is under one UID at both ends is one delivery or append. */
bool rules_one_delivery(const struct merge *merge, const struct pair *pair);

/* ---- Messages that an earlier merge gave another UID (rules_moved.c) ---- */

/* Notes where they come from. */
void rules_mark_origins(struct merge *merge);
/* What one end did to a UID reaches the message under the UID that it has now. */
void rules_carry(struct merge *merge);

/* ---- Row 5 (rules_join.c) ---- */

/* M's message in `m` and R's in `r` are one. */
void rules_unite(struct pair *m, struct pair *r);
/* `appends`: only what is one append, by its save date. */
int rules_join(struct merge *merge, bool appends);

/* Messages in the order in which they are matched: by GUID, then by UID. */
struct item {
    const struct merge_record *record;
    struct pair *pair;
};
int rules_order_items(const void *a, const void *b);

/* ---- The plan (rules_plan.c) ---- */

/* The lowest UID that neither end has ever given out. */
uint32_t rules_highest_next(const struct merge *merge);
/* ERR_REFUSED: there is none left. */
int rules_give_new(struct merge *merge, uint32_t *uid);
int rules_give_out(struct merge *merge);
int rules_list_ways(struct merge *merge);
/* `flags`: NULL, or what the plan takes over, and leaves empty. After an error they are freed. */
int rules_add_action(struct merge_plan *plan, enum merge_kind kind, uint32_t uid, uint32_t other,
                     const struct merge_record *from, struct flags *flags);
/* Actions for M, of all pairs. */
int rules_emit(struct merge *merge);
/* In order. */
void rules_end_plan(struct merge *merge);

/* ---- All of it (rules.c) ---- */

/* ERR_CORRUPT: a list is not in UID order. rules_finish() is called all the same. */
int rules_begin(struct merge *merge, const struct merge_input *input, struct merge_plan *plan);
/* Returns `rc`; unless that is ERR_OK the plan is emptied. */
int rules_finish(struct merge *merge, int rc);

#endif
