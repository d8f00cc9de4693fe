/* Commits against bare LMDB: the same puts and gets to the same tables, with the same keys and
 * sizes and the same syncs, and nothing else.
 *
 * usage: commit DIRECTORY [ROUNDS]
 * Two kinds of commit: 256 messages of 4 KB, and a single flag change. The messages are deflated
 * beforehand; hashing them counts as shiplog's time. The two take turns in going first.
 */
#include "base/err.h"
#include "bench/bare.h"
#include "bench/bench.h"
#include "bench/flag.h"
#include "mailbox/mailbox.h"

#include <string.h>
#include <sys/stat.h>

#define MESSAGES 256u
#define MESSAGE_SIZE 4096u
#define FLAG_COMMITS 200u

static void bare_append(struct bare *bare, struct draft **drafts)
{
    MDB_txn *txn;
    bare_begin(bare, &txn);
    for (unsigned i = 0; i < MESSAGES; i++) {
        uint8_t key[12] = {0};
        const uint8_t *guid = draft_guid(drafts[i])->bytes;
        size_t left = (size_t)draft_stored(drafts[i]);
        bare_get(bare, txn, GUIDS, guid, GUID_SIZE);
        bare_get(bare, txn, STATE, "content", 7);
        bare_put(bare, txn, STATE, "content", 7, blank, 8, 0);
        save_be64(key, ++bare->content);
        bare_put(bare, txn, CONTENT, key, sizeof key, blank, left + 4, 0);
        bare_put(bare, txn, GUIDS, guid, GUID_SIZE, blank, 36, 0);
        save_be32(key, 1);
        save_be32(key + 4, ++bare->uid);
        bare_get(bare, txn, RECORDS, key, 8);
        bare_put(bare, txn, RECORDS, key, 8, blank, 100, 0);
        bare_get(bare, txn, GUIDS, guid, GUID_SIZE);
        bare_put(bare, txn, GUIDS, guid, GUID_SIZE, blank, 36, 0);
        bare_entry(bare, txn, ENTRY_APPEND_SIZE);
    }
    bare_end(bare, txn);
}

struct work {
    struct name name;
    struct draft **drafts;
    char (*texts)[MESSAGE_SIZE];
};

static int create(struct tx *tx, void *arg)
{
    struct work *work = arg;
    return mailbox_create(tx, &work->name, NULL);
}

static int append(struct tx *tx, void *arg)
{
    struct work *work = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open(tx, &work->name, NULL, &mailbox);
    for (unsigned i = 0; i < MESSAGES && rc == ERR_OK; i++) {
        struct append one = {.draft = work->drafts[i]};
        rc = mailbox_append(mailbox, &one, NULL);
    }
    return rc;
}

static void make_drafts(struct store *store, struct work *work, unsigned round)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        unsigned seed = round * MESSAGES + i + 1;
        for (size_t k = 0; k < MESSAGE_SIZE; k++) {
            seed = seed * 1103515245u + 12345u;
            work->texts[i][k] = (char)("etaoin shrdlu cmfwyp"[(seed >> 16) % 20]);
        }
        int rc = draft_open(store_db(store), DRAFT_RAW, &work->drafts[i]);
        if (rc == ERR_OK)
            rc = draft_write(work->drafts[i], work->texts[i], MESSAGE_SIZE);
        if (rc == ERR_OK)
            rc = draft_finish(work->drafts[i]);
        bench_require(rc, "draft", err_message());
    }
}

/* What finding the messages' names cost when the drafts were made. */
static void hash_texts(const struct work *work)
{
    for (unsigned i = 0; i < MESSAGES; i++) {
        struct guid guid;
        struct guid_hash *hash = hash_guid_start();
        bench_require(!hash, "memory", "short");
        hash_guid_update(hash, work->texts[i], MESSAGE_SIZE);
        hash_guid_finish(hash, &guid);
        bench_require(!guid_equal(&guid, draft_guid(work->drafts[i])), "hash", "differs");
    }
}

static void commit(struct store *store, int (*change)(struct tx *, void *), struct work *work)
{
    bench_require(store_commit(store, change, work, NULL), "commit", err_message());
}

static void report(const char *what, double *ours, double *bare, size_t rounds)
{
    double a = bench_quantile(ours, rounds, 0.5);
    double b = bench_quantile(bare, rounds, 0.5);
    printf("%-34s shiplog %8.3f ms, bare %8.3f ms, speed %.2f of bare (medians of %zu)\n", what,
           a * 1e3, b * 1e3, b / a, rounds);
}

struct bench {
    struct store *store;
    struct bare bare;
    struct work work;
    struct flag flag;
    double *ours;
    double *theirs;
};

static void append_ours(struct bench *bench)
{
    hash_texts(&bench->work);
    commit(bench->store, append, &bench->work);
}

static void append_bare(struct bench *bench)
{
    bare_append(&bench->bare, bench->work.drafts);
}

static void flag_ours(struct bench *bench)
{
    flag_commit(bench->store, &bench->flag, NULL);
}

static void flag_bare(struct bench *bench)
{
    bare_flag(&bench->bare, bench->flag.uid);
}

static double seconds(struct bench *bench, void (*work)(struct bench *))
{
    double start = bench_now();
    work(bench);
    return bench_now() - start;
}

static void take_turns(struct bench *bench, size_t turn, void (*ours)(struct bench *),
                       void (*theirs)(struct bench *))
{
    if (turn % 2)
        bench->ours[turn] = seconds(bench, ours);
    bench->theirs[turn] = seconds(bench, theirs);
    if (turn % 2 == 0)
        bench->ours[turn] = seconds(bench, ours);
}

static void measure(struct bench *bench, size_t rounds)
{
    struct work *work = &bench->work;
    for (size_t round = 0; round < rounds; round++) {
        make_drafts(bench->store, work, (unsigned)round);
        take_turns(bench, round, append_ours, append_bare);
        for (unsigned i = 0; i < MESSAGES; i++)
            draft_close(work->drafts[i]);
    }
    report("256 messages of 4 KB, one commit:", bench->ours, bench->theirs, rounds);
    for (size_t i = 0; i < rounds * FLAG_COMMITS; i++) {
        uint32_t uid = 1 + (uint32_t)(i / 2 * 7919 % (rounds * MESSAGES)); /* on, and off again */
        bench->flag = (struct flag){.mailbox = &work->name, .uid = uid, .add = i % 2 == 0};
        take_turns(bench, i, flag_ours, flag_bare);
    }
    report("a flag change, one commit:", bench->ours, bench->theirs, rounds * FLAG_COMMITS);
}

int main(int argc, char **argv)
{
    static char texts[MESSAGES][MESSAGE_SIZE];
    static struct draft *drafts[MESSAGES];
    char path[1024];
    size_t rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 15;
    struct bench bench = {.work = {.drafts = drafts, .texts = texts}};
    struct owner owner = {.user = "owner"};
    struct store_options options = {.map_size = BARE_MAP_SIZE};
    if (argc < 2 || rounds == 0) {
        fputs("usage: commit DIRECTORY [ROUNDS]\n", stderr);
        return 2;
    }
    bench.ours = calloc(rounds * FLAG_COMMITS, sizeof *bench.ours);
    bench.theirs = calloc(rounds * FLAG_COMMITS, sizeof *bench.theirs);
    bench_require(!bench.ours || !bench.theirs, "memory", "short");
    mkdir(argv[1], 0700);
    snprintf(path, sizeof path, "%s/bare", argv[1]);
    bare_open(&bench.bare, path);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    bench_require(store_init(path, ROLE_MASTER, NULL, &options), "init", err_message());
    bench_require(store_open(path, &options, &bench.store), "open", err_message());
    bench_require(name_parse("INBOX", 5, &owner, &bench.work.name), "name", err_message());
    commit(bench.store, create, &bench.work);
    measure(&bench, rounds);
    store_close(bench.store);
    bare_close(&bench.bare);
    free(bench.ours);
    free(bench.theirs);
    return 0;
}
