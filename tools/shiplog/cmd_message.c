/* Commands about messages: append, cat, flags, expunge, copy-messages, move. */
#include "base/err.h"
#include "base/times.h"
#include "tools/shiplog/uids.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIECE 65536u

struct appending {
    struct cli *cli;
    const char *mailbox;
    struct append append;
    uint32_t uid;
};

static int do_append(struct tx *tx, void *arg)
{
    struct appending *work = arg;
    struct mailbox *mailbox;
    int rc = cli_open(tx, work->cli, work->mailbox, NULL, &mailbox);
    return rc ? rc : mailbox_append(mailbox, &work->append, &work->uid);
}

static int read_all(struct draft *draft, int fd, const char *path)
{
    uint8_t piece[PIECE];
    for (;;) {
        ssize_t got = read(fd, piece, sizeof piece);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("%s", path);
        if (got == 0)
            return draft_finish(draft);
        int rc = draft_write(draft, piece, (size_t)got);
        if (rc)
            return rc;
    }
}

static int parse_date(const char *text, int64_t *date)
{
    if (times_parse_rfc3339(text, date) == ERR_OK ||
        times_parse_rfc5322(text, strlen(text), date) == ERR_OK)
        return ERR_OK;
    return fail(ERR_INVALID,
                "%s: not a date (2026-11-23T10:00:00Z or Mon, 23 Nov 2026 10:00:00 +0000)", text);
}

static int find_mailbox(struct tx *tx, void *arg)
{
    struct appending *work = arg;
    struct mailbox *mailbox;
    return cli_open(tx, work->cli, work->mailbox, NULL, &mailbox);
}

/* The message comes in before the mailbox is changed, so that nobody waits for a slow writer. A
 * mailbox that is not there is told before. */
static int append_from(struct appending *work, int fd, const char *path)
{
    struct draft *draft;
    int rc = store_read(work->cli->store, find_mailbox, work);
    work->cli->no_mailbox = rc == ERR_NOTFOUND;
    if (rc == ERR_OK)
        rc = draft_open(store_db(work->cli->store), DRAFT_RAW, &draft);
    if (rc)
        return rc;
    rc = read_all(draft, fd, path);
    work->append.draft = draft;
    if (rc == ERR_OK)
        rc = store_commit(work->cli->store, do_append, work, NULL);
    draft_close(draft);
    return rc;
}

static int append_path(struct appending *work, const char *path)
{
    if (!path || strcmp(path, "-") == 0)
        return append_from(work, STDIN_FILENO, "standard input");
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return fail_errno("%s", path);
    int rc = append_from(work, fd, path);
    close(fd);
    return rc;
}

int cmd_append(struct cli *cli)
{
    struct option options[] = {
        {"--flags", true, NULL}, {"--date", true, NULL}, {"--mda", false, NULL}};
    struct flags flags = {0};
    struct appending work = {.cli = cli, .append = {.internal_date = times_now()}};
    int rc = cli_options(cli, options, 3);
    if (rc == ERR_OK && options[0].value)
        rc = flags_add_list(&flags, options[0].value);
    if (rc == ERR_OK && options[1].value)
        rc = parse_date(options[1].value, &work.append.internal_date);
    work.mailbox = cli->words[0];
    work.append.system = flags.system;
    work.append.keywords = buf_view(&flags.keywords);
    if (rc == ERR_OK)
        rc = append_path(&work, cli->count > 1 ? cli->words[1] : NULL);
    flags_free(&flags);
    if (rc)
        return rc;
    out_number(cli->out, "uid", work.uid);
    out_end(cli->out);
    return ERR_OK;
}

static int write_out(struct content_reader *reader)
{
    uint8_t piece[PIECE];
    size_t got;
    do {
        int rc = content_read(reader, piece, sizeof piece, &got);
        if (rc)
            return rc;
        if (fwrite(piece, 1, got, stdout) != got)
            return fail_errno("standard output");
    } while (got);
    return ERR_OK;
}

struct finding {
    const struct cli *cli;
    uint32_t uid;
    struct guid guid;
};

static int find_now(struct tx *tx, void *arg)
{
    struct finding *work = arg;
    struct mailbox *mailbox;
    struct record record = {0};
    int rc = cli_open(tx, work->cli, work->cli->words[0], NULL, &mailbox);
    if (rc == ERR_OK)
        rc = mailbox_record(mailbox, work->uid, &record);
    if (rc == ERR_END || (rc == ERR_OK && !record_live(&record)))
        return uids_none(work->cli->words[0], work->uid);
    work->guid = record.guid;
    struct content content;
    if (rc == ERR_OK)
        rc = content_get(tx_db(tx), &record.guid, &content);
    return rc == ERR_END ? fail(ERR_CORRUPT, "the content of a live message has no row") : rc;
}

static int find_then(struct cli *cli, const char *at, struct finding *work)
{
    struct view *view;
    const struct record *records;
    size_t count;
    int rc = cli_view(cli, cli->words[0], at, &view);
    if (rc)
        return rc;
    rc = view_records(view, NULL, &records, &count);
    size_t i = 0;
    while (rc == ERR_OK && i < count && records[i].uid != work->uid)
        i++;
    if (rc == ERR_OK && i == count)
        rc = uids_none(cli->words[0], work->uid);
    if (rc == ERR_OK)
        work->guid = records[i].guid;
    view_close(view);
    return rc;
}

int cmd_cat(struct cli *cli)
{
    struct option options[] = {{"--at", true, NULL}};
    struct finding work = {.cli = cli};
    struct content_reader *reader;
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK)
        rc = cli_uid(cli->words[1], &work.uid);
    if (rc)
        return rc;
    rc = options[0].value ? find_then(cli, options[0].value, &work)
                          : cli_prove(cli, cli->words[0], store_read(cli->store, find_now, &work));
    if (rc == ERR_OK)
        rc = content_open(store_db(cli->store), &work.guid, &reader);
    if (rc)
        return rc;
    rc = write_out(reader);
    content_close(reader);
    return rc;
}

/* Flags on a command line: bare ones replace, +FLAG adds, -FLAG removes. Both signs may stand
 * together: that makes two changes. */
struct flagging {
    struct flag_change changes[3];
    bool given[3];
};

static int parse_flag_words(struct cli *cli, struct flagging *work)
{
    work->changes[1].mode = FLAGS_ADD;
    work->changes[2].mode = FLAGS_REMOVE;
    for (int i = 2; i < cli->count; i++) {
        const char *word = cli->words[i];
        int which = *word == '+' ? 1 : *word == '-' ? 2 : 0;
        work->given[which] = true;
        int rc =
            flags_add(&work->changes[which].flags, word + (which > 0), strlen(word) - (which > 0));
        if (rc)
            return rc;
    }
    if (work->given[0] && (work->given[1] || work->given[2]))
        return fail(ERR_USAGE,
                    "flags: bare flags replace all: they cannot stand beside +FLAG or -FLAG");
    return ERR_OK;
}

static int do_flags(struct tx *tx, struct mailbox *mailbox, const struct uidset *uids, void *arg)
{
    struct flagging *work = arg;
    int rc = ERR_OK;
    (void)tx;
    for (int i = 0; i < 3 && rc == ERR_OK; i++)
        if (work->given[i])
            rc = mailbox_flag(mailbox, uids, &work->changes[i], NULL);
    return rc;
}

int cmd_flags(struct cli *cli)
{
    struct option options[] = {{"--as", true, NULL}};
    struct flagging flagging = {0};
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK)
        rc = parse_flag_words(cli, &flagging);
    /* A user who is not the owner has \Seen changed by entries of their own. */
    unsigned changes = (flagging.given[1] && flagging.given[2] ? 2u : 1u);
    struct uid_work work = {.mailbox = cli->words[0],
                            .user = options[0].value,
                            .uids = cli->words[1],
                            .share = options[0].value ? 2 * changes : changes,
                            .change = do_flags,
                            .arg = &flagging};
    if (rc == ERR_OK)
        rc = uids_change(cli, &work);
    for (int i = 0; i < 3; i++)
        flags_free(&flagging.changes[i].flags);
    return rc;
}

struct expunging {
    bool immediate;
    uint64_t now; /* in this commit */
    uint64_t all;
};

static int do_expunge(struct tx *tx, struct mailbox *mailbox, const struct uidset *uids, void *arg)
{
    struct expunging *work = arg;
    (void)tx;
    return mailbox_expunge(mailbox, uids, work->immediate, &work->now);
}

static void count_expunged(void *arg)
{
    struct expunging *work = arg;
    work->all += work->now;
}

int cmd_expunge(struct cli *cli)
{
    struct option options[] = {{"--immediate", false, NULL}};
    int rc = cli_options(cli, options, 1);
    if (rc)
        return rc;
    struct expunging expunging = {.immediate = options[0].value};
    struct uid_work work = {.mailbox = cli->words[0],
                            .uids = cli->words[1],
                            .change = do_expunge,
                            .done = count_expunged,
                            .arg = &expunging};
    rc = uids_change(cli, &work);
    if (rc)
        return rc;
    out_number(cli->out, "expunged", expunging.all);
    out_end(cli->out);
    return ERR_OK;
}

struct copying {
    struct cli *cli;
    bool move;
    struct uidset from;
    struct uidset to;
};

static int do_copy(struct tx *tx, struct mailbox *mailbox, const struct uidset *uids, void *arg)
{
    struct copying *work = arg;
    struct mailbox *target;
    int rc = cli_open(tx, work->cli, work->cli->words[2], NULL, &target);
    if (rc == ERR_OK && work->move && mailbox_header(target)->id == mailbox_header(mailbox)->id)
        rc = fail(ERR_REFUSED, "move: %s is where the messages are already", work->cli->words[2]);
    return rc ? rc : mailbox_copy(mailbox, uids, target, work->move, &work->from, &work->to);
}

static void print_pairs(void *arg)
{
    struct copying *work = arg;
    uint32_t from = 0, to = 0;
    while (uidset_next(&work->from, from + 1, &from) && uidset_next(&work->to, to + 1, &to)) {
        out_number(work->cli->out, "from", from);
        out_number(work->cli->out, "to", to);
        out_end(work->cli->out);
    }
}

static int copy_or_move(struct cli *cli, bool move)
{
    struct copying copying = {.cli = cli, .move = move};
    int rc = cli_options(cli, NULL, 0);
    struct uid_work work = {.mailbox = cli->words[0],
                            .uids = cli->words[1],
                            .change = do_copy,
                            .done = print_pairs,
                            .arg = &copying};
    if (rc == ERR_OK)
        rc = uids_change(cli, &work);
    uidset_free(&copying.from);
    uidset_free(&copying.to);
    return rc;
}

int cmd_copy_messages(struct cli *cli)
{
    return copy_or_move(cli, false);
}

int cmd_move(struct cli *cli)
{
    return copy_or_move(cli, true);
}
