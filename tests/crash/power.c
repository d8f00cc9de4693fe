/* Power cuts: what was written to the data file since its last sync may be lost, torn at any sector
 * or reordered. The store opens, is sound, holds every commit that returned, and goes on. One that
 * was changed `relaxed` may lack the newest commit, and nothing else.
 *
 * A workload runs while every write and sync of the data file is recorded. Then images are made, as
 * a disk may have them after a cut at any moment.
 *
 * usage: power [SEED]
 */
#include "base/err.h"
#include "base/hash.h"
#include "tests/support/faults.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define OPERATIONS 60u
#define EVENTS_MOST 65536u
#define SECTOR 512u

static uint64_t seed;

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("seed %llu: %s:%d: %s (%s)\n", (unsigned long long)seed, __FILE__, __LINE__,    \
                   #condition, err_message());                                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

struct event {
    enum { WRITTEN, SYNCED, RETURNED } kind;
    off_t offset;
    size_t size;
    uint8_t *data;
    bool durable; /* by itself */
    /* RETURNED: what the store was then */
    struct position position;
    uint64_t digest;
};

static struct event events[EVENTS_MOST];
static size_t event_count;
static struct stat watched;

static struct event *add_event(void)
{
    REQUIRE(event_count < EVENTS_MOST);
    return &events[event_count++];
}

static void watch(const struct fault_event *seen)
{
    struct stat st;
    if (fstat(seen->fd, &st) != 0 || st.st_ino != watched.st_ino || st.st_dev != watched.st_dev)
        return;
    struct event *event = add_event();
    *event = (struct event){.kind = SYNCED};
    if (seen->kind == EVENT_SYNC)
        return;
    /* A file that is only made longer has nothing in it that could be lost. */
    event->kind = WRITTEN;
    event->offset = seen->offset;
    event->durable = seen->durable;
    if (seen->kind == EVENT_TRUNCATE)
        return;
    event->size = seen->size;
    event->data = malloc(seen->size);
    REQUIRE(event->data);
    memcpy(event->data, seen->data, seen->size);
}

static void returned(struct store *store)
{
    struct post_facts facts;
    REQUIRE(post_facts(store, &facts) == ERR_OK);
    *add_event() = (struct event){
        .kind = RETURNED, .position = facts.position, .digest = node_digest(&facts.node)};
}

static void work(struct store *store, struct dice *dice, unsigned number)
{
    char range[32];
    unsigned from = 1 + dice_below(dice, number + 1);
    snprintf(range, sizeof range, "%u:%u", from, from + dice_below(dice, 5));
    switch (dice_below(dice, 8)) {
    case 0:
        REQUIRE(post_flag(store, "INBOX", range, "\\Flagged") == ERR_OK);
        break;
    case 1:
        REQUIRE(post_expunge(store, "INBOX", range, true) == ERR_OK);
        break;
    case 2:
        REQUIRE(post_meta(store, "/comment", range) == ERR_OK);
        break;
    case 3:
        REQUIRE(post_append(store, "INBOX", number, 1500000 + dice_below(dice, 1000000)) == ERR_OK);
        break;
    default:
        REQUIRE(post_append(store, "INBOX", number, dice_below(dice, 60000)) == ERR_OK);
    }
}

/* The file as it was before the first event. */
static uint8_t *original;
static size_t original_size;

static void read_original(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    REQUIRE(fd >= 0 && fstat(fd, &watched) == 0);
    original_size = (size_t)watched.st_size;
    original = malloc(original_size);
    REQUIRE(original && read(fd, original, original_size) == (ssize_t)original_size);
    close(fd);
}

static void forget_events(void)
{
    for (size_t i = 0; i < event_count; i++)
        free(events[i].data);
    event_count = 0;
    free(original);
    original = NULL;
}

static void record(const char *path, bool relaxed, struct dice *dice)
{
    const struct store_options options = {.relaxed = relaxed};
    struct store *store;
    char data[PATH_MAX];
    REQUIRE(store_init(path, ROLE_MASTER, NULL, NULL) == ERR_OK);
    REQUIRE(store_open(path, &options, &store) == ERR_OK);
    REQUIRE(post_create(store, "INBOX") == ERR_OK);
    REQUIRE(db_sync(store_db(store)) == ERR_OK);
    scratch_path(data, path, "data.mdb");
    read_original(data);
    returned(store);
    faults_watch(watch);
    for (unsigned i = 0; i < OPERATIONS; i++) {
        work(store, dice, i);
        returned(store);
    }
    faults_watch(NULL);
    store_close(store);
}

static void put(int fd, const uint8_t *data, size_t size, off_t offset)
{
    REQUIRE(pwrite(fd, data, size, offset) == (ssize_t)size);
}

/* A write that no sync followed: all of it, nothing, or some of its sectors. */
static void put_maybe(int fd, const struct event *event, struct dice *dice)
{
    unsigned fate = dice_below(dice, 3);
    if (fate == 0)
        return;
    for (size_t at = 0; at < event->size; at += SECTOR) {
        size_t size = event->size - at < SECTOR ? event->size - at : SECTOR;
        if (fate == 1 || dice_below(dice, 2))
            put(fd, event->data + at, size, event->offset + (off_t)at);
    }
}

/* Power goes when the first `cut` events are done. */
static void make_image(const char *path, size_t cut, struct dice *dice)
{
    size_t synced = 0;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    put(fd, original, original_size, 0);
    for (size_t i = 0; i < cut; i++)
        if (events[i].kind == SYNCED)
            synced = i;
    for (size_t i = 0; i < cut; i++) {
        const struct event *event = &events[i];
        if (event->kind != WRITTEN || !event->size)
            continue;
        if (i < synced || event->durable)
            put(fd, event->data, event->size, event->offset);
        else
            put_maybe(fd, event, dice);
    }
    /* What was being done when it happened. */
    if (cut < event_count && events[cut].kind == WRITTEN && events[cut].size > SECTOR)
        put_maybe(fd, &events[cut], dice);
    close(fd);
}

/* The newest operation that had returned when `count` events were done; the first always had. */
static size_t last_return(size_t count)
{
    while (count > 1 && events[count - 1].kind != RETURNED)
        count--;
    return count - 1;
}

/* The one before the newest commit; an operation that had nothing to change made none. */
static size_t return_before(size_t last)
{
    size_t before = last;
    while (before > 0 && position_equal(events[before].position, events[last].position))
        before = last_return(before);
    return before;
}

/* What the last operation that returned left, or what the one under way does; relaxed, what was
 * there before the newest commit, too. */
static bool is_allowed(size_t cut, bool relaxed, const struct post_facts *facts)
{
    size_t last = last_return(cut);
    size_t next = cut;
    while (next < event_count && events[next].kind != RETURNED)
        next++;
    const struct event *allowed[3] = {
        &events[last],
        &events[next < event_count ? next : last],
        &events[relaxed ? return_before(last) : last],
    };
    for (unsigned i = 0; i < 3; i++)
        if (position_equal(allowed[i]->position, facts->position) &&
            allowed[i]->digest == node_digest(&facts->node))
            return true;
    return false;
}

static void cut_power(const char *root, bool relaxed, struct dice *dice)
{
    char path[PATH_MAX], data[PATH_MAX];
    struct store *store;
    struct post_facts facts;
    size_t cut = 1 + dice_below(dice, (uint32_t)event_count);
    scratch_path(path, root, "image");
    REQUIRE(mkdir(path, 0700) == 0);
    scratch_path(data, path, "data.mdb");
    make_image(data, cut, dice);
    REQUIRE(store_open(path, NULL, &store) == ERR_OK);
    REQUIRE(post_facts(store, &facts) == ERR_OK);
    if (!is_allowed(cut, relaxed, &facts)) {
        printf("seed %llu: cut after %zu of %zu events: it is at %llu\n", (unsigned long long)seed,
               cut, event_count, (unsigned long long)facts.position.modseq);
        exit(1);
    }
    REQUIRE(post_check(store) == 0);
    REQUIRE(post_append(store, "INBOX", 100000, 3000) == ERR_OK);
    REQUIRE(post_check(store) == 0);
    store_close(store);
    scratch_remove(path);
}

static void run(bool relaxed, time_t seconds, struct dice *dice)
{
    char root[PATH_MAX], path[PATH_MAX];
    time_t end = time(NULL) + seconds;
    unsigned cuts = 0;
    scratch_make(root);
    scratch_path(path, root, "store");
    record(path, relaxed, dice);
    do
        cut_power(root, relaxed, dice);
    while (++cuts < 20 || time(NULL) < end);
    printf("%s: %u power cuts among %zu events of %u operations\n", relaxed ? "relaxed" : "full",
           cuts, event_count, OPERATIONS);
    forget_events();
    scratch_remove(root);
}

int main(int argc, char **argv)
{
    seed = scratch_seed(argc, argv);
    struct dice dice = {seed};
    time_t seconds = (time_t)scratch_seconds();
    run(false, seconds - seconds / 3, &dice);
    run(true, seconds / 3, &dice);
    return 0;
}
