/* serve --stdio: the master's end of a pipe, for `sync ssh:HOST:PATH`. The agent knows sockets
 * alone, so two threads carry the bytes between the pipes and one end of a socket pair. */
#include "agent/agent.h"
#include "agent/log.h"
#include "base/err.h"
#include "tools/shiplog/cli.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

/* Copies bytes one way until they end. */
struct pump {
    int from;
    int to;
};

static void *pump(void *arg)
{
    const struct pump *work = arg;
    char bytes[65536];
    ssize_t got;
    while ((got = read(work->from, bytes, sizeof bytes)) > 0 || (got < 0 && errno == EINTR)) {
        for (ssize_t at = 0, put = 0; at < got; at += put) {
            put = write(work->to, bytes + at, (size_t)(got - at));
            if (put < 0 && errno != EINTR)
                return NULL;
            put = put < 0 ? 0 : put;
        }
    }
    shutdown(work->to, SHUT_WR);
    return NULL;
}

static int serve_stdio(struct cli *cli)
{
    const struct agent_options nowhere = {0};
    struct agent_store options = {.store = cli->store, .beside = true};
    struct agent *agent;
    int ends[2];
    pthread_t in, out;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
        return fail_errno("serve");
    struct pump inward = {.from = STDIN_FILENO, .to = ends[1]};
    struct pump outward = {.from = ends[1], .to = STDOUT_FILENO};
    signal(SIGPIPE, SIG_IGN);
    log_quiet();
    int rc = agent_open(&nowhere, &agent);
    if (rc == ERR_OK)
        rc = agent_add(agent, &options);
    if (rc == ERR_OK)
        rc = agent_serve(agent, ends[0]);
    if (rc == ERR_OK && (pthread_create(&in, NULL, pump, &inward) != 0 ||
                         pthread_create(&out, NULL, pump, &outward) != 0))
        rc = fail(ERR_IO, "serve: no thread");
    if (rc)
        return rc;
    agent_run(agent);
    agent_close(agent);
    pthread_join(out, NULL);
    return ERR_OK;
}

int cmd_serve(struct cli *cli)
{
    struct option options[] = {{"--stdio", false, NULL}};
    int rc = cli_options(cli, options, 1);
    if (rc == ERR_OK && !options[0].value)
        rc = cli_usage(cli);
    return rc ? rc : serve_stdio(cli);
}
