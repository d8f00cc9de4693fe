#include "journal/journal.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/state_row.h"
#include "journal/tables.h"

#include <stdlib.h>

#define WINDOW_SIZE 68u /* with its CRC-32 */
#define WINDOW_KEY "journal"
#define FORGOTTEN_KEY "forgotten"

struct key {
    uint8_t bytes[8];
};

static struct bytes key_of(struct key *key, uint64_t modseq)
{
    save_be64(key->bytes, modseq);
    return bytes_of(key->bytes, sizeof key->bytes);
}

int journal_window(struct db_txn *txn, struct journal_window *window)
{
    struct bytes value;
    *window = (struct journal_window){0};
    int rc = db_get(txn, TABLE_STATE, bytes_text(WINDOW_KEY), &value);
    if (rc)
        return rc == ERR_END ? fail(ERR_CORRUPT, "journal: its window is missing") : rc;
    struct reader reader = reader_of(value);
    window->base.modseq = read_u64(&reader);
    window->base.chain = read_u64(&reader);
    window->last.modseq = read_u64(&reader);
    window->last.chain = read_u64(&reader);
    window->base_time = (int64_t)read_u64(&reader);
    window->last_time = (int64_t)read_u64(&reader);
    window->entries = read_u64(&reader);
    window->bytes = read_u64(&reader);
    uint32_t crc = read_u32(&reader);
    if (!reader_done(&reader) || crc != hash_crc32(value.data, WINDOW_SIZE - 4) ||
        window->base.modseq > window->last.modseq)
        return fail(ERR_CORRUPT, "journal: its window is malformed");
    return ERR_OK;
}

int journal_window_save(struct db_txn *txn, const struct journal_window *window)
{
    uint8_t out[WINDOW_SIZE];
    save_u64(out, window->base.modseq);
    save_u64(out + 8, window->base.chain);
    save_u64(out + 16, window->last.modseq);
    save_u64(out + 24, window->last.chain);
    save_u64(out + 32, (uint64_t)window->base_time);
    save_u64(out + 40, (uint64_t)window->last_time);
    save_u64(out + 48, window->entries);
    save_u64(out + 56, window->bytes);
    save_u32(out + 64, hash_crc32(out, 64));
    return db_put(txn, TABLE_STATE, bytes_text(WINDOW_KEY), bytes_of(out, sizeof out));
}

int journal_start(struct db_txn *txn, struct position base)
{
    struct journal_window window = {.base = base, .last = base};
    return journal_window_save(txn, &window);
}

int journal_append(struct db_txn *txn, struct journal_window *window, struct bytes encoded,
                   const struct entry *entry)
{
    struct key key;
    int rc = db_append(txn, TABLE_JOURNAL, key_of(&key, entry->modseq), encoded);
    if (rc)
        return rc;
    window->last = (struct position){.modseq = entry->modseq, .chain = entry->chain};
    window->last_time = entry->time;
    window->entries++;
    window->bytes += encoded.size;
    return ERR_OK;
}

static int decode_at(uint64_t modseq, struct bytes value, struct entry *entry)
{
    int rc = entry_decode(value, entry);
    if (rc)
        return rc;
    if (entry->modseq != modseq)
        return fail(ERR_CORRUPT, "journal entry %llu stands in the place of %llu",
                    (unsigned long long)entry->modseq, (unsigned long long)modseq);
    return ERR_OK;
}

int journal_get(struct db_txn *txn, uint64_t modseq, struct entry *entry, struct bytes *encoded)
{
    struct key key;
    struct bytes value;
    int rc = db_get(txn, TABLE_JOURNAL, key_of(&key, modseq), &value);
    if (rc)
        return rc;
    if (encoded)
        *encoded = value;
    return decode_at(modseq, value, entry);
}

int journal_holds(struct db_txn *txn, struct position position)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (position_equal(position, window.base))
        return ERR_OK;
    if (position.modseq < window.base.modseq)
        return fail(ERR_TRIMMED, "modseq %llu: trimmed: the journal begins behind %llu",
                    (unsigned long long)position.modseq, (unsigned long long)window.base.modseq);
    struct entry entry;
    rc = journal_get(txn, position.modseq, &entry, NULL);
    if (rc)
        return rc;
    return entry.chain == position.chain ? ERR_OK : ERR_END;
}

int journal_cursor_open(struct db_txn *txn, struct journal_cursor **cursor)
{
    return db_cursor_open(txn, TABLE_JOURNAL, (struct db_cursor **)cursor);
}

void journal_cursor_close(struct journal_cursor *cursor)
{
    db_cursor_close((struct db_cursor *)cursor);
}

static int decode_found(struct bytes key, struct bytes value, struct entry *entry,
                        struct bytes *encoded)
{
    if (key.size != sizeof(struct key))
        return fail(ERR_CORRUPT, "journal: malformed key");
    if (encoded)
        *encoded = value;
    return decode_at(load_be64(key.data), value, entry);
}

int journal_seek(struct journal_cursor *cursor, uint64_t modseq, struct entry *entry,
                 struct bytes *encoded)
{
    struct key key;
    struct bytes found, value;
    int rc = db_seek((struct db_cursor *)cursor, key_of(&key, modseq), &found, &value);
    return rc ? rc : decode_found(found, value, entry, encoded);
}

int journal_next(struct journal_cursor *cursor, struct entry *entry, struct bytes *encoded)
{
    struct bytes found, value;
    int rc = db_next((struct db_cursor *)cursor, &found, &value);
    return rc ? rc : decode_found(found, value, entry, encoded);
}

static int refuse_trimmed(struct db_txn *txn, uint64_t after)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (after < window.base.modseq)
        return fail(ERR_TRIMMED, "modseq %llu: trimmed: the journal begins behind %llu",
                    (unsigned long long)after, (unsigned long long)window.base.modseq);
    return ERR_OK;
}

static int refuse_early_end(struct db_txn *txn, uint64_t last)
{
    struct journal_window window;
    int rc = journal_window(txn, &window);
    if (rc == ERR_OK && last < window.last.modseq)
        rc = fail(ERR_CORRUPT, "journal: it ends at entry %llu instead of %llu",
                  (unsigned long long)last, (unsigned long long)window.last.modseq);
    return rc;
}

int journal_copy(struct db_txn *txn, uint64_t after, size_t most, struct buf *out,
                 struct position *last)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    bool any = false;
    int rc = refuse_trimmed(txn, after);
    if (rc)
        return rc;
    rc = journal_cursor_open(txn, &cursor);
    if (rc)
        return rc;
    size_t start = out->size;
    uint64_t before = after;
    for (rc = journal_seek(cursor, after + 1, &entry, &encoded); rc == ERR_OK;
         rc = journal_next(cursor, &entry, &encoded)) {
        if (entry.modseq != before + 1 && entry.kind != ENTRY_EPOCH) {
            rc =
                fail(ERR_CORRUPT, "journal: entry %llu is missing", (unsigned long long)before + 1);
            break;
        }
        before = entry.modseq;
        if (any && out->size - start + encoded.size > most)
            break;
        buf_put(out, encoded.data, encoded.size);
        *last = (struct position){.modseq = entry.modseq, .chain = entry.chain};
        any = true;
    }
    journal_cursor_close(cursor);
    if (rc == ERR_END)
        rc = refuse_early_end(txn, before);
    if (rc)
        return rc;
    if (out->failed)
        return fail(ERR_NOMEM, "out of memory");
    return any ? ERR_OK : ERR_END;
}

int journal_tail(struct db_txn *txn, uint64_t after, struct journal_tail *tail)
{
    struct key key;
    struct bytes found, value;
    struct entry entry;
    struct db_cursor *cursor;
    *tail = (struct journal_tail){0};
    int rc = refuse_trimmed(txn, after);
    if (rc == ERR_OK)
        rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(&key, after + 1), &found, &value);
    if (rc == ERR_OK)
        rc = decode_found(found, value, &entry, NULL);
    if (rc == ERR_OK)
        tail->time = entry.time;
    for (; rc == ERR_OK; rc = db_next(cursor, &found, &value)) {
        tail->entries++;
        tail->bytes += value.size;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* The entry at or below `modseq`, whatever it is. ERR_END: none is held. */
static int entry_at_or_below(struct db_cursor *cursor, uint64_t modseq, struct entry *entry)
{
    struct key key;
    struct bytes found, value;
    int rc = db_seek(cursor, key_of(&key, modseq), &found, &value);
    if (rc == ERR_END)
        rc = db_last(cursor, &found, &value);
    else if (rc == ERR_OK && found.size == sizeof key && load_be64(found.data) > modseq)
        rc = db_previous(cursor, &found, &value);
    return rc ? rc : decode_found(found, value, entry, NULL);
}

int journal_round_down(struct db_txn *txn, uint64_t modseq, uint64_t *rounded)
{
    struct journal_window window;
    struct db_cursor *cursor;
    struct entry entry = {0};
    int rc = refuse_trimmed(txn, modseq);
    if (rc)
        return rc;
    rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (modseq > window.last.modseq)
        return fail(ERR_NOTFOUND, "modseq %llu: the last is %llu", (unsigned long long)modseq,
                    (unsigned long long)window.last.modseq);
    rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    rc = entry_at_or_below(cursor, modseq, &entry);
    while (rc == ERR_OK && !entry.end_of_commit) {
        struct bytes found, value;
        rc = db_previous(cursor, &found, &value);
        if (rc == ERR_OK)
            rc = decode_found(found, value, &entry, NULL);
    }
    db_cursor_close(cursor);
    if (rc && rc != ERR_END)
        return rc;
    *rounded = rc == ERR_OK ? entry.modseq : window.base.modseq;
    return ERR_OK;
}

int journal_at_time(struct db_txn *txn, int64_t time, uint64_t *modseq)
{
    struct journal_window window;
    struct db_cursor *cursor;
    struct entry entry;
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    if (time < window.base_time)
        return fail(ERR_TRIMMED, "that time: trimmed: the journal begins later");
    if (time >= window.last_time) {
        *modseq = window.last.modseq;
        return ERR_OK;
    }
    rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    /* Times never go backwards: the last modseq whose entry is not later. low is known to be early
     * enough, high too late. */
    uint64_t low = window.base.modseq;
    uint64_t high = window.last.modseq;
    while (rc == ERR_OK && low + 1 < high) {
        uint64_t middle = low + (high - low) / 2;
        rc = entry_at_or_below(cursor, middle, &entry);
        if (rc == ERR_END || (rc == ERR_OK && entry.modseq <= low) ||
            (rc == ERR_OK && entry.time <= time)) {
            rc = ERR_OK;
            low = middle;
        } else if (rc == ERR_OK) {
            high = entry.modseq;
        }
    }
    db_cursor_close(cursor);
    return rc ? rc : journal_round_down(txn, low, modseq);
}

int journal_forgotten(struct db_txn *txn, uint64_t *modseq)
{
    uint8_t row[8];
    int rc = state_row_get(txn, FORGOTTEN_KEY, row, sizeof row,
                           "journal: the row that tells what was thrown away is damaged");
    *modseq = rc ? UINT64_MAX : load_u64(row);
    return rc == ERR_END ? ERR_OK : rc;
}

int journal_forget(struct db_txn *txn, uint64_t modseq)
{
    uint8_t row[8];
    save_u64(row, modseq);
    return state_row_put(txn, FORGOTTEN_KEY, row, sizeof row);
}

/* From the first trim on it is known what the archive has to have. */
static int note_trim(struct db_txn *txn, struct position before, struct position base,
                     bool archived)
{
    if (!archived)
        return journal_forget(txn, base.modseq);
    int rc = db_get(txn, TABLE_STATE, bytes_text(FORGOTTEN_KEY), NULL);
    return rc == ERR_END ? journal_forget(txn, before.modseq) : rc;
}

int journal_trim(struct db_txn *txn, uint64_t up_to, uint64_t most, bool archived,
                 uint64_t *removed)
{
    struct journal_window window;
    struct db_cursor *cursor;
    struct bytes found, value;
    struct entry entry;
    uint64_t rounded;
    *removed = 0;
    int rc = journal_window(txn, &window);
    if (rc || up_to <= window.base.modseq)
        return rc;
    rc = journal_round_down(txn, up_to < window.last.modseq ? up_to : window.last.modseq, &rounded);
    if (rc)
        return rc;
    struct position before = window.base;
    rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    for (rc = db_first(cursor, &found, &value); rc == ERR_OK;
         rc = db_next(cursor, &found, &value)) {
        rc = decode_found(found, value, &entry, NULL);
        if (rc || entry.modseq > rounded)
            break;
        size_t size = value.size;
        rc = db_cursor_delete(cursor);
        if (rc)
            break;
        window.base = (struct position){.modseq = entry.modseq, .chain = entry.chain};
        window.base_time = entry.time;
        window.entries--;
        window.bytes -= size;
        (*removed)++;
        if (*removed >= most && entry.end_of_commit)
            break;
    }
    db_cursor_close(cursor);
    if ((rc && rc != ERR_END) || !*removed)
        return rc == ERR_END ? ERR_OK : rc;
    rc = note_trim(txn, before, window.base, archived);
    return rc ? rc : journal_window_save(txn, &window);
}

int journal_cut_back(struct db_txn *txn, uint64_t after, uint64_t most, uint64_t *removed)
{
    struct journal_window window;
    struct db_cursor *cursor;
    struct bytes found, value;
    struct entry entry;
    *removed = 0;
    int rc = journal_window(txn, &window);
    if (rc == ERR_OK && after < window.base.modseq)
        rc = fail(ERR_TRIMMED, "modseq %llu: trimmed: the journal begins behind %llu",
                  (unsigned long long)after, (unsigned long long)window.base.modseq);
    if (rc || window.last.modseq <= after)
        return rc;
    rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    while (rc == ERR_OK && *removed < most) {
        rc = db_last(cursor, &found, &value);
        if (rc == ERR_OK)
            rc = decode_found(found, value, &entry, NULL);
        if (rc || entry.modseq <= after)
            break;
        size_t size = value.size;
        rc = db_cursor_delete(cursor);
        window.entries--;
        window.bytes -= size;
        (*removed)++;
    }
    if (rc == ERR_OK)
        rc = db_last(cursor, &found, &value);
    if (rc == ERR_OK)
        rc = decode_found(found, value, &entry, NULL);
    db_cursor_close(cursor);
    if (rc == ERR_OK) {
        window.last = (struct position){.modseq = entry.modseq, .chain = entry.chain};
        window.last_time = entry.time;
    } else if (rc == ERR_END) {
        window.last = window.base;
        window.last_time = window.base_time;
        rc = ERR_OK;
    }
    return rc ? rc : journal_window_save(txn, &window);
}

int journal_below(struct db_txn *txn, uint64_t modseq, struct entry *entry)
{
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, TABLE_JOURNAL, &cursor);
    if (rc)
        return rc;
    rc = entry_at_or_below(cursor, modseq, entry);
    db_cursor_close(cursor);
    return rc;
}
