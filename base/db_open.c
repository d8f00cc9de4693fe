/* Opening an environment: what is refused, who has it open, and which data file it is; opening it
 * anew when that file is another or LMDB cannot go on. */
#include "base/db_private.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/pages.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define MAP_SIZE_DEFAULT ((size_t)64 << 30)
#define WRITER_WAIT_DEFAULT INT64_C(10000000)
#define READERS_MAX 1024

/* Not in every version of linux/magic.h. */
#define MAGIC_CIFS 0xff534d42u
#define MAGIC_SMB2 0xfe534d42u

/* LMDB must not open one environment twice in a process: closing either would drop the other's
 * locks. */
static pthread_mutex_t open_list_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct db *open_list;

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

/* As those who have the environment open count commits, in its lock file. */
static int get_last_commit(const struct db *db, uint64_t *number)
{
    MDB_txn *txn;
    int mdb = mdb_txn_begin(db->env, NULL, MDB_RDONLY, &txn);
    if (mdb)
        return fail_mdb(db, mdb, "begin");
    *number = mdb_txn_id(txn);
    mdb_txn_abort(txn);
    return ERR_OK;
}

/* A data file that was put in its place while others have the store open, by whoever did not know
 * how (db_compact() does): by their count LMDB would take the wrong one of its meta pages, and
 * write one that fits neither. The last of them to notice opens it anew, and counts anew. */
static int refuse_foreign(const struct db *db)
{
    MDB_envinfo info;
    uint64_t before = 0;
    uint64_t after = 0;
    int rc = get_last_commit(db, &before);
    mdb_env_info(db->env, &info);
    if (rc == ERR_OK)
        rc = get_last_commit(db, &after);
    if (rc || (info.me_last_txnid >= before && info.me_last_txnid <= after + 1))
        return rc;
    return fail(ERR_BUSY,
                "%s: data.mdb was replaced while others have the store open; try again when they "
                "have noticed, or end them",
                db->directory);
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
    rc = refuse_foreign(db);
    if (rc) { /* others may be able to, when nobody has it open */
        mdb_env_close(db->env);
        db->env = NULL;
    }
    return rc;
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
int recover_env(struct db *db, int why)
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
bool is_replaced(const struct db *db)
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
