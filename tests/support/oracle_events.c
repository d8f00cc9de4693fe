/* What happens to mailboxes, and who knows of it. Users' deeds are events, found by comparing a
 * mailbox before and after; from a set of them follows which messages are there. */
#include "tests/support/oracle_private.h"

#include <inttypes.h>
#include <stdlib.h>

/* --- messages --- */

uint32_t oracle_add_message(struct oracle_box *box, const struct item *item)
{
    uint32_t at = (uint32_t)box->message_count;
    box->messages = oracle_room(box->messages, box->message_count, sizeof *box->messages);
    box->messages[box->message_count++] =
        (struct message){.number = item->message, .guid = item->guid, .same_as = at};
    return at;
}

uint32_t oracle_root(const struct oracle_box *box, uint32_t message)
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

uint32_t oracle_shown(const struct oracle_box *box, const struct item *item)
{
    uint32_t message = find_message(box, item->message);
    return message == NO_MESSAGE ? message : oracle_root(box, message);
}

const struct item *oracle_find_item(const struct oracle_box *box, const struct listing *listing,
                                    uint32_t message)
{
    for (size_t i = 0; i < listing->count; i++)
        if (listing->items[i].live && oracle_shown(box, &listing->items[i]) == message)
            return &listing->items[i];
    return NULL;
}

/* --- events --- */

void oracle_happen(struct oracle_box *box, struct knowledge *known, enum event_kind kind,
                   uint32_t message, uint32_t mask)
{
    box->events = oracle_room(box->events, box->event_count, sizeof *box->events);
    struct event *event = &box->events[box->event_count];
    *event = (struct event){.kind = kind, .message = message, .mask = mask};
    /* An expunge that whoever brings it back does not know of counts all the same. */
    if (kind == EVENT_BACK)
        knowledge_unite(&event->undone, known);
    knowledge_add(known, box->event_count++);
}

static void find_values(struct oracle_box *box, struct knowledge *known,
                        const struct listing *before, const struct listing *now)
{
    uint32_t metas = 0;
    /* Nobody unset the values that went with a mailbox which was purged. */
    for (unsigned i = 0; i < LISTING_METAS && now->facts.state != MAILBOX_PURGED; i++)
        metas |= (uint32_t)(before->metas[i] != now->metas[i]) << i;
    if (metas)
        oracle_happen(box, known, EVENT_META, NO_MESSAGE, metas);
}

void oracle_find_events(struct oracle *oracle, unsigned node, unsigned at,
                        const struct listing *before)
{
    struct oracle_box *box = &oracle->boxes[at];
    struct sight *sight = &oracle->nodes[node].sights[at];
    const struct listing *now = &sight->now;
    struct knowledge *known = &sight->knowledge;
    if (at && (!before->there || before->facts.state != now->facts.state ||
               !name_equal(&before->facts.name, &now->facts.name)))
        oracle_happen(box, known, EVENT_BOX, NO_MESSAGE, 0);
    for (size_t i = 0; i < now->count; i++) {
        const struct item *item = &now->items[i];
        const struct item *old = listing_find(before, item->uid);
        if (item->live && !old) {
            REQUIRE(oracle, find_message(box, item->message) == NO_MESSAGE,
                    "box %u: message %" PRIu64 " was given out before", at, item->message);
            oracle_happen(box, known, EVENT_APPEND, oracle_add_message(box, item), 0);
        } else if (item->live && (old->flags != item->flags || old->modseq != item->modseq)) {
            oracle_happen(box, known, EVENT_FLAGS, oracle_shown(box, item),
                          old->flags ^ item->flags);
        }
    }
    for (size_t i = 0; i < before->count; i++) {
        const struct item *old = &before->items[i];
        const struct item *item = listing_find(now, old->uid);
        if (old->live && (!item || !item->live))
            oracle_happen(box, known, EVENT_EXPUNGE, oracle_shown(box, old), 0);
    }
    find_values(box, known, before, now);
}

/* --- states --- */

void oracle_remember_state(struct oracle_box *box, uint64_t digest,
                           const struct knowledge *knowledge)
{
    box->states = oracle_room(box->states, box->state_count, sizeof *box->states);
    struct known_state *state = &box->states[box->state_count++];
    *state = (struct known_state){.digest = digest};
    knowledge_unite(&state->knowledge, knowledge);
}

const struct known_state *oracle_find_state(const struct oracle_box *box, uint64_t digest)
{
    for (size_t i = box->state_count; i > 0; i--)
        if (box->states[i - 1].digest == digest)
            return &box->states[i - 1];
    return NULL;
}

/* --- what follows --- */

static bool is_undone(const struct oracle_box *box, const struct knowledge *of, size_t expunge)
{
    uint32_t message = oracle_root(box, box->events[expunge].message);
    for (size_t i = expunge + 1; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        if (event->kind == EVENT_BACK && knowledge_has(of, i) &&
            oracle_root(box, event->message) == message && knowledge_has(&event->undone, expunge))
            return true;
    }
    return false;
}

struct standing *oracle_stand(const struct oracle_box *box, const struct knowledge *of,
                              const struct knowledge *without)
{
    struct standing *all = calloc(box->message_count + 1, sizeof *all);
    if (!all)
        abort();
    for (size_t i = 0; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        if (!knowledge_has(of, i) || event->message == NO_MESSAGE)
            continue;
        struct standing *one = &all[oracle_root(box, event->message)];
        one->appended |= event->kind == EVENT_APPEND;
        if (event->kind == EVENT_EXPUNGE && !is_undone(box, of, i))
            one->expunged = true;
        if (event->kind == EVENT_FLAGS && !(without && knowledge_has(without, i))) {
            one->changed = true;
            one->mask |= event->mask;
        }
    }
    return all;
}

bool oracle_is_there(const struct standing *standing)
{
    return standing->appended && !standing->expunged;
}

struct news oracle_find_news(const struct oracle_box *box, const struct listing *listing,
                             const struct knowledge *of, const struct knowledge *without)
{
    struct news news = {0};
    for (size_t i = 0; i < box->event_count; i++) {
        const struct event *event = &box->events[i];
        if (!knowledge_has(of, i) || knowledge_has(without, i) || event->kind == EVENT_BOX)
            continue;
        news.any = true;
        news.shows |= event->kind == EVENT_META ||
                      (event->kind != EVENT_EXPUNGE &&
                       oracle_find_item(box, listing, oracle_root(box, event->message)) != NULL);
    }
    return news;
}
