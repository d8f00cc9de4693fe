/* restore: a mailbox as it was, by new changes. */
#include "base/err.h"
#include "mailbox/restore.h"
#include "tools/shiplog/describe.h"
#include "tools/shiplog/progress.h"

#include <string.h>

static const char *const act_names[] = {
    [RESTORE_CREATE] = "create", [RESTORE_REVIVE] = "revive",   [RESTORE_RENAME] = "rename",
    [RESTORE_TAKEN] = "taken",   [RESTORE_FLAGS] = "flags",     [RESTORE_APPEND] = "append",
    [RESTORE_GONE] = "gone",     [RESTORE_EXPUNGE] = "expunge", [RESTORE_SEEN] = "seen",
    [RESTORE_META] = "meta"};

struct printing {
    struct cli *cli;
    struct buf uids;
    struct described before;
    struct described after;
};

static void put_record(struct described *it, const struct record *record, struct bytes keywords)
{
    if (record)
        describe_flags(it, record->flags, keywords);
}

static void put_name(const struct printing *work, struct described *it, const struct name *name)
{
    char text[NAME_TEXT_SIZE];
    cli_print_name(work->cli, name, text);
    describe_text(it, text);
}

static void put_uid(struct buf *out, const struct restore_item *item)
{
    struct uidset one = {0};
    const struct record *record = item->now ? item->now : item->then;
    if (uidset_add(&one, record->uid) == ERR_OK)
        uidset_print(&one, out);
    uidset_free(&one);
}

static void describe(struct printing *work, const struct restore_item *item)
{
    switch (item->act) {
    case RESTORE_CREATE:
    case RESTORE_REVIVE:
        put_name(work, &work->after, &item->name_after);
        break;
    case RESTORE_RENAME:
    case RESTORE_TAKEN:
        put_name(work, &work->before, &item->name_before);
        put_name(work, &work->after, &item->name_after);
        break;
    case RESTORE_SEEN:
        uidset_print(&item->uids, &work->uids);
        describe_seen(&work->before, !item->seen, item->user);
        describe_seen(&work->after, item->seen, item->user);
        break;
    case RESTORE_META:
        if (item->set_before)
            describe_meta(&work->before, item->key, item->value_before, item->user);
        if (item->set_after)
            describe_meta(&work->after, item->key, item->value_after, item->user);
        break;
    default:
        put_uid(&work->uids, item);
        put_record(&work->before, item->now, item->keywords_now);
        put_record(&work->after, item->then, item->keywords_then);
        break;
    }
}

static void print_item(const struct restore_item *item, void *arg)
{
    struct printing *work = arg;
    struct out *out = work->cli->out;
    buf_reset(&work->uids);
    describe_nothing(&work->before);
    describe_nothing(&work->after);
    describe(work, item);
    out_text(out, "change", act_names[item->act]);
    out_bytes(out, "uids", buf_view(&work->uids));
    describe_print(out, "before", &work->before);
    describe_print(out, "after", &work->after);
    if (item->uid)
        out_number(out, "newuid", item->uid);
    else
        out_text(out, "newuid", NULL);
    out_end(out);
}

static void say_left_out(uint64_t count)
{
    if (count)
        progress_line("restore: %llu left out (above: gone, taken)", (unsigned long long)count);
}

int cmd_restore(struct cli *cli)
{
    struct option options[] = {
        {"--at", true, NULL}, {"--into", true, NULL}, {"--dry-run", false, NULL}};
    struct printing work = {.cli = cli};
    struct restore_request request = {.item = print_item, .arg = &work};
    struct restore_result result;
    struct name into;
    int rc = cli_options(cli, options, 3);
    if (rc == ERR_OK && !options[0].value)
        return cli_usage(cli);
    if (rc == ERR_OK)
        rc = cli_when(cli, options[0].value, &request.modseq);
    if (rc == ERR_OK && request.modseq == 0)
        rc = fail(ERR_NOTFOUND, "mailbox %s: there is none at that point", cli->words[0]);
    if (rc == ERR_OK)
        rc = cli_mailbox_id(cli, cli->words[0], request.modseq, &request.id);
    if (rc == ERR_OK && options[1].value)
        rc = cli_name(cli, options[1].value, &into);
    if (rc)
        return rc;
    request.into = options[1].value ? &into : NULL;
    request.dry_run = options[2].value;
    rc = restore_run(cli->store, &request, &result);
    if (rc == ERR_OK)
        say_left_out(result.left_out);
    buf_free(&work.uids);
    describe_free(&work.before);
    describe_free(&work.after);
    bool no = result.left_out || (request.dry_run && result.work);
    return rc == ERR_OK && no ? ERR_NO : rc;
}
