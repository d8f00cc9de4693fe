/* list: the messages of a mailbox, as they are or were. */
#include "base/err.h"
#include "mailbox/keywords.h"
#include "tools/shiplog/cli.h"

#include <stdlib.h>
#include <string.h>

static void print_flag(struct bytes name, void *arg)
{
    out_element(arg, name);
}

static void print_record(struct out *out, const struct record *record, struct bytes keywords)
{
    out_number(out, "uid", record->uid);
    out_number(out, "modseq", record->modseq);
    out_array(out, "flags");
    flags_each(record->flags & FLAG_SYSTEM, keywords, print_flag, out);
    out_array_end(out);
    out_bool(out, "seen", record->flags & FLAG_SEEN);
    out_time(out, "internaldate", record->internal_date);
    out_number(out, "size", record->size);
    out_guid(out, "guid", &record->guid);
    out_bool(out, "expunged", !record_live(record));
    out_end(out);
}

static int print_view(struct cli *cli, struct view *view, const char *user)
{
    const struct record *records;
    struct uidset wanted = {0};
    size_t count;
    size_t printed = 0;
    bool single = false;
    int rc = view_records(view, user, &records, &count);
    if (rc == ERR_OK)
        rc = uidset_parse(&wanted, cli->count > 1 ? cli->words[1] : "1:*",
                          view_header(view)->facts.uidnext - 1, &single);
    for (size_t i = 0; i < count && rc == ERR_OK; i++) {
        struct bytes keywords;
        if (!uidset_contains(&wanted, records[i].uid))
            continue;
        rc = view_keywords(view, records[i].keywords, &keywords);
        if (rc == ERR_OK)
            print_record(cli->out, &records[i], keywords);
        printed++;
    }
    if (rc == ERR_OK && single && !printed)
        rc = fail(ERR_NOTFOUND, "%s: UID %s: there is no such message", cli->words[0],
                  cli->words[1]);
    uidset_free(&wanted);
    return rc;
}

#define BATCH 512u

/* With tombstones: these are in no view, but in the store, batch after batch. */
struct listing {
    struct cli *cli;
    const char *user;
    uint32_t from;
    struct record records[BATCH];
    struct buf keywords; /* of each record, in order */
    size_t count;
    struct uidset wanted;
    bool single;
};

static int next_batch(struct tx *tx, void *arg)
{
    struct listing *work = arg;
    struct mailbox *mailbox;
    buf_reset(&work->keywords);
    uidset_clear(&work->wanted);
    const char *uids = work->cli->count > 1 ? work->cli->words[1] : "1:*";
    int rc = cli_open(tx, work->cli, work->cli->words[0], work->user, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_parse(&work->wanted, uids, mailbox_highest_uid(mailbox), &work->single);
    if (rc == ERR_OK)
        rc = mailbox_batch(mailbox, work->from, work->records, BATCH, &work->count);
    for (size_t i = 0; i < work->count && rc == ERR_OK; i++) {
        struct bytes set;
        rc = keywords_lookup(tx_db(tx), work->records[i].keywords, &set);
        if (rc == ERR_OK)
            buf_bytes(&work->keywords, set);
    }
    return rc == ERR_OK && work->keywords.failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

static int print_all(struct cli *cli, const char *user)
{
    struct listing *work = calloc(1, sizeof *work);
    size_t printed = 0;
    int rc = ERR_OK;
    if (!work)
        return fail(ERR_NOMEM, "out of memory");
    work->cli = cli;
    work->user = user;
    work->from = 1;
    do {
        rc = store_read(cli->store, next_batch, work);
        struct reader sets = reader_of(buf_view(&work->keywords));
        for (size_t i = 0; i < work->count && rc == ERR_OK; i++) {
            struct bytes set = read_bytes(&sets);
            if (uidset_contains(&work->wanted, work->records[i].uid)) {
                print_record(cli->out, &work->records[i], set);
                printed++;
            }
        }
        work->from = work->count ? work->records[work->count - 1].uid + 1 : 0;
    } while (rc == ERR_OK && work->count == BATCH && work->from);
    if (rc == ERR_OK && work->single && !printed)
        rc = fail(ERR_NOTFOUND, "%s: UID %s: there is no such message", cli->words[0],
                  cli->words[1]);
    buf_free(&work->keywords);
    uidset_free(&work->wanted);
    free(work);
    return rc;
}

int cmd_list(struct cli *cli)
{
    struct option options[] = {
        {"--at", true, NULL}, {"--as", true, NULL}, {"--expunged", false, NULL}};
    struct view *view;
    int rc = cli_options(cli, options, 3);
    if (rc == ERR_OK && options[0].value && options[2].value)
        rc = fail(ERR_USAGE, "list: what was expunged before is not in the journal: --at and "
                             "--expunged exclude each other");
    if (rc)
        return rc;
    if (options[2].value)
        return print_all(cli, options[1].value);
    rc = cli_view(cli, cli->words[0], options[0].value, &view);
    if (rc)
        return rc;
    rc = print_view(cli, view, options[1].value);
    view_close(view);
    return rc;
}
