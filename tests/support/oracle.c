#include "tests/support/oracle.h"

#include "base/err.h"
#include "mailbox/undo.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NO_MESSAGE UINT32_MAX

#define SHOWN_MOST 16u /* records of one mailbox */

static void show(const struct oracle *oracle, unsigned node, unsigned at)
{
    const struct listing *now = &oracle->nodes[node].sights[at].now;
    if (!now->there)
        return;
    char name[NAME_TEXT_SIZE];
    struct owner owner = {.user = "owner"};
    name_print(&now->facts.name, &owner, name);
    printf("node %u box %u, %s: state %d, UIDVALIDITY %u, UIDNEXT %u, HIGHESTMODSEQ %" PRIu64
           ", forgotten %" PRIu64 ", %zu records\n",
           node, at, name, (int)now->facts.state, now->facts.uidvalidity, now->facts.uidnext,
           now->facts.highestmodseq, now->forgotten, now->count);
    for (size_t i = 0; i < now->count && now->count <= SHOWN_MOST; i++)
        printf("  %u%s: message %" PRIu64 ", flags 0x%x, modseq %" PRIu64 ", successor %u\n",
               now->items[i].uid, now->items[i].live ? "" : " expunged", now->items[i].message,
               now->items[i].flags, now->items[i].modseq, now->items[i].successor);
}

void oracle_fail(const struct oracle *oracle, const char *file, int line, const char *format, ...)
{
    va_list args;
    printf("%s:%d: %s: ", file, line, oracle->moment);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (%s)\n", err_message());
    for (unsigned at = 1; at < oracle->box_count; at++)
        for (unsigned node = 0; node < ORACLE_NODES; node++)
            show(oracle, node, at);
    fflush(stdout);
    _Exit(1);
}

#define REQUIRE(oracle, condition, ...) ORACLE_REQUIRE(oracle, condition, __VA_ARGS__)

static void *grown(void *items, size_t count, size_t size)
{
    /* A power of two and nothing else means that it is full. */
    if (count & (count - 1))
        return items;
    void *more = realloc(items, (count ? 2 * count : 1) * size);
    if (!more)
        abort();
    return more;
}

/* --- knowledge --- */

static bool knows(const struct knowledge *knowledge, size_t event)
{
    size_t word = event / 64;
    return word < knowledge->words && knowledge->bits[word] >> event % 64 & 1;
}

static void make_words(struct knowledge *knowledge, size_t words)
{
    if (words <= knowledge->words)
        return;
    uint64_t *bits = realloc(knowledge->bits, words * sizeof *bits);
    if (!bits)
        abort();
    memset(bits + knowledge->words, 0, (words - knowledge->words) * sizeof *bits);
    knowledge->bits = bits;
    knowledge->words = words;
}

static void learn(struct knowledge *knowledge, size_t event)
{
    make_words(knowledge, event / 64 + 1);
    knowledge->bits[event / 64] |= UINT64_C(1) << event % 64;
}

static void unite(struct knowledge *knowledge, const struct knowledge *more)
{
    make_words(knowledge, more->words);
    for (size_t i = 0; i < more->words; i++)
        knowledge->bits[i] |= more->bits[i];
}

static bool is_subset(const struct knowledge *less, const struct knowledge *more)
{
    for (size_t i = 0; i < less->words; i++)
        if (less->bits[i] & ~(i < more->words ? more->bits[i] : 0))
            return false;
    return true;
}

static void forget(struct knowledge *knowledge)
{
    free(knowledge->bits);
    *knowledge = (struct knowledge){0};
}

static void assign(struct knowledge *to, const struct knowledge *from)
{
    forget(to);
    unite(to, from);
}

/* --- mailboxes, messages, events --- */

static unsigned box_of(struct oracle *oracle, uint64_t id)
{
    for (unsigned i = 0; i < oracle->box_count; i++)
        if (oracle->boxes[i].id == id)
            return i;
    REQUIRE(oracle, oracle->box_count < ORACLE_BOXES, "more mailboxes than the test is made for");
    oracle->boxes[oracle->box_count].id = id;
    return oracle->box_count++;
}

static uint32_t root(const struct oracle_box *box, uint32_t message)
{
    while (box->messages[message].same_as != message)
        message = box->messages[message].same_as;
    return message;
}

/* By its number, without what it was found to be the same as. */
static uint32_t find_message(const struct oracle_box *box, uint64_t number)
{
    for (uint32_t i = 0; i < box->message_count; i++)
        if (box->messages[i].number == number)
            return i;
    return NO_MESSAGE;
}

bool oracle_knows(const struct oracle *oracle, unsigned box, uint64_t message)
{
    return find_message(&oracle->boxes[box], message) != NO_MESSAGE;
}

static uint32_t make_message(struct oracle_box *box, const struct item *item)
{
    uint32_t at = (uint32_t)box->message_count;
    box->messages = grown(box->messages, box->message_count, sizeof *box->messages);
    box->messages[box->message_count++] =
        (struct message){.number = item->message, .guid = item->guid, .same_as = at};
    return at;
}

static size_t happen(struct oracle_box *box, enum event_kind kind, uint32_t message, uint32_t mask)
{
    box->events = grown(box->events, box->event_count, sizeof *box->events);
    box->events[box->event_count] = (struct event){.kind = kind, .message = message, .mask = mask};
    return box->event_count++;
}

/* A merge brought the message back. An expunge that it did not know of counts all the same. */
static void come_back(struct oracle_box *box, struct knowledge *known, uint32_t message)
{
    size_t event = happen(box, EVENT_BACK, message, 0);
    unite(&box->events[event].undone, known);
    learn(known, event);
}

static void remember_state(struct oracle_box *box, uint64_t digest,
                           const struct knowledge *knowledge)
{
    box->states = grown(box->states, box->state_count, sizeof *box->states);
    struct known_state *state = &box->states[box->state_count++];
    *state = (struct known_state){.digest = digest};
    unite(&state->knowledge, knowledge);
}

static const struct known_state *find_state(const struct oracle_box *box, uint64_t digest)
{
    for (size_t i = box->state_count; i > 0; i--)
        if (box->states[i - 1].digest == digest)
            return &box->states[i - 1];
    return NULL;
}

/* What follows for each message from what somebody knows. */
struct standing {
    bool appended;
    bool expunged;
    bool changed; /* by an event that is in one set and not in the other */
    uint32_t mask;
};

static bool is_undone(const struct oracle_box *box, const struct knowledge *of, size_t expunge)
{
    uint32_t message = root(box, box->events[expunge].message);
    for (size_t i = expunge + 1; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        if (event->kind == EVENT_BACK && knows(of, i) && root(box, event->message) == message &&
            knows(&event->undone, expunge))
            return true;
    }
    return false;
}

static struct standing *stand(const struct oracle_box *box, const struct knowledge *of,
                              const struct knowledge *without)
{
    struct standing *all = calloc(box->message_count + 1, sizeof *all);
    if (!all)
        abort();
    for (size_t i = 0; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        if (!knows(of, i) || event->message == NO_MESSAGE)
            continue;
        struct standing *one = &all[root(box, event->message)];
        one->appended |= event->kind == EVENT_APPEND;
        if (event->kind == EVENT_EXPUNGE && !is_undone(box, of, i))
            one->expunged = true;
        if (event->kind == EVENT_FLAGS && !knows(without, i)) {
            one->changed = true;
            one->mask |= event->mask;
        }
    }
    return all;
}

/* Index of the message that a record shows. */
static uint32_t shown(const struct oracle_box *box, const struct item *item)
{
    uint32_t message = find_message(box, item->message);
    return message == NO_MESSAGE ? message : root(box, message);
}

/* The record that shows this message, live. */
static const struct item *find_item(const struct oracle_box *box, const struct listing *listing,
                                    uint32_t message)
{
    for (size_t i = 0; i < listing->count; i++)
        if (listing->items[i].live && shown(box, &listing->items[i]) == message)
            return &listing->items[i];
    return NULL;
}

/* The mailbox holds exactly the messages that follow from what its node knows. */
static void check_messages(struct oracle *oracle, unsigned node, unsigned at)
{
    const struct oracle_box *box = &oracle->boxes[at];
    const struct sight *sight = &oracle->nodes[node].sights[at];
    const struct knowledge none = {0};
    struct standing *all = stand(box, &sight->knowledge, &none);
    bool *found = calloc(box->message_count + 1, sizeof *found);
    if (!found)
        abort();
    for (size_t i = 0; i < sight->now.count; i++) {
        const struct item *item = &sight->now.items[i];
        if (!item->live)
            continue;
        uint32_t message = shown(box, item);
        REQUIRE(oracle, message != NO_MESSAGE, "node %u box %u UID %u: an unknown message %" PRIu64,
                node, at, item->uid, item->message);
        REQUIRE(oracle, all[message].appended && !all[message].expunged,
                "node %u box %u UID %u: message %" PRIu64 " was expunged or never came", node, at,
                item->uid, item->message);
        REQUIRE(oracle, !found[message], "node %u box %u UID %u: message %" PRIu64 " twice", node,
                at, item->uid, item->message);
        found[message] = true;
    }
    for (uint32_t i = 0; i < box->message_count; i++)
        REQUIRE(oracle, found[i] || !all[i].appended || all[i].expunged || root(box, i) != i,
                "node %u box %u: message %" PRIu64 " is lost", node, at, box->messages[i].number);
    free(all);
    free(found);
}

/* --- what one end may not show --- */

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

static void check_numbers(struct oracle *oracle, unsigned node, unsigned at,
                          const struct listing *now)
{
    struct memory *memory = &oracle->nodes[node].sights[at].memory;
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
    if (now->facts.uidvalidity != memory->uidvalidity && memory->uid_count)
        memset(memory->uids, 0, memory->uid_count * sizeof *memory->uids);
    memory->uidvalidity = now->facts.uidvalidity;
    memory->uidnext = now->facts.uidnext;
    memory->highestmodseq = now->facts.highestmodseq;
    memory->forgotten = now->forgotten;
}

static void check_uids(struct oracle *oracle, unsigned node, unsigned at, const struct listing *now)
{
    struct memory *memory = &oracle->nodes[node].sights[at].memory;
    make_uids(memory, now->facts.uidnext + 1);
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
        REQUIRE(oracle, !uids->dead, "node %u box %u UID %u: it was expunged and is live", node, at,
                uid);
        REQUIRE(oracle, !uids->live || guid_equal(&uids->guid, &item->guid),
                "node %u box %u UID %u: another message", node, at, uid);
        uids->live = true;
        uids->guid = item->guid;
    }
    REQUIRE(oracle, next == now->count, "node %u box %u: a record at or above UIDNEXT", node, at);
}

/* A client that had seen `before` and asks for what changed since is told of every difference. */
static void check_client(struct oracle *oracle, unsigned node, unsigned at,
                         const struct listing *before, const struct listing *now)
{
    uint64_t seen = before->facts.highestmodseq;
    size_t next = 0;
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
    for (; next < before->count; next++) {
        const struct item *old = &before->items[next];
        const struct item *item = listing_find(now, old->uid);
        REQUIRE(oracle,
                !old->live || (item && (item->live || item->modseq > seen)) ||
                    now->forgotten > seen,
                "node %u box %u UID %u: gone, and a client at %" PRIu64 " is not told of it", node,
                at, old->uid, seen);
    }
}

/* --- merges --- */

struct merging {
    struct oracle *oracle;
    const struct oracle_pass *pass;
    unsigned at;
    struct oracle_box *box;
    const struct listing *master; /* before */
    const struct listing *replica;
    const struct listing *now;
    const struct knowledge *known_master;
    const struct knowledge *known_replica;
    struct knowledge *known; /* by the master, afterwards */
    struct standing *at_master;
    struct standing *at_replica;
};

static bool is_expunged(const struct merging *work, uint32_t i)
{
    return work->at_master[i].expunged || work->at_replica[i].expunged;
}

/* Expunged and purged at an end that is damaged, which cannot tell the one from the other. */
static bool may_return(const struct merging *work, uint32_t i)
{
    const struct standing *ends[] = {work->at_master, work->at_replica};
    const struct listing *lists[] = {work->master, work->replica};
    const unsigned hurt[] = {work->pass->hurt_master, work->pass->hurt_replica};
    for (unsigned end = 0; end < 2; end++) {
        bool traced = false;
        for (size_t k = 0; k < lists[end]->count; k++)
            traced |= shown(work->box, &lists[end]->items[k]) == i;
        if (hurt[end] == work->at && ends[end][i].expunged && !ends[1 - end][i].expunged && !traced)
            return true;
    }
    return false;
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
    unsigned now;
};

static struct tally count(const struct merging *work, const struct guid *guid)
{
    struct tally tally = {0};
    for (uint32_t i = 0; i < work->box->message_count; i++) {
        bool m = work->at_master[i].appended;
        bool r = work->at_replica[i].appended;
        if (!guid_equal(&work->box->messages[i].guid, guid) || root(work->box, i) != i)
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
    for (size_t i = 0; i < work->now->count; i++)
        tally.now += work->now->items[i].live && guid_equal(&work->now->items[i].guid, guid);
    return tally;
}

static unsigned larger(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static void check_count(const struct merging *work, const struct guid *guid, uint64_t number)
{
    struct tally tally = count(work, guid);
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
    REQUIRE(work->oracle, tally.now >= least && tally.now <= most,
            "box %u: merge left %u messages like %" PRIu64 ", not %u to %u (%u at both, %u and %u "
            "at one)",
            work->at, tally.now, number, least, most, tally.common, tally.only_master,
            tally.only_replica);
}

/* Where the master's tombstones say that this UID went. */
static const struct item *follow(const struct listing *listing, uint32_t uid)
{
    const struct item *item = listing_find(listing, uid);
    for (unsigned hops = 0; item && !item->live && item->successor && hops < 64; hops++)
        item = listing_find(listing, item->successor);
    return item && item->live ? item : NULL;
}

/* The replica's message went on as another one with the same content. */
static void find_same(const struct merging *work, uint32_t i)
{
    struct oracle_box *box = work->box;
    const struct item *there = find_item(box, work->replica, i);
    const struct item *item = there ? follow(work->now, there->uid) : NULL;
    if (item && guid_equal(&item->guid, &box->messages[i].guid))
        box->messages[i].same_as = shown(box, item);
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
    const struct item *there = m && r ? listing_find(work->replica, m->uid) : NULL;
    const struct item *here = m && r ? listing_find(work->master, r->uid) : NULL;
    return m && r && m->uid != r->uid && !(there && there->successor) && !(here && here->successor);
}

static void check_flags(const struct merging *work, uint32_t i)
{
    const struct item *m = find_item(work->box, work->master, i);
    const struct item *r = find_item(work->box, work->replica, i);
    const struct item *now = find_item(work->box, work->now, i);
    const struct standing *at_m = &work->at_master[i];
    const struct standing *at_r = &work->at_replica[i];
    uint32_t flags = m ? m->flags : 0;
    uint32_t checked = 2 * LISTING_BOB - 1;
    if (!now || work->pass->lenient || work->pass->crossed || lost_its_trace(work, m, r) ||
        (!m && !r) || ((!m || !r) && may_have_twin(work, i)))
        return;
    if (at_m->appended && at_r->appended && m && r) {
        uint32_t theirs = at_r->mask & ~at_m->mask;
        flags = (m->flags & ~theirs) | (r->flags & theirs);
        checked &= ~(at_m->mask & at_r->mask);
        if (at_m->changed && at_r->changed && !work->pass->reaches)
            checked = 0;
        if (!work->pass->reaches)
            checked &= ~LISTING_BOB;
    } else if (!m) {
        flags = r->flags;
    }
    /* Between three nodes a message that another user has unseen again may stay seen. */
    if (work->pass->unsure && m && r && m->flags & ~r->flags & LISTING_BOB)
        checked &= ~LISTING_BOB;
    REQUIRE(work->oracle, ((now->flags ^ flags) & checked) == 0,
            "box %u UID %u message %" PRIu64 ": flags 0x%x, not 0x%x (0x%x at the master, changed "
            "0x%x; 0x%x at the replica, changed 0x%x)",
            work->at, now->uid, now->message, now->flags, flags, m ? m->flags : 0, at_m->mask,
            r ? r->flags : 0, at_r->mask);
}

/* Where a merge may leave flags as a third node had them, that is a change of the merge's own. */
static void note_flags(const struct merging *work, uint32_t i)
{
    const struct item *m = find_item(work->box, work->master, i);
    const struct item *r = find_item(work->box, work->replica, i);
    const struct item *now = find_item(work->box, work->now, i);
    if (now && m && r && work->pass->crossed && m->flags != r->flags)
        learn(work->known, happen(work->box, EVENT_FLAGS, i, m->flags ^ r->flags));
}

static void check_meta(const struct merging *work)
{
    uint32_t m = 0, r = 0;
    /* Expiry clears the values of deleted mailboxes. */
    if (work->at &&
        (work->now->facts.state != MAILBOX_LIVE || work->replica->facts.state != MAILBOX_LIVE))
        return;
    for (size_t i = 0; i < work->box->event_count; i++) {
        const struct event *event = &work->box->events[i];
        if (event->kind != EVENT_META)
            continue;
        if (knows(work->known_master, i) && !knows(work->known_replica, i))
            m |= event->mask;
        if (knows(work->known_replica, i) && !knows(work->known_master, i))
            r |= event->mask;
    }
    for (unsigned key = 0; key < LISTING_METAS; key++) {
        uint64_t value = r >> key & 1 ? work->replica->metas[key] : work->master->metas[key];
        bool dropped = work->pass->discard && work->now->metas[key] == work->master->metas[key];
        REQUIRE(work->oracle, (m & r) >> key & 1 || dropped || work->now->metas[key] == value,
                "box %u: value /%u is %" PRIu64 ", not %" PRIu64, work->at, key,
                work->now->metas[key], value);
    }
}

/* What one end alone did to a mailbox's mail. */
struct news {
    bool any;
    bool shows; /* what was expunged since is nothing that a mailbox must be kept for */
};

static struct news find_news(const struct oracle_box *box, const struct listing *listing,
                             const struct knowledge *of, const struct knowledge *without)
{
    struct news news = {0};
    for (size_t i = 0; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        bool alone = knows(of, i) && !knows(without, i) && event->kind != EVENT_BOX;
        news.any |= alone;
        news.shows |=
            alone &&
            (event->kind == EVENT_META ||
             (event->kind != EVENT_EXPUNGE && find_item(box, listing, root(box, event->message))));
    }
    return news;
}

static void check_fate(const struct merging *work)
{
    bool m = work->master->there && work->master->facts.state == MAILBOX_LIVE;
    bool r = work->replica->facts.state == MAILBOX_LIVE;
    bool now = work->now->facts.state == MAILBOX_LIVE;
    if (work->pass->discard)
        return;
    struct news mail_m =
        find_news(work->box, work->master, work->known_master, work->known_replica);
    struct news mail_r =
        find_news(work->box, work->replica, work->known_replica, work->known_master);
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

static void settle_differences(struct merging *work)
{
    struct oracle_box *box = work->box;
    for (uint32_t i = 0; i < box->message_count; i++) {
        bool alive = (work->at_master[i].appended || work->at_replica[i].appended) &&
                     !is_expunged(work, i) && root(box, i) == i;
        bool here = root(box, i) == i && find_item(box, work->now, i);
        bool twin = false; /* count() has found that it may be so */
        for (uint32_t k = 0; k < box->message_count; k++)
            twin |= k != i && guid_equal(&box->messages[k].guid, &box->messages[i].guid);
        if (alive && !here && (twin || work->pass->discard))
            learn(work->known, happen(box, EVENT_EXPUNGE, i, 0));
        if (here && is_expunged(work, i) &&
            (work->pass->unsure || work->pass->discard || twin || may_return(work, i)))
            come_back(box, work->known, i);
    }
}

static void check_merge(struct merging *work)
{
    struct oracle_box *box = work->box;
    uint32_t messages = (uint32_t)box->message_count;
    work->at_master = stand(box, work->known_master, work->known_replica);
    work->at_replica = stand(box, work->known_replica, work->known_master);
    for (uint32_t i = 0; i < messages; i++)
        check_count(work, &box->messages[i].guid, box->messages[i].number);
    for (uint32_t i = 0; i < messages; i++)
        check_flags(work, i);
    check_meta(work);
    if (work->at)
        check_fate(work);
    assign(work->known, work->known_master);
    unite(work->known, work->known_replica);
    for (uint32_t i = 0; i < messages; i++)
        if (work->at_replica[i].appended && !work->at_master[i].appended && root(box, i) == i &&
            !is_expunged(work, i) && !find_item(box, work->now, i))
            find_same(work, i);
    for (uint32_t i = 0; i < messages; i++)
        note_flags(work, i);
    settle_differences(work);
    free(work->at_master);
    free(work->at_replica);
}

/* Two mailboxes of one name that were made independently: by content, up to the higher number. */
static void check_absorbed(struct oracle *oracle, unsigned at, const struct listing *before,
                           const struct listing *there, const struct listing *now,
                           struct knowledge *known)
{
    struct oracle_box *box = &oracle->boxes[at];
    const struct listing *lists[] = {before, there, now};
    for (unsigned from = 0; from < 3; from++)
        for (size_t i = 0; i < lists[from]->count; i++) {
            unsigned counts[3] = {0};
            const struct item *item = &lists[from]->items[i];
            for (unsigned k = 0; k < 3; k++)
                for (size_t j = 0; j < lists[k]->count; j++)
                    counts[k] += lists[k]->items[j].live &&
                                 guid_equal(&lists[k]->items[j].guid, &item->guid);
            REQUIRE(oracle, counts[2] == larger(counts[0], counts[1]),
                    "box %u: two mailboxes had %u and %u messages like %" PRIu64 ", now there are "
                    "%u",
                    at, counts[0], counts[1], item->message, counts[2]);
        }
    const struct knowledge none = {0};
    struct standing *all = stand(box, known, &none);
    uint32_t messages = (uint32_t)box->message_count;
    for (size_t i = 0; i < now->count; i++) {
        const struct item *item = &now->items[i];
        uint32_t message = shown(box, item);
        if (!item->live)
            continue;
        if (message == NO_MESSAGE)
            message = make_message(box, item);
        if (message >= messages || !all[message].appended)
            learn(known, happen(box, EVENT_APPEND, message, 0));
        else if (all[message].expunged) /* it had been moved from here to there */
            come_back(box, known, message);
    }
    free(all);
    uint32_t metas = 0;
    for (unsigned key = 0; key < LISTING_METAS; key++) {
        uint64_t value = now->metas[key];
        REQUIRE(oracle, value == before->metas[key] || value == there->metas[key],
                "box %u: value /%u is %" PRIu64 ", which neither of two mailboxes had", at, key,
                value);
        metas |= (uint32_t)(value != before->metas[key]) << key;
    }
    if (metas)
        learn(known, happen(box, EVENT_META, NO_MESSAGE, metas));
}

/* --- looking --- */

/* What a user did: the differences. */
static void find_events(struct oracle *oracle, unsigned node, unsigned at,
                        const struct listing *before)
{
    struct oracle_box *box = &oracle->boxes[at];
    struct sight *sight = &oracle->nodes[node].sights[at];
    const struct listing *now = &sight->now;
    struct knowledge *known = &sight->knowledge;
    uint32_t metas = 0;
    if (at && (!before->there || before->facts.state != now->facts.state ||
               !name_equal(&before->facts.name, &now->facts.name)))
        learn(known, happen(box, EVENT_BOX, NO_MESSAGE, 0));
    for (size_t i = 0; i < now->count; i++) {
        const struct item *item = &now->items[i];
        const struct item *old = listing_find(before, item->uid);
        if (item->live && !old) {
            REQUIRE(oracle, find_message(box, item->message) == NO_MESSAGE,
                    "box %u: message %" PRIu64 " was given out before", at, item->message);
            learn(known, happen(box, EVENT_APPEND, make_message(box, item), 0));
        } else if (item->live && (old->flags != item->flags || old->modseq != item->modseq)) {
            learn(known, happen(box, EVENT_FLAGS, shown(box, item), old->flags ^ item->flags));
        }
    }
    for (size_t i = 0; i < before->count; i++) {
        const struct item *old = &before->items[i];
        const struct item *item = listing_find(now, old->uid);
        if (old->live && (!item || !item->live))
            learn(known, happen(box, EVENT_EXPUNGE, shown(box, old), 0));
    }
    /* Nobody unset the values that went with a mailbox which was purged. */
    for (unsigned i = 0; i < LISTING_METAS && now->facts.state != MAILBOX_PURGED; i++)
        metas |= (uint32_t)(before->metas[i] != now->metas[i]) << i;
    if (metas)
        learn(known, happen(box, EVENT_META, NO_MESSAGE, metas));
}

static int last_mark(struct tx *tx, uint64_t id, uint64_t *modseq)
{
    struct mark mark = {.mailbox = id};
    int rc;
    *modseq = 0;
    while ((rc = mark_next(tx_db(tx), &mark)) == ERR_OK && mark.mailbox == id)
        *modseq = mark.modseq;
    return rc == ERR_END ? ERR_OK : rc;
}

/* Digests that a mailbox had within a commit, before entries that neither brought nor took a
 * message: a replica that finds damage at such an entry stops there. */
#define WITHIN_MOST 8u
struct within {
    struct header header; /* as it was after the entry that comes next */
    uint64_t digests[WITHIN_MOST];
    size_t count;
    bool ends; /* the entry that was seen last brought or took one */
};

static int each_within(const struct entry *entry, const struct change *change, void *arg)
{
    struct within *within = arg;
    struct header *header = &within->header;
    if (within->ends || within->count == WITHIN_MOST)
        return ERR_END;
    header->items = 0;
    header->items = entry->digest - header_digest(header);
    within->digests[within->count++] = listing_digest(header);
    within->ends = entry->kind == ENTRY_APPEND || entry->kind == ENTRY_EXPUNGE;
    facts_copy(&header->facts, &change->before, change->facts_changed);
    return ERR_OK;
}

static int find_within(struct tx *tx, uint64_t id, uint64_t since, struct within *within)
{
    int rc = id ? header_get(tx_db(tx), id, &within->header) : ERR_END;
    if (rc == ERR_OK)
        rc = undo_walk(tx, &within->header, since, each_within, within);
    return rc == ERR_END || rc == ERR_TRIMMED ? ERR_OK : rc;
}

struct look {
    struct oracle *oracle;
    unsigned node;
    uint64_t since; /* the node's last entry when it was last looked at */
    bool changed[ORACLE_BOXES];
    struct listing before[ORACLE_BOXES];
    uint64_t marks[ORACLE_BOXES];
    struct within within[ORACLE_BOXES];
};

/* Of a mailbox that this node never had only the id came, as that of a purged one. */
static bool only_id_came(const struct look *look, unsigned at)
{
    return look->changed[at] && !look->before[at].there &&
           look->oracle->nodes[look->node].sights[at].now.facts.state == MAILBOX_PURGED;
}

static bool same_name(const struct sight *a, const struct sight *b)
{
    return a->now.there && b->now.there && a->now.facts.state == MAILBOX_LIVE &&
           b->now.facts.state == MAILBOX_LIVE && name_equal(&a->now.facts.name, &b->now.facts.name);
}

/* A mailbox that the replica made under a name that this one bears here. */
static unsigned find_absorbed(const struct look *look, const struct oracle_pass *pass, unsigned at)
{
    const struct oracle *oracle = look->oracle;
    for (unsigned i = 1; i < oracle->box_count; i++)
        if (i != at && only_id_came(look, i) &&
            same_name(&oracle->nodes[pass->replica].sights[i],
                      &oracle->nodes[pass->master].sights[at]))
            return i;
    return 0;
}

/* What the replica had in a mailbox that is not to be here: it went on in another, or the mailbox
 * was deleted there. */
static void take_id(const struct look *look, const struct oracle_pass *pass, unsigned at)
{
    struct oracle *oracle = look->oracle;
    struct oracle_box *box = &oracle->boxes[at];
    const struct sight *theirs = &oracle->nodes[pass->replica].sights[at];
    struct knowledge *known = &oracle->nodes[pass->master].sights[at].knowledge;
    bool absorbed = false;
    for (unsigned i = 1; i < oracle->box_count; i++)
        absorbed |= i != at && look->before[i].there &&
                    same_name(theirs, &oracle->nodes[pass->master].sights[i]);
    REQUIRE(oracle, absorbed || theirs->now.facts.state != MAILBOX_LIVE,
            "box %u: live there, and purged here", at);
    unite(known, &theirs->knowledge);
    const struct knowledge none = {0};
    struct standing *all = stand(box, known, &none);
    for (uint32_t i = 0; i < box->message_count; i++)
        if (root(box, i) == i && all[i].appended && !all[i].expunged)
            learn(known, happen(box, EVENT_EXPUNGE, i, 0));
    free(all);
}

static void take_in(const struct look *look, const struct oracle_pass *pass, unsigned at)
{
    struct oracle *oracle = look->oracle;
    const struct listing *before = &look->before[at];
    struct sight *mine = &oracle->nodes[pass->master].sights[at];
    struct sight *theirs = &oracle->nodes[pass->replica].sights[at];
    struct knowledge old = {0};
    bool purged = mine->now.facts.state == MAILBOX_PURGED;
    if (at && purged && (!before->there || theirs->now.facts.state != MAILBOX_LIVE)) {
        take_id(look, pass, at);
        return;
    }
    unsigned other =
        is_subset(&theirs->knowledge, &mine->knowledge) ? find_absorbed(look, pass, at) : 0;
    if (other) {
        check_absorbed(oracle, at, before, &oracle->nodes[pass->replica].sights[other].now,
                       &mine->now, &mine->knowledge);
        return;
    }
    unite(&old, &mine->knowledge);
    struct merging work = {.oracle = oracle,
                           .pass = pass,
                           .at = at,
                           .box = &oracle->boxes[at],
                           .master = before,
                           .replica = &theirs->now,
                           .now = &mine->now,
                           .known_master = &old,
                           .known_replica = &theirs->knowledge,
                           .known = &mine->knowledge};
    check_merge(&work);
    forget(&old);
}

static int look_at_box(struct tx *tx, struct look *look, unsigned at)
{
    struct oracle_node *node = &look->oracle->nodes[look->node];
    struct sight *sight = &node->sights[at];
    struct listing now;
    int rc = listing_read(tx, look->oracle->boxes[at].id, &now);
    if (rc == ERR_OK)
        rc = last_mark(tx, look->oracle->boxes[at].id, &look->marks[at]);
    if (rc == ERR_OK)
        rc = find_within(tx, look->oracle->boxes[at].id, look->since, &look->within[at]);
    if (rc)
        return rc;
    if (!now.there) {
        listing_free(&now);
        sight->now.there = false;
        return ERR_OK;
    }
    look->changed[at] = true;
    look->before[at] = sight->now;
    sight->now = now;
    return ERR_OK;
}

static int look_at_all(struct tx *tx, void *arg)
{
    struct look *look = arg;
    struct oracle_node *node = &look->oracle->nodes[look->node];
    struct header header;
    bool found[ORACLE_BOXES] = {true};
    uint64_t id = 0;
    int rc;
    node->role = tx_node(tx)->role;
    node->fence = tx_node(tx)->fence;
    look->since = node->last.modseq;
    node->last = tx_window(tx)->last;
    node->base = tx_window(tx)->base;
    rc = look_at_box(tx, look, 0);
    if (rc)
        return rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK) {
        unsigned at = box_of(look->oracle, header.id);
        struct sight *sight = &node->sights[at];
        found[at] = true;
        if (sight->now.there && sight->now.stamp == listing_stamp(&header) && !node->loss_count)
            continue;
        rc = look_at_box(tx, look, at);
        if (rc)
            return rc;
    }
    for (unsigned i = 0; i < ORACLE_BOXES; i++)
        if (!found[i])
            node->sights[i].now.there = false;
    return rc == ERR_END ? ERR_OK : rc;
}

static void insert_item(struct listing *listing, const struct item *item)
{
    size_t at = listing->count;
    listing->items = realloc(listing->items, (listing->count + 1) * sizeof *listing->items);
    if (!listing->items)
        abort();
    for (; at > 0 && listing->items[at - 1].uid > item->uid; at--)
        listing->items[at] = listing->items[at - 1];
    listing->items[at] = *item;
    listing->count++;
}

/* A damaged record counts as there until the node knows better, by a merge as well, or has it back.
 * It goes with its mailbox. */
static void fill_in_losses(struct oracle *oracle, unsigned node, unsigned at,
                           const struct knowledge *taken_in)
{
    struct oracle_node *here = &oracle->nodes[node];
    struct sight *sight = &here->sights[at];
    const struct oracle_box *box = &oracle->boxes[at];
    const struct knowledge none = {0};
    struct standing *all = NULL;
    for (size_t i = 0; i < here->loss_count;) {
        struct loss *loss = &here->losses[i];
        if (loss->box != at) {
            i++;
            continue;
        }
        if (!all) {
            struct knowledge known = {0};
            unite(&known, &sight->knowledge);
            unite(&known, taken_in);
            all = stand(box, &known, &none);
            forget(&known);
        }
        if (sight->now.facts.state == MAILBOX_PURGED || listing_find(&sight->now, loss->item.uid) ||
            all[shown(box, &loss->item)].expunged) {
            *loss = here->losses[--here->loss_count];
            continue;
        }
        insert_item(&sight->now, &loss->item);
        i++;
    }
    free(all);
}

/* What the master purged is purged here first, and follows afterwards. */
static void follow_purge(struct oracle *oracle, const struct oracle_pass *pass, unsigned at,
                         const struct listing *before)
{
    const struct oracle_box *box = &oracle->boxes[at];
    struct knowledge *known = &oracle->nodes[pass->replica].sights[at].knowledge;
    const struct knowledge *master = &oracle->nodes[pass->master].sights[at].knowledge;
    REQUIRE(oracle,
            pass->discard || before->facts.state != MAILBOX_LIVE ||
                !find_news(box, before, known, master).shows,
            "box %u: it is purged, although it had something to show", at);
    assign(known, master);
}

static void judge(struct oracle *oracle, struct look *look, enum cause cause,
                  const struct oracle_pass *pass, unsigned at)
{
    struct sight *sight = &oracle->nodes[look->node].sights[at];
    struct oracle_box *box = &oracle->boxes[at];
    const struct known_state *state = find_state(box, sight->now.digest);
    bool merged = cause == CAUSE_PASS && look->node == pass->master;
    if (state && cause != CAUSE_USER)
        assign(&sight->knowledge, &state->knowledge);
    bool taken = merged && (at == 0 ? !state : look->marks[at] > sight->mark);
    const struct knowledge none = {0};
    fill_in_losses(oracle, look->node, at,
                   taken ? &oracle->nodes[pass->replica].sights[at].knowledge : &none);
    if (cause == CAUSE_USER)
        find_events(oracle, look->node, at, &look->before[at]);
    else if (taken)
        take_in(look, pass, at);
    sight->mark = look->marks[at];
    if (cause == CAUSE_USER || merged) {
        for (size_t i = 0; i < look->within[at].count; i++)
            remember_state(box, look->within[at].digests[i], &sight->knowledge);
        remember_state(box, sight->now.digest, &sight->knowledge);
    }
    if (at == 0)
        return;
    check_numbers(oracle, look->node, at, &sight->now);
    check_uids(oracle, look->node, at, &sight->now);
    /* While a deleted mailbox is repaired it is live again until its name has followed. */
    bool dying = cause == CAUSE_PASS &&
                 oracle->nodes[pass->master].sights[at].now.facts.state != MAILBOX_LIVE;
    if (cause != CAUSE_RESTORE && !dying)
        check_client(oracle, look->node, at, &look->before[at], &sight->now);
    bool follows = oracle->nodes[look->node].role == ROLE_REPLICA;
    if (dying && follows && sight->now.facts.state == MAILBOX_PURGED &&
        look->before[at].facts.state != MAILBOX_PURGED)
        follow_purge(oracle, pass, at, &look->before[at]);
    check_messages(oracle, look->node, at);
}

static void forget_sights(struct oracle_node *node)
{
    for (unsigned i = 0; i < ORACLE_BOXES; i++) {
        listing_free(&node->sights[i].now);
        forget(&node->sights[i].knowledge);
        free(node->sights[i].memory.uids);
        node->sights[i] = (struct sight){0};
    }
    node->loss_count = 0;
}

void oracle_look(struct oracle *oracle, unsigned node, enum cause cause,
                 const struct oracle_pass *pass)
{
    struct look look = {.oracle = oracle, .node = node};
    struct oracle_node *here = &oracle->nodes[node];
    if (cause == CAUSE_RESTORE)
        forget_sights(here);
    int rc = store_read(here->store, look_at_all, &look);
    REQUIRE(oracle, rc == ERR_OK, "node %u cannot be read", node);
    for (unsigned i = 0; i < oracle->box_count; i++)
        if (look.changed[i])
            judge(oracle, &look, cause, pass, i);
    for (unsigned i = 0; i < ORACLE_BOXES; i++)
        listing_free(&look.before[i]);
}

/* --- a whole pass --- */

struct oracle_before {
    struct knowledge known[ORACLE_BOXES];  /* by the replica */
    struct listing lists[2][ORACLE_BOXES]; /* the master's, the replica's */
};

static void copy_listing(struct listing *to, const struct listing *from)
{
    *to = *from;
    to->items = malloc((from->count + 1) * sizeof *to->items);
    if (!to->items)
        abort();
    if (from->count)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
}

struct oracle_before *oracle_before(const struct oracle *oracle, const struct oracle_pass *pass)
{
    struct oracle_before *before = calloc(1, sizeof *before);
    if (!before)
        abort();
    for (unsigned i = 0; i < oracle->box_count; i++) {
        unite(&before->known[i], &oracle->nodes[pass->replica].sights[i].knowledge);
        copy_listing(&before->lists[0][i], &oracle->nodes[pass->master].sights[i].now);
        copy_listing(&before->lists[1][i], &oracle->nodes[pass->replica].sights[i].now);
    }
    return before;
}

void oracle_before_free(struct oracle_before *before)
{
    for (unsigned i = 0; i < ORACLE_BOXES; i++) {
        forget(&before->known[i]);
        listing_free(&before->lists[0][i]);
        listing_free(&before->lists[1][i]);
    }
    free(before);
}

/* Nothing that a mailbox would be brought back for. */
static bool is_bare(const struct listing *listing)
{
    bool bare = true;
    for (size_t i = 0; i < listing->count; i++)
        bare = bare && !listing->items[i].live;
    for (unsigned i = 0; i < LISTING_METAS; i++)
        bare = bare && !listing->metas[i];
    return bare;
}

void oracle_after(struct oracle *oracle, const struct oracle_pass *pass,
                  const struct oracle_before *before)
{
    for (unsigned i = 1; i < oracle->box_count; i++) {
        const struct sight *m = &oracle->nodes[pass->master].sights[i];
        const struct sight *r = &oracle->nodes[pass->replica].sights[i];
        const struct listing *was = &before->lists[1][i];
        if (!m->now.there || !r->now.there) {
            /* Of one that was purged only the id is left, and that may be unknown. */
            REQUIRE(oracle,
                    (!m->now.there || m->now.facts.state == MAILBOX_PURGED) &&
                        (!r->now.there || r->now.facts.state == MAILBOX_PURGED),
                    "box %u: at one end only", i);
            continue;
        }
        /* As in check_fate(): an expunge is nothing that a purged mailbox comes back for. */
        bool shows = !is_bare(was) &&
                     find_news(&oracle->boxes[i], was, &before->known[i], &m->knowledge).shows;
        bool gone = (was->facts.state != MAILBOX_LIVE && m->now.facts.state != MAILBOX_LIVE) ||
                    (m->now.facts.state == MAILBOX_PURGED && !shows);
        REQUIRE(oracle, m->now.digest == r->now.digest, "box %u: digests differ", i);
        REQUIRE(oracle, pass->discard || gone || is_subset(&before->known[i], &m->knowledge),
                "box %u: what the replica knew was not taken in", i);
        for (unsigned end = 0; end < 2; end++) {
            check_client(oracle, pass->master, i, &before->lists[end][i], &m->now);
            check_client(oracle, pass->replica, i, &before->lists[end][i], &r->now);
        }
    }
}

void oracle_lose(struct oracle *oracle, unsigned node, unsigned box, const struct item *item)
{
    struct oracle_node *here = &oracle->nodes[node];
    here->losses = grown(here->losses, here->loss_count, sizeof *here->losses);
    here->losses[here->loss_count++] = (struct loss){.box = box, .item = *item};
}

void oracle_begin(struct oracle *oracle)
{
    *oracle = (struct oracle){.box_count = 1, .moment = "the beginning"};
}

void oracle_end(struct oracle *oracle)
{
    for (unsigned i = 0; i < ORACLE_NODES; i++) {
        forget_sights(&oracle->nodes[i]);
        free(oracle->nodes[i].losses);
    }
    for (unsigned i = 0; i < oracle->box_count; i++) {
        struct oracle_box *box = &oracle->boxes[i];
        for (size_t k = 0; k < box->state_count; k++)
            forget(&box->states[k].knowledge);
        for (size_t k = 0; k < box->event_count; k++)
            forget(&box->events[k].undone);
        free(box->states);
        free(box->events);
        free(box->messages);
    }
}
