/* The journal's window beside a naive list of the same entries: every question has the answer that
 * a walk along the list gives, also after it was trimmed at one end or cut back at the other. And
 * the small tables beside it: slots, epochs. */
#include "journal/journal.h"

#include "base/err.h"
#include "journal/epoch.h"
#include "journal/slots.h"
#include "journal/tables.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define ENTRIES 200u

struct item {
    struct position position;
    int64_t time;
    size_t size;
    bool end;
};

struct journal {
    char directory[PATH_MAX];
    struct db *db;
    struct db_txn *txn;
    struct dice dice;
    struct journal_window window;
    struct item items[ENTRIES + 1]; /* the first is the base */
    size_t first;                   /* the base's place in the list */
    size_t last;
};

static uint64_t seed;

static void add(struct journal *journal, bool jump)
{
    static const uint8_t body[100];
    struct buf out = {0};
    struct item before = journal->items[journal->last];
    struct entry entry = {
        .modseq = before.position.modseq + (jump ? 50 : 1),
        .time = before.time + dice_below(&journal->dice, 3) * 10,
        .kind = jump ? ENTRY_EPOCH : ENTRY_FLAGS,
        .mailbox = 1,
        .end_of_commit = dice_below(&journal->dice, 3) == 0 || journal->last + 1 == ENTRIES,
        .body = bytes_of(body, dice_below(&journal->dice, sizeof body)),
    };
    assert_int_equal(entry_encode(&out, &entry, before.position.chain), ERR_OK);
    assert_int_equal(journal_append(journal->txn, &journal->window, buf_view(&out), &entry),
                     ERR_OK);
    journal->items[++journal->last] = (struct item){.position = {entry.modseq, entry.chain},
                                                    .time = entry.time,
                                                    .size = out.size,
                                                    .end = entry.end_of_commit};
    buf_free(&out);
}

static int setup(void **state)
{
    struct journal *journal = calloc(1, sizeof *journal);
    struct db_options options = {
        .tables = table_names, .table_count = TABLE_COUNT, .map_size = 1u << 28, .create = true};
    struct position base = {0, entry_chain_start(1)};
    assert_non_null(journal);
    journal->dice.state = seed++;
    scratch_make(journal->directory);
    assert_int_equal(db_open(journal->directory, &options, &journal->db), ERR_OK);
    assert_int_equal(db_begin_write(journal->db, &journal->txn), ERR_OK);
    assert_int_equal(journal_start(journal->txn, base), ERR_OK);
    assert_int_equal(journal_window(journal->txn, &journal->window), ERR_OK);
    journal->items[0] = (struct item){.position = base, .end = true};
    for (unsigned i = 0; i < ENTRIES; i++)
        add(journal, i == ENTRIES / 2);
    assert_int_equal(journal_window_save(journal->txn, &journal->window), ERR_OK);
    *state = journal;
    return 0;
}

static int teardown(void **state)
{
    struct journal *journal = *state;
    db_abort(journal->txn);
    db_close(journal->db);
    scratch_remove(journal->directory);
    free(journal);
    return 0;
}

static uint64_t top(const struct journal *journal)
{
    return journal->items[journal->last].position.modseq;
}

/* The place of the last item that is not above `modseq`, and ends a commit or is the base. */
static size_t rounded(const struct journal *journal, uint64_t modseq)
{
    size_t found = journal->first;
    for (size_t i = journal->first; i <= journal->last; i++)
        if (journal->items[i].position.modseq <= modseq && journal->items[i].end)
            found = i;
    return found;
}

static void expect_lookups(struct journal *journal)
{
    struct entry entry;
    uint64_t found;
    uint64_t base = journal->items[journal->first].position.modseq;
    for (uint64_t modseq = base ? base - 1 : 0; modseq <= top(journal) + 2; modseq++) {
        int rc = journal_round_down(journal->txn, modseq, &found);
        if (modseq < base) {
            assert_int_equal(rc, ERR_TRIMMED);
        } else if (modseq > top(journal)) {
            assert_true(rc == ERR_NOTFOUND || rc == ERR_END);
        } else {
            assert_int_equal(rc, ERR_OK);
            size_t at = rounded(journal, modseq);
            assert_int_equal(found, journal->items[at].position.modseq);
        }
    }
    for (size_t i = journal->first + 1; i <= journal->last; i++) {
        assert_int_equal(journal_get(journal->txn, journal->items[i].position.modseq, &entry, NULL),
                         ERR_OK);
        assert_int_equal(entry.chain, journal->items[i].position.chain);
        assert_int_equal(journal_holds(journal->txn, journal->items[i].position), ERR_OK);
        struct position other = {entry.modseq, entry.chain + 1};
        assert_int_equal(journal_holds(journal->txn, other), ERR_END);
    }
    assert_int_equal(journal_get(journal->txn, top(journal) + 1, &entry, NULL), ERR_END);
}

static void expect_times(struct journal *journal)
{
    uint64_t found;
    int64_t begin = journal->items[journal->first].time;
    for (int64_t time = begin; time <= journal->items[journal->last].time + 5; time += 5) {
        size_t at = journal->first;
        for (size_t i = journal->first; i <= journal->last; i++)
            if (journal->items[i].time <= time && journal->items[i].end)
                at = i;
        assert_int_equal(journal_at_time(journal->txn, time, &found), ERR_OK);
        assert_int_equal(found, journal->items[at].position.modseq);
    }
    if (journal->first)
        assert_int_equal(journal_at_time(journal->txn, begin - 1, &found), ERR_TRIMMED);
}

static void expect_tails(struct journal *journal)
{
    struct journal_tail tail;
    for (size_t from = journal->first; from <= journal->last; from++) {
        size_t bytes = 0;
        for (size_t i = from + 1; i <= journal->last; i++)
            bytes += journal->items[i].size;
        assert_int_equal(journal_tail(journal->txn, journal->items[from].position.modseq, &tail),
                         ERR_OK);
        assert_int_equal(tail.entries, journal->last - from);
        assert_int_equal(tail.bytes, bytes);
        assert_int_equal(tail.time, from < journal->last ? journal->items[from + 1].time : 0);
    }
}

static void expect_copies(struct journal *journal)
{
    struct buf out = {0};
    struct position last;
    size_t at = journal->first;
    int rc;
    do {
        buf_reset(&out);
        rc = journal_copy(journal->txn, journal->items[at].position.modseq,
                          1 + dice_below(&journal->dice, 3000), &out, &last);
        for (size_t offset = 0; offset < out.size; offset += journal->items[at].size)
            assert_int_equal(entry_size(bytes_of(out.data + offset, out.size - offset)),
                             journal->items[++at].size);
        if (rc == ERR_OK)
            assert_true(position_equal(last, journal->items[at].position));
    } while (rc == ERR_OK);
    assert_int_equal(rc, ERR_END);
    assert_int_equal(at, journal->last);
    if (journal->first)
        assert_int_equal(journal_copy(journal->txn, 0, 1, &out, &last), ERR_TRIMMED);
    buf_free(&out);
}

static void expect_all(struct journal *journal)
{
    struct journal_window window;
    size_t bytes = 0;
    for (size_t i = journal->first + 1; i <= journal->last; i++)
        bytes += journal->items[i].size;
    assert_int_equal(journal_window(journal->txn, &window), ERR_OK);
    assert_true(position_equal(window.base, journal->items[journal->first].position));
    assert_true(position_equal(window.last, journal->items[journal->last].position));
    assert_int_equal(window.entries, journal->last - journal->first);
    assert_int_equal(window.bytes, bytes);
    expect_lookups(journal);
    expect_times(journal);
    expect_tails(journal);
    expect_copies(journal);
}

static void every_question_has_the_lists_answer(void **state)
{
    expect_all(*state);
}

static void a_trimmed_window_begins_with_a_whole_commit(void **state)
{
    struct journal *journal = *state;
    uint64_t removed;
    assert_int_equal(journal_trim(journal->txn, 0, 100, true, &removed), ERR_OK);
    assert_int_equal(removed, 0);
    for (int i = 0; i < 6; i++) {
        size_t from = journal->first;
        size_t to = from + dice_below(&journal->dice, (uint32_t)(journal->last - from) + 1);
        size_t goal = rounded(journal, journal->items[to].position.modseq);
        size_t all = 0;
        do {
            assert_int_equal(
                journal_trim(journal->txn, journal->items[to].position.modseq, 7, true, &removed),
                ERR_OK);
            all += removed;
            journal->first += removed;
            assert_true(journal->items[journal->first].end);
        } while (removed);
        assert_int_equal(all, goal - from);
        expect_all(journal);
    }
}

static void what_is_cut_back_was_never_there(void **state)
{
    struct journal *journal = *state;
    size_t keep = rounded(journal, journal->items[ENTRIES / 3].position.modseq);
    uint64_t removed;
    do {
        assert_int_equal(
            journal_cut_back(journal->txn, journal->items[keep].position.modseq, 7, &removed),
            ERR_OK);
        assert_true(removed <= 7);
        journal->last -= removed;
    } while (removed);
    assert_int_equal(journal->last, keep);
    expect_all(journal);
}

static void an_entry_that_is_not_above_the_last_is_refused(void **state)
{
    struct journal *journal = *state;
    struct buf out = {0};
    struct entry entry = {.modseq = top(journal)};
    assert_int_equal(entry_encode(&out, &entry, 0), ERR_OK);
    assert_int_equal(journal_append(journal->txn, &journal->window, buf_view(&out), &entry),
                     ERR_CORRUPT);
    buf_free(&out);
}

static void slots_are_kept_by_name(void **state)
{
    struct journal *journal = *state;
    static const char *const names[] = {"zoe", "ann", "0123456789abcdef"};
    struct slot slot;
    for (unsigned i = 0; i < 3; i++) {
        slot = (struct slot){.position = {i + 1, i + 2}, .time = -5, .connected = i % 2};
        snprintf(slot.name, sizeof slot.name, "%s", names[i]);
        assert_int_equal(slot_put(journal->txn, &slot), ERR_OK);
    }
    assert_int_equal(slot_get(journal->txn, "ann", &slot), ERR_OK);
    assert_true(slot.position.modseq == 2 && slot.position.chain == 3 && slot.time == -5 &&
                slot.connected);
    assert_int_equal(slot_get(journal->txn, "an", &slot), ERR_END);
    slot = (struct slot){0};
    for (unsigned i = 3; i-- > 0;) { /* they were put in the reverse order of their names */
        assert_int_equal(slot_next(journal->txn, &slot), ERR_OK);
        assert_string_equal(slot.name, names[i]);
    }
    assert_int_equal(slot_next(journal->txn, &slot), ERR_END);
    assert_int_equal(slot_drop(journal->txn, "ann"), ERR_OK);
    assert_int_equal(slot_drop(journal->txn, "ann"), ERR_END);
}

static void a_slot_lags_or_is_lost(void **state)
{
    struct journal *journal = *state;
    struct slot slot = {.name = "ann", .position = journal->items[50].position, .connected = true};
    struct slot_lag lag;
    uint64_t removed;
    assert_int_equal(slot_lag(journal->txn, &slot, journal->items[51].time + 30, &lag), ERR_OK);
    assert_int_equal(lag.state, SLOT_CONNECTED);
    assert_int_equal(lag.tail.entries, ENTRIES - 50);
    assert_int_equal(lag.age, 30);
    slot.connected = false;
    assert_int_equal(slot_lag(journal->txn, &slot, 0, &lag), ERR_OK);
    assert_int_equal(lag.state, SLOT_AWAY);
    assert_int_equal(journal_trim(journal->txn, top(journal), ENTRIES, true, &removed), ERR_OK);
    assert_int_equal(slot_lag(journal->txn, &slot, 0, &lag), ERR_OK);
    assert_int_equal(lag.state, SLOT_LOST);
}

static void epochs_are_a_tree(void **state)
{
    struct journal *journal = *state;
    static const struct epoch epochs[] = {
        {.id = {1, 5}, .first = 1},
        {.id = {2, 9}, .parent = {1, 5}, .before = {10, 11}, .first = 11, .time = 3},
        {.id = {2, 3}, .parent = {1, 5}, .before = {7, 8}, .first = 8, .time = 4},
        {.id = {3, 3}, .parent = {2, 3}, .before = {20, 21}, .first = 30, .time = 5},
    };
    struct epoch epoch;
    struct epoch_id id = {0};
    uint32_t highest;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(epoch_put(journal->txn, &epochs[i]), ERR_OK);
    assert_int_equal(epoch_highest(journal->txn, &highest), ERR_OK);
    assert_int_equal(highest, 3);
    assert_int_equal(epoch_meet(journal->txn, 7), ERR_OK);
    assert_int_equal(epoch_meet(journal->txn, 5), ERR_OK);
    assert_int_equal(epoch_highest(journal->txn, &highest), ERR_OK);
    assert_int_equal(highest, 7);
    static const size_t order[] = {0, 2, 1, 3};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(epoch_next(journal->txn, &id, &epoch), ERR_OK);
        assert_int_equal(epoch_compare(epoch.id, epochs[order[i]].id), 0);
        assert_true(epoch.first == epochs[order[i]].first && epoch.time == epochs[order[i]].time);
        assert_true(position_equal(epoch.before, epochs[order[i]].before));
    }
    assert_int_equal(epoch_next(journal->txn, &id, &epoch), ERR_END);
    assert_true(epoch_compare(epochs[1].id, epochs[2].id) > 0);
    assert_true(epoch_compare(epochs[1].id, epochs[3].id) < 0);
}

int main(int argc, char **argv)
{
    seed = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_question_has_the_lists_answer, setup, teardown),
        cmocka_unit_test_setup_teardown(a_trimmed_window_begins_with_a_whole_commit, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(what_is_cut_back_was_never_there, setup, teardown),
        cmocka_unit_test_setup_teardown(an_entry_that_is_not_above_the_last_is_refused, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(slots_are_kept_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(a_slot_lags_or_is_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(epochs_are_a_tree, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
