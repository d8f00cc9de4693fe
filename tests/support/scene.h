/* What two ends have of a mailbox, and the plan of their merge, as text.
 *
 * Records are written so: `1g@5` is UID 1 with GUID g, appended at modseq 5. Behind it, in this
 * order, what is not as usual: `~7` last changed at 7; `x7` a tombstone since 7; `>3` its
 * successor; `[Seen,work]` its flags (\ is left out); `{Seen}` the flags at the base, if known;
 * `!9` the time of its last change; `s9` that of its append (else its modseq). Plans are printed
 * alike: `add 5g<1` is R's UID 1 appended as 5, `renumber 5g<1` M's.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_SCENE_H
#define SHIPLOG_TESTS_SUPPORT_SCENE_H

#include <stdbool.h>
#include <stdint.h>

struct scene_end {
    const char *records;
    uint32_t next; /* UIDNEXT; 0: one above the highest UID */
    uint64_t base; /* 0: 10 */
    uint32_t base_next;
    uint64_t forgotten;
    const char *expunged; /* UIDs, as the journal tells */
    bool damaged;
    bool merged;
};

struct scene {
    struct scene_end m;
    struct scene_end r;
    bool base_unknown;
    bool independent; /* two mailboxes that were made without knowing of each other */
};

struct scene_counts {
    uint64_t renumbered, copied_back, expunged, damaged;
};

void scene_check(struct scene scene, const char *expected);
void scene_check_counts(struct scene scene, struct scene_counts expected);

#endif
