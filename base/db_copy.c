/* Compacted copies.
 *
 * Happy path: LMDB's own copier writes into a pipe, from a thread of its own; this end puts the
 * bytes into a file under a name that nobody opens, counts them, and has the disk begin early. Then
 * the copy is opened, prepared and closed, made durable, and gets its name. Failure modes: whatever
 * goes wrong at this end closes the pipe, which ends LMDB's copier; a damaged environment whose
 * pages lead in circles is noticed when the copy becomes larger than the original. What is left
 * behind by a copy that was cut off is removed by the next.
 */
#include "base/db.h"

#include "base/db_private.h"
#include "base/err.h"
#include "base/file_lock.h"
#include "base/lock.h"
#include "base/pages.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define COPY_FILE "copying.mdb" /* until it is whole */
#define COMPACT_FILE "compacting.mdb"
#define PIECE (1u << 20)      /* bytes read from the pipe in one go */
#define WRITE_BACK (8u << 20) /* bytes after which the disk is told to begin */

/* LMDB's end of the pipe. */
struct copier {
    MDB_env *env;
    int fd;
    int mdb;
};

static void *run_copier(void *arg)
{
    struct copier *copier = arg;
    copier->mdb = mdb_env_copyfd2(copier->env, copier->fd, MDB_CP_COMPACT);
    close(copier->fd);
    return NULL;
}

/* This end. */
struct pump {
    const char *where;
    const struct db_copy *copy;
    int from;
    int to;
    uint64_t done;
    uint64_t total; /* about */
    int original;   /* its data file: what has more bytes than that is no copy of it */
    uint64_t most;
    uint8_t *piece;
};

/* The original may have grown before its state was taken, and since. */
static int refuse_more(struct pump *pump, uint64_t size)
{
    struct stat st;
    if (size <= pump->most)
        return ERR_OK;
    if (fstat(pump->original, &st) != 0)
        return fail_errno("%s", pump->where);
    pump->most = (uint64_t)st.st_size;
    return size <= pump->most ? ERR_OK
                              : fail(ERR_CORRUPT,
                                     "%s: the copy becomes larger than the original, whose pages "
                                     "must be damaged",
                                     pump->where);
}

static int write_all(const struct pump *pump, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t written = write(pump->to, pump->piece + at, size - at);
        if (written < 0 && errno != EINTR)
            return fail_errno("%s", pump->where);
        at += written > 0 ? (size_t)written : 0;
    }
    return ERR_OK;
}

static int run_pump(struct pump *pump)
{
    uint64_t begun = 0;
    for (;;) {
        ssize_t got = read(pump->from, pump->piece, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("%s", pump->where);
        if (got == 0)
            return ERR_OK;
        int rc = refuse_more(pump, pump->done + (uint64_t)got);
        if (rc == ERR_OK)
            rc = write_all(pump, (size_t)got);
        if (rc)
            return rc;
        pump->done += (uint64_t)got;
        if (pump->done - begun >= WRITE_BACK) {
            sync_file_range(pump->to, (off_t)begun, (off_t)(pump->done - begun),
                            SYNC_FILE_RANGE_WRITE);
            begun = pump->done;
        }
        if (pump->copy->progress)
            pump->copy->progress(pump->copy->arg, pump->done, pump->total);
    }
}

/* The copier must get an error, not a signal, when this end gives up. */
static int start_copier(pthread_t *thread, struct copier *copier)
{
    sigset_t pipes, before;
    sigemptyset(&pipes);
    sigaddset(&pipes, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipes, &before);
    int error = pthread_create(thread, NULL, run_copier, copier);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static int copy_through_pipe(struct db *db, struct pump *pump)
{
    int ends[2];
    pthread_t thread;
    struct copier copier = {.env = db->env};
    if (pipe2(ends, O_CLOEXEC) != 0)
        return fail_errno("%s", pump->where);
    (void)fcntl(ends[1], F_SETPIPE_SZ, (int)PIECE); /* a small one is only slower */
    pump->from = ends[0];
    copier.fd = ends[1];
    int error = start_copier(&thread, &copier);
    if (error) {
        close(ends[0]);
        close(ends[1]);
        return fail(ERR_NOMEM, "%s: no thread: %s", pump->where, strerror(error));
    }
    int rc = run_pump(pump);
    close(ends[0]);
    pthread_join(thread, NULL);
    if (rc == ERR_OK && copier.mdb)
        rc = fail_mdb(db, copier.mdb, "copy");
    return rc == ERR_AGAIN ? fail(ERR_BUSY, "%s: its map was resized: try again", db->directory)
                           : rc;
}

static int copy_pages(struct db *db, struct pump *pump)
{
    struct db_usage usage;
    MDB_txn *txn;
    int rc = db_usage(db, &usage);
    if (rc == ERR_OK)
        rc = begin_mdb(db, MDB_RDONLY, &txn); /* so that the map has the file's size */
    if (rc)
        return rc;
    mdb_txn_abort(txn);
    mdb_env_get_fd(db->env, &pump->original);
    pump->total = usage.file_bytes - usage.free_bytes;
    pump->piece = malloc(PIECE);
    rc = pump->piece ? copy_through_pipe(db, pump) : fail(ERR_NOMEM, "out of memory");
    pthread_rwlock_unlock(&db->open_txns);
    free(pump->piece);
    return rc;
}

static int open_tables_in(MDB_txn *txn, struct db *copied)
{
    for (unsigned i = 0; i < copied->options.table_count; i++) {
        int mdb = mdb_dbi_open(txn, copied->options.tables[i], 0, &copied->handles[i]);
        if (mdb)
            return fail_mdb(copied, mdb, "open a table of the copy");
    }
    return ERR_OK;
}

/* One commit in the copy; `prepare` may be NULL. */
static int commit_in_copy(struct db *copied, const struct db_copy *prepare, uint64_t number)
{
    struct db_txn txn = {.db = copied, .write = true};
    int mdb = mdb_txn_begin(copied->env, NULL, 0, &txn.txn);
    if (mdb)
        return fail_mdb(copied, mdb, "open the copy");
    int rc = open_tables_in(txn.txn, copied);
    if (rc == ERR_OK && prepare)
        rc = prepare->prepare(&txn, copied->identity, prepare->arg);
    if (rc == ERR_OK)
        rc = txn.error;
    close_places(&txn);
    if (rc == ERR_OK)
        rc = put_commit_number(copied, txn.txn, number ? number : mdb_txn_id(txn.txn));
    if (rc) {
        mdb_txn_abort(txn.txn);
        return rc;
    }
    mdb = mdb_txn_commit(txn.txn);
    return mdb ? fail_mdb(copied, mdb, "prepare the copy") : ERR_OK;
}

/* LMDB's copier numbers the copy's commits anew, from 1 on, and its first still says that it is a
 * later one: so two follow it, and both meta pages lead to trees that know what they are. Where the
 * newest is to pass for commit `last`, it must be on the meta page of that number's parity. */
static int run_prepare(struct db *copied, const struct db_copy *copy, uint64_t last)
{
    int rc = commit_in_copy(copied, copy, last ? last - 1 : 0);
    if (rc == ERR_OK && last && last % 2 == 0)
        rc = commit_in_copy(copied, NULL, last - 1);
    return rc ? rc : commit_in_copy(copied, NULL, last);
}

/* Nobody else knows the file yet: no locks. */
static int prepare_copy(const struct db *db, const char *path, int fd, const struct db_copy *copy,
                        uint64_t last)
{
    struct stat st;
    MDB_envinfo info;
    struct db copied = {.options = db->options, .directory = (char *)(uintptr_t)path};
    if (fstat(fd, &st) != 0)
        return fail_errno("%s", path);
    copied.identity = (struct db_identity){.device = st.st_dev, .inode = st.st_ino};
    int mdb = mdb_env_create(&copied.env);
    if (mdb)
        return fail_mdb(&copied, mdb, "open the copy");
    mdb_env_info(db->env, &info);
    mdb_env_set_maxdbs(copied.env, TABLES_MAX);
    mdb_env_set_mapsize(copied.env, info.me_mapsize);
    mdb = mdb_env_open(copied.env, path, MDB_NOSUBDIR | MDB_NOTLS | MDB_NOLOCK, 0640);
    int rc = mdb ? fail_mdb(&copied, mdb, "open the copy") : run_prepare(&copied, copy, last);
    mdb_env_close(copied.env);
    if (rc == ERR_OK && last)
        rc = pages_number_metas(fd, last);
    if (rc == ERR_OK && fsync(fd) != 0)
        rc = fail_errno("%s", path);
    return rc == ERR_AGAIN ? fail(ERR_FULL, "%s: no room in the copy's map", path) : rc;
}

/* `last`: the number that its newest commit is to have; 0: whatever it gets. */
static int copy_to_file(struct db *db, int directory_fd, const char *path,
                        const struct db_copy *copy, uint64_t last)
{
    const char *name = strrchr(path, '/') + 1;
    int fd = openat(directory_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return fail_errno("%s", path);
    struct pump pump = {.where = path, .copy = copy, .to = fd};
    int rc = copy_pages(db, &pump);
    if (rc == ERR_OK)
        rc = prepare_copy(db, path, fd, copy, last);
    close(fd);
    return rc;
}

/* Nothing but what a copy that was cut off has left; a folder alone may be anybody's. */
static bool is_left_over(int directory_fd, const char *name, const char *folder)
{
    return strcmp(name, COPY_FILE) == 0 || (folder && strcmp(name, folder) == 0 &&
                                            faccessat(directory_fd, COPY_FILE, F_OK, 0) == 0);
}

static int refuse_full_directory(int directory_fd, const char *directory, const char *folder)
{
    int fd = dup(directory_fd);
    DIR *list = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;
    int rc = ERR_OK;
    if (!list) {
        rc = fail_errno("%s", directory);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    rewinddir(list);
    while (rc == ERR_OK && (entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            !is_left_over(directory_fd, entry->d_name, folder))
            rc = fail(ERR_EXISTS, "%s: not empty: a copy needs a directory of its own", directory);
    closedir(list);
    return rc;
}

/* Files in it, and no folders. */
static int remove_folder(int directory_fd, const char *folder)
{
    struct dirent *entry;
    int fd = openat(directory_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : fail_errno("%s", folder);
    DIR *list = fdopendir(fd);
    if (!list) {
        close(fd);
        return fail_errno("%s", folder);
    }
    while ((entry = readdir(list)))
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(fd, entry->d_name, 0);
    closedir(list);
    return unlinkat(directory_fd, folder, AT_REMOVEDIR) == 0 ? ERR_OK : fail_errno("%s", folder);
}

static int open_target(const char *directory, const char *folder, bool *made, int *fd)
{
    *made = mkdir(directory, 0750) == 0;
    if (!*made && errno != EEXIST)
        return fail_errno("%s", directory);
    *fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*fd < 0)
        return errno == ENOTDIR ? fail(ERR_EXISTS, "%s: not a directory", directory)
                                : fail_errno("%s", directory);
    int rc = file_lock(*fd, directory, 0);
    if (rc)
        return rc == ERR_BUSY ? fail(ERR_BUSY, "%s: another copy is being made", directory) : rc;
    rc = refuse_network(*fd, directory);
    if (rc == ERR_OK)
        rc = refuse_full_directory(*fd, directory, folder);
    return rc || !folder ? rc : remove_folder(*fd, folder);
}

static int sync_parent(int directory_fd, const char *directory)
{
    int parent = openat(directory_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (parent < 0) /* it may not be readable; then it was not written either */
        return errno == EACCES ? ERR_OK : fail_errno("%s", directory);
    int rc = fsync(parent) == 0 ? ERR_OK : fail_errno("%s", directory);
    close(parent);
    return rc;
}

/* The names of the file and of its directory survive a power cut too. */
static int publish(int directory_fd, const char *directory)
{
    if (renameat(directory_fd, COPY_FILE, directory_fd, DATA_FILE) != 0)
        return fail_errno("%s", directory);
    int rc = fsync(directory_fd) == 0 ? ERR_OK : fail_errno("%s", directory);
    if (rc == ERR_OK)
        rc = sync_parent(directory_fd, directory);
    if (rc)
        unlinkat(directory_fd, DATA_FILE, 0);
    return rc;
}

/* The file goes last: where it is, the folder is known to be a copy's. Returns what failed before.
 */
static int take_back(int directory_fd, const char *folder, int error)
{
    char why[512];
    snprintf(why, sizeof why, "%s", err_message());
    if (!folder || remove_folder(directory_fd, folder) == ERR_OK)
        unlinkat(directory_fd, COPY_FILE, 0);
    return fail(error, "%s", why);
}

int db_copy(struct db *db, const char *directory, const struct db_copy *copy)
{
    char path[PATH_MAX];
    bool made = false;
    int fd = -1;
    if (snprintf(path, sizeof path, "%s/%s", directory, COPY_FILE) >= (int)sizeof path)
        return fail(ERR_INVALID, "%s: path too long", directory);
    int rc = open_target(directory, copy->folder, &made, &fd);
    if (rc == ERR_OK) {
        rc = copy_to_file(db, fd, path, copy, 0);
        if (rc == ERR_OK)
            rc = publish(fd, directory);
        if (rc)
            rc = take_back(fd, copy->folder, rc);
    }
    if (rc && made)
        rmdir(directory);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Both files go on with the same lock file, whose count of commits and readers stays true: so the
 * one step that changes anything is the rename. */
static int replace_data_file(struct db *db, const char *path, const struct db_copy *copy)
{
    MDB_envinfo info;
    mdb_env_info(db->env, &info);
    int rc = copy_to_file(db, db->directory_fd, path, copy, info.me_last_txnid);
    if (rc == ERR_OK && renameat(db->directory_fd, COMPACT_FILE, db->directory_fd, DATA_FILE) != 0)
        rc = fail_errno("%s", path);
    if (rc) {
        unlinkat(db->directory_fd, COMPACT_FILE, 0);
        return rc;
    }
    /* Should this fail and the power go, the old file is there again, as whole as the new one, and
     * nobody has committed to the new one yet. */
    if (fsync(db->directory_fd) != 0)
        rc = fail_errno("%s", db->directory);
    int followed = follow_data_file(db);
    return rc ? rc : followed;
}

int db_compact(struct db *db, const struct db_copy *copy)
{
    char path[PATH_MAX];
    MDB_txn *txn;
    if (snprintf(path, sizeof path, "%s/%s", db->directory, COMPACT_FILE) >= (int)sizeof path)
        return fail(ERR_INVALID, "%s: path too long", db->directory);
    int rc = writer_lock_acquire(db->lock, db->options.writer_wait);
    if (rc)
        return rc;
    rc = begin_mdb(db, MDB_RDONLY, &txn); /* so that the file that is open is the store's */
    if (rc == ERR_OK) {
        mdb_txn_abort(txn);
        pthread_rwlock_unlock(&db->open_txns);
        rc = replace_data_file(db, path, copy);
    }
    writer_lock_release(db->lock);
    return rc;
}
