#include "agent/receiver.h"

#include "base/err.h"
#include "mailbox/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAITING_MAX (16u << 20)     /* bytes of entries of one unfinished commit */
#define DRAFT_MEMORY_MAX (2u << 20) /* bytes of drafts that may wait in memory */
#define DRAFTS_MAX 8192u            /* pieces of content that one unfinished commit may bring */

/* A finished draft, and how many bytes of entries had come before it: it belongs to what comes
 * behind. */
struct arrival {
    struct draft *draft;
    size_t at;
};

struct receiver {
    struct store *store;
    char master[PEER_MAX_SIZE + 1];
    uint64_t store_id;
    struct position position;
    struct buf entries; /* of commits that are not whole yet */
    size_t whole;       /* bytes of these that are whole commits */
    struct arrival *arrivals;
    size_t count;
    size_t capacity;
    size_t memory;      /* of the arrivals' drafts */
    struct draft *open; /* content that is coming in */
    struct guid guid;   /* its announced name */
};

int receiver_open(struct store *store, const char *master, struct receiver **out)
{
    struct receiver *receiver = calloc(1, sizeof *receiver);
    *out = receiver;
    if (!receiver)
        return fail(ERR_NOMEM, "out of memory");
    receiver->store = store;
    snprintf(receiver->master, sizeof receiver->master, "%s", master);
    return ERR_OK;
}

void receiver_close(struct receiver *receiver)
{
    if (!receiver)
        return;
    for (size_t i = 0; i < receiver->count; i++)
        draft_close(receiver->arrivals[i].draft);
    draft_close(receiver->open);
    free(receiver->arrivals);
    buf_free(&receiver->entries);
    free(receiver);
}

struct greeting {
    struct hello *hello;
    enum role role;
};

static int greet(struct tx *tx, void *arg)
{
    struct greeting *work = arg;
    const struct node *node = tx_node(tx);
    *work->hello = (struct hello){.version = PROTOCOL_VERSION,
                                  .store_id = node->store_id,
                                  .node_id = node->node_id,
                                  .position = tx_window(tx)->last};
    work->role = node->role;
    return ERR_OK;
}

int receiver_hello(struct receiver *receiver, struct hello *hello)
{
    struct greeting work = {.hello = hello};
    int rc = store_read(receiver->store, greet, &work);
    if (rc == ERR_OK && work.role != ROLE_REPLICA)
        rc = fail(ERR_REFUSED, "%s: a master follows nobody", store_path(receiver->store));
    receiver->position = hello->position;
    return rc;
}

void receiver_welcome(struct receiver *receiver, const struct welcome *welcome)
{
    receiver->store_id = welcome->store_id;
}

static int add_arrival(struct receiver *receiver)
{
    if (receiver->count == DRAFTS_MAX)
        return fail(ERR_PROTOCOL, "more content than one commit can bring");
    if (receiver->count == receiver->capacity) {
        size_t capacity = receiver->capacity ? receiver->capacity * 2 : 16;
        struct arrival *arrivals = realloc(receiver->arrivals, capacity * sizeof *arrivals);
        if (!arrivals)
            return fail(ERR_NOMEM, "out of memory");
        receiver->arrivals = arrivals;
        receiver->capacity = capacity;
    }
    receiver->arrivals[receiver->count++] =
        (struct arrival){.draft = receiver->open, .at = receiver->entries.size};
    receiver->memory += draft_memory(receiver->open);
    receiver->open = NULL;
    if (receiver->memory <= DRAFT_MEMORY_MAX)
        return ERR_OK;
    int rc = ERR_OK;
    for (size_t i = 0; i < receiver->count && rc == ERR_OK; i++)
        rc = draft_stage(receiver->arrivals[i].draft);
    receiver->memory = 0;
    return rc;
}

static int take_content(struct receiver *receiver, struct bytes payload)
{
    struct content_part part;
    int rc = content_part_decode(payload, &part);
    if (rc)
        return rc;
    if (receiver->open && !guid_equal(&receiver->guid, &part.guid))
        return fail(ERR_PROTOCOL, "content within other content");
    if (part.state == CONTENT_GONE) {
        draft_close(receiver->open);
        receiver->open = NULL;
        return ERR_OK;
    }
    if (!receiver->open)
        rc = draft_open(store_db(receiver->store), DRAFT_DEFLATED, &receiver->open);
    receiver->guid = part.guid;
    if (rc == ERR_OK)
        rc = draft_write(receiver->open, part.data.data, part.data.size);
    if (rc || part.state == CONTENT_PART)
        return rc;
    rc = draft_finish(receiver->open);
    if (rc == ERR_OK && !guid_equal(draft_guid(receiver->open), &part.guid))
        rc = fail(ERR_PROTOCOL, "content that is not what its GUID says");
    return rc ? rc : add_arrival(receiver);
}

/* Finds out how many of the entries are whole commits. Their proof is store_apply()'s business. */
static int take_entries(struct receiver *receiver, struct bytes payload)
{
    size_t at = receiver->entries.size;
    buf_put(&receiver->entries, payload.data, payload.size);
    if (receiver->entries.failed)
        return fail(ERR_NOMEM, "out of memory");
    while (at < receiver->entries.size) {
        struct bytes left = bytes_of(receiver->entries.data + at, receiver->entries.size - at);
        struct entry entry;
        struct bytes encoded = bytes_of(left.data, entry_size(left));
        if (!encoded.size || entry_decode(encoded, &entry))
            return fail(ERR_PROTOCOL, "malformed journal entries");
        at += encoded.size;
        if (entry.end_of_commit)
            receiver->whole = at;
    }
    return at - receiver->whole > WAITING_MAX ? fail(ERR_PROTOCOL, "a commit without end") : ERR_OK;
}

/* What belongs to the whole commits goes; what came behind moves to the front. */
static void forget_applied(struct receiver *receiver)
{
    size_t kept = 0;
    receiver->memory = 0;
    for (size_t i = 0; i < receiver->count; i++) {
        struct arrival arrival = receiver->arrivals[i];
        if (arrival.at < receiver->whole) {
            draft_close(arrival.draft);
            continue;
        }
        arrival.at -= receiver->whole;
        receiver->memory += draft_memory(arrival.draft);
        receiver->arrivals[kept++] = arrival;
    }
    receiver->count = kept;
    receiver->entries.size -= receiver->whole;
    memmove(receiver->entries.data, receiver->entries.data + receiver->whole,
            receiver->entries.size);
    receiver->whole = 0;
}

static int apply_whole(struct receiver *receiver)
{
    size_t count = 0;
    if (!receiver->whole)
        return ERR_OK;
    struct draft **drafts = malloc((receiver->count + 1) * sizeof(struct draft *));
    if (!drafts)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < receiver->count; i++)
        if (receiver->arrivals[i].at < receiver->whole)
            drafts[count++] = receiver->arrivals[i].draft;
    struct batch batch = {.store_id = receiver->store_id,
                          .master = receiver->master,
                          .entries = bytes_of(receiver->entries.data, receiver->whole),
                          .drafts = drafts,
                          .draft_count = count};
    int rc = store_apply(receiver->store, &batch, &receiver->position);
    free(drafts);
    if (rc == ERR_OK)
        forget_applied(receiver);
    return rc;
}

int receiver_take(struct receiver *receiver, struct bytes frames, struct position *position)
{
    int rc = ERR_OK;
    while (frames.size && rc == ERR_OK) {
        struct frame frame;
        size_t taken;
        rc = frame_decode(frames, &frame, &taken);
        if (rc)
            return rc == ERR_END ? fail(ERR_PROTOCOL, "a frame that is cut short") : rc;
        rc = frame.type == FRAME_CONTENT ? take_content(receiver, frame.payload)
                                         : take_entries(receiver, frame.payload);
        frames = bytes_of(frames.data + taken, frames.size - taken);
    }
    if (rc == ERR_OK)
        rc = apply_whole(receiver);
    *position = receiver->position;
    return rc;
}
