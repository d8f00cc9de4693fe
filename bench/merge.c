/* Repair: what a merge costs when few of many messages differ, and when all do.
 *
 * usage: merge DIRECTORY [MESSAGES [ROUNDS [large|boxes|copy|divergent]]]
 * Both ends are in this process and warm; each round makes new differences first, which is not
 * timed. A gap: the window is cut behind what the replica lacks. A fork: both ends change by
 * themselves, then the replica's end is demoted and merged. Wall and processor time are given: both
 * ends work at the same time where there are two processors to be had.
 */
#include "agent/sync.h"
#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/copy.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define CONTENTS 16u          /* that a large mailbox's messages share */
#define SMALL_BOXES 1000u     /* mailboxes of one store */
#define SMALL_MESSAGES 10u    /* in each */
#define DIVERGENT 20000u      /* messages that each end adds to a mailbox that both have */
#define COPIED_MESSAGES 8192u /* of a replica's first copy */
#define COPIED_SIZE 8192u     /* bytes of each */
#define APPEND_BATCH 256u
#define ROUNDS_MOST 64u

/* Two ends of one store. */
struct pair {
    char directory[1024];
    struct store *master;
    struct store *replica;
    unsigned boxes; /* that the master has */
    uint64_t made;  /* messages so far: no two are alike */
    uint64_t opened;
};

/* One commit's work in one mailbox. */
struct work {
    struct pair *pair;
    struct store *store;
    unsigned box;
    unsigned count;
    uint64_t made;
    size_t size;
    uint32_t first; /* UIDs that are changed, `count` of them, `step` apart */
    uint32_t step;
    enum flag_mode mode;
};

static void name_box(unsigned box, struct name *name)
{
    struct owner owner = {.user = "owner"};
    char text[32];
    int size = snprintf(text, sizeof text, "box%u", box);
    bench_require(name_parse(text, (size_t)size, &owner, name), "name", err_message());
}

static int open_box(struct tx *tx, unsigned box, struct mailbox **mailbox)
{
    struct name name;
    name_box(box, &name);
    return mailbox_open(tx, &name, NULL, mailbox);
}

static int create_box(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct name name;
    int rc = ERR_OK;
    for (unsigned i = 0; i < work->count && rc == ERR_OK; i++) {
        name_box(work->box + i, &name);
        rc = mailbox_create(tx, &name, NULL);
    }
    return rc;
}

/* Text of which hardly anything deflates away. */
static void make_text(uint64_t number, char *text, size_t size)
{
    uint64_t state = number * UINT64_C(0x9e3779b97f4a7c15) + 1;
    int head = snprintf(text, size, "Subject: Letter %llu\r\n\r\n", (unsigned long long)number);
    for (size_t i = (size_t)head; i < size; i++) {
        state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
        text[i] = (char)('!' + (state >> 58));
    }
}

static int append_new(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct mailbox *mailbox;
    char text[COPIED_SIZE];
    int rc = open_box(tx, work->box, &mailbox);
    for (unsigned i = 0; i < work->count && rc == ERR_OK; i++) {
        struct append append = {0};
        make_text(work->made + i, text, work->size);
        rc = draft_open(store_db(tx_store(tx)), DRAFT_RAW, &append.draft);
        if (rc == ERR_OK)
            rc = draft_write(append.draft, text, work->size);
        if (rc == ERR_OK)
            rc = draft_finish(append.draft);
        if (rc == ERR_OK)
            rc = mailbox_append(mailbox, &append, NULL);
        draft_close(append.draft);
    }
    return rc;
}

static int copy_within(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    struct uidset from = {0};
    struct uidset to = {0};
    int rc = open_box(tx, work->box, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_add_range(&uids, 1, work->count);
    if (rc == ERR_OK)
        rc = mailbox_copy(mailbox, &uids, mailbox, false, &from, &to);
    uidset_free(&uids);
    uidset_free(&from);
    uidset_free(&to);
    return rc;
}

static int choose(const struct work *work, struct uidset *uids)
{
    int rc = ERR_OK;
    for (unsigned i = 0; i < work->count && rc == ERR_OK; i++)
        rc = uidset_add(uids, work->first + i * work->step);
    return rc;
}

static int flag(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct flag_change change = {.mode = work->mode, .flags = {.system = FLAG_FLAGGED}};
    struct uidset uids = {0};
    struct mailbox *mailbox;
    int rc = open_box(tx, work->box, &mailbox);
    if (rc == ERR_OK)
        rc = choose(work, &uids);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, &uids, &change, NULL);
    uidset_free(&uids);
    return rc;
}

static int expunge(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct uidset uids = {0};
    struct mailbox *mailbox;
    int rc = open_box(tx, work->box, &mailbox);
    if (rc == ERR_OK)
        rc = choose(work, &uids);
    if (rc == ERR_OK)
        rc = mailbox_expunge(mailbox, &uids, work->step % 2, NULL);
    uidset_free(&uids);
    return rc;
}

static void commit(struct work *work, int (*change)(struct tx *tx, void *arg))
{
    work->made = work->pair->made;
    bench_require(store_commit(work->store, change, work, NULL), "commit", err_message());
    if (change == append_new)
        work->pair->made += work->count;
}

static void append_many(struct pair *pair, struct store *store, unsigned box, unsigned count,
                        size_t size)
{
    struct work work = {.pair = pair, .store = store, .box = box, .size = size};
    for (unsigned done = 0; done < count; done += work.count) {
        work.count = count - done < APPEND_BATCH ? count - done : APPEND_BATCH;
        commit(&work, append_new);
    }
}

static void path_of(const struct pair *pair, const char *end, char path[1100])
{
    snprintf(path, 1100, "%s/%s", pair->directory, end);
}

static void begin(struct pair *pair, const char *directory, const char *name, unsigned boxes)
{
    char path[1100];
    *pair = (struct pair){.boxes = boxes, .made = 1};
    snprintf(pair->directory, sizeof pair->directory, "%s/%s", directory, name);
    mkdir(directory, 0700);
    mkdir(pair->directory, 0700);
    path_of(pair, "master", path);
    bench_require(store_init(path, ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_open(path, NULL, &pair->master), "open", err_message());
    struct work work = {.pair = pair, .store = pair->master, .count = boxes};
    commit(&work, create_box);
}

static void copy_master(struct pair *pair)
{
    char path[1100];
    path_of(pair, "replica", path);
    struct store_copy copy = {.directory = path};
    bench_require(store_copy(pair->master, &copy), "copy", err_message());
    bench_require(store_open(path, NULL, &pair->replica), "open", err_message());
}

static void end(struct pair *pair)
{
    static const char *const files[] = {"master/data.mdb", "replica/data.mdb"};
    char path[1100];
    store_close(pair->replica);
    store_close(pair->master);
    for (unsigned i = 0; i < 2; i++) {
        path_of(pair, files[i], path);
        unlink(path);
    }
}

/* The window at the master ends where the journal does. */
static void cut(struct pair *pair)
{
    struct cut all = {.before = INT64_MAX, .up_to = UINT64_MAX, .held_from = UINT64_MAX};
    struct retained done;
    bench_require(store_cut(pair->master, &all, false, &done), "cut", err_message());
}

static uint64_t anonymous_kilobytes(void)
{
    char line[256];
    uint64_t kilobytes = 0;
    FILE *status = fopen("/proc/self/status", "r");
    bench_require(!status, "open", "/proc/self/status");
    while (fgets(line, sizeof line, status))
        if (strncmp(line, "RssAnon:", strlen("RssAnon:")) == 0)
            kilobytes = strtoull(line + strlen("RssAnon:"), NULL, 10);
    fclose(status);
    return kilobytes;
}

struct watch {
    atomic_bool stop;
    uint64_t before;
    uint64_t highest;
};

static void *watch_memory(void *arg)
{
    struct watch *watch = arg;
    struct timespec pause = {.tv_nsec = 1000000};
    while (!atomic_load(&watch->stop)) {
        uint64_t now = anonymous_kilobytes();
        watch->highest = now > watch->highest ? now : watch->highest;
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void count_opened(void *arg, const struct sync_line *line)
{
    struct pair *pair = arg;
    (void)line;
    pair->opened++;
}

static double processor_now(void) /* seconds of this process */
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

struct measure {
    double wall[ROUNDS_MOST];
    double processor[ROUNDS_MOST];
    unsigned rounds;
    struct sync last;
};

static void repair(struct pair *pair, struct measure *measure)
{
    struct sync *sync = &measure->last;
    *sync = (struct sync){.master_name = "bench", .line = count_opened, .arg = pair};
    pair->opened = 0;
    double processor = processor_now();
    double start = bench_now();
    bench_require(sync_stores(pair->master, pair->replica, sync), "sync", err_message());
    measure->wall[measure->rounds] = bench_now() - start;
    measure->processor[measure->rounds++] = processor_now() - processor;
    bench_require(sync->tier != SYNC_MERGE || sync->waiting, "sync", "nothing was merged");
    free(sync->aside);
}

static void repair_watched(struct pair *pair, struct measure *measure, struct watch *watch)
{
    pthread_t thread;
    *watch = (struct watch){.before = anonymous_kilobytes()};
    bench_require(pthread_create(&thread, NULL, watch_memory, watch), "thread", "failed");
    repair(pair, measure);
    atomic_store(&watch->stop, true);
    pthread_join(thread, NULL);
}

static void print(const char *what, struct measure *measure)
{
    double processor = bench_quantile(measure->processor, measure->rounds, 0);
    double least = bench_quantile(measure->wall, measure->rounds, 0);
    double median = bench_quantile(measure->wall, measure->rounds, 0.5);
    printf("%s: %.1f ms at best, median %.1f ms, processor %.1f ms at best; %llu bytes on the "
           "wire\n",
           what, least * 1e3, median * 1e3, processor * 1e3,
           (unsigned long long)measure->last.wire_bytes);
    fflush(stdout);
}

/* Two of each kind and two more: flags, expunges with and without a tombstone, appends. */
static void differ(struct pair *pair, uint32_t messages, unsigned round)
{
    struct work work = {.pair = pair, .store = pair->master, .size = 2048};
    uint32_t part = messages / 4;
    work.first = 1 + round * 7;
    work.step = part / 3;
    work.count = 3;
    commit(&work, flag);
    work.first = part + 1 + round * 11;
    work.count = 2;
    work.step = (part / 2) & ~1u;
    commit(&work, expunge);
    work.first += part;
    work.count = 3;
    work.step = (part / 3) | 1u;
    commit(&work, expunge);
    work.count = 2;
    commit(&work, append_new);
}

static void fill_large(struct pair *pair, uint32_t messages)
{
    struct work work = {.pair = pair, .store = pair->master, .count = CONTENTS, .size = 2048};
    uint32_t done = CONTENTS;
    commit(&work, append_new);
    for (; done < messages; done += work.count) {
        work.count = done < MAILBOX_COMMIT_RECORDS ? done : MAILBOX_COMMIT_RECORDS;
        if (work.count > messages - done)
            work.count = messages - done;
        commit(&work, copy_within);
    }
}

static void measure_gap(struct pair *pair, uint32_t messages, unsigned rounds)
{
    struct measure measure = {0};
    struct watch watch;
    for (unsigned i = 0; i < rounds; i++) {
        differ(pair, messages, i);
        cut(pair);
        repair(pair, &measure);
    }
    print("gap, 10 of a million", &measure);
    differ(pair, messages, rounds);
    cut(pair);
    repair_watched(pair, &measure, &watch);
    printf("anonymous memory: %.1f MB before, %.1f MB at most\n", (double)watch.before / 1024,
           (double)watch.highest / 1024);
}

/* Each end makes five changes of its own. */
static void part_ways(struct pair *pair, uint32_t messages, unsigned round)
{
    struct store *const ends[] = {pair->master, pair->replica};
    bench_require(store_promote(pair->replica, false), "promote", err_message());
    for (unsigned i = 0; i < 2; i++) {
        struct work work = {.pair = pair, .store = ends[i], .size = 2048, .count = 2};
        work.first = 200 + i * 100 + round * 5;
        work.step = messages / 3;
        commit(&work, flag);
        work.first += 50;
        work.count = 1;
        commit(&work, expunge);
        work.count = 2;
        commit(&work, append_new);
    }
    bench_require(store_demote(pair->replica, NULL, false), "demote", err_message());
}

static void measure_fork(struct pair *pair, uint32_t messages, unsigned rounds)
{
    struct measure measure = {0};
    for (unsigned i = 0; i < rounds; i++) {
        part_ways(pair, messages, i);
        repair(pair, &measure);
    }
    print("fork, 5 of a million at each end", &measure);
}

static void measure_large(const char *directory, uint32_t messages, unsigned rounds)
{
    struct pair pair;
    begin(&pair, directory, "large", 1);
    double start = bench_now();
    fill_large(&pair, messages);
    copy_master(&pair);
    printf("two stores of %u messages made in %.1f s\n", messages, bench_now() - start);
    measure_gap(&pair, messages, rounds);
    measure_fork(&pair, messages, rounds);
    end(&pair);
}

static void measure_boxes(const char *directory, unsigned rounds)
{
    struct pair pair;
    struct measure measure = {0};
    begin(&pair, directory, "boxes", SMALL_BOXES);
    for (unsigned box = 0; box < SMALL_BOXES; box++)
        append_many(&pair, pair.master, box, SMALL_MESSAGES, 512);
    copy_master(&pair);
    for (unsigned i = 0; i < rounds; i++) {
        for (unsigned box = 1; box <= 3; box++)
            append_many(&pair, pair.master, box * (SMALL_BOXES / 4), 1, 512);
        cut(&pair);
        repair(&pair, &measure);
    }
    print("gap, 3 of 1,000 mailboxes", &measure);
    printf("mailboxes opened: %llu\n", (unsigned long long)pair.opened);
    end(&pair);
}

static void measure_copy(const char *directory)
{
    char path[1100];
    struct pair pair;
    struct measure measure = {0};
    struct watch watch;
    begin(&pair, directory, "copy", 1);
    append_many(&pair, pair.master, 0, COPIED_MESSAGES, COPIED_SIZE);
    cut(&pair);
    path_of(&pair, "replica", path);
    bench_require(store_init(path, ROLE_REPLICA, NULL, NULL), "init", err_message());
    bench_require(store_open(path, NULL, &pair.replica), "open", err_message());
    repair_watched(&pair, &measure, &watch);
    print("a replica that lacks everything", &measure);
    printf("%.1f MB/s of mail; anonymous memory: %.1f MB at most\n",
           (double)COPIED_MESSAGES * COPIED_SIZE / 1e6 / measure.wall[0],
           (double)watch.highest / 1024);
    end(&pair);
}

static void measure_divergent(const char *directory)
{
    struct pair pair;
    struct measure measure = {0};
    struct watch watch;
    begin(&pair, directory, "divergent", 1);
    append_many(&pair, pair.master, 0, DIVERGENT, 512);
    copy_master(&pair);
    bench_require(store_promote(pair.replica, false), "promote", err_message());
    append_many(&pair, pair.master, 0, DIVERGENT, 512);
    append_many(&pair, pair.replica, 0, DIVERGENT, 512);
    bench_require(store_demote(pair.replica, NULL, false), "demote", err_message());
    repair_watched(&pair, &measure, &watch);
    print("fork, 20,000 new messages at each end", &measure);
    printf("renumbered %llu, copied back %llu; anonymous memory: %.1f MB at most\n",
           (unsigned long long)measure.last.renumbered,
           (unsigned long long)measure.last.copied_back, (double)watch.highest / 1024);
    end(&pair);
}

int main(int argc, char **argv)
{
    uint32_t messages = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1000000;
    unsigned rounds = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 9;
    if (argc < 2 || messages < 10000 || rounds == 0 || rounds >= ROUNDS_MOST) {
        fputs("usage: merge DIRECTORY [MESSAGES [ROUNDS [WHAT]]]\n", stderr);
        return 2;
    }
    const char *only = argc > 4 ? argv[4] : NULL;
    if (!only || strcmp(only, "large") == 0)
        measure_large(argv[1], messages, rounds);
    if (!only || strcmp(only, "boxes") == 0)
        measure_boxes(argv[1], rounds);
    if (!only || strcmp(only, "copy") == 0)
        measure_copy(argv[1]);
    if (!only || strcmp(only, "divergent") == 0)
        measure_divergent(argv[1]);
    return 0;
}
