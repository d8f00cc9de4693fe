/* Room kept on the disk for a store: a file that is given back when the disk is full and what
 * is to be done frees room, since even deleting needs some first. */
#ifndef SHIPLOG_BASE_RESERVE_H
#define SHIPLOG_BASE_RESERVE_H

#include <stdbool.h>
#include <stdint.h>

/* Makes the file, or makes it larger, so that it holds `size` bytes; one that is not much smaller
 * is left alone. Where the disk has not as much there is none. Nothing is said of failures: a store
 * works without. */
void reserve_keep(int directory_fd, uint64_t size);
/* Whether there was any to give back. */
bool reserve_release(int directory_fd);

#endif
