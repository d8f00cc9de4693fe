/* How much of the journal the window keeps.
 *
 * Commits go from the front as long as any limit would still be kept without them: what stays is
 * at least the newest N entries, bytes, or the last so many seconds, and not a commit more. A slot
 * that lags holds what it has not acknowledged yet, until the window has grown to the bound.
 */
#ifndef SHIPLOG_JOURNAL_RETENTION_H
#define SHIPLOG_JOURNAL_RETENTION_H

#include "journal/journal.h"

struct retention {
    uint64_t entries;    /* 0: no limit */
    uint64_t bytes;      /* of entries, encoded; 0: no limit */
    int64_t age;         /* microseconds; 0: no limit */
    uint64_t slot_bound; /* bytes of the window up to which slots hold it; 0: as far as they lag */
    bool archive;        /* what leaves the window goes to the archive */
};

/* The store's; without one, no limit at all. ERR_CORRUPT. */
int retention_load(struct db_txn *txn, struct retention *retention);
int retention_save(struct db_txn *txn, const struct retention *retention);

/* A cut of the window: everything that the decision needs. */
struct cut {
    uint64_t entries;    /* stay at least; UINT64_MAX: not by this */
    uint64_t bytes;      /* likewise */
    int64_t before;      /* times below it may go; INT64_MIN: not by this */
    uint64_t up_to;      /* nothing above this modseq goes */
    uint64_t held_from;  /* slots need what is above this modseq */
    uint64_t held_bytes; /* while the window has at most so many bytes */
};

/* What the policy asks for at this time; reads the slots. */
int retention_cut(struct db_txn *txn, const struct retention *retention, int64_t now,
                  struct cut *cut);

/* Finds where a cut ends, along the window's entries. */
struct cut_walk {
    uint64_t up_to; /* the end of the last whole commit that goes; at first the window's base */
    uint64_t going; /* entries up to there */
    uint64_t going_bytes; /* and their bytes */
    int64_t oldest;       /* time of the first entry; INT64_MAX: there is none */
    bool done;            /* the next one stays, or there is none */
    uint64_t seen;        /* modseq up to which entries were looked at */
    uint64_t entries;     /* that the window has behind it */
    uint64_t bytes;
};
int cut_walk_begin(struct db_txn *txn, struct cut_walk *walk);
/* Looks at up to `most` entries more; may be another transaction than the one before. */
int cut_walk_on(struct db_txn *txn, const struct cut *cut, uint64_t most, struct cut_walk *walk);

#endif
