/* The trail: journal entries in their order, from window and archive as one, or from a file.
 *
 * Entries are copied out in batches, each in a short transaction of its own, so that whoever reads
 * them may take as long as it likes.
 *
 * Threads: a trail is used by one at a time.
 */
#ifndef SHIPLOG_MAILBOX_TRAIL_H
#define SHIPLOG_MAILBOX_TRAIL_H

#include "mailbox/store.h"

struct trail;

/* Of the store's journal, from its oldest entry on. */
int trail_open(struct store *store, struct trail **trail);
/* Of a file of encoded entries, one behind another, each chained to the one before, as a journal's
 * tail that was set aside. `path` must outlive the trail. ERR_NOTFOUND, ERR_IO. */
int trail_open_file(const char *path, struct trail **trail);
void trail_close(struct trail *trail); /* NULL is fine */

/* The next entry is the first behind this one. */
int trail_seek(struct trail *trail, uint64_t after);
/* The next entry and the size of its encoded form; valid until the next call. ERR_END: there is
 * none yet; ask again when there may be. ERR_TRIMMED; ERR_CORRUPT. */
int trail_next(struct trail *trail, struct entry *entry, size_t *size);

/* The modseq before the oldest entry. `since`: no older than this one and the window are of
 * interest, so that a damaged archive stands in nobody's way who does not look that far back. */
int trail_oldest(struct trail *trail, uint64_t since, uint64_t *modseq);
/* Which file the archive lacks, where it holds older entries that are therefore out of reach: for
 * people, "" when there are none. Known after trail_oldest(). */
const char *trail_gap(const struct trail *trail);

#endif
