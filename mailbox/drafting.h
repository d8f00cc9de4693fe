/* The inside of a draft; private to mailbox/draft*.c. */
#ifndef SHIPLOG_MAILBOX_DRAFTING_H
#define SHIPLOG_MAILBOX_DRAFTING_H

#include "mailbox/draft.h"

#include <stdatomic.h>
#include <zlib.h>

/* The number that says whose what was staged is; drafts that were staged together share one, since
 * the system looks through all the locks of a file for each. */
struct draft_owner {
    uint64_t number;
    atomic_size_t drafts;
};

struct draft {
    struct db *db;
    enum draft_form form;
    struct guid_hash *hash;
    z_stream zlib;
    bool zlib_open;
    bool zlib_ended;    /* the deflated stream is complete */
    struct buf raw;     /* raw bytes that may be deflated at once, if no more come */
    struct buf waiting; /* deflated bytes not written yet */
    struct guid guid;
    uint64_t size;
    uint64_t stored;
    uint64_t number;           /* of what was staged; 0: nothing was */
    struct draft_owner *owner; /* of what was staged */
    uint32_t chunks;           /* staged so far */
};

/* Writes all that waits in memory, in bounded transactions. */
int draft_stage(struct draft *draft);
/* The same, but for less than a few chunks, once it is more than CONTENT_STAGE_SIZE. */
int draft_stage_if_large(struct draft *draft);
/* What it staged goes, unless that was adopted. */
void draft_unstage(struct draft *draft);

#endif
