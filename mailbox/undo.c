#include "mailbox/undo.h"

#include "base/err.h"
#include "mailbox/stop.h"
#include "mailbox/tx.h"

#include <stdlib.h>

/* The newest entry of a commit that is being made waits in the transaction. */
static int get_entry(struct tx *tx, uint64_t modseq, struct entry *entry)
{
    if (tx->waiting.size && tx->waiting_entry.modseq == modseq)
        return entry_decode(buf_view(&tx->waiting), entry);
    return journal_get(tx->db, modseq, entry, NULL);
}

/* A replica's mailbox that is being repaired is not what the journal there tells of. */
static int check_told(struct tx *tx, const struct header *header)
{
    struct stop stop;
    if (tx->node.role != ROLE_REPLICA)
        return ERR_OK;
    int rc = stop_get(tx->db, header->id, &stop);
    if (rc == ERR_OK && !stop_abreast(&stop, tx))
        return fail(ERR_TRIMMED, "mailbox id:%016llx is being repaired: its past cannot be told",
                    (unsigned long long)header->id);
    return rc == ERR_END ? ERR_OK : rc;
}

/* A repair was given up at this entry (journal/epoch.h), and the mailbox was as of `since` then, or
 * of earlier: nothing has happened to it in between. */
static bool began_there(struct tx *tx, uint64_t mailbox, uint64_t modseq, uint64_t since)
{
    struct mark mark = {.mailbox = mailbox, .modseq = modseq};
    return mark_next(tx->db, &mark) == ERR_OK && mark.mailbox == mailbox && mark.modseq == modseq &&
           mark.taken.chain == 0 && mark.epoch.number && mark.taken.modseq <= since;
}

int undo_walk(struct tx *tx, const struct header *header, uint64_t since,
              int (*each)(const struct entry *entry, const struct change *change, void *arg),
              void *arg)
{
    struct change change = {0};
    struct entry entry;
    int rc = header->lastmodseq > since ? check_told(tx, header) : ERR_OK;
    for (uint64_t modseq = header->lastmodseq; rc == ERR_OK && modseq > since;
         modseq = entry.previous) {
        rc = get_entry(tx, modseq, &entry);
        if (rc == ERR_END && began_there(tx, header->id, modseq, since)) {
            rc = ERR_OK;
            break;
        }
        if (rc == ERR_END)
            rc = modseq <= tx->window.base.modseq
                     ? fail(ERR_TRIMMED, "modseq %llu: trimmed: the journal begins later",
                            (unsigned long long)since)
                     : fail(ERR_CORRUPT, "journal entry %llu is missing",
                            (unsigned long long)modseq);
        if (rc == ERR_OK && (entry.mailbox != header->id || entry.previous >= modseq))
            rc =
                fail(ERR_CORRUPT, "journal entry %llu is out of place", (unsigned long long)modseq);
        if (rc == ERR_OK)
            rc = change_decode(&entry, &change);
        if (rc == ERR_OK)
            rc = each(&entry, &change, arg);
    }
    change_free(&change);
    return rc;
}

static int undo_one_facts(const struct entry *entry, const struct change *change, void *arg)
{
    (void)entry;
    facts_copy(arg, &change->before, change->facts_changed);
    return ERR_OK;
}

int undo_facts(struct tx *tx, const struct header *header, uint64_t since, struct facts *facts)
{
    *facts = header->facts;
    return undo_walk(tx, header, since, undo_one_facts, facts);
}

struct touched {
    struct uidset *uids;
    bool mail;
};

static int collect_uids(const struct entry *entry, const struct change *change, void *arg)
{
    struct touched *work = arg;
    struct uidset uids = {0};
    (void)entry;
    bool administrative = change->kind == ENTRY_RENAME || change->kind == ENTRY_DELETE ||
                          change->kind == ENTRY_MARK || change->kind == ENTRY_CREATE ||
                          change->kind == ENTRY_PURGE;
    work->mail = work->mail || !administrative;
    int rc = change_uids(change, &uids);
    if (rc == ERR_OK)
        rc = uidset_add_all(work->uids, &uids);
    uidset_free(&uids);
    return rc;
}

int undo_uids(struct tx *tx, const struct header *header, uint64_t since, struct uidset *uids,
              bool *mail)
{
    struct touched work = {.uids = uids};
    uidset_clear(uids);
    int rc = undo_walk(tx, header, since, collect_uids, &work);
    *mail = work.mail;
    return rc;
}

static int collect_expunged(const struct entry *entry, const struct change *change, void *arg)
{
    int rc = ERR_OK;
    bool dead = entry->kind == ENTRY_EXPUNGE || entry->kind == ENTRY_BURY;
    for (size_t i = 0; dead && rc == ERR_OK && i < change->record_count; i++)
        rc = uidset_add(arg, change->records[i].uid);
    return rc;
}

int undo_expunged(struct tx *tx, const struct header *header, uint64_t since, struct uidset *uids)
{
    int rc = undo_walk(tx, header, since, collect_expunged, uids);
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

struct flags_walk {
    struct former_flags *flags;
    size_t count;
    uint64_t since;
};

static int by_uid(const void *key, const void *item)
{
    uint32_t uid = *(const uint32_t *)key;
    const struct former_flags *flags = item;
    return (uid > flags->uid) - (uid < flags->uid);
}

static struct former_flags *find_flags(const struct flags_walk *work, uint32_t uid)
{
    return bsearch(&uid, work->flags, work->count, sizeof *work->flags, by_uid);
}

static int set_flags(struct flags_walk *work, uint32_t uid, uint32_t system, struct bytes keywords)
{
    struct former_flags *flags = find_flags(work, uid);
    if (!flags)
        return ERR_OK;
    flags->known = true;
    flags->mended = false;
    flags->system = system;
    buf_reset(&flags->keywords);
    buf_put(&flags->keywords, keywords.data, keywords.size);
    return flags->keywords.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static struct bytes set_of(const struct change *change, const struct record *record)
{
    for (size_t i = 0; i < change->set_count; i++)
        if (keywords_hash(change->sets[i]) == record->keywords)
            return change->sets[i];
    return bytes_of(NULL, 0);
}

static int undo_records(struct flags_walk *work, const struct change *change)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < change->record_count && rc == ERR_OK; i++) {
        const struct record *record = &change->records[i];
        if (change->kind == ENTRY_BURY)
            record = &change->buried_before[i];
        if (record->uid)
            rc = set_flags(work, record->uid, record->flags & FLAG_SYSTEM, set_of(change, record));
    }
    return rc;
}

static void undo_versions(struct flags_walk *work, const struct change *change)
{
    uint32_t uid;
    uint32_t at = 1;
    for (size_t i = 0; i < change->former_count && at && uidset_next(&change->uids, at, &uid);
         i++, at = uid + 1) {
        struct former_flags *flags = find_flags(work, uid);
        if (flags)
            flags->mended = change->former[i].modseq > work->since;
    }
}

static int undo_one_flags(const struct entry *entry, const struct change *change, void *arg)
{
    struct flags_walk *work = arg;
    uint32_t uid;
    int rc = undo_records(work, change);
    (void)entry;
    if (change->kind == ENTRY_FLAGS)
        for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(&change->uids, at, &uid);
             at = uid + 1)
            rc = set_flags(work, uid, change->system_before, change->keywords_before);
    undo_versions(work, change);
    return rc;
}

int undo_flags(struct tx *tx, const struct header *header, uint64_t since,
               const struct uidset *uids, struct former_flags *flags)
{
    struct flags_walk work = {.flags = flags, .since = since};
    uint32_t uid;
    for (uint32_t at = 1; at && uidset_next(uids, at, &uid); at = uid + 1)
        flags[work.count++] = (struct former_flags){.uid = uid};
    return undo_walk(tx, header, since, undo_one_flags, &work);
}

void undo_flags_free(struct former_flags *flags, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_free(&flags[i].keywords);
}

struct seen_walk {
    struct bytes user;
    struct uidset *added;
    struct uidset *removed;
};

/* Going back: what an entry did counts unless a later one was about the same UID. */
static int collect_seen(const struct entry *entry, const struct change *change, void *arg)
{
    struct seen_walk *work = arg;
    uint32_t uid;
    int rc = ERR_OK;
    (void)entry;
    if (change->kind != ENTRY_SEEN || !bytes_equal(change->user, work->user))
        return ERR_OK;
    for (uint32_t at = 1; rc == ERR_OK && at && uidset_next(&change->uids, at, &uid); at = uid + 1)
        if (!uidset_contains(work->added, uid) && !uidset_contains(work->removed, uid))
            rc = uidset_add(change->seen_after ? work->added : work->removed, uid);
    return rc;
}

int undo_seen(struct tx *tx, const struct header *header, uint64_t since, struct bytes user,
              struct uidset *added, struct uidset *removed)
{
    struct seen_walk work = {.user = user, .added = added, .removed = removed};
    uidset_clear(added);
    uidset_clear(removed);
    return undo_walk(tx, header, since, collect_seen, &work);
}
