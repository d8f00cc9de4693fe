/* Catching up with an import, against that import.
 *
 * usage: catchup BIN DIRECTORY MAIL
 * MAIL is imported at a master; then an agent serves it and another, of an empty replica, follows.
 * Measured from the start of the follower to the moment when the replica's store is where the
 * master's is.
 */
#include "base/err.h"
#include "bench/programs.h"
#include "mailbox/store.h"

#include <sys/stat.h>

struct place {
    char program[1024];
    char store[1024];
    pid_t agent;
    int out;
};

static void init(struct place *place, const char *bin, char *option)
{
    char line[256];
    snprintf(place->program, sizeof place->program, "%s/shiplog", bin);
    char *words[] = {place->program, "-s", place->store, "init", option, NULL};
    program_run(words, line, sizeof line);
}

static void start_agent(struct place *place, const char *bin, char *option, char *value, char *line,
                        size_t size)
{
    snprintf(place->program, sizeof place->program, "%s/shiplogd", bin);
    char *words[] = {place->program, "--store", place->store, option, value, NULL};
    place->agent = program_start(words, &place->out);
    program_line(place->out, line, size);
}

static int last(struct tx *tx, void *arg)
{
    *(uint64_t *)arg = tx_window(tx)->last.modseq;
    return ERR_OK;
}

static uint64_t position_of(struct store *store)
{
    uint64_t modseq = 0;
    bench_require(store_read(store, last, &modseq), "read", err_message());
    return modseq;
}

static double import(struct place *master, char *mail)
{
    char line[256];
    char *words[] = {master->program, "-s", master->store, "import", "INBOX", mail, NULL};
    double start = bench_now();
    program_run(words, line, sizeof line);
    return bench_now() - start;
}

static double catch_up(struct place *master, struct place *replica, const char *bin,
                       uint64_t *entries)
{
    char line[256];
    struct store *a, *b;
    struct timespec pause = {.tv_nsec = 1000000};
    bench_require(store_open(master->store, NULL, &a), "open", err_message());
    bench_require(store_open(replica->store, NULL, &b), "open", err_message());
    uint64_t goal = position_of(a);
    *entries = goal;
    start_agent(master, bin, "--listen", "127.0.0.1:0", line, sizeof line);
    double start = bench_now();
    start_agent(replica, bin, "--follow", line + strlen("listening "), line, sizeof line);
    while (position_of(b) < goal)
        nanosleep(&pause, NULL);
    double seconds = bench_now() - start;
    store_close(a);
    store_close(b);
    return seconds;
}

int main(int argc, char **argv)
{
    struct place master, replica;
    if (argc < 4) {
        fputs("usage: catchup BIN DIRECTORY MAIL\n", stderr);
        return 2;
    }
    mkdir(argv[2], 0700);
    snprintf(master.store, sizeof master.store, "%s/master", argv[2]);
    snprintf(replica.store, sizeof replica.store, "%s/replica", argv[2]);
    init(&master, argv[1], NULL);
    init(&replica, argv[1], "--replica");
    double imported = import(&master, argv[3]);
    uint64_t entries;
    double caught_up = catch_up(&master, &replica, argv[1], &entries);
    printf(
        "import that makes %llu entries: %.2f s; catching up with it %.2f s; %.2f times as fast\n",
        (unsigned long long)entries, imported, caught_up, imported / caught_up);
    program_end(replica.agent, replica.out);
    program_end(master.agent, master.out);
    return 0;
}
