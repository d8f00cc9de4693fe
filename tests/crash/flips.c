/* Damage to the data file, or to an archive file, one at a time: a bit turned; now and then a page
 * zeroed, or the file cut short or, an archive file, gone.
 *
 * No command dies by a signal, hangs, or shows anything else as right than what it showed before:
 * it says what is wrong, in a line and exit code 5, or the bit does not matter to it. Where check
 * says that all is well, every command shows what it showed before.
 *
 * usage: flips [SEED [TRIES]]
 */
#include "base/bytes.h"
#include "tests/support/scratch.h"

/* The command line as it is, but not as the program. */
int shiplog_main(int argc, char **argv);
#define main shiplog_main
#include "tools/shiplog/main.c" /* NOLINT(bugprone-suspicious-include): all of it, by intent */
#undef main

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORDS 8
#define COMMANDS 32 /* that a child runs, at most */
#define PATIENCE 20 /* seconds that a command may take */
#define FILES 16

static char root[PATH_MAX], store[PATH_MAX], scrap[PATH_MAX];
static uint64_t seed;

static void give_up(const char *what)
{
    printf("seed %llu: %s\n", (unsigned long long)seed, what);
    exit(1);
}

struct answer {
    struct buf out;
    struct buf err;
    int status;
    bool hung;
};

/* What a child that runs several commands tells of those that it has done. */
struct account {
    size_t done;
    struct {
        int code;
        off_t out_end, err_end;
    } commands[COMMANDS];
};
static struct account *account;
static int out_file, err_file;

static void open_account(void)
{
    size_t size = sizeof *account;
    /* cppcheck-suppress invalidFunctionArg; no file belongs to it */
    account = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    out_file = memfd_create("out", MFD_CLOEXEC);
    err_file = memfd_create("err", MFD_CLOEXEC);
    if (account == MAP_FAILED || out_file < 0 || err_file < 0)
        give_up("no memory");
}

/* Splits at spaces; the store is put before. */
static int run_line(char *where, const char *line)
{
    char copy[512];
    char name[] = "shiplog", option[] = "-s";
    char *words[WORDS + 4] = {name, option, where};
    char *rest;
    int count = 3;
    snprintf(copy, sizeof copy, "%s", line);
    char *word = strtok_r(copy, " ", &rest);
    for (; word && count < WORDS + 3; word = strtok_r(NULL, " ", &rest))
        words[count++] = word;
    words[count] = NULL;
    return shiplog_main(count, words);
}

static void run_lines(char *where, const char *const *lines, size_t count)
{
    dup2(out_file, STDOUT_FILENO);
    dup2(err_file, STDERR_FILENO);
    for (size_t i = 0; i < count; i++) {
        alarm(PATIENCE);
        account->commands[i].code = run_line(where, lines[i]);
        fflush(stdout);
        clearerr(stdout);
        account->commands[i].out_end = lseek(out_file, 0, SEEK_CUR);
        account->commands[i].err_end = lseek(err_file, 0, SEEK_CUR);
        account->done = i + 1;
    }
    _exit(0);
}

static void take_piece(int file, off_t from, off_t to, struct buf *piece)
{
    uint8_t *room = malloc((size_t)(to - from) + 1);
    if (!room || pread(file, room, (size_t)(to - from), from) != (ssize_t)(to - from))
        give_up("what a command printed cannot be read");
    buf_put(piece, room, (size_t)(to - from));
    free(room);
}

static void take_answers(struct answer *answers, size_t count, int status)
{
    off_t out = 0, err = 0;
    for (size_t i = 0; i < count; i++) {
        bool done = i < account->done;
        off_t out_end = done ? account->commands[i].out_end : lseek(out_file, 0, SEEK_END);
        off_t err_end = done ? account->commands[i].err_end : lseek(err_file, 0, SEEK_END);
        answers[i] = (struct answer){.status = done ? account->commands[i].code << 8 : status};
        answers[i].hung = !done && WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM;
        take_piece(out_file, out, out_end, &answers[i].out);
        take_piece(err_file, err, err_end, &answers[i].err);
        out = out_end;
        err = err_end;
    }
}

/* A process costs more than what a command does here. So a child of this one runs them one behind
 * another; where one of them ends it, by a fault, another child goes on behind that. */
static void shiplog_at(char *where, const char *const *lines, size_t count, struct answer *answers)
{
    int status;
    fflush(stdout);
    for (size_t from = 0; from < count;) {
        account->done = 0;
        if (ftruncate(out_file, 0) != 0 || ftruncate(err_file, 0) != 0)
            give_up("no memory");
        lseek(out_file, 0, SEEK_SET);
        lseek(err_file, 0, SEEK_SET);
        pid_t pid = fork();
        if (pid < 0)
            give_up("no process");
        if (pid == 0)
            run_lines(where, lines + from, count - from);
        waitpid(pid, &status, 0);
        size_t answered = account->done + (account->done < count - from);
        take_answers(answers + from, answered, status);
        from += answered;
    }
}

static void forget(struct answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_free(&answers[i].out);
        buf_free(&answers[i].err);
    }
}

static void shiplog(const char *line, struct answer *answer)
{
    shiplog_at(store, &line, 1, answer);
}

static void must(const char *line)
{
    struct answer answer;
    shiplog(line, &answer);
    if (!WIFEXITED(answer.status) || WEXITSTATUS(answer.status) != 0) {
        printf("%s: %.*s\n", line, (int)answer.err.size, (const char *)answer.err.data);
        give_up("the store cannot be made");
    }
    forget(&answer, 1);
}

static void make_store(void)
{
    char line[PATH_MAX + 64];
    must("init");
    for (unsigned i = 0; i < 40; i++) {
        char name[32], path[PATH_MAX];
        snprintf(name, sizeof name, "m%u", i);
        scratch_path(path, root, name);
        FILE *file = fopen(path, "w");
        if (!file)
            give_up("no message");
        fprintf(file, "From: a@example.org\r\nSubject: message %u\r\n\r\n", i);
        uint64_t state = i + 1;
        /* Small ones, so that there are more tries in the time, and one of several chunks. */
        for (unsigned n = 0; n < (i == 20 ? 12000 : 50 + i * 20); n++) {
            state = state * UINT64_C(6364136223846793005) + 1442695040888963407u;
            fprintf(file, "%llx%s", (unsigned long long)(state >> 20), n % 6 ? " " : "\r\n");
        }
        fclose(file);
        if (i == 0) {
            must("create INBOX");
            must("create Work/Plans");
            must("create Gone");
        }
        snprintf(line, sizeof line, "append %s %s --flags %s", i % 3 ? "INBOX" : "Work/Plans", path,
                 i % 4 ? "\\Flagged" : "\\Seen,later");
        must(line);
    }
    snprintf(line, sizeof line, "append Gone %s/m3", root);
    must(line);
    must("flags INBOX 1:9 --as bob \\Seen");
    must("flags INBOX 3:12 +work");
    must("meta set INBOX /comment hello");
    must("meta set /shared value");
    must("journal retain --entries 100000 --bytes 1000000000");
    must("journal archive --keep 40");
    must("journal archive --keep 20");
    must("expunge INBOX 4:6");
    must("expunge INBOX 2 --immediate");
    must("copy-messages INBOX 7:12 Work/Plans");
    must("delete Gone");
    must("rename Work/Plans Labour/Plans");
}

static const char *const readers[] = {
    "list INBOX",
    "list INBOX --as bob",
    "list INBOX --expunged",
    "list Labour/Plans",
    "list INBOX --at 30",
    "list Work/Plans --at 30",
    "mailboxes",
    "mailboxes --at 25",
    "digest",
    "log",
    "log INBOX --since 20",
    "cat INBOX 1",
    "cat INBOX 20",
    "cat Labour/Plans 9",
    "cat INBOX 4 --at 30",
    "meta list INBOX",
    "meta get /shared",
    "journal status",
    "journal retain",
    "journal verify",
    "status",
};
#define READERS (sizeof readers / sizeof readers[0])
#define SAMPLE 4 /* of them, where all are not needed */

static struct answer right[READERS];

struct target {
    char path[PATH_MAX];
    uint64_t size;
};
static struct target targets[FILES];
static size_t target_count;

static void add_target(const char *path)
{
    struct stat st;
    if (target_count == FILES || stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return;
    snprintf(targets[target_count].path, PATH_MAX, "%s", path);
    targets[target_count++].size = (uint64_t)st.st_size;
}

static void find_targets(void)
{
    char path[PATH_MAX], file[PATH_MAX];
    scratch_path(path, store, "data.mdb");
    add_target(path);
    scratch_path(path, store, "archive");
    DIR *list = opendir(path);
    struct dirent *entry;
    while (list && (entry = readdir(list))) {
        scratch_path(file, path, entry->d_name);
        add_target(file);
    }
    if (list)
        closedir(list);
    if (target_count < 2)
        give_up("no archive");
}

enum kind { TURN, ZERO, CUT, LOSE };
static const char *const kinds[] = {"bit turned", "zeroes", "cut", "gone"};

struct flip {
    const struct target *target;
    enum kind kind;
    uint64_t bit;   /* TURN */
    uint64_t at;    /* ZERO, CUT: from this byte on */
    uint64_t size;  /* ZERO: as many */
    uint8_t *whole; /* what was there before, of the whole file; NULL for TURN */
};

static int open_target(const struct flip *flip, int mode)
{
    int fd = open(flip->target->path, mode | O_CLOEXEC, 0600);
    if (fd < 0)
        give_up("a file cannot be opened");
    return fd;
}

static void turn(const struct flip *flip)
{
    uint8_t byte = 0;
    int fd = open_target(flip, O_RDWR);
    if (pread(fd, &byte, 1, (off_t)(flip->bit / 8)) != 1)
        give_up("a file cannot be read");
    byte ^= (uint8_t)(1u << (flip->bit % 8));
    if (pwrite(fd, &byte, 1, (off_t)(flip->bit / 8)) != 1)
        give_up("a file cannot be written");
    close(fd);
}

/* Whether anything is another than before. */
static bool spoil(struct flip *flip)
{
    static const uint8_t zeroes[4096];
    bool changed = true;
    if (flip->kind == TURN) {
        turn(flip);
        return true;
    }
    size_t whole = flip->target->size;
    int fd = open_target(flip, O_RDWR);
    flip->whole = malloc(whole);
    if (!flip->whole || pread(fd, flip->whole, whole, 0) != (ssize_t)whole)
        give_up("a file cannot be read");
    if (flip->kind == ZERO) {
        changed = memcmp(flip->whole + flip->at, zeroes, flip->size) != 0;
        if (pwrite(fd, zeroes, flip->size, (off_t)flip->at) != (ssize_t)flip->size)
            give_up("a file cannot be written");
    } else if (flip->kind == CUT ? ftruncate(fd, (off_t)flip->at) != 0
                                 : unlink(flip->target->path) != 0) {
        give_up("a file cannot be cut");
    }
    close(fd);
    return changed;
}

static void restore(struct flip *flip)
{
    if (flip->kind == TURN) {
        turn(flip);
        return;
    }
    size_t whole = flip->target->size;
    int fd = open_target(flip, O_RDWR | O_CREAT);
    if (pwrite(fd, flip->whole, whole, 0) != (ssize_t)whole)
        give_up("a file cannot be written");
    close(fd);
    free(flip->whole);
    flip->whole = NULL;
}

static bool same(const struct answer *a, const struct answer *b)
{
    return a->status == b->status && bytes_equal(buf_view(&a->out), buf_view(&b->out));
}

static void fail_flip(const struct flip *flip, const char *command, const struct answer *answer,
                      const char *what)
{
    uint64_t byte = flip->kind == TURN ? flip->bit / 8 : flip->at;
    printf("seed %llu: %s, byte %llu bit %llu of %s: %s: %s (status %d)\n%.*s\n",
           (unsigned long long)seed, kinds[flip->kind], (unsigned long long)byte,
           (unsigned long long)flip->bit % 8, strrchr(flip->target->path, '/') + 1, command, what,
           answer->status, (int)answer->err.size, (const char *)answer->err.data);
    fflush(stdout);
    exit(1);
}

/* Whether it was found. */
static bool judge(const struct flip *flip, size_t reader, const struct answer *answer)
{
    const char *command = readers[reader];
    bool found = !same(answer, &right[reader]);
    if (answer->hung)
        fail_flip(flip, command, answer, "it hangs");
    if (!WIFEXITED(answer->status))
        fail_flip(flip, command, answer, "it died");
    bool verify = strcmp(command, "journal verify") == 0;
    bool named = flip->kind == LOSE && answer->err.size &&
                 memmem(answer->err.data, answer->err.size, "archive/", 8);
    if (found && !named && WEXITSTATUS(answer->status) != 5 &&
        !(verify && WEXITSTATUS(answer->status) == 1))
        fail_flip(flip, command, answer, "it shows something else");
    if (WEXITSTATUS(answer->status) == 5 && answer->err.size == 0)
        fail_flip(flip, command, answer, "it does not say why");
    return found;
}

/* Clean: every command must be right then. */
static bool check_is_clean(const struct flip *flip)
{
    struct answer answer;
    shiplog("check", &answer);
    if (answer.hung)
        fail_flip(flip, "check", &answer, "it hangs");
    if (!WIFEXITED(answer.status) ||
        (WEXITSTATUS(answer.status) && WEXITSTATUS(answer.status) != 1 &&
         WEXITSTATUS(answer.status) != 5))
        fail_flip(flip, "check", &answer, "it died");
    bool clean = WEXITSTATUS(answer.status) == 0;
    forget(&answer, 1);
    return clean;
}

/* Commands that change a damaged store, in a copy of it: whatever they do, they end and say so. */
static const char *const writers[] = {
    "flags INBOX 1:* +changed",
    "expunge INBOX 7:9 --immediate",
    "copy-messages INBOX 1:* Labour/Plans",
    "meta set INBOX /comment x",
    "expire --older-than 0s",
    "journal trim --keep 10",
    "create New",
    "check --repair",
    "compact",
    "delete INBOX",
};
#define WRITERS (sizeof writers / sizeof writers[0])

static void copy_data(void)
{
    char from[PATH_MAX], to[PATH_MAX];
    static uint8_t piece[65536];
    ssize_t got;
    scratch_path(from, store, "data.mdb");
    scratch_path(to, scrap, "data.mdb");
    if (mkdir(scrap, 0700) != 0)
        give_up("no directory");
    int in = open(from, O_RDONLY | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    while ((got = read(in, piece, sizeof piece)) > 0)
        if (write(out, piece, (size_t)got) != got)
            give_up("no copy");
    close(in);
    close(out);
}

static void change_it(const struct flip *flip, struct dice *dice)
{
    const char *lines[3] = {writers[dice_below(dice, WRITERS)], writers[dice_below(dice, WRITERS)],
                            "check"};
    struct answer answers[3];
    copy_data();
    shiplog_at(scrap, lines, 3, answers);
    for (unsigned i = 0; i < 3; i++) {
        const struct answer *answer = &answers[i];
        if (answer->hung)
            fail_flip(flip, lines[i], answer, "it hangs");
        if (!WIFEXITED(answer->status) || WEXITSTATUS(answer->status) > 5 ||
            WEXITSTATUS(answer->status) == 2)
            fail_flip(flip, lines[i], answer, "it died");
        if (WEXITSTATUS(answer->status) == 5 && answer->err.size == 0)
            fail_flip(flip, lines[i], answer, "it does not say why");
    }
    forget(answers, 3);
    scratch_remove(scrap);
}

/* All readers, or some of them; whether any of them found it. */
static bool read_it(const struct flip *flip, struct dice *dice, bool clean)
{
    size_t chosen[READERS];
    const char *lines[READERS];
    struct answer answers[READERS];
    size_t count = clean ? READERS : SAMPLE;
    bool found = false;
    for (size_t i = 0; i < count; i++) {
        chosen[i] = clean ? i : dice_below(dice, READERS);
        lines[i] = readers[chosen[i]];
    }
    shiplog_at(store, lines, count, answers);
    for (size_t i = 0; i < count; i++) {
        bool one = judge(flip, chosen[i], &answers[i]);
        if (one && clean)
            fail_flip(flip, lines[i], &answers[i], "check says that all is well");
        found = found || one;
    }
    forget(answers, count);
    return found;
}

/* Who takes the oldest archive file away shortens the past, and that is all. */
static bool is_oldest(const struct target *target)
{
    return strstr(target->path, "/00000000000000000000-") != NULL;
}

static struct flip choose(const struct target *target, struct dice *dice)
{
    bool data = target == &targets[0];
    struct flip flip = {.target = target, .bit = dice_next(dice) % (target->size * 8)};
    /* Heads of pages are few and matter most. */
    if (data && dice_below(dice, 4) == 0)
        flip.bit = flip.bit / 32768 * 32768 + flip.bit % 1280;
    if (dice_below(dice, 10))
        return flip;
    flip.kind = ZERO + dice_below(dice, data || is_oldest(target) ? 2 : 3);
    flip.at = flip.bit / 8;
    if (flip.kind == ZERO && data)
        flip.at -= flip.at % 4096;
    if (flip.kind == CUT && dice_below(dice, 4) == 0)
        flip.at = 0;
    flip.size = target->size - flip.at < 4096 ? target->size - flip.at : 4096;
    return flip;
}

/* Pages that are free may hold anything. */
static bool may_be_nothing(const struct flip *flip)
{
    return flip->target == &targets[0];
}

static void try_flip(struct dice *dice, uint64_t counts[3])
{
    const struct target *target =
        &targets[dice_below(dice, 8) ? 0 : 1 + dice_below(dice, (uint32_t)target_count - 1)];
    bool data = target == &targets[0];
    struct flip flip = choose(target, dice);
    bool changed = spoil(&flip);
    bool clean = check_is_clean(&flip);
    if (clean && changed && flip.kind != TURN && !may_be_nothing(&flip))
        fail_flip(&flip, "check", &(struct answer){0}, "it says that all is well");
    bool found = read_it(&flip, dice, clean);
    if (!clean && data && dice_below(dice, 3) == 0)
        change_it(&flip, dice);
    restore(&flip);
    counts[clean ? 0 : 1]++;
    counts[2] += found;
}

int main(int argc, char **argv)
{
    uint64_t counts[3] = {0};
    uint64_t tries = argc > 2 ? strtoull(argv[2], NULL, 10) : UINT64_MAX;
    struct rlimit none = {0};
    seed = scratch_seed(argc, argv);
    struct dice dice = {seed};
    setrlimit(RLIMIT_CORE, &none);
    scratch_make(root);
    scratch_path(store, root, "store");
    scratch_path(scrap, root, "scrap");
    open_account();
    make_store();
    find_targets();
    shiplog_at(store, readers, READERS, right);
    for (size_t i = 0; i < READERS; i++) {
        if (!WIFEXITED(right[i].status) || WEXITSTATUS(right[i].status) > 1) {
            printf("%s: %.*s\n", readers[i], (int)right[i].err.size,
                   (const char *)right[i].err.data);
            give_up("a reader fails before anything is turned");
        }
    }
    time_t end = time(NULL) + (time_t)scratch_seconds();
    uint64_t done = 0;
    while (done < tries && (argc > 2 || time(NULL) < end)) {
        try_flip(&dice, counts);
        done++;
    }
    printf(
        "%llu times damaged: %llu that check does not mind, %llu that it finds; the commands that "
        "were run met %llu\n",
        (unsigned long long)done, (unsigned long long)counts[0], (unsigned long long)counts[1],
        (unsigned long long)counts[2]);
    forget(right, READERS);
    scratch_remove(root);
    return 0;
}
