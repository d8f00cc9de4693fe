/* Locks between processes that share a store, in one small file of its directory.
 *
 * The writer lock excludes writers with a time limit, which LMDB's own has not, and lets those who
 * wait have their turn. Owner locks tell whether the process that staged something is still alive.
 * Both are let go by the system when their process dies.
 *
 * Threads: any. Threads of one process may share one struct writer_lock and exclude each other by
 * it. A child of fork() must not use its parent's, and keeps its owner numbers alive until it calls
 * exec or ends.
 */
#ifndef SHIPLOG_BASE_LOCK_H
#define SHIPLOG_BASE_LOCK_H

#include <stdbool.h>
#include <stdint.h>

struct writer_lock;

/* Opens or makes the file. ERR_PERMISSION, ERR_NOTFOUND, ERR_FULL, ERR_IO, ERR_NOMEM; ERR_BUSY: a
 * process of another version has it open, or one that makes it stands still. */
int writer_lock_open(const char *path, struct writer_lock **lock);
/* Not held by any thread of this process. Its owner numbers die. NULL is fine. */
void writer_lock_close(struct writer_lock *lock);

/* Waits up to `timeout` microseconds (0 or less: not at all); ERR_BUSY with a message. A holder
 * that died is succeeded. Not recursive. */
int writer_lock_acquire(struct writer_lock *lock, int64_t timeout);
void writer_lock_release(struct writer_lock *lock); /* by the thread that acquired it */

/* A number of this process's own, alive until released or until the process dies. */
int owner_lock_take(struct writer_lock *lock, uint64_t *owner);
void owner_lock_release(struct writer_lock *lock, uint64_t owner);
/* Whether no process holds this number. Any number may be asked about: one that cannot be taken is
 * dead. When the system cannot tell, it is not. */
bool owner_lock_is_dead(struct writer_lock *lock, uint64_t owner);

#endif
