/* Carrying a plan (restore_plan.h) out has two rounds. The first makes the mailbox's messages those
 * of then, and ends when a new plan has nothing more of that kind. Only then is every message
 * there, so that what other users had seen can be given to the UIDs under which messages go on.
 * Meta values come last. */
#include "mailbox/restore.h"

#include "base/err.h"
#include "mailbox/restore_plan.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_VALUES 32u  /* meta values in one commit */
#define REPLANS_MAX 64u   /* in a row, because others added messages */
#define CHECK_BATCH 4096u /* contents looked up in one transaction */

/* A restore under way. */
struct restoring {
    struct store *store;
    const struct restore_request *request;
    struct restore_result *result;
    struct view *then;
    struct view *now;
    struct restore_plan plan;
    struct restore_item naming; /* what becomes of the mailbox itself */
    bool named;                 /* that is nothing */
    uint64_t id;                /* of the mailbox that becomes as it was; 0: it is made first */
    size_t first;               /* item of the next commit */
    size_t end;                 /* behind those that the commit did; set by it, as all below */
    uint32_t next;              /* UIDNEXT, unless somebody else appended */
    uint32_t next_after;
    bool stale; /* the plan is no longer right */
};

static void report(struct restoring *work, const struct restore_item *item)
{
    bool left_out = item->act == RESTORE_GONE || item->act == RESTORE_TAKEN;
    *(left_out ? &work->result->left_out : &work->result->work) += 1;
    if (work->request->item)
        work->request->item(item, work->request->arg);
}

struct checking {
    struct restore_plan *plan;
    size_t at;
};

/* Appends whose content is not here (any more) cannot be done. */
static int check_contents(struct tx *tx, void *arg)
{
    struct checking *work = arg;
    struct content content;
    size_t end = work->at + CHECK_BATCH;
    for (; work->at < work->plan->count && work->at < end; work->at++) {
        struct restore_item *item = &work->plan->items[work->at];
        if (item->act != RESTORE_APPEND)
            continue;
        int rc = content_find(tx_db(tx), &item->then->guid, &content);
        if (rc && rc != ERR_END)
            return rc;
        if (rc == ERR_END || content.number == 0)
            item->act = RESTORE_GONE;
    }
    return ERR_OK;
}

/* Nobody can have seen what does not come back. */
static int forget_gone(struct restore_plan *plan)
{
    int rc = ERR_OK;
    for (size_t k = 0; k < plan->count; k++) {
        struct restore_item *seen = &plan->items[k];
        for (size_t i = 0; seen->pending && i < plan->count && rc == ERR_OK; i++)
            if (plan->items[i].act == RESTORE_GONE)
                rc = uidset_remove_range(&seen->uids, plan->items[i].then->uid,
                                         plan->items[i].then->uid);
    }
    return rc;
}

/* What cannot be done stands behind everything else. */
static int put_gone_last(struct restore_plan *plan)
{
    size_t kept = 0, gone = 0;
    struct restore_item *gone_items = malloc((plan->count + 1) * sizeof *gone_items);
    if (!gone_items)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < plan->count; i++) {
        struct restore_item *item = &plan->items[i];
        if (item->act == RESTORE_GONE)
            gone_items[gone++] = *item;
        else if (item->pending && item->uids.count == 0)
            uidset_free(&item->uids);
        else
            plan->items[kept++] = *item;
    }
    for (size_t i = 0; i < gone; i++)
        plan->items[kept + i] = gone_items[i];
    plan->count = kept + gone;
    free(gone_items);
    return ERR_OK;
}

static int make_plan(struct restoring *work)
{
    restore_plan_free(&work->plan);
    view_close(work->now);
    work->now = NULL;
    int rc = work->id ? view_open(work->store, work->id, &work->now) : ERR_OK;
    if (rc == ERR_OK)
        rc = restore_plan(work->then, work->now, &work->plan);
    struct checking checking = {.plan = &work->plan};
    while (rc == ERR_OK && checking.at < work->plan.count)
        rc = store_read(work->store, check_contents, &checking);
    if (rc == ERR_OK)
        rc = forget_gone(&work->plan);
    if (rc == ERR_OK)
        rc = put_gone_last(&work->plan);
    work->first = 0;
    work->next = rc == ERR_OK && work->now ? view_header(work->now)->facts.uidnext : 0;
    return rc;
}

/* The next item of this commit if it is of this kind. */
static struct restore_item *next_item(struct restoring *work, enum restore_act act, size_t most)
{
    bool left = work->end < work->plan.count && work->end - work->first < most;
    struct restore_item *item = left ? &work->plan.items[work->end] : NULL;
    if (!item || item->act != act)
        return NULL;
    work->end++;
    return item;
}

static int append_some(struct restoring *work, struct mailbox *mailbox)
{
    struct restore_item *item;
    int rc = ERR_OK;
    work->stale = mailbox_header(mailbox)->facts.uidnext != work->next;
    if (work->stale)
        return fail(ERR_BUSY, "restore: somebody else keeps adding messages");
    while (rc == ERR_OK && (item = next_item(work, RESTORE_APPEND, RESTORE_BATCH))) {
        struct append append = {.guid = &item->then->guid,
                                .system = item->then->flags & FLAG_SYSTEM,
                                .keywords = item->keywords_then,
                                .internal_date = item->then->internal_date,
                                .uid = work->request->into ? item->then->uid : 0};
        rc = mailbox_append(mailbox, &append, &item->uid);
    }
    work->stale = rc == ERR_GONE;
    work->next_after = mailbox_header(mailbox)->facts.uidnext;
    return rc;
}

static int expunge_some(struct restoring *work, struct mailbox *mailbox)
{
    struct uidset uids = {0};
    struct restore_item *item;
    int rc = ERR_OK;
    while (rc == ERR_OK && (item = next_item(work, RESTORE_EXPUNGE, RESTORE_BATCH)))
        rc = uidset_add(&uids, item->now->uid);
    if (rc == ERR_OK)
        rc = mailbox_expunge(mailbox, &uids, false, NULL);
    uidset_free(&uids);
    return rc;
}

static int flag(struct mailbox *mailbox, const struct uidset *uids, enum flag_mode mode,
                uint32_t system, struct bytes keywords)
{
    struct flag_change change = {.mode = mode, .flags.system = system};
    buf_put(&change.flags.keywords, keywords.data, keywords.size);
    int rc = change.flags.keywords.failed ? fail(ERR_NOMEM, "out of memory")
                                          : mailbox_flag(mailbox, uids, &change, NULL);
    flags_free(&change.flags);
    return rc;
}

/* Neighbours that get the same flags at once. */
static int flag_some(struct restoring *work, struct mailbox *mailbox)
{
    struct uidset uids = {0};
    const struct restore_item *last = NULL;
    struct restore_item *item;
    int rc = ERR_OK;
    while (rc == ERR_OK && (item = next_item(work, RESTORE_FLAGS, RESTORE_BATCH))) {
        if (last && !restore_flags_equal(last->then, item->then)) {
            rc = flag(mailbox, &uids, FLAGS_REPLACE, last->then->flags & FLAG_SYSTEM,
                      last->keywords_then);
            uidset_clear(&uids);
        }
        last = item;
        if (rc == ERR_OK)
            rc = uidset_add(&uids, item->now->uid);
    }
    if (rc == ERR_OK && last)
        rc = flag(mailbox, &uids, FLAGS_REPLACE, last->then->flags & FLAG_SYSTEM,
                  last->keywords_then);
    uidset_free(&uids);
    return rc;
}

/* NULL for no bytes. */
static const char *text_of(struct bytes bytes, char out[USER_MAX_SIZE + 1])
{
    size_t size = bytes.size < USER_MAX_SIZE ? bytes.size : USER_MAX_SIZE;
    if (size)
        memcpy(out, bytes.data, size);
    out[size] = '\0';
    return size ? out : NULL;
}

static int see_some(struct restoring *work, struct tx *tx)
{
    char user[USER_MAX_SIZE + 1];
    struct mailbox *mailbox;
    const struct restore_item *item = next_item(work, RESTORE_SEEN, 1);
    int rc = mailbox_open_id(tx, work->id, text_of(item->user, user), &mailbox);
    return rc ? rc
              : flag(mailbox, &item->uids, item->seen ? FLAGS_ADD : FLAGS_REMOVE, FLAG_SEEN,
                     bytes_of(NULL, 0));
}

static int set_some(struct restoring *work, struct tx *tx, struct mailbox *mailbox)
{
    char user[USER_MAX_SIZE + 1], key[USER_MAX_SIZE + 1];
    struct restore_item *item;
    int rc = ERR_OK;
    while (rc == ERR_OK && (item = next_item(work, RESTORE_META, BATCH_VALUES))) {
        const char *who = text_of(item->user, user);
        text_of(item->key, key);
        rc = item->set_after ? mailbox_meta_set(tx, mailbox, who, key, item->value_after)
                             : mailbox_meta_unset(tx, mailbox, who, key);
        rc = rc == ERR_END ? ERR_OK : rc; /* somebody else removed it */
    }
    return rc;
}

static int do_some(struct tx *tx, void *arg)
{
    struct restoring *work = arg;
    struct mailbox *mailbox;
    work->end = work->first;
    work->stale = false;
    work->next_after = work->next;
    int rc = mailbox_open_id(tx, work->id, NULL, &mailbox);
    if (rc)
        return rc;
    switch (work->plan.items[work->first].act) {
    case RESTORE_APPEND:
        return append_some(work, mailbox);
    case RESTORE_FLAGS:
        return flag_some(work, mailbox);
    case RESTORE_EXPUNGE:
        return expunge_some(work, mailbox);
    case RESTORE_SEEN:
        return see_some(work, tx);
    case RESTORE_META:
        return set_some(work, tx, mailbox);
    default:
        return fail(ERR_CORRUPT, "restore: nothing to do");
    }
}

/* One commit's worth of the plan. */
static int do_next(struct restoring *work)
{
    int rc = store_commit(work->store, do_some, work, NULL);
    if (rc)
        return rc;
    if (work->end == work->first)
        return fail(ERR_CORRUPT, "restore: the plan does not go on");
    work->next = work->next_after;
    for (size_t i = work->first; i < work->end; i++)
        report(work, &work->plan.items[i]);
    work->first = work->end;
    return ERR_OK;
}

/* The next item that one of the two rounds does. */
static const struct restore_item *find_next(struct restoring *work, bool messages)
{
    for (; work->first < work->plan.count; work->first++) {
        const struct restore_item *item = &work->plan.items[work->first];
        bool value = item->act == RESTORE_SEEN || item->act == RESTORE_META;
        if (item->act != RESTORE_GONE && !item->pending && value != messages)
            return item;
    }
    return NULL;
}

/* Every message of then, and no other, except those that are gone. */
static int bring_messages(struct restoring *work)
{
    unsigned replans = 0;
    int rc = make_plan(work);
    while (rc == ERR_OK && find_next(work, true)) {
        rc = do_next(work);
        replans = rc ? replans + 1 : 0;
        if (rc && work->stale && replans < REPLANS_MAX)
            rc = make_plan(work);
    }
    return rc;
}

static int bring_values(struct restoring *work)
{
    int rc = make_plan(work);
    while (rc == ERR_OK && find_next(work, false))
        rc = do_next(work);
    for (size_t i = 0; rc == ERR_OK && i < work->plan.count; i++)
        if (work->plan.items[i].act == RESTORE_GONE)
            report(work, &work->plan.items[i]);
    return rc;
}

static void show_plan(struct restoring *work)
{
    for (size_t i = 0; i < work->plan.count; i++)
        report(work, &work->plan.items[i]);
}

/* Another bears the name, or what stands below one of the names is in the way. */
static bool is_in_the_way(int rc)
{
    return rc == ERR_EXISTS || rc == ERR_REFUSED || rc == ERR_INVALID;
}

/* What becomes of the mailbox itself: in the same transaction as the names are looked at. */
static int find_naming(struct tx *tx, void *arg)
{
    struct restoring *work = arg;
    struct restore_item *naming = &work->naming;
    struct header now;
    uint64_t taken;
    const struct name *into = work->request->into;
    int rc = header_get(tx_db(tx), work->request->id, &now);
    naming->name_before = now.facts.name;
    naming->name_after = into ? *into : view_header(work->then)->facts.name;
    if (rc == ERR_OK)
        rc = header_id_of(tx_db(tx), &naming->name_after, &taken);
    bool free = rc == ERR_END;
    if (rc && !free)
        return rc;
    if (!into && now.facts.state == MAILBOX_PURGED)
        return fail(ERR_GONE, "restore: the mailbox was purged: give --into NAME");
    work->named = !into && now.facts.state == MAILBOX_LIVE &&
                  name_equal(&naming->name_before, &naming->name_after);
    naming->act = into                              ? RESTORE_CREATE
                  : now.facts.state != MAILBOX_LIVE ? RESTORE_REVIVE
                                                    : RESTORE_RENAME;
    if (naming->act == RESTORE_RENAME && !work->named) {
        rc = mailbox_may_rename(tx, &naming->name_before, &naming->name_after);
        if (rc && !is_in_the_way(rc))
            return rc;
        naming->act = rc ? RESTORE_TAKEN : RESTORE_RENAME;
    }
    if (!free && (naming->act == RESTORE_CREATE || naming->act == RESTORE_REVIVE))
        return fail(ERR_EXISTS, "restore: %s",
                    into ? "that name is taken: a new mailbox is made"
                         : "another mailbox bears this name now: give --into NAME");
    return ERR_OK;
}

static int name_it(struct tx *tx, void *arg)
{
    struct restoring *work = arg;
    struct mailbox *mailbox;
    work->id = work->request->id;
    if (work->naming.act == RESTORE_CREATE)
        return mailbox_create(tx, &work->naming.name_after, &work->id);
    if (work->naming.act == RESTORE_RENAME)
        return mailbox_rename(tx, &work->naming.name_before, &work->naming.name_after);
    int rc = mailbox_open_id(tx, work->id, NULL, &mailbox);
    return rc ? rc : mailbox_revive(mailbox, &work->naming.name_after);
}

static int may_write(struct tx *tx, void *arg)
{
    (void)tx;
    (void)arg;
    return ERR_OK;
}

static int bring_mailbox(struct restoring *work)
{
    struct restore_item *naming = &work->naming;
    work->id = work->request->id;
    if (!work->named && naming->act != RESTORE_TAKEN) {
        int rc = store_commit(work->store, name_it, work, NULL);
        /* It came since. */
        if (naming->act == RESTORE_RENAME && is_in_the_way(rc))
            naming->act = RESTORE_TAKEN;
        else if (rc)
            return rc;
    }
    if (!work->named)
        report(work, naming);
    return ERR_OK;
}

static int open_then(struct restoring *work)
{
    struct owner was, becomes;
    const struct name *into = work->request->into;
    int rc = view_open(work->store, work->request->id, &work->then);
    if (rc == ERR_OK)
        rc = view_back(work->then, work->request->modseq);
    if (rc)
        return rc;
    const struct facts *facts = &view_header(work->then)->facts;
    if (facts->state == MAILBOX_NONE || facts->state == MAILBOX_PURGED)
        return fail(ERR_NOTFOUND, "restore: there was no such mailbox at that point");
    name_owner(&facts->name, &was);
    if (into)
        name_owner(into, &becomes);
    if (into && !owner_equal(&was, &becomes))
        return fail(ERR_REFUSED, "restore: a mailbox cannot change its owner");
    return ERR_OK;
}

static int run(struct restoring *work)
{
    if (work->request->dry_run) {
        work->id = work->request->into ? 0 : work->request->id;
        int rc = make_plan(work);
        if (rc == ERR_OK && !work->named)
            report(work, &work->naming);
        if (rc == ERR_OK)
            show_plan(work);
        return rc;
    }
    int rc = store_commit(work->store, may_write, NULL, NULL);
    if (rc == ERR_OK)
        rc = bring_mailbox(work);
    if (rc == ERR_OK)
        rc = bring_messages(work);
    return rc ? rc : bring_values(work);
}

int restore_run(struct store *store, const struct restore_request *request,
                struct restore_result *result)
{
    struct restoring work = {.store = store, .request = request, .result = result};
    *result = (struct restore_result){0};
    int rc = open_then(&work);
    if (rc == ERR_OK)
        rc = store_read(store, find_naming, &work);
    if (rc == ERR_OK)
        rc = run(&work);
    restore_plan_free(&work.plan);
    view_close(work.now);
    view_close(work.then);
    return rc;
}
