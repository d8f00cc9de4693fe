/* Cutting the journal's window: by the store's policy, or once by command.
 *
 * What goes is found in short read transactions, written to the archive in none at all, and trimmed
 * in short write transactions. Archived entries are durable under their name before the first of
 * them is trimmed; whoever is cut off in between finds the rest to be trimmed next time.
 */
#ifndef SHIPLOG_MAILBOX_RETAIN_H
#define SHIPLOG_MAILBOX_RETAIN_H

#include "journal/retention.h"
#include "mailbox/store.h"

/* What was done. */
struct retained {
    uint64_t trimmed;  /* entries */
    uint64_t archived; /* of them */
    uint64_t files;
};

/* Carries out the store's policy as of `now` (microseconds since 1970). Without `at_once` this
 * ends after 64 MiB of entries, for whoever comes again soon, and entries that would make a very
 * small file wait, up to a day. ERR_BUSY: another process is archiving. */
int store_retain(struct store *store, int64_t now, bool at_once, struct retained *done);
/* Carries out this cut. Slots do not hold it: whoever asks for it knows. */
int store_cut(struct store *store, const struct cut *cut, bool archive, struct retained *done);

#endif
