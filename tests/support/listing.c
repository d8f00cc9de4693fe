#include "tests/support/listing.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/keywords.h"
#include "mailbox/values.h"

#include <stdlib.h>
#include <string.h>

const char *const listing_keywords[LISTING_KEYWORDS] = {"$Forwarded", "Junk", "work"};

static int add(struct tx *tx, struct listing *listing, const struct record *record,
               const struct uidset *bob)
{
    struct bytes keywords;
    int rc = keywords_lookup(tx_db(tx), record->keywords, &keywords);
    struct item *items = realloc(listing->items, (listing->count + 1) * sizeof *items);
    if (!items)
        return fail(ERR_NOMEM, "out of memory");
    listing->items = items;
    struct item *item = &items[listing->count++];
    *item = (struct item){.uid = record->uid,
                          .live = record_live(record),
                          .flags = record->flags & FLAG_SYSTEM,
                          .successor = record->successor,
                          .modseq = record->modseq,
                          .message = (uint64_t)record->internal_date,
                          .guid = record->guid};
    for (unsigned i = 0; rc == ERR_OK && i < LISTING_KEYWORDS; i++)
        if (keywords_contain(keywords, bytes_text(listing_keywords[i])))
            item->flags |= 32u << i;
    if (uidset_contains(bob, record->uid))
        item->flags |= LISTING_BOB;
    return rc;
}

static int read_records(struct tx *tx, uint32_t number, const struct uidset *bob,
                        struct listing *listing)
{
    struct db_cursor *cursor;
    struct bytes key, value;
    uint8_t first[8];
    save_be32(first, number);
    save_be32(first + 4, 0);
    int rc = db_cursor_open(tx_db(tx), TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    for (rc = db_seek(cursor, bytes_of(first, sizeof first), &key, &value); rc == ERR_OK;
         rc = db_next(cursor, &key, &value)) {
        struct record record;
        if (key.size != sizeof first || load_be32(key.data) != number)
            break;
        if (record_decode(key, value, &record) == ERR_OK)
            rc = add(tx, listing, &record, bob);
        if (rc)
            break;
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

static int read_metas(struct tx *tx, uint64_t id, struct listing *listing)
{
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    int rc;
    while ((rc = meta_next(tx_db(tx), id, &row, &user, &key, &value)) == ERR_OK) {
        uint64_t stamp = value.version.modseq * 2 + (value.state == VALUE_SET);
        listing->stamp += hash_xxh3(&stamp, sizeof stamp) ^ (uint64_t)key.data[key.size - 1];
        unsigned at = (unsigned)(key.data[key.size - 1] - '0');
        if (at < LISTING_METAS && value.state == VALUE_SET && value.value.size == 8)
            memcpy(&listing->metas[at], value.value.data, 8);
    }
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

uint64_t listing_stamp(const struct header *header)
{
    const uint64_t parts[] = {header_digest(header), header->floor, header->tombstones,
                              header->lastmodseq, header->number};
    return hash_xxh3(parts, sizeof parts);
}

uint64_t listing_digest(const struct header *header)
{
    const struct facts *facts = &header->facts;
    const uint64_t parts[] = {header->items, facts->uidvalidity, facts->uidnext,
                              facts->highestmodseq, facts->deletedmodseq};
    return hash_xxh3(parts, sizeof parts);
}

int listing_read(struct tx *tx, uint64_t id, struct listing *listing)
{
    struct header header;
    struct uidset bob = {0};
    struct versioned version;
    *listing = (struct listing){.there = true};
    if (id == 0) {
        int rc = read_metas(tx, 0, listing);
        listing->digest = listing->stamp;
        return rc;
    }
    int rc = header_get(tx_db(tx), id, &header);
    listing->there = rc == ERR_OK && header.facts.uidvalidity && header.facts.state != MAILBOX_NONE;
    if (rc || !listing->there)
        return rc == ERR_END ? ERR_OK : rc;
    rc = seen_get(tx_db(tx), id, bytes_text("bob"), &bob, &version);
    if (rc == ERR_OK)
        rc = read_records(tx, header.number, &bob, listing);
    if (rc == ERR_OK)
        rc = read_metas(tx, id, listing);
    uidset_free(&bob);
    listing->facts = header.facts;
    listing->digest = listing_digest(&header);
    listing->stamp = listing_stamp(&header);
    listing->forgotten = header_forgotten(&header);
    return rc;
}

void listing_free(struct listing *listing)
{
    free(listing->items);
    *listing = (struct listing){0};
}

const struct item *listing_find(const struct listing *listing, uint32_t uid)
{
    size_t low = 0, high = listing->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (listing->items[middle].uid < uid)
            low = middle + 1;
        else
            high = middle;
    }
    return low < listing->count && listing->items[low].uid == uid ? &listing->items[low] : NULL;
}

const struct item *listing_live(const struct listing *listing, uint64_t message)
{
    for (size_t i = 0; i < listing->count; i++)
        if (listing->items[i].live && listing->items[i].message == message)
            return &listing->items[i];
    return NULL;
}

unsigned listing_like(const struct listing *listing, const struct guid *guid)
{
    unsigned count = 0;
    for (size_t i = 0; i < listing->count; i++)
        count += listing->items[i].live && guid_equal(&listing->items[i].guid, guid);
    return count;
}
