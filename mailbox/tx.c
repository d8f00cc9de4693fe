/* The inside of a transaction: its headers, the entries that it makes, and what is saved at its
 * end. How it begins and is committed is store.c's. */
#include "mailbox/tx.h"

#include "base/err.h"
#include "base/times.h"
#include "journal/tables.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMIT_MAX_BYTES (8u << 20) /* of the entries of one commit that is no merge */

int tx_load(struct tx *tx)
{
    int rc = node_load(tx->db, &tx->node);
    if (rc == ERR_OK)
        rc = journal_window(tx->db, &tx->window);
    if (rc)
        return rc;
    int64_t now = times_now();
    tx->time = now > tx->window.last_time ? now : tx->window.last_time;
    return ERR_OK;
}

void tx_free(struct tx *tx)
{
    while (tx->boxes) {
        struct box *box = tx->boxes;
        tx->boxes = box->next;
        free(box);
    }
    while (tx->mailboxes) {
        struct mailbox *mailbox = tx->mailboxes;
        tx->mailboxes = mailbox->next;
        uidset_free(&mailbox->seen);
        free(mailbox->user_text);
        free(mailbox);
    }
    buf_free(&tx->waiting);
    buf_free(&tx->body);
    change_free(&tx->change);
}

struct db_txn *tx_db(struct tx *tx)
{
    return tx->db;
}

struct store *tx_store(struct tx *tx)
{
    return tx->store;
}

const struct node *tx_node(const struct tx *tx)
{
    return &tx->node;
}

const struct journal_window *tx_window(const struct tx *tx)
{
    return &tx->window;
}

int64_t tx_time(const struct tx *tx)
{
    return tx->time;
}

void tx_set_actor(struct tx *tx, const char *actor)
{
    snprintf(tx->actor, sizeof tx->actor, "%s", actor);
}

void tx_frees_space(struct tx *tx)
{
    tx->frees_space = true;
}

int tx_set_role(struct tx *tx, enum role role, const char *master)
{
    if (master && strlen(master) > PEER_MAX_SIZE)
        return fail(ERR_INVALID, "%s: more than %u bytes", master, PEER_MAX_SIZE);
    tx->node.role = role;
    tx->node.fence = FENCE_NONE;
    tx->notify = true;
    snprintf(tx->node.master, sizeof tx->node.master, "%s", master ? master : "");
    tx->node_dirty = true;
    return ERR_OK;
}

static struct box *box_link(struct tx *tx, struct box *box)
{
    box->next = tx->boxes;
    tx->boxes = box;
    return box;
}

int tx_box(struct tx *tx, uint64_t id, struct box **out)
{
    for (struct box *box = tx->boxes; box; box = box->next) {
        if (box->header.id == id) {
            *out = box;
            return ERR_OK;
        }
    }
    struct box *box = calloc(1, sizeof *box);
    if (!box)
        return fail(ERR_NOMEM, "out of memory");
    int rc = header_get(tx->db, id, &box->header);
    if (rc) {
        free(box);
        return rc;
    }
    box->share = header_store_share(&box->header);
    *out = box_link(tx, box);
    return ERR_OK;
}

int tx_box_new(struct tx *tx, uint64_t id, struct box **out)
{
    struct box *box = calloc(1, sizeof *box);
    if (!box)
        return fail(ERR_NOMEM, "out of memory");
    box->header.id = id;
    box->header.number = tx->node.next_number++;
    box->dirty = true;
    tx->node_dirty = true;
    *out = box_link(tx, box);
    return ERR_OK;
}

uint64_t tx_next_modseq(const struct tx *tx)
{
    if (tx->jump)
        return tx->jump;
    return (tx->waiting.size ? tx->waiting_entry.modseq : tx->window.last.modseq) + 1;
}

/* The waiting entry goes to the journal. */
static int flush_waiting(struct tx *tx, bool end_of_commit)
{
    if (!tx->waiting.size)
        return ERR_OK;
    if (end_of_commit)
        entry_end_commit(tx->waiting.data, tx->waiting.size, tx->window.last.chain,
                         &tx->waiting_entry);
    int rc = journal_append(tx->db, &tx->window, buf_view(&tx->waiting), &tx->waiting_entry);
    buf_reset(&tx->waiting);
    return rc;
}

int tx_trim(struct tx *tx, uint64_t up_to, uint64_t most, bool archived, uint64_t *removed)
{
    int rc = flush_waiting(tx, true);
    if (rc == ERR_OK && tx->bytes)
        rc = journal_window_save(tx->db, &tx->window);
    if (rc == ERR_OK)
        rc = journal_trim(tx->db, up_to, most, archived, removed);
    return rc ? rc : journal_window(tx->db, &tx->window);
}

int tx_journal(struct tx *tx, enum entry_kind kind, uint64_t mailbox, uint64_t previous,
               uint64_t digest, struct bytes body)
{
    struct entry entry = {
        .modseq = tx_next_modseq(tx),
        .time = tx->time,
        .mailbox = mailbox,
        .previous = previous,
        .digest = digest,
        .epoch = tx->node.epoch.number,
        .kind = kind,
        .actor = bytes_text(tx->actor),
        .body = body,
    };
    int rc = flush_waiting(tx, false);
    if (rc)
        return rc;
    rc = entry_encode(&tx->waiting, &entry, tx->window.last.chain);
    if (rc)
        return rc;
    tx->waiting_entry = entry;
    tx->bytes += tx->waiting.size;
    uint64_t most = tx->merging ? STORE_COMMIT_MAX : COMMIT_MAX_BYTES;
    if (tx->bytes > most)
        return fail(ERR_INVALID, "one commit of more than %llu bytes of changes",
                    (unsigned long long)most);
    return ERR_OK;
}

int tx_open_epoch(struct tx *tx, const char *reason, uint64_t first, uint32_t number)
{
    char owner[400];
    uint32_t highest;
    struct epoch_id parent = tx->node.epoch;
    owner_print(&tx->node.owner, owner);
    struct epoch_body body = {.node = tx->node.node_id,
                              .parent = parent,
                              .owner = bytes_text(owner),
                              .reason = bytes_text(reason)};
    int rc = flush_waiting(tx, true);
    if (rc == ERR_OK)
        rc = epoch_highest(tx->db, &highest);
    if (rc)
        return rc;
    if (highest < number)
        highest = number;
    if (highest < parent.number)
        highest = parent.number;
    if (highest == UINT32_MAX)
        return fail(ERR_REFUSED, "%s: no epoch can be later than those that it has met",
                    store_path(tx->store));
    tx->node.epoch = (struct epoch_id){.number = highest + 1, .node = tx->node.node_id};
    tx->node_dirty = true;
    if (first > tx->window.last.modseq)
        tx->jump = first;
    struct epoch epoch = {.id = tx->node.epoch,
                          .parent = parent,
                          .before = tx->window.last,
                          .first = tx_next_modseq(tx),
                          .time = tx->time};
    rc = epoch_put(tx->db, &epoch);
    if (rc)
        return rc;
    struct buf bytes = {0};
    epoch_body_encode(&body, &bytes);
    rc = bytes.failed ? fail(ERR_NOMEM, "out of memory")
                      : tx_journal(tx, ENTRY_EPOCH, 0, tx->node.meta_modseq, tx->node.meta,
                                   buf_view(&bytes));
    buf_free(&bytes);
    tx->jump = 0;
    tx->node.meta_modseq = epoch.first;
    return rc;
}

static int save_boxes(struct tx *tx)
{
    for (struct box *box = tx->boxes; box; box = box->next) {
        if (!box->dirty)
            continue;
        uint64_t share = header_store_share(&box->header);
        tx->node.mailboxes += share - box->share;
        tx->node_dirty = true;
        int rc = header_put(tx->db, &box->header);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int tx_finish(struct tx *tx)
{
    int rc = flush_waiting(tx, true);
    if (rc == ERR_OK)
        rc = save_boxes(tx);
    if (rc == ERR_OK && tx->bytes)
        rc = journal_window_save(tx->db, &tx->window);
    if (rc == ERR_OK && tx->node_dirty)
        rc = node_save(tx->db, &tx->node);
    return rc;
}
