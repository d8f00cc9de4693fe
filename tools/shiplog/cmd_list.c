/* list: the messages of a mailbox, as they are or were. */
#include "base/err.h"
#include "mailbox/count.h"
#include "mailbox/keywords.h"
#include "tools/shiplog/uids.h"

#include <stdlib.h>

#define BATCH 1024u /* records copied out in one transaction */

static void print_flag(struct bytes name, void *arg)
{
    out_element(arg, name);
}

static void print_record(struct out *out, const struct record *record, struct bytes keywords)
{
    out_number(out, "uid", record->uid);
    out_number(out, "modseq", record->modseq);
    out_array(out, "flags");
    flags_each(record->flags & FLAG_SYSTEM, keywords, print_flag, out);
    out_array_end(out);
    out_bool(out, "seen", record->flags & FLAG_SEEN);
    out_time(out, "internaldate", record->internal_date);
    out_number(out, "size", record->size);
    out_guid(out, "guid", &record->guid);
    out_bool(out, "expunged", !record_live(record));
    out_end(out);
}

static const char *uids_wanted(const struct cli *cli)
{
    return cli->count > 1 ? cli->words[1] : "1:*";
}

/* Every UID that stands alone in the UIDSET is among the records, which are in its order. */
static int insist(const char *mailbox, const struct uidset *singles, const struct record *records,
                  size_t count)
{
    uint32_t uid = 0;
    size_t at = 0;
    while (uid < UINT32_MAX && uidset_next(singles, uid + 1, &uid)) {
        while (at < count && records[at].uid < uid)
            at++;
        if (at == count || records[at].uid != uid)
            return uids_none(mailbox, uid);
    }
    return ERR_OK;
}

static int list_then(struct cli *cli, const char *at, const char *user)
{
    struct view *view;
    const struct record *records;
    struct uidset wanted = {0};
    struct uidset singles = {0};
    size_t count;
    int rc = cli_view(cli, cli->words[0], at, &view);
    if (rc)
        return rc;
    rc = view_records(view, user, &records, &count);
    if (rc == ERR_OK)
        rc = uidset_parse(&wanted, uids_wanted(cli), count ? records[count - 1].uid : 0, &singles);
    if (rc == ERR_OK)
        rc = insist(cli->words[0], &singles, records, count);
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        struct bytes keywords;
        if (!uidset_contains(&wanted, records[i].uid))
            continue;
        rc = view_keywords(view, records[i].keywords, &keywords);
        if (rc == ERR_OK)
            print_record(cli->out, &records[i], keywords);
    }
    uidset_free(&singles);
    uidset_free(&wanted);
    view_close(view);
    return rc;
}

/* As it is: batch after batch, each copied out in a transaction of its own. */
struct listing {
    struct cli *cli;
    const char *user;
    bool dead;   /* tombstones too */
    uint64_t id; /* of the mailbox; 0 before the first batch */
    struct uidset wanted;
    uint32_t from; /* UIDs below it are done; 0: all is */
    struct record records[BATCH];
    size_t count;
    struct buf keywords; /* of each record, in order */
    /* What is listed whole, unchanged meanwhile and as its owner sees it is compared with its
     * header as it is read. */
    struct header header; /* at the first batch */
    struct header counted;
    bool proved;
    bool apart; /* it has to be proved by itself */
};

/* After the last batch, in its transaction. */
static int compare_counts(struct listing *work, struct tx *tx)
{
    uint64_t items, rows;
    int rc = values_digest(tx_db(tx), work->id, &items, &rows);
    if (rc)
        return rc;
    work->proved = true;
    if (work->counted.items + items != work->header.items ||
        work->counted.messages != work->header.messages ||
        work->counted.tombstones != work->header.tombstones)
        return fail(ERR_CORRUPT, "%s: these are not the messages that its digest was made of",
                    work->cli->words[0]);
    return ERR_OK;
}

static int open_listed(struct tx *tx, struct listing *work, struct mailbox **mailbox)
{
    if (work->id)
        return mailbox_open_id(tx, work->id, work->user, mailbox);
    int rc = cli_open(tx, work->cli, work->cli->words[0], work->user, mailbox);
    if (rc)
        return rc;
    work->header = *mailbox_header(*mailbox);
    work->id = work->header.id;
    return uids_parse(*mailbox, work->cli->words[0], uids_wanted(work->cli), work->dead,
                      &work->wanted);
}

static int next_batch(struct tx *tx, void *arg)
{
    struct listing *work = arg;
    struct mailbox *mailbox;
    size_t read;
    work->count = 0;
    buf_reset(&work->keywords);
    int rc = open_listed(tx, work, &mailbox);
    uint32_t from = work->from;
    if (rc || !uidset_next(&work->wanted, work->from, &work->from)) {
        work->from = 0;
        work->apart = true;
        return rc;
    }
    const struct header *header = mailbox_header(mailbox);
    work->apart = work->apart || work->user || from != work->from ||
                  header->lastmodseq != work->header.lastmodseq ||
                  header->tombstones != work->header.tombstones;
    rc = mailbox_batch(mailbox, work->from, work->records, BATCH, &read);
    work->from = rc == ERR_OK && read == BATCH ? work->records[read - 1].uid + 1 : 0;
    for (size_t i = 0; rc == ERR_OK && i < read; i++) {
        struct record record = work->records[i];
        struct bytes set;
        count_record(&work->counted, &record, 1);
        if (!uidset_contains(&work->wanted, record.uid) || !(work->dead || record_live(&record)))
            continue;
        rc = keywords_lookup(tx_db(tx), record.keywords, &set);
        if (rc == ERR_OK)
            buf_bytes(&work->keywords, set);
        work->records[work->count++] = record;
    }
    if (rc == ERR_OK && !work->from && !work->apart)
        rc = compare_counts(work, tx);
    return rc == ERR_OK && work->keywords.failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

static int list_now(struct cli *cli, const char *user, bool dead)
{
    struct listing *work = calloc(1, sizeof *work);
    int rc = ERR_OK;
    if (!work)
        return fail(ERR_NOMEM, "out of memory");
    work->cli = cli;
    work->user = user;
    work->dead = dead;
    work->from = 1;
    while (rc == ERR_OK && work->from) {
        rc = store_read(cli->store, next_batch, work);
        struct reader sets = reader_of(buf_view(&work->keywords));
        for (size_t i = 0; rc == ERR_OK && i < work->count; i++)
            print_record(cli->out, &work->records[i], read_bytes(&sets));
    }
    if (rc == ERR_OK && !work->proved)
        rc = view_prove(cli->store, work->id);
    buf_free(&work->keywords);
    uidset_free(&work->wanted);
    free(work);
    return cli_prove(cli, cli->words[0], rc);
}

int cmd_list(struct cli *cli)
{
    struct option options[] = {
        {"--at", true, NULL}, {"--as", true, NULL}, {"--expunged", false, NULL}};
    int rc = cli_options(cli, options, 3);
    if (rc)
        return rc;
    const char *at = options[0].value;
    const char *user = options[1].value;
    bool dead = options[2].value;
    if (at && dead)
        return fail(ERR_USAGE, "list: --at and --expunged exclude each other");
    return at ? list_then(cli, at, user) : list_now(cli, user, dead);
}
