/* Points in time as people write them, and the commits that they mean. */
#ifndef SHIPLOG_MAILBOX_WHEN_H
#define SHIPLOG_MAILBOX_WHEN_H

#include "mailbox/store.h"

/* A point in time as people write it: a modseq ("1234"), a time (base/times.h, RFC 3339; a date
 * alone is none) or an age ("10m ago"). */
struct when {
    bool is_modseq;
    bool is_age;
    uint64_t modseq;
    int64_t time; /* or age, microseconds */
};
int when_parse(const char *text, struct when *when); /* ERR_INVALID */
int64_t when_time(const struct when *when);          /* of a time or an age, by the clock */
/* The modseq of the last whole commit at or before `when`. ERR_TRIMMED: before window and archive;
 * ERR_NOTFOUND: a modseq above the last. */
int when_resolve(struct tx *tx, const struct when *when, uint64_t *modseq);

#endif
