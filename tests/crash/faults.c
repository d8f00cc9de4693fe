/* The 1st, 2nd, 3rd … write, sync or allocation of an operation fails, until the operation comes
 * through: each time it says so, the store goes on in the same process, holds what it held before
 * or all of what the operation does, and is sound. */
#include "base/err.h"
#include "mailbox/retain.h"
#include "tests/crash/require.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NTH_MOST 100000u
#define STRIDE 11u

static int append(struct store *store)
{
    return post_append(store, "INBOX", 77, 9000);
}

static int append_staged(struct store *store)
{
    return post_append(store, "INBOX", 78, 2000000);
}

static int flag(struct store *store)
{
    return post_flag(store, "INBOX", "1:*", "\\Flagged,work");
}

static int expunge(struct store *store)
{
    return post_expunge(store, "INBOX", "2:4", true);
}

static int create(struct store *store)
{
    return post_create(store, "Another");
}

static int expire(struct store *store)
{
    uint64_t purged;
    return store_expire(store, 0, 0, &purged);
}

static int trim(struct store *store)
{
    struct cut cut = {.entries = 2,
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    struct retained done = {0};
    return store_cut(store, &cut, false, &done);
}

static int reopen(struct store *store)
{
    struct store *another;
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/../made", store_path(store));
    int rc = store_init(path, ROLE_MASTER, NULL, NULL);
    if (rc == ERR_OK || rc == ERR_EXISTS)
        rc = store_open(path, NULL, &another);
    if (rc == ERR_OK)
        store_close(another);
    return rc;
}

static const struct operation {
    const char *name;
    int (*run)(struct store *store);
    bool whole; /* one commit, so that there is nothing between before and after */
} operations[] = {
    {"append", append, true}, {"append staged", append_staged, true},
    {"flag", flag, true},     {"expunge", expunge, true},
    {"create", create, true}, {"expire", expire, false},
    {"trim", trim, false},    {"init and open", reopen, true},
};

static const struct fault {
    const char *name;
    unsigned kind;
    int error;
} faults[] = {
    {"write: no space", FAULT_WRITE, ENOSPC},
    {"write: I/O error", FAULT_WRITE, EIO},
    {"sync: I/O error", FAULT_SYNC, EIO},
    {"allocation", FAULT_ALLOCATE, ENOMEM},
};

static struct store *make(const char *path)
{
    struct store *store;
    REQUIRE(store_init(path, ROLE_MASTER, NULL, NULL) == ERR_OK);
    REQUIRE(store_open(path, NULL, &store) == ERR_OK);
    REQUIRE(post_create(store, "INBOX") == ERR_OK);
    for (unsigned i = 0; i < 6; i++)
        REQUIRE(post_append(store, "INBOX", i, 500 + 30000 * i) == ERR_OK);
    REQUIRE(post_expunge(store, "INBOX", "6", false) == ERR_OK);
    return store;
}

/* One failure in a store of its own; false: the operation came through without meeting it. */
static bool fail_once(const struct operation *operation, const struct fault *fault, uint64_t nth)
{
    char root[PATH_MAX], path[PATH_MAX];
    struct post_facts before, after;
    scratch_make(root);
    scratch_path(path, root, "store");
    struct store *store = make(path);
    REQUIRE(post_facts(store, &before) == ERR_OK);
    faults_arm(fault->kind, nth, fault->error);
    int rc = operation->run(store);
    bool failed = faults_disarm();
    if (!failed)
        REQUIRE(rc == ERR_OK);
    if (failed && rc && fault->error == ENOSPC)
        REQUIRE(err_exit_code(rc) == 5);
    REQUIRE(post_check(store) == 0);
    REQUIRE(post_facts(store, &after) == ERR_OK);
    if (rc && operation->whole && fault->error != EIO)
        REQUIRE(node_digest(&before.node) == node_digest(&after.node));
    /* In the same process, at once. */
    REQUIRE(post_append(store, "INBOX", 99, 1000) == ERR_OK);
    rc = operation->run(store);
    REQUIRE(rc == ERR_OK || rc == ERR_EXISTS);
    REQUIRE(post_check(store) == 0);
    store_close(store);
    REQUIRE(store_open(path, NULL, &store) == ERR_OK);
    REQUIRE(post_check(store) == 0);
    store_close(store);
    scratch_remove(root);
    return failed;
}

/* What frees room gets the reserve, and nothing else does. */
static void give_reserve(void)
{
    char root[PATH_MAX], path[PATH_MAX], reserve[PATH_MAX];
    scratch_make(root);
    scratch_path(path, root, "store");
    scratch_path(reserve, path, "reserve");
    struct store *store = make(path);
    int (*const takers[])(struct store *) = {append, append_staged, flag, create};
    for (size_t i = 0; i < sizeof takers / sizeof takers[0]; i++) {
        faults_fill_disk();
        int rc;
        while ((rc = takers[i](store)) == ERR_OK) /* in pages that are free within the file */
            continue;
        REQUIRE(faults_disarm() ? rc == ERR_FULL : rc == ERR_EXISTS);
        REQUIRE(access(reserve, F_OK) == 0);
    }
    int (*const givers[])(struct store *) = {expunge, expire, trim};
    for (size_t i = 0; i < sizeof givers / sizeof givers[0]; i++) {
        faults_fill_disk();
        int rc = givers[i](store);
        bool failed = faults_disarm();
        REQUIRE(rc == (failed ? ERR_FULL : ERR_OK));
        REQUIRE(!failed || access(reserve, F_OK) != 0);
    }
    REQUIRE(post_check(store) == 0);
    store_close(store);
    scratch_remove(root);
}

int main(void)
{
    give_reserve();
    time_t end = time(NULL) + (time_t)scratch_seconds();
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        if (faults[i].kind == FAULT_ALLOCATE && !faults_can_allocate()) {
            printf("%s: left out: the sanitizer has its own allocator\n", faults[i].name);
            continue;
        }
        for (size_t j = 0; j < sizeof operations / sizeof operations[0]; j++) {
            uint64_t nth = 1;
            /* Every one; out of time, every few. */
            while (nth < NTH_MOST && fail_once(&operations[j], &faults[i], nth))
                nth += time(NULL) < end ? 1 : STRIDE;
            REQUIRE(nth < NTH_MOST);
            printf("%s: %s: up to %u failures\n", faults[i].name, operations[j].name,
                   (unsigned)nth - 1);
            fflush(stdout);
        }
    }
    return 0;
}
