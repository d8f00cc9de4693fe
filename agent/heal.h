/* Content that damage took here (mailbox/lacking.h), fetched from the other end of a connection. It
 * is no change of mail: no entry, no digest tells of it.
 */
#ifndef SHIPLOG_AGENT_HEAL_H
#define SHIPLOG_AGENT_HEAL_H

#include "agent/ask.h"

struct healed {
    uint64_t lacking; /* pieces of content that were asked for */
    uint64_t found;   /* of these; each is what its GUID says, and in the store */
};
/* Asks once for all that is lacking. What the other end has not got stays marked. Blocks while it
 * answers, without a lock; cut off anywhere, what came before is kept. */
int heal(struct store *store, const struct asker *other, struct healed *healed);

#endif
