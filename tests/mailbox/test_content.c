/* Content: what goes in comes out byte for byte, whatever its size, once however often it is
 * referred to, and nothing is left of what nobody refers to. */
#include "mailbox/draft.h"

#include "base/err.h"
#include "journal/tables.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB (1u << 20)

static char directory[PATH_MAX];
static struct db *db;
static struct dice dice;

static int setup(void **state)
{
    (void)state;
    struct db_options options = {
        .tables = table_names, .table_count = TABLE_COUNT, .map_size = 1u << 30, .create = true};
    scratch_make(directory);
    return db_open(directory, &options, &db);
}

static int teardown(void **state)
{
    (void)state;
    db_close(db);
    scratch_remove(directory);
    return 0;
}

static uint64_t rows(enum table table)
{
    struct db_txn *txn;
    uint64_t count;
    assert_int_equal(db_begin_read(db, &txn), ERR_OK);
    assert_int_equal(db_count(txn, table, &count), ERR_OK);
    db_abort(txn);
    return count;
}

/* Bytes that deflate (text) or do not (noise), NULs among both. */
static uint8_t *make_bytes(size_t size, bool noise)
{
    uint8_t *bytes = malloc(size + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < size; i++)
        bytes[i] = noise ? (uint8_t)dice_next(&dice) : (uint8_t) "a b\0\r\n"[dice_below(&dice, 6)];
    return bytes;
}

static struct draft *make_draft(enum draft_form form, const uint8_t *bytes, size_t size,
                                size_t piece)
{
    struct draft *draft;
    assert_int_equal(draft_open(db, form, &draft), ERR_OK);
    for (size_t at = 0; at < size; at += piece)
        assert_int_equal(draft_write(draft, bytes + at, size - at < piece ? size - at : piece),
                         ERR_OK);
    assert_int_equal(draft_finish(draft), ERR_OK);
    return draft;
}

/* Adopts it with a reference, and closes it. */
static struct guid keep(struct draft *draft)
{
    struct db_txn *txn;
    struct guid guid = *draft_guid(draft);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(draft_adopt(txn, draft, NULL), ERR_OK);
    assert_int_equal(content_ref(txn, &guid), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
    draft_close(draft);
    return guid;
}

static void let_go(const struct guid *guid)
{
    struct db_txn *txn;
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(content_unref(txn, guid), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
}

static struct content look_up(const struct guid *guid)
{
    struct db_txn *txn;
    struct content content;
    assert_int_equal(db_begin_read(db, &txn), ERR_OK);
    assert_int_equal(content_get(txn, guid, &content), ERR_OK);
    db_abort(txn);
    return content;
}

static void expect_bytes(const struct guid *guid, const uint8_t *bytes, size_t size)
{
    struct content_reader *reader;
    uint8_t piece[10007];
    size_t at = 0;
    size_t got = 1;
    assert_int_equal(content_open(db, guid, &reader), ERR_OK);
    while (got) {
        assert_int_equal(content_read(reader, piece, sizeof piece, &got), ERR_OK);
        assert_true(got <= size - at);
        assert_memory_equal(piece, bytes + at, got);
        at += got;
    }
    assert_int_equal(at, size);
    content_close(reader);
    struct content content = look_up(guid);
    assert_int_equal(content.size, size);
    assert_int_equal(content_verify(db, &content), ERR_OK);
}

static void copy_deflated(const struct guid *guid, struct buf *out)
{
    struct db_txn *txn;
    struct content content = look_up(guid);
    int rc = ERR_OK;
    assert_int_equal(db_begin_read(db, &txn), ERR_OK);
    while (rc == ERR_OK)
        rc = content_copy(txn, &content, out->size, 100000, out);
    assert_int_equal(rc, ERR_END);
    assert_int_equal(out->size, content.stored);
    db_abort(txn);
}

/* In, out, shipped in its deflated form and in again: the same bytes under the same name. */
static void round_trip(size_t size, bool noise, size_t piece)
{
    struct buf shipped = {0};
    struct buf again = {0};
    uint8_t *bytes = make_bytes(size, noise);
    struct guid guid = keep(make_draft(DRAFT_RAW, bytes, size, piece));
    expect_bytes(&guid, bytes, size);
    copy_deflated(&guid, &shipped);
    let_go(&guid);
    struct guid there = keep(make_draft(DRAFT_DEFLATED, shipped.data, shipped.size, piece));
    assert_true(guid_equal(&guid, &there));
    expect_bytes(&there, bytes, size);
    copy_deflated(&there, &again);
    assert_int_equal(again.size, shipped.size);
    assert_memory_equal(again.data, shipped.data, shipped.size);
    let_go(&there);
    buf_free(&shipped);
    buf_free(&again);
    free(bytes);
}

static void bytes_of_every_size_come_back(void **state)
{
    /* Around a leaf page's share, whole pages, the largest chunk, what is deflated at once, what is
     * staged. */
    static const size_t sizes[] = {0,          1,      100,     1895, 1900,    4071,
                                   4076,       4080,   5980,    8168, 65511,   65512,
                                   65520,      131032, MIB - 1, MIB,  MIB + 1, MIB + MIB / 8 + 40,
                                   3 * MIB + 7};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        round_trip(sizes[i], true, 65536);
        round_trip(sizes[i], false, 65536);
    }
    for (int i = 0; i < 50; i++)
        round_trip(dice_below(&dice, 200000), i % 2, 1 + dice_below(&dice, 70000));
    assert_int_equal(rows(TABLE_GUIDS), 0);
    assert_int_equal(rows(TABLE_CONTENT), 0);
    assert_int_equal(rows(TABLE_STAGED), 0);
}

static void content_is_kept_once_and_until_the_last_reference_goes(void **state)
{
    static const uint8_t text[] = "Subject: twice\r\n\r\nthe same\r\n";
    (void)state;
    struct guid guid = keep(make_draft(DRAFT_RAW, text, sizeof text, 10));
    uint64_t chunks = rows(TABLE_CONTENT);
    struct guid same = keep(make_draft(DRAFT_RAW, text, sizeof text, 3));
    assert_true(guid_equal(&guid, &same));
    assert_int_equal(look_up(&guid).references, 2);
    assert_int_equal(rows(TABLE_CONTENT), chunks);
    let_go(&guid);
    expect_bytes(&guid, text, sizeof text);
    let_go(&guid);
    assert_int_equal(rows(TABLE_GUIDS), 0);
    assert_int_equal(rows(TABLE_CONTENT), 0);
}

static void a_draft_tells_whether_it_introduces_its_content(void **state)
{
    static const uint8_t text[] = "new";
    struct db_txn *txn;
    bool introduced = false;
    (void)state;
    struct draft *draft = make_draft(DRAFT_RAW, text, sizeof text, 1);
    struct guid guid = *draft_guid(draft);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(draft_adopt(txn, draft, &introduced), ERR_OK);
    assert_true(introduced);
    assert_int_equal(content_ref(txn, &guid), ERR_OK);
    assert_int_equal(draft_adopt(txn, draft, &introduced), ERR_OK);
    assert_false(introduced);
    db_abort(txn);
    /* The transaction was not committed: the same draft may be used in the next. */
    (void)keep(draft);
    expect_bytes(&guid, text, sizeof text);
    let_go(&guid);
}

static void a_draft_that_is_given_up_leaves_nothing(void **state)
{
    uint8_t *bytes = make_bytes(4 * MIB, true);
    struct draft *draft;
    (void)state;
    assert_int_equal(draft_open(db, DRAFT_RAW, &draft), ERR_OK);
    assert_int_equal(draft_write(draft, bytes, 4 * MIB), ERR_OK);
    assert_true(rows(TABLE_CONTENT) > 0); /* it was staged */
    assert_int_equal(rows(TABLE_STAGED), 1);
    draft_close(draft);
    draft = make_draft(DRAFT_RAW, bytes, 3 * MIB, MIB);
    draft_close(draft);
    assert_int_equal(rows(TABLE_CONTENT), 0);
    assert_int_equal(rows(TABLE_STAGED), 0);
    free(bytes);
}

static void deflated_bytes_are_proved_before_they_are_taken(void **state)
{
    struct buf good = {0};
    struct draft *draft;
    (void)state;
    uint8_t *bytes = make_bytes(3000, false);
    struct guid guid = keep(make_draft(DRAFT_RAW, bytes, 3000, 3000));
    copy_deflated(&guid, &good);
    let_go(&guid);

    assert_int_equal(draft_open(db, DRAFT_DEFLATED, &draft), ERR_OK);
    assert_int_equal(draft_write(draft, good.data, good.size - 1), ERR_OK);
    assert_int_equal(draft_finish(draft), ERR_CORRUPT); /* cut short */
    draft_close(draft);

    assert_int_equal(draft_open(db, DRAFT_DEFLATED, &draft), ERR_OK);
    assert_int_equal(draft_write(draft, good.data, good.size), ERR_OK);
    assert_int_equal(draft_write(draft, "x", 1), ERR_CORRUPT); /* something behind its end */
    draft_close(draft);

    assert_int_equal(draft_open(db, DRAFT_DEFLATED, &draft), ERR_OK);
    assert_int_equal(draft_write(draft, "not deflated", 12), ERR_CORRUPT);
    draft_close(draft);
    assert_int_equal(rows(TABLE_GUIDS), 0);
    buf_free(&good);
    free(bytes);
}

static void content_that_is_not_here_is_gone(void **state)
{
    struct guid guid = {.bytes = {1, 2, 3}};
    struct content_reader *reader;
    struct db_txn *txn;
    (void)state;
    assert_int_equal(content_open(db, &guid, &reader), ERR_GONE);
    /* Referred to, but content-less. */
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(content_ref(txn, &guid), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
    assert_int_equal(content_open(db, &guid, &reader), ERR_GONE);
    let_go(&guid);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(content_unref(txn, &guid), ERR_CORRUPT);
    db_abort(txn);
}

static void a_changed_byte_is_noticed(void **state)
{
    uint8_t *bytes = make_bytes(50000, true);
    (void)state;
    struct guid guid = keep(make_draft(DRAFT_RAW, bytes, 50000, 50000));
    struct content content = look_up(&guid);
    struct db_txn *txn;
    struct db_cursor *cursor;
    struct bytes key, value;
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(db_cursor_open(txn, TABLE_CONTENT, &cursor), ERR_OK);
    assert_int_equal(db_first(cursor, &key, &value), ERR_OK);
    struct buf k = {0}, changed = {0};
    buf_put(&k, key.data, key.size);
    buf_put(&changed, value.data, value.size);
    changed.data[changed.size / 2] ^= 1;
    db_cursor_close(cursor);
    assert_int_equal(db_put(txn, TABLE_CONTENT, buf_view(&k), buf_view(&changed)), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
    assert_int_equal(content_verify(db, &content), ERR_CORRUPT);
    let_go(&guid);
    buf_free(&k);
    buf_free(&changed);
    free(bytes);
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_of_every_size_come_back),
        cmocka_unit_test(content_is_kept_once_and_until_the_last_reference_goes),
        cmocka_unit_test(a_draft_tells_whether_it_introduces_its_content),
        cmocka_unit_test(a_draft_that_is_given_up_leaves_nothing),
        cmocka_unit_test(deflated_bytes_are_proved_before_they_are_taken),
        cmocka_unit_test(content_that_is_not_here_is_gone),
        cmocka_unit_test(a_changed_byte_is_noticed),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
