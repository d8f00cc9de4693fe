/* A store with mail in it, for tests that care about stores rather than about mail. A test that
 * uses these links shiplog_mailbox. */
#ifndef SHIPLOG_TESTS_SUPPORT_POST_H
#define SHIPLOG_TESTS_SUPPORT_POST_H

#include "mailbox/mailbox.h"

/* Each returns what the store did, ERR_OK or another; nothing is required. */
/* A new store in a folder of the directory, and opened. */
int post_store(const char *directory, const char *name, enum role role, struct store **store);
int post_create(struct store *store, const char *name);
/* A message of `size` bytes that do not deflate, different for each `number`. */
int post_append(struct store *store, const char *name, unsigned number, size_t size);
/* `guid` gets the message's, unless it is NULL. */
int post_message(struct store *store, const char *name, struct bytes message, struct guid *guid);
int post_flag(struct store *store, const char *name, const char *uids, const char *flag);
int post_expunge(struct store *store, const char *name, const char *uids, bool immediate);
int post_meta(struct store *store, const char *key, const char *value);

/* Behind the program's back: the row of a record goes, or one bit of it flips. */
int post_hurt(struct tx *tx, uint32_t number, uint32_t uid, bool garble);

/* What a node knows of itself, and where its journal ends. */
struct post_facts {
    struct node node;
    struct position position;
    struct position base;
};
int post_facts(struct store *store, struct post_facts *facts);
/* Everything that `from` has and `to` lacks is applied to `to`. */
int post_ship(struct store *from, struct store *to);
/* How many things check_store() finds wrong; each is printed. -1: it could not. */
int post_check(struct store *store);

#endif
