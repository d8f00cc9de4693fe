/* A store of a fixed live size through which mail goes: does its file stop growing?
 *
 * usage: churn DIRECTORY [LIVE-MEGABYTES [TIMES]]
 * Messages of 2 to 60 KB that do not deflate come in, the oldest are expunged and purged, the
 * window is kept to 10,000 entries. A line for each time that the live size went through.
 */
#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"

#include <string.h>
#include <sys/stat.h>
#include <zlib.h>

#define IN_ONE_COMMIT 64u
#define SMALLEST 2048u
#define LARGEST 61440u
#define KEPT_ENTRIES 10000u
#define RETAIN_EVERY 16u /* commits */

static uint64_t random_state = 88172645463325252u;

static uint64_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

struct churn {
    struct store *store;
    struct name name;
    struct draft *drafts[IN_ONE_COMMIT];
    uint64_t live_most;
    uint64_t live; /* bytes */
    uint32_t oldest;
    uint32_t next;
    uint32_t *sizes; /* of messages, by UID less `oldest`, in a ring */
    size_t ring;
    struct retention policy;
};

static int create(struct tx *tx, void *arg)
{
    struct churn *churn = arg;
    int rc = retention_save(tx_db(tx), &churn->policy);
    return rc ? rc : mailbox_create(tx, &churn->name, NULL);
}

static int append(struct tx *tx, void *arg)
{
    struct churn *churn = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open(tx, &churn->name, NULL, &mailbox);
    for (unsigned i = 0; i < IN_ONE_COMMIT && rc == ERR_OK; i++) {
        struct append one = {.draft = churn->drafts[i]};
        rc = mailbox_append(mailbox, &one, NULL);
    }
    return rc;
}

static int expunge(struct tx *tx, void *arg)
{
    const struct churn *churn = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    int rc = mailbox_open(tx, &churn->name, NULL, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_add_range(&uids, 1, churn->oldest - 1);
    if (rc == ERR_OK)
        rc = mailbox_expunge(mailbox, &uids, true, NULL);
    uidset_free(&uids);
    return rc;
}

/* Deflated without compressing: what is measured is the store. */
static uint64_t make_draft(struct churn *churn, struct draft **draft)
{
    static uint64_t raw[LARGEST / 8];
    static uint8_t deflated[LARGEST + 1024];
    size_t size = SMALLEST + random_next() % (LARGEST - SMALLEST);
    uLongf room = sizeof deflated;
    for (size_t i = 0; i < size / 8; i++)
        raw[i] = random_next();
    int rc = draft_open(store_db(churn->store), DRAFT_DEFLATED, draft);
    if (compress2(deflated, &room, (const Bytef *)raw, size, 0) != Z_OK)
        rc = fail(ERR_NOMEM, "zlib");
    if (rc == ERR_OK)
        rc = draft_write(*draft, deflated, room);
    if (rc == ERR_OK)
        rc = draft_finish(*draft);
    bench_require(rc, "draft", err_message());
    return size;
}

static uint64_t deliver(struct churn *churn)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < IN_ONE_COMMIT; i++) {
        uint64_t size = make_draft(churn, &churn->drafts[i]);
        churn->sizes[churn->next++ % churn->ring] = (uint32_t)size;
        bytes += size;
    }
    bench_require(store_commit(churn->store, append, churn, NULL), "append", err_message());
    for (unsigned i = 0; i < IN_ONE_COMMIT; i++)
        draft_close(churn->drafts[i]);
    churn->live += bytes;
    return bytes;
}

static void remove_oldest(struct churn *churn)
{
    uint32_t before = churn->oldest;
    while (churn->live > churn->live_most)
        churn->live -= churn->sizes[churn->oldest++ % churn->ring];
    if (churn->oldest > before)
        bench_require(store_commit(churn->store, expunge, churn, NULL), "expunge", err_message());
}

static void report(struct churn *churn, unsigned round, double seconds)
{
    struct db_usage usage;
    bench_require(db_usage(store_db(churn->store), &usage), "usage", err_message());
    printf("%3u times: live %7.1f MB, file %7.1f MB (%.3f of it), of which %.1f MB free; %.0f s\n",
           round, (double)churn->live / 1e6, (double)usage.file_bytes / 1e6,
           (double)usage.file_bytes / (double)churn->live, (double)usage.free_bytes / 1e6, seconds);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    char path[1024];
    struct churn churn = {.oldest = 1, .next = 1, .policy = {.entries = KEPT_ENTRIES}};
    struct owner owner = {.user = "owner"};
    struct store_options options = {.relaxed = true};
    uint64_t megabytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 50;
    unsigned times = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 20;
    if (argc < 2 || megabytes == 0) {
        fputs("usage: churn DIRECTORY [LIVE-MEGABYTES [TIMES]]\n", stderr);
        return 2;
    }
    churn.live_most = megabytes * 1000000;
    churn.ring = (size_t)(churn.live_most / SMALLEST) + 2 * IN_ONE_COMMIT;
    churn.sizes = calloc(churn.ring, sizeof *churn.sizes);
    bench_require(!churn.sizes, "memory", "short");
    mkdir(argv[1], 0700);
    snprintf(path, sizeof path, "%s/store", argv[1]);
    bench_require(store_init(path, ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_open(path, &options, &churn.store), "open", err_message());
    bench_require(name_parse("INBOX", 5, &owner, &churn.name), "name", err_message());
    bench_require(store_commit(churn.store, create, &churn, NULL), "create", err_message());
    double start = bench_now();
    for (unsigned round = 1; round <= times; round++) {
        uint64_t bytes = 0;
        for (unsigned commits = 1; bytes < churn.live_most; commits++) {
            struct retained done;
            bytes += deliver(&churn);
            remove_oldest(&churn);
            if (commits % RETAIN_EVERY == 0)
                bench_require(store_retain(churn.store, 0, true, &done), "retain", err_message());
        }
        report(&churn, round, bench_now() - start);
    }
    store_close(churn.store);
    free(churn.sizes);
    return 0;
}
