/* The lock of an open file or directory, as flock() has it, with a time limit, which flock() has
 * not. It belongs to the opening, so that a process can exclude itself too, and goes with it: at
 * close(), or when its process dies.
 */
#ifndef SHIPLOG_BASE_FILE_LOCK_H
#define SHIPLOG_BASE_FILE_LOCK_H

#include <stdint.h>

/* Waits up to `timeout` microseconds (0: not at all), looking every few milliseconds. ERR_BUSY, or
 * what else is wrong, with a message that begins with `path`. */
int file_lock(int fd, const char *path, int64_t timeout);

#endif
