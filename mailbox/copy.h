/* Base copies of a store in use. */
#ifndef SHIPLOG_MAILBOX_COPY_H
#define SHIPLOG_MAILBOX_COPY_H

#include "mailbox/store.h"

struct store_copy {
    const char *directory; /* must not exist, or be empty */
    /* Told now and then how many of about how many bytes are done; NULL: nobody is. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
    /* set by store_copy() */
    uint64_t node_id;         /* of the copy */
    struct position position; /* that the copy has, and that its slot here holds */
};

/* Makes a compacted copy as of one commit: another node of the same store, in the role of a
 * replica that has met no master yet and needs the tail only. The archive's files that lead to its
 * window go along. A slot under its node id (16 hex digits) keeps the window for it from before the
 * copying begins. A copy that fails leaves neither slot nor store; one that was killed leaves a
 * slot, which can be dropped. As db_copy(). */
int store_copy(struct store *store, struct store_copy *copy);

struct store_compact {
    void (*progress)(void *arg, uint64_t done, uint64_t total); /* as above */
    void *arg;
    /* set by store_compact(): bytes of the data file */
    uint64_t before;
    uint64_t after;
};
/* Gives room back to the disk; nothing else changes. As db_compact(). */
int store_compact(struct store *store, struct store_compact *compact);

#endif
