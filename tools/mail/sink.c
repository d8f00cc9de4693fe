#include "tools/mail/sink.h"

#include "base/err.h"
#include "base/times.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOM 65536u
#define LETTERS 26u
#define DAY (INT64_C(86400) * TIMES_SECOND)
#define NAME_SIZE 128u

static const char separator_word[] = "From ";
#define SEPARATOR_WORD_SIZE 5u

/* An open file and what waits to be written to it. */
struct output {
    int fd; /* -1: none */
    uint64_t written;
    size_t waiting;
    char path[PATH_MAX];
    uint8_t bytes[ROOM];
};

struct mail_sink {
    struct mail_sink_options options;
    struct output out; /* the mbox, or the message that was begun */
    bool begun;
    uint64_t count;
    /* Of an mbox. */
    uint64_t start; /* where the message that was begun starts */
    bool in_line;   /* beyond what decides whether the line is quoted */
    size_t matched; /* bytes of separator_word that were seen, and not put out yet */
    uint8_t last;   /* byte of the message; '\n' before the first */
    /* Of a Maildir. The message that was begun will be `name``info`. */
    char path[PATH_MAX];
    long process;
    bool in_tmp; /* its file is there */
    char name[NAME_SIZE];
    char info[LETTERS + 16];
    uint32_t uid;
    int64_t date;
    char *keywords[LETTERS]; /* by letter */
    uint64_t keywords_lost;
    struct buf uids; /* dovecot-uidlist's lines */
    uint32_t highest_uid;
};

/* What could not be written keeps waiting. */
static int out_flush(struct output *out)
{
    size_t done = 0;
    int rc = ERR_OK;
    while (done < out->waiting && rc == ERR_OK) {
        ssize_t n = write(out->fd, out->bytes + done, out->waiting - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            rc = fail_errno("%s", out->path);
    }
    out->written += done;
    out->waiting -= done;
    memmove(out->bytes, out->bytes + done, out->waiting);
    return rc;
}

static int out_put(struct output *out, const void *data, size_t size)
{
    const uint8_t *from = data;
    while (size) {
        if (out->waiting == ROOM) {
            int rc = out_flush(out);
            if (rc)
                return rc;
        }
        size_t part = size < ROOM - out->waiting ? size : ROOM - out->waiting;
        memcpy(out->bytes + out->waiting, from, part);
        out->waiting += part;
        from += part;
        size -= part;
    }
    return ERR_OK;
}

static int out_open(struct output *out)
{
    out->written = 0;
    out->waiting = 0;
    out->fd = open(out->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (out->fd < 0 && errno == EEXIST)
        return fail(ERR_EXISTS, "%s: exists already", out->path);
    return out->fd < 0 ? fail_errno("%s", out->path) : ERR_OK;
}

static int out_close(struct output *out, bool sync)
{
    int rc = out_flush(out);
    if (rc == ERR_OK && sync && fsync(out->fd) != 0)
        rc = fail_errno("%s", out->path);
    if (close(out->fd) != 0 && rc == ERR_OK)
        rc = fail_errno("%s", out->path);
    out->fd = -1;
    return rc;
}

static int join(char out[PATH_MAX], const char *directory, const char *part, const char *name)
{
    return snprintf(out, PATH_MAX, "%s/%s%s", directory, part, name) < PATH_MAX
               ? ERR_OK
               : fail(ERR_INVALID, "%s/%s%s: the path is too long", directory, part, name);
}

static int sync_directory(const char *directory, const char *part)
{
    char path[PATH_MAX];
    int rc = join(path, directory, part, "");
    if (rc)
        return rc;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        rc = fail_errno("%s", path);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ERR_EXISTS when there is something in it. */
static int check_empty(const char *path)
{
    DIR *listing = opendir(path);
    if (!listing && errno == ENOTDIR)
        return fail(ERR_EXISTS, "%s: exists already, and is no directory", path);
    if (!listing)
        return fail_errno("%s", path);
    const struct dirent *entry;
    int entries = 0;
    /* cppcheck-suppress readdirCalled; a stream of one's own is safe */
    while ((entry = readdir(listing)))
        entries += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    closedir(listing);
    return entries ? fail(ERR_EXISTS, "%s: exists already, and is not empty", path) : ERR_OK;
}

static int make_maildir(struct mail_sink *sink)
{
    static const char *const parts[] = {"cur", "new", "tmp"};
    if (mkdir(sink->path, 0700) != 0 && errno != EEXIST)
        return fail_errno("%s", sink->path);
    int rc = check_empty(sink->path);
    for (size_t i = 0; i < 3 && rc == ERR_OK; i++) {
        char path[PATH_MAX];
        rc = join(path, sink->path, parts[i], "");
        if (rc == ERR_OK && mkdir(path, 0700) != 0)
            rc = fail_errno("%s", path);
    }
    return rc;
}

int mail_sink_open(const char *path, const struct mail_sink_options *options,
                   struct mail_sink **out)
{
    *out = NULL;
    if (strlen(path) >= PATH_MAX)
        return fail(ERR_INVALID, "%s: the path is too long", path);
    struct mail_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return fail(ERR_NOMEM, "%s: out of memory", path);
    sink->options = *options;
    sink->out.fd = -1;
    snprintf(sink->path, sizeof sink->path, "%s", path);
    snprintf(sink->out.path, sizeof sink->out.path, "%s", path);
    if (options->named_at == 0) {
        sink->options.named_at = times_now();
        sink->process = getpid();
    }
    int rc = options->format == MAIL_MBOX ? out_open(&sink->out) : make_maildir(sink);
    if (rc) {
        mail_sink_close(sink);
        return rc;
    }
    *out = sink;
    return ERR_OK;
}

/* Times are rounded down, before 1970 too. */
static int64_t floor_divide(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

/* "Thu Aug 22 12:36:23 2002", in UTC. */
static void print_asctime(int64_t time, char *out, size_t size)
{
    static const char days[] = "ThuFriSatSunMonTueWed";
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char text[TIMES_TEXT_SIZE];
    times_print(time, text);
    int64_t since = floor_divide(time, DAY); /* a Thursday */
    int64_t day = since - floor_divide(since, 7) * 7;
    int month = (text[5] - '0') * 10 + text[6] - '1';
    char day_ten = text[8] == '0' ? ' ' : text[8];
    snprintf(out, size, "%.3s %.3s %c%c %.8s %.4s", days + 3 * day, months + 3 * month, day_ten,
             text[9], text + 11, text);
}

static int begin_mbox(struct mail_sink *sink, const struct mail_item *item)
{
    char date[TIMES_TEXT_SIZE];
    char line[TIMES_TEXT_SIZE + 32];
    print_asctime(item->internal_date, date, sizeof date);
    int size = snprintf(line, sizeof line, "From MAILER-DAEMON %s\n", date);
    sink->start = sink->out.written + sink->out.waiting;
    sink->in_line = false;
    sink->matched = 0;
    sink->last = '\n';
    return out_put(&sink->out, line, (size_t)size);
}

/* Which part of a line decides whether it is quoted: any number of `>`, then separator_word. As
 * all `>` are alike, the additional one can go behind them, just before the word; so only as much
 * of the word as was seen has to be remembered. */
static int put_quoted(struct mail_sink *sink, const uint8_t *data, size_t size)
{
    int rc = ERR_OK;
    while (size && rc == ERR_OK) {
        size_t taken = 1;
        if (sink->in_line) {
            const uint8_t *end = memchr(data, '\n', size);
            taken = end ? (size_t)(end - data) + 1 : size;
            rc = out_put(&sink->out, data, taken);
            sink->in_line = !end;
        } else if (*data == (uint8_t)separator_word[sink->matched]) {
            if (++sink->matched == SEPARATOR_WORD_SIZE) {
                rc = out_put(&sink->out, ">From ", SEPARATOR_WORD_SIZE + 1);
                sink->matched = 0;
                sink->in_line = true;
            }
        } else if (*data == '>' && sink->matched == 0) {
            rc = out_put(&sink->out, data, 1);
        } else {
            taken = 0;
            rc = out_put(&sink->out, separator_word, sink->matched);
            sink->matched = 0;
            sink->in_line = true;
        }
        data += taken;
        size -= taken;
    }
    return rc;
}

static int end_mbox(struct mail_sink *sink)
{
    int rc = out_put(&sink->out, separator_word, sink->matched);
    if (rc == ERR_OK && sink->last != '\n')
        rc = out_put(&sink->out, "\n", 1);
    return rc ? rc : out_put(&sink->out, "\n", 1);
}

static int cancel_mbox(struct mail_sink *sink)
{
    struct output *out = &sink->out;
    if (sink->start >= out->written) {
        out->waiting = (size_t)(sink->start - out->written);
        return ERR_OK;
    }
    out->waiting = 0;
    if (ftruncate(out->fd, (off_t)sink->start) != 0 ||
        lseek(out->fd, (off_t)sink->start, SEEK_SET) < 0)
        return fail_errno("%s", out->path);
    out->written = sink->start;
    return ERR_OK;
}

/* The keyword's letter, given out if it has none yet; 0 when there is none left. */
static int letter_of(struct mail_sink *sink, struct bytes keyword, char *letter)
{
    for (size_t i = 0; i < LETTERS; i++) {
        char **name = &sink->keywords[i];
        if (!*name && !(*name = strndup((const char *)keyword.data, keyword.size)))
            return fail(ERR_NOMEM, "%s: out of memory", sink->path);
        if (strlen(*name) == keyword.size &&
            strncasecmp(*name, (const char *)keyword.data, keyword.size) == 0) {
            *letter = (char)('a' + i);
            return ERR_OK;
        }
    }
    *letter = '\0';
    sink->keywords_lost++;
    return ERR_OK;
}

static bool is_forwarded(struct bytes keyword)
{
    static const char name[] = "$Forwarded";
    return keyword.size == sizeof name - 1 &&
           strncasecmp((const char *)keyword.data, name, keyword.size) == 0;
}

/* ":2," and the flags' letters in the order of their bytes, as Maildir wants them. */
static int make_info(struct mail_sink *sink, const struct mail_item *item)
{
    bool letters[LETTERS] = {false};
    bool forwarded = false;
    struct bytes keyword;
    for (size_t at = 0; keywords_next(item->keywords, &at, &keyword);) {
        char letter = '\0';
        int rc = is_forwarded(keyword) ? ERR_OK : letter_of(sink, keyword, &letter);
        if (rc)
            return rc;
        forwarded = forwarded || is_forwarded(keyword);
        if (letter)
            letters[letter - 'a'] = true;
    }
    const struct {
        char letter;
        bool set;
    } flags[] = {{'D', item->system & FLAG_DRAFT},
                 {'F', item->system & FLAG_FLAGGED},
                 {'P', forwarded},
                 {'R', item->system & FLAG_ANSWERED},
                 {'S', item->system & FLAG_SEEN},
                 {'T', item->system & FLAG_DELETED}};
    char *out = stpcpy(sink->info, ":2,");
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
        if (flags[i].set)
            *out++ = flags[i].letter;
    for (size_t i = 0; i < LETTERS; i++)
        if (letters[i])
            *out++ = (char)('a' + i);
    *out = '\0';
    return ERR_OK;
}

/* The number has a fixed width, so that names sort in the order of writing. */
static int begin_maildir(struct mail_sink *sink, const struct mail_item *item)
{
    int64_t second = floor_divide(sink->options.named_at, TIMES_SECOND);
    int64_t fraction = sink->options.named_at - second * TIMES_SECOND;
    int rc = make_info(sink, item);
    if (rc)
        return rc;
    snprintf(sink->name, sizeof sink->name, "%lld.M%06lldP%ldQ%010llu.shiplog", (long long)second,
             (long long)fraction, sink->process, (unsigned long long)sink->count);
    sink->date = item->internal_date;
    sink->uid = item->uid;
    rc = join(sink->out.path, sink->path, "tmp/", sink->name);
    if (rc == ERR_OK)
        rc = out_open(&sink->out);
    sink->in_tmp = rc == ERR_OK;
    return rc;
}

static void note_uid(struct mail_sink *sink)
{
    char line[NAME_SIZE + 16];
    int size = snprintf(line, sizeof line, "%lu :%s\n", (unsigned long)sink->uid, sink->name);
    buf_put(&sink->uids, line, (size_t)size);
    if (sink->uid > sink->highest_uid)
        sink->highest_uid = sink->uid;
}

static int end_maildir(struct mail_sink *sink)
{
    char name[NAME_SIZE + sizeof sink->info];
    char final[PATH_MAX];
    int64_t second = floor_divide(sink->date, TIMES_SECOND);
    struct timespec time = {.tv_sec = second,
                            .tv_nsec = (long)(sink->date - second * TIMES_SECOND) * 1000};
    const struct timespec times[2] = {time, time};
    snprintf(name, sizeof name, "%s%s", sink->name, sink->info);
    int rc = out_flush(&sink->out);
    if (rc == ERR_OK && futimens(sink->out.fd, times) != 0)
        rc = fail_errno("%s", sink->out.path);
    if (rc == ERR_OK)
        rc = out_close(&sink->out, sink->options.sync);
    if (rc == ERR_OK)
        rc = join(final, sink->path, "cur/", name);
    if (rc == ERR_OK && rename(sink->out.path, final) != 0)
        rc = fail_errno("%s", final);
    if (rc)
        return rc;
    sink->in_tmp = false;
    if (sink->uid && sink->options.uidvalidity)
        note_uid(sink);
    return ERR_OK;
}

static int cancel_maildir(struct mail_sink *sink)
{
    if (sink->out.fd >= 0)
        close(sink->out.fd);
    sink->out.fd = -1;
    bool left = sink->in_tmp;
    sink->in_tmp = false;
    return left && unlink(sink->out.path) != 0 ? fail_errno("%s", sink->out.path) : ERR_OK;
}

int mail_sink_begin(struct mail_sink *sink, const struct mail_item *item)
{
    assert(!sink->begun);
    sink->begun = true;
    sink->count++;
    return sink->options.format == MAIL_MBOX ? begin_mbox(sink, item) : begin_maildir(sink, item);
}

int mail_sink_write(struct mail_sink *sink, const void *data, size_t size)
{
    assert(sink->begun);
    if (size == 0)
        return ERR_OK;
    sink->last = ((const uint8_t *)data)[size - 1];
    return sink->options.format == MAIL_MBOX ? put_quoted(sink, data, size)
                                             : out_put(&sink->out, data, size);
}

int mail_sink_end(struct mail_sink *sink)
{
    assert(sink->begun);
    int rc = sink->options.format == MAIL_MBOX ? end_mbox(sink) : end_maildir(sink);
    sink->begun = rc != ERR_OK;
    return rc;
}

int mail_sink_cancel(struct mail_sink *sink)
{
    assert(sink->begun);
    sink->begun = false;
    return sink->options.format == MAIL_MBOX ? cancel_mbox(sink) : cancel_maildir(sink);
}

static int write_file(const struct mail_sink *sink, const char *name, struct bytes content)
{
    struct output *out = malloc(sizeof *out);
    if (!out)
        return fail(ERR_NOMEM, "%s: out of memory", sink->path);
    int rc = join(out->path, sink->path, name, "");
    if (rc == ERR_OK)
        rc = out_open(out);
    if (rc == ERR_OK) {
        rc = out_put(out, content.data, content.size);
        int closed = out_close(out, sink->options.sync);
        rc = rc ? rc : closed;
    }
    free(out);
    return rc;
}

static int write_keywords(const struct mail_sink *sink)
{
    struct buf text = {0};
    for (size_t i = 0; i < LETTERS && sink->keywords[i]; i++) {
        char line[KEYWORD_MAX_SIZE + 16];
        int size = snprintf(line, sizeof line, "%zu %s\n", i, sink->keywords[i]);
        buf_put(&text, line, (size_t)size);
    }
    int rc = text.failed ? fail(ERR_NOMEM, "%s: out of memory", sink->path) : ERR_OK;
    if (rc == ERR_OK && text.size)
        rc = write_file(sink, "dovecot-keywords", buf_view(&text));
    buf_free(&text);
    return rc;
}

static int write_uidlist(struct mail_sink *sink)
{
    struct buf text = {0};
    char line[64];
    uint64_t next = (uint64_t)sink->highest_uid + 1;
    if (next < sink->options.uidnext)
        next = sink->options.uidnext;
    int size = snprintf(line, sizeof line, "3 V%lu N%llu\n",
                        (unsigned long)sink->options.uidvalidity, (unsigned long long)next);
    buf_put(&text, line, (size_t)size);
    buf_put(&text, sink->uids.data, sink->uids.size);
    int rc = text.failed || sink->uids.failed ? fail(ERR_NOMEM, "%s: out of memory", sink->path)
                                              : ERR_OK;
    if (rc == ERR_OK)
        rc = write_file(sink, "dovecot-uidlist", buf_view(&text));
    buf_free(&text);
    return rc;
}

static int finish_maildir(struct mail_sink *sink)
{
    int rc = write_keywords(sink);
    if (rc == ERR_OK && sink->options.uidvalidity)
        rc = write_uidlist(sink);
    if (rc == ERR_OK && sink->options.sync)
        rc = sync_directory(sink->path, "cur");
    if (rc == ERR_OK && sink->options.sync)
        rc = sync_directory(sink->path, "");
    return rc;
}

int mail_sink_finish(struct mail_sink *sink)
{
    assert(!sink->begun);
    return sink->options.format == MAIL_MBOX ? out_close(&sink->out, sink->options.sync)
                                             : finish_maildir(sink);
}

uint64_t mail_sink_keywords_lost(const struct mail_sink *sink)
{
    return sink->keywords_lost;
}

void mail_sink_close(struct mail_sink *sink)
{
    if (!sink)
        return;
    if (sink->begun)
        (void)mail_sink_cancel(sink);
    /* An mbox that was not finished keeps its whole messages. */
    if (sink->out.fd >= 0)
        (void)out_close(&sink->out, false);
    for (size_t i = 0; i < LETTERS; i++)
        free(sink->keywords[i]);
    buf_free(&sink->uids);
    free(sink);
}
