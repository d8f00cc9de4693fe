/* Records: they come back as they were put, in batches as a walk along a list gives them, and
 * damage is told. */
#include "mailbox/record.h"

#include "base/err.h"
#include "journal/tables.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define RECORDS 300u
#define NUMBER 7u /* the mailbox's; its neighbours have records too */

static struct dice dice;
static char directory[PATH_MAX];
static struct db *db;
static struct db_txn *txn;
static struct record records[RECORDS];

static struct record make_record(uint32_t uid)
{
    struct record record = {.uid = uid,
                            .flags = (uint32_t)dice_next(&dice) & RECORD_FLAGS,
                            .successor = dice_below(&dice, 2) ? (uint32_t)dice_next(&dice) : 0,
                            .size = dice_next(&dice),
                            .internal_date = (int64_t)dice_next(&dice),
                            .save_date = (int64_t)dice_next(&dice),
                            .modseq = dice_next(&dice),
                            .append_modseq = dice_next(&dice),
                            .changed = (int64_t)dice_next(&dice),
                            .keywords = dice_next(&dice)};
    for (size_t i = 0; i < GUID_SIZE; i++)
        record.guid.bytes[i] = (uint8_t)dice_next(&dice);
    return record;
}

static int setup(void **state)
{
    struct db_options options = {
        .tables = table_names, .table_count = TABLE_COUNT, .map_size = 1u << 28, .create = true};
    uint32_t uid = 0;
    (void)state;
    scratch_make(directory);
    assert_int_equal(db_open(directory, &options, &db), ERR_OK);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    for (unsigned i = 0; i < RECORDS; i++) {
        /* Runs of UIDs with gaps between, up to the very last. */
        uid += dice_below(&dice, 4) ? 1 : 1 + dice_below(&dice, 50);
        records[i] = make_record(i + 1 < RECORDS ? uid : UINT32_MAX);
        assert_int_equal(record_put(txn, NUMBER, &records[i]), ERR_OK);
        struct record other = make_record(uid);
        assert_int_equal(record_put(txn, NUMBER - 1, &other), ERR_OK);
        assert_int_equal(record_put(txn, NUMBER + 1, &other), ERR_OK);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    db_abort(txn);
    db_close(db);
    scratch_remove(directory);
    return 0;
}

static void assert_same(const struct record *a, const struct record *b)
{
    assert_true(a->uid == b->uid && a->flags == b->flags && a->successor == b->successor);
    assert_true(guid_equal(&a->guid, &b->guid) && a->size == b->size);
    assert_true(a->internal_date == b->internal_date && a->save_date == b->save_date);
    assert_true(a->modseq == b->modseq && a->append_modseq == b->append_modseq);
    assert_true(a->changed == b->changed && a->keywords == b->keywords);
}

static void a_record_comes_back_as_it_was(void **state)
{
    struct record found;
    (void)state;
    for (unsigned i = 0; i < RECORDS; i++) {
        assert_int_equal(record_get(txn, NUMBER, records[i].uid, &found), ERR_OK);
        assert_same(&found, &records[i]);
        if (i && records[i].uid - 1 != records[i - 1].uid)
            assert_int_equal(record_get(txn, NUMBER, records[i].uid - 1, &found), ERR_END);
    }
    assert_int_equal(record_delete(txn, NUMBER, records[5].uid), ERR_OK);
    assert_int_equal(record_get(txn, NUMBER, records[5].uid, &found), ERR_END);
    assert_int_equal(record_put(txn, NUMBER, &records[5]), ERR_OK);
}

static void a_batch_is_what_stands_there(void **state)
{
    struct record found[64];
    (void)state;
    for (unsigned from = 0; from < RECORDS; from++) {
        size_t most = 1 + dice_below(&dice, 64);
        size_t want = RECORDS - from < most ? RECORDS - from : most;
        size_t count;
        assert_int_equal(record_batch(txn, NUMBER, records[from].uid, found, most, &count), ERR_OK);
        assert_int_equal(count, want);
        for (size_t i = 0; i < count; i++)
            assert_same(&found[i], &records[from + i]);
    }
}

static void make_set(struct uidset *uids)
{
    uidset_clear(uids);
    for (unsigned i = dice_below(&dice, 12); i > 0; i--) {
        uint32_t first = dice_below(&dice, records[RECORDS - 2].uid + 20);
        assert_int_equal(uidset_add_range(uids, first, first + dice_below(&dice, 60)), ERR_OK);
    }
    if (dice_below(&dice, 3) == 0)
        assert_int_equal(uidset_add_range(uids, UINT32_MAX - 3, UINT32_MAX), ERR_OK);
}

static void a_batch_in_a_set_is_those_of_the_set(void **state)
{
    struct uidset uids = {0};
    struct record found[32];
    (void)state;
    for (unsigned round = 0; round < 2000; round++) {
        uint32_t from = 1;
        unsigned at = 0;
        size_t most = 1 + dice_below(&dice, 32);
        make_set(&uids);
        while (from) {
            size_t count;
            assert_int_equal(record_batch_in(txn, NUMBER, &uids, &from, found, most, &count),
                             ERR_OK);
            assert_true(count <= most && (count == most || from == 0));
            for (size_t i = 0; i < count; i++) {
                while (at < RECORDS && !uidset_contains(&uids, records[at].uid))
                    at++;
                assert_true(at < RECORDS);
                assert_same(&found[i], &records[at++]);
            }
        }
        while (at < RECORDS)
            assert_false(uidset_contains(&uids, records[at++].uid));
    }
    uidset_free(&uids);
}

/* Puts `value` in the place of record `at`. */
static void put_raw(unsigned at, struct bytes value)
{
    uint8_t key[8];
    save_be32(key, NUMBER);
    save_be32(key + 4, records[at].uid);
    assert_int_equal(db_put(txn, TABLE_RECORDS, bytes_of(key, 8), value), ERR_OK);
}

static void copy_raw(unsigned at, struct buf *out)
{
    uint8_t key[8];
    struct bytes value;
    save_be32(key, NUMBER);
    save_be32(key + 4, records[at].uid);
    assert_int_equal(db_get(txn, TABLE_RECORDS, bytes_of(key, 8), &value), ERR_OK);
    buf_reset(out);
    buf_put(out, value.data, value.size);
}

static void damage_is_told(void **state)
{
    struct buf value = {0};
    struct record found;
    (void)state;
    copy_raw(3, &value);
    for (size_t i = 0; i < value.size; i++) {
        value.data[i] ^= 0x10;
        put_raw(3, buf_view(&value));
        assert_int_equal(record_get(txn, NUMBER, records[3].uid, &found), ERR_CORRUPT);
        value.data[i] ^= 0x10;
    }
    put_raw(3, bytes_of(value.data, value.size - 1));
    assert_int_equal(record_get(txn, NUMBER, records[3].uid, &found), ERR_CORRUPT);
    /* A whole record, in another's place. */
    put_raw(4, buf_view(&value));
    assert_int_equal(record_get(txn, NUMBER, records[4].uid, &found), ERR_CORRUPT);
    put_raw(3, buf_view(&value));
    assert_int_equal(record_get(txn, NUMBER, records[3].uid, &found), ERR_OK);
    assert_int_equal(record_put(txn, NUMBER, &records[4]), ERR_OK);
    buf_free(&value);
}

static void every_field_counts_in_the_digest_of_a_live_record(void **state)
{
    (void)state;
    struct record record = make_record(9);
    record.flags &= ~RECORD_EXPUNGED;
    const uint64_t digest = record_digest(&record);
    struct record others[11];
    for (size_t i = 0; i < 11; i++)
        others[i] = record;
    others[0].uid++;
    others[1].flags ^= FLAG_DRAFT;
    others[2].successor++;
    others[3].guid.bytes[31]++;
    others[4].size++;
    others[5].internal_date++;
    others[6].save_date++;
    others[7].modseq++;
    others[8].append_modseq++;
    others[9].changed++;
    others[10].keywords++;
    for (size_t i = 0; i < 11; i++)
        assert_int_not_equal(record_digest(&others[i]), digest);
    record.flags |= RECORD_EXPUNGED;
    assert_int_equal(record_digest(&record), 0);
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_record_comes_back_as_it_was),
        cmocka_unit_test(a_batch_is_what_stands_there),
        cmocka_unit_test(a_batch_in_a_set_is_those_of_the_set),
        cmocka_unit_test(damage_is_told),
        cmocka_unit_test(every_field_counts_in_the_digest_of_a_live_record),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
