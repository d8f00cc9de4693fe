/* Checking what the journal says of itself: what the window keeps, the tree of epochs,
 * marks, slots, stops. */
#include "mailbox/checking.h"

#include "base/err.h"
#include "journal/retention.h"
#include "journal/slots.h"
#include "journal/tables.h"
#include "mailbox/lacking.h"
#include "mailbox/stop.h"

#include <inttypes.h>

static int check_epochs(struct check *check)
{
    struct epoch_id id = {0};
    struct epoch_id own = check->tx->node.epoch;
    struct epoch epoch, parent;
    int rc;
    while ((rc = epoch_next(check->txn, &id, &epoch)) == ERR_OK) {
        bool root = epoch.parent.number == 0;
        if (!root && epoch.parent.number >= id.number)
            check_wrong(check, false, "epochs", "epoch %u is not later than its parent", id.number);
        if (epoch.first <= epoch.before.modseq)
            check_wrong(check, false, "epochs", "epoch %u begins before what it follows",
                        id.number);
        int found = root ? ERR_OK : epoch_get(check->txn, epoch.parent, &parent);
        if (found == ERR_END)
            check_wrong(check, false, "epochs", "the parent of epoch %u is missing", id.number);
        else if (found)
            return found;
    }
    if (rc != ERR_END)
        return rc;
    rc = own.number ? epoch_get(check->txn, own, &epoch) : ERR_OK;
    if (rc == ERR_END)
        check_wrong(check, false, "epochs", "the epoch of this node is missing");
    return rc == ERR_END ? ERR_OK : rc;
}

/* A mark may be of a mailbox that is not here: marks of every branch are kept, and what a branch
 * made may have been joined with another of its name. */
static int check_marks(struct check *check)
{
    struct mark mark = {0};
    int rc;
    do {
        rc = mark_next(check->txn, &mark);
    } while (rc == ERR_OK);
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_slots(struct check *check)
{
    struct slot slot = {0};
    int rc;
    check->others = check->tx->node.role == ROLE_REPLICA;
    while ((rc = slot_next(check->txn, &slot)) == ERR_OK)
        check->others = true;
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_stops(struct check *check)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(check->txn, &id, &stop)) == ERR_OK)
        if (stop.mailbox == 0)
            check_wrong(check, false, "store",
                        "waits for the other end since entry %" PRIu64 ": %s", stop.modseq,
                        stop.reason);
    return rc == ERR_END ? ERR_OK : rc;
}

/* A row that nobody reads is one that somebody misses. */
static int each_state(struct check *check, struct db_cursor *cursor, struct bytes key,
                      struct bytes value)
{
    static const char *const known[] = {"node",      "relaxed", "journal",  "content",
                                        "retention", "met",     "forgotten"};
    (void)value;
    (void)cursor;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (bytes_equal(key, bytes_text(known[i])))
            return ERR_OK;
    if (lacking_is_mark(key)) /* check_content() looks at it */
        return ERR_OK;
    check_wrong(check, false, "state", "a row with an unknown key");
    return ERR_OK;
}

static int check_small_rows(struct check *check)
{
    struct retention retention;
    uint32_t highest;
    int rc = retention_load(check->txn, &retention);
    return rc ? rc : epoch_highest(check->txn, &highest);
}

static int check_forgotten(struct check *check)
{
    uint64_t modseq;
    int rc = journal_forgotten(check->txn, &modseq);
    if (rc == ERR_OK && modseq != UINT64_MAX && modseq > tx_window(check->tx)->base.modseq)
        check_wrong(check, false, "state", "entries that are still here are said to be gone");
    return rc;
}

int check_history(struct check *check)
{
    int rc = check_rows(check, TABLE_STATE, each_state);
    if (rc == ERR_OK)
        rc = check_note(check, "state", check_small_rows(check));
    if (rc == ERR_OK)
        rc = check_note(check, "state", check_forgotten(check));
    if (rc == ERR_OK)
        rc = check_note(check, "epochs", check_epochs(check));
    if (rc == ERR_OK)
        rc = check_note(check, "marks", check_marks(check));
    if (rc == ERR_OK)
        rc = check_note(check, "slots", check_slots(check));
    return rc ? rc : check_note(check, "stops", check_stops(check));
}
