/* The inside of a view. Private to mailbox/view*.c. */
#ifndef SHIPLOG_MAILBOX_VIEWING_H
#define SHIPLOG_MAILBOX_VIEWING_H

#include "journal/history.h"
#include "mailbox/record_table.h"
#include "mailbox/tx.h"
#include "mailbox/view.h"

#define REWRITES 64u

struct seen_set {
    struct buf user;
    struct uidset uids;
    struct versioned version;
};

struct meta_value {
    struct buf user;
    struct buf key;
    struct buf value;
    enum value_state state;
    struct former version;
};

struct keyword_set {
    uint64_t hash;
    struct buf names;
};

/* What a record had before an entry. */
struct rewrite {
    uint32_t uid;
    bool flagged; /* flags and keywords, too; then the record must be there */
    uint32_t system;
    uint64_t keywords;
    struct former former;
};

/* On a long way back counts and digest are not kept at each entry: they are made again at the last
 * one, and prove everything behind it. */
struct view {
    bool loose;   /* they are not those of the records now */
    bool stopped; /* the mailbox does not follow the journal just now */
    struct store *store;
    struct history *history;
    struct header header;
    struct record_table records;
    struct seen_set *seen;
    size_t seen_count;
    size_t seen_capacity;
    struct meta_value *meta;
    size_t meta_count;
    size_t meta_capacity;
    struct keyword_set *keywords;
    size_t keyword_count;
    size_t keyword_capacity;
    struct change change;
    struct record *shown;
    /* They wait, to be carried out many at a time: each finds its record far from the one before,
     * and memory answers several such questions in the time of one. */
    struct rewrite rewrites[REWRITES];
    size_t rewrite_count;
};

/* A user who is not the owner. ERR_NOMEM. */
int view_add_seen(struct view *view, struct bytes user, struct seen_set **seen);
struct seen_set *view_find_seen(struct view *view, struct bytes user); /* NULL: none */
/* Sets or replaces what the view has under this name. ERR_NOMEM. */
int view_put_meta(struct view *view, struct bytes user, struct bytes key,
                  const struct versioned *value);

/* Undoes the newest entry about the mailbox. ERR_CORRUPT: the view does not hold what it says. */
int view_undo(struct view *view, const struct entry *entry);
/* Carries out what waits, and makes counts and digest those of the records: not loose any more. */
int view_settle(struct view *view);
/* The view is at this entry: it must have the digest that the entry recorded. ERR_CORRUPT. */
int view_prove_entry(const struct view *view, const struct entry *entry);

#endif
