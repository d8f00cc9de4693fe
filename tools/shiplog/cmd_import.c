/* import: messages from files into mailboxes.
 *
 * One thread reads, hashes and deflates, the other commits in batches, so that the processor and
 * the disk work at the same time. Messages that a mailbox has already, by GUID and as often as it
 * has them, are skipped: an import that was cut off is run again.
 */
#include "base/err.h"
#include "tools/mail/source.h"
#include "tools/shiplog/cli.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BATCH_MESSAGES 256u
#define BATCH_BYTES (4u << 20) /* deflated, in memory */
#define PIECE 65536u

/* A message that was read, or why it could not be. */
struct arrival {
    struct arrival *next;
    struct draft *draft; /* NULL: `problem` says why */
    char *problem;
    char *folder;
    struct buf keywords;
    uint32_t system;
    int64_t internal_date;
    uint32_t uid;
    uint32_t uidvalidity;
    uint32_t uidnext;
    struct target *target;
};

/* A mailbox that is imported into, and the messages that it has already. */
struct target {
    struct target *next;
    char *folder;
    struct name name;
    uint64_t id;
    uint32_t uidvalidity; /* to be kept; 0: none */
    struct guid *have;    /* sorted */
    bool *used;           /* of each of these */
    size_t count;
};

struct import {
    struct cli *cli;
    struct name name;
    bool keep_uids;
    struct target *targets;
    struct arrival *batch;
    struct arrival **batch_end;
    size_t batch_messages;
    size_t batch_bytes;
    uint64_t imported, skipped, failed;
    size_t done, all; /* files of the path under way */
    bool terminal;
    /* Between the two threads: at most two batches wait. */
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct arrival *queue;
    struct arrival **queue_end;
    size_t queued;
    size_t queued_bytes;
    bool finished; /* the reader is */
    bool give_up;  /* the writer has */
};

static void arrival_free(struct arrival *arrival)
{
    draft_close(arrival->draft);
    free(arrival->problem);
    free(arrival->folder);
    buf_free(&arrival->keywords);
    free(arrival);
}

static int read_message(struct import *import, struct mail_source *source, struct arrival *arrival)
{
    uint8_t piece[PIECE];
    size_t got = 1;
    int rc = draft_open(store_db(import->cli->store), DRAFT_RAW, &arrival->draft);
    while (rc == ERR_OK && got) {
        rc = mail_source_read(source, piece, sizeof piece, &got);
        if (rc == ERR_OK)
            rc = draft_write(arrival->draft, piece, got);
    }
    return rc ? rc : draft_finish(arrival->draft);
}

static struct arrival *arrival_of(struct import *import, struct mail_source *source,
                                  const struct mail_item *item, int rc)
{
    struct arrival *arrival = calloc(1, sizeof *arrival);
    if (!arrival)
        return NULL;
    if (rc == ERR_OK) {
        arrival->folder = strdup(item->folder);
        arrival->system = item->system;
        arrival->internal_date = item->internal_date;
        arrival->uid = item->uid;
        arrival->uidvalidity = item->uidvalidity;
        arrival->uidnext = item->uidnext;
        buf_put(&arrival->keywords, item->keywords.data, item->keywords.size);
        rc = read_message(import, source, arrival);
    }
    if (rc) {
        draft_close(arrival->draft);
        arrival->draft = NULL;
        arrival->problem = strdup(err_message());
    }
    return arrival;
}

/* Waits while enough is waiting. False: the writer has given up. */
static bool enqueue(struct import *import, struct arrival *arrival)
{
    size_t bytes = arrival->draft ? draft_memory(arrival->draft) : 0;
    pthread_mutex_lock(&import->mutex);
    while (!import->give_up &&
           (import->queued >= 2 * BATCH_MESSAGES || import->queued_bytes >= 2 * BATCH_BYTES))
        pthread_cond_wait(&import->changed, &import->mutex);
    bool taken = !import->give_up;
    if (taken) {
        *import->queue_end = arrival;
        import->queue_end = &arrival->next;
        import->queued++;
        import->queued_bytes += bytes;
    }
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->mutex);
    return taken;
}

static bool read_path(struct import *import, const char *path)
{
    struct mail_source *source;
    struct mail_item item = {0};
    int rc = mail_source_open(path, &source);
    if (rc) {
        struct arrival *arrival = arrival_of(import, NULL, &item, rc);
        bool taken = arrival && enqueue(import, arrival);
        if (arrival && !taken)
            arrival_free(arrival);
        return taken;
    }
    bool going = true;
    while (going && (rc = mail_source_next(source, &item)) != ERR_END) {
        struct arrival *arrival = arrival_of(import, source, &item, rc);
        going = arrival && enqueue(import, arrival);
        if (arrival && !going)
            arrival_free(arrival);
        pthread_mutex_lock(&import->mutex);
        mail_source_progress(source, &import->done, &import->all);
        pthread_mutex_unlock(&import->mutex);
    }
    mail_source_close(source);
    return going;
}

static void *reader(void *arg)
{
    struct import *import = arg;
    for (int i = 1; i < import->cli->count && read_path(import, import->cli->words[i]); i++)
        continue;
    pthread_mutex_lock(&import->mutex);
    import->finished = true;
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->mutex);
    return NULL;
}

/* NULL: there will be no more. */
static struct arrival *dequeue(struct import *import)
{
    pthread_mutex_lock(&import->mutex);
    while (!import->queue && !import->finished)
        pthread_cond_wait(&import->changed, &import->mutex);
    struct arrival *arrival = import->queue;
    if (arrival) {
        import->queue = arrival->next;
        if (!import->queue)
            import->queue_end = &import->queue;
        arrival->next = NULL;
        import->queued--;
        import->queued_bytes -= arrival->draft ? draft_memory(arrival->draft) : 0;
    }
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->mutex);
    return arrival;
}

static int compare_guids(const void *a, const void *b)
{
    return guid_compare(a, b);
}

/* Which messages the mailbox has: by GUID, each once. */
static int load_target(struct import *import, struct target *target)
{
    struct view *view;
    const struct record *records;
    int rc = view_open(import->cli->store, target->id, &view);
    if (rc)
        return rc;
    rc = view_records(view, NULL, &records, &target->count);
    target->have = calloc(target->count + 1, sizeof *target->have);
    target->used = calloc(target->count + 1, sizeof *target->used);
    if (rc == ERR_OK && (!target->have || !target->used))
        rc = fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < target->count && rc == ERR_OK; i++)
        target->have[i] = records[i].guid;
    if (rc == ERR_OK && target->count)
        qsort(target->have, target->count, sizeof *target->have, compare_guids);
    view_close(view);
    return rc;
}

struct making {
    struct import *import;
    struct target *target;
    uint32_t uidvalidity;
};

static int make_mailbox(struct tx *tx, void *arg)
{
    struct making *work = arg;
    struct mailbox *mailbox;
    int rc = header_id_of(tx_db(tx), &work->target->name, &work->target->id);
    bool fresh = rc == ERR_END;
    if (fresh)
        rc = mailbox_create(tx, &work->target->name, &work->target->id);
    if (rc == ERR_OK)
        rc = mailbox_open_id(tx, work->target->id, NULL, &mailbox);
    if (rc || !work->uidvalidity)
        return rc;
    if (fresh)
        return mailbox_set_uids(mailbox, work->uidvalidity, 1);
    if (mailbox_header(mailbox)->facts.uidvalidity != work->uidvalidity)
        return fail(
            ERR_REFUSED,
            "import: the mailbox has another UIDVALIDITY (%u, not %u): its UIDs cannot be kept",
            mailbox_header(mailbox)->facts.uidvalidity, work->uidvalidity);
    return ERR_OK;
}

static int name_of(const struct import *import, const char *folder, struct name *name)
{
    *name = import->name;
    while (*folder) {
        struct name child;
        size_t size = strcspn(folder, "/");
        int rc = name_child(name, folder, size, &child);
        if (rc)
            return rc;
        *name = child;
        folder += size + (folder[size] == '/');
    }
    return ERR_OK;
}

static int find_target(struct import *import, const struct arrival *arrival, struct target **out)
{
    for (struct target *target = import->targets; target; target = target->next) {
        if (strcmp(target->folder, arrival->folder) == 0) {
            *out = target;
            return ERR_OK;
        }
    }
    struct target *target = calloc(1, sizeof *target);
    if (!target || !(target->folder = strdup(arrival->folder))) {
        free(target);
        return fail(ERR_NOMEM, "out of memory");
    }
    target->next = import->targets;
    import->targets = target;
    *out = target;
    struct making work = {import, target, import->keep_uids ? arrival->uidvalidity : 0};
    int rc = name_of(import, arrival->folder, &target->name);
    if (rc == ERR_OK)
        rc = store_commit(import->cli->store, make_mailbox, &work, NULL);
    return rc ? rc : load_target(import, target);
}

static bool have_already(struct target *target, const struct guid *guid)
{
    size_t low = 0, high = target->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (guid_compare(&target->have[middle], guid) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < target->count && guid_equal(&target->have[low], guid); low++) {
        if (!target->used[low]) {
            target->used[low] = true;
            return true;
        }
    }
    return false;
}

static int append_one(struct tx *tx, const struct import *import, const struct arrival *arrival)
{
    struct mailbox *mailbox;
    int rc = mailbox_open_id(tx, arrival->target->id, NULL, &mailbox);
    if (rc)
        return rc;
    const struct facts *facts = &mailbox_header(mailbox)->facts;
    bool keep = import->keep_uids && arrival->uid && facts->uidvalidity == arrival->uidvalidity &&
                arrival->uid >= facts->uidnext;
    struct append append = {.draft = arrival->draft,
                            .system = arrival->system,
                            .keywords = buf_view(&arrival->keywords),
                            .internal_date = arrival->internal_date,
                            .uid = keep ? arrival->uid : 0};
    rc = mailbox_append(mailbox, &append, NULL);
    if (rc == ERR_OK && import->keep_uids && arrival->uidnext > facts->uidnext &&
        facts->uidvalidity == arrival->uidvalidity && !arrival->next)
        rc = mailbox_set_uids(mailbox, facts->uidvalidity, arrival->uidnext);
    return rc;
}

static int append_batch(struct tx *tx, void *arg)
{
    const struct import *import = arg;
    int rc = ERR_OK;
    for (const struct arrival *arrival = import->batch; arrival && rc == ERR_OK;
         arrival = arrival->next)
        rc = append_one(tx, import, arrival);
    return rc;
}

static void show_progress(struct import *import)
{
    if (!import->terminal)
        return;
    pthread_mutex_lock(&import->mutex);
    fprintf(stderr, "\r%llu imported, %llu skipped, %llu failed; file %zu of %zu ",
            (unsigned long long)import->imported, (unsigned long long)import->skipped,
            (unsigned long long)import->failed, import->done, import->all);
    pthread_mutex_unlock(&import->mutex);
}

static int commit_batch(struct import *import)
{
    int rc = import->batch ? store_commit(import->cli->store, append_batch, import, NULL) : ERR_OK;
    if (rc == ERR_OK)
        import->imported += import->batch_messages;
    while (import->batch) {
        struct arrival *arrival = import->batch;
        import->batch = arrival->next;
        arrival_free(arrival);
    }
    import->batch_end = &import->batch;
    import->batch_messages = 0;
    import->batch_bytes = 0;
    show_progress(import);
    return rc;
}

static int take(struct import *import, struct arrival *arrival)
{
    if (!arrival->draft) {
        import->failed++;
        fprintf(stderr, "shiplog: %s\n", arrival->problem ? arrival->problem : "out of memory");
        arrival_free(arrival);
        return ERR_OK;
    }
    int rc = find_target(import, arrival, &arrival->target);
    if (rc || have_already(arrival->target, draft_guid(arrival->draft))) {
        import->skipped += rc == ERR_OK;
        arrival_free(arrival);
        return rc;
    }
    import->batch_messages++;
    import->batch_bytes += draft_memory(arrival->draft);
    *import->batch_end = arrival;
    import->batch_end = &arrival->next;
    bool full = import->batch_messages == BATCH_MESSAGES || import->batch_bytes >= BATCH_BYTES;
    return full ? commit_batch(import) : ERR_OK;
}

static void free_targets(struct import *import)
{
    while (import->targets) {
        struct target *target = import->targets;
        import->targets = target->next;
        free(target->folder);
        free(target->have);
        free(target->used);
        free(target);
    }
}

static int write_all(struct import *import)
{
    struct arrival *arrival;
    int rc = ERR_OK;
    while (rc == ERR_OK && (arrival = dequeue(import)))
        rc = take(import, arrival);
    if (rc == ERR_OK)
        return commit_batch(import);
    pthread_mutex_lock(&import->mutex);
    import->give_up = true;
    pthread_cond_broadcast(&import->changed);
    pthread_mutex_unlock(&import->mutex);
    return rc;
}

/* The mailbox is made even when there is nothing to put into it. */
static int make_first(struct import *import)
{
    struct target *target;
    char top[] = "";
    struct arrival first = {.folder = top};
    return import->keep_uids ? ERR_OK : find_target(import, &first, &target);
}

static int run(struct import *import)
{
    pthread_t thread;
    int rc = make_first(import);
    if (rc)
        return rc;
    if (pthread_create(&thread, NULL, reader, import) != 0)
        return fail(ERR_NOMEM, "import: no thread");
    rc = write_all(import);
    pthread_join(thread, NULL);
    struct arrival *left;
    while ((left = dequeue(import)))
        arrival_free(left);
    while (import->batch) {
        left = import->batch;
        import->batch = left->next;
        arrival_free(left);
    }
    if (import->terminal)
        fputs("\r\033[K", stderr);
    return rc;
}

int cmd_import(struct cli *cli)
{
    struct option options[] = {{"--keep-uids", false, NULL}};
    struct import import = {.cli = cli, .terminal = isatty(STDERR_FILENO)};
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK)
        rc = cli_name(cli, cli->words[0], &import.name);
    if (rc)
        return rc;
    import.keep_uids = options[0].value;
    import.batch_end = &import.batch;
    import.queue_end = &import.queue;
    pthread_mutex_init(&import.mutex, NULL);
    pthread_cond_init(&import.changed, NULL);
    rc = run(&import);
    free_targets(&import);
    pthread_cond_destroy(&import.changed);
    pthread_mutex_destroy(&import.mutex);
    if (rc)
        return rc;
    out_number(cli->out, "imported", import.imported);
    out_number(cli->out, "skipped", import.skipped);
    out_number(cli->out, "failed", import.failed);
    out_end(cli->out);
    return import.failed ? ERR_NO : ERR_OK;
}
