/* promote and demote: who is the master. */
#include "base/err.h"
#include "mailbox/role.h"
#include "tools/shiplog/cli.h"

int cmd_promote(struct cli *cli)
{
    struct option options[] = {{"--force", false, NULL}};
    int rc = cli_options(cli, options, 1);
    return rc ? rc : store_promote(cli->store, options[0].value);
}

int cmd_demote(struct cli *cli)
{
    struct option options[] = {{"--follow", true, NULL}, {"--discard", false, NULL}};
    int rc = cli_options(cli, options, 2);
    return rc ? rc : store_demote(cli->store, options[0].value, options[1].value);
}
