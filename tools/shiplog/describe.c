#include "tools/shiplog/describe.h"

#include <string.h>

void describe_text(struct buf *out, const char *text)
{
    buf_put(out, text, strlen(text));
}

void describe_flags(struct buf *out, uint32_t system, struct bytes keywords)
{
    if (system || keywords.size)
        flags_print(system, keywords, out);
}

void describe_user(struct buf *out, struct bytes user)
{
    if (!user.size)
        return;
    describe_text(out, " as ");
    buf_put(out, user.data, user.size);
}

void describe_meta(struct buf *out, struct bytes key, struct bytes value, struct bytes user)
{
    buf_put(out, key.data, key.size);
    describe_text(out, "=");
    buf_put(out, value.data, value.size);
    describe_user(out, user);
}

static void put_flag(struct bytes name, void *arg)
{
    out_element(arg, name);
}

void describe_array(struct out *out, const char *name, uint32_t system, struct bytes keywords)
{
    out_array(out, name);
    flags_each(system & FLAG_SYSTEM, keywords, put_flag, out);
    out_array_end(out);
}
