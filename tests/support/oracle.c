/* The oracle's beginning and end, and what it says when something does not hold. The parts are told
 * in oracle_private.h. */
#include "tests/support/oracle_private.h"

#include "base/err.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

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

void *oracle_room(void *items, size_t count, size_t size)
{
    /* A power of two and nothing else means that it is full. */
    if (count & (count - 1))
        return items;
    void *more = realloc(items, (count ? 2 * count : 1) * size);
    if (!more)
        abort();
    return more;
}

void oracle_begin(struct oracle *oracle)
{
    *oracle = (struct oracle){.box_count = 1, .moment = "the beginning"};
}

void oracle_forget_node(struct oracle_node *node)
{
    for (unsigned i = 0; i < ORACLE_BOXES; i++) {
        listing_free(&node->sights[i].now);
        knowledge_free(&node->sights[i].knowledge);
        free(node->sights[i].memory.uids);
        node->sights[i] = (struct sight){0};
    }
    node->loss_count = 0;
}

void oracle_end(struct oracle *oracle)
{
    for (unsigned i = 0; i < ORACLE_NODES; i++) {
        oracle_forget_node(&oracle->nodes[i]);
        free(oracle->nodes[i].losses);
    }
    for (unsigned i = 0; i < oracle->box_count; i++) {
        struct oracle_box *box = &oracle->boxes[i];
        for (size_t k = 0; k < box->state_count; k++)
            knowledge_free(&box->states[k].knowledge);
        for (size_t k = 0; k < box->event_count; k++)
            knowledge_free(&box->events[k].undone);
        free(box->states);
        free(box->events);
        free(box->messages);
    }
}
