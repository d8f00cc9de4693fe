#include "base/file_lock.h"

#include "base/err.h"

#include <errno.h>
#include <sys/file.h>
#include <time.h>

#define STEP 5000 /* microseconds between two tries */

int file_lock(int fd, const char *path, int64_t timeout)
{
    const struct timespec step = {.tv_nsec = STEP * 1000L};
    for (int64_t waited = 0;; waited += STEP) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return ERR_OK;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail_errno("%s", path);
        if (waited >= timeout)
            return fail(ERR_BUSY, "%s: held by another process", path);
        nanosleep(&step, NULL);
    }
}
