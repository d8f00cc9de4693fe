/* Two mailboxes that were made independently under one name, and that a pass made one: the messages
 * and values of both are there. What that gives is new to everybody who knew the one mailbox. */
#include "tests/support/oracle_private.h"

#include <inttypes.h>
#include <stdlib.h>

/* By content, up to the higher number. */
static void check_contents(const struct merging *work, const struct listing *of)
{
    for (size_t i = 0; i < of->count; i++) {
        const struct item *item = &of->items[i];
        unsigned m = listing_like(work->master, &item->guid);
        unsigned r = listing_like(work->replica, &item->guid);
        unsigned now = listing_like(work->now, &item->guid);
        REQUIRE(work->oracle, now == (m > r ? m : r),
                "box %u: two mailboxes had %u and %u messages like %" PRIu64 ", now there are %u",
                work->at, m, r, item->message, now);
    }
}

static void note_messages(const struct merging *work)
{
    struct oracle_box *box = work->box;
    struct standing *all = oracle_stand(box, work->known, NULL);
    uint32_t messages = (uint32_t)box->message_count;
    for (size_t i = 0; i < work->now->count; i++) {
        const struct item *item = &work->now->items[i];
        if (!item->live)
            continue;
        uint32_t message = oracle_shown(box, item);
        if (message == NO_MESSAGE)
            message = oracle_add_message(box, item);
        if (message >= messages || !all[message].appended)
            oracle_happen(box, work->known, EVENT_APPEND, message, 0);
        else if (all[message].expunged) /* it had been moved from here to there */
            oracle_happen(box, work->known, EVENT_BACK, message, 0);
    }
    free(all);
}

static void note_values(const struct merging *work)
{
    uint32_t changed = 0;
    for (unsigned key = 0; key < LISTING_METAS; key++) {
        uint64_t value = work->now->metas[key];
        REQUIRE(work->oracle,
                value == work->master->metas[key] || value == work->replica->metas[key],
                "box %u: value /%u is %" PRIu64 ", which neither of two mailboxes had", work->at,
                key, value);
        changed |= (uint32_t)(value != work->master->metas[key]) << key;
    }
    if (changed)
        oracle_happen(work->box, work->known, EVENT_META, NO_MESSAGE, changed);
}

void oracle_check_absorbed(const struct merging *work)
{
    check_contents(work, work->master);
    check_contents(work, work->replica);
    check_contents(work, work->now);
    note_messages(work);
    note_values(work);
}
