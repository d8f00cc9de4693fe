#include "tools/shiplog/cli.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct command commands[] = {
    {"init", "init [--owner USER | --replica]", 0, 0, cmd_init, false, true, false},
    {"create", "create NAME", 1, 1, cmd_create, false, false, false},
    {"rename", "rename OLD NEW", 2, 2, cmd_rename, false, false, false},
    {"delete", "delete NAME", 1, 1, cmd_delete, false, false, false},
    {"mailboxes", "mailboxes [--at WHEN]", 0, 0, cmd_mailboxes, false, false, false},
    {"append", "append MAILBOX [--flags F,...] [--date D] [--mda] [FILE]", 1, 2, cmd_append, false,
     false, false},
    {"import", "import MAILBOX PATH... [--keep-uids]", 2, WORDS_MAX, cmd_import, false, false,
     false},
    {"export", "export MAILBOX DIR [--at WHEN] [--format maildir|mbox]", 2, 2, cmd_export, false,
     false, false},
    {"flags", "flags MAILBOX UIDSET [+|-]FLAG... [--as USER]", 3, WORDS_MAX, cmd_flags, true, false,
     false},
    {"expunge", "expunge MAILBOX UIDSET [--immediate]", 2, 2, cmd_expunge, true, false, false},
    {"copy-messages", "copy-messages MAILBOX UIDSET TO", 3, 3, cmd_copy_messages, true, false,
     false},
    {"move", "move MAILBOX UIDSET TO", 3, 3, cmd_move, true, false, false},
    {"meta", "meta get|set|unset|list [MAILBOX] [KEY [VALUE]] [--as USER]", 1, 4, cmd_meta, false,
     false, false},
    {"expire", "expire [MAILBOX] --older-than AGE", 0, 1, cmd_expire, false, false, false},
    {"list", "list MAILBOX [UIDSET] [--at WHEN] [--as USER] [--expunged]", 1, 2, cmd_list, false,
     false, false},
    {"cat", "cat MAILBOX UID [--at WHEN]", 2, 2, cmd_cat, false, false, false},
    {"log",
     "log [MAILBOX] [--since WHEN] [--until WHEN] [--uid N] [--kind K] [--follow | --file FILE]", 0,
     1, cmd_log, false, false, false},
    {"diff", "diff MAILBOX FROM [TO] [--as USER]", 2, 3, cmd_diff, false, false, false},
    {"restore", "restore MAILBOX --at WHEN [--into NAME] [--dry-run]", 1, 1, cmd_restore, false,
     false, false},
    {"copy", "copy DIR", 1, 1, cmd_copy, false, false, false},
    {"compact", "compact", 0, 0, cmd_compact, false, false, false},
    {"digest", "digest", 0, 0, cmd_digest, false, false, false},
    {"check", "check [--repair]", 0, 0, cmd_check, false, false, false},
    {"wait", "wait [MODSEQ] [--replicas N] [--timeout S]", 0, 1, cmd_wait, false, false, false},
    {"status", "status", 0, 0, cmd_status, false, false, false},
    {"serve", "serve --stdio", 0, 0, cmd_serve, false, false, false},
    {"sync", "sync [--adopt] [--dry-run] SRC DST", 2, 2, cmd_sync, false, true, true},
    {"promote", "promote [--force]", 0, 0, cmd_promote, false, false, false},
    {"demote", "demote [--follow ADDRESS] [--discard]", 0, 0, cmd_demote, false, false, false},
    {"slots", "slots [drop NAME]", 0, 2, cmd_slots, false, false, false},
    {"journal",
     "journal status|verify | trim [--keep N|--before WHEN] | archive --keep N|--before WHEN | "
     "retain [--entries N] [--bytes N] [--age AGE] [--slot-bound BYTES] [--archive yes|no]",
     1, 1, cmd_journal, false, false, false},
};
const size_t command_count = sizeof commands / sizeof commands[0];

static const struct command *self(const struct cli *cli)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i].name, cli->command) == 0)
            return &commands[i];
    return NULL;
}

int cli_usage(const struct cli *cli)
{
    return fail(ERR_USAGE, "usage: shiplog [-s STORE] %s", self(cli)->usage);
}

static struct option *find_option(struct option *options, size_t count, const char *word)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(options[i].name, word) == 0)
            return &options[i];
    return NULL;
}

int cli_options(struct cli *cli, struct option *options, size_t count)
{
    int kept = 0;
    bool ended = false;
    for (int i = 0; i < cli->count; i++) {
        char *word = cli->words[i];
        if (!ended && strcmp(word, "--") == 0) {
            ended = true;
            continue;
        }
        bool dashes = !ended && word[0] == '-' && word[1] == '-';
        bool dash = !ended && word[0] == '-' && word[1] && !(self(cli)->uidset && kept >= 2);
        struct option *option = dashes ? find_option(options, count, word) : NULL;
        if (!option && (dashes || dash))
            return fail(ERR_USAGE, "%s: unknown option %s (usage: %s)", cli->command, word,
                        self(cli)->usage);
        if (!option) {
            cli->words[kept++] = word;
            continue;
        }
        if (option->takes_value && i + 1 == cli->count)
            return fail(ERR_USAGE, "%s: %s needs a value", cli->command, word);
        option->value = option->takes_value ? cli->words[++i] : word;
    }
    cli->count = kept;
    bool fits = kept >= self(cli)->least && kept <= self(cli)->most;
    return fits ? ERR_OK : cli_usage(cli);
}

void cli_report(void *arg, const char *where, const char *what)
{
    struct cli *cli = arg;
    out_text(cli->out, "where", where);
    out_text(cli->out, "what", what);
    out_end(cli->out);
}

int cli_number(const char *text, uint64_t most, uint64_t *number)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] || digits > 19)
        return fail(ERR_INVALID, "%s: not a number", text);
    *number = strtoull(text, NULL, 10);
    return *number <= most
               ? ERR_OK
               : fail(ERR_INVALID, "%s: more than %llu", text, (unsigned long long)most);
}

int cli_uid(const char *text, uint32_t *uid)
{
    uint64_t number;
    int rc = cli_number(text, UINT32_MAX, &number);
    if (rc == ERR_OK && number == 0)
        rc = fail(ERR_INVALID, "%s: not a UID", text);
    *uid = rc ? 0 : (uint32_t)number;
    return rc;
}

void cli_print_name(const struct cli *cli, const struct name *name, char out[NAME_TEXT_SIZE])
{
    name_print(name, &cli->owner, out);
}

bool cli_parse_id(const char *text, uint64_t *id)
{
    if (strncmp(text, "id:", 3) != 0)
        return false;
    size_t digits = strspn(text + 3, "0123456789abcdefABCDEF");
    if (digits != 16 || text[3 + digits])
        return false;
    *id = strtoull(text + 3, NULL, 16);
    return true;
}

/* A mailbox with the name of an id could never be found by it. */
int cli_name(const struct cli *cli, const char *text, struct name *name)
{
    uint64_t id;
    return cli_parse_id(text, &id)
               ? fail(ERR_INVALID, "mailbox name \"%s\": that is what an id looks like", text)
               : name_parse(text, strlen(text), &cli->owner, name);
}

int cli_open(struct tx *tx, const struct cli *cli, const char *text, const char *user,
             struct mailbox **mailbox)
{
    struct name name;
    uint64_t id;
    if (cli_parse_id(text, &id))
        return mailbox_open_id(tx, id, user, mailbox);
    int rc = cli_name(cli, text, &name);
    return rc ? rc : mailbox_open(tx, &name, user, mailbox);
}

int cli_name_of(struct tx *tx, const struct cli *cli, const char *text, struct name *name)
{
    struct mailbox *mailbox;
    uint64_t id;
    if (!cli_parse_id(text, &id))
        return cli_name(cli, text, name);
    int rc = mailbox_open_id(tx, id, NULL, &mailbox);
    if (rc)
        return rc;
    *name = mailbox_header(mailbox)->facts.name;
    return mailbox_header(mailbox)->facts.state == MAILBOX_LIVE
               ? ERR_OK
               : fail(ERR_NOTFOUND, "mailbox %s: it is deleted", text);
}

int cli_mailbox_id(struct cli *cli, const char *text, uint64_t modseq, uint64_t *id)
{
    struct name name;
    if (cli_parse_id(text, id))
        return ERR_OK;
    int rc = cli_name(cli, text, &name);
    if (rc)
        return rc;
    rc = view_mailbox_id(cli->store, &name, modseq, id);
    return rc == ERR_NOTFOUND
               ? fail(rc, "mailbox %s: there is none%s", text, modseq ? " at that point" : "")
               : rc;
}

struct resolve {
    struct when when;
    uint64_t modseq;
};

static int resolve(struct tx *tx, void *arg)
{
    struct resolve *work = arg;
    return when_resolve(tx, &work->when, &work->modseq);
}

int cli_when(struct cli *cli, const char *text, uint64_t *modseq)
{
    struct resolve work;
    int rc = when_parse(text, &work.when);
    if (rc == ERR_OK)
        rc = store_read(cli->store, resolve, &work);
    if (rc == ERR_OK)
        *modseq = work.modseq;
    return rc;
}

/* By id, or by the name that it bore then. */
static int view_then(struct cli *cli, const char *text, uint64_t modseq, struct view **view)
{
    struct name name;
    uint64_t id;
    if (!cli_parse_id(text, &id)) {
        int rc = cli_name(cli, text, &name);
        return rc ? rc : view_open_at(cli->store, &name, modseq, view);
    }
    int rc = view_open(cli->store, id, view);
    return rc ? rc : view_back(*view, modseq);
}

static bool was_there(const struct view *view)
{
    enum mailbox_state state = view_header(view)->facts.state;
    return state == MAILBOX_LIVE || state == MAILBOX_DELETED;
}

int cli_view(struct cli *cli, const char *text, const char *at, struct view **view)
{
    uint64_t modseq = 0;
    uint64_t id;
    *view = NULL;
    int rc = at ? cli_when(cli, at, &modseq) : cli_mailbox_id(cli, text, 0, &id);
    if (rc)
        return rc;
    if (!at)
        return view_open(cli->store, id, view);
    rc = modseq ? view_then(cli, text, modseq, view) : ERR_NOTFOUND;
    if (rc == ERR_NOTFOUND || (rc == ERR_OK && !was_there(*view)))
        rc = fail(ERR_NOTFOUND, "mailbox %s: there is none at that point", text);
    if (rc) {
        view_close(*view);
        *view = NULL;
    }
    return rc;
}

int cli_prove(struct cli *cli, const char *mailbox, int rc)
{
    char why[512];
    uint64_t id;
    if (rc != ERR_NOTFOUND)
        return rc;
    snprintf(why, sizeof why, "%s", err_message());
    int proof = ERR_OK;
    if (!mailbox)
        proof = view_prove_values(cli->store);
    else if (cli_mailbox_id(cli, mailbox, 0, &id) == ERR_OK)
        proof = view_prove(cli->store, id);
    return proof == ERR_CORRUPT ? proof : fail(rc, "%s", why);
}
