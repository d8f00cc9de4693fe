#include "mailbox/trail.h"

#include "base/err.h"
#include "journal/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_BYTES (1u << 20) /* of entries copied out in one transaction */

struct trail {
    struct store *store; /* NULL: a file */
    struct history *history;
    int file;
    const char *path;   /* of the file, the caller's */
    bool ended;         /* all of the file was read */
    bool chained;       /* there was an entry before */
    uint64_t chain;     /* of that one */
    uint64_t after;     /* entries up to it were copied; in a file: were given */
    struct buf entries; /* what was copied */
    size_t at;          /* of that, what was given */
};

int trail_open(struct store *store, struct trail **out)
{
    struct trail *trail = calloc(1, sizeof *trail);
    *out = NULL;
    if (!trail)
        return fail(ERR_NOMEM, "out of memory");
    trail->store = store;
    trail->file = -1;
    int rc = history_open(db_directory_fd(store_db(store)), &trail->history);
    if (rc == ERR_OK)
        rc = trail_oldest(trail, 0, &trail->after);
    if (rc) {
        trail_close(trail);
        return rc;
    }
    *out = trail;
    return ERR_OK;
}

int trail_open_file(const char *path, struct trail **out)
{
    *out = NULL;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return fail_errno("%s", path);
    struct trail *trail = calloc(1, sizeof *trail);
    if (!trail) {
        close(file);
        return fail(ERR_NOMEM, "out of memory");
    }
    trail->file = file;
    trail->path = path;
    *out = trail;
    return ERR_OK;
}

void trail_close(struct trail *trail)
{
    if (!trail)
        return;
    history_close(trail->history);
    if (trail->file >= 0)
        close(trail->file);
    buf_free(&trail->entries);
    free(trail);
}

struct oldest {
    struct trail *trail;
    uint64_t since;
    uint64_t modseq;
};

static int find_oldest(struct tx *tx, void *arg)
{
    struct oldest *oldest = arg;
    oldest->modseq = tx_window(tx)->base.modseq;
    return oldest->since >= oldest->modseq
               ? ERR_OK
               : history_oldest(oldest->trail->history, tx_db(tx), &oldest->modseq);
}

int trail_oldest(struct trail *trail, uint64_t since, uint64_t *modseq)
{
    struct oldest oldest = {.trail = trail, .since = since};
    int rc = trail->store ? store_read(trail->store, find_oldest, &oldest) : ERR_OK;
    *modseq = oldest.modseq;
    return rc;
}

const char *trail_gap(const struct trail *trail)
{
    return trail->store ? history_gap(trail->history) : "";
}

int trail_seek(struct trail *trail, uint64_t after)
{
    trail->after = after;
    buf_reset(&trail->entries);
    trail->at = 0;
    if (trail->store)
        return ERR_OK;
    trail->ended = false;
    trail->chained = false;
    return lseek(trail->file, 0, SEEK_SET) < 0 ? fail_errno("%s", trail->path) : ERR_OK;
}

static int copy_some(struct tx *tx, void *arg)
{
    struct trail *trail = arg;
    struct position last;
    buf_reset(&trail->entries);
    int rc =
        history_copy(trail->history, tx_db(tx), trail->after, BATCH_BYTES, &trail->entries, &last);
    if (rc == ERR_OK)
        trail->after = last.modseq;
    return rc;
}

/* Moves what is left of a file's bytes to the front and reads on behind it. */
static int read_some(struct trail *trail)
{
    size_t left = trail->entries.size - trail->at;
    if (left)
        memmove(trail->entries.data, trail->entries.data + trail->at, left);
    trail->entries.size = left;
    trail->at = 0;
    uint8_t *to = buf_reserve(&trail->entries, BATCH_BYTES);
    if (!to)
        return fail(ERR_NOMEM, "out of memory");
    ssize_t got;
    do
        got = read(trail->file, to, BATCH_BYTES);
    while (got < 0 && errno == EINTR);
    trail->entries.size = left + (got > 0 ? (size_t)got : 0);
    trail->ended = got == 0;
    return got < 0 ? fail_errno("%s", trail->path) : ERR_OK;
}

/* What is left, at least an entry. */
static int fetch(struct trail *trail, struct bytes *left)
{
    int rc = ERR_OK;
    *left = bytes_of(NULL, 0);
    if (trail->entries.size)
        *left = bytes_of(trail->entries.data + trail->at, trail->entries.size - trail->at);
    if (trail->store && left->size == 0) {
        trail->at = 0;
        rc = store_read(trail->store, copy_some, trail);
    }
    while (!trail->store && rc == ERR_OK && entry_size(*left) == 0) {
        if (trail->ended && left->size == 0)
            return ERR_END;
        if (trail->ended || left->size >= ENTRY_MAX_SIZE)
            return fail(ERR_CORRUPT, "%s: no entry of a journal behind modseq %llu", trail->path,
                        (unsigned long long)trail->after);
        rc = read_some(trail);
        *left = buf_view(&trail->entries);
    }
    if (rc == ERR_OK)
        *left = bytes_of(trail->entries.data + trail->at, trail->entries.size - trail->at);
    return rc;
}

/* An entry of a file: nobody has looked at it before. */
static int check(struct trail *trail, struct bytes encoded, struct entry *entry)
{
    int rc = entry_decode(encoded, entry);
    if (rc)
        return rc;
    bool follows = !trail->chained || (entry->modseq > trail->after &&
                                       entry->chain == entry_chain(encoded, trail->chain));
    trail->chained = true;
    trail->chain = entry->chain;
    trail->after = entry->modseq;
    return follows ? ERR_OK
                   : fail(ERR_CORRUPT, "%s: modseq %llu does not follow the one before",
                          trail->path, (unsigned long long)entry->modseq);
}

int trail_next(struct trail *trail, struct entry *entry, size_t *size)
{
    struct bytes left;
    int rc = fetch(trail, &left);
    if (rc)
        return rc;
    *size = entry_size(left);
    if (*size == 0)
        return fail(ERR_CORRUPT, "journal: an entry is cut short");
    trail->at += *size;
    struct bytes encoded = bytes_of(left.data, *size);
    return trail->store ? entry_decode_checked(encoded, entry) : check(trail, encoded, entry);
}
