#include "journal/history.h"

#include "base/err.h"

#include <stdlib.h>

struct history {
    struct archive *archive;
};

int history_open(int directory, struct history **out)
{
    struct history *history = calloc(1, sizeof *history);
    *out = NULL;
    if (!history)
        return fail(ERR_NOMEM, "out of memory");
    int rc = archive_open(directory, &history->archive);
    if (rc) {
        free(history);
        return rc;
    }
    *out = history;
    return ERR_OK;
}

void history_close(struct history *history)
{
    if (!history)
        return;
    archive_close(history->archive);
    free(history);
}

bool history_archived(const struct history *history, uint64_t modseq)
{
    return archive_reaches(history->archive, modseq);
}

static int reach(struct history *history, struct db_txn *txn, struct journal_window *window)
{
    uint64_t forgotten;
    int rc = journal_window(txn, window);
    if (rc == ERR_OK)
        rc = journal_forgotten(txn, &forgotten);
    return rc ? rc : archive_reach(history->archive, window->base, forgotten);
}

int history_archive(struct history *history, struct db_txn *txn, struct archive **archive)
{
    struct journal_window window;
    *archive = history->archive;
    return reach(history, txn, &window);
}

int history_oldest(struct history *history, struct db_txn *txn, uint64_t *modseq)
{
    struct journal_window window;
    int rc = reach(history, txn, &window);
    *modseq = archive_oldest(history->archive);
    return rc;
}

const char *history_gap(const struct history *history)
{
    return archive_gap(history->archive);
}

static int trimmed(const struct history *history, uint64_t modseq)
{
    const char *gap = archive_gap(history->archive);
    return fail(ERR_TRIMMED, "modseq %llu: %s", (unsigned long long)modseq,
                *gap ? gap : "trimmed: the journal begins later");
}

static int get_archived(struct history *history, uint64_t modseq, struct entry *entry,
                        struct bytes *encoded)
{
    int rc = archive_at_or_below(history->archive, modseq, entry, encoded);
    if (rc == ERR_END)
        return trimmed(history, modseq);
    return rc == ERR_OK && entry->modseq != modseq ? ERR_END : rc;
}

int history_get(struct history *history, struct db_txn *txn, uint64_t modseq, struct entry *entry,
                struct bytes *encoded)
{
    struct journal_window window;
    if (archive_reaches(history->archive, modseq))
        return get_archived(history, modseq, entry, encoded);
    int rc = journal_get(txn, modseq, entry, encoded);
    if (rc != ERR_END)
        return rc;
    rc = journal_window(txn, &window);
    if (rc || modseq > window.base.modseq)
        return rc ? rc : ERR_END;
    rc = reach(history, txn, &window);
    return rc ? rc : get_archived(history, modseq, entry, encoded);
}

static int copy_archived(struct history *history, uint64_t after, size_t most, struct buf *out,
                         struct position *last)
{
    struct entry entry;
    struct bytes encoded;
    size_t start = out->size;
    int rc;
    while ((rc = archive_above(history->archive, after, &entry, &encoded)) == ERR_OK) {
        if (out->size > start && out->size - start + encoded.size > most)
            break;
        buf_put(out, encoded.data, encoded.size);
        *last = (struct position){.modseq = entry.modseq, .chain = entry.chain};
        after = entry.modseq;
    }
    if (rc && rc != ERR_END)
        return rc;
    if (out->failed)
        return fail(ERR_NOMEM, "out of memory");
    return out->size > start ? ERR_OK : ERR_END;
}

int history_copy(struct history *history, struct db_txn *txn, uint64_t after, size_t most,
                 struct buf *out, struct position *last)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (after >= window.base.modseq)
        return journal_copy(txn, after, most, out, last);
    rc = reach(history, txn, &window);
    if (rc)
        return rc;
    if (!archive_reaches(history->archive, after + 1))
        return trimmed(history, after);
    rc = copy_archived(history, after, most, out, last);
    return rc == ERR_END ? trimmed(history, after) : rc;
}

int history_round_down(struct history *history, struct db_txn *txn, uint64_t modseq,
                       uint64_t *rounded)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (modseq >= window.base.modseq)
        return journal_round_down(txn, modseq, rounded);
    rc = reach(history, txn, &window);
    if (rc)
        return rc;
    uint64_t oldest = archive_oldest(history->archive);
    if (modseq < oldest)
        return trimmed(history, modseq);
    while (modseq > oldest) {
        struct entry entry;
        rc = archive_at_or_below(history->archive, modseq, &entry, NULL);
        if (rc)
            break;
        modseq = entry.modseq;
        if (entry.end_of_commit)
            break;
        modseq--;
    }
    /* Nothing is at or below it: the oldest entry comes after a jump. */
    *rounded = rc == ERR_END ? oldest : modseq;
    return rc == ERR_END ? ERR_OK : rc;
}

int history_at_time(struct history *history, struct db_txn *txn, int64_t time, uint64_t *modseq)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (time >= window.base_time)
        return journal_at_time(txn, time, modseq);
    rc = reach(history, txn, &window);
    if (rc == ERR_OK)
        rc = archive_at_time(history->archive, time, modseq);
    if (rc == ERR_OK)
        return history_round_down(history, txn, *modseq, modseq);
    const char *gap = archive_gap(history->archive);
    return rc == ERR_END ? fail(ERR_TRIMMED, "that time: %s",
                                *gap ? gap : "trimmed: the journal begins later")
                         : rc;
}
