#include "mailbox/retain.h"

#include "base/err.h"
#include "base/times.h"
#include "journal/archive.h"
#include "mailbox/change.h"
#include "mailbox/tx.h"

#include <stdlib.h>
#include <string.h>

#define LOOK_BATCH 16384u                          /* entries that one read transaction looks at */
#define TRIM_BATCH 2048u                           /* entries that one write transaction removes */
#define COPY_BATCH (1u << 20)                      /* bytes that one read transaction copies */
#define FILE_BYTES (64u << 20)                     /* of entries in one archive file, about */
#define SMALL_BYTES (1u << 20)                     /* fewer wait for more */
#define SMALL_WAIT (INT64_C(86400) * TIMES_SECOND) /* but not longer than this */

struct cutting {
    struct store *store;
    struct cut cut;
    const struct retention *retention; /* NULL: the cut was given */
    int64_t now;
    bool archive;
    bool at_once;
    struct cut_walk walk;
    uint64_t removed;
    struct retained *done;
};

static int begin_looking(struct tx *tx, void *arg)
{
    struct cutting *cutting = arg;
    int rc = cut_walk_begin(tx_db(tx), &cutting->walk);
    if (rc == ERR_OK && cutting->retention)
        rc = retention_cut(tx_db(tx), cutting->retention, cutting->now, &cutting->cut);
    return rc;
}

static int look(struct tx *tx, void *arg)
{
    struct cutting *cutting = arg;
    return cut_walk_on(tx_db(tx), &cutting->cut, LOOK_BATCH, &cutting->walk);
}

/* Finds what goes next: all of it, or a file's worth. */
static int find(struct cutting *cutting)
{
    struct cut_walk *walk = &cutting->walk;
    int rc = store_read(cutting->store, begin_looking, cutting);
    while (rc == ERR_OK && !walk->done && walk->going_bytes < FILE_BYTES)
        rc = store_read(cutting->store, look, cutting);
    return rc;
}

static int trim_some(struct tx *tx, void *arg)
{
    struct cutting *cutting = arg;
    tx_frees_space(tx);
    return tx_trim(tx, cutting->walk.up_to, TRIM_BATCH, cutting->archive, &cutting->removed);
}

static int trim(struct cutting *cutting)
{
    int rc;
    do {
        rc = store_maintain(cutting->store, trim_some, cutting);
        cutting->done->trimmed += rc ? 0 : cutting->removed;
    } while (rc == ERR_OK && cutting->removed);
    return rc;
}

/* Copies what goes, batch by batch, to one file. */
struct filing {
    struct journal_window window;
    uint64_t store_id;
    uint64_t after;
    struct position last; /* of the batch */
    struct buf entries;
    uint64_t written;
};

static int begin_filing(struct tx *tx, void *arg)
{
    struct filing *filing = arg;
    filing->window = *tx_window(tx);
    filing->store_id = tx_node(tx)->store_id;
    return ERR_OK;
}

static int copy_some(struct tx *tx, void *arg)
{
    struct filing *filing = arg;
    buf_reset(&filing->entries);
    return journal_copy(tx_db(tx), filing->after, COPY_BATCH, &filing->entries, &filing->last);
}

static int write_batch(struct filing *filing, struct archive_writer *writer, uint64_t up_to)
{
    struct bytes left = buf_view(&filing->entries);
    while (left.size) {
        size_t size = entry_size(left);
        struct entry entry;
        if (!size)
            return fail(ERR_CORRUPT, "journal: an entry is cut short");
        struct bytes encoded = bytes_of(left.data, size);
        int rc = entry_decode(encoded, &entry);
        if (rc || entry.modseq > up_to)
            return rc;
        rc = archive_write(writer, encoded);
        if (rc)
            return rc;
        filing->written++;
        left = bytes_of(left.data + size, left.size - size);
    }
    return ERR_OK;
}

static int write_entries(struct cutting *cutting, struct filing *filing,
                         struct archive_writer *writer)
{
    uint64_t up_to = cutting->walk.up_to;
    int rc = ERR_OK;
    filing->after = filing->window.base.modseq;
    while (rc == ERR_OK && filing->after < up_to) {
        rc = store_read(cutting->store, copy_some, filing);
        if (rc == ERR_OK)
            rc = write_batch(filing, writer, up_to);
        filing->after = filing->last.modseq;
    }
    return rc ? rc : archive_write_end(writer);
}

/* GUIDs come when a message is delivered, and again when it is moved or expunged. */
static int find_guids(const struct entry *entry, struct buf *offsets)
{
    struct change change = {0};
    size_t from = 0;
    bool has_records = entry->kind == ENTRY_APPEND || entry->kind == ENTRY_EXPUNGE;
    int rc = has_records ? change_decode(entry, &change) : ERR_OK;
    for (size_t i = 0; i < change.record_count && rc == ERR_OK; i++) {
        const uint8_t *found = memmem(entry->body.data + from, entry->body.size - from,
                                      change.records[i].guid.bytes, GUID_SIZE);
        if (!found)
            break;
        from = (size_t)(found - entry->body.data);
        buf_u32(offsets, (uint32_t)from);
        from += GUID_SIZE;
    }
    change_free(&change);
    return rc;
}

static int fill_file(struct cutting *cutting, struct archive_writer *writer)
{
    struct filing filing = {0};
    int rc = store_read(cutting->store, begin_filing, &filing);
    if (rc || filing.window.base.modseq >= cutting->walk.up_to)
        return rc; /* another has trimmed it meanwhile */
    struct journal_point base = {.position = filing.window.base, .time = filing.window.base_time};
    archive_write_base(writer, filing.store_id, base, find_guids);
    rc = write_entries(cutting, &filing, writer);
    buf_free(&filing.entries);
    if (rc == ERR_OK) {
        cutting->done->files++;
        cutting->done->archived += filing.written;
    }
    return rc;
}

/* The window is looked at again when no other process can be archiving any more. */
static int write_file(struct cutting *cutting)
{
    struct archive_writer *writer;
    int rc = archive_write_begin(db_directory_fd(store_db(cutting->store)), ARCHIVE_WAIT, &writer);
    if (rc == ERR_OK)
        rc = fill_file(cutting, writer);
    archive_write_close(writer);
    return rc;
}

struct ahead {
    struct archive *archive;
    struct position last;
    uint64_t base;
    bool any;
    bool ours;
};

static int look_ahead(struct tx *tx, void *arg)
{
    struct ahead *ahead = arg;
    ahead->base = tx_window(tx)->base.modseq;
    int rc = archive_ahead(ahead->archive, ahead->base, &ahead->last);
    ahead->any = rc == ERR_OK;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    rc = journal_holds(tx_db(tx), ahead->last);
    ahead->ours = rc == ERR_OK;
    return rc == ERR_END ? ERR_OK : rc;
}

/* What an earlier run archived and could not trim any more is trimmed now. Files above the base
 * that are not of this journal would stand in the way of its own. */
static int finish_earlier(struct cutting *cutting)
{
    struct ahead ahead = {0};
    int directory = db_directory_fd(store_db(cutting->store));
    int rc = archive_open(directory, &ahead.archive);
    if (rc == ERR_OK)
        rc = store_read(cutting->store, look_ahead, &ahead);
    archive_close(ahead.archive);
    if (rc == ERR_OK && ahead.any && !ahead.ours)
        return archive_set_aside(directory, ahead.base);
    if (rc || !ahead.any)
        return rc;
    cutting->walk.up_to = ahead.last.modseq;
    return trim(cutting);
}

static bool worth_a_file(const struct cutting *cutting)
{
    const struct cut_walk *walk = &cutting->walk;
    if (cutting->at_once || walk->going_bytes >= SMALL_BYTES)
        return true;
    int64_t due = cutting->cut.before == INT64_MIN ? cutting->now : cutting->cut.before;
    return walk->oldest < due - SMALL_WAIT;
}

static int cut_away(struct cutting *cutting)
{
    *cutting->done = (struct retained){0};
    int rc = cutting->archive ? finish_earlier(cutting) : ERR_OK;
    while (rc == ERR_OK) {
        rc = find(cutting);
        if (rc || !cutting->walk.going || (cutting->archive && !worth_a_file(cutting)))
            break;
        if (cutting->archive)
            rc = write_file(cutting);
        if (rc == ERR_OK)
            rc = trim(cutting);
        if (!cutting->at_once && cutting->walk.going_bytes >= FILE_BYTES)
            break;
    }
    return rc;
}

static int load(struct tx *tx, void *arg)
{
    return retention_load(tx_db(tx), arg);
}

int store_retain(struct store *store, int64_t now, bool at_once, struct retained *done)
{
    struct retention retention;
    struct cutting cutting = {
        .store = store, .retention = &retention, .now = now, .at_once = at_once, .done = done};
    int rc = store_read(store, load, &retention);
    if (rc)
        return rc;
    cutting.archive = retention.archive;
    return cut_away(&cutting);
}

int store_cut(struct store *store, const struct cut *cut, bool archive, struct retained *done)
{
    struct cutting cutting = {
        .store = store, .cut = *cut, .archive = archive, .at_once = true, .done = done};
    return cut_away(&cutting);
}
