/* A mailbox as it is or as it was: a copy in memory, made in one short transaction, taken back by
 * undoing journal entries. On a long way back counts and digest are made again only where it ends,
 * and compared with those that the journal recorded there.
 *
 * Threads: a view is used by one at a time. It holds no transaction between calls.
 */
#ifndef SHIPLOG_MAILBOX_VIEW_H
#define SHIPLOG_MAILBOX_VIEW_H

#include "mailbox/mailbox.h"

struct view;

/* The mailbox with this id as it is now. ERR_NOTFOUND. */
int view_open(struct store *store, uint64_t id, struct view **view);
/* The mailbox that bore this name after the entry `modseq` (a whole commit's last, not 0), as it
 * was then. ERR_NOTFOUND, and as view_back(). */
int view_open_at(struct store *store, const struct name *name, uint64_t modseq, struct view **view);
/* Takes the view back to how things stood after the entry `modseq` (a whole commit's last).
 * ERR_TRIMMED; ERR_REFUSED: the mailbox is being repaired; ERR_CORRUPT when what comes out does not
 * have the digest that the journal recorded. After an error the view is good for nothing but being
 * closed. */
int view_back(struct view *view, uint64_t modseq);
/* Takes it back as far as entries are held, and compares its digest with what each of them says.
 * ERR_CORRUPT. */
int view_prove_history(struct view *view);
/* Whether the mailbox's records and values are those that its digest was made of: ERR_CORRUPT when
 * not. For answers that say that something is not there. */
int view_prove(struct store *store, uint64_t id);
/* The same for the store's own values. */
int view_prove_values(struct store *store);
void view_close(struct view *view); /* NULL is fine */

/* As of the view's point: facts, counts and digest (`header`), state MAILBOX_NONE when it was not
 * made yet. Valid until the view moves. */
const struct header *view_header(const struct view *view);
/* Live records in UID order, \Seen as `user` (NULL: the owner) saw it. The array belongs to the
 * view until it moves or is asked again. */
int view_records(struct view *view, const char *user, const struct record **records, size_t *count);
/* What other users have seen, and the mailbox's meta values, one by one: false when there are no
 * more. Meanings are values.h's; of a value only state and text are given. What they show belongs
 * to the view until it moves. */
bool view_seen(const struct view *view, size_t at, struct bytes *user, const struct uidset **seen);
bool view_meta(const struct view *view, size_t at, struct bytes *user, struct bytes *key,
               struct versioned *value);
/* Names of a record's keywords, canonical; valid until the view is closed. */
int view_keywords(struct view *view, uint64_t hash, struct bytes *keywords);

/* All mailboxes that were live then, in the order of their names, as headers; free(*headers).
 * `modseq` 0: now. */
int view_mailboxes(struct store *store, uint64_t modseq, struct header **headers, size_t *count);
/* The id of the mailbox that bore this name then. `modseq` 0: now. ERR_NOTFOUND; ERR_TRIMMED. */
int view_mailbox_id(struct store *store, const struct name *name, uint64_t modseq, uint64_t *id);

#endif
