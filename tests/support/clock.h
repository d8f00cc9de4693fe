/* A clock and a random source that are the test's: with these a run is the same every time for one
 * seed. Linking this takes the place of the C library's clock_gettime() for CLOCK_REALTIME, and of
 * getrandom(). */
#ifndef SHIPLOG_TESTS_SUPPORT_CLOCK_H
#define SHIPLOG_TESTS_SUPPORT_CLOCK_H

#include <stdint.h>

/* The clock stands at `now` (microseconds) and advances by one microsecond whenever it is looked
 * at; random numbers begin anew from `seed`. */
void clock_begin(int64_t now, uint64_t seed);
void clock_move(int64_t by); /* microseconds; back, too */

#endif
