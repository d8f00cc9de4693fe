#include "tools/mail/source.h"

#include "base/err.h"
#include "base/times.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define LINE_PART 8192u    /* a longer line is taken in parts */
#define HEADER_LOOK 65536u /* how much of a message is searched for dates */
#define DEPTH_MAX 32

/* One file to read. */
struct file {
    char *path;
    char *folder;
    uint32_t system;
    uint32_t letters; /* Dovecot's keyword letters a to z, as bits */
    uint32_t uid;
    struct mail_folder *home; /* its Maildir; NULL: none */
};

/* What Dovecot knows of a Maildir folder. */
struct mail_folder {
    struct mail_folder *next;
    uint32_t uidvalidity;
    uint32_t uidnext;
    char *keywords[26];
};

struct mail_source {
    struct file *files;
    size_t count;
    size_t capacity;
    size_t at; /* the file that is open, plus one */
    struct mail_folder *folders;
    FILE *stream;
    bool mbox;
    uint64_t index;
    bool in_message;
    bool at_line_start;
    bool blank_before;  /* the line before was empty, or there was none */
    struct buf held;    /* an empty line that may belong to a separator */
    struct buf pending; /* a line that was read and not given yet */
    size_t given;
    char separator[512]; /* the "From " line of the next message; "" when there is none */
    struct flags flags;
};

static int add_file(struct mail_source *source, const char *path, const char *folder,
                    struct file **out)
{
    if (source->count == source->capacity) {
        size_t capacity = source->capacity ? source->capacity * 2 : 64;
        struct file *files = realloc(source->files, capacity * sizeof *files);
        if (!files)
            return fail(ERR_NOMEM, "out of memory");
        source->files = files;
        source->capacity = capacity;
    }
    struct file *file = &source->files[source->count];
    *file = (struct file){.path = strdup(path), .folder = strdup(folder)};
    if (!file->path || !file->folder) {
        free(file->path);
        free(file->folder);
        return fail(ERR_NOMEM, "out of memory");
    }
    source->count++;
    if (out)
        *out = file;
    return ERR_OK;
}

static int join(char out[PATH_MAX], const char *directory, const char *name)
{
    return snprintf(out, PATH_MAX, "%s/%s", directory, name) < PATH_MAX
               ? ERR_OK
               : fail(ERR_INVALID, "%s/%s: path too long", directory, name);
}

static bool is_directory(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static bool has_directory(const char *path, const char *name)
{
    char inner[PATH_MAX];
    return join(inner, path, name) == ERR_OK && is_directory(inner);
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int find_files(struct mail_source *source, const char *directory, int depth)
{
    struct dirent **names;
    int count = scandir(directory, &names, visible, alphasort);
    if (count < 0)
        return fail_errno("%s", directory);
    int rc = depth > DEPTH_MAX ? fail(ERR_INVALID, "%s: too deep", directory) : ERR_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (rc == ERR_OK)
            rc = join(path, directory, names[i]->d_name);
        if (rc == ERR_OK)
            rc = is_directory(path) ? find_files(source, path, depth + 1)
                                    : add_file(source, path, "", NULL);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* "name:2,FRS" → flags. What is in `new` was never seen. */
static void read_info(struct file *file, const char *name)
{
    const char *info = strstr(name, ":2,");
    for (const char *c = info ? info + 3 : ""; *c; c++) {
        switch (*c) {
        case 'S':
            file->system |= FLAG_SEEN;
            break;
        case 'R':
            file->system |= FLAG_ANSWERED;
            break;
        case 'F':
            file->system |= FLAG_FLAGGED;
            break;
        case 'T':
            file->system |= FLAG_DELETED;
            break;
        case 'D':
            file->system |= FLAG_DRAFT;
            break;
        case 'P':
            file->letters |= 1u << 26;
            break;
        default:
            if (*c >= 'a' && *c <= 'z')
                file->letters |= 1u << (*c - 'a');
        }
    }
}

static int list_maildir_part(struct mail_source *source, const char *directory, const char *part,
                             const char *folder, struct mail_folder *home)
{
    char path[PATH_MAX];
    struct dirent **names;
    int rc = join(path, directory, part);
    int count = rc ? -1 : scandir(path, &names, visible, alphasort);
    if (count < 0)
        return rc ? rc : fail_errno("%s", path);
    for (int i = 0; i < count; i++) {
        char message[PATH_MAX];
        struct file *file;
        if (rc == ERR_OK)
            rc = join(message, path, names[i]->d_name);
        if (rc == ERR_OK && !is_directory(message)) {
            rc = add_file(source, message, folder, &file);
            if (rc == ERR_OK) {
                file->home = home;
                read_info(file, names[i]->d_name);
                if (strcmp(part, "new") == 0)
                    file->system &= ~FLAG_SEEN;
            }
        }
        free(names[i]);
    }
    free(names);
    return rc;
}

static void read_keywords(struct mail_folder *home, const char *directory)
{
    char path[PATH_MAX];
    char line[512];
    FILE *in = join(path, directory, "dovecot-keywords") == ERR_OK ? fopen(path, "re") : NULL;
    while (in && fgets(line, sizeof line, in)) {
        char *end;
        long index = strtol(line, &end, 10);
        size_t size = strcspn(end, "\r\n");
        if (end == line || *end != ' ' || index < 0 || index > 25 || size < 2 ||
            home->keywords[index])
            continue;
        home->keywords[index] = strndup(end + 1, size - 1);
    }
    if (in)
        fclose(in);
}

/* The part of a Maildir name that does not change when flags do. */
static size_t base_size(const char *name)
{
    return strcspn(name, ":");
}

static void set_uid(struct mail_source *source, size_t first, const char *base, uint32_t uid)
{
    size_t size = base_size(base);
    for (size_t i = first; i < source->count; i++) {
        const char *name = strrchr(source->files[i].path, '/') + 1;
        if (base_size(name) == size && strncmp(name, base, size) == 0) {
            source->files[i].uid = uid;
            return;
        }
    }
}

/* Version 3: "3 V123 N45 …", then "UID [fields] :name"; version 1: "1 123 45", then "UID name". */
static void read_uidlist(struct mail_source *source, struct mail_folder *home,
                         const char *directory, size_t first)
{
    char path[PATH_MAX];
    char line[1024];
    FILE *in = join(path, directory, "dovecot-uidlist") == ERR_OK ? fopen(path, "re") : NULL;
    if (!in)
        return;
    if (fgets(line, sizeof line, in)) {
        if (line[0] == '1') {
            char *rest;
            home->uidvalidity = (uint32_t)strtoul(line + 1, &rest, 10);
            home->uidnext = (uint32_t)strtoul(rest, NULL, 10);
        } else {
            char *v = strstr(line, " V");
            char *n = strstr(line, " N");
            home->uidvalidity = v ? (uint32_t)strtoul(v + 2, NULL, 10) : 0;
            home->uidnext = n ? (uint32_t)strtoul(n + 2, NULL, 10) : 0;
        }
    }
    while (fgets(line, sizeof line, in)) {
        char *end;
        unsigned long uid = strtoul(line, &end, 10);
        line[strcspn(line, "\r\n")] = '\0';
        char *name = strstr(end, " :");
        name = name ? name + 2 : end + (*end == ' ');
        if (uid > 0 && uid < UINT32_MAX && *name)
            set_uid(source, first, name, (uint32_t)uid);
    }
    fclose(in);
}

static int by_uid_then_name(const void *a, const void *b)
{
    const struct file *x = a;
    const struct file *y = b;
    uint32_t i = x->uid ? x->uid : UINT32_MAX;
    uint32_t j = y->uid ? y->uid : UINT32_MAX;
    if (i != j)
        return i < j ? -1 : 1;
    return strcmp(strrchr(x->path, '/'), strrchr(y->path, '/'));
}

static int list_maildir(struct mail_source *source, const char *directory, const char *folder)
{
    size_t first = source->count;
    struct mail_folder *home = calloc(1, sizeof *home);
    if (!home)
        return fail(ERR_NOMEM, "out of memory");
    home->next = source->folders;
    source->folders = home;
    read_keywords(home, directory);
    int rc = list_maildir_part(source, directory, "cur", folder, home);
    if (rc == ERR_OK && has_directory(directory, "new"))
        rc = list_maildir_part(source, directory, "new", folder, home);
    if (rc)
        return rc;
    read_uidlist(source, home, directory, first);
    if (source->count > first)
        qsort(source->files + first, source->count - first, sizeof *source->files,
              by_uid_then_name);
    return ERR_OK;
}

static int is_subfolder(const struct dirent *entry)
{
    return entry->d_name[0] == '.' && entry->d_name[1] && entry->d_name[1] != '.';
}

/* Maildir++: ".A.B" is the folder A/B. */
static int list_maildirs(struct mail_source *source, const char *directory)
{
    struct dirent **names;
    int rc = list_maildir(source, directory, "");
    int count = rc ? -1 : scandir(directory, &names, is_subfolder, alphasort);
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (rc == ERR_OK)
            rc = join(path, directory, names[i]->d_name);
        if (rc == ERR_OK && has_directory(path, "cur")) {
            char *folder = names[i]->d_name + 1;
            for (char *c = folder; *c; c++)
                if (*c == '.')
                    *c = '/';
            rc = list_maildir(source, path, folder);
        }
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return rc;
}

int mail_source_open(const char *path, struct mail_source **out)
{
    *out = NULL;
    struct stat st;
    if (stat(path, &st) != 0)
        return fail_errno("%s", path);
    struct mail_source *source = calloc(1, sizeof *source);
    if (!source)
        return fail(ERR_NOMEM, "out of memory");
    int rc;
    if (!S_ISDIR(st.st_mode))
        rc = add_file(source, path, "", NULL);
    else if (has_directory(path, "cur"))
        rc = list_maildirs(source, path);
    else
        rc = find_files(source, path, 0);
    if (rc) {
        mail_source_close(source);
        return rc;
    }
    *out = source;
    return ERR_OK;
}

void mail_source_close(struct mail_source *source)
{
    if (!source)
        return;
    for (size_t i = 0; i < source->count; i++) {
        free(source->files[i].path);
        free(source->files[i].folder);
    }
    while (source->folders) {
        struct mail_folder *home = source->folders;
        source->folders = home->next;
        for (int i = 0; i < 26; i++)
            free(home->keywords[i]);
        free(home);
    }
    if (source->stream)
        fclose(source->stream);
    free(source->files);
    buf_free(&source->held);
    buf_free(&source->pending);
    flags_free(&source->flags);
    free(source);
}

/* One line, or LINE_PART bytes of a longer one, into `pending`. */
static bool read_line(struct mail_source *source)
{
    buf_reset(&source->pending);
    source->given = 0;
    int c;
    while (source->pending.size < LINE_PART && (c = getc_unlocked(source->stream)) != EOF) {
        buf_u8(&source->pending, (uint8_t)c);
        if (c == '\n')
            break;
    }
    return source->pending.size > 0;
}

/* "From ADDRESS DATE": the date must be one, or a sentence that begins with "From" would end a
 * message. */
static bool separator_date(const char *line, int64_t *date)
{
    if (strncmp(line, "From ", 5) != 0)
        return false;
    for (const char *at = strchr(line + 5, ' '); at; at = strchr(at + 1, ' ')) {
        while (*at == ' ')
            at++;
        size_t size = strcspn(at, "\r\n");
        if (times_parse_asctime(at, size, date) == ERR_OK)
            return true;
        at--;
    }
    return false;
}

static bool is_blank(struct bytes line)
{
    return (line.size == 1 && line.data[0] == '\n') ||
           (line.size == 2 && line.data[0] == '\r' && line.data[1] == '\n');
}

static void copy_line(char *out, size_t room, struct bytes line)
{
    size_t size = line.size < room - 1 ? line.size : room - 1;
    memcpy(out, line.data, size);
    out[size] = '\0';
}

static bool at_separator(struct mail_source *source)
{
    int64_t date;
    if (!source->mbox || !source->at_line_start || !source->blank_before ||
        source->pending.size < 6 || memcmp(source->pending.data, "From ", 5) != 0)
        return false;
    copy_line(source->separator, sizeof source->separator, buf_view(&source->pending));
    if (separator_date(source->separator, &date))
        return true;
    source->separator[0] = '\0';
    return false;
}

/* One `>` off ">From ", ">>From ", … */
static void unquote(struct mail_source *source)
{
    const uint8_t *line = source->pending.data;
    size_t quotes = 0;
    while (quotes < source->pending.size && line[quotes] == '>')
        quotes++;
    if (quotes && source->pending.size - quotes >= 5 && memcmp(line + quotes, "From ", 5) == 0)
        source->given = 1;
}

/* Makes `pending` the message's next line; false at the message's end. An empty line is held back
 * until it is clear that it is no separator's. */
static bool next_line(struct mail_source *source)
{
    for (;;) {
        if (!read_line(source))
            return false;
        if (at_separator(source))
            return false;
        bool whole = source->pending.data[source->pending.size - 1] == '\n';
        if (source->mbox && source->at_line_start)
            unquote(source);
        source->blank_before = source->at_line_start && is_blank(buf_view(&source->pending));
        source->at_line_start = whole;
        if (!source->mbox || !source->blank_before || source->held.size)
            return true;
        buf_put(&source->held, source->pending.data, source->pending.size);
    }
}

int mail_source_read(struct mail_source *source, void *to, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size && source->in_message) {
        if (source->given == source->pending.size && !next_line(source)) {
            source->in_message = false;
            if (ferror(source->stream))
                return fail(ERR_IO, "%s: %s", source->files[source->at - 1].path, strerror(errno));
            /* At the end of the file, too, an empty line belongs to the separator that would
             * follow. */
            buf_reset(&source->held);
            break;
        }
        /* What was held goes before the line behind it. */
        if (source->held.size) {
            struct buf joined = source->held;
            buf_put(&joined, source->pending.data + source->given,
                    source->pending.size - source->given);
            bool blank = source->blank_before;
            size_t keep = blank ? source->pending.size : 0;
            source->held = (struct buf){0};
            if (blank) {
                buf_put(&source->held, joined.data + joined.size - keep, keep);
                joined.size -= keep;
            }
            buf_free(&source->pending);
            source->pending = joined;
            source->given = 0;
        }
        size_t part = source->pending.size - source->given;
        if (part > size - *got)
            part = size - *got;
        memcpy((uint8_t *)to + *got, source->pending.data + source->given, part);
        source->given += part;
        *got += part;
    }
    return ERR_OK;
}

/* The first header of this name in the first bytes of a message; continuation lines included. */
static bool find_header(const char *text, size_t size, const char *name, const char **value,
                        size_t *value_size)
{
    size_t name_size = strlen(name);
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t next = end ? (size_t)(end - text) + 1 : size;
        if (next - at <= 2 && (text[at] == '\n' || text[at] == '\r'))
            return false;
        if (next - at > name_size && strncasecmp(text + at, name, name_size) == 0 &&
            text[at + name_size] == ':') {
            while (next < size && (text[next] == ' ' || text[next] == '\t')) {
                end = memchr(text + next, '\n', size - next);
                next = end ? (size_t)(end - text) + 1 : size;
            }
            *value = text + at + name_size + 1;
            *value_size = next - at - name_size - 1;
            return true;
        }
        at = next;
    }
    return false;
}

static void flags_of_status(struct mail_source *source, const char *text, size_t size)
{
    const char *value;
    size_t length;
    for (int i = 0; i < 2; i++) {
        if (!find_header(text, size, i ? "X-Status" : "Status", &value, &length))
            continue;
        for (size_t k = 0; k < length; k++) {
            uint32_t bit = value[k] == 'R'   ? FLAG_SEEN
                           : value[k] == 'A' ? FLAG_ANSWERED
                           : value[k] == 'F' ? FLAG_FLAGGED
                           : value[k] == 'D' ? FLAG_DELETED
                           : value[k] == 'T' ? FLAG_DRAFT
                                             : 0;
            source->flags.system |= bit;
        }
    }
}

/* When it came: the topmost Received header's date, else the Date header's, else the file's. */
static int64_t date_of_headers(const char *text, size_t size, int64_t otherwise)
{
    const char *value;
    size_t length;
    int64_t date;
    if (find_header(text, size, "Received", &value, &length)) {
        const char *semicolon = memrchr(value, ';', length);
        if (semicolon &&
            times_parse_rfc5322(semicolon + 1, (uint64_t)(value + length - semicolon - 1), &date) ==
                ERR_OK)
            return date;
    }
    if (find_header(text, size, "Date", &value, &length) &&
        times_parse_rfc5322(value, length, &date) == ERR_OK)
        return date;
    return otherwise;
}

/* Looks at the head of the message that begins here, and comes back. */
static size_t peek(struct mail_source *source, char *text)
{
    long at = ftell(source->stream);
    size_t got = at < 0 ? 0 : fread(text, 1, HEADER_LOOK, source->stream);
    if (at < 0 || fseek(source->stream, at, SEEK_SET) != 0)
        return 0;
    return got;
}

static int add_keywords(struct mail_source *source, const struct file *file)
{
    int rc = file->letters >> 26 ? flags_add(&source->flags, "$Forwarded", 10) : ERR_OK;
    for (int i = 0; i < 26 && rc == ERR_OK; i++)
        if (file->letters >> i & 1 && file->home && file->home->keywords[i])
            rc =
                flags_add(&source->flags, file->home->keywords[i], strlen(file->home->keywords[i]));
    return rc == ERR_INVALID ? ERR_OK : rc; /* a name that IMAP does not allow */
}

static int describe(struct mail_source *source, struct mail_item *item)
{
    const struct file *file = &source->files[source->at - 1];
    struct stat st;
    char *head = malloc(HEADER_LOOK);
    if (!head || fstat(fileno(source->stream), &st) != 0) {
        free(head);
        return fail_errno("%s", file->path);
    }
    int64_t written = (int64_t)st.st_mtim.tv_sec * TIMES_SECOND + st.st_mtim.tv_nsec / 1000;
    flags_free(&source->flags);
    source->flags.system = file->system;
    int rc = add_keywords(source, file);
    *item = (struct mail_item){
        .path = file->path, .folder = file->folder, .uid = file->uid, .internal_date = written};
    if (file->home) {
        item->uidvalidity = file->home->uidvalidity;
        item->uidnext = file->home->uidnext;
    } else {
        size_t size = peek(source, head);
        if (source->mbox) {
            item->index = ++source->index;
            separator_date(source->separator, &item->internal_date);
            flags_of_status(source, head, size);
        } else {
            item->internal_date = date_of_headers(head, size, written);
        }
    }
    item->system = source->flags.system;
    item->keywords = buf_view(&source->flags.keywords);
    free(head);
    source->in_message = true;
    source->at_line_start = true;
    source->blank_before = false;
    source->separator[0] = '\0';
    buf_reset(&source->held);
    buf_reset(&source->pending);
    source->given = 0;
    return rc;
}

/* A live Maildir: the file may have moved from `new` to `cur`, or got other flags, since it was
 * listed. */
static FILE *open_moved(struct file *file)
{
    char directory[PATH_MAX];
    snprintf(directory, sizeof directory, "%s", file->path);
    char *name = strrchr(directory, '/');
    *name++ = '\0';
    char *part = strrchr(directory, '/');
    if (!file->home || !part)
        return NULL;
    memcpy(part, "/cur", sizeof "/cur");
    DIR *listing = opendir(directory);
    const char *wanted = strrchr(file->path, '/') + 1;
    FILE *stream = NULL;
    /* cppcheck-suppress readdirCalled; a stream of one's own is safe */
    for (struct dirent *entry; listing && !stream && (entry = readdir(listing));) {
        char path[PATH_MAX];
        if (base_size(entry->d_name) != base_size(wanted) ||
            strncmp(entry->d_name, wanted, base_size(wanted)) != 0)
            continue;
        if (join(path, directory, entry->d_name) != ERR_OK)
            continue;
        stream = fopen(path, "re");
        file->system = 0;
        read_info(file, entry->d_name);
    }
    if (listing)
        closedir(listing);
    return stream;
}

static int open_next(struct mail_source *source)
{
    struct file *file = &source->files[source->at++];
    int64_t date;
    source->stream = fopen(file->path, "re");
    if (!source->stream) {
        int error = errno;
        if (error == ENOENT)
            source->stream = open_moved(file);
        errno = error;
    }
    if (!source->stream)
        return fail_errno("%s", file->path);
    source->mbox = false;
    source->index = 0;
    if (file->home)
        return ERR_OK;
    if (read_line(source)) {
        copy_line(source->separator, sizeof source->separator, buf_view(&source->pending));
        source->mbox = separator_date(source->separator, &date);
    }
    /* A message's first byte follows the separator. */
    if (fseek(source->stream, source->mbox ? (long)source->pending.size : 0, SEEK_SET) != 0 ||
        ferror(source->stream))
        return fail_errno("%s", file->path);
    return ERR_OK;
}

static int skip_rest(struct mail_source *source)
{
    uint8_t drop[4096];
    size_t got = 1;
    int rc = ERR_OK;
    while (source->in_message && got && rc == ERR_OK)
        rc = mail_source_read(source, drop, sizeof drop, &got);
    return rc;
}

int mail_source_next(struct mail_source *source, struct mail_item *item)
{
    int rc = skip_rest(source);
    if (rc == ERR_OK && source->stream && source->mbox && source->separator[0])
        return describe(source, item);
    if (source->stream)
        fclose(source->stream);
    source->stream = NULL;
    source->in_message = false;
    source->separator[0] = '\0';
    if (rc)
        return rc;
    if (source->at == source->count)
        return ERR_END;
    rc = open_next(source);
    return rc ? rc : describe(source, item);
}

void mail_source_progress(const struct mail_source *source, size_t *done, size_t *all)
{
    *done = source->at;
    *all = source->count;
}
