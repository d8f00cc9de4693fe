/* What one node may show to its clients: numbers that only rise, one message under one UID, changes
 * that clients are told of, and no message too many or too few. */
#include "tests/support/oracle_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static void check_rising(struct oracle *oracle, unsigned node, unsigned at)
{
    const struct listing *now = &oracle->nodes[node].sights[at].now;
    const struct memory *memory = &oracle->nodes[node].sights[at].memory;
    REQUIRE(oracle, now->facts.uidvalidity >= memory->uidvalidity,
            "node %u box %u: UIDVALIDITY went back from %u to %u", node, at, memory->uidvalidity,
            now->facts.uidvalidity);
    REQUIRE(oracle, now->facts.highestmodseq >= memory->highestmodseq,
            "node %u box %u: HIGHESTMODSEQ went back from %" PRIu64 " to %" PRIu64, node, at,
            memory->highestmodseq, now->facts.highestmodseq);
    /* With another UIDVALIDITY everything begins anew. */
    bool anew = now->facts.uidvalidity > memory->uidvalidity;
    REQUIRE(oracle, anew || now->facts.uidnext >= memory->uidnext,
            "node %u box %u: UIDNEXT went back from %u to %u", node, at, memory->uidnext,
            now->facts.uidnext);
    REQUIRE(oracle, anew || now->forgotten >= memory->forgotten,
            "node %u box %u: DELETEDMODSEQ went back from %" PRIu64 " to %" PRIu64, node, at,
            memory->forgotten, now->forgotten);
}

static void make_uids(struct memory *memory, size_t count)
{
    if (count <= memory->uid_count)
        return;
    struct shown *uids = realloc(memory->uids, count * sizeof *uids);
    if (!uids)
        abort();
    memset(uids + memory->uid_count, 0, (count - memory->uid_count) * sizeof *uids);
    memory->uids = uids;
    memory->uid_count = count;
}

static void remember_numbers(struct memory *memory, const struct listing *now)
{
    if (now->facts.uidvalidity != memory->uidvalidity && memory->uid_count)
        memset(memory->uids, 0, memory->uid_count * sizeof *memory->uids);
    memory->uidvalidity = now->facts.uidvalidity;
    memory->uidnext = now->facts.uidnext;
    memory->highestmodseq = now->facts.highestmodseq;
    memory->forgotten = now->forgotten;
    make_uids(memory, now->facts.uidnext + 1);
}

static void check_uids(struct oracle *oracle, unsigned node, unsigned at)
{
    const struct listing *now = &oracle->nodes[node].sights[at].now;
    struct memory *memory = &oracle->nodes[node].sights[at].memory;
    size_t next = 0;
    for (uint32_t uid = 1; uid < now->facts.uidnext; uid++) {
        struct shown *uids = &memory->uids[uid];
        const struct item *item = NULL;
        if (next < now->count && now->items[next].uid == uid)
            item = &now->items[next++];
        if (!item || !item->live) {
            uids->dead |= uids->live || item;
            continue;
        }
        REQUIRE(oracle, !uids->dead || uids->returns,
                "node %u box %u UID %u: it was expunged and is live", node, at, uid);
        REQUIRE(oracle, !uids->live || guid_equal(&uids->guid, &item->guid),
                "node %u box %u UID %u: another message", node, at, uid);
        uids->live = true;
        uids->guid = item->guid;
    }
    REQUIRE(oracle, next == now->count, "node %u box %u: a record at or above UIDNEXT", node, at);
}

void oracle_check_numbers(struct oracle *oracle, unsigned node, unsigned at)
{
    struct sight *sight = &oracle->nodes[node].sights[at];
    check_rising(oracle, node, at);
    remember_numbers(&sight->memory, &sight->now);
    check_uids(oracle, node, at);
}

void oracle_check_client(struct oracle *oracle, unsigned node, unsigned at,
                         const struct listing *before, const struct listing *now)
{
    uint64_t seen = before->facts.highestmodseq;
    if (!before->there || before->facts.uidvalidity != now->facts.uidvalidity ||
        before->facts.state != MAILBOX_LIVE || now->facts.state != MAILBOX_LIVE)
        return;
    for (size_t i = 0; i < now->count; i++) {
        const struct item *item = &now->items[i];
        const struct item *old = listing_find(before, item->uid);
        bool same = old && old->live && old->flags == item->flags;
        REQUIRE(oracle, !item->live || same || item->modseq > seen,
                "node %u box %u UID %u: a change at %" PRIu64 " that a client at %" PRIu64
                " is not told of",
                node, at, item->uid, item->modseq, seen);
    }
    for (size_t i = 0; i < before->count; i++) {
        const struct item *old = &before->items[i];
        const struct item *item = listing_find(now, old->uid);
        REQUIRE(oracle,
                !old->live || (item && (item->live || item->modseq > seen)) ||
                    now->forgotten > seen,
                "node %u box %u UID %u: gone, and a client at %" PRIu64 " is not told of it", node,
                at, old->uid, seen);
    }
}

void oracle_check_messages(struct oracle *oracle, unsigned node, unsigned at)
{
    const struct oracle_box *box = &oracle->boxes[at];
    const struct sight *sight = &oracle->nodes[node].sights[at];
    struct standing *all = oracle_stand(box, &sight->knowledge, NULL);
    bool *found = calloc(box->message_count + 1, sizeof *found);
    if (!found)
        abort();
    for (size_t i = 0; i < sight->now.count; i++) {
        const struct item *item = &sight->now.items[i];
        if (!item->live)
            continue;
        uint32_t message = oracle_shown(box, item);
        REQUIRE(oracle, message != NO_MESSAGE, "node %u box %u UID %u: an unknown message %" PRIu64,
                node, at, item->uid, item->message);
        REQUIRE(oracle, oracle_is_there(&all[message]),
                "node %u box %u UID %u: message %" PRIu64 " was expunged or never came", node, at,
                item->uid, item->message);
        REQUIRE(oracle, !found[message], "node %u box %u UID %u: message %" PRIu64 " twice", node,
                at, item->uid, item->message);
        found[message] = true;
    }
    for (uint32_t i = 0; i < box->message_count; i++)
        REQUIRE(oracle, found[i] || !oracle_is_there(&all[i]) || oracle_root(box, i) != i,
                "node %u box %u: message %" PRIu64 " is lost", node, at, box->messages[i].number);
    free(all);
    free(found);
}
