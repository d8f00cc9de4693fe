/* Content: messages' raw bytes, deflated once (zlib), named by GUID, kept once however many records
 * refer to them.
 *
 * Behind this interface content is chunks in LMDB, each with a CRC-32, sized so that pages are
 * filled. It comes in as a draft (mailbox/draft.h).
 */
#ifndef SHIPLOG_MAILBOX_CONTENT_H
#define SHIPLOG_MAILBOX_CONTENT_H

#include "base/db.h"
#include "base/hash.h"

/* What the store knows of a GUID. Content-less (number 0): records refer to it, but its bytes are
 * not here. */
struct content {
    struct guid guid;
    uint64_t references; /* records, tombstones included */
    uint64_t size;       /* raw bytes; 0 while content-less */
    uint64_t stored;     /* deflated bytes */
    uint64_t number;     /* 0: content-less */
};

int content_get(struct db_txn *txn, const struct guid *guid,
                struct content *content); /* ERR_END: never heard of */
/* The same for who is about to tell that it is gone: ERR_END is proved, see db_absent(), and by the
 * rows beside where it would be. */
int content_find(struct db_txn *txn, const struct guid *guid, struct content *content);
/* Records refer to it, and it is not here. The second: by GUID, for one that may be unknown. */
bool content_is_lacking(const struct content *content);
int content_lacks(struct db_txn *txn, const struct guid *guid, bool *lacking);
int content_put(struct db_txn *txn, const struct content *content);
int content_decode(struct bytes key, struct bytes value,
                   struct content *content); /* a row of the table; ERR_CORRUPT */

/* One record more, or one less, refers to it; with the last reference the bytes go too. */
int content_ref(struct db_txn *txn, const struct guid *guid);
int content_unref(struct db_txn *txn, const struct guid *guid);
/* Removes it if no record refers to it. */
int content_drop_unreferenced(struct db_txn *txn, const struct guid *guid);

/* Copies deflated bytes from `offset` on to `out`, whole chunks until they pass `most` (at least
 * one), each checked. ERR_END at the end; ERR_CORRUPT. `offset` must be one that this function
 * reached before (0 to begin with). */
int content_copy(struct db_txn *txn, const struct content *content, uint64_t offset, size_t most,
                 struct buf *out);

/* Reads one message's raw bytes in pieces; each piece is fetched in a short transaction of its own.
 */
struct content_reader;
int content_open(struct db *db, const struct guid *guid,
                 struct content_reader **reader); /* ERR_GONE: not here */
/* Up to `size` bytes; *got 0 at the end. ERR_GONE: removed meanwhile; ERR_CORRUPT. */
int content_read(struct content_reader *reader, void *to, size_t size, size_t *got);
void content_close(struct content_reader *reader);

/* Inflates and hashes: ERR_CORRUPT unless the bytes are what the GUID says. For checks. */
int content_verify(struct db *db, const struct content *content);
/* What cannot be read is not here: its GUID becomes content-less and is marked (mailbox/lacking.h),
 * so that it is asked for again. */
int content_forget(struct db_txn *txn, const struct guid *guid);
/* What stands under a content number says of itself: all but the references. ERR_CORRUPT. */
int content_identify(struct db_txn *txn, uint64_t number, struct content *content);
/* The number that the next content gets; ERR_CORRUPT. */
int content_next_number(struct db_txn *txn, uint64_t *number);

#endif
