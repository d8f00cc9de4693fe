/* System calls that fail when a test says so: a test that uses this file has its own write(),
 * pwrite(), writev(), fsync(), fdatasync(), msync(), ftruncate(), rename() and malloc(), which LMDB
 * gets too. Off until armed.
 *
 * Threads: the calls may come from any; arming and disarming is for one at a time.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_FAULTS_H
#define SHIPLOG_TESTS_SUPPORT_FAULTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define FAULT_WRITE 1u    /* write, pwrite, writev, ftruncate */
#define FAULT_SYNC 2u     /* fsync, fdatasync, msync */
#define FAULT_ALLOCATE 4u /* malloc, calloc, realloc; not under a sanitizer, which has its own */
#define FAULT_RENAME 8u   /* renameat */

/* Of the calls of these kinds from now on the `nth` (1: the next) fails with `error`. */
void faults_arm(unsigned kinds, uint64_t nth, int error);
/* From now on every write that would make a file larger fails for want of room. */
void faults_fill_disk(void);
/* Off. Whether any call failed. */
bool faults_disarm(void);
bool faults_can_allocate(void); /* whether FAULT_ALLOCATE works in this build */

/* Tells `seen` of everything that changes files or makes it durable, before it is done. NULL: off.
 */
struct fault_event {
    enum { EVENT_WRITE, EVENT_TRUNCATE, EVENT_SYNC } kind;
    int fd;
    off_t offset; /* of a write; of a truncation the new size */
    const void *data;
    size_t size;
    bool durable; /* a write that is synced by itself (O_DSYNC) */
};
void faults_watch(void (*seen)(const struct fault_event *event));

#endif
