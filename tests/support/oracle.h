/* What must be there: a naive model beside several nodes of one store, and the promises of
 * replication, checked whenever a node is looked at.
 *
 * Whatever a user does is an event, found by comparing a mailbox before and after. A node knows a
 * set of events; a replica that has a mailbox with some digest knows what the master knew when the
 * mailbox had that digest; a merge makes the master know what either end knew. From the set follows
 * which messages are there, by sets alone and without any of the rules by which the program merges.
 * Messages are told apart by their internal dates, which tests give out once in each mailbox.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_ORACLE_H
#define SHIPLOG_TESTS_SUPPORT_ORACLE_H

#include "tests/support/knowledge.h"
#include "tests/support/listing.h"

#define ORACLE_NODES 4u
#define ORACLE_BOXES 64u

struct oracle_box {
    uint64_t id;
    struct event *events;
    size_t event_count;
    struct message *messages;
    size_t message_count;
    struct known_state *states;
    size_t state_count;
};

/* What one node has shown of one mailbox, ever. */
struct memory {
    uint32_t uidvalidity;
    uint32_t uidnext;
    uint64_t highestmodseq;
    uint64_t forgotten;
    struct shown {
        bool live;
        bool dead;
        bool returns; /* it may be live again: see `untold_master` */
        struct guid guid;
    } * uids;
    size_t uid_count;
};

struct sight {
    struct listing now;
    struct memory memory;
    struct knowledge knowledge;
    uint64_t mark; /* modseq of the last mark about it */
};

struct loss { /* a record that was damaged and has not come back yet */
    unsigned box;
    struct item item;
};

struct oracle_node {
    struct store *store; /* NULL: closed */
    enum role role;
    enum fence fence;
    struct position last;
    struct position base;
    struct sight sights[ORACLE_BOXES];
    struct loss *losses;
    size_t loss_count;
};

struct oracle {
    struct oracle_node nodes[ORACLE_NODES];
    struct oracle_box boxes[ORACLE_BOXES]; /* 0: the store's own values */
    unsigned box_count;
    const char *moment; /* what is going on, for whoever reads of a failure */
};

/* Why a node may have changed since it was last looked at. */
enum cause {
    CAUSE_NONE,   /* restarted, trimmed, expired locally: nothing that clients see */
    CAUSE_USER,   /* its users changed mail */
    CAUSE_PASS,   /* a pass from a master to a replica is going on, and this is one of the two */
    CAUSE_RESTORE /* an old copy was put back: what it has shown since does not bind it */
};

struct oracle_pass {
    unsigned master;
    unsigned replica;
    bool discard; /* what the replica knows may have been thrown away, wherever it came from */
    bool unsure;  /* where the two parted is not known: an expunged message may come back */
    bool lenient; /* commits or records were lost: a flag may be, too, but no message */
    bool reaches; /* journals reach back to there: flags are merged one by one */
    bool crossed; /* both have taken in a third: flags may be those that it set (docs/MERGE.md) */
    /* Mailboxes in which a record was lost by damage there, where the journal does not tell what
     * was expunged since the two parted; 0: none. What was also purged may come back with it. */
    unsigned untold_master;
    unsigned untold_replica;
};

void oracle_begin(struct oracle *oracle);
void oracle_end(struct oracle *oracle);
/* Looks at a node and checks it. `pass` only with CAUSE_PASS. */
void oracle_look(struct oracle *oracle, unsigned node, enum cause cause,
                 const struct oracle_pass *pass);
/* Remembers what both ends show and know; after a pass that has come to its end: nothing is lost
 * of it. */
struct oracle_before;
struct oracle_before *oracle_before(const struct oracle *oracle, const struct oracle_pass *pass);
void oracle_after(struct oracle *oracle, const struct oracle_pass *pass,
                  const struct oracle_before *before);
void oracle_before_free(struct oracle_before *before);
/* A live record is about to be damaged at this node. */
void oracle_lose(struct oracle *oracle, unsigned node, unsigned box, const struct item *item);
/* Whether this message has ever been in this mailbox. */
bool oracle_knows(const struct oracle *oracle, unsigned box, uint64_t message);

/* Ends the program. */
void oracle_fail(const struct oracle *oracle, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));
#define ORACLE_REQUIRE(oracle, condition, ...)                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            oracle_fail(oracle, __FILE__, __LINE__, __VA_ARGS__);                                  \
    } while (0)

#endif
