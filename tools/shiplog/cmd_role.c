/* Commands about the nodes of a store: promote and demote, who is the master; wait, for those that
 * follow. */
#include "agent/address.h"
#include "agent/wake.h"
#include "base/err.h"
#include "base/times.h"
#include "mailbox/role.h"
#include "mailbox/wait.h"
#include "tools/shiplog/cli.h"

#define WAIT_TIMEOUT 10 /* seconds */
#define WAIT_MOST 1000000000

int cmd_promote(struct cli *cli)
{
    struct option options[] = {{"--force", false, NULL}};
    int rc = cli_options(cli, options, 1);
    return rc ? rc : store_promote(cli->store, options[0].value);
}

int cmd_demote(struct cli *cli)
{
    struct option options[] = {{"--follow", true, NULL}, {"--discard", false, NULL}};
    struct sockaddr_storage address;
    int rc = cli_options(cli, options, 2);
    if (rc == ERR_OK && options[0].value)
        rc = address_to_follow(options[0].value, &address);
    return rc ? rc : store_demote(cli->store, options[0].value, options[1].value);
}

int cmd_wait(struct cli *cli)
{
    struct option options[] = {{"--replicas", true, NULL}, {"--timeout", true, NULL}};
    struct store_wait wait = {.replicas = 1};
    uint64_t seconds = WAIT_TIMEOUT;
    int rc = cli_options(cli, options, 2);
    if (rc == ERR_OK && cli->count)
        rc = cli_number(cli->words[0], INT64_MAX, &wait.modseq);
    if (rc == ERR_OK && options[0].value)
        rc = cli_number(options[0].value, UINT32_MAX, &wait.replicas);
    if (rc == ERR_OK && options[1].value)
        rc = cli_number(options[1].value, WAIT_MOST, &seconds);
    if (rc)
        return rc;
    wait.timeout = (int64_t)seconds * TIMES_SECOND;
    rc = store_wait(cli->store, &wait);
    if (rc == ERR_TIMEOUT && !wake_is_open(store_db(cli->store)))
        return fail(rc, "entry %llu: no agent of this store runs, so nobody tells of followers",
                    (unsigned long long)wait.modseq);
    return rc;
}
