/* Users of a mail store who do at random whatever the store lets them do. */
#ifndef SHIPLOG_TESTS_SUPPORT_USERS_H
#define SHIPLOG_TESTS_SUPPORT_USERS_H

#include "tests/support/oracle.h"
#include "tests/support/scratch.h"
#include "tests/support/seeds.h"

struct users {
    struct oracle *oracle;
    const struct seed_run *run;
    uint64_t next_message; /* internal dates, by which messages are told apart */
    unsigned boxes_most;   /* mailboxes that they make at most */
};

/* One change at a node that takes changes. It is looked at afterwards. */
void users_change(struct users *users, unsigned node, struct dice *dice);

#endif
