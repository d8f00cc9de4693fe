/* Base copies: what the copy is, what a failure leaves, what happens meanwhile. */
#include "base/err.h"
#include "base/times.h"
#include "journal/archive.h"
#include "journal/slots.h"
#include "mailbox/check.h"
#include "mailbox/copy.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "mailbox/view.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

struct place {
    char root[PATH_MAX];
    char from[PATH_MAX];
    char to[PATH_MAX];
    struct store *store;
};

static int open_place(void **state)
{
    static struct place place;
    scratch_make(place.root);
    scratch_path(place.from, place.root, "from");
    scratch_path(place.to, place.root, "to");
    assert_int_equal(store_init(place.from, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(place.from, NULL, &place.store), ERR_OK);
    assert_int_equal(post_create(place.store, "INBOX"), ERR_OK);
    for (unsigned i = 0; i < 40; i++)
        assert_int_equal(post_append(place.store, "INBOX", i, 1000 + 3000 * i), ERR_OK);
    assert_int_equal(post_expunge(place.store, "INBOX", "2:9", true), ERR_OK);
    assert_int_equal(post_flag(place.store, "INBOX", "1:*", "\\Seen,work"), ERR_OK);
    *state = &place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    scratch_remove(place->root);
    return 0;
}

/* All but the newest `keep` entries leave the window. */
static void cut_to(struct store *store, uint64_t keep, bool archive)
{
    struct retained done;
    const struct cut cut = {.entries = keep,
                            .bytes = UINT64_MAX,
                            .before = INT64_MIN,
                            .up_to = UINT64_MAX,
                            .held_from = UINT64_MAX};
    assert_int_equal(store_cut(store, &cut, archive, &done), ERR_OK);
    assert_int_not_equal(done.trimmed, 0);
}

/* What looking at INBOX as it was after this entry says, and its digest. */
static int look_back(struct store *store, uint64_t modseq, uint64_t *digest)
{
    struct owner owner = {.user = "owner"};
    struct name name;
    struct view *view;
    assert_int_equal(name_parse("INBOX", 5, &owner, &name), ERR_OK);
    int rc = view_open_at(store, &name, modseq, &view);
    if (rc)
        return rc;
    *digest = header_digest(view_header(view));
    view_close(view);
    return ERR_OK;
}

static void complain(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

static void is_sound(struct store *store)
{
    uint64_t wrong;
    assert_int_equal(post_check(store), 0);
    assert_int_equal(check_journal(store, complain, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
}

static int get_slot(struct tx *tx, void *arg)
{
    struct slot *slot = arg;
    return slot_get(tx_db(tx), slot->name, slot);
}

static int count_slots(struct tx *tx, void *arg)
{
    struct slot slot = {0};
    unsigned *count = arg;
    int rc;
    *count = 0;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK)
        (*count)++;
    return rc == ERR_END ? ERR_OK : rc;
}

static struct store *copied(struct place *place, struct store_copy *copy)
{
    struct store *store;
    *copy = (struct store_copy){.directory = place->to};
    assert_int_equal(store_copy(place->store, copy), ERR_OK);
    assert_int_equal(store_open(place->to, NULL, &store), ERR_OK);
    return store;
}

static void a_copy_is_a_replica_of_its_own_that_needs_the_tail_only(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    struct post_facts there, here;
    struct store *store = copied(place, &copy);
    assert_int_equal(post_facts(store, &there), ERR_OK);
    assert_int_equal(post_facts(place->store, &here), ERR_OK);
    assert_int_equal(there.node.role, ROLE_REPLICA);
    assert_int_equal(there.node.store_id, here.node.store_id);
    assert_int_not_equal(there.node.node_id, here.node.node_id);
    assert_int_equal(there.node.node_id, copy.node_id);
    assert_true(position_equal(there.position, here.position));
    assert_int_equal(node_digest(&there.node), node_digest(&here.node));
    assert_int_equal(post_check(store), 0);
    assert_int_equal(post_append(place->store, "INBOX", 100, 5000), ERR_OK);
    assert_int_equal(post_ship(place->store, store), ERR_OK);
    assert_int_equal(post_facts(store, &there), ERR_OK);
    assert_int_equal(post_facts(place->store, &here), ERR_OK);
    assert_int_equal(node_digest(&there.node), node_digest(&here.node));
    /* It is still the node that it was made as: nobody takes it for a copied file. */
    assert_int_equal(there.node.node_id, copy.node_id);
    store_close(store);
}

static void its_slot_holds_the_window_at_the_original_only(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    struct slot slot = {0};
    unsigned count;
    struct store *store = copied(place, &copy);
    snprintf(slot.name, sizeof slot.name, "%016" PRIx64, copy.node_id);
    assert_int_equal(store_read(place->store, get_slot, &slot), ERR_OK);
    assert_true(position_equal(slot.position, copy.position));
    assert_int_equal(store_read(store, count_slots, &count), ERR_OK);
    assert_int_equal(count, 0);
    store_close(store);
}

static void what_was_archived_goes_along(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    struct post_facts facts;
    assert_int_equal(post_facts(place->store, &facts), ERR_OK);
    cut_to(place->store, 20, true);
    cut_to(place->store, 10, true);
    struct store *store = copied(place, &copy);
    is_sound(store);
    for (uint64_t modseq = facts.base.modseq + 2; modseq <= copy.position.modseq; modseq++) {
        uint64_t there = 0, here = 0;
        assert_int_equal(look_back(store, modseq, &there), ERR_OK);
        assert_int_equal(look_back(place->store, modseq, &here), ERR_OK);
        assert_int_equal(there, here);
    }
    /* It is the copy's own, and goes on there. */
    assert_int_equal(post_append(place->store, "INBOX", 100, 5000), ERR_OK);
    assert_int_equal(post_ship(place->store, store), ERR_OK);
    cut_to(store, 5, true);
    is_sound(store);
    store_close(store);
}

static void what_was_trimmed_is_trimmed_in_the_copy(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    struct post_facts facts;
    uint64_t digest;
    cut_to(place->store, 10, false);
    struct store *store = copied(place, &copy);
    assert_int_equal(post_facts(store, &facts), ERR_OK);
    assert_int_equal(look_back(store, facts.base.modseq, &digest), ERR_OK);
    assert_int_equal(look_back(store, facts.base.modseq - 1, &digest), ERR_TRIMMED);
    store_close(store);
}

static void an_archive_of_another_branch_stays_behind(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    char path[PATH_MAX];
    cut_to(place->store, 10, true);
    scratch_path(path, place->from, ARCHIVE_DIRECTORY "/00000000000000001000-00000000000000002000");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    struct store *store = copied(place, &copy);
    is_sound(store);
    scratch_path(path, place->to, ARCHIVE_DIRECTORY "/00000000000000001000-00000000000000002000");
    assert_int_equal(access(path, F_OK), -1);
    store_close(store);
}

static void a_copy_can_be_the_master_when_the_original_is_gone(void **state)
{
    struct place *place = *state;
    struct store_copy copy;
    struct post_facts before, after;
    uint64_t past = 0, digest = 0;
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    cut_to(place->store, 10, true);
    assert_int_equal(look_back(place->store, 20, &past), ERR_OK);
    struct store *store = copied(place, &copy);
    assert_int_equal(post_append(store, "INBOX", 100, 5000), ERR_REFUSED);
    assert_int_equal(store_promote(store, false), ERR_OK);
    assert_int_equal(post_append(store, "INBOX", 100, 5000), ERR_OK);
    assert_int_equal(post_facts(store, &after), ERR_OK);
    assert_int_equal(after.node.role, ROLE_MASTER);
    assert_int_equal(after.node.store_id, before.node.store_id);
    assert_true(after.position.modseq > before.position.modseq);
    assert_int_equal(look_back(store, 20, &digest), ERR_OK);
    assert_int_equal(digest, past);
    is_sound(store);
    store_close(store);
}

static void only_an_empty_directory_is_taken(void **state)
{
    struct place *place = *state;
    struct store_copy copy = {.directory = place->to};
    char path[PATH_MAX];
    assert_int_equal(mkdir(place->to, 0700), 0);
    scratch_path(path, place->to, "mail");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
    assert_int_equal(store_copy(place->store, &copy), ERR_EXISTS);
    assert_int_equal(unlink(path), 0);
    /* What a copy that was cut off leaves does not open, and is no obstacle. */
    scratch_path(path, place->to, "copying.mdb");
    file = fopen(path, "w");
    assert_non_null(file);
    fputs("half a copy", file);
    fclose(file);
    struct store *store;
    assert_int_equal(store_open(place->to, NULL, &store), ERR_NOTFOUND);
    store = copied(place, &copy);
    assert_int_equal(access(path, F_OK), -1);
    store_close(store);
    assert_int_equal(store_copy(place->store, &copy), ERR_EXISTS);
}

static void leave_half(const char *directory, const char *name)
{
    char path[PATH_MAX];
    scratch_path(path, directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs("half a copy", file);
    fclose(file);
}

static void an_archive_is_left_over_only_beside_half_a_copy(void **state)
{
    struct place *place = *state;
    struct store_copy copy = {.directory = place->to};
    char archive[PATH_MAX];
    cut_to(place->store, 10, true);
    assert_int_equal(mkdir(place->to, 0700), 0);
    scratch_path(archive, place->to, ARCHIVE_DIRECTORY);
    assert_int_equal(mkdir(archive, 0700), 0);
    leave_half(archive, "00000000000000000000-00000000000000000040");
    assert_int_equal(store_copy(place->store, &copy), ERR_EXISTS);
    leave_half(place->to, "copying.mdb");
    struct store *store = copied(place, &copy);
    is_sound(store);
    store_close(store);
}

/* After each failure: no store, no slot, no directory; and the original goes on. */
static void fail_each(struct place *place, unsigned kinds, int error)
{
    struct store *store;
    unsigned before, count;
    for (uint64_t nth = 1; nth < 2000; nth++) {
        struct store_copy copy = {.directory = place->to};
        assert_int_equal(store_read(place->store, count_slots, &before), ERR_OK);
        faults_arm(kinds, nth, error);
        int rc = store_copy(place->store, &copy);
        bool failed = faults_disarm();
        if (!failed) {
            assert_int_equal(rc, ERR_OK);
            assert_int_equal(post_check(place->store), 0);
            return;
        }
        /* What came last was its position in the slot that is there already. */
        if (rc == ERR_OK) {
            assert_int_equal(store_open(place->to, NULL, &store), ERR_OK);
            store_close(store);
            scratch_remove(place->to);
            continue;
        }
        assert_int_equal(store_read(place->store, count_slots, &count), ERR_OK);
        assert_int_equal(count, before);
        assert_int_equal(access(place->to, F_OK), -1);
    }
    fail_msg("it never came through");
}

static void a_failed_copy_leaves_nothing_that_opens(void **state)
{
    cut_to(((struct place *)*state)->store, 10, true);
    fail_each(*state, FAULT_WRITE, ENOSPC);
    scratch_remove(((struct place *)*state)->to);
    fail_each(*state, FAULT_SYNC, EIO);
    scratch_remove(((struct place *)*state)->to);
    fail_each(*state, FAULT_RENAME, EIO);
}

struct writer {
    struct store *store;
    atomic_bool stop;
    int rc;
};

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    struct retained done;
    for (unsigned i = 0; writer->rc == ERR_OK && !writer->stop; i++) {
        writer->rc = post_append(writer->store, "INBOX", 1000 + i, 2000);
        if (writer->rc == ERR_OK && i % 32 == 31)
            writer->rc = store_retain(writer->store, times_now(), true, &done);
    }
    return NULL;
}

static int keep_little(struct tx *tx, void *arg)
{
    const struct retention policy = {.entries = 5, .archive = true};
    (void)arg;
    return retention_save(tx_db(tx), &policy);
}

static int drop_slot(struct tx *tx, void *arg)
{
    const struct store_copy *copy = arg;
    char name[SLOT_NAME_SIZE];
    snprintf(name, sizeof name, "%016" PRIx64, copy->node_id);
    return slot_drop(tx_db(tx), name);
}

/* The writer also cuts the window, as far as the copies' slots let it. */
static void commits_go_on_while_a_copy_is_made(void **state)
{
    struct place *place = *state;
    struct writer writer = {.store = place->store};
    pthread_t thread;
    struct post_facts there, here;
    assert_int_equal(store_maintain(place->store, keep_little, NULL), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, write_on, &writer), 0);
    for (unsigned i = 0; i < 5; i++) {
        struct store_copy copy;
        struct store *store = copied(place, &copy);
        is_sound(store);
        uint64_t digest;
        assert_int_equal(look_back(store, 3, &digest), ERR_OK);
        assert_int_equal(post_ship(place->store, store), ERR_OK);
        store_close(store);
        if (i == 4)
            break;
        scratch_remove(place->to);
        assert_int_equal(store_maintain(place->store, drop_slot, &copy), ERR_OK);
    }
    writer.stop = true;
    pthread_join(thread, NULL);
    assert_int_equal(writer.rc, ERR_OK);
    struct store *store;
    assert_int_equal(store_open(place->to, NULL, &store), ERR_OK);
    assert_int_equal(post_ship(place->store, store), ERR_OK);
    assert_int_equal(post_facts(store, &there), ERR_OK);
    assert_int_equal(post_facts(place->store, &here), ERR_OK);
    assert_int_equal(node_digest(&there.node), node_digest(&here.node));
    store_close(store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_copy_is_a_replica_of_its_own_that_needs_the_tail_only,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(its_slot_holds_the_window_at_the_original_only, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(what_was_archived_goes_along, open_place, close_place),
        cmocka_unit_test_setup_teardown(what_was_trimmed_is_trimmed_in_the_copy, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(an_archive_of_another_branch_stays_behind, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(a_copy_can_be_the_master_when_the_original_is_gone,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(an_archive_is_left_over_only_beside_half_a_copy, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(only_an_empty_directory_is_taken, open_place, close_place),
        cmocka_unit_test_setup_teardown(a_failed_copy_leaves_nothing_that_opens, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(commits_go_on_while_a_copy_is_made, open_place,
                                        close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
