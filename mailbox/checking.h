/* What the parts of a check share; private to mailbox/check*.c. */
#ifndef SHIPLOG_MAILBOX_CHECKING_H
#define SHIPLOG_MAILBOX_CHECKING_H

#include "mailbox/check.h"
#include "mailbox/content.h"
#include "mailbox/header.h"
#include "mailbox/tx.h"

/* A local number and whose records stand under it. */
struct check_box {
    uint32_t number;
    uint64_t id; /* 0: built beside, or left to be removed: only its content counts */
    struct header header;
    struct header counted; /* what its records and values say */
    uint64_t last_entry;   /* about it, of those in the window */
    bool damaged;          /* something that it consists of cannot be read */
    bool stopped;          /* does not follow the journal just now */
};

struct check_content {
    uint64_t number;
    struct guid guid;
    uint64_t stored; /* deflated bytes that there must be */
    bool staged;     /* no GUID leads to it yet */
    bool found;
};

/* A record's reference to its content. */
struct check_reference {
    struct guid guid;
    bool live; /* no tombstone: what it refers to must be there */
};

struct check_line {
    char where[72];
    char what[256];
};

struct check {
    struct store *store;
    struct tx *tx;
    struct db_txn *txn;
    bool headless;    /* the headers are not all there */
    bool lost;        /* records are missing or cannot be read: what they referred to is kept */
    bool others;      /* there are other nodes, which may have what is lost here */
    uint64_t adopted; /* content number that was found to belong to a GUID */
    bool looked;      /* at the tables: the pages are sound */
    bool repair;      /* mend what can be mended */
    uint64_t wrong;   /* things, and those of them that were mended */
    uint64_t mended;
    struct buf lines;    /* struct check_line: told when no transaction is open any more */
    struct buf boxes;    /* struct check_box by number */
    struct buf referred; /* struct check_reference, one for each record; sorted */
    struct buf stored;   /* struct check_content by number */
    struct buf unused;   /* struct guid: of content that goes */
    struct buf keywords; /* u64, sets that records use */
    uint64_t meta;       /* sum of the store's own values */
};

/* Notes one thing that is wrong; mended if `mended`. printf-style. */
void check_wrong(struct check *check, bool mended, const char *where, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Damage is noted, and gone past: ERR_OK. Anything else comes back and ends the check. */
int check_note(struct check *check, const char *where, int rc);
/* Rows of a table in order. `each` returns ERR_OK to go on. */
int check_rows(struct check *check, unsigned table,
               int (*each)(struct check *check, struct db_cursor *cursor, struct bytes key,
                           struct bytes value));

struct check_box *check_boxes(const struct check *check, size_t *count);
struct check_box *check_box_numbered(const struct check *check, uint32_t number); /* NULL: none */
struct check_box *check_box_of(const struct check *check, uint64_t id);           /* NULL: none */

/* In this order; each notes what is wrong and mends what it can. */
int check_mail(struct check *check);    /* headers, records, seen sets, meta values, names */
int check_guids(struct check *check);   /* references, from both sides */
int check_content(struct check *check); /* these, chunks, what is staged, keyword sets */
int check_history(struct check *check); /* the journal, epochs, marks, slots, stops */

#endif
