/* Frames: how messages are cut out of a stream of bytes. docs/PROTOCOL.md describes them. No I/O.
 */
#ifndef SHIPLOG_AGENT_FRAME_H
#define SHIPLOG_AGENT_FRAME_H

#include "base/bytes.h"
#include "journal/entry.h"

#define FRAME_HEADER_SIZE 9u
#define FRAME_MAX_PAYLOAD (ENTRY_MAX_SIZE + (64u << 10)) /* bytes */

/* The numbers are on the wire: append only. */
enum frame_type {
    FRAME_HELLO = 1,
    FRAME_WELCOME,
    FRAME_REFUSE,
    FRAME_ENTRIES,
    FRAME_CONTENT,
    FRAME_ACK,
    FRAME_WANT,
    FRAME_PING,
    FRAME_BYE,
    FRAME_REPAIR,
    FRAME_ASK,
    FRAME_ANSWER,
    FRAME_PLAN,
    FRAME_TYPE_END
};

struct frame {
    enum frame_type type;
    struct bytes payload; /* a view */
    struct bytes whole;   /* with its header */
};

/* Payloads are written in place: frame_begin() remembers where, frame_end() fills the header in. */
size_t frame_begin(struct buf *out, enum frame_type type);
void frame_end(struct buf *out, size_t begun);

/* The frame at the front of these bytes. ERR_END: not all of it is there yet; ERR_PROTOCOL: it
 * cannot become one with a payload of at most `most` bytes. */
int frame_decode(struct bytes stream, size_t most, struct frame *frame);

/* Bytes of a stream that are no whole frame yet. Holds no more than what came. */
struct frame_parser {
    size_t most; /* bytes of a payload */
    struct buf input;
    size_t at;
};

void frame_parser_init(struct frame_parser *parser, size_t most);
void frame_parser_free(struct frame_parser *parser);
/* Room for `size` bytes that are about to be read; NULL when memory is short. Frames that were
 * given out are invalid from here on. */
uint8_t *frame_parser_room(struct frame_parser *parser, size_t size);
void frame_parser_add(struct frame_parser *parser, size_t size); /* so many were read */
/* As frame_decode(); the frame is valid until frame_parser_room(). */
int frame_parser_next(struct frame_parser *parser, struct frame *frame);

#endif
