/* Runs of one test from many seeds, each in a process of its own. One that fails is run again with
 * parts of its steps left out, until no more can be, and then once more telling what it does. */
#ifndef SHIPLOG_TESTS_SUPPORT_SEEDS_H
#define SHIPLOG_TESTS_SUPPORT_SEEDS_H

#include <stdbool.h>
#include <stdint.h>

struct seed_run {
    uint64_t seed;
    unsigned steps;   /* how many there are in a run */
    const bool *skip; /* steps to leave out */
    bool telling;
};

struct seed_test {
    const char *name;
    unsigned steps;
    /* Ends the process with 0, or with another status when a promise was broken. */
    void (*run)(const struct seed_run *run);
};

/* SEED=n in the environment, or the first argument: only that one. Else those from FIRST=n on,
 * as many as the time allows (scratch_seconds()), but at least one; SEEDS=n: that many, whatever
 * the time. Where none is named, a run of a minute or more is a search and draws its first seed; a
 * shorter one is a gate, which begins at 1: what it says of a change is then due to the change.
 * Returns the exit status. */
int seeds_run(const struct seed_test *test, int argc, char **argv);

/* Tells what a run does, if it is to. */
void seeds_tell(const struct seed_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#endif
