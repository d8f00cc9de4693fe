/* Writing one archive file.
 *
 * Steps: the directory is made and locked → the file is written as `new` → synced → renamed → the
 * directory is synced. Whatever ends it earlier leaves at most `new`, which the next writer
 * overwrites. A directory that was just made is synced into the store's before anything relies on
 * it.
 */
#include "base/err.h"
#include "base/file_lock.h"
#include "base/hash.h"
#include "journal/archive_names.h"
#include "journal/archive_strings.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NEW_NAME "new"
#define ASIDE ".aside"

struct archive_writer {
    int directory; /* archive/, locked as long as it is open */
    int fd;
    bool whole; /* the last entry ends a commit */
    uint64_t at;
    struct archive_header header;
    struct archive_block block; /* the one that is being filled */
    struct archive_packing packing;
    struct buf stored;
    struct buf index;
    archive_find_strings *find;
    struct strings strings;
    struct buf offsets; /* of an entry's strings */
    struct archive_use *uses;
    size_t use_room;
};

static int write_all(int fd, uint64_t at, struct bytes bytes)
{
    while (bytes.size) {
        ssize_t done = pwrite(fd, bytes.data, bytes.size, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return fail_errno(ARCHIVE_DIRECTORY "/" NEW_NAME);
        bytes = bytes_of(bytes.data + done, bytes.size - (size_t)done);
        at += (uint64_t)done;
    }
    return ERR_OK;
}

static int open_directory(int store, int64_t wait, int *directory)
{
    *directory = -1;
    bool made = mkdirat(store, ARCHIVE_DIRECTORY, 0700) == 0;
    if (!made && errno != EEXIST)
        return fail_errno(ARCHIVE_DIRECTORY);
    if (made && fsync(store) != 0)
        return fail_errno("sync of the store's directory");
    *directory = openat(store, ARCHIVE_DIRECTORY, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*directory < 0)
        return fail_errno(ARCHIVE_DIRECTORY);
    int rc = file_lock(*directory, ARCHIVE_DIRECTORY, wait);
    if (rc == ERR_BUSY)
        rc = fail(ERR_BUSY, ARCHIVE_DIRECTORY ": another process is archiving");
    if (rc) {
        close(*directory);
        *directory = -1;
    }
    return rc;
}

int archive_write_begin(int store, int64_t wait, struct archive_writer **out)
{
    *out = NULL;
    struct archive_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return fail(ERR_NOMEM, "out of memory");
    writer->at = ARCHIVE_HEADER_SIZE;
    writer->fd = -1;
    writer->directory = -1;
    int rc = open_directory(store, wait, &writer->directory);
    if (rc == ERR_OK) {
        writer->fd =
            openat(writer->directory, NEW_NAME, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (writer->fd < 0)
            rc = fail_errno(ARCHIVE_DIRECTORY "/" NEW_NAME);
    }
    if (rc) {
        archive_write_close(writer);
        return rc;
    }
    *out = writer;
    return ERR_OK;
}

void archive_write_base(struct archive_writer *writer, uint64_t store_id, struct journal_point base,
                        archive_find_strings *find)
{
    writer->find = find;
    writer->header = (struct archive_header){.store_id = store_id, .base = base, .last = base};
    writer->block.before = base;
}

/* What is about to be trimmed from the window must come back from the file as it was. */
static int prove_block(struct archive_writer *writer)
{
    struct buf entries = {0};
    struct archive_place *places = calloc(writer->block.entries, sizeof *places);
    int rc = places ? archive_unpack(buf_view(&writer->stored), &writer->block, writer->header.last,
                                     strings_fetch, &writer->strings, &entries, places)
                    : fail(ERR_NOMEM, "out of memory");
    buf_free(&entries);
    free(places);
    return rc;
}

static int flush_block(struct archive_writer *writer)
{
    if (!writer->block.entries)
        return ERR_OK;
    if (writer->header.blocks == ARCHIVE_BLOCKS_MAX)
        return fail(ERR_INVALID, ARCHIVE_DIRECTORY ": too much for one file");
    buf_reset(&writer->stored);
    int rc = archive_deflate(&writer->packing, &writer->stored, &writer->block);
    if (rc == ERR_OK)
        rc = prove_block(writer);
    if (rc == ERR_OK)
        rc = write_all(writer->fd, writer->at, buf_view(&writer->stored));
    if (rc)
        return rc;
    writer->at += writer->block.stored;
    archive_row_encode(&writer->block, &writer->index);
    writer->header.blocks++;
    writer->block = (struct archive_block){.before = writer->header.last,
                                           .first_string = writer->packing.next_string};
    return ERR_OK;
}

static int find_uses(struct archive_writer *writer, const struct entry *entry, size_t *count)
{
    struct buf *offsets = &writer->offsets;
    buf_reset(offsets);
    int rc = writer->find ? writer->find(entry, offsets) : ERR_OK;
    if (rc == ERR_OK && offsets->failed)
        rc = fail(ERR_NOMEM, "out of memory");
    *count = offsets->size / 4;
    if (rc == ERR_OK && *count > writer->use_room) {
        free(writer->uses);
        writer->uses = calloc(*count, sizeof *writer->uses);
        writer->use_room = writer->uses ? *count : 0;
        rc = writer->uses ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    }
    for (size_t i = 0; i < *count && rc == ERR_OK; i++) {
        struct archive_use *use = &writer->uses[i];
        use->offset = load_u32(offsets->data + 4 * i);
        rc = strings_add(&writer->strings, entry->body.data + use->offset, &use->string);
    }
    return rc;
}

int archive_write(struct archive_writer *writer, struct bytes encoded)
{
    struct archive_header *header = &writer->header;
    struct entry entry;
    size_t count;
    int rc = entry_decode(encoded, &entry);
    if (rc)
        return rc;
    if (entry.modseq <= header->last.position.modseq || entry.time < header->last.time ||
        entry_chain(encoded, header->last.position.chain) != entry.chain)
        return fail(ERR_CORRUPT, "journal entry %llu is not chained to %llu",
                    (unsigned long long)entry.modseq,
                    (unsigned long long)header->last.position.modseq);
    rc = find_uses(writer, &entry, &count);
    if (rc)
        return rc;
    archive_pack(&writer->packing, &entry, header->last, writer->uses, count);
    writer->block.entries++;
    header->last = (struct journal_point){
        .position = {.modseq = entry.modseq, .chain = entry.chain}, .time = entry.time};
    header->entries++;
    header->bytes += encoded.size;
    writer->whole = entry.end_of_commit;
    return archive_packing_size(&writer->packing) < ARCHIVE_BLOCK_SIZE ? ERR_OK
                                                                       : flush_block(writer);
}

/* Strings, index, header. */
static int write_ends(struct archive_writer *writer)
{
    uint8_t header[ARCHIVE_HEADER_SIZE];
    if (writer->index.failed)
        return fail(ERR_NOMEM, "out of memory");
    int rc = write_all(writer->fd, writer->at, buf_view(&writer->strings.all));
    if (rc)
        return rc;
    writer->header.strings = strings_count(&writer->strings);
    writer->header.index_at = writer->at + writer->strings.all.size;
    writer->header.index_crc = hash_crc32(writer->index.data, writer->index.size);
    archive_header_encode(&writer->header, header);
    rc = write_all(writer->fd, writer->header.index_at, buf_view(&writer->index));
    return rc ? rc : write_all(writer->fd, 0, bytes_of(header, sizeof header));
}

int archive_write_end(struct archive_writer *writer)
{
    char text[ARCHIVE_NAME_SIZE];
    struct archive_name name = {.base = writer->header.base.position.modseq,
                                .last = writer->header.last.position.modseq};
    if (!writer->whole)
        return fail(ERR_CORRUPT, "journal: a commit without an end");
    int rc = flush_block(writer);
    if (rc == ERR_OK)
        rc = write_ends(writer);
    if (rc)
        return rc;
    archive_name_print(&name, text);
    if (fsync(writer->fd) != 0)
        return fail_errno(ARCHIVE_DIRECTORY "/" NEW_NAME);
    if (renameat(writer->directory, NEW_NAME, writer->directory, text) != 0)
        return fail_errno(ARCHIVE_DIRECTORY "/%s", text);
    return fsync(writer->directory) == 0 ? ERR_OK : fail_errno(ARCHIVE_DIRECTORY);
}

void archive_write_close(struct archive_writer *writer)
{
    if (!writer)
        return;
    if (writer->fd >= 0) {
        close(writer->fd);
        unlinkat(writer->directory, NEW_NAME, 0); /* not there any more when all went well */
    }
    if (writer->directory >= 0)
        close(writer->directory);
    archive_packing_free(&writer->packing);
    buf_free(&writer->stored);
    buf_free(&writer->index);
    strings_free(&writer->strings);
    buf_free(&writer->offsets);
    free(writer->uses);
    free(writer);
}

int archive_set_aside(int store, uint64_t base)
{
    struct archive_name *names = NULL;
    size_t count;
    int directory;
    int rc = open_directory(store, ARCHIVE_WAIT, &directory);
    if (rc)
        return rc;
    rc = archive_names(store, &names, &count);
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        char from[ARCHIVE_NAME_SIZE];
        char to[ARCHIVE_NAME_SIZE + sizeof ASIDE];
        if (names[i].last <= base)
            continue;
        archive_name_print(&names[i], from);
        snprintf(to, sizeof to, "%s" ASIDE, from);
        if (renameat(directory, from, directory, to) != 0)
            rc = fail_errno(ARCHIVE_DIRECTORY "/%s", from);
    }
    if (rc == ERR_OK && fsync(directory) != 0)
        rc = fail_errno(ARCHIVE_DIRECTORY);
    close(directory);
    free(names);
    return rc;
}
