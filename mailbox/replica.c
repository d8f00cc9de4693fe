/* Applying what a master shipped: whole commits, the very bytes of their entries, in one
 * transaction with the new position.
 *
 * Happy path: the content that came along is adopted; each entry is decoded, its chain compared,
 * its change carried out, the mailbox's digest after it compared, its bytes appended to the
 * journal. Damage: where a mailbox does not hold what an entry says, or has another digest after
 * it, the transaction is given up and run again with that mailbox stopped at that entry; its
 * entries are kept, the other mailboxes go on. Anything that is wrong with the entries themselves
 * changes nothing at all.
 */
#include "mailbox/store.h"

#include "base/array.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/draft.h"
#include "mailbox/repairing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct apply {
    const struct batch *batch;
    struct stop *stops; /* found out in earlier runs of this batch */
    size_t stop_count;
    size_t stop_capacity;
    struct stop damaged; /* found out in this run */
    bool is_damaged;
    struct position position;
};

static int apply_epoch(struct tx *tx, const struct entry *entry)
{
    struct epoch_body body;
    char owner[400];
    int rc = epoch_body_decode(entry->body, &body);
    if (rc)
        return rc;
    struct epoch epoch = {.id = {.number = entry->epoch, .node = body.node},
                          .parent = body.parent,
                          .before = tx->window.last,
                          .first = entry->modseq,
                          .time = entry->time};
    snprintf(owner, sizeof owner, "%.*s", (int)body.owner.size, (const char *)body.owner.data);
    rc = owner_parse(owner, &tx->node.owner);
    if (rc == ERR_OK)
        rc = epoch_put(tx->db, &epoch);
    tx->node.epoch = epoch.id;
    tx->node.meta_modseq = entry->modseq;
    tx->node_dirty = true;
    return rc;
}

/* The mailbox that an entry is about; made when the entry makes it. */
static int find_box(struct tx *tx, const struct entry *entry, struct box **box)
{
    int rc = tx_box(tx, entry->mailbox, box);
    if (rc != ERR_END)
        return rc;
    if (entry->kind != ENTRY_CREATE)
        return fail(ERR_DIFFERS, "mailbox %016llx: unknown here",
                    (unsigned long long)entry->mailbox);
    return tx_box_new(tx, entry->mailbox, box);
}

static int apply_mail(struct tx *tx, const struct entry *entry)
{
    struct box *box = NULL;
    int rc = change_decode(entry, &tx->change);
    if (rc == ERR_OK && entry->mailbox)
        rc = find_box(tx, entry, &box);
    if (rc == ERR_OK)
        rc = apply_change(tx, box, &tx->change);
    if (rc)
        return rc;
    uint64_t digest = box ? header_digest(&box->header) : tx->node.meta;
    if (digest != entry->digest)
        return fail(ERR_DIFFERS, "digest %016llx after entry %llu, the master has %016llx",
                    (unsigned long long)digest, (unsigned long long)entry->modseq,
                    (unsigned long long)entry->digest);
    return ERR_OK;
}

/* Of a stopped mailbox only name and state are followed, so that other mailboxes can have the names
 * that it leaves; marks and keyword sets are kept. */
static int apply_stopped(struct tx *tx, const struct entry *entry)
{
    struct box *box;
    struct stop stop;
    int rc = change_decode(entry, &tx->change);
    if (rc == ERR_OK)
        rc = apply_keywords(tx, &tx->change);
    if (rc == ERR_OK && tx->change.kind == ENTRY_MARK)
        rc = apply_mark(tx, &tx->change);
    tx->change.facts_changed &= FACT_NAME | FACT_STATE;
    if (rc || !tx->change.facts_changed)
        return rc;
    struct change facts = {.kind = ENTRY_HEADER,
                           .mailbox = entry->mailbox,
                           .modseq = entry->modseq,
                           .time = entry->time,
                           .after = tx->change.after,
                           .facts_changed = tx->change.facts_changed};
    rc = tx_box(tx, entry->mailbox, &box);
    if (rc == ERR_END)
        rc = tx_box_new(tx, entry->mailbox, &box);
    if (rc)
        return rc;
    struct header before = box->header;
    bool purged = facts.after.state == MAILBOX_PURGED && (facts.facts_changed & FACT_STATE);
    bool merged = stop_get(tx->db, entry->mailbox, &stop) == ERR_OK && stop.state == STOP_MERGED;
    /* What was made equal already has the mail of a later moment, when it had been brought back. */
    if (purged && merged && (before.items || before.messages || before.tombstones))
        facts.after.state = MAILBOX_DELETED;
    rc = apply_change(tx, box, &facts);
    if (rc == ERR_OK && purged && !merged)
        rc = repair_leave_records(tx, box);
    box->header.lastmodseq = before.lastmodseq;
    box->header.changed = before.changed;
    return rc;
}

/* Whether the mailbox of this entry is not followed here; a stop that was found out in an earlier
 * run of this batch is written down when its entry comes. */
static int find_stop(struct tx *tx, const struct apply *apply, const struct entry *entry,
                     bool *stopped)
{
    struct stop stop;
    int rc = stop_get(tx->db, entry->mailbox, &stop);
    *stopped = rc == ERR_OK && (stop.state == STOP_WAITING || entry->modseq < stop.modseq);
    if (rc != ERR_END)
        return rc;
    for (size_t i = 0; i < apply->stop_count; i++) {
        if (apply->stops[i].mailbox == entry->mailbox && apply->stops[i].modseq <= entry->modseq) {
            *stopped = true;
            return stop_put(tx->db, &apply->stops[i]);
        }
    }
    return ERR_OK;
}

static int apply_entry(struct tx *tx, struct apply *apply, const struct entry *entry)
{
    bool stopped;
    if (entry->kind == ENTRY_EPOCH)
        return apply_epoch(tx, entry);
    int rc = find_stop(tx, apply, entry, &stopped);
    if (rc)
        return rc;
    rc = stopped ? apply_stopped(tx, entry) : apply_mail(tx, entry);
    if (!stopped && (rc == ERR_DIFFERS || rc == ERR_CORRUPT) && db_txn_error(tx->db) == ERR_OK) {
        apply->is_damaged = true;
        apply->damaged = (struct stop){.mailbox = entry->mailbox, .modseq = entry->modseq};
        stop_stands(&apply->damaged, tx);
        snprintf(apply->damaged.reason, sizeof apply->damaged.reason, "%s", err_message());
    }
    return rc;
}

static int check_order(const struct tx *tx, const struct entry *entry, struct bytes encoded)
{
    const struct journal_window *window = &tx->window;
    bool next = entry->modseq == window->last.modseq + 1;
    bool jump = entry->kind == ENTRY_EPOCH && entry->modseq > window->last.modseq;
    if (!next && !jump)
        return fail(ERR_PROTOCOL, "entry %llu does not follow %llu",
                    (unsigned long long)entry->modseq, (unsigned long long)window->last.modseq);
    if (entry_chain(encoded, window->last.chain) != entry->chain)
        return fail(ERR_PROTOCOL, "entry %llu is not chained to what is here",
                    (unsigned long long)entry->modseq);
    if (entry->time < window->last_time)
        return fail(ERR_PROTOCOL, "entry %llu: its time goes back",
                    (unsigned long long)entry->modseq);
    return ERR_OK;
}

static int apply_entries(struct tx *tx, struct apply *apply)
{
    struct bytes left = apply->batch->entries;
    bool whole = true;
    while (left.size) {
        struct entry entry;
        size_t size = entry_size(left);
        if (size == 0)
            return fail(ERR_PROTOCOL, "journal entries that are cut short");
        struct bytes encoded = bytes_of(left.data, size);
        int rc = entry_decode(encoded, &entry);
        if (rc == ERR_OK)
            rc = check_order(tx, &entry, encoded);
        if (rc)
            return rc == ERR_CORRUPT ? fail(ERR_PROTOCOL, "%s", err_message()) : rc;
        rc = apply_entry(tx, apply, &entry);
        if (rc == ERR_OK)
            rc = journal_append(tx->db, &tx->window, encoded, &entry);
        if (rc)
            return rc;
        tx->bytes += size;
        whole = entry.end_of_commit;
        left = bytes_of(left.data + size, left.size - size);
    }
    return whole ? ERR_OK : fail(ERR_PROTOCOL, "a commit that is cut short");
}

static int take_identity(struct tx *tx, const struct batch *batch)
{
    if (tx->node.store_id == batch->store_id)
        return ERR_OK;
    if (tx->node.store_id != 0 || tx->window.last.modseq != 0)
        return fail(ERR_REFUSED, "this is a copy of store %016llx, not of %016llx",
                    (unsigned long long)tx->node.store_id, (unsigned long long)batch->store_id);
    tx->node.store_id = batch->store_id;
    tx->node_dirty = true;
    struct position start = {.chain = entry_chain_start(batch->store_id)};
    tx->window = (struct journal_window){.base = start, .last = start};
    return journal_start(tx->db, start);
}

static int apply_batch(struct tx *tx, void *arg)
{
    struct apply *apply = arg;
    const struct batch *batch = apply->batch;
    apply->is_damaged = false;
    if (tx->node.role != ROLE_REPLICA)
        return fail(ERR_REFUSED, "%s: not a replica", store_path(tx->store));
    tx->silent = true;
    int rc = take_identity(tx, batch);
    if (rc)
        return rc;
    bool unchanged = !batch->former || strcmp(tx->node.master, batch->former) == 0;
    if (batch->master && unchanged && strcmp(tx->node.master, batch->master) != 0) {
        rc = tx_set_role(tx, ROLE_REPLICA, batch->master);
        if (rc)
            return rc;
    }
    for (size_t i = 0; i < batch->draft_count && rc == ERR_OK; i++)
        rc = draft_adopt(tx->db, batch->drafts[i], NULL);
    if (rc == ERR_OK)
        rc = apply_entries(tx, apply);
    /* Content of a stopped mailbox's messages has nobody who refers to it. */
    for (size_t i = 0; i < batch->draft_count && rc == ERR_OK; i++)
        rc = content_drop_unreferenced(tx->db, draft_guid(batch->drafts[i]));
    if (rc == ERR_OK)
        rc = stop_settle(tx);
    apply->position = tx->window.last;
    return rc;
}

static int remember_stop(struct apply *apply)
{
    struct stop *stops =
        array_room(apply->stops, apply->stop_count, &apply->stop_capacity, sizeof *stops);
    if (!stops)
        return ERR_NOMEM;
    apply->stops = stops;
    stops[apply->stop_count++] = apply->damaged;
    return ERR_OK;
}

int store_apply(struct store *store, const struct batch *batch, struct position *position)
{
    struct apply apply = {.batch = batch};
    int rc;
    do {
        rc = store_maintain(store, apply_batch, &apply);
        if (rc && apply.is_damaged && remember_stop(&apply) == ERR_OK)
            rc = ERR_AGAIN;
    } while (rc == ERR_AGAIN);
    *position = apply.position;
    free(apply.stops);
    return rc;
}
