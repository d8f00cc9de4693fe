/* Where two nodes' journals went apart. */
#ifndef SHIPLOG_AGENT_FORK_H
#define SHIPLOG_AGENT_FORK_H

#include "agent/ask.h"

/* What counts as made before the two went apart (mailbox/rules.h). */
struct fork_bases {
    uint64_t master;
    uint64_t replica;
    bool known;         /* false: of this mailbox nothing is, though it may be of others */
    bool master_merged; /* that end has taken in another node after its base */
    bool replica_merged;
    uint64_t since; /* the replica's records with modseqs up to here are known to the master. Below
                       the base where it was the replica that had taken in the master's branch */
};

struct fork {
    bool same_store;
    bool on_journal; /* the follower's position is on the journal here: it only lags, if that */
    bool behind; /* the follower is further than this node ever was, in an epoch of this node's */
    bool later;  /* it follows another master of a later epoch that is not known here */
    bool common_known;
    struct position common; /* the last position that both share */
    bool taken;             /* all that the follower has was taken in by a merge before */
    bool base_known;
    struct fork_bases bases; /* of the store as a whole; for a mailbox: fork_bases() */
};

/* Once, after ask_branch(). Puts those marks of `branch` apart that are about entries which the
 * other node, `theirs`, has not got, or has others in place of: it has lost commits since they were
 * taken in. They tell no base, but hold for a third node. */
int fork_doubt_marks(struct branch *branch, const struct asker *other, const struct branch *theirs);
/* `mine`, `theirs`: as ask_branch() gives. Asks the follower for chains. */
int fork_find(struct store *store, const struct asker *follower, const struct branch *mine,
              const struct branch *theirs, struct fork *fork);
/* Those of one mailbox: a merge that was cut off may have taken in some mailboxes more. */
int fork_bases(const struct fork *fork, const struct branch *mine, const struct branch *theirs,
               uint64_t mailbox, struct fork_bases *bases);
/* Whether the follower is in the midst of a repair by a node of whose branch this one has not got
 * all that is in the follower's mailboxes already: it must give that repair up. */
int fork_strands(const struct branch *mine, const struct branch *theirs, bool *stranded);
/* The epoch of this branch of which its mark says what it began with (journal/epoch.h); NULL: that
 * is not what it says. */
const struct epoch *fork_start(const struct branch *branch, const struct mark *mark);
/* Whether the branch's own journal leads through this epoch. */
bool fork_on_journal(const struct branch *branch, struct epoch_id id);
/* The epoch that a position of this branch belongs to. */
struct epoch_id fork_epoch_at(const struct branch *branch, uint64_t modseq);

#endif
