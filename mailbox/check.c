/* Proving a store. Everything that refers to something else is looked at from both sides, in one
 * long read transaction, the one place beside base copies that may hold one; content is inflated
 * and hashed after it has ended. */
#include "mailbox/check.h"

#include "base/err.h"
#include "journal/history.h"
#include "journal/tables.h"
#include "mailbox/content.h"
#include "mailbox/header.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"
#include "mailbox/values.h"
#include "mailbox/view.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BATCH 256u

struct guids {
    struct guid *all;
    size_t count;
    size_t capacity;
};

struct check {
    struct store *store;
    check_report *report;
    void *arg;
    uint64_t wrong;
    struct guids referred;  /* one for each record */
    struct guids stored;    /* those whose bytes are here */
    uint64_t shares;        /* of the store's digest */
    uint64_t known_records; /* in mailboxes that there are */
};

static void wrong(struct check *check, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void wrong(struct check *check, const char *where, const char *format, ...)
{
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    check->wrong++;
    check->report(check->arg, where, what);
}

/* Damage is reported and gone past; anything else ends the check. */
static int note(struct check *check, const char *where, int rc)
{
    if (rc != ERR_CORRUPT && rc != ERR_DIFFERS)
        return rc;
    wrong(check, where, "%s", err_message());
    return ERR_OK;
}

static int guids_add(struct guids *guids, const struct guid *guid)
{
    if (guids->count == guids->capacity) {
        size_t capacity = guids->capacity ? guids->capacity * 2 : 1024;
        struct guid *all = realloc(guids->all, capacity * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        guids->all = all;
        guids->capacity = capacity;
    }
    guids->all[guids->count++] = *guid;
    return ERR_OK;
}

static int compare_guids(const void *a, const void *b)
{
    return guid_compare(a, b);
}

static void place_of(char place[40], uint64_t id)
{
    snprintf(place, 40, "mailbox id:%016llx", (unsigned long long)id);
}

/* What the records say, to be compared with what the header says. */
static int count_records(struct check *check, struct db_txn *txn, const struct header *header,
                         struct header *counted)
{
    struct record batch[BATCH];
    size_t count = BATCH;
    for (uint32_t from = 1; count == BATCH && from; from = batch[count - 1].uid + 1) {
        int rc = record_batch(txn, header->number, from, batch, BATCH, &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++) {
            const struct record *record = &batch[i];
            check->known_records++;
            counted->items += record_digest(record);
            counted->messages += record_live(record);
            counted->tombstones += !record_live(record);
            counted->bytes += record_live(record) ? record->size : 0;
            counted->unseen += record_live(record) && !(record->flags & FLAG_SEEN);
            if (record->uid >= header->facts.uidnext)
                wrong(check, "records", "mailbox id:%016llx: UID %u is not below UIDNEXT %u",
                      (unsigned long long)header->id, record->uid, header->facts.uidnext);
            rc = guids_add(&check->referred, &record->guid);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

static int count_values(struct db_txn *txn, uint64_t id, uint64_t *items)
{
    struct buf row = {0};
    struct uidset seen = {0};
    struct bytes user, key;
    struct versioned value;
    int rc = ERR_END;
    while (id && (rc = seen_next(txn, id, &row, &user, &seen, &value)) == ERR_OK)
        *items += seen_digest(user, &seen, value.version);
    buf_reset(&row);
    if (rc == ERR_END)
        while ((rc = meta_next(txn, id, &row, &user, &key, &value)) == ERR_OK)
            *items += meta_digest(user, key, &value);
    buf_free(&row);
    uidset_free(&seen);
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_name(struct check *check, struct db_txn *txn, const struct header *header,
                      const char *place)
{
    uint64_t id = 0;
    if (header->facts.state != MAILBOX_LIVE)
        return ERR_OK;
    int rc = header_id_of(txn, &header->facts.name, &id);
    if (rc == ERR_END || (rc == ERR_OK && id != header->id))
        wrong(check, place, "the table of names does not lead to it");
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_mailbox(struct check *check, struct db_txn *txn, const struct header *header)
{
    char place[40];
    struct stop stop;
    struct header counted = {0};
    place_of(place, header->id);
    check->shares += header_store_share(header);
    int rc = count_records(check, txn, header, &counted);
    if (rc == ERR_OK)
        rc = count_values(txn, header->id, &counted.items);
    if (rc)
        return note(check, place, rc);
    if (counted.items != header->items)
        wrong(check, place, "digest of its records and values %016llx, of its header %016llx",
              (unsigned long long)counted.items, (unsigned long long)header->items);
    if (counted.messages != header->messages || counted.tombstones != header->tombstones ||
        counted.bytes != header->bytes || counted.unseen != header->unseen)
        wrong(check, place,
              "its header counts %llu messages and %llu tombstones, there are %llu and %llu",
              (unsigned long long)header->messages, (unsigned long long)header->tombstones,
              (unsigned long long)counted.messages, (unsigned long long)counted.tombstones);
    rc = stop_get(txn, header->id, &stop);
    if (rc == ERR_OK)
        wrong(check, place, "stopped before entry %llu: %s", (unsigned long long)stop.modseq,
              stop.reason);
    else if (rc != ERR_END)
        return note(check, place, rc);
    return note(check, place, check_name(check, txn, header, place));
}

static int check_mailboxes(struct check *check, struct db_txn *txn)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    int rc = db_cursor_open(txn, TABLE_MAILBOXES, &cursor);
    if (rc)
        return rc;
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        struct header header;
        rc = header_decode(key, value, &header);
        rc = rc ? note(check, "mailboxes", rc) : check_mailbox(check, txn, &header);
        if (rc)
            break;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

static int check_names(struct check *check, struct db_txn *txn)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    int rc = db_cursor_open(txn, TABLE_NAMES, &cursor);
    if (rc)
        return rc;
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        struct header header;
        struct name name;
        int found = value.size == 8 ? header_get(txn, load_u64(value.data), &header) : ERR_END;
        if (found && found != ERR_END && note(check, "names", found))
            rc = found;
        else if (name_decode(key, &name) || found || header.facts.state != MAILBOX_LIVE ||
                 !name_equal(&name, &header.facts.name))
            wrong(check, "names", "a name that leads to no mailbox of this name");
        if (rc)
            break;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* The references of one GUID, all of which stand together in the sorted list. */
static uint64_t references(const struct guids *guids, const struct guid *guid)
{
    size_t low = 0, high = guids->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (guid_compare(&guids->all[middle], guid) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    uint64_t count = 0;
    while (low + count < guids->count && guid_equal(&guids->all[low + count], guid))
        count++;
    return count;
}

static int check_guid(struct check *check, const struct content *content, uint64_t *found)
{
    char text[GUID_TEXT_SIZE];
    uint64_t count = references(&check->referred, &content->guid);
    guid_print(&content->guid, text);
    if (count != content->references)
        wrong(check, text, "%llu records refer to it, its row says %llu", (unsigned long long)count,
              (unsigned long long)content->references);
    if (content->number == 0)
        wrong(check, text, "its content is not here");
    *found += count;
    return content->number ? guids_add(&check->stored, &content->guid) : ERR_OK;
}

static int check_guids(struct check *check, struct db_txn *txn)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    uint64_t found = 0;
    int rc = db_cursor_open(txn, TABLE_GUIDS, &cursor);
    if (rc)
        return rc;
    if (check->referred.count)
        qsort(check->referred.all, check->referred.count, sizeof(struct guid), compare_guids);
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        struct content content;
        rc = content_decode(key, value, &content);
        rc = rc ? note(check, "guids", rc) : check_guid(check, &content, &found);
        if (rc)
            break;
    }
    db_cursor_close(cursor);
    if (rc != ERR_END)
        return rc;
    if (found != check->referred.count)
        wrong(check, "guids", "%llu records refer to content without a row",
              (unsigned long long)(check->referred.count - found));
    return ERR_OK;
}

static int check_chain(struct check *check, struct db_txn *txn, const struct journal_window *window)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    struct position last = window->base;
    uint64_t entries = 0, bytes = 0;
    int rc = journal_cursor_open(txn, &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, 0, &entry, &encoded); rc != ERR_END;
         rc = journal_next(cursor, &entry, &encoded)) {
        rc = note(check, "journal", rc);
        if (rc)
            break;
        entries++;
        bytes += encoded.size;
        if (entry.modseq == 0)
            continue;
        bool follows = entry.modseq == last.modseq + 1 ||
                       (entry.kind == ENTRY_EPOCH && entry.modseq > last.modseq);
        if (!follows || entry_chain(encoded, last.chain) != entry.chain)
            wrong(check, "journal", "entry %llu is not chained to %llu",
                  (unsigned long long)entry.modseq, (unsigned long long)last.modseq);
        last = (struct position){.modseq = entry.modseq, .chain = entry.chain};
    }
    journal_cursor_close(cursor);
    if (rc != ERR_END)
        return rc;
    if (!position_equal(last, window->last) || entries != window->entries || bytes != window->bytes)
        wrong(check, "journal", "it ends at %llu with %llu entries, not at %llu with %llu",
              (unsigned long long)last.modseq, (unsigned long long)entries,
              (unsigned long long)window->last.modseq, (unsigned long long)window->entries);
    return ERR_OK;
}

static int check_totals(struct check *check, struct tx *tx)
{
    uint64_t records;
    uint64_t meta = 0;
    int rc = db_count(tx_db(tx), TABLE_RECORDS, &records);
    if (rc == ERR_OK)
        rc = note(check, "meta", count_values(tx_db(tx), 0, &meta));
    if (rc)
        return rc;
    if (records != check->known_records)
        wrong(check, "records", "%llu records, %llu of them in mailboxes that there are",
              (unsigned long long)records, (unsigned long long)check->known_records);
    if (check->shares != tx_node(tx)->mailboxes || meta != tx_node(tx)->meta)
        wrong(check, "store", "its digest is not that of its mailboxes and meta values");
    return ERR_OK;
}

static int check_tables(struct tx *tx, void *arg)
{
    struct check *check = arg;
    struct db_txn *txn = tx_db(tx);
    int rc = check_mailboxes(check, txn);
    if (rc == ERR_OK)
        rc = check_names(check, txn);
    if (rc == ERR_OK)
        rc = check_guids(check, txn);
    if (rc == ERR_OK)
        rc = check_chain(check, txn, tx_window(tx));
    return rc ? rc : check_totals(check, tx);
}

static int check_contents(struct check *check)
{
    for (size_t i = 0; i < check->stored.count; i++) {
        char text[GUID_TEXT_SIZE];
        struct content content = {.guid = check->stored.all[i]};
        guid_print(&content.guid, text);
        int rc = content_verify(store_db(check->store), &content);
        /* Gone: purged since the tables were looked at. */
        rc = rc == ERR_GONE ? ERR_OK : note(check, text, rc);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int check_store(struct store *store, bool contents, check_report *report, void *arg,
                uint64_t *count)
{
    struct check check = {.store = store, .report = report, .arg = arg};
    int rc = store_read(store, check_tables, &check);
    if (rc == ERR_OK && contents)
        rc = check_contents(&check);
    *count = check.wrong;
    free(check.referred.all);
    free(check.stored.all);
    return rc;
}

static int list_ids(struct tx *tx, void *arg)
{
    struct buf *ids = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    buf_reset(ids);
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK)
        buf_u64(ids, id);
    if (ids->failed)
        return fail(ERR_NOMEM, "out of memory");
    return rc == ERR_END ? ERR_OK : rc;
}

/* Each step back compares the digest before it undoes an entry. */
static int prove_mailbox(struct check *check, uint64_t id)
{
    char place[40];
    struct view *view;
    place_of(place, id);
    int rc = view_open(check->store, id, &view);
    if (rc)
        return note(check, place, rc);
    rc = view_back(view, 0);
    view_close(view);
    return rc == ERR_TRIMMED ? ERR_OK : note(check, place, rc);
}

static int check_chain_only(struct tx *tx, void *arg)
{
    return check_chain(arg, tx_db(tx), tx_window(tx));
}

static void wrong_file(void *arg, const char *file, const char *what)
{
    wrong(arg, file, "%s", what);
}

struct archive_of {
    struct history *history;
    struct archive *archive;
};

static int find_archive(struct tx *tx, void *arg)
{
    struct archive_of *of = arg;
    return history_archive(of->history, tx_db(tx), &of->archive);
}

static int prove_archive(struct check *check)
{
    struct archive_of of = {0};
    int rc = history_open(db_directory_fd(store_db(check->store)), &of.history);
    if (rc == ERR_OK)
        rc = store_read(check->store, find_archive, &of);
    rc = rc ? note(check, ARCHIVE_DIRECTORY, rc) : archive_prove(of.archive, wrong_file, check);
    history_close(of.history);
    return rc;
}

int check_journal(struct store *store, check_report *report, void *arg, uint64_t *count)
{
    struct check check = {.store = store, .report = report, .arg = arg};
    struct buf ids = {0};
    int rc = store_read(store, check_chain_only, &check);
    if (rc == ERR_OK)
        rc = prove_archive(&check);
    if (rc == ERR_OK)
        rc = store_read(store, list_ids, &ids);
    for (size_t at = 0; at < ids.size && rc == ERR_OK; at += 8)
        rc = prove_mailbox(&check, load_u64(ids.data + at));
    *count = check.wrong;
    buf_free(&ids);
    return rc;
}
