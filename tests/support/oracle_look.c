/* Looking at a node: what may have changed since it was last looked at is read in one go, what the
 * node knows now is found, and the checks are made of it. */
#include "tests/support/oracle_private.h"

#include "base/err.h"
#include "mailbox/undo.h"

#include <stdlib.h>

/* Digests that a mailbox had within a commit, before entries that neither brought nor took a
 * message: a replica that finds damage at such an entry stops there. */
#define WITHIN_MOST 8u
struct within {
    struct header header; /* as it was after the entry that comes next */
    uint64_t digests[WITHIN_MOST];
    size_t count;
    bool ends; /* the entry that was seen last brought or took one */
};

struct reading {
    struct look look;
    uint64_t since; /* the node's last entry when it was last looked at */
    uint64_t marks[ORACLE_BOXES];
    struct within within[ORACLE_BOXES];
};

/* --- reading --- */

static int last_mark(struct tx *tx, uint64_t id, uint64_t *modseq)
{
    struct mark mark = {.mailbox = id};
    int rc;
    *modseq = 0;
    while ((rc = mark_next(tx_db(tx), &mark)) == ERR_OK && mark.mailbox == id)
        *modseq = mark.modseq;
    return rc == ERR_END ? ERR_OK : rc;
}

static int each_within(const struct entry *entry, const struct change *change, void *arg)
{
    struct within *within = arg;
    struct header *header = &within->header;
    if (within->ends || within->count == WITHIN_MOST)
        return ERR_END;
    header->items = 0;
    header->items = entry->digest - header_digest(header);
    within->digests[within->count++] = listing_digest(header);
    within->ends = entry->kind == ENTRY_APPEND || entry->kind == ENTRY_EXPUNGE;
    facts_copy(&header->facts, &change->before, change->facts_changed);
    return ERR_OK;
}

static int find_within(struct tx *tx, uint64_t id, uint64_t since, struct within *within)
{
    int rc = id ? header_get(tx_db(tx), id, &within->header) : ERR_END;
    if (rc == ERR_OK)
        rc = undo_walk(tx, &within->header, since, each_within, within);
    return rc == ERR_END || rc == ERR_TRIMMED ? ERR_OK : rc;
}

static unsigned box_of(struct oracle *oracle, uint64_t id)
{
    for (unsigned i = 0; i < oracle->box_count; i++)
        if (oracle->boxes[i].id == id)
            return i;
    REQUIRE(oracle, oracle->box_count < ORACLE_BOXES, "more mailboxes than the test is made for");
    oracle->boxes[oracle->box_count].id = id;
    return oracle->box_count++;
}

static int look_at_box(struct tx *tx, struct reading *reading, unsigned at)
{
    struct look *look = &reading->look;
    struct sight *sight = &look->oracle->nodes[look->node].sights[at];
    uint64_t id = look->oracle->boxes[at].id;
    struct listing now;
    int rc = listing_read(tx, id, &now);
    if (rc == ERR_OK)
        rc = last_mark(tx, id, &reading->marks[at]);
    if (rc == ERR_OK)
        rc = find_within(tx, id, reading->since, &reading->within[at]);
    if (rc)
        return rc;
    if (!now.there) {
        listing_free(&now);
        sight->now.there = false;
        return ERR_OK;
    }
    look->changed[at] = true;
    look->before[at] = sight->now;
    sight->now = now;
    return ERR_OK;
}

static int look_at_all(struct tx *tx, void *arg)
{
    struct reading *reading = arg;
    struct oracle *oracle = reading->look.oracle;
    struct oracle_node *node = &oracle->nodes[reading->look.node];
    struct header header;
    bool found[ORACLE_BOXES] = {true};
    uint64_t id = 0;
    int rc;
    node->role = tx_node(tx)->role;
    node->fence = tx_node(tx)->fence;
    reading->since = node->last.modseq;
    node->last = tx_window(tx)->last;
    node->base = tx_window(tx)->base;
    rc = look_at_box(tx, reading, 0);
    if (rc)
        return rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        unsigned at = box_of(oracle, header.id);
        struct sight *sight = &node->sights[at];
        found[at] = true;
        if (sight->now.there && sight->now.stamp == listing_stamp(&header) && !node->loss_count)
            continue;
        rc = look_at_box(tx, reading, at);
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < ORACLE_BOXES; i++)
        if (!found[i])
            node->sights[i].now.there = false;
    return rc == ERR_END ? ERR_OK : rc;
}

/* --- judging --- */

/* What the node knows now of a mailbox, and what everybody knows from now on who has it so. */
static void find_knowledge(struct reading *reading, unsigned at)
{
    const struct look *look = &reading->look;
    struct oracle *oracle = look->oracle;
    struct oracle_box *box = &oracle->boxes[at];
    struct sight *sight = &oracle->nodes[look->node].sights[at];
    const struct within *within = &reading->within[at];
    const struct known_state *state = oracle_find_state(box, sight->now.digest);
    bool used = look->cause == CAUSE_USER;
    bool merged = look->cause == CAUSE_PASS && look->node == look->pass->master;
    /* Two ends may have come to one state by doing the same, each for itself. */
    bool same = look->before[at].there && look->before[at].digest == sight->now.digest;
    bool taken = merged && (at == 0 ? !state : reading->marks[at] > sight->mark);
    if (state && !used && !same && !taken)
        knowledge_assign(&sight->knowledge, &state->knowledge);
    oracle_fill_in_losses(oracle, look->node, at,
                          taken ? &oracle->nodes[look->pass->replica].sights[at].knowledge : NULL);
    if (used)
        oracle_find_events(oracle, look->node, at, &look->before[at]);
    else if (taken)
        oracle_take_in(look, at);
    sight->mark = reading->marks[at];
    if (!used && !merged)
        return;
    for (size_t i = 0; i < within->count; i++)
        oracle_remember_state(box, within->digests[i], &sight->knowledge);
    oracle_remember_state(box, sight->now.digest, &sight->knowledge);
}

static void check_box(const struct look *look, unsigned at)
{
    struct oracle *oracle = look->oracle;
    const struct oracle_node *node = &oracle->nodes[look->node];
    const struct listing *now = &node->sights[at].now;
    oracle_check_numbers(oracle, look->node, at);
    /* While a deleted mailbox is repaired it is live again until its name has followed. */
    bool dying = look->cause == CAUSE_PASS &&
                 oracle->nodes[look->pass->master].sights[at].now.facts.state != MAILBOX_LIVE;
    if (look->cause != CAUSE_RESTORE && !dying)
        oracle_check_client(oracle, look->node, at, &look->before[at], now);
    /* What the master purged is purged here first, and follows afterwards. */
    if (dying && node->role == ROLE_REPLICA && now->facts.state == MAILBOX_PURGED &&
        look->before[at].facts.state != MAILBOX_PURGED)
        oracle_follow_purge(look, at);
    oracle_check_messages(oracle, look->node, at);
}

void oracle_look(struct oracle *oracle, unsigned node, enum cause cause,
                 const struct oracle_pass *pass)
{
    struct reading reading = {
        .look = {.oracle = oracle, .node = node, .cause = cause, .pass = pass}};
    struct look *look = &reading.look;
    if (cause == CAUSE_RESTORE)
        oracle_forget_node(&oracle->nodes[node]);
    int rc = store_read(oracle->nodes[node].store, look_at_all, &reading);
    REQUIRE(oracle, rc == ERR_OK, "node %u cannot be read", node);
    for (unsigned i = 0; i < oracle->box_count; i++) {
        if (!look->changed[i])
            continue;
        find_knowledge(&reading, i);
        if (i > 0)
            check_box(look, i);
    }
    for (unsigned i = 0; i < ORACLE_BOXES; i++)
        listing_free(&look->before[i]);
}
