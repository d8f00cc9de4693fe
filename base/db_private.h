/* What the files around LMDB share: db.c (transactions), db_open.c, db_table.c, db_copy.c, and no
 * others. */
#ifndef SHIPLOG_BASE_DB_PRIVATE_H
#define SHIPLOG_BASE_DB_PRIVATE_H

#include "base/db.h"

#include <lmdb.h>
#include <pthread.h>

#define TABLES_MAX 32
#define KEY_MAX_SIZE 511u
#define DATA_FILE "data.mdb"

struct db {
    MDB_env *env;
    struct writer_lock *lock;
    /* Held shared by every open transaction, exclusively while the map is resized or the
     * environment opened anew. */
    pthread_rwlock_t open_txns;
    MDB_dbi handles[TABLES_MAX];
    struct db_options options;
    struct db_identity identity;
    char *directory;
    int directory_fd;
    struct db *next_open; /* in the list of this process's open dbs */
};

struct db_txn {
    struct db *db;
    MDB_txn *txn;
    /* One for each table that was used: it stays where it was, and LMDB finds a neighbour of that
     * place without going down the tree again. */
    MDB_cursor *places[TABLES_MAX];
    int error;
    bool write;
    bool changed;
};

struct db_cursor {
    struct db_txn *txn;
    MDB_cursor *cursor;
    size_t at_size; /* of the key at which it stands; 0: nowhere yet */
    uint8_t at[KEY_MAX_SIZE];
};

/* Describes a failure of LMDB's; MDB_NOTFOUND is ERR_END, a full or resized map ERR_AGAIN. */
int fail_mdb(const struct db *db, int rc, const char *what);
/* ERR_REFUSED: LMDB's locks do not hold on the file system of this open directory. */
int refuse_network(int directory_fd, const char *directory);
/* Before the transaction ends. */
void close_places(struct db_txn *txn);
/* The commit's number goes into the main table (base/pages.h). */
int put_commit_number(const struct db *db, MDB_txn *txn, uint64_t number);
/* Whether the data file is another than the one that is open: compaction makes it so. */
bool is_replaced(const struct db *db);
/* Both wait until no transaction of this process is open. The first opens the environment anew, if
 * the data file was replaced. The second does what MDB_MAP_RESIZED or MDB_PANIC asks for, which is
 * `why` no transaction could begin. */
int follow_data_file(struct db *db);
int recover_env(struct db *db, int why);
/* Begins LMDB's own transaction, with open_txns held shared; whatever stands in the way and can be
 * mended is mended first. */
int begin_mdb(struct db *db, unsigned flags, MDB_txn **txn);

#endif
