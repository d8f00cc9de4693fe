#include "mailbox/values.h"

#include "base/err.h"
#include "journal/tables.h"

#include <string.h>

#define KEY_MAX_SIZE (8u + USER_MAX_SIZE + 1u)

/* Keys: id, user; and id, user, NUL, key. Rows: state, modseq, time, value, CRC-32 over key and
 * row. */
struct key {
    size_t size;
    uint8_t bytes[KEY_MAX_SIZE];
};

static int key_make(struct key *key, uint64_t mailbox, struct bytes user, const struct bytes *name)
{
    size_t size = 8 + user.size + (name ? 1 + name->size : 0);
    if (size > KEY_MAX_SIZE)
        return fail(ERR_INVALID, "user and key: more than %u bytes together", USER_MAX_SIZE);
    save_be64(key->bytes, mailbox);
    if (user.size)
        memcpy(key->bytes + 8, user.data, user.size);
    if (name) {
        key->bytes[8 + user.size] = 0;
        memcpy(key->bytes + 9 + user.size, name->data, name->size);
    }
    key->size = size;
    return ERR_OK;
}

static struct bytes key_view(const struct key *key)
{
    return bytes_of(key->bytes, key->size);
}

static int row_put(struct db_txn *txn, unsigned table, const struct key *key,
                   const struct versioned *value)
{
    struct buf out = {0};
    buf_u8(&out, (uint8_t)value->state);
    buf_u64(&out, value->version.modseq);
    buf_u64(&out, (uint64_t)value->version.changed);
    buf_put(&out, value->value.data, value->value.size);
    buf_u32(&out, hash_crc32(key->bytes, key->size) ^ hash_crc32(out.data, out.size));
    int rc = out.failed ? fail(ERR_NOMEM, "out of memory")
                        : db_put(txn, table, key_view(key), buf_view(&out));
    buf_free(&out);
    return rc;
}

static int row_decode(struct bytes key, struct bytes row, struct versioned *value)
{
    const char *what = "a seen set or meta value";
    if (key.size < 8 || row.size < 21)
        return fail(ERR_CORRUPT, "%s: of a wrong size", what);
    size_t size = row.size - 4;
    if (load_u32(row.data + size) !=
            (hash_crc32(key.data, key.size) ^ hash_crc32(row.data, size)) ||
        row.data[0] > VALUE_SET)
        return fail(ERR_CORRUPT, "%s of mailbox %016llx: CRC-32 does not match", what,
                    (unsigned long long)load_be64(key.data));
    value->state = (enum value_state)row.data[0];
    value->version.modseq = load_u64(row.data + 1);
    value->version.changed = (int64_t)load_u64(row.data + 9);
    value->value = bytes_of(row.data + 17, size - 17);
    return ERR_OK;
}

static int row_get(struct db_txn *txn, unsigned table, const struct key *key,
                   struct versioned *value)
{
    struct bytes row;
    *value = (struct versioned){0};
    int rc = db_get(txn, table, key_view(key), &row);
    if (rc == ERR_END)
        return ERR_OK;
    return rc ? rc : row_decode(key_view(key), row, value);
}

static int decode_seen(const struct versioned *value, struct uidset *seen)
{
    struct reader in = reader_of(value->value);
    int rc = uidset_decode(seen, &in, UINT32_MAX);
    return rc == ERR_OK && !reader_done(&in) ? fail(ERR_CORRUPT, "malformed seen set") : rc;
}

int seen_get(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct uidset *seen,
             struct versioned *version)
{
    struct key key;
    int rc = key_make(&key, mailbox, user, NULL);
    if (rc == ERR_OK)
        rc = row_get(txn, TABLE_SEEN, &key, version);
    if (rc || !seen)
        return rc;
    uidset_clear(seen);
    return version->state == VALUE_NONE ? ERR_OK : decode_seen(version, seen);
}

int seen_put(struct db_txn *txn, uint64_t mailbox, struct bytes user, const struct uidset *seen,
             struct former version)
{
    struct key key;
    struct buf encoded = {0};
    int rc = key_make(&key, mailbox, user, NULL);
    if (rc)
        return rc;
    uidset_encode(seen, &encoded);
    struct versioned value = {.state = VALUE_SET, .value = buf_view(&encoded), .version = version};
    rc = encoded.failed ? fail(ERR_NOMEM, "out of memory") : row_put(txn, TABLE_SEEN, &key, &value);
    buf_free(&encoded);
    return rc;
}

static uint64_t item_digest(char kind, struct bytes user, struct bytes key, struct former version,
                            struct bytes value)
{
    struct buf item = {0};
    buf_u8(&item, (uint8_t)kind);
    buf_bytes(&item, user);
    buf_bytes(&item, key);
    buf_u64(&item, version.modseq);
    buf_u64(&item, (uint64_t)version.changed);
    buf_bytes(&item, value);
    uint64_t digest = item.failed ? 0 : hash_xxh3(item.data, item.size);
    buf_free(&item);
    return digest;
}

uint64_t seen_digest(struct bytes user, const struct uidset *seen, struct former version)
{
    struct buf encoded = {0};
    if (seen->count == 0)
        return 0;
    uidset_encode(seen, &encoded);
    uint64_t digest = item_digest('s', user, bytes_of(NULL, 0), version, buf_view(&encoded));
    buf_free(&encoded);
    return digest;
}

int meta_get(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct bytes name,
             struct versioned *value)
{
    struct key key;
    int rc = key_make(&key, mailbox, user, &name);
    return rc ? rc : row_get(txn, TABLE_META, &key, value);
}

int meta_put(struct db_txn *txn, uint64_t mailbox, struct bytes user, struct bytes name,
             const struct versioned *value)
{
    struct key key;
    int rc = key_make(&key, mailbox, user, &name);
    if (rc)
        return rc;
    if (value->state != VALUE_NONE)
        return row_put(txn, TABLE_META, &key, value);
    rc = db_delete(txn, TABLE_META, key_view(&key));
    return rc == ERR_END ? ERR_OK : rc;
}

uint64_t meta_digest(struct bytes user, struct bytes key, const struct versioned *value)
{
    return value->state == VALUE_SET ? item_digest('m', user, key, value->version, value->value)
                                     : 0;
}

/* The first row of this mailbox at or behind `row`. */
static int row_next(struct db_txn *txn, unsigned table, uint64_t mailbox, struct buf *row,
                    struct bytes *key, struct versioned *value)
{
    uint8_t start[8];
    struct bytes from = buf_view(row);
    struct db_cursor *cursor;
    struct bytes stored;
    if (row->size == 0) {
        save_be64(start, mailbox);
        from = bytes_of(start, sizeof start);
    }
    int rc = db_cursor_open(txn, table, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, from, key, &stored);
    if (rc == ERR_OK && (key->size < 8 || load_be64(key->data) != mailbox))
        rc = ERR_END;
    if (rc == ERR_OK)
        rc = row_decode(*key, stored, value);
    db_cursor_close(cursor);
    if (rc)
        return rc;
    /* The smallest key behind this one: itself and a zero byte. */
    buf_reset(row);
    buf_put(row, key->data, key->size);
    buf_u8(row, 0);
    return row->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

int seen_next(struct db_txn *txn, uint64_t mailbox, struct buf *row, struct bytes *user,
              struct uidset *seen, struct versioned *version)
{
    struct bytes key;
    int rc = row_next(txn, TABLE_SEEN, mailbox, row, &key, version);
    if (rc)
        return rc;
    *user = bytes_of(key.data + 8, key.size - 8);
    return decode_seen(version, seen);
}

int meta_next(struct db_txn *txn, uint64_t mailbox, struct buf *row, struct bytes *user,
              struct bytes *name, struct versioned *value)
{
    struct bytes key;
    int rc = row_next(txn, TABLE_META, mailbox, row, &key, value);
    if (rc)
        return rc;
    const uint8_t *nul = memchr(key.data + 8, 0, key.size - 8);
    if (!nul)
        return fail(ERR_CORRUPT, "malformed key of a meta value");
    *user = bytes_of(key.data + 8, (size_t)(nul - key.data) - 8);
    *name = bytes_of(nul + 1, (size_t)(key.data + key.size - nul) - 1);
    return ERR_OK;
}

static int sum_seen(struct db_txn *txn, uint64_t mailbox, uint64_t *items, uint64_t *rows)
{
    struct buf row = {0};
    struct uidset seen = {0};
    struct bytes user;
    struct versioned value;
    int rc;
    while ((rc = seen_next(txn, mailbox, &row, &user, &seen, &value)) == ERR_OK) {
        *items += seen_digest(user, &seen, value.version);
        (*rows)++;
    }
    buf_free(&row);
    uidset_free(&seen);
    return rc == ERR_END ? ERR_OK : rc;
}

int values_digest(struct db_txn *txn, uint64_t mailbox, uint64_t *items, uint64_t *rows)
{
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    *items = *rows = 0;
    int rc = mailbox ? sum_seen(txn, mailbox, items, rows) : ERR_OK;
    while (rc == ERR_OK && (rc = meta_next(txn, mailbox, &row, &user, &key, &value)) == ERR_OK) {
        *items += meta_digest(user, key, &value);
        (*rows)++;
    }
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

static int delete_rows(struct db_txn *txn, unsigned table, uint64_t mailbox)
{
    uint8_t start[8];
    struct bytes key;
    struct db_cursor *cursor;
    save_be64(start, mailbox);
    int rc = db_cursor_open(txn, table, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, bytes_of(start, sizeof start), &key, NULL);
    while (rc == ERR_OK && key.size >= 8 && load_be64(key.data) == mailbox) {
        rc = db_cursor_delete(cursor);
        if (rc == ERR_OK)
            rc = db_next(cursor, &key, NULL);
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

int values_delete_all(struct db_txn *txn, uint64_t mailbox)
{
    int rc = delete_rows(txn, TABLE_SEEN, mailbox);
    return rc ? rc : delete_rows(txn, TABLE_META, mailbox);
}
