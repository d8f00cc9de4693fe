/* Copying the archive along with its store. Files never change once they have their names, so they
 * are copied as they are, while others may be written beside them. */
#include "base/err.h"
#include "journal/archive_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECE (1u << 20) /* bytes copied in one go */

struct archiving {
    int from; /* archive/ of either store */
    int to;
    uint64_t done;
    uint64_t total;
    const struct archive_copy *copy;
    uint8_t *piece;
};

static int write_piece(int fd, const uint8_t *piece, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t written = write(fd, piece + at, size - at);
        if (written < 0 && errno != EINTR)
            return fail_errno("write");
        at += written > 0 ? (size_t)written : 0;
    }
    return ERR_OK;
}

static int copy_bytes(struct archiving *work, int from, int to)
{
    for (;;) {
        ssize_t got = read(from, work->piece, PIECE);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("read");
        if (got == 0)
            return fsync(to) == 0 ? ERR_OK : fail_errno("sync");
        int rc = write_piece(to, work->piece, (size_t)got);
        if (rc)
            return rc;
        work->done += (uint64_t)got;
        if (work->copy->progress)
            work->copy->progress(work->copy->arg, work->done, work->total);
    }
}

static int copy_file(struct archiving *work, const char *name)
{
    int to = -1;
    int from = openat(work->from, name, O_RDONLY | O_CLOEXEC);
    int rc = from < 0 ? fail_errno("open") : ERR_OK;
    if (rc == ERR_OK) {
        to = openat(work->to, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        rc = to < 0 ? fail_errno("make the copy of it") : copy_bytes(work, from, to);
    }
    if (from >= 0)
        close(from);
    if (to >= 0)
        close(to);
    return rc;
}

static void add_size(struct archiving *work, const char *name)
{
    struct stat st;
    if (fstatat(work->from, name, &st, 0) == 0)
        work->total += (uint64_t)st.st_size;
}

static int copy_files(struct archiving *work, const struct archive_name *run, size_t count)
{
    char name[ARCHIVE_NAME_SIZE];
    int rc = ERR_OK;
    for (size_t i = 0; i < count; i++) {
        archive_name_print(&run[i], name);
        add_size(work, name);
    }
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        archive_name_print(&run[i], name);
        rc = archive_in_file(&run[i], copy_file(work, name));
    }
    if (rc == ERR_OK && fsync(work->to) != 0)
        rc = fail_errno(ARCHIVE_DIRECTORY);
    return rc;
}

static int open_folder(int store, int *fd)
{
    *fd = openat(store, ARCHIVE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return *fd < 0 ? fail_errno(ARCHIVE_DIRECTORY) : ERR_OK;
}

static int copy_run(const struct archive *archive, const struct archive_copy *copy)
{
    struct archiving work = {.copy = copy, .from = -1, .to = -1};
    size_t count;
    const struct archive_name *run = archive_run(archive, &count);
    if (count == 0)
        return ERR_OK;
    work.piece = malloc(PIECE);
    int rc = work.piece ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK && mkdirat(copy->to, ARCHIVE_DIRECTORY, 0700) != 0)
        rc = fail_errno("the copy's " ARCHIVE_DIRECTORY);
    if (rc == ERR_OK)
        rc = open_folder(copy->from, &work.from);
    if (rc == ERR_OK)
        rc = open_folder(copy->to, &work.to);
    if (rc == ERR_OK)
        rc = copy_files(&work, run, count);
    if (work.from >= 0)
        close(work.from);
    if (work.to >= 0)
        close(work.to);
    free(work.piece);
    return rc;
}

int archive_copy(const struct archive_copy *copy, struct position base)
{
    struct archive *archive;
    int rc = archive_open(copy->from, &archive);
    if (rc == ERR_OK)
        rc = archive_reach(archive, base, 0);
    if (rc == ERR_OK)
        rc = copy_run(archive, copy);
    archive_close(archive);
    return rc;
}
