/* diff: which messages of a mailbox came, went, or got other flags between two points. */
#include "base/err.h"
#include "tools/shiplog/describe.h"

struct diff {
    struct cli *cli;
    struct view *from;
    struct view *to;
    const struct record *old;
    const struct record *new;
    size_t old_count;
    size_t new_count;
    size_t found;
};

/* NULL: it was not there. */
static int print_side(struct diff *diff, struct view *view, const char *field,
                      const struct record *record)
{
    struct bytes keywords;
    if (!record) {
        out_text(diff->cli->out, field, NULL);
        return ERR_OK;
    }
    int rc = view_keywords(view, record->keywords, &keywords);
    if (rc == ERR_OK)
        describe_array(diff->cli->out, field, record->flags, keywords);
    return rc;
}

static int print_change(struct diff *diff, uint32_t uid, const struct record *old,
                        const struct record *new)
{
    out_text(diff->cli->out, "change", !old ? "added" : !new ? "removed" : "changed");
    out_number(diff->cli->out, "uid", uid);
    int rc = print_side(diff, diff->from, "before", old);
    if (rc == ERR_OK)
        rc = print_side(diff, diff->to, "after", new);
    if (rc == ERR_OK)
        out_end(diff->cli->out);
    diff->found++;
    return rc;
}

/* A new modseq alone is no change. */
static bool differ(const struct record *old, const struct record *new)
{
    return ((old->flags ^ new->flags) & FLAG_SYSTEM) || old->keywords != new->keywords;
}

static int compare(struct diff *diff)
{
    size_t i = 0, k = 0;
    int rc = ERR_OK;
    while (rc == ERR_OK && (i < diff->old_count || k < diff->new_count)) {
        const struct record *old = i < diff->old_count ? &diff->old[i] : NULL;
        const struct record *new = k < diff->new_count ? &diff->new[k] : NULL;
        if (old && new && old->uid > new->uid)
            old = NULL;
        else if (old && new &&new->uid > old->uid)
            new = NULL;
        i += old != NULL;
        k += new != NULL;
        if (!old || !new || differ(old, new))
            rc = print_change(diff, old ? old->uid : new ? new->uid : 0, old, new);
    }
    return rc;
}

/* Where it begins may be before the mailbox was made: nothing was there then. */
static int open_from(struct diff *diff, const char *when)
{
    uint64_t modseq;
    int rc = cli_when(diff->cli, when, &modseq);
    if (rc == ERR_OK)
        rc = view_open(diff->cli->store, view_header(diff->to)->id, &diff->from);
    return rc ? rc : view_back(diff->from, modseq);
}

int cmd_diff(struct cli *cli)
{
    struct option options[] = {{"--as", true, NULL}};
    struct diff diff = {.cli = cli};
    int rc = cli_options(cli, options, 1);
    const char *user = options[0].value;
    if (rc == ERR_OK)
        rc = cli_view(cli, cli->words[0], cli->count > 2 ? cli->words[2] : NULL, &diff.to);
    if (rc)
        return rc;
    rc = open_from(&diff, cli->words[1]);
    if (rc == ERR_OK)
        rc = view_records(diff.from, user, &diff.old, &diff.old_count);
    if (rc == ERR_OK)
        rc = view_records(diff.to, user, &diff.new, &diff.new_count);
    if (rc == ERR_OK)
        rc = compare(&diff);
    view_close(diff.from);
    view_close(diff.to);
    return rc == ERR_OK && diff.found ? ERR_NO : rc;
}
