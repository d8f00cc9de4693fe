/* shiplog: the command line. Finds the command and the store, runs it, turns its result into a line
 * and an exit code. */
#include "base/err.h"
#include "base/standard.h"
#include "tools/shiplog/cli.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* sysexits.h, for a mail server's pipe: what may work later is tried again, what never will is
 * bounced. */
enum { MDA_USAGE = 64, MDA_NO_USER = 67, MDA_TRY_AGAIN = 75 };

static int fault_code = 5;

/* The data file is mapped: a disk that fails, or a file that somebody cuts, shows as a signal. */
static void on_fault(int signal)
{
    static const char line[] =
        "shiplog: fault while reading the store: the data file is damaged or its disk fails\n";
    (void)signal;
    ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
    (void)written; /* nobody is left to be told */
    _exit(fault_code);
}

static void catch_signals(bool mda)
{
    struct sigaction fault = {.sa_handler = on_fault};
    sigaction(SIGBUS, &fault, NULL);
    sigaction(SIGSEGV, &fault, NULL);
    sigaction(SIGFPE, &fault, NULL);
    fault_code = mda ? MDA_TRY_AGAIN : fault_code;
    /* A reader that went away ends us quietly, as it does other filters; but a mail server that
     * does not read the UID would deliver again. */
    signal(SIGPIPE, mda ? SIG_IGN : SIG_DFL);
}

static void print_usage(FILE *to)
{
    fputs("usage: shiplog [-s STORE] [--json] COMMAND ...\n", to);
    for (size_t i = 0; i < command_count; i++)
        fprintf(to, "  %s\n", commands[i].usage);
    fputs("MAILBOX may be id:HEX; WHEN is a modseq, a time or an age; see shiplog(1)\n", to);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    return NULL;
}

/* The words that belong to shiplog itself are taken out. `--json` may stand anywhere. */
static int take_words(struct cli *cli, int argc, char **argv)
{
    int kept = 0;
    cli->store_path = getenv("SHIPLOG_STORE");
    bool ended = false; /* by a `--` */
    for (int i = 1; i < argc; i++) {
        ended = ended || (cli->command && strcmp(argv[i], "--") == 0);
        if (!ended && strcmp(argv[i], "--json") == 0) {
            cli->json = true;
        } else if (!cli->command && strcmp(argv[i], "-s") == 0) {
            if (++i == argc)
                return fail(ERR_USAGE, "-s needs a store");
            cli->store_path = argv[i];
        } else if (!cli->command && argv[i][0] == '-') {
            return fail(ERR_USAGE, "%s: unknown option", argv[i]);
        } else if (!cli->command) {
            cli->command = argv[i];
        } else {
            argv[kept++] = argv[i];
        }
    }
    cli->words = argv;
    cli->count = kept;
    return cli->command ? ERR_OK : fail(ERR_USAGE, "no command (shiplog --help lists them)");
}

static int get_owner(struct tx *tx, void *arg)
{
    *(struct owner *)arg = tx_node(tx)->owner;
    return ERR_OK;
}

static int run(struct cli *cli)
{
    const struct command *command = find_command(cli->command);
    if (!command)
        return fail(ERR_USAGE, "%s: no such command (shiplog --help lists them)", cli->command);
    if (cli->count == 1 && strcmp(cli->words[0], "--help") == 0) {
        printf("usage: shiplog [-s STORE] [--json] %s\n", command->usage);
        return ERR_OK;
    }
    if (!command->no_path && (!cli->store_path || !*cli->store_path))
        return fail(ERR_USAGE, "no store: give -s STORE or set SHIPLOG_STORE");
    int rc = command->no_store ? ERR_OK : store_open(cli->store_path, NULL, &cli->store);
    if (rc == ERR_OK && cli->store)
        rc = store_read(cli->store, get_owner, &cli->owner);
    if (rc == ERR_OK)
        rc = command->run(cli);
    return rc;
}

static int exit_code(const struct cli *cli, int rc)
{
    int code = err_exit_code(rc);
    if (!cli->mda || code == 0)
        return code;
    if (cli->no_mailbox)
        return MDA_NO_USER;
    return code == 2 ? MDA_USAGE : MDA_TRY_AGAIN;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

int main(int argc, char **argv)
{
    standard_files_hold();
    struct cli cli = {.mda = has_word(argc, argv, "--mda")};
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        print_usage(stdout);
        return 0;
    }
    catch_signals(cli.mda);
    int rc = take_words(&cli, argc, argv);
    cli.out = out_open(cli.json);
    if (rc == ERR_OK)
        rc = run(&cli);
    store_close(cli.store);
    int written = out_close(cli.out);
    if ((rc == ERR_OK || rc == ERR_NO) && written && !cli.mda)
        rc = written;
    if (rc && rc != ERR_NO)
        fprintf(stderr, "shiplog: %s\n", *err_message() ? err_message() : err_text(rc));
    return exit_code(&cli, rc);
}
