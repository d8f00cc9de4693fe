/* The two halves of `import`, each in a thread of its own: one reads files and prepares messages
 * (hashed and deflated), the other commits them, so that the processor and the disk work at the
 * same time. Between them is one batch at a time.
 */
#ifndef SHIPLOG_TOOLS_IMPORT_H
#define SHIPLOG_TOOLS_IMPORT_H

#include "tools/shiplog/cli.h"

#include <pthread.h>

#define IMPORT_BATCH 256u             /* messages in one commit */
#define IMPORT_BATCH_BYTES (8u << 20) /* deflated bytes of these in memory */

/* How many live messages of a mailbox have each content, less those that were met again. */
struct guid_counts {
    struct guid_count {
        struct guid guid;
        uint32_t count;
        bool used;
    } * slots;
    size_t used;
    size_t capacity; /* a power of two, or 0 */
};

/* A mailbox that messages go to: the one that was named, or one below it for a Maildir's folder. */
struct import_target {
    struct import_target *next;
    char *folder; /* "" at the top */
    uint64_t id;
    struct guid_counts present;
    bool refused;         /* there can be no mailbox for this folder */
    bool warned;          /* that its UIDs are not known */
    uint32_t uidvalidity; /* of the files, whose UIDs are kept; 0: they are not */
    uint32_t uidnext;
};

struct import_message {
    struct import_target *target;
    struct draft *draft;
    uint32_t system;
    struct buf keywords;
    int64_t internal_date;
    uint32_t uid; /* 0: the next */
    bool taken;   /* set by the commit: this UID was given out already */
};

struct import_batch {
    struct import_message messages[IMPORT_BATCH];
    size_t count;
    size_t memory;
};

struct import {
    /* set at the start */
    struct cli *cli;
    struct name name;
    char **paths;
    int path_count;
    bool keep_uids;

    /* of the reading thread, the other's when that has ended */
    struct import_target *targets;
    struct import_batch *filling;
    uint8_t *look; /* the beginning of a message */
    uint64_t skipped;
    uint64_t failed;
    bool left_out; /* something else than messages: UIDs */

    /* of both, under the lock */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct import_batch *ready; /* NULL: none waits for its commit */
    bool ended;                 /* no more will come */
    bool stop;                  /* no more is wanted */
    size_t files_done;
    size_t files_all;
    int rc; /* why reading ended, with its message */
    char message[512];
};

/* Makes the mailbox of a Maildir's folder (or finds it) and learns what is in it. */
int import_target_open(struct import *import, const char *folder, struct import_target **target);
/* Whether the mailbox has one message more of this content than was asked about before. */
bool import_target_has(struct import_target *target, const struct guid *guid);
/* Prepares the mailbox to take the UIDs of files that know theirs by this UIDVALIDITY.
 * ERR_REFUSED. */
int import_target_keep(struct import *import, struct import_target *target, uint32_t uidvalidity,
                       uint32_t uidnext);
void *import_read(void *import);                    /* the reading thread */
void import_batch_free(struct import_batch *batch); /* NULL is fine */
void import_targets_free(struct import *import);

#endif
