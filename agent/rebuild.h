/* A mailbox of a follower's that is made equal to the upstream's; private to agent/. */
#ifndef SHIPLOG_AGENT_REBUILD_H
#define SHIPLOG_AGENT_REBUILD_H

#include "agent/compare.h"
#include "agent/make_equal.h"
#include "mailbox/repair.h"
#include "mailbox/stop.h"

struct rebuild {
    struct store *store;
    const struct asker *upstream;
    struct branch *branch; /* the upstream's, as it was not long ago */
    struct stop stop;
    uint64_t since;
    bool since_known;
    uint32_t beside; /* local number; 0: it is changed in place */
    struct merge_other diff;
    struct uidset gone;
    struct mailbox_state_now now;
    /* This end's rows; while the mailbox is stopped nobody changes them. */
    bool counted_known;
    struct header counted;
    struct uidset damaged; /* those that cannot be read */
    struct uid_range ranges[COMPARE_FIRST];
    size_t range_count;
    struct record_sum sums[COMPARE_FIRST]; /* over these ranges */
    bool all_values;
    uint64_t records;
    uint64_t bytes;
    uint64_t expunged;
};

/* Blocks. Of a mailbox that the upstream has not got, nothing is left here; one of which it cannot
 * be proved that it is equal stays stopped, with ERR_DIFFERS or ERR_BUSY, and is reported. */
int rebuild_mailbox(struct store *store, const struct asker *upstream, struct branch *branch,
                    const struct stop *stop, struct equal_report *report);
/* The upstream may have opened an epoch since the repair began, and taken something in: then
 * *branch is what it is now. */
int rebuild_learn_epoch(struct store *store, const struct asker *upstream, struct epoch_id id,
                        struct branch *branch);

/* The parts of it. */

/* Counts this end's rows, if that is not done yet. `arg`: a struct rebuild. */
int rebuild_count_own(void *arg);
/* What changed at the upstream since then, until one answer holds all that is new. */
int rebuild_fetch_changes(struct rebuild *work);
/* A record that came: instead of what an earlier pass had brought. `arg`: as before. */
int rebuild_take_record(const struct record_line *line, void *arg);
/* Finds and fetches all that differs, from `now` on also what changes meanwhile. `since`: what
 * changed after it is asked for along with the sums; 0: it is known. */
int rebuild_compare(struct rebuild *work, const struct mailbox_state_now *now, uint64_t since);

#endif
