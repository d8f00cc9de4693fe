/* Mail that goes to files: a new Maildir or a new mbox, one message after another, each in pieces.
 *
 * Reading them back with tools/mail/source.h gives the same bytes, with one exception: an mbox
 * cannot tell whether a message's last line had an end, so one is added where it is missing (LF; an
 * empty message stays empty). An mbox (mboxrd: lines like "From " get a `>` in front) keeps the
 * internal date to the second, and no flags: they would have to go into the message's bytes. A
 * Maildir keeps flags in file names, the names of keywords in dovecot-keywords, the internal date
 * as the file's time, and UIDs in dovecot-uidlist.
 *
 * Nothing that exists is added to or overwritten. A message appears in a Maildir when it is
 * complete; what is left of one that was not goes away with mail_sink_cancel() or
 * mail_sink_close().
 */
#ifndef SHIPLOG_TOOLS_MAIL_SINK_H
#define SHIPLOG_TOOLS_MAIL_SINK_H

#include "tools/mail/source.h"

#include <stdbool.h>

enum mail_format { MAIL_MAILDIR, MAIL_MBOX };

struct mail_sink_options {
    enum mail_format format;
    bool sync; /* what was written is on the disk when mail_sink_finish() returns */
    /* Maildir only. With a UIDVALIDITY, dovecot-uidlist is written (items then bring UIDs). */
    uint32_t uidvalidity;
    uint32_t uidnext;
    /* Maildir only: the time in the files' names; 0: now, with the process's number. For trees that
     * must come out the same every time. */
    int64_t named_at;
};

struct mail_sink;

/* `path` becomes a Maildir (it may be an empty directory already) or an mbox file. ERR_EXISTS. */
int mail_sink_open(const char *path, const struct mail_sink_options *options,
                   struct mail_sink **sink);
/* Begins a message. Of the item are used: system, keywords, internal_date, uid. A Maildir has
 * letters for 26 keywords beside $Forwarded; see mail_sink_keywords_lost(). */
int mail_sink_begin(struct mail_sink *sink, const struct mail_item *item);
int mail_sink_write(struct mail_sink *sink, const void *data, size_t size);
int mail_sink_end(struct mail_sink *sink);
/* Forgets the message that was begun; the next one may follow. After a failure of begin, write or
 * end, too. */
int mail_sink_cancel(struct mail_sink *sink);
/* Writes what concerns all messages. Nothing may follow but mail_sink_close(). */
int mail_sink_finish(struct mail_sink *sink);
/* How many times a message's keyword could not be written, for want of letters. */
uint64_t mail_sink_keywords_lost(const struct mail_sink *sink);
void mail_sink_close(struct mail_sink *sink); /* NULL is fine */

#endif
