#include "agent/frame.h"

#include "base/err.h"
#include "base/hash.h"

#include <string.h>

#define AT_CRC 4u
#define AT_TYPE 8u /* from here on the CRC-32 covers everything */

size_t frame_begin(struct buf *out, enum frame_type type)
{
    size_t begun = out->size;
    uint8_t *header = buf_reserve(out, FRAME_HEADER_SIZE);
    if (header) {
        memset(header, 0, FRAME_HEADER_SIZE);
        header[AT_TYPE] = (uint8_t)type;
    }
    return begun;
}

void frame_end(struct buf *out, size_t begun)
{
    if (out->failed)
        return;
    uint8_t *header = out->data + begun;
    size_t size = out->size - begun;
    save_u32(header, (uint32_t)(size - FRAME_HEADER_SIZE));
    save_u32(header + AT_CRC, hash_crc32(header + AT_TYPE, size - AT_TYPE));
}

int frame_decode(struct bytes stream, size_t most, struct frame *frame)
{
    if (stream.size < FRAME_HEADER_SIZE)
        return ERR_END;
    size_t payload = load_u32(stream.data);
    size_t whole = FRAME_HEADER_SIZE + payload;
    uint8_t type = stream.data[AT_TYPE];
    if (type == 0 || type >= FRAME_TYPE_END)
        return fail(ERR_PROTOCOL, "not a frame of this protocol");
    if (payload > most)
        return fail(ERR_PROTOCOL, "a frame of %zu bytes, where %zu are the most", payload, most);
    if (stream.size < whole)
        return ERR_END;
    if (load_u32(stream.data + AT_CRC) != hash_crc32(stream.data + AT_TYPE, whole - AT_TYPE))
        return fail(ERR_PROTOCOL, "a frame's CRC-32 does not match");
    frame->type = (enum frame_type)type;
    frame->payload = bytes_of(stream.data + FRAME_HEADER_SIZE, payload);
    frame->whole = bytes_of(stream.data, whole);
    return ERR_OK;
}

void frame_parser_init(struct frame_parser *parser, size_t most)
{
    *parser = (struct frame_parser){.most = most};
}

void frame_parser_free(struct frame_parser *parser)
{
    buf_free(&parser->input);
}

uint8_t *frame_parser_room(struct frame_parser *parser, size_t size)
{
    struct buf *input = &parser->input;
    if (parser->at) {
        memmove(input->data, input->data + parser->at, input->size - parser->at);
        input->size -= parser->at;
        parser->at = 0;
    }
    uint8_t *room = buf_reserve(input, size);
    if (room)
        input->size -= size;
    return room;
}

void frame_parser_add(struct frame_parser *parser, size_t size)
{
    parser->input.size += size;
}

int frame_parser_next(struct frame_parser *parser, struct frame *frame)
{
    const struct buf *input = &parser->input;
    if (parser->at == input->size)
        return ERR_END;
    int rc = frame_decode(bytes_of(input->data + parser->at, input->size - parser->at),
                          parser->most, frame);
    if (rc == ERR_OK)
        parser->at += frame->whole.size;
    return rc;
}
