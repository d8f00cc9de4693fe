/* Two nodes of one store, or NODES=n up to four, and everything that can happen to them: changes of
 * every kind, promotions at the worst moments, forks, passes that are cut off or during which users
 * go on, trimmed journals, expiry at one end, damage, old copies put back, clocks that jump. What
 * must hold is checked after every step; in the end all become equal.
 */
#include "base/err.h"
#include "tests/support/clock.h"
#include "tests/support/nodes.h"

#include <stdio.h>
#include <stdlib.h>

#define STEPS 90u

static unsigned other_than(const struct nodes *nodes, unsigned node, struct dice *dice)
{
    return (node + 1 + dice_below(dice, nodes->count - 1)) % nodes->count;
}

/* Changes are thrown away with every eighth seed, and between two nodes only: a third that followed
 * still has them, and brings them back. Nor with damage: what one end lost and the other threw away
 * is nowhere. */
static bool discards(const struct nodes *nodes, struct dice *dice)
{
    return nodes->count == 2 && !getenv("DAMAGE") && nodes->run->seed % 8 == 1 &&
           dice_below(dice, 3) == 0;
}

static void pass(struct nodes *nodes, unsigned replica, struct dice *dice)
{
    struct disturbance disturbance = {.dice = {.state = dice_next(dice)}};
    unsigned master = other_than(nodes, replica, dice);
    if (dice_below(dice, 3) == 0)
        disturbance.cut_at = 1 + dice_below(dice, 60);
    if (dice_below(dice, 4) == 0)
        disturbance.users = 1 + dice_below(dice, 30);
    if (nodes->oracle.nodes[replica].role == ROLE_MASTER && dice_below(dice, 3))
        nodes_demote(nodes, replica, discards(nodes, dice));
    nodes_pass(nodes, master, replica, &disturbance);
}

/* With every fourth seed nothing happens that no software can make good: no backups, no damage. */
static void mishap(struct nodes *nodes, unsigned node, struct dice *dice)
{
    switch (nodes->run->seed % 4 ? dice_below(dice, 8) : 7) {
    case 0:
    case 1:
        /* Not by default: a change that is lost with its record is taken for one that is missed. */
        if (getenv("DAMAGE"))
            nodes_damage(nodes, node, dice);
        break;
    case 2:
    case 3:
        nodes_repair(nodes, node);
        break;
    case 4:
    case 5:
        nodes_keep_copy(nodes, node);
        break;
    case 6:
        nodes_put_back(nodes, node, dice_below(dice, 2));
        break;
    default:
        clock_move(((int64_t)dice_below(dice, 7200) - 3600) * 1000000);
        break;
    }
}

static void step(struct nodes *nodes, struct dice *dice)
{
    unsigned node = dice_below(dice, nodes->count);
    unsigned what = dice_below(dice, 100);
    if (what < 60)
        for (unsigned i = 0; i <= nodes->count && !nodes_may_write(nodes, node); i++)
            node = (node + 1) % nodes->count;
    if (what < 60)
        nodes_change(nodes, node, dice);
    else if (what < 78)
        pass(nodes, node, dice);
    else if (what < 84)
        nodes_promote(nodes, node);
    else if (what < 88)
        nodes_trim(nodes, node, dice);
    else if (what < 92)
        nodes_expire(nodes, node);
    else if (what < 94)
        nodes_restart(nodes, node);
    else
        mishap(nodes, node, dice);
}

static void run(const struct seed_run *run)
{
    struct nodes nodes;
    char moment[32];
    const char *count = getenv("NODES");
    nodes_begin(&nodes, run, count ? (unsigned)strtoul(count, NULL, 10) : 2);
    nodes.users.boxes_most = 12;
    nodes.oracle.moment = moment;
    for (unsigned i = 0; i < run->steps; i++) {
        struct dice dice = nodes_dice(&nodes, i);
        snprintf(moment, sizeof moment, "seed %llu step %u", (unsigned long long)run->seed, i);
        if (run->skip[i])
            continue;
        seeds_tell(run, "step %u", i);
        step(&nodes, &dice);
    }
    nodes_end(&nodes);
}

int main(int argc, char **argv)
{
    const struct seed_test test = {.name = "merge", .steps = STEPS, .run = run};
    return seeds_run(&test, argc, argv);
}
