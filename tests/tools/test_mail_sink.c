#include "tools/mail/sink.h"

#include "base/err.h"
#include "base/times.h"
#include "tests/support/scratch.h"

#include <dirent.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* 2002-08-22T12:36:23.000042Z */
#define THAT_DAY (INT64_C(1030019783) * TIMES_SECOND + 42)

static struct dice dice;
static char directory[PATH_MAX];
static char target[PATH_MAX];

static const struct mail_sink_options maildir = {.format = MAIL_MAILDIR};
static const struct mail_sink_options mbox = {.format = MAIL_MBOX};

static int make_directory(void **state)
{
    (void)state;
    scratch_make(directory);
    scratch_path(target, directory, "target");
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    scratch_remove(directory);
    return 0;
}

static struct mail_sink *open_sink(const struct mail_sink_options *options)
{
    struct mail_sink *sink;
    assert_int_equal(mail_sink_open(target, options, &sink), ERR_OK);
    return sink;
}

static void finish(struct mail_sink *sink)
{
    assert_int_equal(mail_sink_finish(sink), ERR_OK);
    mail_sink_close(sink);
}

/* In pieces of random size, up to `most`. */
static void put(struct mail_sink *sink, const struct mail_item *item, struct bytes message,
                uint32_t most)
{
    assert_int_equal(mail_sink_begin(sink, item), ERR_OK);
    for (size_t at = 0; at < message.size;) {
        size_t size = 1 + dice_below(&dice, most);
        if (size > message.size - at)
            size = message.size - at;
        assert_int_equal(mail_sink_write(sink, message.data + at, size), ERR_OK);
        at += size;
    }
    assert_int_equal(mail_sink_end(sink), ERR_OK);
}

static void put_text(struct mail_sink *sink, const char *text)
{
    static const struct mail_item item = {.internal_date = THAT_DAY};
    put(sink, &item, bytes_text(text), 100);
}

static void read_all(struct mail_source *source, struct buf *out)
{
    uint8_t piece[4096];
    size_t got = 1;
    buf_reset(out);
    while (got) {
        assert_int_equal(mail_source_read(source, piece, sizeof piece, &got), ERR_OK);
        buf_put(out, piece, got);
    }
}

static struct mail_source *open_source(void)
{
    struct mail_source *source;
    assert_int_equal(mail_source_open(target, &source), ERR_OK);
    return source;
}

static void expect(struct mail_source *source, struct mail_item *item, struct bytes message)
{
    struct buf got = {0};
    assert_int_equal(mail_source_next(source, item), ERR_OK);
    read_all(source, &got);
    assert_int_equal(got.size, message.size);
    if (message.size)
        assert_memory_equal(got.data, message.data, message.size);
    buf_free(&got);
}

static void expect_end(struct mail_source *source)
{
    struct mail_item item;
    assert_int_equal(mail_source_next(source, &item), ERR_END);
    mail_source_close(source);
}

static void expect_text(struct mail_source *source, const char *text)
{
    struct mail_item item;
    expect(source, &item, bytes_text(text));
}

static void read_file(const char *path, struct buf *out)
{
    uint8_t piece[4096];
    size_t got;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    buf_reset(out);
    while ((got = fread(piece, 1, sizeof piece, file)) > 0)
        buf_put(out, piece, got);
    assert_int_equal(ferror(file), 0);
    fclose(file);
}

static void expect_file(const char *name, const char *text)
{
    char path[PATH_MAX];
    struct buf got = {0};
    scratch_path(path, target, name);
    read_file(name[0] ? path : target, &got);
    buf_u8(&got, 0);
    assert_string_equal((const char *)got.data, text);
    buf_free(&got);
}

static int not_dots(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* The names in a part of the Maildir, in order, each with a newline. */
static void list_part(const char *part, struct buf *out)
{
    char path[PATH_MAX];
    struct dirent **names;
    scratch_path(path, target, part);
    int count = scandir(path, &names, not_dots, alphasort);
    assert_true(count >= 0);
    buf_reset(out);
    for (int i = 0; i < count; i++) {
        buf_put(out, names[i]->d_name, strlen(names[i]->d_name));
        buf_put(out, "\n", 1);
        free(names[i]);
    }
    free(names);
}

static size_t count_part(const char *part)
{
    struct buf names = {0};
    size_t count = 0;
    list_part(part, &names);
    for (size_t i = 0; i < names.size; i++)
        count += names.data[i] == '\n';
    buf_free(&names);
    return count;
}

/* Messages that are hard on one format or the other; all but the last ones end in a newline. */
static const struct {
    const char *data;
    size_t size;
} odd[] = {
#define ODD(text)                                                                                  \
    {                                                                                              \
        text, sizeof(text) - 1                                                                     \
    }
    ODD(""),
    ODD("\n"),
    ODD("\r\n"),
    ODD("\n\n\n"),
    ODD("\r\n\r\n"),
    ODD("Subject: a\n\nb\n"),
    ODD("Subject: a\r\n\r\nb\r\n"),
    ODD("Subject: a\n\nb\n\n"),
    ODD("From a@b Thu Aug 22 12:36:23 2002\n"),
    ODD("From a@b Thu Aug 22 12:36:23 2002\n\nFrom a@b Thu Aug 22 12:36:23 2002\n"),
    ODD("\nFrom a@b Thu Aug 22 12:36:23 2002\r\n"),
    ODD(">From \n>>From x\n>>>From y\n"),
    ODD(">>\n>\n>F\n>Fr\n>Fro\n>From\n>From:\nF\nFr\nFro\nFrom\nFrom\t\n"),
    ODD("a\rFrom b\n\r\nFrom c\n\r\r\n"),
    ODD("nul \0 byte\n\0\n"),
    ODD("\xff\xfe\x80 \xc3\xa9\n"),
    ODD("a"),
    ODD("Subject: a\n\nFrom"),
    ODD("Subject: a\n\nFrom "),
    ODD("Subject: a\n\n>"),
    ODD("Subject: a\n\r"),
#undef ODD
};

static void a_maildir_gives_back_every_byte(void **state)
{
    (void)state;
    const struct mail_item item = {.internal_date = THAT_DAY};
    struct mail_item got;
    struct mail_sink *sink = open_sink(&maildir);
    for (size_t i = 0; i < COUNT(odd); i++)
        put(sink, &item, bytes_of(odd[i].data, odd[i].size), 20);
    finish(sink);
    struct mail_source *source = open_source();
    for (size_t i = 0; i < COUNT(odd); i++)
        expect(source, &got, bytes_of(odd[i].data, odd[i].size));
    expect_end(source);
}

static void an_mbox_gives_back_every_byte_but_ends_the_last_line(void **state)
{
    (void)state;
    const struct mail_item item = {.internal_date = THAT_DAY};
    struct mail_item got;
    struct buf ended = {0};
    struct mail_sink *sink = open_sink(&mbox);
    for (size_t i = 0; i < COUNT(odd); i++)
        put(sink, &item, bytes_of(odd[i].data, odd[i].size), 20);
    finish(sink);
    struct mail_source *source = open_source();
    for (size_t i = 0; i < COUNT(odd); i++) {
        buf_reset(&ended);
        buf_put(&ended, odd[i].data, odd[i].size);
        if (odd[i].size && odd[i].data[odd[i].size - 1] != '\n')
            buf_u8(&ended, '\n');
        expect(source, &got, buf_view(&ended));
        assert_int_equal(got.index, i + 1);
        assert_int_equal(got.internal_date, THAT_DAY - 42);
    }
    expect_end(source);
    buf_free(&ended);
}

/* Lines made of what separators and quotes are made of. */
static void random_message(struct buf *out)
{
    static const char *const parts[] = {
        ">", ">>", "F", "From", "From ", " ", "\r", "x", "a@b", "Thu Aug 22 12:36:23 2002", "\n"};
    buf_reset(out);
    for (uint32_t left = dice_below(&dice, 30); left; left--) {
        const char *part = parts[dice_below(&dice, COUNT(parts))];
        if (dice_below(&dice, 3) == 0)
            part = "\n";
        buf_put(out, part, strlen(part));
    }
    if (out->size && out->data[out->size - 1] != '\n')
        buf_u8(out, '\n');
}

static void random_quotes_survive_an_mbox(void **state)
{
    (void)state;
    enum { MESSAGES = 3000 };
    struct buf *messages = calloc(MESSAGES, sizeof *messages);
    const struct mail_item item = {.internal_date = THAT_DAY};
    struct mail_item got;
    assert_non_null(messages);
    struct mail_sink *sink = open_sink(&mbox);
    for (size_t i = 0; i < MESSAGES; i++) {
        random_message(&messages[i]);
        put(sink, &item, buf_view(&messages[i]), 8);
    }
    finish(sink);
    struct mail_source *source = open_source();
    for (size_t i = 0; i < MESSAGES; i++) {
        expect(source, &got, buf_view(&messages[i]));
        buf_free(&messages[i]);
    }
    expect_end(source);
    free(messages);
}

static void messages_larger_than_any_buffer_are_whole(void **state)
{
    (void)state;
    const struct mail_item item = {.internal_date = THAT_DAY};
    struct mail_item got;
    struct buf line = {0};
    uint8_t *room = buf_reserve(&line, 3u << 20);
    assert_non_null(room);
    for (size_t i = 0; i + 1 < line.size; i++)
        room[i] = (uint8_t)('a' + i % 23);
    room[line.size - 1] = '\n';
    struct mail_sink *sink = open_sink(&mbox);
    put(sink, &item, buf_view(&line), 200000);
    memset(room, '>', line.size - 6);
    memcpy(room + line.size - 6, "From \n", 6);
    put(sink, &item, buf_view(&line), 200000);
    finish(sink);
    struct mail_source *source = open_source();
    for (size_t i = 0; i + 1 < line.size; i++)
        room[i] = (uint8_t)('a' + i % 23);
    expect(source, &got, buf_view(&line));
    memset(room, '>', line.size - 6);
    memcpy(room + line.size - 6, "From \n", 6);
    expect(source, &got, buf_view(&line));
    expect_end(source);
    buf_free(&line);
}

static void an_mbox_is_written_as_others_write_it(void **state)
{
    (void)state;
    struct mail_sink *sink = open_sink(&mbox);
    const struct mail_item item = {.internal_date = -1};
    put_text(sink, "Subject: a\n\nFrom here\n>From there");
    put(sink, &item, bytes_text(""), 1);
    finish(sink);
    expect_file("", "From MAILER-DAEMON Thu Aug 22 12:36:23 2002\nSubject: a\n\n>From here\n"
                    ">>From there\n\nFrom MAILER-DAEMON Wed Dec 31 23:59:59 1969\n\n");
}

static void a_day_of_one_digit_is_padded(void **state)
{
    (void)state;
    struct mail_sink *sink = open_sink(&mbox);
    const struct mail_item item = {.internal_date = INT64_C(951782400) * TIMES_SECOND};
    const struct mail_item next = {.internal_date = INT64_C(951955200) * TIMES_SECOND};
    put(sink, &item, bytes_text(""), 1);
    put(sink, &next, bytes_text(""), 1);
    finish(sink);
    expect_file("", "From MAILER-DAEMON Tue Feb 29 00:00:00 2000\n\n"
                    "From MAILER-DAEMON Thu Mar  2 00:00:00 2000\n\n");
}

static void what_exists_is_left_alone(void **state)
{
    (void)state;
    struct mail_sink *sink;
    FILE *file = fopen(target, "w");
    assert_non_null(file);
    fputs("mine", file);
    fclose(file);
    assert_int_equal(mail_sink_open(target, &mbox, &sink), ERR_EXISTS);
    assert_null(sink);
    assert_int_equal(mail_sink_open(target, &maildir, &sink), ERR_EXISTS);
    expect_file("", "mine");
    assert_int_equal(unlink(target), 0);

    finish(open_sink(&maildir));
    assert_int_equal(mail_sink_open(target, &maildir, &sink), ERR_EXISTS);
    assert_int_equal(mail_sink_open(target, &mbox, &sink), ERR_EXISTS);
}

static void an_empty_directory_becomes_a_maildir(void **state)
{
    (void)state;
    assert_int_equal(mkdir(target, 0700), 0);
    struct mail_sink *sink = open_sink(&maildir);
    put_text(sink, "a");
    finish(sink);
    struct mail_source *source = open_source();
    expect_text(source, "a");
    expect_end(source);
}

static void a_place_that_is_not_there_is_an_error(void **state)
{
    (void)state;
    struct mail_sink *sink;
    scratch_path(target, directory, "no/target");
    assert_int_equal(mail_sink_open(target, &maildir, &sink), ERR_NOTFOUND);
    assert_int_equal(mail_sink_open(target, &mbox, &sink), ERR_NOTFOUND);
}

static void flags_keywords_and_times_are_kept_by_a_maildir(void **state)
{
    (void)state;
    static const struct {
        const char *flags;
        int64_t date;
    } kept[] = {
        {"", THAT_DAY},
        {"\\Seen", 0},
        {"\\Answered,\\Flagged,\\Deleted,\\Draft,\\Seen", -1},
        {"$Forwarded,work", INT64_C(1) * TIMES_SECOND},
        {"home,work,\\Seen", INT64_C(-86400) * TIMES_SECOND - 1},
    };
    struct flags flags[COUNT(kept)] = {{0}};
    struct mail_item item;
    struct mail_sink *sink = open_sink(&maildir);
    for (size_t i = 0; i < COUNT(kept); i++) {
        assert_int_equal(flags_add_list(&flags[i], kept[i].flags), ERR_OK);
        item = (struct mail_item){.system = flags[i].system,
                                  .keywords = buf_view(&flags[i].keywords),
                                  .internal_date = kept[i].date};
        put(sink, &item, bytes_text("a"), 1);
    }
    finish(sink);
    struct mail_source *source = open_source();
    for (size_t i = 0; i < COUNT(kept); i++) {
        expect(source, &item, bytes_text("a"));
        assert_int_equal(item.system, flags[i].system);
        assert_true(bytes_equal(item.keywords, buf_view(&flags[i].keywords)));
        assert_int_equal(item.internal_date, kept[i].date);
        flags_free(&flags[i]);
    }
    expect_end(source);
    expect_file("dovecot-keywords", "0 work\n1 home\n");
}

static void keywords_beyond_the_letters_are_counted(void **state)
{
    (void)state;
    struct flags flags = {0};
    struct mail_sink *sink = open_sink(&maildir);
    for (int i = 0; i < 30; i++) {
        char name[8];
        snprintf(name, sizeof name, "key%02d", i);
        assert_int_equal(flags_add(&flags, name, strlen(name)), ERR_OK);
    }
    struct mail_item item = {.keywords = buf_view(&flags.keywords), .internal_date = THAT_DAY};
    put(sink, &item, bytes_text("a"), 1);
    assert_int_equal(mail_sink_keywords_lost(sink), 4);
    flags_free(&flags);

    /* A name is the same in any case. */
    assert_int_equal(flags_add_list(&flags, "KEY25,key26,$FORWARDED"), ERR_OK);
    item.keywords = buf_view(&flags.keywords);
    put(sink, &item, bytes_text("b"), 1);
    assert_int_equal(mail_sink_keywords_lost(sink), 5);
    finish(sink);
    flags_free(&flags);

    struct mail_source *source = open_source();
    expect_text(source, "a");
    assert_int_equal(flags_add_list(&flags, "$Forwarded,key25"), ERR_OK);
    expect(source, &item, bytes_text("b"));
    assert_true(bytes_equal(item.keywords, buf_view(&flags.keywords)));
    flags_free(&flags);
    expect_end(source);
}

static void uids_are_kept_by_a_maildir(void **state)
{
    (void)state;
    struct mail_sink_options options = {
        .format = MAIL_MAILDIR, .uidvalidity = 4000000000u, .uidnext = 9};
    struct mail_item item = {.internal_date = THAT_DAY, .uid = 3};
    struct mail_sink *sink = open_sink(&options);
    put(sink, &item, bytes_text("three"), 9);
    item.uid = 7;
    put(sink, &item, bytes_text("seven"), 9);
    finish(sink);
    struct mail_source *source = open_source();
    expect(source, &item, bytes_text("three"));
    assert_int_equal(item.uid, 3);
    assert_int_equal(item.uidvalidity, 4000000000u);
    assert_int_equal(item.uidnext, 9);
    expect(source, &item, bytes_text("seven"));
    assert_int_equal(item.uid, 7);
    expect_end(source);
}

static void uidnext_is_above_every_uid(void **state)
{
    (void)state;
    struct mail_sink_options options = {.format = MAIL_MAILDIR, .uidvalidity = 5, .named_at = 1};
    const struct mail_item item = {.internal_date = THAT_DAY, .uid = 12};
    struct mail_sink *sink = open_sink(&options);
    put(sink, &item, bytes_text(""), 1);
    finish(sink);
    expect_file("dovecot-uidlist", "3 V5 N13\n12 :0.M000001P0Q0000000001.shiplog\n");
}

static void without_a_uidvalidity_there_is_no_uidlist(void **state)
{
    (void)state;
    char path[PATH_MAX];
    const struct mail_item item = {.internal_date = THAT_DAY, .uid = 12};
    struct mail_sink *sink = open_sink(&maildir);
    put(sink, &item, bytes_text(""), 1);
    finish(sink);
    scratch_path(path, target, "dovecot-uidlist");
    assert_int_not_equal(access(path, F_OK), 0);
    scratch_path(path, target, "dovecot-keywords");
    assert_int_not_equal(access(path, F_OK), 0);
}

static void names_sort_in_the_order_of_writing(void **state)
{
    (void)state;
    struct mail_sink *sink = open_sink(&maildir);
    char text[16];
    for (int i = 0; i < 120; i++) {
        /* Neither the date nor the flags disturb the order. */
        const struct mail_item item = {.system = i % 2 ? FLAG_SEEN : 0,
                                       .internal_date = THAT_DAY - i * TIMES_SECOND};
        snprintf(text, sizeof text, "%d", i);
        put(sink, &item, bytes_text(text), 16);
    }
    finish(sink);
    struct mail_source *source = open_source();
    for (int i = 0; i < 120; i++) {
        snprintf(text, sizeof text, "%d", i);
        expect_text(source, text);
    }
    expect_end(source);
}

static void names_given_a_time_are_always_the_same(void **state)
{
    (void)state;
    const struct mail_sink_options options = {.format = MAIL_MAILDIR, .named_at = THAT_DAY};
    const struct mail_item item = {.system = FLAG_SEEN | FLAG_ANSWERED, .internal_date = THAT_DAY};
    struct buf names = {0};
    struct mail_sink *sink = open_sink(&options);
    put(sink, &item, bytes_text("a"), 1);
    finish(sink);
    list_part("cur", &names);
    buf_u8(&names, 0);
    assert_string_equal((const char *)names.data, "1030019783.M000042P0Q0000000001.shiplog:2,RS\n");
    buf_free(&names);
}

static void begin_and_leave(struct mail_sink *sink, const char *text)
{
    static const struct mail_item item = {.internal_date = THAT_DAY};
    assert_int_equal(mail_sink_begin(sink, &item), ERR_OK);
    assert_int_equal(mail_sink_write(sink, text, strlen(text)), ERR_OK);
}

static void a_cancelled_message_leaves_nothing_in_a_maildir(void **state)
{
    (void)state;
    struct mail_sink *sink = open_sink(&maildir);
    put_text(sink, "a");
    begin_and_leave(sink, "b");
    assert_int_equal(count_part("tmp"), 1);
    assert_int_equal(count_part("cur"), 1);
    assert_int_equal(mail_sink_cancel(sink), ERR_OK);
    put_text(sink, "c");
    begin_and_leave(sink, "d");
    mail_sink_close(sink);
    assert_int_equal(count_part("tmp"), 0);
    struct mail_source *source = open_source();
    expect_text(source, "a");
    expect_text(source, "c");
    expect_end(source);
}

static void a_cancelled_message_leaves_nothing_in_an_mbox(void **state)
{
    (void)state;
    char piece[70000]; /* more than waits in memory */
    struct mail_sink *sink = open_sink(&mbox);
    memset(piece, 'x', sizeof piece);
    piece[sizeof piece - 1] = '\0';
    begin_and_leave(sink, "From");
    assert_int_equal(mail_sink_cancel(sink), ERR_OK);
    put_text(sink, "a\n");
    begin_and_leave(sink, "b");
    assert_int_equal(mail_sink_cancel(sink), ERR_OK);
    put_text(sink, "c\n");
    begin_and_leave(sink, piece);
    assert_int_equal(mail_sink_cancel(sink), ERR_OK);
    put_text(sink, "d\n");
    begin_and_leave(sink, "e");
    mail_sink_close(sink);
    struct mail_source *source = open_source();
    expect_text(source, "a\n");
    expect_text(source, "c\n");
    expect_text(source, "d\n");
    expect_end(source);
}

static void limit_file_size(rlim_t size)
{
    struct rlimit limit;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = size;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Writes one that does not fit, and says so with an error from write() or end(). */
static void fail_to_put(struct mail_sink *sink, struct bytes message)
{
    static const struct mail_item item = {.internal_date = THAT_DAY};
    assert_int_equal(mail_sink_begin(sink, &item), ERR_OK);
    int rc = mail_sink_write(sink, message.data, message.size);
    if (rc == ERR_OK)
        rc = mail_sink_end(sink);
    assert_int_equal(rc, ERR_IO);
    assert_non_null(strstr(err_message(), target));
    assert_int_equal(mail_sink_cancel(sink), ERR_OK);
}

static void without_room_the_messages_before_stay(const struct mail_sink_options *options)
{
    enum { SIZE = 100000 };
    struct buf large = {0};
    uint8_t *room = buf_reserve(&large, SIZE);
    assert_non_null(room);
    memset(room, 'x', SIZE);
    room[SIZE - 1] = '\n';
    signal(SIGXFSZ, SIG_IGN);
    struct mail_sink *sink = open_sink(options);
    put_text(sink, "a\n");
    limit_file_size(SIZE / 2);
    fail_to_put(sink, buf_view(&large));
    put_text(sink, "b\n");
    fail_to_put(sink, buf_view(&large));
    put_text(sink, "c\n");
    finish(sink);
    limit_file_size(RLIM_INFINITY);
    struct mail_source *source = open_source();
    expect_text(source, "a\n");
    expect_text(source, "b\n");
    expect_text(source, "c\n");
    expect_end(source);
    buf_free(&large);
}

static void a_full_disk_keeps_what_was_written_to_an_mbox(void **state)
{
    (void)state;
    without_room_the_messages_before_stay(&mbox);
}

/* The disk is full in the midst of the messages that wait in memory. */
static void a_full_disk_keeps_what_waits_to_be_written_to_an_mbox(void **state)
{
    (void)state;
    enum { MESSAGES = 50, SIZE = 1000, LARGE = 100000 };
    struct buf text = {0};
    uint8_t *room = buf_reserve(&text, LARGE);
    assert_non_null(room);
    memset(room, 'x', LARGE);
    room[SIZE - 1] = '\n';
    const struct mail_item item = {.internal_date = THAT_DAY};
    struct mail_item got;
    signal(SIGXFSZ, SIG_IGN);
    struct mail_sink *sink = open_sink(&mbox);
    for (int i = 0; i < MESSAGES; i++)
        put(sink, &item, bytes_of(room, SIZE), SIZE);
    limit_file_size(SIZE * 3 / 2);
    fail_to_put(sink, buf_view(&text));
    limit_file_size(RLIM_INFINITY);
    finish(sink);
    struct mail_source *source = open_source();
    for (int i = 0; i < MESSAGES; i++)
        expect(source, &got, bytes_of(room, SIZE));
    expect_end(source);
    buf_free(&text);
}

static void a_full_disk_keeps_what_was_written_to_a_maildir(void **state)
{
    (void)state;
    without_room_the_messages_before_stay(&maildir);
    assert_int_equal(count_part("tmp"), 0);
}

static void synced_mail_is_the_same(void **state)
{
    (void)state;
    struct mail_sink_options options = {.format = MAIL_MAILDIR, .sync = true, .uidvalidity = 1};
    struct mail_sink *sink = open_sink(&options);
    put_text(sink, "a");
    finish(sink);
    struct mail_source *source = open_source();
    expect_text(source, "a");
    expect_end(source);
    scratch_path(target, directory, "mbox");
    options.format = MAIL_MBOX;
    sink = open_sink(&options);
    put_text(sink, "a\n");
    finish(sink);
    source = open_source();
    expect_text(source, "a\n");
    expect_end(source);
}

static void mail_is_readable_by_its_owner_alone(void **state)
{
    (void)state;
    static const char *const names[] = {"", "cur", "new", "tmp"};
    char path[PATH_MAX];
    struct stat st;
    finish(open_sink(&maildir));
    for (size_t i = 0; i < COUNT(names); i++) {
        scratch_path(path, target, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0700);
    }
    scratch_path(target, directory, "mbox");
    finish(open_sink(&mbox));
    assert_int_equal(stat(target, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

int main(int argc, char **argv)
{
    dice.state = scratch_seed(argc, argv);
#define TEST(name) cmocka_unit_test_setup_teardown(name, make_directory, remove_directory)
    const struct CMUnitTest tests[] = {
        TEST(a_maildir_gives_back_every_byte),
        TEST(an_mbox_gives_back_every_byte_but_ends_the_last_line),
        TEST(random_quotes_survive_an_mbox),
        TEST(messages_larger_than_any_buffer_are_whole),
        TEST(an_mbox_is_written_as_others_write_it),
        TEST(a_day_of_one_digit_is_padded),
        TEST(what_exists_is_left_alone),
        TEST(an_empty_directory_becomes_a_maildir),
        TEST(a_place_that_is_not_there_is_an_error),
        TEST(flags_keywords_and_times_are_kept_by_a_maildir),
        TEST(keywords_beyond_the_letters_are_counted),
        TEST(uids_are_kept_by_a_maildir),
        TEST(uidnext_is_above_every_uid),
        TEST(without_a_uidvalidity_there_is_no_uidlist),
        TEST(names_sort_in_the_order_of_writing),
        TEST(names_given_a_time_are_always_the_same),
        TEST(a_cancelled_message_leaves_nothing_in_a_maildir),
        TEST(a_cancelled_message_leaves_nothing_in_an_mbox),
        TEST(a_full_disk_keeps_what_was_written_to_an_mbox),
        TEST(a_full_disk_keeps_what_waits_to_be_written_to_an_mbox),
        TEST(a_full_disk_keeps_what_was_written_to_a_maildir),
        TEST(synced_mail_is_the_same),
        TEST(mail_is_readable_by_its_owner_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
