/* Maildir, with what Dovecot adds: Maildir++ subfolders, UIDs in dovecot-uidlist, the names of
 * keywords in dovecot-keywords. It may be in use: a file that was renamed since it was listed is
 * looked up again by the part of its name that never changes. */
#include "tools/mail/internal.h"

#include "base/err.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool has_directory(const char *path, const char *name)
{
    char inner[PATH_MAX];
    struct stat st;
    return mail_path_join(inner, path, name) == ERR_OK && stat(inner, &st) == 0 &&
           S_ISDIR(st.st_mode);
}

bool maildir_is(const char *directory)
{
    return has_directory(directory, "cur") && has_directory(directory, "new");
}

/* The part of a file's name that stays when its flags change. */
static struct bytes base_of(const char *name)
{
    return bytes_of(name, strcspn(name, ":"));
}

static const char *name_of(const struct mail_file *file)
{
    return strrchr(file->path, '/') + 1;
}

static int compare_bases(struct bytes a, struct bytes b)
{
    int order = memcmp(a.data, b.data, a.size < b.size ? a.size : b.size);
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* "BASE:2,FRSab" */
static void read_info(struct mail_file *file)
{
    static const char known[] = "SRFTD";
    static const uint32_t meaning[] = {FLAG_SEEN, FLAG_ANSWERED, FLAG_FLAGGED, FLAG_DELETED,
                                       FLAG_DRAFT};
    const char *info = strstr(name_of(file), ":2,");
    file->system = 0;
    file->letters = 0;
    for (const char *c = info ? info + 3 : ""; *c; c++) {
        const char *flag = strchr(known, *c);
        if (flag)
            file->system |= meaning[flag - known];
        else if (*c == 'P')
            file->letters |= MAILDIR_FORWARDED;
        else if (*c >= 'a' && *c <= 'z')
            file->letters |= 1u << (*c - 'a');
    }
}

static int list_part(struct mail_files *files, const char *directory, const char *part,
                     const char *folder, const struct maildir *home)
{
    char path[PATH_MAX];
    int rc = mail_path_join(path, directory, part);
    DIR *listing = rc ? NULL : opendir(path);
    if (!listing)
        return rc ? rc : fail_errno("%s", path);
    const struct dirent *entry;
    /* cppcheck-suppress readdirCalled; a stream of one's own is safe */
    while (rc == ERR_OK && (entry = readdir(listing))) {
        char message[PATH_MAX];
        if (entry->d_name[0] == '.' || entry->d_type == DT_DIR)
            continue;
        rc = mail_path_join(message, path, entry->d_name);
        if (rc == ERR_OK)
            rc = mail_files_add(files, message, folder);
        if (rc == ERR_OK) {
            struct mail_file *file = &files->list[files->count - 1];
            file->home = home;
            read_info(file);
            if (strcmp(part, "new") == 0)
                file->system &= ~FLAG_SEEN;
        }
    }
    closedir(listing);
    return rc;
}

static int by_base(const void *a, const void *b)
{
    return compare_bases(base_of(name_of(a)), base_of(name_of(b)));
}

static int by_uid(const void *a, const void *b)
{
    const struct mail_file *x = a;
    const struct mail_file *y = b;
    uint32_t i = x->uid ? x->uid : UINT32_MAX;
    uint32_t j = y->uid ? y->uid : UINT32_MAX;
    return i != j ? (i < j ? -1 : 1) : by_base(a, b);
}

/* A message that moved from `new` to `cur` between the two listings is in both. */
static void drop_twins(struct mail_files *files, size_t first)
{
    size_t kept = first;
    for (size_t i = first; i < files->count; i++) {
        struct mail_file *file = &files->list[i];
        if (kept > first && by_base(&files->list[kept - 1], file) == 0) {
            free(file->path);
            free(file->folder);
            continue;
        }
        files->list[kept++] = *file;
    }
    files->count = kept;
}

/* A line of a file of Dovecot's, without its end; false at the end of the file. */
static bool next_line(FILE *in, char **line, size_t *room)
{
    ssize_t size = getline(line, room, in);
    if (size < 0)
        return false;
    (*line)[strcspn(*line, "\r\n")] = '\0';
    return true;
}

static FILE *open_list(const char *directory, const char *name)
{
    char path[PATH_MAX];
    return mail_path_join(path, directory, name) == ERR_OK ? fopen(path, "re") : NULL;
}

/* "0 NAME": the letter a */
static void read_keywords(struct maildir *home, const char *directory)
{
    FILE *in = open_list(directory, "dovecot-keywords");
    char *line = NULL;
    size_t room = 0;
    while (in && next_line(in, &line, &room)) {
        char *end;
        unsigned long index = strtoul(line, &end, 10);
        if (end != line && *end == ' ' && end[1] && index < 26 && !home->keywords[index])
            home->keywords[index] = strdup(end + 1);
    }
    free(line);
    if (in)
        fclose(in);
}

static uint32_t number(const char *text, char **end)
{
    unsigned long value = strtoul(text, end, 10);
    return value < UINT32_MAX ? (uint32_t)value : 0;
}

static void read_uidlist_head(struct maildir *home, const char *line)
{
    char *end;
    if (strncmp(line, "1 ", 2) == 0) {
        home->uidvalidity = number(line + 2, &end);
        home->uidnext = number(end, &end);
        return;
    }
    const char *validity = strstr(line, " V");
    const char *next = strstr(line, " N");
    home->uidvalidity = validity ? number(validity + 2, &end) : 0;
    home->uidnext = next ? number(next + 2, &end) : 0;
}

static struct mail_file *find_base(struct mail_files *files, size_t first, struct bytes base)
{
    size_t low = first;
    size_t high = files->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = compare_bases(base_of(name_of(&files->list[middle])), base);
        if (order == 0)
            return &files->list[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Version 3: "3 V123 N45 …", then "UID FIELDS :NAME"; version 1: "1 123 45", then "UID NAME". UIDs
 * ascend; one that does not is damage, and its file counts as one without a UID. */
static void read_uidlist(struct mail_files *files, struct maildir *home, const char *directory,
                         size_t first)
{
    FILE *in = open_list(directory, "dovecot-uidlist");
    char *line = NULL;
    size_t room = 0;
    uint32_t last = 0;
    if (in && next_line(in, &line, &room))
        read_uidlist_head(home, line);
    while (in && next_line(in, &line, &room)) {
        char *end;
        uint32_t uid = number(line, &end);
        const char *mark = strstr(end, " :");
        const char *name = mark ? mark + 2 : end + (*end == ' ');
        struct mail_file *file = uid > last ? find_base(files, first, base_of(name)) : NULL;
        if (file && file->uid == 0)
            file->uid = uid;
        last = uid > last ? uid : last;
    }
    free(line);
    if (in)
        fclose(in);
}

/* `new` first: a message may move to `cur` meanwhile, and must not be missed. */
static int list_one(struct mail_files *files, const char *directory, const char *folder)
{
    size_t first = files->count;
    struct maildir *home = calloc(1, sizeof *home);
    if (!home)
        return fail(ERR_NOMEM, "%s: out of memory", directory);
    home->next = files->homes;
    files->homes = home;
    read_keywords(home, directory);
    int rc = list_part(files, directory, "new", folder, home);
    if (rc == ERR_OK)
        rc = list_part(files, directory, "cur", folder, home);
    if (rc || files->count == first)
        return rc;
    qsort(files->list + first, files->count - first, sizeof *files->list, by_base);
    drop_twins(files, first);
    read_uidlist(files, home, directory, first);
    qsort(files->list + first, files->count - first, sizeof *files->list, by_uid);
    return ERR_OK;
}

static int is_subfolder(const struct dirent *entry)
{
    return entry->d_name[0] == '.' && entry->d_name[1] && entry->d_name[1] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* The levels of a folder's name, each with a '/' in front. What is no modified UTF-7 is taken as it
 * is. */
static void put_levels(struct buf *name, const char *from, char separator)
{
    const char end[] = {separator, '\0'};
    for (bool more = *from; more;) {
        struct buf decoded = {0};
        size_t size = strcspn(from, end);
        bool readable = utf7_decode(bytes_of(from, size), &decoded);
        struct bytes level = readable ? buf_view(&decoded) : bytes_of(from, size);
        buf_u8(name, '/');
        buf_put(name, level.data, level.size);
        name->failed = name->failed || decoded.failed;
        buf_free(&decoded);
        more = from[size];
        from += size + more;
    }
}

/* As list_one(), with the levels as put_levels() left them. */
static int list_levels(struct mail_files *files, const char *directory, struct buf *levels)
{
    buf_u8(levels, '\0');
    if (levels->failed)
        return fail(ERR_NOMEM, "%s: out of memory", directory);
    const char *folder = (const char *)levels->data;
    return list_one(files, directory, *folder ? folder + 1 : folder);
}

/* ".A.B" below the folder F is F/A/B. */
static int list_subfolder(struct mail_files *files, const char *directory, const char *name,
                          const char *folder)
{
    char path[PATH_MAX];
    struct buf levels = {0};
    int rc = mail_path_join(path, directory, name);
    if (rc || !maildir_is(path))
        return rc;
    put_levels(&levels, folder, '/');
    put_levels(&levels, name + 1, '.');
    rc = list_levels(files, path, &levels);
    buf_free(&levels);
    return rc;
}

int maildir_list(struct mail_files *files, const char *directory, const char *folder)
{
    struct buf levels = {0};
    struct dirent **names;
    put_levels(&levels, folder, '/');
    int rc = list_levels(files, directory, &levels);
    buf_free(&levels);
    if (rc)
        return rc;
    int count = scandir(directory, &names, is_subfolder, by_name);
    if (count < 0)
        return fail_errno("%s", directory);
    for (int i = 0; i < count; i++) {
        if (rc == ERR_OK)
            rc = list_subfolder(files, directory, names[i]->d_name, folder);
        free(names[i]);
    }
    free(names);
    return rc;
}

/* Takes over the path that the file has now, if its folder's `cur` has it. */
static bool find_again(struct mail_file *file)
{
    char directory[PATH_MAX];
    size_t size = (size_t)(name_of(file) - file->path) - sizeof "/cur/" + 1;
    snprintf(directory, sizeof directory, "%.*s/cur", (int)size, file->path);
    DIR *listing = opendir(directory);
    const struct dirent *entry;
    bool found = false;
    /* cppcheck-suppress readdirCalled; as above */
    while (listing && !found && (entry = readdir(listing))) {
        char path[PATH_MAX];
        if (compare_bases(base_of(entry->d_name), base_of(name_of(file))) != 0 ||
            mail_path_join(path, directory, entry->d_name) != ERR_OK)
            continue;
        char *copy = strdup(path);
        if (!copy)
            break;
        free(file->path);
        file->path = copy;
        read_info(file);
        found = true;
    }
    if (listing)
        closedir(listing);
    return found;
}

/* A pipe or a device would keep us waiting, or never end. What is not there is left to open(). */
static int open_regular(const char *path, struct stream *stream)
{
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return fail(ERR_INVALID, "%s: not a file", path);
    return stream_open(stream, path);
}

int maildir_open(struct mail_file *file, struct stream *stream)
{
    int rc = open_regular(file->path, stream);
    if (rc != ERR_NOTFOUND || !find_again(file))
        return rc;
    return open_regular(file->path, stream);
}

/* A letter without a name, or with one that IMAP does not allow, says nothing. */
int maildir_keywords(const struct mail_file *file, struct flags *flags)
{
    int rc = ERR_OK;
    if (file->letters & MAILDIR_FORWARDED)
        rc = flags_add(flags, "$Forwarded", strlen("$Forwarded"));
    for (size_t i = 0; i < 26 && (rc == ERR_OK || rc == ERR_INVALID); i++) {
        const char *name = file->letters >> i & 1 ? file->home->keywords[i] : NULL;
        if (name && name[0] != '\\')
            rc = flags_add(flags, name, strlen(name));
    }
    return rc == ERR_INVALID ? ERR_OK : rc;
}
