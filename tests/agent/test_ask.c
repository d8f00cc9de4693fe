/* Answers of an end that lies: each question ends, soon, with nothing taken over. And of one that
 * does not: what is much is told in pages that fit. */
#include "agent/ask.h"

#include "agent/answer.h"
#include "agent/fork.h"
#include "base/err.h"
#include "mailbox/undo.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define QUESTIONS_MOST 10u
#define MESSAGES 200u
#define KEYWORDS 200u /* of each message, of 200 bytes */

/* Gives the same answer to everything. */
struct liar {
    struct buf answer;
    unsigned questions;
};

static int lie(void *context, struct bytes question, struct buf *answer)
{
    struct liar *liar = context;
    (void)question;
    if (++liar->questions > QUESTIONS_MOST)
        return ERR_PEER;
    buf_put(answer, liar->answer.data, liar->answer.size);
    return ERR_OK;
}

static struct liar begin_lie(void)
{
    struct liar liar = {0};
    buf_u8(&liar.answer, 1);
    return liar;
}

static struct asker asker_of(struct liar *liar)
{
    return (struct asker){.ask = lie, .context = liar};
}

static struct header some_header(void)
{
    struct header header = {.id = 7};
    struct owner owner;
    header.facts.state = MAILBOX_LIVE;
    header.facts.uidvalidity = 1;
    header.facts.uidnext = 5;
    header.facts.highestmodseq = header.lastmodseq = 9;
    assert_int_equal(owner_parse("owner", &owner), ERR_OK);
    assert_int_equal(name_parse("INBOX", 5, &owner, &header.facts.name), ERR_OK);
    return header;
}

static void put_state(struct buf *out, const struct header *header)
{
    buf_position(out, (struct position){.modseq = 9, .chain = 9});
    buf_varint(out, 1);
    buf_u64(out, 1);
    buf_u8(out, 1);
    ask_encode_header(header, out);
}

static int ask_for_header(const struct header *header)
{
    struct liar liar = begin_lie();
    const struct asker asker = asker_of(&liar);
    struct mailbox_state_now now;
    put_state(&liar.answer, header);
    buf_u8(&liar.answer, 0);
    int rc = ask_header(&asker, header->id, false, 0, &now);
    buf_free(&liar.answer);
    return rc;
}

static void modseqs_that_no_client_could_be_told_are_malformed(void **state)
{
    (void)state;
    struct header header = some_header();
    assert_int_equal(ask_for_header(&header), ERR_OK);
    header.facts.highestmodseq = UINT64_MAX;
    assert_int_equal(ask_for_header(&header), ERR_PROTOCOL);
    header = some_header();
    header.facts.deletedmodseq = UINT64_C(1) << 63;
    assert_int_equal(ask_for_header(&header), ERR_PROTOCOL);
    header = some_header();
    header.floor = UINT64_MAX;
    assert_int_equal(ask_for_header(&header), ERR_PROTOCOL);
    header = some_header();
    header.lastmodseq = UINT64_MAX - 1;
    assert_int_equal(ask_for_header(&header), ERR_PROTOCOL);
}

static int count_record(const struct record_line *line, void *arg)
{
    unsigned *count = arg;
    (void)line;
    (*count)++;
    return ERR_OK;
}

/* `next`: where the page says that the next one begins. */
static int ask_for_record(uint32_t uid, uint32_t next, unsigned *count)
{
    struct liar liar = begin_lie();
    const struct asker asker = asker_of(&liar);
    struct header header = some_header();
    struct record_line line = {.record = {.uid = uid, .modseq = 3, .append_modseq = 3}};
    const struct records_wanted wanted = {0};
    const struct uidset expunged = {0};
    put_state(&liar.answer, &header);
    buf_varint(&liar.answer, next);
    buf_varint(&liar.answer, uid ? 1 : 0);
    if (uid)
        ask_encode_record(&line, &liar.answer);
    uidset_encode(&expunged, &liar.answer);
    *count = 0;
    int rc = ask_records(&asker, header.id, &wanted, count_record, count, NULL, NULL);
    buf_free(&liar.answer);
    return rc;
}

static int ask_for_expunged(const struct uidset *expunged, bool cut, struct uidset *told)
{
    struct liar liar = begin_lie();
    const struct asker asker = asker_of(&liar);
    struct header header = some_header();
    const struct records_wanted wanted = {.since = 1, .base = 1, .expunged = told};
    unsigned count = 0;
    put_state(&liar.answer, &header);
    buf_varint(&liar.answer, 0);
    buf_varint(&liar.answer, 0);
    uidset_encode(expunged, &liar.answer);
    liar.answer.size -= cut;
    int rc = ask_records(&asker, header.id, &wanted, count_record, &count, NULL, NULL);
    buf_free(&liar.answer);
    return rc;
}

static void what_was_expunged_is_added(void **state)
{
    struct uidset expunged = {0};
    struct uidset told = {0};
    (void)state;
    assert_int_equal(uidset_add_range(&expunged, 3, UINT32_MAX - 1), ERR_OK);
    assert_int_equal(uidset_add(&told, 1), ERR_OK);
    assert_int_equal(ask_for_expunged(&expunged, true, &told), ERR_PROTOCOL);
    assert_int_equal(uidset_size(&told), 1);
    assert_int_equal(ask_for_expunged(&expunged, false, &told), ERR_OK);
    assert_int_equal(told.count, 2);
    uidset_free(&expunged);
    uidset_free(&told);
}

static void a_page_of_records_goes_on(void **state)
{
    unsigned count;
    (void)state;
    assert_int_equal(ask_for_record(4, 0, &count), ERR_OK);
    assert_int_equal(count, 1);
    assert_int_equal(ask_for_record(0, 1, &count), ERR_PROTOCOL);
    assert_int_equal(ask_for_record(4, 5, &count), ERR_PROTOCOL); /* and 4 again */
    assert_int_equal(count, 1);
}

/* UIDNEXT would come to 0 behind it. */
static void the_last_uid_is_never_given_out(void **state)
{
    unsigned count;
    (void)state;
    assert_int_equal(ask_for_record(UINT32_MAX, 0, &count), ERR_PROTOCOL);
    assert_int_equal(count, 0);
}

static void put_value(struct buf *out, const char *next)
{
    buf_u64(out, 9);
    buf_varint(out, 1);
    buf_u64(out, 1);
    buf_u64(out, 9);
    buf_varint(out, 1);
    buf_u8(out, 1); /* a meta value */
    buf_bytes(out, bytes_text(""));
    buf_bytes(out, bytes_text("/key"));
    buf_u8(out, VALUE_SET);
    buf_u64(out, 3);
    buf_u64(out, 3);
    buf_bytes(out, bytes_text("value"));
    buf_bytes(out, bytes_text(next));
}

static void a_page_of_values_goes_on(void **state)
{
    struct liar liar = begin_lie();
    const struct asker asker = asker_of(&liar);
    struct merge_other other = {0};
    (void)state;
    put_value(&liar.answer, "");
    assert_int_equal(ask_values(&asker, 7, 0, 0, &other, NULL), ERR_OK);
    assert_int_equal(other.meta_count, 1);
    merge_other_free(&other);
    liar.answer.size = 1;
    liar.questions = 0;
    put_value(&liar.answer, "mrow");
    assert_int_equal(ask_values(&asker, 7, 0, 0, &other, NULL), ERR_PROTOCOL);
    assert_int_equal(liar.questions, 2);
    merge_other_free(&other);
    buf_free(&liar.answer);
}

static int ignore_mailbox(const struct mailbox_line *line, void *arg)
{
    (void)line;
    (void)arg;
    return ERR_OK;
}

static void an_absurd_number_of_mailboxes_is_malformed(void **state)
{
    struct liar liar = begin_lie();
    const struct asker asker = asker_of(&liar);
    (void)state;
    buf_varint(&liar.answer, UINT64_MAX);
    assert_int_equal(ask_mailboxes(&asker, 0, ignore_mailbox, NULL), ERR_PROTOCOL);
    buf_free(&liar.answer);
}

/* An epoch that began, it says, where it began. */
static void a_branch_that_goes_in_circles_comes_to_an_end(void **state)
{
    struct epoch epochs[] = {{.id = {1, 5}, .first = 1},
                             {.id = {2, 9}, .parent = {1, 5}, .before = {10, 11}, .first = 11}};
    struct mark start = {.mailbox = 7, .modseq = 11, .epoch = {2, 9}, .taken = {.modseq = 5}};
    struct mark stop = {.mailbox = 7, .epoch = {2, 9}, .taken = {.modseq = 5}};
    struct branch mine = {.epoch = {1, 5}, .last = {10, 11}, .epochs = epochs, .epoch_count = 1};
    struct branch theirs = {.epoch = {2, 9},
                            .last = {12, 13},
                            .epochs = epochs,
                            .epoch_count = 2,
                            .marks = &start,
                            .mark_count = 1,
                            .stops = &stop,
                            .stop_count = 1};
    bool stranded = false;
    (void)state;
    assert_int_equal(fork_strands(&mine, &theirs, &stranded), ERR_OK);
    assert_true(stranded);
}

/* A repair was given up twice: a mailbox that waited all the time is as an epoch has it that the
 * journal has been taken back behind, and that began anew. */
static void of_a_mailbox_whose_past_was_taken_back_nothing_is_concluded(void **state)
{
    struct epoch epochs[] = {
        {.id = {1, 5}, .first = 1},
        {.id = {2, 9}, .parent = {1, 5}, .before = {10, 11}, .first = 11},
        {.id = {3, 5}, .parent = {1, 5}, .before = {10, 11}, .first = 21},
        {.id = {4, 9}, .parent = {3, 5}, .before = {30, 31}, .first = 31},
    };
    struct mark marks[] = {
        {.mailbox = 7, .modseq = 31, .epoch = {2, 9}, .taken = {.modseq = 20}},
        {.mailbox = MARK_EPOCH, .modseq = 25, .epoch = {2, 9}, .taken = {.modseq = 11}},
    };
    struct mark taken[] = {marks[1],
                           {.mailbox = 7, .modseq = 25, .epoch = {2, 9}, .taken = {20, 1}}};
    struct branch mine = {.epoch = {3, 5},
                          .last = {40, 41},
                          .epochs = epochs,
                          .epoch_count = 3,
                          .marks = taken,
                          .mark_count = 1};
    struct branch theirs = {.epoch = {4, 9},
                            .last = {32, 33},
                            .epochs = epochs,
                            .epoch_count = 4,
                            .marks = marks,
                            .mark_count = 2};
    struct fork fork = {
        .same_store = true, .common_known = true, .common = {30, 31}, .base_known = true};
    struct fork_bases bases;
    (void)state;
    assert_int_equal(fork_bases(&fork, &mine, &theirs, 8, &bases), ERR_OK);
    assert_true(bases.known);
    assert_int_equal(bases.master, 30);
    assert_int_equal(bases.since, 30);
    assert_int_equal(fork_bases(&fork, &mine, &theirs, 7, &bases), ERR_OK);
    assert_false(bases.known);
    mine.mark_count = 2;
    assert_int_equal(fork_bases(&fork, &mine, &theirs, 7, &bases), ERR_OK);
    assert_true(bases.known);
    assert_int_equal(bases.master, 25);
    assert_int_equal(bases.replica, 20);
}

/* Every question's answer fits a frame, whatever is asked for. */
static int ask_directly(void *context, struct bytes question, struct buf *out)
{
    int rc = answer(context, question, out);
    assert_true(out->size <= ANSWER_MAX);
    return rc;
}

static void flag_all(struct store *store)
{
    char keyword[201];
    char uids[16];
    struct buf list = {0};
    memset(keyword, 'k', sizeof keyword - 1);
    keyword[sizeof keyword - 1] = '\0';
    for (unsigned i = 0; i < KEYWORDS; i++) {
        keyword[0] = (char)('a' + i / 20);
        keyword[1] = (char)('a' + i % 20);
        if (i)
            buf_u8(&list, ',');
        buf_put(&list, keyword, sizeof keyword - 1);
    }
    buf_u8(&list, 0);
    snprintf(uids, sizeof uids, "1:%u", MESSAGES);
    assert_int_equal(post_flag(store, "INBOX", uids, (const char *)list.data), ERR_OK);
    buf_free(&list);
}

static int get_id(struct tx *tx, void *arg)
{
    struct name name;
    int rc = name_parse("INBOX", 5, &tx_node(tx)->owner, &name);
    return rc ? rc : header_id_of(tx_db(tx), &name, arg);
}

static void records_with_many_keywords_are_told_in_pages(void **state)
{
    char directory[PATH_MAX], path[PATH_MAX];
    struct store *store;
    uint64_t id;
    unsigned count = 0;
    (void)state;
    scratch_make(directory);
    scratch_path(path, directory, "store");
    assert_int_equal(store_init(path, ROLE_MASTER, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &store), ERR_OK);
    assert_int_equal(post_create(store, "INBOX"), ERR_OK);
    for (unsigned i = 0; i < MESSAGES; i++)
        assert_int_equal(post_append(store, "INBOX", i, 10), ERR_OK);
    flag_all(store);
    assert_int_equal(store_read(store, get_id, &id), ERR_OK);
    const struct asker asker = {.ask = ask_directly, .context = store};
    struct records_wanted wanted = {0};
    assert_int_equal(ask_records(&asker, id, &wanted, count_record, &count, NULL, NULL), ERR_OK);
    assert_int_equal(count, MESSAGES);
    count = 0;
    wanted.since = wanted.base = 1;
    assert_int_equal(ask_records(&asker, id, &wanted, count_record, &count, NULL, NULL), ERR_OK);
    assert_int_equal(count, MESSAGES);
    store_close(store);
    scratch_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(modseqs_that_no_client_could_be_told_are_malformed),
        cmocka_unit_test(a_page_of_records_goes_on),
        cmocka_unit_test(what_was_expunged_is_added),
        cmocka_unit_test(the_last_uid_is_never_given_out),
        cmocka_unit_test(a_page_of_values_goes_on),
        cmocka_unit_test(an_absurd_number_of_mailboxes_is_malformed),
        cmocka_unit_test(a_branch_that_goes_in_circles_comes_to_an_end),
        cmocka_unit_test(of_a_mailbox_whose_past_was_taken_back_nothing_is_concluded),
        cmocka_unit_test(records_with_many_keywords_are_told_in_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
