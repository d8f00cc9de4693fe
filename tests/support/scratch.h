/* Directories for tests: made in memory where there is a memory file system, removed with all that
 * is in them. */
#ifndef SHIPLOG_TESTS_SUPPORT_SCRATCH_H
#define SHIPLOG_TESTS_SUPPORT_SCRATCH_H

#include <limits.h>
#include <stdint.h>

/* Makes a new empty directory; ends the program when it cannot. */
void scratch_make(char path[PATH_MAX]);
void scratch_remove(const char *path);
/* `directory`/`name`; ends the program when that is too long. */
void scratch_path(char out[PATH_MAX], const char *directory, const char *name);
/* Makes `to` hold what `from` does, in place when it is there; ends the program when it cannot. */
void scratch_copy_file(const char *from, const char *to);

/* The seed of a random test: the program's first argument, else the clock; it is printed. */
uint64_t scratch_seed(int argc, char **argv);
/* Seconds that a long test may take: SHIPLOG_TEST_SECONDS, else 20. */
unsigned scratch_seconds(void);

/* A generator of its own for tests (splitmix64): the same numbers everywhere for one seed. */
struct dice {
    uint64_t state;
};
uint64_t dice_next(struct dice *dice);
uint32_t dice_below(struct dice *dice, uint32_t bound); /* 0 … bound-1; bound > 0 */

#endif
