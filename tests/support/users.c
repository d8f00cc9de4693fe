#include "tests/support/users.h"

#include "base/err.h"
#include "mailbox/mailbox.h"

#include <stdio.h>
#include <string.h>

#define NAMES 6u
#define DELIVERIES 8u /* messages that are delivered more than once */

enum {
    DEED_CREATE,
    DEED_RENAME,
    DEED_DELETE,
    DEED_APPEND,
    DEED_FLAGS,
    DEED_EXPUNGE,
    DEED_COPY,
    DEED_MOVE,
    DEED_META,
    DEED_TOUCH,
    DEED_EXPIRE,
    DEEDS
};
static const char *const deed_names[DEEDS] = {"create", "rename",  "delete", "append",
                                              "flags",  "expunge", "copy",   "move",
                                              "meta",   "touch",   "expire"};
/* Of 100. */
static const unsigned deed_shares[DEEDS] = {4, 4, 2, 33, 24, 12, 4, 5, 6, 3, 3};

struct deed {
    struct users *users;
    unsigned node;
    unsigned kind;
    uint64_t box;
    uint64_t target;
    struct name name;
    char text[NAME_TEXT_SIZE];
    struct uidset uids;
    struct flag_change change;
    struct draft *draft;
    uint64_t message;
    bool bob;
    bool immediate;
    unsigned key;
    uint64_t value; /* 0: unset */
};

static int change_meta(struct tx *tx, struct mailbox *mailbox, const struct deed *deed)
{
    char key[8];
    snprintf(key, sizeof key, "/%u", deed->key);
    const char *user = deed->key % 2 ? "bob" : NULL;
    if (deed->value)
        return mailbox_meta_set(tx, mailbox, user, key, bytes_of(&deed->value, sizeof deed->value));
    int rc = mailbox_meta_unset(tx, mailbox, user, key);
    return rc == ERR_END ? ERR_OK : rc;
}

static int change_mail(struct tx *tx, struct mailbox *mailbox, struct deed *deed)
{
    struct mailbox *target;
    struct uidset from = {0};
    struct uidset to = {0};
    struct append append = {.draft = deed->draft,
                            .system = deed->change.flags.system,
                            .keywords = buf_view(&deed->change.flags.keywords),
                            .internal_date = (int64_t)deed->message};
    switch (deed->kind) {
    case DEED_RENAME:
        return mailbox_rename(tx, &mailbox_header(mailbox)->facts.name, &deed->name);
    case DEED_DELETE:
        return mailbox_delete(mailbox);
    case DEED_APPEND:
        return mailbox_append(mailbox, &append, NULL);
    case DEED_FLAGS:
        return mailbox_flag(mailbox, &deed->uids, &deed->change, NULL);
    case DEED_EXPUNGE:
        return mailbox_expunge(mailbox, &deed->uids, deed->immediate, NULL);
    case DEED_META:
        return change_meta(tx, mailbox, deed);
    case DEED_TOUCH:
        return mailbox_touch(mailbox, &deed->uids);
    default:
        break;
    }
    int rc = mailbox_open_id(tx, deed->target, deed->bob ? "bob" : NULL, &target);
    if (rc == ERR_OK)
        rc = mailbox_copy(mailbox, &deed->uids, target, deed->kind == DEED_MOVE, &from, &to);
    uidset_free(&from);
    uidset_free(&to);
    return rc;
}

static int carry_out(struct tx *tx, void *arg)
{
    struct deed *deed = arg;
    struct mailbox *mailbox;
    if (deed->kind == DEED_CREATE)
        return mailbox_create(tx, &deed->name, NULL);
    if (deed->box == 0)
        return change_meta(tx, NULL, deed);
    int rc = mailbox_open_id(tx, deed->box, deed->bob ? "bob" : NULL, &mailbox);
    return rc ? rc : change_mail(tx, mailbox, deed);
}

static void choose_name(struct deed *deed, struct dice *dice)
{
    static const char *const names[NAMES] = {"a", "b", "c", "d", "a/e", "b/f"};
    struct owner owner = {.user = "owner"};
    snprintf(deed->text, sizeof deed->text, "%s", names[dice_below(dice, NAMES)]);
    ORACLE_REQUIRE(deed->users->oracle,
                   name_parse(deed->text, strlen(deed->text), &owner, &deed->name) == ERR_OK,
                   "a name");
}

static void choose_message(struct deed *deed, struct dice *dice)
{
    struct users *users = deed->users;
    struct oracle *oracle = users->oracle;
    char text[80];
    uint64_t content = 1000 + users->next_message;
    if (dice_below(dice, 8) == 0)
        content = dice_below(dice, DELIVERIES);
    int size = snprintf(text, sizeof text, "Subject: message %llu\r\n\r\nIts text.\r\n",
                        (unsigned long long)content);
    deed->message = users->next_message++;
    struct db *db = store_db(oracle->nodes[deed->node].store);
    ORACLE_REQUIRE(oracle,
                   draft_open(db, DRAFT_RAW, &deed->draft) == ERR_OK &&
                       draft_write(deed->draft, text, (size_t)size) == ERR_OK &&
                       draft_finish(deed->draft) == ERR_OK,
                   "a draft");
}

static void choose_flags(struct deed *deed, struct dice *dice)
{
    deed->change.mode = (enum flag_mode)dice_below(dice, 3);
    uint32_t some = (uint32_t)dice_below(dice, 32);
    deed->change.flags.system = some & (uint32_t)dice_below(dice, 32);
    for (unsigned i = 0; i < LISTING_KEYWORDS; i++)
        if (dice_below(dice, 4) == 0)
            ORACLE_REQUIRE(deed->users->oracle,
                           flags_add(&deed->change.flags, listing_keywords[i],
                                     strlen(listing_keywords[i])) == ERR_OK,
                           "a keyword");
}

/* Some live messages; for a copy such as were never where it goes. */
static void choose_uids(struct deed *deed, const struct listing *listing, unsigned target,
                        struct dice *dice)
{
    bool copy = deed->kind == DEED_COPY || deed->kind == DEED_MOVE;
    for (unsigned left = 1 + dice_below(dice, 4); left && listing->count; left--) {
        const struct item *item = &listing->items[dice_below(dice, (uint32_t)listing->count)];
        if (!item->live || (copy && oracle_knows(deed->users->oracle, target, item->message)))
            continue;
        ORACLE_REQUIRE(deed->users->oracle, uidset_add(&deed->uids, item->uid) == ERR_OK,
                       "a set of UIDs");
    }
}

/* A live mailbox; 0: there is none. */
static unsigned choose_box(const struct oracle *oracle, unsigned node, struct dice *dice)
{
    unsigned live[ORACLE_BOXES];
    unsigned count = 0;
    for (unsigned i = 1; i < oracle->box_count; i++) {
        const struct listing *now = &oracle->nodes[node].sights[i].now;
        if (now->there && now->facts.state == MAILBOX_LIVE)
            live[count++] = i;
    }
    return count ? live[dice_below(dice, count)] : 0;
}

static unsigned choose_kind(struct dice *dice)
{
    unsigned at = dice_below(dice, 100);
    unsigned kind = 0;
    while (at >= deed_shares[kind])
        at -= deed_shares[kind++];
    return kind;
}

static void choose(struct deed *deed, struct dice *dice)
{
    const struct oracle *oracle = deed->users->oracle;
    unsigned box = choose_box(oracle, deed->node, dice);
    unsigned target = choose_box(oracle, deed->node, dice);
    deed->kind = choose_kind(dice);
    if (deed->kind == DEED_CREATE && oracle->box_count > deed->users->boxes_most)
        deed->kind = DEED_FLAGS;
    if (!box && deed->kind != DEED_META && deed->kind != DEED_EXPIRE)
        deed->kind = oracle->box_count > deed->users->boxes_most ? DEED_META : DEED_CREATE;
    if (deed->kind == DEED_META && dice_below(dice, 3) == 0)
        box = 0;
    deed->box = oracle->boxes[box].id;
    deed->target = oracle->boxes[target].id;
    deed->bob = dice_below(dice, 3) == 0;
    deed->immediate = dice_below(dice, 3) == 0;
    deed->key = dice_below(dice, LISTING_METAS);
    deed->value = dice_below(dice, 3);
    choose_name(deed, dice);
    choose_flags(deed, dice);
    if (deed->kind == DEED_APPEND)
        choose_message(deed, dice);
    if (box)
        choose_uids(deed, &oracle->nodes[deed->node].sights[box].now, target, dice);
    seeds_tell(deed->users->run,
               "    node %u: %s box %u, %u UIDs from %u%s%s, name %s, message %llu", deed->node,
               deed_names[deed->kind], box, (unsigned)uidset_size(&deed->uids),
               deed->uids.count ? deed->uids.ranges[0].first : 0, deed->bob ? ", as bob" : "",
               deed->immediate ? ", at once" : "", deed->text, (unsigned long long)deed->message);
}

void users_change(struct users *users, unsigned node, struct dice *dice)
{
    struct deed deed = {.users = users, .node = node};
    struct oracle *oracle = users->oracle;
    struct store *store = oracle->nodes[node].store;
    uint64_t purged;
    int rc;
    choose(&deed, dice);
    if (deed.kind == DEED_EXPIRE)
        rc = store_expire(store, deed.immediate ? 0 : deed.box, 0, &purged);
    else
        rc = store_commit(store, carry_out, &deed, NULL);
    bool damaged = rc == ERR_CORRUPT && oracle->nodes[node].loss_count;
    /* A name that is taken, or below itself. */
    bool name = rc == ERR_EXISTS || (rc == ERR_REFUSED && deed.kind == DEED_RENAME);
    ORACLE_REQUIRE(oracle, rc == ERR_OK || damaged || name, "node %u: %s failed: %s", node,
                   deed_names[deed.kind], err_name(rc));
    draft_close(deed.draft);
    flags_free(&deed.change.flags);
    uidset_free(&deed.uids);
    oracle_look(oracle, node, CAUSE_USER, NULL);
}
