/* Arrays that grow: an owned pointer, a count and a capacity in the caller's struct. */
#ifndef SHIPLOG_BASE_ARRAY_H
#define SHIPLOG_BASE_ARRAY_H

#include <stddef.h>

/* Room for one item of `size` bytes behind the `count` that are there: the array, perhaps moved,
 * with *capacity items; freed with free(). NULL with ERR_NOMEM's message: memory is short, or the
 * array as large as can be; it stays as it was. */
void *array_room(void *array, size_t count, size_t *capacity, size_t size);

#endif
