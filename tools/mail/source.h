/* Mail that comes from files: mbox, Maildir, single messages and folders of them, one message after
 * another.
 *
 * What a path is, is found out by looking: a folder with `cur` and `new` is a Maildir (with
 * Maildir++ subfolders), any other folder is searched for files and Maildirs, a file that begins
 * with a "From " line is an mbox (mboxrd: one `>` is taken off lines like ">From "), any other file
 * is one message. Bytes are given as they are, line ends too. Memory is bounded whatever a
 * message's size. A Maildir may be in use meanwhile.
 *
 * The names of Maildirs' folders are read as modified UTF-7 (RFC 3501, section 5.1.3), level by
 * level. A level that is none, or would hold a '/' or a control character, keeps its bytes.
 */
#ifndef SHIPLOG_TOOLS_MAIL_SOURCE_H
#define SHIPLOG_TOOLS_MAIL_SOURCE_H

#include "base/bytes.h"
#include "mailbox/flags.h"

struct mail_source;

struct mail_item {
    const char *path;
    uint64_t index;     /* of the message in an mbox, from 1; else 0 */
    const char *folder; /* Maildir++ subfolder "A/B", or where a Maildir was found; "" at the top */
    uint32_t system;    /* FLAG_… */
    struct bytes keywords;
    int64_t internal_date; /* a Maildir's file time, an mbox's separator, else the headers' date */
    uint32_t uid;          /* by dovecot-uidlist; 0: unknown */
    uint32_t uidvalidity;  /* of its folder, likewise */
    uint32_t uidnext;
    uint64_t size_hint; /* of the message, 0: unknown; the file may be written to meanwhile */
};

int mail_source_open(const char *path, struct mail_source **source); /* ERR_NOTFOUND, … */
void mail_source_close(struct mail_source *source);                  /* NULL is fine */
/* ERR_OK: an item, valid until the next call; ERR_END: no more. Else this file could not be read
 * (err_message() names it): call again to go on. */
int mail_source_next(struct mail_source *source, struct mail_item *item);
/* The item's bytes in pieces; *got 0 at its end. After a failure the file is over. */
int mail_source_read(struct mail_source *source, void *to, size_t size, size_t *got);
/* For a progress display: files looked at, and files in all. */
void mail_source_progress(const struct mail_source *source, size_t *done, size_t *all);

#endif
