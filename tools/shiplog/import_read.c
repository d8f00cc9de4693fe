/* The reading half of `import`: files in, batches of prepared messages out. */
#include "base/err.h"
#include "tools/mail/source.h"
#include "tools/shiplog/import.h"
#include "tools/shiplog/progress.h"

#include <stdio.h>
#include <stdlib.h>

/* A message up to this size is hashed before anything else is done with it: one that the mailbox
 * has already costs no more than that. */
#define LOOK_SIZE (1u << 20)
#define PIECE (64u << 10)

void import_batch_free(struct import_batch *batch)
{
    if (!batch)
        return;
    for (size_t i = 0; i < batch->count; i++) {
        draft_close(batch->messages[i].draft);
        buf_free(&batch->messages[i].keywords);
    }
    free(batch);
}

/* Hands the batch over as soon as the one before was taken. ERR_END: no more is wanted. */
static int hand_over(struct import *import)
{
    struct import_batch *next = calloc(1, sizeof *next);
    if (!next)
        return fail(ERR_NOMEM, "out of memory");
    pthread_mutex_lock(&import->lock);
    while (import->ready && !import->stop)
        pthread_cond_wait(&import->changed, &import->lock);
    bool stop = import->stop;
    if (!stop) {
        import->ready = import->filling;
        import->filling = next;
        pthread_cond_broadcast(&import->changed);
    }
    pthread_mutex_unlock(&import->lock);
    if (stop)
        free(next);
    return stop ? ERR_END : ERR_OK;
}

static int leave_out(struct import *import)
{
    import->failed++;
    progress_line("%s", err_message());
    return ERR_OK;
}

/* A message that is being read: its beginning, and whether that is all of it. */
struct incoming {
    struct mail_source *source;
    size_t size;
    bool whole;
    bool unreadable; /* the failure is the file's, not ours */
};

static int read_beginning(struct import *import, struct incoming *in)
{
    size_t got = 1;
    while (in->size < LOOK_SIZE && got) {
        int rc = mail_source_read(in->source, import->look + in->size, LOOK_SIZE - in->size, &got);
        in->unreadable = rc != ERR_OK;
        if (rc)
            return rc;
        in->size += got;
    }
    in->whole = got == 0;
    return ERR_OK;
}

static int hash_beginning(const struct import *import, const struct incoming *in, struct guid *guid)
{
    struct guid_hash *hash = hash_guid_start();
    if (!hash)
        return fail(ERR_NOMEM, "out of memory");
    hash_guid_update(hash, import->look, in->size);
    hash_guid_finish(hash, guid);
    return ERR_OK;
}

static int fill_draft(struct import *import, struct incoming *in, struct draft *draft)
{
    size_t got = in->size;
    int rc = ERR_OK;
    while (rc == ERR_OK && got) {
        rc = draft_write(draft, import->look, got);
        got = 0;
        if (rc == ERR_OK && !in->whole) {
            rc = mail_source_read(in->source, import->look, PIECE, &got);
            in->unreadable = rc != ERR_OK;
        }
    }
    return rc ? rc : draft_finish(draft);
}

/* Sets *out to NULL when the mailbox has the message already. */
static int prepare(struct import *import, struct import_target *target, struct incoming *in,
                   struct draft **out)
{
    struct guid guid;
    struct draft *draft;
    *out = NULL;
    int rc = read_beginning(import, in);
    if (rc == ERR_OK && in->whole)
        rc = hash_beginning(import, in, &guid);
    if (rc || (in->whole && import_target_has(target, &guid)))
        return rc;
    rc = draft_open(store_db(import->cli->store), DRAFT_RAW, &draft);
    if (rc)
        return rc;
    rc = fill_draft(import, in, draft);
    if (rc || (!in->whole && import_target_has(target, draft_guid(draft)))) {
        draft_close(draft);
        return rc;
    }
    *out = draft;
    return ERR_OK;
}

static int add_message(struct import *import, struct import_target *target,
                       const struct mail_item *item, struct draft *draft)
{
    struct import_batch *batch = import->filling;
    struct import_message *message = &batch->messages[batch->count++];
    *message = (struct import_message){
        .target = target,
        .draft = draft,
        .system = item->system,
        .internal_date = item->internal_date,
        .uid = target->uidvalidity ? item->uid : 0,
    };
    buf_put(&message->keywords, item->keywords.data, item->keywords.size);
    batch->memory += draft_memory(draft);
    if (message->keywords.failed)
        return fail(ERR_NOMEM, "out of memory");
    bool full = batch->count == IMPORT_BATCH || batch->memory >= IMPORT_BATCH_BYTES;
    return full ? hand_over(import) : ERR_OK;
}

static int settle_uids(struct import *import, struct import_target *target,
                       const struct mail_item *item)
{
    if (!import->keep_uids || target->refused)
        return ERR_OK;
    if (item->uidvalidity)
        return import_target_keep(import, target, item->uidvalidity, item->uidnext);
    if (!target->warned)
        progress_line("%s: no dovecot-uidlist, so there are no UIDs to keep", item->path);
    target->warned = true;
    import->left_out = true;
    return ERR_OK;
}

static int read_item(struct import *import, struct mail_source *source,
                     const struct mail_item *item)
{
    struct incoming in = {.source = source};
    struct import_target *target;
    struct draft *draft;
    int rc = import_target_open(import, item->folder, &target);
    if (rc == ERR_OK)
        rc = settle_uids(import, target, item);
    if (rc)
        return rc;
    if (target->refused) {
        import->failed++;
        return ERR_OK;
    }
    rc = prepare(import, target, &in, &draft);
    if (rc)
        return in.unreadable && rc != ERR_NOMEM ? leave_out(import) : rc;
    if (draft)
        return add_message(import, target, item, draft);
    import->skipped++;
    return ERR_OK;
}

static void note_progress(struct import *import, const struct mail_source *source, size_t before)
{
    size_t done, all;
    mail_source_progress(source, &done, &all);
    pthread_mutex_lock(&import->lock);
    import->files_done = before + done;
    import->files_all = before + all;
    pthread_mutex_unlock(&import->lock);
}

static bool is_stopped(struct import *import)
{
    pthread_mutex_lock(&import->lock);
    bool stop = import->stop;
    pthread_mutex_unlock(&import->lock);
    return stop;
}

static int read_messages(struct import *import, struct mail_source *source)
{
    size_t before = import->files_all;
    while (!is_stopped(import)) {
        struct mail_item item;
        int rc = mail_source_next(source, &item);
        if (rc == ERR_END)
            break;
        if (rc == ERR_OK)
            rc = read_item(import, source, &item);
        else if (rc != ERR_NOMEM)
            rc = leave_out(import);
        if (rc)
            return rc;
        note_progress(import, source, before);
    }
    return ERR_OK;
}

static int read_path(struct import *import, const char *path)
{
    struct mail_source *source;
    int rc = mail_source_open(path, &source);
    if (rc)
        return rc == ERR_NOMEM ? rc : leave_out(import);
    rc = read_messages(import, source);
    mail_source_close(source);
    return rc;
}

static int read_all(struct import *import)
{
    import->look = malloc(LOOK_SIZE);
    import->filling = calloc(1, sizeof *import->filling);
    int rc = import->look && import->filling ? ERR_OK : fail(ERR_NOMEM, "out of memory");
    for (int i = 0; rc == ERR_OK && i < import->path_count; i++)
        rc = read_path(import, import->paths[i]);
    if (rc == ERR_OK && import->filling->count)
        rc = hand_over(import);
    free(import->look);
    import_batch_free(import->filling);
    return rc;
}

void *import_read(void *arg)
{
    struct import *import = arg;
    int rc = read_all(import);
    pthread_mutex_lock(&import->lock);
    import->ended = true;
    import->rc = rc == ERR_END ? ERR_OK : rc;
    snprintf(import->message, sizeof import->message, "%s", err_message());
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->lock);
    return NULL;
}
