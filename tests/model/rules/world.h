/* Naive nodes with one mailbox each, for tests/model/model_rules.c: what they are, what is done to
 * them, and how one is merged into another.
 *
 * Messages have identities here that no node knows: `ghost`. Two of them are one (`alias`) for a
 * node once a merge in its past has joined them. Another merge, of nodes that did not know of that
 * one, may have joined them otherwise.
 */
#ifndef SHIPLOG_TESTS_MODEL_RULES_WORLD_H
#define SHIPLOG_TESTS_MODEL_RULES_WORLD_H

#include "mailbox/rules.h"

/* Two and four nodes, and longer histories, are the compiler's to choose: -DNODES=4u. */
#ifndef NODES
#define NODES 3u
#endif
#ifndef STEPS
#define STEPS 40u
#endif
#define CLIENTS 3u
/* A history ends before it needs more of these. */
#define UIDS 64u
#define ENTRIES 512u
#define UNDOS 64u
#define GHOSTS 64u
#define MARKS 64u
/* Merges over three nodes that cross more often leave more than one way to see who had what first.
 */
#define MERGES_STRICT 3u
#define FLAGS 3u
#define GUIDS 12u

enum state { ABSENT, LIVE, TOMB };

struct message {
    enum state state;
    uint8_t guid;
    unsigned flags; /* bits 0 … FLAGS-1 */
    unsigned appended_flags;
    unsigned ghost;
    uint32_t successor;
    uint64_t append;
    uint64_t modseq;
    int64_t changed;
    int64_t saved;
};

/* Of all nodes together: a tree. */
struct entry {
    unsigned parent;
    uint64_t modseq;
    uint32_t uidnext; /* after it */
};

struct undo {
    uint64_t modseq;
    uint32_t uid;
    unsigned before;
    bool healed; /* no journal tells `before` */
};

struct mark {
    unsigned own;   /* entry of this node's branch */
    unsigned other; /* the last entry of what it took in */
};

struct client {
    bool there;
    uint64_t modseq;
    int view[UIDS]; /* flags, -1: no message */
};

struct node {
    struct message at[UIDS];
    uint32_t uidnext;
    unsigned tip; /* its last entry */
    uint64_t deleted, floor;
    uint64_t trimmed; /* entries up to here are no longer in its journal */
    struct undo journal[UNDOS];
    size_t undos;
    struct mark marks[MARKS];
    size_t mark_count;
    /* what only the model knows */
    uint64_t since[GHOSTS]; /* when this branch got a message, or took it in; 0: never */
    unsigned alias[GHOSTS]; /* which messages merges of this branch have made one */
    bool merged;            /* this branch has taken in another */
    bool purged;            /* this end has forgotten tombstones */
    uint8_t shown[UIDS];    /* by this end, 0: nothing; stays with it when it becomes a copy */
    bool gone[UIDS];        /* clients of this end know that the UID is dead */
    struct client clients[CLIENTS];
};

struct world {
    struct node node[NODES];
    struct entry entries[ENTRIES];
    unsigned entry_count;
    unsigned ghost_count;
    unsigned merges;
    uint8_t guids[GHOSTS];
    bool expunged[256];    /* some copy with this GUID, by a user */
    bool unlinked[GHOSTS]; /* no tombstone says what became of it */
    bool full;             /* of anything: the history ends here */
    bool print;
    const char *failure; /* the first promise that broke, and where it stands */
    const char *file;
    int line;
};

enum step_kind { APPEND, FLAG, EXPUNGE, PURGE, EXPIRE, TRIM, CLIENT, MERGE, STEP_KINDS };

struct step {
    enum step_kind kind;
    uint32_t node, a, b, c;
};

#define PROMISE(world, condition)                                                                  \
    do {                                                                                           \
        if (!(condition) && !(world)->failure) {                                                   \
            (world)->failure = #condition;                                                         \
            (world)->file = __FILE__;                                                              \
            (world)->line = __LINE__;                                                              \
        }                                                                                          \
    } while (0)

/* Nodes, and what users and operators do to them (world.c). */
/* The modseq of its last entry; that up to which it has forgotten tombstones. */
uint64_t node_last(const struct world *world, const struct node *node);
uint64_t node_forgotten(const struct node *node);
/* A new entry of this modseq, or the next; gives it back. */
uint64_t node_enter(struct world *world, struct node *node, uint64_t modseq);
uint64_t node_next_entry(struct world *world, struct node *node);
/* The last entry that the branches of two entries share. */
unsigned world_ancestor(const struct world *world, unsigned a, unsigned b);
/* What clients of this end get to see from now on. */
void node_show(struct world *world, struct node *node);
/* A client that was here at an earlier modseq asks for what changed (RFC 7162), and then knows all.
 */
void node_check_clients(struct world *world, const struct node *node);
/* A client comes: it knows all that is here now. */
void node_come(struct world *world, struct node *node, uint32_t which);
/* Parts of a change: a record, what a flag was before, flags, a tombstone. */
void node_put(struct world *world, struct node *node, uint32_t uid, const struct message *message,
              uint64_t modseq);
void node_keep_undo(struct world *world, struct node *node, uint32_t uid, uint64_t modseq,
                    bool healed);
void node_set_flags(struct world *world, struct node *node, uint32_t uid, unsigned flags,
                    uint64_t modseq);
void node_bury(struct node *node, uint32_t uid, uint32_t successor, uint64_t modseq);
/* Some live UID, 0: none. */
uint32_t node_pick(const struct node *node, uint32_t number);
/* Whole changes: by users; by operators, who purge, expire and trim. */
void node_append(struct world *world, struct node *node, const struct step *step);
void node_change(struct world *world, struct node *node, const struct step *step);
void node_clean(struct world *world, struct node *node, const struct step *step);

/* One merge (merge.c), what the rules are told of it (input.c), and what it has promised
 * (promises.c). */
struct bases {
    unsigned m, r; /* entries */
    bool marked;   /* not the same one */
    bool known;
};

struct round {
    struct world *world;
    struct node *m;
    struct node *r;
    struct bases bases;
    uint64_t base_m, base_r;                 /* as the rules are told */
    struct merge_record records[2][2][UIDS]; /* whole or left out, M's or R's */
    struct merge_input input;
    struct node before;     /* M */
    unsigned alias[GHOSTS]; /* what both ends know together */
    uint32_t lost;          /* by damage at one end, 0: nothing */
    bool lost_at_m;
    struct message lost_message;
};

/* What both ends had when they parted; as if the journals no longer told. */
void round_find_bases(struct round *round);
/* One append, which merges may have brought to both. */
bool message_same_append(const struct message *a, const struct message *b);
void round_forget_bases(struct round *round);
/* The flags under a UID as of a modseq, from a journal that is never trimmed. */
unsigned node_flags_at(const struct node *node, uint32_t uid, uint64_t modseq);
/* Nothing in the journal says how such a message was before. */
bool node_healed_since(const struct node *node, uint32_t uid, uint64_t modseq);
unsigned action_flags(const struct merge_action *action);
void round_fill_input(struct round *round, bool leave_out);

void round_share_aliases(struct round *round);
void round_check_merge(struct round *round);
/* The same plan again, from lists without what is the same at both ends. (Two changes may by chance
 * have made a record the same, modseq included: then it need not be touched.) */
void round_check_again(struct round *round, const struct merge_plan *plan,
                       struct merge_plan *again);
void round_check_finished(struct round *round);

void node_print(const struct world *world, const struct node *node);
void world_merge(struct world *world, const struct step *step);

#endif
