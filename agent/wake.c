#include "agent/wake.h"

#include "base/err.h"
#include "base/file_lock.h"
#include "mailbox/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Microseconds: who asks whether an agent runs holds the lock for a moment, too. */
#define LOCK_WAIT 200000

/* Opened anew: the lock belongs to what was opened, so that a process can hold it against itself.
 */
static int open_directory(struct db *db)
{
    return openat(db_directory_fd(db), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A socket file that is there was left by a dead agent. The path is short whatever the directory
 * is called. */
static int bind_socket(int fd, int directory)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory,
             STORE_WAKE_SOCKET);
    unlinkat(directory, STORE_WAKE_SOCKET, 0);
    return bind(fd, (struct sockaddr *)&address, sizeof address);
}

int wake_open(struct db *db, struct wake *wake)
{
    wake->lock = open_directory(db);
    if (wake->lock < 0)
        return fail_errno("%s", db_directory(db));
    int rc = file_lock(wake->lock, db_directory(db), LOCK_WAIT);
    if (rc == ERR_BUSY)
        rc = fail(ERR_REFUSED, "%s: an agent runs already", db_directory(db));
    if (rc) {
        close(wake->lock);
        return rc;
    }
    wake->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (wake->fd >= 0 && bind_socket(wake->fd, wake->lock) == 0)
        return ERR_OK;
    rc = fail_errno("%s/%s", db_directory(db), STORE_WAKE_SOCKET);
    if (wake->fd >= 0)
        close(wake->fd);
    close(wake->lock);
    return rc;
}

bool wake_is_open(struct db *db)
{
    int directory = open_directory(db);
    if (directory < 0)
        return false;
    bool open = flock(directory, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
    close(directory);
    return open;
}

struct wake_words wake_drain(const struct wake *wake)
{
    struct wake_words words = {0};
    char word;
    while (recv(wake->fd, &word, sizeof word, MSG_DONTWAIT | MSG_TRUNC) >= 0) {
        if (word == WAKE_WAITING)
            words.waiting = true;
        else
            words.changed = true;
    }
    return words;
}

void wake_close(struct wake *wake)
{
    unlinkat(wake->lock, STORE_WAKE_SOCKET, 0);
    close(wake->fd);
    close(wake->lock);
}
