/* The mailboxes that an import goes to, and what is in them already. */
#include "base/err.h"
#include "tools/shiplog/import.h"
#include "tools/shiplog/progress.h"

#include <stdlib.h>
#include <string.h>

#define BATCH 1024u /* records looked at in one transaction */

static struct guid_count *slot_of(const struct guid_counts *counts, const struct guid *guid)
{
    size_t at = (size_t)load_u64(guid->bytes) & (counts->capacity - 1);
    while (counts->slots[at].used && !guid_equal(&counts->slots[at].guid, guid))
        at = (at + 1) & (counts->capacity - 1);
    return &counts->slots[at];
}

static int grow(struct guid_counts *counts)
{
    struct guid_counts larger = {.capacity = counts->capacity ? counts->capacity * 2 : 1024};
    larger.slots = calloc(larger.capacity, sizeof *larger.slots);
    if (!larger.slots)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < counts->capacity; i++)
        if (counts->slots[i].used)
            *slot_of(&larger, &counts->slots[i].guid) = counts->slots[i];
    larger.used = counts->used;
    free(counts->slots);
    *counts = larger;
    return ERR_OK;
}

static int count_guid(struct guid_counts *counts, const struct guid *guid)
{
    if (counts->used * 2 >= counts->capacity) {
        int rc = grow(counts);
        if (rc)
            return rc;
    }
    struct guid_count *slot = slot_of(counts, guid);
    counts->used += !slot->used;
    slot->used = true;
    slot->guid = *guid;
    slot->count++;
    return ERR_OK;
}

bool import_target_has(struct import_target *target, const struct guid *guid)
{
    if (target->present.capacity == 0)
        return false;
    struct guid_count *slot = slot_of(&target->present, guid);
    if (!slot->used || slot->count == 0)
        return false;
    slot->count--;
    return true;
}

struct opening {
    struct name name;
    uint64_t id;
    uint32_t from; /* UIDs below it were counted; 0: all were */
    struct record records[BATCH];
    size_t count;
};

static int make_mailbox(struct tx *tx, void *arg)
{
    struct opening *work = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open(tx, &work->name, NULL, &mailbox);
    if (rc == ERR_NOTFOUND)
        return mailbox_create(tx, &work->name, &work->id);
    if (rc == ERR_OK)
        work->id = mailbox_header(mailbox)->id;
    return rc;
}

static int read_some(struct tx *tx, void *arg)
{
    struct opening *work = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open_id(tx, work->id, NULL, &mailbox);
    return rc ? rc : mailbox_batch(mailbox, work->from, work->records, BATCH, &work->count);
}

static int count_present(struct store *store, struct opening *work, struct guid_counts *present)
{
    work->from = 1;
    do {
        int rc = store_read(store, read_some, work);
        for (size_t i = 0; rc == ERR_OK && i < work->count; i++)
            if (record_live(&work->records[i]))
                rc = count_guid(present, &work->records[i].guid);
        if (rc)
            return rc;
        work->from = work->count == BATCH ? work->records[BATCH - 1].uid + 1 : 0;
    } while (work->from);
    return ERR_OK;
}

/* "A/B" below the mailbox that was named. */
static int name_folder(const struct import *import, const char *folder, struct name *name)
{
    *name = import->name;
    while (*folder) {
        size_t size = strcspn(folder, "/");
        struct name parent = *name;
        int rc = name_child(&parent, folder, size, name);
        if (rc)
            return rc;
        folder += size + (folder[size] == '/');
    }
    return ERR_OK;
}

static int open_target(struct import *import, struct import_target *target)
{
    struct store *store = import->cli->store;
    struct opening *work = calloc(1, sizeof *work);
    if (!work)
        return fail(ERR_NOMEM, "out of memory");
    int rc = name_folder(import, target->folder, &work->name);
    if (rc == ERR_INVALID && *target->folder) {
        progress_line("folder %s: %s", target->folder, err_message());
        target->refused = true;
        free(work);
        return ERR_OK;
    }
    if (rc == ERR_OK)
        rc = store_commit(store, make_mailbox, work, NULL);
    if (rc == ERR_OK)
        rc = count_present(store, work, &target->present);
    target->id = work->id;
    free(work);
    return rc;
}

int import_target_open(struct import *import, const char *folder, struct import_target **out)
{
    struct import_target *target = import->targets;
    while (target && strcmp(target->folder, folder) != 0)
        target = target->next;
    *out = target;
    if (target)
        return ERR_OK;
    target = calloc(1, sizeof *target);
    char *copy = strdup(folder);
    if (!target || !copy) {
        free(target);
        free(copy);
        return fail(ERR_NOMEM, "out of memory");
    }
    target->folder = copy;
    target->next = import->targets;
    import->targets = target;
    *out = target;
    return open_target(import, target);
}

struct keeping {
    const struct import_target *target;
    uint32_t uidvalidity;
};

static int set_uidvalidity(struct tx *tx, void *arg)
{
    const struct keeping *work = arg;
    struct mailbox *mailbox;
    int rc = mailbox_open_id(tx, work->target->id, NULL, &mailbox);
    if (rc)
        return rc;
    const struct facts *facts = &mailbox_header(mailbox)->facts;
    if (facts->uidvalidity == work->uidvalidity)
        return ERR_OK;
    if (facts->uidnext > 1)
        return fail(ERR_REFUSED,
                    "--keep-uids: the files' UIDVALIDITY is %u, the mailbox has used UIDs under %u",
                    work->uidvalidity, facts->uidvalidity);
    return mailbox_set_uids(mailbox, work->uidvalidity, facts->uidnext);
}

int import_target_keep(struct import *import, struct import_target *target, uint32_t uidvalidity,
                       uint32_t uidnext)
{
    struct keeping work = {target, uidvalidity};
    if (target->uidvalidity == uidvalidity)
        return ERR_OK;
    int rc = store_commit(import->cli->store, set_uidvalidity, &work, NULL);
    target->uidvalidity = uidvalidity;
    target->uidnext = uidnext;
    return rc;
}

void import_targets_free(struct import *import)
{
    while (import->targets) {
        struct import_target *target = import->targets;
        import->targets = target->next;
        free(target->present.slots);
        free(target->folder);
        free(target);
    }
}
