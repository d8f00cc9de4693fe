/* Marks as a store keeps them: what one entry says was taken in of other branches. */
#include "base/err.h"
#include "journal/epoch.h"
#include "mailbox/edit.h"
#include "mailbox/mailbox.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MARKS 2u

static const struct epoch_id other = {2, 99};

static char root[PATH_MAX];
static struct store *master;
static struct store *replica;

static int make(void **state)
{
    (void)state;
    scratch_make(root);
    assert_int_equal(post_store(root, "a", ROLE_MASTER, &master), ERR_OK);
    assert_int_equal(post_store(root, "b", ROLE_REPLICA, &replica), ERR_OK);
    assert_int_equal(post_create(master, "INBOX"), ERR_OK);
    return 0;
}

static int clear(void **state)
{
    (void)state;
    store_close(master);
    store_close(replica);
    scratch_remove(root);
    return 0;
}

static int open_box(struct tx *tx, struct box **box)
{
    struct header header;
    uint64_t id = 0;
    int rc = header_next(tx_db(tx), &id, &header);
    return rc ? rc : tx_box(tx, header.id, box);
}

/* One entry about INBOX says both. */
static int put_marks(struct tx *tx, void *arg)
{
    struct change *change;
    struct buf body = {0};
    struct box *box;
    int rc = open_box(tx, &box);
    if (rc == ERR_OK)
        rc = edit_begin(tx, box, ENTRY_MARK, &change);
    if (rc)
        return rc;
    mark_body_encode(arg, MARKS, NULL, 0, &body);
    change->mark = buf_view(&body);
    rc = edit_finish(tx, box, change, false);
    buf_free(&body);
    return rc;
}

struct kept {
    struct position own;  /* what was taken in, as a mark about INBOX has it */
    struct position note; /* that the epoch began anew */
    uint64_t own_count;
};

static int read_kept(struct tx *tx, void *arg)
{
    struct kept *kept = arg;
    struct box *box;
    int rc = open_box(tx, &box);
    if (rc)
        return rc;
    struct mark mark = {
        .mailbox = box->header.id, .modseq = tx_window(tx)->last.modseq, .epoch = other};
    struct mark next = {.mailbox = box->header.id};
    rc = mark_get(tx_db(tx), &mark, &kept->own);
    mark.mailbox = MARK_EPOCH;
    if (rc == ERR_OK)
        rc = mark_get(tx_db(tx), &mark, &kept->note);
    rc = rc == ERR_END ? ERR_OK : rc;
    while (rc == ERR_OK && mark_next(tx_db(tx), &next) == ERR_OK && next.mailbox == box->header.id)
        kept->own_count++;
    return rc;
}

static struct kept keep(struct mark first, struct mark second, struct store *store)
{
    struct mark marks[MARKS] = {first, second};
    struct kept kept = {.own_count = 0};
    assert_int_equal(store_commit(master, put_marks, marks, NULL), ERR_OK);
    assert_int_equal(post_ship(master, replica), ERR_OK);
    assert_int_equal(store_read(store, read_kept, &kept), ERR_OK);
    return kept;
}

/* What the other branch had taken in before may be of the same epoch, and about the whole store. */
static void of_two_marks_under_one_key_the_further_stays(void **state)
{
    const struct mark near = {.epoch = other, .taken = {20, 21}};
    const struct mark far = {.epoch = other, .taken = {30, 31}};
    struct store *const stores[] = {master, replica};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct kept kept = keep(near, far, stores[i]);
        assert_true(position_equal(kept.own, far.taken));
        kept = keep(far, near, stores[i]);
        assert_true(position_equal(kept.own, far.taken));
        assert_int_equal(kept.own_count, 2 * (i + 1));
    }
}

static void a_note_that_an_epoch_began_anew_and_how_far_it_was_taken_in_are_two_marks(void **state)
{
    const struct mark taken = {.epoch = other, .taken = {20, 21}};
    const struct mark note = {.mailbox = MARK_EPOCH, .epoch = other, .taken = {.modseq = 11}};
    struct store *const stores[] = {master, replica};
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        bool note_first = i % 2;
        struct kept kept =
            keep(note_first ? note : taken, note_first ? taken : note, stores[i / 2]);
        assert_true(position_equal(kept.own, taken.taken));
        assert_true(position_equal(kept.note, note.taken));
        assert_int_equal(kept.own_count, i + 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(of_two_marks_under_one_key_the_further_stays, make, clear),
        cmocka_unit_test_setup_teardown(
            a_note_that_an_epoch_began_anew_and_how_far_it_was_taken_in_are_two_marks, make, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
