/* Naive nodes with one mailbox each, changed and merged at random, and after every merge the
 * promises of docs/MERGE.md checked by whoever knows everything.
 *
 * A history is a list of steps, made from a seed. Every node may be changed at any time, which
 * stands for a promotion; a merge is what follows a demotion. What M does is one commit together
 * with its mark; then R becomes M's copy, unless the merge is cut in between. Few GUIDs, flags and
 * nodes, so that everything collides. A history that fails is made as short as possible and
 * printed.
 */
#include "tests/model/rules/world.h"
#include "tests/support/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const step_names[] = {"append", "flag", "expunge", "purge",
                                         "expire", "trim", "client",  "merge"};

static void take(struct world *world, const struct step *step)
{
    struct node *node = &world->node[step->node % NODES];
    if (world->print)
        printf("%s %u", step_names[step->kind], step->node % NODES);
    if (world->print)
        printf(step->kind == MERGE ? "<%u%s\n" : "\n",
               (step->node + 1 + step->a % (NODES - 1)) % NODES, step->b % 5 ? "" : ", cut");
    switch (step->kind) {
    case APPEND:
        node_append(world, node, step);
        break;
    case FLAG:
    case EXPUNGE:
        node_change(world, node, step);
        break;
    case PURGE:
    case EXPIRE:
        node_clean(world, node, step);
        break;
    case TRIM:
        node->trimmed = node_last(world, node) - step->a % 4;
        break;
    case CLIENT:
        node_come(world, node, step->a);
        break;
    default:
        world_merge(world, step);
        break;
    }
    for (size_t i = 0; i < NODES && world->print; i++)
        node_print(world, &world->node[i]);
    if (world->full)
        return;
    node_show(world, node);
    node_check_clients(world, node);
}

static void begin(struct world *world, bool print)
{
    memset(world, 0, sizeof *world);
    world->print = print;
    world->entry_count = 1;
    world->entries[0] = (struct entry){.modseq = 5, .uidnext = 1};
    for (size_t i = 0; i < NODES; i++) {
        world->node[i].uidnext = 1;
        for (unsigned ghost = 0; ghost < GHOSTS; ghost++)
            world->node[i].alias[ghost] = ghost;
    }
}

/* NULL: all promises were kept. */
static const char *run(struct world *world, const struct step *steps, size_t count, bool print)
{
    begin(world, print);
    for (size_t i = 0; i < count && !world->failure && !world->full; i++)
        take(world, &steps[i]);
    return world->failure;
}

static void roll(struct dice *dice, struct step *steps)
{
    static const enum step_kind kinds[] = {APPEND, APPEND,  APPEND,  FLAG,  FLAG,
                                           FLAG,   EXPUNGE, EXPUNGE, PURGE, EXPIRE,
                                           CLIENT, CLIENT,  MERGE,   MERGE, TRIM};
    uint32_t all =
        dice_below(dice, 4) ? sizeof kinds / sizeof kinds[0] : sizeof kinds / sizeof kinds[0] - 1;
    uint32_t guids = 1 + dice_below(dice, GUIDS);
    bool calm = dice_below(dice, 3) == 0; /* nothing is forgotten: the strictest checks */
    for (size_t i = 0; i < STEPS; i++) {
        steps[i] = (struct step){.kind = kinds[dice_below(dice, all)],
                                 .node = dice_below(dice, NODES),
                                 .a = dice_below(dice, 1000),
                                 .b = dice_below(dice, 1000),
                                 .c = dice_below(dice, 1000)};
        if (steps[i].kind == APPEND)
            steps[i].a %= guids;
        if (calm && (steps[i].kind == PURGE || steps[i].kind == EXPIRE || steps[i].kind == TRIM))
            steps[i].kind = FLAG;
    }
}

/* Leaves out whatever the failure of this promise does not need. */
static size_t shrink(struct world *world, struct step *steps, size_t count)
{
    const char *file = world->file;
    int line = world->line;
    for (size_t size = count / 2; size > 0;) {
        bool shorter = false;
        for (size_t at = 0; at + size <= count;) {
            struct step fewer[STEPS];
            memcpy(fewer, steps, at * sizeof *steps);
            memcpy(fewer + at, steps + at + size, (count - at - size) * sizeof *steps);
            if (run(world, fewer, count - size, false) && world->line == line &&
                strcmp(world->file, file) == 0) {
                memcpy(steps, fewer, sizeof fewer);
                count -= size;
                shorter = true;
            } else {
                at++;
            }
        }
        if (!shorter || size > count)
            size /= 2;
    }
    return count;
}

static int play(struct world *world, uint64_t seed)
{
    struct step steps[STEPS];
    struct dice dice = {.state = seed};
    roll(&dice, steps);
    if (!run(world, steps, STEPS, false))
        return 0;
    size_t count = shrink(world, steps, STEPS);
    run(world, steps, count, true);
    printf("seed %llu, %s:%d: %s\n", (unsigned long long)seed, world->file, world->line,
           world->failure);
    return 1;
}

int main(int argc, char **argv)
{
    uint64_t seed = scratch_seed(argc, argv);
    time_t until = time(NULL) + (time_t)scratch_seconds();
    unsigned runs = 0;
    struct world *world = malloc(sizeof *world);
    if (!world)
        return 1;
    int failed;
    do {
        failed = play(world, seed + runs++);
    } while (!failed && argc < 2 && time(NULL) < until);
    printf("%u histories from seed %llu, up to %u steps each\n", runs, (unsigned long long)seed,
           STEPS);
    free(world);
    return failed;
}
