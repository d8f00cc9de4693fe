/* What a restore comes to: a pure function of two views, of then and of now. Private to the
 * restore.
 */
#ifndef SHIPLOG_MAILBOX_RESTORE_PLAN_H
#define SHIPLOG_MAILBOX_RESTORE_PLAN_H

#include "mailbox/restore.h"

#define RESTORE_BATCH 1024u /* records that one commit is about */

struct restore_pair {
    const struct record *then; /* NULL: was not there */
    const struct record *now;  /* NULL: is not there */
};

/* Items stand in the order in which they are done. */
struct restore_plan {
    struct restore_item *items;
    size_t count;
    size_t capacity;
    struct restore_pair
        *pairs; /* every message of either view, in UID order of then, then of now */
    size_t pair_count;
    size_t pair_capacity;
};
/* `now` NULL: nothing is there yet. The views must not move while the plan is used. ERR_NOMEM;
 * what view_keywords() returns. */
int restore_plan(struct view *then, struct view *now, struct restore_plan *plan);
void restore_plan_free(struct restore_plan *plan);

bool restore_flags_equal(const struct record *a, const struct record *b);

#endif
