/* Sets of UIDs (RFC 3501, sequence-set) as sorted, disjoint, non-adjacent ranges. Zero-initialise
 * an empty set. */
#ifndef SHIPLOG_BASE_UIDSET_H
#define SHIPLOG_BASE_UIDSET_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uid_range {
    uint32_t first;
    uint32_t last; /* inclusive, never below first; first is never 0 */
};

struct uidset {
    struct uid_range *ranges;
    size_t count;
    size_t capacity;
};

void uidset_free(struct uidset *set);
void uidset_clear(struct uidset *set); /* empties it, keeps its memory */

/* ERR_NOMEM (the set is as it was), else ERR_OK. Adding in ascending order costs O(1). 0 is no UID
 * and is never added; a range whose last is below its first is empty. */
int uidset_add(struct uidset *set, uint32_t uid);
int uidset_add_range(struct uidset *set, uint32_t first, uint32_t last);
int uidset_remove_range(struct uidset *set, uint32_t first, uint32_t last);
/* The same for each range of another set; after ERR_NOMEM some are done. */
int uidset_add_all(struct uidset *set, const struct uidset *more);
int uidset_remove_all(struct uidset *set, const struct uidset *less);
int uidset_copy(struct uidset *to, const struct uidset *from); /* replaces what `to` held */

bool uidset_contains(const struct uidset *set, uint32_t uid); /* O(log ranges) */
uint64_t uidset_size(const struct uidset *set);               /* how many UIDs */
bool uidset_equal(const struct uidset *a, const struct uidset *b);
/* The smallest member at or above `uid`; false when there is none. */
bool uidset_next(const struct uidset *set, uint32_t uid, uint32_t *found);

/* IMAP's text: "1:5,9,20:*", numbers without leading zeros, no spaces; replaces what `set` held.
 * `*` stands for `highest` (a mailbox's highest UID, 0 when empty: then a part with `*` names
 * nothing). Ranges may be given either way round. ERR_INVALID (the sets are then empty) with a
 * message that shows what is wrong. `singles`, if not NULL, gets the parts that are one number:
 * callers insist that each names a live message, where a range may match nothing. */
int uidset_parse(struct uidset *set, const char *text, uint32_t highest, struct uidset *singles);
void uidset_print(const struct uidset *set, struct buf *out); /* "1:5,9"; "" when empty; no NUL */

/* Canonical bytes, all varints: the count of ranges, then for each its first less the last of the
 * one before (less 0 for the first one: so at least 1, later at least 2), and its last less its
 * first. */
void uidset_encode(const struct uidset *set, struct buf *out);
/* ERR_CORRUPT for bytes that uidset_encode() would not write; `at_most` bounds how many UIDs it may
 * name. After an error the set is empty, and after ERR_CORRUPT the reader has failed. */
int uidset_decode(struct uidset *set, struct reader *from, uint64_t at_most);

#endif
