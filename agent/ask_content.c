/* Asking for content, which comes in pieces. */
#include "agent/asking.h"

#include "base/err.h"
#include "mailbox/draft.h"

#include <string.h>

/* Content that is coming in, piece by piece. */
struct fetch {
    struct db *db;
    const struct guid *guids;
    size_t count;
    struct draft **drafts;
    size_t at;       /* of the GUID that comes next, or goes on */
    uint64_t offset; /* of it */
    uint64_t bytes;
};

static int finish_draft(struct fetch *fetch)
{
    struct draft *draft = fetch->drafts[fetch->at];
    int rc = draft_finish(draft);
    if (rc == ERR_CORRUPT ||
        (rc == ERR_OK && !guid_equal(draft_guid(draft), &fetch->guids[fetch->at])))
        return ask_malformed("content that is not what its GUID says");
    return rc;
}

/* One piece: u8 state (0 more follows, 1 the last, 2 not there), bytes. */
static int read_piece(struct reader *in, struct fetch *fetch)
{
    uint8_t state = read_u8(in);
    struct bytes data = read_bytes(in);
    if (in->failed || state > 2 || fetch->at == fetch->count)
        return ask_malformed("content");
    struct draft **draft = &fetch->drafts[fetch->at];
    int rc = ERR_OK;
    if (state == 2) {
        draft_close(*draft);
        *draft = NULL;
    } else if (!*draft) {
        rc = draft_open(fetch->db, DRAFT_DEFLATED, draft);
    }
    if (rc == ERR_OK && *draft)
        rc = draft_write(*draft, data.data, data.size);
    if (rc == ERR_CORRUPT)
        rc = ask_malformed("content that does not inflate");
    fetch->bytes += data.size;
    fetch->offset += data.size;
    if (rc || state == 0)
        return rc;
    rc = *draft ? finish_draft(fetch) : ERR_OK;
    fetch->at++;
    fetch->offset = 0;
    return rc;
}

static int fetch_some(const struct asker *asker, struct fetch *fetch, struct buf *answer)
{
    struct buf question = ask_begin(ASK_CONTENT);
    struct reader in;
    size_t at = fetch->at;
    uint64_t offset = fetch->offset;
    buf_u64(&question, fetch->offset);
    buf_varint(&question, fetch->count - fetch->at);
    for (size_t i = fetch->at; i < fetch->count; i++)
        buf_put(&question, fetch->guids[i].bytes, GUID_SIZE);
    int rc = ask_wait(asker, &question, answer, &in);
    while (rc == ERR_OK && reader_left(&in))
        rc = read_piece(&in, fetch);
    if (rc == ERR_OK && fetch->at == at && fetch->offset == offset)
        rc = ask_malformed("no content");
    return rc;
}

static int stage_above(struct draft **drafts, size_t count, size_t memory)
{
    size_t held = 0;
    for (size_t i = 0; i < count; i++)
        held += drafts[i] ? draft_memory(drafts[i]) : 0;
    return held > memory ? draft_stage_all(drafts, count) : ERR_OK;
}

int ask_content(const struct asker *asker, struct db *db, const struct guid *guids, size_t count,
                size_t memory, struct draft **drafts, uint64_t *bytes)
{
    struct fetch fetch = {.db = db, .guids = guids, .count = count, .drafts = drafts};
    struct buf answer = {0};
    int rc = ERR_OK;
    memset(drafts, 0, count * sizeof(struct draft *));
    while (rc == ERR_OK && fetch.at < count) {
        rc = fetch_some(asker, &fetch, &answer);
        if (rc == ERR_OK)
            rc = stage_above(drafts, fetch.at, memory);
    }
    for (size_t i = 0; rc && i < count; i++) {
        draft_close(drafts[i]);
        drafts[i] = NULL;
    }
    if (bytes)
        *bytes += fetch.bytes;
    buf_free(&answer);
    return rc;
}
