/* The protocol's frames and messages. The first byte chooses the message, the rest is its payload;
 * the whole is also taken as a stream. */
#include "agent/protocol.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_stream(struct bytes stream)
{
    struct frame frame;
    size_t taken;
    while (frame_decode(stream, &frame, &taken) == 0) {
        if (taken > stream.size || frame.payload.size > taken)
            abort();
        stream = bytes_of(stream.data + taken, stream.size - taken);
    }
}

static void try_message(enum frame_type type, struct bytes payload)
{
    struct hello hello;
    struct welcome welcome;
    struct refuse refuse;
    struct content_part part;
    struct ack ack;
    switch (type) {
    case FRAME_HELLO:
        (void)hello_decode(payload, &hello);
        break;
    case FRAME_WELCOME:
        (void)welcome_decode(payload, &welcome);
        break;
    case FRAME_REFUSE:
        (void)refuse_decode(payload, &refuse);
        break;
    case FRAME_CONTENT:
        (void)content_part_decode(payload, &part);
        break;
    case FRAME_ACK:
        (void)ack_decode(payload, &ack);
        break;
    default:
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_stream(bytes_of(data, size));
    if (size)
        try_message((enum frame_type)(data[0] % (FRAME_PING + 1)), bytes_of(data + 1, size - 1));
    return 0;
}
