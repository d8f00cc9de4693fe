/* Locks between processes that share a store, in one small file of its directory.
 *
 * The writer lock excludes writers with a time limit, which LMDB's own has not. Owner locks tell
 * whether the process that staged something is still alive. Both are let go by the system when
 * their process dies.
 *
 * Threads: any. Threads of one process share one struct writer_lock and exclude each other by it.
 */
#ifndef SHIPLOG_BASE_LOCK_H
#define SHIPLOG_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct writer_lock;

/* Opens or makes the file. ERR_PERMISSION, ERR_IO, ERR_NOMEM. */
int writer_lock_open(const char *path, struct writer_lock **lock);
void writer_lock_close(
    struct writer_lock *lock); /* not held by any thread of this process; NULL is fine */

/* Waits up to `timeout` microseconds; ERR_BUSY with a message. A holder that died is succeeded. */
int writer_lock_acquire(struct writer_lock *lock, int64_t timeout);
void writer_lock_release(struct writer_lock *lock); /* by the thread that acquired it */

/* A number of this process's own, alive until released or until the process dies. */
int owner_lock_take(struct writer_lock *lock, uint64_t *owner);
void owner_lock_release(struct writer_lock *lock, uint64_t owner);
/* Whether no process holds this number. Any number may be asked about: one that cannot be taken is
 * dead. */
bool owner_lock_is_dead(struct writer_lock *lock, uint64_t owner);

#endif
