#include "tests/support/faults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define OWN_MALLOC 0
#endif
#endif
#ifndef OWN_MALLOC
#define OWN_MALLOC 1
#endif

static atomic_uint armed;
static atomic_uint_least64_t left;
static atomic_int error_given;
static atomic_bool full;
static atomic_bool failed;
static void (*watcher)(const struct fault_event *event);

void faults_arm(unsigned kinds, uint64_t nth, int error)
{
    faults_disarm();
    left = nth;
    error_given = error;
    armed = kinds;
}

void faults_fill_disk(void)
{
    faults_disarm();
    full = true;
}

bool faults_disarm(void)
{
    armed = 0;
    full = false;
    return atomic_exchange(&failed, false);
}

bool faults_can_allocate(void)
{
    return OWN_MALLOC;
}

void faults_watch(void (*seen)(const struct fault_event *event))
{
    watcher = seen;
}

static bool fails(unsigned kind)
{
    if (!(armed & kind) || atomic_fetch_sub(&left, 1) != 1)
        return false;
    failed = true;
    errno = error_given;
    return true;
}

static bool no_room(int fd, off_t end)
{
    struct stat st;
    if (!full || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || end <= st.st_size)
        return false;
    failed = true;
    errno = ENOSPC;
    return true;
}

static void tell(struct fault_event event)
{
    if (!watcher)
        return;
    event.durable = event.kind == EVENT_WRITE && (fcntl(event.fd, F_GETFL) & O_DSYNC);
    watcher(&event);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    if (fails(FAULT_WRITE) || no_room(fd, offset + (off_t)size))
        return -1;
    tell((struct fault_event){EVENT_WRITE, fd, offset, data, size, false});
    return syscall(SYS_pwrite64, fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    off_t at = watcher || full ? lseek(fd, 0, SEEK_CUR) : 0;
    if (at >= 0 && (fails(FAULT_WRITE) || no_room(fd, at + (off_t)size)))
        return -1;
    if (at >= 0)
        tell((struct fault_event){EVENT_WRITE, fd, at, data, size, false});
    return syscall(SYS_write, fd, data, size);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    off_t at = watcher || full ? lseek(fd, 0, SEEK_CUR) : 0;
    off_t end = at;
    for (int i = 0; i < count; i++)
        end += (off_t)pieces[i].iov_len;
    if (at >= 0 && (fails(FAULT_WRITE) || no_room(fd, end)))
        return -1;
    for (int i = 0; at >= 0 && i < count; at += (off_t)pieces[i].iov_len, i++)
        tell((struct fault_event){EVENT_WRITE, fd, at, pieces[i].iov_base, pieces[i].iov_len,
                                  false});
    return syscall(SYS_writev, fd, pieces, count);
}

int ftruncate(int fd, off_t size)
{
    if (fails(FAULT_WRITE) || no_room(fd, size))
        return -1;
    tell((struct fault_event){EVENT_TRUNCATE, fd, size, NULL, 0, false});
    return (int)syscall(SYS_ftruncate, fd, size);
}

int fsync(int fd)
{
    if (fails(FAULT_SYNC))
        return -1;
    tell((struct fault_event){EVENT_SYNC, fd, 0, NULL, 0, false});
    return (int)syscall(SYS_fsync, fd);
}

int fdatasync(int fd)
{
    if (fails(FAULT_SYNC))
        return -1;
    tell((struct fault_event){EVENT_SYNC, fd, 0, NULL, 0, false});
    return (int)syscall(SYS_fdatasync, fd);
}

int msync(void *address, size_t size, int flags)
{
    return fails(FAULT_SYNC) ? -1 : (int)syscall(SYS_msync, address, size, flags);
}

int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return fails(FAULT_RENAME) ? -1 : (int)syscall(SYS_renameat, from_fd, from, to_fd, to);
}

#if OWN_MALLOC
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);

void *malloc(size_t size)
{
    return fails(FAULT_ALLOCATE) ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    return fails(FAULT_ALLOCATE) ? NULL : __libc_calloc(count, size);
}

void *realloc(void *old, size_t size)
{
    return fails(FAULT_ALLOCATE) ? NULL : __libc_realloc(old, size);
}
#endif
