/* The socket by which commits of any process wake the agent of a store, and by which there is one
 * agent at most. */
#ifndef SHIPLOG_AGENT_WAKE_H
#define SHIPLOG_AGENT_WAKE_H

#include "base/db.h"

struct wake {
    int lock; /* the directory, opened for the lock that tells a living agent from a dead one */
    int fd;   /* becomes readable when something was committed */
};

int wake_open(struct db *db,
              struct wake *wake); /* ERR_REFUSED: an agent of this store runs; ERR_IO */
/* Whether an agent of this store runs, in whichever process. No, when the system cannot tell. */
bool wake_is_open(struct db *db);
/* What was said, until it is not readable any more. */
struct wake_words {
    bool changed; /* something was committed */
    bool waiting; /* somebody waits for the followers */
};
struct wake_words wake_drain(const struct wake *wake);
void wake_close(struct wake *wake);

#endif
