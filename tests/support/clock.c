#include "tests/support/clock.h"

#include "tests/support/scratch.h"

#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int64_t now_is;
static struct dice random_source;

void clock_begin(int64_t now, uint64_t seed)
{
    now_is = now;
    random_source.state = seed;
}

void clock_move(int64_t by)
{
    now_is += by;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    if (id != CLOCK_REALTIME || !now_is)
        return (int)syscall(SYS_clock_gettime, id, now);
    now_is++;
    now->tv_sec = (time_t)(now_is / 1000000);
    now->tv_nsec = (long)(now_is % 1000000 * 1000);
    return 0;
}

ssize_t getrandom(void *to, size_t size, unsigned flags)
{
    uint8_t *at = to;
    if (!now_is)
        return syscall(SYS_getrandom, to, size, flags);
    for (size_t left = size; left;) {
        uint64_t bits = dice_next(&random_source);
        size_t some = left < sizeof bits ? left : sizeof bits;
        memcpy(at, &bits, some);
        at += some;
        left -= some;
    }
    return (ssize_t)size;
}
