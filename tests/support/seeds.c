#include "tests/support/seeds.h"

#include "tests/support/scratch.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SHORTENING_MOST 400u /* runs */
#define RUN_SECONDS 60u      /* of one run: then it hangs */
#define WORD 256u            /* of what a run says */
#define WORD_TEXT "255"
#define SEARCH_SECONDS 60 /* time from which on a run is a search */

static bool run_apart(const struct seed_test *test, const struct seed_run *run, FILE *output)
{
    int status = 0;
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        if (output)
            dup2(fileno(output), STDOUT_FILENO);
        alarm(RUN_SECONDS);
        test->run(run);
        fflush(stdout);
        _Exit(0);
    }
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
           WEXITSTATUS(status) == 0;
}

/* How a run fails: the first word that it says, which is the place of the check; empty: it does not
 * fail. */
static void find_failure(const struct seed_test *test, const struct seed_run *run, char word[WORD])
{
    FILE *output = tmpfile();
    word[0] = '\0';
    if (!run_apart(test, run, output)) {
        snprintf(word, WORD, "silent");
        if (output) {
            rewind(output);
            if (fscanf(output, "%" WORD_TEXT "s", word) != 1)
                snprintf(word, WORD, "silent");
        }
    }
    if (output)
        fclose(output);
}

/* Leaves out halves, quarters, … as long as it still fails in the same way. */
static unsigned shorten(const struct seed_test *test, uint64_t seed, bool *skip)
{
    struct seed_run run = {.seed = seed, .steps = test->steps, .skip = skip};
    char whole[WORD];
    find_failure(test, &run, whole);
    unsigned runs = 0;
    for (unsigned size = test->steps / 2; size; size /= 2)
        for (unsigned at = 0; at < test->steps && runs < SHORTENING_MOST; at += size) {
            bool before[size];
            unsigned some = test->steps - at < size ? test->steps - at : size;
            memcpy(before, skip + at, some);
            memset(skip + at, true, some);
            if (memcmp(before, skip + at, some) == 0)
                continue;
            char word[WORD];
            runs++;
            find_failure(test, &run, word);
            if (strcmp(word, whole) != 0)
                memcpy(skip + at, before, some);
        }
    unsigned left = 0;
    for (unsigned i = 0; i < test->steps; i++)
        left += !skip[i];
    return left;
}

static int explain(const struct seed_test *test, uint64_t seed, bool *skip)
{
    struct seed_run run = {.seed = seed, .steps = test->steps, .skip = skip, .telling = true};
    printf("seed %llu fails: SEED=%llu runs it again\n", (unsigned long long)seed,
           (unsigned long long)seed);
    if (!getenv("SIMULATION_WHOLE"))
        printf("shortened to %u of %u steps:\n", shorten(test, seed, skip), test->steps);
    run_apart(test, &run, NULL);
    return 1;
}

int seeds_run(const struct seed_test *test, int argc, char **argv)
{
    const char *only = getenv("SEED");
    const char *number = getenv("SEEDS");
    const char *first = getenv("FIRST");
    const char *begin = first ? first : scratch_seconds() < SEARCH_SECONDS ? "1" : NULL;
    const char *given = argc > 1 ? argv[1] : only ? only : begin;
    char *arguments[] = {argv[0], (char *)(uintptr_t)given};
    uint64_t seed = scratch_seed(given ? 2 : 1, arguments);
    unsigned most = number ? (unsigned)strtoul(number, NULL, 10) : 0;
    struct timespec begun, now;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    double seconds = 0;
    unsigned runs = 0;
    int rc = 0;
    bool *skip = calloc(test->steps, sizeof *skip);
    if (!skip)
        return 99;
    do {
        struct seed_run run = {.seed = seed + runs, .steps = test->steps, .skip = skip};
        runs++;
        if (!run_apart(test, &run, NULL))
            rc = explain(test, run.seed, skip);
        clock_gettime(CLOCK_MONOTONIC, &now);
        seconds =
            (double)(now.tv_sec - begun.tv_sec) + 1e-9 * (double)(now.tv_nsec - begun.tv_nsec);
    } while (rc == 0 && (number || !(argc > 1 || only)) &&
             (most ? runs < most : seconds < scratch_seconds()));
    free(skip);
    printf("%s: %u seeds from %llu, %.1f a second\n", test->name, runs, (unsigned long long)seed,
           runs / seconds);
    return rc;
}

void seeds_tell(const struct seed_run *run, const char *format, ...)
{
    va_list args;
    if (!run->telling)
        return;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}
