/* Proving a store: every CRC, digest, reference count and chain link. */
#ifndef SHIPLOG_MAILBOX_CHECK_H
#define SHIPLOG_MAILBOX_CHECK_H

#include "mailbox/store.h"

/* Called for each thing that is wrong: where it is, what it is. Both are text of the caller's until
 * it returns. */
typedef void check_report(void *arg, const char *where, const char *what);

/* Looks at all of the store; ERR_OK also when things are wrong (*wrong counts them). `contents`:
 * also inflate and hash every message. */
int check_store(struct store *store, bool contents, check_report *report, void *arg,
                uint64_t *wrong);
/* Walks window and archive back from the present and proves chain, CRC and each entry's digest. */
int check_journal(struct store *store, check_report *report, void *arg, uint64_t *wrong);

#endif
