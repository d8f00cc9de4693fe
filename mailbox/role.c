#include "mailbox/role.h"

#include "base/err.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"

#include <stdio.h>

#define TRIM_BATCH 4096u /* entries in one transaction */

/* A mailbox that was made equal to the upstream's may be ahead of the journal: modseqs never go
 * back. Its next entry follows what the journal has. */
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
        if (header.lastmodseq <= tx->window.last.modseq)
            continue;
        header.lastmodseq = tx->window.last.modseq;
        rc = header_put(tx->db, &header);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* Of a node that is being repaired the journal does not tell how its mailboxes came about. */
static int trim_untold(struct tx *tx, void *arg)
{
    uint64_t *removed = arg;
    bool repairing;
    int rc = stop_any(tx->db, &repairing);
    *removed = 0;
    return rc || !repairing || tx->node.role != ROLE_REPLICA
               ? rc
               : journal_trim(tx->db, UINT64_MAX, TRIM_BATCH, removed);
}

static int trim_all(struct tx *tx, void *arg)
{
    return journal_trim(tx->db, UINT64_MAX, TRIM_BATCH, arg);
}

static int give_up_repair(struct tx *tx)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        rc = stop_drop(tx->db, stop.mailbox);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

struct promotion {
    bool force;
    bool untold; /* the journal does not tell how the mailboxes came about */
};

static int promote(struct tx *tx, void *arg)
{
    struct promotion *work = arg;
    uint64_t highest = 0;
    bool repairing;
    work->untold = false;
    if (tx->node.role == ROLE_MASTER && tx->node.fence == FENCE_NONE)
        return ERR_OK;
    if (tx->node.store_id == 0)
        return fail(ERR_REFUSED, "%s: it has met no master yet: there is nothing to be master of",
                    store_path(tx->store));
    int rc = stop_any(tx->db, &repairing);
    if (rc)
        return rc;
    if (repairing && tx->node.role == ROLE_REPLICA) {
        if (!work->force)
            return fail(ERR_REFUSED,
                        "%s: it is being repaired: some mailboxes are older than the others; "
                        "promote --force takes them as they are",
                        store_path(tx->store));
        work->untold = true;
        rc = highest_modseq(tx, &highest);
        if (rc == ERR_OK)
            rc = give_up_repair(tx);
        if (rc == ERR_OK)
            rc = repair_drop_unmade(tx);
    }
    if (rc == ERR_OK)
        rc = tx_set_role(tx, ROLE_MASTER, NULL);
    tx->node.discard = false;
    return rc ? rc : tx_open_epoch(tx, "promoted", highest ? highest + 1 : 0, 0);
}

int store_promote(struct store *store, bool force)
{
    struct promotion work = {.force = force};
    uint64_t removed = force;
    int rc = ERR_OK;
    while (rc == ERR_OK && removed)
        rc = store_maintain(store, trim_untold, &removed);
    if (rc == ERR_OK)
        rc = store_maintain(store, promote, &work);
    /* The epoch's entry goes, too: from a position before it, which others share, nothing here can
     * be followed. */
    return rc || !work.untold ? rc : store_maintain(store, trim_all, &removed);
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
    tx->node.discard = work->discard;
    return tx_set_role(tx, ROLE_REPLICA, work->follow ? work->follow : master);
}

int store_demote(struct store *store, const char *follow, bool discard)
{
    struct demotion work = {.follow = follow, .discard = discard};
    return store_maintain(store, demote, &work);
}

static int fence(struct tx *tx, void *arg)
{
    const enum fence *why = arg;
    if (tx->node.role != ROLE_MASTER || tx->node.fence == *why)
        return ERR_OK;
    tx->node.fence = *why;
    tx->node_dirty = true;
    tx->notify = true;
    return ERR_OK;
}

int store_fence(struct store *store, enum fence why)
{
    return store_maintain(store, fence, &why);
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
