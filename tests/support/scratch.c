#include "tests/support/scratch.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void give_up(const char *what)
{
    perror(what);
    exit(99);
}

void scratch_path(char out[PATH_MAX], const char *directory, const char *name)
{
    if (snprintf(out, PATH_MAX, "%s/%s", directory, name) >= PATH_MAX)
        give_up(directory);
}

void scratch_make(char path[PATH_MAX])
{
    const char *place = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : getenv("TMPDIR");
    scratch_path(path, place ? place : "/tmp", "shiplog-test-XXXXXX");
    if (!mkdtemp(path))
        give_up(path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
    (void)st;
    (void)type;
    (void)walk;
    return remove(path);
}

void scratch_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        give_up(path);
}

void scratch_copy_file(const char *from, const char *to)
{
    static char piece[1 << 16];
    size_t got;
    FILE *in = fopen(from, "rbe");
    FILE *out = fopen(to, "wbe");
    if (!in || !out)
        give_up(to);
    while ((got = fread(piece, 1, sizeof piece, in)) > 0)
        if (fwrite(piece, 1, got, out) != got)
            give_up(to);
    if (ferror(in) || fclose(in) != 0 || fclose(out) != 0)
        give_up(to);
}

uint64_t scratch_seed(int argc, char **argv)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
    if (argc > 1)
        seed = strtoull(argv[1], NULL, 0);
    printf("seed %llu\n", (unsigned long long)seed);
    fflush(stdout);
    return seed;
}

unsigned scratch_seconds(void)
{
    const char *text = getenv("SHIPLOG_TEST_SECONDS");
    return text ? (unsigned)strtoul(text, NULL, 10) : 20;
}

uint64_t dice_next(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t dice_below(struct dice *dice, uint32_t bound)
{
    return (uint32_t)(dice_next(dice) % bound);
}
