/* What the feeder makes, the receiver takes: without sockets, a fill at a time. */
#include "agent/receiver.h"

#include "agent/feeder.h"
#include "base/err.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct ends {
    char directory[PATH_MAX];
    struct store *master;
    struct store *replica;
    struct feeder *feeder;
    struct receiver *receiver;
    struct buf frames;
    bool all;
    struct taken taken;
};

static const struct owner owner = {.user = "owner"};

static int do_create(struct tx *tx, void *arg)
{
    struct name name;
    (void)arg;
    int rc = name_parse("INBOX", 5, &owner, &name);
    return rc ? rc : mailbox_create(tx, &name, NULL);
}

static int set_up(void **state)
{
    struct ends *ends = calloc(1, sizeof *ends);
    struct hello hello;
    struct verdict verdict;
    assert_non_null(ends);
    scratch_make(ends->directory);
    assert_int_equal(post_store(ends->directory, "a", ROLE_MASTER, &ends->master), ERR_OK);
    assert_int_equal(post_store(ends->directory, "b", ROLE_REPLICA, &ends->replica), ERR_OK);
    assert_int_equal(store_commit(ends->master, do_create, NULL, NULL), ERR_OK);
    assert_int_equal(receiver_open(ends->replica, "there", NULL, &ends->receiver), ERR_OK);
    assert_int_equal(receiver_hello(ends->receiver, &hello), ERR_OK);
    feeder_check(ends->master, &hello, (struct tried){0}, &verdict);
    assert_int_equal(verdict.judgement, JUDGE_WELCOME);
    assert_int_equal(feeder_open(ends->master, &hello, &verdict, &ends->feeder), ERR_OK);
    receiver_welcome(ends->receiver, &verdict.welcome);
    *state = ends;
    return 0;
}

static int tear_down(void **state)
{
    struct ends *ends = *state;
    feeder_close(ends->feeder);
    receiver_close(ends->receiver);
    store_close(ends->master);
    store_close(ends->replica);
    buf_free(&ends->frames);
    scratch_remove(ends->directory);
    free(ends);
    return 0;
}

struct many {
    struct draft **drafts;
    size_t count;
    bool merging; /* in a commit that may be as large as a merge's */
};

/* All in one commit. */
static int do_append(struct tx *tx, void *arg)
{
    struct many *many = arg;
    struct name name;
    struct mailbox *mailbox;
    tx->merging = many->merging;
    int rc = name_parse("INBOX", 5, &owner, &name);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &name, NULL, &mailbox);
    for (size_t i = 0; rc == ERR_OK && i < many->count; i++) {
        struct append append = {.draft = many->drafts[i]};
        uint32_t uid;
        rc = mailbox_append(mailbox, &append, &uid);
    }
    return rc;
}

static void append_many(struct ends *ends, size_t count, size_t size, bool merging)
{
    struct many many = {
        .drafts = calloc(count, sizeof(struct draft *)), .count = count, .merging = merging};
    uint8_t *noise = malloc(size);
    assert_non_null(many.drafts);
    assert_non_null(noise);
    for (size_t i = 0; i < count; i++) {
        struct draft **draft = &many.drafts[i];
        hash_random(noise, size);
        assert_int_equal(draft_open(store_db(ends->master), DRAFT_RAW, draft), ERR_OK);
        assert_int_equal(draft_write(*draft, noise, size), ERR_OK);
        assert_int_equal(draft_finish(*draft), ERR_OK);
    }
    assert_int_equal(store_commit(ends->master, do_append, &many, NULL), ERR_OK);
    for (size_t i = 0; i < count; i++)
        draft_close(many.drafts[i]);
    free(many.drafts);
    free(noise);
}

/* `count` messages of `size` bytes that cannot be deflated, in one commit. */
static void append_noise(struct ends *ends, size_t count, size_t size)
{
    append_many(ends, count, size, false);
}

static void fill(struct ends *ends, size_t most)
{
    buf_reset(&ends->frames);
    assert_int_equal(feeder_fill(ends->feeder, most, &ends->frames, &ends->all), ERR_OK);
}

static int take(struct ends *ends)
{
    return receiver_take(ends->receiver, buf_view(&ends->frames), &ends->taken);
}

static int get_position(struct tx *tx, void *arg)
{
    *(struct position *)arg = tx_window(tx)->last;
    return ERR_OK;
}

static struct position position_of(struct store *store)
{
    struct position position;
    assert_int_equal(store_read(store, get_position, &position), ERR_OK);
    return position;
}

/* Until nothing is left. */
static void ship(struct ends *ends, size_t most)
{
    for (ends->all = false; !ends->all;) {
        fill(ends, most);
        assert_int_equal(take(ends), ERR_OK);
        assert_int_equal(ends->taken.missed.size, 0);
    }
    assert_true(position_equal(position_of(ends->master), position_of(ends->replica)));
    assert_true(position_equal(position_of(ends->master), ends->taken.position));
}

static void assert_sound(struct ends *ends)
{
    uint64_t wrong;
    assert_int_equal(check_store(ends->replica, true, NULL, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
}

static void commits_are_applied_round_after_round(void **state)
{
    struct ends *ends = *state;
    for (unsigned round = 0; round < 5; round++) {
        append_noise(ends, 3, 1000);
        ship(ends, SOURCE_FILL_SIZE);
    }
    assert_sound(ends);
}

static void a_fill_is_about_as_large_as_asked_for(void **state)
{
    struct ends *ends = *state;
    append_noise(ends, 1, 3u << 20);
    for (unsigned i = 0; i < 40; i++)
        append_noise(ends, 1, 20000);
    do {
        fill(ends, SOURCE_FILL_SIZE);
        assert_true(ends->frames.size < 2 * SOURCE_FILL_SIZE);
        assert_int_equal(take(ends), ERR_OK);
    } while (!ends->all);
    assert_sound(ends);
}

static void a_commit_that_comes_in_pieces_is_applied_whole(void **state)
{
    struct ends *ends = *state;
    ship(ends, SOURCE_FILL_SIZE);
    struct position before = position_of(ends->replica);
    append_noise(ends, 30, 5000);
    unsigned rounds = 0;
    for (fill(ends, 1); !ends->all; fill(ends, 1)) {
        assert_int_equal(take(ends), ERR_OK);
        rounds++;
        struct position now = position_of(ends->replica);
        assert_true(position_equal(now, before) || position_equal(now, position_of(ends->master)));
    }
    assert_true(rounds >= 29);
    assert_int_equal(take(ends), ERR_OK);
    assert_true(position_equal(position_of(ends->replica), position_of(ends->master)));
    assert_sound(ends);
}

/* One mailbox is merged in one commit, whatever the number of differences. */
static void a_commit_of_a_large_merge_arrives(void **state)
{
    struct ends *ends = *state;
    append_many(ends, 140000, 8, true);
    ship(ends, SOURCE_FILL_SIZE);
    assert_sound(ends);
}

static void content_in_many_frames_arrives(void **state)
{
    struct ends *ends = *state;
    append_noise(ends, 2, 5u << 20);
    ship(ends, 1);
    assert_sound(ends);
}

static void content_waits_for_its_entry(void **state)
{
    struct ends *ends = *state;
    struct frame frame;
    append_noise(ends, 1, 1000);
    fill(ends, SOURCE_FILL_SIZE);
    struct bytes frames = buf_view(&ends->frames);
    /* The entries of the first commits and the content; then the entry that introduces it. */
    assert_int_equal(frame_decode(frames, FRAME_MAX_PAYLOAD, &frame), ERR_OK);
    assert_int_equal(frame.type, FRAME_ENTRIES);
    size_t cut = frame.whole.size;
    assert_int_equal(
        frame_decode(bytes_of(frames.data + cut, frames.size - cut), FRAME_MAX_PAYLOAD, &frame),
        ERR_OK);
    assert_int_equal(frame.type, FRAME_CONTENT);
    cut += frame.whole.size;
    assert_true(cut < frames.size);
    assert_int_equal(receiver_take(ends->receiver, bytes_of(frames.data, cut), &ends->taken),
                     ERR_OK);
    assert_true(ends->taken.position.modseq > 0);
    assert_int_equal(
        receiver_take(ends->receiver, bytes_of(frames.data + cut, frames.size - cut), &ends->taken),
        ERR_OK);
    assert_int_equal(ends->taken.missed.size, 0);
    assert_true(position_equal(ends->taken.position, position_of(ends->master)));
    assert_sound(ends);
}

/* Gives the frames again, changed by `change`, until the receiver refuses one; nothing of that
 * commit may have been applied then. */
static void assert_refused(struct ends *ends,
                           bool (*change)(struct content_part *part, unsigned number))
{
    struct bytes left;
    unsigned number = 0;
    struct buf changed = {0};
    struct position before = position_of(ends->replica);
    append_noise(ends, 1, 700000);
    for (ends->all = false; !ends->all;) {
        struct buf more = {0};
        assert_int_equal(feeder_fill(ends->feeder, SOURCE_FILL_SIZE, &more, &ends->all), ERR_OK);
        buf_put(&ends->frames, more.data, more.size);
        buf_free(&more);
    }
    struct frame frame;
    for (left = buf_view(&ends->frames);
         left.size && frame_decode(left, FRAME_MAX_PAYLOAD, &frame) == ERR_OK;
         left = bytes_of(left.data + frame.whole.size, left.size - frame.whole.size)) {
        struct content_part part;
        if (frame.type != FRAME_CONTENT) {
            buf_put(&changed, frame.whole.data, frame.whole.size);
            continue;
        }
        assert_int_equal(message_decode_content(frame.payload, &part), ERR_OK);
        if (change(&part, number++))
            message_encode_content(&part, &changed);
    }
    assert_true(number >= 3);
    assert_int_equal(receiver_take(ends->receiver, buf_view(&changed), &ends->taken), ERR_PROTOCOL);
    assert_true(position_equal(position_of(ends->replica), before));
    assert_sound(ends);
    buf_free(&changed);
}

static bool leave_one_out(struct content_part *part, unsigned number)
{
    (void)part;
    return number != 1;
}

static bool change_the_guid(struct content_part *part, unsigned number)
{
    (void)number;
    part->guid.bytes[0] ^= 1;
    return true;
}

static bool change_a_later_guid(struct content_part *part, unsigned number)
{
    part->guid.bytes[0] ^= number == 1;
    return true;
}

static bool change_the_size(struct content_part *part, unsigned number)
{
    (void)number;
    part->size++;
    return true;
}

static bool change_a_later_size(struct content_part *part, unsigned number)
{
    part->size += number == 1;
    return true;
}

static bool change_the_purpose(struct content_part *part, unsigned number)
{
    if (number == 1)
        part->purpose = CONTENT_WANTED;
    return true;
}

static bool turn_a_bit(struct content_part *part, unsigned number)
{
    static uint8_t copy[1u << 20];
    assert_true(part->data.size <= sizeof copy);
    if (number == 1) {
        memcpy(copy, part->data.data, part->data.size);
        copy[part->data.size / 2] ^= 1;
        part->data.data = copy;
    }
    return true;
}

static void content_that_is_not_what_was_said_is_refused(void **state)
{
    static bool (*const changes[])(struct content_part *, unsigned) = {
        leave_one_out,       change_the_guid,    change_a_later_guid, change_the_size,
        change_a_later_size, change_the_purpose, turn_a_bit};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        tear_down(state);
        set_up(state);
        assert_refused(*state, changes[i]);
    }
}

static void frames_cut_short_are_refused(void **state)
{
    struct ends *ends = *state;
    append_noise(ends, 1, 1000);
    fill(ends, SOURCE_FILL_SIZE);
    ends->frames.size -= 1;
    assert_int_equal(take(ends), ERR_PROTOCOL);
    assert_int_equal(position_of(ends->replica).modseq, 0);
}

static void entries_that_do_not_continue_the_journal_are_refused(void **state)
{
    struct ends *ends = *state;
    append_noise(ends, 1, 1000);
    ship(ends, SOURCE_FILL_SIZE);
    struct position before = position_of(ends->replica);
    assert_int_equal(take(ends), ERR_PROTOCOL);
    assert_true(position_equal(position_of(ends->replica), before));
    assert_sound(ends);
}

static int stop_inbox(struct tx *tx, void *arg)
{
    struct name name;
    uint64_t id;
    (void)arg;
    int rc = name_parse("INBOX", 5, &owner, &name);
    if (rc == ERR_OK)
        rc = header_id_of(tx_db(tx), &name, &id);
    return rc ? rc : stop_damaged(tx, id, "a test");
}

/* Whoever greets, wherever it is. */
static void who_waits_for_a_repair_feeds_nobody(void **state)
{
    struct ends *ends = *state;
    ship(ends, SOURCE_FILL_SIZE);
    struct position last = position_of(ends->replica);
    const struct position positions[] = {last, {.modseq = last.modseq, .chain = last.chain + 1}};
    assert_int_equal(store_maintain(ends->replica, stop_inbox, NULL), ERR_OK);
    for (size_t i = 0; i < sizeof positions / sizeof positions[0]; i++) {
        struct hello hello;
        struct verdict verdict;
        assert_int_equal(receiver_hello(ends->receiver, &hello), ERR_OK);
        hello.node_id++;
        hello.position = positions[i];
        feeder_check(ends->replica, &hello, (struct tried){0}, &verdict);
        assert_int_equal(verdict.judgement, JUDGE_REFUSE);
        assert_int_equal(verdict.why, REFUSAL_NOT_READY);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(commits_are_applied_round_after_round),
        TEST(a_fill_is_about_as_large_as_asked_for),
        TEST(a_commit_that_comes_in_pieces_is_applied_whole),
        TEST(a_commit_of_a_large_merge_arrives),
        TEST(content_in_many_frames_arrives),
        TEST(content_waits_for_its_entry),
        TEST(content_that_is_not_what_was_said_is_refused),
        TEST(frames_cut_short_are_refused),
        TEST(entries_that_do_not_continue_the_journal_are_refused),
        TEST(who_waits_for_a_repair_feeds_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
