/* Commits that do not wait until they are durable: who sees them, and what follows when the machine
 * stops before they are. */
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/store.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

static char root[PATH_MAX];
static char path[PATH_MAX];
static const struct store_options relaxed = {.relaxed = true};
static atomic_uint syncs;

static void count_syncs(const struct fault_event *event)
{
    syncs += event->kind == EVENT_SYNC;
}

static int make(void **state)
{
    (void)state;
    struct store *store;
    scratch_make(root);
    scratch_path(path, root, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &store), ERR_OK);
    assert_int_equal(post_create(store, "INBOX"), ERR_OK);
    store_close(store);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    faults_watch(NULL);
    scratch_remove(root);
    return 0;
}

static struct store *open_store(const struct store_options *options)
{
    struct store *store;
    assert_int_equal(store_open(path, options, &store), ERR_OK);
    return store;
}

/* A process that changes mail and ends without closing the store. */
static void change_and_die(void)
{
    int status;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct store *store;
        bool done = store_open(path, &relaxed, &store) == ERR_OK &&
                    post_append(store, "INBOX", 1, 5000) == ERR_OK;
        _exit(done ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

/* Past the store's own ways, which would take notice. */
static void write_note(uint64_t boot)
{
    static const struct db_options options = {.tables = table_names, .table_count = TABLE_COUNT};
    struct db *db;
    struct db_txn *txn;
    uint8_t value[8];
    save_u64(value, boot);
    assert_int_equal(db_open(path, &options, &db), ERR_OK);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(db_put(txn, TABLE_STATE, bytes_text("relaxed"), bytes_of(value, 8)), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
    db_close(db);
}

static int find_note(struct tx *tx, void *arg)
{
    int rc = db_get(tx_db(tx), TABLE_STATE, bytes_text("relaxed"), NULL);
    *(bool *)arg = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

static bool has_note(struct store *store)
{
    bool found;
    assert_int_equal(store_read(store, find_note, &found), ERR_OK);
    return found;
}

static uint32_t epoch_of(struct store *store)
{
    struct post_facts facts;
    assert_int_equal(post_facts(store, &facts), ERR_OK);
    return facts.node.epoch.number;
}

static unsigned syncs_of_a_read(struct store *store)
{
    syncs = 0;
    faults_watch(count_syncs);
    (void)epoch_of(store);
    faults_watch(NULL);
    return syncs;
}

static void a_read_makes_durable_what_it_shows(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    assert_int_equal(syncs_of_a_read(store), 0);
    store_close(store);
    change_and_die();
    store = open_store(NULL);
    assert_int_equal(syncs_of_a_read(store), 1);
    assert_int_equal(post_append(store, "INBOX", 2, 100), ERR_OK);
    assert_false(has_note(store));
    assert_int_equal(syncs_of_a_read(store), 0);
    store_close(store);
}

static void one_that_is_relaxed_itself_does_not_wait(void **state)
{
    (void)state;
    struct store *store = open_store(&relaxed);
    assert_true(store_is_relaxed(store));
    assert_int_equal(post_append(store, "INBOX", 1, 100), ERR_OK);
    assert_true(has_note(store));
    assert_int_equal(syncs_of_a_read(store), 0);
    store_close(store);
}

static void what_a_closed_store_holds_is_durable(void **state)
{
    (void)state;
    struct store *store = open_store(&relaxed);
    assert_int_equal(post_append(store, "INBOX", 1, 100), ERR_OK);
    store_close(store);
    store = open_store(NULL);
    assert_false(has_note(store));
    assert_int_equal(epoch_of(store), 1);
    assert_false(store_is_relaxed(store));
    store_close(store);
}

static void the_end_of_a_process_loses_nothing(void **state)
{
    (void)state;
    change_and_die();
    struct store *store = open_store(NULL);
    assert_true(has_note(store));
    assert_int_equal(post_append(store, "INBOX", 2, 100), ERR_OK);
    assert_int_equal(epoch_of(store), 1);
    store_close(store);
}

static void a_stop_of_the_machine_opens_an_epoch(void **state)
{
    (void)state;
    const struct store_options *const next[] = {NULL, &relaxed};
    for (uint32_t i = 0; i < 2; i++) {
        change_and_die();
        write_note(7 + i);
        struct store *store = open_store(next[i]);
        assert_int_equal(epoch_of(store), 1 + i);
        assert_int_equal(post_append(store, "INBOX", 2, 100), ERR_OK);
        assert_int_equal(epoch_of(store), 2 + i);
        assert_int_equal(post_append(store, "INBOX", 3, 100), ERR_OK);
        assert_int_equal(epoch_of(store), 2 + i);
        assert_int_equal(post_check(store), 0);
        store_close(store);
    }
}

static int become_replica(struct tx *tx, void *arg)
{
    (void)arg;
    return tx_set_role(tx, ROLE_REPLICA, NULL);
}

static int do_nothing(struct tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    return ERR_OK;
}

static void a_replica_never_opens_one(void **state)
{
    (void)state;
    struct store *store = open_store(NULL);
    assert_int_equal(store_maintain(store, become_replica, NULL), ERR_OK);
    store_close(store);
    write_note(7);
    store = open_store(NULL);
    assert_int_equal(store_maintain(store, do_nothing, NULL), ERR_OK);
    assert_int_equal(epoch_of(store), 1);
    assert_false(has_note(store));
    store_close(store);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clear)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_read_makes_durable_what_it_shows),   TEST(one_that_is_relaxed_itself_does_not_wait),
        TEST(what_a_closed_store_holds_is_durable), TEST(the_end_of_a_process_loses_nothing),
        TEST(a_stop_of_the_machine_opens_an_epoch), TEST(a_replica_never_opens_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
