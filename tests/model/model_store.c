/* A naive mailbox, written for clarity, driven beside the real store by random changes, with a
 * replica behind it.
 *
 * After every commit the replica gets the entries and must have the same digest. Now and then the
 * whole model is compared with listings of both stores, and a listing is recorded together with its
 * modseq; recorded listings must come back, at both ends, whatever happened since: entries go to
 * the archive at random, at each end by itself, and with some seeds are trimmed without it, after
 * which what is older must be told to be gone.
 */
#include "base/err.h"
#include "journal/history.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/view.h"
#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BOXES 6u
#define MESSAGES 400u
#define CONTENTS 40u
#define RECORDINGS 40u
#define OPERATIONS 4000u /* with one seed */
#define KEYWORDS 3u

static const char *const keyword_names[KEYWORDS] = {"$Forwarded", "Junk", "work"};

struct message {
    uint32_t uid;
    uint32_t system; /* \Seen: the owner's */
    bool keywords[KEYWORDS];
    bool seen_by_bob;
    unsigned content;
};

struct model_box {
    bool there;
    uint64_t id;
    char name[32];
    uint32_t uidnext;
    struct message messages[MESSAGES];
    size_t count;
};

struct recording {
    uint64_t modseq;
    uint64_t id;
    struct buf text;
};

struct world {
    uint64_t seed;
    struct dice dice;
    struct store *master;
    struct store *replica;
    uint64_t store_id;
    struct model_box boxes[BOXES];
    unsigned next_name;
    struct recording recordings[RECORDINGS];
    size_t recorded;
    size_t compared; /* recordings that came back */
    /* what the operation of this commit is */
    unsigned operation;
    struct model_box *box;
    struct model_box *target;
    struct uidset uids;
    struct flag_change change;
    bool as_bob;
    bool immediate;
    unsigned content;
    struct draft *draft;
    uint64_t made_id;
    struct uidset from;
    struct uidset to;
};

#define REQUIRE(world, condition)                                                                  \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("seed %llu: %s:%d: %s (%s)\n", (unsigned long long)(world)->seed, __FILE__,     \
                   __LINE__, #condition, err_message());                                           \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static void parse(struct world *world, const char *text, struct name *name)
{
    struct owner owner = {.user = "owner"};
    REQUIRE(world, name_parse(text, strlen(text), &owner, name) == ERR_OK);
}

static struct draft *draft_of(struct world *world, struct store *store, unsigned content)
{
    struct draft *draft;
    char line[64];
    REQUIRE(world, draft_open(store_db(store), DRAFT_RAW, &draft) == ERR_OK);
    for (unsigned i = 0; i <= content; i++) {
        int size =
            snprintf(line, sizeof line, "Subject: message %u, line %u of it\r\n", content, i);
        REQUIRE(world, draft_write(draft, line, (size_t)size) == ERR_OK);
    }
    REQUIRE(world, draft_finish(draft) == ERR_OK);
    return draft;
}

enum {
    OP_CREATE,
    OP_RENAME,
    OP_DELETE,
    OP_APPEND,
    OP_FLAGS,
    OP_EXPUNGE,
    OP_COPY,
    OP_MOVE,
    OP_META,
    OP_TOUCH,
    OP_PURGE,
    OP_REVIVE,
    OPS,
    OP_NONE = OPS /* not a commit of the model's: expiry */
};

static int open_box(struct tx *tx, struct world *world, struct model_box *box,
                    struct mailbox **mailbox)
{
    struct name name;
    parse(world, box->name, &name);
    return mailbox_open(tx, &name, world->as_bob ? "bob" : NULL, mailbox);
}

static int operate_on_names(struct tx *tx, struct world *world)
{
    struct name name, old;
    struct mailbox *mailbox;
    char text[32];
    snprintf(text, sizeof text, "box%u", world->next_name);
    parse(world, text, &name);
    if (world->operation == OP_CREATE)
        return mailbox_create(tx, &name, &world->made_id);
    if (world->operation == OP_REVIVE) {
        int rc = mailbox_open_id(tx, world->box->id, NULL, &mailbox);
        return rc ? rc : mailbox_revive(mailbox, &name);
    }
    parse(world, world->box->name, &old);
    return mailbox_rename(tx, &old, &name);
}

static int operate_on_meta(struct tx *tx, struct world *world, struct mailbox *mailbox)
{
    const char *user = world->as_bob ? "bob" : NULL;
    if (world->content % 4)
        return mailbox_meta_set(tx, mailbox, user, "/comment",
                                bytes_of(&world->content, sizeof world->content));
    int rc = mailbox_meta_unset(tx, mailbox, user, "/comment");
    return rc == ERR_END ? ERR_OK : rc;
}

static int operate(struct tx *tx, void *arg)
{
    struct world *world = arg;
    struct mailbox *mailbox, *target;
    if (world->operation == OP_CREATE || world->operation == OP_RENAME ||
        world->operation == OP_REVIVE)
        return operate_on_names(tx, world);
    int rc = open_box(tx, world, world->box, &mailbox);
    if (rc)
        return rc;
    uint64_t count;
    bool more;
    struct append append = {
        .draft = world->draft, .system = world->change.flags.system, .internal_date = 1000000};
    switch (world->operation) {
    case OP_DELETE:
        return mailbox_delete(mailbox);
    case OP_APPEND:
        append.keywords = buf_view(&world->change.flags.keywords);
        return mailbox_append(mailbox, &append, NULL);
    case OP_FLAGS:
        return mailbox_flag(mailbox, &world->uids, &world->change, NULL);
    case OP_EXPUNGE:
        return mailbox_expunge(mailbox, &world->uids, world->immediate, NULL);
    case OP_COPY:
    case OP_MOVE:
        rc = open_box(tx, world, world->target, &target);
        return rc ? rc
                  : mailbox_copy(mailbox, &world->uids, target, world->operation == OP_MOVE,
                                 &world->from, &world->to);
    case OP_META:
        return operate_on_meta(tx, world, world->immediate ? mailbox : NULL);
    case OP_TOUCH:
        return mailbox_touch(mailbox, &world->uids);
    default:
        return mailbox_purge(mailbox, INT64_MAX, &count, &more);
    }
}

static struct model_box *pick_box(struct world *world, bool there)
{
    for (unsigned i = 0; i < 20; i++) {
        struct model_box *box = &world->boxes[dice_below(&world->dice, BOXES)];
        if (box->there == there)
            return box;
    }
    return NULL;
}

static void pick_uids(struct world *world)
{
    uidset_clear(&world->uids);
    if (!world->box->uidnext)
        return;
    for (unsigned i = dice_below(&world->dice, 6); i > 0; i--) {
        uint32_t first = 1 + dice_below(&world->dice, world->box->uidnext);
        REQUIRE(world, uidset_add_range(&world->uids, first, first + dice_below(&world->dice, 4)) ==
                           ERR_OK);
    }
}

static void pick_flags(struct world *world)
{
    flags_free(&world->change.flags);
    world->change.mode = (enum flag_mode)dice_below(&world->dice, 3);
    world->change.flags.system = dice_below(&world->dice, 32);
    for (unsigned i = 0; i < KEYWORDS; i++)
        if (dice_below(&world->dice, 3) == 0)
            REQUIRE(world, flags_add(&world->change.flags, keyword_names[i],
                                     strlen(keyword_names[i])) == ERR_OK);
}

static bool change_has(const struct world *world, unsigned keyword)
{
    return keywords_contain(buf_view(&world->change.flags.keywords),
                            bytes_text(keyword_names[keyword]));
}

static bool changed_bit(enum flag_mode mode, bool before, bool given)
{
    if (mode == FLAGS_ADD)
        return before || given;
    return mode == FLAGS_REMOVE ? before && !given : given;
}

static void model_flags(struct world *world, struct message *message)
{
    enum flag_mode mode = world->change.mode;
    for (uint32_t bit = 1; bit <= FLAG_DRAFT; bit <<= 1) {
        bool given = world->change.flags.system & bit;
        if (bit == FLAG_SEEN && world->as_bob)
            message->seen_by_bob = changed_bit(mode, message->seen_by_bob, given);
        else if (changed_bit(mode, message->system & bit, given))
            message->system |= bit;
        else
            message->system &= ~bit;
    }
    for (unsigned i = 0; i < KEYWORDS; i++)
        message->keywords[i] = changed_bit(mode, message->keywords[i], change_has(world, i));
}

static void model_append(struct world *world)
{
    struct model_box *box = world->box;
    struct message *message = &box->messages[box->count++];
    *message = (struct message){.uid = box->uidnext++, .content = world->content};
    enum flag_mode mode = world->change.mode;
    world->change.mode = FLAGS_REPLACE;
    model_flags(world, message);
    world->change.mode = mode;
}

static void model_expunge(struct model_box *box, const struct uidset *uids)
{
    size_t kept = 0;
    for (size_t i = 0; i < box->count; i++)
        if (!uidset_contains(uids, box->messages[i].uid))
            box->messages[kept++] = box->messages[i];
    box->count = kept;
}

static void model_copy(struct world *world)
{
    struct model_box *box = world->box;
    size_t count = box->count;
    for (size_t i = 0; i < count; i++) {
        struct message copy = box->messages[i];
        if (!uidset_contains(&world->uids, copy.uid))
            continue;
        copy.uid = world->target->uidnext++;
        /* Bob's copy is seen by bob if the original was; what the owner saw of it does not come
         * along. */
        if (world->as_bob)
            copy.system &= ~FLAG_SEEN;
        else
            copy.seen_by_bob = false;
        world->target->messages[world->target->count++] = copy;
    }
}

static void model_names(struct world *world)
{
    struct model_box *box = world->box;
    if (world->operation == OP_CREATE)
        *box = (struct model_box){.id = world->made_id, .uidnext = 1};
    box->there = true;
    snprintf(box->name, sizeof box->name, "box%u", world->next_name++);
}

static void model(struct world *world)
{
    struct uidset moved = {0};
    switch (world->operation) {
    case OP_CREATE:
    case OP_RENAME:
    case OP_REVIVE:
        model_names(world);
        break;
    case OP_DELETE:
        world->box->there = false;
        break;
    case OP_APPEND:
        model_append(world);
        break;
    case OP_FLAGS:
        for (size_t i = 0; i < world->box->count; i++)
            if (uidset_contains(&world->uids, world->box->messages[i].uid))
                model_flags(world, &world->box->messages[i]);
        break;
    case OP_EXPUNGE:
        model_expunge(world->box, &world->uids);
        break;
    case OP_COPY:
    case OP_MOVE:
        model_copy(world);
        REQUIRE(world, uidset_copy(&moved, &world->from) == ERR_OK);
        if (world->operation == OP_MOVE)
            model_expunge(world->box, &moved);
        uidset_free(&moved);
        break;
    default:
        break;
    }
}

/* A listing as text, from the model and from a view: whoever compares them compares everything. */
static void print_message(struct buf *out, uint32_t uid, uint32_t system, struct bytes keywords,
                          bool bob, uint64_t size)
{
    char line[64];
    int used = snprintf(line, sizeof line, "%u %llu %s ", uid, (unsigned long long)size,
                        bob ? "bob" : "-");
    buf_put(out, line, (size_t)used);
    flags_print(system, keywords, out);
    buf_u8(out, '\n');
}

static uint64_t content_size(unsigned content)
{
    uint64_t size = 0;
    for (unsigned i = 0; i <= content; i++)
        size += (uint64_t)snprintf(NULL, 0, "Subject: message %u, line %u of it\r\n", content, i);
    return size;
}

static void list_model(struct world *world, const struct model_box *box, struct buf *out)
{
    for (size_t i = 0; i < box->count; i++) {
        const struct message *message = &box->messages[i];
        struct flags flags = {.system = message->system};
        for (unsigned k = 0; k < KEYWORDS; k++)
            if (message->keywords[k])
                REQUIRE(world,
                        flags_add(&flags, keyword_names[k], strlen(keyword_names[k])) == ERR_OK);
        print_message(out, message->uid, flags.system, buf_view(&flags.keywords),
                      message->seen_by_bob, content_size(message->content));
        flags_free(&flags);
    }
}

static void list_view(struct world *world, struct view *view, struct buf *out)
{
    const struct record *records;
    size_t count, bobs;
    REQUIRE(world, view_records(view, "bob", &records, &count) == ERR_OK);
    bool *bob = calloc(count + 1, sizeof *bob);
    REQUIRE(world, bob);
    for (size_t i = 0; i < count; i++)
        bob[i] = records[i].flags & FLAG_SEEN;
    REQUIRE(world, view_records(view, NULL, &records, &bobs) == ERR_OK);
    REQUIRE(world, bobs == count);
    for (size_t i = 0; i < count; i++) {
        struct bytes keywords;
        REQUIRE(world, view_keywords(view, records[i].keywords, &keywords) == ERR_OK);
        print_message(out, records[i].uid, records[i].flags & FLAG_SYSTEM, keywords, bob[i],
                      records[i].size);
    }
    free(bob);
}

static int get_window(struct tx *tx, void *arg)
{
    *(struct journal_window *)arg = *tx_window(tx);
    return ERR_OK;
}

static void compare_box(struct world *world, struct store *store, const struct model_box *box)
{
    struct view *view;
    struct buf expected = {0};
    struct buf found = {0};
    REQUIRE(world, view_open(store, box->id, &view) == ERR_OK);
    REQUIRE(world, view_header(view)->facts.uidnext == box->uidnext);
    list_model(world, box, &expected);
    list_view(world, view, &found);
    REQUIRE(world, bytes_equal(buf_view(&expected), buf_view(&found)));
    view_close(view);
    buf_free(&expected);
    buf_free(&found);
}

static int get_oldest(struct tx *tx, void *arg)
{
    struct history *history;
    int rc = history_open(db_directory_fd(store_db(tx_store(tx))), &history);
    if (rc == ERR_OK)
        rc = history_oldest(history, tx_db(tx), arg);
    history_close(history);
    return rc;
}

static void compare_past(struct world *world, struct store *store,
                         const struct recording *recording)
{
    struct view *view;
    struct buf found = {0};
    uint64_t oldest;
    REQUIRE(world, store_read(store, get_oldest, &oldest) == ERR_OK);
    REQUIRE(world, view_open(store, recording->id, &view) == ERR_OK);
    int rc = view_back(view, recording->modseq);
    /* A mailbox without later changes is as it was, whatever was trimmed. */
    REQUIRE(world, rc == ERR_OK || (rc == ERR_TRIMMED && recording->modseq < oldest));
    if (rc == ERR_OK) {
        list_view(world, view, &found);
        REQUIRE(world, bytes_equal(buf_view(&recording->text), buf_view(&found)));
    }
    world->compared += rc == ERR_OK;
    view_close(view);
    buf_free(&found);
}

/* Of one end's window; the other's stays as it is. */
static void cut_window(struct world *world, struct store *store)
{
    struct retained done;
    struct cut cut = {.entries = dice_below(&world->dice, 300),
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    bool archive = world->seed % 4 || dice_below(&world->dice, 5);
    REQUIRE(world, store_cut(store, &cut, archive, &done) == ERR_OK);
    REQUIRE(world, done.archived == (archive ? done.trimmed : 0));
}

static void record(struct world *world, const struct model_box *box)
{
    struct journal_window window;
    struct recording *recording = &world->recordings[world->recorded % RECORDINGS];
    if (world->recorded < RECORDINGS)
        world->recorded++;
    else
        recording = &world->recordings[dice_below(&world->dice, RECORDINGS)];
    buf_free(&recording->text);
    REQUIRE(world, store_read(world->master, get_window, &window) == ERR_OK);
    recording->modseq = window.last.modseq;
    recording->id = box->id;
    list_model(world, box, &recording->text);
}

struct shipment {
    uint64_t after;
    struct buf entries;
    struct node node;
};

static int copy_entries(struct tx *tx, void *arg)
{
    struct shipment *shipment = arg;
    struct position last;
    buf_reset(&shipment->entries);
    shipment->node = *tx_node(tx);
    int rc = journal_copy(tx_db(tx), shipment->after, SIZE_MAX, &shipment->entries, &last);
    return rc == ERR_END ? ERR_OK : rc;
}

static int get_digest(struct tx *tx, void *arg)
{
    *(uint64_t *)arg = node_digest(tx_node(tx));
    return ERR_OK;
}

static void ship(struct world *world)
{
    struct journal_window window;
    struct shipment shipment = {0};
    struct position position;
    uint64_t digest_a, digest_b;
    REQUIRE(world, store_read(world->replica, get_window, &window) == ERR_OK);
    shipment.after = window.last.modseq;
    REQUIRE(world, store_read(world->master, copy_entries, &shipment) == ERR_OK);
    struct draft *draft =
        world->operation == OP_APPEND ? draft_of(world, world->replica, world->content) : NULL;
    struct batch batch = {.store_id = shipment.node.store_id,
                          .master = "model",
                          .entries = buf_view(&shipment.entries),
                          .drafts = &draft,
                          .draft_count = draft ? 1 : 0};
    REQUIRE(world, store_apply(world->replica, &batch, &position) == ERR_OK);
    draft_close(draft);
    REQUIRE(world, store_read(world->master, get_digest, &digest_a) == ERR_OK);
    REQUIRE(world, store_read(world->replica, get_digest, &digest_b) == ERR_OK);
    REQUIRE(world, digest_a == digest_b);
    buf_free(&shipment.entries);
}

/* Tombstones go, at a master also deleted mailboxes. At a replica that is its own affair. */
static void expire(struct world *world)
{
    uint64_t purged;
    if (dice_below(&world->dice, 2)) {
        REQUIRE(world, store_expire(world->replica, 0, 0, &purged) == ERR_OK);
        return;
    }
    REQUIRE(world, store_expire(world->master, 0, 0, &purged) == ERR_OK);
    for (unsigned i = 0; i < BOXES; i++)
        if (!world->boxes[i].there)
            world->boxes[i].id = 0;
    world->operation = OP_NONE;
    ship(world);
}

static bool prepare(struct world *world)
{
    /* Appends come as often as all else together, or there would be nothing to change. */
    world->operation = dice_below(&world->dice, 2) ? OP_APPEND : dice_below(&world->dice, OPS);
    if ((world->operation == OP_RENAME || world->operation == OP_DELETE) &&
        dice_below(&world->dice, 4))
        world->operation = OP_FLAGS;
    bool live = world->operation != OP_CREATE && world->operation != OP_REVIVE;
    world->box = pick_box(world, live);
    world->target = pick_box(world, true);
    if (world->box && world->operation == OP_REVIVE && world->box->id == 0)
        world->box = NULL; /* never made, or purged */
    if (!world->box || !world->target)
        return world->box && !live;
    world->as_bob = dice_below(&world->dice, 3) == 0;
    world->immediate = dice_below(&world->dice, 3) == 0;
    world->content = dice_below(&world->dice, CONTENTS);
    if (live)
        pick_uids(world);
    pick_flags(world);
    return !live || (world->box->count < MESSAGES / 2 && world->target->count < MESSAGES / 2);
}

static void step(struct world *world)
{
    if (!prepare(world)) {
        if (!world->box || world->box->count < MESSAGES / 2)
            return;
        world->operation = OP_EXPUNGE;
        REQUIRE(world, uidset_add_range(&world->uids, 1, world->box->uidnext) == ERR_OK);
    }
    world->draft =
        world->operation == OP_APPEND ? draft_of(world, world->master, world->content) : NULL;
    REQUIRE(world, store_commit(world->master, operate, world, NULL) == ERR_OK);
    draft_close(world->draft);
    model(world);
    ship(world);
    if (dice_below(&world->dice, 150) == 0)
        cut_window(world, dice_below(&world->dice, 2) ? world->master : world->replica);
    if (dice_below(&world->dice, 200) == 0)
        expire(world);
    if (dice_below(&world->dice, 20) == 0 && world->box->there) {
        compare_box(world, world->master, world->box);
        compare_box(world, world->replica, world->box);
        record(world, world->box);
    }
}

static void complain(void *arg, const char *where, const char *what)
{
    (void)arg;
    printf("%s: %s\n", where, what);
}

static void finish(struct world *world)
{
    struct store *ends[] = {world->master, world->replica};
    for (unsigned end = 0; end < 2; end++) {
        uint64_t wrong;
        for (unsigned i = 0; i < BOXES; i++)
            if (world->boxes[i].there)
                compare_box(world, ends[end], &world->boxes[i]);
        for (size_t i = 0; i < world->recorded; i++)
            compare_past(world, ends[end], &world->recordings[i]);
        REQUIRE(world, world->seed % 4 == 0 || world->compared == (end + 1) * world->recorded);
        /* What was trimmed without the archive is a gap before what is in it. */
        uint64_t gaps = world->seed % 4 == 0;
        REQUIRE(world,
                check_store(ends[end], true, complain, NULL, &wrong) == ERR_OK && wrong <= gaps);
        REQUIRE(world, check_journal(ends[end], complain, NULL, &wrong) == ERR_OK && wrong <= gaps);
    }
}

static void run(uint64_t seed)
{
    char directory[PATH_MAX], master[PATH_MAX], replica[PATH_MAX];
    struct world *world = calloc(1, sizeof *world);
    if (!world)
        exit(1);
    world->seed = seed;
    world->dice.state = seed;
    scratch_make(directory);
    scratch_path(master, directory, "master");
    scratch_path(replica, directory, "replica");
    /* A small map: growing it is part of the test. */
    struct store_options options = {.map_size = 1 << 20};
    REQUIRE(world, store_init(master, ROLE_MASTER, NULL, &options) == ERR_OK);
    REQUIRE(world, store_init(replica, ROLE_REPLICA, NULL, &options) == ERR_OK);
    REQUIRE(world, store_open(master, &options, &world->master) == ERR_OK);
    REQUIRE(world, store_open(replica, &options, &world->replica) == ERR_OK);
    for (unsigned i = 0; i < OPERATIONS; i++)
        step(world);
    finish(world);
    for (size_t i = 0; i < RECORDINGS; i++)
        buf_free(&world->recordings[i].text);
    uidset_free(&world->uids);
    uidset_free(&world->from);
    uidset_free(&world->to);
    flags_free(&world->change.flags);
    store_close(world->master);
    store_close(world->replica);
    free(world);
    scratch_remove(directory);
}

int main(int argc, char **argv)
{
    uint64_t seed = scratch_seed(argc, argv);
    time_t until = time(NULL) + (time_t)scratch_seconds();
    unsigned runs = 0;
    do {
        run(seed + runs++);
    } while (argc < 2 && time(NULL) < until);
    printf("%u seeds from %llu, %u operations each\n", runs, (unsigned long long)seed, OPERATIONS);
    return 0;
}
