/* What the journal says of messages as they were, and where it cannot say it. */
#include "base/err.h"
#include "mailbox/header.h"
#include "mailbox/undo.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define MESSAGES 4u
#define MENDED 2u
#define LATER 5u

struct place {
    char root[PATH_MAX];
    struct store *store;
    uint64_t since;
    struct former_flags flags[MESSAGES + 1];
};

static uint64_t last(struct place *place)
{
    struct post_facts facts;
    assert_int_equal(post_facts(place->store, &facts), ERR_OK);
    return facts.position.modseq;
}

static int open_place(void **state)
{
    char path[PATH_MAX];
    struct place *place = calloc(1, sizeof *place);
    assert_non_null(place);
    scratch_make(place->root);
    scratch_path(path, place->root, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &place->store), ERR_OK);
    assert_int_equal(post_create(place->store, "INBOX"), ERR_OK);
    for (unsigned i = 0; i < MESSAGES; i++)
        assert_int_equal(post_append(place->store, "INBOX", i, 100), ERR_OK);
    assert_int_equal(post_flag(place->store, "INBOX", "1:4", "before"), ERR_OK);
    place->since = last(place);
    *state = place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    for (size_t i = 0; i <= MESSAGES; i++)
        buf_free(&place->flags[i].keywords);
    store_close(place->store);
    scratch_remove(place->root);
    free(place);
    return 0;
}

/* Another node's record, which has changed since, is put back without an entry. */
static int mend(struct tx *tx, void *arg)
{
    struct header header;
    struct record record;
    uint64_t id = 0;
    int rc = header_next(tx_db(tx), &id, &header);
    if (rc == ERR_OK)
        rc = record_get(tx_db(tx), header.number, MENDED, &record);
    record.modseq = *(uint64_t *)arg;
    return rc ? rc : record_put(tx_db(tx), header.number, &record);
}

static int undo(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct header header;
    struct uidset uids = {0};
    uint64_t id = 0;
    int rc = header_next(tx_db(tx), &id, &header);
    if (rc == ERR_OK)
        rc = uidset_add_range(&uids, 1, LATER);
    if (rc == ERR_OK)
        rc = undo_flags(tx, &header, place->since, &uids, place->flags);
    uidset_free(&uids);
    return rc;
}

static void only_what_was_put_back_from_elsewhere_is_not_to_be_known(void **state)
{
    struct place *place = *state;
    assert_int_equal(post_append(place->store, "INBOX", LATER, 100), ERR_OK);
    uint64_t modseq = last(place);
    assert_int_equal(store_maintain(place->store, mend, &modseq), ERR_OK);
    assert_int_equal(post_flag(place->store, "INBOX", "1,2,5", "after"), ERR_OK);
    assert_int_equal(post_flag(place->store, "INBOX", "1,2,5", "again"), ERR_OK);
    assert_int_equal(store_read(place->store, undo, place), ERR_OK);
    for (uint32_t uid = 1; uid <= LATER; uid++) {
        assert_int_equal(place->flags[uid - 1].uid, uid);
        assert_int_equal(place->flags[uid - 1].mended, uid == MENDED);
    }
}

static void flags_are_as_they_were(void **state)
{
    struct place *place = *state;
    const struct former_flags *flags = place->flags;
    assert_int_equal(post_append(place->store, "INBOX", LATER, 100), ERR_OK);
    assert_int_equal(post_flag(place->store, "INBOX", "1,5", "after"), ERR_OK);
    assert_int_equal(post_flag(place->store, "INBOX", "1", "again"), ERR_OK);
    assert_int_equal(store_read(place->store, undo, place), ERR_OK);
    assert_true(flags[0].known && flags[4].known);
    assert_false(flags[1].known);
    assert_true(bytes_equal(buf_view(&flags[0].keywords), bytes_text("\6before")));
    assert_int_equal(flags[4].keywords.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(flags_are_as_they_were, open_place, close_place),
        cmocka_unit_test_setup_teardown(only_what_was_put_back_from_elsewhere_is_not_to_be_known,
                                        open_place, close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
