/* A merge of one mailbox under way. Private to merge.c, which says in what order things are done,
 * merge_actions.c and merge_values.c. */
#ifndef SHIPLOG_MAILBOX_MERGING_H
#define SHIPLOG_MAILBOX_MERGING_H

#include "mailbox/merge.h"
#include "mailbox/tx.h"

/* A message goes on under another UID that many times at the most: pointers in a circle end. */
#define SUCCESSORS_MAX 64u

/* One commit's work. */
struct merging {
    struct store *store;
    struct merge_session *session;
    const struct merge_other *other;
    const struct merge_look *look;
    struct draft **drafts;
    size_t draft_count;
    struct epoch_id opened;
    struct merge_counts counts;
    char name[NAME_TEXT_SIZE];
    /* within one run */
    struct tx *tx;
    struct box *box;
    bool independent;
    bool ends;                  /* it is not here, and not live there: nothing but its id is kept */
    bool buried;                /* only its id and its numbers are left here, and nothing to keep */
    struct facts master_before; /* as of the base; only when `master_known` */
    bool master_known;
    bool master_mail; /* more than name and state changed here since the base */
    struct merge_other mine;
    struct merge_plan plan;
    struct uidset touched;
    struct uidset healed;
    bool gone; /* damage took something here, and not all of it has come back */
    /* Of a damaged mailbox: here, and news to the replica, as its journal says. */
    struct uidset expunged;
    struct uidset *unknown; /* see merge_mailbox() */
};

/* A copy of a set of keywords. ERR_CORRUPT: there is none of this hash. */
int merge_keywords(struct tx *tx, uint64_t hash, struct buf *copy);
/* The master's last entry of which the replica knows all that it did. */
uint64_t merge_known_there(const struct merge_session *session);
/* Whether records were lost here. */
bool merge_damaged(const struct merging *work);
/* Carries the plan's actions out. */
int merge_carry_out(struct merging *work);
/* Tells the session of each of them. */
void merge_report(struct merging *work, bool for_real);
/* Seen sets and meta values. */
int merge_values(struct merging *work);

#endif
