#include "journal/epoch.h"

#include "base/err.h"
#include "journal/tables.h"

#define KEY_SIZE 12u
#define ROW_SIZE 44u

int epoch_compare(struct epoch_id a, struct epoch_id b)
{
    if (a.number != b.number)
        return a.number < b.number ? -1 : 1;
    return (a.node > b.node) - (a.node < b.node);
}

static struct bytes key_of(uint8_t key[KEY_SIZE], struct epoch_id id)
{
    save_be32(key, id.number);
    save_be64(key + 4, id.node);
    return bytes_of(key, KEY_SIZE);
}

static int decode(struct bytes key, struct bytes value, struct epoch *epoch)
{
    if (key.size != KEY_SIZE || value.size != ROW_SIZE)
        return fail(ERR_CORRUPT, "table of epochs: of a wrong size");
    epoch->id = (struct epoch_id){.number = load_be32(key.data), .node = load_be64(key.data + 4)};
    epoch->parent =
        (struct epoch_id){.number = load_u32(value.data), .node = load_u64(value.data + 4)};
    epoch->before =
        (struct position){.modseq = load_u64(value.data + 12), .chain = load_u64(value.data + 20)};
    epoch->first = load_u64(value.data + 28);
    epoch->time = (int64_t)load_u64(value.data + 36);
    return ERR_OK;
}

int epoch_get(struct db_txn *txn, struct epoch_id id, struct epoch *epoch)
{
    uint8_t key[KEY_SIZE];
    struct bytes value;
    struct bytes k = key_of(key, id);
    int rc = db_get(txn, TABLE_EPOCHS, k, &value);
    return rc ? rc : decode(k, value, epoch);
}

int epoch_put(struct db_txn *txn, const struct epoch *epoch)
{
    uint8_t key[KEY_SIZE];
    uint8_t row[ROW_SIZE];
    save_u32(row, epoch->parent.number);
    save_u64(row + 4, epoch->parent.node);
    save_u64(row + 12, epoch->before.modseq);
    save_u64(row + 20, epoch->before.chain);
    save_u64(row + 28, epoch->first);
    save_u64(row + 36, (uint64_t)epoch->time);
    return db_put(txn, TABLE_EPOCHS, key_of(key, epoch->id), bytes_of(row, sizeof row));
}

int epoch_next(struct db_txn *txn, struct epoch_id *id, struct epoch *epoch)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, TABLE_EPOCHS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, *id), &found, &value);
    if (rc == ERR_OK)
        rc = decode(found, value, epoch);
    if (rc == ERR_OK && epoch_compare(epoch->id, *id) == 0) {
        rc = db_next(cursor, &found, &value);
        if (rc == ERR_OK)
            rc = decode(found, value, epoch);
    }
    db_cursor_close(cursor);
    if (rc == ERR_OK)
        *id = epoch->id;
    return rc;
}

void epoch_body_encode(const struct epoch_body *body, struct buf *out)
{
    buf_u64(out, body->node);
    buf_varint(out, body->parent.number);
    buf_u64(out, body->parent.node);
    buf_bytes(out, body->owner);
    buf_bytes(out, body->reason);
}

int epoch_body_decode(struct bytes from, struct epoch_body *body)
{
    struct reader in = reader_of(from);
    body->node = read_u64(&in);
    body->parent.number = read_varint32(&in);
    body->parent.node = read_u64(&in);
    body->owner = read_bytes(&in);
    body->reason = read_bytes(&in);
    if (!reader_done(&in) || body->node == 0 || body->owner.size > 400 || body->reason.size > 400)
        return fail(ERR_CORRUPT, "malformed epoch entry");
    return ERR_OK;
}
