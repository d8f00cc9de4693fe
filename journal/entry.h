/* Journal entries: their bytes, and the chain that ties each to everything before it.
 *
 * An entry is one change. This file knows its envelope; what is in the body is the business of
 * whoever wrote it (mailbox/change.h). Bytes are canonical: the same entry has one encoding, and
 * every node keeps the very bytes that the master wrote.
 */
#ifndef SHIPLOG_JOURNAL_ENTRY_H
#define SHIPLOG_JOURNAL_ENTRY_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define ENTRY_VERSION 1u
#define ENTRY_HEADER_SIZE 72u
#define ENTRY_MAX_SIZE (1u << 21) /* bytes; more is refused on writing and reading */
#define ACTOR_MAX_SIZE 255u       /* bytes */

/* symbol, name as printed. The order is the number on disk: append only. */
#define ENTRY_KIND_MAP(X)                                                                          \
    X(EPOCH, "epoch")                                                                              \
    X(CREATE, "create")                                                                            \
    X(RENAME, "rename")                                                                            \
    X(DELETE, "delete")                                                                            \
    X(APPEND, "append")                                                                            \
    X(FLAGS, "flags")                                                                              \
    X(EXPUNGE, "expunge")                                                                          \
    X(PURGE, "purge")                                                                              \
    X(SEEN, "seen")                                                                                \
    X(META, "meta")                                                                                \
    X(TOUCH, "touch")                                                                              \
    X(BURY, "bury")                                                                                \
    X(HEADER, "header")                                                                            \
    X(MARK, "mark")

enum entry_kind {
#define X(symbol, name) ENTRY_##symbol,
    ENTRY_KIND_MAP(X)
#undef X
        ENTRY_KIND_COUNT
};

const char *entry_kind_name(enum entry_kind kind);
bool entry_kind_parse(const char *name, enum entry_kind *kind);

/* How far a node is: two journals that agree on a position agree on everything before it. */
struct position {
    uint64_t modseq;
    uint64_t chain;
};

bool position_equal(struct position a, struct position b);
void buf_position(struct buf *out, struct position position);
struct position read_position(struct reader *in);

struct entry {
    uint64_t modseq;
    uint64_t chain;    /* after this entry; filled by entry_encode() */
    int64_t time;      /* microseconds since 1970, never going backwards along the journal */
    uint64_t mailbox;  /* its id; 0: about the store */
    uint64_t previous; /* modseq of the entry before this one about the same mailbox (or the store);
                          0: none */
    uint64_t digest;   /* of the mailbox (or the store's own values) after this entry */
    uint32_t epoch;    /* number */
    enum entry_kind kind;
    bool end_of_commit;
    struct bytes actor; /* who did it: text */
    struct bytes body;
};

/* Appends the entry's bytes to `out`, chained to `before`, and sets entry->chain. ERR_INVALID:
 * larger than ENTRY_MAX_SIZE. */
int entry_encode(struct buf *out, struct entry *entry, uint64_t before);

/* Turns the end-of-commit flag of an encoded entry on and seals it again. */
void entry_end_commit(uint8_t *encoded, size_t size, uint64_t before, struct entry *entry);

/* Decodes and checks bounds, version, canonical form and CRC-32 (not the chain: see entry_chain()).
 * Views point into `encoded`. ERR_CORRUPT, ERR_NEWER. */
int entry_decode(struct bytes encoded, struct entry *entry);

/* The same without the CRC-32, for bytes that entry_decode() has just accepted. */
int entry_decode_checked(struct bytes encoded, struct entry *entry);

/* The size of the encoded entry that begins here, so that entries can stand one behind another; 0
 * when it cannot be one. */
size_t entry_size(struct bytes from);

/* The chain after this (decoded without error) entry when the one before it ended with `before`. */
uint64_t entry_chain(struct bytes encoded, uint64_t before);

/* chain(0): the hash of the store's id. */
uint64_t entry_chain_start(uint64_t store_id);

#endif
