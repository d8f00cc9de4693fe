#include "mailbox/record.h"

#include "base/err.h"
#include "journal/tables.h"

#include <string.h>

/* Offsets of the stored form. All but `uid` and the CRC-32 are hashed for the digest, with the UID
 * before them. */
enum {
    AT_FLAGS = 0,
    AT_SUCCESSOR = 4,
    AT_GUID = 8,
    AT_SIZE = 40,
    AT_INTERNAL_DATE = 48,
    AT_SAVE_DATE = 56,
    AT_MODSEQ = 64,
    AT_APPEND_MODSEQ = 72,
    AT_CHANGED = 80,
    AT_KEYWORDS = 88,
    AT_CRC = 96,
    STORED_SIZE = 100
};

#define KEY_SIZE 8u
#define NEAR_UIDS 64u /* between two ranges: reading on is cheaper than seeking */

static void encode(const struct record *record, uint8_t out[AT_CRC])
{
    save_u32(out + AT_FLAGS, record->flags);
    save_u32(out + AT_SUCCESSOR, record->successor);
    memcpy(out + AT_GUID, record->guid.bytes, GUID_SIZE);
    save_u64(out + AT_SIZE, record->size);
    save_u64(out + AT_INTERNAL_DATE, (uint64_t)record->internal_date);
    save_u64(out + AT_SAVE_DATE, (uint64_t)record->save_date);
    save_u64(out + AT_MODSEQ, record->modseq);
    save_u64(out + AT_APPEND_MODSEQ, record->append_modseq);
    save_u64(out + AT_CHANGED, (uint64_t)record->changed);
    save_u64(out + AT_KEYWORDS, record->keywords);
}

bool record_live(const struct record *record)
{
    return !(record->flags & RECORD_EXPUNGED);
}

uint64_t record_digest(const struct record *record)
{
    if (!record_live(record))
        return 0;
    uint8_t item[4 + AT_CRC];
    save_u32(item, record->uid);
    encode(record, item + 4);
    return hash_xxh3(item, sizeof item);
}

static struct bytes key_of(uint8_t key[KEY_SIZE], uint32_t number, uint32_t uid)
{
    save_be32(key, number);
    save_be32(key + 4, uid);
    return bytes_of(key, KEY_SIZE);
}

/* The CRC-32 covers the key as well, so that a record found in another's place is noticed. */
static uint32_t checksum(const uint8_t key[KEY_SIZE], const uint8_t *stored)
{
    uint8_t all[KEY_SIZE + AT_CRC];
    memcpy(all, key, KEY_SIZE);
    memcpy(all + KEY_SIZE, stored, AT_CRC);
    return hash_crc32(all, sizeof all);
}

static int mismatch(uint32_t number, uint32_t uid)
{
    return fail(ERR_CORRUPT, "record of mailbox number %u, UID %u: CRC-32 does not match", number,
                uid);
}

static int wrong_size(uint32_t number, uint32_t uid)
{
    return fail(ERR_CORRUPT, "record of mailbox number %u, UID %u: of a wrong size", number, uid);
}

int record_decode(struct bytes key, struct bytes value, struct record *record)
{
    const uint8_t *at = value.data;
    record->uid = key.size == KEY_SIZE ? load_be32(key.data + 4) : 0;
    if (key.size != KEY_SIZE || value.size != STORED_SIZE)
        return fail(ERR_CORRUPT, "record: of a wrong size");
    if (load_u32(at + AT_CRC) != checksum(key.data, at))
        return mismatch(load_be32(key.data), record->uid);
    record->flags = load_u32(at + AT_FLAGS);
    record->successor = load_u32(at + AT_SUCCESSOR);
    memcpy(record->guid.bytes, at + AT_GUID, GUID_SIZE);
    record->size = load_u64(at + AT_SIZE);
    record->internal_date = (int64_t)load_u64(at + AT_INTERNAL_DATE);
    record->save_date = (int64_t)load_u64(at + AT_SAVE_DATE);
    record->modseq = load_u64(at + AT_MODSEQ);
    record->append_modseq = load_u64(at + AT_APPEND_MODSEQ);
    record->changed = (int64_t)load_u64(at + AT_CHANGED);
    record->keywords = load_u64(at + AT_KEYWORDS);
    return ERR_OK;
}

int record_get(struct db_txn *txn, uint32_t number, uint32_t uid, struct record *record)
{
    uint8_t key[KEY_SIZE];
    struct bytes value;
    struct bytes k = key_of(key, number, uid);
    int rc = db_get(txn, TABLE_RECORDS, k, &value);
    return rc ? rc : record_decode(k, value, record);
}

int record_put(struct db_txn *txn, uint32_t number, const struct record *record)
{
    uint8_t key[KEY_SIZE];
    uint8_t stored[STORED_SIZE];
    struct bytes k = key_of(key, number, record->uid);
    encode(record, stored);
    save_u32(stored + AT_CRC, checksum(key, stored));
    return db_put(txn, TABLE_RECORDS, k, bytes_of(stored, sizeof stored));
}

int record_delete(struct db_txn *txn, uint32_t number, uint32_t uid)
{
    uint8_t key[KEY_SIZE];
    return db_delete(txn, TABLE_RECORDS, key_of(key, number, uid));
}

int record_batch(struct db_txn *txn, uint32_t number, uint32_t first, struct record *records,
                 size_t most, size_t *count)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    struct db_cursor *cursor;
    *count = 0;
    int rc = db_cursor_open(txn, TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, number, first), &found, &value);
    while (rc == ERR_OK && *count < most) {
        if (found.size == KEY_SIZE && load_be32(found.data) != number)
            break;
        rc = record_decode(found, value, &records[*count]);
        if (rc == ERR_OK) {
            (*count)++;
            rc = db_next(cursor, &found, &value);
        }
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* The first record at or above `uid`, by one step where the cursor stands just before. */
static int find_from(struct db_cursor *cursor, uint32_t number, uint32_t uid, bool just_before,
                     struct record *record)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    int rc = just_before ? db_next(cursor, &found, &value)
                         : db_seek(cursor, key_of(key, number, uid), &found, &value);
    if (rc == ERR_OK && found.size == KEY_SIZE && load_be32(found.data) != number)
        return ERR_END;
    return rc ? rc : record_decode(found, value, record);
}

int record_batch_in(struct db_txn *txn, uint32_t number, const struct uidset *uids, uint32_t *from,
                    struct record *records, size_t most, size_t *count)
{
    struct db_cursor *cursor;
    uint32_t wanted;
    uint32_t at = 0; /* the UID that the cursor stands on; 0: none */
    *count = 0;
    int rc = db_cursor_open(txn, TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    while (rc == ERR_OK && *count < most) {
        if (*from == 0 || !uidset_next(uids, *from, &wanted)) {
            rc = ERR_END;
            break;
        }
        struct record *record = &records[*count];
        rc = find_from(cursor, number, wanted, at && at == wanted - 1, record);
        if (rc)
            break;
        at = record->uid;
        bool given = uidset_contains(uids, at);
        *count += given;
        *from = given ? at + 1 : at;
    }
    db_cursor_close(cursor);
    if (rc == ERR_END)
        *from = 0;
    return rc == ERR_END ? ERR_OK : rc;
}

static uint64_t item_of(enum record_item item, uint64_t base, uint32_t uid, const uint8_t *stored)
{
    uint8_t bytes[4 + AT_CRC];
    save_u32(bytes, uid);
    if (item == RECORD_WHOLE) {
        memcpy(bytes + 4, stored, AT_CRC);
        return hash_xxh3(bytes, sizeof bytes);
    }
    if (load_u64(stored + AT_APPEND_MODSEQ) > base)
        return 0;
    memcpy(bytes + 4, stored + AT_GUID, GUID_SIZE);
    return hash_xxh3(bytes, 4 + GUID_SIZE);
}

/* Goes over the stored rows of a mailbox from `first` on; `row` may end it with ERR_END. A row of
 * another size than theirs is damaged: `stored` is NULL then. */
static int each_row(struct db_txn *txn, uint32_t number, uint32_t first,
                    int (*row)(uint32_t uid, const uint8_t *stored, void *arg), void *arg)
{
    uint8_t key[KEY_SIZE];
    struct bytes found, value;
    struct db_cursor *cursor;
    int rc = db_cursor_open(txn, TABLE_RECORDS, &cursor);
    if (rc)
        return rc;
    rc = db_seek(cursor, key_of(key, number, first), &found, &value);
    while (rc == ERR_OK) {
        if (found.size != KEY_SIZE)
            rc = fail(ERR_CORRUPT, "record: a key of a wrong size");
        else if (load_be32(found.data) != number)
            rc = ERR_END;
        if (rc == ERR_OK)
            rc = row(load_be32(found.data + 4), value.size == STORED_SIZE ? value.data : NULL, arg);
        if (rc == ERR_OK)
            rc = db_next(cursor, &found, &value);
    }
    db_cursor_close(cursor);
    return rc == ERR_END ? ERR_OK : rc;
}

/* The range that holds a UID, where UIDs come in ascending order; NULL: none. */
static struct record_sum *sum_of(const struct record_sums *sums, size_t *at, uint32_t uid)
{
    while (*at < sums->count && uid > sums->ranges[*at].last)
        (*at)++;
    return *at < sums->count && uid >= sums->ranges[*at].first ? &sums->sums[*at] : NULL;
}

static void add_to_sum(struct record_sum *sum, uint64_t item)
{
    sum->sum += item;
    sum->count += item != 0;
}

struct counting {
    uint32_t number;
    struct record_count *count;
    struct uidset *damaged;
    const struct record_sums *sums;
    size_t at;
};

/* Key and row lie behind each other as the CRC-32 wants them, then UID and row as the digest does.
 */
static int count_row(uint32_t uid, const uint8_t *stored, void *arg)
{
    struct counting *work = arg;
    struct record_count *count = work->count;
    uint8_t all[KEY_SIZE + AT_CRC];
    key_of(all, work->number, uid);
    if (stored)
        memcpy(all + KEY_SIZE, stored, AT_CRC);
    if (!stored || load_u32(stored + AT_CRC) != hash_crc32(all, sizeof all))
        return work->damaged ? uidset_add(work->damaged, uid)
               : stored      ? mismatch(work->number, uid)
                             : wrong_size(work->number, uid);
    uint32_t flags = load_u32(stored + AT_FLAGS);
    if (flags & RECORD_EXPUNGED) {
        count->tombstones++;
        return ERR_OK;
    }
    save_u32(all + 4, uid);
    uint64_t item = hash_xxh3(all + 4, sizeof all - 4);
    struct record_sum *sum = work->sums ? sum_of(work->sums, &work->at, uid) : NULL;
    if (sum)
        add_to_sum(sum, item);
    count->items += item;
    count->messages++;
    count->bytes += load_u64(stored + AT_SIZE);
    count->unseen += !(flags & FLAG_SEEN);
    return ERR_OK;
}

int record_count(struct db_txn *txn, uint32_t number, struct record_count *count,
                 struct uidset *damaged, const struct record_sums *sums)
{
    struct counting work = {.number = number, .count = count, .damaged = damaged, .sums = sums};
    *count = (struct record_count){0};
    if (sums)
        memset(sums->sums, 0, sums->count * sizeof *sums->sums);
    return each_row(txn, number, 1, count_row, &work);
}

struct summing {
    enum record_item item;
    uint64_t base;
    struct record_sums sums;
    size_t at;
    struct record_changes *changes;
    size_t found; /* changes */
};

static int collect_change(struct summing *work, uint32_t uid, const uint8_t *stored)
{
    struct record_changes *changes = work->changes;
    if (load_u64(stored + AT_MODSEQ) <= changes->since || changes->more)
        return ERR_OK;
    changes->more = work->found++ == changes->most;
    return changes->more ? ERR_OK : uidset_add(&changes->uids, uid);
}

static int sum_row(uint32_t uid, const uint8_t *stored, void *arg)
{
    struct summing *work = arg;
    struct record_sum *sum = sum_of(&work->sums, &work->at, uid);
    if (work->at == work->sums.count)
        return ERR_END;
    if (!sum || !stored)
        return ERR_OK;
    int rc = work->changes ? collect_change(work, uid, stored) : ERR_OK;
    if (!(load_u32(stored + AT_FLAGS) & RECORD_EXPUNGED))
        add_to_sum(sum, item_of(work->item, work->base, uid, stored));
    return rc;
}

int record_sums(struct db_txn *txn, uint32_t number, enum record_item item, uint64_t base,
                const struct record_sums *sums, struct record_changes *changes)
{
    const struct uid_range *ranges = sums->ranges;
    struct summing work = {.item = item, .base = base, .sums = *sums, .changes = changes};
    memset(sums->sums, 0, sums->count * sizeof *sums->sums);
    /* From range to range: between those that are far apart nothing is read. */
    while (work.at < sums->count) {
        size_t begun = work.at;
        size_t end = begun + 1;
        while (end < sums->count && ranges[end].first - ranges[end - 1].last <= NEAR_UIDS)
            end++;
        work.sums.count = end;
        int rc = each_row(txn, number, ranges[begun].first, sum_row, &work);
        if (rc)
            return rc;
        work.at = end;
    }
    return ERR_OK;
}

struct collecting {
    uint64_t since;
    uint32_t last;
    size_t most;
    size_t found;
    struct uidset *uids;
};

static int collect_row(uint32_t uid, const uint8_t *stored, void *arg)
{
    struct collecting *work = arg;
    if (uid > work->last)
        return ERR_END;
    if (stored && load_u64(stored + AT_MODSEQ) <= work->since)
        return ERR_OK;
    if (work->found++ == work->most)
        return ERR_END;
    return uidset_add(work->uids, uid);
}

int record_changed(struct db_txn *txn, uint32_t number, uint64_t since, uint32_t first,
                   uint32_t last, size_t most, struct uidset *uids)
{
    struct collecting work = {.since = since, .last = last, .most = most, .uids = uids};
    return each_row(txn, number, first, collect_row, &work);
}
