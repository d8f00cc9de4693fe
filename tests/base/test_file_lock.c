#include "base/file_lock.h"

#include "base/err.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LONG 60000000 /* microseconds; far more than is needed */

/* Two openings of one directory. */
struct openings {
    char path[PATH_MAX];
    int first;
    int second;
};

static int set_up(void **state)
{
    struct openings *openings = calloc(1, sizeof *openings);
    assert_non_null(openings);
    scratch_make(openings->path);
    openings->first = open(openings->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    openings->second = open(openings->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(openings->first >= 0 && openings->second >= 0);
    *state = openings;
    return 0;
}

static int tear_down(void **state)
{
    struct openings *openings = *state;
    if (openings->first >= 0)
        close(openings->first);
    close(openings->second);
    scratch_remove(openings->path);
    free(openings);
    return 0;
}

static void one_opening_holds_it_at_a_time(void **state)
{
    struct openings *openings = *state;
    assert_int_equal(file_lock(openings->first, "here", 0), ERR_OK);
    assert_int_equal(file_lock(openings->second, "here", 0), ERR_BUSY);
    assert_non_null(strstr(err_message(), "here"));
    assert_int_equal(file_lock(openings->second, "here", 20000), ERR_BUSY);
    assert_int_equal(file_lock(openings->first, "here", 0), ERR_OK); /* its own */
    close(openings->first);
    openings->first = -1;
    assert_int_equal(file_lock(openings->second, "here", 0), ERR_OK);
}

static void *wait_for_it(void *arg)
{
    struct openings *openings = arg;
    return file_lock(openings->second, "here", LONG) == ERR_OK ? arg : NULL;
}

static void who_waits_gets_it_when_it_is_let_go(void **state)
{
    struct openings *openings = *state;
    pthread_t thread;
    void *got;
    assert_int_equal(file_lock(openings->first, "here", 0), ERR_OK);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_it, openings), 0);
    close(openings->first);
    openings->first = -1;
    assert_int_equal(pthread_join(thread, &got), 0);
    assert_ptr_equal(got, openings);
}

static void what_is_not_open_cannot_be_locked(void **state)
{
    (void)state;
    assert_int_equal(file_lock(-1, "nowhere", LONG), ERR_IO);
    assert_non_null(strstr(err_message(), "nowhere"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_opening_holds_it_at_a_time),
        TEST(who_waits_gets_it_when_it_is_let_go),
        cmocka_unit_test(what_is_not_open_cannot_be_locked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
