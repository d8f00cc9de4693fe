/* What benchmarks share. Figures are printed as they are measured, a line each; a ratio compares
 * two things of one run. */
#ifndef SHIPLOG_BENCH_BENCH_H
#define SHIPLOG_BENCH_BENCH_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline double bench_now(void) /* seconds */
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static inline int bench_compare(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts the samples; 0.5 is the median. */
static inline double bench_quantile(double *samples, size_t count, double quantile)
{
    qsort(samples, count, sizeof *samples, bench_compare);
    size_t at = (size_t)(quantile * (double)(count - 1) + 0.5);
    return samples[at];
}

static inline void bench_require(int rc, const char *what, const char *why)
{
    if (rc) {
        fprintf(stderr, "bench: %s: %s\n", what, why);
        exit(1);
    }
}

#endif
