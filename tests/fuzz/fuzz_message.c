/* Every message's payload as a peer may send it. The first byte chooses the message. What decodes
 * encodes to what decodes to the same, and to the same bytes where nothing may follow. */
#include "agent/message.h"
#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The payload that was encoded must be the one that was taken, or its beginning. */
static void compare(struct buf *frame, struct bytes payload, bool whole)
{
    if (!frame->failed) {
        size_t size = frame->size - FRAME_HEADER_SIZE;
        if (size > payload.size || (whole && size != payload.size) ||
            (size && memcmp(frame->data + FRAME_HEADER_SIZE, payload.data, size) != 0))
            abort();
    }
    buf_free(frame);
}

static void try_hello(struct bytes payload)
{
    struct hello hello;
    struct buf out = {0};
    if (message_decode_hello(payload, &hello) == ERR_OK) {
        message_encode_hello(&hello, &out);
        compare(&out, payload, false);
    }
}

static void try_welcome(struct bytes payload)
{
    struct welcome welcome;
    struct buf out = {0};
    if (message_decode_welcome(payload, &welcome) == ERR_OK) {
        message_encode_welcome(&welcome, &out);
        compare(&out, payload, true);
    }
}

static void try_refuse(struct bytes payload)
{
    struct refuse refuse;
    char text[REASON_MAX + 1];
    if (message_decode_refuse(payload, &refuse) == ERR_OK) {
        message_plain(refuse.text, text);
        if (!*refusal_name(refuse.why) || strlen(text) > REASON_MAX || strchr(text, '\n'))
            abort();
    }
}

static void try_content(struct bytes payload)
{
    struct content_part part;
    struct buf out = {0};
    if (message_decode_content(payload, &part) == ERR_OK) {
        if (part.offset + part.data.size > part.stored)
            abort();
        message_encode_content(&part, &out);
        compare(&out, payload, true);
    }
}

static void try_ack(struct bytes payload)
{
    struct ack ack;
    struct buf out = {0};
    if (message_decode_ack(payload, &ack) == ERR_OK) {
        message_encode_ack(&ack, &out);
        compare(&out, payload, true);
    }
}

static void try_want(struct bytes payload)
{
    struct bytes guids;
    struct buf out = {0};
    if (message_decode_want(payload, &guids) == ERR_OK) {
        message_encode_want(guids, &out);
        compare(&out, payload, true);
    }
}

static void try_bye(struct bytes payload)
{
    struct bytes reason;
    char text[REASON_MAX + 1];
    if (message_decode_bye(payload, &reason) == ERR_OK)
        message_plain(reason, text);
}

static void try_ping(struct bytes payload)
{
    if (message_decode_ping(payload) == ERR_OK && payload.size)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const tries[])(struct bytes) = {
        [FRAME_HELLO] = try_hello,     [FRAME_WELCOME] = try_welcome, [FRAME_REFUSE] = try_refuse,
        [FRAME_CONTENT] = try_content, [FRAME_ACK] = try_ack,         [FRAME_WANT] = try_want,
        [FRAME_PING] = try_ping,       [FRAME_BYE] = try_bye};
    if (size == 0)
        return 0;
    size_t which = data[0] % (sizeof tries / sizeof *tries);
    if (tries[which])
        tries[which](bytes_of(data + 1, size - 1));
    return 0;
}
