#include "mailbox/garbage.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#define KEY_SIZE 4u
#define VALUE_SIZE 4u /* the key's CRC-32: one bit more or less is another mailbox's number */
#define RECOUNT 0u    /* no mailbox has this number */

int garbage_decode(struct bytes key, struct bytes value, uint32_t *number)
{
    if (key.size != KEY_SIZE || value.size != VALUE_SIZE ||
        load_u32(value.data) != hash_crc32(key.data, KEY_SIZE))
        return fail(ERR_CORRUPT, "table of garbage: CRC-32 of a row does not match");
    *number = load_be32(key.data);
    return ERR_OK;
}

int garbage_put(struct db_txn *txn, uint32_t number)
{
    uint8_t key[KEY_SIZE], value[VALUE_SIZE];
    save_be32(key, number);
    save_u32(value, hash_crc32(key, sizeof key));
    return db_put(txn, TABLE_GARBAGE, bytes_of(key, sizeof key), bytes_of(value, sizeof value));
}

int garbage_drop(struct db_txn *txn, uint32_t number)
{
    uint8_t key[KEY_SIZE];
    save_be32(key, number);
    return db_delete(txn, TABLE_GARBAGE, bytes_of(key, sizeof key));
}

int garbage_next(struct db_txn *txn, uint32_t *number)
{
    uint8_t from[KEY_SIZE];
    struct bytes key, value;
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, TABLE_GARBAGE, &cursor);
    if (rc)
        return rc;
    save_be32(from, *number ? *number : RECOUNT + 1);
    rc = db_seek(cursor, bytes_of(from, sizeof from), &key, &value);
    while (rc == ERR_OK && garbage_decode(key, value, number) != ERR_OK)
        rc = db_next(cursor, &key, &value);
    db_cursor_close(cursor);
    return rc;
}

int garbage_recount(struct db_txn *txn)
{
    return garbage_put(txn, RECOUNT);
}

int garbage_recount_due(struct db_txn *txn, bool *due)
{
    uint8_t key[KEY_SIZE];
    save_be32(key, RECOUNT);
    int rc = db_get(txn, TABLE_GARBAGE, bytes_of(key, sizeof key), NULL);
    *due = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

int garbage_recounted(struct db_txn *txn)
{
    return garbage_drop(txn, RECOUNT);
}
