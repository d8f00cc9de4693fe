/* What an agent notes about its followers, and what depends on it: who waits, and the window. */
#include "base/err.h"
#include "journal/slots.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/wait.h"
#include "tests/support/hosts.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static int get_slot(struct tx *tx, void *arg)
{
    struct slot *slot = arg;
    return slot_get(tx_db(tx), "rosa", slot);
}

static void a_slot_says_how_far_a_follower_is(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    struct slot slot = {0};
    int rc = ERR_END;
    host_open_agent(b, NULL);
    host_add_store(b, b->store, a->address, "rosa");
    host_run_agent(b);
    for (unsigned waits = 0; rc == ERR_END && waits < HOSTS_WAITS; waits++) {
        hosts_rest();
        rc = store_read(a->store, get_slot, &slot);
    }
    assert_int_equal(rc, ERR_OK);
    assert_true(slot.connected);
    host_append(a, "INBOX", "one more");
    /* Until its acknowledgement is here: one that stops takes what it has not sent with it. */
    struct store_wait acknowledged = {.replicas = 1, .timeout = 8000000};
    assert_int_equal(store_wait(a->store, &acknowledged), ERR_OK);
    host_stop(b);
    for (unsigned waits = 0; slot.connected && waits < HOSTS_WAITS; waits++) {
        hosts_rest();
        assert_int_equal(store_read(a->store, get_slot, &slot), ERR_OK);
    }
    assert_false(slot.connected);
    assert_true(position_equal(slot.position, host_view(a).position));
}

/* Slots are written every ten seconds; who waits has a shorter limit than that. */
static void a_writer_waits_until_followers_have_its_commit(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    struct store_wait one = {.replicas = 1, .timeout = 8000000};
    host_start(b, NULL, a->address);
    for (unsigned i = 0; i < 3; i++) {
        host_append(a, "INBOX", "one more");
        one.modseq = 0;
        assert_int_equal(store_wait(a->store, &one), ERR_OK);
        assert_int_equal(one.modseq, host_view(a).position.modseq);
        assert_int_equal(one.holders, 1);
        assert_true(position_equal(host_view(b).position, host_view(a).position));
    }
    struct store_wait two = {.replicas = 2, .timeout = 1000};
    assert_int_equal(store_wait(a->store, &two), ERR_TIMEOUT);
    assert_int_equal(two.holders, 1);
    host_stop(b);
    host_append(a, "INBOX", "for nobody yet");
    one = (struct store_wait){.replicas = 1};
    assert_int_equal(store_wait(a->store, &one), ERR_TIMEOUT);
    assert_int_equal(one.holders, 0);
    one.modseq--;
    assert_int_equal(store_wait(a->store, &one), ERR_OK);
}

/* A slot of another branch is none. */
static int put_false_slot(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "liar", .position = tx_window(tx)->last};
    (void)arg;
    slot.position.chain++;
    int rc = slot_put(tx_db(tx), &slot);
    snprintf(slot.name, sizeof slot.name, "prophet");
    slot.position.modseq++;
    return rc ? rc : slot_put(tx_db(tx), &slot);
}

static void only_what_this_journal_holds_is_waited_for(void **state)
{
    struct host *a = host_make(*state, 0, ROLE_MASTER);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    host_create(a, "INBOX");
    assert_int_equal(store_maintain(a->store, put_false_slot, NULL), ERR_OK);
    struct store_wait wait = {.replicas = 1};
    assert_int_equal(store_wait(a->store, &wait), ERR_TIMEOUT);
    assert_int_equal(wait.holders, 0);
    wait = (struct store_wait){.replicas = 0};
    assert_int_equal(store_wait(a->store, &wait), ERR_OK);
    wait.modseq = host_view(a).position.modseq + 1;
    assert_int_equal(store_wait(a->store, &wait), ERR_NOTFOUND);
    assert_int_equal(store_wait(b->store, &wait), ERR_TIMEOUT); /* it may arrive */
}

static int limit_window(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "away"};
    struct retention policy = {.entries = 5, .slot_bound = *(uint64_t *)arg};
    int rc = slot_put(tx_db(tx), &slot);
    return rc ? rc : retention_save(tx_db(tx), &policy);
}

static int get_window(struct tx *tx, void *arg)
{
    *(struct journal_window *)arg = *tx_window(tx);
    return ERR_OK;
}

/* A replica that never comes back holds the window up to the bound, and is lost beyond it. */
static void window_is_kept_within_its_limits(void **state)
{
    struct hosts *hosts = *state;
    struct host *master = host_make(hosts, 0, ROLE_MASTER);
    struct journal_window window;
    uint64_t bound = 1500;
    host_create(master, "INBOX");
    for (unsigned i = 0; i < 30; i++)
        host_append(master, "INBOX", "window");
    assert_int_equal(store_maintain(master->store, limit_window, &bound), ERR_OK);
    host_start(master, "127.0.0.1:0", NULL);
    for (unsigned i = 0; i < HOSTS_WAITS; i++) {
        assert_int_equal(store_read(master->store, get_window, &window), ERR_OK);
        if (window.entries == 5)
            break;
        hosts_rest();
    }
    assert_int_equal(window.entries, 5);
    host_assert_sound(master);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hosts_set_up, hosts_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_slot_says_how_far_a_follower_is),
        TEST(a_writer_waits_until_followers_have_its_commit),
        TEST(only_what_this_journal_holds_is_waited_for),
        TEST(window_is_kept_within_its_limits),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
