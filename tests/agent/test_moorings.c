/* What a master remembers of its followers. */
#include "agent/moorings.h"

#include "base/err.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static char root[PATH_MAX];
static struct store *store;
static struct moorings moorings;

static int make(void **state)
{
    char path[PATH_MAX];
    (void)state;
    scratch_make(root);
    scratch_path(path, root, "store");
    moorings = (struct moorings){0};
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &store), ERR_OK);
    assert_int_equal(post_create(store, "INBOX"), ERR_OK);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    moorings_free(&moorings);
    store_close(store);
    scratch_remove(root);
    return 0;
}

static struct position end_of_journal(void)
{
    struct post_facts facts;
    assert_int_equal(post_facts(store, &facts), ERR_OK);
    return facts.position;
}

static void acknowledge(struct position position)
{
    moorings_acknowledged(&moorings, "rosa", position, 1, 2);
    assert_true(moorings_collect(&moorings));
    assert_int_equal(moorings_write(&moorings, store), ERR_OK);
    moorings_saved(&moorings, false, 3);
}

static int get_slot(struct tx *tx, void *arg)
{
    return slot_get(tx_db(tx), "rosa", arg);
}

static void assert_slot(struct position position)
{
    struct slot slot;
    assert_int_equal(store_read(store, get_slot, &slot), ERR_OK);
    assert_true(position_equal(slot.position, position));
    assert_true(slot.connected);
}

static void what_a_follower_acknowledges_is_written(void **state)
{
    struct position first = end_of_journal();
    (void)state;
    acknowledge(first);
    assert_slot(first);
    assert_int_equal(post_append(store, "INBOX", 1, 10), ERR_OK);
    acknowledge(end_of_journal());
    assert_slot(end_of_journal());
}

/* Who waits for followers would be told that they hold what is not even written. */
static void nobody_acknowledges_what_is_not_on_the_journal(void **state)
{
    struct position first = end_of_journal();
    struct position forged = {.modseq = UINT64_MAX, .chain = 1};
    struct slot slot;
    (void)state;
    acknowledge(forged);
    assert_int_equal(store_read(store, get_slot, &slot), ERR_END);
    acknowledge(first);
    acknowledge(forged);
    assert_slot(first);
    assert_int_equal(post_append(store, "INBOX", 1, 10), ERR_OK);
    forged.modseq = end_of_journal().modseq;
    acknowledge(forged);
    assert_slot(first);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, make, clear)
    const struct CMUnitTest tests[] = {
        TEST(what_a_follower_acknowledges_is_written),
        TEST(nobody_acknowledges_what_is_not_on_the_journal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
