/* The socket by which commits of any process wake the agent of a store, and by which there is one
 * agent at most. */
#ifndef SHIPLOG_AGENT_WAKE_H
#define SHIPLOG_AGENT_WAKE_H

#include "base/db.h"

/* ERR_REFUSED: an agent of this store runs already. `fd` becomes readable when something was
 * committed. */
int wake_open(struct db *db, int *fd);
/* Whether an agent of this store runs, in whichever process. No, when the system cannot tell. */
bool wake_is_open(struct db *db);
void wake_drain(int fd); /* takes what is there, so that it is not readable any more */
void wake_close(struct db *db, int fd);

#endif
