/* A week of made-up life: mailboxes that fill, are read, tidied, renamed, deleted and made again
 * under names that others bore; every night tombstones of the day before are purged, and a part of
 * the journal goes to the archive.
 *
 * At random moments a mailbox is recorded as its API shows it. In the end each of them must come
 * back by name, at the master (through window and archive) and at the replica (whose window was
 * never cut); differences between two moments must be those of the recordings; and restoring to one
 * must end in a mailbox that is as it was in everything but the UIDs of what had been expunged.
 *
 * SHIPLOG_TEST_SECONDS in the environment sets its size. From 300 on it is full: 100 mailboxes,
 * 200,000 changes, 500 moments, about ten minutes of one processor. Less is that part of it, with
 * 2,000 changes and 20 moments at least.
 */
#include "base/err.h"
#include "base/times.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/restore.h"
#include "mailbox/retain.h"
#include "tests/support/scratch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define BOXES 100u
#define NAMES 130u
#define CONTENTS 4000u
#define POPULAR 50u /* contents that come again and again */
#define BUSY 8u     /* mailboxes that see half of what happens */
#define CHANGES 200000u
#define MOMENTS 500u
#define NIGHTS 7u
#define BOX_MAX 300u
#define FULL_SECONDS 300u
#define SHIP_EVERY 64u
#define BATCH 256u

static const char *const keyword_names[] = {"$Forwarded", "Junk", "work", "$label1"};

struct box {
    uint64_t id;
    unsigned name; /* number */
};

struct message {
    uint32_t uid;
    struct guid guid;
    int64_t date;
    uint32_t system;
    uint64_t keywords;
    bool bob; /* has seen it */
};

struct moment {
    uint64_t modseq;
    uint64_t id;
    struct name name;
    uint32_t uidnext;
    struct message *messages;
    size_t count;
    char comment[32]; /* a meta value */
    uint64_t total;   /* of messages in all mailboxes */
    size_t boxes;
};

struct world {
    uint64_t seed;
    struct dice dice;
    char directory[PATH_MAX];
    char master_path[PATH_MAX];
    struct store *master;
    struct store *replica;
    struct box boxes[BOXES];
    bool taken[NAMES];
    struct moment moments[MOMENTS];
    size_t moment_count;
    bool used[CONTENTS]; /* since the last shipment */
    unsigned commits;
    unsigned diffs;
    unsigned restores;
    unsigned gone;
    /* what one commit does; chosen before, since it may be run again */
    unsigned operation;
    struct box *box;
    struct box *other;
    struct draft *draft;
    struct uidset uids;
    struct flag_change change;
    bool as_bob;
    int64_t date;
    struct name new_name;
    uint64_t new_id;
    unsigned number;
};

#define REQUIRE(world, condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("seed %" PRIu64 ": %s:%d: %s (%s)\n", (world)->seed, __FILE__, __LINE__,        \
                   #condition, err_message());                                                     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

enum { CREATE, DELETE, RENAME, APPEND, FLAG, EXPUNGE, EMPTY, COPY, MOVE, META, TOUCH };

static void name_of(struct world *world, const char *prefix, unsigned number, struct name *name)
{
    char text[32];
    struct owner owner = {.user = "owner"};
    int size = snprintf(text, sizeof text, "%s%u", prefix, number);
    REQUIRE(world, name_parse(text, (size_t)size, &owner, name) == ERR_OK);
}

static struct draft *draft_of(struct world *world, struct store *store, unsigned content)
{
    struct draft *draft;
    char text[64];
    int size = snprintf(text, sizeof text, "Subject: %u\r\n\r\n%u\r\n", content, content * 7919u);
    REQUIRE(world, draft_open(store_db(store), DRAFT_RAW, &draft) == ERR_OK);
    REQUIRE(world, draft_write(draft, text, (size_t)size) == ERR_OK);
    REQUIRE(world, draft_finish(draft) == ERR_OK);
    return draft;
}

static int operate_on_box(struct tx *tx, struct world *world, struct mailbox *mailbox)
{
    struct mailbox *target;
    struct uidset from = {0}, to = {0};
    struct append append = {.draft = world->draft,
                            .system = world->change.flags.system,
                            .keywords = buf_view(&world->change.flags.keywords),
                            .internal_date = world->date};
    int rc;
    switch (world->operation) {
    case APPEND:
        return mailbox_append(mailbox, &append, NULL);
    case FLAG:
        return mailbox_flag(mailbox, &world->uids, &world->change, NULL);
    case EXPUNGE:
    case EMPTY:
        return mailbox_expunge(mailbox, &world->uids, false, NULL);
    case META:
        return mailbox_meta_set(tx, mailbox, NULL, "/comment",
                                bytes_of(&world->number, sizeof world->number));
    case TOUCH:
        return mailbox_touch(mailbox, &world->uids);
    default:
        rc = mailbox_open_id(tx, world->other->id, NULL, &target);
        if (rc == ERR_OK)
            rc = mailbox_copy(mailbox, &world->uids, target, world->operation == MOVE, &from, &to);
        uidset_free(&from);
        uidset_free(&to);
        return rc;
    }
}

static int operate(struct tx *tx, void *arg)
{
    struct world *world = arg;
    struct mailbox *mailbox;
    struct name old;
    if (world->operation == CREATE)
        return mailbox_create(tx, &world->new_name, &world->new_id);
    int rc = mailbox_open_id(tx, world->box->id, world->as_bob ? "bob" : NULL, &mailbox);
    if (rc)
        return rc;
    old = mailbox_header(mailbox)->facts.name;
    if (world->operation == RENAME)
        return mailbox_rename(tx, &old, &world->new_name);
    return world->operation == DELETE ? mailbox_delete(mailbox)
                                      : operate_on_box(tx, world, mailbox);
}

static int get_header(struct tx *tx, void *arg)
{
    struct header *header = arg;
    return header_get(tx_db(tx), header->id, header);
}

static struct header header_of(struct world *world, struct store *store, uint64_t id)
{
    struct header header = {.id = id};
    REQUIRE(world, store_read(store, get_header, &header) == ERR_OK);
    return header;
}

static unsigned free_name(struct world *world)
{
    unsigned name = dice_below(&world->dice, NAMES);
    while (world->taken[name])
        name = (name + 1) % NAMES;
    return name;
}

static void commit(struct world *world)
{
    REQUIRE(world, store_commit(world->master, operate, world, NULL) == ERR_OK);
    world->commits++;
}

static void create_box(struct world *world, struct box *box)
{
    unsigned name = free_name(world);
    name_of(world, "box", name, &world->new_name);
    world->operation = CREATE;
    commit(world);
    *box = (struct box){.id = world->new_id, .name = name};
    world->taken[name] = true;
}

static void choose_flags(struct world *world)
{
    flags_free(&world->change.flags);
    world->change.mode = (enum flag_mode)dice_below(&world->dice, 3);
    world->change.flags.system = dice_below(&world->dice, 32);
    if (dice_below(&world->dice, 4) == 0) {
        const char *keyword = keyword_names[dice_below(&world->dice, 4)];
        REQUIRE(world, flags_add(&world->change.flags, keyword, strlen(keyword)) == ERR_OK);
    }
}

static void choose_uids(struct world *world, uint32_t uidnext)
{
    uidset_clear(&world->uids);
    if (world->operation == EMPTY)
        REQUIRE(world, uidset_add_range(&world->uids, 1, uidnext) == ERR_OK);
    for (unsigned i = 1 + dice_below(&world->dice, 3); i > 0; i--) {
        /* Mostly among the newer ones. */
        uint32_t back = 1 + dice_below(&world->dice, dice_below(&world->dice, 4) ? 100 : 1000);
        uint32_t first = back < uidnext ? uidnext - back : 1;
        REQUIRE(world, uidset_add_range(&world->uids, first, first + dice_below(&world->dice, 3)) ==
                           ERR_OK);
    }
}

static unsigned choose_operation(struct world *world, const struct header *header)
{
    static const struct {
        unsigned operation, share;
    } shares[] = {{APPEND, 440}, {FLAG, 320}, {EXPUNGE, 110}, {COPY, 40},  {MOVE, 40},
                  {META, 20},    {TOUCH, 15}, {RENAME, 8},    {DELETE, 3}, {EMPTY, 4}};
    unsigned dice = dice_below(&world->dice, 1000);
    if (header->messages > BOX_MAX)
        return EMPTY;
    for (unsigned i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        if (dice < shares[i].share)
            return shares[i].operation;
        dice -= shares[i].share;
    }
    return FLAG;
}

static struct box *pick_box(struct world *world)
{
    return &world->boxes[dice_below(&world->dice, dice_below(&world->dice, 2) ? BUSY : BOXES)];
}

static void step(struct world *world)
{
    world->box = pick_box(world);
    world->other = &world->boxes[dice_below(&world->dice, BOXES)];
    struct header header = header_of(world, world->master, world->box->id);
    world->operation = choose_operation(world, &header);
    world->as_bob = dice_below(&world->dice, 4) == 0;
    world->date = (int64_t)dice_below(&world->dice, 50) * TIMES_SECOND;
    world->number = dice_below(&world->dice, 1000);
    choose_flags(world);
    choose_uids(world, header.facts.uidnext);
    if (world->operation == APPEND) {
        unsigned content =
            dice_below(&world->dice, dice_below(&world->dice, 2) ? POPULAR : CONTENTS);
        world->draft = draft_of(world, world->master, content);
        world->used[content] = true;
    }
    unsigned name = free_name(world);
    name_of(world, "box", name, &world->new_name);
    commit(world);
    draft_close(world->draft);
    world->draft = NULL;
    if (world->operation != RENAME && world->operation != DELETE)
        return;
    world->taken[world->box->name] = false;
    if (world->operation == DELETE) {
        create_box(world, world->box);
        return;
    }
    world->box->name = name;
    world->taken[name] = true;
}

static void add_message(struct world *world, struct moment *moment, const struct record *record)
{
    if (moment->count % BATCH == 0) {
        void *larger =
            realloc(moment->messages, (moment->count + BATCH) * sizeof *moment->messages);
        REQUIRE(world, larger);
        moment->messages = larger;
    }
    moment->messages[moment->count++] = (struct message){.uid = record->uid,
                                                         .guid = record->guid,
                                                         .date = record->internal_date,
                                                         .system = record->flags & FLAG_SYSTEM,
                                                         .keywords = record->keywords};
}

struct reading {
    struct world *world;
    struct moment *moment;
};

static void read_messages(struct reading *reading, struct mailbox *mailbox, bool bob)
{
    struct record records[BATCH];
    struct moment *moment = reading->moment;
    size_t count = BATCH, at = 0;
    for (uint32_t from = 1; count == BATCH; from = records[count - 1].uid + 1) {
        REQUIRE(reading->world, mailbox_batch(mailbox, from, records, BATCH, &count) == ERR_OK);
        for (size_t i = 0; i < count; i++) {
            if (!record_live(&records[i]))
                continue;
            if (bob)
                moment->messages[at++].bob = records[i].flags & FLAG_SEEN;
            else
                add_message(reading->world, moment, &records[i]);
        }
        if (count == 0)
            break;
    }
}

/* A mailbox as its API shows it now: no view takes part. */
static int read_box(struct tx *tx, void *arg)
{
    struct reading *reading = arg;
    struct moment *moment = reading->moment;
    struct mailbox *mailbox, *bobs;
    struct bytes comment;
    REQUIRE(reading->world, mailbox_open_id(tx, moment->id, NULL, &mailbox) == ERR_OK);
    REQUIRE(reading->world, mailbox_open_id(tx, moment->id, "bob", &bobs) == ERR_OK);
    moment->modseq = tx_window(tx)->last.modseq;
    moment->name = mailbox_header(mailbox)->facts.name;
    moment->uidnext = mailbox_header(mailbox)->facts.uidnext;
    read_messages(reading, mailbox, false);
    read_messages(reading, bobs, true);
    if (mailbox_meta_get(tx, mailbox, NULL, "/comment", &comment) == ERR_OK)
        memcpy(moment->comment, comment.data, comment.size);
    struct header header;
    for (uint64_t id = 0; header_next(tx_db(tx), &id, &header) == ERR_OK;) {
        if (header.facts.state != MAILBOX_LIVE)
            continue;
        moment->boxes++;
        moment->total += header.messages;
    }
    return ERR_OK;
}

static void read_now(struct world *world, uint64_t id, struct moment *moment)
{
    struct reading reading = {.world = world, .moment = moment};
    *moment = (struct moment){.id = id};
    REQUIRE(world, store_read(world->master, read_box, &reading) == ERR_OK);
}

static void look_at(struct world *world, struct view *view, struct moment *moment)
{
    const struct record *records;
    struct bytes user, key;
    struct versioned value;
    size_t count;
    const struct header *header = view_header(view);
    *moment = (struct moment){
        .id = header->id, .name = header->facts.name, .uidnext = header->facts.uidnext};
    REQUIRE(world, view_records(view, NULL, &records, &count) == ERR_OK);
    for (size_t i = 0; i < count; i++)
        add_message(world, moment, &records[i]);
    REQUIRE(world, view_records(view, "bob", &records, &count) == ERR_OK);
    REQUIRE(world, count == moment->count && (count == 0 || moment->messages));
    for (size_t i = 0; i < count; i++)
        moment->messages[i].bob = records[i].flags & FLAG_SEEN;
    for (size_t i = 0; view_meta(view, i, &user, &key, &value); i++)
        if (value.state == VALUE_SET)
            memcpy(moment->comment, value.value.data, value.value.size);
}

static bool same_message(const struct message *a, const struct message *b)
{
    return guid_equal(&a->guid, &b->guid) && a->date == b->date && a->system == b->system &&
           a->keywords == b->keywords && a->bob == b->bob;
}

static bool same_messages(const struct moment *a, const struct moment *b)
{
    bool same = a->count == b->count && memcmp(a->comment, b->comment, sizeof a->comment) == 0;
    for (size_t i = 0; same && i < a->count; i++)
        same = a->messages[i].uid == b->messages[i].uid &&
               same_message(&a->messages[i], &b->messages[i]);
    return same;
}

static void check_moment(struct world *world, struct store *store, const struct moment *moment)
{
    struct view *view;
    struct moment found;
    REQUIRE(world, view_open_at(store, &moment->name, moment->modseq, &view) == ERR_OK);
    look_at(world, view, &found);
    REQUIRE(world, found.id == moment->id && found.uidnext == moment->uidnext);
    REQUIRE(world, same_messages(&found, moment));
    free(found.messages);
    view_close(view);
}

/* What is counted from entries alone is what a whole view has. */
static void check_header(struct world *world, struct store *store, const struct moment *moment,
                         const struct header *header)
{
    struct view *view;
    REQUIRE(world, view_open_at(store, &header->facts.name, moment->modseq, &view) == ERR_OK);
    const struct header *known = view_header(view);
    REQUIRE(world, known->id == header->id && known->messages == header->messages);
    REQUIRE(world, known->unseen == header->unseen && known->bytes == header->bytes);
    REQUIRE(world, header_digest(known) == header_digest(header));
    view_close(view);
}

static void check_boxes(struct world *world, struct store *store, const struct moment *moment)
{
    struct header *headers;
    size_t count;
    uint64_t total = 0;
    REQUIRE(world, view_mailboxes(store, moment->modseq, &headers, &count) == ERR_OK);
    for (size_t i = 0; i < count; i++)
        total += headers[i].messages;
    for (size_t i = 0; i < count; i += 1 + dice_below(&world->dice, 30))
        check_header(world, store, moment, &headers[i]);
    REQUIRE(world, count == moment->boxes && total == moment->total);
    free(headers);
}

struct shipment {
    uint64_t after;
    uint64_t store_id;
    struct buf entries;
};

static int get_last(struct tx *tx, void *arg)
{
    ((struct shipment *)arg)->after = tx_window(tx)->last.modseq;
    return ERR_OK;
}

static int copy_entries(struct tx *tx, void *arg)
{
    struct shipment *shipment = arg;
    struct position last;
    buf_reset(&shipment->entries);
    shipment->store_id = tx_node(tx)->store_id;
    return journal_copy(tx_db(tx), shipment->after, SIZE_MAX, &shipment->entries, &last);
}

static void ship(struct world *world)
{
    struct shipment shipment = {0};
    static struct draft *drafts[CONTENTS];
    size_t count = 0;
    REQUIRE(world, store_read(world->replica, get_last, &shipment) == ERR_OK);
    int rc = store_read(world->master, copy_entries, &shipment);
    REQUIRE(world, rc == ERR_OK || rc == ERR_END);
    for (unsigned i = 0; i < CONTENTS; i++) {
        if (world->used[i])
            drafts[count++] = draft_of(world, world->replica, i);
        world->used[i] = false;
    }
    struct batch batch = {.store_id = shipment.store_id,
                          .master = "model",
                          .entries = buf_view(&shipment.entries),
                          .drafts = drafts,
                          .draft_count = count};
    struct position position;
    if (rc == ERR_OK)
        REQUIRE(world, store_apply(world->replica, &batch, &position) == ERR_OK);
    while (count)
        draft_close(drafts[--count]);
    buf_free(&shipment.entries);
}

/* What is older than the middle of the day goes; half of the window goes to the archive. */
static void night(struct world *world, int64_t noon, uint64_t window)
{
    uint64_t purged;
    struct retained done;
    struct cut cut = {.entries = window / 2,
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    REQUIRE(world, store_expire(world->master, 0, times_now() - noon, &purged) == ERR_OK);
    ship(world);
    REQUIRE(world, store_cut(world->master, &cut, true, &done) == ERR_OK);
}

static uint64_t last_modseq(struct world *world)
{
    struct shipment shipment = {0};
    REQUIRE(world, store_read(world->master, get_last, &shipment) == ERR_OK);
    return shipment.after;
}

static void record_moment(struct world *world)
{
    const struct box *box = pick_box(world);
    read_now(world, box->id, &world->moments[world->moment_count++]);
}

static void live(struct world *world, uint64_t changes, size_t moments)
{
    int64_t noon = times_now();
    uint64_t day = changes / NIGHTS;
    for (unsigned i = 0; i < BOXES; i++)
        create_box(world, &world->boxes[i]);
    for (unsigned nights = 0; nights < NIGHTS;) {
        uint64_t last = last_modseq(world);
        if (last < nights * day + day / 2)
            noon = times_now();
        if (last >= (nights + 1) * day) {
            nights++;
            night(world, noon, day);
        }
        step(world);
        if (world->commits % SHIP_EVERY == 0)
            ship(world);
        if (world->moment_count < moments && world->moment_count * changes < moments * last)
            record_moment(world);
    }
    ship(world);
}

/* How two recordings of a mailbox differ, as lines of `shiplog diff`: change and UID. */
static void expect_diff(const struct moment *from, const struct moment *to, struct buf *out)
{
    size_t i = 0, k = 0;
    char line[32];
    while (i < from->count || k < to->count) {
        const struct message *a = i < from->count ? &from->messages[i] : NULL;
        const struct message *b = k < to->count ? &to->messages[k] : NULL;
        const char *change = NULL;
        uint32_t uid = 0;
        if (a && (!b || a->uid < b->uid)) {
            change = "removed";
            uid = a->uid;
            i++;
        } else if (b && (!a || b->uid < a->uid)) {
            change = "added";
            uid = b->uid;
            k++;
        } else if (a && b) {
            change = a->system != b->system || a->keywords != b->keywords ? "changed" : NULL;
            uid = a->uid;
            i++;
            k++;
        }
        int size = change ? snprintf(line, sizeof line, "%s\t%" PRIu32 "\n", change, uid) : 0;
        buf_put(out, line, (size_t)size);
    }
}

/* The command, and its output to be read. */
static FILE *start_diff(struct world *world, const char *program, const struct moment *from,
                        const struct moment *to, pid_t *child)
{
    char path[PATH_MAX], id[32], first[32], last[32];
    int ends[2];
    scratch_path(path, program, "shiplog");
    snprintf(id, sizeof id, "id:%016" PRIx64, to->id);
    snprintf(first, sizeof first, "%" PRIu64, from->modseq);
    snprintf(last, sizeof last, "%" PRIu64, to->modseq);
    char *words[] = {path, "-s", world->master_path, "diff", id, first, last, NULL};
    REQUIRE(world, pipe(ends) == 0);
    *child = fork();
    REQUIRE(world, *child >= 0);
    if (*child == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(path, words);
        _exit(127);
    }
    close(ends[1]);
    FILE *output = fdopen(ends[0], "r");
    REQUIRE(world, output);
    return output;
}

static void check_diff(struct world *world, const char *program, const struct moment *from,
                       const struct moment *to)
{
    struct buf expected = {0}, found = {0};
    char line[65536];
    int status;
    pid_t child;
    FILE *output = start_diff(world, program, from, to, &child);
    while (fgets(line, sizeof line, output)) {
        char *tab = strchr(line, '\t');
        tab = tab ? strchr(tab + 1, '\t') : NULL;
        REQUIRE(world, tab);
        *tab = '\n';
        buf_put(&found, line, (size_t)(tab - line) + 1);
    }
    (void)fclose(output);
    REQUIRE(world, waitpid(child, &status, 0) == child);
    expect_diff(from, to, &expected);
    REQUIRE(world, bytes_equal(buf_view(&expected), buf_view(&found)));
    REQUIRE(world, status == (expected.size ? 1 << 8 : 0));
    world->diffs++;
    buf_free(&expected);
    buf_free(&found);
}

static void check_diffs(struct world *world)
{
    const char *program = getenv("SHIPLOG_BIN");
    if (!program) {
        puts("diff: not compared: SHIPLOG_BIN does not say where the program is");
        return;
    }
    for (size_t i = 0; i < world->moment_count; i++)
        for (size_t k = i + 1; k < world->moment_count; k++)
            if (world->moments[i].id == world->moments[k].id && dice_below(&world->dice, 3) == 0) {
                check_diff(world, program, &world->moments[i], &world->moments[k]);
                check_diff(world, program, &world->moments[k], &world->moments[i]);
                break;
            }
}

struct gone {
    struct world *world;
    struct message messages[BOX_MAX * 4];
    size_t count;
};

static void note_item(const struct restore_item *item, void *arg)
{
    struct gone *gone = arg;
    if (item->act != RESTORE_GONE)
        return;
    REQUIRE(gone->world, gone->count < BOX_MAX * 4);
    gone->messages[gone->count++] = (struct message){.uid = item->then->uid};
}

static bool is_gone(const struct gone *gone, uint32_t uid)
{
    for (size_t i = 0; i < gone->count; i++)
        if (gone->messages[i].uid == uid)
            return true;
    return false;
}

static int by_content(const void *a, const void *b)
{
    const struct message *x = a;
    const struct message *y = b;
    int order = memcmp(&x->guid, &y->guid, sizeof x->guid);
    if (order == 0)
        order = (x->date > y->date) - (x->date < y->date);
    if (order == 0)
        order = (x->system > y->system) - (x->system < y->system);
    if (order == 0)
        order = (x->keywords > y->keywords) - (x->keywords < y->keywords);
    return order ? order : x->bob - y->bob;
}

static const struct message *find_message(const struct moment *moment, uint32_t uid)
{
    for (size_t i = 0; i < moment->count; i++)
        if (moment->messages[i].uid == uid)
            return &moment->messages[i];
    return NULL;
}

/* `before`: the mailbox before it was restored. What was there under a UID then goes on under it.
 */
static void compare_restored(struct world *world, const struct moment *then,
                             const struct moment *before, struct moment *now,
                             const struct gone *gone)
{
    struct message *expected = calloc(then->count + 1, sizeof *expected);
    size_t count = 0;
    REQUIRE(world, expected);
    for (size_t i = 0; i < then->count; i++) {
        const struct message *message = &then->messages[i];
        if (is_gone(gone, message->uid))
            continue;
        expected[count++] = *message;
        bool stayed = find_message(before, message->uid);
        const struct message *found = find_message(now, message->uid);
        REQUIRE(world, !stayed || (found && same_message(found, message)));
        REQUIRE(world, stayed || !found);
    }
    REQUIRE(world,
            now->count == count && memcmp(now->comment, then->comment, sizeof now->comment) == 0);
    qsort(expected, count, sizeof *expected, by_content);
    if (count)
        qsort(now->messages, count, sizeof *now->messages, by_content);
    for (size_t i = 0; i < count; i++)
        REQUIRE(world, same_message(&expected[i], &now->messages[i]));
    free(expected);
}

static void restore_into(struct world *world, const struct moment *moment)
{
    struct gone *gone = calloc(1, sizeof *gone);
    struct restore_result result;
    struct name name;
    struct view *view;
    struct moment now;
    REQUIRE(world, gone);
    gone->world = world;
    name_of(world, "into", world->restores, &name);
    struct restore_request request = {
        .id = moment->id, .modseq = moment->modseq, .into = &name, .item = note_item, .arg = gone};
    REQUIRE(world, restore_run(world->master, &request, &result) == ERR_OK);
    uint64_t id;
    REQUIRE(world, view_mailbox_id(world->master, &name, 0, &id) == ERR_OK);
    REQUIRE(world, view_open(world->master, id, &view) == ERR_OK);
    look_at(world, view, &now);
    view_close(view);
    /* Nothing was there, and all UIDs are those of then. */
    compare_restored(world, moment, moment, &now, gone);
    REQUIRE(world, restore_run(world->master, &request, &result) == ERR_EXISTS);
    free(now.messages);
    free(gone);
}

static void restore_here(struct world *world, const struct moment *moment)
{
    struct gone *gone = calloc(1, sizeof *gone);
    struct restore_result result, again;
    struct moment before, now;
    REQUIRE(world, gone);
    gone->world = world;
    struct restore_request plan = {.id = moment->id, .modseq = moment->modseq, .dry_run = true};
    struct restore_request request = {
        .id = moment->id, .modseq = moment->modseq, .item = note_item, .arg = gone};
    uint64_t last = last_modseq(world);
    int rc = restore_run(world->master, &plan, &result);
    REQUIRE(world, last_modseq(world) == last);
    if (rc == ERR_GONE || rc == ERR_EXISTS) { /* purged; deleted, and its name is taken */
        free(gone);
        return;
    }
    REQUIRE(world, rc == ERR_OK);
    read_now(world, moment->id, &before);
    REQUIRE(world, restore_run(world->master, &request, &again) == ERR_OK);
    REQUIRE(world, (again.work == 0) == (last_modseq(world) == last));
    REQUIRE(world, again.left_out == result.left_out && (again.work == 0) == (result.work == 0));
    read_now(world, moment->id, &now);
    compare_restored(world, moment, &before, &now, gone);
    request.item = NULL;
    REQUIRE(world, restore_run(world->master, &request, &again) == ERR_OK && again.work == 0);
    world->gone += (unsigned)gone->count;
    free(before.messages);
    free(now.messages);
    free(gone);
}

static void check_restores(struct world *world, size_t most)
{
    for (size_t i = 0; i < most; i++) {
        size_t at = dice_below(&world->dice, (uint32_t)world->moment_count);
        world->restores++;
        if (dice_below(&world->dice, 4) == 0)
            restore_into(world, &world->moments[at]);
        else
            restore_here(world, &world->moments[at]);
        if (i % 8 == 0)
            ship(world);
    }
    ship(world);
}

static void complain(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

static void check_all(struct world *world)
{
    struct store *ends[] = {world->master, world->replica};
    for (unsigned end = 0; end < 2; end++) {
        for (size_t i = 0; i < world->moment_count; i++) {
            check_moment(world, ends[end], &world->moments[i]);
            if (i % 25 == end)
                check_boxes(world, ends[end], &world->moments[i]);
        }
    }
}

static void check_stores(struct world *world)
{
    struct store *ends[] = {world->master, world->replica};
    for (unsigned end = 0; end < 2; end++) {
        uint64_t wrong;
        REQUIRE(world, check_store(ends[end], false, complain, NULL, &wrong) == ERR_OK && !wrong);
        REQUIRE(world, check_journal(ends[end], complain, NULL, &wrong) == ERR_OK && !wrong);
    }
}

static void begin(struct world *world)
{
    char replica[PATH_MAX];
    scratch_make(world->directory);
    scratch_path(world->master_path, world->directory, "master");
    scratch_path(replica, world->directory, "replica");
    REQUIRE(world, store_init(world->master_path, ROLE_MASTER, NULL, NULL) == ERR_OK);
    REQUIRE(world, store_init(replica, ROLE_REPLICA, NULL, NULL) == ERR_OK);
    REQUIRE(world, store_open(world->master_path, NULL, &world->master) == ERR_OK);
    REQUIRE(world, store_open(replica, NULL, &world->replica) == ERR_OK);
}

static void end(struct world *world)
{
    for (size_t i = 0; i < world->moment_count; i++)
        free(world->moments[i].messages);
    uidset_free(&world->uids);
    flags_free(&world->change.flags);
    store_close(world->master);
    store_close(world->replica);
    scratch_remove(world->directory);
    free(world);
}

int main(int argc, char **argv)
{
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        return 1;
    world->seed = scratch_seed(argc, argv);
    world->dice.state = world->seed;
    uint64_t share = scratch_seconds() < FULL_SECONDS ? scratch_seconds() : FULL_SECONDS;
    uint64_t changes = (uint64_t)CHANGES * share / FULL_SECONDS + 2000;
    size_t moments = (size_t)(MOMENTS * share / FULL_SECONDS);
    begin(world);
    live(world, changes, moments < 20 ? 20 : moments);
    check_all(world);
    check_diffs(world);
    check_restores(world, world->moment_count / 2);
    check_all(world);
    check_stores(world);
    printf("%u mailboxes, %" PRIu64 " changes, %zu moments at two ends, %u differences, "
           "%u restores (%u messages were gone)\n",
           BOXES, last_modseq(world), world->moment_count, world->diffs, world->restores,
           world->gone);
    end(world);
    return 0;
}
