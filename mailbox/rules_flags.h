/* Merge rules: the flags of one message that two ends have changed, each without knowing of the
 * other. Private to the rules (mailbox/rules.h), as pure as they are; docs/MERGE.md says under
 * "Flags" what is wanted and why.
 *
 * All functions: ERR_NOMEM. What they fill is to be freed by flags_free(), after an error, too.
 */
#ifndef SHIPLOG_MAILBOX_RULES_FLAGS_H
#define SHIPLOG_MAILBOX_RULES_FLAGS_H

#include "mailbox/flags.h"
#include "mailbox/rules.h"

struct flag_view {
    uint32_t system;
    struct bytes keywords; /* belongs to the record */
};
struct flag_view rules_flags_now(const struct merge_record *record);
int rules_flags_copy(struct flag_view from, struct flags *to);
int rules_flags_equal(struct flag_view a, struct flag_view b, bool *equal);

/* The flags of M's record `m` and R's `r`, which are one message. `deliveries`: neither was at both
 * ends at the bases, so that they have no state in common but what both were appended with. */
int rules_flags_settle(const struct merge_input *input, const struct merge_record *m,
                       const struct merge_record *r, bool deliveries, struct flags *out);
/* What either has. */
int rules_flags_unite(const struct merge_record *m, const struct merge_record *r,
                      struct flags *out);

#endif
