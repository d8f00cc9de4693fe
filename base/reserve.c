#include "base/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#define RESERVE_FILE "reserve"

void reserve_keep(int directory_fd, uint64_t size)
{
    struct stat st;
    if (fstatat(directory_fd, RESERVE_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        (uint64_t)st.st_size >= size / 2)
        return;
    int fd = openat(directory_fd, RESERVE_FILE, O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
    if (fd < 0)
        return;
    int error = fallocate(fd, 0, 0, (off_t)size) == 0 ? 0 : errno;
    /* Half a reserve would take the last room from others and help nobody. */
    if (error)
        unlinkat(directory_fd, RESERVE_FILE, 0);
    close(fd);
}

bool reserve_release(int directory_fd)
{
    struct stat st;
    bool any = fstatat(directory_fd, RESERVE_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_size > 0;
    return unlinkat(directory_fd, RESERVE_FILE, 0) == 0 && any;
}
