/* Window and archive as one: whoever looks back reads entries through this.
 *
 * What the window still holds is read in the caller's transaction; what is older comes from the
 * archive's files, and once those have been found no transaction is needed for it. Functions and
 * results are those of journal/journal.h, with "window" read as "window and archive". ERR_TRIMMED
 * says what is missing; ERR_CORRUPT names the file that is damaged.
 *
 * Threads: used by one at a time.
 */
#ifndef SHIPLOG_JOURNAL_HISTORY_H
#define SHIPLOG_JOURNAL_HISTORY_H

#include "journal/archive.h"
#include "journal/journal.h"

struct history;

/* `directory`: the store's, open; it must stay so. Nothing is read yet. */
int history_open(int directory, struct history **history);
void history_close(struct history *history); /* NULL is fine */

/* Whether this entry is known to be in the archive's files: then `txn` may be NULL for
 * history_get(), and should be, since reading them takes longer than a transaction ought to last.
 */
bool history_archived(const struct history *history, uint64_t modseq);

/* The modseq before the oldest entry, by the names of files: reading there may still fail. */
int history_oldest(struct history *history, struct db_txn *txn, uint64_t *modseq);
/* Why nothing older is reached, as archive_gap() says. */
const char *history_gap(const struct history *history);

/* ERR_TRIMMED: older than the first. ERR_END: above the last, or one that an epoch jumped over. */
int history_get(struct history *history, struct db_txn *txn, uint64_t modseq, struct entry *entry,
                struct bytes *encoded);
int history_copy(struct history *history, struct db_txn *txn, uint64_t after, size_t most,
                 struct buf *out, struct position *last);
int history_round_down(struct history *history, struct db_txn *txn, uint64_t modseq,
                       uint64_t *rounded);
int history_at_time(struct history *history, struct db_txn *txn, int64_t time, uint64_t *modseq);

/* The archive's part, its files found as of this transaction; belongs to the history. */
int history_archive(struct history *history, struct db_txn *txn, struct archive **archive);

#endif
