/* How commands say what was and what is: an array of texts, which are flags, names, values, facts.
 *
 * Empty: it was there, without any. Nothing at all (null): it was not there, or there is no
 * telling.
 */
#ifndef SHIPLOG_TOOLS_DESCRIBE_H
#define SHIPLOG_TOOLS_DESCRIBE_H

#include "mailbox/values.h"
#include "tools/shiplog/cli.h"

struct described {
    bool there;
    struct buf texts; /* u32 size and bytes, one behind another */
};

void describe_nothing(struct described *it); /* what it begins with, too, when it is zero */
void describe_free(struct described *it);
void describe_print(struct out *out, const char *name, const struct described *it);

/* Each adds to the array. */
void describe_text(struct described *it, const char *text);
void describe_number(struct described *it, const char *fact, uint64_t value); /* FACT=VALUE */
void describe_flags(struct described *it, uint32_t system, struct bytes keywords);
/* What a user other than the mailbox's owner has has " as USER" behind it. */
void describe_seen(struct described *it, bool seen, struct bytes user);
void describe_meta(struct described *it, struct bytes key, struct bytes value, struct bytes user);

/* A field with flags: an array. */
void describe_array(struct out *out, const char *name, uint32_t system, struct bytes keywords);

#endif
