/* What a repair comes to, as the upstream decides and the follower carries out. Bytes are in
 * docs/PROTOCOL.md. */
#ifndef SHIPLOG_AGENT_PLAN_H
#define SHIPLOG_AGENT_PLAN_H

#include "journal/epoch.h"
#include "mailbox/name.h"

#define PLAN_REASON_SIZE 200u
#define PLAN_LINES_MAX 4096u        /* mailboxes whose figures travel */
#define PLAN_ACTIONS_MAX (1u << 20) /* bytes of what a dry run would do; the rest is left out */

enum plan_kind {
    PLAN_REWIND, /* the follower's journal goes back to `at`, which both share, and goes on there */
    PLAN_RESET,  /* its journal begins anew behind `at`, the upstream's last entry */
    PLAN_GIVE_UP /* it is in the midst of a repair by a node of which nothing is known here: it
                    gives that up (mailbox/role.h) and comes again */
};

/* What was done to a mailbox at the upstream. */
struct plan_line {
    uint64_t mailbox;
    char name[NAME_TEXT_SIZE];
    uint64_t renumbered;
    uint64_t copied_back;
    uint64_t expunged;
    uint64_t damaged;
};

struct plan {
    enum plan_kind kind;
    uint64_t store_id;
    struct position from; /* where the follower was when the plan was made */
    struct position at;
    int64_t time;          /* of the entry at `at` */
    struct epoch_id epoch; /* that `at` belongs to */
    uint64_t since;        /* the follower's mailboxes are the upstream's as of this modseq, but for
                              what it changed itself; 0: not known */
    uint64_t own_after;    /* its entries above this are another branch's, and set aside;
                              UINT64_MAX: none are */
    bool compare; /* at one position the digests differ: whose mailboxes do is to be found out */
    struct owner owner; /* of the store */
    char reason[PLAN_REASON_SIZE];
    struct plan_line *lines; /* owned; plan_free() */
    size_t line_count;
    size_t line_capacity;
    /* Of a dry run: what would be done at the upstream; plan_add_action(). */
    struct buf actions;
    uint64_t action_count;
    bool more_actions; /* than there is room for */
};

void plan_free(struct plan *plan);
int plan_add(struct plan *plan, const struct plan_line *line);                /* ERR_NOMEM */
const struct plan_line *plan_find(const struct plan *plan, uint64_t mailbox); /* NULL: none */
int plan_add_action(struct plan *plan, const char *mailbox, const char *what, uint32_t uid,
                    uint32_t other); /* ERR_NOMEM */
void plan_each_action(const struct plan *plan,
                      void (*each)(void *arg, const char *mailbox, const char *what, uint32_t uid,
                                   uint32_t other),
                      void *arg);
void plan_encode(const struct plan *plan, struct buf *out);
int plan_decode(struct bytes from, struct plan *plan); /* ERR_PROTOCOL */

#endif
