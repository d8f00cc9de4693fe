/* Commands that look after the data file: copy, compact. */
#include "base/err.h"
#include "mailbox/copy.h"
#include "tools/shiplog/cli.h"
#include "tools/shiplog/progress.h"

#include <inttypes.h>

static void show_progress(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    progress_show("copied %" PRIu64 " MB of about %" PRIu64, done >> 20, total >> 20);
}

int cmd_copy(struct cli *cli)
{
    int rc = cli_options(cli, NULL, 0);
    if (rc)
        return rc;
    struct store_copy copy = {.directory = cli->words[0], .progress = show_progress};
    rc = store_copy(cli->store, &copy);
    progress_end();
    if (rc)
        return rc;
    out_hex(cli->out, "node", copy.node_id);
    out_position(cli->out, "position", copy.position);
    out_end(cli->out);
    return ERR_OK;
}

int cmd_compact(struct cli *cli)
{
    struct store_compact compact = {.progress = show_progress};
    int rc = cli_options(cli, NULL, 0);
    if (rc)
        return rc;
    rc = store_compact(cli->store, &compact);
    progress_end();
    if (rc)
        return rc;
    out_number(cli->out, "before", compact.before);
    out_number(cli->out, "after", compact.after);
    out_end(cli->out);
    return ERR_OK;
}
