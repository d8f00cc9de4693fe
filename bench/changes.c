/* Changes of whole mailboxes, at a master and caught up at a replica.
 *
 * usage: changes DIRECTORY [MESSAGES]
 * Every message of a mailbox gets a flag, in commits as large as they may be; loses it again, by an
 * entry for each message, a thousand to a commit; all are expunged, and the tombstones purged.
 * After each step the replica is given the new entries as an agent gives them, without a network
 * between. Its messages are content-less: these steps move no content.
 */
#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/mailbox.h"

#include <string.h>
#include <sys/stat.h>

#define SINGLE_BATCH 1000u
#define SHIP_BYTES (1u << 20) /* of entries in one batch for the replica */
#define APPEND_BATCH 1024u

struct bench {
    struct store *master;
    struct store *replica;
    struct name name;
    uint64_t store_id;
    uint32_t messages;
    struct position shipped;
    struct buf entries;
    /* the commit at hand */
    const struct flag_change *change;
    struct uidset uids;
    uint32_t from, to;
};

static int open_inbox(struct bench *bench, struct tx *tx, struct mailbox **mailbox)
{
    return mailbox_open(tx, &bench->name, NULL, mailbox);
}

static int create(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    bench->store_id = tx_node(tx)->store_id;
    return mailbox_create(tx, &bench->name, NULL);
}

static int append_one(struct bench *bench, struct mailbox *mailbox, uint32_t number)
{
    char text[128];
    struct append append = {0};
    int size = snprintf(text, sizeof text, "Subject: Letter %u\r\n\r\nIts number is %u.\r\n",
                        number, number);
    int rc = draft_open(store_db(bench->master), DRAFT_RAW, &append.draft);
    if (rc == ERR_OK)
        rc = draft_write(append.draft, text, (size_t)size);
    if (rc == ERR_OK)
        rc = draft_finish(append.draft);
    if (rc == ERR_OK)
        rc = mailbox_append(mailbox, &append, NULL);
    draft_close(append.draft);
    return rc;
}

static int append(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(bench, tx, &mailbox);
    for (uint32_t uid = bench->from; uid <= bench->to && rc == ERR_OK; uid++)
        rc = append_one(bench, mailbox, uid);
    return rc;
}

static int flag(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(bench, tx, &mailbox);
    return rc ? rc : mailbox_flag(mailbox, &bench->uids, bench->change, NULL);
}

static int flag_singly(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(bench, tx, &mailbox);
    for (uint32_t uid = bench->from; uid <= bench->to && rc == ERR_OK; uid++) {
        struct uid_range range = {uid, uid};
        struct uidset one = {.ranges = &range, .count = 1};
        rc = mailbox_flag(mailbox, &one, bench->change, NULL);
    }
    return rc;
}

static int expunge(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    struct mailbox *mailbox;
    int rc = open_inbox(bench, tx, &mailbox);
    return rc ? rc : mailbox_expunge(mailbox, &bench->uids, false, NULL);
}

static int purge(struct tx *tx, void *arg)
{
    struct mailbox *mailbox;
    uint64_t purged;
    bool more;
    int rc = open_inbox(arg, tx, &mailbox);
    return rc ? rc : mailbox_purge(mailbox, tx_time(tx), &purged, &more);
}

static int copy_entries(struct tx *tx, void *arg)
{
    struct bench *bench = arg;
    buf_reset(&bench->entries);
    return journal_copy(tx_db(tx), bench->shipped.modseq, SHIP_BYTES, &bench->entries,
                        &bench->shipped);
}

/* The whole commits at the beginning of what was copied. */
static size_t whole_commits(struct bytes entries)
{
    size_t whole = 0;
    size_t size;
    for (size_t at = 0; (size = entry_size(bytes_of(entries.data + at, entries.size - at))) > 0;) {
        struct entry entry;
        bench_require(entry_decode(bytes_of(entries.data + at, size), &entry), "decode",
                      err_message());
        at += size;
        if (entry.end_of_commit)
            whole = at;
    }
    return whole;
}

static void catch_up(struct bench *bench)
{
    int rc;
    while ((rc = store_read(bench->master, copy_entries, bench)) == ERR_OK) {
        size_t size = whole_commits(buf_view(&bench->entries));
        struct batch batch = {.store_id = bench->store_id,
                              .master = "bench",
                              .entries = bytes_of(bench->entries.data, size)};
        bench_require(store_apply(bench->replica, &batch, &bench->shipped), "apply", err_message());
    }
    bench_require(rc != ERR_END, "copy", err_message());
}

/* Runs `work` over all messages, `step` to a commit. */
static void each_part(struct bench *bench, uint32_t step, int (*work)(struct tx *, void *))
{
    for (uint32_t from = 1; from <= bench->messages; from += step) {
        bench->from = from;
        bench->to = from + step - 1 < bench->messages ? from + step - 1 : bench->messages;
        uidset_clear(&bench->uids);
        bench_require(uidset_add_range(&bench->uids, bench->from, bench->to), "uids",
                      err_message());
        bench_require(store_commit(bench->master, work, bench, NULL), "commit", err_message());
    }
}

static void measure(struct bench *bench, const char *what, uint32_t step,
                    int (*work)(struct tx *, void *))
{
    double start = bench_now();
    each_part(bench, step, work);
    double middle = bench_now();
    catch_up(bench);
    double end = bench_now();
    printf("%-36s at the master %9.0f a second, caught up %9.0f a second\n", what,
           bench->messages / (middle - start), bench->messages / (end - middle));
}

static void run(struct bench *bench)
{
    static const struct flag_change add = {.mode = FLAGS_ADD, .flags.system = FLAG_FLAGGED};
    static const struct flag_change remove = {.mode = FLAGS_REMOVE, .flags.system = FLAG_FLAGGED};
    each_part(bench, APPEND_BATCH, append);
    catch_up(bench);
    bench->change = &add;
    measure(bench, "a flag added to every message:", MAILBOX_COMMIT_RECORDS, flag);
    bench->change = &remove;
    measure(bench, "the same, an entry for each:", SINGLE_BATCH, flag_singly);
    measure(bench, "every message expunged:", MAILBOX_COMMIT_RECORDS, expunge);
    measure(bench, "every tombstone purged:", MAILBOX_COMMIT_RECORDS, purge);
}

static struct store *make_store(const char *directory, const char *name, enum role role)
{
    char path[1024];
    struct store *store;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    bench_require(store_init(path, role, NULL, NULL), "init", err_message());
    bench_require(store_open(path, NULL, &store), "open", err_message());
    return store;
}

int main(int argc, char **argv)
{
    struct bench bench = {.messages = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 100000};
    struct owner owner = {.user = "owner"};
    if (argc < 2 || bench.messages == 0) {
        fputs("usage: changes DIRECTORY [MESSAGES]\n", stderr);
        return 2;
    }
    mkdir(argv[1], 0700);
    bench.master = make_store(argv[1], "master", ROLE_MASTER);
    bench.replica = make_store(argv[1], "replica", ROLE_REPLICA);
    bench_require(name_parse("INBOX", 5, &owner, &bench.name), "name", err_message());
    bench_require(store_commit(bench.master, create, &bench, NULL), "create", err_message());
    run(&bench);
    store_close(bench.master);
    store_close(bench.replica);
    buf_free(&bench.entries);
    uidset_free(&bench.uids);
    return 0;
}
