/* Messages: what is in the frames' payloads. docs/PROTOCOL.md describes them. No I/O.
 *
 * Each message is a struct; message_encode_…() appends it as a whole frame, message_decode_…()
 * takes a frame's payload: ERR_PROTOCOL with a message unless it is what the encoder writes. Views
 * point into the payload.
 */
#ifndef SHIPLOG_AGENT_MESSAGE_H
#define SHIPLOG_AGENT_MESSAGE_H

#include "agent/frame.h"
#include "base/hash.h"
#include "journal/epoch.h"

#define PROTOCOL_MAGIC 0x504c4853u /* "SHLP" */
#define PROTOCOL_VERSION 1u
#define PEER_NAME_MAX 255u /* bytes */
#define REASON_MAX 400u    /* bytes of a text for people */
#define HELLO_MAX 4096u    /* bytes of a hello's payload: nothing larger is taken from a stranger */
#define WANT_MAX 256u      /* GUIDs in one message */

/* A follower's greeting. Whatever follows the name is left unread: later versions may add to it. */
struct hello {
    uint32_t oldest; /* versions of the protocol that it speaks */
    uint32_t newest;
    uint64_t node_id;
    uint64_t store_id;        /* 0: none yet */
    struct position position; /* where its journal ends */
    uint64_t digest;          /* of its mail there */
    bool repairing;           /* some of its mailboxes wait to be made equal */
    bool master;              /* it is one, and only wants to know whether it still is */
    bool adopt;               /* a history of its own is to be taken in */
    bool dry_run;             /* it only wants to know what would be done */
    struct epoch_id epoch;    /* that it is in; number 0: none yet */
    struct bytes name;        /* printable; may be empty */
};

struct welcome {
    uint32_t version; /* that is spoken from here on */
    uint64_t store_id;
    uint64_t node_id;
    struct position base; /* the upstream's window */
    struct position last;
    uint64_t digest;    /* of the upstream's mail at `last` */
    uint32_t heartbeat; /* milliseconds: who has said nothing for so long sends a PING */
    uint32_t window;    /* bytes of frames that may be under way to the follower */
};

/* Why a follower is not fed. The numbers are on the wire: append only. */
#define REFUSAL_MAP(X)                                                                             \
    X(OTHER, "other")                                                                              \
    X(VERSION, "version")     /* no version of the protocol in common */                           \
    X(STORE, "store")         /* not a store that this follower can have here */                   \
    X(NOT_READY, "not-ready") /* come again later */                                               \
    X(GAP, "gap")             /* the window no longer reaches back to its position */              \
    X(FORK, "fork")           /* its position is not on the journal */                             \
    X(NAME, "name")           /* another follower bears its name */                                \
    X(EPOCH, "epoch")         /* it is a master, and there is a later epoch than its own */

enum refusal {
#define X(symbol, name) REFUSAL_##symbol,
    REFUSAL_MAP(X)
#undef X
        REFUSAL_COUNT
};
const char *refusal_name(enum refusal refusal);

struct refuse {
    enum refusal why; /* OTHER when the number is not known here */
    struct bytes text;
    uint32_t epoch; /* EPOCH: number of the later one; else 0 */
};

enum content_purpose {
    CONTENT_AHEAD, /* of the entry that introduces it, which follows */
    CONTENT_WANTED /* answers a WANT */
};
enum content_state {
    CONTENT_PART,   /* more follows */
    CONTENT_LAST,   /* this is all */
    CONTENT_GONE,   /* no record at the upstream refers to it any more */
    CONTENT_MISSING /* the upstream has not got it, or cannot read it, though records refer to it */
};
struct content_part {
    struct guid guid;
    enum content_purpose purpose;
    enum content_state state;
    uint64_t size;     /* raw bytes of the whole */
    uint64_t stored;   /* deflated bytes of the whole */
    uint64_t offset;   /* of `data`; 0 begins anew */
    struct bytes data; /* deflated; empty when gone or missing */
};

/* The answer to a question of a repair (agent/ask.h), or why there is none. */
struct answered {
    bool failed;
    struct bytes bytes; /* the answer; when it failed, a text for people */
};

struct ack {
    struct position position; /* durable at the follower */
    uint64_t consumed;        /* bytes of ENTRIES and CONTENT frames taken in since the start */
};

void message_encode_hello(const struct hello *hello, struct buf *out);
void message_encode_welcome(const struct welcome *welcome, struct buf *out);
void message_encode_refuse(const struct refuse *refuse, struct buf *out);
void message_encode_content(const struct content_part *part, struct buf *out);
void message_encode_ack(const struct ack *ack, struct buf *out);
void message_encode_want(struct bytes guids, struct buf *out); /* one GUID behind another */
void message_encode_ping(struct buf *out);
void message_encode_bye(const char *reason, struct buf *out);
void message_encode_repair(const char *reason, struct buf *out);
void message_encode_ask(struct bytes question, struct buf *out);
void message_encode_answer(const struct answered *answer, struct buf *out);
void message_encode_plan(struct bytes plan, struct buf *out); /* as plan_encode() writes */

int message_decode_hello(struct bytes payload, struct hello *hello);
int message_decode_welcome(struct bytes payload, struct welcome *welcome);
int message_decode_refuse(struct bytes payload, struct refuse *refuse);
int message_decode_content(struct bytes payload, struct content_part *part);
int message_decode_ack(struct bytes payload, struct ack *ack);
int message_decode_want(struct bytes payload, struct bytes *guids);
int message_decode_ping(struct bytes payload);
int message_decode_bye(struct bytes payload, struct bytes *reason);
int message_decode_repair(struct bytes payload, struct bytes *reason);
int message_decode_answer(struct bytes payload, struct answered *answer);

/* Questions and plans are the whole payload. */

/* A text of the peer's for logs: cut, and without what would break a line or a quotation. */
void message_plain(struct bytes text, char out[REASON_MAX + 1]);

#endif
