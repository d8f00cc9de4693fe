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
 * then it gives the repair up as store_give_up_repair() does. */
int store_promote(struct store *store, bool force);
/* A replica that is being repaired takes its mailboxes as they are: some as they were before the
 * repair, some as the upstream had them. A new epoch begins, and the journal with it, which does
 * not tell how they came about; marks say as of what each of them is, so that later merges know
 * what is new in it. It stays a replica. Nothing is done at any other node. */
int store_give_up_repair(struct store *store);
/* Makes this node a replica of `follow` (NULL: of whom it followed, or nobody yet). What it changed
 * by itself is merged at the next contact; `discard`: it is thrown away instead, though kept aside.
 */
int store_demote(struct store *store, const char *follow, bool discard);
/* Changes are refused from here on, until the operator decides. `epoch`: the number of the one that
 * was met; if this node is promoted again, however it comes to that, its epoch is a later one.
 * Nothing is done at a replica. */
int store_fence(struct store *store, enum fence fence, uint32_t epoch);
/* Looks whether the data file is the one that was written last, and opens an epoch if a master
 * cannot be sure of that: before a node shows its position to others. */
int store_recognise(struct store *store);

#endif
