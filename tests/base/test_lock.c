#include "base/lock.h"

#include "base/err.h"
#include "tests/support/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define SECOND INT64_C(1000000)
#define LONG_ENOUGH (60 * SECOND)
#define OWNER_MAX ((uint64_t)1 << 40)

static char directory[PATH_MAX];
static char path[PATH_MAX];

static int make_directory(void **state)
{
    (void)state;
    scratch_make(directory);
    scratch_path(path, directory, "shiplog.lock");
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    scratch_remove(directory);
    return 0;
}

static int remove_file(void **state)
{
    (void)state;
    unlink(path);
    return 0;
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND + t.tv_nsec / 1000;
}

static struct writer_lock *opened(const char *file)
{
    struct writer_lock *lock = NULL;
    if (writer_lock_open(file, &lock))
        fail_msg("%s", err_message());
    return lock;
}

/* A process of its own, and a line to it. */
struct child {
    pid_t pid;
    int to;
    int from;
};

struct line {
    int in;
    int out;
};

/* Children leave by 99 when what they rely on fails; a parent that is gone ends them too. */
static void insist(bool promise)
{
    if (!promise)
        _exit(99);
}

static void say(int fd, uint64_t word)
{
    insist(write(fd, &word, sizeof word) == (ssize_t)sizeof word);
}

static uint64_t hear(int fd)
{
    uint64_t word = 0;
    insist(read(fd, &word, sizeof word) == (ssize_t)sizeof word);
    return word;
}

static struct writer_lock *opened_in_child(void)
{
    struct writer_lock *lock = NULL;
    insist(writer_lock_open(path, &lock) == ERR_OK);
    return lock;
}

static struct child start(void (*body)(struct line line))
{
    int to[2];
    int from[2];
    struct child child;
    assert_int_equal(pipe2(to, O_CLOEXEC), 0);
    assert_int_equal(pipe2(from, O_CLOEXEC), 0);
    child.pid = fork();
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        close(to[1]);
        close(from[0]);
        body((struct line){.in = to[0], .out = from[1]});
        _exit(0);
    }
    close(to[0]);
    close(from[1]);
    child.to = to[1];
    child.from = from[0];
    return child;
}

static void forget(const struct child *child)
{
    close(child->to);
    close(child->from);
}

static void finish(const struct child *child)
{
    int status = 0;
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    forget(child);
}

static void kill_child(const struct child *child)
{
    int status = 0;
    assert_int_equal(kill(child->pid, SIGKILL), 0);
    assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
    assert_true(WIFSIGNALED(status));
    forget(child);
}

static void hold_until_told(struct line line)
{
    struct writer_lock *lock = opened_in_child();
    insist(writer_lock_acquire(lock, LONG_ENOUGH) == ERR_OK);
    say(line.out, 1);
    hear(line.in);
    writer_lock_release(lock);
    writer_lock_close(lock);
}

/* Zeros, until munmap(). */
static void *shared_with_children(size_t size)
{
    /* -1 is what goes with MAP_ANONYMOUS. */
    /* cppcheck-suppress invalidFunctionArg */
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* --- the writer lock ------------------------------------------------------------------------ */

#define ROUNDS 2000
#define CONTENDERS 4

static volatile long *counter; /* shared with children; plain, so that a lost update shows */

static void count_rounds(struct line line)
{
    struct writer_lock *lock = opened_in_child();
    hear(line.in);
    for (int i = 0; i < ROUNDS; i++) {
        insist(writer_lock_acquire(lock, LONG_ENOUGH) == ERR_OK);
        *counter = *counter + 1;
        writer_lock_release(lock);
    }
    writer_lock_close(lock);
}

static void processes_exclude_each_other(void **state)
{
    (void)state;
    struct child children[CONTENDERS];
    counter = shared_with_children(sizeof *counter);
    for (int i = 0; i < CONTENDERS; i++)
        children[i] = start(count_rounds);
    for (int i = 0; i < CONTENDERS; i++)
        say(children[i].to, 1);
    for (int i = 0; i < CONTENDERS; i++)
        finish(&children[i]);
    assert_int_equal(*counter, CONTENDERS * ROUNDS);
    munmap((void *)(uintptr_t)counter, sizeof *counter);
}

struct tally {
    struct writer_lock *lock;
    long count; /* guarded by the lock */
};

static void *tally_rounds(void *argument)
{
    struct tally *tally = argument;
    for (int i = 0; i < ROUNDS; i++) {
        if (writer_lock_acquire(tally->lock, LONG_ENOUGH))
            abort();
        tally->count++;
        writer_lock_release(tally->lock);
    }
    return NULL;
}

static void threads_exclude_each_other(void **state)
{
    (void)state;
    pthread_t threads[CONTENDERS];
    struct tally tally = {.lock = opened(path)};
    for (int i = 0; i < CONTENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, tally_rounds, &tally), 0);
    for (int i = 0; i < CONTENDERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(tally.count, CONTENDERS * ROUNDS);
    writer_lock_close(tally.lock);
}

static void waiting_ends_with_the_time_limit_and_names_the_holder(void **state)
{
    (void)state;
    struct child holder = start(hold_until_told);
    hear(holder.from);
    struct writer_lock *lock = opened(path);
    int64_t before = now();
    assert_int_equal(writer_lock_acquire(lock, SECOND / 5), ERR_BUSY);
    int64_t took = now() - before;
    assert_true(took >= SECOND / 5 && took < 30 * SECOND);
    char expected[64];
    snprintf(expected, sizeof expected, "(process %d) has not finished within 0.2 s",
             (int)holder.pid);
    assert_non_null(strstr(err_message(), expected));

    assert_int_equal(writer_lock_acquire(lock, 0), ERR_BUSY);
    assert_int_equal(writer_lock_acquire(lock, -SECOND + 1), ERR_BUSY);
    assert_int_equal(writer_lock_acquire(lock, INT64_MIN), ERR_BUSY);
    say(holder.to, 1);
    assert_int_equal(writer_lock_acquire(lock, INT64_MAX), ERR_OK);
    writer_lock_release(lock);
    finish(&holder);
    assert_int_equal(writer_lock_acquire(lock, 0), ERR_OK);
    writer_lock_release(lock);
    writer_lock_close(lock);
}

static void a_holder_that_was_killed_is_succeeded(void **state)
{
    (void)state;
    struct writer_lock *lock = opened(path);
    for (int i = 0; i < 20; i++) {
        struct child holder = start(hold_until_told);
        hear(holder.from);
        kill_child(&holder);
        assert_int_equal(writer_lock_acquire(lock, LONG_ENOUGH), ERR_OK);
        writer_lock_release(lock);
    }
    writer_lock_close(lock);
}

static void say_and_wait(struct line line)
{
    struct writer_lock *lock = opened_in_child();
    say(line.out, 1);
    (void)writer_lock_acquire(lock, LONG_ENOUGH);
}

static void one_that_was_killed_while_it_waited_is_in_nobodys_way(void **state)
{
    (void)state;
    struct writer_lock *lock = opened(path);
    for (int i = 0; i < 20; i++) {
        const struct timespec pause = {.tv_nsec = i * 500000L};
        assert_int_equal(writer_lock_acquire(lock, LONG_ENOUGH), ERR_OK);
        struct child waiter = start(say_and_wait);
        hear(waiter.from);
        nanosleep(&pause, NULL); /* so that it is killed at various places */
        kill_child(&waiter);
        writer_lock_release(lock);
        assert_int_equal(writer_lock_acquire(lock, LONG_ENOUGH), ERR_OK);
        writer_lock_release(lock);
    }
    writer_lock_close(lock);
}

static atomic_long *rounds; /* shared with children */

/* Lets go only to take it again, and never sleeps: what a mutex alone would let win. */
static void be_greedy(struct line line)
{
    struct writer_lock *lock = opened_in_child();
    for (;;) {
        insist(writer_lock_acquire(lock, LONG_ENOUGH) == ERR_OK);
        if (atomic_fetch_add(rounds, 1) == 0)
            say(line.out, 1);
        for (int64_t end = now() + 200; now() < end;)
            ;
        writer_lock_release(lock);
    }
}

static void one_that_waits_has_its_turn_soon(void **state)
{
    (void)state;
    rounds = shared_with_children(sizeof *rounds);
    struct child greedy = start(be_greedy);
    hear(greedy.from);
    struct writer_lock *lock = opened(path);
    int soon = 0;
    for (int i = 0; i < 40; i++) {
        long before = atomic_load(rounds);
        while (atomic_load(rounds) == before)
            sched_yield();
        before = atomic_load(rounds);
        assert_int_equal(writer_lock_acquire(lock, LONG_ENOUGH), ERR_OK);
        soon += atomic_load(rounds) - before <= 10;
        writer_lock_release(lock);
    }
    kill_child(&greedy);
    writer_lock_close(lock);
    munmap(rounds, sizeof *rounds);
    assert_true(soon >= 20);
}

/* --- making the file ------------------------------------------------------------------------ */

static int open_raw(void)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    return fd;
}

static int lock_raw(int fd, short type)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
    return fcntl(fd, F_OFD_SETLK, &range);
}

static void write_file(const void *data, size_t size)
{
    int fd = open_raw();
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(write(fd, data, size), (ssize_t)size);
    close(fd);
}

static void use_once(struct writer_lock *lock)
{
    assert_int_equal(writer_lock_acquire(lock, 0), ERR_OK);
    writer_lock_release(lock);
    writer_lock_close(lock);
}

static void what_is_found_in_an_unused_file_does_not_matter(void **state)
{
    (void)state;
    static char garbage[8192];
    use_once(opened(path));
    struct stat st;
    assert_int_equal(stat(path, &st), 0);
    size_t sizes[] = {1, 100, (size_t)st.st_size, sizeof garbage};
    memset(garbage, 0xa5, sizeof garbage);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        write_file(garbage, sizes[i]);
        use_once(opened(path));
        struct stat after;
        assert_int_equal(stat(path, &after), 0);
        assert_int_equal(after.st_size, st.st_size);
    }
}

static void a_lock_held_before_a_reboot_is_free_after_it(void **state)
{
    (void)state;
    char bytes[4096];
    struct writer_lock *lock = opened(path);
    assert_int_equal(writer_lock_acquire(lock, 0), ERR_OK);
    int fd = open_raw();
    ssize_t size = read(fd, bytes, sizeof bytes);
    assert_true(size > 0 && size < (ssize_t)sizeof bytes);
    close(fd);
    writer_lock_release(lock);
    writer_lock_close(lock);
    write_file(bytes, (size_t)size);
    use_once(opened(path));
}

static void a_file_in_use_is_not_made_afresh(void **state)
{
    (void)state;
    struct child holder = start(hold_until_told);
    hear(holder.from);
    for (int i = 0; i < 3; i++) {
        struct writer_lock *lock = opened(path);
        assert_int_equal(writer_lock_acquire(lock, 0), ERR_BUSY);
        writer_lock_close(lock);
    }
    say(holder.to, 1);
    finish(&holder);
}

static void begin_making_and_stop(struct line line)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    insist(fd >= 0 && lock_raw(fd, F_WRLCK) == 0 && write(fd, "half", 4) == 4);
    say(line.out, 1);
    hear(line.in);
    close(fd);
}

static void open_and_use(struct line line)
{
    say(line.out, 1);
    struct writer_lock *lock = opened_in_child();
    insist(writer_lock_acquire(lock, LONG_ENOUGH) == ERR_OK);
    writer_lock_release(lock);
    say(line.out, 2);
    hear(line.in);
}

static void one_that_is_killed_while_it_makes_the_file_is_succeeded(void **state)
{
    (void)state;
    const struct timespec pause = {.tv_nsec = 20000000};
    struct child maker = start(begin_making_and_stop);
    hear(maker.from);
    struct child others[CONTENDERS];
    for (int i = 0; i < CONTENDERS; i++) {
        others[i] = start(open_and_use);
        hear(others[i].from);
    }
    nanosleep(&pause, NULL); /* so that they find it locked */
    kill_child(&maker);
    for (int i = 0; i < CONTENDERS; i++)
        assert_int_equal(hear(others[i].from), 2);
    for (int i = 0; i < CONTENDERS; i++) {
        say(others[i].to, 1);
        finish(&others[i]);
    }
}

/* Opens and closes all the time, so that now and then one of them is alone. */
static void count_rounds_with_opening(struct line line)
{
    hear(line.in);
    for (int i = 0; i < ROUNDS / 4; i++) {
        struct writer_lock *lock = opened_in_child();
        insist(writer_lock_acquire(lock, LONG_ENOUGH) == ERR_OK);
        *counter = *counter + 1;
        writer_lock_release(lock);
        writer_lock_close(lock);
    }
}

static void processes_that_come_and_go_exclude_each_other(void **state)
{
    (void)state;
    struct child children[CONTENDERS];
    counter = shared_with_children(sizeof *counter);
    for (int i = 0; i < CONTENDERS; i++)
        children[i] = start(count_rounds_with_opening);
    for (int i = 0; i < CONTENDERS; i++)
        say(children[i].to, 1);
    for (int i = 0; i < CONTENDERS; i++)
        finish(&children[i]);
    assert_int_equal(*counter, CONTENDERS * (ROUNDS / 4));
    munmap((void *)(uintptr_t)counter, sizeof *counter);
}

static void check_left_alone(const void *bytes, size_t size)
{
    char found[4096];
    struct writer_lock *lock = NULL;
    write_file(bytes, size);
    int fd = open_raw();
    assert_int_equal(lock_raw(fd, F_RDLCK), 0);
    assert_int_equal(writer_lock_open(path, &lock), ERR_BUSY);
    assert_null(lock);
    assert_non_null(strstr(err_message(), "another version"));
    assert_int_equal(pread(fd, found, sizeof found, 0), (ssize_t)size);
    assert_memory_equal(found, bytes, size);
    close(fd);
    use_once(opened(path));
}

static void a_file_of_another_version_is_left_alone_while_it_is_in_use(void **state)
{
    (void)state;
    char bytes[4096];
    check_left_alone("another version", 15);
    int fd = open_raw();
    ssize_t size = read(fd, bytes, sizeof bytes);
    close(fd);
    assert_true(size > 0 && size < (ssize_t)sizeof bytes);
    bytes[0] ^= 1;
    check_left_alone(bytes, (size_t)size);
}

static void a_file_that_cannot_be_opened_is_an_error(void **state)
{
    (void)state;
    char nowhere[PATH_MAX];
    struct writer_lock *lock = NULL;
    scratch_path(nowhere, directory, "missing/shiplog.lock");
    assert_int_equal(writer_lock_open(nowhere, &lock), ERR_NOTFOUND);
    assert_null(lock);
    assert_int_equal(writer_lock_open(directory, &lock), ERR_IO);
    assert_null(lock);
    writer_lock_close(NULL);
}

/* --- owner locks ---------------------------------------------------------------------------- */

static void own_numbers_live_until_they_are_released(void **state)
{
    (void)state;
    struct writer_lock *lock = opened(path);
    struct writer_lock *second = opened(path);
    uint64_t a = 0;
    uint64_t b = 0;
    assert_int_equal(owner_lock_take(lock, &a), ERR_OK);
    assert_int_equal(owner_lock_take(lock, &b), ERR_OK);
    assert_true(a >= 1 && a <= OWNER_MAX && b >= 1 && b <= OWNER_MAX && a != b);
    assert_false(owner_lock_is_dead(lock, a));
    assert_false(owner_lock_is_dead(second, a));
    owner_lock_release(second, a); /* not its own: nothing happens */
    assert_false(owner_lock_is_dead(lock, a));
    owner_lock_release(lock, a);
    assert_true(owner_lock_is_dead(lock, a));
    assert_true(owner_lock_is_dead(second, a));
    assert_false(owner_lock_is_dead(lock, b));
    owner_lock_release(lock, a);
    assert_false(owner_lock_is_dead(second, b));
    writer_lock_close(lock);
    assert_true(owner_lock_is_dead(second, b));
    writer_lock_close(second);
}

static void numbers_that_nobody_can_have_are_dead(void **state)
{
    (void)state;
    struct writer_lock *lock = opened(path);
    static const uint64_t numbers[] = {0,
                                       1,
                                       OWNER_MAX,
                                       OWNER_MAX + 1,
                                       (uint64_t)INT64_MAX - ((uint64_t)1 << 20),
                                       (uint64_t)INT64_MAX,
                                       (uint64_t)1 << 63,
                                       UINT64_MAX - ((uint64_t)1 << 20) + 1,
                                       UINT64_MAX};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        assert_true(owner_lock_is_dead(lock, numbers[i]));
        owner_lock_release(lock, numbers[i]);
    }
    struct writer_lock *other = opened(path);
    assert_int_equal(writer_lock_acquire(lock, 0), ERR_OK);
    assert_int_equal(writer_lock_acquire(other, 0), ERR_BUSY);
    writer_lock_release(lock);
    writer_lock_close(other);
    writer_lock_close(lock);
}

static void take_and_stay(struct line line)
{
    uint64_t owner = 0;
    struct writer_lock *lock = opened_in_child();
    insist(owner_lock_take(lock, &owner) == ERR_OK);
    insist(!owner_lock_is_dead(lock, owner));
    say(line.out, owner);
    insist(!owner_lock_is_dead(lock, hear(line.in)));
    say(line.out, 1);
    hear(line.in);
}

static void numbers_die_with_their_process(void **state)
{
    (void)state;
    struct writer_lock *lock = opened(path);
    for (int i = 0; i < 10; i++) {
        uint64_t mine = 0;
        struct child child = start(take_and_stay);
        uint64_t owner = hear(child.from);
        assert_false(owner_lock_is_dead(lock, owner));
        assert_int_equal(owner_lock_take(lock, &mine), ERR_OK);
        say(child.to, mine);
        assert_int_equal(hear(child.from), 1);
        if (i % 2) {
            kill_child(&child);
        } else {
            say(child.to, 1);
            finish(&child);
        }
        assert_true(owner_lock_is_dead(lock, owner));
        assert_false(owner_lock_is_dead(lock, mine));
    }
    writer_lock_close(lock);
}

static void *take_and_release(void *argument)
{
    struct writer_lock *lock = argument;
    for (int i = 0; i < 200; i++) {
        uint64_t owners[5];
        for (size_t k = 0; k < 5; k++) {
            if (owner_lock_take(lock, &owners[k]))
                abort();
        }
        for (size_t k = 0; k < 5; k++) {
            if (owner_lock_is_dead(lock, owners[k]))
                abort();
            owner_lock_release(lock, owners[k]);
            if (!owner_lock_is_dead(lock, owners[k]))
                abort();
        }
    }
    return NULL;
}

static void threads_take_numbers_side_by_side(void **state)
{
    (void)state;
    pthread_t threads[CONTENDERS];
    struct writer_lock *lock = opened(path);
    for (int i = 0; i < CONTENDERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_release, lock), 0);
    for (int i = 0; i < CONTENDERS; i++)
        pthread_join(threads[i], NULL);
    writer_lock_close(lock);
}

#define TEST(name) cmocka_unit_test_setup(name, remove_file)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(processes_exclude_each_other),
        TEST(threads_exclude_each_other),
        TEST(waiting_ends_with_the_time_limit_and_names_the_holder),
        TEST(a_holder_that_was_killed_is_succeeded),
        TEST(one_that_was_killed_while_it_waited_is_in_nobodys_way),
        TEST(one_that_waits_has_its_turn_soon),
        TEST(what_is_found_in_an_unused_file_does_not_matter),
        TEST(a_lock_held_before_a_reboot_is_free_after_it),
        TEST(a_file_in_use_is_not_made_afresh),
        TEST(one_that_is_killed_while_it_makes_the_file_is_succeeded),
        TEST(processes_that_come_and_go_exclude_each_other),
        TEST(a_file_of_another_version_is_left_alone_while_it_is_in_use),
        TEST(a_file_that_cannot_be_opened_is_an_error),
        TEST(own_numbers_live_until_they_are_released),
        TEST(numbers_that_nobody_can_have_are_dead),
        TEST(numbers_die_with_their_process),
        TEST(threads_take_numbers_side_by_side),
    };
    return cmocka_run_group_tests(tests, make_directory, remove_directory);
}
