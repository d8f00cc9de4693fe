#include "mailbox/header.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define KEY_SIZE 8u
#define CRC_SIZE 4u

/* Offsets of the stored form; behind the name stands the CRC-32. */
enum {
    AT_NUMBER = 0,
    AT_STATE = 4,
    AT_UIDVALIDITY = 8,
    AT_UIDNEXT = 12,
    AT_HIGHESTMODSEQ = 16,
    AT_DELETEDMODSEQ = 24,
    AT_LASTMODSEQ = 32,
    AT_CHANGED = 40,
    AT_FLOOR = 48,
    AT_MESSAGES = 56,
    AT_UNSEEN = 64,
    AT_BYTES = 72,
    AT_TOMBSTONES = 80,
    AT_ITEMS = 88,
    AT_ID = 96,
    AT_NAME_SIZE = 104,
    AT_NAME = 108
};

/* Offsets of what is hashed for the digest. */
enum {
    ITEM_ID = 0,
    ITEM_STATE = 8,
    ITEM_UIDVALIDITY = 12,
    ITEM_UIDNEXT = 16,
    ITEM_HIGHESTMODSEQ = 20,
    ITEM_DELETEDMODSEQ = 28,
    ITEM_NAME = 36
};

/* Offsets of a row of the table of names. */
enum { NAME_AT_ID = 0, NAME_AT_CRC = 8, NAME_ROW_SIZE = 12 };

static struct bytes key_of(uint8_t key[KEY_SIZE], uint64_t id)
{
    save_be64(key, id);
    return bytes_of(key, KEY_SIZE);
}

uint64_t header_digest(const struct header *header)
{
    const struct facts *facts = &header->facts;
    uint8_t item[ITEM_NAME + NAME_MAX_SIZE];
    save_u64(item + ITEM_ID, header->id);
    save_u32(item + ITEM_STATE, facts->state);
    save_u32(item + ITEM_UIDVALIDITY, facts->uidvalidity);
    save_u32(item + ITEM_UIDNEXT, facts->uidnext);
    save_u64(item + ITEM_HIGHESTMODSEQ, facts->highestmodseq);
    save_u64(item + ITEM_DELETEDMODSEQ, facts->deletedmodseq);
    memcpy(item + ITEM_NAME, facts->name.encoded, facts->name.size);
    return header->items + hash_xxh3(item, (size_t)ITEM_NAME + facts->name.size);
}

uint64_t header_store_share(const struct header *header)
{
    if (header->facts.state != MAILBOX_LIVE && header->facts.state != MAILBOX_DELETED)
        return 0;
    uint8_t item[16];
    save_u64(item, header->id);
    save_u64(item + 8, header_digest(header));
    return hash_xxh3(item, sizeof item);
}

uint64_t header_forgotten(const struct header *header)
{
    uint64_t journaled = header->facts.deletedmodseq;
    return header->floor > journaled ? header->floor : journaled;
}

int header_put(struct db_txn *txn, const struct header *header)
{
    const struct facts *facts = &header->facts;
    uint8_t key[KEY_SIZE];
    uint8_t out[AT_NAME + NAME_MAX_SIZE + CRC_SIZE];
    save_u32(out + AT_NUMBER, header->number);
    save_u32(out + AT_STATE, facts->state);
    save_u32(out + AT_UIDVALIDITY, facts->uidvalidity);
    save_u32(out + AT_UIDNEXT, facts->uidnext);
    save_u64(out + AT_HIGHESTMODSEQ, facts->highestmodseq);
    save_u64(out + AT_DELETEDMODSEQ, facts->deletedmodseq);
    save_u64(out + AT_LASTMODSEQ, header->lastmodseq);
    save_u64(out + AT_CHANGED, (uint64_t)header->changed);
    save_u64(out + AT_FLOOR, header->floor);
    save_u64(out + AT_MESSAGES, header->messages);
    save_u64(out + AT_UNSEEN, header->unseen);
    save_u64(out + AT_BYTES, header->bytes);
    save_u64(out + AT_TOMBSTONES, header->tombstones);
    save_u64(out + AT_ITEMS, header->items);
    save_u64(out + AT_ID, header->id);
    save_u32(out + AT_NAME_SIZE, facts->name.size);
    memcpy(out + AT_NAME, facts->name.encoded, facts->name.size);
    size_t size = (size_t)AT_NAME + facts->name.size;
    save_u32(out + size, hash_crc32(out, size));
    return db_put(txn, TABLE_MAILBOXES, key_of(key, header->id), bytes_of(out, size + CRC_SIZE));
}

int header_decode(struct bytes key, struct bytes value, struct header *header)
{
    const uint8_t *in = value.data;
    if (key.size != KEY_SIZE || value.size < AT_NAME + CRC_SIZE ||
        load_u32(in + AT_NAME_SIZE) != value.size - AT_NAME - CRC_SIZE)
        return fail(ERR_CORRUPT, "mailbox header: of a wrong size");
    header->id = load_be64(key.data);
    if (load_u32(in + value.size - CRC_SIZE) != hash_crc32(in, value.size - CRC_SIZE) ||
        load_u64(in + AT_ID) != header->id)
        return fail(ERR_CORRUPT, "header of mailbox %016llx: CRC-32 does not match",
                    (unsigned long long)header->id);
    if (load_u32(in + AT_STATE) > MAILBOX_PURGED)
        return fail(ERR_CORRUPT, "header of mailbox %016llx: unknown state",
                    (unsigned long long)header->id);
    header->number = load_u32(in + AT_NUMBER);
    header->facts.state = (enum mailbox_state)load_u32(in + AT_STATE);
    header->facts.uidvalidity = load_u32(in + AT_UIDVALIDITY);
    header->facts.uidnext = load_u32(in + AT_UIDNEXT);
    header->facts.highestmodseq = load_u64(in + AT_HIGHESTMODSEQ);
    header->facts.deletedmodseq = load_u64(in + AT_DELETEDMODSEQ);
    header->lastmodseq = load_u64(in + AT_LASTMODSEQ);
    header->changed = (int64_t)load_u64(in + AT_CHANGED);
    header->floor = load_u64(in + AT_FLOOR);
    header->messages = load_u64(in + AT_MESSAGES);
    header->unseen = load_u64(in + AT_UNSEEN);
    header->bytes = load_u64(in + AT_BYTES);
    header->tombstones = load_u64(in + AT_TOMBSTONES);
    header->items = load_u64(in + AT_ITEMS);
    struct bytes name = bytes_of(in + AT_NAME, value.size - AT_NAME - CRC_SIZE);
    /* One that a repair brings ahead of the entry that makes it has no name yet. */
    if (header->facts.state == MAILBOX_NONE && name.size == 0) {
        header->facts.name.size = 0;
        return ERR_OK;
    }
    return name_decode(name, &header->facts.name);
}

int header_get(struct db_txn *txn, uint64_t id, struct header *header)
{
    uint8_t key[KEY_SIZE];
    struct bytes value;
    struct bytes k = key_of(key, id);
    int rc = db_get(txn, TABLE_MAILBOXES, k, &value);
    return rc ? rc : header_decode(k, value, header);
}

static uint32_t name_checksum(struct bytes key, const uint8_t *value)
{
    return hash_crc32(key.data, key.size) ^ hash_crc32(value, NAME_AT_CRC);
}

int header_name_decode(struct bytes key, struct bytes value, struct name *name, uint64_t *id)
{
    if (value.size != NAME_ROW_SIZE ||
        load_u32(value.data + NAME_AT_CRC) != name_checksum(key, value.data))
        return fail(ERR_CORRUPT, "table of names: CRC-32 of a row does not match");
    *id = load_u64(value.data + NAME_AT_ID);
    return name_decode(key, name);
}

int header_id_of(struct db_txn *txn, const struct name *name, uint64_t *id)
{
    struct bytes value;
    struct name same;
    int rc = db_get(txn, TABLE_NAMES, name_encoded(name), &value);
    return rc ? rc : header_name_decode(name_encoded(name), value, &same, id);
}

int header_free_name(struct db_txn *txn, uint64_t id, const struct name *wanted, struct name *name)
{
    char suffix[20];
    uint64_t other;
    *name = *wanted;
    int rc = header_id_of(txn, wanted, &other);
    if (rc == ERR_END || (rc == ERR_OK && other == id))
        return ERR_OK;
    snprintf(suffix, sizeof suffix, "%016" PRIx64, id);
    name_with_suffix(wanted, suffix, name);
    return rc;
}

int header_name_put(struct db_txn *txn, const struct name *name, uint64_t id)
{
    uint8_t row[NAME_ROW_SIZE];
    save_u64(row + NAME_AT_ID, id);
    save_u32(row + NAME_AT_CRC, name_checksum(name_encoded(name), row));
    return db_put(txn, TABLE_NAMES, name_encoded(name), bytes_of(row, sizeof row));
}

int header_next(struct db_txn *txn, uint64_t *id, struct header *header)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    struct db_cursor *cursor;
    if (*id == UINT64_MAX)
        return ERR_END;
    int rc = db_cursor_open(txn, TABLE_MAILBOXES, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, *id + 1), &found, &value);
    if (rc == ERR_OK)
        rc = header_decode(found, value, header);
    db_cursor_close(cursor);
    if (rc == ERR_OK)
        *id = header->id;
    return rc;
}

static uint32_t differing(const struct facts *a, const struct facts *b)
{
    uint32_t which = 0;
    which |= a->state != b->state ? FACT_STATE : 0;
    which |= name_equal(&a->name, &b->name) ? 0 : FACT_NAME;
    which |= a->uidvalidity != b->uidvalidity ? FACT_UIDVALIDITY : 0;
    which |= a->uidnext != b->uidnext ? FACT_UIDNEXT : 0;
    which |= a->highestmodseq != b->highestmodseq ? FACT_HIGHESTMODSEQ : 0;
    which |= a->deletedmodseq != b->deletedmodseq ? FACT_DELETEDMODSEQ : 0;
    return which;
}

/* The difference to the entry's modseq wraps where a modseq is above it, and comes back exactly. */
static void put_facts(const struct facts *facts, uint32_t which, uint64_t modseq, struct buf *out)
{
    if (which & FACT_STATE)
        buf_varint(out, facts->state);
    if (which & FACT_NAME)
        buf_bytes(out, name_encoded(&facts->name));
    if (which & FACT_UIDVALIDITY)
        buf_varint(out, facts->uidvalidity);
    if (which & FACT_UIDNEXT)
        buf_varint(out, facts->uidnext);
    if (which & FACT_HIGHESTMODSEQ)
        buf_varint(out, modseq - facts->highestmodseq);
    if (which & FACT_DELETEDMODSEQ)
        buf_varint(out, modseq - facts->deletedmodseq);
}

void facts_encode(const struct facts *before, const struct facts *after, uint64_t modseq,
                  struct buf *out)
{
    uint32_t which = differing(before, after);
    buf_varint(out, which);
    put_facts(before, which, modseq, out);
    put_facts(after, which, modseq, out);
}

static int read_facts(struct reader *from, uint32_t which, uint64_t modseq, struct facts *facts)
{
    facts_clear(facts);
    if (which & FACT_STATE) {
        uint32_t state = read_varint32(from);
        if (state > MAILBOX_PURGED)
            return fail(ERR_CORRUPT, "unknown state of a mailbox");
        facts->state = (enum mailbox_state)state;
    }
    if (which & FACT_NAME) {
        struct bytes name = read_bytes(from);
        int rc = name.size ? name_decode(name, &facts->name) : ERR_OK;
        if (rc)
            return rc;
    }
    if (which & FACT_UIDVALIDITY)
        facts->uidvalidity = read_varint32(from);
    if (which & FACT_UIDNEXT)
        facts->uidnext = read_varint32(from);
    if (which & FACT_HIGHESTMODSEQ)
        facts->highestmodseq = modseq - read_varint(from);
    if (which & FACT_DELETEDMODSEQ)
        facts->deletedmodseq = modseq - read_varint(from);
    return from->failed ? fail(ERR_CORRUPT, "malformed facts of a mailbox") : ERR_OK;
}

int facts_decode(struct reader *from, uint64_t modseq, struct facts *before, struct facts *after,
                 uint32_t *changed)
{
    uint32_t which = read_varint32(from);
    if (from->failed || which > FACT_ALL)
        return fail(ERR_CORRUPT, "malformed facts of a mailbox");
    int rc = read_facts(from, which, modseq, before);
    if (rc == ERR_OK)
        rc = read_facts(from, which, modseq, after);
    *changed = which;
    return rc;
}

void facts_clear(struct facts *facts)
{
    facts->state = MAILBOX_NONE;
    facts->uidvalidity = 0;
    facts->uidnext = 0;
    facts->highestmodseq = 0;
    facts->deletedmodseq = 0;
    facts->name.size = 0;
}

void facts_copy(struct facts *to, const struct facts *from, uint32_t which)
{
    if (which & FACT_STATE)
        to->state = from->state;
    if (which & FACT_NAME)
        to->name = from->name;
    if (which & FACT_UIDVALIDITY)
        to->uidvalidity = from->uidvalidity;
    if (which & FACT_UIDNEXT)
        to->uidnext = from->uidnext;
    if (which & FACT_HIGHESTMODSEQ)
        to->highestmodseq = from->highestmodseq;
    if (which & FACT_DELETEDMODSEQ)
        to->deletedmodseq = from->deletedmodseq;
}
