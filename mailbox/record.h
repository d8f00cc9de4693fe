/* Records: what the store knows of one message in one mailbox, beside its content. */
#ifndef SHIPLOG_MAILBOX_RECORD_H
#define SHIPLOG_MAILBOX_RECORD_H

#include "base/bytes.h"
#include "base/db.h"
#include "base/hash.h"
#include "base/uidset.h"
#include "mailbox/flags.h"

#define RECORD_EXPUNGED (1u << 8) /* a tombstone */
#define RECORD_FLAGS (FLAG_SYSTEM | RECORD_EXPUNGED)

struct record {
    uint32_t uid;
    uint32_t flags;     /* FLAG_… (FLAG_SEEN: the owner's) and RECORD_EXPUNGED */
    uint64_t modseq;    /* of the last entry that changed it */
    int64_t changed;    /* time of the last change */
    uint64_t keywords;  /* hash of its keyword set; 0: none */
    uint32_t successor; /* of a tombstone: the UID under which the message went on; 0: none */
    struct guid guid;
    uint64_t size;          /* bytes of the raw message */
    int64_t internal_date;  /* IMAP's INTERNALDATE, microseconds since 1970 */
    int64_t save_date;      /* when it came into this mailbox (RFC 8514) */
    uint64_t append_modseq; /* of the entry that brought it */
};

bool record_live(const struct record *record);

/* The record's share of its mailbox's digest: 0 unless it is live. */
uint64_t record_digest(const struct record *record);

/* Records in their table, by the mailbox's local number and UID. Every read checks the CRC-32
 * (ERR_CORRUPT). */
int record_decode(struct bytes key, struct bytes value,
                  struct record *record); /* a row; ERR_CORRUPT */
int record_get(struct db_txn *txn, uint32_t number, uint32_t uid,
               struct record *record); /* ERR_END: none */
int record_put(struct db_txn *txn, uint32_t number, const struct record *record);
int record_delete(struct db_txn *txn, uint32_t number, uint32_t uid);

struct record_sum {
    uint64_t count; /* live records */
    uint64_t sum;   /* of their items */
};
/* Sums over ranges of UIDs (in ascending order, apart from each other), so that two ends can find
 * where they differ without showing each other all. */
struct record_sums {
    const struct uid_range *ranges;
    size_t count;
    struct record_sum *sums; /* of each range */
};

/* What a mailbox's records come to. Those that cannot be read are left out and added to `damaged`;
 * ERR_CORRUPT when that is NULL. `sums` (may be NULL) are of whole records, without the damaged. */
struct record_count {
    uint64_t messages; /* live ones, like the three below */
    uint64_t unseen;
    uint64_t bytes;
    uint64_t items; /* sum of their digests */
    uint64_t tombstones;
};
int record_count(struct db_txn *txn, uint32_t number, struct record_count *count,
                 struct uidset *damaged, const struct record_sums *sums);

enum record_item {
    RECORD_WHOLE,   /* record_digest() */
    RECORD_IDENTITY /* UID and GUID of those with an append modseq at or below `base` */
};
/* What is collected along the way: the UIDs of records with a modseq above `since`, tombstones
 * included, as far as they lie in one of the ranges. */
struct record_changes {
    uint64_t since;
    size_t most;
    struct uidset uids; /* zero-initialise; the caller's to free */
    bool more;          /* than `most` */
};
/* Does not check CRC-32s: the sums do. `changes` may be NULL. */
int record_sums(struct db_txn *txn, uint32_t number, enum record_item item, uint64_t base,
                const struct record_sums *sums, struct record_changes *changes);
/* Adds the UIDs of all records with a modseq above `since`, tombstones and what cannot be read
 * included, from `first` to `last`; at most `most`, in ascending order. */
int record_changed(struct db_txn *txn, uint32_t number, uint64_t since, uint32_t first,
                   uint32_t last, size_t most, struct uidset *uids);
/* Copies out up to `most` records of UID `first` and above, tombstones included, in UID order.
 * *count may be less than `most` only at the end of the mailbox. ERR_CORRUPT: the row behind the
 * *count that were read cannot be, and records[*count].uid is its UID, 0 if not even that is
 * readable. */
int record_batch(struct db_txn *txn, uint32_t number, uint32_t first, struct record *records,
                 size_t most, size_t *count);

/* The same of the UIDs in a set, from *from on, which is advanced to behind the last one given; 0
 * when there are no more, which fewer than `most` say as well. */
int record_batch_in(struct db_txn *txn, uint32_t number, const struct uidset *uids, uint32_t *from,
                    struct record *records, size_t most, size_t *count);

#endif
