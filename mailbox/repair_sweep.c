/* What repairs left behind is removed bit by bit: records under local numbers that are nobody's any
 * more. */
#include "mailbox/repair.h"

#include "base/err.h"
#include "mailbox/check.h"
#include "mailbox/content.h"
#include "mailbox/garbage.h"
#include "mailbox/tx.h"

#define SWEEP_BATCH 2048u /* records in one transaction */
#define BATCH 64u

struct sweep {
    uint32_t number; /* being swept */
    bool done;
};

/* What a row that cannot be read referred to is found out by counting. */
static int sweep_record(struct tx *tx, uint32_t number, const struct record *record, bool readable)
{
    int rc = record_delete(tx->db, number, record->uid);
    if (rc == ERR_OK && readable)
        rc = content_unref(tx->db, &record->guid);
    bool unsure = !readable || (rc == ERR_CORRUPT && !db_txn_error(tx->db));
    return unsure ? garbage_recount(tx->db) : rc;
}

static int sweep_batch(struct tx *tx, uint32_t number, size_t *swept)
{
    struct record records[BATCH];
    size_t count;
    int rc = record_batch(tx->db, number, 1, records, BATCH, &count);
    bool unreadable = rc == ERR_CORRUPT && !db_txn_error(tx->db) && records[count].uid;
    *swept = count + unreadable;
    if (unreadable)
        rc = sweep_record(tx, number, &records[count], false);
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        rc = sweep_record(tx, number, &records[i], true);
    return rc;
}

static int sweep_some(struct tx *tx, void *arg)
{
    struct sweep *work = arg;
    size_t swept = 1;
    uint32_t number = work->number;
    int rc = garbage_next(tx->db, &number);
    work->done = rc == ERR_END;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    work->number = number;
    for (unsigned all = 0; rc == ERR_OK && swept && all < SWEEP_BATCH; all += (unsigned)swept)
        rc = sweep_batch(tx, number, &swept);
    return rc || swept ? rc : garbage_drop(tx->db, number);
}

static int recount(struct tx *tx, void *arg)
{
    bool counted;
    (void)arg;
    int rc = check_references(tx, &counted);
    return rc || !counted ? rc : garbage_recounted(tx->db);
}

static int is_recount_due(struct tx *tx, void *arg)
{
    return garbage_recount_due(tx->db, arg);
}

int repair_sweep(struct store *store)
{
    struct sweep work = {0};
    bool due = false;
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.done)
        rc = store_maintain(store, sweep_some, &work);
    if (rc == ERR_OK)
        rc = store_read(store, is_recount_due, &due);
    return rc == ERR_OK && due ? store_maintain(store, recount, NULL) : rc;
}
