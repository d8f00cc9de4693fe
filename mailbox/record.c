#include "mailbox/record.h"

#include "base/err.h"
#include "journal/tables.h"

#include <string.h>

/* Offsets of the stored form. All but `uid` and the CRC-32 are hashed for the digest, with the UID
 * before them. */
enum {
    AT_FLAGS = 0,
    AT_SUCCESSOR = 4,
    AT_GUID = 8,
    AT_SIZE = 40,
    AT_INTERNAL_DATE = 48,
    AT_SAVE_DATE = 56,
    AT_MODSEQ = 64,
    AT_APPEND_MODSEQ = 72,
    AT_CHANGED = 80,
    AT_KEYWORDS = 88,
    AT_CRC = 96,
    STORED_SIZE = 100
};

#define KEY_SIZE 8u

static void encode(const struct record *record, uint8_t out[AT_CRC])
{
    save_u32(out + AT_FLAGS, record->flags);
    save_u32(out + AT_SUCCESSOR, record->successor);
    memcpy(out + AT_GUID, record->guid.bytes, GUID_SIZE);
    save_u64(out + AT_SIZE, record->size);
    save_u64(out + AT_INTERNAL_DATE, (uint64_t)record->internal_date);
    save_u64(out + AT_SAVE_DATE, (uint64_t)record->save_date);
    save_u64(out + AT_MODSEQ, record->modseq);
    save_u64(out + AT_APPEND_MODSEQ, record->append_modseq);
    save_u64(out + AT_CHANGED, (uint64_t)record->changed);
    save_u64(out + AT_KEYWORDS, record->keywords);
}

bool record_live(const struct record *record)
{
    return !(record->flags & RECORD_EXPUNGED);
}

uint64_t record_digest(const struct record *record)
{
    if (!record_live(record))
        return 0;
    uint8_t item[4 + AT_CRC];
    save_u32(item, record->uid);
    encode(record, item + 4);
    return hash_xxh3(item, sizeof item);
}

static struct bytes key_of(uint8_t key[KEY_SIZE], uint32_t number, uint32_t uid)
{
    save_be32(key, number);
    save_be32(key + 4, uid);
    return bytes_of(key, KEY_SIZE);
}

/* The CRC-32 covers the key as well, so that a record found in another's place is noticed. */
static uint32_t checksum(const uint8_t key[KEY_SIZE], const uint8_t *stored)
{
    uint8_t all[KEY_SIZE + AT_CRC];
    memcpy(all, key, KEY_SIZE);
    memcpy(all + KEY_SIZE, stored, AT_CRC);
    return hash_crc32(all, sizeof all);
}

int record_decode(struct bytes key, struct bytes value, struct record *record)
{
    const uint8_t *at = value.data;
    if (key.size != KEY_SIZE || value.size != STORED_SIZE)
        return fail(ERR_CORRUPT, "record: of a wrong size");
    record->uid = load_be32(key.data + 4);
    if (load_u32(at + AT_CRC) != checksum(key.data, at))
        return fail(ERR_CORRUPT, "record of mailbox number %u, UID %u: CRC-32 does not match",
                    load_be32(key.data), record->uid);
    record->flags = load_u32(at + AT_FLAGS);
    record->successor = load_u32(at + AT_SUCCESSOR);
    memcpy(record->guid.bytes, at + AT_GUID, GUID_SIZE);
    record->size = load_u64(at + AT_SIZE);
    record->internal_date = (int64_t)load_u64(at + AT_INTERNAL_DATE);
    record->save_date = (int64_t)load_u64(at + AT_SAVE_DATE);
    record->modseq = load_u64(at + AT_MODSEQ);
    record->append_modseq = load_u64(at + AT_APPEND_MODSEQ);
    record->changed = (int64_t)load_u64(at + AT_CHANGED);
    record->keywords = load_u64(at + AT_KEYWORDS);
    return ERR_OK;
}

int record_get(struct db_txn *txn, uint32_t number, uint32_t uid, struct record *record)
{
    uint8_t key[KEY_SIZE];
    struct bytes value;
    struct bytes k = key_of(key, number, uid);
    int rc = db_get(txn, TABLE_RECORDS, k, &value);
    return rc ? rc : record_decode(k, value, record);
}

int record_put(struct db_txn *txn, uint32_t number, const struct record *record)
{
    uint8_t key[KEY_SIZE];
    uint8_t stored[STORED_SIZE];
    struct bytes k = key_of(key, number, record->uid);
    encode(record, stored);
    save_u32(stored + AT_CRC, checksum(key, stored));
    return db_put(txn, TABLE_RECORDS, k, bytes_of(stored, sizeof stored));
}

int record_delete(struct db_txn *txn, uint32_t number, uint32_t uid)
{
    uint8_t key[KEY_SIZE];
    return db_delete(txn, TABLE_RECORDS, key_of(key, number, uid));
}

int record_batch(struct db_txn *txn, uint32_t number, uint32_t first, struct record *records,
                 size_t most, size_t *count)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    struct db_cursor *cursor;
    *count = 0;
    int rc = db_cursor_open(txn, TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, number, first), &found, &value);
    while (rc == ERR_OK && *count < most) {
        if (found.size == KEY_SIZE && load_be32(found.data) != number)
            break;
        rc = record_decode(found, value, &records[*count]);
        if (rc == ERR_OK) {
            (*count)++;
            rc = db_next(cursor, &found, &value);
        }
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* The first record at or above `uid`, by one step where the cursor stands just before. */
static int find_from(struct db_cursor *cursor, uint32_t number, uint32_t uid, bool just_before,
                     struct record *record)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    int rc = just_before ? db_next(cursor, &found, &value)
                         : db_seek(cursor, key_of(key, number, uid), &found, &value);
    if (rc == ERR_OK && found.size == KEY_SIZE && load_be32(found.data) != number)
        return ERR_END;
    return rc ? rc : record_decode(found, value, record);
}

int record_batch_in(struct db_txn *txn, uint32_t number, const struct uidset *uids, uint32_t *from,
                    struct record *records, size_t most, size_t *count)
{
    struct db_cursor *cursor;
    uint32_t wanted;
    uint32_t at = 0; /* the UID that the cursor stands on; 0: none */
    *count = 0;
    int rc = db_cursor_open(txn, TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    while (rc == ERR_OK && *count < most) {
        if (*from == 0 || !uidset_next(uids, *from, &wanted)) {
            rc = ERR_END;
            break;
        }
        struct record *record = &records[*count];
        rc = find_from(cursor, number, wanted, at && at == wanted - 1, record);
        if (rc)
            break;
        at = record->uid;
        bool given = uidset_contains(uids, at);
        *count += given;
        *from = given ? at + 1 : at;
    }
    db_cursor_close(cursor);
    if (rc == ERR_END)
        *from = 0;
    return rc == ERR_END ? ERR_OK : rc;
}
