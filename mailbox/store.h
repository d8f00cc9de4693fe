/* The store: one LMDB environment that holds mailboxes and their journal, and the two ways into it:
 * to read, to commit.
 *
 * Threads: a store may be used by any thread. A transaction belongs to the closure that it was
 * given to, which must not begin another on the same store. Closures of commits may be run more
 * than once (when the map had to grow, when a neighbour in a shared transaction failed), so they
 * must set their results afresh each time and touch nothing outside but these.
 */
#ifndef SHIPLOG_MAILBOX_STORE_H
#define SHIPLOG_MAILBOX_STORE_H

#include "base/db.h"
#include "journal/epoch.h"
#include "journal/journal.h"
#include "mailbox/name.h"

struct store;
struct tx;

#define STORE_FORMAT 1u
#define PEER_MAX_SIZE 255u /* bytes of an address or a peer's name */
/* Bytes of the entries of one commit. Only one that merges a mailbox comes near: it holds as many
 * as there are differences. */
#define STORE_COMMIT_MAX (64u << 20)

enum role { ROLE_MASTER, ROLE_REPLICA };

/* Why a node refuses changes although nobody demoted it. The numbers are on disk. */
enum fence {
    FENCE_NONE,
    FENCE_EPOCH, /* it met a later epoch: another node was promoted */
    FENCE_BEHIND /* a replica is further than this master ever was: it lost commits */
};

/* What a node knows of itself. */
struct node {
    uint32_t format;
    enum role role;
    enum fence fence;
    bool discard; /* a replica whose own changes are thrown away at the next contact, not merged */
    uint64_t store_id; /* shared by all copies; 0: a replica that has met no master yet */
    uint64_t node_id;  /* of this copy */
    struct epoch_id epoch;
    struct owner owner;             /* of the store */
    char master[PEER_MAX_SIZE + 1]; /* whom it follows; "" when nobody yet, or at a master */
    uint32_t next_number;           /* for the next mailbox, local */
    uint64_t mailboxes;             /* sum of all mailboxes' shares of the store's digest */
    uint64_t meta;                  /* sum of the store's own meta values: its other share */
    uint64_t meta_modseq;           /* the last entry about these */
    uint32_t last_uidvalidity;      /* the highest that this store has seen */
    struct db_identity file;        /* of the data file when this was written */
};

/* 64 bits that are equal on two nodes when all their mail is. */
uint64_t node_digest(const struct node *node);

struct store_options {
    size_t map_size;     /* as in struct db_options */
    int64_t writer_wait; /* as in struct db_options */
    bool relaxed;        /* see store_open() */
    const char *actor;   /* who makes the changes, for the journal; NULL: the process's user */
};

/* Makes an empty store. `owner` NULL means "owner". A replica takes owner and identity from the
 * first master that it follows. ERR_EXISTS; else as db_open(). `options` may be NULL here and
 * below. */
int store_init(const char *path, enum role role, const struct owner *owner,
               const struct store_options *options);
/* As db_open(); ERR_NEWER when the store's format is.
 *
 * Durability is a property of the handle. Commits of one that is `relaxed` do not wait until they
 * are durable: a power cut may take the newest one back, never a part of one. Whoever opened the
 * store without it sees only what is durable: a read makes it so first, where relaxed commits were
 * left; so the agent ships nothing else. A master that was changed so opens a new epoch when the
 * machine has stopped before such a handle was closed. */
int store_open(const char *path, const struct store_options *options, struct store **store);
void store_close(struct store *store); /* NULL is fine */

struct db *store_db(struct store *store);
bool store_is_relaxed(const struct store *store);
const char *store_path(const struct store *store);

/* Runs `read` in a short transaction that sees one state of the store. Its result is returned. */
int store_read(struct store *store, int (*read)(struct tx *tx, void *arg), void *arg);

/* Runs `change` in a write transaction and commits what it did: all or nothing, durable on return.
 * ERR_REFUSED at a replica or a fenced node, ERR_BUSY after `writer_wait`, ERR_FULL; or what
 * `change` returned, when not ERR_OK. `position`, unless NULL, is set to where the journal ends
 * then. */
int store_commit(struct store *store, int (*change)(struct tx *tx, void *arg), void *arg,
                 struct position *position);
/* The same for what may be done at any role and is no change of mail: slots, local expire,
 * trimming, roles. */
int store_maintain(struct store *store, int (*work)(struct tx *tx, void *arg), void *arg);

/* Inside a transaction. */
struct db_txn *tx_db(struct tx *tx);
struct store *tx_store(struct tx *tx);
const struct node *tx_node(const struct tx *tx);
const struct journal_window *tx_window(const struct tx *tx);
void tx_set_actor(struct tx *tx, const char *actor); /* for the changes that follow; copied */
int tx_set_role(struct tx *tx, enum role role, const char *master); /* master may be NULL */
/* This node is the master from here on. The epoch's first entry gets the modseq `first`, above
 * every other; 0: the next. Its number is above `number`, and above all that are known here. */
int tx_open_epoch(struct tx *tx, const char *reason, uint64_t first, uint32_t number);
/* This transaction frees more room than it takes: on a full disk it may have the reserve. */
void tx_frees_space(struct tx *tx);
int64_t tx_time(const struct tx *tx); /* of the changes of this transaction */

/* What a replica was given: whole commits, in order. */
struct batch {
    uint64_t store_id;     /* the upstream's */
    const char *master;    /* whom it came from, for refusals to name */
    const char *former;    /* who is named until then: when it is somebody else by now, an operator
                              said so, and he stays; NULL: whoever it is */
    struct bytes entries;  /* one encoded entry behind another */
    struct draft **drafts; /* content that came with them, finished */
    size_t draft_count;
};
/* Applies them in one transaction together with the new position: each entry's CRC-32, chain and
 * the digest after it are checked. A mailbox whose digest differs stops at that entry (see
 * mailbox/stop.h), the others go on. ERR_PROTOCOL: entries that do not continue this journal, or
 * are no whole commits; ERR_REFUSED: not a replica, or of another store. After an error nothing was
 * changed. The agent is not woken: mostly it is the one who calls this. */
int store_apply(struct store *store, const struct batch *batch, struct position *position);

/* The datagram socket in the store's directory by which commits wake the agent (agent/wake.h), and
 * what is said there, a byte each. */
#define STORE_WAKE_SOCKET "agent.sock"
enum wake_word {
    WAKE_CHANGED,      /* something was committed */
    WAKE_WAITING = 'w' /* somebody waits for followers: their slots are to be written at once */
};
/* Commits but store_apply() say WAKE_CHANGED by themselves. Nobody there to hear it is no error. */
void store_wake_agent(struct store *store, enum wake_word word);

#endif
