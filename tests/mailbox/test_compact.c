/* Compaction: a smaller file and nothing else, whoever has the store open, whatever fails. */
#include "base/err.h"
#include "mailbox/copy.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define MESSAGES 40u

struct place {
    char root[PATH_MAX];
    char path[PATH_MAX];
    struct store *store;
};

static int open_place(void **state)
{
    static struct place place;
    scratch_make(place.root);
    scratch_path(place.path, place.root, "store");
    assert_int_equal(store_init(place.path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(place.path, NULL, &place.store), ERR_OK);
    assert_int_equal(post_create(place.store, "INBOX"), ERR_OK);
    for (unsigned i = 0; i < MESSAGES; i++)
        assert_int_equal(post_append(place.store, "INBOX", i, 40000), ERR_OK);
    assert_int_equal(post_expunge(place.store, "INBOX", "5:35", true), ERR_OK);
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

static void same_node_and_mail(const struct post_facts *a, const struct post_facts *b)
{
    assert_int_equal(a->node.node_id, b->node.node_id);
    assert_int_equal(node_digest(&a->node), node_digest(&b->node));
    assert_true(position_equal(a->position, b->position));
}

/* Twice with a commit between, so that both meta pages have their turn at being the newest. */
static void the_file_shrinks_and_the_node_stays_what_it_is(void **state)
{
    struct place *place = *state;
    for (unsigned i = 0; i < 4; i++) {
        struct store_compact compact = {0};
        struct post_facts before, after;
        assert_int_equal(post_facts(place->store, &before), ERR_OK);
        assert_int_equal(store_compact(place->store, &compact), ERR_OK);
        if (i == 0)
            assert_true(compact.after < compact.before / 2);
        assert_int_equal(post_facts(place->store, &after), ERR_OK);
        same_node_and_mail(&before, &after);
        assert_int_equal(post_check(place->store), 0);
        /* No epoch is opened: the file is not taken for one that was copied by hand. */
        assert_int_equal(post_append(place->store, "INBOX", 100 + i, 1000), ERR_OK);
        assert_int_equal(post_facts(place->store, &after), ERR_OK);
        assert_int_equal(after.position.modseq, before.position.modseq + 1);
        assert_int_equal(post_check(place->store), 0);
    }
}

/* In a process of its own: says when the store is open, waits until it may go on. */
static int in_child(const char *path, int ready, int go, unsigned appends)
{
    struct store *store;
    char byte = 0;
    if (store_open(path, NULL, &store) != ERR_OK || write(ready, &byte, 1) != 1 ||
        read(go, &byte, 1) != 1)
        return 1;
    for (unsigned i = 0; i < appends; i++)
        if (post_append(store, "INBOX", 5000 + i, 3000) != ERR_OK) {
            printf("child: %s\n", err_message());
            return 2;
        }
    int wrong = post_check(store);
    store_close(store);
    return wrong ? 3 : 0;
}

static pid_t start_child(struct place *place, unsigned appends, int *go)
{
    int ready[2], on[2];
    char byte;
    assert_int_equal(pipe(ready), 0);
    assert_int_equal(pipe(on), 0);
    fflush(stdout);
    /* The child must not have the parent's environment. */
    store_close(place->store);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(in_child(place->path, ready[1], on[0], appends));
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    *go = on[1];
    close(ready[0]);
    close(ready[1]);
    close(on[0]);
    return pid;
}

static void let_go(int go)
{
    char byte = 0;
    assert_int_equal(write(go, &byte, 1), 1);
    close(go);
}

static void end_child(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

static void another_process_takes_the_new_file(void **state)
{
    struct place *place = *state;
    struct store_compact compact = {0};
    struct post_facts before, after;
    int go;
    pid_t pid = start_child(place, 3, &go);
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    assert_int_equal(store_compact(place->store, &compact), ERR_OK);
    let_go(go);
    end_child(pid);
    assert_int_equal(post_facts(place->store, &after), ERR_OK);
    assert_int_equal(after.position.modseq, before.position.modseq + 3);
    assert_int_equal(post_check(place->store), 0);
}

static void no_commit_is_lost_while_others_write(void **state)
{
    struct place *place = *state;
    struct post_facts before, after;
    int go;
    pid_t pid = start_child(place, 60, &go);
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    let_go(go);
    for (unsigned i = 0; i < 20; i++) {
        struct store_compact compact = {0};
        assert_int_equal(store_compact(place->store, &compact), ERR_OK);
        assert_int_equal(post_append(place->store, "INBOX", 9000 + i, 2000), ERR_OK);
    }
    end_child(pid);
    assert_int_equal(post_facts(place->store, &after), ERR_OK);
    assert_int_equal(after.position.modseq, before.position.modseq + 80);
    assert_int_equal(post_check(place->store), 0);
}

/* An older data file is put back although another process has the store open. */
static void who_comes_before_an_older_file_is_noticed_is_refused(void **state)
{
    struct place *place = *state;
    struct post_facts before, after;
    char data[PATH_MAX];
    char old[PATH_MAX];
    int go;
    scratch_path(data, place->path, "data.mdb");
    scratch_path(old, place->root, "old");
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    scratch_copy_file(data, old);
    pid_t pid = start_child(place, 3, &go);
    for (unsigned i = 0; i < 5; i++)
        assert_int_equal(post_append(place->store, "INBOX", 9000 + i, 2000), ERR_OK);
    store_close(place->store);
    assert_int_equal(rename(old, data), 0);
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_BUSY);
    let_go(go);
    end_child(pid);
    assert_int_equal(store_open(place->path, NULL, &place->store), ERR_OK);
    assert_int_equal(post_facts(place->store, &after), ERR_OK);
    /* Its file is another, so the first commit opens an epoch. */
    assert_int_equal(after.position.modseq, before.position.modseq + 4);
    assert_int_equal(post_check(place->store), 0);
}

static void fail_each(struct place *place, unsigned kinds, int error)
{
    char left[PATH_MAX];
    scratch_path(left, place->path, "compacting.mdb");
    for (uint64_t nth = 1; nth < 2000; nth++) {
        struct store_compact compact = {0};
        struct post_facts before, after;
        assert_int_equal(post_facts(place->store, &before), ERR_OK);
        faults_arm(kinds, nth, error);
        int rc = store_compact(place->store, &compact);
        bool failed = faults_disarm();
        assert_int_equal(access(left, F_OK), -1);
        assert_int_equal(post_facts(place->store, &after), ERR_OK);
        same_node_and_mail(&before, &after);
        assert_int_equal(post_check(place->store), 0);
        if (!failed) {
            assert_int_equal(rc, ERR_OK);
            return;
        }
        assert_int_not_equal(rc, ERR_OK);
    }
    fail_msg("it never came through");
}

static void a_failed_compaction_changes_nothing(void **state)
{
    fail_each(*state, FAULT_WRITE, ENOSPC);
    fail_each(*state, FAULT_SYNC, EIO);
    fail_each(*state, FAULT_RENAME, EIO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_file_shrinks_and_the_node_stays_what_it_is, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(another_process_takes_the_new_file, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(no_commit_is_lost_while_others_write, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(who_comes_before_an_older_file_is_noticed_is_refused,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(a_failed_compaction_changes_nothing, open_place,
                                        close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
