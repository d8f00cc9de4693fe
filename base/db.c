#include "base/db.h"

#include "base/db_private.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/pages.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAP_SIZE_DEFAULT ((size_t)64 << 30)
#define WRITER_WAIT_DEFAULT INT64_C(10000000)
#define READERS_MAX 1024
#define FULL_BELOW (64u << 10) /* bytes of free space; more is no reason to fail */

/* Not in every version of linux/magic.h. */
#define MAGIC_CIFS 0xff534d42u
#define MAGIC_SMB2 0xfe534d42u

/* LMDB must not open one environment twice in a process: closing either would drop the other's
 * locks. */
static pthread_mutex_t open_list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct db *open_list;

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

static int fail_txn(struct db_txn *txn, int rc, const char *what)
{
    int code = fail_mdb(txn->db, rc, what);
    assert(code != ERR_OK);
    if (code != ERR_END)
        txn->error = code;
    return code;
}

int refuse_network(int directory_fd, const char *directory)
{
    struct statfs fs;
    if (fstatfs(directory_fd, &fs) != 0)
        return fail_errno("%s", directory);
    switch ((unsigned long)fs.f_type) {
    case NFS_SUPER_MAGIC:
    case SMB_SUPER_MAGIC:
    case MAGIC_CIFS:
    case MAGIC_SMB2:
    case AFS_SUPER_MAGIC:
    case CODA_SUPER_MAGIC:
    case CEPH_SUPER_MAGIC:
    case NCP_SUPER_MAGIC:
        return fail(ERR_REFUSED, "%s: a network file system: LMDB's locks do not hold there",
                    directory);
    default:
        return ERR_OK;
    }
}

/* Claims the data file for this process. */
static int register_open(struct db *db)
{
    int rc = ERR_OK;
    pthread_mutex_lock(&open_list_mutex);
    for (struct db *other = open_list; other; other = other->next_open) {
        if (other->identity.device == db->identity.device &&
            other->identity.inode == db->identity.inode)
            rc = fail(ERR_REFUSED, "%s: open in this process already", db->directory);
    }
    if (rc == ERR_OK) {
        db->next_open = open_list;
        open_list = db;
    }
    pthread_mutex_unlock(&open_list_mutex);
    return rc;
}

static void unregister_open(struct db *db)
{
    pthread_mutex_lock(&open_list_mutex);
    for (struct db **at = &open_list; *at; at = &(*at)->next_open) {
        if (*at == db) {
            *at = db->next_open;
            break;
        }
    }
    pthread_mutex_unlock(&open_list_mutex);
}

/* A file that ends before its last page would fault on access. */
static int refuse_truncated(struct db *db)
{
    MDB_envinfo info;
    MDB_stat stat_;
    struct stat st;
    mdb_filehandle_t fd;
    mdb_env_info(db->env, &info);
    mdb_env_stat(db->env, &stat_);
    mdb_env_get_fd(db->env, &fd);
    if (fstat(fd, &st) != 0)
        return fail_errno("%s", db->directory);
    if ((uint64_t)st.st_size / stat_.ms_psize < (uint64_t)info.me_last_pgno + 1)
        return fail(ERR_CORRUPT, "%s: data.mdb is cut short (%lld bytes, %llu pages in use)",
                    db->directory, (long long)st.st_size,
                    (unsigned long long)info.me_last_pgno + 1);
    return ERR_OK;
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

static int check_metas(const struct db *db)
{
    mdb_filehandle_t fd;
    mdb_env_get_fd(db->env, &fd);
    return pages_check_metas(fd, db->directory);
}

static int open_tables(struct db *db)
{
    MDB_txn *txn;
    /* Reading first: making the tables needs the write lock, which somebody may hold for long. */
    for (int attempt = 0; attempt < 2; attempt++) {
        bool write = attempt > 0;
        int rc = mdb_txn_begin(db->env, NULL, write ? 0 : MDB_RDONLY, &txn);
        if (rc)
            return fail_mdb(db, rc, "begin");
        for (unsigned i = 0; i < db->options.table_count && rc == 0; i++)
            rc = mdb_dbi_open(txn, db->options.tables[i], write ? MDB_CREATE : 0, &db->handles[i]);
        if (rc == 0 && write && put_commit_number(db, txn, mdb_txn_id(txn))) {
            mdb_txn_abort(txn);
            return ERR_IO;
        }
        if (rc == 0)
            rc = mdb_txn_commit(txn);
        else
            mdb_txn_abort(txn);
        if (rc == 0)
            return ERR_OK;
        if (rc != MDB_NOTFOUND)
            return fail_mdb(db, rc, "open a table");
        if (!db->options.create)
            return fail(ERR_CORRUPT, "%s: not a shiplog store (tables are missing)", db->directory);
    }
    return fail(ERR_CORRUPT, "%s: not a shiplog store", db->directory);
}

/* LMDB found something in a page that cannot be, and would abort: to those who watch for faults in
 * the map this is one. */
static void on_assert(MDB_env *env, const char *what)
{
    (void)env;
    (void)what;
    raise(SIGBUS);
}

static int open_env(struct db *db)
{
    int rc = mdb_env_create(&db->env);
    if (rc) {
        db->env = NULL;
        return fail_mdb(db, rc, "open");
    }
    mdb_env_set_assert(db->env, on_assert);
    mdb_env_set_maxdbs(db->env, TABLES_MAX);
    mdb_env_set_maxreaders(db->env, READERS_MAX);
    mdb_env_set_mapsize(db->env, db->options.map_size);
    unsigned flags = MDB_NOTLS | (db->options.relaxed ? MDB_NOMETASYNC : 0u);
    rc = mdb_env_open(db->env, db->directory, flags, 0640);
    if (rc) {
        mdb_env_close(db->env);
        db->env = NULL;
        return fail_mdb(db, rc, "open");
    }
    int dead;
    mdb_reader_check(db->env, &dead);
    return ERR_OK;
}

static int identify(struct db *db)
{
    mdb_filehandle_t fd;
    struct stat st;
    mdb_env_get_fd(db->env, &fd);
    if (fstat(fd, &st) != 0)
        return fail_errno("%s", db->directory);
    db->identity = (struct db_identity){.device = st.st_dev, .inode = st.st_ino};
    return ERR_OK;
}

static int open_directory(struct db *db)
{
    if (db->options.create && mkdir(db->directory, 0750) != 0 && errno != EEXIST)
        return fail_errno("%s", db->directory);
    db->directory_fd = open(db->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (db->directory_fd < 0)
        return errno == ENOENT || errno == ENOTDIR
                   ? fail(ERR_NOTFOUND, "%s: no store there", db->directory)
                   : fail_errno("%s", db->directory);
    struct stat st;
    bool there = fstatat(db->directory_fd, DATA_FILE, &st, 0) == 0;
    if (!there && !db->options.create)
        return errno == EACCES ? fail_errno("%s", db->directory)
                               : fail(ERR_NOTFOUND, "%s: no store there", db->directory);
    /* Opening an environment twice breaks its locks even when the second opening fails: look
     * before. */
    if (there) {
        db->identity = (struct db_identity){.device = st.st_dev, .inode = st.st_ino};
        int rc = register_open(db);
        if (rc)
            return rc;
        unregister_open(db);
    }
    return refuse_network(db->directory_fd, db->directory);
}

int db_open(const char *directory, const struct db_options *options, struct db **out)
{
    char path[PATH_MAX];
    *out = NULL;
    if (options->table_count > TABLES_MAX)
        return fail(ERR_INVALID, "more than %d tables", TABLES_MAX);
    struct db *db = calloc(1, sizeof *db);
    if (!db)
        return fail(ERR_NOMEM, "%s: out of memory", directory);
    db->options = *options;
    db->directory_fd = -1;
    if (!db->options.map_size)
        db->options.map_size = MAP_SIZE_DEFAULT;
    if (!db->options.writer_wait)
        db->options.writer_wait = WRITER_WAIT_DEFAULT;
    pthread_rwlock_init(&db->open_txns, NULL);
    int rc = ERR_NOMEM;
    db->directory = strdup(directory);
    if (!db->directory)
        goto failed;
    rc = open_directory(db);
    if (rc)
        goto failed;
    if (snprintf(path, sizeof path, "%s/shiplog.lock", directory) >= (int)sizeof path) {
        rc = fail(ERR_INVALID, "%s: path too long", directory);
        goto failed;
    }
    rc = writer_lock_open(path, &db->lock);
    if (rc)
        goto failed;
    rc = open_env(db);
    if (rc)
        goto failed;
    rc = identify(db);
    if (rc)
        goto failed;
    rc = register_open(db);
    if (rc)
        goto failed;
    rc = refuse_truncated(db);
    if (rc == ERR_OK)
        rc = open_tables(db);
    if (rc == ERR_OK)
        rc = check_metas(db);
    if (rc) {
        unregister_open(db);
        goto failed;
    }
    *out = db;
    return ERR_OK;
failed:
    if (db->env)
        mdb_env_close(db->env);
    if (db->lock)
        writer_lock_close(db->lock);
    if (db->directory_fd >= 0)
        close(db->directory_fd);
    pthread_rwlock_destroy(&db->open_txns);
    free(db->directory);
    free(db);
    return rc;
}

void db_close(struct db *db)
{
    if (!db)
        return;
    unregister_open(db);
    mdb_env_close(db->env);
    writer_lock_close(db->lock);
    close(db->directory_fd);
    pthread_rwlock_destroy(&db->open_txns);
    free(db->directory);
    free(db);
}

struct db_identity db_identity(const struct db *db)
{
    return db->identity;
}

int db_directory_fd(const struct db *db)
{
    return db->directory_fd;
}

const char *db_directory(const struct db *db)
{
    return db->directory;
}

struct writer_lock *db_writer_lock(struct db *db)
{
    return db->lock;
}

/* With nobody in a transaction. */
static int open_anew(struct db *db)
{
    MDB_envinfo info;
    if (db->env) { /* not when an earlier attempt failed */
        mdb_env_info(db->env, &info);
        db->options.map_size = info.me_mapsize;
        mdb_env_close(db->env);
    }
    int rc = open_env(db);
    if (rc == ERR_OK)
        rc = open_tables(db);
    return rc ? rc : check_metas(db);
}

/* Another process enlarged the map (MDB_MAP_RESIZED), or a failed meta write left the environment
 * unusable (MDB_PANIC). */
static int recover(struct db *db, int why)
{
    int rc = ERR_OK;
    pthread_rwlock_wrlock(&db->open_txns);
    if (why == MDB_MAP_RESIZED) {
        int mdb = mdb_env_set_mapsize(db->env, 0);
        if (mdb)
            rc = fail_mdb(db, mdb, "follow the map's size");
    } else {
        rc = open_anew(db);
    }
    pthread_rwlock_unlock(&db->open_txns);
    return rc;
}

/* Compaction gives the store another data file. The file's times are not asked for: once they have
 * been read, the next write has to give the file a finer time (multigrain timestamps, Linux 6.13),
 * and some file systems then write its inode with every sync. */
static bool is_replaced(const struct db *db)
{
    struct statx st;
    return statx(db->directory_fd, DATA_FILE, 0, STATX_INO, &st) == 0 &&
           (makedev(st.stx_dev_major, st.stx_dev_minor) != db->identity.device ||
            st.stx_ino != db->identity.inode);
}

int follow_data_file(struct db *db)
{
    int rc = ERR_OK;
    pthread_rwlock_wrlock(&db->open_txns);
    if (is_replaced(db)) { /* another thread may have been first */
        rc = open_anew(db);
        pthread_mutex_lock(&open_list_mutex);
        if (rc == ERR_OK)
            rc = identify(db);
        pthread_mutex_unlock(&open_list_mutex);
    }
    pthread_rwlock_unlock(&db->open_txns);
    return rc;
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
            rc = recover(db, mdb);
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

int db_cursor_delete(struct db_cursor *cursor)
{
    if (cursor->txn->error)
        return cursor->txn->error;
    cursor->txn->changed = true;
    int mdb = mdb_cursor_del(cursor->cursor, 0);
    return mdb ? fail_txn(cursor->txn, mdb, "delete") : ERR_OK;
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
