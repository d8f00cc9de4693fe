#include "journal/archive_names.h"

#include "base/array.h"
#include "base/err.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIGITS 20u /* so that names sort as their numbers do */

bool archive_name_equal(const struct archive_name *a, const struct archive_name *b)
{
    return a->base == b->base && a->last == b->last;
}

void archive_name_print(const struct archive_name *name, char text[ARCHIVE_NAME_SIZE])
{
    snprintf(text, ARCHIVE_NAME_SIZE, "%020llu-%020llu", (unsigned long long)name->base,
             (unsigned long long)name->last);
}

static bool parse_name(const char *text, struct archive_name *name)
{
    char again[ARCHIVE_NAME_SIZE];
    if (strlen(text) != 2 * DIGITS + 1)
        return false;
    name->base = strtoull(text, NULL, 10);
    name->last = strtoull(text + DIGITS + 1, NULL, 10);
    archive_name_print(name, again);
    return strcmp(text, again) == 0 && name->base < name->last;
}

static int by_end(const void *a, const void *b)
{
    const struct archive_name *x = a;
    const struct archive_name *y = b;
    if (x->last != y->last)
        return x->last < y->last ? -1 : 1;
    return (x->base > y->base) - (x->base < y->base);
}

static int list(DIR *directory, struct archive_name **names, size_t *count)
{
    size_t capacity = 0;
    const struct dirent *item;
    while (errno = 0, (item = readdir(directory))) {
        struct archive_name name;
        if (!parse_name(item->d_name, &name))
            continue;
        struct archive_name *room = array_room(*names, *count, &capacity, sizeof *room);
        if (!room)
            return ERR_NOMEM;
        *names = room;
        room[(*count)++] = name;
    }
    return errno ? fail_errno(ARCHIVE_DIRECTORY) : ERR_OK;
}

int archive_names(int store, struct archive_name **names, size_t *count)
{
    *names = NULL;
    *count = 0;
    int fd = openat(store, ARCHIVE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? ERR_OK : fail_errno(ARCHIVE_DIRECTORY);
    DIR *directory = fdopendir(fd);
    if (!directory) {
        close(fd);
        return fail_errno(ARCHIVE_DIRECTORY);
    }
    int rc = list(directory, names, count);
    closedir(directory);
    if (rc) {
        free(*names);
        *names = NULL;
        *count = 0;
    }
    if (*count)
        qsort(*names, *count, sizeof **names, by_end);
    return rc;
}
