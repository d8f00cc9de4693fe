#include "agent/heal.h"

#include "base/err.h"
#include "mailbox/draft.h"
#include "mailbox/lacking.h"

#define BATCH 64u               /* pieces of content that are asked for, and put, at once */
#define DRAFT_MEMORY (2u << 20) /* bytes of them that wait in memory */

struct batch_of_guids {
    struct guid after;
    struct guid guids[BATCH];
    size_t count;
    struct draft *drafts[BATCH];
    uint64_t found;
};

static int list(struct tx *tx, void *arg)
{
    struct batch_of_guids *work = arg;
    return lacking_list(tx_db(tx), &work->after, work->guids, BATCH, &work->count);
}

/* Unless it went, or came from elsewhere, meanwhile. */
static int put(struct tx *tx, void *arg)
{
    struct batch_of_guids *work = arg;
    work->found = 0;
    for (size_t i = 0; i < work->count; i++) {
        bool lacking;
        if (!work->drafts[i])
            continue;
        int rc = content_lacks(tx_db(tx), &work->guids[i], &lacking);
        if (rc == ERR_OK && lacking) {
            rc = draft_adopt(tx_db(tx), work->drafts[i], NULL);
            work->found++;
        }
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int heal_batch(struct store *store, const struct asker *other, struct batch_of_guids *work)
{
    int rc = ask_content(other, store_db(store), work->guids, work->count, DRAFT_MEMORY,
                         work->drafts, NULL);
    if (rc)
        return rc;
    bool any = false;
    for (size_t i = 0; i < work->count; i++)
        any = any || work->drafts[i];
    rc = any ? store_maintain(store, put, work) : ERR_OK;
    draft_close_all(work->drafts, work->count);
    return rc;
}

int heal(struct store *store, const struct asker *other, struct healed *healed)
{
    struct batch_of_guids work = {0};
    *healed = (struct healed){0};
    for (;;) {
        int rc = store_read(store, list, &work);
        if (rc || !work.count)
            return rc;
        work.found = 0;
        rc = heal_batch(store, other, &work);
        if (rc)
            return rc;
        healed->lacking += work.count;
        healed->found += work.found;
        work.after = work.guids[work.count - 1];
    }
}
