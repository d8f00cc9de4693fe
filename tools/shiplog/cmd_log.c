/* log: the journal, or a file of entries, a line an entry, with what was before and after.
 *
 * An entry says which mailbox it is about by id alone. The names come from the headers, which have
 * today's; a first pass over the entries that give names takes them back to where the log begins,
 * and printing takes them forward again. */
#include "base/array.h"
#include "base/err.h"
#include "mailbox/change.h"
#include "mailbox/trail.h"
#include "tools/shiplog/describe.h"
#include "tools/shiplog/progress.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FOLLOW_PAUSE 100 /* milliseconds between two looks */

/* A mailbox, and the name that it bears at this point of the log. */
struct known {
    uint64_t id;
    struct name name; /* size 0: none */
    bool bore;        /* the name that was asked for, at any time */
    bool settled;     /* in the first pass: the name is that of where the log begins */
};

struct logging {
    struct cli *cli;
    bool since;        /* the beginning was given */
    uint64_t from;     /* the log shows entries behind it */
    uint64_t until;    /* and none behind this one */
    int64_t from_time; /* in a file, which has no commits to look up: not earlier */
    int64_t until_time;
    bool by_name;
    struct name name;
    uint64_t id;  /* only this mailbox; 0: any */
    uint32_t uid; /* only what is about this UID; 0: any */
    bool by_kind;
    enum entry_kind kind;
    struct known *known; /* in order of ids */
    size_t known_count;
    size_t known_capacity;
    bool from_file;
    struct trail *trail;
    struct change change;
    struct uidset uids;
    struct buf uids_text;
    struct described before;
    struct described after;
};

/* Where this id is, or belongs. */
static size_t place_of(const struct logging *log, uint64_t id)
{
    size_t low = 0, high = log->known_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (log->known[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct known *find_known(const struct logging *log, uint64_t id)
{
    size_t place = place_of(log, id);
    bool found = place < log->known_count && log->known[place].id == id;
    return found ? &log->known[place] : NULL;
}

/* NULL: out of memory. */
static struct known *make_known(struct logging *log, uint64_t id)
{
    size_t place = place_of(log, id);
    if (place < log->known_count && log->known[place].id == id)
        return &log->known[place];
    struct known *room =
        array_room(log->known, log->known_count, &log->known_capacity, sizeof *room);
    if (!room)
        return NULL;
    log->known = room;
    struct known *known = &room[place];
    memmove(known + 1, known, (log->known_count - place) * sizeof *known);
    *known = (struct known){.id = id};
    log->known_count++;
    return known;
}

static void give_name(const struct logging *log, struct known *known, const struct name *name)
{
    known->name = *name;
    known->bore = known->bore || (log->by_name && name_equal(name, &log->name));
}

static int learn_names(struct tx *tx, void *arg)
{
    struct logging *log = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        struct known *known = make_known(log, id);
        if (!known)
            return fail(ERR_NOMEM, "out of memory");
        give_name(log, known, &header.facts.name);
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* Gives every entry to `each`, until it returns something else than ERR_OK. ERR_END: there are no
 * more. */
static int walk(struct logging *log,
                int (*each)(struct logging *log, const struct entry *entry, size_t size))
{
    struct entry entry;
    size_t size;
    int rc;
    while ((rc = trail_next(log->trail, &entry, &size)) == ERR_OK) {
        rc = each(log, &entry, size);
        if (rc)
            break;
    }
    return rc;
}

static int decode(struct logging *log, const struct entry *entry)
{
    if (entry->kind != ENTRY_EPOCH)
        return change_decode(entry, &log->change);
    change_reset(&log->change);
    return ERR_OK;
}

static bool gives_name(const struct entry *entry)
{
    return entry->kind == ENTRY_CREATE || entry->kind == ENTRY_RENAME;
}

/* The name before an entry is the one that its mailbox had until then. */
static int take_name_back(struct logging *log, const struct entry *entry, size_t size)
{
    (void)size;
    if (!gives_name(entry))
        return ERR_OK;
    int rc = decode(log, entry);
    if (rc || !(log->change.facts_changed & FACT_NAME))
        return rc;
    struct known *known = make_known(log, entry->mailbox);
    if (!known)
        return fail(ERR_NOMEM, "out of memory");
    struct name now = known->name;
    give_name(log, known, &log->change.before.name);
    give_name(log, known, &log->change.after.name);
    known->name = now;
    if (entry->modseq > log->from && !known->settled) {
        known->name = log->change.before.name;
        known->settled = true;
    }
    return ERR_OK;
}

static void put_facts(const struct logging *log, const struct facts *facts, uint32_t which,
                      struct described *it)
{
    char name[NAME_TEXT_SIZE];
    if (facts->state == MAILBOX_NONE && which & FACT_STATE)
        return;
    if (which & FACT_NAME && facts->name.size) {
        cli_print_name(log->cli, &facts->name, name);
        describe_text(it, name);
    }
    if (which & FACT_STATE && facts->state != MAILBOX_LIVE)
        describe_text(it, facts->state == MAILBOX_DELETED ? "deleted" : "purged");
    else if (which & FACT_STATE && !it->there)
        describe_text(it, "live");
    if (which & FACT_UIDVALIDITY)
        describe_number(it, "uidvalidity", facts->uidvalidity);
    if (which & FACT_UIDNEXT)
        describe_number(it, "uidnext", facts->uidnext);
    if (which & FACT_DELETEDMODSEQ)
        describe_number(it, "deletedmodseq", facts->deletedmodseq);
}

/* Of several messages at once the flags may be several. */
static void put_record_flags(const struct change *change, struct described *it)
{
    const struct record *record = change->records;
    struct bytes keywords = {0};
    if (change->record_count != 1)
        return;
    for (size_t i = 0; i < change->set_count; i++)
        if (keywords_hash(change->sets[i]) == record->keywords)
            keywords = change->sets[i];
    describe_flags(it, record->flags, keywords);
}

static void put_meta(const struct change *change, enum value_state state, struct bytes value,
                     struct described *it)
{
    if (state == VALUE_SET)
        describe_meta(it, change->key, value, change->user);
}

static void describe(struct logging *log, enum entry_kind kind)
{
    const struct change *change = &log->change;
    struct described *before = &log->before;
    struct described *after = &log->after;
    switch (kind) {
    case ENTRY_EPOCH:
        break;
    case ENTRY_FLAGS:
        describe_flags(before, change->system_before, change->keywords_before);
        describe_flags(after, change->system_after, change->keywords_after);
        break;
    case ENTRY_APPEND:
        put_record_flags(change, after);
        break;
    case ENTRY_EXPUNGE:
        put_record_flags(change, before);
        if (change->successor)
            describe_number(after, "uid", change->successor);
        break;
    case ENTRY_SEEN:
        describe_seen(before, !change->seen_after, change->user);
        describe_seen(after, change->seen_after, change->user);
        break;
    case ENTRY_META:
        put_meta(change, change->value_before.state, change->value_before.value, before);
        put_meta(change, change->value_after_state, change->value_after, after);
        break;
    default:
        put_facts(log, &change->before, change->facts_changed, before);
        put_facts(log, &change->after, change->facts_changed, after);
        break;
    }
}

/* Of an append the messages' bytes, of anything else its entry's own. */
static uint64_t bytes_of_entry(const struct change *change, enum entry_kind kind, size_t size)
{
    uint64_t bytes = 0;
    if (kind != ENTRY_APPEND)
        return size;
    for (size_t i = 0; i < change->record_count; i++)
        bytes += change->records[i].size;
    return bytes;
}

static void name_of(const struct logging *log, const struct entry *entry, char name[NAME_TEXT_SIZE])
{
    const struct known *known = find_known(log, entry->mailbox);
    if (!entry->mailbox)
        *name = '\0';
    else if (known && known->name.size)
        cli_print_name(log->cli, &known->name, name);
    else
        snprintf(name, NAME_TEXT_SIZE, "id:%016" PRIx64, entry->mailbox);
}

static void print(struct logging *log, const struct entry *entry, size_t size)
{
    struct out *out = log->cli->out;
    char name[NAME_TEXT_SIZE];
    name_of(log, entry, name);
    buf_reset(&log->uids_text);
    describe_nothing(&log->before);
    describe_nothing(&log->after);
    uidset_print(&log->uids, &log->uids_text);
    describe(log, entry->kind);
    out_number(out, "modseq", entry->modseq);
    out_number(out, "epoch", entry->epoch);
    out_time(out, "time", entry->time);
    out_bytes(out, "actor", entry->actor);
    out_text(out, "kind", entry_kind_name(entry->kind));
    out_text(out, "mailbox", name);
    out_bytes(out, "uids", buf_view(&log->uids_text));
    describe_print(out, "before", &log->before);
    describe_print(out, "after", &log->after);
    out_number(out, "bytes", bytes_of_entry(&log->change, entry->kind, size));
    out_end(out);
}

/* As far as can be told without looking into its body. */
static bool may_be_wanted(const struct logging *log, const struct entry *entry)
{
    if (entry->modseq <= log->from || entry->time < log->from_time)
        return false;
    if (log->id && entry->mailbox != log->id)
        return false;
    if (log->by_name) {
        const struct known *known = find_known(log, entry->mailbox);
        if (!known || !known->bore)
            return false;
    }
    return !log->by_kind || entry->kind == log->kind;
}

static int is_about(struct logging *log, const struct entry *entry, bool *wanted)
{
    uidset_clear(&log->uids);
    int rc = entry->kind == ENTRY_EPOCH ? ERR_OK : change_uids(&log->change, &log->uids);
    *wanted = rc == ERR_OK && (!log->uid || uidset_contains(&log->uids, log->uid));
    return rc;
}

/* A name that an entry gives is the one that is shown with it. */
static int learn_name(struct logging *log, const struct entry *entry)
{
    if (!(log->change.facts_changed & FACT_NAME) || !log->change.after.name.size)
        return ERR_OK;
    struct known *known = make_known(log, entry->mailbox);
    if (!known)
        return fail(ERR_NOMEM, "out of memory");
    give_name(log, known, &log->change.after.name);
    return ERR_OK;
}

static int print_entry(struct logging *log, const struct entry *entry, size_t size)
{
    bool wanted = false;
    if (entry->modseq > log->until || entry->time > log->until_time)
        return ERR_NO;
    if (!gives_name(entry) && !may_be_wanted(log, entry))
        return ERR_OK;
    int rc = decode(log, entry);
    if (rc == ERR_OK)
        rc = learn_name(log, entry);
    if (rc == ERR_OK && may_be_wanted(log, entry))
        rc = is_about(log, entry, &wanted);
    if (rc == ERR_OK && wanted)
        print(log, entry, size);
    return rc;
}

/* Waits for more; false when nobody reads any longer. */
static bool pause_for_more(void)
{
    struct pollfd reader = {.fd = STDOUT_FILENO};
    return poll(&reader, 1, FOLLOW_PAUSE) <= 0 || !(reader.revents & (POLLERR | POLLHUP));
}

static int print_all(struct logging *log, bool follow)
{
    for (;;) {
        int rc = walk(log, print_entry);
        if (rc == ERR_NO || (rc == ERR_END && !follow))
            return ERR_OK;
        if (rc != ERR_END)
            return rc;
        if (fflush(stdout) != 0)
            return fail_errno("standard output");
        if (!pause_for_more())
            return ERR_OK;
    }
}

/* The end of the commit before the one that ends at log->from: that one is shown in full. */
static int step_before(struct tx *tx, void *arg)
{
    struct logging *log = arg;
    struct when before = {.is_modseq = true, .modseq = log->from ? log->from - 1 : 0};
    int rc = when_resolve(tx, &before, &before.modseq);
    if (rc == ERR_OK)
        log->from = before.modseq;
    return rc == ERR_TRIMMED ? ERR_OK : rc;
}

/* Of a file: by the entries' own modseqs and times. */
static int bounds_of_file(struct logging *log, const char *since, const char *until)
{
    struct when when;
    int rc = since ? when_parse(since, &when) : ERR_OK;
    if (rc == ERR_OK && since) {
        log->from = when.is_modseq && when.modseq ? when.modseq - 1 : 0;
        log->from_time = when.is_modseq ? INT64_MIN : when_time(&when);
    }
    if (rc == ERR_OK && until)
        rc = when_parse(until, &when);
    if (rc == ERR_OK && until) {
        log->until = when.is_modseq ? when.modseq : UINT64_MAX;
        log->until_time = when.is_modseq ? INT64_MAX : when_time(&when);
    }
    return rc;
}

static int bounds(struct logging *log, const char *since, const char *until)
{
    struct cli *cli = log->cli;
    log->since = since;
    log->until = UINT64_MAX;
    log->from_time = INT64_MIN;
    log->until_time = INT64_MAX;
    if (log->from_file)
        return bounds_of_file(log, since, until);
    int rc = since ? cli_when(cli, since, &log->from) : ERR_OK;
    if (rc == ERR_OK && since)
        rc = store_read(cli->store, step_before, log);
    if (rc == ERR_OK && until)
        rc = cli_when(cli, until, &log->until);
    return rc;
}

static int filters(struct logging *log, const char *uid, const char *kind)
{
    struct cli *cli = log->cli;
    int rc = uid ? cli_uid(uid, &log->uid) : ERR_OK;
    log->by_kind = kind;
    if (rc == ERR_OK && kind && !entry_kind_parse(kind, &log->kind))
        rc = fail(ERR_INVALID, "log: %s: no such kind of entry", kind);
    if (rc == ERR_OK && cli->count && !cli_parse_id(cli->words[0], &log->id)) {
        log->by_name = true;
        rc = cli_name(cli, cli->words[0], &log->name);
    }
    return rc;
}

/* Learns the names as of where the log begins, and moves there. */
static int prepare(struct logging *log)
{
    uint64_t first = 0;
    int rc = store_read(log->cli->store, learn_names, log);
    if (rc == ERR_OK)
        rc = trail_oldest(log->trail, log->since ? log->from : 0, &first);
    if (rc == ERR_OK && log->since && !log->from_file && log->from < first)
        first = log->from;
    if (!log->since)
        log->from = first;
    if (rc == ERR_OK)
        rc = trail_seek(log->trail, first);
    if (rc == ERR_OK)
        rc = walk(log, take_name_back);
    if (rc != ERR_END)
        return rc;
    bool any = !log->by_name && (!log->id || find_known(log, log->id));
    for (size_t i = 0; i < log->known_count && !any; i++)
        any = log->known[i].bore;
    if (!any)
        return fail(ERR_NOTFOUND, "mailbox %s: there was none in the journal", log->cli->words[0]);
    return trail_seek(log->trail, log->from);
}

static int open_trail(struct logging *log, const char *file)
{
    log->from_file = file;
    return file ? trail_open_file(file, &log->trail) : trail_open(log->cli->store, &log->trail);
}

int cmd_log(struct cli *cli)
{
    struct option options[] = {{"--since", true, NULL},   {"--until", true, NULL},
                               {"--uid", true, NULL},     {"--kind", true, NULL},
                               {"--follow", false, NULL}, {"--file", true, NULL}};
    struct logging log = {.cli = cli};
    int rc = cli_options(cli, options, 6);
    if (rc == ERR_OK && options[4].value && options[5].value)
        rc = fail(ERR_USAGE, "log: --follow and --file exclude each other");
    if (rc == ERR_OK)
        rc = open_trail(&log, options[5].value);
    if (rc == ERR_OK)
        rc = bounds(&log, options[0].value, options[1].value);
    if (rc == ERR_OK)
        rc = filters(&log, options[2].value, options[3].value);
    if (rc == ERR_OK)
        rc = prepare(&log);
    /* What is shown is not all that there was. */
    if (rc == ERR_OK && !log.since && *trail_gap(log.trail))
        progress_line("log: %s", trail_gap(log.trail));
    if (rc == ERR_OK)
        rc = print_all(&log, options[4].value);
    trail_close(log.trail);
    free(log.known);
    change_free(&log.change);
    uidset_free(&log.uids);
    buf_free(&log.uids_text);
    describe_free(&log.before);
    describe_free(&log.after);
    return rc;
}
