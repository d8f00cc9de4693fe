/* Commands about the store as a whole: init, status, digest, check, journal, slots. */
#include "agent/wake.h"
#include "base/err.h"
#include "base/times.h"
#include "journal/slots.h"
#include "mailbox/check.h"
#include "mailbox/stop.h"
#include "tools/shiplog/cli.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIM_BATCH 4096u /* entries in one transaction */

int cmd_init(struct cli *cli)
{
    struct option options[] = {{"--owner", true, NULL}, {"--replica", false, NULL}};
    struct owner owner;
    int rc = cli_options(cli, options, 2);
    if (rc == ERR_OK && options[0].value && options[1].value)
        rc = fail(ERR_USAGE, "init: a replica takes the owner from its master");
    if (rc == ERR_OK && options[0].value)
        rc = owner_parse(options[0].value, &owner);
    if (rc)
        return rc;
    return store_init(cli->store_path, options[1].value ? ROLE_REPLICA : ROLE_MASTER,
                      options[0].value ? &owner : NULL, NULL);
}

struct facts_of_store {
    struct node node;
    struct journal_window window;
    struct stop *stops;
    size_t stop_count;
    struct slot *slots;
    size_t slot_count;
};

static int collect_stops(struct db_txn *txn, struct facts_of_store *facts)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(txn, &id, &stop)) == ERR_OK) {
        struct stop *stops = realloc(facts->stops, (facts->stop_count + 1) * sizeof *stops);
        if (!stops)
            return fail(ERR_NOMEM, "out of memory");
        facts->stops = stops;
        stops[facts->stop_count++] = stop;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int collect_slots(struct db_txn *txn, struct facts_of_store *facts)
{
    struct slot slot = {0};
    int rc;
    while ((rc = slot_next(txn, &slot)) == ERR_OK) {
        struct slot *slots = realloc(facts->slots, (facts->slot_count + 1) * sizeof *slots);
        if (!slots)
            return fail(ERR_NOMEM, "out of memory");
        facts->slots = slots;
        slots[facts->slot_count++] = slot;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int collect_facts(struct tx *tx, void *arg)
{
    struct facts_of_store *facts = arg;
    facts->node = *tx_node(tx);
    facts->window = *tx_window(tx);
    facts->stop_count = 0;
    facts->slot_count = 0;
    int rc = collect_stops(tx_db(tx), facts);
    return rc ? rc : collect_slots(tx_db(tx), facts);
}

static void free_facts(struct facts_of_store *facts)
{
    free(facts->stops);
    free(facts->slots);
}

static const char *slot_state(const struct slot *slot, const struct journal_window *window)
{
    if (slot->position.modseq < window->base.modseq)
        return "lost";
    return slot->connected ? "connected" : "away";
}

static void print_slot(struct out *out, const struct slot *slot,
                       const struct journal_window *window)
{
    uint64_t behind = window->last.modseq > slot->position.modseq
                          ? window->last.modseq - slot->position.modseq
                          : 0;
    uint64_t average = window->entries ? window->bytes / window->entries : 0;
    int64_t idle = (times_now() - slot->time) / TIMES_SECOND;
    out_text(out, "name", slot->name);
    out_position(out, "position", slot->position);
    out_number(out, "entries", behind);
    out_number(out, "bytes", behind * average);
    out_number(out, "seconds", idle > 0 ? (uint64_t)idle : 0);
    out_text(out, "state", slot_state(slot, window));
    out_end(out);
}

int cmd_status(struct cli *cli)
{
    struct facts_of_store facts = {0};
    char epoch[64];
    int rc = cli_options(cli, NULL, 0);
    if (rc == ERR_OK)
        rc = store_read(cli->store, collect_facts, &facts);
    if (rc == ERR_OK) {
        const struct node *node = &facts.node;
        snprintf(epoch, sizeof epoch, "%" PRIu32 ":%016" PRIx64, node->epoch.number,
                 node->epoch.node);
        out_text(cli->out, "role", node->role == ROLE_MASTER ? "master" : "replica");
        out_hex(cli->out, "node", node->node_id);
        out_hex(cli->out, "store", node->store_id);
        out_text(cli->out, "epoch", epoch);
        out_position(cli->out, "position", facts.window.last);
        out_text(cli->out, "master", node->master);
        out_bool(cli->out, "fenced", node->fence != FENCE_NONE);
        out_bool(cli->out, "repairing", facts.stop_count > 0);
        out_text(cli->out, "agent", wake_is_open(store_db(cli->store)) ? "running" : "not running");
        out_end(cli->out);
        for (size_t i = 0; i < facts.slot_count; i++)
            print_slot(cli->out, &facts.slots[i], &facts.window);
        for (size_t i = 0; i < facts.stop_count; i++)
            fprintf(stderr,
                    "shiplog: mailbox id:%016" PRIx64 ": stopped before entry %" PRIu64 ": %s\n",
                    facts.stops[i].mailbox, facts.stops[i].modseq, facts.stops[i].reason);
    }
    free_facts(&facts);
    return rc;
}

static int drop_slot(struct tx *tx, void *arg)
{
    int rc = slot_drop(tx_db(tx), arg);
    return rc == ERR_END ? fail(ERR_NOTFOUND, "slot %s: there is none", (const char *)arg) : rc;
}

int cmd_slots(struct cli *cli)
{
    struct facts_of_store facts = {0};
    int rc = cli_options(cli, NULL, 0);
    if (rc)
        return rc;
    if (cli->count == 2 && strcmp(cli->words[0], "drop") == 0)
        return store_maintain(cli->store, drop_slot, cli->words[1]);
    if (cli->count)
        return cli_usage(cli);
    rc = store_read(cli->store, collect_facts, &facts);
    for (size_t i = 0; i < facts.slot_count && rc == ERR_OK; i++)
        print_slot(cli->out, &facts.slots[i], &facts.window);
    free_facts(&facts);
    return rc;
}

struct digest_row {
    struct header header;
    bool stopped;
};

struct digests {
    struct node node;
    struct position position;
    struct digest_row *rows;
    size_t count;
    size_t capacity;
    bool stopped; /* any of them */
};

static int add_digest(struct digests *digests, struct db_txn *txn, const struct header *header)
{
    struct stop stop;
    int rc = stop_get(txn, header->id, &stop);
    if (rc && rc != ERR_END)
        return rc;
    if (digests->count == digests->capacity) {
        size_t capacity = digests->capacity ? digests->capacity * 2 : 64;
        struct digest_row *rows = realloc(digests->rows, capacity * sizeof *rows);
        if (!rows)
            return fail(ERR_NOMEM, "out of memory");
        digests->rows = rows;
        digests->capacity = capacity;
    }
    digests->rows[digests->count++] = (struct digest_row){*header, rc == ERR_OK};
    digests->stopped = digests->stopped || rc == ERR_OK;
    return ERR_OK;
}

static int collect_digests(struct tx *tx, void *arg)
{
    struct digests *digests = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    digests->node = *tx_node(tx);
    digests->position = tx_window(tx)->last;
    digests->count = 0;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        if (header.facts.state == MAILBOX_PURGED)
            continue;
        rc = add_digest(digests, tx_db(tx), &header);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

/* All digests are as of one state of the store, so they share its position. */
static void print_digest(struct cli *cli, const char *name, uint64_t id, struct position position,
                         uint64_t digest, bool stopped)
{
    out_text(cli->out, "mailbox", name);
    out_hex(cli->out, "id", id);
    out_position(cli->out, "position", position);
    if (stopped)
        out_text(cli->out, "digest", "repairing");
    else
        out_hex(cli->out, "digest", digest);
    out_end(cli->out);
}

int cmd_digest(struct cli *cli)
{
    struct digests digests = {0};
    int rc = cli_options(cli, NULL, 0);
    if (rc == ERR_OK)
        rc = store_read(cli->store, collect_digests, &digests);
    for (size_t i = 0; rc == ERR_OK && i < digests.count; i++) {
        const struct header *header = &digests.rows[i].header;
        char name[NAME_TEXT_SIZE];
        cli_print_name(cli, &header->facts.name, name);
        print_digest(cli, header->facts.state == MAILBOX_DELETED ? "(deleted)" : name, header->id,
                     digests.position, header_digest(header), digests.rows[i].stopped);
    }
    if (rc == ERR_OK)
        print_digest(cli, "-", digests.node.store_id, digests.position, node_digest(&digests.node),
                     digests.stopped);
    free(digests.rows);
    return rc;
}

static void print_wrong(void *arg, const char *where, const char *what)
{
    struct cli *cli = arg;
    out_text(cli->out, "where", where);
    out_text(cli->out, "what", what);
    out_end(cli->out);
}

int cmd_check(struct cli *cli)
{
    uint64_t wrong = 0;
    int rc = cli_options(cli, NULL, 0);
    if (rc == ERR_OK)
        rc = check_store(cli->store, true, print_wrong, cli, &wrong);
    return rc == ERR_OK && wrong ? ERR_NO : rc;
}

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
    int rc = check_journal(cli->store, print_wrong, cli, &wrong);
    return rc == ERR_OK && wrong ? ERR_NO : rc;
}

struct trim {
    uint64_t keep;  /* entries at least */
    uint64_t up_to; /* modseq */
    uint64_t removed;
};

static int trim_some(struct tx *tx, void *arg)
{
    struct trim *trim = arg;
    const struct journal_window *window = tx_window(tx);
    trim->removed = 0;
    if (window->entries <= trim->keep)
        return ERR_OK;
    uint64_t most = window->entries - trim->keep;
    /* Trimming rounds up to whole commits, so the count alone could take from what is kept. */
    uint64_t keep_from = window->last.modseq - trim->keep;
    uint64_t up_to = trim->up_to < keep_from ? trim->up_to : keep_from;
    return journal_trim(tx_db(tx), up_to, most < TRIM_BATCH ? most : TRIM_BATCH, &trim->removed);
}

static int trim_before(struct cli *cli, const char *before, struct trim *trim)
{
    uint64_t modseq;
    int rc = cli_when(cli, before, &modseq);
    if (rc == ERR_TRIMMED)
        return ERR_OK;
    trim->up_to = rc == ERR_OK && modseq ? modseq - 1 : 0;
    return rc;
}

static int journal_cut(struct cli *cli, const char *keep, const char *before)
{
    struct trim trim = {.up_to = keep ? UINT64_MAX : 0};
    uint64_t removed = 0;
    if (!keep == !before)
        return cli_usage(cli);
    int rc = keep ? cli_number(keep, UINT64_MAX, &trim.keep) : trim_before(cli, before, &trim);
    do {
        if (rc == ERR_OK)
            rc = store_maintain(cli->store, trim_some, &trim);
        removed += trim.removed;
    } while (rc == ERR_OK && trim.removed);
    if (rc)
        return rc;
    out_number(cli->out, "trimmed", removed);
    out_end(cli->out);
    return ERR_OK;
}

int cmd_journal(struct cli *cli)
{
    struct option options[] = {{"--keep", true, NULL}, {"--before", true, NULL}};
    int rc = cli_options(cli, options, 2);
    if (rc)
        return rc;
    bool trim = strcmp(cli->words[0], "trim") == 0;
    if (!trim && (options[0].value || options[1].value))
        return cli_usage(cli);
    if (trim)
        return journal_cut(cli, options[0].value, options[1].value);
    if (strcmp(cli->words[0], "status") == 0)
        return journal_status(cli);
    return strcmp(cli->words[0], "verify") == 0 ? journal_verify(cli) : cli_usage(cli);
}
