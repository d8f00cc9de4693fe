/* What the parts of the oracle share; private to tests/support/oracle*.c. Messages and events are
 * told by their index in their mailbox, mailboxes and nodes by their index in the oracle. */
#ifndef SHIPLOG_TESTS_SUPPORT_ORACLE_PRIVATE_H
#define SHIPLOG_TESTS_SUPPORT_ORACLE_PRIVATE_H

#include "tests/support/oracle.h"

#define NO_MESSAGE UINT32_MAX

#define REQUIRE(oracle, condition, ...) ORACLE_REQUIRE(oracle, condition, __VA_ARGS__)

/* Room for one more behind `count` items of `size` bytes: the array, perhaps moved. */
void *oracle_room(void *items, size_t count, size_t size);
/* Whatever the node has shown, known and lost. */
void oracle_forget_node(struct oracle_node *node);

/* ---- Messages, events, and what follows from knowing them (oracle_events.c) ---- */

enum event_kind { EVENT_BOX, EVENT_APPEND, EVENT_EXPUNGE, EVENT_BACK, EVENT_FLAGS, EVENT_META };

struct event {
    enum event_kind kind;
    uint32_t message;        /* or NO_MESSAGE */
    uint32_t mask;           /* of flags or meta values that changed */
    struct knowledge undone; /* EVENT_BACK: expunges that whoever brought it back knew of */
};

struct message {
    uint64_t number; /* internal date */
    struct guid guid;
    uint32_t same_as; /* the message that it was found to be the same delivery as; or itself */
};

/* The mailbox had this digest when a node knew that. */
struct known_state {
    uint64_t digest;
    struct knowledge knowledge;
};

uint32_t oracle_add_message(struct oracle_box *box, const struct item *item);
/* Of the messages that were found to be one, that which stands for all. */
uint32_t oracle_root(const struct oracle_box *box, uint32_t message);
/* The root of the message that a record shows; NO_MESSAGE: it was never heard of. */
uint32_t oracle_shown(const struct oracle_box *box, const struct item *item);
/* The live record that shows this root; or NULL. */
const struct item *oracle_find_item(const struct oracle_box *box, const struct listing *listing,
                                    uint32_t message);

/* A new event, which whoever has this knowledge learns of. */
void oracle_happen(struct oracle_box *box, struct knowledge *known, enum event_kind kind,
                   uint32_t message, uint32_t mask);
/* What a user did: the differences between `before` and what the node shows now. */
void oracle_find_events(struct oracle *oracle, unsigned node, unsigned at,
                        const struct listing *before);

void oracle_remember_state(struct oracle_box *box, uint64_t digest,
                           const struct knowledge *knowledge);
/* The latest with this digest; or NULL. */
const struct known_state *oracle_find_state(const struct oracle_box *box, uint64_t digest);

/* What follows for a message from what somebody knows. */
struct standing {
    bool appended;
    bool expunged;
    bool changed;  /* flags, by an event that others do not know of */
    uint32_t mask; /* of the flags that were */
};
/* For each message, by its root; freed with free(). `without`: what others know, or NULL. */
struct standing *oracle_stand(const struct oracle_box *box, const struct knowledge *of,
                              const struct knowledge *without);
bool oracle_is_there(const struct standing *standing);

/* What one end alone did to a mailbox's mail. */
struct news {
    bool any;
    bool shows; /* what was expunged since is nothing that a mailbox must be kept for */
};
struct news oracle_find_news(const struct oracle_box *box, const struct listing *listing,
                             const struct knowledge *of, const struct knowledge *without);

/* ---- What one node may show to clients (oracle_clients.c) ---- */

/* UIDs and modseqs, by what the node has shown before; remembers what it shows now. */
void oracle_check_numbers(struct oracle *oracle, unsigned node, unsigned at);
/* A client that had seen `before`, here or at the other end, and asks for what changed since is
 * told of every difference. */
void oracle_check_client(struct oracle *oracle, unsigned node, unsigned at,
                         const struct listing *before, const struct listing *now);
/* The mailbox holds exactly the messages that follow from what its node knows. */
void oracle_check_messages(struct oracle *oracle, unsigned node, unsigned at);

/* ---- Damaged records (oracle_losses.c) ---- */

/* A damaged record counts as there until the node knows better, by what it has just `taken_in`
 * (NULL: nothing) as well, or has it back. It goes with its mailbox. */
void oracle_fill_in_losses(struct oracle *oracle, unsigned node, unsigned at,
                           const struct knowledge *taken_in);

/* ---- Merges (oracle_merge.c) ---- */

/* The master has taken in what the replica had in a mailbox. */
struct merging {
    struct oracle *oracle;
    const struct oracle_pass *pass;
    unsigned at;
    struct oracle_box *box;
    const struct listing *master; /* before */
    const struct listing *replica;
    const struct listing *now;
    const struct knowledge *known_master; /* before */
    const struct knowledge *known_replica;
    struct knowledge *known;    /* by the master: `known_master`, to which the merge adds */
    struct standing *at_master; /* made by oracle_check_merge() */
    struct standing *at_replica;
};
void oracle_check_merge(struct merging *work);

/* ---- Two mailboxes that became one (oracle_absorbed.c) ---- */

/* `replica` is of another mailbox of that name, whose events are not known here. */
void oracle_check_absorbed(const struct merging *work);

/* ---- What a pass hands on (oracle_pass.c) ---- */

/* A node that was read once more: mailboxes that may have changed since the last time. */
struct look {
    struct oracle *oracle;
    unsigned node;
    enum cause cause;
    const struct oracle_pass *pass; /* CAUSE_PASS only */
    bool changed[ORACLE_BOXES];
    struct listing before[ORACLE_BOXES]; /* of those */
};
/* The master has taken in what the replica did to a mailbox. */
void oracle_take_in(const struct look *look, unsigned at);
/* The replica has purged a mailbox that the master is not to show any more. */
void oracle_follow_purge(const struct look *look, unsigned at);

#endif
