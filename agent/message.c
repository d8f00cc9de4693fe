#include "agent/message.h"

#include "base/err.h"

#include <string.h>

#define HEARTBEAT_MAX 3600000u /* milliseconds */
#define HELLO_REPAIRING 1u
#define HELLO_MASTER 2u
#define HELLO_ADOPT 4u
#define HELLO_DRY_RUN 8u
#define HELLO_FLAGS (HELLO_REPAIRING | HELLO_MASTER | HELLO_ADOPT | HELLO_DRY_RUN)
#define WINDOW_MAX (64u << 20) /* bytes */

static const char *const refusal_names[REFUSAL_COUNT] = {
#define X(symbol, name) [REFUSAL_##symbol] = (name),
    REFUSAL_MAP(X)
#undef X
};

const char *refusal_name(enum refusal refusal)
{
    return refusal_names[refusal];
}

static int refuse_malformed(const char *what)
{
    return fail(ERR_PROTOCOL, "malformed %s", what);
}

static bool is_printable(struct bytes text)
{
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] < ' ' || text.data[i] == 0x7f || text.data[i] == '"')
            return false;
    return true;
}

void message_encode_hello(const struct hello *hello, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_HELLO);
    buf_u32(out, PROTOCOL_MAGIC);
    buf_u32(out, hello->oldest);
    buf_u32(out, hello->newest);
    buf_u64(out, hello->node_id);
    buf_u64(out, hello->store_id);
    buf_position(out, hello->position);
    buf_u64(out, hello->digest);
    buf_u8(out, (uint8_t)((hello->repairing ? HELLO_REPAIRING : 0u) |
                          (hello->master ? HELLO_MASTER : 0u) | (hello->adopt ? HELLO_ADOPT : 0u) |
                          (hello->dry_run ? HELLO_DRY_RUN : 0u)));
    buf_u32(out, hello->epoch.number);
    buf_u64(out, hello->epoch.node);
    buf_bytes(out, hello->name);
    frame_end(out, begun);
}

int message_decode_hello(struct bytes payload, struct hello *hello)
{
    struct reader in = reader_of(payload);
    if (payload.size > HELLO_MAX || read_u32(&in) != PROTOCOL_MAGIC)
        return fail(ERR_PROTOCOL, "not a shiplog follower");
    hello->oldest = read_u32(&in);
    hello->newest = read_u32(&in);
    hello->node_id = read_u64(&in);
    hello->store_id = read_u64(&in);
    hello->position = read_position(&in);
    hello->digest = read_u64(&in);
    uint8_t flags = read_u8(&in);
    hello->repairing = flags & HELLO_REPAIRING;
    hello->master = flags & HELLO_MASTER;
    hello->adopt = flags & HELLO_ADOPT;
    hello->dry_run = flags & HELLO_DRY_RUN;
    hello->epoch.number = read_u32(&in);
    hello->epoch.node = read_u64(&in);
    hello->name = read_bytes(&in);
    if (in.failed || flags & ~HELLO_FLAGS || hello->oldest > hello->newest ||
        hello->name.size > PEER_NAME_MAX || !is_printable(hello->name))
        return refuse_malformed("hello");
    return ERR_OK;
}

void message_encode_welcome(const struct welcome *welcome, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_WELCOME);
    buf_u32(out, welcome->version);
    buf_u64(out, welcome->store_id);
    buf_u64(out, welcome->node_id);
    buf_position(out, welcome->base);
    buf_position(out, welcome->last);
    buf_u64(out, welcome->digest);
    buf_u32(out, welcome->heartbeat);
    buf_u32(out, welcome->window);
    frame_end(out, begun);
}

int message_decode_welcome(struct bytes payload, struct welcome *welcome)
{
    struct reader in = reader_of(payload);
    welcome->version = read_u32(&in);
    welcome->store_id = read_u64(&in);
    welcome->node_id = read_u64(&in);
    welcome->base = read_position(&in);
    welcome->last = read_position(&in);
    welcome->digest = read_u64(&in);
    welcome->heartbeat = read_u32(&in);
    welcome->window = read_u32(&in);
    if (!reader_done(&in) || welcome->version != PROTOCOL_VERSION || welcome->store_id == 0 ||
        welcome->base.modseq > welcome->last.modseq || welcome->heartbeat == 0 ||
        welcome->heartbeat > HEARTBEAT_MAX || welcome->window > WINDOW_MAX)
        return refuse_malformed("welcome");
    return ERR_OK;
}

void message_encode_refuse(const struct refuse *refuse, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_REFUSE);
    buf_u32(out, (uint32_t)refuse->why);
    buf_bytes(out, refuse->text);
    buf_u32(out, refuse->epoch);
    frame_end(out, begun);
}

/* Lenient like the hello: it may come from a version that has nothing in common with this one. */
int message_decode_refuse(struct bytes payload, struct refuse *refuse)
{
    struct reader in = reader_of(payload);
    uint32_t why = read_u32(&in);
    refuse->why = why < REFUSAL_COUNT ? (enum refusal)why : REFUSAL_OTHER;
    refuse->text = read_bytes(&in);
    refuse->epoch = read_u32(&in);
    return in.failed ? refuse_malformed("refusal") : ERR_OK;
}

void message_encode_content(const struct content_part *part, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_CONTENT);
    buf_put(out, part->guid.bytes, GUID_SIZE);
    buf_u8(out, (uint8_t)part->purpose);
    buf_u8(out, (uint8_t)part->state);
    buf_u64(out, part->size);
    buf_u64(out, part->stored);
    buf_u64(out, part->offset);
    buf_put(out, part->data.data, part->data.size);
    frame_end(out, begun);
}

int message_decode_content(struct bytes payload, struct content_part *part)
{
    struct reader in = reader_of(payload);
    struct bytes guid = read_view(&in, GUID_SIZE);
    uint8_t purpose = read_u8(&in);
    uint8_t state = read_u8(&in);
    part->size = read_u64(&in);
    part->stored = read_u64(&in);
    part->offset = read_u64(&in);
    part->data = read_view(&in, reader_left(&in));
    if (!reader_done(&in) || purpose > CONTENT_WANTED || state > CONTENT_MISSING)
        return refuse_malformed("content");
    memcpy(part->guid.bytes, guid.data, GUID_SIZE);
    part->purpose = (enum content_purpose)purpose;
    part->state = (enum content_state)state;
    if (state == CONTENT_GONE || state == CONTENT_MISSING) {
        if (part->size || part->stored || part->offset || part->data.size)
            return refuse_malformed("content");
        return ERR_OK;
    }
    uint64_t left = part->stored - part->offset;
    if (part->offset > part->stored || part->data.size == 0 || part->data.size > left ||
        (state == CONTENT_LAST) != (part->data.size == left))
        return refuse_malformed("content");
    return ERR_OK;
}

void message_encode_ack(const struct ack *ack, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_ACK);
    buf_position(out, ack->position);
    buf_u64(out, ack->consumed);
    frame_end(out, begun);
}

int message_decode_ack(struct bytes payload, struct ack *ack)
{
    struct reader in = reader_of(payload);
    ack->position = read_position(&in);
    ack->consumed = read_u64(&in);
    return reader_done(&in) ? ERR_OK : refuse_malformed("acknowledgement");
}

void message_encode_want(struct bytes guids, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_WANT);
    buf_put(out, guids.data, guids.size);
    frame_end(out, begun);
}

int message_decode_want(struct bytes payload, struct bytes *guids)
{
    *guids = payload;
    if (payload.size == 0 || payload.size % GUID_SIZE || payload.size / GUID_SIZE > WANT_MAX)
        return refuse_malformed("want");
    return ERR_OK;
}

void message_encode_ping(struct buf *out)
{
    frame_end(out, frame_begin(out, FRAME_PING));
}

int message_decode_ping(struct bytes payload)
{
    return payload.size ? refuse_malformed("ping") : ERR_OK;
}

void message_encode_bye(const char *reason, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_BYE);
    buf_put(out, reason, strnlen(reason, REASON_MAX));
    frame_end(out, begun);
}

int message_decode_bye(struct bytes payload, struct bytes *reason)
{
    *reason = payload;
    return payload.size > REASON_MAX ? refuse_malformed("bye") : ERR_OK;
}

void message_encode_repair(const char *reason, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_REPAIR);
    buf_put(out, reason, strnlen(reason, REASON_MAX));
    frame_end(out, begun);
}

int message_decode_repair(struct bytes payload, struct bytes *reason)
{
    *reason = payload;
    return payload.size > REASON_MAX ? refuse_malformed("repair") : ERR_OK;
}

static void encode_whole(enum frame_type type, struct bytes payload, struct buf *out)
{
    size_t begun = frame_begin(out, type);
    buf_put(out, payload.data, payload.size);
    frame_end(out, begun);
}

void message_encode_ask(struct bytes question, struct buf *out)
{
    encode_whole(FRAME_ASK, question, out);
}

void message_encode_plan(struct bytes plan, struct buf *out)
{
    encode_whole(FRAME_PLAN, plan, out);
}

void message_encode_answer(const struct answered *answer, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_ANSWER);
    buf_u8(out, answer->failed);
    buf_put(out, answer->bytes.data, answer->bytes.size);
    frame_end(out, begun);
}

int message_decode_answer(struct bytes payload, struct answered *answer)
{
    struct reader in = reader_of(payload);
    uint8_t failed = read_u8(&in);
    answer->failed = failed;
    answer->bytes = read_view(&in, reader_left(&in));
    return in.failed || failed > 1 ? refuse_malformed("answer") : ERR_OK;
}

void message_plain(struct bytes text, char out[REASON_MAX + 1])
{
    size_t size = text.size < REASON_MAX ? text.size : REASON_MAX;
    for (size_t i = 0; i < size; i++) {
        char c = (char)text.data[i];
        bool breaks = text.data[i] < ' ' || text.data[i] == 0x7f;
        out[i] = c == '"' ? '\'' : c;
        if (breaks)
            out[i] = ' ';
    }
    out[size] = '\0';
}
