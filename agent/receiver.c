#include "agent/receiver.h"

#include "agent/log.h"
#include "base/array.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/change.h"
#include "mailbox/draft.h"
#include "mailbox/lacking.h"
#include "mailbox/stop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRAFT_MEMORY_MAX (4u << 20) /* bytes of drafts that may wait in memory */
/* Pieces of content that wait for their entries: as many appends as a commit has room for. */
#define ARRIVALS_MAX (STORE_COMMIT_MAX / (ENTRY_HEADER_SIZE + GUID_SIZE))
#define SLICE_COST 1024u        /* records, about, in one transaction */
#define SLICE_MEMORY (2u << 20) /* bytes of drafts that one transaction writes */
#define RECORD_SIZE 64u         /* bytes, at least, of a record within an entry */
#define LOOK_ROWS 8192u         /* rows of the table of GUIDs that are looked at in one go */

/* What came ahead of the entry that begins at `at`. */
struct arrival {
    size_t at;
    struct guid guid;
    struct draft *draft; /* NULL: gone or missing at the upstream */
};

/* A whole commit that waits. */
struct waiting {
    size_t end; /* behind its last entry */
    uint64_t cost;
};

/* Content that is coming in. */
struct incoming {
    struct draft *draft; /* NULL: none */
    enum content_purpose purpose;
    struct guid guid;
    uint64_t size;
    uint64_t stored;
};

struct receiver {
    struct store *store;
    char master[PEER_MAX_SIZE + 1];
    char former[PEER_MAX_SIZE + 1]; /* whom the store names as its master, as far as is known */
    bool former_known;
    uint64_t store_id;
    struct position position;
    struct position acknowledged; /* up to here all mailboxes are followed */
    uint64_t stops;               /* mailboxes that wait to be made equal */
    uint64_t stops_before;
    bool repairing;
    struct buf entries; /* that were not applied yet */
    struct waiting *commits;
    size_t commit_count;
    size_t commit_capacity;
    uint64_t cost;       /* of entries behind the last whole commit */
    uint64_t whole_cost; /* of the whole commits that wait */
    struct arrival *arrivals;
    size_t arrival_count;
    size_t arrival_capacity;
    size_t memory; /* of the arrivals' drafts */
    struct incoming incoming;
    uint64_t answered;
    struct buf missed;   /* GUIDs */
    struct buf absent;   /* GUIDs that the upstream has lost, of content that is not here either */
    struct guid looking; /* the search for missing content goes on behind this one */
    struct change change;
};

int receiver_open(struct store *store, const char *master, const char *former,
                  struct receiver **out)
{
    struct receiver *receiver = calloc(1, sizeof *receiver);
    *out = receiver;
    if (!receiver)
        return fail(ERR_NOMEM, "out of memory");
    receiver->store = store;
    snprintf(receiver->master, sizeof receiver->master, "%s", master);
    receiver->former_known = former != NULL;
    snprintf(receiver->former, sizeof receiver->former, "%s", former ? former : "");
    return ERR_OK;
}

void receiver_close(struct receiver *receiver)
{
    if (!receiver)
        return;
    for (size_t i = 0; i < receiver->arrival_count; i++)
        draft_close(receiver->arrivals[i].draft);
    draft_close(receiver->incoming.draft);
    free(receiver->arrivals);
    free(receiver->commits);
    buf_free(&receiver->entries);
    buf_free(&receiver->missed);
    buf_free(&receiver->absent);
    change_free(&receiver->change);
    free(receiver);
}

/* Mailboxes that wait, and whether any is not followed up to the journal's end. */
static int count_stops(struct tx *tx, struct receiver *receiver)
{
    struct stop stop;
    uint64_t id = 0;
    int rc;
    receiver->stops = 0;
    receiver->repairing = false;
    while ((rc = stop_next(tx_db(tx), &id, &stop)) == ERR_OK) {
        receiver->repairing = true;
        receiver->stops += stop.state == STOP_WAITING;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

struct greeting {
    struct receiver *receiver;
    struct hello *hello;
};

static int greet(struct tx *tx, void *arg)
{
    struct greeting *work = arg;
    const struct node *node = tx_node(tx);
    *work->hello = (struct hello){.oldest = PROTOCOL_VERSION,
                                  .newest = PROTOCOL_VERSION,
                                  .store_id = node->store_id,
                                  .node_id = node->node_id,
                                  .position = tx_window(tx)->last,
                                  .master = node->role == ROLE_MASTER,
                                  .epoch = node->epoch,
                                  .digest = node_digest(node)};
    if (!work->receiver->former_known)
        snprintf(work->receiver->former, sizeof work->receiver->former, "%s", node->master);
    work->receiver->former_known = true;
    int rc = count_stops(tx, work->receiver);
    work->hello->repairing = work->receiver->repairing;
    return rc;
}

int receiver_hello(struct receiver *receiver, struct hello *hello)
{
    struct greeting work = {.receiver = receiver, .hello = hello};
    int rc = store_read(receiver->store, greet, &work);
    if (rc == ERR_OK) {
        receiver->position = receiver->acknowledged = hello->position;
        receiver->stops_before = receiver->stops;
    }
    return rc;
}

void receiver_welcome(struct receiver *receiver, const struct welcome *welcome)
{
    receiver->store_id = welcome->store_id;
}

/* All that waits at once: each staging is a durable transaction. */
static int stage_arrivals(struct receiver *receiver)
{
    struct draft **drafts = calloc(receiver->arrival_count + 1, sizeof(struct draft *));
    if (!drafts)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < receiver->arrival_count; i++)
        drafts[i] = receiver->arrivals[i].draft;
    int rc = draft_stage_all(drafts, receiver->arrival_count);
    receiver->memory = 0;
    for (size_t i = 0; i < receiver->arrival_count; i++)
        receiver->memory += drafts[i] ? draft_memory(drafts[i]) : 0;
    free(drafts);
    return rc;
}

/* `draft` belongs to the receiver in every case. */
static int add_arrival(struct receiver *receiver, const struct guid *guid, struct draft *draft)
{
    struct arrival *room = NULL;
    int rc = ERR_NOMEM;
    if (receiver->arrival_count == ARRIVALS_MAX)
        rc = fail(ERR_PROTOCOL, "more content than one commit can bring");
    else
        room = array_room(receiver->arrivals, receiver->arrival_count, &receiver->arrival_capacity,
                          sizeof *room);
    if (!room) {
        draft_close(draft);
        return rc;
    }
    receiver->arrivals = room;
    room[receiver->arrival_count++] =
        (struct arrival){.at = receiver->entries.size, .guid = *guid, .draft = draft};
    receiver->memory += draft ? draft_memory(draft) : 0;
    return ERR_OK;
}

static int adopt(struct tx *tx, void *arg)
{
    struct draft *draft = arg;
    bool lacking;
    int rc = content_lacks(tx_db(tx), draft_guid(draft), &lacking);
    return rc || !lacking ? rc : draft_adopt(tx_db(tx), draft, NULL);
}

/* The incoming content is all here. */
static int finish_incoming(struct receiver *receiver)
{
    struct incoming *incoming = &receiver->incoming;
    struct draft *draft = incoming->draft;
    int rc = draft_finish(draft);
    if (rc == ERR_CORRUPT || (rc == ERR_OK && (!guid_equal(draft_guid(draft), &incoming->guid) ||
                                               draft_size(draft) != incoming->size)))
        rc = fail(ERR_PROTOCOL, "content that is not what its GUID and size say");
    incoming->draft = NULL;
    if (rc == ERR_OK && incoming->purpose == CONTENT_AHEAD)
        return add_arrival(receiver, &incoming->guid, draft);
    if (rc == ERR_OK) {
        receiver->answered++;
        rc = store_maintain(receiver->store, adopt, draft);
    }
    draft_close(draft);
    return rc;
}

static int begin_incoming(struct receiver *receiver, const struct content_part *part)
{
    struct incoming *incoming = &receiver->incoming;
    draft_close(incoming->draft);
    *incoming = (struct incoming){
        .purpose = part->purpose, .guid = part->guid, .size = part->size, .stored = part->stored};
    return draft_open(store_db(receiver->store), DRAFT_DEFLATED, &incoming->draft);
}

static bool continues(const struct incoming *incoming, const struct content_part *part)
{
    return incoming->draft && incoming->purpose == part->purpose &&
           guid_equal(&incoming->guid, &part->guid) && incoming->size == part->size &&
           incoming->stored == part->stored && draft_stored(incoming->draft) == part->offset;
}

/* The upstream has not got it. What came of it so far is worth nothing. */
static int take_absence(struct receiver *receiver, const struct content_part *part)
{
    draft_close(receiver->incoming.draft);
    receiver->incoming.draft = NULL;
    if (part->state == CONTENT_MISSING)
        buf_put(&receiver->absent, part->guid.bytes, GUID_SIZE);
    if (receiver->absent.failed)
        return fail(ERR_NOMEM, "out of memory");
    if (part->purpose == CONTENT_AHEAD)
        return add_arrival(receiver, &part->guid, NULL);
    receiver->answered++;
    return ERR_OK;
}

static int mark_absent(struct tx *tx, void *arg)
{
    const struct buf *absent = arg;
    for (size_t at = 0; at < absent->size; at += GUID_SIZE) {
        bool lacking;
        struct guid guid;
        memcpy(guid.bytes, absent->data + at, GUID_SIZE);
        int rc = content_lacks(tx_db(tx), &guid, &lacking);
        if (rc == ERR_OK && lacking)
            rc = lacking_mark(tx_db(tx), &guid);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

/* When the entries that it came ahead of are applied. */
static int keep_absent(struct receiver *receiver)
{
    if (!receiver->absent.size || receiver->entries.size)
        return ERR_OK;
    int rc = store_maintain(receiver->store, mark_absent, &receiver->absent);
    buf_reset(&receiver->absent);
    return rc;
}

static int take_content(struct receiver *receiver, struct bytes payload)
{
    struct content_part part;
    struct incoming *incoming = &receiver->incoming;
    int rc = message_decode_content(payload, &part);
    if (rc)
        return rc;
    if (part.state == CONTENT_GONE || part.state == CONTENT_MISSING)
        return take_absence(receiver, &part);
    if (part.offset == 0)
        rc = begin_incoming(receiver, &part);
    else if (!continues(incoming, &part))
        rc = fail(ERR_PROTOCOL, "content that does not continue what came before");
    if (rc == ERR_OK)
        rc = draft_write(incoming->draft, part.data.data, part.data.size);
    if (rc == ERR_CORRUPT || (rc == ERR_OK && draft_size(incoming->draft) > incoming->size))
        rc = fail(ERR_PROTOCOL, "content that is not what its GUID and size say");
    if (rc || part.state == CONTENT_PART)
        return rc;
    return finish_incoming(receiver);
}

/* How many records an entry is about, about: enough to bound a transaction. */
static uint64_t cost_of(const struct entry *entry)
{
    bool whole_records = entry->kind == ENTRY_APPEND || entry->kind == ENTRY_EXPUNGE;
    return 1 + entry->body.size / (whole_records ? RECORD_SIZE : 2);
}

static int end_commit(struct receiver *receiver, size_t end)
{
    struct waiting *room = array_room(receiver->commits, receiver->commit_count,
                                      &receiver->commit_capacity, sizeof *room);
    if (!room)
        return ERR_NOMEM;
    receiver->commits = room;
    room[receiver->commit_count++] = (struct waiting){.end = end, .cost = receiver->cost};
    receiver->whole_cost += receiver->cost;
    receiver->cost = 0;
    return ERR_OK;
}

/* Finds the ends of commits. What is in the entries is store_apply()'s business. */
static int take_entries(struct receiver *receiver, struct bytes payload)
{
    size_t at = receiver->entries.size;
    buf_put(&receiver->entries, payload.data, payload.size);
    if (receiver->entries.failed)
        return fail(ERR_NOMEM, "out of memory");
    while (at < receiver->entries.size) {
        struct bytes left = bytes_of(receiver->entries.data + at, receiver->entries.size - at);
        struct bytes encoded = bytes_of(left.data, entry_size(left));
        struct entry entry;
        if (!encoded.size || entry_decode(encoded, &entry))
            return fail(ERR_PROTOCOL, "malformed journal entries");
        at += encoded.size;
        receiver->cost += cost_of(&entry);
        int rc = entry.end_of_commit ? end_commit(receiver, at) : ERR_OK;
        if (rc)
            return rc;
    }
    size_t whole = receiver->commit_count ? receiver->commits[receiver->commit_count - 1].end : 0;
    return at - whole > STORE_COMMIT_MAX ? fail(ERR_PROTOCOL, "a commit that does not end")
                                         : ERR_OK;
}

/* Commits and arrivals that go into one transaction. */
struct slice {
    size_t start; /* of its entries */
    size_t end;
    size_t commits;  /* index behind its last */
    size_t arrivals; /* index behind its last */
};

/* As many commits as keep the transaction small, but one at least. */
static void cut_slice(const struct receiver *receiver, const struct slice *before,
                      struct slice *slice)
{
    uint64_t cost = 0;
    size_t memory = 0;
    *slice = *before;
    slice->start = before->end;
    while (slice->commits < receiver->commit_count) {
        const struct waiting *commit = &receiver->commits[slice->commits];
        size_t arrivals = slice->arrivals;
        while (arrivals < receiver->arrival_count &&
               receiver->arrivals[arrivals].at < commit->end) {
            const struct draft *draft = receiver->arrivals[arrivals++].draft;
            memory += draft ? draft_memory(draft) : 0;
        }
        cost += commit->cost;
        if (slice->end > slice->start && (cost > SLICE_COST || memory > SLICE_MEMORY))
            break;
        slice->end = commit->end;
        slice->arrivals = arrivals;
        slice->commits++;
    }
}

struct looking {
    struct receiver *receiver;
    const struct slice *slice;
    size_t arrival; /* index of the next */
    bool all;
};

static int note_missing(struct receiver *receiver, struct db_txn *txn, const struct guid *guid)
{
    bool lacking;
    int rc = content_lacks(txn, guid, &lacking);
    if (rc)
        return rc;
    if (lacking)
        buf_put(&receiver->missed, guid->bytes, GUID_SIZE);
    return receiver->missed.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

static int look_at_entry(struct looking *work, struct tx *tx, size_t at, struct bytes encoded)
{
    struct receiver *receiver = work->receiver;
    struct entry entry;
    bool arrived = false;
    for (; work->arrival < work->slice->arrivals && receiver->arrivals[work->arrival].at <= at;
         work->arrival++)
        arrived = true;
    int rc = entry_decode(encoded, &entry);
    if (rc || entry.kind != ENTRY_APPEND || arrived)
        return rc;
    rc = change_decode(&entry, &receiver->change);
    for (size_t i = 0; rc == ERR_OK && i < receiver->change.record_count; i++)
        rc = note_missing(receiver, tx_db(tx), &receiver->change.records[i].guid);
    return rc;
}

/* An entry may refer to content that the upstream thought to be here, and that is not: it was
 * expired here, or has been missing for long. */
static int look_at_slice(struct tx *tx, void *arg)
{
    struct looking *work = arg;
    const struct slice *slice = work->slice;
    int rc = count_stops(tx, work->receiver);
    for (size_t at = slice->start; rc == ERR_OK && at < slice->end;) {
        struct bytes left = bytes_of(work->receiver->entries.data + at, slice->end - at);
        struct bytes encoded = bytes_of(left.data, entry_size(left));
        rc = look_at_entry(work, tx, at, encoded);
        at += encoded.size;
    }
    return rc;
}

static int apply_slice(struct receiver *receiver, const struct slice *before,
                       const struct slice *slice)
{
    size_t count = 0;
    struct draft **drafts =
        malloc((slice->arrivals - before->arrivals + 1) * sizeof(struct draft *));
    if (!drafts)
        return fail(ERR_NOMEM, "out of memory");
    for (size_t i = before->arrivals; i < slice->arrivals; i++)
        if (receiver->arrivals[i].draft)
            drafts[count++] = receiver->arrivals[i].draft;
    struct batch batch = {
        .store_id = receiver->store_id,
        .master = receiver->master,
        .former = receiver->former,
        .entries = bytes_of(receiver->entries.data + slice->start, slice->end - slice->start),
        .drafts = drafts,
        .draft_count = count};
    int rc = store_apply(receiver->store, &batch, &receiver->position);
    if (rc == ERR_OK) {
        log_debug("applied", "store=%s modseq=%llu", store_path(receiver->store),
                  (unsigned long long)receiver->position.modseq);
        memcpy(receiver->former, receiver->master, sizeof receiver->former);
    }
    struct looking work = {.receiver = receiver, .slice = slice, .arrival = before->arrivals};
    if (rc == ERR_OK)
        rc = store_read(receiver->store, look_at_slice, &work);
    for (size_t i = before->arrivals; rc == ERR_OK && i < slice->arrivals; i++) {
        struct arrival *arrival = &receiver->arrivals[i];
        receiver->memory -= arrival->draft ? draft_memory(arrival->draft) : 0;
        arrival->draft = NULL;
    }
    if (rc == ERR_OK)
        draft_close_all(drafts, count);
    free(drafts);
    return rc;
}

/* What was applied goes; what came behind moves to the front. */
static void forget(struct receiver *receiver, const struct slice *done)
{
    receiver->entries.size -= done->end;
    memmove(receiver->entries.data, receiver->entries.data + done->end, receiver->entries.size);
    receiver->arrival_count -= done->arrivals;
    if (receiver->arrival_count)
        memmove(receiver->arrivals, receiver->arrivals + done->arrivals,
                receiver->arrival_count * sizeof *receiver->arrivals);
    for (size_t i = 0; i < receiver->arrival_count; i++)
        receiver->arrivals[i].at -= done->end;
    receiver->commit_count = 0;
    receiver->whole_cost = 0;
}

static int apply_whole(struct receiver *receiver)
{
    struct slice done = {0};
    struct slice slice;
    if (!receiver->commit_count)
        return ERR_OK;
    while (done.commits < receiver->commit_count) {
        cut_slice(receiver, &done, &slice);
        int rc = apply_slice(receiver, &done, &slice);
        if (rc)
            return rc;
        done = slice;
    }
    forget(receiver, &done);
    return ERR_OK;
}

/* Whole commits that fill a transaction are applied before more is taken in: what waits costs
 * memory. */
static int take_frame(struct receiver *receiver, const struct frame *frame)
{
    if (frame->type == FRAME_CONTENT)
        return take_content(receiver, frame->payload);
    int rc = take_entries(receiver, frame->payload);
    if (rc == ERR_OK && (receiver->whole_cost > SLICE_COST || receiver->memory > SLICE_MEMORY))
        rc = apply_whole(receiver);
    return rc;
}

static int take_frames(struct receiver *receiver, struct bytes frames)
{
    while (frames.size) {
        struct frame frame;
        int rc = frame_decode(frames, FRAME_MAX_PAYLOAD, &frame);
        if (rc)
            return rc == ERR_END ? fail(ERR_PROTOCOL, "a frame that is cut short") : rc;
        rc = take_frame(receiver, &frame);
        if (rc)
            return rc;
        frames = bytes_of(frames.data + frame.whole.size, frames.size - frame.whole.size);
    }
    return ERR_OK;
}

int receiver_take(struct receiver *receiver, struct bytes frames, struct taken *taken)
{
    receiver->answered = 0;
    buf_reset(&receiver->missed);
    int rc = take_frames(receiver, frames);
    if (rc == ERR_OK)
        rc = apply_whole(receiver);
    if (rc == ERR_OK)
        rc = keep_absent(receiver);
    if (rc == ERR_OK && receiver->memory > DRAFT_MEMORY_MAX)
        rc = stage_arrivals(receiver);
    if (!receiver->repairing)
        receiver->acknowledged = receiver->position;
    *taken = (struct taken){.position = receiver->acknowledged,
                            .applied = receiver->position,
                            .stopped = receiver->stops > receiver->stops_before,
                            .answered = receiver->answered,
                            .missed = buf_view(&receiver->missed)};
    return rc;
}

static int look(struct tx *tx, void *arg)
{
    struct looking *work = arg;
    struct receiver *receiver = work->receiver;
    struct db_cursor *cursor;
    struct bytes key, value;
    int rc = db_cursor_open(tx_db(tx), TABLE_GUIDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, bytes_of(receiver->looking.bytes, GUID_SIZE), &key, &value);
    for (unsigned rows = 0; rc == ERR_OK && rows < LOOK_ROWS; rows++) {
        struct content content;
        bool damaged = content_decode(key, value, &content) != ERR_OK;
        memcpy(receiver->looking.bytes, key.data, key.size < GUID_SIZE ? key.size : GUID_SIZE);
        if (!damaged && content_is_lacking(&content))
            buf_put(&receiver->missed, content.guid.bytes, GUID_SIZE);
        if (receiver->missed.size == WANT_MAX * GUID_SIZE)
            break;
        rc = db_next(cursor, &key, &value);
    }
    db_cursor_close(cursor);
    work->all = rc == ERR_END;
    return rc == ERR_END ? ERR_OK : rc;
}

int receiver_look(struct receiver *receiver, struct bytes *missing, bool *all)
{
    struct looking work = {.receiver = receiver};
    buf_reset(&receiver->missed);
    int rc = store_read(receiver->store, look, &work);
    if (rc == ERR_OK && receiver->missed.failed)
        rc = fail(ERR_NOMEM, "out of memory");
    if (work.all)
        memset(&receiver->looking, 0, sizeof receiver->looking);
    *missing = buf_view(&receiver->missed);
    *all = work.all;
    return rc;
}
