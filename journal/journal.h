/* The journal: entries by modseq, the window that is still held, and ways along it.
 *
 * Everything here works inside a transaction of the caller's. What a body means is not known here.
 */
#ifndef SHIPLOG_JOURNAL_JOURNAL_H
#define SHIPLOG_JOURNAL_JOURNAL_H

#include "base/db.h"
#include "journal/entry.h"

/* The window: entries behind `base` up to and including `last`; empty when they are equal. */
struct journal_window {
    struct position
        base; /* of the last entry that is no longer held; before the first ever: (0, chain(0)) */
    struct position last;
    int64_t last_time; /* of the entry at `last`; 0 before the first */
    int64_t base_time; /* of the entry at `base`; 0: nothing was trimmed */
    uint64_t entries;
    uint64_t bytes; /* of the entries, encoded */
};

int journal_window(struct db_txn *txn, struct journal_window *window);
/* Starts an empty journal at `base`. Nothing may be held. */
int journal_start(struct db_txn *txn, struct position base);

/* Adds an encoded entry (see entry_encode()) behind `window->last`, to the table and to *window. */
int journal_append(struct db_txn *txn, struct journal_window *window, struct bytes encoded,
                   const struct entry *entry);
int journal_window_save(struct db_txn *txn, const struct journal_window *window);

/* An entry, decoded and checked; views are valid as db_get()'s. `encoded` may be NULL. ERR_END: not
 * held. */
int journal_get(struct db_txn *txn, uint64_t modseq, struct entry *entry, struct bytes *encoded);

/* The newest entry at or below `modseq` that is held. ERR_END: none is. */
int journal_below(struct db_txn *txn, uint64_t modseq, struct entry *entry);

/* Whether this position is on this journal: ERR_OK, ERR_TRIMMED (older than the window; it cannot
 * be told), ERR_END (it is not: another branch, or the future). */
int journal_holds(struct db_txn *txn, struct position position);

/* Copies whole encoded entries behind `after` to `out`, until they pass `most` bytes (at least one
 * entry, if there is one). Sets *last to the position of the last that was copied. ERR_END: none
 * behind it; ERR_TRIMMED: the window begins later. */
int journal_copy(struct db_txn *txn, uint64_t after, size_t most, struct buf *out,
                 struct position *last);

/* What stands behind `after`: how many entries, their bytes, the time of the first (0: none).
 * ERR_TRIMMED. */
struct journal_tail {
    uint64_t entries;
    uint64_t bytes;
    int64_t time;
};
int journal_tail(struct db_txn *txn, uint64_t after, struct journal_tail *tail);

/* The last entry of the newest commit at or before `modseq` (round down), as its modseq; the
 * window's base when that is it. ERR_TRIMMED, ERR_END: above the last. */
int journal_round_down(struct db_txn *txn, uint64_t modseq, uint64_t *rounded);
/* The modseq of the last whole commit at or before this time. ERR_TRIMMED: the window does not
 * reach back to it. */
int journal_at_time(struct db_txn *txn, int64_t time, uint64_t *modseq);

/* Removes whole commits from the front, at most `most` entries, none above `up_to`. *removed tells
 * how many; 0 when done. Unless they are `archived` they are gone, and journal_forgotten() says so
 * from then on. */
int journal_trim(struct db_txn *txn, uint64_t up_to, uint64_t most, bool archived,
                 uint64_t *removed);
/* The highest modseq up to which nobody has to have the entries: they were trimmed without the
 * archive, the journal began anew behind them, or a repair accepted that their files are gone. What
 * is there nevertheless is found. UINT64_MAX: it was not noted. ERR_CORRUPT. */
int journal_forgotten(struct db_txn *txn, uint64_t *modseq);
int journal_forget(struct db_txn *txn, uint64_t modseq);

/* Removes entries above `after` from the end, at most `most`; *removed 0: done. For a replica whose
 * own branch gives way to another. */
int journal_cut_back(struct db_txn *txn, uint64_t after, uint64_t most, uint64_t *removed);

/* Goes along entries of the window. */
struct journal_cursor;
int journal_cursor_open(struct db_txn *txn, struct journal_cursor **cursor);
void journal_cursor_close(struct journal_cursor *cursor);
int journal_seek(struct journal_cursor *cursor, uint64_t modseq, struct entry *entry,
                 struct bytes *encoded);
int journal_next(struct journal_cursor *cursor, struct entry *entry, struct bytes *encoded);

#endif
