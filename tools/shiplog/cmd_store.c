/* Commands about the store as a whole: init, status, digest, check, slots. */
#include "agent/wake.h"
#include "base/array.h"
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

struct slot_row {
    struct slot slot;
    struct slot_lag lag;
};

struct facts_of_store {
    struct node node;
    struct journal_window window;
    struct stop *stops;
    size_t stop_count;
    size_t stop_capacity;
    struct slot_row *slots;
    size_t slot_count;
    size_t slot_capacity;
};

static int collect_stops(struct db_txn *txn, struct facts_of_store *facts)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    while ((rc = stop_next(txn, &id, &stop)) == ERR_OK) {
        struct stop *stops =
            array_room(facts->stops, facts->stop_count, &facts->stop_capacity, sizeof *stops);
        if (!stops)
            return ERR_NOMEM;
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
        struct slot_row *slots =
            array_room(facts->slots, facts->slot_count, &facts->slot_capacity, sizeof *slots);
        if (!slots)
            return ERR_NOMEM;
        facts->slots = slots;
        slots[facts->slot_count].slot = slot;
        rc = slot_lag(txn, &slot, times_now(), &slots[facts->slot_count].lag);
        if (rc)
            return rc;
        facts->slot_count++;
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

/* What a lost slot lacks cannot be counted any more. */
static void print_slot(struct out *out, const struct slot_row *row)
{
    out_text(out, "name", row->slot.name);
    out_position(out, "position", row->slot.position);
    if (row->lag.state == SLOT_LOST) {
        out_text(out, "entries", NULL);
        out_text(out, "bytes", NULL);
    } else {
        out_number(out, "entries", row->lag.tail.entries);
        out_number(out, "bytes", row->lag.tail.bytes);
    }
    out_number(out, "seconds", (uint64_t)(row->lag.age / TIMES_SECOND));
    out_text(out, "state", slot_state_name(row->lag.state));
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
            print_slot(cli->out, &facts.slots[i]);
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
        print_slot(cli->out, &facts.slots[i]);
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
    struct digest_row *room =
        array_room(digests->rows, digests->count, &digests->capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    digests->rows = room;
    room[digests->count++] = (struct digest_row){*header, rc == ERR_OK};
    digests->stopped = digests->stopped || rc == ERR_OK;
    return ERR_OK;
}

static int collect_digests(struct tx *tx, void *arg)
{
    struct digests *digests = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    uint64_t shares = 0;
    digests->node = *tx_node(tx);
    digests->position = tx_window(tx)->last;
    digests->count = 0;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        shares += header_store_share(&header);
        if (header.facts.state == MAILBOX_PURGED || header.facts.state == MAILBOX_NONE)
            continue;
        rc = add_digest(digests, tx_db(tx), &header);
        if (rc)
            return rc;
    }
    if (rc == ERR_END && shares != digests->node.mailboxes)
        return fail(ERR_CORRUPT, "the mailboxes are not those that the store's digest was made of");
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

int cmd_check(struct cli *cli)
{
    struct option options[] = {{"--repair", false, NULL}};
    struct check_result result = {0};
    int rc = cli_options(cli, options, 1);
    if (rc)
        return rc;
    rc = options[0].value ? check_repair(cli->store, cli_report, cli, &result)
                          : check_store(cli->store, true, cli_report, cli, &result.wrong);
    return rc == ERR_OK && result.wrong > result.mended ? ERR_NO : rc;
}
