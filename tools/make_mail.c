/* make-mail: made-up messages that look like those of a mailing list's member over a year, for
 * trying out and measuring. The same seed and count give the same bytes, names and flags.
 *
 * Everything about message i is drawn from a generator of its own, seeded by (seed, i). So is which
 * earlier message it answers: ids, subjects and threads are found by asking again, nothing is
 * remembered.
 */
#include "base/err.h"
#include "base/times.h"
#include "tools/mail/sink.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define YEAR_BEGINS (INT64_C(1735689600) * TIMES_SECOND) /* 2025-01-01T00:00:00Z */
#define YEAR (INT64_C(365) * 86400 * TIMES_SECOND)
#define WORD_BITS 12u
#define WORDS (1u << WORD_BITS)
#define LINE_WIDTH 72u
#define THREAD_REACH 200u /* messages back that one may answer */
#define REFERENCES_MAX 10u

#define COUNT(array) (sizeof(array) / sizeof *(array))

struct dice {
    uint64_t state;
};

struct writer {
    uint64_t seed;
    uint64_t count;
    bool uids;
    char words[WORDS][16];
};

struct message {
    struct buf text; /* lines end in LF */
    struct dice dice;
    uint64_t index;
    int64_t date;
    size_t size; /* about as many bytes it shall have */
};

struct person {
    const char *name;    /* as a header has it */
    const char *address; /* before the @ */
};

static const struct person people[] = {
    {"Alma Berg", "alma.berg"},
    {"=?UTF-8?Q?J=C3=BCrgen_M=C3=BCller?=", "jmueller"},
    {"Chidi Okafor", "chidi"},
    {"=?UTF-8?B?6buE5bCP5piO?=", "huang.xm"},
    {"\"Dvorak, Eva\"", "eva.dvorak"},
    {"Farid Haddad", "farid"},
    {"=?ISO-8859-1?Q?In=E9s_Garc=EDa?=", "ines"},
    {"Joan O'Neill", "oneill"},
    {"Kofi Mensah", "k.mensah"},
    {"=?UTF-8?Q?=C5=81ukasz_Nowak?=", "lnowak"},
    {"Build Robot", "builds"},
    {"Priya Raman", "priya.raman"},
    {"Sven", "sven"},
    {"Tomoko Ueda (travelling)", "ueda"},
    {"Weekly Digest", "digest"},
    {"Zoe Petrou", "zoe"},
};

static const char *const hosts[] = {"example.org", "mail.example.com", "lists.example.net",
                                    "example.edu"};

static uint64_t roll(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t below(struct dice *dice, size_t bound)
{
    return (size_t)(roll(dice) % bound);
}

static bool chance(struct dice *dice, unsigned percent)
{
    return below(dice, 100) < percent;
}

/* Each purpose has numbers of its own, so that one does not disturb the others. */
enum purpose { FOR_BODY, FOR_PARENT, FOR_SUBJECT, FOR_ID, FOR_AUTHOR, FOR_DATE, FOR_FLAGS };

static struct dice dice_for(const struct writer *writer, uint64_t index, enum purpose purpose)
{
    struct dice dice = {writer->seed};
    dice.state = roll(&dice) ^ index;
    dice.state = roll(&dice) ^ (uint64_t)purpose;
    return dice;
}

static void put(struct buf *out, const char *text)
{
    buf_put(out, text, strlen(text));
}

__attribute__((format(printf, 2, 3))) static void putf(struct buf *out, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    put(out, text);
}

/* Made of syllables, the frequent ones short; the list is the same for every seed. */
static void make_words(struct writer *writer)
{
    static const char *const syllables[] = {"ta",  "re",  "lo", "mi", "na",  "se",  "ver", "con",
                                            "al",  "in",  "or", "um", "est", "ti",  "da",  "pro",
                                            "ma",  "li",  "ne", "so", "ca",  "ter", "mo",  "an",
                                            "the", "ing", "ra", "fe", "du",  "per", "vi",  "sto"};
    struct dice dice = {1};
    for (size_t i = 0; i < WORDS; i++) {
        size_t parts = 1 + (size_t)(i > 30) + (size_t)(i > 400) + below(&dice, 2);
        char *at = writer->words[i];
        while (parts--)
            at = stpcpy(at, syllables[below(&dice, COUNT(syllables))]);
    }
}

/* Frequent words come up much more often than rare ones, as in a language. */
static const char *a_word(const struct writer *writer, struct dice *dice)
{
    size_t bits = below(dice, WORD_BITS + 1);
    return writer->words[below(dice, (size_t)1 << bits)];
}

static uint64_t parent_of(const struct writer *writer, uint64_t index)
{
    struct dice dice = dice_for(writer, index, FOR_PARENT);
    size_t reach = index < THREAD_REACH ? (size_t)index : THREAD_REACH;
    if (reach == 0 || !chance(&dice, 60))
        return index;
    return index - 1 - below(&dice, 1 + below(&dice, reach));
}

static uint64_t root_of(const struct writer *writer, uint64_t index)
{
    uint64_t parent;
    while ((parent = parent_of(writer, index)) != index)
        index = parent;
    return index;
}

static size_t author_of(const struct writer *writer, uint64_t index)
{
    struct dice dice = dice_for(writer, index, FOR_AUTHOR);
    return below(&dice, 1 + below(&dice, COUNT(people)));
}

static const char *host_of(size_t person)
{
    return hosts[person % COUNT(hosts)];
}

/* Ascending: each message has its own share of the year. */
static int64_t date_of(const struct writer *writer, uint64_t index)
{
    struct dice dice = dice_for(writer, index, FOR_DATE);
    int64_t share = YEAR / (int64_t)writer->count;
    return YEAR_BEGINS + share * (int64_t)index + (int64_t)below(&dice, (size_t)share);
}

static void put_id(const struct writer *writer, struct buf *out, uint64_t index)
{
    struct dice dice = dice_for(writer, index, FOR_ID);
    unsigned long long high = roll(&dice);
    unsigned long long low = roll(&dice);
    putf(out, "<%llu.%016llx%04llx@%s>", (unsigned long long)index, high, low & 0xffff,
         host_of(author_of(writer, index)));
}

static void put_subject(const struct writer *writer, struct buf *out, uint64_t index)
{
    uint64_t root = root_of(writer, index);
    struct dice dice = dice_for(writer, root, FOR_SUBJECT);
    put(out, root == index ? "Subject: " : "Subject: Re: ");
    if (chance(&dice, 8))
        put(out, "=?UTF-8?Q?Gr=C3=BC=C3=9Fe:_?= ");
    for (size_t left = 2 + below(&dice, 6); left; left--)
        putf(out, "%s%s", a_word(writer, &dice), left > 1 ? " " : "");
    put(out, "\n");
}

/* "Thu, 22 Aug 2002 12:36:23 +0000"; the weekday may be left out, and here is. */
static void put_date(struct buf *out, int64_t date)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char text[TIMES_TEXT_SIZE];
    times_print(date, text);
    int month = (text[5] - '0') * 10 + text[6] - '1';
    putf(out, "%.2s %.3s %.4s %.8s +0000", text + 8, months + 3 * month, text, text + 11);
}

static void put_address(struct buf *out, size_t person)
{
    putf(out, "%s <%s@%s>", people[person].name, people[person].address, host_of(person));
}

static void put_base64(struct buf *out, struct dice *dice, size_t size, const char *before_line)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t column = 0; size; size--) {
        if (column == 0)
            put(out, before_line);
        buf_u8(out, (uint8_t)digits[roll(dice) >> 58]);
        column++;
        if (column == LINE_WIDTH || size == 1) {
            buf_u8(out, '\n');
            column = 0;
        }
    }
}

static void put_trace(struct message *m, size_t author)
{
    struct buf *out = &m->text;
    putf(out, "Return-Path: <%s@%s>\n", people[author].address, host_of(author));
    for (size_t hops = 1 + below(&m->dice, 3); hops; hops--) {
        /* One after the other: arguments are evaluated in any order. */
        unsigned id = (unsigned)roll(&m->dice);
        size_t last = below(&m->dice, 256);
        putf(out,
             "Received: from %s (%s [192.0.2.%zu])\n\tby mx%zu.example.org with ESMTPS id %08x",
             host_of(author + hops), host_of(author), last, hops, id);
        put(out, "\n\tfor <list@example.org>; ");
        put_date(out, m->date - (int64_t)below(&m->dice, 5) * TIMES_SECOND);
        put(out, "\n");
    }
    if (chance(&m->dice, 60)) {
        put(out,
            "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=k1;\n\tb=");
        put_base64(out, &m->dice, 340, "\t");
    }
}

static void put_references(const struct writer *writer, struct message *m)
{
    uint64_t chain[REFERENCES_MAX];
    size_t count = 0;
    uint64_t at = m->index;
    while (count < REFERENCES_MAX && parent_of(writer, at) != at)
        chain[count++] = at = parent_of(writer, at);
    if (count == 0)
        return;
    put(&m->text, "In-Reply-To: ");
    put_id(writer, &m->text, chain[0]);
    put(&m->text, "\nReferences:");
    while (count) {
        put(&m->text, " ");
        put_id(writer, &m->text, chain[--count]);
        put(&m->text, count ? "\n" : "");
    }
    put(&m->text, "\n");
}

static void put_headers(const struct writer *writer, struct message *m)
{
    static const char *const mailers[] = {"User-Agent: Letterbox 4.2", "X-Mailer: Quill (1.0)",
                                          "List-Id: <list.example.org>", "X-Spam-Status: No"};
    size_t author = author_of(writer, m->index);
    put_trace(m, author);
    put(&m->text, "From: ");
    put_address(&m->text, author);
    put(&m->text, "\nTo: ");
    put_address(&m->text, author_of(writer, parent_of(writer, m->index)));
    if (chance(&m->dice, 30)) {
        put(&m->text, ",\n\t");
        put_address(&m->text, below(&m->dice, COUNT(people)));
    }
    put(&m->text, "\n");
    put_subject(writer, &m->text, m->index);
    put(&m->text, "Date: ");
    put_date(&m->text, m->date);
    put(&m->text, "\nMessage-ID: ");
    put_id(writer, &m->text, m->index);
    put(&m->text, "\n");
    put_references(writer, m);
    for (size_t i = 0; i < COUNT(mailers); i++)
        if (chance(&m->dice, 40))
            putf(&m->text, "%s\n", mailers[i]);
    put(&m->text, "MIME-Version: 1.0\n");
}

enum letters { ASCII, UTF8, LATIN1 };

static void put_sentence_end(struct message *m, enum letters letters)
{
    static const char *const marks[][3] = {{".", "!", "?"},
                                           {" \xe2\x82\xac 5.", " \xc3\xa9t\xc3\xa9!", "?"},
                                           {" \xe9t\xe9.",
                                            " \xfc"
                                            "ber!",
                                            "?"}};
    put(&m->text, marks[letters][below(&m->dice, 3)]);
}

/* A line of text, without its end. Some begin like an mbox's separator. */
static void put_line(const struct writer *writer, struct message *m, enum letters letters)
{
    size_t begin = m->text.size;
    size_t width = chance(&m->dice, 20) ? 10 + below(&m->dice, LINE_WIDTH - 10) : LINE_WIDTH;
    if (chance(&m->dice, 1))
        put(&m->text, chance(&m->dice, 30) ? ">From " : "From ");
    for (;;) {
        const char *word = a_word(writer, &m->dice);
        if (m->text.size - begin + strlen(word) + 8 > width)
            break;
        put(&m->text, word);
        if (chance(&m->dice, 8))
            put_sentence_end(m, letters);
        put(&m->text, " ");
    }
    if (m->text.size > begin && !m->text.failed)
        m->text.data[m->text.size - 1] = '.';
}

/* Paragraphs, some of them quoted, until the message has `until` bytes. */
static void put_prose(const struct writer *writer, struct message *m, enum letters letters,
                      size_t until)
{
    while (m->text.size < until && !m->text.failed) {
        bool quoted = chance(&m->dice, 25);
        for (size_t lines = 1 + below(&m->dice, 8); lines; lines--) {
            put(&m->text, quoted ? "> " : "");
            put_line(writer, m, letters);
            put(&m->text, "\n");
        }
        put(&m->text, "\n");
    }
    if (chance(&m->dice, 50))
        putf(&m->text, "-- \n%s\n", people[author_of(writer, m->index)].address);
}

static void put_plain(const struct writer *writer, struct message *m)
{
    static const char *const types[] = {"us-ascii\nContent-Transfer-Encoding: 7bit",
                                        "utf-8\nContent-Transfer-Encoding: 8bit",
                                        "iso-8859-1\nContent-Transfer-Encoding: 8bit"};
    enum letters letters = chance(&m->dice, 60) ? ASCII : chance(&m->dice, 75) ? UTF8 : LATIN1;
    putf(&m->text, "Content-Type: text/plain; charset=%s\n\n", types[letters]);
    put_prose(writer, m, letters, m->size);
}

static void put_html(const struct writer *writer, struct message *m, size_t until)
{
    put(&m->text, "<html><head><style>p { margin: 0 0 1em 0; font-family: sans-serif; }</style>"
                  "</head>\n<body bgcolor=3D\"#ffffff\">\n");
    while (m->text.size < until && !m->text.failed) {
        put(&m->text, "<p style=3D\"color: #333333\">");
        put_line(writer, m, ASCII);
        put(&m->text, "=\n");
        put_line(writer, m, ASCII);
        put(&m->text, "</p>\n");
    }
    put(&m->text, "</body></html>\n");
}

static void put_alternative(const struct writer *writer, struct message *m)
{
    unsigned long long boundary = roll(&m->dice);
    putf(&m->text, "Content-Type: multipart/alternative;\n\tboundary=\"b-%016llx\"\n\n", boundary);
    putf(&m->text, "--b-%016llx\nContent-Type: text/plain; charset=utf-8\n\n", boundary);
    put_prose(writer, m, UTF8, m->text.size + m->size / 3);
    putf(&m->text,
         "--b-%016llx\nContent-Type: text/html; charset=us-ascii\n"
         "Content-Transfer-Encoding: quoted-printable\n\n",
         boundary);
    put_html(writer, m, m->size);
    putf(&m->text, "--b-%016llx--\n", boundary);
}

static void put_mixed(const struct writer *writer, struct message *m)
{
    static const struct {
        const char *type;
        const char *ending;
    } kinds[] = {{"image/jpeg", "jpg"}, {"application/pdf", "pdf"}, {"application/zip", "zip"}};
    unsigned long long boundary = roll(&m->dice);
    putf(&m->text, "Content-Type: multipart/mixed; boundary=\"=_%016llx\"\n\n", boundary);
    putf(&m->text, "--=_%016llx\nContent-Type: text/plain; charset=utf-8\n\n", boundary);
    put_prose(writer, m, UTF8, m->text.size + 400);
    putf(&m->text, "--=_%016llx\nContent-Transfer-Encoding: base64\nContent-Type: ", boundary);
    size_t kind = below(&m->dice, COUNT(kinds));
    putf(&m->text, "%s; name=\"%s.%s\"", kinds[kind].type, a_word(writer, &m->dice),
         kinds[kind].ending);
    put(&m->text, "\n\n");
    size_t left = m->size > m->text.size ? m->size - m->text.size : 0;
    put_base64(&m->text, &m->dice, 200 + left, "");
    putf(&m->text, "--=_%016llx--\n", boundary);
}

/* Most messages are small: 1 to 40 KB, and a few up to 2 MB. */
static size_t choose_size(struct dice *dice)
{
    static const struct {
        unsigned percent;
        size_t least;
        size_t most;
    } classes[] = {{30, 1u << 10, 2u << 10},   {60, 2u << 10, 4u << 10},
                   {80, 4u << 10, 8u << 10},   {91, 8u << 10, 16u << 10},
                   {98, 16u << 10, 40u << 10}, {100, 40u << 10, 200u << 10}};
    size_t at = below(dice, 100);
    size_t i = 0;
    while (at >= classes[i].percent)
        i++;
    size_t size = classes[i].least + below(dice, classes[i].most - classes[i].least);
    return i + 1 == COUNT(classes) && chance(dice, 10) ? size * 10 : size;
}

static void make_message(const struct writer *writer, struct message *m)
{
    buf_reset(&m->text);
    m->dice = dice_for(writer, m->index, FOR_BODY);
    m->date = date_of(writer, m->index);
    m->size = choose_size(&m->dice);
    put_headers(writer, m);
    if (m->size > (40u << 10) || chance(&m->dice, 12))
        put_mixed(writer, m);
    else if (chance(&m->dice, 30))
        put_alternative(writer, m);
    else
        put_plain(writer, m);
}

/* What is old has mostly been read. */
static int make_flags(const struct writer *writer, const struct message *m, struct flags *flags)
{
    static const struct {
        const char *flag;
        unsigned percent;
    } chances[] = {{"\\Answered", 20}, {"\\Flagged", 5}, {"\\Deleted", 2}, {"\\Draft", 1},
                   {"$Forwarded", 3},  {"work", 6},      {"todo", 3},      {"$Junk", 1}};
    struct dice dice = dice_for(writer, m->index, FOR_FLAGS);
    flags_free(flags);
    bool recent = m->index + m->index / 20 > writer->count;
    int rc = chance(&dice, recent ? 30 : 95) ? flags_add_list(flags, "\\Seen") : ERR_OK;
    for (size_t i = 0; i < COUNT(chances) && rc == ERR_OK; i++)
        if (chance(&dice, chances[i].percent))
            rc = flags_add_list(flags, chances[i].flag);
    return rc;
}

/* One message in ten has CRLF at the ends of its lines. */
static void end_lines(const struct message *m, struct buf *out)
{
    bool crlf = m->index % 10 == 7;
    buf_reset(out);
    for (size_t at = 0; at < m->text.size;) {
        const uint8_t *from = m->text.data + at;
        const uint8_t *end = memchr(from, '\n', m->text.size - at);
        size_t size = end ? (size_t)(end - from) : m->text.size - at;
        buf_put(out, from, size);
        put(out, crlf ? "\r\n" : "\n");
        at += size + 1;
    }
}

static int write_message(const struct writer *writer, const struct message *m,
                         const struct flags *flags, struct mail_sink *sink, struct buf *scratch)
{
    const struct mail_item item = {.system = flags->system,
                                   .keywords = buf_view(&flags->keywords),
                                   .internal_date = m->date,
                                   .uid = writer->uids ? (uint32_t)(m->index + 1) : 0};
    end_lines(m, scratch);
    if (m->text.failed || scratch->failed)
        return fail(ERR_NOMEM, "out of memory");
    int rc = mail_sink_begin(sink, &item);
    if (rc == ERR_OK)
        rc = mail_sink_write(sink, scratch->data, scratch->size);
    return rc ? rc : mail_sink_end(sink);
}

static int write_all(const struct writer *writer, struct mail_sink *sink)
{
    struct message message = {0};
    struct flags flags = {0};
    struct buf scratch = {0};
    int rc = ERR_OK;
    for (; message.index < writer->count && rc == ERR_OK; message.index++) {
        make_message(writer, &message);
        rc = make_flags(writer, &message, &flags);
        if (rc == ERR_OK)
            rc = write_message(writer, &message, &flags, sink, &scratch);
    }
    buf_free(&message.text);
    buf_free(&scratch);
    flags_free(&flags);
    return rc ? rc : mail_sink_finish(sink);
}

static bool number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && value <= most;
}

static int usage(void)
{
    fputs("usage: make-mail [--seed N] [--format maildir|mbox] [--uids] COUNT PATH\n"
          "  writes COUNT made-up messages to a new Maildir (or mbox) PATH\n"
          "  --seed N   other messages (default 1); the same seed and COUNT give the same bytes\n"
          "  --uids     UIDs 1 to COUNT in a dovecot-uidlist\n",
          stderr);
    return err_exit_code(ERR_USAGE);
}

static int make_mail(struct writer *writer, const char *path, enum mail_format format)
{
    const struct mail_sink_options options = {.format = format,
                                              .uidvalidity = writer->uids ? 1735689600u : 0,
                                              .named_at = YEAR_BEGINS + YEAR};
    struct mail_sink *sink;
    make_words(writer);
    int rc = mail_sink_open(path, &options, &sink);
    if (rc == ERR_OK)
        rc = write_all(writer, sink);
    mail_sink_close(sink);
    if (rc)
        fprintf(stderr, "make-mail: %s\n", err_message());
    return err_exit_code(rc);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"seed", required_argument, NULL, 's'},
                                            {"format", required_argument, NULL, 'f'},
                                            {"uids", no_argument, NULL, 'u'},
                                            {NULL, 0, NULL, 0}};
    static struct writer writer = {.seed = 1};
    enum mail_format format = MAIL_MAILDIR;
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        bool mbox = option == 'f' && strcmp(optarg, "mbox") == 0;
        if (option == 's' && !number(optarg, UINT64_MAX, &writer.seed))
            return usage();
        if (option == '?' || (option == 'f' && !mbox && strcmp(optarg, "maildir") != 0))
            return usage();
        if (option == 'f')
            format = mbox ? MAIL_MBOX : MAIL_MAILDIR;
        if (option == 'u')
            writer.uids = true;
    }
    if (argc - optind != 2 || !number(argv[optind], UINT32_MAX - 1, &writer.count))
        return usage();
    return make_mail(&writer, argv[optind + 1], format);
}
