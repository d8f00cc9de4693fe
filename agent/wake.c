#include "agent/wake.h"

#include "base/err.h"
#include "mailbox/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* A path that is short whatever the directory is called. */
static struct sockaddr_un socket_path(struct db *db)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", db_directory_fd(db),
             STORE_WAKE_SOCKET);
    return address;
}

/* Who asks whether an agent runs holds the lock for a moment, too. */
static bool take_lock(int directory)
{
    const struct timespec moment = {.tv_nsec = 2000000};
    for (int tries = 0; tries < 100; tries++) {
        if (flock(directory, LOCK_EX | LOCK_NB) == 0)
            return true;
        nanosleep(&moment, NULL);
    }
    return false;
}

/* The lock of the directory tells a living agent from the socket file that a dead one left. */
int wake_open(struct db *db, int *out)
{
    struct sockaddr_un address = socket_path(db);
    int directory = db_directory_fd(db);
    if (!take_lock(directory))
        return fail(ERR_REFUSED, "%s: an agent runs already", db_directory(db));
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0) {
        unlinkat(directory, STORE_WAKE_SOCKET, 0);
        if (bind(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            *out = fd;
            return ERR_OK;
        }
    }
    int rc = fail_errno("%s/%s", db_directory(db), STORE_WAKE_SOCKET);
    if (fd >= 0)
        close(fd);
    flock(directory, LOCK_UN);
    return rc;
}

bool wake_is_open(struct db *db)
{
    /* Opened anew: the lock belongs to what was opened, and this process may run the agent. */
    int directory = openat(db_directory_fd(db), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return false;
    bool open = flock(directory, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(directory);
    return open;
}

void wake_drain(int fd)
{
    char drop[64];
    while (recv(fd, drop, sizeof drop, MSG_DONTWAIT) >= 0)
        continue;
}

void wake_close(struct db *db, int fd)
{
    unlinkat(db_directory_fd(db), STORE_WAKE_SOCKET, 0);
    close(fd);
    flock(db_directory_fd(db), LOCK_UN);
}
