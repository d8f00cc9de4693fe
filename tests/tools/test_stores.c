/* Stores that the command line cannot use: each is told in one line, with the exit code for it, and
 * stays as it is. And a store that another process holds: who reads is not kept waiting, who writes
 * is told after ten seconds. */
#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"
#include "mailbox/mailbox.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

static char directory[PATH_MAX];
static char place[PATH_MAX];

/* Root may do everything: where it runs the tests, somebody else runs the program. */
#define AS_NOBODY "setpriv --reuid=65534 --regid=65534 --clear-groups "
static const char *as = "";

struct outcome {
    int code;       /* the exit code */
    size_t lines;   /* on stderr */
    char text[512]; /* the last of them */
};

static FILE *start(const char *command)
{
    char line[2 * PATH_MAX];
    const char *bin = getenv("SHIPLOG_BIN");
    assert_non_null(bin);
    snprintf(line, sizeof line, "%s'%s/shiplog' -s '%s' %s 2>&1 >/dev/null </dev/null", as, bin,
             place, command);
    FILE *pipe = popen(line, "r"); /* NOLINT(cert-env33-c): a shell for the redirections */
    assert_non_null(pipe);
    return pipe;
}

static struct outcome finish(FILE *pipe)
{
    struct outcome outcome = {0};
    while (fgets(outcome.text, sizeof outcome.text, pipe))
        outcome.lines++;
    int status = pclose(pipe);
    assert_true(WIFEXITED(status));
    outcome.code = WEXITSTATUS(status);
    return outcome;
}

static void expect(const char *command, int code, const char *part)
{
    struct outcome outcome = finish(start(command));
    if (outcome.code != code || outcome.lines != (code ? 1u : 0u) || !strstr(outcome.text, part))
        fail_msg("%s: exit code %d, not %d; %zu lines, the last: %s", command, outcome.code, code,
                 outcome.lines, outcome.text);
}

/* By commands that read, that write, and that would do anything to a store. */
static void expect_everywhere(int code, const char *part)
{
    static const char *const commands[] = {"list INBOX",
                                           "mailboxes",
                                           "create X",
                                           "append INBOX",
                                           "digest",
                                           "check",
                                           "journal trim --keep 1",
                                           "status"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        expect(commands[i], code, part);
}

static int setup(void **state)
{
    (void)state;
    scratch_make(directory);
    scratch_path(place, directory, "store");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    scratch_remove(directory);
    return 0;
}

static void put_file(const char *name, const char *bytes, size_t size)
{
    char path[PATH_MAX];
    scratch_path(path, place, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void none_is_not_found_and_not_made(void **state)
{
    struct stat status;
    (void)state;
    expect_everywhere(3, "no store");
    assert_int_equal(stat(place, &status), -1);
    assert_int_equal(mkdir(place, 0700), 0);
    expect_everywhere(3, "no store");
    char data[PATH_MAX];
    scratch_path(data, place, "data.mdb");
    assert_int_equal(stat(data, &status), -1);
}

static void what_is_no_store_is_damaged(void **state)
{
    char noise[20000];
    (void)state;
    assert_int_equal(mkdir(place, 0700), 0);
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (char)(i * 7);
    put_file("data.mdb", noise, sizeof noise);
    expect_everywhere(5, "data.mdb");
    put_file("data.mdb", noise, 100);
    expect_everywhere(5, "");
}

static void make_store(void)
{
    expect("init", 0, "");
    expect("create INBOX", 0, "");
}

/* Its row about itself begins with the format's number and ends with a CRC-32. */
static void make_newer(void)
{
    struct db *db;
    struct db_txn *txn;
    struct bytes row;
    struct buf changed = {0};
    struct db_options options = {.tables = table_names, .table_count = TABLE_COUNT};
    assert_int_equal(db_open(place, &options, &db), ERR_OK);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(db_get(txn, TABLE_STATE, bytes_text("node"), &row), ERR_OK);
    buf_put(&changed, row.data, row.size);
    save_u32(changed.data, STORE_FORMAT + 1);
    save_u32(changed.data + changed.size - 4, hash_crc32(changed.data, changed.size - 4));
    assert_int_equal(db_put(txn, TABLE_STATE, bytes_text("node"), buf_view(&changed)), ERR_OK);
    assert_int_equal(db_commit(txn), ERR_OK);
    db_close(db);
    buf_free(&changed);
}

static void a_newer_format_is_left_alone(void **state)
{
    (void)state;
    make_store();
    make_newer();
    expect_everywhere(5, "format 2");
    expect("append INBOX --mda", 75, "format 2");
}

static bool nobody_can_run_it(void)
{
    char line[PATH_MAX];
    snprintf(line, sizeof line, AS_NOBODY "test -x '%s/shiplog'", getenv("SHIPLOG_BIN"));
    return system(line) == 0; /* NOLINT(cert-env33-c) */
}

static void a_store_of_another_user_is_not_permitted(void **state)
{
    (void)state;
    make_store();
    if (geteuid() == 0 && !nobody_can_run_it()) {
        print_message("root runs this, and no other user can reach the program\n");
        skip();
    }
    as = geteuid() == 0 ? AS_NOBODY : "";
    assert_int_equal(chmod(directory, 0755), 0);
    assert_int_equal(chmod(place, 0), 0);
    expect_everywhere(5, "ermission");
    expect("append INBOX --mda", 75, "ermission");
    as = "";
    assert_int_equal(chmod(place, 0700), 0);
    expect("list INBOX", 0, "");
}

static int hold(struct tx *tx, void *arg)
{
    (void)tx;
    if (write(*(const int *)arg, "h", 1) != 1)
        return ERR_IO;
    for (;;)
        pause();
}

/* A process that holds the store until it is killed. */
static pid_t start_holder(void)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct store *store;
        if (store_open(place, NULL, &store) == ERR_OK)
            (void)store_maintain(store, hold, &ends[1]);
        _exit(1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
    return pid;
}

static void a_store_that_is_held_can_be_read_and_not_changed(void **state)
{
    (void)state;
    make_store();
    pid_t holder = start_holder();
    /* All wait at the same time. */
    FILE *writers[] = {start("create X"), start("flags INBOX '1:*' +x"), start("delete INBOX"),
                       start("append INBOX --mda"), start("import INBOX /dev/null")};
    static const int codes[] = {6, 6, 6, 75, 6};
    expect("list INBOX", 0, "");
    expect("mailboxes", 0, "");
    expect("digest", 0, "");
    expect("journal verify", 0, "");
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        struct outcome outcome = finish(writers[i]);
        assert_int_equal(outcome.code, codes[i]);
        assert_int_equal(outcome.lines, 1);
        assert_non_null(strstr(outcome.text, "held by another"));
    }
    kill(holder, SIGKILL);
    waitpid(holder, NULL, 0);
    /* A holder that died holds nothing. */
    expect("create X", 0, "");
    expect("check", 0, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(none_is_not_found_and_not_made, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_store_is_damaged, setup, teardown),
        cmocka_unit_test_setup_teardown(a_newer_format_is_left_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_of_another_user_is_not_permitted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_store_that_is_held_can_be_read_and_not_changed, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
