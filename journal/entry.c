#include "journal/entry.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#include <string.h>

/* Offsets in the envelope. The CRC-32 covers everything behind itself; the chain everything behind
 * itself, with the chain before this entry standing in the chain's own place while it is computed.
 */
enum {
    AT_CRC = 0,
    AT_SIZE = 4,
    AT_CHAIN = 8,
    AT_VERSION = 16,
    AT_KIND = 17,
    AT_FLAGS = 18,
    AT_ACTOR_SIZE = 19,
    AT_EPOCH = 20,
    AT_MODSEQ = 24,
    AT_TIME = 32,
    AT_MAILBOX = 40,
    AT_PREVIOUS = 48,
    AT_DIGEST = 56,
    AT_BODY_SIZE = 64,
    AT_RESERVED = 68,
    AT_ACTOR = ENTRY_HEADER_SIZE
};

#define FLAG_END_OF_COMMIT 1u

const char *const table_names[TABLE_COUNT] = {
#define X(symbol, name) name,
    TABLE_MAP(X)
#undef X
};

static const char *const kind_names[] = {
#define X(symbol, name) name,
    ENTRY_KIND_MAP(X)
#undef X
};

const char *entry_kind_name(enum entry_kind kind)
{
    return (unsigned)kind < ENTRY_KIND_COUNT ? kind_names[kind] : "unknown";
}

bool entry_kind_parse(const char *name, enum entry_kind *kind)
{
    for (unsigned i = 0; i < ENTRY_KIND_COUNT; i++) {
        if (strcmp(name, kind_names[i]) == 0) {
            *kind = (enum entry_kind)i;
            return true;
        }
    }
    return false;
}

bool position_equal(struct position a, struct position b)
{
    return a.modseq == b.modseq && a.chain == b.chain;
}

void buf_position(struct buf *out, struct position position)
{
    buf_u64(out, position.modseq);
    buf_u64(out, position.chain);
}

struct position read_position(struct reader *in)
{
    uint64_t modseq = read_u64(in);
    return (struct position){.modseq = modseq, .chain = read_u64(in)};
}

static void seal(uint8_t *at, size_t size, uint64_t before, struct entry *entry)
{
    save_u64(at + AT_CHAIN, before);
    entry->chain = hash_xxh3(at + AT_CHAIN, size - AT_CHAIN);
    save_u64(at + AT_CHAIN, entry->chain);
    save_u32(at + AT_CRC, hash_crc32(at + AT_SIZE, size - AT_SIZE));
}

int entry_encode(struct buf *out, struct entry *entry, uint64_t before)
{
    size_t size = ENTRY_HEADER_SIZE + entry->actor.size + entry->body.size;
    if (size > ENTRY_MAX_SIZE || entry->actor.size > ACTOR_MAX_SIZE)
        return fail(ERR_INVALID, "a change of %zu bytes: more than a journal entry can hold", size);
    uint8_t *at = buf_reserve(out, size);
    if (!at)
        return fail(ERR_NOMEM, "out of memory");
    memset(at, 0, ENTRY_HEADER_SIZE);
    save_u32(at + AT_SIZE, (uint32_t)size);
    at[AT_VERSION] = ENTRY_VERSION;
    at[AT_KIND] = (uint8_t)entry->kind;
    at[AT_FLAGS] = entry->end_of_commit ? FLAG_END_OF_COMMIT : 0;
    at[AT_ACTOR_SIZE] = (uint8_t)entry->actor.size;
    save_u32(at + AT_EPOCH, entry->epoch);
    save_u64(at + AT_MODSEQ, entry->modseq);
    save_u64(at + AT_TIME, (uint64_t)entry->time);
    save_u64(at + AT_MAILBOX, entry->mailbox);
    save_u64(at + AT_PREVIOUS, entry->previous);
    save_u64(at + AT_DIGEST, entry->digest);
    save_u32(at + AT_BODY_SIZE, (uint32_t)entry->body.size);
    if (entry->actor.size)
        memcpy(at + AT_ACTOR, entry->actor.data, entry->actor.size);
    if (entry->body.size)
        memcpy(at + AT_ACTOR + entry->actor.size, entry->body.data, entry->body.size);
    seal(at, size, before, entry);
    return ERR_OK;
}

void entry_end_commit(uint8_t *encoded, size_t size, uint64_t before, struct entry *entry)
{
    encoded[AT_FLAGS] |= FLAG_END_OF_COMMIT;
    entry->end_of_commit = true;
    seal(encoded, size, before, entry);
}

static int check_size(struct bytes encoded)
{
    bool fits = encoded.size >= ENTRY_HEADER_SIZE && encoded.size <= ENTRY_MAX_SIZE &&
                load_u32(encoded.data + AT_SIZE) == encoded.size;
    return fits ? ERR_OK
                : fail(ERR_CORRUPT, "journal entry: %zu bytes is not its size", encoded.size);
}

int entry_decode(struct bytes encoded, struct entry *entry)
{
    const uint8_t *at = encoded.data;
    int rc = check_size(encoded);
    *entry = (struct entry){0};
    if (rc)
        return rc;
    if (load_u32(at + AT_CRC) != hash_crc32(at + AT_SIZE, encoded.size - AT_SIZE))
        return fail(ERR_CORRUPT, "journal entry %llu: CRC-32 does not match",
                    (unsigned long long)load_u64(at + AT_MODSEQ));
    return entry_decode_checked(encoded, entry);
}

int entry_decode_checked(struct bytes encoded, struct entry *entry)
{
    const uint8_t *at = encoded.data;
    int rc = check_size(encoded);
    *entry = (struct entry){0};
    if (rc)
        return rc;
    if (at[AT_VERSION] > ENTRY_VERSION)
        return fail(ERR_NEWER, "journal entry: format %u is newer than this program",
                    at[AT_VERSION]);
    size_t actor = at[AT_ACTOR_SIZE];
    size_t body = load_u32(at + AT_BODY_SIZE);
    if (at[AT_VERSION] != ENTRY_VERSION || at[AT_KIND] >= ENTRY_KIND_COUNT ||
        at[AT_FLAGS] > FLAG_END_OF_COMMIT || load_u32(at + AT_RESERVED) != 0 ||
        ENTRY_HEADER_SIZE + actor + body != encoded.size)
        return fail(ERR_CORRUPT, "journal entry: malformed envelope");
    entry->chain = load_u64(at + AT_CHAIN);
    entry->kind = (enum entry_kind)at[AT_KIND];
    entry->end_of_commit = at[AT_FLAGS] & FLAG_END_OF_COMMIT;
    entry->epoch = load_u32(at + AT_EPOCH);
    entry->modseq = load_u64(at + AT_MODSEQ);
    entry->time = (int64_t)load_u64(at + AT_TIME);
    entry->mailbox = load_u64(at + AT_MAILBOX);
    entry->previous = load_u64(at + AT_PREVIOUS);
    entry->digest = load_u64(at + AT_DIGEST);
    entry->actor = bytes_of(at + AT_ACTOR, actor);
    entry->body = bytes_of(at + AT_ACTOR + actor, body);
    if (entry->modseq == 0 || entry->previous >= entry->modseq)
        return fail(ERR_CORRUPT, "journal entry: impossible modseqs");
    return ERR_OK;
}

size_t entry_size(struct bytes from)
{
    if (from.size < ENTRY_HEADER_SIZE)
        return 0;
    size_t size = load_u32(from.data + AT_SIZE);
    return size >= ENTRY_HEADER_SIZE && size <= ENTRY_MAX_SIZE && size <= from.size ? size : 0;
}

uint64_t entry_chain(struct bytes encoded, uint64_t before)
{
    /* Hashed in place where the bytes must not be changed: the chain before, then everything behind
     * the chain's place. */
    struct buf copy = {0};
    buf_u64(&copy, before);
    buf_put(&copy, encoded.data + AT_VERSION, encoded.size - AT_VERSION);
    uint64_t chain = copy.failed ? 0 : hash_xxh3(copy.data, copy.size);
    buf_free(&copy);
    return chain;
}

uint64_t entry_chain_start(uint64_t store_id)
{
    uint8_t id[8];
    save_u64(id, store_id);
    return hash_xxh3(id, sizeof id);
}
