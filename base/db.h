/* The one wrapper around LMDB: lmdb.h is included by db_private.h, for base/db*.c, and by nothing
 * else but benches, which compare with it.
 *
 * A db is an environment in one directory with a fixed list of tables, named by their place in that
 * list. Lookups and iterations have three results: ERR_OK (an item), ERR_END (none), anything else
 * (an error, described by fail()). A transaction remembers its first error: from then on everything
 * done in it returns that error and db_commit() aborts, so that callers may write straight down and
 * look once.
 *
 * Threads: a db may be used by any thread; a transaction by one at a time, a write transaction only
 * by the one that began it. A thread must not begin a transaction while it holds another of the
 * same db. Read transactions must be short: pages that they may still see cannot be reused by
 * writers.
 */
#ifndef SHIPLOG_BASE_DB_H
#define SHIPLOG_BASE_DB_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct db;
struct db_txn;
struct db_cursor;

struct db_options {
    const char *const *tables; /* names; must outlive the db */
    unsigned table_count;
    size_t map_size; /* bytes of address space to begin with; 0 means 64 GiB. Grows by itself */
    int64_t
        writer_wait; /* microseconds that db_begin_write() waits for another writer; 0 means 10 s */
    bool create;     /* make the directory and the environment when they are missing */
    bool relaxed;    /* as db_set_relaxed() does from the start */
};

/* ERR_NOTFOUND: nothing there; ERR_CORRUPT: not an environment, or cut short; ERR_NEWER;
 * ERR_PERMISSION; ERR_REFUSED: a network file system, or open in this process already; ERR_BUSY:
 * the data file was put in its place while others have the environment open; ERR_IO. */
int db_open(const char *directory, const struct db_options *options, struct db **db);
void db_close(struct db *db); /* NULL is fine; no transaction may be open */

/* What identifies the data file: it changes when the file is copied or restored. */
struct db_identity {
    dev_t device;
    ino_t inode;
};
struct db_identity db_identity(const struct db *db);
int db_directory_fd(const struct db *db); /* of the environment's directory; belongs to the db */
const char *db_directory(const struct db *db); /* as given to db_open(); belongs to the db */
struct writer_lock *
db_writer_lock(struct db *db); /* base/lock.h: for owner locks; belongs to the db */

int db_begin_read(struct db *db, struct db_txn **txn);
/* ERR_BUSY when another writer keeps the lock longer than `writer_wait`. */
int db_begin_write(struct db *db, struct db_txn **txn);
/* Ends the transaction in every case. ERR_AGAIN: the map was full; call db_grow() and run it again
 * from the start. ERR_FULL: the disk is; nothing was changed. */
int db_commit(struct db_txn *txn);
void db_abort(struct db_txn *txn);          /* also ends a read transaction; NULL is fine */
int db_txn_error(const struct db_txn *txn); /* the first error of this transaction, or ERR_OK */

/* Doubles the map; waits until no transaction of this process is open. */
int db_grow(struct db *db);
/* From now on commits here do not wait for the last sync (MDB_NOMETASYNC): a power cut may take the
 * newest one back, and never leaves half of any. A commit that does wait makes all before it
 * durable. Not while a transaction is open. */
int db_set_relaxed(struct db *db, bool relaxed);
int db_sync(struct db *db); /* makes everything durable that any process has committed so far */

/* `value` may be NULL. It points into the map: valid until the transaction ends or, in a write
 * transaction, changes anything. */
int db_get(struct db_txn *txn, unsigned table, struct bytes key, struct bytes *value);
int db_put(struct db_txn *txn, unsigned table, struct bytes key, struct bytes value);
/* For a key above every other of its table (MDB_APPEND): fills pages instead of splitting them.
 * ERR_CORRUPT when it is not above. */
int db_append(struct db_txn *txn, unsigned table, struct bytes key, struct bytes value);
/* Puts a value of `size` bytes that the caller writes to *room before its next call on this
 * transaction. */
int db_reserve(struct db_txn *txn, unsigned table, struct bytes key, size_t size, uint8_t **room);
int db_delete(struct db_txn *txn, unsigned table,
              struct bytes key); /* ERR_END when there was none */
int db_count(struct db_txn *txn, unsigned table, uint64_t *count);

/* Cursors. Every cursor is closed before its transaction ends. */
int db_cursor_open(struct db_txn *txn, unsigned table, struct db_cursor **cursor);
void db_cursor_close(struct db_cursor *cursor); /* NULL is fine */
/* Moves and gives the item there. seek: the first at or above `key`. Outputs may be NULL. */
int db_seek(struct db_cursor *cursor, struct bytes key, struct bytes *found, struct bytes *value);
int db_first(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
int db_last(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
int db_next(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
int db_previous(struct db_cursor *cursor, struct bytes *found, struct bytes *value);
int db_cursor_delete(
    struct db_cursor *cursor); /* the item there; db_next() then gives the one behind it */

/* Proves that no item has this key, which was just looked for: where a damaged page led the search
 * astray, the keys around the place where it ended do not go one way. For whoever is about to tell
 * people that something is not there. ERR_CORRUPT. */
int db_absent(struct db_txn *txn, unsigned table, struct bytes key);

/* Looks at every page of the state that this read transaction sees, which should have just begun;
 * tells of each thing that LMDB could trip over, and of a newer commit that was lost, unless
 * `relaxed` says that this may happen. ERR_BUSY: too many commits since; begin anew.
 * ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int db_check_pages(struct db_txn *txn, bool relaxed, void (*report)(void *arg, const char *what),
                   void *arg);

/* A copy: compacted, as of one committed state. */
struct db_copy {
    /* Works on the copy before anybody else sees it, in a transaction of the copy's; `file` is its
     * identity. */
    int (*prepare)(struct db_txn *copied, struct db_identity file, void *arg);
    /* A folder of files that prepare() may make in the directory: it goes when the copy fails, and
     * does not count where a copy was cut off. NULL: none. */
    const char *folder;
    /* Told now and then how many of about how many bytes are done; NULL: nobody is. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};
/* Makes `directory`, which must not exist or be empty, an environment of the same tables. Holds one
 * read transaction for as long as the bytes take. Until it is whole and durable there is nothing
 * that opens. ERR_EXISTS, ERR_BUSY (another copies there), ERR_FULL, ERR_IO, ERR_CORRUPT. */
int db_copy(struct db *db, const char *directory, const struct db_copy *copy);

/* Puts a compacted copy in the place of the data file, in one step: what is free goes back to the
 * disk. Other writers wait meanwhile, up to their time limit; readers go on. Every process that has
 * the environment open takes the new file with its next transaction. Needs room for the copy.
 * ERR_BUSY, ERR_FULL, ERR_IO, ERR_CORRUPT; unless it was the last sync that failed, nothing was
 * changed then. */
int db_compact(struct db *db, const struct db_copy *copy);

struct db_usage {
    uint64_t file_bytes; /* the data file's size */
    uint64_t free_bytes; /* of which pages that can be reused */
    uint64_t map_bytes;
    uint64_t last_txn; /* the number of the last committed transaction */
};
int db_usage(struct db *db, struct db_usage *usage);

#endif
