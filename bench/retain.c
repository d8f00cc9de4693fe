/* A long journal of made-up life: how small the archive is, how long writers wait while the window
 * is trimmed, how fast the past is reached through the archive.
 *
 * usage: retain DIRECTORY [ENTRIES]
 * One entry a commit, with a clock of its own that goes on by some seconds each time, so that times
 * do not deflate better than those of a real store. The journal's table is measured in pages.
 */
#include "base/err.h"
#include "bench/bench.h"
#include "journal/slots.h"
#include "mailbox/flags.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/view.h"

#include <dirent.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BOXES 100u
#define LETTERS 2000u /* under way at a time */
#define LATENCIES 1000000u

static _Atomic int64_t made_up_time = 1700000000000000;

int clock_gettime(clockid_t clock, struct timespec *time)
{
    if (clock != CLOCK_REALTIME)
        return (int)syscall(SYS_clock_gettime, clock, time);
    time->tv_sec = made_up_time / 1000000;
    time->tv_nsec = made_up_time % 1000000 * 1000;
    return 0;
}

static uint64_t random_state = 88172645463325252u;

static uint32_t below(uint32_t bound)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (uint32_t)((random_state >> 32) % bound);
}

/* A message that something will happen to. */
struct letter {
    unsigned box;
    uint32_t uid;
    enum { NEW, READ, DOOMED } state;
};

struct life {
    struct store *store;
    struct name names[BOXES];
    uint64_t ids[BOXES];
    struct letter letters[LETTERS];
    size_t letter_count;
    struct letter *letter; /* that this change is about */
    unsigned box;
    struct draft *draft; /* NULL: no delivery */
    enum { SEE, MARK, DOOM, EXPUNGE, MOVE, KEEP } what;
};

static int create(struct tx *tx, void *arg)
{
    struct life *life = arg;
    return mailbox_create(tx, &life->names[life->box], &life->ids[life->box]);
}

static int change_flags(struct mailbox *mailbox, const struct life *life, const struct uidset *uids)
{
    static const char *const marks[] = {"\\Answered", "\\Flagged", "$Forwarded", "NonJunk"};
    static const char *const names[] = {"\\Seen", NULL, "\\Deleted"};
    struct flag_change change = {.mode = FLAGS_ADD};
    int rc =
        flags_add_list(&change.flags, life->what == MARK ? marks[below(4)] : names[life->what]);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, uids, &change, NULL);
    flags_free(&change.flags);
    return rc;
}

static int move(struct tx *tx, struct life *life, struct mailbox *mailbox,
                const struct uidset *uids)
{
    struct mailbox *target;
    struct uidset from = {0}, to = {0};
    unsigned other = (life->letter->box + 1 + below(BOXES - 1)) % BOXES;
    int rc = mailbox_open(tx, &life->names[other], NULL, &target);
    if (rc == ERR_OK)
        rc = mailbox_copy(mailbox, uids, target, true, &from, &to);
    uidset_free(&from);
    uidset_free(&to);
    return rc;
}

static int change(struct tx *tx, void *arg)
{
    struct life *life = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    struct append append = {.draft = life->draft, .internal_date = made_up_time};
    char actor[64];
    snprintf(actor, sizeof actor, "user%u@example.org", life->letter->box / 4);
    tx_set_actor(tx, life->draft ? "lmtp" : actor);
    int rc = mailbox_open(tx, &life->names[life->letter->box], NULL, &mailbox);
    if (rc == ERR_OK && life->draft)
        return mailbox_append(mailbox, &append, &life->letter->uid);
    if (rc == ERR_OK)
        rc = uidset_add(&uids, life->letter->uid);
    if (rc == ERR_OK && life->what <= DOOM)
        rc = change_flags(mailbox, life, &uids);
    else if (rc == ERR_OK && life->what == EXPUNGE)
        rc = mailbox_expunge(mailbox, &uids, false, NULL);
    else if (rc == ERR_OK)
        rc = move(tx, life, mailbox, &uids);
    uidset_free(&uids);
    return rc;
}

static void deliver(struct life *life, unsigned number)
{
    char text[128];
    int size =
        snprintf(text, sizeof text, "Subject: message %u\r\n\r\n%u\r\n", number, below(1000));
    int rc = draft_open(store_db(life->store), DRAFT_RAW, &life->draft);
    if (rc == ERR_OK)
        rc = draft_write(life->draft, text, (size_t)size);
    if (rc == ERR_OK)
        rc = draft_finish(life->draft);
    bench_require(rc, "draft", err_message());
}

static int get_window(struct tx *tx, void *arg)
{
    *(struct journal_window *)arg = *tx_window(tx);
    return ERR_OK;
}

static struct journal_window window_of(struct life *life)
{
    struct journal_window window;
    bench_require(store_read(life->store, get_window, &window), "window", err_message());
    return window;
}

/* What becomes of a message: it is read; then some are marked, most deleted, a few moved or kept as
 * they are. */
static void decide(struct life *life)
{
    struct letter *letter = life->letter;
    unsigned fate = below(100);
    if (letter->state == NEW)
        life->what = SEE;
    else if (letter->state == DOOMED)
        life->what = EXPUNGE;
    else
        life->what = fate < 15 ? MARK : fate < 70 ? DOOM : fate < 90 ? MOVE : KEEP;
    letter->state = life->what == DOOM ? DOOMED : READ;
}

static void step(struct life *life, unsigned number)
{
    life->draft = NULL;
    if (life->letter_count < LETTERS) {
        life->letter = &life->letters[life->letter_count++];
        *life->letter = (struct letter){.box = below(BOXES)};
        deliver(life, number);
    } else {
        life->letter = &life->letters[below(LETTERS)];
        decide(life);
    }
    if (life->draft || life->what != KEEP)
        bench_require(store_commit(life->store, change, life, NULL), "commit", err_message());
    if (!life->draft && life->what >= EXPUNGE)
        *life->letter = life->letters[--life->letter_count];
    draft_close(life->draft);
}

static void live(struct life *life, uint64_t entries)
{
    char text[32];
    struct owner owner = {.user = "owner"};
    for (life->box = 0; life->box < BOXES; life->box++) {
        int size = snprintf(text, sizeof text, "box%u", life->box);
        bench_require(name_parse(text, (size_t)size, &owner, &life->names[life->box]), "name",
                      err_message());
        bench_require(store_commit(life->store, create, life, NULL), "create", err_message());
    }
    for (unsigned i = 0; i % 1000 || window_of(life).entries < entries; i++) {
        made_up_time += below(5000000);
        step(life, i);
    }
}

/* Bytes of the pages of the journal's table. */
static uint64_t journal_pages(const char *path)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    MDB_stat stat;
    mdb_env_create(&env);
    mdb_env_set_maxdbs(env, 64);
    int mdb = mdb_env_open(env, path, MDB_RDONLY | MDB_NOTLS, 0);
    bench_require(mdb, "open", mdb_strerror(mdb));
    mdb = mdb_txn_begin(env, NULL, MDB_RDONLY, &txn);
    bench_require(mdb, "begin", mdb_strerror(mdb));
    bench_require(mdb_dbi_open(txn, "journal", 0, &dbi), "journal", "not there");
    mdb_stat(txn, dbi, &stat);
    mdb_txn_abort(txn);
    mdb_env_close(env);
    return stat.ms_psize * (stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages);
}

static uint64_t archive_bytes(const char *path)
{
    char name[1100];
    struct stat st;
    uint64_t bytes = 0;
    snprintf(name, sizeof name, "%s/archive", path);
    DIR *directory = opendir(name);
    bench_require(!directory, name, "not there");
    const struct dirent *item;
    while ((item = readdir(directory)))
        if (fstatat(dirfd(directory), item->d_name, &st, 0) == 0 && S_ISREG(st.st_mode))
            bytes += (uint64_t)st.st_size;
    closedir(directory);
    return bytes;
}

/* Another writer, meanwhile. */
struct writer {
    struct store *store;
    atomic_bool stop;
    double *latencies;
    size_t count;
};

static int save_slot(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "bench"};
    (void)arg;
    return slot_put(tx_db(tx), &slot);
}

static void *write_on(void *arg)
{
    struct writer *writer = arg;
    while (!writer->stop && writer->count < LATENCIES) {
        double start = bench_now();
        bench_require(store_maintain(writer->store, save_slot, NULL), "write", err_message());
        writer->latencies[writer->count++] = bench_now() - start;
        usleep(500);
    }
    return NULL;
}

static void begin_writing(struct writer *writer, struct store *store, pthread_t *thread)
{
    writer->store = store;
    writer->stop = false;
    writer->count = 0;
    bench_require(pthread_create(thread, NULL, write_on, writer), "thread", "failed");
}

static void end_writing(struct writer *writer, pthread_t thread, const char *what)
{
    writer->stop = true;
    pthread_join(thread, NULL);
    double median = bench_quantile(writer->latencies, writer->count, 0.5);
    printf("%-34s another's commit takes %.2f ms, 99%% up to %.2f ms, at most %.2f ms (%zu)\n",
           what, median * 1e3, bench_quantile(writer->latencies, writer->count, 0.99) * 1e3,
           writer->latencies[writer->count - 1] * 1e3, writer->count);
}

static void cut_half(struct life *life, bool archive, struct writer *writer)
{
    struct retained done;
    pthread_t thread;
    struct cut cut = {.entries = window_of(life).entries / 2,
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    if (!archive)
        cut.entries = 0;
    begin_writing(writer, life->store, &thread);
    double start = bench_now();
    bench_require(store_cut(life->store, &cut, archive, &done), "cut", err_message());
    double took = bench_now() - start;
    end_writing(writer, thread, archive ? "while half is archived:" : "while the rest is trimmed:");
    printf("%-34s %.2f s, %.0f entries/s\n", archive ? "archived and trimmed:" : "trimmed:", took,
           (double)done.trimmed / took);
}

static void look_back(struct life *life, uint64_t modseq)
{
    struct view *view;
    unsigned undone = 0;
    double start = bench_now();
    for (unsigned i = 0; i < BOXES; i += BOXES / 10) {
        bench_require(view_open(life->store, life->ids[i], &view), "view", err_message());
        bench_require(view_back(view, modseq), "back", err_message());
        undone += view_header(view)->facts.state == MAILBOX_LIVE;
        view_close(view);
    }
    printf("%-34s %.2f s for %u mailboxes\n", "back to the archive's first:", bench_now() - start,
           undone);
}

int main(int argc, char **argv)
{
    char path[1024];
    uint64_t entries = argc > 2 ? strtoull(argv[2], NULL, 10) : 1000000;
    pthread_t thread;
    if (argc < 2 || entries < 1000) {
        fputs("usage: retain DIRECTORY [ENTRIES]\n", stderr);
        return 2;
    }
    struct life *life = calloc(1, sizeof *life);
    struct writer writer = {.latencies = calloc(LATENCIES, sizeof(double))};
    bench_require(!life || !writer.latencies, "memory", "short");
    mkdir(argv[1], 0700);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    struct store_options options = {.relaxed = true};
    bench_require(store_init(path, ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_open(path, &options, &life->store), "open", err_message());
    double start = bench_now();
    live(life, entries);
    struct journal_window window = window_of(life);
    printf("%-34s %llu entries, %.1f bytes each, in %.0f s\n",
           "journal:", (unsigned long long)window.entries,
           (double)window.bytes / (double)window.entries, bench_now() - start);
    store_close(life->store);
    uint64_t pages = journal_pages(path);
    bench_require(store_open(path, NULL, &life->store), "open", err_message());
    begin_writing(&writer, life->store, &thread);
    sleep(2);
    end_writing(&writer, thread, "alone:");
    uint64_t half = window.entries;
    cut_half(life, true, &writer);
    half -= window_of(life).entries;
    double in_pages = (double)pages * (double)half / (double)window.entries;
    double archived = (double)archive_bytes(path);
    printf("%-34s %.1f bytes an entry, %.2f times smaller than in LMDB (%.1f)\n",
           "archive:", archived / (double)half, in_pages / archived, in_pages / (double)half);
    look_back(life, BOXES + 1);
    cut_half(life, false, &writer);
    store_close(life->store);
    free(writer.latencies);
    free(life);
    return 0;
}
