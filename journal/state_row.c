#include "journal/state_row.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#include <assert.h>
#include <string.h>

#define CRC_SIZE 4u

int state_row_get(struct db_txn *txn, const char *key, void *row, size_t size, const char *damaged)
{
    struct bytes value;
    int rc = db_get(txn, TABLE_STATE, bytes_text(key), &value);
    if (rc)
        return rc;
    if (value.size != size + CRC_SIZE ||
        load_u32(value.data + size) != hash_crc32(value.data, size))
        return fail(ERR_CORRUPT, "%s", damaged);
    memcpy(row, value.data, size);
    return ERR_OK;
}

int state_row_put(struct db_txn *txn, const char *key, const void *row, size_t size)
{
    uint8_t value[STATE_ROW_MAX + CRC_SIZE];
    assert(size <= STATE_ROW_MAX);
    memcpy(value, row, size);
    save_u32(value + size, hash_crc32(value, size));
    return db_put(txn, TABLE_STATE, bytes_text(key), bytes_of(value, size + CRC_SIZE));
}
