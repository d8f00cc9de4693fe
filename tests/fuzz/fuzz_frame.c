/* A stream of frames as a stranger may send it: cut at once and in pieces, which must give the same
 * frames, each of which encodes to the bytes it came from. */
#include "agent/frame.h"
#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_frame(const struct frame *frame)
{
    struct buf again = {0};
    size_t begun = frame_begin(&again, frame->type);
    buf_put(&again, frame->payload.data, frame->payload.size);
    frame_end(&again, begun);
    if (!again.failed && !bytes_equal(buf_view(&again), frame->whole))
        abort();
    buf_free(&again);
}

static size_t cut_at_once(struct bytes stream, int *end)
{
    struct frame frame;
    size_t count = 0;
    while ((*end = frame_decode(stream, FRAME_MAX_PAYLOAD, &frame)) == ERR_OK) {
        if (frame.whole.size > stream.size || frame.whole.data != stream.data)
            abort();
        check_frame(&frame);
        stream = bytes_of(stream.data + frame.whole.size, stream.size - frame.whole.size);
        count++;
    }
    return count;
}

static size_t cut_in_pieces(struct bytes stream, size_t piece, int *end)
{
    struct frame_parser parser;
    struct frame frame;
    size_t count = 0;
    *end = ERR_END;
    frame_parser_init(&parser, FRAME_MAX_PAYLOAD);
    for (size_t at = 0; at < stream.size && *end == ERR_END; at += piece) {
        size_t size = stream.size - at < piece ? stream.size - at : piece;
        uint8_t *room = frame_parser_room(&parser, piece);
        if (!room)
            break;
        memcpy(room, stream.data + at, size);
        frame_parser_add(&parser, size);
        while ((*end = frame_parser_next(&parser, &frame)) == ERR_OK)
            count++;
    }
    frame_parser_free(&parser);
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int end, end_of_pieces;
    size_t count = cut_at_once(bytes_of(data, size), &end);
    if (cut_in_pieces(bytes_of(data, size), 7, &end_of_pieces) != count || end != end_of_pieces)
        abort();
    return 0;
}
