/* Mailbox headers: what the store knows of a mailbox as a whole. */
#ifndef SHIPLOG_MAILBOX_HEADER_H
#define SHIPLOG_MAILBOX_HEADER_H

#include "base/db.h"
#include "mailbox/name.h"

enum mailbox_state {
    MAILBOX_NONE, /* not made yet */
    MAILBOX_LIVE,
    MAILBOX_DELETED, /* its name is free, its mail can still be looked at and brought back */
    MAILBOX_PURGED   /* only its id is left */
};

/* What an entry can change of a header, other than through records. They are facts of their own,
 * never derived. */
struct facts {
    enum mailbox_state state;
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t highestmodseq; /* the last entry that changed what a client can see */
    uint64_t
        deletedmodseq; /* tombstones at or below it may be gone, here and at every other node */
    struct name name;  /* of a deleted mailbox: its last */
};

struct header {
    uint64_t id;     /* RFC 8474's MAILBOXID: the same on every node, never 0 */
    uint32_t number; /* the local number, part of its records' keys */
    struct facts facts;
    uint64_t lastmodseq; /* the last entry of any kind about it */
    int64_t changed;     /* that entry's time */
    uint64_t floor;      /* as deletedmodseq, for what this node alone has expired */
    uint64_t messages;   /* live records */
    uint64_t unseen;     /* of these, not seen by the owner */
    uint64_t bytes;      /* of these, raw */
    uint64_t tombstones;
    uint64_t
        items; /* the digest without the header's own share: live records, seen sets, meta values */
};

/* The DELETEDMODSEQ that clients of this node are told: the higher of the journaled one and the
 * floor. */
uint64_t header_forgotten(const struct header *header);

/* 64 bits that are equal on two nodes when the mailbox is. */
uint64_t header_digest(const struct header *header);
/* A mailbox's share of the store's digest: 0 when it is purged or was never made. */
uint64_t header_store_share(const struct header *header);

int header_get(struct db_txn *txn, uint64_t id, struct header *header); /* ERR_END: none */
int header_put(struct db_txn *txn, const struct header *header);
int header_decode(struct bytes key, struct bytes value, struct header *header); /* ERR_CORRUPT */

/* The live mailbox of this name. ERR_END: none. */
int header_id_of(struct db_txn *txn, const struct name *name, uint64_t *id);
/* The name that it can have: `wanted`, or that with ~id behind it when another mailbox has it. */
int header_free_name(struct db_txn *txn, uint64_t id, const struct name *wanted, struct name *name);
int header_name_put(struct db_txn *txn, const struct name *name, uint64_t id);
/* A row of the table of names; ERR_CORRUPT. */
int header_name_decode(struct bytes key, struct bytes value, struct name *name, uint64_t *id);

/* The headers in order of ids; *id starts at 0 and is advanced. ERR_END: no more. */
int header_next(struct db_txn *txn, uint64_t *id, struct header *header);

/* Which of `before` and `after` differ, encoded; and applied from bytes. Modseqs are coded relative
 * to `modseq`, the entry's. */
void facts_encode(const struct facts *before, const struct facts *after, uint64_t modseq,
                  struct buf *out);
int facts_decode(struct reader *from, uint64_t modseq, struct facts *before, struct facts *after,
                 uint32_t *changed);
#define FACT_STATE 1u
#define FACT_NAME 2u
#define FACT_UIDVALIDITY 4u
#define FACT_UIDNEXT 8u
#define FACT_HIGHESTMODSEQ 16u
#define FACT_DELETEDMODSEQ 32u
#define FACT_ALL 63u
void facts_clear(struct facts *facts); /* nothing of any; leaves the bytes of a name as they are */
/* Copies the facts in `which` from one to the other. */
void facts_copy(struct facts *to, const struct facts *from, uint32_t which);

#endif
