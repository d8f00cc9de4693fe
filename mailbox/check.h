/* Proving a store: every CRC, digest, reference count and chain link. */
#ifndef SHIPLOG_MAILBOX_CHECK_H
#define SHIPLOG_MAILBOX_CHECK_H

#include "mailbox/store.h"

/* Called for each thing that is wrong: where it is, what it is. Both are text of the caller's until
 * it returns. Where a function takes one it may be NULL. */
typedef void check_report(void *arg, const char *where, const char *what);

/* Looks at all of the store: pages, every table, what refers to each other from both sides, the
 * archive. ERR_OK also when things are wrong (*wrong counts them). Where pages are damaged nothing
 * else is looked at. `contents`: also inflate and hash every message. */
int check_store(struct store *store, bool contents, check_report *report, void *arg,
                uint64_t *wrong);

struct check_result {
    uint64_t wrong;
    uint64_t mended; /* of these; what is reported of them says so */
};
/* The same, and mends what follows from the rest: reference counts, counts, the table of names,
 * chunks that nobody refers to. Mail that is missing or changed is never made to fit: its mailbox
 * is marked (mailbox/stop.h), and content that cannot be read is forgotten where another node may
 * have it, so that the other end is asked. Files that the archive lacks are told once and accepted
 * as gone. Other writers wait meanwhile. */
int check_repair(struct store *store, check_report *report, void *arg, struct check_result *result);

/* Counts references to content anew and sets those that are wrong; content that nothing refers to
 * goes. Only where everything that refers to it can be read and is all there: else *counted is
 * false and nothing was done. Looks at all records in a transaction of the caller's, which must not
 * have changed anything. */
int check_references(struct tx *tx, bool *counted);

/* Walks window and archive back from the present and proves chain, CRC and each entry's digest. */
int check_journal(struct store *store, check_report *report, void *arg, uint64_t *wrong);

#endif
