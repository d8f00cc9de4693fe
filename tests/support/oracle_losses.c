/* Records that were damaged and have not come back yet. Damage is nothing that anybody did: to the
 * checks they are there until the node knows of a reason why not. */
#include "tests/support/oracle_private.h"

#include <stdlib.h>

void oracle_lose(struct oracle *oracle, unsigned node, unsigned box, const struct item *item)
{
    struct oracle_node *here = &oracle->nodes[node];
    here->losses = oracle_room(here->losses, here->loss_count, sizeof *here->losses);
    here->losses[here->loss_count++] = (struct loss){.box = box, .item = *item};
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

static struct standing *stand_with(const struct oracle_box *box, const struct knowledge *knowledge,
                                   const struct knowledge *more)
{
    struct knowledge both = {0};
    knowledge_unite(&both, knowledge);
    if (more)
        knowledge_unite(&both, more);
    struct standing *all = oracle_stand(box, &both, NULL);
    knowledge_free(&both);
    return all;
}

void oracle_fill_in_losses(struct oracle *oracle, unsigned node, unsigned at,
                           const struct knowledge *taken_in)
{
    struct oracle_node *here = &oracle->nodes[node];
    struct sight *sight = &here->sights[at];
    const struct oracle_box *box = &oracle->boxes[at];
    if (!here->loss_count)
        return;
    struct standing *all = stand_with(box, &sight->knowledge, taken_in);
    for (size_t i = 0; i < here->loss_count;) {
        struct loss *loss = &here->losses[i];
        if (loss->box != at) {
            i++;
        } else if (sight->now.facts.state == MAILBOX_PURGED ||
                   listing_find(&sight->now, loss->item.uid) ||
                   all[oracle_shown(box, &loss->item)].expunged) {
            *loss = here->losses[--here->loss_count];
        } else {
            insert_item(&sight->now, &loss->item);
            i++;
        }
    }
    free(all);
}
