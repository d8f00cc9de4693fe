/* Asking what users have seen, and about meta values. */
#include "agent/asking.h"

#include "base/array.h"
#include "base/err.h"

#include <string.h>

static int buf_keep(struct buf *to, struct bytes from)
{
    buf_put(to, from.data, from.size);
    return to->failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int read_set(struct reader *in, struct uidset *set)
{
    int rc = uidset_decode(set, in, UINT32_MAX);
    return rc == ERR_CORRUPT ? ask_malformed("a set of UIDs") : rc;
}

static int read_seen(struct reader *in, struct merge_other *other)
{
    struct merge_seen *all =
        array_room(other->seen, other->seen_count, &other->seen_capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    other->seen = all;
    struct merge_seen *seen = &all[other->seen_count++];
    *seen = (struct merge_seen){0};
    struct bytes user = read_bytes(in);
    seen->version.modseq = read_u64(in);
    seen->version.changed = (int64_t)read_u64(in);
    if (in->failed || user.size == 0 || user.size > USER_MAX_SIZE ||
        memchr(user.data, 0, user.size))
        return ask_malformed("a user");
    int rc = buf_keep(&seen->user, user);
    if (rc == ERR_OK)
        rc = read_set(in, &seen->seen);
    uint8_t known = read_u8(in);
    seen->known = known == 1;
    if (rc == ERR_OK && seen->known)
        rc = read_set(in, &seen->added);
    if (rc == ERR_OK && seen->known)
        rc = read_set(in, &seen->removed);
    return rc == ERR_OK && (in->failed || known > 1) ? ask_malformed("a seen set") : rc;
}

static int read_meta(struct reader *in, struct merge_other *other)
{
    struct merge_meta *all =
        array_room(other->metas, other->meta_count, &other->meta_capacity, sizeof *all);
    if (!all)
        return ERR_NOMEM;
    other->metas = all;
    struct merge_meta *meta = &all[other->meta_count++];
    *meta = (struct merge_meta){0};
    struct bytes user = read_bytes(in);
    struct bytes key = read_bytes(in);
    uint8_t state = read_u8(in);
    meta->version.modseq = read_u64(in);
    meta->version.changed = (int64_t)read_u64(in);
    struct bytes value = read_bytes(in);
    if (in->failed || key.size == 0 || user.size + key.size > USER_MAX_SIZE ||
        (user.size && memchr(user.data, 0, user.size)) || memchr(key.data, 0, key.size) ||
        (state != VALUE_SET && state != VALUE_REMOVED) || value.size > META_VALUE_MAX_SIZE)
        return ask_malformed("a meta value");
    meta->state = (enum value_state)state;
    int rc = buf_keep(&meta->user, user);
    if (rc == ERR_OK)
        rc = buf_keep(&meta->key, key);
    return rc ? rc : buf_keep(&meta->value, value);
}

/* Each page begins behind the one before: seen sets come first, then meta values. */
static bool is_behind(struct bytes next, struct bytes row)
{
    if (row.size == 0 || next.data[0] != row.data[0])
        return row.size == 0 || row.data[0] == 's';
    int order = memcmp(next.data, row.data, next.size < row.size ? next.size : row.size);
    return order ? order > 0 : next.size > row.size;
}

static int read_values(struct reader *in, uint64_t mailbox, struct merge_other *other,
                       struct buf *row)
{
    uint64_t count = read_varint(in);
    int rc = ERR_OK;
    for (uint64_t i = 0; i < count && rc == ERR_OK; i++) {
        uint8_t kind = read_u8(in);
        if (in->failed || kind > 1 || (kind == 0 && mailbox == 0))
            return ask_malformed("a value");
        rc = kind ? read_meta(in, other) : read_seen(in, other);
    }
    if (rc)
        return rc;
    struct bytes next = read_bytes(in);
    if (!reader_done(in) || (next.size && (count == 0 || !is_behind(next, buf_view(row)))))
        return ask_malformed("a page of values");
    buf_reset(row);
    rc = buf_keep(row, next);
    return rc ? rc : next.size ? ERR_OK : ERR_END;
}

int ask_values(const struct asker *asker, uint64_t mailbox, uint64_t since, uint64_t base,
               struct merge_other *other, struct values_as_of *as_of)
{
    struct values_as_of now = {0};
    struct buf answer = {0};
    struct buf row = {0};
    uint64_t changed = 0, first_changed = 0;
    bool any = false;
    int rc = ERR_OK;
    while (rc == ERR_OK) {
        struct buf question = ask_begin(ASK_VALUES);
        struct reader in;
        buf_u64(&question, mailbox);
        buf_u64(&question, since);
        buf_u64(&question, base);
        buf_bytes(&question, buf_view(&row));
        rc = ask_wait(asker, &question, &answer, &in);
        if (rc == ERR_OK) {
            now.modseq = read_u64(&in);
            now.epoch.number = read_varint32(&in);
            now.epoch.node = read_u64(&in);
            changed = read_u64(&in);
            first_changed = any ? first_changed : changed;
            any = true;
            rc = read_values(&in, mailbox, other, &row);
        }
    }
    if (changed != first_changed)
        now.modseq = 0;
    if (as_of)
        *as_of = now;
    buf_free(&answer);
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}
