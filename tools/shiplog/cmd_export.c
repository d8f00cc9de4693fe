/* export: a mailbox, as it is or was, to a new Maildir or mbox. */
#include "base/err.h"
#include "tools/mail/sink.h"
#include "tools/shiplog/cli.h"
#include "tools/shiplog/progress.h"

#include <stdlib.h>
#include <string.h>

#define PIECE (64u << 10)

struct exporting {
    struct cli *cli;
    struct view *view;
    struct mail_sink *sink;
    uint8_t piece[PIECE];
    uint64_t failed;
};

/* *ours: the failure is the store's, not the files'. */
static int copy_content(struct exporting *work, const struct record *record, bool *ours)
{
    struct content_reader *reader;
    size_t got = 1;
    int rc = content_open(store_db(work->cli->store), &record->guid, &reader);
    *ours = rc != ERR_OK;
    if (rc)
        return rc;
    while (rc == ERR_OK && got) {
        rc = content_read(reader, work->piece, PIECE, &got);
        *ours = rc != ERR_OK;
        if (rc == ERR_OK && got)
            rc = mail_sink_write(work->sink, work->piece, got);
    }
    content_close(reader);
    return rc;
}

/* A message whose content is gone or damaged is left out, and said. */
static int export_message(struct exporting *work, const struct record *record)
{
    struct mail_item item = {
        .system = record->flags & FLAG_SYSTEM,
        .internal_date = record->internal_date,
        .uid = record->uid,
    };
    bool ours = false;
    int rc = view_keywords(work->view, record->keywords, &item.keywords);
    if (rc == ERR_OK)
        rc = mail_sink_begin(work->sink, &item);
    if (rc)
        return rc;
    rc = copy_content(work, record, &ours);
    if (rc == ERR_OK)
        return mail_sink_end(work->sink);
    if (!ours || (rc != ERR_GONE && rc != ERR_CORRUPT))
        return rc;
    progress_line("UID %u: %s", record->uid, err_message());
    work->failed++;
    return mail_sink_cancel(work->sink);
}

static int export_view(struct exporting *work)
{
    const struct record *records;
    size_t count;
    int rc = view_records(work->view, NULL, &records, &count);
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        rc = export_message(work, &records[i]);
        progress_show("export: %zu of %zu messages", i + 1, count);
    }
    progress_end();
    if (rc == ERR_OK)
        rc = mail_sink_finish(work->sink);
    if (rc)
        return rc;
    uint64_t lost = mail_sink_keywords_lost(work->sink);
    if (lost)
        progress_line("%llu keywords were left out: a Maildir has room for 26 kinds",
                      (unsigned long long)lost);
    return work->failed || lost ? ERR_NO : ERR_OK;
}

static int parse_format(const char *text, enum mail_format *format)
{
    if (text && strcmp(text, "maildir") != 0 && strcmp(text, "mbox") != 0)
        return fail(ERR_INVALID, "--format %s: neither maildir nor mbox", text);
    *format = text && strcmp(text, "mbox") == 0 ? MAIL_MBOX : MAIL_MAILDIR;
    return ERR_OK;
}

int cmd_export(struct cli *cli)
{
    struct option options[] = {{"--at", true, NULL}, {"--format", true, NULL}};
    struct mail_sink_options sink = {.sync = true};
    struct exporting *work = calloc(1, sizeof *work);
    int rc = work ? cli_options(cli, options, 2) : fail(ERR_NOMEM, "out of memory");
    if (rc == ERR_OK)
        rc = parse_format(options[1].value, &sink.format);
    if (rc == ERR_OK)
        rc = cli_view(cli, cli->words[0], options[0].value, &work->view);
    if (rc == ERR_OK) {
        work->cli = cli;
        sink.uidvalidity = view_header(work->view)->facts.uidvalidity;
        sink.uidnext = view_header(work->view)->facts.uidnext;
        rc = mail_sink_open(cli->words[1], &sink, &work->sink);
        if (rc == ERR_OK) {
            rc = export_view(work);
            mail_sink_close(work->sink);
        }
        view_close(work->view);
    }
    free(work);
    return rc;
}
