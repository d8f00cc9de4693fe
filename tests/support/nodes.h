/* Several nodes of one store in one process, what happens to them, and an oracle that looks at all
 * of it. Everything follows from a seed. A test that uses this links shiplog_agent.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_NODES_H
#define SHIPLOG_TESTS_SUPPORT_NODES_H

#include "agent/sync.h"
#include "tests/support/users.h"

#include <limits.h>

struct nodes {
    const struct seed_run *run;
    struct oracle oracle;
    struct users users;
    unsigned count;
    char directory[PATH_MAX];
    bool forced[ORACLE_NODES]; /* promoted while it was being repaired */
    bool stale[ORACLE_NODES];  /* an old copy was put back, and nobody has merged it yet */
    bool hurt[ORACLE_NODES];   /* damage left reference counts too high, which a check mends */
    bool copied[ORACLE_NODES]; /* an old copy is there */
    bool dropped;              /* a node's own changes were ever to be thrown away */
    bool harmed;               /* a record was ever damaged */
    bool restored;             /* an old copy was ever put back */
    unsigned passes[SYNC_MERGE + 1]; /* that came to their ends, by tier */
    unsigned refused;
    unsigned cut;
};

/* What happens while a pass is going on. */
struct disturbance {
    unsigned cut_at; /* the connection goes before this question; 0: never */
    unsigned users;  /* of 100 questions, before so many something is done at one of the two */
    struct dice dice;
};

/* Node 0 is the master of an empty store, the others are replicas that have met nobody. */
void nodes_begin(struct nodes *nodes, const struct seed_run *run, unsigned count);
/* One node becomes the master of all; they must all become equal. Then everything is removed. */
void nodes_end(struct nodes *nodes);
/* Numbers for this step alone, whatever other steps do. */
struct dice nodes_dice(const struct nodes *nodes, unsigned step);
void nodes_check(const struct nodes *nodes, bool condition, const char *what);

bool nodes_may_write(const struct nodes *nodes, unsigned node);
void nodes_change(struct nodes *nodes, unsigned node, struct dice *dice); /* if it may be changed */
/* ERR_OK: the two are equal, and were found to be whatever a pass has to bring about. ERR_REFUSED,
 * ERR_PEER (cut). Other results end the test. `disturbance` may be NULL. */
int nodes_pass(struct nodes *nodes, unsigned master, unsigned replica,
               struct disturbance *disturbance);
void nodes_promote(struct nodes *nodes, unsigned node);
void nodes_demote(struct nodes *nodes, unsigned node, bool discard);
void nodes_restart(struct nodes *nodes, unsigned node);
void nodes_trim(struct nodes *nodes, unsigned node, struct dice *dice);
void nodes_expire(struct nodes *nodes, unsigned node);
/* A record is lost or garbled behind the program's back. */
void nodes_damage(struct nodes *nodes, unsigned node, struct dice *dice);
void nodes_repair(struct nodes *nodes, unsigned node); /* what check --repair does */
void nodes_keep_copy(struct nodes *nodes, unsigned node);
void nodes_put_back(struct nodes *nodes, unsigned node, bool same_file);

#endif
