#include "journal/epoch.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/state_row.h"
#include "journal/tables.h"

#define KEY_SIZE 12u
#define ROW_SIZE 48u /* with its CRC-32 */
#define MARK_KEY_SIZE 28u
#define MARK_ROW_SIZE 20u /* with the CRC-32 */
#define MET_KEY "met"

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

static uint32_t checksum(struct bytes key, const uint8_t *row)
{
    return hash_crc32(key.data, key.size) ^ hash_crc32(row, ROW_SIZE - 4);
}

static int decode(struct bytes key, struct bytes value, struct epoch *epoch)
{
    if (key.size != KEY_SIZE || value.size != ROW_SIZE ||
        load_u32(value.data + ROW_SIZE - 4) != checksum(key, value.data))
        return fail(ERR_CORRUPT, "table of epochs: CRC-32 of a row does not match");
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
    struct bytes k = key_of(key, epoch->id);
    save_u32(row + ROW_SIZE - 4, checksum(k, row));
    return db_put(txn, TABLE_EPOCHS, k, bytes_of(row, sizeof row));
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

static int get_met(struct db_txn *txn, uint32_t *number)
{
    uint8_t row[4];
    int rc = state_row_get(txn, MET_KEY, row, sizeof row,
                           "the number of the epoch that was met: CRC-32 does not match");
    *number = rc ? 0 : load_u32(row);
    return rc == ERR_END ? ERR_OK : rc;
}

int epoch_meet(struct db_txn *txn, uint32_t number)
{
    uint8_t row[4];
    uint32_t met;
    int rc = get_met(txn, &met);
    if (rc || met >= number)
        return rc;
    save_u32(row, number);
    return state_row_put(txn, MET_KEY, row, sizeof row);
}

int epoch_highest(struct db_txn *txn, uint32_t *number)
{
    struct bytes key, value;
    struct db_cursor *cursor;
    struct epoch epoch;
    int rc = get_met(txn, number);
    if (rc == ERR_OK)
        rc = db_cursor_open(txn, TABLE_EPOCHS, &cursor);
    if (rc)
        return rc;
    rc = db_last(cursor, &key, &value);
    if (rc == ERR_OK)
        rc = decode(key, value, &epoch);
    if (rc == ERR_OK && *number < epoch.id.number)
        *number = epoch.id.number;
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

void epoch_encode(const struct epoch *epoch, struct buf *out)
{
    buf_varint(out, epoch->id.number);
    buf_u64(out, epoch->id.node);
    buf_varint(out, epoch->parent.number);
    buf_u64(out, epoch->parent.node);
    buf_varint(out, epoch->before.modseq);
    buf_u64(out, epoch->before.chain);
    buf_varint(out, epoch->first);
    buf_u64(out, (uint64_t)epoch->time);
}

int epoch_decode(struct reader *from, struct epoch *epoch)
{
    epoch->id.number = read_varint32(from);
    epoch->id.node = read_u64(from);
    epoch->parent.number = read_varint32(from);
    epoch->parent.node = read_u64(from);
    epoch->before.modseq = read_varint(from);
    epoch->before.chain = read_u64(from);
    epoch->first = read_varint(from);
    epoch->time = (int64_t)read_u64(from);
    if (from->failed || epoch->id.number == 0 || epoch->id.node == 0 ||
        epoch->parent.number >= epoch->id.number || epoch->first <= epoch->before.modseq)
        return fail(ERR_CORRUPT, "malformed epoch");
    return ERR_OK;
}

static struct bytes mark_key(uint8_t key[MARK_KEY_SIZE], const struct mark *mark)
{
    save_be64(key, mark->mailbox);
    save_be64(key + 8, mark->modseq);
    save_be32(key + 16, mark->epoch.number);
    save_be64(key + 20, mark->epoch.node);
    return bytes_of(key, MARK_KEY_SIZE);
}

int mark_put(struct db_txn *txn, const struct mark *mark)
{
    uint8_t key[MARK_KEY_SIZE];
    uint8_t row[MARK_ROW_SIZE];
    struct bytes k = mark_key(key, mark);
    save_u64(row, mark->taken.modseq);
    save_u64(row + 8, mark->taken.chain);
    save_u32(row + 16, hash_crc32(key, sizeof key) ^ hash_crc32(row, MARK_ROW_SIZE - 4));
    return db_put(txn, TABLE_MARKS, k, bytes_of(row, sizeof row));
}

int mark_drop(struct db_txn *txn, const struct mark *mark)
{
    uint8_t key[MARK_KEY_SIZE];
    return db_delete(txn, TABLE_MARKS, mark_key(key, mark));
}

static int mark_decode(struct bytes key, struct bytes row, struct mark *mark)
{
    if (key.size != MARK_KEY_SIZE || row.size != MARK_ROW_SIZE ||
        load_u32(row.data + 16) !=
            (hash_crc32(key.data, key.size) ^ hash_crc32(row.data, MARK_ROW_SIZE - 4)))
        return fail(ERR_CORRUPT, "table of marks: damaged");
    *mark = (struct mark){
        .mailbox = load_be64(key.data),
        .modseq = load_be64(key.data + 8),
        .epoch = {.number = load_be32(key.data + 16), .node = load_be64(key.data + 20)},
        .taken = {.modseq = load_u64(row.data), .chain = load_u64(row.data + 8)}};
    return ERR_OK;
}

int mark_get(struct db_txn *txn, const struct mark *mark, struct position *taken)
{
    uint8_t key[MARK_KEY_SIZE];
    struct bytes row;
    struct mark found = {0};
    struct bytes k = mark_key(key, mark);
    int rc = db_get(txn, TABLE_MARKS, k, &row);
    if (rc == ERR_OK)
        rc = mark_decode(k, row, &found);
    *taken = found.taken;
    return rc;
}

int mark_next(struct db_txn *txn, struct mark *mark)
{
    uint8_t key[MARK_KEY_SIZE];
    struct bytes found, row;
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, TABLE_MARKS, &cursor);
    if (rc)
        return rc;
    struct bytes at = mark_key(key, mark);
    rc = db_seek(cursor, at, &found, &row);
    if (rc == ERR_OK && bytes_equal(found, at))
        rc = db_next(cursor, &found, &row);
    if (rc == ERR_OK)
        rc = mark_decode(found, row, mark);
    db_cursor_close(cursor);
    return rc;
}

void mark_body_encode(const struct mark *marks, size_t mark_count, const struct epoch *epochs,
                      size_t epoch_count, struct buf *out)
{
    buf_varint(out, mark_count);
    for (size_t i = 0; i < mark_count; i++) {
        buf_u64(out, marks[i].mailbox);
        buf_varint(out, marks[i].epoch.number);
        buf_u64(out, marks[i].epoch.node);
        buf_varint(out, marks[i].taken.modseq);
        buf_u64(out, marks[i].taken.chain);
    }
    buf_varint(out, epoch_count);
    for (size_t i = 0; i < epoch_count; i++)
        epoch_encode(&epochs[i], out);
}

static int decode_marks(struct reader *in, int (*each)(const struct mark *mark, void *arg),
                        void *arg)
{
    uint64_t count = read_varint(in);
    if (in->failed || count == 0 || count > MARK_BODY_MARKS_MAX)
        return fail(ERR_CORRUPT, "malformed mark");
    for (uint64_t i = 0; i < count; i++) {
        struct mark mark = {.mailbox = read_u64(in)};
        mark.epoch.number = read_varint32(in);
        mark.epoch.node = read_u64(in);
        mark.taken.modseq = read_varint(in);
        mark.taken.chain = read_u64(in);
        if (in->failed || mark.epoch.number == 0)
            return fail(ERR_CORRUPT, "malformed mark");
        int rc = each ? each(&mark, arg) : ERR_OK;
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int mark_body_decode(struct bytes from, int (*each_mark)(const struct mark *mark, void *arg),
                     int (*each_epoch)(const struct epoch *epoch, void *arg), void *arg)
{
    struct reader in = reader_of(from);
    int rc = decode_marks(&in, each_mark, arg);
    if (rc)
        return rc;
    uint64_t count = read_varint(&in);
    if (in.failed || count > MARK_BODY_EPOCHS_MAX)
        return fail(ERR_CORRUPT, "malformed mark");
    for (uint64_t i = 0; i < count; i++) {
        struct epoch epoch;
        rc = epoch_decode(&in, &epoch);
        if (rc == ERR_OK && each_epoch)
            rc = each_epoch(&epoch, arg);
        if (rc)
            return rc;
    }
    return reader_done(&in) ? ERR_OK : fail(ERR_CORRUPT, "malformed mark");
}
