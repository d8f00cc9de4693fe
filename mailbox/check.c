/* Proving a store, in one long read transaction, the one place beside base copies that may hold
 * one; what is wrong is told, and content is inflated and hashed, after it has ended. */
#include "mailbox/check.h"

#include "base/err.h"
#include "journal/history.h"
#include "journal/tables.h"
#include "mailbox/checking.h"
#include "mailbox/view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LINES_MAX 10000u /* that are told; more are counted */
#define TRIES 16         /* at the pages of a store that many write to */

void check_wrong(struct check *check, bool mended, const char *where, const char *format, ...)
{
    struct check_line line = {0};
    va_list args;
    va_start(args, format);
    int size = vsnprintf(line.what, sizeof line.what, format, args);
    va_end(args);
    check->wrong++;
    check->mended += mended;
    if (check->lines.size >= LINES_MAX * sizeof line)
        return;
    if (mended && size >= 0 && (size_t)size < sizeof line.what)
        snprintf(line.what + size, sizeof line.what - (size_t)size, "; mended");
    snprintf(line.where, sizeof line.where, "%s", where);
    buf_put(&check->lines, &line, sizeof line);
}

int check_note(struct check *check, const char *where, int rc)
{
    if ((rc != ERR_CORRUPT && rc != ERR_DIFFERS) || (check->txn && db_txn_error(check->txn)))
        return rc;
    check_wrong(check, false, where, "%s", err_message());
    return ERR_OK;
}

int check_rows(struct check *check, unsigned table,
               int (*each)(struct check *check, struct db_cursor *cursor, struct bytes key,
                           struct bytes value))
{
    struct db_cursor *cursor;
    struct bytes key, value;
    int rc = db_cursor_open(check->txn, table, &cursor);
    if (rc)
        return rc;
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        rc = each(check, cursor, key, value);
        if (rc)
            break;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

struct check_box *check_boxes(const struct check *check, size_t *count)
{
    *count = check->boxes.size / sizeof(struct check_box);
    return (struct check_box *)(void *)check->boxes.data;
}

struct check_box *check_box_numbered(const struct check *check, uint32_t number)
{
    size_t high;
    struct check_box *boxes = check_boxes(check, &high);
    size_t low = 0;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (boxes[middle].number == number)
            return &boxes[middle];
        if (boxes[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

struct check_box *check_box_of(const struct check *check, uint64_t id)
{
    struct header header;
    struct check_box *box = NULL;
    if (id && header_get(check->txn, id, &header) == ERR_OK)
        box = check_box_numbered(check, header.number);
    return box && box->id == id ? box : NULL;
}

static int check_chain(struct check *check, struct db_txn *txn, const struct journal_window *window)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    struct position last = window->base;
    uint64_t entries = 0, bytes = 0;
    uint64_t wrong = check->wrong;
    int rc = journal_cursor_open(txn, &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, 0, &entry, &encoded); rc != ERR_END;
         rc = journal_next(cursor, &entry, &encoded)) {
        /* Pages that cannot be are the end; an entry that cannot be is noted. */
        rc = db_txn_error(txn) ? db_txn_error(txn) : check_note(check, "journal", rc);
        if (rc)
            break;
        entries++;
        bytes += encoded.size;
        if (entry.modseq == 0)
            continue;
        bool follows = entry.modseq == last.modseq + 1 ||
                       (entry.kind == ENTRY_EPOCH && entry.modseq > last.modseq);
        if (!follows || entry_chain(encoded, last.chain) != entry.chain)
            check_wrong(check, false, "journal", "entry %llu is not chained to %llu",
                        (unsigned long long)entry.modseq, (unsigned long long)last.modseq);
        last = (struct position){.modseq = entry.modseq, .chain = entry.chain};
    }
    journal_cursor_close(cursor);
    if (rc != ERR_END)
        return rc;
    if (position_equal(last, window->last) && entries == window->entries && bytes == window->bytes)
        return ERR_OK;
    /* Where the chain is whole, only the counts can be wrong. */
    bool mend = check->repair && check->wrong == wrong && position_equal(last, window->last);
    check_wrong(check, mend, "journal",
                "it ends at %" PRIu64 " with %" PRIu64 " entries, not at %" PRIu64 " with %" PRIu64,
                last.modseq, entries, window->last.modseq, window->entries);
    if (!mend)
        return ERR_OK;
    struct journal_window mended = *window;
    mended.entries = entries;
    mended.bytes = bytes;
    return journal_window_save(txn, &mended);
}

/* A mailbox's entries are a list of their own, which ends where its header says. */
static int check_links(struct check *check, uint64_t base)
{
    struct journal_cursor *cursor;
    struct entry entry;
    size_t count;
    int rc = journal_cursor_open(check->txn, &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, 0, &entry, NULL); rc == ERR_OK || rc == ERR_CORRUPT;
         rc = journal_next(cursor, &entry, NULL)) {
        if (db_txn_error(check->txn))
            break;
        if (rc || !entry.mailbox) /* one that cannot be read was noted already */
            continue;
        struct check_box *box = check_box_of(check, entry.mailbox);
        if (!box)
            check_wrong(check, false, "journal", "entry %" PRIu64 " is about a mailbox that is not",
                        entry.modseq);
        else if (box->last_entry ? entry.previous != box->last_entry : entry.previous > base)
            check_wrong(check, false, "journal",
                        "entry %" PRIu64 " does not name the one before it about its mailbox",
                        entry.modseq);
        if (box)
            box->last_entry = entry.modseq;
    }
    journal_cursor_close(cursor);
    struct check_box *boxes = check_boxes(check, &count);
    for (size_t i = 0; i < count && rc == ERR_END; i++)
        if (boxes[i].id && !boxes[i].stopped &&
            (boxes[i].last_entry ? boxes[i].header.lastmodseq != boxes[i].last_entry
                                 : boxes[i].header.lastmodseq > base))
            check_wrong(check, false, "journal",
                        "mailbox id:%016" PRIx64 ": its last entry is %" PRIu64 ", not %" PRIu64,
                        boxes[i].id, boxes[i].header.lastmodseq, boxes[i].last_entry);
    return rc == ERR_END ? ERR_OK : rc;
}

static void pages_wrong(void *arg, const char *what)
{
    check_wrong(arg, false, "pages", "%s", what);
}

static void forget(struct check *check)
{
    buf_reset(&check->lines);
    buf_reset(&check->boxes);
    buf_reset(&check->referred);
    buf_reset(&check->stored);
    buf_reset(&check->unused);
    buf_reset(&check->keywords);
    check->headless = check->lost = check->others = false;
    check->looked = false;
    check->wrong = check->mended = check->meta = check->adopted = 0;
}

static void release(struct check *check)
{
    buf_free(&check->lines);
    buf_free(&check->boxes);
    buf_free(&check->referred);
    buf_free(&check->stored);
    buf_free(&check->unused);
    buf_free(&check->keywords);
}

static int check_pages(struct tx *tx, void *arg)
{
    struct check *check = arg;
    forget(check);
    return db_check_pages(tx_db(tx), tx->relaxed != 0, pages_wrong, check);
}

static int check_tables(struct tx *tx, void *arg)
{
    struct check *check = arg;
    check->tx = tx;
    check->txn = tx_db(tx);
    if (!check->repair) {
        int rc = check_pages(tx, check);
        if (rc || check->wrong)
            return rc;
    } else {
        forget(check);
    }
    int rc = check_mail(check);
    if (rc == ERR_OK)
        rc = check_content(check);
    if (rc == ERR_OK)
        rc = check_chain(check, check->txn, tx_window(tx));
    if (rc == ERR_OK)
        rc = check_links(check, tx_window(tx)->base.modseq);
    check->looked = true;
    return rc ? rc : check_history(check);
}

static int forget_content(struct tx *tx, void *arg)
{
    tx->notify = true;
    return content_forget(tx_db(tx), arg);
}

static int check_contents(struct check *check)
{
    size_t count = check->stored.size / sizeof(struct check_content);
    struct check_content *all = (struct check_content *)(void *)check->stored.data;
    for (size_t i = 0; i < count; i++) {
        char text[GUID_TEXT_SIZE];
        struct content content = {.guid = all[i].guid};
        if (all[i].staged)
            continue;
        guid_print(&content.guid, text);
        int rc = content_verify(store_db(check->store), &content);
        if (rc == ERR_GONE) /* purged since the tables were looked at */
            continue;
        if (rc == ERR_CORRUPT) {
            check_wrong(check, false, text, "%s", err_message());
            rc = check->repair && check->others
                     ? store_maintain(check->store, forget_content, &content.guid)
                     : ERR_OK;
        }
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static void tell(const struct check *check, check_report *report, void *arg)
{
    for (size_t at = 0; report && at < check->lines.size; at += sizeof(struct check_line)) {
        struct check_line line;
        memcpy(&line, check->lines.data + at, sizeof line);
        report(arg, line.where, line.what);
    }
    if (report && check->wrong > LINES_MAX)
        report(arg, "store", "there is more that is not told");
}

/* Pages first, in a reader's state: the tables are no place to go on damaged ones. */
static int look(struct check *check)
{
    int rc = ERR_BUSY;
    for (int i = 0; i < TRIES && rc == ERR_BUSY; i++)
        rc = store_read(check->store, check->repair ? check_pages : check_tables, check);
    if (rc || !check->repair || check->wrong)
        return rc;
    return store_maintain(check->store, check_tables, check);
}

static void wrong_file(void *arg, const char *file, const char *what)
{
    check_wrong(arg, false, file, "%s", what);
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

static int open_archive(struct check *check, struct archive_of *of)
{
    int rc = history_open(db_directory_fd(store_db(check->store)), &of->history);
    return rc ? rc : store_read(check->store, find_archive, of);
}

/* Others may have trimmed meanwhile, and noted more. */
static int forget_missing(struct tx *tx, void *arg)
{
    const uint64_t *missing = arg;
    uint64_t known;
    int rc = journal_forgotten(tx_db(tx), &known);
    return rc || known >= *missing ? rc : journal_forget(tx_db(tx), *missing);
}

/* Nothing makes files again that are not there: their entries are not missed from here on. */
static int accept_missing(struct check *check)
{
    struct archive_of of = {0};
    int rc = open_archive(check, &of);
    uint64_t missing = rc ? 0 : archive_missing(of.archive);
    rc = missing ? store_maintain(check->store, forget_missing, &missing) : ERR_OK;
    if (rc == ERR_OK && missing)
        check_wrong(check, true, ARCHIVE_DIRECTORY, "%s: accepted as gone",
                    archive_gap(of.archive));
    history_close(of.history);
    return rc;
}

static int prove_archive(struct check *check)
{
    struct archive_of of = {0};
    int rc = open_archive(check, &of);
    rc = rc ? check_note(check, ARCHIVE_DIRECTORY, rc)
            : archive_prove(of.archive, wrong_file, check);
    history_close(of.history);
    return rc;
}

static int run(struct store *store, bool contents, bool repair, check_report *report, void *arg,
               struct check_result *result)
{
    struct check check = {.store = store, .repair = repair};
    int rc = look(&check);
    check.txn = NULL; /* it has ended */
    if (rc == ERR_OK && check.looked && repair)
        rc = accept_missing(&check);
    if (rc == ERR_OK && check.looked)
        rc = prove_archive(&check);
    if (rc == ERR_OK && contents)
        rc = check_contents(&check);
    if (rc == ERR_OK && (check.lines.failed || check.stored.failed))
        rc = fail(ERR_NOMEM, "out of memory");
    tell(&check, report, arg);
    *result = (struct check_result){.wrong = check.wrong, .mended = check.mended};
    release(&check);
    return rc;
}

int check_store(struct store *store, bool contents, check_report *report, void *arg,
                uint64_t *count)
{
    struct check_result result;
    int rc = run(store, contents, false, report, arg, &result);
    *count = result.wrong;
    return rc;
}

int check_repair(struct store *store, check_report *report, void *arg, struct check_result *result)
{
    return run(store, true, true, report, arg, result);
}

int check_references(struct tx *tx, bool *counted)
{
    struct check check = {.store = tx->store, .tx = tx, .txn = tx_db(tx)};
    int rc = check_mail(&check);
    *counted = rc == ERR_OK && !check.lost && !check.headless;
    check.repair = true;
    if (*counted)
        rc = check_guids(&check);
    release(&check);
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
    snprintf(place, sizeof place, "mailbox id:%016" PRIx64, id);
    int rc = view_open(check->store, id, &view);
    if (rc)
        return check_note(check, place, rc);
    rc = view_prove_history(view);
    view_close(view);
    return check_note(check, place, rc);
}

static int check_chain_only(struct tx *tx, void *arg)
{
    return check_chain(arg, tx_db(tx), tx_window(tx));
}

int check_journal(struct store *store, check_report *report, void *arg, uint64_t *count)
{
    struct check check = {.store = store};
    struct buf ids = {0};
    int rc = store_read(store, check_chain_only, &check);
    if (rc == ERR_OK)
        rc = prove_archive(&check);
    if (rc == ERR_OK)
        rc = store_read(store, list_ids, &ids);
    for (size_t at = 0; at < ids.size && rc == ERR_OK; at += 8)
        rc = prove_mailbox(&check, load_u64(ids.data + at));
    tell(&check, report, arg);
    *count = check.wrong;
    buf_free(&check.lines);
    buf_free(&ids);
    return rc;
}
