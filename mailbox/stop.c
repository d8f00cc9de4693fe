#include "mailbox/stop.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"
#include "mailbox/tx.h"

#include <stdio.h>
#include <string.h>

#define KEY_SIZE 8u
#define FIXED_SIZE 13u /* before the reason and the CRC-32 */

static struct bytes key_of(uint8_t key[KEY_SIZE], uint64_t mailbox)
{
    save_be64(key, mailbox);
    return bytes_of(key, KEY_SIZE);
}

static int decode(struct bytes key, struct bytes row, struct stop *stop)
{
    if (key.size != KEY_SIZE || row.size < FIXED_SIZE + 4)
        return fail(ERR_CORRUPT, "table of stops: of a wrong size");
    size_t size = row.size - FIXED_SIZE - 4;
    uint32_t crc = hash_crc32(key.data, key.size) ^ hash_crc32(row.data, row.size - 4);
    if (load_u32(row.data + row.size - 4) != crc || size >= STOP_REASON_SIZE ||
        row.data[8] > STOP_MERGED)
        return fail(ERR_CORRUPT, "table of stops: damaged");
    *stop = (struct stop){.mailbox = load_be64(key.data),
                          .modseq = load_u64(row.data),
                          .state = (enum stop_state)row.data[8],
                          .aside = load_u32(row.data + 9)};
    memcpy(stop->reason, row.data + FIXED_SIZE, size);
    return ERR_OK;
}

int stop_get(struct db_txn *txn, uint64_t mailbox, struct stop *stop)
{
    uint8_t key[KEY_SIZE];
    struct bytes row;
    struct bytes k = key_of(key, mailbox);
    int rc = db_get(txn, TABLE_STOPS, k, &row);
    return rc ? rc : decode(k, row, stop);
}

int stop_put(struct db_txn *txn, const struct stop *stop)
{
    uint8_t key[KEY_SIZE];
    uint8_t row[FIXED_SIZE + STOP_REASON_SIZE + 4];
    struct bytes k = key_of(key, stop->mailbox);
    size_t size = strnlen(stop->reason, STOP_REASON_SIZE - 1);
    save_u64(row, stop->modseq);
    row[8] = (uint8_t)stop->state;
    save_u32(row + 9, stop->aside);
    memcpy(row + FIXED_SIZE, stop->reason, size);
    size += FIXED_SIZE;
    save_u32(row + size, hash_crc32(key, sizeof key) ^ hash_crc32(row, size));
    return db_put(txn, TABLE_STOPS, k, bytes_of(row, size + 4));
}

int stop_drop(struct db_txn *txn, uint64_t mailbox)
{
    uint8_t key[KEY_SIZE];
    return db_delete(txn, TABLE_STOPS, key_of(key, mailbox));
}

int stop_next(struct db_txn *txn, uint64_t *mailbox, struct stop *stop)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, row;
    struct db_cursor *cursor;
    if (*mailbox == UINT64_MAX)
        return ERR_END;
    int rc = db_cursor_open(txn, TABLE_STOPS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, *mailbox), &found, &row);
    if (rc == ERR_OK)
        rc = decode(found, row, stop);
    db_cursor_close(cursor);
    if (rc == ERR_OK)
        *mailbox = stop->mailbox == UINT64_MAX ? UINT64_MAX : stop->mailbox + 1;
    return rc;
}

int stop_any(struct db_txn *txn, bool *any)
{
    struct stop stop;
    uint64_t id = 0;
    int rc = stop_next(txn, &id, &stop);
    *any = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

int stop_settle(struct tx *tx)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(tx->db, &id, &stop)) == ERR_OK) {
        if (stop.state != STOP_MERGED || stop.modseq > tx->window.last.modseq + 1)
            continue;
        rc = stop_drop(tx->db, stop.mailbox);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

int stop_damaged(struct tx *tx, uint64_t mailbox, const char *reason)
{
    struct stop stop;
    int rc = stop_get(tx->db, mailbox, &stop);
    if (rc != ERR_END)
        return rc;
    stop = (struct stop){.mailbox = mailbox, .modseq = tx->window.last.modseq + 1};
    snprintf(stop.reason, sizeof stop.reason, "%s", reason);
    return stop_put(tx->db, &stop);
}
