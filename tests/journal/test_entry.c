/* Entries: their bytes come back, no other bytes are taken for them, and the chain ties them. */
#include "journal/entry.h"

#include "base/err.h"
#include "base/hash.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

static struct dice dice;

/* Views point to static memory: one entry at a time. */
static struct entry make_entry(void)
{
    static uint8_t body[300];
    static char actor[ACTOR_MAX_SIZE];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (uint8_t)dice_next(&dice);
    memset(actor, 'a', sizeof actor);
    struct entry entry = {
        .modseq = 1 + dice_next(&dice) % UINT32_MAX,
        .time = (int64_t)dice_next(&dice),
        .mailbox = dice_next(&dice),
        .digest = dice_next(&dice),
        .epoch = (uint32_t)dice_next(&dice),
        .kind = (enum entry_kind)dice_below(&dice, ENTRY_KIND_COUNT),
        .end_of_commit = dice_below(&dice, 2),
        .actor = bytes_of(actor, dice_below(&dice, ACTOR_MAX_SIZE + 1)),
        .body = bytes_of(body, dice_below(&dice, sizeof body)),
    };
    entry.previous = dice_next(&dice) % entry.modseq;
    return entry;
}

static void assert_same(const struct entry *a, const struct entry *b)
{
    assert_true(a->modseq == b->modseq && a->chain == b->chain && a->time == b->time);
    assert_true(a->mailbox == b->mailbox && a->previous == b->previous && a->digest == b->digest);
    assert_true(a->epoch == b->epoch && a->kind == b->kind);
    assert_int_equal(a->end_of_commit, b->end_of_commit);
    assert_true(bytes_equal(a->actor, b->actor) && bytes_equal(a->body, b->body));
}

static void an_entry_comes_back_as_it_was(void **state)
{
    struct buf out = {0};
    uint64_t chain = entry_chain_start(7);
    (void)state;
    for (int i = 0; i < 2000; i++) {
        struct entry entry = make_entry();
        struct entry back;
        size_t start = out.size;
        assert_int_equal(entry_encode(&out, &entry, chain), ERR_OK);
        struct bytes all = bytes_of(out.data + start, out.size - start);
        assert_int_equal(entry_size(all), all.size);
        assert_int_equal(entry_decode(all, &back), ERR_OK);
        assert_same(&entry, &back);
        assert_int_equal(entry_chain(all, chain), entry.chain);
        assert_int_not_equal(entry_chain(all, chain + 1), entry.chain);
        chain = entry.chain;
        if (i % 100 == 0)
            buf_reset(&out);
    }
    buf_free(&out);
}

static void no_changed_or_missing_byte_goes_unnoticed(void **state)
{
    struct buf out = {0};
    struct entry entry = make_entry();
    struct entry back;
    (void)state;
    assert_int_equal(entry_encode(&out, &entry, 1), ERR_OK);
    for (size_t i = 0; i < out.size; i++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            out.data[i] ^= (uint8_t)(1u << bit);
            assert_int_not_equal(entry_decode(buf_view(&out), &back), ERR_OK);
            out.data[i] ^= (uint8_t)(1u << bit);
        }
        /* In memory of its own, so that reading behind it would be noticed. */
        uint8_t *cut = malloc(i + 1);
        assert_non_null(cut);
        memcpy(cut, out.data, i);
        assert_int_equal(entry_decode(bytes_of(cut, i), &back), ERR_CORRUPT);
        assert_int_equal(entry_size(bytes_of(cut, i)), 0);
        free(cut);
    }
    assert_int_equal(entry_decode(buf_view(&out), &back), ERR_OK);
    buf_free(&out);
}

static void ending_a_commit_seals_the_entry_again(void **state)
{
    struct buf out = {0};
    struct entry back;
    (void)state;
    struct entry entry = make_entry();
    entry.end_of_commit = false;
    assert_int_equal(entry_encode(&out, &entry, 5), ERR_OK);
    uint64_t before = entry.chain;
    entry_end_commit(out.data, out.size, 5, &entry);
    assert_true(entry.end_of_commit);
    assert_int_not_equal(entry.chain, before);
    assert_int_equal(entry_decode(buf_view(&out), &back), ERR_OK);
    assert_same(&entry, &back);
    assert_int_equal(entry_chain(buf_view(&out), 5), entry.chain);
    /* The same as if it had been so from the start. */
    struct buf again = {0};
    struct entry ended = entry;
    assert_int_equal(entry_encode(&again, &ended, 5), ERR_OK);
    assert_true(bytes_equal(buf_view(&out), buf_view(&again)));
    buf_free(&out);
    buf_free(&again);
}

/* Bytes that say something else, under a CRC-32 that is right. */
static int decode_with(struct buf *out, size_t at, uint8_t value)
{
    struct entry back;
    uint8_t old = out->data[at];
    uint32_t crc = load_u32(out->data);
    out->data[at] = value;
    save_u32(out->data, hash_crc32(out->data + 4, out->size - 4));
    int rc = entry_decode(buf_view(out), &back);
    out->data[at] = old;
    save_u32(out->data, crc);
    return rc;
}

static void what_no_encoder_writes_is_refused(void **state)
{
    struct buf out = {0};
    struct entry entry = make_entry();
    (void)state;
    entry.modseq = 9;
    entry.previous = 8;
    assert_int_equal(entry_encode(&out, &entry, 5), ERR_OK);
    assert_int_equal(decode_with(&out, 16, ENTRY_VERSION + 1), ERR_NEWER);
    assert_int_equal(decode_with(&out, 16, 0), ERR_CORRUPT);
    assert_int_equal(decode_with(&out, 17, ENTRY_KIND_COUNT), ERR_CORRUPT);
    assert_int_equal(decode_with(&out, 18, 2), ERR_CORRUPT);
    assert_int_equal(decode_with(&out, 19, (uint8_t)(entry.actor.size + 1)), ERR_CORRUPT);
    assert_int_equal(decode_with(&out, 68, 1), ERR_CORRUPT);
    assert_int_equal(decode_with(&out, 48, 9), ERR_CORRUPT); /* the one before it is itself */
    buf_free(&out);
}

static void an_entry_has_at_most_its_size(void **state)
{
    struct buf out = {0};
    struct buf body = {0};
    struct entry entry = {.modseq = 1};
    struct entry back;
    (void)state;
    size_t most = ENTRY_MAX_SIZE - ENTRY_HEADER_SIZE;
    assert_non_null(buf_reserve(&body, most + 1));
    memset(body.data, 7, most + 1);
    entry.body = bytes_of(body.data, most + 1);
    assert_int_equal(entry_encode(&out, &entry, 0), ERR_INVALID);
    assert_int_equal(out.size, 0);
    entry.body.size = most;
    assert_int_equal(entry_encode(&out, &entry, 0), ERR_OK);
    assert_int_equal(entry_decode(buf_view(&out), &back), ERR_OK);
    assert_same(&entry, &back);
    buf_free(&out);
    buf_free(&body);
}

static void kinds_have_names(void **state)
{
    enum entry_kind kind;
    (void)state;
    for (unsigned i = 0; i < ENTRY_KIND_COUNT; i++) {
        assert_true(entry_kind_parse(entry_kind_name((enum entry_kind)i), &kind));
        assert_int_equal(kind, i);
    }
    assert_false(entry_kind_parse("frobnicate", &kind));
    assert_string_equal(entry_kind_name(ENTRY_KIND_COUNT), "unknown");
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_entry_comes_back_as_it_was),
        cmocka_unit_test(no_changed_or_missing_byte_goes_unnoticed),
        cmocka_unit_test(ending_a_commit_seals_the_entry_again),
        cmocka_unit_test(what_no_encoder_writes_is_refused),
        cmocka_unit_test(an_entry_has_at_most_its_size),
        cmocka_unit_test(kinds_have_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
