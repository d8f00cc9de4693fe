#include "mailbox/role.h"

#include "base/err.h"
#include "journal/archive.h"
#include "mailbox/repairing.h"

#include <stdio.h>

#define TRIM_BATCH 4096u /* entries in one transaction */

/* Above everything that any mailbox shows: one that was made equal to the upstream's may be ahead
 * of the journal. */
static int highest_modseq(struct tx *tx, uint64_t *highest)
{
    struct header header;
    uint64_t id = 0;
    int rc;
    *highest = tx->window.last.modseq;
    while ((rc = header_next(tx->db, &id, &header)) == ERR_OK) {
        if (*highest < header.lastmodseq)
            *highest = header.lastmodseq;
        if (*highest < header.facts.highestmodseq)
            *highest = header.facts.highestmodseq;
    }
    struct stop stop;
    for (id = 0; rc == ERR_END && (rc = stop_next(tx->db, &id, &stop)) == ERR_OK; rc = ERR_END)
        if (*highest < stop.as_of)
            *highest = stop.as_of;
    return rc == ERR_END ? ERR_OK : rc;
}

/* Of a node that is being repaired the journal does not tell how its mailboxes came about. */
static int trim_untold(struct tx *tx, void *arg)
{
    uint64_t *removed = arg;
    bool repairing;
    int rc = stop_repairing(tx, &repairing);
    *removed = 0;
    return rc || !repairing ? rc : tx_trim(tx, UINT64_MAX, TRIM_BATCH, false, removed);
}

/* The journal begins anew behind the entry of an epoch. That goes, too: from a position before it,
 * which others share, nothing here can be followed. Marks say what every mailbox that waited is. */
static int give_up(struct tx *tx, const char *reason)
{
    uint64_t highest = 0;
    uint64_t removed;
    int rc = highest_modseq(tx, &highest);
    if (rc == ERR_OK)
        rc = tx_open_epoch(tx, reason, highest + 1, 0);
    if (rc == ERR_OK)
        rc = tx_trim(tx, UINT64_MAX, UINT64_MAX, false, &removed);
    return rc ? rc : repair_give_up(tx, highest + 1);
}

struct giving_up {
    bool promote;
    bool force;
    bool done; /* a repair was given up */
};

static int promote(struct tx *tx, struct giving_up *work)
{
    if (tx->node.role == ROLE_MASTER && tx->node.fence == FENCE_NONE)
        return ERR_OK;
    if (tx->node.store_id == 0)
        return fail(ERR_REFUSED, "%s: it has met no master yet: there is nothing to be master of",
                    store_path(tx->store));
    int rc = stop_repairing(tx, &work->done);
    if (rc)
        return rc;
    if (work->done && !work->force)
        return fail(ERR_REFUSED,
                    "%s: it is being repaired: some mailboxes are older than the others; "
                    "promote --force takes them as they are",
                    store_path(tx->store));
    rc = work->done ? give_up(tx, "promoted in the midst of a repair") : repair_wait(tx);
    if (rc == ERR_OK)
        rc = tx_set_role(tx, ROLE_MASTER, NULL);
    tx->node.discard = false;
    return rc || work->done ? rc : tx_open_epoch(tx, "promoted", 0, 0);
}

static int decide(struct tx *tx, void *arg)
{
    struct giving_up *work = arg;
    work->done = false;
    if (work->promote)
        return promote(tx, work);
    int rc = stop_repairing(tx, &work->done);
    return rc == ERR_OK && work->done ? give_up(tx, "a repair by another node was given up") : rc;
}

static int carry_out(struct store *store, struct giving_up *work)
{
    uint64_t removed = !work->promote || work->force;
    int rc = ERR_OK;
    while (rc == ERR_OK && removed)
        rc = store_maintain(store, trim_untold, &removed);
    if (rc == ERR_OK)
        rc = store_maintain(store, decide, work);
    /* What was archived does not lead to where the journal begins now. */
    return rc || !work->done ? rc : archive_set_aside(db_directory_fd(store_db(store)), 0);
}

int store_promote(struct store *store, bool force)
{
    struct giving_up work = {.promote = true, .force = force};
    return carry_out(store, &work);
}

int store_give_up_repair(struct store *store)
{
    struct giving_up work = {0};
    return carry_out(store, &work);
}

struct demotion {
    const char *follow;
    bool discard;
};

static int demote(struct tx *tx, void *arg)
{
    const struct demotion *work = arg;
    char master[PEER_MAX_SIZE + 1];
    snprintf(master, sizeof master, "%s", tx->node.master);
    int rc = tx->node.role == ROLE_MASTER ? repair_wait(tx) : ERR_OK;
    tx->node.discard = work->discard;
    return rc ? rc : tx_set_role(tx, ROLE_REPLICA, work->follow ? work->follow : master);
}

int store_demote(struct store *store, const char *follow, bool discard)
{
    struct demotion work = {.follow = follow, .discard = discard};
    return store_maintain(store, demote, &work);
}

struct fencing {
    enum fence why;
    uint32_t epoch;
};

static int fence(struct tx *tx, void *arg)
{
    const struct fencing *work = arg;
    if (tx->node.role != ROLE_MASTER)
        return ERR_OK;
    int rc = epoch_meet(tx->db, work->epoch);
    if (rc || tx->node.fence == work->why)
        return rc;
    tx->node.fence = work->why;
    tx->node_dirty = true;
    tx->notify = true;
    return ERR_OK;
}

int store_fence(struct store *store, enum fence why, uint32_t epoch)
{
    struct fencing work = {.why = why, .epoch = epoch};
    return store_maintain(store, fence, &work);
}

static int recognise(struct tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    return ERR_OK;
}

int store_recognise(struct store *store)
{
    return store_maintain(store, recognise, NULL);
}
