/* Two nodes of one history, both promoted, each changed at random 500 times in every way there is;
 * then one is demoted and merged into the other. What must be there afterwards a model says.
 */
#include "base/err.h"
#include "tests/support/nodes.h"

#define COMMON 120u
#define APART 500u /* at each of the two */

static void run(const struct seed_run *run)
{
    struct nodes nodes;
    nodes_begin(&nodes, run, 2);
    nodes_check(&nodes, nodes_pass(&nodes, 0, 1, NULL) == ERR_OK, "the first pass");
    for (unsigned i = 0; i < run->steps; i++) {
        struct dice dice = nodes_dice(&nodes, i);
        if (i == COMMON) {
            nodes_check(&nodes, nodes_pass(&nodes, 0, 1, NULL) == ERR_OK,
                        "the last pass in common");
            nodes_promote(&nodes, 1);
        }
        if (!run->skip[i])
            nodes_change(&nodes, i < COMMON ? 0 : i % 2, &dice);
    }
    unsigned master = (unsigned)(run->seed % 2);
    nodes_demote(&nodes, 1 - master, false);
    nodes_check(&nodes, nodes_pass(&nodes, master, 1 - master, NULL) == ERR_OK, "the merge");
    nodes_end(&nodes);
}

int main(int argc, char **argv)
{
    const struct seed_test test = {.name = "fork", .steps = COMMON + 2 * APART, .run = run};
    return seeds_run(&test, argc, argv);
}
