/* Asking at all, and about a node, its journal and its mailboxes as a whole. */
#include "agent/asking.h"

#include "base/err.h"

#include <stdlib.h>

#define STOP_LEAST 18u /* bytes of one that waits */
#define MAILBOXES_MOST (1u << 22)

int ask_malformed(const char *what)
{
    return fail(ERR_PROTOCOL, "malformed answer: %s", what);
}

int ask_wait(const struct asker *asker, struct buf *question, struct buf *answer, struct reader *in)
{
    buf_reset(answer);
    int rc = question->failed ? fail(ERR_NOMEM, "out of memory")
                              : asker->ask(asker->context, buf_view(question), answer);
    buf_free(question);
    if (rc)
        return rc;
    *in = reader_of(buf_view(answer));
    uint8_t found = read_u8(in);
    if (in->failed || found > 1)
        return ask_malformed("its first byte");
    return found ? ERR_OK : ERR_END;
}

struct buf ask_begin(enum question kind)
{
    struct buf out = {0};
    buf_u8(&out, (uint8_t)kind);
    return out;
}

void branch_free(struct branch *branch)
{
    free(branch->epochs);
    free(branch->marks);
    free(branch->stops);
    *branch = (struct branch){0};
}

static int read_stops(struct reader *in, struct branch *branch)
{
    uint64_t count = read_varint(in);
    if (in->failed || count > ANSWER_MAX / STOP_LEAST)
        return ask_malformed("stops");
    branch->stops = calloc(count + 1, sizeof *branch->stops);
    if (!branch->stops)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->stop_count < count && !in->failed; branch->stop_count++) {
        struct mark *stop = &branch->stops[branch->stop_count];
        stop->mailbox = read_u64(in);
        stop->epoch.number = read_varint32(in);
        stop->epoch.node = read_u64(in);
        stop->taken.modseq = read_varint(in);
    }
    return in->failed ? ask_malformed("stops") : ERR_OK;
}

static int read_marks(struct reader *in, struct branch *branch)
{
    uint64_t count = read_varint(in);
    if (in->failed || count > ANSWER_MAX / 16)
        return ask_malformed("marks");
    branch->marks = calloc(count + 1, sizeof *branch->marks);
    if (!branch->marks)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->mark_count < count && !in->failed; branch->mark_count++) {
        struct mark *mark = &branch->marks[branch->mark_count];
        mark->mailbox = read_u64(in);
        mark->modseq = read_u64(in);
        mark->epoch.number = read_varint32(in);
        mark->epoch.node = read_u64(in);
        mark->taken = read_position(in);
    }
    return ERR_OK;
}

static int read_branch(struct reader *in, struct branch *branch)
{
    branch->store_id = read_u64(in);
    branch->node_id = read_u64(in);
    uint8_t role = read_u8(in);
    branch->role = role ? ROLE_REPLICA : ROLE_MASTER;
    branch->epoch.number = read_varint32(in);
    branch->epoch.node = read_u64(in);
    branch->base = read_position(in);
    branch->last = read_position(in);
    branch->last_time = (int64_t)read_u64(in);
    branch->digest = read_u64(in);
    branch->discard = read_u8(in) == 1;
    uint64_t count = read_varint(in);
    if (in->failed || role > ROLE_REPLICA || count > ANSWER_MAX / 40 ||
        branch->last.modseq > MODSEQ_MAX)
        return ask_malformed("a branch");
    branch->epochs = calloc(count + 1, sizeof *branch->epochs);
    if (!branch->epochs)
        return fail(ERR_NOMEM, "out of memory");
    for (; branch->epoch_count < count; branch->epoch_count++)
        if (epoch_decode(in, &branch->epochs[branch->epoch_count]))
            return ask_malformed("an epoch");
    int rc = read_marks(in, branch);
    if (rc == ERR_OK)
        rc = read_stops(in, branch);
    return rc == ERR_OK && !reader_done(in) ? ask_malformed("a branch") : rc;
}

int ask_branch(const struct asker *asker, struct branch *branch)
{
    struct buf question = ask_begin(ASK_BRANCH);
    struct buf answer = {0};
    struct reader in;
    *branch = (struct branch){0};
    int rc = ask_wait(asker, &question, &answer, &in);
    if (rc == ERR_OK)
        rc = read_branch(&in, branch);
    if (rc)
        branch_free(branch);
    buf_free(&answer);
    return rc;
}

int ask_chains(const struct asker *asker, const uint64_t *modseqs, size_t count,
               struct position *positions)
{
    struct buf question = ask_begin(ASK_CHAINS);
    struct buf answer = {0};
    struct reader in;
    buf_varint(&question, count);
    for (size_t i = 0; i < count; i++)
        buf_u64(&question, modseqs[i]);
    int rc = ask_wait(asker, &question, &answer, &in);
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        positions[i] = (struct position){.modseq = modseqs[i], .chain = read_u64(&in)};
    if (rc == ERR_OK && !reader_done(&in))
        rc = ask_malformed("chains");
    buf_free(&answer);
    return rc;
}

static int read_mailboxes(struct reader *in, uint64_t *after, uint64_t *told,
                          int (*each)(const struct mailbox_line *line, void *arg), void *arg)
{
    uint64_t count = read_varint(in);
    *told += count;
    if (count > MAILBOXES_MOST || *told > MAILBOXES_MOST)
        return ask_malformed("more mailboxes than there can be");
    for (uint64_t i = 0; i < count; i++) {
        struct mailbox_line line = {.id = read_u64(in)};
        line.digest = read_u64(in);
        line.lastmodseq = read_u64(in);
        uint8_t state = read_u8(in);
        struct bytes name = read_bytes(in);
        uint8_t stopped = read_u8(in);
        if (in->failed || state > MAILBOX_PURGED || line.id <= *after || stopped > 1)
            return ask_malformed("a mailbox");
        line.stopped = stopped;
        line.state = (enum mailbox_state)state;
        if (name.size && name_decode(name, &line.name))
            return ask_malformed("a mailbox's name");
        *after = line.id;
        int rc = each(&line, arg);
        if (rc)
            return rc;
    }
    return count ? ERR_OK : ERR_END;
}

int ask_mailboxes(const struct asker *asker, uint64_t at,
                  int (*each)(const struct mailbox_line *line, void *arg), void *arg)
{
    struct buf answer = {0};
    uint64_t after = 0;
    uint64_t told = 0;
    int rc = ERR_OK;
    while (rc == ERR_OK) {
        struct buf question = ask_begin(ASK_MAILBOXES);
        struct reader in;
        buf_u64(&question, at);
        buf_u64(&question, after);
        rc = ask_wait(asker, &question, &answer, &in);
        if (rc == ERR_OK)
            rc = read_mailboxes(&in, &after, &told, each, arg);
    }
    buf_free(&answer);
    return rc == ERR_END ? ERR_OK : rc;
}

void ask_encode_header(const struct header *header, struct buf *out)
{
    const struct facts *facts = &header->facts;
    buf_u64(out, header->id);
    buf_u8(out, (uint8_t)facts->state);
    buf_u32(out, facts->uidvalidity);
    buf_u32(out, facts->uidnext);
    buf_u64(out, facts->highestmodseq);
    buf_u64(out, facts->deletedmodseq);
    buf_bytes(out, name_encoded(&facts->name));
    buf_u64(out, header->lastmodseq);
    buf_u64(out, (uint64_t)header->changed);
    buf_u64(out, header->floor);
    buf_u64(out, header->messages);
    buf_u64(out, header->unseen);
    buf_u64(out, header->bytes);
    buf_u64(out, header->tombstones);
    buf_u64(out, header->items);
}

static int decode_header(struct reader *from, struct header *header)
{
    struct facts *facts = &header->facts;
    *header = (struct header){.id = read_u64(from)};
    uint8_t state = read_u8(from);
    facts->uidvalidity = read_u32(from);
    facts->uidnext = read_u32(from);
    facts->highestmodseq = read_u64(from);
    facts->deletedmodseq = read_u64(from);
    struct bytes name = read_bytes(from);
    header->lastmodseq = read_u64(from);
    header->changed = (int64_t)read_u64(from);
    header->floor = read_u64(from);
    header->messages = read_u64(from);
    header->unseen = read_u64(from);
    header->bytes = read_u64(from);
    header->tombstones = read_u64(from);
    header->items = read_u64(from);
    if (from->failed || state > MAILBOX_PURGED || state == MAILBOX_NONE ||
        header->lastmodseq > MODSEQ_MAX || header->floor > MODSEQ_MAX ||
        facts->highestmodseq > MODSEQ_MAX || facts->deletedmodseq > MODSEQ_MAX ||
        name_decode(name, &facts->name))
        return ask_malformed("a header");
    facts->state = (enum mailbox_state)state;
    return ERR_OK;
}

int ask_read_now(struct reader *in, uint64_t mailbox, struct mailbox_state_now *now)
{
    now->position = read_position(in);
    now->epoch.number = read_varint32(in);
    now->epoch.node = read_u64(in);
    now->sound = read_u8(in) == 1;
    int rc = decode_header(in, &now->header);
    return rc == ERR_OK && now->header.id != mailbox ? ask_malformed("another mailbox's header")
                                                     : rc;
}

static int read_former(struct reader *in, struct mailbox_state_now *now)
{
    uint8_t known = read_u8(in);
    now->former_known = known == 1;
    now->former = (struct facts){0};
    if (known != 1)
        return known || in->failed ? ask_malformed("a header") : ERR_OK;
    uint8_t state = read_u8(in);
    now->former.uidnext = read_u32(in);
    struct bytes name = read_bytes(in);
    if (in->failed || state > MAILBOX_PURGED || (name.size && name_decode(name, &now->former.name)))
        return ask_malformed("a header's former facts");
    now->former.state = (enum mailbox_state)state;
    return ERR_OK;
}

int ask_header(const struct asker *asker, uint64_t mailbox, bool prove, uint64_t base,
               struct mailbox_state_now *now)
{
    struct buf question = ask_begin(ASK_HEADER);
    struct buf answer = {0};
    struct reader in;
    buf_u64(&question, mailbox);
    buf_u8(&question, prove);
    buf_u64(&question, base);
    int rc = ask_wait(asker, &question, &answer, &in);
    if (rc == ERR_OK)
        rc = ask_read_now(&in, mailbox, now);
    if (rc == ERR_OK)
        rc = read_former(&in, now);
    if (rc == ERR_OK && !reader_done(&in))
        rc = ask_malformed("a header");
    buf_free(&answer);
    return rc;
}
