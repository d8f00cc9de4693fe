/* Mailbox names: one type, one parser, one printer; no other code looks at a name's text.
 *
 * Text form: `A/B/C` belongs to the store's owner, `~USER[@DOMAIN]/A/B` to another. A name given as
 * `~OWNER/…` with the store's own owner is the same name as without; so a component that begins
 * with
 * `~` can stand first, as in `~OWNER/~A`, and is printed like that. UTF-8 (RFC 3629, checked).
 * INBOX as first component is accepted in any case and kept as "INBOX". Refused: empty components,
 * control characters (C0, DEL, C1), a name of more than 480 encoded bytes, an owner or domain that
 * is empty or holds '/', '@' twice. `%`, `*` and `.` are plain characters.
 */
#ifndef SHIPLOG_MAILBOX_NAME_H
#define SHIPLOG_MAILBOX_NAME_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define NAME_MAX_SIZE 480u  /* encoded; LMDB's keys end at 511 */
#define NAME_TEXT_SIZE 512u /* of a printed name with its NUL */
#define NAME_SUFFIX_MAX 64u /* of name_with_suffix() */

/* A mailbox's name, by value. `encoded` is domain NUL owner NUL component NUL component …: it sorts
 * mailboxes by owner, parents before children, and is the key in the store's table of names. */
struct name {
    uint16_t size;
    uint8_t encoded[NAME_MAX_SIZE];
};

/* Who owns mailboxes: USER or USER@DOMAIN. As text: "user" or "user@domain". */
struct owner {
    char user[128];   /* NUL-terminated, never empty in a valid owner */
    char domain[256]; /* may be empty */
};

int owner_parse(const char *text, struct owner *owner); /* ERR_INVALID with a message */
void owner_print(const struct owner *owner, char out[400]);
bool owner_equal(const struct owner *a, const struct owner *b);

/* ERR_INVALID with a message that quotes what was refused (control bytes escaped). `size` bytes, no
 * NUL needed. */
int name_parse(const char *text, size_t size, const struct owner *store_owner, struct name *name);
/* The text form; without `~owner/` when the mailbox belongs to `store_owner`. */
void name_print(const struct name *name, const struct owner *store_owner, char out[NAME_TEXT_SIZE]);

/* Checks bytes from a disk or a peer against every rule above. ERR_CORRUPT with a message. */
int name_decode(struct bytes encoded, struct name *name);
struct bytes name_encoded(const struct name *name); /* valid as long as the name */

void name_owner(const struct name *name, struct owner *owner);
bool name_equal(const struct name *a, const struct name *b);
size_t name_depth(const struct name *name); /* components, at least 1 */
struct bytes name_component(const struct name *name,
                            size_t index); /* a view; empty beyond the depth */
bool name_is_below(const struct name *name, const struct name *parent); /* a strict descendant */
/* `child` (which must be strictly below `from`) moved below `to`; ERR_INVALID when it becomes too
 * long. For renames of a parent. */
int name_rebase(const struct name *child, const struct name *from, const struct name *to,
                struct name *moved);
/* `name` with `~suffix` added to its last component, shortened where needed; for merges that find a
 * name taken. Where even that has no room, its parent gets the suffix. `suffix` is plain text of 1
 * to NAME_SUFFIX_MAX bytes, without '/' or control characters. */
void name_with_suffix(const struct name *name, const char *suffix, struct name *out);
/* `name` with one more component below it; ERR_INVALID. For Maildir++ subfolders. */
int name_child(const struct name *parent, const char *component, size_t size, struct name *child);

#endif
