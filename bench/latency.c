/* From a commit at the master to durable and visible at the replica, on loopback, against bare
 * durable commits of LMDB.
 *
 * usage: latency SHIPLOGD DIRECTORY [COMMITS]
 * Two agents run; one flag change after another is committed at the master. When it was durable at
 * the replica is what the agent there logs. "Bare" (bench/bare.h) makes the same commit, in turn
 * with these. The least that a replica can take is told, too: a bare commit, a word to another
 * process through a socket, and a bare commit there.
 */
#include "base/err.h"
#include "base/times.h"
#include "bench/bare.h"
#include "bench/flag.h"
#include "mailbox/draft.h"
#include "mailbox/mailbox.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* An agent. *out is what it writes to the stream `of` (STDOUT_FILENO, STDERR_FILENO). */
static pid_t start(const char *program, const char *store, const char *option, const char *value,
                   int of, int *out)
{
    int ends[2];
    bench_require(pipe(ends), "pipe", "failed");
    pid_t pid = fork();
    if (pid == 0) {
        dup2(ends[1], of);
        execl(program, program, "--store", store, option, value, (char *)NULL);
        _exit(127);
    }
    close(ends[1]);
    *out = ends[0];
    return pid;
}

static void read_line(int fd, char *line, size_t size)
{
    size_t at = 0;
    while (at + 1 < size && read(fd, line + at, 1) == 1 && line[at] != '\n')
        at++;
    line[at] = '\0';
}

struct work {
    struct name name;
    struct draft *draft;
};

/* A mailbox with one message, whose flag is then set and cleared. */
static int fill(struct tx *tx, void *arg)
{
    struct work *work = arg;
    struct mailbox *mailbox;
    struct append append = {.draft = work->draft};
    int rc = mailbox_create(tx, &work->name, NULL);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &work->name, NULL, &mailbox);
    return rc ? rc : mailbox_append(mailbox, &append, NULL);
}

static int last(struct tx *tx, void *arg)
{
    *(uint64_t *)arg = tx_window(tx)->last.modseq;
    return ERR_OK;
}

/* The replica: what its agent logs, and its store. */
struct replica {
    FILE *log;
    struct store *store;
};

/* When the commit was durable there, by the replica's own log: microseconds. It is looked whether
 * another process can see it, too. Nothing watches before: who waits for the file to be written is
 * woken by the very write that is measured. */
static int64_t arrival_of(struct replica *replica, uint64_t modseq)
{
    char line[1024], time[TIMES_TEXT_SIZE];
    unsigned long long applied = 0;
    uint64_t seen = 0;
    int64_t when = 0;
    while (applied < modseq) {
        const char *at;
        bench_require(!fgets(line, sizeof line, replica->log), "the replica's log", "ended");
        if (strstr(line, "event=applied ") && (at = strstr(line, " modseq=")) != NULL &&
            sscanf(line, "time=%39s", time) == 1)
            applied = strtoull(at + strlen(" modseq="), NULL, 10);
    }
    bench_require(times_parse_rfc3339(time, &when), "the replica's log", err_message());
    bench_require(store_read(replica->store, last, &seen), "read", err_message());
    bench_require(seen < modseq, "the replica", "does not show what it logged");
    return when;
}

/* Another process, which makes a bare commit whenever it is told to, and says when it is done. */
static pid_t start_relay(const char *path, int *to)
{
    int ends[2];
    char word;
    bench_require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair", "failed");
    pid_t pid = fork();
    *to = ends[0];
    if (pid) {
        close(ends[1]);
        return pid;
    }
    struct bare bare;
    bare_open(&bare, path);
    close(ends[0]);
    while (read(ends[1], &word, sizeof word) == sizeof word) {
        bare_flag(&bare, 1);
        if (write(ends[1], &word, sizeof word) != sizeof word)
            break;
    }
    bare_close(&bare);
    _exit(0);
}

static void relay(int to)
{
    char word = 0;
    bool done =
        write(to, &word, sizeof word) == sizeof word && read(to, &word, sizeof word) == sizeof word;
    bench_require(!done, "relay", "failed");
}

static void report(const char *what, double *times, double *bare, size_t count)
{
    double t50 = bench_quantile(times, count, 0.5), b50 = bench_quantile(bare, count, 0.5);
    double t99 = bench_quantile(times, count, 0.99), b99 = bench_quantile(bare, count, 0.99);
    printf("%s: median %.3f ms, %.2f bare commits; 99th percentile %.3f ms, %.2f bare commits\n",
           what, t50 * 1e3, t50 / b50, t99 * 1e3, t99 / b99);
}

static double time_bare(struct bare *bare)
{
    double begun = bench_now();
    bare_flag(bare, 1);
    return bench_now() - begun;
}

/* Of bare LMDB, too, each file is written once a round: what is written again within one tick of
 * the kernel's clock keeps its times, and some file systems save a write then. */
static void measure(const struct name *mailbox, struct store *master, struct replica *replica,
                    struct bare *alone, struct bare *before, int to, size_t count)
{
    struct position position;
    double *here = calloc(count, sizeof *here);
    double *there = calloc(count, sizeof *there);
    double *bare = calloc(count, sizeof *bare);
    double *two = calloc(count, sizeof *two);
    bench_require(!here || !there || !bare || !two, "memory", "short");
    for (size_t i = 0; i < count; i++) {
        struct flag flag = {.mailbox = mailbox, .uid = 1, .add = i % 2 == 0};
        if (i % 4 >= 2) /* the two take turns in going first */
            bare[i] = time_bare(alone);
        int64_t since = times_now();
        double begun = bench_now();
        flag_commit(master, &flag, &position);
        here[i] = bench_now() - begun;
        there[i] = (double)(arrival_of(replica, position.modseq) - since) / 1e6;
        if (i % 4 < 2)
            bare[i] = time_bare(alone);
        begun = bench_now();
        bare_flag(before, 1);
        relay(to);
        two[i] = bench_now() - begun;
    }
    printf("%zu commits, a bare one: median %.3f ms\n", count,
           bench_quantile(bare, count, 0.5) * 1e3);
    report("durable at the master", here, bare, count);
    report("durable at the replica", there, bare, count);
    report("bare, in one process and then in another", two, bare, count);
    free(here);
    free(there);
    free(bare);
    free(two);
}

int main(int argc, char **argv)
{
    enum { A, B, ALONE, BEFORE, RELAY, PATHS };
    static const char *const names[PATHS] = {"a", "b", "bare", "before", "relay"};
    char paths[PATHS][1024], line[256];
    size_t count = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;
    struct store *master;
    struct owner owner = {.user = "owner"};
    struct work work = {0};
    int out_a, out_b, to;
    if (argc < 3 || count == 0) {
        fputs("usage: latency SHIPLOGD DIRECTORY [COMMITS]\n", stderr);
        return 2;
    }
    mkdir(argv[2], 0700);
    for (int i = 0; i < PATHS; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s", argv[2], names[i]);
    bench_require(store_init(paths[A], ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_init(paths[B], ROLE_REPLICA, NULL, NULL), "init", err_message());
    pid_t third = start_relay(paths[RELAY], &to);
    pid_t first = start(argv[1], paths[A], "--listen", "127.0.0.1:0", STDOUT_FILENO, &out_a);
    read_line(out_a, line, sizeof line);
    setenv("SHIPLOG_LOG", "debug", 1);
    pid_t second =
        start(argv[1], paths[B], "--follow", line + strlen("listening "), STDERR_FILENO, &out_b);
    struct replica replica = {.log = fdopen(out_b, "r")};
    bench_require(!replica.log, "the replica's log", "cannot be read");
    bench_require(store_open(paths[A], NULL, &master), "open", err_message());
    bench_require(store_open(paths[B], NULL, &replica.store), "open", err_message());
    bench_require(name_parse("INBOX", 5, &owner, &work.name), "name", err_message());
    struct position filled;
    bench_require(draft_open(store_db(master), DRAFT_RAW, &work.draft), "draft", err_message());
    bench_require(draft_finish(work.draft), "draft", err_message());
    bench_require(store_commit(master, fill, &work, &filled), "fill", err_message());
    draft_close(work.draft);
    arrival_of(&replica, filled.modseq);
    struct bare alone, before;
    bare_open(&alone, paths[ALONE]);
    bare_open(&before, paths[BEFORE]);
    measure(&work.name, master, &replica, &alone, &before, to, count);
    bare_close(&alone);
    bare_close(&before);
    store_close(master);
    store_close(replica.store);
    close(to);
    kill(first, SIGTERM);
    kill(second, SIGTERM);
    waitpid(first, NULL, 0);
    waitpid(second, NULL, 0);
    waitpid(third, NULL, 0);
    fclose(replica.log);
    return 0;
}
