/* How commands say what was and what is: flags, values and names, as text. */
#ifndef SHIPLOG_TOOLS_DESCRIBE_H
#define SHIPLOG_TOOLS_DESCRIBE_H

#include "mailbox/values.h"
#include "tools/shiplog/cli.h"

/* Each appends to `out`; nothing for what is not there. */
void describe_text(struct buf *out, const char *text);
void describe_flags(struct buf *out, uint32_t system, struct bytes keywords);
void describe_user(struct buf *out, struct bytes user); /* " as USER" */
void describe_meta(struct buf *out, struct bytes key, struct bytes value, struct bytes user);

/* A field with flags: an array. */
void describe_array(struct out *out, const char *name, uint32_t system, struct bytes keywords);

#endif
