/* Reading the archive. What is reached is a run of files by name; the chain is compared where the
 * run meets the window, and inside each file at the end of every block. */
#include "journal/archive.h"

#include "base/err.h"
#include "journal/archive_names.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHED_BLOCKS 32u

/* An unpacked block. */
struct cached {
    uint64_t file;  /* its base */
    uint32_t block; /* its number in the file */
    bool filled;
    struct buf entries;
    struct archive_place *places;
    uint32_t count;
};

/* The file that was used last. */
struct opened {
    int fd; /* -1: none */
    struct archive_name name;
    struct archive_header header;
    struct archive_block *blocks;
};

struct archive {
    int directory; /* the store's */
    bool reached;  /* for `base` */
    bool met;      /* the newest file was compared with `base` */
    struct position base;
    struct archive_name *run; /* in ascending order, each from where the one before it ends, or
                                 from before that */
    size_t count;
    char gap[160];
    uint64_t missing; /* the last entry that should be there and is not, by names; 0: none */
    struct opened file;
    struct cached cache[CACHED_BLOCKS];
};

int archive_open(int directory, struct archive **out)
{
    struct archive *archive = calloc(1, sizeof *archive);
    *out = archive;
    if (!archive)
        return fail(ERR_NOMEM, "out of memory");
    archive->directory = directory;
    archive->file.fd = -1;
    return ERR_OK;
}

static void close_file(struct opened *file)
{
    if (file->fd >= 0)
        close(file->fd);
    free(file->blocks);
    *file = (struct opened){.fd = -1};
}

void archive_close(struct archive *archive)
{
    if (!archive)
        return;
    close_file(&archive->file);
    for (unsigned i = 0; i < CACHED_BLOCKS; i++) {
        buf_free(&archive->cache[i].entries);
        free(archive->cache[i].places);
    }
    free(archive->run);
    free(archive);
}

int archive_in_file(const struct archive_name *name, int rc)
{
    char text[ARCHIVE_NAME_SIZE];
    char why[400];
    if (rc == ERR_OK || rc == ERR_END)
        return rc;
    archive_name_print(name, text);
    snprintf(why, sizeof why, "%s", err_message());
    return fail(rc, ARCHIVE_DIRECTORY "/%s: %s", text, why);
}

static int read_at(int fd, uint64_t at, uint8_t *to, size_t size)
{
    while (size) {
        ssize_t got = pread(fd, to, size, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("read");
        if (got == 0)
            return fail(ERR_CORRUPT, "it is cut short");
        to += got;
        at += (uint64_t)got;
        size -= (size_t)got;
    }
    return ERR_OK;
}

static int open_named(int directory, const struct archive_name *name, int *fd)
{
    char path[sizeof ARCHIVE_DIRECTORY + ARCHIVE_NAME_SIZE];
    char text[ARCHIVE_NAME_SIZE];
    archive_name_print(name, text);
    snprintf(path, sizeof path, ARCHIVE_DIRECTORY "/%s", text);
    *fd = openat(directory, path, O_RDONLY | O_CLOEXEC);
    return *fd < 0 ? fail_errno("open") : ERR_OK;
}

static int load_header(struct opened *file)
{
    uint8_t bytes[ARCHIVE_HEADER_SIZE];
    struct stat st;
    if (fstat(file->fd, &st) != 0)
        return fail_errno("stat");
    int rc = read_at(file->fd, 0, bytes, sizeof bytes);
    if (rc == ERR_OK)
        rc = archive_header_decode(bytes_of(bytes, sizeof bytes), (uint64_t)st.st_size,
                                   &file->header);
    if (rc == ERR_OK && (file->header.base.position.modseq != file->name.base ||
                         file->header.last.position.modseq != file->name.last))
        rc = fail(ERR_CORRUPT, "its name is not that of the entries in it");
    return rc;
}

static int load_index(struct opened *file)
{
    size_t size = (size_t)file->header.blocks * ARCHIVE_ROW_SIZE;
    uint8_t *bytes = malloc(size + 1);
    file->blocks = calloc(file->header.blocks + 1u, sizeof *file->blocks);
    int rc = bytes && file->blocks ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = read_at(file->fd, file->header.index_at, bytes, size);
    if (rc == ERR_OK)
        rc = archive_index_decode(bytes_of(bytes, size), &file->header, file->blocks);
    free(bytes);
    return rc;
}

static int use_file(struct archive *archive, const struct archive_name *name)
{
    struct opened *file = &archive->file;
    if (file->fd >= 0 && archive_name_equal(&file->name, name))
        return ERR_OK;
    close_file(file);
    file->name = *name;
    int rc = open_named(archive->directory, name, &file->fd);
    if (rc == ERR_OK)
        rc = load_header(file);
    if (rc == ERR_OK)
        rc = load_index(file);
    if (rc)
        close_file(file);
    return archive_in_file(name, rc);
}

static int fetch_string(void *arg, uint32_t string, uint8_t out[ARCHIVE_STRING_SIZE])
{
    const struct opened *file = arg;
    if (string >= file->header.strings)
        return fail(ERR_CORRUPT, "a string that is not there");
    uint64_t behind = file->header.strings - string;
    return read_at(file->fd, file->header.index_at - behind * ARCHIVE_STRING_SIZE, out,
                   ARCHIVE_STRING_SIZE);
}

static int unpack(struct opened *file, uint32_t number, struct cached *cached)
{
    const struct archive_block *block = &file->blocks[number];
    struct journal_point after =
        number + 1 < file->header.blocks ? block[1].before : file->header.last;
    uint8_t *stored = malloc(block->stored + 1u);
    free(cached->places);
    cached->places = calloc(block->entries, sizeof *cached->places);
    int rc = stored && cached->places ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = read_at(file->fd, block->at, stored, block->stored);
    if (rc == ERR_OK)
        rc = archive_unpack(bytes_of(stored, block->stored), block, after, fetch_string, file,
                            &cached->entries, cached->places);
    free(stored);
    return rc == ERR_CORRUPT ? fail(rc, "block %u: %s", number, err_message()) : rc;
}

/* A block of the file in use. */
static int use_block(struct archive *archive, uint32_t number, struct cached **out)
{
    struct opened *file = &archive->file;
    struct cached *cached = &archive->cache[number % CACHED_BLOCKS];
    *out = cached;
    if (cached->filled && cached->file == file->name.base && cached->block == number)
        return ERR_OK;
    cached->filled = false;
    buf_reset(&cached->entries);
    int rc = unpack(file, number, cached);
    if (rc)
        return archive_in_file(&file->name, rc);
    cached->file = file->name.base;
    cached->block = number;
    cached->count = file->blocks[number].entries;
    cached->filled = true;
    return ERR_OK;
}

static int give(const struct archive *archive, const struct cached *cached, uint32_t at,
                struct entry *entry, struct bytes *encoded)
{
    size_t from = cached->places[at].offset;
    size_t end = at + 1 < cached->count ? cached->places[at + 1].offset : cached->entries.size;
    struct bytes bytes = bytes_of(cached->entries.data + from, end - from);
    if (encoded)
        *encoded = bytes;
    return archive_in_file(&archive->file.name, entry_decode(bytes, entry));
}

/* The number of entries of a block at or below `modseq`. */
static uint32_t count_up_to(const struct cached *cached, uint64_t modseq)
{
    uint32_t low = 0, high = cached->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (cached->places[middle].modseq <= modseq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The last file, and in it the last block, that begins before `modseq`. */
static int use_place(struct archive *archive, uint64_t modseq, uint32_t *number)
{
    size_t low = 0, high = archive->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (archive->run[middle].base < modseq)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return ERR_END;
    int rc = use_file(archive, &archive->run[low - 1]);
    if (rc)
        return rc;
    uint32_t first = 0, end = archive->file.header.blocks;
    while (first + 1 < end) {
        uint32_t middle = first + (end - first) / 2;
        if (archive->file.blocks[middle].before.position.modseq < modseq)
            first = middle;
        else
            end = middle;
    }
    *number = first;
    return ERR_OK;
}

static int give_at_or_below(struct archive *archive, uint64_t modseq, struct entry *entry,
                            struct bytes *encoded);

/* Whether the run's newest file holds the window's base as the window knows it. */
static int compare_base(struct archive *archive, bool *same)
{
    const struct archive_name *newest = &archive->run[archive->count - 1];
    struct entry entry;
    int rc = use_file(archive, newest);
    if (rc)
        return rc;
    *same = position_equal(archive->file.header.last.position, archive->base);
    if (newest->last == archive->base.modseq)
        return ERR_OK;
    rc = give_at_or_below(archive, archive->base.modseq, &entry, NULL);
    *same =
        rc == ERR_OK && entry.modseq == archive->base.modseq && entry.chain == archive->base.chain;
    return rc == ERR_END ? ERR_OK : rc;
}

/* Before anything is given out: a run that belongs to another branch is no run. */
static int meet(struct archive *archive)
{
    char text[ARCHIVE_NAME_SIZE];
    bool same;
    if (archive->met || !archive->count)
        return ERR_OK;
    int rc = compare_base(archive, &same);
    archive->met = rc == ERR_OK;
    if (rc || same)
        return rc;
    archive_name_print(&archive->run[archive->count - 1], text);
    snprintf(archive->gap, sizeof archive->gap,
             ARCHIVE_DIRECTORY "/%s does not lead to this journal", text);
    archive->count = 0;
    return ERR_OK;
}

static int give_at_or_below(struct archive *archive, uint64_t modseq, struct entry *entry,
                            struct bytes *encoded)
{
    struct cached *cached;
    uint32_t number;
    if (modseq > archive->base.modseq)
        modseq = archive->base.modseq;
    for (;;) {
        int rc = use_place(archive, modseq, &number);
        if (rc == ERR_OK)
            rc = use_block(archive, number, &cached);
        if (rc)
            return rc;
        uint32_t count = count_up_to(cached, modseq);
        if (count)
            return give(archive, cached, count - 1, entry, encoded);
        /* An epoch jumped over it: the entry before that is the last of another block. */
        modseq = archive->file.blocks[number].before.position.modseq;
    }
}

int archive_at_or_below(struct archive *archive, uint64_t modseq, struct entry *entry,
                        struct bytes *encoded)
{
    int rc = meet(archive);
    return rc ? rc : give_at_or_below(archive, modseq, entry, encoded);
}

int archive_above(struct archive *archive, uint64_t modseq, struct entry *entry,
                  struct bytes *encoded)
{
    struct cached *cached;
    uint32_t number;
    int rc = meet(archive);
    if (rc || modseq >= archive->base.modseq || archive->count == 0)
        return rc ? rc : ERR_END;
    if (modseq < archive->run[0].base)
        modseq = archive->run[0].base;
    rc = use_place(archive, modseq + 1, &number);
    if (rc == ERR_OK)
        rc = use_block(archive, number, &cached);
    if (rc)
        return rc;
    return give(archive, cached, count_up_to(cached, modseq), entry, encoded);
}

/* The last file of the run that does not begin after `time`. */
static int use_file_at(struct archive *archive, int64_t time)
{
    size_t low = 0, high = archive->count;
    while (low + 1 < high) {
        size_t middle = low + (high - low) / 2;
        int rc = use_file(archive, &archive->run[middle]);
        if (rc)
            return rc;
        if (archive->file.header.base.time <= time)
            low = middle;
        else
            high = middle;
    }
    return use_file(archive, &archive->run[low]);
}

int archive_at_time(struct archive *archive, int64_t time, uint64_t *modseq)
{
    struct cached *cached;
    struct entry entry;
    int rc = meet(archive);
    if (rc || archive->count == 0)
        return rc ? rc : ERR_END;
    rc = use_file_at(archive, time);
    if (rc)
        return rc;
    const struct opened *file = &archive->file;
    if (file->header.base.time > time)
        return ERR_END;
    uint32_t number = file->header.blocks - 1;
    while (number > 0 && file->blocks[number].before.time > time)
        number--;
    rc = use_block(archive, number, &cached);
    if (rc)
        return rc;
    uint32_t low = 0, high = cached->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        rc = give(archive, cached, middle, &entry, NULL);
        if (rc)
            return rc;
        if (entry.time <= time)
            low = middle + 1;
        else
            high = middle;
    }
    *modseq = low ? cached->places[low - 1].modseq : file->blocks[number].before.position.modseq;
    if (*modseq > archive->base.modseq)
        *modseq = archive->base.modseq;
    return ERR_OK;
}

/* Of files that hold the entry at `at` the one to go on with: best one that ends there, of several
 * the one that reaches furthest back. `all` is in the order of ends, longer ranges first. */
static const struct archive_name *next_of_run(const struct archive_name *all, size_t count,
                                              uint64_t at)
{
    const struct archive_name *best = NULL;
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (all[middle].last < at)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < count && all[low].last == at)
        return &all[low];
    for (; low < count; low++)
        if (all[low].base < at && (!best || all[low].base < best->base))
            best = &all[low];
    return best;
}

/* Those of all names that lead back from the base, put to the end of the array one before another,
 * then moved to its front. Files may overlap, as when some were brought from elsewhere. */
static int choose_run(struct archive *archive, size_t all, uint64_t forgotten)
{
    uint64_t at = archive->base.modseq;
    struct archive_name *run = calloc(all + 1, sizeof *run);
    const struct archive_name *next;
    size_t first = all;
    if (!run)
        return fail(ERR_NOMEM, "out of memory");
    for (; first && (next = next_of_run(archive->run, all, at)); at = next->base)
        run[--first] = *next;
    archive->gap[0] = '\0';
    archive->missing = 0;
    uint64_t behind = forgotten;
    for (size_t i = 0; i < all; i++)
        if (archive->run[i].last < at && archive->run[i].last > behind)
            behind = archive->run[i].last;
    if (at > behind) {
        archive->missing = at;
        snprintf(archive->gap, sizeof archive->gap,
                 ARCHIVE_DIRECTORY "/ lacks the entries behind %llu up to %llu",
                 (unsigned long long)behind, (unsigned long long)at);
    }
    archive->count = all - first;
    memmove(run, run + first, archive->count * sizeof *run);
    free(archive->run);
    archive->run = run;
    return ERR_OK;
}

int archive_reach(struct archive *archive, struct position base, uint64_t forgotten)
{
    size_t all;
    if (archive->reached && position_equal(archive->base, base))
        return ERR_OK;
    archive->reached = false;
    archive->met = false;
    archive->count = 0;
    archive->base = base;
    free(archive->run);
    archive->run = NULL;
    int rc = archive_names(archive->directory, &archive->run, &all);
    if (rc)
        return rc;
    rc = choose_run(archive, all, forgotten);
    archive->reached = rc == ERR_OK;
    return rc;
}

bool archive_reaches(const struct archive *archive, uint64_t modseq)
{
    return archive->reached && archive->count && modseq > archive->run[0].base &&
           modseq <= archive->base.modseq;
}

const struct archive_name *archive_run(const struct archive *archive, size_t *count)
{
    *count = archive->count;
    return archive->run;
}

uint64_t archive_oldest(const struct archive *archive)
{
    return archive->count ? archive->run[0].base : archive->base.modseq;
}

const char *archive_gap(const struct archive *archive)
{
    return archive->gap;
}

uint64_t archive_missing(const struct archive *archive)
{
    return archive->missing;
}

struct proof {
    void (*report)(void *arg, const char *file, const char *what);
    void *arg;
};

static void tell(const struct proof *proof, const struct archive_name *name, const char *what)
{
    char text[ARCHIVE_NAME_SIZE];
    char file[sizeof ARCHIVE_DIRECTORY + ARCHIVE_NAME_SIZE];
    archive_name_print(name, text);
    snprintf(file, sizeof file, ARCHIVE_DIRECTORY "/%s", text);
    proof->report(proof->arg, file, what);
}

/* A file that is damaged, or not there; the version of a damaged one may look like a newer. */
static bool unusable(int rc)
{
    return rc == ERR_CORRUPT || rc == ERR_NOTFOUND || rc == ERR_NEWER;
}

/* Damage is told and gone past. */
static int note(const struct proof *proof, const struct archive_name *name, int rc)
{
    if (!unusable(rc))
        return rc;
    tell(proof, name, err_message());
    return ERR_OK;
}

static int prove_file(struct archive *archive, const struct archive_name *name,
                      const struct proof *proof)
{
    struct cached *cached;
    uint64_t bytes = 0;
    bool whole = true;
    int rc = use_file(archive, name);
    if (rc)
        return note(proof, name, rc);
    const struct opened *file = &archive->file;
    for (uint32_t i = 0; i < file->header.blocks; i++) {
        rc = use_block(archive, i, &cached);
        whole = whole && rc == ERR_OK;
        bytes += rc ? 0 : cached->entries.size;
        rc = note(proof, name, rc);
        if (rc)
            return rc;
    }
    if (whole && bytes != file->header.bytes)
        tell(proof, name, "its entries have not the bytes that its header counts");
    return ERR_OK;
}

/* Whether the file before run[i] holds the entry that this one follows. */
static int prove_junction(struct archive *archive, size_t i, const struct proof *proof)
{
    struct entry entry;
    struct position base = archive->file.header.base.position;
    int rc = give_at_or_below(archive, base.modseq, &entry, NULL);
    if (unusable(rc)) /* which was told already */
        return ERR_OK;
    if (rc == ERR_END ||
        (rc == ERR_OK && (entry.modseq != base.modseq || entry.chain != base.chain)))
        tell(proof, &archive->run[i], "it is not chained to the file before it");
    return rc == ERR_END ? ERR_OK : rc;
}

int archive_prove(struct archive *archive,
                  void (*report)(void *arg, const char *file, const char *what), void *arg)
{
    const struct proof proof = {.report = report, .arg = arg};
    int rc = meet(archive);
    if (unusable(rc))
        rc = ERR_OK; /* told below, with its file */
    if (rc == ERR_OK && archive->gap[0])
        report(arg, ARCHIVE_DIRECTORY, archive->gap);
    for (size_t i = 0; rc == ERR_OK && i < archive->count; i++) {
        rc = prove_file(archive, &archive->run[i], &proof);
        if (rc == ERR_OK && i > 0 && archive->file.fd >= 0)
            rc = prove_junction(archive, i, &proof);
    }
    return rc;
}

int archive_ahead(struct archive *archive, uint64_t base, struct position *last)
{
    struct archive_name *names;
    size_t count;
    int rc = archive_names(archive->directory, &names, &count);
    if (rc)
        return rc;
    rc = ERR_END;
    for (size_t i = 0; i < count && rc == ERR_END; i++)
        if (names[i].base <= base && names[i].last > base)
            rc = use_file(archive, &names[i]);
    if (rc == ERR_OK)
        *last = archive->file.header.last.position;
    free(names);
    return rc;
}
