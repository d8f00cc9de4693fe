/* shiplogd: the agent of any number of stores. */
#include "agent/agent.h"
#include "agent/log.h"
#include "base/err.h"
#include "base/standard.h"

#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STORES_MAX 1024u

struct arguments {
    struct agent_options options;
    struct given {
        const char *path;
        struct agent_store store;
    } given[STORES_MAX];
    size_t count;
};

static void on_fault(int signal)
{
    static const char line[] =
        "shiplogd: fault while reading the store: the data file is damaged or its disk fails\n";
    (void)signal;
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written;
    _exit(5);
}

static const char usage_text[] = "usage: shiplogd [--listen ADDRESS:PORT] --store DIR [--follow "
                                 "ADDRESS:PORT] [--name NAME] [--store DIR …]";

static int usage(void)
{
    return fail(ERR_USAGE, "%s", usage_text);
}

/* What follows a --store is about that store. NULL: not an option, or out of place. */
static const char **find_option(struct arguments *arguments, const char *option)
{
    struct given *last = arguments->count ? &arguments->given[arguments->count - 1] : NULL;
    if (strcmp(option, "--listen") == 0)
        return &arguments->options.listen;
    if (strcmp(option, "--store") == 0 && arguments->count < STORES_MAX)
        return &arguments->given[arguments->count++].path;
    if (strcmp(option, "--follow") == 0 && last)
        return &last->store.follow;
    if (strcmp(option, "--name") == 0 && last)
        return &last->store.name;
    return NULL;
}

static int take_arguments(int argc, char **argv, struct arguments *arguments)
{
    for (int i = 1; i < argc; i += 2) {
        const char **value = find_option(arguments, argv[i]);
        if (!value || *value || i + 1 == argc)
            return usage();
        *value = argv[i + 1];
    }
    bool useful = arguments->options.listen;
    for (size_t i = 0; i < arguments->count; i++)
        useful |= arguments->given[i].store.follow != NULL;
    return arguments->count && useful ? ERR_OK : usage();
}

static int add_stores(struct agent *agent, struct arguments *arguments)
{
    int rc = ERR_OK;
    for (size_t i = 0; i < arguments->count && rc == ERR_OK; i++) {
        struct given *given = &arguments->given[i];
        rc = store_open(given->path, NULL, &given->store.store);
        if (rc == ERR_OK)
            rc = agent_add(agent, &given->store);
    }
    return rc;
}

static void say_ready(const struct agent *agent, const struct arguments *arguments)
{
    if (*agent_address(agent))
        printf("listening %s\n", agent_address(agent));
    for (size_t i = 0; i < arguments->count; i++)
        if (!*agent_address(agent) && arguments->given[i].store.follow)
            printf("following %s\n", arguments->given[i].store.follow);
    fflush(stdout);
}

static int run(struct arguments *arguments)
{
    struct agent *agent;
    int rc = agent_open(&arguments->options, &agent);
    if (rc)
        return rc;
    rc = add_stores(agent, arguments);
    if (rc == ERR_OK) {
        say_ready(agent, arguments);
        agent_run(agent);
    }
    agent_close(agent);
    for (size_t i = 0; i < arguments->count; i++)
        store_close(arguments->given[i].store.store);
    return rc;
}

/* Every store and every connection takes some. */
static void allow_many_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct arguments arguments;
    struct sigaction fault = {.sa_handler = on_fault};
    standard_files_hold();
    if (argc == 2 && strcmp(argv[1], "--help") == 0)
        return puts(usage_text) < 0 || fflush(stdout) != 0 ? err_exit_code(ERR_IO) : 0;
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    signal(SIGPIPE, SIG_IGN);
    allow_many_files();
    /* Work of one store may wait for its disk or for another writer: that of others goes on. */
    setenv("UV_THREADPOOL_SIZE", "16", 0);
    /* Else each of these threads keeps memory for itself. */
    mallopt(M_ARENA_MAX, 2);
    int rc = log_level(getenv("SHIPLOG_LOG"));
    if (rc == ERR_OK)
        rc = take_arguments(argc, argv, &arguments);
    if (rc == ERR_OK)
        rc = run(&arguments);
    if (rc)
        fprintf(stderr, "shiplogd: %s\n", err_message());
    return err_exit_code(rc);
}
