/* Nodes: their journals, their clients, and what users and operators do. */
#include "tests/model/rules/world.h"

#include <string.h>

uint64_t node_last(const struct world *world, const struct node *node)
{
    return world->entries[node->tip].modseq;
}

uint64_t node_forgotten(const struct node *node)
{
    return node->deleted > node->floor ? node->deleted : node->floor;
}

uint64_t node_enter(struct world *world, struct node *node, uint64_t modseq)
{
    if (world->entry_count == ENTRIES) {
        world->full = true;
        return modseq;
    }
    world->entries[world->entry_count] =
        (struct entry){.parent = node->tip, .modseq = modseq, .uidnext = node->uidnext};
    node->tip = world->entry_count++;
    return modseq;
}

uint64_t node_next_entry(struct world *world, struct node *node)
{
    return node_enter(world, node, node_last(world, node) + 1);
}

unsigned world_ancestor(const struct world *world, unsigned a, unsigned b)
{
    while (a != b)
        if (a > b)
            a = world->entries[a].parent;
        else
            b = world->entries[b].parent;
    return a;
}

static unsigned new_ghost(struct world *world)
{
    if (world->ghost_count == GHOSTS) {
        world->full = true;
        return 0;
    }
    return world->ghost_count++;
}

void node_show(struct world *world, struct node *node)
{
    for (uint32_t uid = 1; uid < node->uidnext; uid++) {
        const struct message *message = &node->at[uid];
        if (message->state == LIVE) {
            PROMISE(world, !node->gone[uid]);
            PROMISE(world, node->shown[uid] == 0 || node->shown[uid] == message->guid);
            node->shown[uid] = message->guid;
        } else if (message->state == TOMB || node->shown[uid]) {
            node->gone[uid] = true;
        }
    }
}

void node_check_clients(struct world *world, const struct node *node)
{
    for (size_t i = 0; i < CLIENTS; i++) {
        const struct client *client = &node->clients[i];
        if (!client->there || client->modseq < node_forgotten(node))
            continue;
        for (uint32_t uid = 1; uid < node->uidnext; uid++) {
            const struct message *message = &node->at[uid];
            int view = client->view[uid];
            if (message->state != ABSENT && message->modseq > client->modseq)
                view = message->state == LIVE ? (int)message->flags : -1;
            PROMISE(world, view == (message->state == LIVE ? (int)message->flags : -1));
        }
    }
}

void node_come(struct world *world, struct node *node, uint32_t which)
{
    struct client *client = &node->clients[which % CLIENTS];
    client->there = true;
    client->modseq = node_last(world, node);
    for (uint32_t uid = 0; uid < UIDS; uid++)
        client->view[uid] = node->at[uid].state == LIVE ? (int)node->at[uid].flags : -1;
}

void node_put(struct world *world, struct node *node, uint32_t uid, const struct message *message,
              uint64_t modseq)
{
    node->at[uid] = *message;
    node->at[uid].append = modseq;
    node->at[uid].modseq = modseq;
    node->at[uid].saved = (int64_t)world->entry_count;
    node->at[uid].appended_flags = message->flags;
    if (!node->since[message->ghost])
        node->since[message->ghost] = modseq;
}

void node_append(struct world *world, struct node *node, const struct step *step)
{
    struct message message = {.state = LIVE,
                              .guid = (uint8_t)('a' + step->a % GUIDS),
                              .flags = step->b % (1u << FLAGS) & step->c % (1u << FLAGS),
                              .ghost = new_ghost(world),
                              .changed = (int64_t)(step->c % 5)};
    uint32_t uid = node->uidnext;
    if (uid + 1 >= UIDS || world->full) {
        world->full = true;
        return;
    }
    node->uidnext++;
    world->guids[message.ghost] = message.guid;
    node_put(world, node, uid, &message, node_next_entry(world, node));
}

void node_keep_undo(struct world *world, struct node *node, uint32_t uid, uint64_t modseq,
                    bool healed)
{
    if (node->undos == UNDOS)
        world->full = true;
    else
        node->journal[node->undos++] = (struct undo){
            .modseq = modseq, .uid = uid, .before = node->at[uid].flags, .healed = healed};
}

void node_set_flags(struct world *world, struct node *node, uint32_t uid, unsigned flags,
                    uint64_t modseq)
{
    node_keep_undo(world, node, uid, modseq, false);
    node->at[uid].flags = flags;
    node->at[uid].modseq = modseq;
}

void node_bury(struct node *node, uint32_t uid, uint32_t successor, uint64_t modseq)
{
    node->at[uid].state = TOMB;
    node->at[uid].successor = successor;
    node->at[uid].modseq = modseq;
}

uint32_t node_pick(const struct node *node, uint32_t number)
{
    for (uint32_t i = 0; i < node->uidnext; i++) {
        uint32_t uid = (number + i) % node->uidnext;
        if (node->at[uid].state == LIVE)
            return uid;
    }
    return 0;
}

static uint64_t forget(struct node *node, uint64_t until)
{
    uint64_t highest = 0;
    for (uint32_t uid = 1; uid < node->uidnext; uid++)
        if (node->at[uid].state == TOMB && node->at[uid].modseq <= until) {
            if (highest < node->at[uid].modseq)
                highest = node->at[uid].modseq;
            node->at[uid] = (struct message){0};
            node->purged = true;
        }
    return highest;
}

void node_change(struct world *world, struct node *node, const struct step *step)
{
    uint32_t uid = node_pick(node, step->a);
    if (!uid)
        return;
    uint64_t modseq = node_next_entry(world, node);
    node->at[uid].changed = (int64_t)(step->c % 5);
    if (step->kind == FLAG)
        node_set_flags(world, node, uid, node->at[uid].flags ^ (1u << step->b % FLAGS), modseq);
    else
        node_bury(node, uid, 0, modseq);
    if (step->kind == EXPUNGE)
        world->expunged[node->at[uid].guid] = true;
}

void node_clean(struct world *world, struct node *node, const struct step *step)
{
    uint64_t until = node_last(world, node) - step->a % 3;
    uint64_t highest = forget(node, until);
    if (!highest)
        return;
    if (step->kind == EXPIRE) {
        if (node->floor < highest)
            node->floor = highest;
        return;
    }
    node_next_entry(world, node);
    if (node->deleted < highest)
        node->deleted = highest;
}
