/* Trails: the journal's entries in order, and the same from a file, which is trusted in nothing. */
#include "base/err.h"
#include "mailbox/mailbox.h"
#include "mailbox/trail.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define ENTRIES 40u

struct place {
    char directory[PATH_MAX];
    char file[PATH_MAX];
    struct store *store;
    struct buf entries;
    size_t ends[ENTRIES + 1]; /* where each entry ends; 0 first */
    size_t count;
};

static int fill(struct tx *tx, void *arg)
{
    struct owner owner = {.user = "owner"};
    struct name name;
    struct mailbox *mailbox;
    unsigned value;
    (void)arg;
    int rc = name_parse("INBOX", 5, &owner, &name);
    if (rc == ERR_OK)
        rc = mailbox_create(tx, &name, NULL);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &name, NULL, &mailbox);
    for (value = 0; rc == ERR_OK && value < ENTRIES - 2; value++)
        rc = mailbox_meta_set(tx, mailbox, NULL, "/comment", bytes_of(&value, sizeof value));
    return rc;
}

static int copy(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct position last;
    buf_reset(&place->entries);
    return journal_copy(tx_db(tx), 0, SIZE_MAX, &place->entries, &last);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    scratch_make(place->directory);
    scratch_path(place->file, place->directory, "entries");
    char path[PATH_MAX];
    scratch_path(path, place->directory, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &place->store), ERR_OK);
    assert_int_equal(store_commit(place->store, fill, NULL, NULL), ERR_OK);
    assert_int_equal(store_read(place->store, copy, place), ERR_OK);
    for (size_t at = 0; at < place->entries.size; place->ends[++place->count] = at)
        at += entry_size(bytes_of(place->entries.data + at, place->entries.size - at));
    assert_int_equal(place->count, ENTRIES);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    buf_free(&place->entries);
    scratch_remove(place->directory);
    free(place);
    return 0;
}

/* Reads to the end; how many entries there were, each the next one behind `before`. */
static int read_all(struct trail *trail, uint64_t before, size_t *count)
{
    struct entry entry;
    size_t size;
    int rc;
    *count = 0;
    while ((rc = trail_next(trail, &entry, &size)) == ERR_OK) {
        assert_int_equal(entry.modseq, ++before);
        ++*count;
    }
    return rc;
}

/* The file with these bytes: what becomes of reading it. */
static int read_file(const struct place *place, struct bytes bytes, size_t *count)
{
    struct trail *trail;
    struct entry entry;
    size_t size;
    int rc;
    FILE *file = fopen(place->file, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes.data, 1, bytes.size, file), bytes.size);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(trail_open_file(place->file, &trail), ERR_OK);
    *count = 0;
    while ((rc = trail_next(trail, &entry, &size)) == ERR_OK)
        ++*count;
    trail_close(trail);
    return rc;
}

static void the_journal_is_read_in_order_and_goes_on_when_there_is_more(void **state)
{
    struct place *place = *state;
    struct trail *trail;
    uint64_t oldest;
    size_t count;
    assert_int_equal(trail_open(place->store, &trail), ERR_OK);
    assert_int_equal(trail_oldest(trail, 0, &oldest), ERR_OK);
    assert_int_equal(oldest, 0);
    assert_int_equal(read_all(trail, 0, &count), ERR_END);
    assert_int_equal(count, ENTRIES);
    assert_int_equal(store_commit(place->store, fill, NULL, NULL), ERR_EXISTS);
    assert_int_equal(read_all(trail, ENTRIES, &count), ERR_END);
    assert_int_equal(count, 0);
    assert_int_equal(trail_seek(trail, ENTRIES - 3), ERR_OK);
    assert_int_equal(read_all(trail, ENTRIES - 3, &count), ERR_END);
    assert_int_equal(count, 3);
    trail_close(trail);
}

static void a_file_gives_the_same_entries_again_and_again(void **state)
{
    struct place *place = *state;
    struct trail *trail;
    size_t count;
    assert_int_equal(read_file(place, buf_view(&place->entries), &count), ERR_END);
    assert_int_equal(count, ENTRIES);
    assert_int_equal(trail_open_file(place->file, &trail), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(trail_seek(trail, 0), ERR_OK);
        assert_int_equal(read_all(trail, 0, &count), ERR_END);
        assert_int_equal(count, ENTRIES);
    }
    trail_close(trail);
    /* A tail begins anywhere. */
    struct bytes tail =
        bytes_of(place->entries.data + place->ends[5], place->entries.size - place->ends[5]);
    assert_int_equal(read_file(place, tail, &count), ERR_END);
    assert_int_equal(count, ENTRIES - 5);
}

static void a_damaged_file_is_found_out_at_the_damage(void **state)
{
    struct place *place = *state;
    size_t count;
    for (size_t at = 0; at < place->entries.size; at++) {
        uint8_t *byte = &place->entries.data[at];
        uint8_t bit = (uint8_t)(1u << (at % 8));
        size_t whole = 0;
        while (place->ends[whole + 1] <= at)
            whole++;
        *byte ^= bit;
        assert_int_equal(read_file(place, buf_view(&place->entries), &count), ERR_CORRUPT);
        assert_int_equal(count, whole);
        *byte ^= bit;
    }
}

static void a_file_that_is_cut_short_is_found_out(void **state)
{
    struct place *place = *state;
    size_t count, whole = 0;
    for (size_t size = 0; size < place->entries.size; size++) {
        bool between = size == place->ends[whole];
        int rc = read_file(place, bytes_of(place->entries.data, size), &count);
        assert_int_equal(rc, between ? ERR_END : ERR_CORRUPT);
        assert_int_equal(count, between ? whole : whole - 1);
        whole += size == place->ends[whole];
    }
}

static void an_entry_that_is_left_out_or_comes_twice_is_found_out(void **state)
{
    struct place *place = *state;
    struct buf other = {0};
    size_t count;
    buf_put(&other, place->entries.data, place->ends[7]);
    buf_put(&other, place->entries.data + place->ends[8], place->entries.size - place->ends[8]);
    assert_int_equal(read_file(place, buf_view(&other), &count), ERR_CORRUPT);
    assert_int_equal(count, 7);
    buf_reset(&other);
    buf_put(&other, place->entries.data, place->ends[7]);
    buf_put(&other, place->entries.data + place->ends[6], place->entries.size - place->ends[6]);
    assert_int_equal(read_file(place, buf_view(&other), &count), ERR_CORRUPT);
    assert_int_equal(count, 7);
    buf_free(&other);
}

static void a_file_that_is_not_there(void **state)
{
    struct place *place = *state;
    struct trail *trail;
    assert_int_equal(trail_open_file(place->file, &trail), ERR_NOTFOUND);
    assert_null(trail);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_journal_is_read_in_order_and_goes_on_when_there_is_more),
        TEST(a_file_gives_the_same_entries_again_and_again),
        TEST(a_damaged_file_is_found_out_at_the_damage),
        TEST(a_file_that_is_cut_short_is_found_out),
        TEST(an_entry_that_is_left_out_or_comes_twice_is_found_out),
        TEST(a_file_that_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
