/* Looking back along one mailbox's entries: what they touched, and what things were like before
 * them. For merges, which need parts of a former state; mailbox/view.h gives the whole of one.
 *
 * Everything works inside a transaction. `since` is a modseq: entries above it are undone.
 * ERR_TRIMMED: the journal does not reach back to it.
 */
#ifndef SHIPLOG_MAILBOX_UNDO_H
#define SHIPLOG_MAILBOX_UNDO_H

#include "mailbox/change.h"
#include "mailbox/header.h"
#include "mailbox/store.h"

/* Calls `each` for every entry about this mailbox above `since`, newest first. `change` holds it
 * decoded; both are valid until `each` returns, whose error ends the walk. */
int undo_walk(struct tx *tx, const struct header *header, uint64_t since,
              int (*each)(const struct entry *entry, const struct change *change, void *arg),
              void *arg);

/* The facts as of `since`: state MAILBOX_NONE when it was not made yet. */
int undo_facts(struct tx *tx, const struct header *header, uint64_t since, struct facts *facts);

/* The UIDs of all records that entries above `since` touched, also of those that are gone by now;
 * *mail tells whether anything but name and state changed. */
int undo_uids(struct tx *tx, const struct header *header, uint64_t since, struct uidset *uids,
              bool *mail);

/* Adds the UIDs that entries above `since` made tombstones, also of those that are gone by now.
 * What the journal does not reach is not told, and is no error. */
int undo_expunged(struct tx *tx, const struct header *header, uint64_t since, struct uidset *uids);

/* The flags that one message had. `known` false: no entry since then says so, they are as now. Of
 * a message that was appended since: as appended. `mended`: its first entry since then finds it as
 * it cannot have been here before: damage was mended with another node's record, and what it was
 * here is not to be known. */
struct former_flags {
    uint32_t uid;
    bool known;
    bool mended;
    uint32_t system;
    struct buf keywords; /* canonical set; owned */
};
/* Fills `flags` for the UIDs of `uids`, in their order; uidset_size(uids) items. */
int undo_flags(struct tx *tx, const struct header *header, uint64_t since,
               const struct uidset *uids, struct former_flags *flags);
void undo_flags_free(struct former_flags *flags, size_t count);

/* What became seen and unseen by one user since then, as far as it still is. */
int undo_seen(struct tx *tx, const struct header *header, uint64_t since, struct bytes user,
              struct uidset *added, struct uidset *removed);

#endif
