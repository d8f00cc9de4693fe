#include "tools/shiplog/uids.h"

#include "base/err.h"

#include <inttypes.h>
#include <string.h>

static int highest_live(struct mailbox *mailbox, uint32_t *highest)
{
    struct record record;
    struct uidset all = {0};
    struct uidset live = {0};
    *highest = mailbox_highest_uid(mailbox);
    if (*highest == 0)
        return ERR_OK;
    int rc = mailbox_record(mailbox, *highest, &record);
    if (rc != ERR_END && (rc || record_live(&record)))
        return rc;
    rc = uidset_add_range(&all, 1, *highest);
    if (rc == ERR_OK)
        rc = mailbox_select(mailbox, &all, &live);
    *highest = live.count ? live.ranges[live.count - 1].last : 0;
    uidset_free(&all);
    uidset_free(&live);
    return rc;
}

int uids_none(const char *mailbox, uint32_t uid)
{
    return fail(ERR_NOTFOUND, "%s: UID %" PRIu32 ": there is no such message", mailbox, uid);
}

static int insist(struct mailbox *mailbox, const char *name, const struct uidset *singles,
                  bool dead)
{
    uint32_t uid = 0;
    while (uid < UINT32_MAX && uidset_next(singles, uid + 1, &uid)) {
        struct record record;
        int rc = mailbox_record(mailbox, uid, &record);
        if (rc == ERR_END || (rc == ERR_OK && !dead && !record_live(&record)))
            return uids_none(name, uid);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

int uids_parse(struct mailbox *mailbox, const char *name, const char *text, bool dead,
               struct uidset *uids)
{
    struct uidset singles = {0};
    uint32_t highest = mailbox_highest_uid(mailbox);
    int rc = dead || !strchr(text, '*') ? ERR_OK : highest_live(mailbox, &highest);
    if (rc == ERR_OK)
        rc = uidset_parse(uids, text, highest, &singles);
    if (rc == ERR_OK)
        rc = insist(mailbox, name, &singles, dead);
    uidset_free(&singles);
    return rc;
}

struct commit {
    struct cli *cli;
    const struct uid_work *work;
    uint64_t id;          /* of the mailbox; 0 before the first commit */
    struct uidset wanted; /* settled in the first commit, less what is done */
    struct uidset some;   /* of this commit */
    bool first;
    bool more;
};

static int settle(struct commit *commit, struct mailbox *mailbox)
{
    struct uidset wanted = {0};
    const struct uid_work *work = commit->work;
    int rc = uids_parse(mailbox, work->mailbox, work->uids, false, &wanted);
    if (rc == ERR_OK)
        rc = mailbox_select(mailbox, &wanted, &commit->wanted);
    commit->id = mailbox_header(mailbox)->id;
    uidset_free(&wanted);
    return rc;
}

static int take_some(struct commit *commit)
{
    uint64_t left = MAILBOX_COMMIT_RECORDS / (commit->work->share ? commit->work->share : 1);
    commit->more = false;
    uidset_clear(&commit->some);
    for (size_t i = 0; i < commit->wanted.count; i++) {
        struct uid_range range = commit->wanted.ranges[i];
        uint64_t size = (uint64_t)range.last - range.first + 1;
        commit->more = size > left;
        if (commit->more)
            range.last = range.first + (uint32_t)left - 1;
        int rc = left ? uidset_add_range(&commit->some, range.first, range.last) : ERR_OK;
        if (rc || commit->more)
            return rc;
        left -= size;
    }
    return ERR_OK;
}

static int run(struct tx *tx, void *arg)
{
    struct commit *commit = arg;
    const struct uid_work *work = commit->work;
    struct mailbox *mailbox;
    int rc = commit->first ? cli_open(tx, commit->cli, work->mailbox, work->user, &mailbox)
                           : mailbox_open_id(tx, commit->id, work->user, &mailbox);
    if (rc == ERR_OK && commit->first)
        rc = settle(commit, mailbox);
    if (rc == ERR_OK)
        rc = take_some(commit);
    return rc ? rc : work->change(tx, mailbox, &commit->some, work->arg);
}

int uids_change(struct cli *cli, const struct uid_work *work)
{
    struct commit commit = {.cli = cli, .work = work, .first = true};
    int rc;
    do {
        rc = store_commit(cli->store, run, &commit, NULL);
        if (rc == ERR_OK && work->done)
            work->done(work->arg);
        commit.first = false;
        if (rc == ERR_OK && commit.more)
            rc = uidset_remove_range(&commit.wanted, 1,
                                     commit.some.ranges[commit.some.count - 1].last);
    } while (rc == ERR_OK && commit.more);
    uidset_free(&commit.wanted);
    uidset_free(&commit.some);
    return cli_prove(cli, work->mailbox, rc);
}
