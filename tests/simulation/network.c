/* Agents of three nodes on a network that is made up: the state machines of both sides, with real
 * stores, while connections are lost at any byte, stall and half die, nodes are killed and come
 * back, windows are cut under followers, roles and upstreams change, records are damaged.
 *
 * After every piece of work the node's journal is compared with what any node's journal said
 * there, and its digest with what any node's was at that position; what is acknowledged and how
 * much is under way is watched where it is said. In the end the network is good and nobody meddles:
 * all must become equal soon, stay connected, and have every message that nobody expunged.
 */
#include "base/err.h"
#include "journal/retention.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"
#include "tests/support/agents.h"
#include "tests/support/post.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NODES 3u
#define STEPS 150u
#define SECOND INT64_C(1000000)
#define BOXES 3u
#define MESSAGES_MOST 4096u
#define ENTRIES_MOST 65536u /* a power of two, many more than there are */
#define PATIENCE 120u       /* seconds in which all become equal on a good network */
#define SILENT 20u          /* seconds after which no connection is left that had died unnoticed */
#define CALM 40u            /* seconds for which nothing may happen then */
#define ROUNDS 4u           /* of what an operator does so that one is the master of all */

/* What a run is about, by its seed. */
enum plot {
    PLOT_TAIL,  /* one master; windows are cut, upstreams change */
    PLOT_ROLES, /* nodes are promoted and demoted; nothing is forgotten */
    PLOT_ALL,   /* both */
    PLOT_BULK,  /* one master, large messages, damage */
    PLOTS
};

/* An entry, as the first node that had it showed it; and the store there. */
struct known_entry {
    struct position position; /* modseq 0: none */
    uint64_t hash;            /* of its bytes */
    bool ends_commit;
    bool has_digest;
    uint64_t digest;
};

enum fate { FATE_NONE, FATE_LIVES, FATE_DEAD };

struct sight {
    struct position last;
    struct position base;
    struct node node;
};

struct world {
    const struct seed_run *run;
    struct agents agents;
    enum plot plot;
    char directory[PATH_MAX];
    struct known_entry *entries; /* by chain */
    struct sight sights[NODES];
    enum fate fates[MESSAGES_MOST];
    unsigned messages;
    bool forgot;              /* a window was cut, or tombstones were purged */
    bool damaged[NODES];      /* a record was lost that nobody has looked for yet */
    bool hurt[NODES];         /* reference counts are too high since; a check mends them */
    unsigned down_for[NODES]; /* steps */
};

#define CHECK(world, condition, ...) AGENTS_REQUIRE(&(world)->agents, condition, __VA_ARGS__)
#define MUST(world, call) CHECK(world, (call) == ERR_OK, #call)

static struct dice dice_of(const struct seed_run *run, unsigned step)
{
    struct dice dice = {.state = run->seed * UINT64_C(0x9e3779b97f4a7c15) + step};
    dice.state = dice_next(&dice);
    return dice;
}

static struct store *store_of(const struct world *world, unsigned node)
{
    return world->agents.sites[node].store;
}

/* --- what nodes show --- */

static struct known_entry *find_entry(struct world *world, struct position position)
{
    for (uint64_t at = position.chain;; at++) {
        struct known_entry *entry = &world->entries[at % ENTRIES_MOST];
        if (entry->position.modseq == 0 || position_equal(entry->position, position))
            return entry;
    }
}

static void look_at_entry(struct world *world, unsigned node, const struct entry *entry,
                          struct bytes encoded)
{
    struct position position = {.modseq = entry->modseq, .chain = entry->chain};
    struct known_entry *known = find_entry(world, position);
    uint64_t hash = hash_xxh3(encoded.data, encoded.size);
    if (known->position.modseq == 0)
        *known = (struct known_entry){
            .position = position, .hash = hash, .ends_commit = entry->end_of_commit};
    CHECK(world, known->hash == hash, "node %u has other bytes at %" PRIu64, node, entry->modseq);
}

struct looking {
    struct world *world;
    unsigned node;
    struct sight now;
    bool stops;
};

static int look_at_entries(struct tx *tx, struct looking *work, uint64_t from)
{
    struct journal_cursor *cursor;
    struct entry entry;
    struct bytes encoded;
    int rc = journal_cursor_open(tx_db(tx), &cursor);
    if (rc)
        return rc;
    for (rc = journal_seek(cursor, from, &entry, &encoded); rc == ERR_OK;
         rc = journal_next(cursor, &entry, &encoded))
        look_at_entry(work->world, work->node, &entry, encoded);
    journal_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

static int look_at_node(struct tx *tx, void *arg)
{
    struct looking *work = arg;
    const struct sight *before = &work->world->sights[work->node];
    work->now = (struct sight){
        .last = tx_window(tx)->last, .base = tx_window(tx)->base, .node = *tx_node(tx)};
    int rc = stop_any(tx_db(tx), &work->stops);
    if (rc || position_equal(before->last, work->now.last))
        return rc;
    bool behind = journal_holds(tx_db(tx), before->last) == ERR_OK;
    return look_at_entries(tx, work, behind ? before->last.modseq + 1 : 0);
}

/* The end of a journal is the end of a commit, and the mail is what it was there at other nodes. */
static void check_digest(struct world *world, const struct looking *work)
{
    const struct sight *now = &work->now;
    struct known_entry *known = find_entry(world, now->last);
    uint64_t digest = node_digest(&now->node);
    if (position_equal(now->last, now->base) || known->position.modseq == 0)
        return;
    CHECK(world, known->ends_commit, "node %u stands at %" PRIu64 ", within a commit", work->node,
          now->last.modseq);
    if (work->stops)
        return;
    if (!known->has_digest)
        known->digest = digest;
    known->has_digest = true;
    CHECK(world, known->digest == digest,
          "node %u has other mail at %" PRIu64 " than others had there", work->node,
          now->last.modseq);
}

static bool same_duty(const struct node *a, const struct node *b)
{
    return a->role == b->role && a->fence == b->fence && strcmp(a->master, b->master) == 0;
}

static void touched(void *arg, unsigned node)
{
    struct world *world = arg;
    struct looking work = {.world = world, .node = node};
    struct sight *before = &world->sights[node];
    MUST(world, store_read(store_of(world, node), look_at_node, &work));
    bool repairing = work.stops || agents_is_repairing(&world->agents, node);
    CHECK(world, repairing || work.now.last.modseq >= before->last.modseq,
          "node %u went back from %" PRIu64 " to %" PRIu64, node, before->last.modseq,
          work.now.last.modseq);
    CHECK(world, work.now.last.modseq >= work.now.base.modseq, "node %u: a window upside down",
          node);
    check_digest(world, &work);
    bool news =
        !position_equal(work.now.last, before->last) || !same_duty(&work.now.node, &before->node);
    *before = work.now;
    if (news)
        agents_wake(&world->agents, node);
}

/* --- users --- */

static const char *const box_names[BOXES] = {"INBOX", "sent", "lists/all"};

struct deed {
    struct world *world;
    unsigned box;
    unsigned kind;
    struct draft *drafts[4];
    unsigned first; /* number of the first message */
    unsigned count;
    bool appended; /* it may have made the mailbox only */
    uint32_t uid;
    bool immediate;
    unsigned value;
    uint64_t victim; /* number of a message that was expunged; 0: none was */
};

enum { DEED_APPEND, DEED_FLAG, DEED_EXPUNGE, DEED_META, DEED_NAMES };

static int expunge_one(struct mailbox *mailbox, struct deed *deed)
{
    struct record record;
    struct uidset uids = {0};
    int rc = mailbox_record(mailbox, deed->uid, &record);
    if (rc || !record_live(&record))
        return rc == ERR_END ? ERR_OK : rc;
    rc = uidset_add(&uids, deed->uid);
    if (rc == ERR_OK)
        rc = mailbox_expunge(mailbox, &uids, deed->immediate, NULL);
    uidset_free(&uids);
    deed->victim = (uint64_t)record.internal_date;
    return rc;
}

static int flag_some(struct mailbox *mailbox, const struct deed *deed)
{
    struct uidset uids = {0};
    struct flag_change change = {.mode = deed->value % 2 ? FLAGS_ADD : FLAGS_REMOVE};
    change.flags.system = deed->value / 2 % 16;
    int rc = uidset_add_range(&uids, deed->uid, deed->uid + 5);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, &uids, &change, NULL);
    uidset_free(&uids);
    return rc;
}

static int append_some(struct mailbox *mailbox, struct deed *deed)
{
    int rc = ERR_OK;
    deed->appended = true;
    for (unsigned i = 0; rc == ERR_OK && i < deed->count; i++) {
        struct append append = {.draft = deed->drafts[i],
                                .internal_date = (int64_t)(deed->first + i)};
        rc = mailbox_append(mailbox, &append, NULL);
    }
    return rc;
}

static int change_names(struct tx *tx, const struct deed *deed)
{
    struct name name, other;
    struct mailbox *mailbox;
    const char *texts[] = {"drafts", "templates"};
    const char *text = texts[deed->value % 2];
    const char *to = texts[1 - deed->value % 2];
    int rc = name_parse(text, strlen(text), &tx_node(tx)->owner, &name);
    if (rc == ERR_OK)
        rc = name_parse(to, strlen(to), &tx_node(tx)->owner, &other);
    if (rc)
        return rc;
    rc = mailbox_open(tx, &name, NULL, &mailbox);
    if (rc == ERR_NOTFOUND)
        return mailbox_create(tx, &name, NULL);
    if (rc == ERR_OK && deed->value % 3 == 0)
        return mailbox_delete(mailbox);
    rc = rc ? rc : mailbox_rename(tx, &name, &other);
    return rc == ERR_EXISTS ? ERR_OK : rc;
}

static int carry_out(struct tx *tx, void *arg)
{
    struct deed *deed = arg;
    struct name name;
    struct mailbox *mailbox;
    const char *text = box_names[deed->box];
    char value[16];
    snprintf(value, sizeof value, "%u", deed->value);
    deed->appended = false;
    deed->victim = 0;
    if (deed->kind == DEED_NAMES)
        return change_names(tx, deed);
    if (deed->kind == DEED_META)
        return mailbox_meta_set(tx, NULL, NULL, "/note", bytes_text(value));
    int rc = name_parse(text, strlen(text), &tx_node(tx)->owner, &name);
    if (rc == ERR_OK)
        rc = mailbox_open(tx, &name, NULL, &mailbox);
    if (rc == ERR_NOTFOUND)
        return mailbox_create(tx, &name, NULL);
    if (rc == ERR_OK && deed->kind == DEED_APPEND)
        return append_some(mailbox, deed);
    if (rc == ERR_OK && deed->kind == DEED_FLAG)
        return flag_some(mailbox, deed);
    return rc ? rc : expunge_one(mailbox, deed);
}

/* Bytes that do not deflate. */
static int make_draft(struct store *store, unsigned number, size_t size, struct draft **draft)
{
    struct dice dice = {.state = number};
    int rc = draft_open(store_db(store), DRAFT_RAW, draft);
    for (size_t at = 0; rc == ERR_OK && at < size; at += sizeof(uint64_t)) {
        uint64_t bits = dice_next(&dice);
        rc = draft_write(*draft, &bits, sizeof bits);
    }
    return rc ? rc : draft_finish(*draft);
}

static void make_drafts(struct world *world, unsigned node, struct deed *deed, struct dice *dice)
{
    deed->first = world->messages + 1;
    for (unsigned i = 0; i < deed->count; i++) {
        size_t size = 8 + dice_below(dice, 2000);
        if (world->plot == PLOT_BULK && dice_below(dice, 3) == 0)
            size = 200000 + dice_below(dice, 400000);
        CHECK(world, world->messages + 1 < MESSAGES_MOST, "too many messages");
        MUST(world, make_draft(store_of(world, node), ++world->messages, size, &deed->drafts[i]));
    }
}

static unsigned kind_of_deed(struct dice *dice)
{
    unsigned at = dice_below(dice, 100);
    if (at < 50)
        return DEED_APPEND;
    if (at < 75)
        return DEED_FLAG;
    if (at < 90)
        return DEED_EXPUNGE;
    return at < 95 ? DEED_META : DEED_NAMES;
}

static void note_fates(struct world *world, const struct deed *deed)
{
    for (unsigned i = 0; deed->appended && i < deed->count; i++)
        world->fates[deed->first + i] = FATE_LIVES;
    if (deed->victim)
        world->fates[deed->victim] = FATE_DEAD;
    if (deed->immediate)
        world->forgot = true;
}

static bool may_write(const struct world *world, unsigned node)
{
    const struct node *facts = &world->sights[node].node;
    return store_of(world, node) && facts->role == ROLE_MASTER && facts->fence == FENCE_NONE;
}

static void use(struct world *world, unsigned node, struct dice *dice)
{
    struct deed deed = {.world = world,
                        .box = dice_below(dice, BOXES),
                        .kind = kind_of_deed(dice),
                        .uid = 1 + dice_below(dice, world->messages + 1),
                        .immediate = world->plot != PLOT_ROLES && dice_below(dice, 3) == 0,
                        .value = dice_below(dice, 1000)};
    if (!store_of(world, node))
        return;
    if (deed.kind == DEED_APPEND) {
        deed.count = 1 + dice_below(dice, 4);
        make_drafts(world, node, &deed, dice);
    }
    bool may = may_write(world, node);
    struct position position = world->sights[node].last;
    int rc = store_commit(store_of(world, node), carry_out, &deed, &position);
    CHECK(world, rc == (may ? ERR_OK : ERR_REFUSED) || (rc == ERR_CORRUPT && world->damaged[node]),
          "a change at node %u: %s", node, err_name(rc));
    seeds_tell(world->run, "  node%u: deed %u box %u: %s, at %" PRIu64, node, deed.kind, deed.box,
               err_name(rc), position.modseq);
    for (unsigned i = 0; i < 4; i++)
        draft_close(deed.drafts[i]);
    if (rc == ERR_OK)
        note_fates(world, &deed);
    touched(world, node);
}

/* --- what happens to nodes --- */

static void disturb_line(struct world *world, struct dice *dice)
{
    struct line *line = agents_pick_line(&world->agents, dice);
    if (!line)
        return;
    switch (dice_below(dice, 4)) {
    case 0:
        wire_mute(line->end);
        break;
    case 1:
        wire_hold(line->end, (int64_t)dice_below(dice, 20000) * 1000);
        break;
    default:
        wire_lose(line->end);
        break;
    }
}

static void take_down(struct world *world, unsigned node, struct dice *dice)
{
    unsigned how = dice_below(dice, 4);
    if (how == 0)
        agents_stop(&world->agents, node);
    else
        agents_kill(&world->agents, node, how == 1);
    world->down_for[node] = dice_below(dice, 4);
}

static void bring_up(struct world *world)
{
    for (unsigned i = 0; i < NODES; i++)
        if (!store_of(world, i) && world->down_for[i]-- == 0)
            agents_start(&world->agents, i);
}

static void trim(struct world *world, unsigned node, struct dice *dice)
{
    struct retained done;
    struct cut cut = {.entries = dice_below(dice, 30),
                      .bytes = UINT64_MAX,
                      .before = INT64_MIN,
                      .up_to = UINT64_MAX,
                      .held_from = UINT64_MAX};
    seeds_tell(world->run, "  node%u is trimmed to %" PRIu64, node, cut.entries);
    MUST(world, store_cut(store_of(world, node), &cut, false, &done));
    world->forgot = true;
    touched(world, node);
}

static void expire(struct world *world, unsigned node)
{
    uint64_t purged;
    int rc = store_expire(store_of(world, node), 0, 0, &purged);
    CHECK(world, rc == ERR_OK || rc == ERR_REFUSED || (rc == ERR_CORRUPT && world->damaged[node]),
          "expire at node %u: %s", node, err_name(rc));
    world->forgot = true;
    touched(world, node);
}

static int save_policy(struct tx *tx, void *arg)
{
    return retention_save(tx_db(tx), arg);
}

static void retain(struct world *world, unsigned node, struct dice *dice)
{
    struct retention policy = {.entries = 5 + dice_below(dice, 40),
                               .slot_bound = dice_below(dice, 20000)};
    MUST(world, store_maintain(store_of(world, node), save_policy, &policy));
    world->forgot = true;
}

static void promote(struct world *world, unsigned node)
{
    int rc = store_promote(store_of(world, node), false);
    seeds_tell(world->run, "  node%u is promoted: %s", node, err_name(rc));
    CHECK(world, rc == ERR_OK || rc == ERR_REFUSED, "promotion of node %u: %s", node, err_name(rc));
    touched(world, node);
}

static void follow(struct world *world, unsigned node, unsigned upstream)
{
    seeds_tell(world->run, "  node%u is to follow node%u", node, upstream);
    MUST(world, store_demote(store_of(world, node), world->agents.sites[upstream].name, false));
    touched(world, node);
}

struct harm {
    bool found;
    unsigned skip;
};

static int harm(struct tx *tx, void *arg)
{
    struct harm *work = arg;
    struct db_cursor *cursor;
    struct bytes key, value;
    uint8_t copy[16];
    size_t size = 0;
    int rc = db_cursor_open(tx_db(tx), TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, bytes_of("", 1), &key, &value);
    for (unsigned i = 0; rc == ERR_OK && i < work->skip; i++)
        rc = db_next(cursor, &key, &value);
    if (rc == ERR_OK && key.size <= sizeof copy) {
        memcpy(copy, key.data, key.size);
        size = key.size;
    }
    db_cursor_close(cursor);
    work->found = size > 0;
    if (rc)
        return rc == ERR_END ? ERR_OK : rc;
    return size ? db_delete(tx_db(tx), TABLE_RECORDS, bytes_of(copy, size)) : ERR_OK;
}

/* A record is lost at a replica that has all that the master has. */
static void damage(struct world *world, unsigned node, struct dice *dice)
{
    struct harm work = {.skip = dice_below(dice, 30)};
    if (!node || !store_of(world, 0) || world->damaged[node] ||
        !position_equal(world->sights[node].last, world->sights[0].last))
        return;
    MUST(world, store_maintain(store_of(world, node), harm, &work));
    seeds_tell(world->run, "  node%u %s a record", node, work.found ? "loses" : "has not got");
    world->damaged[node] |= work.found;
    world->hurt[node] |= work.found;
}

static void change_roles(struct world *world, unsigned node, struct dice *dice)
{
    unsigned other = (node + 1 + dice_below(dice, NODES - 1)) % NODES;
    if (may_write(world, node) && dice_below(dice, 3) == 0)
        return;
    if (dice_below(dice, 3) == 0)
        promote(world, node);
    else
        follow(world, node, other);
}

static void forget(struct world *world, unsigned node, struct dice *dice)
{
    unsigned what = dice_below(dice, 4);
    if (what == 0)
        expire(world, node);
    else if (what == 1)
        retain(world, node, dice);
    else
        trim(world, node, dice);
}

static void mishap(struct world *world, unsigned node, struct dice *dice)
{
    bool roles = world->plot == PLOT_ROLES || world->plot == PLOT_ALL;
    unsigned what = dice_below(dice, 10);
    if (!store_of(world, node))
        return;
    if (what < 4 && roles)
        change_roles(world, node, dice);
    else if (what < 2 && node)
        follow(world, node, node == 1 ? 0 : dice_below(dice, 2));
    else if (what < 6 && world->plot == PLOT_BULK)
        damage(world, node, dice);
    else if (what < 8 && world->plot != PLOT_ROLES)
        forget(world, node, dice);
}

static void act(struct world *world, struct dice *dice)
{
    unsigned node = dice_below(dice, NODES);
    unsigned what = dice_below(dice, 100);
    if (what < 65) {
        for (unsigned i = 0; i < NODES && what < 60 && !may_write(world, node); i++)
            node = (node + 1) % NODES;
        use(world, node, dice);
    } else if (what < 75) {
        disturb_line(world, dice);
    } else if (what < 78) {
        agents_part(&world->agents, node, (node + 1) % NODES,
                    (int64_t)dice_below(dice, 30000) * 1000);
    } else if (what < 84) {
        take_down(world, node, dice);
    } else {
        mishap(world, node, dice);
    }
}

/* --- the end: all become equal --- */

static bool is_equal(const struct world *world, unsigned master)
{
    for (unsigned i = 0; i < NODES; i++) {
        const struct sight *sight = &world->sights[i];
        if (!position_equal(sight->last, world->sights[master].last) ||
            node_digest(&sight->node) != node_digest(&world->sights[master].node) ||
            (i != master && !agents_is_quiet(&world->agents, i)))
            return false;
    }
    return true;
}

static bool wait_until_equal(struct world *world, unsigned master, unsigned seconds)
{
    struct wire *wire = &world->agents.wire;
    for (unsigned i = 0; i < 4 * seconds && !is_equal(world, master); i++)
        wire_run_until(wire, wire->now + SECOND / 4);
    return is_equal(world, master);
}

static void mend(struct world *world, unsigned node)
{
    struct check_result result;
    if (!world->damaged[node])
        return;
    MUST(world, check_repair(store_of(world, node), NULL, NULL, &result));
    world->damaged[node] = false;
    /* The operator has the agent look at it. */
    agents_stop(&world->agents, node);
    agents_start(&world->agents, node);
}

static unsigned choose_master(struct world *world)
{
    unsigned master = 0;
    if (world->plot != PLOT_ROLES && world->plot != PLOT_ALL)
        return 0;
    for (unsigned i = 1; i < NODES; i++)
        if (epoch_compare(world->sights[i].node.epoch, world->sights[master].node.epoch) > 0)
            master = i;
    return master;
}

/* What an operator does who wants one master. */
static unsigned settle_roles(struct world *world)
{
    unsigned master = choose_master(world);
    for (unsigned i = 0; i < NODES && !may_write(world, master); i++) {
        promote(world, master);
        if (!may_write(world, master))
            master = (master + 1) % NODES;
    }
    CHECK(world, may_write(world, master), "nobody can be promoted");
    for (unsigned i = 0; i < NODES; i++)
        if (i != master &&
            (world->sights[i].node.role == ROLE_MASTER ||
             strcmp(world->sights[i].node.master, world->agents.sites[master].name) != 0))
            follow(world, i, master);
    return master;
}

static void tell_state(struct world *world)
{
    for (unsigned i = 0; i < NODES; i++) {
        const struct sight *sight = &world->sights[i];
        const struct site *site = &world->agents.sites[i];
        printf("node%u: %s%s at %" PRIu64 ":%016" PRIx64 " from %" PRIu64 ", digest %016" PRIx64
               ", follows %s, sink %d%s\n",
               i, sight->node.role == ROLE_MASTER ? "master" : "replica",
               sight->node.fence ? ", fenced," : "", sight->last.modseq, sight->last.chain,
               sight->base.modseq, node_digest(&sight->node), site->upstream.follow,
               site->sink ? (int)site->sink->sink.state : -1,
               site->sink && site->sink->working ? ", working" : "");
    }
}

static unsigned converge(struct world *world)
{
    unsigned master = 0;
    agents_heal(&world->agents);
    for (unsigned i = 0; i < NODES; i++)
        agents_start(&world->agents, i);
    for (unsigned i = 0; i < NODES; i++)
        mend(world, i);
    for (unsigned round = 0; round < ROUNDS; round++) {
        seeds_tell(world->run, "round %u", round);
        master = settle_roles(world);
        if (wait_until_equal(world, master, PATIENCE))
            return master;
        if (may_write(world, master))
            break;
    }
    tell_state(world);
    CHECK(world, false, "not equal after %u seconds on a good network", PATIENCE);
    return master;
}

struct slots {
    struct slot all[NODES];
};

static int read_slots(struct tx *tx, void *arg)
{
    struct slots *slots = arg;
    struct slot slot = {0};
    int rc;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK)
        for (unsigned i = 0; i < NODES; i++)
            if (slot.name[strlen(slot.name) - 1] == (char)('0' + i))
                slots->all[i] = slot;
    return rc == ERR_END ? ERR_OK : rc;
}

/* The master remembers where its followers are. */
static void check_slots(struct world *world, unsigned master)
{
    struct slots slots = {0};
    MUST(world, store_read(store_of(world, master), read_slots, &slots));
    for (unsigned i = 0; i < NODES; i++)
        CHECK(world,
              i == master || (slots.all[i].connected &&
                              position_equal(slots.all[i].position, world->sights[i].last)),
              "the slot of node %u says %" PRIu64, i, slots.all[i].position.modseq);
}

/* Whoever is master of an earlier epoch stops when he and the later one meet, whoever dials. */
static void check_fences(struct world *world, unsigned master)
{
    struct wire *wire = &world->agents.wire;
    unsigned other = (master + 1) % NODES;
    promote(world, other);
    wire_run_until(wire, wire->now + SILENT * SECOND);
    CHECK(world, world->sights[master].node.fence == FENCE_EPOCH,
          "a master was met by that of a later epoch, and goes on");
    promote(world, master);
    wire_run_until(wire, wire->now + SILENT * SECOND);
    CHECK(world, world->sights[other].node.fence == FENCE_EPOCH,
          "a master met that of a later epoch, and goes on");
}

struct count {
    struct world *world;
    unsigned live[MESSAGES_MOST];
};

static int count_box(struct tx *tx, uint64_t id, struct count *count)
{
    struct mailbox *mailbox;
    struct record records[64];
    size_t got = 0;
    uint32_t first = 1;
    int rc = mailbox_open_id(tx, id, NULL, &mailbox);
    do {
        if (rc == ERR_OK)
            rc = mailbox_batch(mailbox, first, records, 64, &got);
        for (size_t i = 0; rc == ERR_OK && i < got; i++) {
            first = records[i].uid + 1;
            if (record_live(&records[i]))
                count->live[records[i].internal_date]++;
        }
    } while (rc == ERR_OK && got);
    return rc == ERR_END ? ERR_OK : rc;
}

static int count_live(struct tx *tx, void *arg)
{
    struct count *count = arg;
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        rc = count_box(tx, header.id, count);
        if (rc)
            return rc;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static void check_messages(struct world *world, unsigned master)
{
    struct count count = {.world = world};
    MUST(world, store_read(store_of(world, master), count_live, &count));
    for (unsigned i = 1; i <= world->messages; i++) {
        unsigned live = count.live[i];
        CHECK(world, world->fates[i] != FATE_LIVES || live >= 1, "message %u is lost", i);
        /* Where the journals do not tell any more, nothing is expunged on a guess. */
        CHECK(world, live <= 1 || world->forgot, "message %u is there %u times", i, live);
        CHECK(world, world->fates[i] != FATE_DEAD || !live || world->forgot,
              "message %u was expunged, and is back", i);
        CHECK(world, world->fates[i] != FATE_NONE || !live, "message %u was never delivered", i);
    }
}

/* Nothing is dialled, ended or changed, for longer than any silence may last. */
static void check_calm(struct world *world)
{
    struct agents *agents = &world->agents;
    unsigned dials[NODES];
    for (unsigned i = 0; i < NODES; i++)
        dials[i] = agents->sites[i].welcomes;
    wire_run_until(&agents->wire, agents->wire.now + CALM * SECOND);
    for (unsigned i = 0; i < NODES; i++)
        CHECK(world, dials[i] == agents->sites[i].welcomes,
              "node %u was welcomed anew though nothing happened", i);
}

/* An expunged message that came back, because the journals did not tell any more, may have no
 * content anywhere. */
static void complain(void *arg, const char *where, const char *what)
{
    struct world *world = arg;
    bool forgotten = world->forgot && strcmp(what, "its content is not here") == 0;
    CHECK(world, forgotten, "not sound: %s: %s", where, what);
}

static void check_sound(struct world *world, unsigned node)
{
    struct check_result result;
    uint64_t wrong;
    if (world->hurt[node])
        MUST(world, check_repair(store_of(world, node), NULL, NULL, &result));
    MUST(world, check_store(store_of(world, node), false, complain, world, &wrong));
    MUST(world, check_journal(store_of(world, node), complain, world, &wrong));
}

static void check_end(struct world *world)
{
    unsigned master = converge(world);
    struct dice dice = dice_of(world->run, STEPS);
    wire_run_until(&world->agents.wire, world->agents.wire.now + SILENT * SECOND);
    CHECK(world, wait_until_equal(world, master, 20), "equal nodes fell apart");
    check_calm(world);
    CHECK(world, is_equal(world, master), "equal nodes did not stay so");
    check_slots(world, master);
    for (unsigned i = 0; i < 10; i++)
        use(world, master, &dice);
    CHECK(world, wait_until_equal(world, master, 20), "changes do not arrive any more");
    for (unsigned i = 0; i < NODES; i++)
        check_sound(world, i);
    check_messages(world, master);
    check_fences(world, master);
}

static void run(const struct seed_run *run)
{
    struct world world = {.run = run, .plot = (enum plot)(run->seed % PLOTS)};
    struct wire *wire = &world.agents.wire;
    scratch_make(world.directory);
    world.entries = calloc(ENTRIES_MOST, sizeof *world.entries);
    if (!world.entries)
        abort();
    agents_begin(&world.agents, run, world.directory, NODES, touched, &world);
    for (unsigned i = 0; i < run->steps; i++) {
        struct dice dice = dice_of(run, i);
        if (run->skip[i])
            continue;
        seeds_tell(run, "step %u, second %.3f", i, (double)wire->now / (double)SECOND);
        bring_up(&world);
        act(&world, &dice);
        int64_t most = dice_below(&dice, 12) ? 300000 : 12 * SECOND;
        wire_run_until(wire, wire->now + dice_below(&dice, (uint32_t)most));
    }
    check_end(&world);
    agents_end(&world.agents);
    free(world.entries);
    scratch_remove(world.directory);
}

int main(int argc, char **argv)
{
    const struct seed_test test = {.name = "network", .steps = STEPS, .run = run};
    return seeds_run(&test, argc, argv);
}
