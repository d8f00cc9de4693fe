/* What the parts of taking a follower's changes in share; private to agent/. */
#ifndef SHIPLOG_AGENT_TAKING_H
#define SHIPLOG_AGENT_TAKING_H

#include "agent/fork.h"
#include "agent/take_in.h"
#include "mailbox/merge.h"

#define TAKING_TRIES_MOST 8u /* while the other end trims or expires, or others are taken in */

struct taking {
    struct store *store;
    const struct asker *follower;
    const struct take_in *options;
    struct branch mine;
    struct branch theirs;
    struct fork fork;
    struct plan *plan;
    struct merge_session session;
    struct epoch *foreign; /* the follower's epochs that the journal here does not tell of */
    size_t foreign_count;
    struct mark *taken; /* its marks that are not known here */
    size_t taken_count;
    size_t note_count;    /* of those, at the beginning: notes of epochs that began anew */
    uint64_t *candidates; /* mailboxes that may have to be merged */
    size_t candidate_count;
    size_t candidate_capacity;
    uint64_t *stopped; /* mailboxes that are not what its position says: they wait for a repair */
    size_t stopped_count;
    size_t stopped_capacity;
    bool store_values; /* the store's own values changed there */
    uint64_t proven;   /* base unknown: entries up to here are known to be common */
    bool apart;        /* above the common position a repair was given up at either end */
};

/* The follower's changes to this mailbox, of the base that the fork tells, become the master's. */
int take_mailbox(struct taking *taking, uint64_t id);
int take_store_values(struct taking *taking);
/* The follower threw its changes to the mailbox away. */
int take_discarded(struct taking *taking, uint64_t id);

/* What a mark will tell beside the position: epochs of the follower's that the journal here does
 * not know of, and marks. */
int take_foreign_epochs(struct taking *work);
int take_foreign_marks(struct taking *work);
/* How far a mailbox (0: all) of the follower's is known to be taken in, for the mark to say: up to
 * its position, but one that waits for a repair has not got what was before that. */
void take_say(struct taking *taking, uint64_t id);

#endif
