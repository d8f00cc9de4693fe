/* Bare LMDB: what a commit of shiplog's costs at least. The same puts and gets to the same tables,
 * with the same keys and sizes and the same syncs, and nothing else.
 */
#ifndef SHIPLOG_BENCH_BARE_H
#define SHIPLOG_BENCH_BARE_H

#include "base/bytes.h"
#include "bench/bench.h"

#include <lmdb.h>
#include <stdint.h>
#include <sys/stat.h>

#define BARE_MAP_SIZE ((size_t)4 << 30) /* valgrind cannot have two of 64 GiB */
/* Bytes of these journal entries, as `journal status` counts them. */
#define ENTRY_APPEND_SIZE 152u
#define ENTRY_FLAGS_SIZE 92u

enum { STATE, JOURNAL, MAILBOXES, RECORDS, GUIDS, CONTENT, TABLES };

static uint8_t blank[65536];

struct bare {
    MDB_env *env;
    MDB_dbi tables[TABLES];
    uint64_t modseq, content;
    uint32_t uid;
};

static inline void must(int mdb, const char *what)
{
    bench_require(mdb, what, mdb_strerror(mdb));
}

static inline void bare_open(struct bare *bare, const char *path)
{
    MDB_txn *txn;
    static const char *const names[TABLES] = {"state",   "journal", "mailboxes",
                                              "records", "guids",   "content"};
    mkdir(path, 0700);
    *bare = (struct bare){0};
    must(mdb_env_create(&bare->env), "create");
    mdb_env_set_maxdbs(bare->env, TABLES);
    mdb_env_set_mapsize(bare->env, BARE_MAP_SIZE);
    must(mdb_env_open(bare->env, path, MDB_NOTLS, 0600), "open");
    must(mdb_txn_begin(bare->env, NULL, 0, &txn), "begin");
    for (int i = 0; i < TABLES; i++)
        must(mdb_dbi_open(txn, names[i], MDB_CREATE, &bare->tables[i]), names[i]);
    must(mdb_txn_commit(txn), "commit");
}

static inline void bare_put(struct bare *bare, MDB_txn *txn, int table, const void *key,
                            size_t key_size, const void *value, size_t size, unsigned flags)
{
    MDB_val k = {key_size, (void *)(uintptr_t)key};
    MDB_val v = {size, (void *)(uintptr_t)value};
    must(mdb_put(txn, bare->tables[table], &k, &v, flags), "put");
}

static inline void bare_get(struct bare *bare, MDB_txn *txn, int table, const void *key,
                            size_t key_size)
{
    MDB_val k = {key_size, (void *)(uintptr_t)key};
    MDB_val v;
    int mdb = mdb_get(txn, bare->tables[table], &k, &v);
    if (mdb != MDB_NOTFOUND)
        must(mdb, "get");
}

static inline void bare_close(struct bare *bare)
{
    mdb_env_close(bare->env);
}

/* What every commit reads first and writes last. */
static inline void bare_begin(struct bare *bare, MDB_txn **txn)
{
    must(mdb_txn_begin(bare->env, NULL, 0, txn), "begin");
    bare_get(bare, *txn, STATE, "node", 4);
    bare_get(bare, *txn, STATE, "journal", 7);
    bare_get(bare, *txn, MAILBOXES, blank, 8);
}

static inline void bare_end(struct bare *bare, MDB_txn *txn)
{
    bare_put(bare, txn, MAILBOXES, blank, 8, blank, 125, 0);
    bare_put(bare, txn, STATE, "journal", 7, blank, 64, 0);
    bare_put(bare, txn, STATE, "node", 4, blank, 95, 0);
    must(mdb_txn_commit(txn), "commit");
}

static inline void bare_entry(struct bare *bare, MDB_txn *txn, size_t size)
{
    uint8_t key[8];
    save_be64(key, ++bare->modseq);
    bare_put(bare, txn, JOURNAL, key, sizeof key, blank, size, MDB_APPEND);
}

static inline void bare_flag(struct bare *bare, uint32_t uid)
{
    uint8_t key[8];
    MDB_txn *txn;
    bare_begin(bare, &txn);
    save_be32(key, 1);
    save_be32(key + 4, uid);
    bare_get(bare, txn, RECORDS, key, sizeof key);
    bare_get(bare, txn, RECORDS, key, sizeof key);
    bare_put(bare, txn, RECORDS, key, sizeof key, blank, 100, 0);
    bare_entry(bare, txn, ENTRY_FLAGS_SIZE);
    bare_end(bare, txn);
}

#endif
