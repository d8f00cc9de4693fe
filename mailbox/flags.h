/* Flags of a message: IMAP's system flags as bits, keywords as a set of names.
 *
 * A keyword set has one canonical encoding (names sorted as bytes, each with a length byte before
 * it), and a hash of that encoding; the empty set's hash is 0. Records hold the hash, the store's
 * table of keyword sets the names (mailbox/keywords.h): so records have one size, equal sets
 * compare as numbers, and nothing depends on a node's own numbering.
 */
#ifndef SHIPLOG_MAILBOX_FLAGS_H
#define SHIPLOG_MAILBOX_FLAGS_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define FLAG_SEEN 1u
#define FLAG_ANSWERED 2u
#define FLAG_FLAGGED 4u
#define FLAG_DELETED 8u
#define FLAG_DRAFT 16u
#define FLAG_SYSTEM 31u

#define KEYWORD_MAX_SIZE 255u        /* bytes of one name */
#define KEYWORDS_MAX_SIZE (1u << 16) /* bytes of an encoded set */

struct flags {
    uint32_t system;     /* FLAG_… bits */
    struct buf keywords; /* canonical set */
};

void flags_free(struct flags *flags);

/* Adds one flag given as text: `\Seen` (any case) or a keyword (an IMAP atom, RFC 3501).
 * ERR_INVALID with a message. */
int flags_add(struct flags *flags, const char *text, size_t size);
/* Adds every flag of a list separated by commas; "" is none. */
int flags_add_list(struct flags *flags, const char *text);

/* Calls `each` for every flag in the order of printing: sorted as bytes, system flags among the
 * keywords. */
void flags_each(uint32_t system, struct bytes keywords, void (*each)(struct bytes name, void *arg),
                void *arg);
/* The same joined with commas; `-` for none. */
void flags_print(uint32_t system, struct bytes keywords, struct buf *out);

/* What a change makes of a message's flags: FLAGS, +FLAGS and -FLAGS of IMAP's STORE. */
enum flag_mode { FLAGS_REPLACE, FLAGS_ADD, FLAGS_REMOVE };
struct flag_change {
    enum flag_mode mode;
    struct flags flags;
};

/* Keyword sets. Names compare without regard to case; the first spelling stays. */
int keywords_merge(struct bytes set, struct bytes more, struct buf *out);   /* set ∪ more */
int keywords_without(struct bytes set, struct bytes less, struct buf *out); /* set \ less */
bool keywords_contain(struct bytes set, struct bytes name);
uint64_t keywords_hash(struct bytes set);
/* Takes a set from bytes that are not trusted; a view into them. ERR_CORRUPT unless canonical. */
int keywords_read(struct reader *from, struct bytes *set);
void keywords_write(struct bytes set, struct buf *out); /* what keywords_read() takes */
/* Steps through a canonical set: *at starts at 0; false at the end. */
bool keywords_next(struct bytes set, size_t *at, struct bytes *name);

#endif
