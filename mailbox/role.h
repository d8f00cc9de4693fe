/* Who may write: a node becomes the master, becomes a replica, or is fenced.
 *
 * There is no consensus here: a master that is cut off goes on accepting writes until it learns of
 * a later epoch.
 */
#ifndef SHIPLOG_MAILBOX_ROLE_H
#define SHIPLOG_MAILBOX_ROLE_H

#include "mailbox/store.h"

/* Makes this node the master: a new epoch begins. Nothing is done at a master that is not fenced.
 * ERR_REFUSED: a replica that has met no master; one that is being repaired, unless `force`, and
 * then its journal begins anew: it does not tell how the mailboxes came to be as they are. */
int store_promote(struct store *store, bool force);
/* Makes this node a replica of `follow` (NULL: of whom it followed, or nobody yet). What it changed
 * by itself is merged at the next contact; `discard`: it is thrown away instead, though kept aside.
 */
int store_demote(struct store *store, const char *follow, bool discard);
/* Changes are refused from here on, until the operator decides. Nothing is done at a replica. */
int store_fence(struct store *store, enum fence fence);
/* Looks whether the data file is the one that was written last, and opens an epoch if a master
 * cannot be sure of that: before a node shows its position to others. */
int store_recognise(struct store *store);

#endif
