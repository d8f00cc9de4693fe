/* What the steps of a repair share, mailboxes that go, and a repair that is given up. */
#include "mailbox/repair.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/garbage.h"
#include "mailbox/repairing.h"
#include "mailbox/undo.h"
#include "mailbox/values.h"

/* A step of a repair. Between two steps the node may have become a master, whose mail is nobody
 * else's to change. */
struct step {
    int (*work)(struct tx *tx, void *arg);
    void *arg;
};

static int run_step(struct tx *tx, void *arg)
{
    const struct step *step = arg;
    if (tx->node.role != ROLE_REPLICA)
        return fail(ERR_REFUSED, "%s: it was promoted while it was being repaired",
                    store_path(tx->store));
    return step->work(tx, step->arg);
}

int repair_step(struct store *store, int (*work)(struct tx *tx, void *arg), void *arg)
{
    struct step step = {work, arg};
    return store_maintain(store, run_step, &step);
}

int repair_leave_number(struct tx *tx, uint32_t number)
{
    return number ? garbage_put(tx->db, number) : ERR_OK;
}

/* Whether rows are lost or cannot be read: what they referred to is not known. */
int repair_recount_if_damaged(struct tx *tx, const struct header *header,
                              const struct header *counted)
{
    bool whole = counted->messages == header->messages && counted->tombstones == header->tombstones;
    return whole ? ERR_OK : garbage_recount(tx->db);
}

int repair_unname(struct tx *tx, const struct header *header)
{
    uint64_t id;
    if (header->facts.state != MAILBOX_LIVE)
        return ERR_OK;
    int rc = header_id_of(tx->db, &header->facts.name, &id);
    if (rc == ERR_OK && id == header->id)
        rc = db_delete(tx->db, TABLE_NAMES, name_encoded(&header->facts.name));
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_forget(struct tx *tx, const struct header *header)
{
    uint8_t key[8];
    struct stop stop;
    save_be64(key, header->id);
    tx->node.mailboxes -= header_store_share(header);
    tx->node_dirty = true;
    int rc = stop_get(tx->db, header->id, &stop);
    if (rc == ERR_OK)
        rc = repair_leave_number(tx, stop.beside);
    if (rc == ERR_OK)
        rc = stop_drop(tx->db, header->id);
    if (rc == ERR_OK || rc == ERR_END)
        rc = repair_leave_number(tx, header->number);
    if (rc == ERR_OK)
        rc = values_delete_all(tx->db, header->id);
    if (rc == ERR_OK)
        rc = repair_unname(tx, header);
    return rc ? rc : db_delete(tx->db, TABLE_MAILBOXES, bytes_of(key, sizeof key));
}

/* One that this node had made, and that waits for what the upstream has of it, is a mailbox again.
 */
static int make_again(struct tx *tx, struct header *header)
{
    struct name name = header->facts.name;
    int rc = header_free_name(tx->db, header->id, &name, &header->facts.name);
    if (rc)
        return rc;
    header->facts.state = MAILBOX_LIVE;
    tx->node.mailboxes += header_store_share(header);
    tx->node_dirty = true;
    return header_name_put(tx->db, &header->facts.name, header->id);
}

/* A header alone may only keep a name until the records come. */
static int leave_mailbox(struct tx *tx, struct header *header, uint64_t modseq, bool *made)
{
    const struct facts *facts = &header->facts;
    int rc = ERR_OK;
    *made = facts->uidvalidity && (facts->state != MAILBOX_NONE || facts->name.size);
    if (!*made)
        return repair_forget(tx, header);
    if (facts->state == MAILBOX_NONE)
        rc = make_again(tx, header);
    header->lastmodseq = modseq;
    return rc ? rc : header_put(tx->db, header);
}

/* Its journal does not tell how it came about: as if the entry `modseq` had changed it. */
static int leave_as_it_is(struct tx *tx, const struct stop *stop, uint64_t modseq)
{
    struct header header;
    struct mark mark = {.mailbox = stop->mailbox, .modseq = modseq};
    int rc = stop->mailbox ? header_get(tx->db, stop->mailbox, &header) : ERR_END;
    bool made = stop->mailbox == 0;
    if (rc == ERR_OK)
        rc = leave_mailbox(tx, &header, modseq, &made);
    if (rc && rc != ERR_END)
        return rc;
    if (made) {
        mark.epoch = stop->epoch;
        mark.taken.modseq = stop->as_of;
    }
    return mark_put(tx->db, &mark);
}

int repair_give_up(struct tx *tx, uint64_t modseq)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        rc = repair_leave_number(tx, stop.beside);
        if (rc == ERR_OK)
            rc = stop_drop(tx->db, stop.mailbox);
        if (rc == ERR_OK)
            rc = leave_as_it_is(tx, &stop, modseq);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_wait(struct tx *tx)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        rc = repair_leave_number(tx, stop.beside);
        stop.beside = 0;
        stop.modseq = tx->window.last.modseq + 1;
        stop_stands(&stop, tx);
        if (rc == ERR_OK)
            rc = stop_put(tx->db, &stop);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* A mailbox that has been purged keeps its id and nothing else. */
int repair_leave_records(struct tx *tx, struct box *box)
{
    struct header *header = &box->header;
    int rc = repair_leave_number(tx, header->number);
    header->number = tx->node.next_number++;
    header->messages = header->unseen = header->bytes = header->tombstones = 0;
    header->items = 0;
    box->dirty = true;
    tx->node_dirty = true;
    return rc;
}

struct learning {
    const struct epoch *epochs;
    size_t count;
};

static int learn(struct tx *tx, void *arg)
{
    const struct learning *work = arg;
    struct epoch known;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < work->count; i++) {
        rc = epoch_get(tx->db, work->epochs[i].id, &known);
        if (rc == ERR_END)
            rc = epoch_put(tx->db, &work->epochs[i]);
    }
    return rc;
}

int repair_learn(struct store *store, const struct epoch *epochs, size_t count)
{
    struct learning work = {epochs, count};
    return store_maintain(store, learn, &work);
}

static int remove_mailbox(struct tx *tx, void *arg)
{
    const uint64_t *id = arg;
    struct header header;
    int rc = header_get(tx->db, *id, &header);
    if (rc == ERR_OK)
        return repair_forget(tx, &header);
    if (rc == ERR_END)
        rc = stop_drop(tx->db, *id);
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_remove(struct store *store, uint64_t mailbox)
{
    return repair_step(store, remove_mailbox, &mailbox);
}
