/* A store of format 1 that was written once, kept as text: a row of a table to a line, everything
 * in hexadecimal. Whatever becomes of the code, it must read these rows, and write the same again;
 * else it is another format.
 *
 * `test_golden golden FILE` makes such a store and writes it to FILE. */
#include "mailbox/content.h"

#include "base/err.h"
#include "journal/epoch.h"
#include "journal/slots.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/edit.h"
#include "mailbox/keywords.h"
#include "mailbox/mailbox.h"
#include "mailbox/stop.h"
#include "mailbox/values.h"
#include "mailbox/view.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

#define NOISE_SIZE 2500u

static const struct owner owner = {.user = "owner"};

/* Making it */

static struct name name_of(const char *text)
{
    struct name name;
    assert_int_equal(name_parse(text, strlen(text), &owner, &name), ERR_OK);
    return name;
}

static struct mailbox *box_of(struct tx *tx, const char *text, const char *user)
{
    struct mailbox *mailbox;
    struct name name = name_of(text);
    assert_int_equal(mailbox_open(tx, &name, user, &mailbox), ERR_OK);
    return mailbox;
}

static struct uidset uids_of(const char *text)
{
    struct uidset uids = {0};
    assert_int_equal(uidset_parse(&uids, text, 0, NULL), ERR_OK);
    return uids;
}

static void flag(struct tx *tx, const char *uids_text, const char *user, const char *flags)
{
    struct uidset uids = uids_of(uids_text);
    struct flag_change change = {.mode = FLAGS_ADD};
    assert_int_equal(flags_add_list(&change.flags, flags), ERR_OK);
    assert_int_equal(mailbox_flag(box_of(tx, "INBOX", user), &uids, &change, NULL), ERR_OK);
    flags_free(&change.flags);
    uidset_free(&uids);
}

static void copy(struct tx *tx, const char *uids_text, const char *to, bool move)
{
    struct uidset uids = uids_of(uids_text);
    struct uidset from = {0};
    struct uidset there = {0};
    assert_int_equal(
        mailbox_copy(box_of(tx, "INBOX", NULL), &uids, box_of(tx, to, NULL), move, &from, &there),
        ERR_OK);
    uidset_free(&uids);
    uidset_free(&from);
    uidset_free(&there);
}

static void touch(struct tx *tx, const char *uids_text)
{
    struct uidset uids = uids_of(uids_text);
    assert_int_equal(mailbox_touch(box_of(tx, "INBOX", NULL), &uids), ERR_OK);
    uidset_free(&uids);
}

/* A tombstone for a UID that was never here, and a pointer added to one. */
static void bury(struct tx *tx)
{
    struct change *change;
    struct mailbox *mailbox = box_of(tx, "INBOX", NULL);
    struct record was;
    struct bytes keywords;
    struct box *box;
    assert_int_equal(tx_box(tx, mailbox_header(mailbox)->id, &box), ERR_OK);
    assert_int_equal(mailbox_record(mailbox, 2, &was), ERR_OK);
    assert_int_equal(edit_begin(tx, box, ENTRY_BURY, &change), ERR_OK);
    assert_int_equal(keywords_lookup(tx_db(tx), was.keywords, &keywords), ERR_OK);
    assert_int_equal(change_add_set(change, keywords), ERR_OK);
    struct record pointing = was;
    pointing.successor = 4;
    pointing.modseq = change->modseq;
    struct record never = was;
    never.uid = 50;
    never.modseq = never.append_modseq = change->modseq;
    assert_int_equal(change_add_buried(change, &pointing, &was), ERR_OK);
    assert_int_equal(change_add_buried(change, &never, NULL), ERR_OK);
    change->after.uidnext = 51;
    assert_int_equal(edit_finish(tx, box, change, true), ERR_OK);
}

static void mark(struct tx *tx)
{
    struct change *change;
    struct buf body = {0};
    struct box *box;
    struct mark mark = {.mailbox = mailbox_header(box_of(tx, "INBOX", NULL))->id,
                        .epoch = {2, 99},
                        .taken = {1234, 5678}};
    struct epoch epoch = {
        .id = {2, 99}, .parent = tx_node(tx)->epoch, .before = {3, 4}, .first = 4, .time = 5};
    assert_int_equal(tx_box(tx, mark.mailbox, &box), ERR_OK);
    assert_int_equal(edit_begin(tx, box, ENTRY_MARK, &change), ERR_OK);
    mark_body_encode(&mark, 1, &epoch, 1, &body);
    change->mark = buf_view(&body);
    assert_int_equal(edit_finish(tx, box, change, false), ERR_OK);
    buf_free(&body);
}

static int change_everything(struct tx *tx, void *arg)
{
    struct name work = name_of("Work/2024");
    struct name moved = name_of("Archive/2024");
    struct name late = name_of("Late");
    uint64_t id;
    (void)arg;
    tx_set_actor(tx, "golden");
    assert_int_equal(mailbox_create(tx, &work, &id), ERR_OK);
    assert_int_equal(mailbox_create(tx, &late, NULL), ERR_OK);
    assert_int_equal(mailbox_set_uids(box_of(tx, "Late", NULL), 77, 1000), ERR_OK);
    flag(tx, "1:3", NULL, "\\Seen,\\Flagged,$Forwarded,work");
    flag(tx, "2:4", "bob", "\\Seen");
    copy(tx, "1,4", "Work/2024", false);
    copy(tx, "2", "Late", true);
    touch(tx, "1:3");
    assert_int_equal(mailbox_rename(tx, &work, &moved), ERR_OK);
    assert_int_equal(mailbox_delete(box_of(tx, "Archive/2024", NULL)), ERR_OK);
    assert_int_equal(mailbox_meta_set(tx, box_of(tx, "INBOX", NULL), NULL, "/comment",
                                      bytes_text("where mail comes in")),
                     ERR_OK);
    assert_int_equal(mailbox_meta_set(tx, NULL, "bob", "/admin", bytes_text("me")), ERR_OK);
    assert_int_equal(mailbox_meta_unset(tx, NULL, "bob", "/admin"), ERR_OK);
    bury(tx);
    mark(tx);
    return ERR_OK;
}

static int keep_rows(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "elsewhere", .position = {5, 6}, .time = 7, .connected = true};
    struct stop stop = {.mailbox = 1234, .modseq = 9, .state = STOP_MERGED, .reason = "why not"};
    (void)arg;
    assert_int_equal(slot_put(tx_db(tx), &slot), ERR_OK);
    assert_int_equal(stop_put(tx_db(tx), &stop), ERR_OK);
    return ERR_OK;
}

static void print_hex(FILE *out, struct bytes bytes)
{
    for (size_t i = 0; i < bytes.size; i++)
        fprintf(out, "%02x", bytes.data[i]);
}

static void print_table(FILE *out, struct db_txn *txn, unsigned table)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    assert_int_equal(db_cursor_open(txn, table, &cursor), ERR_OK);
    for (int rc = db_first(cursor, &key, &value); rc == ERR_OK;
         rc = db_next(cursor, &key, &value)) {
        fprintf(out, "%s ", table_names[table]);
        print_hex(out, key);
        fputc(' ', out);
        print_hex(out, value);
        fputc('\n', out);
    }
    db_cursor_close(cursor);
}

static int print_store(struct tx *tx, void *arg)
{
    for (unsigned table = 0; table < TABLE_COUNT; table++)
        print_table(arg, tx_db(tx), table);
    return ERR_OK;
}

static void write_golden(void **state)
{
    char directory[PATH_MAX];
    struct store *store;
    FILE *out = fopen(*state, "w");
    assert_non_null(out);
    scratch_make(directory);
    assert_int_equal(store_init(directory, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(directory, NULL, &store), ERR_OK);
    assert_int_equal(post_create(store, "INBOX"), ERR_OK);
    for (unsigned i = 1; i <= 4; i++)
        assert_int_equal(post_append(store, "INBOX", i, i == 4 ? NOISE_SIZE : 10 * i), ERR_OK);
    assert_int_equal(store_commit(store, change_everything, NULL, NULL), ERR_OK);
    assert_int_equal(post_expunge(store, "INBOX", "3", true), ERR_OK);
    assert_int_equal(store_maintain(store, keep_rows, NULL), ERR_OK);
    assert_int_equal(store_read(store, print_store, out), ERR_OK);
    store_close(store);
    scratch_remove(directory);
    assert_int_equal(fclose(out), 0);
}

/* Reading it */

struct golden {
    char directory[PATH_MAX];
    char *text; /* of the file */
};

static unsigned table_of(const char *name, size_t size)
{
    for (unsigned i = 0; i < TABLE_COUNT; i++)
        if (strlen(table_names[i]) == size && memcmp(table_names[i], name, size) == 0)
            return i;
    fail_msg("no such table: %.*s", (int)size, name);
    return 0;
}

static unsigned digit(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c) : NULL;
    assert_non_null(at);
    return (unsigned)(at - digits);
}

static void read_hex(const char **at, char end, struct buf *out)
{
    buf_reset(out);
    for (; **at != end; *at += 2)
        buf_u8(out, (uint8_t)(digit((*at)[0]) << 4 | digit((*at)[1])));
    ++*at;
}

static void load_rows(struct db_txn *txn, const char *text)
{
    struct buf key = {0};
    struct buf value = {0};
    while (*text) {
        size_t size = strcspn(text, " ");
        unsigned table = table_of(text, size);
        text += size + 1;
        read_hex(&text, ' ', &key);
        read_hex(&text, '\n', &value);
        assert_int_equal(db_put(txn, table, buf_view(&key), buf_view(&value)), ERR_OK);
    }
    buf_free(&key);
    buf_free(&value);
}

static char *read_file(const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_true(getdelim(&text, &size, '\0', file) > 0);
    fclose(file);
    return text;
}

static struct db *open_rows(const char *directory)
{
    struct db *db;
    struct db_options options = {
        .tables = table_names, .table_count = TABLE_COUNT, .map_size = 1u << 28, .create = true};
    assert_int_equal(db_open(directory, &options, &db), ERR_OK);
    return db;
}

static int load(void **state)
{
    static struct golden golden;
    char path[PATH_MAX];
    const char *source = getenv("SHIPLOG_SOURCE");
    struct db_txn *txn;
    assert_non_null(source);
    scratch_path(path, source, "tests/mailbox/golden/store.txt");
    golden.text = read_file(path);
    scratch_make(golden.directory);
    struct db *db = open_rows(golden.directory);
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    load_rows(txn, golden.text);
    assert_int_equal(db_commit(txn), ERR_OK);
    db_close(db);
    *state = &golden;
    return 0;
}

static int unload(void **state)
{
    struct golden *golden = *state;
    if (golden) {
        scratch_remove(golden->directory);
        free(golden->text);
    }
    return 0;
}

static void report(void *arg, const char *where, const char *what)
{
    (void)arg;
    print_error("%s: %s\n", where, what);
}

static void is_proved_by_its_own_checksums_and_digests(void **state)
{
    struct golden *golden = *state;
    struct store *store;
    uint64_t wrong = 1;
    assert_int_equal(store_open(golden->directory, NULL, &store), ERR_OK);
    assert_int_equal(check_journal(store, report, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
    store_close(store);
}

static int expect_records(struct tx *tx, void *arg)
{
    struct mailbox *inbox = box_of(tx, "INBOX", "bob");
    struct record record;
    struct versioned comment;
    struct bytes keywords;
    struct buf flags = {0};
    (void)arg;
    assert_int_equal(mailbox_header(inbox)->messages, 2);
    assert_int_equal(mailbox_header(inbox)->tombstones, 2);
    assert_int_equal(mailbox_header(inbox)->facts.uidnext, 51);
    assert_int_equal(mailbox_record(inbox, 1, &record), ERR_OK);
    assert_int_equal(record.flags, FLAG_FLAGGED); /* bob has not seen it */
    assert_int_equal(keywords_lookup(tx_db(tx), record.keywords, &keywords), ERR_OK);
    flags_print(record.flags, keywords, &flags);
    assert_int_equal(flags.size, strlen("$Forwarded,\\Flagged,work"));
    assert_memory_equal(flags.data, "$Forwarded,\\Flagged,work", flags.size);
    assert_int_equal(mailbox_record(inbox, 4, &record), ERR_OK);
    assert_int_equal(record.flags, FLAG_SEEN);
    assert_int_equal(record.size, NOISE_SIZE);
    assert_int_equal(mailbox_record(inbox, 2, &record), ERR_OK);
    assert_false(record_live(&record));
    assert_int_equal(record.successor, 4);
    assert_int_equal(mailbox_record(inbox, 3, &record), ERR_END);
    assert_int_equal(meta_get(tx_db(tx), mailbox_header(inbox)->id, bytes_text(""),
                              bytes_text("/comment"), &comment),
                     ERR_OK);
    assert_true(bytes_equal(comment.value, bytes_text("where mail comes in")));
    struct mailbox *late = box_of(tx, "Late", NULL);
    assert_int_equal(mailbox_header(late)->facts.uidvalidity, 77);
    assert_int_equal(mailbox_header(late)->facts.uidnext, 1001);
    assert_int_equal(mailbox_header(late)->messages, 1);
    buf_free(&flags);
    return ERR_OK;
}

static void holds_the_mail_that_was_put_there(void **state)
{
    struct golden *golden = *state;
    struct store *store;
    struct header *headers;
    size_t count;
    assert_int_equal(store_open(golden->directory, NULL, &store), ERR_OK);
    assert_int_equal(store_read(store, expect_records, NULL), ERR_OK);
    /* Before the last commits: nothing but the inbox, and four messages in it. */
    assert_int_equal(view_mailboxes(store, 6, &headers, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(headers[0].messages, 4);
    free(headers);
    store_close(store);
}

static void encode_body(const struct entry *entry, struct buf *out)
{
    struct change change = {0};
    struct epoch_body epoch;
    if (entry->kind == ENTRY_EPOCH) {
        assert_int_equal(epoch_body_decode(entry->body, &epoch), ERR_OK);
        epoch_body_encode(&epoch, out);
        return;
    }
    assert_int_equal(change_decode(entry, &change), ERR_OK);
    /* Facts that an entry does not name are equal before and after. */
    assert_int_equal(change_encode(&change, out), ERR_OK);
    change_free(&change);
}

/* A canonical encoding: what was decoded becomes the same bytes. */
static void entries_of_every_kind_become_the_same_bytes(void **state)
{
    struct golden *golden = *state;
    struct db *db = open_rows(golden->directory);
    struct db_txn *txn;
    struct journal_window window;
    struct entry entry;
    struct bytes encoded;
    struct buf body = {0};
    struct buf again = {0};
    unsigned kinds = 0;
    assert_int_equal(db_begin_read(db, &txn), ERR_OK);
    assert_int_equal(journal_window(txn, &window), ERR_OK);
    uint64_t chain = window.base.chain;
    for (uint64_t modseq = 1; modseq <= window.last.modseq; modseq++) {
        assert_int_equal(journal_get(txn, modseq, &entry, &encoded), ERR_OK);
        buf_reset(&body);
        buf_reset(&again);
        encode_body(&entry, &body);
        assert_int_equal(body.size, entry.body.size);
        assert_memory_equal(body.data, entry.body.data, body.size);
        struct entry copied = entry;
        copied.body = buf_view(&body);
        assert_int_equal(entry_encode(&again, &copied, chain), ERR_OK);
        assert_true(bytes_equal(buf_view(&again), encoded));
        chain = entry.chain;
        kinds |= 1u << entry.kind;
    }
    assert_int_equal(chain, window.last.chain);
    assert_int_equal(kinds, (1u << ENTRY_KIND_COUNT) - 1);
    db_abort(txn);
    db_close(db);
    buf_free(&body);
    buf_free(&again);
}

static void rewrite_mailboxes(struct db_txn *txn)
{
    struct header header;
    uint64_t id = 0;
    while (header_next(txn, &id, &header) == ERR_OK) {
        struct record records[16];
        size_t count;
        assert_int_equal(record_batch(txn, header.number, 1, records, 16, &count), ERR_OK);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(record_put(txn, header.number, &records[i]), ERR_OK);
        assert_int_equal(header_put(txn, &header), ERR_OK);
    }
}

static void rewrite_seen(struct db_txn *txn, uint64_t mailbox)
{
    struct uidset seen = {0};
    struct versioned version;
    assert_int_equal(seen_get(txn, mailbox, bytes_text("bob"), &seen, &version), ERR_OK);
    assert_int_equal(uidset_size(&seen), 3);
    assert_int_equal(seen_put(txn, mailbox, bytes_text("bob"), &seen, version.version), ERR_OK);
    uidset_free(&seen);
}

static void rewrite_meta(struct db_txn *txn, uint64_t mailbox)
{
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    size_t rows = 0;
    while (meta_next(txn, mailbox, &row, &user, &key, &value) == ERR_OK) {
        struct buf copied = {0};
        char user_text[16];
        char key_text[16];
        snprintf(user_text, sizeof user_text, "%.*s", (int)user.size, (const char *)user.data);
        snprintf(key_text, sizeof key_text, "%.*s", (int)key.size, (const char *)key.data);
        buf_put(&copied, value.value.data, value.value.size);
        value.value = buf_view(&copied);
        assert_int_equal(
            meta_put(txn, mailbox, bytes_text(user_text), bytes_text(key_text), &value), ERR_OK);
        buf_free(&copied);
        rows++;
    }
    assert_int_equal(rows, 1);
    buf_free(&row);
}

static void rewrite_small_tables(struct db_txn *txn)
{
    struct journal_window window;
    struct epoch_id id = {0};
    struct epoch epoch;
    struct mark mark = {0};
    struct slot slot = {0};
    struct stop stop;
    uint64_t mailbox = 0;
    unsigned rows = 0;
    for (; epoch_next(txn, &id, &epoch) == ERR_OK; rows++)
        assert_int_equal(epoch_put(txn, &epoch), ERR_OK);
    for (; mark_next(txn, &mark) == ERR_OK; rows++)
        assert_int_equal(mark_put(txn, &mark), ERR_OK);
    for (; slot_next(txn, &slot) == ERR_OK; rows++)
        assert_int_equal(slot_put(txn, &slot), ERR_OK);
    for (; stop_next(txn, &mailbox, &stop) == ERR_OK; rows++)
        assert_int_equal(stop_put(txn, &stop), ERR_OK);
    assert_int_equal(rows, 5); /* two epochs, one of each other */
    assert_int_equal(journal_window(txn, &window), ERR_OK);
    assert_int_equal(journal_window_save(txn, &window), ERR_OK);
}

/* Content is not deflated again, which another version of a library may do otherwise. */
static void rewrite_guids(struct db_txn *txn)
{
    struct header header;
    uint64_t id = 0;
    while (header_next(txn, &id, &header) == ERR_OK) {
        struct record records[16];
        struct content content;
        size_t count;
        assert_int_equal(record_batch(txn, header.number, 1, records, 16, &count), ERR_OK);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(content_get(txn, &records[i].guid, &content), ERR_OK);
            assert_int_equal(content_put(txn, &content), ERR_OK);
        }
    }
}

static void rows_are_written_as_they_were_read(void **state)
{
    struct golden *golden = *state;
    struct db *db = open_rows(golden->directory);
    struct db_txn *txn;
    struct name inbox = name_of("INBOX");
    uint64_t id;
    char *text = NULL;
    size_t size = 0;
    assert_int_equal(db_begin_write(db, &txn), ERR_OK);
    assert_int_equal(header_id_of(txn, &inbox, &id), ERR_OK);
    rewrite_mailboxes(txn);
    rewrite_seen(txn, id);
    rewrite_meta(txn, id);
    rewrite_meta(txn, 0);
    rewrite_small_tables(txn);
    rewrite_guids(txn);
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    for (unsigned table = 0; table < TABLE_COUNT; table++)
        print_table(out, txn, table);
    fclose(out);
    assert_string_equal(text, golden->text);
    free(text);
    db_abort(txn);
    db_close(db);
}

static void covers_every_table(void **state)
{
    struct golden *golden = *state;
    struct db *db = open_rows(golden->directory);
    struct db_txn *txn;
    assert_int_equal(db_begin_read(db, &txn), ERR_OK);
    for (unsigned table = 0; table < TABLE_COUNT; table++) {
        uint64_t rows;
        /* These two have rows only while something is under way. */
        if (table == TABLE_STAGED || table == TABLE_GARBAGE)
            continue;
        assert_int_equal(db_count(txn, table, &rows), ERR_OK);
        assert_true(rows > 0);
    }
    db_abort(txn);
    db_close(db);
}

/* Every message's bytes, every count and digest; the store then takes changes. */
static void is_whole_and_goes_on(void **state)
{
    struct golden *golden = *state;
    struct store *store;
    assert_int_equal(store_open(golden->directory, NULL, &store), ERR_OK);
    assert_int_equal(post_check(store), 0);
    assert_int_equal(post_append(store, "INBOX", 9, 100), ERR_OK);
    assert_int_equal(post_flag(store, "INBOX", "1,51", "later"), ERR_OK);
    assert_int_equal(post_check(store), 0);
    store_close(store);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest make[] = {
        cmocka_unit_test_prestate(write_golden, argc == 3 ? argv[2] : NULL),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_proved_by_its_own_checksums_and_digests),
        cmocka_unit_test(holds_the_mail_that_was_put_there),
        cmocka_unit_test(entries_of_every_kind_become_the_same_bytes),
        cmocka_unit_test(rows_are_written_as_they_were_read),
        cmocka_unit_test(covers_every_table),
        cmocka_unit_test(is_whole_and_goes_on),
    };
    if (argc == 3 && strcmp(argv[1], "golden") == 0)
        return cmocka_run_group_tests(make, NULL, NULL);
    return cmocka_run_group_tests(tests, load, unload);
}
