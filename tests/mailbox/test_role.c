/* Who may write, and which epoch a promotion opens. */
#include "mailbox/role.h"

#include "base/err.h"
#include "journal/epoch.h"
#include "mailbox/check.h"
#include "mailbox/stop.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static char root[PATH_MAX];
static struct store *store;

static int make(void **state)
{
    char path[PATH_MAX];
    (void)state;
    scratch_make(root);
    scratch_path(path, root, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &store), ERR_OK);
    assert_int_equal(post_create(store, "INBOX"), ERR_OK);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    store_close(store);
    scratch_remove(root);
    return 0;
}

static struct node facts(void)
{
    struct post_facts facts;
    assert_int_equal(post_facts(store, &facts), ERR_OK);
    return facts.node;
}

static void assert_master_of(uint32_t epoch)
{
    struct node node = facts();
    assert_int_equal(node.role, ROLE_MASTER);
    assert_int_equal(node.fence, FENCE_NONE);
    assert_int_equal(node.epoch.number, epoch);
    assert_true(node.epoch.node == node.node_id);
    assert_int_equal(post_append(store, "INBOX", epoch, 10), ERR_OK);
    assert_int_equal(post_check(store), 0);
}

static void a_master_that_is_not_fenced_stays_in_its_epoch(void **state)
{
    (void)state;
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_master_of(1);
}

static void a_fenced_master_changes_nothing_until_it_is_promoted_above_what_it_met(void **state)
{
    (void)state;
    assert_int_equal(store_fence(store, FENCE_EPOCH, 2), ERR_OK);
    assert_int_equal(facts().fence, FENCE_EPOCH);
    assert_int_equal(post_append(store, "INBOX", 1, 10), ERR_REFUSED);
    assert_int_equal(post_check(store), 0);
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_master_of(3);
}

/* Met again meanwhile, or others: the latest counts. */
static void the_latest_of_several_epochs_that_were_met_counts(void **state)
{
    (void)state;
    assert_int_equal(store_fence(store, FENCE_EPOCH, 4), ERR_OK);
    assert_int_equal(store_fence(store, FENCE_EPOCH, 9), ERR_OK);
    assert_int_equal(store_fence(store, FENCE_BEHIND, 6), ERR_OK);
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_master_of(10);
}

static void what_was_met_is_known_after_a_demotion(void **state)
{
    (void)state;
    assert_int_equal(store_fence(store, FENCE_EPOCH, 7), ERR_OK);
    assert_int_equal(store_demote(store, "b", false), ERR_OK);
    assert_int_equal(facts().fence, FENCE_NONE);
    assert_int_equal(post_append(store, "INBOX", 1, 10), ERR_REFUSED);
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_master_of(8);
}

static void a_replica_is_not_fenced(void **state)
{
    (void)state;
    assert_int_equal(store_demote(store, "b", false), ERR_OK);
    assert_int_equal(store_fence(store, FENCE_EPOCH, 7), ERR_OK);
    assert_int_equal(facts().fence, FENCE_NONE);
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_master_of(2);
}

static void no_number_comes_after_the_last_one(void **state)
{
    (void)state;
    assert_int_equal(store_fence(store, FENCE_EPOCH, UINT32_MAX), ERR_OK);
    assert_int_equal(store_promote(store, false), ERR_REFUSED);
    assert_int_equal(facts().fence, FENCE_EPOCH);
    assert_int_equal(facts().epoch.number, 1);
}

static int lose_first(struct tx *tx, void *arg)
{
    struct header header;
    uint64_t id = 0;
    (void)arg;
    int rc = header_next(tx_db(tx), &id, &header);
    return rc ? rc : post_hurt(tx, header.number, 1, false);
}

static int get_stop(struct tx *tx, void *arg)
{
    struct stop stop;
    uint64_t id = 0;
    (void)arg;
    return stop_next(tx_db(tx), &id, &stop);
}

static void assert_one_mailbox_waits(void)
{
    struct check_result result;
    assert_int_equal(check_repair(store, NULL, NULL, &result), ERR_OK);
    assert_true(result.wrong > 0);
    assert_int_equal(store_read(store, get_stop, NULL), ERR_OK);
}

/* What waits for a record that was lost is no older than the rest: nothing is given up for it. */
static void lost_records_cost_no_journal_when_the_role_changes(void **state)
{
    struct post_facts before, after;
    (void)state;
    assert_int_equal(post_facts(store, &before), ERR_OK);
    assert_int_equal(post_append(store, "INBOX", 1, 10), ERR_OK);
    assert_int_equal(post_append(store, "INBOX", 2, 10), ERR_OK);
    assert_int_equal(store_maintain(store, lose_first, NULL), ERR_OK);
    assert_one_mailbox_waits();
    assert_int_equal(post_append(store, "INBOX", 3, 10), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(store_demote(store, "b", false), ERR_OK);
        assert_int_equal(store_give_up_repair(store), ERR_OK);
        assert_int_equal(store_promote(store, false), ERR_OK);
        assert_int_equal(post_append(store, "INBOX", 4 + i, 10), ERR_OK);
        assert_int_equal(post_facts(store, &after), ERR_OK);
        assert_true(position_equal(after.base, before.base));
        assert_one_mailbox_waits();
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clear)
    const struct CMUnitTest tests[] = {
        TEST(a_master_that_is_not_fenced_stays_in_its_epoch),
        TEST(a_fenced_master_changes_nothing_until_it_is_promoted_above_what_it_met),
        TEST(the_latest_of_several_epochs_that_were_met_counts),
        TEST(what_was_met_is_known_after_a_demotion),
        TEST(a_replica_is_not_fenced),
        TEST(no_number_comes_after_the_last_one),
        TEST(lost_records_cost_no_journal_when_the_role_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
