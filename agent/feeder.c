#include "agent/feeder.h"

#include "base/err.h"
#include "mailbox/change.h"
#include "mailbox/content.h"

#include <stdlib.h>

#define READ_AHEAD (256u << 10) /* bytes of entries read at once */
#define CONTENT_PIECE (192u << 10)

struct feeder {
    struct store *store;
    uint64_t after;     /* the last entry that was read */
    struct buf entries; /* read and not sent yet, from `at` on */
    size_t at;
    struct change change;
    /* Content that is being sent: of the entry at `at`, which goes behind it. */
    bool sending;
    bool sent; /* the entry at `at` has had its content */
    struct guid guid;
    uint64_t offset;
};

int feeder_open(struct store *store, uint64_t after, struct feeder **out)
{
    struct feeder *feeder = calloc(1, sizeof *feeder);
    *out = feeder;
    if (!feeder)
        return fail(ERR_NOMEM, "out of memory");
    feeder->store = store;
    feeder->after = after;
    return ERR_OK;
}

void feeder_close(struct feeder *feeder)
{
    if (!feeder)
        return;
    buf_free(&feeder->entries);
    change_free(&feeder->change);
    free(feeder);
}

static int read_entries(struct tx *tx, void *arg)
{
    struct feeder *feeder = arg;
    struct position last;
    buf_reset(&feeder->entries);
    feeder->at = 0;
    int rc = journal_copy(tx_db(tx), feeder->after, READ_AHEAD, &feeder->entries, &last);
    if (rc == ERR_OK)
        feeder->after = last.modseq;
    return rc;
}

struct piece {
    struct feeder *feeder;
    struct buf data;
    bool gone;
    bool last;
};

static int read_piece(struct tx *tx, void *arg)
{
    struct piece *piece = arg;
    struct feeder *feeder = piece->feeder;
    struct content content;
    buf_reset(&piece->data);
    int rc = content_get(tx_db(tx), &feeder->guid, &content);
    piece->gone = rc == ERR_END || (rc == ERR_OK && content.number == 0);
    if (piece->gone || rc)
        return piece->gone ? ERR_OK : rc;
    rc = content_copy(tx_db(tx), &content, feeder->offset, CONTENT_PIECE, &piece->data);
    piece->last = feeder->offset + piece->data.size >= content.stored;
    return rc;
}

/* Content that was purged since, and perhaps came again meanwhile, is gone as far as this entry is
 * concerned. */
static int send_piece(struct feeder *feeder, struct buf *out)
{
    struct piece piece = {.feeder = feeder};
    int rc = store_read(feeder->store, read_piece, &piece);
    if (rc == ERR_CORRUPT || rc == ERR_END) {
        /* Unreadable here: the follower goes on without it, as with content that is gone. */
        piece.gone = true;
        rc = ERR_OK;
    }
    if (rc == ERR_OK) {
        struct content_part part = {.guid = feeder->guid,
                                    .state = piece.gone   ? CONTENT_GONE
                                             : piece.last ? CONTENT_LAST
                                                          : CONTENT_PART,
                                    .data = piece.gone ? bytes_of(NULL, 0) : buf_view(&piece.data)};
        content_part_encode(&part, out);
        feeder->offset += piece.data.size;
        feeder->sending = !piece.gone && !piece.last;
        feeder->sent = !feeder->sending;
    }
    buf_free(&piece.data);
    return rc;
}

/* Whether content goes before this entry. */
static int look_for_content(struct feeder *feeder, struct bytes encoded)
{
    struct entry entry;
    if (feeder->sent)
        return ERR_OK;
    int rc = entry_decode(encoded, &entry);
    if (rc || entry.kind != ENTRY_APPEND)
        return rc;
    rc = change_decode(&entry, &feeder->change);
    if (rc == ERR_OK && feeder->change.introduces) {
        feeder->sending = true;
        feeder->offset = 0;
        feeder->guid = feeder->change.records[0].guid;
    }
    return rc;
}

/* One frame of entries, up to the next that needs its content first. */
static int send_entries(struct feeder *feeder, size_t most, struct buf *out)
{
    size_t begun = frame_begin(out, FRAME_ENTRIES);
    size_t start = out->size;
    int rc = ERR_OK;
    while (feeder->at < feeder->entries.size && out->size - start < most) {
        struct bytes left =
            bytes_of(feeder->entries.data + feeder->at, feeder->entries.size - feeder->at);
        struct bytes encoded = bytes_of(left.data, entry_size(left));
        rc = encoded.size ? look_for_content(feeder, encoded)
                          : fail(ERR_CORRUPT, "journal: an entry is cut short");
        if (rc || feeder->sending)
            break;
        buf_put(out, encoded.data, encoded.size);
        feeder->at += encoded.size;
        feeder->sent = false;
    }
    if (out->size == start)
        out->size = begun;
    else
        frame_end(out, begun);
    return rc;
}

int feeder_fill(struct feeder *feeder, size_t most, struct buf *out, bool *all)
{
    int rc = ERR_OK;
    *all = false;
    while (rc == ERR_OK && out->size < most) {
        if (feeder->sending)
            rc = send_piece(feeder, out);
        else if (feeder->at < feeder->entries.size)
            rc = send_entries(feeder, most, out);
        else
            rc = store_read(feeder->store, read_entries, feeder);
    }
    *all = rc == ERR_END;
    if (out->failed)
        return fail(ERR_NOMEM, "out of memory");
    return rc == ERR_END ? ERR_OK : rc;
}

struct checking {
    const struct hello *hello;
    struct welcome *welcome;
};

static int check(struct tx *tx, void *arg)
{
    struct checking *work = arg;
    const struct hello *hello = work->hello;
    const struct node *node = tx_node(tx);
    if (node->store_id == 0)
        return fail(ERR_REFUSED, "this node has met no master yet");
    if (hello->node_id == node->node_id)
        return fail(ERR_REFUSED, "a node cannot follow itself");
    if (hello->store_id && hello->store_id != node->store_id)
        return fail(ERR_REFUSED, "another store: %016llx here, %016llx there",
                    (unsigned long long)node->store_id, (unsigned long long)hello->store_id);
    struct position position = hello->position;
    if (hello->store_id == 0)
        position = (struct position){.chain = entry_chain_start(node->store_id)};
    *work->welcome = (struct welcome){.version = PROTOCOL_VERSION,
                                      .store_id = node->store_id,
                                      .node_id = node->node_id,
                                      .last = tx_window(tx)->last};
    int rc = journal_holds(tx_db(tx), position);
    if (rc == ERR_TRIMMED)
        return fail(rc, "gap: the follower is at %llu, the journal here begins behind %llu",
                    (unsigned long long)position.modseq,
                    (unsigned long long)tx_window(tx)->base.modseq);
    if (rc == ERR_END)
        return fail(ERR_DIFFERS,
                    "fork: the follower's position %llu is not on the journal here (last %llu)",
                    (unsigned long long)position.modseq,
                    (unsigned long long)tx_window(tx)->last.modseq);
    return rc;
}

int feeder_check(struct store *store, const struct hello *hello, struct welcome *welcome)
{
    struct checking work = {.hello = hello, .welcome = welcome};
    if (hello->version < PROTOCOL_VERSION)
        return fail(ERR_REFUSED, "protocol version %u is not spoken here", hello->version);
    return store_read(store, check, &work);
}
