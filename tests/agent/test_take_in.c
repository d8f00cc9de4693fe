/* A merge while the master's users go on: before each question that the master asks, something is
 * changed there. */
#include "agent/take_in.h"

#include "agent/answer.h"
#include "agent/ask.h"
#include "agent/make_equal.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define QUESTIONS_MOST 100u
#define MESSAGES 40u /* more than are compared as one */

struct ends {
    char directory[PATH_MAX];
    struct store *master;
    struct store *replica;
    int (*meanwhile)(struct store *master);
    unsigned questions;
    unsigned at; /* the question before which it happens */
};

/* Both have 1 to 40. Then the replica flagged 1 and expunged 40, without leaving a tombstone. */
static void open_ends(struct ends *ends)
{
    scratch_make(ends->directory);
    assert_int_equal(post_store(ends->directory, "a", ROLE_MASTER, &ends->master), ERR_OK);
    assert_int_equal(post_store(ends->directory, "b", ROLE_REPLICA, &ends->replica), ERR_OK);
    assert_int_equal(post_create(ends->master, "INBOX"), ERR_OK);
    for (unsigned i = 1; i <= MESSAGES; i++)
        assert_int_equal(post_append(ends->master, "INBOX", i, 100), ERR_OK);
    assert_int_equal(post_ship(ends->master, ends->replica), ERR_OK);
    assert_int_equal(store_promote(ends->replica, false), ERR_OK);
    assert_int_equal(post_flag(ends->replica, "INBOX", "1", "\\Seen"), ERR_OK);
    assert_int_equal(post_expunge(ends->replica, "INBOX", "40", true), ERR_OK);
    assert_int_equal(store_demote(ends->replica, NULL, false), ERR_OK);
}

static void close_ends(struct ends *ends)
{
    store_close(ends->master);
    store_close(ends->replica);
    scratch_remove(ends->directory);
}

static int ask_replica(void *context, struct bytes question, struct buf *out)
{
    struct ends *ends = context;
    if (ends->questions++ == ends->at)
        assert_int_equal(ends->meanwhile(ends->master), ERR_OK);
    return answer(ends->replica, question, out);
}

static int ask_master(void *context, struct bytes question, struct buf *out)
{
    return answer(((struct ends *)context)->master, question, out);
}

static void take(struct ends *ends, struct plan *plan)
{
    const struct asker follower = {.ask = ask_replica, .context = ends};
    const struct take_in options = {.slot = "b"};
    assert_int_equal(take_in(ends->master, &follower, &options, plan), ERR_OK);
}

static void merge(struct ends *ends)
{
    const struct asker upstream = {.ask = ask_master, .context = ends};
    struct equal_report report = {0};
    struct plan plan;
    take(ends, &plan);
    assert_int_equal(make_equal(ends->replica, &upstream, &plan, &report), ERR_OK);
    assert_int_equal(post_ship(ends->master, ends->replica), ERR_OK);
    plan_free(&plan);
    free(report.aside);
}

static int read_live(struct tx *tx, void *arg)
{
    struct uidset all = {0};
    struct mailbox *mailbox;
    struct name name;
    int rc = name_parse("INBOX", 5, &tx_node(tx)->owner, &name);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &name, NULL, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_add_range(&all, 1, UINT32_MAX);
    if (rc == ERR_OK)
        rc = mailbox_select(mailbox, &all, arg);
    uidset_free(&all);
    return rc;
}

static void has_live(struct store *store, const char *uids)
{
    struct uidset live = {0};
    struct buf text = {0};
    assert_int_equal(store_read(store, read_live, &live), ERR_OK);
    uidset_print(&live, &text);
    buf_u8(&text, 0);
    assert_string_equal((const char *)text.data, uids);
    buf_free(&text);
    uidset_free(&live);
}

static void happens_at_any_moment(int (*meanwhile)(struct store *master), const char *uids)
{
    struct ends ends = {.meanwhile = meanwhile};
    for (ends.at = 0; ends.at < QUESTIONS_MOST; ends.at++) {
        struct post_facts here, there;
        ends.questions = 0;
        open_ends(&ends);
        merge(&ends);
        if (ends.questions > ends.at) {
            has_live(ends.master, uids);
            has_live(ends.replica, uids);
            assert_int_equal(post_facts(ends.master, &here), ERR_OK);
            assert_int_equal(post_facts(ends.replica, &there), ERR_OK);
            assert_int_equal(node_digest(&here.node), node_digest(&there.node));
            assert_int_equal(post_check(ends.master), 0);
            assert_int_equal(post_check(ends.replica), 0);
        }
        close_ends(&ends);
        if (ends.questions <= ends.at)
            break;
    }
    assert_in_range(ends.at, 3, QUESTIONS_MOST - 1);
}

static int flag_meanwhile(struct store *master)
{
    return post_flag(master, "INBOX", "2:3", "\\Flagged");
}

static int expunge_meanwhile(struct store *master)
{
    return post_expunge(master, "INBOX", "3", false);
}

static int append_meanwhile(struct store *master)
{
    return post_append(master, "INBOX", MESSAGES + 1, 100);
}

/* The replica forgot tombstones: what is not known of it must not be taken for expunged. */
static void what_is_flagged_during_a_merge_stays(void **state)
{
    (void)state;
    happens_at_any_moment(flag_meanwhile, "1:39");
}

static void what_is_expunged_during_a_merge_does_not_come_back(void **state)
{
    (void)state;
    happens_at_any_moment(expunge_meanwhile, "1:2,4:39");
}

static void what_is_appended_during_a_merge_is_kept(void **state)
{
    (void)state;
    happens_at_any_moment(append_meanwhile, "1:39,41");
}

struct hurt {
    uint32_t uid;
    bool garbled;
    uint64_t highestmodseq;
    uint64_t forgotten;
};

static int open_inbox(struct tx *tx, struct mailbox **mailbox)
{
    struct name name;
    int rc = name_parse("INBOX", 5, &tx_node(tx)->owner, &name);
    return rc ? rc : mailbox_open(tx, &name, NULL, mailbox);
}

static int damage(struct tx *tx, void *arg)
{
    const struct hurt *hurt = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(tx, &mailbox);
    return rc ? rc : post_hurt(tx, mailbox_header(mailbox)->number, hurt->uid, hurt->garbled);
}

static int read_facts(struct tx *tx, void *arg)
{
    struct hurt *hurt = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(tx, &mailbox);
    if (rc == ERR_OK) {
        hurt->highestmodseq = mailbox_header(mailbox)->facts.highestmodseq;
        hurt->forgotten = header_forgotten(mailbox_header(mailbox));
    }
    return rc;
}

static void are_equal(struct ends *ends)
{
    struct post_facts here, there;
    assert_int_equal(post_facts(ends->master, &here), ERR_OK);
    assert_int_equal(post_facts(ends->replica, &there), ERR_OK);
    assert_int_equal(node_digest(&here.node), node_digest(&there.node));
    assert_int_equal(post_check(ends->master), 0);
    assert_int_equal(post_check(ends->replica), 0);
}

/* Damage took it here, a user expunged it there: nothing is left to wait for. */
static void what_was_lost_here_and_expunged_there_is_gone(void **state)
{
    (void)state;
    for (unsigned garbled = 0; garbled < 2; garbled++) {
        struct hurt hurt = {.uid = MESSAGES, .garbled = garbled};
        struct ends ends = {.at = QUESTIONS_MOST};
        struct hurt before = {0};
        open_ends(&ends);
        assert_int_equal(store_maintain(ends.master, damage, &hurt), ERR_OK);
        assert_int_equal(store_read(ends.master, read_facts, &before), ERR_OK);
        merge(&ends);
        has_live(ends.master, "1:39");
        has_live(ends.replica, "1:39");
        are_equal(&ends);
        /* A client here has not been told. */
        assert_int_equal(store_read(ends.master, read_facts, &hurt), ERR_OK);
        assert_true(hurt.forgotten > before.highestmodseq);
        close_ends(&ends);
    }
}

/* What the master took in by itself and lost nobody but another replica may have. */
static void what_only_the_master_had_and_lost_is_missed(void **state)
{
    struct hurt hurt = {.uid = MESSAGES + 1};
    struct ends ends = {.at = QUESTIONS_MOST};
    (void)state;
    open_ends(&ends);
    assert_int_equal(post_append(ends.master, "INBOX", MESSAGES + 1, 100), ERR_OK);
    assert_int_equal(store_maintain(ends.master, damage, &hurt), ERR_OK);
    merge(&ends);
    has_live(ends.master, "1:39");
    assert_int_not_equal(post_check(ends.master), 0);
    close_ends(&ends);
}

/* The master purged what damage took at the replica, whose clients may know a later modseq. */
static void clients_of_a_damaged_end_are_told_that_it_is_not_known(void **state)
{
    struct hurt hurt = {.uid = 7};
    struct ends ends = {.at = QUESTIONS_MOST};
    struct hurt before = {0};
    (void)state;
    open_ends(&ends);
    assert_int_equal(post_expunge(ends.master, "INBOX", "7", true), ERR_OK);
    assert_int_equal(store_read(ends.replica, read_facts, &before), ERR_OK);
    assert_int_equal(store_maintain(ends.replica, damage, &hurt), ERR_OK);
    merge(&ends);
    are_equal(&ends);
    assert_int_equal(store_read(ends.master, read_facts, &hurt), ERR_OK);
    assert_true(hurt.forgotten > before.highestmodseq);
    close_ends(&ends);
}

static int read_modseq(struct tx *tx, void *arg)
{
    struct hurt *hurt = arg;
    struct mailbox *mailbox;
    struct record record = {0};
    int rc = open_inbox(tx, &mailbox);
    if (rc == ERR_OK)
        rc = record_get(tx_db(tx), mailbox_header(mailbox)->number, hurt->uid, &record);
    hurt->highestmodseq = record.modseq;
    return rc;
}

/* What the replica's users changed went with the record: they are to be told what stands there now,
 * whatever the replica had given out by then. */
static void clients_of_a_mailbox_that_waits_are_told_what_came_back(void **state)
{
    struct hurt hurt = {.uid = 7};
    struct ends ends = {.at = QUESTIONS_MOST};
    struct hurt before = {0};
    struct check_result checked;
    (void)state;
    open_ends(&ends);
    assert_int_equal(store_promote(ends.replica, false), ERR_OK);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(post_flag(ends.replica, "INBOX", "7", i % 2 ? "\\Seen" : "\\Flagged"),
                         ERR_OK);
    assert_int_equal(store_demote(ends.replica, NULL, false), ERR_OK);
    assert_int_equal(store_read(ends.replica, read_facts, &before), ERR_OK);
    assert_int_equal(store_maintain(ends.replica, damage, &hurt), ERR_OK);
    assert_int_equal(check_repair(ends.replica, NULL, NULL, &checked), ERR_OK);
    merge(&ends);
    are_equal(&ends);
    assert_int_equal(store_read(ends.replica, read_modseq, &hurt), ERR_OK);
    assert_true(hurt.highestmodseq > before.highestmodseq);
    close_ends(&ends);
}

/* What was expunged at an end, and purged, and what it lost: its journal tells them apart. */
static void what_was_expunged_at_a_damaged_end_stays_so(void **state)
{
    (void)state;
    for (unsigned at_replica = 0; at_replica < 2; at_replica++) {
        struct hurt hurt = {.uid = 7};
        struct ends ends = {.at = QUESTIONS_MOST};
        open_ends(&ends);
        assert_int_equal(post_expunge(ends.master, "INBOX", "39", true), ERR_OK);
        assert_int_equal(store_maintain(at_replica ? ends.replica : ends.master, damage, &hurt),
                         ERR_OK);
        merge(&ends);
        has_live(ends.master, "1:38");
        has_live(ends.replica, "1:38");
        are_equal(&ends);
        close_ends(&ends);
    }
}

/* Without its journal nothing tells. */
static void what_was_expunged_at_a_damaged_end_without_a_journal_comes_back(void **state)
{
    const struct cut cut = {
        .bytes = UINT64_MAX, .before = INT64_MIN, .up_to = UINT64_MAX, .held_from = UINT64_MAX};
    struct hurt hurt = {.uid = 7};
    struct ends ends = {.at = QUESTIONS_MOST};
    struct retained done;
    (void)state;
    open_ends(&ends);
    assert_int_equal(store_maintain(ends.replica, damage, &hurt), ERR_OK);
    assert_int_equal(store_cut(ends.replica, &cut, false, &done), ERR_OK);
    merge(&ends);
    has_live(ends.master, "1:40");
    has_live(ends.replica, "1:40");
    close_ends(&ends);
}

static int wait_for_records(struct tx *tx, void *arg)
{
    uint64_t id = 0;
    struct header header;
    int rc = header_next(tx_db(tx), &id, &header);
    (void)arg;
    return rc ? rc : stop_damaged(tx, header.id, "a test");
}

/* Check has noted that records are missing: they are all that it waits for. */
static void what_a_damaged_replica_did_is_taken_in_once(void **state)
{
    struct hurt hurt = {.uid = 7};
    struct ends ends = {.at = QUESTIONS_MOST};
    struct post_facts first, second;
    (void)state;
    open_ends(&ends);
    assert_int_equal(store_maintain(ends.replica, damage, &hurt), ERR_OK);
    assert_int_equal(store_maintain(ends.replica, wait_for_records, NULL), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct plan plan;
        take(&ends, &plan);
        plan_free(&plan);
        assert_int_equal(post_facts(ends.master, i ? &second : &first), ERR_OK);
    }
    assert_true(position_equal(first.position, second.position));
    close_ends(&ends);
}

/* As of where the two parted. */
static int wait_for_repair(struct tx *tx, void *arg)
{
    const struct post_facts *parted = arg;
    uint64_t id = 0;
    struct stop stop;
    int rc = wait_for_records(tx, NULL);
    if (rc == ERR_OK)
        rc = stop_next(tx_db(tx), &id, &stop);
    stop.epoch = parted->node.epoch;
    stop.as_of = parted->position.modseq;
    return rc ? rc : stop_put(tx_db(tx), &stop);
}

/* Up to where it is taken in is not known: what it gave out is. */
static void clients_of_a_replica_that_waits_are_told_of_the_merge(void **state)
{
    struct hurt hurt = {.uid = 1};
    struct ends ends = {.at = QUESTIONS_MOST};
    struct hurt before = {0};
    struct post_facts parted;
    struct plan plan;
    (void)state;
    open_ends(&ends);
    assert_int_equal(post_facts(ends.master, &parted), ERR_OK);
    assert_int_equal(store_maintain(ends.replica, wait_for_repair, &parted), ERR_OK);
    assert_int_equal(store_read(ends.replica, read_facts, &before), ERR_OK);
    take(&ends, &plan);
    plan_free(&plan);
    assert_int_equal(store_read(ends.master, read_modseq, &hurt), ERR_OK);
    assert_true(hurt.highestmodseq > before.highestmodseq);
    close_ends(&ends);
}

/* A replica of the master's own epoch, but for where it says that it is. */
struct liar {
    struct post_facts master;
    struct position last;
};

static int lie(void *context, struct bytes question, struct buf *out)
{
    const struct liar *liar = context;
    const struct epoch epoch = {.id = liar->master.node.epoch, .first = 1};
    buf_u8(out, 1);
    if (question.data[0] != ASK_BRANCH)
        return ERR_PEER;
    buf_u64(out, liar->master.node.store_id);
    buf_u64(out, 5);
    buf_u8(out, 1);
    buf_varint(out, epoch.id.number);
    buf_u64(out, epoch.id.node);
    buf_position(out, liar->last);
    buf_position(out, liar->last);
    buf_u64(out, 0);
    buf_u64(out, 0);
    buf_u8(out, 0);
    buf_varint(out, 1);
    epoch_encode(&epoch, out);
    buf_varint(out, 0);
    buf_varint(out, 0);
    return ERR_OK;
}

/* A merge goes on above the replica's position: there would be no room left. */
static void a_position_that_nobody_can_be_at_is_refused(void **state)
{
    static const uint64_t modseqs[] = {UINT64_MAX, INT64_MAX, INT64_MAX / 2};
    (void)state;
    for (size_t i = 0; i < sizeof modseqs / sizeof modseqs[0]; i++) {
        struct ends ends = {0};
        struct liar liar = {.last = {.modseq = modseqs[i], .chain = 1}};
        const struct asker follower = {.ask = lie, .context = &liar};
        const struct take_in options = {.slot = "b"};
        struct post_facts after;
        struct plan plan;
        open_ends(&ends);
        assert_int_equal(post_facts(ends.master, &liar.master), ERR_OK);
        assert_int_equal(take_in(ends.master, &follower, &options, &plan),
                         modseqs[i] > INT64_MAX ? ERR_PROTOCOL : ERR_REFUSED);
        assert_int_equal(post_facts(ends.master, &after), ERR_OK);
        assert_true(position_equal(after.position, liar.master.position));
        assert_int_equal(after.node.fence, FENCE_NONE);
        close_ends(&ends);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_position_that_nobody_can_be_at_is_refused),
        cmocka_unit_test(what_is_flagged_during_a_merge_stays),
        cmocka_unit_test(what_is_expunged_during_a_merge_does_not_come_back),
        cmocka_unit_test(what_is_appended_during_a_merge_is_kept),
        cmocka_unit_test(what_was_lost_here_and_expunged_there_is_gone),
        cmocka_unit_test(what_only_the_master_had_and_lost_is_missed),
        cmocka_unit_test(clients_of_a_damaged_end_are_told_that_it_is_not_known),
        cmocka_unit_test(clients_of_a_mailbox_that_waits_are_told_what_came_back),
        cmocka_unit_test(what_was_expunged_at_a_damaged_end_stays_so),
        cmocka_unit_test(what_was_expunged_at_a_damaged_end_without_a_journal_comes_back),
        cmocka_unit_test(what_a_damaged_replica_did_is_taken_in_once),
        cmocka_unit_test(clients_of_a_replica_that_waits_are_told_of_the_merge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
