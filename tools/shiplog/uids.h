/* UIDSETs of the command line, and changes to many messages in bounded commits. */
#ifndef SHIPLOG_TOOLS_UIDS_H
#define SHIPLOG_TOOLS_UIDS_H

#include "tools/shiplog/cli.h"

/* A UIDSET against the mailbox that is called `name`: `*` is its highest live UID (with `dead`: its
 * highest ever). ERR_NOTFOUND: a part that is one UID names no live message (with `dead`: no
 * record). */
int uids_parse(struct mailbox *mailbox, const char *name, const char *text, bool dead,
               struct uidset *uids);
/* The error for a single UID that names no message. */
int uids_none(const char *mailbox, uint32_t uid);

/* A change to the live messages that a UIDSET names. What it names is settled in the first commit:
 * messages that come in meanwhile, a copy's own among them, are not touched. */
struct uid_work {
    const char *mailbox;
    const char *user; /* NULL: the owner */
    const char *uids;
    unsigned share; /* records of a commit's budget that one message takes; 0 means 1 */
    int (*change)(struct tx *tx, struct mailbox *mailbox, const struct uidset *uids, void *arg);
    void (*done)(void *arg); /* after each commit; may be NULL */
    void *arg;
};
/* Commits about MAILBOX_COMMIT_RECORDS records at a time. ERR_NOTFOUND when a part of the
 * set is a single UID that is not live: nothing is changed then. */
int uids_change(struct cli *cli, const struct uid_work *work);

#endif
