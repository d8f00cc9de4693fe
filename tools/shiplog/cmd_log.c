/* log: the journal, a line an entry, with what was before and after. */
#include "base/err.h"
#include "mailbox/change.h"
#include "tools/shiplog/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BATCH_BYTES (1u << 20)  /* of entries copied out in one read transaction */
#define FOLLOW_PAUSE 100000000L /* nanoseconds between two looks */

struct logging {
    struct cli *cli;
    uint64_t after; /* the last entry that was read */
    uint64_t until;
    bool by_name; /* only mailboxes that bore this name */
    struct name name;
    uint64_t id;  /* only this mailbox; 0: any */
    uint64_t uid; /* only this UID; 0: any */
    bool by_kind;
    enum entry_kind kind;
    struct buf entries;
    struct position last;
    bool trimmed_ok; /* begins with the first entry there is */
    /* mailbox ids and the names that they bear at this point of the log */
    struct known {
        uint64_t id;
        struct name name;
        bool bore; /* the name that is looked for, at any time */
    } * known;
    size_t known_count;
    struct change change;
};

static struct known *know(struct logging *log, uint64_t id)
{
    for (size_t i = 0; i < log->known_count; i++)
        if (log->known[i].id == id)
            return &log->known[i];
    return NULL;
}

static int add_known(struct logging *log, const struct header *header)
{
    struct known *known = realloc(log->known, (log->known_count + 1) * sizeof *known);
    if (!known)
        return fail(ERR_NOMEM, "out of memory");
    log->known = known;
    known[log->known_count++] =
        (struct known){.id = header->id,
                       .name = header->facts.name,
                       .bore = log->by_name && name_equal(&header->facts.name, &log->name)};
    return ERR_OK;
}

static int learn_names(struct tx *tx, void *arg)
{
    struct logging *log = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    log->known_count = 0;
    if (log->trimmed_ok)
        log->after = tx_window(tx)->base.modseq;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        rc = add_known(log, &header);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* Every mailbox that bore the name at some time within the window: found by its creations and
 * renames. */
static int learn_bearers(struct tx *tx, void *arg)
{
    struct logging *log = arg;
    struct journal_cursor *cursor;
    struct entry entry;
    int rc = journal_cursor_open(tx_db(tx), &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, 0, &entry, NULL); rc == ERR_OK;
         rc = journal_next(cursor, &entry, NULL)) {
        struct known *known = know(log, entry.mailbox);
        if (!known || (entry.kind != ENTRY_CREATE && entry.kind != ENTRY_RENAME))
            continue;
        rc = change_decode(&entry, &log->change);
        if (rc)
            break;
        if (log->change.facts_changed & FACT_NAME)
            known->bore |= name_equal(&log->change.before.name, &log->name) ||
                           name_equal(&log->change.after.name, &log->name);
    }
    journal_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

static void print_flags_of(struct buf *out, uint32_t system, struct bytes keywords)
{
    flags_print(system, keywords, out);
}

static void print_number(struct buf *out, const char *format, uint64_t number)
{
    char text[64];
    int size = snprintf(text, sizeof text, format, number);
    buf_put(out, text, (size_t)size);
}

static void describe_facts(const struct logging *log, const struct facts *facts, uint32_t which,
                           struct buf *out)
{
    char name[NAME_TEXT_SIZE];
    if (which & FACT_NAME && facts->name.size) {
        cli_print_name(log->cli, &facts->name, name);
        buf_put(out, name, strlen(name));
    }
    if (which & FACT_STATE && facts->state == MAILBOX_DELETED)
        buf_put(out, out->size ? " deleted" : "deleted", out->size ? 8 : 7);
    if (which & FACT_UIDVALIDITY && facts->uidvalidity)
        print_number(out, out->size ? " uidvalidity=%" PRIu64 : "uidvalidity=%" PRIu64,
                     facts->uidvalidity);
    if (which & FACT_DELETEDMODSEQ)
        print_number(out, out->size ? " deletedmodseq=%" PRIu64 : "deletedmodseq=%" PRIu64,
                     facts->deletedmodseq);
}

static struct bytes set_of(const struct change *change, uint64_t hash)
{
    for (size_t i = 0; i < change->set_count; i++)
        if (keywords_hash(change->sets[i]) == hash)
            return change->sets[i];
    return bytes_of(NULL, 0);
}

static void describe(const struct logging *log, const struct change *change, struct buf *before,
                     struct buf *after)
{
    const struct record *record = change->records;
    switch (change->kind) {
    case ENTRY_FLAGS:
        print_flags_of(before, change->system_before, change->keywords_before);
        print_flags_of(after, change->system_after, change->keywords_after);
        break;
    case ENTRY_APPEND:
        print_flags_of(after, record->flags & FLAG_SYSTEM, set_of(change, record->keywords));
        break;
    case ENTRY_EXPUNGE:
        if (change->record_count == 1)
            print_flags_of(before, record->flags & FLAG_SYSTEM, set_of(change, record->keywords));
        break;
    case ENTRY_SEEN:
        buf_put(change->seen_after ? after : before, change->user.data, change->user.size);
        break;
    case ENTRY_META:
        buf_put(before, change->value_before.value.data, change->value_before.value.size);
        buf_put(after, change->value_after.data, change->value_after.size);
        break;
    default:
        describe_facts(log, &change->before, change->facts_changed, before);
        describe_facts(log, &change->after, change->facts_changed, after);
        break;
    }
}

static void print_entry(struct logging *log, const struct entry *entry, size_t size,
                        const struct uidset *uids)
{
    struct out *out = log->cli->out;
    struct buf text = {0}, before = {0}, after = {0};
    char name[NAME_TEXT_SIZE] = "";
    const struct known *known = know(log, entry->mailbox);
    uint64_t bytes = 0;
    if (known && known->name.size)
        cli_print_name(log->cli, &known->name, name);
    uidset_print(uids, &text);
    if (entry->kind != ENTRY_EPOCH)
        describe(log, &log->change, &before, &after);
    if (entry->kind == ENTRY_APPEND)
        for (size_t i = 0; i < log->change.record_count; i++)
            bytes += log->change.records[i].size;
    else
        bytes = size;
    out_number(out, "modseq", entry->modseq);
    out_number(out, "epoch", entry->epoch);
    out_time(out, "time", entry->time);
    out_bytes(out, "actor", entry->actor);
    out_text(out, "kind", entry_kind_name(entry->kind));
    out_text(out, "mailbox", name);
    out_bytes(out, "uids", buf_view(&text));
    out_bytes(out, "before", buf_view(&before));
    out_bytes(out, "after", buf_view(&after));
    out_number(out, "bytes", bytes);
    out_end(out);
    buf_free(&text);
    buf_free(&before);
    buf_free(&after);
}

static bool wanted(const struct logging *log, const struct entry *entry, const struct uidset *uids)
{
    const struct known *known = NULL;
    for (size_t i = 0; i < log->known_count && !known; i++)
        known = log->known[i].id == entry->mailbox ? &log->known[i] : NULL;
    if (log->id && entry->mailbox != log->id)
        return false;
    if (log->by_name && !(known && known->bore))
        return false;
    if (log->by_kind && entry->kind != log->kind)
        return false;
    return !log->uid || uidset_contains(uids, (uint32_t)log->uid);
}

static int print_one(struct logging *log, struct bytes encoded)
{
    struct entry entry;
    struct uidset uids = {0};
    int rc = entry_decode(encoded, &entry);
    change_reset(&log->change);
    if (rc == ERR_OK && entry.kind != ENTRY_EPOCH)
        rc = change_decode(&entry, &log->change);
    if (rc == ERR_OK && entry.kind != ENTRY_EPOCH)
        rc = change_uids(&log->change, &uids);
    if (rc == ERR_OK) {
        /* A name that an entry gives or takes away is shown as it became. */
        struct known *known = know(log, entry.mailbox);
        if (known && log->change.facts_changed & FACT_NAME && log->change.after.name.size)
            known->name = log->change.after.name;
        if (wanted(log, &entry, &uids))
            print_entry(log, &entry, encoded.size, &uids);
    }
    uidset_free(&uids);
    return rc;
}

static int copy_some(struct tx *tx, void *arg)
{
    struct logging *log = arg;
    buf_reset(&log->entries);
    return journal_copy(tx_db(tx), log->after, BATCH_BYTES, &log->entries, &log->last);
}

static int print_some(struct logging *log)
{
    int rc = store_read(log->cli->store, copy_some, log);
    struct bytes left = buf_view(&log->entries);
    while (rc == ERR_OK && left.size) {
        size_t size = entry_size(left);
        if (size == 0)
            return fail(ERR_CORRUPT, "journal: an entry is cut short");
        if (load_u64(left.data + 24) > log->until)
            return ERR_END;
        rc = print_one(log, bytes_of(left.data, size));
        left = bytes_of(left.data + size, left.size - size);
    }
    if (rc == ERR_OK)
        log->after = log->last.modseq;
    return rc;
}

static int follow(struct logging *log)
{
    struct timespec pause = {.tv_nsec = FOLLOW_PAUSE};
    for (;;) {
        int rc = print_some(log);
        if (rc && rc != ERR_END)
            return rc;
        fflush(stdout);
        if (rc == ERR_END) {
            nanosleep(&pause, NULL);
            rc = store_read(log->cli->store, learn_names, log);
            if (rc)
                return rc;
        }
    }
}

static int prepare(struct logging *log, const struct option *options)
{
    struct cli *cli = log->cli;
    const char *mailbox = cli->count ? cli->words[0] : NULL;
    int rc = ERR_OK;
    log->until = UINT64_MAX;
    log->trimmed_ok = !options[0].value;
    if (options[0].value)
        rc = cli_when(cli, options[0].value, &log->after);
    /* Inclusive: the entry itself is shown. */
    if (rc == ERR_OK && options[0].value && log->after)
        log->after--;
    if (rc == ERR_OK && options[1].value)
        rc = cli_when(cli, options[1].value, &log->until);
    if (rc == ERR_OK && options[2].value)
        rc = cli_number(options[2].value, UINT32_MAX, &log->uid);
    log->by_kind = options[3].value;
    if (rc == ERR_OK && log->by_kind && !entry_kind_parse(options[3].value, &log->kind))
        rc = fail(ERR_INVALID, "log: %s: no such kind of entry", options[3].value);
    if (rc || !mailbox)
        return rc ? rc : store_read(cli->store, learn_names, log);
    if (strncmp(mailbox, "id:", 3) == 0)
        rc = cli_mailbox_id(cli, mailbox, 0, &log->id);
    else
        rc = cli_name(cli, mailbox, &log->name);
    log->by_name = !log->id;
    if (rc == ERR_OK)
        rc = store_read(cli->store, learn_names, log);
    if (rc == ERR_OK && log->by_name)
        rc = store_read(cli->store, learn_bearers, log);
    bool any = log->id;
    for (size_t i = 0; i < log->known_count; i++)
        any |= log->known[i].bore;
    return rc == ERR_OK && !any ? fail(ERR_NOTFOUND, "mailbox %s: there is none", mailbox) : rc;
}

int cmd_log(struct cli *cli)
{
    struct option options[] = {{"--since", true, NULL},
                               {"--until", true, NULL},
                               {"--uid", true, NULL},
                               {"--kind", true, NULL},
                               {"--follow", false, NULL}};
    struct logging log = {.cli = cli};
    int rc = cli_options(cli, options, 5);
    if (rc == ERR_OK)
        rc = prepare(&log, options);
    log.trimmed_ok = false;
    while (rc == ERR_OK)
        rc = options[4].value ? follow(&log) : print_some(&log);
    buf_free(&log.entries);
    change_free(&log.change);
    free(log.known);
    return rc == ERR_END ? ERR_OK : rc;
}
