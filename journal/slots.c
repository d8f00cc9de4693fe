#include "journal/slots.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#include <string.h>

/* Offsets of the stored form. */
enum { AT_MODSEQ = 0, AT_CHAIN = 8, AT_TIME = 16, AT_CONNECTED = 24, AT_CRC = 25, ROW_SIZE = 29 };

static uint32_t checksum(struct bytes name, const uint8_t *row)
{
    return hash_crc32(name.data, name.size) ^ hash_crc32(row, AT_CRC);
}

static int decode(struct bytes key, struct bytes value, struct slot *slot)
{
    if (key.size == 0 || key.size >= SLOT_NAME_SIZE || value.size != ROW_SIZE ||
        memchr(key.data, 0, key.size) ||
        load_u32(value.data + AT_CRC) != checksum(key, value.data) || value.data[AT_CONNECTED] > 1)
        return fail(ERR_CORRUPT, "table of slots: damaged");
    *slot = (struct slot){0};
    memcpy(slot->name, key.data, key.size);
    slot->position = (struct position){.modseq = load_u64(value.data + AT_MODSEQ),
                                       .chain = load_u64(value.data + AT_CHAIN)};
    slot->time = (int64_t)load_u64(value.data + AT_TIME);
    slot->connected = value.data[AT_CONNECTED];
    return ERR_OK;
}

int slot_get(struct db_txn *txn, const char *name, struct slot *slot)
{
    struct bytes value;
    int rc = db_get(txn, TABLE_SLOTS, bytes_text(name), &value);
    return rc ? rc : decode(bytes_text(name), value, slot);
}

int slot_put(struct db_txn *txn, const struct slot *slot)
{
    uint8_t row[ROW_SIZE];
    save_u64(row + AT_MODSEQ, slot->position.modseq);
    save_u64(row + AT_CHAIN, slot->position.chain);
    save_u64(row + AT_TIME, (uint64_t)slot->time);
    row[AT_CONNECTED] = slot->connected;
    save_u32(row + AT_CRC, checksum(bytes_text(slot->name), row));
    return db_put(txn, TABLE_SLOTS, bytes_text(slot->name), bytes_of(row, sizeof row));
}

int slot_drop(struct db_txn *txn, const char *name)
{
    return *name && strlen(name) < SLOT_NAME_SIZE ? db_delete(txn, TABLE_SLOTS, bytes_text(name))
                                                  : ERR_END;
}

int slot_next(struct db_txn *txn, struct slot *slot)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    struct bytes at = bytes_text(slot->name);
    int rc = db_cursor_open(txn, TABLE_SLOTS, &cursor);
    if (rc)
        return rc;
    rc = at.size ? db_seek(cursor, at, &key, &value) : db_first(cursor, &key, &value);
    if (rc == ERR_OK && at.size && bytes_equal(key, at))
        rc = db_next(cursor, &key, &value);
    if (rc == ERR_OK)
        rc = decode(key, value, slot);
    db_cursor_close(cursor);
    return rc;
}

const char *slot_state_name(enum slot_state state)
{
    static const char *const names[] = {"connected", "away", "lost"};
    return names[state];
}

int slot_lag(struct db_txn *txn, const struct slot *slot, int64_t now, struct slot_lag *lag)
{
    struct journal_window window;
    *lag = (struct slot_lag){.state = SLOT_LOST};
    int rc = journal_window(txn, &window);
    if (rc)
        return rc;
    int64_t since = slot->time;
    if (slot->position.modseq >= window.base.modseq) {
        lag->state = slot->connected ? SLOT_CONNECTED : SLOT_AWAY;
        rc = journal_tail(txn, slot->position.modseq, &lag->tail);
        since = lag->tail.entries ? lag->tail.time : now;
    }
    lag->age = now > since ? now - since : 0;
    return rc;
}
