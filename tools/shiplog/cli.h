/* What the commands share: their words, the store, names and points in time as people write them.
 */
#ifndef SHIPLOG_TOOLS_CLI_H
#define SHIPLOG_TOOLS_CLI_H

#include "mailbox/mailbox.h"
#include "mailbox/view.h"
#include "mailbox/when.h"
#include "tools/shiplog/out.h"

#include <stdbool.h>

#define WORDS_MAX 4096

/* An option that a command knows: `value` receives its argument, or its own name when it takes
 * none. NULL: not given. */
struct option {
    const char *name; /* with its dashes */
    bool takes_value;
    const char *value;
};

struct cli {
    const char *store_path; /* -s or SHIPLOG_STORE; NULL: none */
    bool json;
    bool mda; /* exit codes as sysexits.h has them; nothing after the commit counts as a failure */
    bool no_mailbox; /* with it: the mailbox is what was not found */
    const char *command;
    char **words; /* behind the command, options taken out */
    int count;
    struct store *store;
    struct owner owner; /* of the store */
    struct out *out;
};

/* A command: its name, what it takes, how it runs. Its result is an enum err; ERR_NO is exit code 1
 * without a message. */
struct command {
    const char *name;
    const char *usage;
    int least; /* words behind the name */
    int most;
    int (*run)(struct cli *cli);
    bool uidset;   /* its second word is a UIDSET: behind it only words with -- are options */
    bool no_store; /* does not open the store itself */
    bool no_path;  /* and none is named before it */
};
extern const struct command commands[];
extern const size_t command_count;

/* Takes this command's options out of its words, up to a `--`. ERR_USAGE for one that it does not
 * know, or when too few or too many words are left. */
int cli_options(struct cli *cli, struct option *options, size_t count);
int cli_usage(const struct cli *cli);

bool cli_parse_id(const char *text, uint64_t *id);                        /* whether it is id:HEX */
int cli_name(const struct cli *cli, const char *text, struct name *name); /* not id:HEX */
/* What is written as a name, or the name of the live mailbox id:HEX. ERR_NOTFOUND. */
int cli_name_of(struct tx *tx, const struct cli *cli, const char *text, struct name *name);
/* A mailbox by name or id:HEX as of a modseq (0: now). ERR_NOTFOUND. */
int cli_mailbox_id(struct cli *cli, const char *text, uint64_t modseq, uint64_t *id);
/* In a transaction: a live mailbox by name, or any by id:HEX, as a user (NULL: its owner). */
int cli_open(struct tx *tx, const struct cli *cli, const char *text, const char *user,
             struct mailbox **mailbox);
void cli_print_name(const struct cli *cli, const struct name *name, char out[NAME_TEXT_SIZE]);
/* A view of the mailbox that `text` names, as of `at` (NULL: now). *modseq (may be NULL) is set to
 * 0 for now. */
int cli_view(struct cli *cli, const char *text, const char *at, struct view **view);
/* Before it is said that something is not in a mailbox (NULL: not among the store's values):
 * ERR_NOTFOUND in `rc` becomes ERR_CORRUPT if what should be there is damaged. Others pass. */
int cli_prove(struct cli *cli, const char *mailbox, int rc);
int cli_when(struct cli *cli, const char *text, uint64_t *modseq);
int cli_number(const char *text, uint64_t most, uint64_t *number); /* ERR_INVALID */
int cli_uid(const char *text, uint32_t *uid);                      /* likewise; 0 is none */
/* Prints something that a check found wrong; `arg` is the cli. */
void cli_report(void *arg, const char *where, const char *what);

/* The commands, one function each. */
int cmd_init(struct cli *cli);
int cmd_create(struct cli *cli);
int cmd_rename(struct cli *cli);
int cmd_delete(struct cli *cli);
int cmd_mailboxes(struct cli *cli);
int cmd_append(struct cli *cli);
int cmd_import(struct cli *cli);
int cmd_export(struct cli *cli);
int cmd_flags(struct cli *cli);
int cmd_expunge(struct cli *cli);
int cmd_copy_messages(struct cli *cli);
int cmd_move(struct cli *cli);
int cmd_meta(struct cli *cli);
int cmd_expire(struct cli *cli);
int cmd_list(struct cli *cli);
int cmd_cat(struct cli *cli);
int cmd_log(struct cli *cli);
int cmd_diff(struct cli *cli);
int cmd_restore(struct cli *cli);
int cmd_digest(struct cli *cli);
int cmd_check(struct cli *cli);
int cmd_status(struct cli *cli);
int cmd_journal(struct cli *cli);
int cmd_slots(struct cli *cli);
int cmd_promote(struct cli *cli);
int cmd_demote(struct cli *cli);
int cmd_sync(struct cli *cli);
int cmd_serve(struct cli *cli);
int cmd_wait(struct cli *cli);
int cmd_compact(struct cli *cli);
int cmd_copy(struct cli *cli);

#endif
