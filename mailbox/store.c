#include "mailbox/store.h"

#include "base/err.h"
#include "base/hash.h"
#include "base/reserve.h"
#include "base/times.h"
#include "journal/tables.h"
#include "mailbox/content.h"
#include "mailbox/tx.h"

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

#define NODE_KEY "node"
#define RELAXED_KEY "relaxed" /* there while the newest commits did not wait for the disk */
#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define COMMIT_MAX_BYTES (8u << 20) /* of the entries of one commit */
#define MERGE_MAX_BYTES                                                                            \
    (64u << 20) /* of one that merges a mailbox: as many as there are differences */

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

uint64_t node_digest(const struct node *node)
{
    return node->mailboxes + node->meta;
}

int node_load(struct db_txn *txn, struct node *node)
{
    struct bytes value;
    *node = (struct node){0};
    int rc = db_get(txn, TABLE_STATE, bytes_text(NODE_KEY), &value);
    if (rc)
        return rc == ERR_END ? fail(ERR_CORRUPT, "not a shiplog store: it does not know itself")
                             : rc;
    struct reader in = reader_of(value);
    node->format = read_u32(&in);
    if (!in.failed && node->format > STORE_FORMAT)
        return fail(ERR_NEWER, "the store has format %u, of a newer version; this program knows %u",
                    node->format, STORE_FORMAT);
    uint8_t role = read_u8(&in);
    uint8_t fence = read_u8(&in);
    uint8_t discard = read_u8(&in);
    node->store_id = read_u64(&in);
    node->node_id = read_u64(&in);
    node->epoch.number = read_u32(&in);
    node->epoch.node = read_u64(&in);
    node->next_number = read_u32(&in);
    node->mailboxes = read_u64(&in);
    node->meta = read_u64(&in);
    node->meta_modseq = read_u64(&in);
    node->last_uidvalidity = read_u32(&in);
    node->file.device = (dev_t)read_u64(&in);
    node->file.inode = (ino_t)read_u64(&in);
    struct bytes user = read_bytes(&in);
    struct bytes domain = read_bytes(&in);
    struct bytes master = read_bytes(&in);
    uint32_t crc = hash_crc32(value.data, (size_t)(in.at - value.data));
    if (read_u32(&in) != crc || !reader_done(&in) || role > ROLE_REPLICA || fence > FENCE_BEHIND ||
        discard > 1 || user.size >= sizeof node->owner.user ||
        domain.size >= sizeof node->owner.domain || master.size >= sizeof node->master)
        return fail(ERR_CORRUPT, "the store's knowledge of itself is damaged");
    node->role = (enum role)role;
    node->fence = (enum fence)fence;
    node->discard = discard;
    memcpy(node->owner.user, user.data, user.size);
    memcpy(node->owner.domain, domain.data, domain.size);
    memcpy(node->master, master.data, master.size);
    return ERR_OK;
}

int node_save(struct db_txn *txn, const struct node *node)
{
    struct buf out = {0};
    buf_u32(&out, node->format);
    buf_u8(&out, (uint8_t)node->role);
    buf_u8(&out, (uint8_t)node->fence);
    buf_u8(&out, node->discard);
    buf_u64(&out, node->store_id);
    buf_u64(&out, node->node_id);
    buf_u32(&out, node->epoch.number);
    buf_u64(&out, node->epoch.node);
    buf_u32(&out, node->next_number);
    buf_u64(&out, node->mailboxes);
    buf_u64(&out, node->meta);
    buf_u64(&out, node->meta_modseq);
    buf_u32(&out, node->last_uidvalidity);
    buf_u64(&out, (uint64_t)node->file.device);
    buf_u64(&out, (uint64_t)node->file.inode);
    buf_bytes(&out, bytes_text(node->owner.user));
    buf_bytes(&out, bytes_text(node->owner.domain));
    buf_bytes(&out, bytes_text(node->master));
    buf_u32(&out, hash_crc32(out.data, out.size));
    int rc = out.failed ? fail(ERR_NOMEM, "out of memory")
                        : db_put(txn, TABLE_STATE, bytes_text(NODE_KEY), buf_view(&out));
    buf_free(&out);
    return rc;
}

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

static int tx_load(struct tx *tx)
{
    int rc = node_load(tx->db, &tx->node);
    if (rc == ERR_OK)
        rc = journal_window(tx->db, &tx->window);
    if (rc == ERR_OK)
        rc = load_relaxed(tx);
    if (rc)
        return rc;
    int64_t now = times_now();
    tx->time = now > tx->window.last_time ? now : tx->window.last_time;
    return ERR_OK;
}

static void tx_free(struct tx *tx)
{
    while (tx->boxes) {
        struct box *box = tx->boxes;
        tx->boxes = box->next;
        free(box);
    }
    while (tx->mailboxes) {
        struct mailbox *mailbox = tx->mailboxes;
        tx->mailboxes = mailbox->next;
        uidset_free(&mailbox->seen);
        free(mailbox->user_text);
        free(mailbox);
    }
    buf_free(&tx->waiting);
    buf_free(&tx->body);
    change_free(&tx->change);
}

struct db_txn *tx_db(struct tx *tx)
{
    return tx->db;
}

struct store *tx_store(struct tx *tx)
{
    return tx->store;
}

const struct node *tx_node(const struct tx *tx)
{
    return &tx->node;
}

const struct journal_window *tx_window(const struct tx *tx)
{
    return &tx->window;
}

int64_t tx_time(const struct tx *tx)
{
    return tx->time;
}

void tx_set_actor(struct tx *tx, const char *actor)
{
    snprintf(tx->actor, sizeof tx->actor, "%s", actor);
}

int tx_set_role(struct tx *tx, enum role role, const char *master)
{
    if (master && strlen(master) > PEER_MAX_SIZE)
        return fail(ERR_INVALID, "%s: more than %u bytes", master, PEER_MAX_SIZE);
    tx->node.role = role;
    tx->node.fence = FENCE_NONE;
    tx->notify = true;
    snprintf(tx->node.master, sizeof tx->node.master, "%s", master ? master : "");
    tx->node_dirty = true;
    return ERR_OK;
}

static struct box *box_link(struct tx *tx, struct box *box)
{
    box->next = tx->boxes;
    tx->boxes = box;
    return box;
}

int tx_box(struct tx *tx, uint64_t id, struct box **out)
{
    for (struct box *box = tx->boxes; box; box = box->next) {
        if (box->header.id == id) {
            *out = box;
            return ERR_OK;
        }
    }
    struct box *box = calloc(1, sizeof *box);
    if (!box)
        return fail(ERR_NOMEM, "out of memory");
    int rc = header_get(tx->db, id, &box->header);
    if (rc) {
        free(box);
        return rc;
    }
    box->share = header_store_share(&box->header);
    *out = box_link(tx, box);
    return ERR_OK;
}

int tx_box_new(struct tx *tx, uint64_t id, struct box **out)
{
    struct box *box = calloc(1, sizeof *box);
    if (!box)
        return fail(ERR_NOMEM, "out of memory");
    box->header.id = id;
    box->header.number = tx->node.next_number++;
    box->dirty = true;
    tx->node_dirty = true;
    *out = box_link(tx, box);
    return ERR_OK;
}

uint64_t tx_next_modseq(const struct tx *tx)
{
    if (tx->jump)
        return tx->jump;
    return (tx->waiting.size ? tx->waiting_entry.modseq : tx->window.last.modseq) + 1;
}

/* The waiting entry goes to the journal. */
static int flush_waiting(struct tx *tx, bool end_of_commit)
{
    if (!tx->waiting.size)
        return ERR_OK;
    if (end_of_commit)
        entry_end_commit(tx->waiting.data, tx->waiting.size, tx->window.last.chain,
                         &tx->waiting_entry);
    int rc = journal_append(tx->db, &tx->window, buf_view(&tx->waiting), &tx->waiting_entry);
    buf_reset(&tx->waiting);
    return rc;
}

int tx_flush(struct tx *tx)
{
    return flush_waiting(tx, true);
}

int tx_trim(struct tx *tx, uint64_t up_to, uint64_t most, uint64_t *removed)
{
    int rc = tx_flush(tx);
    if (rc == ERR_OK && tx->bytes)
        rc = journal_window_save(tx->db, &tx->window);
    if (rc == ERR_OK)
        rc = journal_trim(tx->db, up_to, most, removed);
    return rc ? rc : journal_window(tx->db, &tx->window);
}

int tx_journal(struct tx *tx, enum entry_kind kind, uint64_t mailbox, uint64_t previous,
               uint64_t digest, struct bytes body)
{
    struct entry entry = {
        .modseq = tx_next_modseq(tx),
        .time = tx->time,
        .mailbox = mailbox,
        .previous = previous,
        .digest = digest,
        .epoch = tx->node.epoch.number,
        .kind = kind,
        .actor = bytes_text(tx->actor),
        .body = body,
    };
    int rc = flush_waiting(tx, false);
    if (rc)
        return rc;
    rc = entry_encode(&tx->waiting, &entry, tx->window.last.chain);
    if (rc)
        return rc;
    tx->waiting_entry = entry;
    tx->bytes += tx->waiting.size;
    uint64_t most = tx->merging ? MERGE_MAX_BYTES : COMMIT_MAX_BYTES;
    if (tx->bytes > most)
        return fail(ERR_INVALID, "one commit of more than %llu bytes of changes",
                    (unsigned long long)most);
    return ERR_OK;
}

int tx_open_epoch(struct tx *tx, const char *reason, uint64_t first, uint32_t number)
{
    char owner[400];
    uint32_t highest;
    struct epoch_id parent = tx->node.epoch;
    owner_print(&tx->node.owner, owner);
    struct epoch_body body = {.node = tx->node.node_id,
                              .parent = parent,
                              .owner = bytes_text(owner),
                              .reason = bytes_text(reason)};
    int rc = flush_waiting(tx, true);
    if (rc == ERR_OK)
        rc = epoch_highest(tx->db, &highest);
    if (rc)
        return rc;
    if (highest < number)
        highest = number;
    if (highest < parent.number)
        highest = parent.number;
    if (highest == UINT32_MAX)
        return fail(ERR_REFUSED, "%s: no epoch can be later than those that it has met",
                    store_path(tx->store));
    tx->node.epoch = (struct epoch_id){.number = highest + 1, .node = tx->node.node_id};
    tx->node_dirty = true;
    if (first > tx->window.last.modseq)
        tx->jump = first;
    struct epoch epoch = {.id = tx->node.epoch,
                          .parent = parent,
                          .before = tx->window.last,
                          .first = tx_next_modseq(tx),
                          .time = tx->time};
    rc = epoch_put(tx->db, &epoch);
    if (rc)
        return rc;
    struct buf bytes = {0};
    epoch_body_encode(&body, &bytes);
    rc = bytes.failed ? fail(ERR_NOMEM, "out of memory")
                      : tx_journal(tx, ENTRY_EPOCH, 0, tx->node.meta_modseq, tx->node.meta,
                                   buf_view(&bytes));
    buf_free(&bytes);
    tx->jump = 0;
    tx->node.meta_modseq = epoch.first;
    return rc;
}

static int save_boxes(struct tx *tx)
{
    for (struct box *box = tx->boxes; box; box = box->next) {
        if (!box->dirty)
            continue;
        uint64_t share = header_store_share(&box->header);
        tx->node.mailboxes += share - box->share;
        tx->node_dirty = true;
        int rc = header_put(tx->db, &box->header);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int tx_finish(struct tx *tx)
{
    int rc = flush_waiting(tx, true);
    if (rc == ERR_OK)
        rc = save_boxes(tx);
    if (rc == ERR_OK && tx->bytes)
        rc = journal_window_save(tx->db, &tx->window);
    if (rc == ERR_OK && tx->node_dirty)
        rc = node_save(tx->db, &tx->node);
    return rc;
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
    if (db_get(tx->db, TABLE_STATE, bytes_text(NODE_KEY), NULL) != ERR_END)
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

static int begin_tx(struct tx *tx, enum access access)
{
    if (access == ACCESS_READ || access == ACCESS_INIT) {
        int rc = access == ACCESS_READ ? db_begin_read(tx->store->db, &tx->db)
                                       : db_begin_write(tx->store->db, &tx->db);
        return rc || access == ACCESS_INIT ? rc : tx_load(tx);
    }
    int rc = db_begin_write(tx->store->db, &tx->db);
    if (rc == ERR_OK)
        rc = tx_load(tx);
    if (rc == ERR_OK && access == ACCESS_CHANGE)
        rc = refuse_changes(tx);
    if (rc == ERR_OK)
        rc = notice_stop(tx);
    return rc ? rc : notice_copy(tx);
}

void store_wake_agent(struct store *store, enum wake_word word)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char byte = (char)word;
    if (store->wake < 0)
        return;
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/%s", db_directory_fd(store->db),
             STORE_WAKE_SOCKET);
    /* Nobody there, or too busy to take it: the agent looks by itself now and then. */
    (void)sendto(store->wake, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&to,
                 sizeof to);
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

void tx_frees_space(struct tx *tx)
{
    tx->frees_space = true;
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
    outcome->changed = tx.bytes > 0 || tx.notify;
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
