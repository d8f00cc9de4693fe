#include "mailbox/change.h"

#include "base/array.h"
#include "base/err.h"

#include <stdlib.h>
#include <string.h>

/* Field by field: names are large, and this runs once for every entry that anyone looks at. */
void change_reset(struct change *change)
{
    change->kind = ENTRY_EPOCH;
    change->mailbox = 0;
    change->modseq = 0;
    change->time = 0;
    facts_clear(&change->before);
    facts_clear(&change->after);
    change->facts_changed = 0;
    uidset_clear(&change->uids);
    change->former_count = 0;
    change->system_before = 0;
    change->system_after = 0;
    change->keywords_before = bytes_of(NULL, 0);
    change->keywords_after = bytes_of(NULL, 0);
    change->record_count = 0;
    change->set_count = 0;
    change->introduces = false;
    change->successor = 0;
    change->user = bytes_of(NULL, 0);
    change->seen_after = false;
    change->value_before = (struct versioned){0};
    change->key = bytes_of(NULL, 0);
    change->value_after_state = VALUE_NONE;
    change->value_after = bytes_of(NULL, 0);
    change->mark = bytes_of(NULL, 0);
}

void change_free(struct change *change)
{
    uidset_free(&change->uids);
    free(change->former);
    free(change->records);
    free(change->buried_before);
    free(change->sets);
    *change = (struct change){0};
}

int change_add_former(struct change *change, uint64_t modseq, int64_t changed)
{
    void *array = array_room(change->former, change->former_count, &change->former_capacity,
                             sizeof *change->former);
    if (!array)
        return ERR_NOMEM;
    change->former = array;
    change->former[change->former_count++] = (struct former){.modseq = modseq, .changed = changed};
    return ERR_OK;
}

int change_add_record(struct change *change, const struct record *record)
{
    void *array = array_room(change->records, change->record_count, &change->record_capacity,
                             sizeof *change->records);
    if (!array)
        return ERR_NOMEM;
    change->records = array;
    change->records[change->record_count++] = *record;
    return ERR_OK;
}

int change_add_buried(struct change *change, const struct record *tombstone,
                      const struct record *before)
{
    size_t at = change->record_count;
    void *array = array_room(change->buried_before, at, &change->buried_capacity,
                             sizeof *change->buried_before);
    if (!array)
        return ERR_NOMEM;
    change->buried_before = array;
    change->buried_before[at] = before ? *before : (struct record){0};
    return change_add_record(change, tombstone);
}

int change_add_set(struct change *change, struct bytes set)
{
    if (set.size == 0)
        return ERR_OK;
    for (size_t i = 0; i < change->set_count; i++)
        if (bytes_equal(change->sets[i], set))
            return ERR_OK;
    void *array =
        array_room(change->sets, change->set_count, &change->set_capacity, sizeof *change->sets);
    if (!array)
        return ERR_NOMEM;
    change->sets = array;
    change->sets[change->set_count++] = set;
    return ERR_OK;
}

/* Modseqs and times are written as the difference to the one before, beginning with the entry's
 * own: most are near. */
static void put_modseq(struct buf *out, uint64_t modseq, uint64_t *last)
{
    buf_zigzag(out, (int64_t)(*last - modseq));
    *last = modseq;
}

static uint64_t read_modseq(struct reader *in, uint64_t *last)
{
    *last -= (uint64_t)read_zigzag(in);
    return *last;
}

static void put_time(struct buf *out, int64_t time, int64_t *last)
{
    buf_zigzag(out, (int64_t)((uint64_t)*last - (uint64_t)time));
    *last = time;
}

static int64_t read_time(struct reader *in, int64_t *last)
{
    *last = (int64_t)((uint64_t)*last - (uint64_t)read_zigzag(in));
    return *last;
}

static void put_former(const struct change *change, struct buf *out)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    for (size_t i = 0; i < change->former_count; i++) {
        put_modseq(out, change->former[i].modseq, &modseq);
        put_time(out, change->former[i].changed, &time);
    }
}

static int read_former(struct reader *in, struct change *change)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    uint64_t count = uidset_size(&change->uids);
    for (uint64_t i = 0; i < count && !in->failed; i++) {
        uint64_t was = read_modseq(in, &modseq);
        int rc = change_add_former(change, was, read_time(in, &time));
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int set_index(const struct change *change, uint64_t hash, uint64_t *index)
{
    *index = 0;
    if (hash == 0)
        return ERR_OK;
    for (size_t i = 0; i < change->set_count; i++) {
        if (keywords_hash(change->sets[i]) == hash) {
            *index = i + 1;
            return ERR_OK;
        }
    }
    return fail(ERR_CORRUPT, "a record's keywords are unknown");
}

static int put_record(const struct change *change, const struct record *record, struct buf *out)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    uint64_t set;
    int rc = set_index(change, record->keywords, &set);
    if (rc)
        return rc;
    buf_varint(out, record->uid);
    buf_varint(out, record->flags);
    buf_varint(out, record->successor);
    buf_varint(out, set);
    buf_put(out, record->guid.bytes, GUID_SIZE);
    buf_varint(out, record->size);
    put_modseq(out, record->modseq, &modseq);
    put_modseq(out, record->append_modseq, &modseq);
    put_time(out, record->changed, &time);
    put_time(out, record->save_date, &time);
    put_time(out, record->internal_date, &time);
    return ERR_OK;
}

static int read_record(struct reader *in, const struct change *change, struct record *record)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    record->uid = read_varint32(in);
    record->flags = read_varint32(in);
    record->successor = read_varint32(in);
    uint64_t set = read_varint(in);
    struct bytes guid = read_view(in, GUID_SIZE);
    record->size = read_varint(in);
    record->modseq = read_modseq(in, &modseq);
    record->append_modseq = read_modseq(in, &modseq);
    record->changed = read_time(in, &time);
    record->save_date = read_time(in, &time);
    record->internal_date = read_time(in, &time);
    if (in->failed || record->uid == 0 || record->flags & ~RECORD_FLAGS || set > change->set_count)
        return fail(ERR_CORRUPT, "malformed record in an entry");
    memcpy(record->guid.bytes, guid.data, GUID_SIZE);
    record->keywords = set ? keywords_hash(change->sets[set - 1]) : 0;
    return ERR_OK;
}

static int put_records(const struct change *change, struct buf *out)
{
    buf_varint(out, change->set_count);
    for (size_t i = 0; i < change->set_count; i++)
        keywords_write(change->sets[i], out);
    buf_varint(out, change->record_count);
    for (size_t i = 0; i < change->record_count; i++) {
        int rc = put_record(change, &change->records[i], out);
        if (rc)
            return rc;
        if (change->kind != ENTRY_BURY)
            continue;
        const struct record *before = &change->buried_before[i];
        buf_u8(out, before->uid ? 1 : 0);
        rc = before->uid ? put_record(change, before, out) : ERR_OK;
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int read_sets(struct reader *in, struct change *change)
{
    uint64_t count = read_varint(in);
    if (count > CHANGE_MAX_RECORDS * 2)
        return fail(ERR_CORRUPT, "too many keyword sets in an entry");
    for (uint64_t i = 0; i < count; i++) {
        struct bytes set;
        int rc = keywords_read(in, &set);
        size_t known = change->set_count;
        if (rc == ERR_OK)
            rc = change_add_set(change, set);
        if (rc == ERR_OK && change->set_count == known)
            rc = fail(ERR_CORRUPT, "a keyword set stands twice in an entry");
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static int read_buried(struct reader *in, struct change *change, const struct record *tombstone)
{
    struct record before;
    uint8_t there = read_u8(in);
    if (there > 1 || record_live(tombstone))
        return fail(ERR_CORRUPT, "malformed tombstone in an entry");
    int rc = there ? read_record(in, change, &before) : ERR_OK;
    return rc ? rc : change_add_buried(change, tombstone, there ? &before : NULL);
}

static int read_records(struct reader *in, struct change *change)
{
    int rc = read_sets(in, change);
    if (rc)
        return rc;
    uint64_t count = read_varint(in);
    if (count == 0 || count > CHANGE_MAX_RECORDS)
        return fail(ERR_CORRUPT, "malformed number of records in an entry");
    uint32_t last = 0;
    for (uint64_t i = 0; i < count; i++) {
        struct record record;
        rc = read_record(in, change, &record);
        if (rc == ERR_OK && record.uid <= last)
            rc = fail(ERR_CORRUPT, "records of an entry are out of order");
        last = record.uid;
        if (rc == ERR_OK)
            rc = change->kind == ENTRY_BURY ? read_buried(in, change, &record)
                                            : change_add_record(change, &record);
        if (rc)
            return rc;
    }
    return ERR_OK;
}

static void put_flags(const struct change *change, struct buf *out)
{
    uidset_encode(&change->uids, out);
    buf_varint(out, change->system_before);
    buf_varint(out, change->system_after);
    keywords_write(change->keywords_before, out);
    keywords_write(change->keywords_after, out);
    put_former(change, out);
}

static int read_flags(struct reader *in, struct change *change)
{
    int rc = uidset_decode(&change->uids, in, CHANGE_MAX_RECORDS);
    if (rc)
        return rc;
    change->system_before = read_varint32(in);
    change->system_after = read_varint32(in);
    rc = keywords_read(in, &change->keywords_before);
    if (rc == ERR_OK)
        rc = keywords_read(in, &change->keywords_after);
    if (rc == ERR_OK && (change->system_before | change->system_after) & ~FLAG_SYSTEM)
        rc = fail(ERR_CORRUPT, "unknown flags in an entry");
    return rc ? rc : read_former(in, change);
}

static void put_seen(const struct change *change, struct buf *out)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    buf_bytes(out, change->user);
    buf_u8(out, change->seen_after ? 1 : 0);
    buf_u8(out, (uint8_t)change->value_before.state);
    put_modseq(out, change->value_before.version.modseq, &modseq);
    put_time(out, change->value_before.version.changed, &time);
    uidset_encode(&change->uids, out);
    put_former(change, out);
}

static int read_user(struct reader *in, struct bytes *user, bool shared_allowed)
{
    *user = read_bytes(in);
    if (in->failed || user->size > USER_MAX_SIZE || (user->size == 0 && !shared_allowed) ||
        (user->size && memchr(user->data, 0, user->size)))
        return fail(ERR_CORRUPT, "malformed user in an entry");
    return ERR_OK;
}

static int read_seen(struct reader *in, struct change *change)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    int rc = read_user(in, &change->user, false);
    if (rc)
        return rc;
    uint8_t after = read_u8(in);
    uint8_t state = read_u8(in);
    if (after > 1 || state > VALUE_SET)
        return fail(ERR_CORRUPT, "malformed seen state in an entry");
    change->seen_after = after;
    change->value_before.state = (enum value_state)state;
    change->value_before.version.modseq = read_modseq(in, &modseq);
    change->value_before.version.changed = read_time(in, &time);
    rc = uidset_decode(&change->uids, in, CHANGE_MAX_RECORDS);
    return rc ? rc : read_former(in, change);
}

static void put_meta(const struct change *change, struct buf *out)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    buf_bytes(out, change->user);
    buf_bytes(out, change->key);
    buf_u8(out, (uint8_t)change->value_before.state);
    buf_bytes(out, change->value_before.value);
    put_modseq(out, change->value_before.version.modseq, &modseq);
    put_time(out, change->value_before.version.changed, &time);
    buf_u8(out, (uint8_t)change->value_after_state);
    buf_bytes(out, change->value_after);
}

static int read_meta(struct reader *in, struct change *change)
{
    uint64_t modseq = change->modseq;
    int64_t time = change->time;
    int rc = read_user(in, &change->user, true);
    if (rc)
        return rc;
    change->key = read_bytes(in);
    uint8_t before = read_u8(in);
    change->value_before.value = read_bytes(in);
    change->value_before.version.modseq = read_modseq(in, &modseq);
    change->value_before.version.changed = read_time(in, &time);
    uint8_t after = read_u8(in);
    change->value_after = read_bytes(in);
    if (in->failed || before > VALUE_SET || after > VALUE_SET || after == VALUE_NONE ||
        change->key.size == 0 || change->key.size + change->user.size > USER_MAX_SIZE ||
        memchr(change->key.data, 0, change->key.size) ||
        change->value_after.size > META_VALUE_MAX_SIZE)
        return fail(ERR_CORRUPT, "malformed meta value in an entry");
    change->value_before.state = (enum value_state)before;
    change->value_after_state = (enum value_state)after;
    return ERR_OK;
}

int change_encode(const struct change *change, struct buf *out)
{
    int rc = ERR_OK;
    if (change->mailbox)
        facts_encode(&change->before, &change->after, change->modseq, out);
    switch (change->kind) {
    case ENTRY_APPEND:
        buf_u8(out, change->introduces ? 1 : 0);
        rc = put_records(change, out);
        break;
    case ENTRY_EXPUNGE:
        buf_varint(out, change->successor);
        rc = put_records(change, out);
        break;
    case ENTRY_BURY:
        rc = put_records(change, out);
        break;
    case ENTRY_FLAGS:
        put_flags(change, out);
        break;
    case ENTRY_PURGE:
        uidset_encode(&change->uids, out);
        break;
    case ENTRY_TOUCH:
        uidset_encode(&change->uids, out);
        put_former(change, out);
        break;
    case ENTRY_SEEN:
        put_seen(change, out);
        break;
    case ENTRY_META:
        put_meta(change, out);
        break;
    case ENTRY_MARK:
        buf_bytes(out, change->mark);
        break;
    default:
        break;
    }
    return rc == ERR_OK && out->failed ? fail(ERR_NOMEM, "out of memory") : rc;
}

static int decode_body(struct reader *in, struct change *change)
{
    int rc;
    switch (change->kind) {
    case ENTRY_CREATE:
    case ENTRY_RENAME:
    case ENTRY_DELETE:
    case ENTRY_HEADER:
        return ERR_OK;
    case ENTRY_APPEND: {
        uint8_t introduces = read_u8(in);
        if (introduces > 1)
            return fail(ERR_CORRUPT, "malformed append entry");
        change->introduces = introduces;
        return read_records(in, change);
    }
    case ENTRY_EXPUNGE:
        change->successor = read_varint32(in);
        return read_records(in, change);
    case ENTRY_BURY:
        return read_records(in, change);
    case ENTRY_FLAGS:
        return read_flags(in, change);
    case ENTRY_PURGE:
        return uidset_decode(&change->uids, in, UINT32_MAX);
    case ENTRY_TOUCH:
        rc = uidset_decode(&change->uids, in, CHANGE_MAX_RECORDS);
        return rc ? rc : read_former(in, change);
    case ENTRY_SEEN:
        return read_seen(in, change);
    case ENTRY_META:
        return read_meta(in, change);
    case ENTRY_MARK:
        change->mark = read_bytes(in);
        return ERR_OK;
    default:
        return fail(ERR_CORRUPT, "an entry of kind %s cannot be about mail",
                    entry_kind_name(change->kind));
    }
}

int change_decode(const struct entry *entry, struct change *change)
{
    struct reader in = reader_of(entry->body);
    change_reset(change);
    change->kind = entry->kind;
    change->mailbox = entry->mailbox;
    change->modseq = entry->modseq;
    change->time = entry->time;
    int rc = ERR_OK;
    if (change->mailbox)
        rc = facts_decode(&in, change->modseq, &change->before, &change->after,
                          &change->facts_changed);
    else if (change->kind != ENTRY_META && change->kind != ENTRY_MARK)
        rc = fail(ERR_CORRUPT, "journal entry %llu: no mailbox", (unsigned long long)entry->modseq);
    if (rc == ERR_OK)
        rc = decode_body(&in, change);
    if (rc == ERR_OK && !reader_done(&in))
        rc = fail(ERR_CORRUPT, "journal entry %llu: malformed body",
                  (unsigned long long)entry->modseq);
    return rc;
}

uint64_t change_size(const struct change *change)
{
    return change->record_count ? change->record_count : uidset_size(&change->uids);
}

int change_uids(const struct change *change, struct uidset *uids)
{
    if (!change->record_count)
        return uidset_copy(uids, &change->uids);
    uidset_clear(uids);
    for (size_t i = 0; i < change->record_count; i++) {
        int rc = uidset_add(uids, change->records[i].uid);
        if (rc)
            return rc;
    }
    return ERR_OK;
}
