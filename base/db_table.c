/* Items of tables: looked up, put, deleted, and walked through by cursors. LMDB believes its pages;
 * what it finds there is held against the order of keys. */
#include "base/db_private.h"
#include "base/err.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static int fail_txn(struct db_txn *txn, int rc, const char *what)
{
    int code = fail_mdb(txn->db, rc, what);
    assert(code != ERR_OK);
    if (code != ERR_END)
        txn->error = code;
    return code;
}

static MDB_val val_of(struct bytes bytes)
{
    return (MDB_val){.mv_size = bytes.size, .mv_data = (void *)(uintptr_t)bytes.data};
}

static struct bytes bytes_of_val(const MDB_val *val)
{
    return bytes_of(val->mv_data, val->mv_size);
}

static int place_of(struct db_txn *txn, unsigned table, MDB_cursor **place)
{
    int mdb = 0;
    if (!txn->places[table])
        mdb = mdb_cursor_open(txn->txn, txn->db->handles[table], &txn->places[table]);
    *place = txn->places[table];
    return mdb;
}

int db_get(struct db_txn *txn, unsigned table, struct bytes key, struct bytes *value)
{
    if (txn->error)
        return txn->error;
    MDB_val k = val_of(key);
    MDB_val v;
    MDB_cursor *place;
    int mdb = place_of(txn, table, &place);
    if (mdb == 0)
        mdb = mdb_cursor_get(place, &k, &v, MDB_SET);
    if (mdb)
        return fail_txn(txn, mdb, "read");
    if (value)
        *value = bytes_of_val(&v);
    return ERR_OK;
}

static int put(struct db_txn *txn, unsigned table, struct bytes key, MDB_val *value, unsigned flags)
{
    if (txn->error)
        return txn->error;
    MDB_val k = val_of(key);
    MDB_cursor *place;
    txn->changed = true;
    int mdb = place_of(txn, table, &place);
    if (mdb == 0)
        mdb = mdb_cursor_put(place, &k, value, flags);
    return mdb ? fail_txn(txn, mdb, "write") : ERR_OK;
}

int db_put(struct db_txn *txn, unsigned table, struct bytes key, struct bytes value)
{
    MDB_val v = val_of(value);
    return put(txn, table, key, &v, 0);
}

int db_append(struct db_txn *txn, unsigned table, struct bytes key, struct bytes value)
{
    MDB_val v = val_of(value);
    return put(txn, table, key, &v, MDB_APPEND);
}

int db_reserve(struct db_txn *txn, unsigned table, struct bytes key, size_t size, uint8_t **room)
{
    MDB_val v = {.mv_size = size};
    int rc = put(txn, table, key, &v, MDB_RESERVE);
    *room = rc ? NULL : v.mv_data;
    return rc;
}

int db_delete(struct db_txn *txn, unsigned table, struct bytes key)
{
    if (txn->error)
        return txn->error;
    MDB_val k = val_of(key);
    txn->changed = true;
    int mdb = mdb_del(txn->txn, txn->db->handles[table], &k, NULL);
    return mdb ? fail_txn(txn, mdb, "delete") : ERR_OK;
}

int db_count(struct db_txn *txn, unsigned table, uint64_t *count)
{
    *count = 0;
    if (txn->error)
        return txn->error;
    MDB_stat stat_;
    int mdb = mdb_stat(txn->txn, txn->db->handles[table], &stat_);
    if (mdb)
        return fail_txn(txn, mdb, "count");
    *count = stat_.ms_entries;
    return ERR_OK;
}

int db_cursor_open(struct db_txn *txn, unsigned table, struct db_cursor **out)
{
    *out = NULL;
    if (txn->error)
        return txn->error;
    struct db_cursor *cursor = calloc(1, sizeof *cursor);
    if (!cursor)
        return txn->error = fail(ERR_NOMEM, "%s: out of memory", txn->db->directory);
    cursor->txn = txn;
    int mdb = mdb_cursor_open(txn->txn, txn->db->handles[table], &cursor->cursor);
    if (mdb) {
        free(cursor);
        return fail_txn(txn, mdb, "iterate");
    }
    *out = cursor;
    return ERR_OK;
}

void db_cursor_close(struct db_cursor *cursor)
{
    if (!cursor)
        return;
    mdb_cursor_close(cursor->cursor);
    free(cursor);
}

/* Which way a key must lie from the one before it, or from the one that was sought. */
enum direction { ANYWHERE, AT_OR_ABOVE, ABOVE, BELOW };

/* LMDB believes its pages. That keys go one way is what ends every loop over them. */
static bool goes(struct bytes from, struct bytes to, enum direction direction)
{
    int order = memcmp(to.data, from.data, to.size < from.size ? to.size : from.size);
    if (order == 0)
        order = (to.size > from.size) - (to.size < from.size);
    if (direction == BELOW)
        return order < 0;
    return direction == ABOVE ? order > 0 : order >= 0;
}

static int move(struct db_cursor *cursor, MDB_cursor_op op, struct bytes key,
                enum direction direction, struct bytes *found, struct bytes *value)
{
    struct db_txn *txn = cursor->txn;
    if (txn->error)
        return txn->error;
    MDB_val k = val_of(key);
    MDB_val v;
    int mdb = mdb_cursor_get(cursor->cursor, &k, &v, op);
    if (mdb)
        return fail_txn(txn, mdb, "iterate");
    if (k.mv_size > KEY_MAX_SIZE || (key.data && !goes(key, bytes_of_val(&k), direction)))
        return fail_txn(txn, MDB_CORRUPTED, "iterate");
    memcpy(cursor->at, k.mv_data, k.mv_size);
    cursor->at_size = k.mv_size;
    if (found)
        *found = bytes_of_val(&k);
    if (value)
        *value = bytes_of_val(&v);
    return ERR_OK;
}

/* The cursor's own place, for the step to the next; nowhere yet: LMDB steps to the first or last.
 */
static struct bytes standing_at(const struct db_cursor *cursor)
{
    return bytes_of(cursor->at_size ? cursor->at : NULL, cursor->at_size);
}

int db_seek(struct db_cursor *cursor, struct bytes key, struct bytes *found, struct bytes *value)
{
    return move(cursor, MDB_SET_RANGE, key, AT_OR_ABOVE, found, value);
}

int db_first(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
    return move(cursor, MDB_FIRST, bytes_of(NULL, 0), ANYWHERE, found, value);
}

int db_last(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
    return move(cursor, MDB_LAST, bytes_of(NULL, 0), ANYWHERE, found, value);
}

int db_next(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
    return move(cursor, MDB_NEXT, standing_at(cursor), ABOVE, found, value);
}

int db_previous(struct db_cursor *cursor, struct bytes *found, struct bytes *value)
{
    return move(cursor, MDB_PREV, standing_at(cursor), BELOW, found, value);
}

int db_cursor_delete(struct db_cursor *cursor)
{
    if (cursor->txn->error)
        return cursor->txn->error;
    cursor->txn->changed = true;
    int mdb = mdb_cursor_del(cursor->cursor, 0);
    return mdb ? fail_txn(cursor->txn, mdb, "delete") : ERR_OK;
}

/* Steps that see whether the keys there go one way; ERR_END is fine. */
static int step(struct db_cursor *cursor,
                int (*to)(struct db_cursor *, struct bytes *, struct bytes *))
{
    int rc = to(cursor, NULL, NULL);
    return rc == ERR_END ? ERR_OK : rc;
}

static int prove_neighbours(struct db_cursor *cursor, struct bytes key)
{
    struct bytes found;
    int rc = db_seek(cursor, key, &found, NULL);
    if (rc == ERR_OK && goes(found, key, AT_OR_ABOVE)) /* it is there, though it was not found */
        return fail_txn(cursor->txn, MDB_CORRUPTED, "look for a key");
    if (rc == ERR_OK)
        rc = step(cursor, db_next);
    if (rc == ERR_OK)
        rc = db_seek(cursor, key, NULL, NULL);
    if (rc == ERR_END)
        rc = db_last(cursor, &found, NULL);
    else if (rc == ERR_OK)
        rc = db_previous(cursor, &found, NULL);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    if (!goes(key, found, BELOW))
        return fail_txn(cursor->txn, MDB_CORRUPTED, "look for a key");
    return step(cursor, db_previous);
}

int db_absent(struct db_txn *txn, unsigned table, struct bytes key)
{
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, table, &cursor);
    if (rc)
        return rc;
    rc = prove_neighbours(cursor, key);
    db_cursor_close(cursor);
    return rc;
}
