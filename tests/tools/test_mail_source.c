#include "tools/mail/source.h"

#include "base/err.h"
#include "base/times.h"
#include "tests/support/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FROM "From someone@example.org Thu Aug 22 12:36:23 2002\n"
#define FROM_TIME (INT64_C(1030019783) * TIMES_SECOND)

static char root[PATH_MAX];

static int make_root(void **state)
{
    (void)state;
    scratch_make(root);
    return 0;
}

static int remove_root(void **state)
{
    (void)state;
    scratch_remove(root);
    return 0;
}

static void put_bytes(const char *name, const void *data, size_t size)
{
    char path[PATH_MAX];
    scratch_path(path, root, name);
    FILE *out = fopen(path, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(data, 1, size, out), size);
    assert_int_equal(fclose(out), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static void make(const char *name)
{
    char path[PATH_MAX];
    scratch_path(path, root, name);
    assert_int_equal(mkdir(path, 0700), 0);
}

static void make_maildir(const char *name)
{
    static const char *const parts[] = {"cur", "new", "tmp"};
    char path[PATH_MAX];
    if (*name)
        make(name);
    for (size_t i = 0; i < 3; i++) {
        assert_true(snprintf(path, sizeof path, "%s/%s", name, parts[i]) < PATH_MAX);
        make(path);
    }
}

static struct mail_source *open_source(const char *name)
{
    char path[PATH_MAX];
    struct mail_source *source;
    scratch_path(path, root, name);
    assert_int_equal(mail_source_open(path, &source), ERR_OK);
    return source;
}

/* The current item's bytes in pieces of this size. */
static void expect_bytes(struct mail_source *source, const void *data, size_t size, size_t piece)
{
    uint8_t *got = malloc(size + piece);
    size_t all = 0;
    size_t part = 1;
    assert_non_null(got);
    while (part && all <= size) {
        assert_int_equal(mail_source_read(source, got + all, piece, &part), ERR_OK);
        all += part;
    }
    assert_int_equal(all, size);
    assert_memory_equal(got, data, size);
    free(got);
}

static struct mail_item expect(struct mail_source *source, const char *text)
{
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    expect_bytes(source, text, strlen(text), 7);
    return item;
}

static void expect_end(struct mail_source *source)
{
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_END);
    assert_int_equal(mail_source_next(source, &item), ERR_END);
    mail_source_close(source);
}

static void expect_flags(const struct mail_item *item, const char *flags)
{
    struct buf text = {0};
    flags_print(item->system, item->keywords, &text);
    assert_int_equal(text.size, strlen(flags));
    assert_memory_equal(text.data, flags, text.size);
    buf_free(&text);
}

static void an_mbox_is_cut_at_its_separators(void **state)
{
    (void)state;
    put("box", FROM "A: 1\n\none\n\n" FROM "A: 2\n\ntwo\n\n\n" FROM "\n" FROM "A: 4\n\nfour");
    struct mail_source *source = open_source("box");
    struct mail_item item = expect(source, "A: 1\n\none\n");
    assert_int_equal(item.index, 1);
    assert_int_equal(item.internal_date, FROM_TIME);
    assert_string_equal(item.folder, "");
    assert_int_equal(expect(source, "A: 2\n\ntwo\n\n").index, 2);
    assert_int_equal(expect(source, "").index, 3);
    assert_int_equal(expect(source, "A: 4\n\nfour").index, 4);
    expect_end(source);
}

static void what_only_looks_like_a_separator_is_text(void **state)
{
    (void)state;
    static const char text[] = "A: 1\n\nno empty line before\n" FROM
                               "\nFrom here on Thursday\n\nFrom me Thu Aug 22 2002 we met\n";
    char box[1024];
    snprintf(box, sizeof box, FROM "%s\n", text);
    put("box", box);
    struct mail_source *source = open_source("box");
    expect(source, text);
    expect_end(source);
}

static void line_ends_are_untouched(void **state)
{
    (void)state;
    put("box", "From a Thu Aug 22 12:36:23 2002\r\nA: 1\r\n\r\none\r\n\r\n"
               "From b Thu Aug 22 12:36:23 2002\r\nA: 2\r\n\r\ntwo\n\rthree\r\n\r\n");
    struct mail_source *source = open_source("box");
    expect(source, "A: 1\r\n\r\none\r\n");
    expect(source, "A: 2\r\n\r\ntwo\n\rthree\r\n");
    expect_end(source);
}

static void one_quote_is_taken_off(void **state)
{
    (void)state;
    put("box", FROM ">From a\n>>From b\n>From\n> From c\n>>x\n>\n >From d\n\n>From e\n>>>");
    struct mail_source *source = open_source("box");
    expect(source, "From a\n>From b\n>From\n> From c\n>>x\n>\n >From d\n\nFrom e\n>>>");
    expect_end(source);
}

static void a_single_message_keeps_its_quotes(void **state)
{
    (void)state;
    static const char text[] = "A: 1\n\n>From a\n\n" FROM "b\n\n";
    put("mail.eml", text);
    struct mail_source *source = open_source("mail.eml");
    assert_int_equal(expect(source, text).index, 0);
    expect_end(source);
}

static void long_lines_and_nul_bytes_come_whole(void **state)
{
    (void)state;
    const size_t size = 3000000;
    char *box = malloc(size + 200);
    assert_non_null(box);
    size_t head = (size_t)sprintf(box, "%sA: 1\n\n", FROM);
    memset(box + head, '>', size);
    memset(box + head + 1000000, 0, 1000000);
    box[head + 2500000] = '\n';
    /* Quotes longer than any buffer, with a word behind. */
    size_t end = head + size;
    end += (size_t)sprintf(box + end, "From x\n\n%sA: 2\n\n", FROM);
    put_bytes("box", box, end);

    struct mail_source *source = open_source("box");
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    size_t start = strlen(FROM);
    size_t quotes = head + 2500001;
    size_t message = head + size + strlen("From x\n") - start;
    memmove(box + quotes, box + quotes + 1, end - quotes - 1);
    expect_bytes(source, box + start, message - 1, 100000);
    expect(source, "A: 2\n");
    expect_end(source);
    free(box);
}

static void separators_are_found_wherever_a_buffer_ends(void **state)
{
    (void)state;
    const size_t around = 131072;
    char *box = malloc(around + 200);
    assert_non_null(box);
    for (size_t shift = 0; shift < 70; shift++) {
        size_t head = (size_t)sprintf(box, "%sA: 1\n\n", FROM);
        size_t body = around - shift - head;
        memset(box + head, 'x', body);
        size_t end = head + body;
        end += (size_t)sprintf(box + end, "\r\n\r\n%s>From y\n", FROM);
        put_bytes("box", box, end);
        struct mail_source *source = open_source("box");
        struct mail_item item;
        assert_int_equal(mail_source_next(source, &item), ERR_OK);
        expect_bytes(source, box + strlen(FROM), head + body + 2 - strlen(FROM), 50000);
        expect(source, "From y\n");
        expect_end(source);
    }
    free(box);
}

static void a_message_need_not_be_read(void **state)
{
    (void)state;
    struct mail_item item;
    put("box", FROM "A: 1\n\none\n\n" FROM "A: 2\n\n" FROM "A: 3\n");
    struct mail_source *source = open_source("box");
    for (uint64_t i = 1; i <= 3; i++) {
        assert_int_equal(mail_source_next(source, &item), ERR_OK);
        assert_int_equal(item.index, i);
    }
    expect_end(source);
}

static void status_headers_are_flags_and_stay(void **state)
{
    (void)state;
    static const char text[] = "Status: RO\nX-Status: AF\n\nStatus: D\n";
    put("box", FROM "Status: RO\nX-Status: AF\n\nStatus: D\n\n" FROM "X-status: T\n\n"
                    "x\n\n" FROM "Status: O\n");
    struct mail_source *source = open_source("box");
    struct mail_item item = expect(source, text);
    expect_flags(&item, "\\Answered,\\Flagged,\\Seen");
    item = expect(source, "X-status: T\n\nx\n");
    expect_flags(&item, "\\Draft");
    item = expect(source, "Status: O\n");
    expect_flags(&item, "-");
    expect_end(source);
}

static void the_date_is_of_the_topmost_received_header(void **state)
{
    (void)state;
    make("mails");
    put("mails/1", "Date: Mon, 1 Jan 2001 00:00:00 +0000\n"
                   "Received: from a (b; c)\n\tby d;\n Thu, 22 Aug 2002 14:36:23 +0200\n"
                   "Received: by e; Tue, 1 Jan 2002 00:00:00 +0000\n\n");
    put("mails/2", "X: 1\nReceived: no date\nDate: Thu, 22 Aug 2002 12:36:23 +0000\n\n");
    put("mails/3", "X: 1\n\nDate: Thu, 22 Aug 2002 12:36:23 +0000\n");
    char path[PATH_MAX];
    scratch_path(path, root, "mails/3");
    const struct timespec times[2] = {{.tv_sec = 77, .tv_nsec = 5000}, {77, 5000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    struct mail_source *source = open_source("mails");
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    assert_int_equal(item.internal_date, FROM_TIME);
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    assert_int_equal(item.internal_date, FROM_TIME);
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    assert_int_equal(item.internal_date, 77 * TIMES_SECOND + 5);
    expect_end(source);
}

static void a_folder_is_searched_in_order(void **state)
{
    (void)state;
    make("mails");
    make("mails/b");
    make("mails/.hidden");
    put("mails/c.eml", "c");
    put("mails/b/2", "b2");
    put("mails/b/1", FROM "b1\n\n" FROM "b1b\n");
    put("mails/a", FROM "a\n");
    put("mails/B", "B");
    put("mails/.x", "x");
    put("mails/.hidden/x", "x");
    put("mails/empty", "");
    char path[PATH_MAX];
    scratch_path(path, root, "mails/fifo");
    assert_int_equal(mkfifo(path, 0600), 0);
    scratch_path(path, root, "mails/b/circle");
    assert_int_equal(symlink("..", path), 0);
    struct mail_source *source = open_source("mails");
    expect(source, "B");
    expect(source, "a\n");
    assert_int_equal(expect(source, "b1\n").index, 1);
    expect(source, "b1b\n");
    assert_int_equal(expect(source, "b2").size_hint, 2);
    expect(source, "c");
    expect_end(source);
}

static void what_is_no_file_in_a_maildir_does_not_keep_it_waiting(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct mail_item item;
    make("box");
    make("box/cur");
    make("box/new");
    make("box/tmp");
    put("box/cur/1:2,S", "one");
    put("box/cur/4:2,S", "four");
    scratch_path(path, root, "box/cur/2:2,S");
    assert_int_equal(mkfifo(path, 0600), 0);
    scratch_path(path, root, "box/cur/3:2,S");
    assert_int_equal(symlink("/dev/zero", path), 0);
    struct mail_source *source = open_source("box");
    expect(source, "one");
    assert_int_equal(mail_source_next(source, &item), ERR_INVALID);
    assert_non_null(strstr(err_message(), "cur/2:2,S: not a file"));
    assert_int_equal(mail_source_next(source, &item), ERR_INVALID);
    expect(source, "four");
    expect_end(source);
}

static void a_file_that_cannot_be_read_does_not_stop_the_others(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct mail_item item;
    make("mails");
    put("mails/1", "one");
    put("mails/3", "three");
    scratch_path(path, root, "mails/2");
    assert_int_equal(symlink("nowhere", path), 0);
    struct mail_source *source = open_source("mails");
    expect(source, "one");
    assert_int_equal(mail_source_next(source, &item), ERR_NOTFOUND);
    assert_non_null(strstr(err_message(), "mails/2"));
    expect(source, "three");
    expect_end(source);
}

static void a_path_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    char path[PATH_MAX];
    struct mail_source *source;
    scratch_path(path, root, "nowhere");
    assert_int_equal(mail_source_open(path, &source), ERR_NOTFOUND);
    assert_null(source);
}

static void a_maildir_names_flags_and_keywords(void **state)
{
    (void)state;
    make_maildir("md");
    put("md/dovecot-keywords", "0 work\n1 $Junk\n2 not valid\n3 later\n26 beyond\n");
    put("md/cur/1.a.h:2,FRSTD", "one");
    put("md/cur/2.a.h:2,Pabcdz", FROM ">From is no quote here\n");
    put("md/cur/3.a.h", "");
    put("md/new/4.a.h:2,FS", "four");
    put("md/cur/.hidden", "x");
    put("md/tmp/5.a.h", "x");
    struct mail_source *source = open_source("md");
    struct mail_item item = expect(source, "one");
    expect_flags(&item, "\\Answered,\\Deleted,\\Draft,\\Flagged,\\Seen");
    item = expect(source, FROM ">From is no quote here\n");
    expect_flags(&item, "$Forwarded,$Junk,later,work");
    item = expect(source, "");
    expect_flags(&item, "-");
    item = expect(source, "four");
    expect_flags(&item, "\\Flagged");
    expect_end(source);
}

static void a_maildirs_date_is_the_files(void **state)
{
    (void)state;
    make_maildir("md");
    put("md/cur/1", "Date: Thu, 22 Aug 2002 12:36:23 +0000\n\n");
    char path[PATH_MAX];
    scratch_path(path, root, "md/cur/1");
    const struct timespec times[2] = {{.tv_sec = -2, .tv_nsec = 5000}, {-2, 5000}};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    struct mail_source *source = open_source("md");
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_OK);
    assert_int_equal(item.internal_date, -2 * TIMES_SECOND + 5);
    expect_end(source);
}

static void expect_uid(struct mail_source *source, const char *text, uint32_t uid)
{
    struct mail_item item = expect(source, text);
    assert_int_equal(item.uid, uid);
    assert_int_equal(item.uidvalidity, 1234567890);
    assert_int_equal(item.uidnext, 50);
}

static void fill_with_uids(const char *uidlist)
{
    make_maildir("md");
    put("md/cur/a:2,S", "a");
    put("md/cur/b:2,", "b");
    put("md/new/c", "c");
    put("md/new/d", "d");
    put("md/dovecot-uidlist", uidlist);
}

static void a_uidlist_of_version_3_gives_uids_and_their_order(void **state)
{
    (void)state;
    fill_with_uids("3 V1234567890 N50 Gabc\n3 :c\n7 W10 S9 :b:2,S\n20 :gone\n40 :a\n30 :d\n");
    struct mail_source *source = open_source("md");
    expect_uid(source, "c", 3);
    expect_uid(source, "b", 7);
    expect_uid(source, "a", 40);
    expect_uid(source, "d", 0); /* UIDs ascend: this line is damage */
    expect_end(source);
}

static void a_uidlist_of_version_1_gives_uids_and_their_order(void **state)
{
    (void)state;
    fill_with_uids("1 1234567890 50\n3 c\n7 b:2,S\n40 a\n");
    struct mail_source *source = open_source("md");
    expect_uid(source, "c", 3);
    expect_uid(source, "b", 7);
    expect_uid(source, "a", 40);
    expect_uid(source, "d", 0);
    expect_end(source);
}

static void subfolders_of_a_maildir_are_named_by_their_levels(void **state)
{
    (void)state;
    make_maildir("md");
    make_maildir("md/.A");
    make_maildir("md/.A.B");
    make("md/.nothing");
    put("md/cur/1", "top");
    put("md/.A/cur/1", "a");
    put("md/.A/dovecot-uidlist", "3 V9 N2\n1 :1\n");
    put("md/.A.B/new/1", "b");
    struct mail_source *source = open_source("md");
    struct mail_item item = expect(source, "top");
    assert_string_equal(item.folder, "");
    assert_int_equal(item.uidvalidity, 0);
    item = expect(source, "a");
    assert_string_equal(item.folder, "A");
    assert_int_equal(item.uidvalidity, 9);
    assert_int_equal(item.uid, 1);
    item = expect(source, "b");
    assert_string_equal(item.folder, "A/B");
    assert_int_equal(item.uid, 0);
    expect_end(source);
}

/* The folder that a Maildir++ subfolder of this name becomes. */
static void expect_folder(const char *subfolder, const char *folder)
{
    char path[PATH_MAX];
    make_maildir("md");
    snprintf(path, sizeof path, "md/%s", subfolder);
    make_maildir(path);
    snprintf(path, sizeof path, "md/%s/cur/1", subfolder);
    put(path, "x");
    struct mail_source *source = open_source("md");
    assert_string_equal(expect(source, "x").folder, folder);
    expect_end(source);
    scratch_path(path, root, "md");
    scratch_remove(path);
}

static void folder_names_are_modified_utf7(void **state)
{
    (void)state;
    expect_folder(".Entw&APw-rfe.2026", "Entw\xc3\xbcrfe/2026");
    expect_folder(".a&-b", "a&b");
    expect_folder(".&-&-", "&&");
    expect_folder(".~peter.mail.&U,BTFw-.&ZeVnLIqe-",
                  "~peter/mail/\xe5\x8f\xb0\xe5\x8c\x97/\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e");
    expect_folder(".&2D3eAA-", "\xf0\x9f\x98\x80");
    expect_folder(".&AOQ-x&AOQ-", "\xc3\xa4x\xc3\xa4");
    expect_folder(".2.&AC4-.v1&AC4-0", "2/./v1.0"); /* Courier's: a '.' that separates nothing */
}

static void a_folder_name_that_is_no_modified_utf7_stays(void **state)
{
    (void)state;
    static const char *const names[] = {
        ".R&D",           /* no end */
        ".&",             /* likewise */
        ".&APw",          /* likewise */
        ".&A-",           /* bits are missing */
        ".&APx-",         /* bits are left over */
        ".&APwA-",        /* a digit is left over */
        ".&AP!w-",        /* no digit */
        ".&AEE-",         /* 'A' stands for itself */
        ".&AOQ-&AOQ-",    /* one run would do */
        ".&2D0-",         /* half a pair */
        ".&3gA-",         /* the other half */
        ".&2D0AQQ-",      /* half a pair and a letter */
        ".&AC8-",         /* would be a '/' */
        ".&AAA-",         /* would be a NUL */
        ".&AAo-",         /* would be a line's end */
        ".&AIU-",         /* likewise */
        ".b\303\274cher", /* UTF-8 already, as some have it */
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        expect_folder(names[i], names[i] + 1);
}

static void a_maildir_in_a_folder_is_one(void **state)
{
    (void)state;
    make("mails");
    make_maildir("mails/x.&APw-");
    make_maildir("mails/x.&APw-/.A");
    put("mails/x.&APw-/dovecot-uidlist", "3 V9 N2\n1 :1\n");
    put("mails/x.&APw-/cur/1:2,S", "one");
    put("mails/x.&APw-/.A/cur/1", "a");
    struct mail_source *source = open_source("mails");
    struct mail_item item = expect(source, "one");
    assert_string_equal(item.folder, "x.\xc3\xbc");
    expect_flags(&item, "\\Seen");
    item = expect(source, "a");
    assert_string_equal(item.folder, "x.\xc3\xbc/A");
    expect_end(source);
}

static void a_file_renamed_since_it_was_listed_is_found(void **state)
{
    (void)state;
    char from[PATH_MAX];
    char to[PATH_MAX];
    struct mail_item item;
    make_maildir("md");
    put("md/new/1.a", "one");
    put("md/cur/2.a:2,", "two");
    put("md/cur/3.a:2,", "three");
    struct mail_source *source = open_source("md");
    scratch_path(from, root, "md/new/1.a");
    scratch_path(to, root, "md/cur/1.a:2,S");
    assert_int_equal(rename(from, to), 0);
    scratch_path(from, root, "md/cur/2.a:2,");
    assert_int_equal(unlink(from), 0);
    scratch_path(from, root, "md/cur/3.a:2,");
    scratch_path(to, root, "md/cur/3.a:2,F");
    assert_int_equal(rename(from, to), 0);
    item = expect(source, "one");
    expect_flags(&item, "\\Seen");
    assert_int_equal(mail_source_next(source, &item), ERR_NOTFOUND);
    item = expect(source, "three");
    expect_flags(&item, "\\Flagged");
    expect_end(source);
}

static void a_message_listed_twice_comes_once(void **state)
{
    (void)state;
    make_maildir("md");
    put("md/new/1.a", "one");
    put("md/cur/1.a:2,S", "one");
    put("md/cur/1.a.b:2,", "other");
    struct mail_source *source = open_source("md");
    expect(source, "one");
    expect(source, "other");
    expect_end(source);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_root, remove_root)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_mbox_is_cut_at_its_separators),
        TEST(what_only_looks_like_a_separator_is_text),
        TEST(line_ends_are_untouched),
        TEST(one_quote_is_taken_off),
        TEST(a_single_message_keeps_its_quotes),
        TEST(long_lines_and_nul_bytes_come_whole),
        TEST(separators_are_found_wherever_a_buffer_ends),
        TEST(a_message_need_not_be_read),
        TEST(status_headers_are_flags_and_stay),
        TEST(the_date_is_of_the_topmost_received_header),
        TEST(a_folder_is_searched_in_order),
        TEST(what_is_no_file_in_a_maildir_does_not_keep_it_waiting),
        TEST(a_file_that_cannot_be_read_does_not_stop_the_others),
        TEST(a_path_that_is_not_there_is_an_error),
        TEST(a_maildir_names_flags_and_keywords),
        TEST(a_maildirs_date_is_the_files),
        TEST(a_uidlist_of_version_3_gives_uids_and_their_order),
        TEST(a_uidlist_of_version_1_gives_uids_and_their_order),
        TEST(subfolders_of_a_maildir_are_named_by_their_levels),
        TEST(folder_names_are_modified_utf7),
        TEST(a_folder_name_that_is_no_modified_utf7_stays),
        TEST(a_maildir_in_a_folder_is_one),
        TEST(a_file_renamed_since_it_was_listed_is_found),
        TEST(a_message_listed_twice_comes_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
