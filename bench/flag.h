/* A flag of one message, set or cleared: the commit that bare_flag() of bench/bare.h is like. */
#ifndef SHIPLOG_BENCH_FLAG_H
#define SHIPLOG_BENCH_FLAG_H

#include "base/err.h"
#include "bench/bench.h"
#include "mailbox/mailbox.h"

struct flag {
    const struct name *mailbox;
    uint32_t uid;
    bool add; /* else it is removed */
};

static inline int flag_step(struct tx *tx, void *arg)
{
    const struct flag *flag = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    struct flag_change change = {.mode = flag->add ? FLAGS_ADD : FLAGS_REMOVE,
                                 .flags.system = FLAG_FLAGGED};
    uint64_t changed = 0;
    int rc = mailbox_open(tx, flag->mailbox, NULL, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_add(&uids, flag->uid);
    if (rc == ERR_OK)
        rc = mailbox_flag(mailbox, &uids, &change, &changed);
    uidset_free(&uids);
    bench_require(rc == ERR_OK && changed != 1, "flag", "nothing changed");
    return rc;
}

/* `position`: NULL, or where the commit is. */
static inline void flag_commit(struct store *store, struct flag *flag, struct position *position)
{
    bench_require(store_commit(store, flag_step, flag, position), "flag", err_message());
}

#endif
