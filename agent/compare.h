/* Where two ends' records of a mailbox differ, by sums over ranges of UIDs: a range that differs is
 * divided, until few UIDs are left. What it costs on the wire grows with the differences.
 */
#ifndef SHIPLOG_AGENT_COMPARE_H
#define SHIPLOG_AGENT_COMPARE_H

#include "agent/ask.h"

#define COMPARE_FIRST 1024u /* ranges that a mailbox is compared by at first */

struct comparison {
    const struct asker *asker;
    uint64_t mailbox;
    enum record_item item;
    uint64_t base; /* at the other end; only RECORD_IDENTITY needs it */
    /* This end's own sums. Called in another thread while this one waits for the other end. */
    int (*sums)(void *context, const struct record_sums *sums);
    void *context;
};

/* What a mailbox is compared by at first: all UIDs, most of which are expected below `uidnext`. */
size_t compare_first_ranges(uint32_t uidnext, struct uid_range ranges[COMPARE_FIRST]);

/* UIDs that hold every difference and few others. */
int compare_records(const struct comparison *work, uint32_t uidnext, struct uidset *differing);
/* The same within ranges that are known to differ; adds to `differing`. */
int compare_within(const struct comparison *work, const struct uid_range *ranges, size_t count,
                   struct uidset *differing);

#endif
