#include "mailbox/copy.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/archive.h"
#include "journal/slots.h"
#include "mailbox/tx.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static void name_slot(const struct store_copy *copy, char name[SLOT_NAME_SIZE])
{
    snprintf(name, SLOT_NAME_SIZE, "%016" PRIx64, copy->node_id);
}

/* At first where the journal ends, so that what comes behind it is kept while the copy is made;
 * afterwards where the copy ends. */
static int hold(struct tx *tx, void *arg)
{
    struct store_copy *copy = arg;
    struct slot slot = {.position = copy->position, .time = tx_time(tx)};
    if (slot.position.modseq == 0)
        slot.position = tx_window(tx)->last;
    name_slot(copy, slot.name);
    return slot_put(tx_db(tx), &slot);
}

static int let_go(struct tx *tx, void *arg)
{
    char name[SLOT_NAME_SIZE];
    name_slot(arg, name);
    int rc = slot_drop(tx_db(tx), name);
    return rc == ERR_END ? ERR_OK : rc;
}

/* Whoever follows the original does not follow the copy. */
static int drop_slots(struct db_txn *copied)
{
    struct slot slot = {0};
    int rc;
    while ((rc = slot_next(copied, &slot)) == ERR_OK) {
        rc = slot_drop(copied, slot.name);
        if (rc)
            break;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

struct copying {
    struct store *store;
    struct store_copy *copy;
    uint64_t pages; /* bytes of the data file's copy */
};

static void pass_archived(void *arg, uint64_t done, uint64_t total)
{
    const struct copying *work = arg;
    if (work->copy->progress)
        work->copy->progress(work->copy->arg, work->pages + done, work->pages + total);
}

/* Its past goes along: what led to the window of this very state. */
static int bring_archive(struct copying *work, struct position base)
{
    struct archive_copy archive = {.from = db_directory_fd(store_db(work->store)),
                                   .to = open(work->copy->directory, O_DIRECTORY | O_CLOEXEC),
                                   .progress = pass_archived,
                                   .arg = work};
    if (archive.to < 0)
        return fail_errno("%s", work->copy->directory);
    int rc = archive_copy(&archive, base);
    close(archive.to);
    return rc;
}

static int become_another_node(struct db_txn *copied, struct db_identity file, void *arg)
{
    struct copying *work = arg;
    struct store_copy *copy = work->copy;
    struct node node;
    struct journal_window window;
    int rc = node_load(copied, &node);
    if (rc == ERR_OK)
        rc = journal_window(copied, &window);
    if (rc)
        return rc;
    copy->position = window.last;
    node.node_id = copy->node_id;
    node.role = ROLE_REPLICA;
    node.fence = FENCE_NONE;
    node.discard = false;
    node.master[0] = '\0';
    node.file = file;
    rc = node_save(copied, &node);
    if (rc == ERR_OK)
        rc = drop_slots(copied);
    return rc ? rc : bring_archive(work, window.base);
}

static void pass_progress(void *arg, uint64_t done, uint64_t total)
{
    struct copying *work = arg;
    work->pages = done;
    if (work->copy->progress)
        work->copy->progress(work->copy->arg, done, total);
}

int store_copy(struct store *store, struct store_copy *copy)
{
    struct copying copying = {.store = store, .copy = copy};
    struct db_copy work = {.prepare = become_another_node,
                           .folder = ARCHIVE_DIRECTORY,
                           .progress = pass_progress,
                           .arg = &copying};
    copy->node_id = hash_random_id();
    copy->position = (struct position){0};
    int rc = store_maintain(store, hold, copy);
    if (rc)
        return rc;
    rc = db_copy(store_db(store), copy->directory, &work);
    if (rc == ERR_OK) {
        /* Should this fail, the slot holds more than it need: the copy is made all the same. */
        (void)store_maintain(store, hold, copy);
        return ERR_OK;
    }
    char why[512];
    snprintf(why, sizeof why, "%s", err_message());
    (void)store_maintain(store, let_go, copy);
    return fail(rc, "%s", why);
}

struct compacting {
    struct store *store;
    struct store_compact *compact;
};

/* The file is another, the node is not. */
static int stay_the_same(struct db_txn *copied, struct db_identity file, void *arg)
{
    const struct compacting *work = arg;
    struct db_identity before = db_identity(store_db(work->store));
    struct node node;
    int rc = node_load(copied, &node);
    if (rc)
        return rc;
    /* One that was copied by hand and has not noticed yet must still notice. */
    if (node.file.device == before.device && node.file.inode == before.inode)
        node.file = file;
    return node_save(copied, &node);
}

static void pass_compacting(void *arg, uint64_t done, uint64_t total)
{
    const struct compacting *work = arg;
    if (work->compact->progress)
        work->compact->progress(work->compact->arg, done, total);
}

static uint64_t file_size(struct store *store)
{
    struct stat st;
    return fstatat(db_directory_fd(store_db(store)), "data.mdb", &st, 0) == 0 ? (uint64_t)st.st_size
                                                                              : 0;
}

int store_compact(struct store *store, struct store_compact *compact)
{
    struct compacting work = {.store = store, .compact = compact};
    struct db_copy copy = {.prepare = stay_the_same, .progress = pass_compacting, .arg = &work};
    compact->before = file_size(store);
    int rc = db_compact(store_db(store), &copy);
    compact->after = file_size(store);
    return rc;
}
