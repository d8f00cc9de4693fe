/* shiplogd: the agent of one store. */
#include "agent/agent.h"
#include "base/err.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void on_fault(int signal)
{
    static const char line[] =
        "shiplogd: fault while reading the store: the data file is damaged or its disk fails\n";
    (void)signal;
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written;
    _exit(5);
}

static int usage(void)
{
    return fail(ERR_USAGE, "usage: shiplogd --store DIR [--listen ADDRESS:PORT] [--follow "
                           "ADDRESS:PORT] [--name NAME]");
}

static int take_options(int argc, char **argv, const char **store, struct agent_options *options)
{
    const struct {
        const char *name;
        const char **value;
    } known[] = {{"--store", store},
                 {"--listen", &options->listen},
                 {"--follow", &options->follow},
                 {"--name", &options->name}};
    for (int i = 1; i < argc; i += 2) {
        size_t at = 0;
        while (at < 4 && strcmp(known[at].name, argv[i]) != 0)
            at++;
        if (at == 4 || i + 1 == argc)
            return usage();
        *known[at].value = argv[i + 1];
    }
    return *store && (options->listen || options->follow) ? ERR_OK : usage();
}

static int run(int argc, char **argv)
{
    struct agent_options options = {0};
    struct agent *agent;
    const char *path = NULL;
    int rc = take_options(argc, argv, &path, &options);
    if (rc == ERR_OK)
        rc = store_open(path, NULL, &options.store);
    if (rc)
        return rc;
    rc = agent_open(&options, &agent);
    if (rc == ERR_OK) {
        if (*agent_address(agent))
            printf("listening %s\n", agent_address(agent));
        else
            printf("following %s\n", options.follow);
        fflush(stdout);
        rc = agent_run(agent);
        agent_close(agent);
    }
    store_close(options.store);
    return rc;
}

int main(int argc, char **argv)
{
    struct sigaction fault = {.sa_handler = on_fault};
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGSEGV, &fault, NULL);
    signal(SIGPIPE, SIG_IGN);
    int rc = run(argc, argv);
    if (rc)
        fprintf(stderr, "shiplogd: %s\n", err_message());
    return err_exit_code(rc);
}
