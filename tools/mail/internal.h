/* What the kinds of mail sources share: files in order, a buffered stream, headers. Private to
 * tools/mail. */
#ifndef SHIPLOG_TOOLS_MAIL_INTERNAL_H
#define SHIPLOG_TOOLS_MAIL_INTERNAL_H

#include "tools/mail/source.h"

#include <limits.h>

/* A file read through one buffer of fixed size, with a view ahead. */
struct stream {
    int fd;
    const char *path; /* for messages; the caller's */
    uint8_t *data;
    size_t at;
    size_t end;
    uint64_t taken; /* bytes consumed since the start */
    bool ended;
};

#define STREAM_AHEAD 65536u /* the most that stream_fill() can be asked for */

int stream_open(struct stream *stream, const char *path);
void stream_close(struct stream *stream); /* a zeroed one is fine */
/* Makes `want` bytes visible, or all that are left when there are fewer. */
int stream_fill(struct stream *stream, size_t want);
struct bytes stream_view(const struct stream *stream);
void stream_take(struct stream *stream, size_t size); /* passes over bytes of the view */

/* One file to read. */
struct mail_file {
    char *path;
    char *folder;
    uint32_t system;
    uint32_t letters; /* letters a to z of a Maildir name, as bits, and MAILDIR_FORWARDED */
    uint32_t uid;
    const struct maildir *home; /* NULL: in no Maildir */
};

#define MAILDIR_FORWARDED (1u << 26)

/* What Dovecot's files tell of one Maildir folder. */
struct maildir {
    struct maildir *next;
    uint32_t uidvalidity;
    uint32_t uidnext;
    char *keywords[26];
};

/* Files in the order of reading. */
struct mail_files {
    struct mail_file *list;
    size_t count;
    size_t capacity;
    struct maildir *homes;
};

int mail_files_add(struct mail_files *files, const char *path, const char *folder);
void mail_files_free(struct mail_files *files);
int mail_path_join(char out[PATH_MAX], const char *directory, const char *name);

/* folder.c */
int folder_list(struct mail_files *files, const char *directory);

/* maildir.c */
bool maildir_is(const char *directory);
/* The Maildir with its Maildir++ subfolders, as the folder `folder` ("" at the top, else a path
 * whose levels are named as those of subfolders are). */
int maildir_list(struct mail_files *files, const char *directory, const char *folder);
/* Opens a file that may have been moved or renamed since it was listed. */
int maildir_open(struct mail_file *file, struct stream *stream);
int maildir_keywords(const struct mail_file *file, struct flags *flags);

/* utf7.c */
/* Appends the text in UTF-8 to `out`. False: not modified UTF-7 in its one right form, or it stands
 * for a '/' or a control character, or no memory (out->failed); what `out` holds then means
 * nothing. */
bool utf7_decode(struct bytes text, struct buf *out);

/* mbox.c */
struct mbox {
    struct stream *in;
    enum { MBOX_LINE_START, MBOX_QUOTES, MBOX_LINE, MBOX_END } state;
    size_t run; /* bytes of the view that belong to the message as they are */
    bool owed;  /* a '>' that was taken off and turned out to be the message's */
};
/* Size of the "From " line that the text begins with, 0: none. `date` is set when there is one. */
size_t mbox_separator(struct bytes text, int64_t *date);
/* Bytes of the message that the stream stands in; *got 0 at its end, where the stream stands at
 * the next separator or the end of the file. */
int mbox_read(struct mbox *mbox, uint8_t *to, size_t size, size_t *got);

/* headers.c; `head` is the beginning of a message */
int64_t headers_date(struct bytes head, int64_t otherwise);
uint32_t headers_status(struct bytes head); /* FLAG_… of Status and X-Status */

#endif
