#include "mailbox/stop.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"
#include "mailbox/tx.h"

#include <stdio.h>
#include <string.h>

#define KEY_SIZE 8u
#define CRC_SIZE 4u
#define STATE_BITS 1u
#define STANDING_BIT 2u /* beside the state: what is in it follows */

/* Offsets of the stored form; then what is in it, when that is known, the reason, the CRC-32. */
enum { AT_MODSEQ = 0, AT_STATE = 8, AT_BESIDE = 9, FIXED_SIZE = 13 };
enum { STANDING_NUMBER = 0, STANDING_NODE = 4, STANDING_AS_OF = 12, STANDING_SIZE = 20 };

static struct bytes key_of(uint8_t key[KEY_SIZE], uint64_t mailbox)
{
    save_be64(key, mailbox);
    return bytes_of(key, KEY_SIZE);
}

static int decode(struct bytes key, struct bytes row, struct stop *stop)
{
    if (key.size != KEY_SIZE || row.size < FIXED_SIZE + CRC_SIZE)
        return fail(ERR_CORRUPT, "table of stops: of a wrong size");
    size_t size = row.size - FIXED_SIZE - CRC_SIZE;
    size_t standing = row.data[AT_STATE] & STANDING_BIT ? STANDING_SIZE : 0;
    uint32_t crc = hash_crc32(key.data, key.size) ^ hash_crc32(row.data, row.size - CRC_SIZE);
    if (load_u32(row.data + row.size - CRC_SIZE) != crc || size < standing ||
        size - standing >= STOP_REASON_SIZE || row.data[AT_STATE] > (STATE_BITS | STANDING_BIT))
        return fail(ERR_CORRUPT, "table of stops: damaged");
    *stop = (struct stop){.mailbox = load_be64(key.data),
                          .modseq = load_u64(row.data + AT_MODSEQ),
                          .state = (enum stop_state)(row.data[AT_STATE] & STATE_BITS),
                          .beside = load_u32(row.data + AT_BESIDE)};
    if (standing) {
        stop->epoch.number = load_u32(row.data + FIXED_SIZE + STANDING_NUMBER);
        stop->epoch.node = load_u64(row.data + FIXED_SIZE + STANDING_NODE);
        stop->as_of = load_u64(row.data + FIXED_SIZE + STANDING_AS_OF);
    }
    memcpy(stop->reason, row.data + FIXED_SIZE + standing, size - standing);
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
    uint8_t row[FIXED_SIZE + STANDING_SIZE + STOP_REASON_SIZE + CRC_SIZE];
    struct bytes k = key_of(key, stop->mailbox);
    size_t length = strnlen(stop->reason, STOP_REASON_SIZE - 1);
    size_t size = FIXED_SIZE;
    save_u64(row + AT_MODSEQ, stop->modseq);
    row[AT_STATE] = (uint8_t)stop->state;
    save_u32(row + AT_BESIDE, stop->beside);
    if (stop->epoch.number || stop->as_of) {
        row[AT_STATE] |= STANDING_BIT;
        save_u32(row + size + STANDING_NUMBER, stop->epoch.number);
        save_u64(row + size + STANDING_NODE, stop->epoch.node);
        save_u64(row + size + STANDING_AS_OF, stop->as_of);
        size += STANDING_SIZE;
    }
    memcpy(row + size, stop->reason, length);
    size += length;
    save_u32(row + size, hash_crc32(key, sizeof key) ^ hash_crc32(row, size));
    return db_put(txn, TABLE_STOPS, k, bytes_of(row, size + CRC_SIZE));
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

int stop_repairing(struct tx *tx, bool *repairing)
{
    struct stop stop;
    uint64_t id = 0;
    int rc = ERR_OK;
    *repairing = false;
    while (rc == ERR_OK && !*repairing && tx->node.role == ROLE_REPLICA) {
        rc = stop_next(tx->db, &id, &stop);
        *repairing = rc == ERR_OK && !stop_abreast(&stop, tx);
    }
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

void stop_stands(struct stop *stop, const struct tx *tx)
{
    stop->epoch = tx->node.epoch;
    stop->as_of = tx->window.last.modseq;
}

bool stop_abreast(const struct stop *stop, const struct tx *tx)
{
    uint64_t last = tx->window.last.modseq;
    return stop->state == STOP_WAITING && stop->modseq > last && stop->as_of == last &&
           epoch_compare(stop->epoch, tx->node.epoch) == 0;
}

int stop_damaged(struct tx *tx, uint64_t mailbox, const char *reason)
{
    struct stop stop;
    int rc = stop_get(tx->db, mailbox, &stop);
    if (rc != ERR_END)
        return rc;
    stop = (struct stop){.mailbox = mailbox, .modseq = tx->window.last.modseq + 1};
    stop_stands(&stop, tx);
    snprintf(stop.reason, sizeof stop.reason, "%s", reason);
    tx->notify = true;
    return stop_put(tx->db, &stop);
}
