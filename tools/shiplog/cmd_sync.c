/* sync: one pass from a master to a replica. */
#include "agent/sync.h"
#include "base/err.h"
#include "mailbox/content.h"
#include "tools/shiplog/cli.h"

#include <stdlib.h>
#include <string.h>

static void print(struct out *out, const char *mailbox, const char *tier, const char *reason,
                  uint64_t sent, uint64_t renumbered, uint64_t copied_back, uint64_t expunged)
{
    out_text(out, "mailbox", mailbox);
    out_text(out, "tier", tier);
    out_text(out, "reason", reason);
    out_number(out, "sent", sent);
    out_number(out, "renumbered", renumbered);
    out_number(out, "copied_back", copied_back);
    out_number(out, "expunged", expunged);
}

static void print_line(void *arg, const struct sync_line *line)
{
    struct cli *cli = arg;
    print(cli->out, line->mailbox, sync_tier_name(SYNC_MERGE), line->reason, line->sent,
          line->renumbered, line->copied_back, line->expunged);
    out_number(cli->out, "wire_bytes", 0);
    out_text(cli->out, "position", NULL);
    out_text(cli->out, "aside", NULL);
    out_end(cli->out);
}

static void print_action(void *arg, const char *mailbox, const char *what, uint32_t uid,
                         uint32_t other)
{
    struct cli *cli = arg;
    out_text(cli->out, "mailbox", mailbox);
    out_text(cli->out, "action", what);
    out_number(cli->out, "uid", uid);
    out_number(cli->out, "other", other);
    out_end(cli->out);
}

static void print_store(struct cli *cli, const struct sync *sync)
{
    print(cli->out, "-", sync_tier_name(sync->tier), sync->reason, sync->sent, sync->renumbered,
          sync->copied_back, sync->expunged);
    out_number(cli->out, "wire_bytes", sync->wire_bytes);
    out_position(cli->out, "position", sync->position);
    out_text(cli->out, "aside", sync->aside);
    out_end(cli->out);
}

static int sync_paths(struct cli *cli, const char *from, const char *to, struct sync *sync)
{
    struct store *master;
    struct store *replica;
    int rc = store_open(from, NULL, &master);
    if (rc)
        return rc;
    rc = store_open(to, NULL, &replica);
    if (rc == ERR_OK) {
        rc = content_sweep(store_db(replica), NULL);
        if (rc == ERR_OK)
            rc = sync_stores(master, replica, sync);
        if (rc == ERR_OK)
            print_store(cli, sync);
        free(sync->aside);
        store_close(replica);
    }
    store_close(master);
    return rc;
}

int cmd_sync(struct cli *cli)
{
    struct option options[] = {{"--adopt", false, NULL}, {"--dry-run", false, NULL}};
    int rc = cli_options(cli, options, 2);
    if (rc)
        return rc;
    struct sync sync = {.master_name = cli->words[0],
                        .adopt = options[0].value,
                        .dry_run = options[1].value,
                        .line = print_line,
                        .action = print_action,
                        .arg = cli};
    rc = sync_paths(cli, cli->words[0], cli->words[1], &sync);
    if (rc)
        return rc;
    bool no = sync.waiting || (sync.dry_run && sync.tier != SYNC_NONE);
    return no ? ERR_NO : ERR_OK;
}
