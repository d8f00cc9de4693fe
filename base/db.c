/* Transactions and the map's size; what the data file holds as a whole. */
#include "base/db.h"

#include "base/db_private.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/pages.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#define FULL_BELOW (64u << 10) /* bytes of free space; more is no reason to fail */

int fail_mdb(const struct db *db, int rc, const char *what)
{
    switch (rc) {
    case MDB_MAP_FULL:
    case MDB_MAP_RESIZED:
        return ERR_AGAIN;
    case MDB_NOTFOUND:
        return ERR_END;
    case ENOSPC:
    case EDQUOT:
        return fail(ERR_FULL, "%s: %s: no space left on the disk", db->directory, what);
    case EACCES:
    case EPERM:
    case EROFS:
        return fail(ERR_PERMISSION, "%s: %s: %s", db->directory, what, strerror(rc));
    case ENOENT:
    case ENOTDIR:
        return fail(ERR_NOTFOUND, "%s: no store there", db->directory);
    case ENOMEM:
        return fail(ERR_NOMEM, "%s: %s: out of memory", db->directory, what);
    case MDB_VERSION_MISMATCH:
        return fail(ERR_NEWER, "%s: written by another version of LMDB", db->directory);
    case MDB_INVALID:
        return fail(ERR_CORRUPT, "%s: data.mdb is not an LMDB file", db->directory);
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_BAD_TXN:
    case MDB_INCOMPATIBLE:
    case MDB_KEYEXIST:
        return fail(ERR_CORRUPT, "%s: %s: the data file is damaged (%s)", db->directory, what,
                    mdb_strerror(rc));
    default:
        return fail(ERR_IO, "%s: %s: %s", db->directory, what, mdb_strerror(rc));
    }
}

int put_commit_number(const struct db *db, MDB_txn *txn, uint64_t number)
{
    uint8_t row[8];
    MDB_dbi main_table;
    MDB_val key = {sizeof PAGES_COMMIT_KEY - 1, PAGES_COMMIT_KEY};
    MDB_val value = {sizeof row, row};
    save_u64(row, number);
    int mdb = mdb_dbi_open(txn, NULL, 0, &main_table);
    if (mdb == 0)
        mdb = mdb_put(txn, main_table, &key, &value, 0);
    return mdb ? fail_mdb(db, mdb, "commit") : ERR_OK;
}

int begin_mdb(struct db *db, unsigned flags, MDB_txn **txn)
{
    for (int attempt = 0;; attempt++) {
        pthread_rwlock_rdlock(&db->open_txns);
        bool replaced = is_replaced(db);
        int mdb = db->env && !replaced ? mdb_txn_begin(db->env, NULL, flags, txn) : MDB_PANIC;
        if (mdb == 0)
            return ERR_OK;
        pthread_rwlock_unlock(&db->open_txns);
        int rc = ERR_OK;
        int dead;
        if (attempt < 4 && replaced)
            rc = follow_data_file(db);
        else if (attempt < 4 && (mdb == MDB_MAP_RESIZED || mdb == MDB_PANIC))
            rc = recover_env(db, mdb);
        else if (attempt == 0 && mdb == MDB_READERS_FULL)
            mdb_reader_check(db->env, &dead);
        else
            rc = fail_mdb(db, mdb, "begin");
        if (rc)
            return rc == ERR_AGAIN ? fail(ERR_IO, "%s: the map keeps changing size", db->directory)
                                   : rc;
    }
}

static int begin(struct db *db, bool write, struct db_txn **out)
{
    *out = NULL;
    struct db_txn *txn = calloc(1, sizeof *txn);
    if (!txn)
        return fail(ERR_NOMEM, "%s: out of memory", db->directory);
    txn->db = db;
    txn->write = write;
    int rc = begin_mdb(db, write ? 0 : MDB_RDONLY, &txn->txn);
    if (rc)
        free(txn);
    else
        *out = txn;
    return rc;
}

int db_begin_read(struct db *db, struct db_txn **txn)
{
    return begin(db, false, txn);
}

int db_begin_write(struct db *db, struct db_txn **txn)
{
    *txn = NULL;
    int rc = writer_lock_acquire(db->lock, db->options.writer_wait);
    if (rc)
        return rc == ERR_BUSY ? fail(ERR_BUSY, "%s: held by another writer for %lld s",
                                     db->directory, (long long)(db->options.writer_wait / 1000000))
                              : rc;
    rc = begin(db, true, txn);
    if (rc)
        writer_lock_release(db->lock);
    return rc;
}

/* Before LMDB's transaction ends: a write transaction frees its cursors, a read transaction does
 * not. */
void close_places(struct db_txn *txn)
{
    for (unsigned i = 0; i < txn->db->options.table_count; i++)
        if (txn->places[i])
            mdb_cursor_close(txn->places[i]);
}

static void end_txn(struct db_txn *txn)
{
    if (txn->write)
        writer_lock_release(txn->db->lock);
    pthread_rwlock_unlock(&txn->db->open_txns);
    free(txn);
}

/* LMDB says EIO when only a part of what it writes has room. */
static bool disk_is_full(const struct db *db)
{
    struct statvfs fs;
    return fstatvfs(db->directory_fd, &fs) == 0 && fs.f_bavail * fs.f_frsize < FULL_BELOW;
}

static bool is_in_panic(struct db *db)
{
    MDB_txn *txn;
    pthread_rwlock_rdlock(&db->open_txns);
    int mdb = db->env ? mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn) : MDB_PANIC;
    if (mdb == 0)
        mdb_txn_abort(txn);
    pthread_rwlock_unlock(&db->open_txns);
    return mdb == MDB_PANIC;
}

/* A commit that fails at its meta page leaves that page with an older number and its own tree. An
 * empty commit writes it anew; should that fail too, the next one does. */
static void mend_meta(struct db *db)
{
    MDB_txn *txn;
    if (!is_in_panic(db) || begin_mdb(db, 0, &txn))
        return;
    if (put_commit_number(db, txn, mdb_txn_id(txn)))
        mdb_txn_abort(txn);
    else
        (void)mdb_txn_commit(txn);
    pthread_rwlock_unlock(&db->open_txns);
}

static int end_failed(struct db_txn *txn, int mdb)
{
    char why[512];
    struct db *db = txn->db;
    if (mdb == EIO && disk_is_full(db))
        mdb = ENOSPC;
    int rc = fail_mdb(db, mdb, "commit");
    snprintf(why, sizeof why, "%s", err_message());
    pthread_rwlock_unlock(&db->open_txns);
    if (rc != ERR_AGAIN)
        mend_meta(db);
    writer_lock_release(db->lock);
    free(txn);
    return fail(rc, "%s", why);
}

int db_commit(struct db_txn *txn)
{
    int rc = txn->error;
    close_places(txn);
    if (rc == ERR_OK && txn->changed)
        rc = put_commit_number(txn->db, txn->txn, mdb_txn_id(txn->txn));
    if (rc) {
        mdb_txn_abort(txn->txn);
    } else {
        int mdb = mdb_txn_commit(txn->txn);
        if (mdb)
            return end_failed(txn, mdb);
    }
    end_txn(txn);
    return rc;
}

void db_abort(struct db_txn *txn)
{
    if (!txn)
        return;
    close_places(txn);
    mdb_txn_abort(txn->txn);
    end_txn(txn);
}

int db_txn_error(const struct db_txn *txn)
{
    return txn->error;
}

int db_grow(struct db *db)
{
    MDB_envinfo info;
    pthread_rwlock_wrlock(&db->open_txns);
    if (!db->env) { /* it could not be opened anew; the next transaction tries */
        pthread_rwlock_unlock(&db->open_txns);
        return ERR_OK;
    }
    mdb_env_info(db->env, &info);
    /* When another process grew it meanwhile, its size is taken first and then doubled: harmless.
     */
    int mdb = mdb_env_set_mapsize(db->env, info.me_mapsize * 2);
    int rc = mdb ? fail_mdb(db, mdb, "grow the map") : ERR_OK;
    pthread_rwlock_unlock(&db->open_txns);
    return rc;
}

int db_set_relaxed(struct db *db, bool relaxed)
{
    pthread_rwlock_wrlock(&db->open_txns);
    db->options.relaxed = relaxed; /* for when it is opened anew */
    int mdb = db->env ? mdb_env_set_flags(db->env, MDB_NOMETASYNC, relaxed) : 0;
    int rc = mdb ? fail_mdb(db, mdb, "durability") : ERR_OK;
    pthread_rwlock_unlock(&db->open_txns);
    return rc;
}

int db_sync(struct db *db)
{
    pthread_rwlock_rdlock(&db->open_txns);
    int mdb = db->env ? mdb_env_sync(db->env, 1) : MDB_PANIC;
    int rc = mdb ? fail_mdb(db, mdb, "sync") : ERR_OK;
    pthread_rwlock_unlock(&db->open_txns);
    return rc;
}

int db_usage(struct db *db, struct db_usage *usage)
{
    *usage = (struct db_usage){0};
    struct db_txn *txn;
    int rc = db_begin_read(db, &txn);
    if (rc)
        return rc;
    MDB_envinfo info;
    MDB_stat stat_;
    mdb_env_info(db->env, &info);
    mdb_env_stat(db->env, &stat_);
    usage->map_bytes = info.me_mapsize;
    usage->last_txn = info.me_last_txnid;
    usage->file_bytes = (info.me_last_pgno + 1) * (uint64_t)stat_.ms_psize;
    MDB_cursor *cursor;
    int mdb = mdb_cursor_open(txn->txn, 0, &cursor); /* table 0 is LMDB's own list of free pages */
    if (mdb == 0) {
        MDB_val k, v;
        while ((mdb = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
            size_t pages = 0;
            if (v.mv_size >= sizeof pages)
                memcpy(&pages, v.mv_data, sizeof pages);
            usage->free_bytes += (uint64_t)pages * stat_.ms_psize;
        }
        mdb_cursor_close(cursor);
        if (mdb == MDB_NOTFOUND)
            mdb = 0;
    }
    if (mdb)
        rc = fail_mdb(db, mdb, "count free pages");
    db_abort(txn);
    return rc;
}

int db_check_pages(struct db_txn *txn, bool relaxed, void (*report)(void *arg, const char *what),
                   void *arg)
{
    mdb_filehandle_t fd;
    mdb_env_get_fd(txn->db->env, &fd);
    return pages_check(fd, mdb_txn_id(txn->txn), !relaxed, report, arg);
}
