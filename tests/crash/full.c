/* A small disk that is really full: commits fail cleanly, reading goes on, what frees room still
 * works, and with room back everything does. Needs to mount a file system in memory; left out where
 * that is not allowed. */
#include "base/err.h"
#include "mailbox/retain.h"
#include "mailbox/view.h"
#include "tests/crash/require.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISK "size=24m"
#define LARGER_DISK "size=48m"
#define MESSAGE 20000u
#define SKIPPED 77

static char root[PATH_MAX];

static void clean_up(void)
{
    (void)umount2(root, MNT_DETACH);
    (void)rmdir(root);
}

static uint64_t digest_of(struct store *store)
{
    struct post_facts facts;
    REQUIRE(post_facts(store, &facts) == ERR_OK);
    return node_digest(&facts.node);
}

/* Appends until the disk is full. */
static unsigned fill(struct store *store, unsigned number)
{
    uint64_t before = digest_of(store);
    int rc;
    while ((rc = post_append(store, "INBOX", number, MESSAGE)) == ERR_OK) {
        before = digest_of(store);
        number++;
    }
    REQUIRE(rc == ERR_FULL);
    REQUIRE(digest_of(store) == before);
    REQUIRE(post_check(store) == 0);
    return number;
}

/* What others write on the same disk. */
static void take_the_rest(const char *path)
{
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    while (write(fd, zeros, sizeof zeros) > 0)
        continue;
    close(fd);
}

static void run(void)
{
    char path[PATH_MAX], other[PATH_MAX], reserve[PATH_MAX];
    struct store *store;
    uint64_t purged;
    struct cut cut = {.entries = 1,
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    struct retained done = {0};
    scratch_path(path, root, "store");
    scratch_path(other, root, "other");
    scratch_path(reserve, path, "reserve");
    REQUIRE(store_init(path, ROLE_MASTER, NULL, NULL) == ERR_OK);
    REQUIRE(store_open(path, NULL, &store) == ERR_OK);
    REQUIRE(post_create(store, "INBOX") == ERR_OK);
    REQUIRE(access(reserve, F_OK) == 0);
    unsigned count = fill(store, 0);
    REQUIRE(count > 100);
    take_the_rest(other);
    REQUIRE(access(reserve, F_OK) == 0);
    /* What frees room. */
    REQUIRE(post_expunge(store, "INBOX", "1:20", true) == ERR_OK);
    REQUIRE(post_expunge(store, "INBOX", "21:30", false) == ERR_OK);
    take_the_rest(other);
    REQUIRE(store_expire(store, 0, 0, &purged) == ERR_OK && purged == 10);
    take_the_rest(other);
    REQUIRE(store_cut(store, &cut, false, &done) == ERR_OK && done.trimmed > 0);
    REQUIRE(post_check(store) == 0);
    /* The freed pages are used again, although the disk is as full as before. */
    REQUIRE(post_append(store, "INBOX", count, MESSAGE) == ERR_OK);
    store_close(store);
    /* It opens on a full disk, too. */
    take_the_rest(other);
    REQUIRE(store_open(path, NULL, &store) == ERR_OK);
    REQUIRE(post_check(store) == 0);
    /* Room again. */
    REQUIRE(unlink(other) == 0);
    REQUIRE(mount(NULL, root, NULL, MS_REMOUNT, LARGER_DISK) == 0);
    REQUIRE(post_append(store, "INBOX", count + 1, MESSAGE) == ERR_OK);
    REQUIRE(access(reserve, F_OK) == 0);
    REQUIRE(post_flag(store, "INBOX", "1:*", "\\Seen") == ERR_OK);
    REQUIRE(post_check(store) == 0);
    store_close(store);
}

int main(void)
{
    snprintf(root, sizeof root, "/tmp/shiplog-full-XXXXXX");
    if (!mkdtemp(root))
        return 1;
    atexit(clean_up);
    /* A name space of its own: the mount goes with this process, however it ends. */
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0 ||
        mount("tmpfs", root, "tmpfs", 0, DISK) != 0) {
        perror("skipped: no file system may be mounted here");
        return SKIPPED;
    }
    run();
    return 0;
}
