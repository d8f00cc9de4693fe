#include "base/lock.h"

#include "base/err.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* The file: a magic number and the mutex. Byte 0 is locked shared by every process that has the
 * file open, and exclusively by the one that makes the mutex afresh: the first after a reboot or
 * after all others have gone, so that nothing of a former life is trusted. Owners lock one byte
 * each, far behind the end. */
#define MAGIC UINT64_C(0x31306b636f6c6c73)
#define OWNER_BASE ((off_t)1 << 20)
#define OWNER_MAX ((uint64_t)1 << 40)

struct shared {
    uint64_t magic;
    uint64_t size; /* of the mutex: another C library's file is not taken for ours */
    pthread_mutex_t mutex;
};

struct owner_entry {
    struct owner_entry *next;
    uint64_t owner;
    int fd;
};

struct writer_lock {
    int fd;
    struct shared *shared;
    char *path;
    pthread_mutex_t owners_mutex;
    struct owner_entry *owners;
};

static int lock_byte(int fd, int command, short type, off_t at)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    int rc;
    do {
        rc = fcntl(fd, command, &range);
    } while (rc != 0 && errno == EINTR);
    return rc;
}

static int make_mutex(struct shared *shared)
{
    pthread_mutexattr_t attributes;
    memset(shared, 0, sizeof *shared);
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    int error = pthread_mutex_init(&shared->mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    if (error)
        return fail(ERR_IO, "writer lock: %s", strerror(error));
    shared->size = sizeof shared->mutex;
    shared->magic = MAGIC;
    return ERR_OK;
}

/* Alone with the file: makes it anew. Otherwise somebody has made it, and holds his shared lock. */
static int settle(struct writer_lock *lock)
{
    bool alone = lock_byte(lock->fd, F_OFD_SETLK, F_WRLCK, 0) == 0;
    /* Waits for one who is just making it. */
    if (!alone && lock_byte(lock->fd, F_OFD_SETLKW, F_RDLCK, 0) != 0)
        return fail_errno("%s", lock->path);
    if (alone && ftruncate(lock->fd, (off_t)sizeof(struct shared)) != 0)
        return fail_errno("%s", lock->path);
    struct stat st;
    if (fstat(lock->fd, &st) != 0)
        return fail_errno("%s", lock->path);
    if ((size_t)st.st_size != sizeof(struct shared))
        return fail(ERR_CORRUPT, "%s: not a lock file of this version", lock->path);
    void *map = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, lock->fd, 0);
    if (map == MAP_FAILED)
        return fail_errno("%s", lock->path);
    lock->shared = map;
    int rc = alone ? make_mutex(lock->shared) : ERR_OK;
    /* Downgrading lets nobody else be alone in between. */
    if (rc == ERR_OK && alone && lock_byte(lock->fd, F_OFD_SETLK, F_RDLCK, 0) != 0)
        rc = fail_errno("%s", lock->path);
    if (rc == ERR_OK &&
        (lock->shared->magic != MAGIC || lock->shared->size != sizeof lock->shared->mutex))
        rc = fail(ERR_CORRUPT, "%s: not a lock file of this version", lock->path);
    return rc;
}

int writer_lock_open(const char *path, struct writer_lock **out)
{
    *out = NULL;
    struct writer_lock *lock = calloc(1, sizeof *lock);
    if (!lock)
        return fail(ERR_NOMEM, "%s: out of memory", path);
    pthread_mutex_init(&lock->owners_mutex, NULL);
    lock->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    lock->path = strdup(path);
    int rc;
    if (lock->fd < 0)
        rc = fail_errno("%s", path);
    else if (!lock->path)
        rc = fail(ERR_NOMEM, "%s: out of memory", path);
    else
        rc = settle(lock);
    if (rc) {
        writer_lock_close(lock);
        return rc;
    }
    *out = lock;
    return ERR_OK;
}

void writer_lock_close(struct writer_lock *lock)
{
    if (!lock)
        return;
    while (lock->owners) {
        struct owner_entry *entry = lock->owners;
        lock->owners = entry->next;
        close(entry->fd);
        free(entry);
    }
    if (lock->shared)
        munmap(lock->shared, sizeof *lock->shared);
    if (lock->fd >= 0)
        close(lock->fd);
    pthread_mutex_destroy(&lock->owners_mutex);
    free(lock->path);
    free(lock);
}

int writer_lock_acquire(struct writer_lock *lock, int64_t timeout)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(timeout / 1000000);
    until.tv_nsec += (long)(timeout % 1000000) * 1000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    int error = pthread_mutex_clocklock(&lock->shared->mutex, CLOCK_MONOTONIC, &until);
    if (error == EOWNERDEAD)
        error = pthread_mutex_consistent(&lock->shared->mutex);
    if (error == ETIMEDOUT)
        return fail(ERR_BUSY, "%s: held by another writer", lock->path);
    return error ? fail(ERR_IO, "%s: %s", lock->path, strerror(error)) : ERR_OK;
}

void writer_lock_release(struct writer_lock *lock)
{
    pthread_mutex_unlock(&lock->shared->mutex);
}

static off_t owner_byte(uint64_t owner)
{
    return OWNER_BASE + (off_t)owner;
}

int owner_lock_take(struct writer_lock *lock, uint64_t *owner)
{
    struct owner_entry *entry = calloc(1, sizeof *entry);
    if (!entry)
        return fail(ERR_NOMEM, "out of memory");
    /* A descriptor of its own: the locks of one descriptor do not exclude each other. */
    entry->fd = open(lock->path, O_RDWR | O_CLOEXEC);
    if (entry->fd < 0) {
        free(entry);
        return fail_errno("%s", lock->path);
    }
    do {
        entry->owner = hash_random_id() % OWNER_MAX;
    } while (entry->owner == 0);
    while (lock_byte(entry->fd, F_OFD_SETLK, F_WRLCK, owner_byte(entry->owner)) != 0) {
        if (errno != EAGAIN && errno != EACCES) {
            int rc = fail_errno("%s", lock->path);
            close(entry->fd);
            free(entry);
            return rc;
        }
        entry->owner = entry->owner % (OWNER_MAX - 1) + 1;
    }
    *owner = entry->owner;
    pthread_mutex_lock(&lock->owners_mutex);
    entry->next = lock->owners;
    lock->owners = entry;
    pthread_mutex_unlock(&lock->owners_mutex);
    return ERR_OK;
}

void owner_lock_release(struct writer_lock *lock, uint64_t owner)
{
    pthread_mutex_lock(&lock->owners_mutex);
    for (struct owner_entry **at = &lock->owners; *at; at = &(*at)->next) {
        struct owner_entry *entry = *at;
        if (entry->owner == owner) {
            *at = entry->next;
            close(entry->fd);
            free(entry);
            break;
        }
    }
    pthread_mutex_unlock(&lock->owners_mutex);
}

bool owner_lock_is_dead(struct writer_lock *lock, uint64_t owner)
{
    if (owner == 0 || owner > OWNER_MAX)
        return true;
    /* Asked through the common descriptor, which holds none of these bytes itself. */
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = owner_byte(owner), .l_len = 1};
    return fcntl(lock->fd, F_OFD_GETLK, &range) == 0 && range.l_type == F_UNLCK;
}
