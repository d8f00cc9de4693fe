/* A replica's own branch is kept as a file before its journal gives it up: the entries as they are,
 * copied out piece by piece in short transactions, under a name of their own once all are on the
 * disk. A file that is there already holds the same entries: the name has their chain. */
#include "mailbox/repair.h"

#include "base/err.h"
#include "mailbox/tx.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define ASIDE_FOLDER "aside"
#define ASIDE_PIECE (1u << 20) /* bytes of entries that are written at once */

struct copying {
    uint64_t after;
    struct buf entries;
    struct position last;
    bool end;
};

static int copy_entries(struct tx *tx, void *arg)
{
    struct copying *work = arg;
    buf_reset(&work->entries);
    int rc = journal_copy(tx->db, work->after, ASIDE_PIECE, &work->entries, &work->last);
    work->end = rc == ERR_END;
    return work->end ? ERR_OK : rc;
}

static int write_all(int fd, struct bytes data)
{
    while (data.size) {
        ssize_t written = write(fd, data.data, data.size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_errno("entries set aside");
        data = bytes_of(data.data + written, data.size - (size_t)written);
    }
    return ERR_OK;
}

static int write_entries(struct store *store, int fd, uint64_t after)
{
    struct copying work = {.after = after};
    int rc = ERR_OK;
    while (rc == ERR_OK && !work.end) {
        rc = store_read(store, copy_entries, &work);
        if (rc == ERR_OK)
            rc = write_all(fd, buf_view(&work.entries));
        work.after = work.last.modseq;
    }
    buf_free(&work.entries);
    if (rc == ERR_OK && fsync(fd) != 0)
        rc = fail_errno("entries set aside");
    return rc;
}

static int get_tail(struct tx *tx, void *arg)
{
    struct copying *work = arg;
    if (work->after < tx->window.base.modseq)
        work->after = tx->window.base.modseq;
    work->last = tx->window.last;
    return ERR_OK;
}

/* In the folder, under its own name only when it is whole. */
static int write_aside(struct store *store, int folder, const char *name, uint64_t after)
{
    char temporary[80];
    snprintf(temporary, sizeof temporary, ".%s", name);
    int fd = openat(folder, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_errno("%s", name);
    int rc = write_entries(store, fd, after);
    if (close(fd) != 0 && rc == ERR_OK)
        rc = fail_errno("%s", name);
    if (rc == ERR_OK && (renameat(folder, temporary, folder, name) != 0 || fsync(folder) != 0))
        rc = fail_errno("%s", name);
    if (rc)
        unlinkat(folder, temporary, 0);
    return rc;
}

int repair_set_aside(struct store *store, uint64_t after, char **path)
{
    char name[64];
    struct copying tail = {.after = after};
    int directory = db_directory_fd(store_db(store));
    *path = NULL;
    int rc = store_read(store, get_tail, &tail);
    if (rc || tail.last.modseq <= tail.after)
        return rc;
    if (mkdirat(directory, ASIDE_FOLDER, 0700) != 0 && errno != EEXIST)
        return fail_errno("%s/" ASIDE_FOLDER, store_path(store));
    int folder = openat(directory, ASIDE_FOLDER, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return fail_errno("%s/" ASIDE_FOLDER, store_path(store));
    snprintf(name, sizeof name, "%llu-%llu-%016llx.journal", (unsigned long long)tail.after + 1,
             (unsigned long long)tail.last.modseq, (unsigned long long)tail.last.chain);
    if (faccessat(folder, name, F_OK, 0) != 0)
        rc = write_aside(store, folder, name, tail.after);
    close(folder);
    if (rc == ERR_OK && asprintf(path, "%s/" ASIDE_FOLDER "/%s", store_path(store), name) < 0) {
        *path = NULL;
        rc = fail(ERR_NOMEM, "out of memory");
    }
    return rc;
}
