/* sync: one pass from a master to a replica. */
#include "agent/agent.h"
#include "agent/log.h"
#include "agent/sync.h"
#include "agent/wake.h"
#include "base/err.h"
#include "mailbox/draft.h"
#include "tools/shiplog/cli.h"
#include "tools/shiplog/place.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_SIZE 512u /* bytes of what ssh says that are told */

/* Every line has the same fields: what is not NULL or 0 in it is meant. */
struct line {
    const char *mailbox;
    enum sync_tier tier;
    const char *reason;
    uint64_t sent;
    uint64_t renumbered;
    uint64_t copied_back;
    uint64_t expunged;
    uint64_t wire_bytes;
    const struct position *position;
    const char *aside;
    /* of a dry run */
    const char *action;
    uint32_t uid;
    uint32_t other;
};

static void print(const struct cli *cli, bool dry_run, const struct line *line)
{
    struct out *out = cli->out;
    out_text(out, "mailbox", line->mailbox);
    out_text(out, "tier", sync_tier_name(line->tier));
    out_text(out, "reason", line->reason);
    out_number(out, "sent", line->sent);
    out_number(out, "renumbered", line->renumbered);
    out_number(out, "copied_back", line->copied_back);
    out_number(out, "expunged", line->expunged);
    out_number(out, "wire_bytes", line->wire_bytes);
    if (line->position)
        out_position(out, "position", *line->position);
    else
        out_text(out, "position", NULL);
    out_text(out, "aside", line->aside);
    if (dry_run) {
        out_text(out, "action", line->action);
        out_number(out, "uid", line->uid);
        out_number(out, "other", line->other);
    }
    out_end(out);
}

static void print_line(void *arg, const struct sync_line *line)
{
    const struct line found = {.mailbox = line->mailbox,
                               .tier = SYNC_MERGE,
                               .reason = line->reason,
                               .sent = line->sent,
                               .renumbered = line->renumbered,
                               .copied_back = line->copied_back,
                               .expunged = line->expunged};
    print(arg, false, &found);
}

static void print_action(void *arg, const char *mailbox, const char *what, uint32_t uid,
                         uint32_t other)
{
    const struct line line = {
        .mailbox = mailbox, .tier = SYNC_MERGE, .action = what, .uid = uid, .other = other};
    print(arg, true, &line);
}

static void print_store(struct cli *cli, const struct sync *sync)
{
    const struct line line = {.mailbox = "-",
                              .tier = sync->tier,
                              .reason = sync->reason,
                              .sent = sync->sent,
                              .renumbered = sync->renumbered,
                              .copied_back = sync->copied_back,
                              .expunged = sync->expunged,
                              .wire_bytes = sync->wire_bytes,
                              .position = &sync->position,
                              .aside = sync->aside};
    print(cli, sync->dry_run, &line);
    if (sync->more_actions)
        fputs("shiplog: sync: there are more actions than were told\n", stderr);
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
        struct wake wake;
        rc = wake_open(store_db(replica), &wake); /* an agent that follows would be in the way */
        if (rc == ERR_OK) {
            rc = draft_sweep(store_db(replica), NULL);
            if (rc == ERR_OK)
                rc = sync_stores(master, replica, sync);
            if (rc == ERR_OK)
                print_store(cli, sync);
            free(sync->aside);
            wake_close(&wake);
        }
        store_close(replica);
    }
    store_close(master);
    return rc;
}

/* The master's end of a pipe, on another machine. */
struct remote {
    pid_t child; /* 0: none */
    int fd;      /* the pipe */
    FILE *said;  /* what it wrote on standard error: an error of ours is one line */
};

static void run_ssh(const struct place *place, int pipe, int said)
{
    const char *program = getenv("SHIPLOG_SSH");
    if (!program)
        program = "ssh";
    dup2(pipe, STDIN_FILENO);
    dup2(pipe, STDOUT_FILENO);
    dup2(said, STDERR_FILENO);
    execlp(program, "ssh", place->host, "shiplog", "-s", place->path, "serve", "--stdio",
           (char *)NULL);
    dprintf(STDERR_FILENO, "%s: %s\n", program, strerror(errno));
    _exit(127);
}

static int start_ssh(const struct place *place, struct remote *remote)
{
    int ends[2];
    remote->said = tmpfile();
    if (!remote->said || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return fail_errno("ssh %s", place->host);
    remote->child = fork();
    if (remote->child == 0)
        run_ssh(place, ends[1], fileno(remote->said));
    close(ends[1]);
    remote->fd = ends[0];
    if (remote->child > 0)
        return ERR_OK;
    remote->child = 0;
    close(ends[0]);
    return fail_errno("ssh %s", place->host);
}

/* The last line that says anything. */
static void last_line(FILE *said, char line[LINE_SIZE])
{
    char text[LINE_SIZE];
    while (fgets(text, sizeof text, said)) {
        text[strcspn(text, "\r\n")] = '\0';
        if (text[0])
            snprintf(line, LINE_SIZE, "%s", text);
    }
}

static void pass_on(FILE *said)
{
    int c;
    while ((c = getc(said)) != EOF)
        putc(c, stderr);
}

/* What it said belongs to our error, if it is why there is none but ours; else people see it. */
static int end_ssh(struct remote *remote, int rc)
{
    char ours[LINE_SIZE];
    char theirs[LINE_SIZE] = "";
    if (remote->child)
        (void)waitpid(remote->child, NULL, 0);
    if (!remote->said)
        return rc;
    snprintf(ours, sizeof ours, "%s", rc ? err_message() : "");
    rewind(remote->said);
    if (rc == ERR_OK)
        pass_on(remote->said);
    else
        last_line(remote->said, theirs);
    fclose(remote->said);
    return rc == ERR_PEER && theirs[0] ? fail(rc, "%s: %s", ours, theirs) : rc;
}

static int sync_over(struct agent *agent, struct agent_store *options, struct sync *sync)
{
    int rc = agent_add(agent, options);
    if (rc)
        return rc;
    agent_run(agent);
    if (sync->done)
        return ERR_OK;
    return fail(sync->refused ? ERR_REFUSED : ERR_PEER, "%s: %s", sync->master_name, sync->trouble);
}

/* From a master that another process has: this one is the follower's end of a connection. */
static int sync_connection(const struct place *from, const char *to, struct sync *sync)
{
    const struct agent_options nowhere = {0};
    struct agent *agent;
    struct remote remote = {0};
    struct agent_store options = {.once = sync, .wanted_store = from->store};
    signal(SIGPIPE, SIG_IGN);
    log_quiet();
    int rc = store_open(to, NULL, &options.store);
    if (rc)
        return rc;
    rc = agent_open(&nowhere, &agent);
    if (rc == ERR_OK && from->kind == PLACE_SSH) {
        options.follow_by_fd = true;
        options.name = sync->master_name;
        rc = start_ssh(from, &remote);
        options.follow_fd = remote.fd;
    } else if (rc == ERR_OK) {
        options.follow = from->address;
    }
    if (rc == ERR_OK)
        rc = sync_over(agent, &options, sync);
    agent_close(agent);
    store_close(options.store);
    return end_ssh(&remote, rc);
}

static int sync_places(struct cli *cli, const char *from, const char *to, struct sync *sync)
{
    struct place source, target;
    int rc = place_parse(from, &source);
    if (rc == ERR_OK)
        rc = place_parse(to, &target);
    if (rc)
        return rc;
    if (target.kind != PLACE_PATH)
        return fail(ERR_REFUSED,
                    "%s: the replica must be a path: run the command on the replica's machine, or "
                    "let its shiplogd follow",
                    to);
    if (source.kind == PLACE_PATH)
        return sync_paths(cli, from, to, sync);
    rc = sync_connection(&source, to, sync);
    if (rc == ERR_OK)
        print_store(cli, sync);
    free(sync->aside);
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
    rc = sync_places(cli, cli->words[0], cli->words[1], &sync);
    if (rc)
        return rc;
    bool no = sync.waiting || (sync.dry_run && sync.tier != SYNC_NONE);
    return no ? ERR_NO : ERR_OK;
}
