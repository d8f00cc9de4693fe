/* Messages come, go and are copied; tombstones are purged. */
#include "mailbox/edit.h"

#include "base/array.h"
#include "base/err.h"
#include "mailbox/keywords.h"
#include "mailbox/mailbox.h"

#include <stdlib.h>

#define BATCH 64u

/* The store has the content by now; *introduced tells whether a record referred to it before. */
static int bring_content(struct tx *tx, const struct append *append, struct record *record,
                         bool *introduced)
{
    struct content content;
    *introduced = false;
    record->guid = append->draft ? *draft_guid(append->draft) : *append->guid;
    if (append->draft) {
        record->size = draft_size(append->draft);
        return draft_adopt(tx->db, append->draft, introduced);
    }
    int rc = content_get(tx->db, &record->guid, &content);
    if (rc == ERR_END || (rc == ERR_OK && content.number == 0))
        return fail(ERR_GONE, "the message's content is not in the store");
    record->size = content.size;
    return rc;
}

int mailbox_append(struct mailbox *mailbox, const struct append *append, uint32_t *uid)
{
    struct tx *tx = mailbox->tx;
    struct box *box = mailbox->box;
    struct change *change;
    uint32_t next = box->header.facts.uidnext;
    if (append->uid ? append->uid < next : next == UINT32_MAX)
        return append->uid ? fail(ERR_REFUSED, "UID %u: was given out already", append->uid)
                           : fail(ERR_REFUSED, "mailbox id:%016llx: its UIDs are used up",
                                  (unsigned long long)box->header.id);
    int rc = edit_begin(tx, box, ENTRY_APPEND, &change);
    if (rc)
        return rc;
    struct record record = {
        .uid = append->uid ? append->uid : next,
        .flags = append->system & FLAG_SYSTEM,
        .internal_date = append->internal_date,
        .save_date = tx->time,
        .modseq = change->modseq,
        .append_modseq = change->modseq,
        .changed = tx->time,
        .keywords = keywords_hash(append->keywords),
    };
    bool seen_by_other = !mailbox->as_owner && (record.flags & FLAG_SEEN);
    if (seen_by_other)
        record.flags &= ~FLAG_SEEN;
    if (record.uid == UINT32_MAX)
        return fail(ERR_REFUSED, "UID %u: the last one is never given out", record.uid);
    rc = bring_content(tx, append, &record, &change->introduces);
    if (rc == ERR_OK)
        rc = change_add_set(change, append->keywords);
    if (rc == ERR_OK)
        rc = change_add_record(change, &record);
    if (rc)
        return rc;
    change->after.uidnext = record.uid + 1;
    rc = edit_finish(tx, box, change, true);
    if (uid)
        *uid = record.uid;
    if (rc || !seen_by_other)
        return rc;
    struct uidset one = {0};
    struct flag_change seen = {.mode = FLAGS_ADD, .flags = {.system = FLAG_SEEN}};
    rc = uidset_add(&one, record.uid);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, &one, &seen, NULL);
    uidset_free(&one);
    return rc;
}

/* Copies the names out of the table: a write transaction's views die at its next change. */
struct expunging {
    struct change *change;
    struct buf *sets; /* one per distinct keyword set */
    size_t set_count;
    size_t set_capacity;
};

static int keep_set(struct mailbox *mailbox, struct expunging *work, uint64_t hash)
{
    struct bytes set;
    for (size_t i = 0; i < work->change->set_count; i++)
        if (keywords_hash(work->change->sets[i]) == hash)
            return ERR_OK;
    int rc = keywords_lookup(mailbox->tx->db, hash, &set);
    if (rc || hash == 0)
        return rc;
    struct buf *sets = array_room(work->sets, work->set_count, &work->set_capacity, sizeof *sets);
    if (!sets)
        return ERR_NOMEM;
    work->sets = sets;
    sets[work->set_count] = (struct buf){0};
    buf_put(&sets[work->set_count], set.data, set.size);
    return sets[work->set_count].failed
               ? fail(ERR_NOMEM, "out of memory")
               : change_add_set(work->change, buf_view(&sets[work->set_count++]));
}

static int expunge_record(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct expunging *work = arg;
    int rc = keep_set(mailbox, work, record->keywords);
    return rc ? rc : change_add_record(work->change, record);
}

static int purge_uids(struct mailbox *mailbox, const struct uidset *uids, uint64_t deletedmodseq)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_PURGE, &change);
    if (rc == ERR_OK)
        rc = uidset_copy(&change->uids, uids);
    if (rc)
        return rc;
    if (change->after.deletedmodseq < deletedmodseq)
        change->after.deletedmodseq = deletedmodseq;
    return edit_finish(mailbox->tx, mailbox->box, change, false);
}

int mailbox_expunge(struct mailbox *mailbox, const struct uidset *uids, bool immediate,
                    uint64_t *expunged)
{
    struct expunging work = {0};
    struct uidset gone = {0};
    if (immediate)
        tx_frees_space(mailbox->tx);
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_EXPUNGE, &work.change);
    if (rc == ERR_OK)
        rc = edit_each_live(mailbox, uids, expunge_record, &work);
    if (expunged)
        *expunged = rc == ERR_OK ? work.change->record_count : 0;
    uint64_t modseq = rc == ERR_OK ? work.change->modseq : 0;
    if (rc == ERR_OK && work.change->record_count) {
        rc = change_uids(work.change, &gone);
        if (rc == ERR_OK)
            rc = edit_finish(mailbox->tx, mailbox->box, work.change, true);
        if (rc == ERR_OK && immediate) {
            /* The same messages: they count once. */
            mailbox->tx->records -= uidset_size(&gone);
            rc = purge_uids(mailbox, &gone, modseq);
        }
    }
    for (size_t i = 0; i < work.set_count; i++)
        buf_free(&work.sets[i]);
    free(work.sets);
    uidset_free(&gone);
    return rc;
}

struct copying {
    struct mailbox *target;
    struct record *records;
    size_t count;
    size_t capacity;
};

static int collect(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct copying *work = arg;
    (void)mailbox;
    if (work->count == MAILBOX_COMMIT_RECORDS)
        return fail(ERR_INVALID, "one commit about more than %u messages", MAILBOX_COMMIT_RECORDS);
    struct record *room = array_room(work->records, work->count, &work->capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    work->records = room;
    room[work->count++] = *record;
    return ERR_OK;
}

static int copy_record(struct mailbox *mailbox, struct mailbox *target, const struct record *record,
                       uint32_t *uid)
{
    struct bytes set;
    struct buf keywords = {0};
    struct record seen_as = *record;
    int rc = mailbox_record(mailbox, record->uid, &seen_as);
    if (rc == ERR_OK)
        rc = keywords_lookup(mailbox->tx->db, record->keywords, &set);
    if (rc)
        return rc;
    buf_put(&keywords, set.data, set.size);
    struct append append = {.guid = &record->guid,
                            .system = seen_as.flags & FLAG_SYSTEM,
                            .keywords = buf_view(&keywords),
                            .internal_date = record->internal_date};
    rc = keywords.failed ? fail(ERR_NOMEM, "out of memory") : mailbox_append(target, &append, uid);
    buf_free(&keywords);
    return rc;
}

int mailbox_copy(struct mailbox *mailbox, const struct uidset *uids, struct mailbox *target,
                 bool move, struct uidset *from, struct uidset *to)
{
    struct copying work = {.target = target};
    uidset_clear(from);
    uidset_clear(to);
    int rc = edit_each_live(mailbox, uids, collect, &work);
    for (size_t i = 0; i < work.count && rc == ERR_OK; i++) {
        uint32_t uid;
        rc = copy_record(mailbox, target, &work.records[i], &uid);
        if (rc == ERR_OK)
            rc = uidset_add(from, work.records[i].uid);
        if (rc == ERR_OK)
            rc = uidset_add(to, uid);
    }
    if (rc == ERR_OK && move && work.count) {
        mailbox->tx->records -= work.count; /* the same messages: they count once */
        rc = mailbox_expunge(mailbox, from, false, NULL);
    }
    free(work.records);
    return rc;
}

static int touch_record(struct mailbox *mailbox, const struct record *record, void *arg)
{
    struct change *change = arg;
    (void)mailbox;
    int rc = uidset_add(&change->uids, record->uid);
    return rc ? rc : change_add_former(change, record->modseq, record->changed);
}

int mailbox_touch(struct mailbox *mailbox, const struct uidset *uids)
{
    struct change *change;
    int rc = edit_begin(mailbox->tx, mailbox->box, ENTRY_TOUCH, &change);
    if (rc == ERR_OK)
        rc = edit_each_live(mailbox, uids, touch_record, change);
    if (rc || !change->former_count)
        return rc;
    return edit_finish(mailbox->tx, mailbox->box, change, true);
}

struct purging {
    int64_t until;
    struct uidset uids;
    uint64_t modseq; /* the highest of the tombstones */
    bool more;
};

/* Which tombstones are old enough, up to one commit's worth. */
static int find_old(struct mailbox *mailbox, struct purging *work)
{
    struct record records[BATCH];
    size_t count = BATCH;
    uint64_t found = 0;
    if (mailbox->box->header.tombstones == 0)
        return ERR_OK;
    for (uint32_t from = 1; count == BATCH && from; from = records[count - 1].uid + 1) {
        int rc = record_batch(mailbox->tx->db, mailbox->box->header.number, from, records, BATCH,
                              &count);
        for (size_t i = 0; i < count && rc == ERR_OK; i++) {
            if (record_live(&records[i]) || records[i].changed > work->until)
                continue;
            if (found++ == MAILBOX_COMMIT_RECORDS) {
                work->more = true;
                return ERR_OK;
            }
            if (work->modseq < records[i].modseq)
                work->modseq = records[i].modseq;
            rc = uidset_add(&work->uids, records[i].uid);
        }
        if (rc || count == 0)
            return rc;
    }
    return ERR_OK;
}

int mailbox_purge(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more)
{
    struct purging work = {.until = until};
    tx_frees_space(mailbox->tx);
    int rc = find_old(mailbox, &work);
    *purged = uidset_size(&work.uids);
    *more = work.more;
    if (rc == ERR_OK && *purged)
        rc = purge_uids(mailbox, &work.uids, work.modseq);
    uidset_free(&work.uids);
    return rc;
}

int mailbox_purge_local(struct mailbox *mailbox, int64_t until, uint64_t *purged, bool *more)
{
    struct purging work = {.until = until};
    struct header *header = &mailbox->box->header;
    tx_frees_space(mailbox->tx);
    int rc = find_old(mailbox, &work);
    *purged = uidset_size(&work.uids);
    *more = work.more;
    if (rc == ERR_OK && *purged) {
        /* Carried out like a purge from the journal, but the facts stay as they are: nothing that
         * is replicated changes. */
        struct change change = {.kind = ENTRY_PURGE,
                                .uids = work.uids,
                                .modseq = header->lastmodseq,
                                .time = header->changed};
        rc = apply_change(mailbox->tx, mailbox->box, &change);
        if (header->floor < work.modseq)
            header->floor = work.modseq;
    }
    uidset_free(&work.uids);
    return rc;
}
