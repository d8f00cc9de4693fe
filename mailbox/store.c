/* A store's handle, and how a closure is run: begin, look what the store says of itself, run it,
 * save, commit, wake the agent.
 *
 * Failure modes: a full map is grown, a full disk gives the room in reserve to what frees more,
 * and the closure is run again. A data file that was copied, or a machine that stopped before
 * relaxed commits were durable, is noticed by the next commit, which first opens an epoch.
 */
#include "mailbox/store.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/reserve.h"
#include "base/times.h"
#include "journal/tables.h"
#include "mailbox/tx.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define RELAXED_KEY "relaxed" /* there while the newest commits did not wait for the disk */
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

struct store {
    struct db *db;
    char *path;
    char actor[ACTOR_MAX_SIZE + 1];
    int wake;      /* datagram socket; -1: none */
    uint64_t boot; /* of a relaxed handle: under which it was opened; else 0 */
    atomic_int_least64_t reserve_looked; /* when it was looked at last */
};

/* Of a disk that may be small, not of one store's mail alone: many stores share it. */
#define RESERVE_LEAST (1u << 20)
#define RESERVE_MOST (32u << 20)
#define RESERVE_SHARE 8u /* one part in so many of the data file */
#define RESERVE_PAUSE (10 * TIMES_SECOND)

static bool same_file(struct db_identity a, struct db_identity b)
{
    return a.device == b.device && a.inode == b.inode;
}

/* Another number after the machine was started anew. Never 0, also where nobody tells. */
static uint64_t boot_number(void)
{
    char id[64];
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t size = fd < 0 ? -1 : read(fd, id, sizeof id);
    if (fd >= 0)
        close(fd);
    uint64_t number = size > 0 ? hash_xxh3(id, (size_t)size) : hash_random_id();
    return number ? number : 1;
}

static int load_relaxed(struct tx *tx)
{
    struct bytes value;
    int rc = db_get(tx->db, TABLE_STATE, bytes_text(RELAXED_KEY), &value);
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    if (value.size != 8)
        return fail(ERR_CORRUPT, "the store's note of relaxed commits is damaged");
    tx->relaxed = load_u64(value.data);
    return ERR_OK;
}

static void find_actor(char actor[ACTOR_MAX_SIZE + 1], const struct store_options *options)
{
    const char *name = options ? options->actor : NULL;
    struct passwd entry;
    struct passwd *found = NULL;
    char room[4096];
    if (!name && getpwuid_r(geteuid(), &entry, room, sizeof room, &found) == 0 && found)
        name = found->pw_name;
    if (name)
        snprintf(actor, ACTOR_MAX_SIZE + 1, "%s", name);
    else
        snprintf(actor, ACTOR_MAX_SIZE + 1, "uid %u", (unsigned)geteuid());
}

static int open_db(const char *path, const struct store_options *options, bool create,
                   struct db **db)
{
    struct db_options db_options = {
        .tables = table_names,
        .table_count = TABLE_COUNT,
        .create = create,
    };
    if (options) {
        db_options.map_size = options->map_size;
        db_options.writer_wait = options->writer_wait;
        db_options.relaxed = options->relaxed;
    }
    return db_open(path, &db_options, db);
}

struct init {
    enum role role;
    const struct owner *owner;
};

static int init_tables(struct tx *tx, void *arg)
{
    const struct init *init = arg;
    if (node_exists(tx->db))
        return fail(ERR_EXISTS, "%s: a store is there already", store_path(tx->store));
    tx->node = (struct node){
        .format = STORE_FORMAT,
        .role = init->role,
        .node_id = hash_random_id(),
        .next_number = 1,
        .file = db_identity(tx->store->db),
    };
    tx->node_dirty = true;
    tx->time = times_now();
    if (init->role == ROLE_REPLICA)
        return journal_start(tx->db, (struct position){0});
    tx->node.owner = *init->owner;
    tx->node.store_id = hash_random_id();
    struct position start = {.chain = entry_chain_start(tx->node.store_id)};
    int rc = journal_start(tx->db, start);
    tx->window = (struct journal_window){.base = start, .last = start};
    return rc ? rc : tx_open_epoch(tx, "made", 0, 0);
}

enum access { ACCESS_READ, ACCESS_CHANGE, ACCESS_MAINTAIN, ACCESS_INIT };

/* A copied data file is another node: it must not be taken for the one that it was copied from, and
 * a master may have lost commits. */
static int notice_copy(struct tx *tx)
{
    struct db_identity file = db_identity(tx->store->db);
    if (same_file(file, tx->node.file))
        return ERR_OK;
    tx->node.file = file;
    tx->node.node_id = hash_random_id();
    tx->node_dirty = true;
    return tx->node.role == ROLE_MASTER
               ? tx_open_epoch(tx, "the data file was copied or restored", 0, 0)
               : ERR_OK;
}

/* A relaxed commit says so in itself, until one follows that waits for the disk. If the machine
 * stopped in between, a master cannot be sure of its last commits. */
static int notice_stop(struct tx *tx)
{
    uint64_t now = tx->store->boot;
    uint64_t before = tx->relaxed;
    uint8_t value[8];
    save_u64(value, now);
    if (before == now)
        return ERR_OK;
    int rc = now ? db_put(tx->db, TABLE_STATE, bytes_text(RELAXED_KEY), bytes_of(value, 8))
                 : db_delete(tx->db, TABLE_STATE, bytes_text(RELAXED_KEY));
    bool lost = before && before != (now ? now : boot_number());
    if (rc || !lost || tx->node.role != ROLE_MASTER || tx->node.fence)
        return rc;
    return tx_open_epoch(tx, "the machine stopped while the last commits were not durable", 0, 0);
}

static int refuse_changes(const struct tx *tx)
{
    const struct node *node = &tx->node;
    const char *path = store_path(tx->store);
    if (node->fence == FENCE_EPOCH)
        return fail(ERR_REFUSED,
                    "%s: fenced: another node was promoted; demote or promote this one", path);
    if (node->fence == FENCE_BEHIND)
        return fail(ERR_REFUSED,
                    "%s: fenced: a replica is further than this master, which has lost commits (an "
                    "old backup?): promote it to take them back from the replica, or demote it",
                    path);
    if (node->role != ROLE_REPLICA)
        return ERR_OK;
    if (node->master[0])
        return fail(ERR_REFUSED, "%s: a replica; its master is %s: change mail there", path,
                    node->master);
    return fail(ERR_REFUSED, "%s: a replica that has met no master yet", path);
}

static int load(struct tx *tx)
{
    int rc = tx_load(tx);
    return rc ? rc : load_relaxed(tx);
}

static int begin_tx(struct tx *tx, enum access access)
{
    if (access == ACCESS_READ || access == ACCESS_INIT) {
        int rc = access == ACCESS_READ ? db_begin_read(tx->store->db, &tx->db)
                                       : db_begin_write(tx->store->db, &tx->db);
        return rc || access == ACCESS_INIT ? rc : load(tx);
    }
    int rc = db_begin_write(tx->store->db, &tx->db);
    if (rc == ERR_OK)
        rc = load(tx);
    if (rc == ERR_OK && access == ACCESS_CHANGE)
        rc = refuse_changes(tx);
    if (rc == ERR_OK)
        rc = notice_stop(tx);
    return rc ? rc : notice_copy(tx);
}

static bool say_to_agent(const struct store *store, enum wake_word word)
{
    const char byte = (char)word;
    return send(store->wake, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 || errno == EAGAIN;
}

/* The socket stays connected to an agent as long as that one lives. Nobody there, or too busy to
 * take it: the agent looks by itself now and then. */
void store_wake_agent(struct store *store, enum wake_word word)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (store->wake < 0 || say_to_agent(store, word))
        return;
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/%s", db_directory_fd(store->db),
             STORE_WAKE_SOCKET);
    if (connect(store->wake, (struct sockaddr *)&to, sizeof to) == 0)
        (void)say_to_agent(store, word);
}

/* Now and then, after a commit. */
static void keep_reserve(struct store *store)
{
    struct stat st;
    int64_t now = times_now();
    int64_t looked = store->reserve_looked;
    if (now - looked < RESERVE_PAUSE && now >= looked)
        return;
    store->reserve_looked = now;
    if (fstatat(db_directory_fd(store->db), "data.mdb", &st, 0) != 0)
        return;
    uint64_t size = (uint64_t)st.st_size / RESERVE_SHARE;
    size = size < RESERVE_LEAST ? RESERVE_LEAST : size;
    reserve_keep(db_directory_fd(store->db), size < RESERVE_MOST ? size : RESERVE_MOST);
}

/* What a run of a closure came to, beside its result. */
struct outcome {
    bool changed;     /* the agent must know */
    bool relaxed;     /* the state that it saw may not be durable */
    bool frees_space; /* it may have the reserve */
};

static int run_once(struct store *store, enum access access, int (*work)(struct tx *, void *),
                    void *arg, struct position *position, struct outcome *outcome)
{
    struct tx tx = {.store = store};
    memcpy(tx.actor, store->actor, sizeof tx.actor);
    int rc = begin_tx(&tx, access);
    if (rc == ERR_OK)
        rc = work(&tx, arg);
    /* A failed transaction may have been taken for a mere "no" on the way up. */
    if (tx.db && db_txn_error(tx.db) == ERR_AGAIN)
        rc = ERR_AGAIN;
    outcome->frees_space = tx.frees_space;
    outcome->relaxed = tx.relaxed != 0;
    if (access == ACCESS_READ || rc || !tx.db) {
        db_abort(tx.db);
        tx_free(&tx);
        return rc;
    }
    rc = tx_finish(&tx);
    outcome->changed = !tx.silent && (tx.bytes > 0 || tx.notify);
    if (rc == ERR_OK)
        rc = db_commit(tx.db);
    else
        db_abort(tx.db);
    if (rc == ERR_OK && position)
        *position = tx.window.last;
    tx_free(&tx);
    return rc;
}

static int run(struct store *store, enum access access, int (*work)(struct tx *, void *), void *arg,
               struct position *position)
{
    struct outcome outcome = {0};
    bool released = false;
    for (;;) {
        int rc = run_once(store, access, work, arg, position, &outcome);
        if (rc == ERR_OK)
            break;
        if (rc == ERR_AGAIN && access == ACCESS_READ)
            return fail(ERR_IO, "%s: a reader was told to grow the map", store->path);
        if (rc == ERR_AGAIN)
            rc = db_grow(store->db);
        else if (rc == ERR_FULL && outcome.frees_space && !released &&
                 reserve_release(db_directory_fd(store->db)))
            released = true;
        else
            return rc;
        if (rc && !released)
            return rc;
    }
    if (access == ACCESS_READ && outcome.relaxed && !store->boot)
        return db_sync(store->db);
    if (outcome.changed)
        store_wake_agent(store, WAKE_CHANGED);
    if (access != ACCESS_READ && !released)
        keep_reserve(store);
    return ERR_OK;
}

int store_read(struct store *store, int (*read)(struct tx *tx, void *arg), void *arg)
{
    return run(store, ACCESS_READ, read, arg, NULL);
}

int store_commit(struct store *store, int (*change)(struct tx *tx, void *arg), void *arg,
                 struct position *position)
{
    return run(store, ACCESS_CHANGE, change, arg, position);
}

int store_maintain(struct store *store, int (*work)(struct tx *tx, void *arg), void *arg)
{
    return run(store, ACCESS_MAINTAIN, work, arg, NULL);
}

static int load_only(struct tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    return ERR_OK;
}

static int open_handle(const char *path, const struct store_options *options, bool create,
                       struct store **out)
{
    *out = NULL;
    struct store *store = calloc(1, sizeof *store);
    if (!store)
        return fail(ERR_NOMEM, "out of memory");
    store->wake = -1;
    store->path = strdup(path);
    find_actor(store->actor, options);
    int rc =
        store->path ? open_db(path, options, create, &store->db) : fail(ERR_NOMEM, "out of memory");
    if (rc) {
        store_close(store);
        return rc;
    }
    store->wake = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    store->boot = options && options->relaxed ? boot_number() : 0;
    *out = store;
    return ERR_OK;
}

int store_open(const char *path, const struct store_options *options, struct store **out)
{
    int rc = open_handle(path, options, false, out);
    if (rc)
        return rc;
    rc = store_read(*out, load_only, NULL);
    if (rc) {
        store_close(*out);
        *out = NULL;
    }
    return rc;
}

int store_init(const char *path, enum role role, const struct owner *owner,
               const struct store_options *options)
{
    struct store *store;
    struct owner standard = {.user = "owner"};
    struct init init = {.role = role, .owner = owner ? owner : &standard};
    int rc = open_handle(path, options, true, &store);
    if (rc)
        return rc;
    rc = run(store, ACCESS_INIT, init_tables, &init, NULL);
    store_close(store);
    return rc;
}

/* What a relaxed handle leaves is durable, and says so. Where that fails, the store goes on saying
 * that it may not be. */
static void settle(struct store *store)
{
    store->boot = 0;
    if (db_set_relaxed(store->db, false) == ERR_OK)
        (void)store_maintain(store, load_only, NULL);
}

void store_close(struct store *store)
{
    if (!store)
        return;
    if (store->boot)
        settle(store);
    if (store->wake >= 0)
        close(store->wake);
    db_close(store->db);
    free(store->path);
    free(store);
}

struct db *store_db(struct store *store)
{
    return store->db;
}

bool store_is_relaxed(const struct store *store)
{
    return store->boot != 0;
}

const char *store_path(const struct store *store)
{
    return store->path;
}
