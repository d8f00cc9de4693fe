/* journal: the window, what it keeps, what goes to the archive, and its proof. */
#include "base/err.h"
#include "base/times.h"
#include "mailbox/check.h"
#include "mailbox/retain.h"
#include "tools/shiplog/cli.h"

#include <stdlib.h>
#include <string.h>

struct journal_facts {
    struct journal_window window;
    struct entry first; /* without its views */
};

static int read_journal_facts(struct tx *tx, void *arg)
{
    struct journal_facts *facts = arg;
    struct journal_cursor *cursor;
    facts->window = *tx_window(tx);
    facts->first = (struct entry){.modseq = facts->window.base.modseq + 1};
    int rc = journal_cursor_open(tx_db(tx), &cursor);
    if (rc)
        return rc;
    rc = journal_seek(cursor, 0, &facts->first, NULL);
    journal_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

static int journal_status(struct cli *cli)
{
    struct journal_facts facts;
    int rc = store_read(cli->store, read_journal_facts, &facts);
    if (rc)
        return rc;
    out_number(cli->out, "first", facts.first.modseq);
    out_number(cli->out, "last", facts.window.last.modseq);
    out_number(cli->out, "entries", facts.window.entries);
    out_number(cli->out, "bytes", facts.window.bytes);
    if (facts.window.entries)
        out_time(cli->out, "oldest", facts.first.time);
    else
        out_text(cli->out, "oldest", NULL);
    out_end(cli->out);
    return ERR_OK;
}

static int journal_verify(struct cli *cli)
{
    uint64_t wrong = 0;
    int rc = check_journal(cli->store, cli_report, cli, &wrong);
    return rc == ERR_OK && wrong ? ERR_NO : rc;
}

/* What is from that point on stays, so that it can still be looked at. */
static int parse_before(struct cli *cli, const char *before, struct cut *cut)
{
    uint64_t modseq = 0;
    int rc = cli_when(cli, before, &modseq);
    cut->entries = 0;
    cut->up_to = rc == ERR_OK && modseq ? modseq - 1 : 0;
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

static int journal_cut(struct cli *cli, const char *keep, const char *before, bool archive)
{
    struct cut cut = {
        .bytes = UINT64_MAX, .before = INT64_MIN, .up_to = UINT64_MAX, .held_from = UINT64_MAX};
    struct retained done = {0};
    int rc = ERR_OK;
    if ((keep && before) || (archive && !keep && !before))
        return cli_usage(cli);
    if (keep)
        rc = cli_number(keep, UINT64_MAX, &cut.entries);
    else if (before)
        rc = parse_before(cli, before, &cut);
    if (rc)
        return rc;
    rc = keep || before ? store_cut(cli->store, &cut, archive, &done)
                        : store_retain(cli->store, times_now(), true, &done);
    if (rc)
        return rc;
    if (archive)
        out_number(cli->out, "archived", done.archived);
    out_number(cli->out, "trimmed", done.trimmed);
    out_end(cli->out);
    return ERR_OK;
}

static int load_policy(struct tx *tx, void *arg)
{
    return retention_load(tx_db(tx), arg);
}

static int save_policy(struct tx *tx, void *arg)
{
    return retention_save(tx_db(tx), arg);
}

/* A number with K, M, G or T behind it, or `none`. */
static int parse_amount(const char *text, uint64_t *amount)
{
    static const char units[] = "KMGT";
    char digits[24];
    size_t length = strlen(text);
    const char *unit = length ? strchr(units, text[length - 1]) : NULL;
    unsigned shift = unit ? 10u * (unsigned)(unit - units + 1) : 0;
    if (strcmp(text, "none") == 0) {
        *amount = 0;
        return ERR_OK;
    }
    length -= unit != NULL;
    if (length >= sizeof digits)
        return fail(ERR_INVALID, "%s: not an amount", text);
    memcpy(digits, text, length);
    digits[length] = '\0';
    int rc = cli_number(digits, UINT64_MAX >> shift, amount);
    if (rc == ERR_OK && *amount == 0)
        rc = fail(ERR_INVALID, "%s: `none` is no limit", text);
    *amount <<= shift;
    return rc;
}

static int parse_policy(const struct option *options, struct retention *policy)
{
    uint64_t *const amounts[] = {&policy->entries, &policy->bytes, &policy->slot_bound};
    int rc = ERR_OK;
    for (size_t i = 0; i < 3 && rc == ERR_OK; i++)
        if (options[i].value)
            rc = parse_amount(options[i].value, amounts[i]);
    const char *age = options[3].value;
    const char *archive = options[4].value;
    if (rc == ERR_OK && age && strcmp(age, "none") == 0)
        policy->age = 0;
    else if (rc == ERR_OK && age)
        rc = times_parse_age(age, false, &policy->age);
    if (rc == ERR_OK && archive && strcmp(archive, "yes") != 0 && strcmp(archive, "no") != 0)
        rc = fail(ERR_INVALID, "--archive %s: yes or no", archive);
    if (rc == ERR_OK && archive)
        policy->archive = strcmp(archive, "yes") == 0;
    return rc;
}

static void print_limit(struct out *out, const char *name, uint64_t limit)
{
    if (limit)
        out_number(out, name, limit);
    else
        out_text(out, name, NULL);
}

static int journal_retain(struct cli *cli, const struct option *options)
{
    struct retention policy;
    bool changes = false;
    int rc = store_read(cli->store, load_policy, &policy);
    for (size_t i = 0; i < 5; i++)
        changes = changes || options[i].value;
    if (rc == ERR_OK)
        rc = parse_policy(options, &policy);
    if (rc == ERR_OK && changes)
        rc = store_maintain(cli->store, save_policy, &policy);
    if (rc)
        return rc;
    print_limit(cli->out, "entries", policy.entries);
    print_limit(cli->out, "bytes", policy.bytes);
    print_limit(cli->out, "seconds", (uint64_t)(policy.age / TIMES_SECOND));
    print_limit(cli->out, "slot_bound", policy.slot_bound);
    out_bool(cli->out, "archive", policy.archive);
    out_end(cli->out);
    return ERR_OK;
}

int cmd_journal(struct cli *cli)
{
    struct option options[] = {{"--entries", true, NULL},    {"--bytes", true, NULL},
                               {"--slot-bound", true, NULL}, {"--age", true, NULL},
                               {"--archive", true, NULL},    {"--keep", true, NULL},
                               {"--before", true, NULL}};
    bool policy = false;
    int rc = cli_options(cli, options, 7);
    if (rc)
        return rc;
    for (size_t i = 0; i < 5; i++)
        policy = policy || options[i].value;
    const char *keep = options[5].value;
    const char *before = options[6].value;
    const char *word = cli->words[0];
    bool cuts = strcmp(word, "trim") == 0 || strcmp(word, "archive") == 0;
    bool retains = strcmp(word, "retain") == 0;
    if ((policy && !retains) || ((keep || before) && !cuts))
        return cli_usage(cli);
    if (cuts)
        return journal_cut(cli, keep, before, *word == 'a');
    if (retains)
        return journal_retain(cli, options);
    if (strcmp(word, "status") == 0)
        return journal_status(cli);
    return strcmp(word, "verify") == 0 ? journal_verify(cli) : cli_usage(cli);
}
