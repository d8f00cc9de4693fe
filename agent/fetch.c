#include "agent/fetch.h"

#include "base/err.h"
#include "mailbox/draft.h"

#include <stdlib.h>

#define DRAFT_MEMORY (4u << 20) /* bytes of content that wait in memory */

struct lacking {
    const struct merge_other *other;
    struct guid *guids;
    size_t count;
};

static int find_lacking(struct tx *tx, void *arg)
{
    struct lacking *work = arg;
    work->count = 0;
    for (size_t i = 0; i < work->other->count; i++) {
        const struct record *record = &work->other->records[i].record;
        struct content content;
        int rc = content_get(tx_db(tx), &record->guid, &content);
        if (rc && rc != ERR_END)
            return rc;
        if (record_live(record) && (rc == ERR_END || content.number == 0))
            work->guids[work->count++] = record->guid;
    }
    return ERR_OK;
}

static int by_guid(const void *a, const void *b)
{
    return guid_compare(a, b);
}

/* Each GUID once. */
static void sort_lacking(struct lacking *work)
{
    size_t kept = 0;
    if (work->count)
        qsort(work->guids, work->count, sizeof *work->guids, by_guid);
    for (size_t i = 0; i < work->count; i++)
        if (i == 0 || !guid_equal(&work->guids[i], &work->guids[kept - 1]))
            work->guids[kept++] = work->guids[i];
    work->count = kept;
}

static int ask_all(struct store *store, const struct asker *asker, const struct lacking *lacking,
                   struct draft **drafts, uint64_t *bytes)
{
    int rc = ERR_OK;
    for (size_t at = 0; rc == ERR_OK && at < lacking->count; at += ASK_CONTENT_MAX) {
        size_t left = lacking->count - at;
        size_t some = left < ASK_CONTENT_MAX ? left : ASK_CONTENT_MAX;
        rc = ask_content(asker, store_db(store), lacking->guids + at, some, DRAFT_MEMORY,
                         drafts + at, bytes);
        if (rc == ERR_OK && some < left)
            rc = draft_stage_all(drafts + at, some);
    }
    return rc;
}

/* What the other end has not got either is left out. */
static size_t keep_found(struct draft **drafts, size_t count)
{
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (drafts[i])
            drafts[kept++] = drafts[i];
    return kept;
}

int fetch_content(struct store *store, const struct asker *asker, const struct merge_other *other,
                  struct draft ***drafts, size_t *count, uint64_t *bytes)
{
    struct lacking lacking = {.other = other};
    *drafts = NULL;
    *count = 0;
    lacking.guids = malloc((other->count + 1) * sizeof *lacking.guids);
    struct draft **found = NULL;
    int rc = lacking.guids ? store_read(store, find_lacking, &lacking)
                           : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK) {
        sort_lacking(&lacking);
        found = calloc(lacking.count + 1, sizeof(struct draft *));
        rc = found ? ask_all(store, asker, &lacking, found, bytes)
                   : fail(ERR_NOMEM, "out of memory");
    }
    if (rc == ERR_OK) {
        *drafts = found;
        *count = keep_found(found, lacking.count);
    } else if (found) {
        fetch_close(found, lacking.count);
    }
    free(lacking.guids);
    return rc;
}

void fetch_close(struct draft **drafts, size_t count)
{
    draft_close_all(drafts, count);
    free(drafts);
}
