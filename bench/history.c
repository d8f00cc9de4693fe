/* Looking back: a mailbox as it was a million entries ago, and one message's life among a million
 * entries, by the commands as people run them.
 *
 * usage: history DIRECTORY SHIPLOG [ENTRIES [MESSAGES]]
 * SHIPLOG is the program; output goes to /dev/null. A store that is in DIRECTORY already is used
 * again.
 */
#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/mailbox.h"

#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define ROUNDS 5u

struct work {
    struct name name;
    struct draft *draft;
    struct guid guid;
    uint64_t messages;
    uint64_t left;
    uint64_t random;
};

static int create(struct tx *tx, void *arg)
{
    struct work *work = arg;
    return mailbox_create(tx, &work->name, NULL);
}

/* As many appends as one commit takes; the first brings the content. */
static int append(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open(tx, &work->name, NULL, &mailbox);
    for (uint64_t i = 0; i < MAILBOX_COMMIT_RECORDS && i < work->left && rc == ERR_OK; i++) {
        struct append one = {.draft = work->draft, .guid = &work->guid};
        rc = mailbox_append(mailbox, &one, NULL);
    }
    return rc;
}

/* An entry for each: a flag of some message is turned on or off. */
static int flag(struct tx *tx, void *arg)
{
    const struct work *work = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    uint64_t random = work->random;
    int rc = mailbox_open(tx, &work->name, NULL, &mailbox);
    for (uint64_t i = 0; i < MAILBOX_COMMIT_RECORDS && i < work->left && rc == ERR_OK; i++) {
        struct record record;
        struct flag_change change = {.flags.system = FLAG_FLAGGED};
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint32_t uid = 1 + (uint32_t)((random >> 33) % work->messages);
        rc = mailbox_record(mailbox, uid, &record);
        change.mode = record.flags & FLAG_FLAGGED ? FLAGS_REMOVE : FLAGS_ADD;
        uidset_clear(&uids);
        if (rc == ERR_OK)
            rc = uidset_add(&uids, uid);
        if (rc == ERR_OK)
            rc = mailbox_flag(mailbox, &uids, &change, NULL);
    }
    uidset_free(&uids);
    return rc;
}

static void repeat(struct store *store, int (*change)(struct tx *, void *), struct work *work,
                   uint64_t count)
{
    for (work->left = count; work->left;) {
        bench_require(store_commit(store, change, work, NULL), "commit", err_message());
        work->left -= work->left < MAILBOX_COMMIT_RECORDS ? work->left : MAILBOX_COMMIT_RECORDS;
        work->random += work->left * 2862933555777941757u;
        draft_close(work->draft);
        work->draft = NULL;
    }
}

static void fill(const char *path, uint64_t entries, uint64_t messages)
{
    static const char text[] = "Subject: bench\r\n\r\nthe same for all\r\n";
    struct store_options options = {.relaxed = true};
    struct owner owner = {.user = "owner"};
    struct work work = {.messages = messages, .random = 1};
    struct store *store;
    bench_require(store_open(path, &options, &store), "open", err_message());
    bench_require(name_parse("INBOX", 5, &owner, &work.name), "name", err_message());
    bench_require(store_commit(store, create, &work, NULL), "create", err_message());
    bench_require(draft_open(store_db(store), DRAFT_RAW, &work.draft), "draft", err_message());
    bench_require(draft_write(work.draft, text, sizeof text - 1), "draft", err_message());
    bench_require(draft_finish(work.draft), "draft", err_message());
    work.guid = *draft_guid(work.draft);
    repeat(store, append, &work, messages);
    repeat(store, flag, &work, entries);
    store_close(store);
}

/* Returns the processor seconds that it took. */
static double run(char **words)
{
    int status;
    struct rusage usage;
    pid_t child = fork();
    if (child == 0) {
        int nowhere = open("/dev/null", O_WRONLY);
        dup2(nowhere, STDOUT_FILENO);
        execv(words[0], words);
        _exit(127);
    }
    bench_require(child < 0 || wait4(child, &status, 0, &usage) != child || status != 0, words[0],
                  "it did not end well");
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
}

static void measure(const char *what, char **words)
{
    double times[ROUNDS], cpu[ROUNDS];
    for (unsigned i = 0; i < ROUNDS; i++) {
        double start = bench_now();
        cpu[i] = run(words);
        times[i] = bench_now() - start;
    }
    double middle = bench_quantile(times, ROUNDS, 0.5);
    printf("%-32s %8.3f s; processor %.3f s (medians of %u)\n", what, middle,
           bench_quantile(cpu, ROUNDS, 0.5), ROUNDS);
}

int main(int argc, char **argv)
{
    char at[32], uid[] = "777";
    if (argc < 3) {
        fputs("usage: history DIRECTORY SHIPLOG [ENTRIES [MESSAGES]]\n", stderr);
        return 2;
    }
    uint64_t entries = argc > 3 ? strtoull(argv[3], NULL, 10) : 1000000;
    uint64_t messages = argc > 4 ? strtoull(argv[4], NULL, 10) : 100000;
    if (store_init(argv[1], ROLE_MASTER, NULL, NULL) == ERR_OK)
        fill(argv[1], entries, messages);
    snprintf(at, sizeof at, "%" PRIu64, messages + 2);
    char *list_now[] = {argv[2], "-s", argv[1], "list", "INBOX", NULL};
    char *list_then[] = {argv[2], "-s", argv[1], "list", "INBOX", "--at", at, NULL};
    char *list_one[] = {argv[2], "-s", argv[1], "list", "INBOX", "1", "--at", at, NULL};
    char *log_uid[] = {argv[2], "-s", argv[1], "log", "INBOX", "--uid", uid, NULL};
    char *log_any[] = {argv[2], "-s", argv[1], "log", "--uid", uid, NULL};
    printf("%" PRIu64 " messages, %" PRIu64 " entries behind them\n", messages, entries);
    measure("list, now:", list_now);
    measure("list --at before all of them:", list_then);
    measure("list --at, of one UID:", list_one);
    measure("log MAILBOX --uid:", log_uid);
    measure("log --uid:", log_any);
    return 0;
}
