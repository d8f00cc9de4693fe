/* Commands about mailboxes as a whole: create, rename, delete, mailboxes, meta, expire. */
#include "base/err.h"
#include "base/times.h"
#include "tools/shiplog/cli.h"

#include <stdlib.h>
#include <string.h>

struct names {
    const struct cli *cli;
    struct name from;
    struct name to;
};

static int do_create(struct tx *tx, void *arg)
{
    struct names *names = arg;
    return mailbox_create(tx, &names->from, NULL);
}

static int do_rename(struct tx *tx, void *arg)
{
    struct names *names = arg;
    int rc = cli_name_of(tx, names->cli, names->cli->words[0], &names->from);
    return rc ? rc : mailbox_rename(tx, &names->from, &names->to);
}

static int do_delete(struct tx *tx, void *arg)
{
    struct names *names = arg;
    struct mailbox *mailbox;
    int rc = cli_open(tx, names->cli, names->cli->words[0], NULL, &mailbox);
    return rc ? rc : mailbox_delete(mailbox);
}

static int change_names(struct cli *cli, int (*change)(struct tx *, void *))
{
    struct names names = {.cli = cli};
    int rc = cli_options(cli, NULL, 0);
    if (rc == ERR_OK && change == do_create)
        rc = cli_name(cli, cli->words[0], &names.from);
    if (rc == ERR_OK && change == do_rename)
        rc = cli_name(cli, cli->words[1], &names.to);
    return rc ? rc : store_commit(cli->store, change, &names, NULL);
}

int cmd_create(struct cli *cli)
{
    return change_names(cli, do_create);
}

int cmd_rename(struct cli *cli)
{
    return change_names(cli, do_rename);
}

int cmd_delete(struct cli *cli)
{
    return change_names(cli, do_delete);
}

int cmd_mailboxes(struct cli *cli)
{
    struct option options[] = {{"--at", true, NULL}};
    struct header *headers = NULL;
    size_t count = 0;
    uint64_t modseq = 0;
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK && options[0].value)
        rc = cli_when(cli, options[0].value, &modseq);
    /* Before the first entry there was nothing. */
    if (rc == ERR_OK && !(options[0].value && modseq == 0))
        rc = view_mailboxes(cli->store, modseq, &headers, &count);
    for (size_t i = 0; i < count; i++) {
        const struct header *header = &headers[i];
        char name[NAME_TEXT_SIZE];
        cli_print_name(cli, &header->facts.name, name);
        out_text(cli->out, "name", name);
        out_hex(cli->out, "id", header->id);
        out_number(cli->out, "messages", header->messages);
        out_number(cli->out, "unseen", header->unseen);
        out_number(cli->out, "bytes", header->bytes);
        out_number(cli->out, "uidvalidity", header->facts.uidvalidity);
        out_number(cli->out, "uidnext", header->facts.uidnext);
        out_number(cli->out, "highestmodseq", header->facts.highestmodseq);
        out_number(cli->out, "deletedmodseq", header_forgotten(header));
        out_hex(cli->out, "digest", header_digest(header));
        out_end(cli->out);
    }
    free(headers);
    return rc;
}

struct meta {
    const struct cli *cli;
    const char *mailbox;
    const char *user;
    const char *key;
    const char *value;
    struct buf found; /* get: the value; list: keys and values */
};

static int open_meta(struct tx *tx, const struct meta *meta, struct mailbox **mailbox)
{
    *mailbox = NULL;
    return meta->mailbox ? cli_open(tx, meta->cli, meta->mailbox, NULL, mailbox) : ERR_OK;
}

static int not_set(const struct meta *meta)
{
    return fail(ERR_NOTFOUND, "meta %s: not set", meta->key);
}

static int meta_read(struct tx *tx, void *arg)
{
    struct meta *meta = arg;
    struct mailbox *mailbox;
    struct bytes value;
    buf_reset(&meta->found);
    int rc = open_meta(tx, meta, &mailbox);
    if (rc == ERR_OK)
        rc = mailbox_meta_get(tx, mailbox, meta->user, meta->key, &value);
    if (rc)
        return rc == ERR_END ? not_set(meta) : rc;
    buf_put(&meta->found, value.data, value.size);
    return ERR_OK;
}

static int meta_write(struct tx *tx, void *arg)
{
    struct meta *meta = arg;
    struct mailbox *mailbox;
    int rc = open_meta(tx, meta, &mailbox);
    if (rc)
        return rc;
    if (meta->value)
        return mailbox_meta_set(tx, mailbox, meta->user, meta->key, bytes_text(meta->value));
    rc = mailbox_meta_unset(tx, mailbox, meta->user, meta->key);
    return rc == ERR_END ? not_set(meta) : rc;
}

static int meta_collect(struct tx *tx, void *arg)
{
    struct meta *meta = arg;
    struct mailbox *mailbox;
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    buf_reset(&meta->found);
    int rc = open_meta(tx, meta, &mailbox);
    uint64_t id = mailbox ? mailbox_header(mailbox)->id : 0;
    while (rc == ERR_OK && (rc = meta_next(tx_db(tx), id, &row, &user, &key, &value)) == ERR_OK) {
        if (value.state != VALUE_SET || !bytes_equal(user, bytes_text(meta->user)))
            continue;
        buf_bytes(&meta->found, key);
        buf_bytes(&meta->found, value.value);
    }
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

static void print_meta(struct cli *cli, struct bytes key, struct bytes value)
{
    out_bytes(cli->out, "key", key);
    out_bytes(cli->out, "value", value);
    out_end(cli->out);
}

/* Behind the verb stand [MAILBOX], as many words as the verb needs: one more than that is the
 * mailbox. */
static int meta_words(struct cli *cli, struct meta *meta, int needed)
{
    int given = cli->count - 1;
    if (given != needed && given != needed + 1)
        return cli_usage(cli);
    char **words = cli->words + 1;
    if (given == needed + 1)
        meta->mailbox = *words++;
    meta->key = needed > 0 ? words[0] : NULL;
    meta->value = needed > 1 ? words[1] : NULL;
    return ERR_OK;
}

int cmd_meta(struct cli *cli)
{
    static const struct {
        const char *verb;
        int needed;
        int (*run)(struct tx *, void *);
        bool write;
    } verbs[] = {{"get", 1, meta_read, false},
                 {"set", 2, meta_write, true},
                 {"unset", 1, meta_write, true},
                 {"list", 0, meta_collect, false}};
    struct option options[] = {{"--as", true, NULL}};
    struct meta meta = {.cli = cli};
    int rc = cli_options(cli, options, 1);
    if (rc)
        return rc;
    meta.user = options[0].value;
    size_t verb = 0;
    while (verb < 4 && strcmp(verbs[verb].verb, cli->words[0]) != 0)
        verb++;
    rc = verb < 4 ? meta_words(cli, &meta, verbs[verb].needed) : cli_usage(cli);
    if (rc)
        return rc;
    rc = verbs[verb].write ? store_commit(cli->store, verbs[verb].run, &meta, NULL)
                           : store_read(cli->store, verbs[verb].run, &meta);
    /* A list says what is not there, too. */
    bool listed = rc == ERR_OK && verbs[verb].run == meta_collect;
    if (listed)
        rc = cli_prove(cli, meta.mailbox, ERR_NOTFOUND) == ERR_CORRUPT ? ERR_CORRUPT : ERR_OK;
    else
        rc = cli_prove(cli, meta.mailbox, rc);
    if (rc == ERR_OK && verbs[verb].run == meta_read)
        print_meta(cli, bytes_text(meta.key), buf_view(&meta.found));
    struct reader found = reader_of(buf_view(&meta.found));
    while (rc == ERR_OK && verbs[verb].run == meta_collect && reader_left(&found)) {
        struct bytes key = read_bytes(&found);
        print_meta(cli, key, read_bytes(&found));
    }
    buf_free(&meta.found);
    return rc;
}

int cmd_expire(struct cli *cli)
{
    struct option options[] = {{"--older-than", true, NULL}};
    uint64_t id = 0;
    uint64_t purged = 0;
    int64_t age;
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK && !options[0].value)
        rc = cli_usage(cli);
    if (rc == ERR_OK)
        rc = times_parse_age(options[0].value, false, &age);
    if (rc == ERR_OK && cli->count == 1)
        rc = cli_mailbox_id(cli, cli->words[0], 0, &id);
    if (rc == ERR_OK)
        rc = store_expire(cli->store, id, age, &purged);
    if (rc)
        return rc;
    out_number(cli->out, "purged", purged);
    out_end(cli->out);
    return ERR_OK;
}
