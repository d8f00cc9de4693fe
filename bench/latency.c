/* From a commit at the master to durable and visible at the replica, on loopback, against bare
 * durable commits of LMDB.
 *
 * usage: latency SHIPLOGD DIRECTORY [COMMITS]
 * Two agents run; one commit after another is made at the master. When it was durable at the
 * replica is what the agent there logs. "Bare" puts one row of an entry's size and one of a
 * record's and commits, in turn with these. The least that a replica can take is told, too: a bare
 * commit, a word to another process through a socket, and a bare commit there.
 */
#include "base/err.h"
#include "base/times.h"
#include "bench/bench.h"
#include "mailbox/mailbox.h"

#include <lmdb.h>
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
    unsigned count;
};

static int create(struct tx *tx, void *arg)
{
    struct work *work = arg;
    return mailbox_create(tx, &work->name, NULL);
}

static int change(struct tx *tx, void *arg)
{
    struct work *work = arg;
    return mailbox_meta_set(tx, NULL, NULL, "bench", bytes_of(&work->count, sizeof work->count));
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

static void bare_commit(MDB_env *env, MDB_dbi table, unsigned count)
{
    static uint8_t blank[128];
    MDB_txn *txn;
    uint64_t number = count;
    MDB_val key = {sizeof number, &number};
    MDB_val value = {sizeof blank, blank};
    MDB_val one = {4, "node"};
    int mdb = mdb_txn_begin(env, NULL, 0, &txn);
    if (!mdb)
        mdb = mdb_put(txn, table, &key, &value, 0);
    if (!mdb)
        mdb = mdb_put(txn, table, &one, &value, 0);
    if (!mdb)
        mdb = mdb_txn_commit(txn);
    bench_require(mdb, "bare commit", mdb_strerror(mdb));
}

static MDB_env *bare_open(const char *path, MDB_dbi *table)
{
    MDB_env *env;
    MDB_txn *txn;
    mkdir(path, 0700);
    int mdb = mdb_env_create(&env);
    if (!mdb)
        mdb = mdb_env_set_mapsize(env, (size_t)1 << 30);
    if (!mdb)
        mdb = mdb_env_open(env, path, 0, 0600);
    if (!mdb)
        mdb = mdb_txn_begin(env, NULL, 0, &txn);
    if (!mdb)
        mdb = mdb_dbi_open(txn, NULL, 0, table);
    if (!mdb)
        mdb = mdb_txn_commit(txn);
    bench_require(mdb, "bare", mdb_strerror(mdb));
    return env;
}

/* Another process, which makes a bare commit whenever it is told to, and says when it is done. */
static pid_t start_relay(const char *path, int *to)
{
    int ends[2];
    unsigned count;
    bench_require(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), "socketpair", "failed");
    pid_t pid = fork();
    *to = ends[0];
    if (pid) {
        close(ends[1]);
        return pid;
    }
    MDB_dbi table;
    MDB_env *env = bare_open(path, &table);
    close(ends[0]);
    while (read(ends[1], &count, sizeof count) == sizeof count) {
        bare_commit(env, table, count);
        if (write(ends[1], &count, sizeof count) != sizeof count)
            break;
    }
    mdb_env_close(env);
    _exit(0);
}

static void relay(int to, unsigned count)
{
    bool done = write(to, &count, sizeof count) == sizeof count &&
                read(to, &count, sizeof count) == sizeof count;
    bench_require(!done, "relay", "failed");
}

static void report(const char *what, double *times, double *bare, size_t count)
{
    double t50 = bench_quantile(times, count, 0.5), b50 = bench_quantile(bare, count, 0.5);
    double t99 = bench_quantile(times, count, 0.99), b99 = bench_quantile(bare, count, 0.99);
    printf("%s: median %.3f ms, %.2f bare commits; 99th percentile %.3f ms, %.2f bare commits\n",
           what, t50 * 1e3, t50 / b50, t99 * 1e3, t99 / b99);
}

/* An environment of bare LMDB. Each is written once a round, as the stores are: what is written
 * again within one tick of the kernel's clock keeps its times, and some file systems save a write
 * then. */
struct bare {
    MDB_env *env;
    MDB_dbi table;
};

static void measure(struct store *master, struct replica *replica, const struct bare *alone,
                    const struct bare *before, int to, size_t count)
{
    struct work work = {0};
    struct position position;
    double *here = calloc(count, sizeof *here);
    double *there = calloc(count, sizeof *there);
    double *bare = calloc(count, sizeof *bare);
    double *two = calloc(count, sizeof *two);
    bench_require(!here || !there || !bare || !two, "memory", "short");
    for (size_t i = 0; i < count; i++) {
        work.count = (unsigned)i + 1;
        int64_t since = times_now();
        double begun = bench_now();
        bench_require(store_commit(master, change, &work, &position), "commit", err_message());
        here[i] = bench_now() - begun;
        there[i] = (double)(arrival_of(replica, position.modseq) - since) / 1e6;
        begun = bench_now();
        bare_commit(alone->env, alone->table, work.count);
        bare[i] = bench_now() - begun;
        begun = bench_now();
        bare_commit(before->env, before->table, work.count);
        relay(to, work.count);
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
    char a[1024], b[1024], c[1024], d[1024], e[1024], line[256];
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
    snprintf(a, sizeof a, "%s/a", argv[2]);
    snprintf(b, sizeof b, "%s/b", argv[2]);
    snprintf(c, sizeof c, "%s/bare", argv[2]);
    snprintf(d, sizeof d, "%s/before", argv[2]);
    snprintf(e, sizeof e, "%s/relay", argv[2]);
    bench_require(store_init(a, ROLE_MASTER, NULL, NULL), "init", err_message());
    bench_require(store_init(b, ROLE_REPLICA, NULL, NULL), "init", err_message());
    pid_t third = start_relay(e, &to);
    pid_t first = start(argv[1], a, "--listen", "127.0.0.1:0", STDOUT_FILENO, &out_a);
    read_line(out_a, line, sizeof line);
    setenv("SHIPLOG_LOG", "debug", 1);
    pid_t second =
        start(argv[1], b, "--follow", line + strlen("listening "), STDERR_FILENO, &out_b);
    struct replica replica = {.log = fdopen(out_b, "r")};
    bench_require(!replica.log, "the replica's log", "cannot be read");
    bench_require(store_open(a, NULL, &master), "open", err_message());
    bench_require(store_open(b, NULL, &replica.store), "open", err_message());
    bench_require(name_parse("INBOX", 5, &owner, &work.name), "name", err_message());
    bench_require(store_commit(master, create, &work, NULL), "create", err_message());
    arrival_of(&replica, 2);
    struct bare alone, before;
    alone.env = bare_open(c, &alone.table);
    before.env = bare_open(d, &before.table);
    measure(master, &replica, &alone, &before, to, count);
    mdb_env_close(alone.env);
    mdb_env_close(before.env);
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
