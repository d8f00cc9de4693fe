#include "mailbox/lacking.h"

#include "base/err.h"
#include "journal/tables.h"

#include <string.h>

#define PREFIX "lacking"
#define PREFIX_SIZE (sizeof PREFIX - 1)
#define KEY_SIZE (PREFIX_SIZE + GUID_SIZE)
#define VALUE_SIZE 4u /* the key's CRC-32 */

static struct bytes key_of(const struct guid *guid, uint8_t key[KEY_SIZE])
{
    memcpy(key, PREFIX, PREFIX_SIZE);
    memcpy(key + PREFIX_SIZE, guid->bytes, GUID_SIZE);
    return bytes_of(key, KEY_SIZE);
}

bool lacking_is_mark(struct bytes key)
{
    return key.size >= PREFIX_SIZE && memcmp(key.data, PREFIX, PREFIX_SIZE) == 0;
}

int lacking_decode(struct bytes key, struct bytes value, struct guid *guid)
{
    if (key.size != KEY_SIZE || value.size != VALUE_SIZE ||
        load_u32(value.data) != hash_crc32(key.data, KEY_SIZE))
        return fail(ERR_CORRUPT, "a mark of lacking content: CRC-32 of the row does not match");
    memcpy(guid->bytes, key.data + PREFIX_SIZE, GUID_SIZE);
    return ERR_OK;
}

int lacking_mark(struct db_txn *txn, const struct guid *guid)
{
    uint8_t key[KEY_SIZE], value[VALUE_SIZE];
    struct bytes row = key_of(guid, key);
    save_u32(value, hash_crc32(key, sizeof key));
    return db_put(txn, TABLE_STATE, row, bytes_of(value, sizeof value));
}

int lacking_unmark(struct db_txn *txn, const struct guid *guid)
{
    uint8_t key[KEY_SIZE];
    int rc = db_delete(txn, TABLE_STATE, key_of(guid, key));
    return rc == ERR_END ? ERR_OK : rc;
}

int lacking_list(struct db_txn *txn, const struct guid *after, struct guid *guids, size_t most,
                 size_t *count)
{
    uint8_t from[KEY_SIZE];
    struct db_cursor *cursor;
    struct bytes key, value;
    *count = 0;
    int rc = db_cursor_open(txn, TABLE_STATE, &cursor);
    if (rc)
        return rc;
    for (rc = db_seek(cursor, key_of(after, from), &key, &value);
         rc == ERR_OK && lacking_is_mark(key) && *count < most; rc = db_next(cursor, &key, &value))
        if (lacking_decode(key, value, &guids[*count]) == ERR_OK &&
            !guid_equal(&guids[*count], after))
            ++*count;
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

int lacking_count(struct db_txn *txn, uint64_t *count)
{
    struct guid guids[64];
    struct guid after = {0};
    size_t some;
    *count = 0;
    do {
        int rc = lacking_list(txn, &after, guids, sizeof guids / sizeof guids[0], &some);
        if (rc)
            return rc;
        *count += some;
        if (some)
            after = guids[some - 1];
    } while (some == sizeof guids / sizeof guids[0]);
    return ERR_OK;
}
