#include "base/array.h"

#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>

#define FIRST_CAPACITY 8u /* items */

void *array_room(void *array, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return array;
    size_t wanted = *capacity ? *capacity * 2 : FIRST_CAPACITY;
    void *moved = wanted <= SIZE_MAX / size / 2 ? realloc(array, wanted * size) : NULL;
    if (moved)
        *capacity = wanted;
    else
        (void)fail(ERR_NOMEM, "out of memory");
    return moved;
}
