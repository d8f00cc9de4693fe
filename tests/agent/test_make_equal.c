/* Repairs of three nodes that get in each other's way. A replica's repair is cut off, at every
 * question in turn, and the replica then comes to another master, who has not got all that it was
 * being made equal to. Three nodes: A, which all followed first; B, which was promoted; C, whose
 * repair by B is cut off, and which goes to A. Last B is merged into A as well. Whatever was where
 * in between, all must have every message, once. */
#include "agent/make_equal.h"

#include "agent/answer.h"
#include "agent/sync.h"
#include "agent/take_in.h"
#include "base/err.h"
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
#define MESSAGES_MOST 12u /* the n-th is of n bytes */
#define MAILBOXES_MOST 8u

enum { A, B, C, NODES, D = NODES };

struct three {
    char directory[PATH_MAX];
    struct store *stores[NODES + 1]; /* D: only where it is opened */
    unsigned messages;
    unsigned questions;
    unsigned cut_at; /* 0: nothing is cut off */
    bool cut;
    unsigned gone;                       /* number of a message that was expunged; 0: none was */
    struct header shown[MAILBOXES_MOST]; /* by C */
    size_t shown_count;
    /* At the question `cut_at` this is done instead; NULL: it is cut off. */
    void (*meanwhile)(struct three *three);
    struct post_facts then; /* of D, when that was done */
};

static void append(struct three *three, unsigned node, const char *name)
{
    unsigned number = ++three->messages;
    assert_int_equal(post_append(three->stores[node], name, number, number), ERR_OK);
}

static void open_three(struct three *three)
{
    const char *const names[] = {"a", "b", "c"};
    scratch_make(three->directory);
    for (unsigned i = 0; i < NODES; i++) {
        enum role role = i == A ? ROLE_MASTER : ROLE_REPLICA;
        assert_int_equal(post_store(three->directory, names[i], role, &three->stores[i]), ERR_OK);
    }
    assert_int_equal(post_create(three->stores[A], "INBOX"), ERR_OK);
    assert_int_equal(post_create(three->stores[A], "sent"), ERR_OK);
    append(three, A, "INBOX");
    append(three, A, "INBOX");
    append(three, A, "sent");
    assert_int_equal(post_ship(three->stores[A], three->stores[B]), ERR_OK);
    assert_int_equal(post_ship(three->stores[A], three->stores[C]), ERR_OK);
}

static void close_three(struct three *three)
{
    for (unsigned i = 0; i < NODES; i++)
        store_close(three->stores[i]);
    scratch_remove(three->directory);
}

/* The node's journal leads nobody back to where the others are. */
static void trim(struct three *three, unsigned node)
{
    const struct cut cut = {.entries = 0,
                            .bytes = UINT64_MAX,
                            .before = INT64_MIN,
                            .up_to = UINT64_MAX,
                            .held_from = UINT64_MAX};
    struct retained done;
    assert_int_equal(store_cut(three->stores[node], &cut, false, &done), ERR_OK);
}

/* What C is to get of B by a repair. */
static void go_on_at_b(struct three *three)
{
    assert_int_equal(store_promote(three->stores[B], false), ERR_OK);
    append(three, B, "INBOX");
    append(three, B, "sent");
    assert_int_equal(post_meta(three->stores[B], "/note", "b"), ERR_OK);
}

static void go_on_at_c(struct three *three)
{
    assert_int_equal(store_promote(three->stores[C], false), ERR_OK);
    append(three, C, "INBOX");
    append(three, C, "sent");
    assert_int_equal(store_demote(three->stores[C], NULL, false), ERR_OK);
}

static int before_question(void *arg)
{
    struct three *three = arg;
    three->cut = ++three->questions == three->cut_at;
    if (!three->cut || !three->meanwhile)
        return three->cut ? ERR_PEER : ERR_OK;
    three->cut_at = 0;
    three->meanwhile(three);
    return ERR_OK;
}

static int pass(struct three *three, unsigned master, unsigned replica)
{
    struct sync sync = {.master_name = "master", .asking = before_question, .arg = three};
    int rc = sync_stores(three->stores[master], three->stores[replica], &sync);
    free(sync.aside);
    return rc;
}

/* Each message has its own size. */
static void note_sizes(struct mailbox *mailbox, unsigned found[MESSAGES_MOST])
{
    struct record records[MESSAGES_MOST];
    size_t count;
    assert_int_equal(mailbox_batch(mailbox, 1, records, MESSAGES_MOST, &count), ERR_OK);
    for (size_t i = 0; i < count; i++) {
        assert_in_range(records[i].size, 1, MESSAGES_MOST - 1);
        if (record_live(&records[i]))
            found[records[i].size]++;
    }
}

static int count_messages(struct tx *tx, void *arg)
{
    struct header header;
    struct mailbox *mailbox;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        if (header.facts.state != MAILBOX_LIVE)
            continue;
        rc = mailbox_open_id(tx, header.id, NULL, &mailbox);
        if (rc)
            return rc;
        note_sizes(mailbox, arg);
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int compare_shown(struct tx *tx, void *arg)
{
    struct three *three = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        size_t i = 0;
        if (header.facts.state == MAILBOX_NONE)
            continue;
        while (i < three->shown_count && three->shown[i].id != header.id)
            i++;
        assert_in_range(i, 0, MAILBOXES_MOST - 1);
        three->shown_count += i == three->shown_count;
        assert_true(header.facts.uidnext >= three->shown[i].facts.uidnext);
        assert_true(header.facts.highestmodseq >= three->shown[i].facts.highestmodseq);
        three->shown[i] = header;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* No mailbox's numbers at C go back. */
static void numbers_go_on(struct three *three)
{
    assert_int_equal(store_read(three->stores[C], compare_shown, three), ERR_OK);
}

static void find(const struct three *three, unsigned node, unsigned found[MESSAGES_MOST])
{
    memset(found, 0, MESSAGES_MOST * sizeof *found);
    assert_int_equal(store_read(three->stores[node], count_messages, found), ERR_OK);
}

static void has_all(const struct three *three, unsigned node)
{
    unsigned found[MESSAGES_MOST];
    find(three, node, found);
    for (unsigned i = 1; i <= three->messages; i++)
        assert_int_equal(found[i], i != three->gone);
    assert_int_equal(post_check(three->stores[node]), 0);
}

static void follows(struct three *three, unsigned master, unsigned node)
{
    struct post_facts here, there;
    assert_int_equal(store_demote(three->stores[node], "master", false), ERR_OK);
    int rc = pass(three, master, node);
    if (rc == ERR_REFUSED) { /* the master was fenced by the other's epoch */
        assert_int_equal(store_promote(three->stores[master], false), ERR_OK);
        rc = pass(three, master, node);
    }
    assert_int_equal(rc, ERR_OK);
    assert_int_equal(post_facts(three->stores[master], &here), ERR_OK);
    assert_int_equal(post_facts(three->stores[node], &there), ERR_OK);
    assert_true(position_equal(here.position, there.position));
    assert_int_equal(node_digest(&here.node), node_digest(&there.node));
}

static void follows_a(struct three *three, unsigned node)
{
    follows(three, A, node);
}

/* `before` is done once A's followers are equal. */
static void repair_is_cut_off_anywhere(void (*before)(struct three *three))
{
    for (unsigned at = 1; at < QUESTIONS_MOST; at++) {
        struct three three = {0};
        open_three(&three);
        before(&three);
        numbers_go_on(&three);
        three.cut_at = at;
        int rc = pass(&three, B, C);
        bool cut = three.cut;
        assert_int_equal(rc, cut ? ERR_PEER : ERR_OK);
        three.cut_at = 0;
        append(&three, A, "INBOX");
        numbers_go_on(&three);
        follows_a(&three, C);
        numbers_go_on(&three);
        follows_a(&three, B);
        follows_a(&three, C);
        numbers_go_on(&three);
        for (unsigned i = 0; i < NODES; i++)
            has_all(&three, i);
        close_three(&three);
        if (!cut)
            return;
    }
    fail_msg("a repair takes more than %u questions", QUESTIONS_MOST);
}

/* C has B's position then, and not B's mail: a mark that says that A took all of it in loses it. */
static void behind(struct three *three)
{
    go_on_at_b(three);
    trim(three, B);
}

static void apart(struct three *three)
{
    go_on_at_c(three);
    go_on_at_b(three);
    trim(three, B);
}

/* C has what A made since, and B has not: B's repair of C makes it anew. */
static void new_at_c(struct three *three)
{
    assert_int_equal(post_create(three->stores[A], "new"), ERR_OK);
    assert_int_equal(post_ship(three->stores[A], three->stores[C]), ERR_OK);
    assert_int_equal(store_promote(three->stores[C], false), ERR_OK);
    append(three, C, "new");
    append(three, C, "new");
    assert_int_equal(store_demote(three->stores[C], NULL, false), ERR_OK);
    go_on_at_b(three);
}

static void new_at_c_and_trimmed(struct three *three)
{
    new_at_c(three);
    trim(three, B);
}

static void a_mailbox_that_a_cut_off_repair_makes_anew_goes_on_where_it_was(void **state)
{
    (void)state;
    repair_is_cut_off_anywhere(new_at_c);
    repair_is_cut_off_anywhere(new_at_c_and_trimmed);
}

/* C's goes on in B's. A has it as it was before. */
static void two_of_one_name(struct three *three)
{
    new_at_c(three);
    assert_int_equal(post_create(three->stores[B], "new"), ERR_OK);
    append(three, B, "new");
}

static void two_of_one_name_and_trimmed(struct three *three)
{
    two_of_one_name(three);
    trim(three, B);
}

/* C is promoted by force. */
static void all_of_c_is_there(void (*before)(struct three *three))
{
    for (unsigned at = 1; at < QUESTIONS_MOST; at++) {
        struct three three = {0};
        unsigned then[MESSAGES_MOST];
        unsigned now[MESSAGES_MOST];
        open_three(&three);
        before(&three);
        find(&three, C, then);
        three.cut_at = at;
        pass(&three, B, C);
        bool cut = three.cut;
        assert_int_equal(store_promote(three.stores[C], true), ERR_OK);
        find(&three, C, now);
        for (unsigned i = 1; i <= three.messages; i++)
            assert_in_range(now[i], then[i], 1);
        assert_int_equal(post_check(three.stores[C]), 0);
        close_three(&three);
        if (!cut)
            return;
    }
    fail_msg("a repair takes more than %u questions", QUESTIONS_MOST);
}

static void what_a_replica_made_is_there_until_the_repair_has_brought_it(void **state)
{
    (void)state;
    all_of_c_is_there(new_at_c);
    all_of_c_is_there(new_at_c_and_trimmed);
}

static void a_mailbox_that_went_on_in_another_gives_out_no_uid_again(void **state)
{
    (void)state;
    repair_is_cut_off_anywhere(two_of_one_name);
    repair_is_cut_off_anywhere(two_of_one_name_and_trimmed);
}

static void what_a_cut_off_repair_had_not_brought_is_not_said_to_be_taken_in(void **state)
{
    (void)state;
    repair_is_cut_off_anywhere(behind);
}

static void what_a_cut_off_repair_had_merged_is_neither_lost_nor_doubled(void **state)
{
    (void)state;
    repair_is_cut_off_anywhere(apart);
}

static void take_in_b(struct three *three)
{
    follows_a(three, B);
}

/* B's branch, of which C has a part. What B expunged then, C still shows. */
static void part_of_b(struct three *three)
{
    assert_int_equal(store_promote(three->stores[B], false), ERR_OK);
    append(three, B, "INBOX");
    append(three, B, "INBOX");
    append(three, B, "sent");
    assert_int_equal(post_ship(three->stores[B], three->stores[C]), ERR_OK);
    assert_int_equal(post_expunge(three->stores[B], "INBOX", "3", false), ERR_OK);
    three->gone = 4;
    append(three, B, "sent");
    append(three, A, "INBOX");
}

static void two_followers_are_taken_in_at_the_same_time(void **state)
{
    (void)state;
    for (unsigned at = 1; at < QUESTIONS_MOST; at++) {
        struct three three = {.meanwhile = take_in_b};
        open_three(&three);
        part_of_b(&three);
        /* A will be fenced by B's epoch, and goes on. */
        assert_int_equal(store_fence(three.stores[A], FENCE_EPOCH, 2), ERR_OK);
        assert_int_equal(store_promote(three.stores[A], false), ERR_OK);
        three.cut_at = at;
        assert_int_equal(pass(&three, A, C), ERR_OK);
        bool happened = three.questions >= at;
        three.cut_at = 0;
        follows_a(&three, B);
        follows_a(&three, C);
        for (unsigned i = 0; i < NODES; i++)
            has_all(&three, i);
        close_three(&three);
        if (!happened)
            return;
    }
    fail_msg("a repair takes more than %u questions", QUESTIONS_MOST);
}

/* A followed B up to a point, and took in by a merge what B did after it. */
static void go_on_at_b_and_a(struct three *three)
{
    assert_int_equal(store_promote(three->stores[B], false), ERR_OK);
    append(three, B, "INBOX");
    follows(three, B, A);
    assert_int_equal(store_promote(three->stores[A], false), ERR_OK);
    append(three, B, "sent");
    follows_a(three, B);
    trim(three, A);
}

/* C has A's journal by then, with A's mark about B. What waits at C was never there: it has nothing
 * of B's. Each of B and C gave UID 3 to a message. */
static void what_waited_has_not_taken_in_what_the_journal_has(void **state)
{
    (void)state;
    for (unsigned at = 1; at < QUESTIONS_MOST; at++) {
        struct three three = {0};
        open_three(&three);
        go_on_at_c(&three);
        go_on_at_b_and_a(&three);
        three.questions = 0;
        three.cut_at = at;
        pass(&three, A, C);
        bool cut = three.cut;
        three.cut_at = 0;
        assert_int_equal(store_promote(three.stores[C], true), ERR_OK);
        follows(&three, C, A);
        follows(&three, C, B);
        for (unsigned i = 0; i < NODES; i++)
            has_all(&three, i);
        close_three(&three);
        if (!cut)
            return;
    }
    fail_msg("a repair takes more than %u questions", QUESTIONS_MOST);
}

static int find_stops(struct tx *tx, void *arg)
{
    return stop_any(tx_db(tx), arg);
}

/* C for its repair. */
static bool waits(const struct three *three)
{
    bool stops;
    assert_int_equal(store_read(three->stores[C], find_stops, &stops), ERR_OK);
    return stops;
}

/* A new node, D, comes to C, which is no master. */
static void open_four(struct three *three)
{
    open_three(three);
    assert_int_equal(post_store(three->directory, "d", ROLE_REPLICA, &three->stores[D]), ERR_OK);
    go_on_at_c(three);
    go_on_at_b(three);
}

static void d_is_still(const struct three *three, const struct post_facts *before)
{
    struct post_facts now;
    assert_int_equal(post_facts(three->stores[D], &now), ERR_OK);
    assert_true(position_equal(now.position, before->position));
    assert_int_equal(node_digest(&now.node), node_digest(&before->node));
}

static void all_follow_b(struct three *three)
{
    follows(three, B, D);
    follows(three, B, C);
    follows(three, B, D);
    for (unsigned i = B; i <= D; i++)
        has_all(three, i);
    store_close(three->stores[D]);
    close_three(three);
}

/* C's journal is back where A's ends by then, and its mailboxes are not. */
static void who_waits_for_a_repair_repairs_nobody(void **state)
{
    bool cut = true;
    unsigned refused = 0;
    (void)state;
    for (unsigned at = 1; cut && at < QUESTIONS_MOST; at++) {
        struct three three = {.cut_at = at};
        struct post_facts before;
        open_four(&three);
        pass(&three, B, C);
        cut = three.cut;
        three.cut_at = 0;
        assert_int_equal(post_facts(three.stores[D], &before), ERR_OK);
        if (waits(&three)) {
            assert_int_equal(pass(&three, C, D), ERR_REFUSED);
            d_is_still(&three, &before);
            refused++;
        }
        all_follow_b(&three);
    }
    assert_false(cut);
    assert_true(refused > 1);
}

static int ask_c(void *context, struct bytes question, struct buf *out)
{
    return answer(((const struct three *)context)->stores[C], question, out);
}

static void travels(const struct plan *plan)
{
    struct buf sent = {0}, again = {0};
    struct plan arrived;
    plan_encode(plan, &sent);
    assert_int_equal(plan_decode(buf_view(&sent), &arrived), ERR_OK);
    plan_encode(&arrived, &again);
    assert_true(bytes_equal(buf_view(&sent), buf_view(&again)));
    plan_free(&arrived);
    buf_free(&sent);
    buf_free(&again);
}

/* Over a connection a plan is bytes, whatever its kind. */
static void who_is_sent_back_can_read_why(void **state)
{
    bool cut = true;
    unsigned sent_back = 0;
    (void)state;
    for (unsigned at = 1; cut && at < QUESTIONS_MOST; at++) {
        struct three three = {.cut_at = at};
        const struct asker follower = {.ask = ask_c, .context = &three};
        const struct take_in options = {.slot = "c"};
        struct plan plan;
        open_three(&three);
        go_on_at_c(&three);
        go_on_at_b(&three);
        pass(&three, B, C);
        cut = three.cut;
        int rc = take_in(three.stores[A], &follower, &options, &plan);
        if (rc == ERR_REFUSED) { /* fenced by B's epoch */
            assert_int_equal(store_promote(three.stores[A], false), ERR_OK);
            rc = take_in(three.stores[A], &follower, &options, &plan);
        }
        sent_back += rc == ERR_OK && plan.kind == PLAN_GIVE_UP;
        if (rc == ERR_OK)
            travels(&plan);
        plan_free(&plan);
        close_three(&three);
    }
    assert_false(cut);
    assert_true(sent_back > 0);
}

/* Up to where C's mailboxes wait. */
static int until_it_waits(void *arg)
{
    return waits(arg) ? ERR_PEER : ERR_OK;
}

static void begin_repair_of_c(struct three *three)
{
    struct sync sync = {.master_name = "b", .asking = until_it_waits, .arg = three};
    assert_int_equal(sync_stores(three->stores[B], three->stores[C], &sync), ERR_PEER);
    free(sync.aside);
    assert_int_equal(post_facts(three->stores[D], &three->then), ERR_OK);
}

static void who_comes_to_wait_repairs_nobody_any_more(void **state)
{
    bool happened = true;
    (void)state;
    for (unsigned at = 1; happened && at < QUESTIONS_MOST; at++) {
        struct three three = {.cut_at = at, .meanwhile = begin_repair_of_c};
        open_four(&three);
        trim(&three, C);
        int rc = pass(&three, C, D);
        happened = three.cut_at == 0;
        assert_int_equal(rc, happened ? ERR_REFUSED : ERR_OK);
        if (happened)
            d_is_still(&three, &three.then);
        three.cut_at = 0;
        all_follow_b(&three);
    }
    assert_false(happened);
}

/* What of A's branch B had taken in when the repair was cut off stays known, although A's journal
 * was taken back by it: A opens the next epoch itself, behind fewer entries than B knows of. */
static void what_was_taken_in_is_known_when_the_repair_is_given_up(void **state)
{
    (void)state;
    for (unsigned at = 1; at < QUESTIONS_MOST; at++) {
        unsigned found[MESSAGES_MOST];
        struct three three = {.cut_at = at};
        open_three(&three);
        assert_int_equal(store_promote(three.stores[B], false), ERR_OK);
        append(&three, A, "INBOX");
        assert_int_equal(store_demote(three.stores[A], "b", false), ERR_OK);
        pass(&three, B, A);
        bool cut = three.cut;
        three.cut_at = 0;
        find(&three, B, found);
        if (found[three.messages]) {
            assert_int_equal(post_expunge(three.stores[B], "INBOX", "3", true), ERR_OK);
            three.gone = three.messages;
        }
        assert_int_equal(store_promote(three.stores[A], true), ERR_OK);
        follows(&three, B, A);
        has_all(&three, A);
        has_all(&three, B);
        close_three(&three);
        if (!cut)
            return;
    }
    fail_msg("a repair takes more than %u questions", QUESTIONS_MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_followers_are_taken_in_at_the_same_time),
        cmocka_unit_test(what_a_cut_off_repair_had_not_brought_is_not_said_to_be_taken_in),
        cmocka_unit_test(a_mailbox_that_a_cut_off_repair_makes_anew_goes_on_where_it_was),
        cmocka_unit_test(a_mailbox_that_went_on_in_another_gives_out_no_uid_again),
        cmocka_unit_test(what_a_replica_made_is_there_until_the_repair_has_brought_it),
        cmocka_unit_test(what_waited_has_not_taken_in_what_the_journal_has),
        cmocka_unit_test(what_a_cut_off_repair_had_merged_is_neither_lost_nor_doubled),
        cmocka_unit_test(what_was_taken_in_is_known_when_the_repair_is_given_up),
        cmocka_unit_test(who_waits_for_a_repair_repairs_nobody),
        cmocka_unit_test(who_comes_to_wait_repairs_nobody_any_more),
        cmocka_unit_test(who_is_sent_back_can_read_why),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
