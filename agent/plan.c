#include "agent/plan.h"

#include "base/array.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define OWNER_TEXT_SIZE 400u
#define ACTION_SIZE 32u /* bytes of the word for it, and NUL */

void plan_free(struct plan *plan)
{
    free(plan->lines);
    plan->lines = NULL;
    plan->line_count = plan->line_capacity = 0;
    buf_free(&plan->actions);
    plan->action_count = 0;
}

int plan_add(struct plan *plan, const struct plan_line *line)
{
    if (plan->line_count == PLAN_LINES_MAX)
        return ERR_OK;
    struct plan_line *lines =
        array_room(plan->lines, plan->line_count, &plan->line_capacity, sizeof *lines);
    if (!lines)
        return ERR_NOMEM;
    plan->lines = lines;
    lines[plan->line_count++] = *line;
    return ERR_OK;
}

const struct plan_line *plan_find(const struct plan *plan, uint64_t mailbox)
{
    for (size_t i = 0; i < plan->line_count; i++)
        if (plan->lines[i].mailbox == mailbox)
            return &plan->lines[i];
    return NULL;
}

static void encode_line(const struct plan_line *line, struct buf *out)
{
    buf_u64(out, line->mailbox);
    buf_bytes(out, bytes_text(line->name));
    buf_varint(out, line->renumbered);
    buf_varint(out, line->copied_back);
    buf_varint(out, line->expunged);
    buf_varint(out, line->damaged);
}

void plan_encode(const struct plan *plan, struct buf *out)
{
    char owner[OWNER_TEXT_SIZE];
    owner_print(&plan->owner, owner);
    buf_u8(out, (uint8_t)plan->kind);
    buf_u64(out, plan->store_id);
    buf_u64(out, plan->from.modseq);
    buf_u64(out, plan->from.chain);
    buf_position(out, plan->at);
    buf_u64(out, (uint64_t)plan->time);
    buf_varint(out, plan->epoch.number);
    buf_u64(out, plan->epoch.node);
    buf_u64(out, plan->since);
    buf_u64(out, plan->own_after);
    buf_u8(out, plan->compare);
    buf_bytes(out, bytes_text(owner));
    buf_bytes(out, bytes_text(plan->reason));
    buf_varint(out, plan->line_count);
    for (size_t i = 0; i < plan->line_count; i++)
        encode_line(&plan->lines[i], out);
    buf_u8(out, plan->more_actions);
    buf_varint(out, plan->action_count);
    buf_put(out, plan->actions.data, plan->actions.size);
}

static int malformed(void)
{
    return fail(ERR_PROTOCOL, "malformed plan of a repair");
}

static bool read_text(struct reader *in, char *text, size_t size)
{
    struct bytes found = read_bytes(in);
    if (in->failed || found.size >= size || (found.size && memchr(found.data, 0, found.size)))
        return false;
    memcpy(text, found.data, found.size);
    text[found.size] = '\0';
    return true;
}

static int decode_line(struct reader *in, struct plan *plan)
{
    struct plan_line line = {.mailbox = read_u64(in)};
    bool named = read_text(in, line.name, sizeof line.name);
    line.renumbered = read_varint(in);
    line.copied_back = read_varint(in);
    line.expunged = read_varint(in);
    line.damaged = read_varint(in);
    if (in->failed || !named)
        return malformed();
    return plan_add(plan, &line);
}

/* What is said of one message, or of a whole mailbox. */
struct action {
    char mailbox[NAME_TEXT_SIZE];
    char what[ACTION_SIZE];
    uint32_t uid;
    uint32_t other;
};

static bool read_action(struct reader *in, struct action *action)
{
    bool read = read_text(in, action->mailbox, sizeof action->mailbox) &&
                read_text(in, action->what, sizeof action->what);
    action->uid = read_varint32(in);
    action->other = read_varint32(in);
    return read && !in->failed;
}

int plan_add_action(struct plan *plan, const char *mailbox, const char *what, uint32_t uid,
                    uint32_t other)
{
    plan->more_actions = plan->more_actions || plan->actions.size > PLAN_ACTIONS_MAX;
    if (plan->more_actions)
        return ERR_OK;
    buf_bytes(&plan->actions, bytes_text(mailbox));
    buf_bytes(&plan->actions, bytes_text(what));
    buf_varint(&plan->actions, uid);
    buf_varint(&plan->actions, other);
    plan->action_count++;
    return plan->actions.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

void plan_each_action(const struct plan *plan,
                      void (*each)(void *arg, const char *mailbox, const char *what, uint32_t uid,
                                   uint32_t other),
                      void *arg)
{
    struct reader in = reader_of(buf_view(&plan->actions));
    struct action action;
    while (reader_left(&in) && read_action(&in, &action))
        each(arg, action.mailbox, action.what, action.uid, action.other);
}

static int decode_actions(struct reader *in, struct plan *plan)
{
    struct action action;
    uint8_t more = read_u8(in);
    uint64_t count = read_varint(in);
    int rc = in->failed || more > 1 ? malformed() : ERR_OK;
    for (uint64_t i = 0; rc == ERR_OK && i < count; i++)
        rc = read_action(in, &action)
                 ? plan_add_action(plan, action.mailbox, action.what, action.uid, action.other)
                 : malformed();
    if (rc == ERR_OK && plan->more_actions)
        rc = malformed();
    plan->more_actions = more;
    return rc;
}

int plan_decode(struct bytes from, struct plan *plan)
{
    struct reader in = reader_of(from);
    char owner[OWNER_TEXT_SIZE];
    *plan = (struct plan){0};
    uint8_t kind = read_u8(&in);
    plan->kind = kind <= PLAN_GIVE_UP ? (enum plan_kind)kind : PLAN_REWIND;
    plan->store_id = read_u64(&in);
    plan->from.modseq = read_u64(&in);
    plan->from.chain = read_u64(&in);
    plan->at = read_position(&in);
    plan->time = (int64_t)read_u64(&in);
    plan->epoch.number = read_varint32(&in);
    plan->epoch.node = read_u64(&in);
    plan->since = read_u64(&in);
    plan->own_after = read_u64(&in);
    uint8_t compare = read_u8(&in);
    plan->compare = compare;
    bool owned = read_text(&in, owner, sizeof owner) && owner_parse(owner, &plan->owner) == ERR_OK;
    bool reasoned = read_text(&in, plan->reason, sizeof plan->reason);
    uint64_t count = read_varint(&in);
    if (in.failed || !owned || !reasoned || kind > PLAN_GIVE_UP || compare > 1 ||
        plan->store_id == 0 || count > PLAN_LINES_MAX)
        return malformed();
    int rc = ERR_OK;
    for (uint64_t i = 0; rc == ERR_OK && i < count; i++)
        rc = decode_line(&in, plan);
    if (rc == ERR_OK)
        rc = decode_actions(&in, plan);
    if (rc == ERR_OK && !reader_done(&in))
        rc = malformed();
    if (rc)
        plan_free(plan);
    return rc;
}
