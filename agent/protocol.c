#include "agent/protocol.h"

#include "base/err.h"

#include <string.h>

size_t frame_begin(struct buf *out, enum frame_type type)
{
    size_t begun = out->size;
    uint8_t *header = buf_reserve(out, FRAME_HEADER_SIZE);
    if (header) {
        memset(header, 0, FRAME_HEADER_SIZE);
        header[4] = (uint8_t)type;
    }
    return begun;
}

/* The CRC-32 covers type and payload. */
static uint32_t checksum(uint8_t type, const uint8_t *payload, size_t size)
{
    return hash_crc32(payload, size) ^ hash_crc32(&type, 1);
}

void frame_end(struct buf *out, size_t begun)
{
    if (out->failed)
        return;
    uint8_t *header = out->data + begun;
    size_t size = out->size - begun - FRAME_HEADER_SIZE;
    save_u32(header, (uint32_t)size);
    save_u32(header + 5, checksum(header[4], header + FRAME_HEADER_SIZE, size));
}

void frame_encode(struct buf *out, enum frame_type type, struct bytes payload)
{
    size_t begun = frame_begin(out, type);
    buf_put(out, payload.data, payload.size);
    frame_end(out, begun);
}

int frame_decode(struct bytes stream, struct frame *frame, size_t *taken)
{
    if (stream.size < FRAME_HEADER_SIZE)
        return ERR_END;
    size_t size = load_u32(stream.data);
    uint8_t type = stream.data[4];
    if (size > FRAME_MAX_PAYLOAD || type < FRAME_HELLO || type > FRAME_PING)
        return fail(ERR_PROTOCOL, "not a frame of this protocol");
    if (stream.size - FRAME_HEADER_SIZE < size)
        return ERR_END;
    if (load_u32(stream.data + 5) != checksum(type, stream.data + FRAME_HEADER_SIZE, size))
        return fail(ERR_PROTOCOL, "a frame's CRC-32 does not match");
    frame->type = (enum frame_type)type;
    frame->payload = bytes_of(stream.data + FRAME_HEADER_SIZE, size);
    *taken = FRAME_HEADER_SIZE + size;
    return ERR_OK;
}

static void put_position(struct buf *out, struct position position)
{
    buf_u64(out, position.modseq);
    buf_u64(out, position.chain);
}

static struct position read_position(struct reader *in)
{
    struct position position;
    position.modseq = read_u64(in);
    position.chain = read_u64(in);
    return position;
}

static int decoded(const struct reader *in, const char *what)
{
    return reader_done(in) ? ERR_OK : fail(ERR_PROTOCOL, "malformed %s", what);
}

void hello_encode(const struct hello *hello, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_HELLO);
    buf_u32(out, PROTOCOL_MAGIC);
    buf_varint(out, hello->version);
    buf_u64(out, hello->store_id);
    buf_u64(out, hello->node_id);
    put_position(out, hello->position);
    buf_bytes(out, hello->name);
    frame_end(out, begun);
}

int hello_decode(struct bytes payload, struct hello *hello)
{
    struct reader in = reader_of(payload);
    if (read_u32(&in) != PROTOCOL_MAGIC)
        return fail(ERR_PROTOCOL, "not a shiplog follower");
    hello->version = read_varint32(&in);
    hello->store_id = read_u64(&in);
    hello->node_id = read_u64(&in);
    hello->position = read_position(&in);
    hello->name = read_bytes(&in);
    if (hello->name.size > PEER_NAME_MAX ||
        (hello->name.size && memchr(hello->name.data, 0, hello->name.size)))
        in.failed = true;
    return decoded(&in, "hello");
}

void welcome_encode(const struct welcome *welcome, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_WELCOME);
    buf_varint(out, welcome->version);
    buf_u64(out, welcome->store_id);
    buf_u64(out, welcome->node_id);
    put_position(out, welcome->last);
    frame_end(out, begun);
}

int welcome_decode(struct bytes payload, struct welcome *welcome)
{
    struct reader in = reader_of(payload);
    welcome->version = read_varint32(&in);
    welcome->store_id = read_u64(&in);
    welcome->node_id = read_u64(&in);
    welcome->last = read_position(&in);
    if (welcome->version != PROTOCOL_VERSION || welcome->store_id == 0)
        in.failed = true;
    return decoded(&in, "welcome");
}

void refuse_encode(const struct refuse *refuse, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_REFUSE);
    buf_varint(out, refuse->code);
    buf_bytes(out, refuse->text);
    frame_end(out, begun);
}

int refuse_decode(struct bytes payload, struct refuse *refuse)
{
    struct reader in = reader_of(payload);
    refuse->code = read_varint32(&in);
    refuse->text = read_bytes(&in);
    return decoded(&in, "refusal");
}

void content_part_encode(const struct content_part *part, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_CONTENT);
    buf_put(out, part->guid.bytes, GUID_SIZE);
    buf_u8(out, (uint8_t)part->state);
    buf_put(out, part->data.data, part->data.size);
    frame_end(out, begun);
}

int content_part_decode(struct bytes payload, struct content_part *part)
{
    struct reader in = reader_of(payload);
    struct bytes guid = read_view(&in, GUID_SIZE);
    uint8_t state = read_u8(&in);
    if (in.failed || state > CONTENT_GONE)
        return fail(ERR_PROTOCOL, "malformed content");
    memcpy(part->guid.bytes, guid.data, GUID_SIZE);
    part->state = (enum content_state)state;
    part->data = read_view(&in, reader_left(&in));
    return decoded(&in, "content");
}

void ack_encode(const struct ack *ack, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_ACK);
    put_position(out, ack->position);
    buf_u64(out, ack->consumed);
    frame_end(out, begun);
}

int ack_decode(struct bytes payload, struct ack *ack)
{
    struct reader in = reader_of(payload);
    ack->position = read_position(&in);
    ack->consumed = read_u64(&in);
    return decoded(&in, "acknowledgement");
}
