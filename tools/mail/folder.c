/* A folder of files, and the list that every kind of folder is turned into. */
#include "tools/mail/internal.h"

#include "base/array.h"
#include "base/err.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 32

int mail_path_join(char out[PATH_MAX], const char *directory, const char *name)
{
    int size = snprintf(out, PATH_MAX, "%s/%s", directory, name);
    return size < PATH_MAX ? ERR_OK : fail(ERR_INVALID, "%s/%s: path too long", directory, name);
}

int mail_files_add(struct mail_files *files, const char *path, const char *folder)
{
    struct mail_file *room = array_room(files->list, files->count, &files->capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    files->list = room;
    struct mail_file *file = &room[files->count];
    *file = (struct mail_file){.path = strdup(path), .folder = strdup(folder)};
    if (!file->path || !file->folder) {
        free(file->path);
        free(file->folder);
        return fail(ERR_NOMEM, "%s: out of memory", path);
    }
    files->count++;
    return ERR_OK;
}

void mail_files_free(struct mail_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->list[i].path);
        free(files->list[i].folder);
    }
    free(files->list);
    while (files->homes) {
        struct maildir *home = files->homes;
        files->homes = home->next;
        for (size_t i = 0; i < 26; i++)
            free(home->keywords[i]);
        free(home);
    }
    *files = (struct mail_files){0};
}

static int visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* As bytes: the same order under every locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int list_level(struct mail_files *files, const char *root, const char *directory, int depth);

/* A link to a folder is not followed, as it may lead into a circle; what is neither a file nor a
 * folder holds no mail. A Maildir inside is one: its lists are no messages. */
static int list_entry(struct mail_files *files, const char *root, const char *path, int depth)
{
    struct stat st;
    if (stat(path, &st) != 0 || S_ISREG(st.st_mode))
        return mail_files_add(files, path, ""); /* a broken link shows when it is opened */
    if (!S_ISDIR(st.st_mode) || lstat(path, &st) != 0 || S_ISLNK(st.st_mode))
        return ERR_OK;
    if (maildir_is(path))
        return maildir_list(files, path, path + strlen(root) + 1);
    return list_level(files, root, path, depth + 1);
}

static int list_level(struct mail_files *files, const char *root, const char *directory, int depth)
{
    if (depth > DEPTH_MAX)
        return fail(ERR_INVALID, "%s: more than %d folders deep", directory, DEPTH_MAX);
    struct dirent **names;
    int count = scandir(directory, &names, visible, by_name);
    if (count < 0)
        return fail_errno("%s", directory);
    int rc = ERR_OK;
    for (int i = 0; i < count; i++) {
        char path[PATH_MAX];
        if (rc == ERR_OK)
            rc = mail_path_join(path, directory, names[i]->d_name);
        if (rc == ERR_OK)
            rc = list_entry(files, root, path, depth);
        free(names[i]);
    }
    free(names);
    return rc;
}

int folder_list(struct mail_files *files, const char *directory)
{
    return list_level(files, directory, directory, 0);
}
