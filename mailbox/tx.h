/* The inside of a transaction; private to mailbox/. */
#ifndef SHIPLOG_MAILBOX_TX_H
#define SHIPLOG_MAILBOX_TX_H

#include "mailbox/change.h"
#include "mailbox/store.h"

/* A mailbox's header while a transaction has it open. One per mailbox, whoever opened it. */
struct box {
    struct box *next;
    struct header header;
    uint64_t share; /* of the store's digest, as loaded */
    bool dirty;
};

/* A mailbox opened as a user; freed with the transaction. */
struct mailbox {
    struct mailbox *next;
    struct tx *tx;
    struct box *box;
    char *user_text;   /* owned */
    struct bytes user; /* the same */
    bool as_owner;
    bool seen_loaded;
    struct uidset seen; /* of a user who is not the owner */
};

struct tx {
    struct store *store;
    struct db_txn *db;
    struct node node;
    struct journal_window window;
    struct box *boxes;
    struct mailbox *mailboxes;
    int64_t time;
    uint64_t relaxed; /* the boot under which the newest commits were made, if these did not wait
                         until they were durable; else 0 */
    char actor[ACTOR_MAX_SIZE + 1];
    bool node_dirty;
    bool frees_space; /* on a full disk it may have the reserve */
    bool notify;      /* the agent has to know although no entry was made */
    bool silent;      /* who commits tells the agent himself */
    bool merging;     /* the commit may be as large as the differences that it merges, and about
                         deleted mailboxes */
    uint64_t jump;    /* modseq of the next entry, which opens an epoch; 0: the next one */
    uint64_t records; /* that the entries so far are about */
    uint64_t bytes;   /* of the entries so far */
    /* The newest entry waits here: only the last of a commit carries the end-of-commit flag. */
    struct buf waiting;
    struct entry waiting_entry;
    struct buf body;
    struct change change; /* for building or decoding one at a time */
};

/* The node's own row; whoever has no struct tx uses these. */
bool node_exists(struct db_txn *txn); /* or cannot be looked for */
int node_load(struct db_txn *txn, struct node *node);
int node_save(struct db_txn *txn, const struct node *node);

/* What is known at its beginning: node, window, time. `store` and `db` are set. */
int tx_load(struct tx *tx);
void tx_free(struct tx *tx); /* all but the database's transaction */

/* Loads a header once per transaction. ERR_END: none. */
int tx_box(struct tx *tx, uint64_t id, struct box **box);
/* Adds a new one, not in the store yet. */
int tx_box_new(struct tx *tx, uint64_t id, struct box **box);

/* The modseq that the next entry gets. */
uint64_t tx_next_modseq(const struct tx *tx);
/* Adds an entry behind the journal; `change` was applied already. `body` may be the transaction's
 * own buffer. */
int tx_journal(struct tx *tx, enum entry_kind kind, uint64_t mailbox, uint64_t previous,
               uint64_t digest, struct bytes body);

/* journal_trim(), with what waits as part of the journal. */
int tx_trim(struct tx *tx, uint64_t up_to, uint64_t most, bool archived, uint64_t *removed);

/* The last entry goes to the journal, as the end of a commit; saves headers, window and node. */
int tx_finish(struct tx *tx);

/* Carries out a change (mailbox/apply.c), at a master before it is journaled, at a replica from the
 * journal. `box` is NULL for the store's own. */
int apply_change(struct tx *tx, struct box *box, const struct change *change);
/* Its keyword sets alone: for an entry that is kept without being carried out, so that views can
 * look behind it. */
int apply_keywords(struct tx *tx, const struct change *change);
/* A mark alone: every node keeps them, also of mailboxes that it does not follow just now. */
int apply_mark(struct tx *tx, const struct change *change);
/* One record becomes another, with all that follows for counts, digest and content; NULL: there is
 * none. */
int apply_record(struct tx *tx, struct box *box, const struct record *before,
                 const struct record *after);

#endif
