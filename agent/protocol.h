/* The protocol's bytes: frames on a stream, and the messages in them. docs/PROTOCOL.md describes
 * them. No I/O. */
#ifndef SHIPLOG_AGENT_PROTOCOL_H
#define SHIPLOG_AGENT_PROTOCOL_H

#include "base/hash.h"
#include "journal/entry.h"

#define PROTOCOL_MAGIC 0x504c4853u /* "SHLP" */
#define PROTOCOL_VERSION 1u
#define FRAME_HEADER_SIZE 9u
#define FRAME_MAX_PAYLOAD (ENTRY_MAX_SIZE + (1u << 16))
#define PEER_NAME_MAX 255u

/* Numbers are on the wire: append only. */
enum frame_type {
    FRAME_HELLO = 1,
    FRAME_WELCOME,
    FRAME_REFUSE,
    FRAME_ENTRIES,
    FRAME_CONTENT,
    FRAME_ACK,
    FRAME_PING
};

struct frame {
    enum frame_type type;
    struct bytes payload; /* a view */
};

/* Appends one frame. */
void frame_encode(struct buf *out, enum frame_type type, struct bytes payload);
/* In two steps, for payloads that are written in place: frame_begin() remembers where, frame_end()
 * fills the header in. */
size_t frame_begin(struct buf *out, enum frame_type type);
void frame_end(struct buf *out, size_t begun);

/* Takes the frame at the front of `stream`: ERR_OK and how many bytes it took; ERR_END: not all of
 * it is there yet; ERR_PROTOCOL. */
int frame_decode(struct bytes stream, struct frame *frame, size_t *taken);

struct hello {
    uint32_t version;  /* the highest that the follower speaks */
    uint64_t store_id; /* 0: none yet */
    uint64_t node_id;
    struct position position;
    struct bytes name; /* the follower's; may be empty */
};
struct welcome {
    uint32_t version; /* that is spoken from here on */
    uint64_t store_id;
    uint64_t node_id;
    struct position last;
};
struct refuse {
    uint32_t code; /* enum err */
    struct bytes text;
};
enum content_state { CONTENT_PART, CONTENT_LAST, CONTENT_GONE };
struct content_part {
    struct guid guid;
    enum content_state state;
    struct bytes data; /* deflated */
};
struct ack {
    struct position position; /* durable at the follower */
    uint64_t consumed; /* bytes of frames taken in since the start, so that more may be sent */
};

void hello_encode(const struct hello *hello, struct buf *out);
void welcome_encode(const struct welcome *welcome, struct buf *out);
void refuse_encode(const struct refuse *refuse, struct buf *out);
void content_part_encode(const struct content_part *part, struct buf *out);
void ack_encode(const struct ack *ack, struct buf *out);
/* ERR_PROTOCOL with a message; views point into the payload. */
int hello_decode(struct bytes payload, struct hello *hello);
int welcome_decode(struct bytes payload, struct welcome *welcome);
int refuse_decode(struct bytes payload, struct refuse *refuse);
int content_part_decode(struct bytes payload, struct content_part *part);
int ack_decode(struct bytes payload, struct ack *ack);

#endif
