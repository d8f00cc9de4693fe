/* Agents of several nodes in one process, on a network that is made up (tests/support/wire.h): what
 * agent/agent.c, station.c and peer.c do with libuv, done in virtual time. All that decides is the
 * agent's own: the state machines of both sides, the work on stores, slots, and whom a node
 * follows. A repair runs in its thread as it does in an agent, but nothing else runs meanwhile. A
 * test that uses this links shiplog_agent.
 *
 * A node's address is "node0", "node1", …
 */
#ifndef SHIPLOG_TESTS_SUPPORT_AGENTS_H
#define SHIPLOG_TESTS_SUPPORT_AGENTS_H

#include "agent/moorings.h"
#include "agent/heal.h"
#include "agent/repairer.h"
#include "agent/sink_job.h"
#include "agent/source_job.h"
#include "agent/upstream.h"
#include "tests/support/seeds.h"
#include "tests/support/wire.h"

#define AGENTS_MOST 4u

struct agents;
struct site;

/* One end of a connection. */
struct line {
    struct line *next; /* of the site's, the newest first; they stay until the end */
    struct site *site;
    bool is_source;
    struct wire_end *end; /* NULL: it is being dialled */
    bool admitted;        /* a follower that may be fed */
    bool working;
    bool ending;
    bool closed;
    bool released;
    int64_t since;
    int64_t ended;
    struct frame_parser parser;
    struct source source;
    struct source_job source_job;
    struct sink sink;
    struct sink_job sink_job;
    /* of a repair */
    struct repairer *repairer; /* NULL: none is under way */
    struct plan plan;
    struct buf question;
    struct buf answer;
    bool answer_failed;
    bool spoke; /* the repair's thread has asked, or ended */
    /* as the network saw it */
    uint64_t sent;     /* bytes of frames that count, by a source */
    uint64_t consumed; /* of these, as its follower says */
};

/* A node with its agent. */
struct site {
    struct agents *agents;
    unsigned number;
    char path[PATH_MAX];
    char name[16];
    struct store *store; /* NULL: it is down */
    unsigned life;       /* how often it came up */
    struct line *lines;
    struct line *sink;
    struct upstream upstream;
    struct moorings moorings;
    bool telling; /* followers will be told of news */
    bool saving;
    int64_t cut_off_until[AGENTS_MOST]; /* from other nodes */
    uint32_t later_epoch;               /* number of the one by which it is fenced */
    unsigned dials;
    unsigned welcomes;
    unsigned repairs;
};

struct agents {
    const struct seed_run *run;
    struct wire wire;
    uv_loop_t loop; /* for the repairs' threads */
    struct site sites[AGENTS_MOST];
    unsigned count;
    /* Something was done to a node's store. */
    void (*touched)(void *arg, unsigned node);
    void *arg;
    unsigned frames; /* that were sent, of all kinds */
    unsigned fenced;
};

/* Makes stores in `directory`, node 0 the master, which the others follow, and starts all. */
void agents_begin(struct agents *agents, const struct seed_run *run, const char *directory,
                  unsigned count, void (*touched)(void *arg, unsigned node), void *arg);
void agents_end(struct agents *agents);
void agents_fail(const struct agents *agents, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5), noreturn));
#define AGENTS_REQUIRE(agents, condition, ...)                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            agents_fail(agents, __FILE__, __LINE__, __VA_ARGS__);                                  \
    } while (0)

/* Something was committed at a node that is up, by whoever: its agent is woken. */
void agents_wake(struct agents *agents, unsigned node);
/* The process dies: nobody is told (`quietly`: not even by the system, as when a machine dies). */
void agents_kill(struct agents *agents, unsigned node, bool quietly);
void agents_stop(struct agents *agents, unsigned node);  /* in good order */
void agents_start(struct agents *agents, unsigned node); /* one that is down */
/* Nothing passes between two nodes for so long. */
void agents_part(struct agents *agents, unsigned a, unsigned b, int64_t time);
void agents_heal(struct agents *agents);
/* A connection that stands, by dice; NULL: there is none. */
struct line *agents_pick_line(struct agents *agents, struct dice *dice);
/* A repair is changing this node's journal. */
bool agents_is_repairing(const struct agents *agents, unsigned node);
/* Whether this node follows, has all, and has nothing to do. */
bool agents_is_quiet(const struct agents *agents, unsigned node);

#endif
