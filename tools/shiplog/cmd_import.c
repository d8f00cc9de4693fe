/* import: mail from files. Here the batches that tools/shiplog/import_read.c prepares are
 * committed.
 *
 * A message is skipped when the mailbox has one of the same content that no other file was matched
 * with; so an import that was cut off can be run again. */
#include "base/err.h"
#include "tools/shiplog/import.h"
#include "tools/shiplog/progress.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int append_message(struct mailbox *mailbox, struct import_message *message)
{
    const struct import_target *target = message->target;
    const struct facts *facts = &mailbox_header(mailbox)->facts;
    struct append append = {
        .draft = message->draft,
        .system = message->system,
        .keywords = buf_view(&message->keywords),
        .internal_date = message->internal_date,
        .uid = message->uid,
    };
    int rc = ERR_OK;
    message->taken = message->uid && message->uid < facts->uidnext;
    if (message->taken)
        return ERR_OK;
    /* A file without a UID comes behind all those that have one, at home too. */
    if (!message->uid && facts->uidnext < target->uidnext)
        rc = mailbox_set_uids(mailbox, facts->uidvalidity, target->uidnext);
    return rc ? rc : mailbox_append(mailbox, &append, NULL);
}

static int commit_batch(struct tx *tx, void *arg)
{
    struct import_batch *batch = arg;
    const struct import_target *target = NULL;
    struct mailbox *mailbox = NULL;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < batch->count; i++) {
        struct import_message *message = &batch->messages[i];
        if (!mailbox || message->target != target) {
            target = message->target;
            rc = mailbox_open_id(tx, target->id, NULL, &mailbox);
        }
        if (rc == ERR_OK)
            rc = append_message(mailbox, message);
    }
    return rc;
}

static void count_batch(const struct import_batch *batch, uint64_t *imported, uint64_t *failed)
{
    for (size_t i = 0; i < batch->count; i++) {
        const struct import_message *message = &batch->messages[i];
        if (message->taken)
            progress_line("UID %u: the mailbox has given it out already", message->uid);
        *imported += !message->taken;
        *failed += message->taken;
    }
}

/* The next batch, or NULL when there are no more. */
static struct import_batch *take_batch(struct import *import, uint64_t imported)
{
    pthread_mutex_lock(&import->lock);
    while (!import->ready && !import->ended)
        pthread_cond_wait(&import->changed, &import->lock);
    struct import_batch *batch = import->ready;
    import->ready = NULL;
    pthread_cond_broadcast(&import->changed);
    progress_show("import: %zu of %zu files, %llu messages", import->files_done, import->files_all,
                  (unsigned long long)imported);
    pthread_mutex_unlock(&import->lock);
    return batch;
}

static void stop_reading(struct import *import)
{
    pthread_mutex_lock(&import->lock);
    import->stop = true;
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->lock);
}

static int commit_all(struct import *import, uint64_t *imported, uint64_t *failed)
{
    struct import_batch *batch;
    int rc = ERR_OK;
    while (rc == ERR_OK && (batch = take_batch(import, *imported))) {
        rc = store_commit(import->cli->store, commit_batch, batch, NULL);
        if (rc == ERR_OK)
            count_batch(batch, imported, failed);
        import_batch_free(batch);
    }
    return rc;
}

static int run_both(struct import *import, uint64_t *imported, uint64_t *failed)
{
    pthread_t reading;
    int error = pthread_create(&reading, NULL, import_read, import);
    if (error) {
        errno = error;
        return fail_errno("a thread to read with");
    }
    int rc = commit_all(import, imported, failed);
    stop_reading(import);
    pthread_join(reading, NULL);
    import_batch_free(import->ready);
    if (rc == ERR_OK && import->rc)
        rc = fail(import->rc, "%s", import->message);
    return rc;
}

static int raise_uidnext(struct tx *tx, void *arg)
{
    const struct import_target *target = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open_id(tx, target->id, NULL, &mailbox);
    if (rc)
        return rc;
    const struct facts *facts = &mailbox_header(mailbox)->facts;
    return facts->uidnext < target->uidnext
               ? mailbox_set_uids(mailbox, facts->uidvalidity, target->uidnext)
               : ERR_OK;
}

static int import_all(struct import *import, uint64_t *imported, uint64_t *failed)
{
    struct import_target *top;
    int rc = import_target_open(import, "", &top);
    if (rc == ERR_OK)
        rc = run_both(import, imported, failed);
    for (struct import_target *target = import->targets; rc == ERR_OK && target;
         target = target->next)
        if (target->uidvalidity)
            rc = store_commit(import->cli->store, raise_uidnext, target, NULL);
    progress_end();
    return rc;
}

/* A path that is not there is a mistake of whoever typed it: nothing is done then. */
static int find_paths(const struct import *import)
{
    struct stat status;
    for (int i = 0; i < import->path_count; i++)
        if (stat(import->paths[i], &status) != 0)
            return fail_errno("%s", import->paths[i]);
    return ERR_OK;
}

static int find_name(struct tx *tx, void *arg)
{
    struct import *import = arg;
    return cli_name_of(tx, import->cli, import->cli->words[0], &import->name);
}

int cmd_import(struct cli *cli)
{
    struct option options[] = {{"--keep-uids", false, NULL}};
    struct import import = {
        .cli = cli, .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    uint64_t imported = 0;
    uint64_t failed = 0;
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK)
        rc = store_read(cli->store, find_name, &import);
    if (rc)
        return rc;
    import.keep_uids = options[0].value;
    import.paths = cli->words + 1;
    import.path_count = cli->count - 1;
    rc = find_paths(&import);
    if (rc == ERR_OK)
        rc = import_all(&import, &imported, &failed);
    failed += import.failed;
    import_targets_free(&import);
    if (rc)
        return rc;
    out_number(cli->out, "imported", imported);
    out_number(cli->out, "skipped", import.skipped);
    out_number(cli->out, "failed", failed);
    out_end(cli->out);
    return failed || import.left_out ? ERR_NO : ERR_OK;
}
