#include "mailbox/wait.h"

#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"

#include <time.h>

#define LOOK_INTERVAL 2000  /* microseconds between looks at first; longer while nothing happens */
#define LOOK_MOST 50000     /* microseconds, at last */
#define ASK_INTERVAL 100000 /* microseconds after which the agent is reminded */

static int64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * TIMES_SECOND + at.tv_nsec / 1000;
}

static void rest(int64_t microseconds)
{
    const struct timespec pause = {.tv_sec = microseconds / TIMES_SECOND,
                                   .tv_nsec = microseconds % TIMES_SECOND * 1000};
    nanosleep(&pause, NULL);
}

/* A slot of another branch, or of a follower that the window does not reach any more, proves
 * nothing. */
static int count_holders(struct db_txn *txn, struct store_wait *wait)
{
    struct slot slot = {0};
    int rc;
    wait->holders = 0;
    while ((rc = slot_next(txn, &slot)) == ERR_OK) {
        if (slot.position.modseq < wait->modseq)
            continue;
        rc = journal_holds(txn, slot.position);
        if (rc == ERR_OK)
            wait->holders++;
        else if (rc != ERR_END && rc != ERR_TRIMMED)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* ERR_END: not yet. */
static int look(struct tx *tx, void *arg)
{
    struct store_wait *wait = arg;
    const struct journal_window *window = tx_window(tx);
    if (wait->modseq == 0)
        wait->modseq = window->last.modseq;
    wait->holders = 0;
    if (wait->modseq > window->last.modseq)
        return tx_node(tx)->role == ROLE_REPLICA
                   ? ERR_END
                   : fail(ERR_NOTFOUND, "entry %llu: the journal ends at %llu",
                          (unsigned long long)wait->modseq,
                          (unsigned long long)window->last.modseq);
    if (wait->replicas == 0)
        return ERR_OK;
    int rc = count_holders(tx_db(tx), wait);
    return rc || wait->holders >= wait->replicas ? rc : ERR_END;
}

int store_wait(struct store *store, struct store_wait *wait)
{
    int64_t begun = now();
    int64_t asked = 0;
    int64_t pause = LOOK_INTERVAL;
    int rc;
    while ((rc = store_read(store, look, wait)) == ERR_END) {
        int64_t spent = now() - begun;
        if (spent >= wait->timeout)
            return fail(ERR_TIMEOUT,
                        "entry %llu: %llu of %llu followers have it by now; it stays committed",
                        (unsigned long long)wait->modseq, (unsigned long long)wait->holders,
                        (unsigned long long)wait->replicas);
        if (wait->replicas && (asked == 0 || begun + spent - asked >= ASK_INTERVAL)) {
            store_wake_agent(store, WAKE_WAITING);
            asked = begun + spent;
        }
        rest(pause < wait->timeout - spent ? pause : wait->timeout - spent);
        pause = pause * 5 / 4 < LOOK_MOST ? pause * 5 / 4 : LOOK_MOST;
    }
    return rc;
}
