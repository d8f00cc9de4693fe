/* Content that one end of a repair lacks, fetched from the other before anything refers to it. */
#ifndef SHIPLOG_AGENT_FETCH_H
#define SHIPLOG_AGENT_FETCH_H

#include "agent/ask.h"

/* Finished drafts of the content of `other`'s live records that this store lacks; what the other
 * end has not got either is left out. A few megabytes wait in memory, more is staged. The array and
 * the drafts are the caller's: fetch_close(); after an error there are none. *bytes (may be NULL)
 * is increased by what came over. */
int fetch_content(struct store *store, const struct asker *asker, const struct merge_other *other,
                  struct draft ***drafts, size_t *count, uint64_t *bytes);
void fetch_close(struct draft **drafts, size_t count); /* NULL, 0 is fine */

#endif
