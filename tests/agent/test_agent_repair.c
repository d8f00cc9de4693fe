/* What agents do about a gap, a fork, and damage. */
#include "base/err.h"
#include "mailbox/mailbox.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"
#include "tests/support/post.h"
#include "tests/support/stranger.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* It is not refused: it is asked what it has, so that it can be made equal. */
static void assert_repaired(struct host *node, const struct hello *hello, const char *why)
{
    struct stranger stranger;
    struct bytes reason;
    stranger_dial(&stranger, node);
    stranger_greet(&stranger, hello);
    struct frame frame = stranger_hear(&stranger);
    assert_int_equal(frame.type, FRAME_REPAIR);
    assert_int_equal(message_decode_repair(frame.payload, &reason), ERR_OK);
    assert_true(reason.size >= strlen(why));
    assert_memory_equal(reason.data, why, strlen(why));
    assert_int_equal(stranger_hear(&stranger).type, FRAME_ASK);
    stranger_hang_up(&stranger);
}

static int trim(struct tx *tx, void *arg)
{
    uint64_t removed;
    (void)arg;
    return journal_trim(tx_db(tx), tx_window(tx)->last.modseq, 1000, false, &removed);
}

static void a_follower_behind_the_window_or_on_another_branch_is_repaired(void **state)
{
    struct host *a = host_start_master(*state);
    struct host_view view = host_view(a);
    struct hello hello = stranger_hello("rosa", 99);
    hello.store_id = view.store_id;
    hello.position = (struct position){.modseq = 1, .chain = 1};
    assert_repaired(a, &hello, "fork: ");
    hello.position = (struct position){.modseq = view.position.modseq + 1, .chain = 1};
    assert_repaired(a, &hello, "fork: ");
    hello.position = view.position;
    hello.digest = view.digest + 1;
    assert_repaired(a, &hello, "at the same position the digests differ");
    hello.digest = view.digest;
    hello.repairing = true;
    assert_repaired(a, &hello, "mailboxes of the follower wait");
    assert_int_equal(store_maintain(a->store, trim, NULL), ERR_OK);
    hello = stranger_hello("rosa", 99);
    assert_repaired(a, &hello, "gap: ");
}

static int count_messages(struct tx *tx, void *arg)
{
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK)
        *(uint64_t *)arg += header.messages;
    return rc == ERR_END ? ERR_OK : rc;
}

static int is_repairing(struct tx *tx, void *arg)
{
    return stop_any(tx_db(tx), arg);
}

/* At both ends the same, nothing left to repair, this many messages, and nothing is wrong. */
static void wait_repaired(struct host *a, struct host *b, uint64_t messages)
{
    bool equal = false;
    for (unsigned waits = 0; !equal && waits < HOSTS_WAITS; waits++) {
        struct host_view here = host_view(a);
        struct host_view there = host_view(b);
        bool repairing;
        assert_int_equal(store_read(b->store, is_repairing, &repairing), ERR_OK);
        equal = !repairing && position_equal(here.position, there.position) &&
                here.digest == there.digest;
        if (!equal)
            hosts_rest();
    }
    assert_true(equal);
    uint64_t count = 0;
    assert_int_equal(store_read(b->store, count_messages, &count), ERR_OK);
    assert_int_equal(count, messages);
    host_assert_sound(a);
    host_assert_sound(b);
}

static void a_gap_is_repaired_between_agents(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    host_append(a, "INBOX", "before");
    hosts_wait_equal(a, b);
    host_stop(b);
    host_append(a, "INBOX", "within the gap");
    host_create(a, "Elsewhere");
    host_append(a, "Elsewhere", "within the gap");
    assert_int_equal(store_maintain(a->store, trim, NULL), ERR_OK);
    host_append(a, "INBOX", "behind it");
    host_start(b, NULL, a->address);
    wait_repaired(a, b, 4);
    host_append(a, "INBOX", "tailed again");
    wait_repaired(a, b, 5);
}

static void a_fork_is_merged_between_agents(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    host_append(a, "INBOX", "before");
    host_append(a, "INBOX", "expunged at one end");
    hosts_wait_equal(a, b);
    host_stop(b);
    assert_int_equal(store_promote(b->store, false), ERR_OK);
    host_append(b, "INBOX", "at the replica");
    host_append(a, "INBOX", "at the master");
    assert_int_equal(post_expunge(b->store, "INBOX", "2", true), ERR_OK);
    assert_int_equal(store_demote(b->store, NULL, false), ERR_OK);
    host_start(b, NULL, a->address);
    wait_repaired(a, b, 3);
    host_append(a, "INBOX", "tailed again");
    wait_repaired(a, b, 4);
}

/* The first mailbox's first record, as if it had never come. */
static int lose_a_record(struct tx *tx, void *arg)
{
    struct header header;
    struct record record;
    uint64_t id = 0;
    (void)arg;
    int rc = header_next(tx_db(tx), &id, &header);
    if (rc == ERR_OK)
        rc = record_get(tx_db(tx), header.number, 1, &record);
    if (rc == ERR_OK)
        rc = record_delete(tx_db(tx), header.number, 1);
    return rc ? rc : content_unref(tx_db(tx), &record.guid);
}

static void damage_at_a_replica_is_healed_between_agents(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    host_append(a, "INBOX", "to be lost");
    host_append(a, "INBOX", "to stay");
    hosts_wait_equal(a, b);
    host_stop(b);
    assert_int_equal(store_maintain(b->store, lose_a_record, NULL), ERR_OK);
    host_start(b, NULL, a->address);
    /* It is noticed when a change concerns what was lost. */
    assert_int_equal(post_flag(a->store, "INBOX", "1", "work"), ERR_OK);
    wait_repaired(a, b, 2);
    host_append(a, "INBOX", "tailed again");
    wait_repaired(a, b, 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hosts_set_up, hosts_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_follower_behind_the_window_or_on_another_branch_is_repaired),
        TEST(a_gap_is_repaired_between_agents),
        TEST(a_fork_is_merged_between_agents),
        TEST(damage_at_a_replica_is_healed_between_agents),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
