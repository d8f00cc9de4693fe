/* The file holds two mutexes. Byte 0 is locked shared by every process that has the file open, and
 * exclusively by the one that makes the mutexes afresh: whoever comes first after a reboot or after
 * all others have gone, so that nothing of a former life is trusted. One that dies while it makes
 * them loses its exclusive lock, and the next one to come finds itself alone. (Open file
 * description locks: they go with their descriptors, and closing another descriptor of the file, or
 * another thread, does not touch them.)
 *
 * Whoever wants to write waits for the turn and then, having it, for the pen; with the pen the turn
 * is passed on. A writer that lets go and comes back at once so finds the turn taken by the one who
 * waited: a mutex alone would be its own again before the other wakes up.
 *
 * An owner number is one byte locked exclusively, far behind the end of the file. The locks of one
 * descriptor do not exclude each other, so they are taken through one descriptor and asked about
 * through another: then this process's own are seen like those of any other.
 */
#include "base/lock.h"

#include "base/err.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN
#endif
#elif defined(__SANITIZE_THREAD__)
#define UNDER_TSAN
#endif

#ifdef UNDER_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#define MAGIC UINT64_C(0x32306b636f6c6c73) /* "sllock02": changes with struct shared */
#define OWNER_BASE ((off_t)1 << 20)
#define OWNER_MAX ((uint64_t)1 << 40)
#define OWNER_TRIES 100 /* of 2^40: the second is rare already */

/* How long an open tries, in steps of 1 ms: while another makes the file; while others have a file
 * open that is not of this version, which may also be for a moment what a crash left. */
#define STEP_NANOSECONDS 1000000L
#define STEPS_WHILE_MADE 10000
#define STEPS_WHILE_FOREIGN 1000

struct shared {
    uint64_t magic;
    uint64_t mutex_size; /* another C library's file is not taken for ours */
    pthread_mutex_t turn;
    pthread_mutex_t pen;
    _Atomic int32_t holder; /* the process that has or last had the pen, for messages */
};

struct writer_lock {
    int fd;
    int owners_fd;
    struct shared *shared; /* NULL while it is being opened */
    char *path;
    pthread_mutex_t owners; /* held while a number is chosen */
};

/* ERR_BUSY, without a message: a lock of another is in the way. */
static int lock_byte(const struct writer_lock *lock, int fd, short type, off_t at)
{
    struct flock range = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLK, &range) != 0) {
        if (errno == EAGAIN || errno == EACCES)
            return ERR_BUSY;
        if (errno != EINTR)
            return fail_errno("%s: cannot lock", lock->path);
    }
    return ERR_OK;
}

static int map_file(struct writer_lock *lock)
{
    void *map = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED, lock->fd, 0);
    if (map == MAP_FAILED)
        return fail_errno("%s: cannot map", lock->path);
    lock->shared = map;
    return ERR_OK;
}

static int make_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    int error = pthread_mutexattr_init(&attributes);
    if (error)
        return error;
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    error = pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return error;
}

/* With byte 0 locked exclusively, which then becomes a shared lock without letting go. */
static int make_file(struct writer_lock *lock)
{
    int error = 0;
    if (ftruncate(lock->fd, 0) != 0)
        return fail_errno("%s", lock->path);
    /* A page that the disk has no room for would be a signal later. */
    do {
        error = posix_fallocate(lock->fd, 0, (off_t)sizeof(struct shared));
    } while (error == EINTR);
    if (error) {
        errno = error;
        return fail_errno("%s", lock->path);
    }
    int rc = map_file(lock);
    if (rc)
        return rc;
    error = make_mutex(&lock->shared->turn);
    if (!error)
        error = make_mutex(&lock->shared->pen);
    if (error)
        return fail(ERR_IO, "%s: cannot make a mutex: %s", lock->path, strerror(error));
    lock->shared->mutex_size = sizeof(pthread_mutex_t);
    lock->shared->magic = MAGIC;
    return lock_byte(lock, lock->fd, F_RDLCK, 0);
}

/* With byte 0 locked shared. ERR_AGAIN, with that lock let go: the file is not as this version
 * makes it. */
static int join_file(struct writer_lock *lock)
{
    struct stat st;
    if (fstat(lock->fd, &st) != 0)
        return fail_errno("%s", lock->path);
    if (st.st_size == (off_t)sizeof(struct shared)) {
        int rc = map_file(lock);
        if (rc)
            return rc;
        if (lock->shared->magic == MAGIC && lock->shared->mutex_size == sizeof(pthread_mutex_t))
            return ERR_OK;
        munmap(lock->shared, sizeof *lock->shared);
        lock->shared = NULL;
    }
    int rc = lock_byte(lock, lock->fd, F_UNLCK, 0);
    return rc ? rc : ERR_AGAIN;
}

static int make_or_join(struct writer_lock *lock)
{
    int rc = lock_byte(lock, lock->fd, F_WRLCK, 0);
    if (rc == ERR_OK)
        return make_file(lock);
    if (rc == ERR_BUSY)
        rc = lock_byte(lock, lock->fd, F_RDLCK, 0);
    return rc ? rc : join_file(lock);
}

static int settle(struct writer_lock *lock)
{
    const struct timespec step = {.tv_nsec = STEP_NANOSECONDS};
    int made = 0;
    int foreign = 0;
    for (;;) {
        int rc = make_or_join(lock);
        if (rc == ERR_BUSY && ++made == STEPS_WHILE_MADE)
            return fail(ERR_BUSY, "%s: another process is opening it and does not go on",
                        lock->path);
        if (rc == ERR_AGAIN && ++foreign == STEPS_WHILE_FOREIGN)
            return fail(ERR_BUSY, "%s: in use by a process of another version", lock->path);
        if (rc != ERR_BUSY && rc != ERR_AGAIN)
            return rc;
        nanosleep(&step, NULL);
    }
}

static int open_files(struct writer_lock *lock)
{
    lock->fd = open(lock->path, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (lock->fd < 0)
        return fail_errno("%s", lock->path);
    lock->owners_fd = open(lock->path, O_RDWR | O_CLOEXEC);
    if (lock->owners_fd < 0)
        return fail_errno("%s", lock->path);
    return settle(lock);
}

int writer_lock_open(const char *path, struct writer_lock **out)
{
    *out = NULL;
    struct writer_lock *lock = calloc(1, sizeof *lock);
    if (!lock)
        return fail(ERR_NOMEM, "%s: out of memory", path);
    lock->fd = -1;
    lock->owners_fd = -1;
    pthread_mutex_init(&lock->owners, NULL);
    lock->path = strdup(path);
    int rc = lock->path ? open_files(lock) : fail(ERR_NOMEM, "%s: out of memory", path);
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
    if (lock->shared)
        munmap(lock->shared, sizeof *lock->shared);
    if (lock->owners_fd >= 0)
        close(lock->owners_fd);
    if (lock->fd >= 0)
        close(lock->fd);
    pthread_mutex_destroy(&lock->owners);
    free(lock->path);
    free(lock);
}

static struct timespec deadline_in(int64_t timeout)
{
    struct timespec deadline;
    if (timeout < 0)
        timeout = 0;
    clock_gettime(CLOCK_MONOTONIC, &deadline);
    int64_t nanoseconds = deadline.tv_nsec + timeout % 1000000 * 1000;
    deadline.tv_sec += (time_t)(timeout / 1000000 + nanoseconds / 1000000000);
    deadline.tv_nsec = (long)(nanoseconds % 1000000000);
    return deadline;
}

static int clocklock(pthread_mutex_t *mutex, const struct timespec *deadline)
{
#ifdef UNDER_TSAN
    /* It sees the unlocking, but does not know this way of locking. */
    __tsan_mutex_pre_lock(mutex, __tsan_mutex_try_lock);
    int error = pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, deadline);
    bool locked = error == 0 || error == EOWNERDEAD;
    unsigned flags = __tsan_mutex_try_lock | (locked ? 0 : __tsan_mutex_try_lock_failed);
    __tsan_mutex_post_lock(mutex, flags, 0);
    return error;
#else
    return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, deadline);
#endif
}

/* What a dead holder leaves needs no repair: its transaction ended with it. */
static int lock_mutex(pthread_mutex_t *mutex, const struct timespec *deadline)
{
    int error = clocklock(mutex, deadline);
    return error == EOWNERDEAD ? pthread_mutex_consistent(mutex) : error;
}

static int explain(struct writer_lock *lock, int error, int64_t timeout)
{
    if (error != ETIMEDOUT)
        return fail(ERR_IO, "%s: cannot lock: %s", lock->path, strerror(error));
    return fail(ERR_BUSY, "%s: another writer (process %d) has not finished within %.3g s",
                lock->path, atomic_load_explicit(&lock->shared->holder, memory_order_relaxed),
                timeout > 0 ? (double)timeout / 1e6 : 0);
}

int writer_lock_acquire(struct writer_lock *lock, int64_t timeout)
{
    struct shared *shared = lock->shared;
    const struct timespec deadline = deadline_in(timeout);
    int error = lock_mutex(&shared->turn, &deadline);
    if (error)
        return explain(lock, error, timeout);
    error = lock_mutex(&shared->pen, &deadline);
    pthread_mutex_unlock(&shared->turn);
    if (error)
        return explain(lock, error, timeout);
    atomic_store_explicit(&shared->holder, (int32_t)getpid(), memory_order_relaxed);
    return ERR_OK;
}

void writer_lock_release(struct writer_lock *lock)
{
    pthread_mutex_unlock(&lock->shared->pen);
}

static off_t owner_byte(uint64_t owner)
{
    return OWNER_BASE + (off_t)owner;
}

int owner_lock_take(struct writer_lock *lock, uint64_t *owner)
{
    int rc = ERR_BUSY;
    pthread_mutex_lock(&lock->owners);
    for (int i = 0; rc == ERR_BUSY && i < OWNER_TRIES; i++) {
        *owner = 1 + hash_random_id() % OWNER_MAX;
        /* Locking what this process holds already would succeed. */
        if (owner_lock_is_dead(lock, *owner))
            rc = lock_byte(lock, lock->owners_fd, F_WRLCK, owner_byte(*owner));
    }
    pthread_mutex_unlock(&lock->owners);
    if (rc == ERR_BUSY)
        return fail(ERR_IO, "%s: no free owner number found", lock->path);
    return rc;
}

void owner_lock_release(struct writer_lock *lock, uint64_t owner)
{
    /* Where the system refuses, the number lives on until the file is closed: that is safe. */
    if (owner >= 1 && owner <= OWNER_MAX)
        (void)lock_byte(lock, lock->owners_fd, F_UNLCK, owner_byte(owner));
}

bool owner_lock_is_dead(struct writer_lock *lock, uint64_t owner)
{
    if (owner < 1 || owner > OWNER_MAX)
        return true;
    struct flock range = {
        .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = owner_byte(owner), .l_len = 1};
    return fcntl(lock->fd, F_OFD_GETLK, &range) == 0 && range.l_type == F_UNLCK;
}
