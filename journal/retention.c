#include "journal/retention.h"

#include "base/err.h"
#include "journal/slots.h"
#include "journal/state_row.h"

#define RETENTION_KEY "retention"
#define DAMAGED "journal: the row that tells how much is kept is damaged"
/* Offsets of the stored form. */
enum {
    AT_ENTRIES = 0,
    AT_BYTES = 8,
    AT_AGE = 16,
    AT_SLOT_BOUND = 24,
    AT_ARCHIVE = 32,
    ROW_SIZE = 33
};

int retention_load(struct db_txn *txn, struct retention *retention)
{
    uint8_t row[ROW_SIZE];
    *retention = (struct retention){0};
    int rc = state_row_get(txn, RETENTION_KEY, row, sizeof row, DAMAGED);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    retention->entries = load_u64(row + AT_ENTRIES);
    retention->bytes = load_u64(row + AT_BYTES);
    retention->age = (int64_t)load_u64(row + AT_AGE);
    retention->slot_bound = load_u64(row + AT_SLOT_BOUND);
    retention->archive = row[AT_ARCHIVE];
    return row[AT_ARCHIVE] > 1 || retention->age < 0 ? fail(ERR_CORRUPT, DAMAGED) : ERR_OK;
}

int retention_save(struct db_txn *txn, const struct retention *retention)
{
    uint8_t row[ROW_SIZE];
    save_u64(row + AT_ENTRIES, retention->entries);
    save_u64(row + AT_BYTES, retention->bytes);
    save_u64(row + AT_AGE, (uint64_t)retention->age);
    save_u64(row + AT_SLOT_BOUND, retention->slot_bound);
    row[AT_ARCHIVE] = retention->archive;
    return state_row_put(txn, RETENTION_KEY, row, sizeof row);
}

/* The lowest position of a slot that the window still reaches. */
static int find_held(struct db_txn *txn, uint64_t *held_from)
{
    struct journal_window window;
    struct slot slot = {0};
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    *held_from = UINT64_MAX;
    while ((rc = slot_next(txn, &slot)) == ERR_OK)
        if (slot.position.modseq >= window.base.modseq && slot.position.modseq < *held_from)
            *held_from = slot.position.modseq;
    return rc == ERR_END ? ERR_OK : rc;
}

int retention_cut(struct db_txn *txn, const struct retention *retention, int64_t now,
                  struct cut *cut)
{
    *cut = (struct cut){
        .entries = retention->entries ? retention->entries : UINT64_MAX,
        .bytes = retention->bytes ? retention->bytes : UINT64_MAX,
        .before = retention->age ? now - retention->age : INT64_MIN,
        .up_to = UINT64_MAX,
        .held_bytes = retention->slot_bound ? retention->slot_bound : UINT64_MAX,
    };
    return find_held(txn, &cut->held_from);
}

/* Whether an entry goes, when `entries` and `bytes` are what the window has with it. When one
 * stays, so do all behind it. */
static bool cut_takes(const struct cut *cut, const struct entry *entry, size_t size,
                      uint64_t entries, uint64_t bytes)
{
    if (entry->modseq > cut->up_to)
        return false;
    if (entry->modseq > cut->held_from && bytes <= cut->held_bytes)
        return false;
    return entries > cut->entries || (bytes >= size && bytes - size >= cut->bytes) ||
           entry->time < cut->before;
}

int cut_walk_begin(struct db_txn *txn, struct cut_walk *walk)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    *walk = (struct cut_walk){.up_to = window.base.modseq,
                              .seen = window.base.modseq,
                              .entries = window.entries,
                              .bytes = window.bytes,
                              .oldest = INT64_MAX};
    return rc;
}

static void look_at(const struct cut *cut, const struct entry *entry, size_t size,
                    struct cut_walk *walk, struct cut_walk *open)
{
    if (open->oldest == INT64_MAX)
        open->oldest = entry->time;
    if (!cut_takes(cut, entry, size, open->entries, open->bytes)) {
        walk->oldest = open->oldest;
        walk->done = true;
        return;
    }
    open->seen = entry->modseq;
    open->entries--;
    open->bytes -= size;
    open->going++;
    open->going_bytes += size;
    if (entry->end_of_commit) {
        open->up_to = entry->modseq;
        *walk = *open;
    }
}

int cut_walk_on(struct db_txn *txn, const struct cut *cut, uint64_t most, struct cut_walk *walk)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    struct cut_walk open = *walk; /* in the midst of a commit */
    uint64_t start = walk->going;
    int rc = journal_cursor_open(txn, &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, walk->seen + 1, &entry, &encoded); rc == ERR_OK;
         rc = journal_next(cursor, &entry, &encoded)) {
        look_at(cut, &entry, encoded.size, walk, &open);
        if (walk->done || walk->going - start >= most)
            break;
    }
    journal_cursor_close(cursor);
    if (rc == ERR_END)
        walk->done = true;
    return rc == ERR_END ? ERR_OK : rc;
}
