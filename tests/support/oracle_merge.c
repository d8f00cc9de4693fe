/* What merges must give: how many messages of one content, whose flags and values, and whether the
 * mailbox lives. Where the rules leave a choice, what the merge chose is an event of its own. */
#include "tests/support/oracle_private.h"

#include <inttypes.h>
#include <stdlib.h>

static bool is_expunged(const struct merging *work, uint32_t i)
{
    return work->at_master[i].expunged || work->at_replica[i].expunged;
}

/* --- how many messages --- */

static bool is_traced(const struct oracle_box *box, const struct listing *listing, uint32_t i)
{
    for (size_t k = 0; k < listing->count; k++)
        if (oracle_shown(box, &listing->items[k]) == i)
            return true;
    return false;
}

/* Expunged and purged at an end that is damaged, whose journal does not tell the one from the
 * other.
 */
static bool may_return(const struct merging *work, uint32_t i)
{
    const struct standing *m = &work->at_master[i];
    const struct standing *r = &work->at_replica[i];
    return (work->pass->untold_master == work->at && m->expunged && !r->expunged &&
            !is_traced(work->box, work->master, i)) ||
           (work->pass->untold_replica == work->at && r->expunged && !m->expunged &&
            !is_traced(work->box, work->replica, i));
}

/* Messages with one content: how many there may be. */
struct tally {
    unsigned common;
    unsigned only_master;
    unsigned only_replica;
    unsigned gone_master; /* made at one end and expunged there */
    unsigned gone_replica;
    unsigned gone;
    unsigned may_return; /* of those that are gone */
};

static struct tally count(const struct merging *work, const struct guid *guid)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < work->box->message_count; i++) {
        bool m = work->at_master[i].appended;
        bool r = work->at_replica[i].appended;
        if (!guid_equal(&work->box->messages[i].guid, guid) || oracle_root(work->box, i) != i)
            continue;
        bool gone = is_expunged(work, i);
        tally.common += m && r && !gone;
        tally.only_master += m && !r && !gone;
        tally.only_replica += !m && r && !gone;
        tally.gone_master += m && !r && gone;
        tally.gone_replica += !m && r && gone;
        tally.gone += gone;
        tally.may_return += may_return(work, i);
    }
    return tally;
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static void check_count(const struct merging *work, const struct message *message)
{
    struct tally tally = count(work, &message->guid);
    unsigned now = listing_like(work->now, &message->guid);
    unsigned most = tally.common + larger(tally.only_master, tally.only_replica);
    /* The same UID with the same message at both ends, expunged at one: that is one message. */
    unsigned twins =
        (tally.only_master ? tally.gone_replica : 0) + (tally.only_replica ? tally.gone_master : 0);
    unsigned fewer = larger(tally.only_master, tally.only_replica);
    unsigned least = most - (twins < fewer ? twins : fewer);
    if (work->pass->discard)
        least = 0;
    most += tally.may_return;
    if (work->pass->unsure || work->pass->discard)
        most = tally.common + tally.only_master + tally.only_replica + tally.gone;
    REQUIRE(work->oracle, now >= least && now <= most,
            "box %u: merge left %u messages like %" PRIu64 ", not %u to %u (%u at both, %u and %u "
            "at one)",
            work->at, now, message->number, least, most, tally.common, tally.only_master,
            tally.only_replica);
}

/* --- flags --- */

/* One message before and after; NULL: it is not there. */
struct thrice {
    const struct item *m;
    const struct item *r;
    const struct item *now;
};

static struct thrice find_thrice(const struct merging *work, uint32_t i)
{
    return (struct thrice){.m = oracle_find_item(work->box, work->master, i),
                           .r = oracle_find_item(work->box, work->replica, i),
                           .now = oracle_find_item(work->box, work->now, i)};
}

/* One delivery at both ends: then its flags are of both. */
static bool may_have_twin(const struct merging *work, uint32_t i)
{
    struct tally tally = count(work, &work->box->messages[i].guid);
    return tally.only_master && tally.only_replica;
}

/* A message went on under another UID, and the tombstone that says so was purged meanwhile: then it
 * is another message for whoever has it under the old one. */
static bool lost_its_trace(const struct merging *work, const struct item *m, const struct item *r)
{
    const struct item *there = listing_find(work->replica, m->uid);
    const struct item *here = listing_find(work->master, r->uid);
    return m->uid != r->uid && !(there && there->successor) && !(here && here->successor);
}

static bool are_flags_sure(const struct merging *work, uint32_t i, const struct thrice *item)
{
    if (!item->now || work->pass->lenient || work->pass->crossed)
        return false;
    if (item->m && item->r)
        return !lost_its_trace(work, item->m, item->r);
    return (item->m || item->r) && !may_have_twin(work, i);
}

/* What both ends changed may be either's, and is left out of `checked`. */
static uint32_t merge_flags(const struct merging *work, uint32_t i, const struct thrice *item,
                            uint32_t *checked)
{
    const struct item *m = item->m, *r = item->r;
    const struct standing *at_m = &work->at_master[i];
    const struct standing *at_r = &work->at_replica[i];
    *checked = 2 * LISTING_BOB - 1;
    if (!m || !r)
        return m ? m->flags : r->flags;
    *checked &= ~(at_m->mask & at_r->mask);
    if (at_m->changed && at_r->changed && !work->pass->reaches)
        *checked = 0;
    /* Between three nodes a message that another user has unseen again may stay seen. */
    if (!work->pass->reaches || (work->pass->unsure && m->flags & ~r->flags & LISTING_BOB))
        *checked &= ~LISTING_BOB;
    uint32_t theirs = at_r->mask & ~at_m->mask;
    return (m->flags & ~theirs) | (r->flags & theirs);
}

static void check_flags(const struct merging *work, uint32_t i)
{
    struct thrice item = find_thrice(work, i);
    if (!are_flags_sure(work, i, &item))
        return;
    uint32_t checked;
    uint32_t flags = merge_flags(work, i, &item, &checked);
    REQUIRE(work->oracle, ((item.now->flags ^ flags) & checked) == 0,
            "box %u UID %u message %" PRIu64 ": flags 0x%x, not 0x%x (0x%x at the master, changed "
            "0x%x; 0x%x at the replica, changed 0x%x)",
            work->at, item.now->uid, item.now->message, item.now->flags, flags,
            item.m ? item.m->flags : 0, work->at_master[i].mask, item.r ? item.r->flags : 0,
            work->at_replica[i].mask);
}

/* --- values --- */

static uint32_t changed_values(const struct oracle_box *box, const struct knowledge *of,
                               const struct knowledge *without)
{
    uint32_t mask = 0;
    for (size_t i = 0; i < box->event_count; i++)
        if (box->events[i].kind == EVENT_META && knowledge_has(of, i) && !knowledge_has(without, i))
            mask |= box->events[i].mask;
    return mask;
}

static void check_values(const struct merging *work)
{
    uint32_t m = changed_values(work->box, work->known_master, work->known_replica);
    uint32_t r = changed_values(work->box, work->known_replica, work->known_master);
    /* Expiry clears the values of deleted mailboxes. */
    if (work->at &&
        (work->now->facts.state != MAILBOX_LIVE || work->replica->facts.state != MAILBOX_LIVE))
        return;
    for (unsigned key = 0; key < LISTING_METAS; key++) {
        uint64_t value = r >> key & 1 ? work->replica->metas[key] : work->master->metas[key];
        bool dropped = work->pass->discard && work->now->metas[key] == work->master->metas[key];
        REQUIRE(work->oracle, (m & r) >> key & 1 || dropped || work->now->metas[key] == value,
                "box %u: value /%u is %" PRIu64 ", not %" PRIu64, work->at, key,
                work->now->metas[key], value);
    }
}

/* --- whether it lives --- */

static void check_fate(const struct merging *work)
{
    bool m = work->master->there && work->master->facts.state == MAILBOX_LIVE;
    bool r = work->replica->facts.state == MAILBOX_LIVE;
    bool now = work->now->facts.state == MAILBOX_LIVE;
    if (work->pass->discard)
        return;
    struct news mail_m =
        oracle_find_news(work->box, work->master, work->known_master, work->known_replica);
    struct news mail_r =
        oracle_find_news(work->box, work->replica, work->known_replica, work->known_master);
    if (m && r)
        REQUIRE(work->oracle, now, "box %u: live at both ends, and deleted by a merge", work->at);
    if (m && !r)
        REQUIRE(work->oracle, now || !mail_m.shows,
                "box %u: changed here, deleted there: it is gone", work->at);
    if (!m && r)
        REQUIRE(work->oracle, now || !mail_r.shows,
                "box %u: deleted here, changed there: it is gone", work->at);
    /* Where a third node may have changed it, it is rather kept. */
    if (m && !r && !mail_m.any && work->pass->reaches && !work->pass->unsure)
        REQUIRE(work->oracle, !now, "box %u: deleted there only, and it is still here", work->at);
}

/* --- what the merge chose --- */

/* Where the master's tombstones say that this UID went. */
static const struct item *follow(const struct listing *listing, uint32_t uid)
{
    const struct item *item = listing_find(listing, uid);
    for (unsigned hops = 0; item && !item->live && item->successor && hops < 64; hops++)
        item = listing_find(listing, item->successor);
    return item && item->live ? item : NULL;
}

/* The replica's message went on as another one with the same content. Either may have been
 * delivered with flags that the other lacked: for a third node, which has one of the two, that is a
 * change. */
static void note_same(const struct merging *work, uint32_t i)
{
    struct oracle_box *box = work->box;
    if (!work->at_replica[i].appended || work->at_master[i].appended || is_expunged(work, i) ||
        oracle_root(box, i) != i || oracle_find_item(box, work->now, i))
        return;
    const struct item *there = oracle_find_item(box, work->replica, i);
    const struct item *item = there ? follow(work->now, there->uid) : NULL;
    if (!item || !guid_equal(&item->guid, &box->messages[i].guid))
        return;
    uint32_t other = oracle_shown(box, item);
    const struct item *here = oracle_find_item(box, work->master, other);
    if (here && here->flags != there->flags)
        oracle_happen(box, work->known, EVENT_FLAGS, other, here->flags ^ there->flags);
    box->messages[i].same_as = other;
}

/* Where a merge may leave flags as a third node had them, that is a change of the merge's own. */
static void note_flags(const struct merging *work, uint32_t i)
{
    struct thrice item = find_thrice(work, i);
    if (work->pass->crossed && item.now && item.m && item.r && item.m->flags != item.r->flags)
        oracle_happen(work->box, work->known, EVENT_FLAGS, i, item.m->flags ^ item.r->flags);
}

static bool has_twin(const struct oracle_box *box, uint32_t i)
{
    for (uint32_t k = 0; k < box->message_count; k++)
        if (k != i && guid_equal(&box->messages[k].guid, &box->messages[i].guid))
            return true;
    return false;
}

/* It may stand where it stood, at any node. */
static void let_return(const struct merging *work, uint32_t uid)
{
    for (unsigned node = 0; node < ORACLE_NODES; node++) {
        struct memory *memory = &work->oracle->nodes[node].sights[work->at].memory;
        if (uid < memory->uid_count)
            memory->uids[uid].returns = true;
    }
}

/* Whether a message stays, where count() has found that it may be so or not. */
static void note_fate(const struct merging *work, uint32_t i)
{
    struct oracle_box *box = work->box;
    if (oracle_root(box, i) != i)
        return;
    bool appended = work->at_master[i].appended || work->at_replica[i].appended;
    bool expunged = is_expunged(work, i);
    const struct item *here = oracle_find_item(box, work->now, i);
    bool either = work->pass->discard || has_twin(box, i);
    if (appended && !expunged && !here && either)
        oracle_happen(box, work->known, EVENT_EXPUNGE, i, 0);
    if (!expunged || !here)
        return;
    if (may_return(work, i))
        let_return(work, here->uid);
    if (either || work->pass->unsure || may_return(work, i))
        oracle_happen(box, work->known, EVENT_BACK, i, 0);
}

/* --- all of it --- */

void oracle_check_merge(struct merging *work)
{
    const struct oracle_box *box = work->box;
    work->at_master = oracle_stand(box, work->known_master, work->known_replica);
    work->at_replica = oracle_stand(box, work->known_replica, work->known_master);
    for (uint32_t i = 0; i < box->message_count; i++)
        check_count(work, &box->messages[i]);
    for (uint32_t i = 0; i < box->message_count; i++)
        check_flags(work, i);
    check_values(work);
    if (work->at)
        check_fate(work);
    knowledge_unite(work->known, work->known_replica);
    for (uint32_t i = 0; i < box->message_count; i++)
        note_same(work, i);
    for (uint32_t i = 0; i < box->message_count; i++)
        note_flags(work, i);
    for (uint32_t i = 0; i < box->message_count; i++)
        note_fate(work, i);
    free(work->at_master);
    free(work->at_replica);
}
