/* A stopped mailbox becomes equal to the upstream's: in place, in one transaction that also lets it
 * go on; or first built beside, under another local number, in bounded transactions, and then
 * switched to in one. The store's own values likewise. */
#include "mailbox/repairing.h"

#include "base/err.h"
#include "mailbox/content.h"
#include "mailbox/count.h"
#include "mailbox/values.h"

#include <string.h>

#define COPY_BATCH 4096u /* records in one transaction */

#define BATCH 64u

/* Tombstones are in no digest. Those of UIDs that the upstream never gave out are of a branch that
 * was thrown away. */
static int drop_beyond(struct tx *tx, struct box *box, uint32_t uidnext)
{
    struct record records[BATCH];
    size_t count = BATCH;
    int rc = ERR_OK;
    while (rc == ERR_OK && count == BATCH && uidnext) {
        rc = record_batch(tx->db, box->header.number, uidnext, records, BATCH, &count);
        for (size_t i = 0; rc == ERR_OK && i < count; i++)
            rc = apply_record(tx, box, &records[i], NULL);
    }
    return rc;
}

/* Counts as they really are, before what is to come. */
static void take_counts(struct header *header, const struct header *counted)
{
    header->messages = counted->messages;
    header->unseen = counted->unseen;
    header->bytes = counted->bytes;
    header->tombstones = counted->tombstones;
    header->items = counted->items;
}

/* Clients were told here that up to `forgotten` nothing can be said: the floor goes on saying so
 * where the header that came, with DELETEDMODSEQ `journaled`, does not. */
static void raise_floor(struct header *header, uint64_t forgotten, uint64_t journaled)
{
    if (forgotten > journaled && forgotten > header->floor)
        header->floor = forgotten;
}

/* All facts but name and state, which follow the journal. */
static int take_facts(struct tx *tx, struct box *box, const struct repair_change *change)
{
    struct header *header = &box->header;
    struct facts proven = change->header.facts;
    if (header->items != change->header.items || header->messages != change->header.messages ||
        header->unseen != change->header.unseen || header->bytes != change->header.bytes)
        return fail(ERR_DIFFERS,
                    "mailbox id:%016llx: its records do not give the upstream's digest",
                    (unsigned long long)header->id);
    proven.state = header->facts.state;
    proven.name = header->facts.name;
    raise_floor(header, header->facts.deletedmodseq, proven.deletedmodseq);
    header->facts = proven;
    header->lastmodseq = change->header.lastmodseq;
    header->changed = change->header.changed;
    if (header->floor < change->floor)
        header->floor = change->floor;
    if (header->floor < change->header.floor)
        header->floor = change->header.floor;
    box->dirty = true;
    if (tx->node.last_uidvalidity < proven.uidvalidity) {
        tx->node.last_uidvalidity = proven.uidvalidity;
        tx->node_dirty = true;
    }
    return ERR_OK;
}

/* What the upstream has taken in of this mailbox, and the journal here does not tell yet. */
static int keep_marks(struct tx *tx, const struct repair_change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < change->mark_count; i++) {
        struct mark mark = change->marks[i];
        bool note = mark.mailbox == MARK_EPOCH;
        if ((mark.mailbox && mark.mailbox != change->header.id && !note) ||
            mark.modseq > change->as_of || mark.modseq <= tx->window.last.modseq)
            continue;
        if (!note)
            mark.mailbox = change->header.id;
        rc = mark_put(tx->db, &mark);
    }
    return rc;
}

static int apply(struct tx *tx, void *arg)
{
    const struct repair_change *change = arg;
    struct box *box;
    struct stop stop;
    uint64_t id = change->header.id;
    int rc = tx_box(tx, id, &box);
    if (rc == ERR_END)
        rc = tx_box_new(tx, id, &box);
    if (rc == ERR_OK)
        rc = stop_get(tx->db, id, &stop);
    if (rc)
        return rc == ERR_END ? fail(ERR_REFUSED, "mailbox id:%016llx: it is not stopped",
                                    (unsigned long long)id)
                             : rc;
    if (stop.beside) {
        rc = repair_leave_number(tx, box->header.number);
        box->header.number = stop.beside;
    } else {
        rc = repair_recount_if_damaged(tx, &box->header, &change->counted);
    }
    take_counts(&box->header, &change->counted);
    if (rc == ERR_OK)
        rc = repair_adopt(tx, change->drafts, change->draft_count);
    if (rc == ERR_OK)
        rc = repair_put_records(tx, box, change->other, change->gone, change->expunged);
    if (rc == ERR_OK)
        rc = drop_beyond(tx, box, change->header.facts.uidnext);
    if (rc == ERR_OK)
        rc = repair_put_values(tx, box, change);
    if (rc == ERR_OK)
        rc = take_facts(tx, box, change);
    if (rc == ERR_OK && !stop.epoch.number)
        raise_floor(&box->header, stop.as_of, box->header.facts.deletedmodseq);
    if (rc == ERR_OK)
        rc = keep_marks(tx, change);
    if (rc == ERR_OK)
        rc = repair_drop_unused(tx, change->drafts, change->draft_count);
    if (rc == ERR_OK && change->header.facts.state == MAILBOX_PURGED)
        rc = repair_leave_records(tx, box);
    stop.beside = 0;
    stop.state = STOP_MERGED;
    stop.modseq = change->as_of + 1;
    stop.epoch = change->epoch;
    stop.as_of = change->as_of;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    return rc ? rc : stop_settle(tx);
}

int repair_apply(struct store *store, const struct repair_change *change)
{
    return repair_step(store, apply, (void *)(uintptr_t)change);
}

struct beside {
    uint64_t mailbox;
    uint32_t number;
    uint32_t from;
    const struct merge_other *other;
    const struct uidset *gone;
    struct draft **drafts;
    size_t draft_count;
    uint64_t *expunged;
    const struct header *before; /* counts of the rows that it is built from */
    struct header *counted;
    struct uidset *damaged;
    const struct record_sums *sums;
};

static int begin_beside(struct tx *tx, void *arg)
{
    struct beside *work = arg;
    struct header header;
    struct stop stop;
    int rc = stop_get(tx->db, work->mailbox, &stop);
    if (rc)
        return rc;
    rc = repair_leave_number(tx, stop.beside);
    work->number = tx->node.next_number++;
    tx->node_dirty = true;
    stop.beside = work->number;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    if (rc == ERR_OK)
        rc = header_get(tx->db, work->mailbox, &header);
    if (rc == ERR_OK)
        rc = repair_recount_if_damaged(tx, &header, work->before);
    return rc == ERR_END ? ERR_OK : rc;
}

int repair_begin_beside(struct store *store, uint64_t mailbox, const struct header *counted,
                        uint32_t *number)
{
    struct beside work = {.mailbox = mailbox, .before = counted};
    int rc = repair_step(store, begin_beside, &work);
    *number = work.number;
    return rc;
}

static int copy_beside(struct tx *tx, void *arg)
{
    struct beside *work = arg;
    struct header header;
    struct record records[BATCH];
    size_t count = BATCH;
    uint32_t from = work->from;
    int rc = header_get(tx->db, work->mailbox, &header);
    for (unsigned copied = 0; rc == ERR_OK && from && copied < COPY_BATCH; copied += BATCH) {
        rc = record_batch(tx->db, header.number, from, records, BATCH, &count);
        from = count == BATCH ? records[count - 1].uid + 1 : 0;
        if (rc == ERR_CORRUPT && records[count].uid) { /* it is not taken along, but fetched */
            from = records[count].uid + 1;
            rc = ERR_OK;
        }
        for (size_t i = 0; rc == ERR_OK && i < count; i++) {
            rc = record_put(tx->db, work->number, &records[i]);
            if (rc == ERR_OK)
                rc = content_ref(tx->db, &records[i].guid);
        }
    }
    if (rc == ERR_OK)
        work->from = from;
    return rc;
}

int repair_copy_beside(struct store *store, uint64_t mailbox, uint32_t number, uint32_t *from)
{
    struct beside work = {.mailbox = mailbox, .number = number, .from = *from};
    int rc = repair_step(store, copy_beside, &work);
    *from = work.from;
    return rc;
}

static int put_beside(struct tx *tx, void *arg)
{
    const struct beside *work = arg;
    struct box box = {.header = {.number = work->number}};
    int rc = repair_adopt(tx, work->drafts, work->draft_count);
    if (rc == ERR_OK)
        rc = repair_put_records(tx, &box, work->other, work->gone, work->expunged);
    return rc ? rc : repair_drop_unused(tx, work->drafts, work->draft_count);
}

int repair_put_beside(
    struct store *store, uint32_t number, const struct merge_other *other,
    const struct uidset *gone, struct draft **drafts, size_t draft_count,
    uint64_t *expunged) /* NOLINT(readability-non-const-parameter): written later */
{
    struct beside work = {.number = number,
                          .other = other,
                          .gone = gone,
                          .drafts = drafts,
                          .draft_count = draft_count,
                          .expunged = expunged};
    return repair_step(store, put_beside, &work);
}

static int count_rows(struct tx *tx, void *arg)
{
    struct beside *work = arg;
    struct header header;
    struct stop stop;
    *work->counted = (struct header){0};
    memset(work->sums->sums, 0, work->sums->count * sizeof *work->sums->sums);
    int rc = header_get(tx->db, work->mailbox, &header);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    rc = stop_get(tx->db, work->mailbox, &stop);
    if (rc == ERR_OK && stop.beside)
        header.number = stop.beside;
    uidset_clear(work->damaged);
    return rc ? rc : count_records(tx->db, &header, work->counted, work->damaged, work->sums);
}

int repair_count(struct store *store, uint64_t mailbox, struct header *counted,
                 struct uidset *damaged, const struct record_sums *sums)
{
    struct beside work = {.mailbox = mailbox, .counted = counted, .damaged = damaged, .sums = sums};
    return store_read(store, count_rows, &work);
}

struct store_values {
    const struct merge_other *other;
    struct epoch_id epoch;
    uint64_t as_of;
};

static int set_values(struct tx *tx, void *arg)
{
    const struct store_values *work = arg;
    struct stop stop = {.modseq = work->as_of + 1,
                        .state = STOP_MERGED,
                        .epoch = work->epoch,
                        .as_of = work->as_of};
    uint64_t items = 0;
    int rc = values_delete_all(tx->db, 0);
    for (size_t i = 0; rc == ERR_OK && i < work->other->meta_count; i++)
        rc = repair_put_meta(tx, 0, &items, &work->other->metas[i]);
    tx->node.meta = items;
    tx->node_dirty = true;
    if (rc == ERR_OK)
        rc = stop_put(tx->db, &stop);
    return rc ? rc : stop_settle(tx);
}

int repair_values(struct store *store, const struct merge_other *other, struct epoch_id epoch,
                  uint64_t as_of)
{
    struct store_values work = {.other = other, .epoch = epoch, .as_of = as_of};
    return repair_step(store, set_values, &work);
}
