#include "tools/mail/internal.h"

#include "base/err.h"
#include "base/times.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define HEADER_LOOK STREAM_AHEAD /* how much of a message is searched for headers */

struct mail_source {
    struct mail_files files;
    size_t at;            /* files that were begun */
    struct stream stream; /* of the last of them */
    uint64_t bytes;       /* of the stream's file when it was opened */
    int64_t written;      /* its modification time */
    bool is_mbox;
    bool begun; /* a message of this file was given */
    bool in_message;
    struct mbox mbox;
    uint64_t index;
    struct flags flags;
};

static int list(struct mail_source *source, const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0)
        return fail_errno("%s", path);
    if (!S_ISDIR(st.st_mode))
        return mail_files_add(&source->files, path, "");
    return maildir_is(path) ? maildir_list(&source->files, path, "")
                            : folder_list(&source->files, path);
}

int mail_source_open(const char *path, struct mail_source **out)
{
    *out = NULL;
    struct mail_source *source = calloc(1, sizeof *source);
    if (!source)
        return fail(ERR_NOMEM, "%s: out of memory", path);
    int rc = list(source, path);
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
    stream_close(&source->stream);
    mail_files_free(&source->files);
    flags_free(&source->flags);
    free(source);
}

static void close_file(struct mail_source *source)
{
    stream_close(&source->stream);
    source->is_mbox = false;
    source->begun = false;
    source->in_message = false;
}

int mail_source_read(struct mail_source *source, void *to, size_t size, size_t *got)
{
    *got = 0;
    if (!source->in_message || size == 0)
        return ERR_OK;
    int rc;
    if (source->is_mbox) {
        rc = mbox_read(&source->mbox, to, size, got);
    } else {
        rc = stream_fill(&source->stream, 1);
        struct bytes view = stream_view(&source->stream);
        *got = view.size < size ? view.size : size;
        memcpy(to, view.data, *got);
        stream_take(&source->stream, *got);
    }
    if (rc)
        close_file(source);
    else if (*got == 0)
        source->in_message = false;
    return rc;
}

static int open_file(struct mail_source *source)
{
    struct mail_file *file = &source->files.list[source->at++];
    struct stat st;
    int rc =
        file->home ? maildir_open(file, &source->stream) : stream_open(&source->stream, file->path);
    if (rc)
        return rc;
    if (fstat(source->stream.fd, &st) != 0)
        return fail_errno("%s", file->path);
    source->bytes = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
    source->written = (int64_t)st.st_mtim.tv_sec * TIMES_SECOND + st.st_mtim.tv_nsec / 1000;
    source->index = 0;
    rc = stream_fill(&source->stream, HEADER_LOOK);
    int64_t date;
    source->is_mbox = !file->home && mbox_separator(stream_view(&source->stream), &date) > 0;
    return rc;
}

static int describe_maildir(struct mail_source *source, struct mail_item *item)
{
    const struct mail_file *file = &source->files.list[source->at - 1];
    item->system = file->system;
    item->uid = file->uid;
    item->uidvalidity = file->home->uidvalidity;
    item->uidnext = file->home->uidnext;
    item->size_hint = source->bytes;
    int rc = maildir_keywords(file, &source->flags);
    item->keywords = buf_view(&source->flags.keywords);
    return rc;
}

/* The stream stands at a separator. */
static int describe_mbox(struct mail_source *source, struct mail_item *item)
{
    int rc = stream_fill(&source->stream, HEADER_LOOK);
    size_t size = mbox_separator(stream_view(&source->stream), &item->internal_date);
    stream_take(&source->stream, size);
    source->mbox = (struct mbox){.in = &source->stream};
    item->index = ++source->index;
    item->system = headers_status(stream_view(&source->stream));
    return rc;
}

/* The item of the message that the stream stands before. */
static int describe(struct mail_source *source, struct mail_item *item)
{
    const struct mail_file *file = &source->files.list[source->at - 1];
    flags_free(&source->flags);
    *item = (struct mail_item){
        .path = file->path, .folder = file->folder, .internal_date = source->written};
    source->begun = true;
    source->in_message = true;
    if (file->home)
        return describe_maildir(source, item);
    if (source->is_mbox)
        return describe_mbox(source, item);
    item->size_hint = source->bytes;
    item->internal_date = headers_date(stream_view(&source->stream), source->written);
    return ERR_OK;
}

/* Whoever takes the next item need not have read this one to its end. */
static int skip_rest(struct mail_source *source)
{
    uint8_t drop[4096];
    size_t got;
    int rc = ERR_OK;
    while (source->in_message && rc == ERR_OK)
        rc = mail_source_read(source, drop, sizeof drop, &got);
    return rc;
}

/* An mbox has a message wherever its separator is, a Maildir's file is one even when it is empty.
 * Another empty file is an mbox without messages. */
static bool at_message(const struct mail_source *source)
{
    if (!source->stream.data || (source->begun && !source->is_mbox))
        return false;
    bool in_maildir = source->files.list[source->at - 1].home != NULL;
    return in_maildir || stream_view(&source->stream).size > 0;
}

int mail_source_next(struct mail_source *source, struct mail_item *item)
{
    int rc = skip_rest(source);
    while (rc == ERR_OK && !at_message(source)) {
        close_file(source);
        if (source->at == source->files.count)
            return ERR_END;
        rc = open_file(source);
    }
    if (rc == ERR_OK)
        rc = describe(source, item);
    if (rc)
        close_file(source);
    return rc;
}

void mail_source_progress(const struct mail_source *source, size_t *done, size_t *all)
{
    *done = source->at;
    *all = source->files.count;
}
