/* What check finds, what it mends, and what it must not mend: one damage at a time, put into the
 * tables behind the store's back. */
#include "base/err.h"
#include "journal/retention.h"
#include "journal/slots.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/content.h"
#include "mailbox/garbage.h"
#include "mailbox/lacking.h"
#include "mailbox/mailbox.h"
#include "mailbox/repair.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"
#include "mailbox/view.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
/* cmocka wants the ones above first */
#include <cmocka.h>

struct place {
    char root[PATH_MAX];
    struct store *store;
    uint64_t id; /* of INBOX */
};

static int find_inbox(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct name name;
    int rc = name_parse("INBOX", 5, &tx_node(tx)->owner, &name);
    return rc ? rc : header_id_of(tx_db(tx), &name, &place->id);
}

static int open_place(void **state)
{
    static struct place place;
    char path[PATH_MAX];
    scratch_make(place.root);
    scratch_path(path, place.root, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &place.store), ERR_OK);
    assert_int_equal(post_create(place.store, "INBOX"), ERR_OK);
    assert_int_equal(post_create(place.store, "Other"), ERR_OK);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(post_append(place.store, "INBOX", i, 100 + 40000 * i), ERR_OK);
    assert_int_equal(post_append(place.store, "Other", 1, 40100), ERR_OK);
    assert_int_equal(post_flag(place.store, "INBOX", "2:3", "work,\\Seen"), ERR_OK);
    assert_int_equal(post_expunge(place.store, "INBOX", "6", false), ERR_OK);
    assert_int_equal(post_meta(place.store, "/comment", "a value"), ERR_OK);
    assert_int_equal(store_read(place.store, find_inbox, &place), ERR_OK);
    assert_int_equal(post_check(place.store), 0);
    *state = &place;
    return 0;
}

static int close_place(void **state)
{
    struct place *place = *state;
    store_close(place->store);
    scratch_remove(place->root);
    return 0;
}

static void ignore(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("  %s: %s\n", where, what);
}

static struct check_result checked(struct place *place, bool repair)
{
    struct check_result result = {0};
    assert_int_equal(repair ? check_repair(place->store, ignore, NULL, &result)
                            : check_store(place->store, true, ignore, NULL, &result.wrong),
                     ERR_OK);
    return result;
}

/* The damage is found; mending leaves nothing wrong, and changes no digest. */
static void is_mended(struct place *place, int (*damage)(struct tx *tx, void *arg))
{
    struct post_facts before, after;
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    assert_int_equal(store_maintain(place->store, damage, place), ERR_OK);
    struct check_result result = checked(place, false);
    assert_true(result.wrong > 0);
    assert_int_equal(result.mended, 0);
    result = checked(place, true);
    assert_true(result.wrong > 0);
    assert_int_equal(result.mended, result.wrong);
    assert_int_equal(checked(place, false).wrong, 0);
    assert_int_equal(post_facts(place->store, &after), ERR_OK);
    assert_int_equal(node_digest(&after.node), node_digest(&before.node));
    assert_int_equal(view_prove(place->store, place->id), ERR_OK);
}

/* It is found, and mending does not hide it. */
static void is_found_and_stays(struct place *place, int (*damage)(struct tx *tx, void *arg))
{
    assert_int_equal(store_maintain(place->store, damage, place), ERR_OK);
    assert_true(checked(place, false).wrong > 0);
    struct check_result result = checked(place, true);
    assert_true(result.wrong > result.mended);
    assert_true(checked(place, false).wrong > 0);
}

/* The first row of a table at or above a key, with one bit of its value or key turned. */
static int turn_bit(struct tx *tx, unsigned table, struct bytes key, bool in_key, size_t bit)
{
    struct db_cursor *cursor;
    struct bytes found, value;
    struct buf k = {0}, v = {0};
    int rc = db_cursor_open(tx_db(tx), table, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key, &found, &value);
    if (rc == ERR_OK) {
        buf_put(&k, found.data, found.size);
        buf_put(&v, value.data, value.size);
        struct buf *turned = in_key ? &k : &v;
        turned->data[bit / 8 % turned->size] ^= (uint8_t)(1u << (bit % 8));
        rc = db_cursor_delete(cursor);
    }
    db_cursor_close(cursor);
    if (rc == ERR_OK)
        rc = db_put(tx_db(tx), table, buf_view(&k), buf_view(&v));
    buf_free(&k);
    buf_free(&v);
    return rc;
}

static struct bytes anything(void)
{
    return bytes_of("\0", 1);
}

static int change_references(struct tx *tx, void *arg)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    struct content content = {0};
    (void)arg;
    int rc = db_cursor_open(tx_db(tx), TABLE_GUIDS, &cursor);
    if (rc == ERR_OK)
        rc = db_first(cursor, &key, &value);
    if (rc == ERR_OK)
        rc = content_decode(key, value, &content);
    db_cursor_close(cursor);
    content.references += 3;
    return rc ? rc : content_put(tx_db(tx), &content);
}

static int change_counts(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct header header;
    int rc = header_get(tx_db(tx), place->id, &header);
    header.messages++;
    header.unseen += 2;
    return rc ? rc : header_put(tx_db(tx), &header);
}

static int lose_name(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct header header;
    int rc = header_get(tx_db(tx), place->id, &header);
    return rc ? rc : db_delete(tx_db(tx), TABLE_NAMES, name_encoded(&header.facts.name));
}

static int add_name(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct name name;
    int rc = name_parse("Nowhere", 7, &tx_node(tx)->owner, &name);
    return rc ? rc : header_name_put(tx_db(tx), &name, place->id);
}

static int turn_name_key(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_NAMES, anything(), true, 60);
}

static int add_chunk(struct tx *tx, void *arg)
{
    uint8_t key[12];
    (void)arg;
    save_be64(key, 4000);
    save_be32(key + 8, 0);
    return db_put(tx_db(tx), TABLE_CONTENT, bytes_of(key, sizeof key), bytes_text("who am I"));
}

static int turn_guid_row(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_GUIDS, anything(), false, 100);
}

static int turn_guid_key(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_GUIDS, anything(), true, 255);
}

static int change_window(struct tx *tx, void *arg)
{
    struct journal_window window = *tx_window(tx);
    (void)arg;
    window.entries++;
    return journal_window_save(tx_db(tx), &window);
}

static int mark_needlessly(struct tx *tx, void *arg)
{
    const struct guid guid = {.bytes = {1, 2, 3}};
    (void)arg;
    return lacking_mark(tx_db(tx), &guid);
}

static int turn_mark(struct tx *tx, void *arg)
{
    int rc = mark_needlessly(tx, arg);
    return rc ? rc : turn_bit(tx, TABLE_STATE, bytes_text("lacking"), true, 100);
}

static void what_follows_from_the_rest_is_mended(void **state)
{
    is_mended(*state, mark_needlessly);
    is_mended(*state, turn_mark);
    is_mended(*state, change_references);
    is_mended(*state, change_counts);
    is_mended(*state, lose_name);
    is_mended(*state, add_name);
    is_mended(*state, turn_name_key);
    is_mended(*state, add_chunk);
    is_mended(*state, change_window);
}

static int each_content(struct tx *tx, void *arg)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    unsigned *count = arg;
    int rc = db_cursor_open(tx_db(tx), TABLE_GUIDS, &cursor);
    if (rc)
        return rc;
    *count = 0;
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        struct content content;
        rc = content_decode(key, value, &content);
        if (rc)
            break;
        *count += content.number != 0;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* What cannot be read is told, and is right the next time. */
static void is_right_after(struct place *place, int (*damage)(struct tx *tx, void *arg))
{
    assert_int_equal(store_maintain(place->store, damage, place), ERR_OK);
    assert_true(checked(place, false).wrong > 0);
    assert_true(checked(place, true).wrong > 0);
    assert_int_equal(checked(place, false).wrong, 0);
}

/* The row is gone, the bytes are there: they say themselves whose they are. */
static void a_lost_row_of_content_is_made_anew_from_the_bytes(void **state)
{
    struct place *place = *state;
    unsigned before, after;
    assert_int_equal(store_read(place->store, each_content, &before), ERR_OK);
    is_right_after(place, turn_guid_row);
    is_right_after(place, turn_guid_key);
    assert_int_equal(store_read(place->store, each_content, &after), ERR_OK);
    assert_int_equal(before, after);
}

static int turn_record(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_RECORDS, anything(), false, 70);
}

static int turn_record_key(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_RECORDS, anything(), true, 56);
}

static int lose_record(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct header header;
    int rc = header_get(tx_db(tx), place->id, &header);
    return rc ? rc : record_delete(tx_db(tx), header.number, 3);
}

static int turn_header(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_MAILBOXES, anything(), false, 200);
}

static int turn_meta(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_META, anything(), false, 160);
}

static int turn_keywords(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_KEYWORDS, anything(), false, 12);
}

static int turn_entry(struct tx *tx, void *arg)
{
    uint8_t key[8];
    (void)arg;
    save_be64(key, 4);
    return turn_bit(tx, TABLE_JOURNAL, bytes_of(key, sizeof key), false, 700);
}

static int lose_entry(struct tx *tx, void *arg)
{
    uint8_t key[8];
    (void)arg;
    save_be64(key, 5);
    return db_delete(tx_db(tx), TABLE_JOURNAL, bytes_of(key, sizeof key));
}

static int turn_epoch(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_EPOCHS, anything(), false, 170);
}

static int turn_content(struct tx *tx, void *arg)
{
    (void)arg;
    return turn_bit(tx, TABLE_CONTENT, anything(), false, 333);
}

static int turn_slot(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "peer"};
    (void)arg;
    int rc = slot_put(tx_db(tx), &slot);
    return rc ? rc : turn_bit(tx, TABLE_SLOTS, anything(), true, 1);
}

static int turn_staged(struct tx *tx, void *arg)
{
    uint8_t key[8];
    (void)arg;
    save_be64(key, 7000);
    return db_put(tx_db(tx), TABLE_STAGED, bytes_of(key, sizeof key), bytes_text("twelve bytes"));
}

static int turn_retention(struct tx *tx, void *arg)
{
    const struct retention retention = {.entries = 1000000};
    (void)arg;
    int rc = retention_save(tx_db(tx), &retention);
    return rc ? rc : turn_bit(tx, TABLE_STATE, bytes_text("retention"), false, 20);
}

static int turn_forgotten(struct tx *tx, void *arg)
{
    (void)arg;
    int rc = journal_forget(tx_db(tx), 0);
    return rc ? rc : turn_bit(tx, TABLE_STATE, bytes_text("forgotten"), false, 20);
}

static int forget_too_much(struct tx *tx, void *arg)
{
    (void)arg;
    return journal_forget(tx_db(tx), tx_window(tx)->last.modseq);
}

static int turn_retention_key(struct tx *tx, void *arg)
{
    const struct retention retention = {.entries = 1000000};
    (void)arg;
    int rc = retention_save(tx_db(tx), &retention);
    return rc ? rc : turn_bit(tx, TABLE_STATE, bytes_text("retention"), true, 20);
}

static void what_cannot_be_mended_is_told_and_stays(void **state)
{
    (void)state;
    int (*const damages[])(struct tx *, void *) = {
        turn_record,    turn_record_key,    lose_record,    turn_header,
        turn_meta,      turn_keywords,      turn_entry,     lose_entry,
        turn_epoch,     turn_slot,          turn_content,   turn_staged,
        turn_retention, turn_retention_key, turn_forgotten, forget_too_much};
    for (size_t i = 0; i < sizeof damages / sizeof damages[0]; i++) {
        void *place;
        printf("damage %zu\n", i);
        open_place(&place);
        is_found_and_stays(place, damages[i]);
        close_place(&place);
    }
}

static int get_stop(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct stop stop;
    return stop_get(tx_db(tx), place->id, &stop);
}

static void a_mailbox_whose_mail_is_damaged_is_marked_and_its_sums_are_kept(void **state)
{
    struct place *place = *state;
    struct post_facts before, after;
    assert_int_equal(post_facts(place->store, &before), ERR_OK);
    assert_int_equal(store_maintain(place->store, lose_record, place), ERR_OK);
    assert_int_equal(store_read(place->store, get_stop, place), ERR_END);
    checked(place, false);
    assert_int_equal(store_read(place->store, get_stop, place), ERR_END);
    checked(place, true);
    assert_int_equal(store_read(place->store, get_stop, place), ERR_OK);
    assert_int_equal(post_facts(place->store, &after), ERR_OK);
    assert_int_equal(node_digest(&after.node), node_digest(&before.node));
}

static int get_first_content(struct tx *tx, void *arg)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    struct content *content = arg;
    uint8_t lowest[12] = {0};
    int rc = db_cursor_open(tx_db(tx), TABLE_CONTENT, &cursor);
    if (rc == ERR_OK)
        rc = db_seek(cursor, bytes_of(lowest, sizeof lowest), &key, NULL);
    uint64_t number = rc == ERR_OK ? load_be64(key.data) : 0;
    db_cursor_close(cursor);
    if (rc == ERR_OK)
        rc = db_cursor_open(tx_db(tx), TABLE_GUIDS, &cursor);
    if (rc)
        return rc;
    for (rc = db_first(cursor, &key, &value); rc == ERR_OK; rc = db_next(cursor, &key, &value)) {
        rc = content_decode(key, value, content);
        if (rc || content->number == number)
            break;
    }
    db_cursor_close(cursor);
    return rc;
}

static int put_slot(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "peer", .position = tx_window(tx)->last};
    (void)arg;
    return slot_put(tx_db(tx), &slot);
}

static int get_content(struct tx *tx, void *arg)
{
    struct content *content = arg;
    struct guid guid = content->guid;
    return content_get(tx_db(tx), &guid, content);
}

static int count_marks(struct tx *tx, void *arg)
{
    return lacking_count(tx_db(tx), arg);
}

static int unmark(struct tx *tx, void *arg)
{
    const struct content *content = arg;
    return lacking_unmark(tx_db(tx), &content->guid);
}

static void assert_marks(struct place *place, uint64_t wanted)
{
    uint64_t marks;
    assert_int_equal(store_read(place->store, count_marks, &marks), ERR_OK);
    assert_int_equal(marks, wanted);
}

/* Damaged bytes are all that is left of a message, unless somebody else may have it. */
static void unreadable_content_is_forgotten_only_where_another_node_may_have_it(void **state)
{
    struct place *place = *state;
    struct content content;
    assert_int_equal(store_read(place->store, get_first_content, &content), ERR_OK);
    assert_int_equal(store_maintain(place->store, turn_content, place), ERR_OK);
    checked(place, true);
    assert_int_equal(store_read(place->store, get_content, &content), ERR_OK);
    assert_int_not_equal(content.number, 0);
    assert_marks(place, 0);
    assert_int_equal(store_maintain(place->store, put_slot, NULL), ERR_OK);
    checked(place, true);
    assert_int_equal(store_read(place->store, get_content, &content), ERR_OK);
    assert_int_equal(content.number, 0);
    assert_marks(place, 1);
    assert_int_equal(store_maintain(place->store, unmark, &content), ERR_OK);
    assert_int_equal(checked(place, false).wrong, 1);
    assert_marks(place, 0);
    checked(place, true);
    assert_marks(place, 1);
}

/* Copies of INBOX's rows under a number that nobody has, one of them not readable, as a repair that
 * was broken off leaves them. */
static int leave_rows(struct tx *tx, void *arg)
{
    const struct place *place = arg;
    struct header header;
    struct record records[8];
    uint8_t key[8];
    size_t count = 0;
    uint32_t number = tx->node.next_number++;
    int rc = header_get(tx_db(tx), place->id, &header);
    if (rc == ERR_OK)
        rc = record_batch(tx_db(tx), header.number, 1, records, 8, &count);
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        rc = record_put(tx_db(tx), number, &records[i]);
        if (rc == ERR_OK)
            rc = content_ref(tx_db(tx), &records[i].guid);
    }
    save_be32(key, number);
    save_be32(key + 4, 0);
    tx->node_dirty = true;
    if (rc == ERR_OK)
        rc = garbage_put(tx_db(tx), number);
    return rc ? rc : turn_bit(tx, TABLE_RECORDS, bytes_of(key, sizeof key), false, 70);
}

static void what_is_left_behind_goes_and_references_are_right_after(void **state)
{
    struct place *place = *state;
    assert_int_equal(store_maintain(place->store, leave_rows, place), ERR_OK);
    assert_true(checked(place, false).wrong > 0);
    assert_int_equal(repair_sweep(place->store), ERR_OK);
    assert_int_equal(checked(place, false).wrong, 0);
    assert_int_equal(view_prove(place->store, place->id), ERR_OK);
}

/* Where a record cannot be read, what it refers to is not known: counts stay high until it is
 * mended. */
static int doubt_references(struct tx *tx, void *arg)
{
    int rc = garbage_recount(tx_db(tx));
    return rc ? rc : turn_record(tx, arg);
}

static void references_are_not_counted_while_a_record_is_damaged(void **state)
{
    struct place *place = *state;
    unsigned before, after;
    assert_int_equal(store_read(place->store, each_content, &before), ERR_OK);
    assert_int_equal(store_maintain(place->store, doubt_references, place), ERR_OK);
    assert_int_equal(repair_sweep(place->store), ERR_OK);
    assert_int_equal(store_read(place->store, each_content, &after), ERR_OK);
    assert_int_equal(after, before);
    assert_int_equal(store_maintain(place->store, turn_record, place), ERR_OK);
    assert_int_equal(store_maintain(place->store, change_references, NULL), ERR_OK);
    assert_int_equal(repair_sweep(place->store), ERR_OK);
    assert_int_equal(checked(place, false).wrong, 0);
}

/* The number of something left behind, with any one bit turned, may be a live mailbox's. */
static int leave_almost_inbox(struct tx *tx, void *arg)
{
    const struct place *place = arg;
    struct header header;
    uint8_t key[4];
    int rc = header_get(tx_db(tx), place->id, &header);
    uint32_t bit = 1u << (tx->node.next_number % 20);
    tx->node.next_number++;
    tx->node_dirty = true;
    save_be32(key, header.number ^ bit);
    if (rc == ERR_OK)
        rc = garbage_put(tx_db(tx), header.number ^ bit);
    size_t at = 0;
    while (bit >> at != 1)
        at++;
    return rc ? rc
              : turn_bit(tx, TABLE_GARBAGE, bytes_of(key, sizeof key), true,
                         (3 - at / 8) * 8 + at % 8);
}

static void a_turned_bit_never_makes_garbage_of_a_mailbox(void **state)
{
    struct place *place = *state;
    for (unsigned i = 0; i < 20; i++) {
        assert_int_equal(store_maintain(place->store, leave_almost_inbox, place), ERR_OK);
        assert_true(checked(place, false).wrong > 0);
        assert_int_equal(repair_sweep(place->store), ERR_OK);
        assert_int_equal(view_prove(place->store, place->id), ERR_OK);
        assert_int_equal(checked(place, true).mended, 1);
        assert_int_equal(checked(place, false).wrong, 0);
    }
}

/* What stands under a number that is nobody's is swept, as soon as every mailbox is known. */
static int lose_garbage_row(struct tx *tx, void *arg)
{
    int rc = leave_rows(tx, arg);
    return rc ? rc : garbage_drop(tx_db(tx), tx->node.next_number - 1);
}

static void rows_of_nobody_are_swept_where_every_mailbox_has_its_header(void **state)
{
    struct place *place = *state;
    assert_int_equal(store_maintain(place->store, lose_garbage_row, place), ERR_OK);
    checked(place, true);
    assert_int_equal(repair_sweep(place->store), ERR_OK);
    checked(place, true);
    assert_int_equal(checked(place, false).wrong, 0);
    assert_int_equal(view_prove(place->store, place->id), ERR_OK);
}

static int first_guid(struct tx *tx, void *arg)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    struct content content = {0};
    int rc = db_cursor_open(tx_db(tx), TABLE_GUIDS, &cursor);
    if (rc == ERR_OK)
        rc = db_first(cursor, &key, &value);
    if (rc == ERR_OK)
        rc = content_decode(key, value, &content);
    db_cursor_close(cursor);
    *(struct guid *)arg = content.guid;
    return rc;
}

static int find_content(struct tx *tx, void *arg)
{
    struct content content;
    return content_find(tx_db(tx), arg, &content);
}

static void content_whose_row_is_damaged_is_not_said_to_be_gone(void **state)
{
    struct place *place = *state;
    struct guid first, unknown;
    memset(&unknown, 0xff, sizeof unknown);
    assert_int_equal(store_read(place->store, first_guid, &first), ERR_OK);
    assert_int_equal(store_read(place->store, find_content, &first), ERR_OK);
    assert_int_equal(store_maintain(place->store, turn_guid_key, place), ERR_OK);
    assert_int_equal(store_read(place->store, find_content, &first), ERR_CORRUPT);
    assert_int_equal(store_read(place->store, find_content, &unknown), ERR_END);
}

static int lose_header(struct tx *tx, void *arg)
{
    const struct place *place = arg;
    uint8_t key[8];
    save_be64(key, place->id);
    return db_delete(tx_db(tx), TABLE_MAILBOXES, bytes_of(key, sizeof key));
}

static int open_inbox(struct tx *tx, void *arg)
{
    struct mailbox *mailbox;
    struct name name;
    (void)arg;
    int rc = name_parse("INBOX", 5, &tx_node(tx)->owner, &name);
    return rc ? rc : mailbox_open(tx, &name, NULL, &mailbox);
}

static int open_inbox_id(struct tx *tx, void *arg)
{
    const struct place *place = arg;
    struct mailbox *mailbox;
    return mailbox_open_id(tx, place->id, NULL, &mailbox);
}

static void a_mailbox_that_damage_hides_is_not_said_to_be_unknown(void **state)
{
    struct place *place = *state;
    struct view *view;
    struct post_facts facts;
    struct name name;
    uint64_t id = 0;
    assert_int_equal(post_facts(place->store, &facts), ERR_OK);
    assert_int_equal(name_parse("INBOX", 5, &facts.node.owner, &name), ERR_OK);
    assert_int_equal(store_maintain(place->store, lose_name, place), ERR_OK);
    assert_int_equal(store_read(place->store, open_inbox, place), ERR_CORRUPT);
    assert_int_equal(view_mailbox_id(place->store, &name, 0, &id), ERR_OK);
    assert_int_equal(id, place->id);
    checked(place, true);
    assert_int_equal(store_read(place->store, open_inbox, place), ERR_OK);
    assert_int_equal(store_maintain(place->store, lose_header, place), ERR_OK);
    assert_int_equal(store_read(place->store, open_inbox, place), ERR_CORRUPT);
    assert_int_equal(store_read(place->store, open_inbox_id, place), ERR_CORRUPT);
    assert_int_equal(view_mailbox_id(place->store, &name, 0, &id), ERR_CORRUPT);
    assert_int_equal(view_open(place->store, place->id, &view), ERR_CORRUPT);
}

static int delete_inbox(struct tx *tx, void *arg)
{
    const struct place *place = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open_id(tx, place->id, NULL, &mailbox);
    return rc ? rc : mailbox_delete(mailbox);
}

static int lose_tombstone(struct tx *tx, void *arg)
{
    struct place *place = arg;
    struct header header;
    int rc = header_get(tx_db(tx), place->id, &header);
    return rc ? rc : record_delete(tx_db(tx), header.number, 6);
}

/* Of a mailbox that counts more than there is nothing goes for ever, or pretends to. */
static void expiring_a_damaged_mailbox_comes_to_an_end(void **state)
{
    struct place *place = *state;
    uint64_t purged;
    assert_int_equal(store_commit(place->store, delete_inbox, place, NULL), ERR_OK);
    assert_int_equal(store_maintain(place->store, lose_record, place), ERR_OK);
    assert_int_equal(store_expire(place->store, place->id, 0, &purged), ERR_CORRUPT);
}

static void expiring_a_mailbox_without_its_tombstones_comes_to_an_end(void **state)
{
    struct place *place = *state;
    uint64_t purged;
    assert_int_equal(store_commit(place->store, delete_inbox, place, NULL), ERR_OK);
    assert_int_equal(store_maintain(place->store, lose_tombstone, place), ERR_OK);
    assert_int_equal(store_expire(place->store, place->id, 0, &purged), ERR_CORRUPT);
    checked(place, true);
    assert_int_equal(store_expire(place->store, place->id, 0, &purged), ERR_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_follows_from_the_rest_is_mended, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(a_lost_row_of_content_is_made_anew_from_the_bytes,
                                        open_place, close_place),
        cmocka_unit_test(what_cannot_be_mended_is_told_and_stays),
        cmocka_unit_test_setup_teardown(
            a_mailbox_whose_mail_is_damaged_is_marked_and_its_sums_are_kept, open_place,
            close_place),
        cmocka_unit_test_setup_teardown(
            unreadable_content_is_forgotten_only_where_another_node_may_have_it, open_place,
            close_place),
        cmocka_unit_test_setup_teardown(what_is_left_behind_goes_and_references_are_right_after,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(references_are_not_counted_while_a_record_is_damaged,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(a_turned_bit_never_makes_garbage_of_a_mailbox, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(rows_of_nobody_are_swept_where_every_mailbox_has_its_header,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(content_whose_row_is_damaged_is_not_said_to_be_gone,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(a_mailbox_that_damage_hides_is_not_said_to_be_unknown,
                                        open_place, close_place),
        cmocka_unit_test_setup_teardown(expiring_a_damaged_mailbox_comes_to_an_end, open_place,
                                        close_place),
        cmocka_unit_test_setup_teardown(expiring_a_mailbox_without_its_tombstones_comes_to_an_end,
                                        open_place, close_place),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
