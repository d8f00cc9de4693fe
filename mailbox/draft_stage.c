/* What drafts write to the store before anything refers to it, who owns that, and how it is
 * adopted, taken away or swept. */
#include "mailbox/drafting.h"

#include "base/err.h"
#include "base/lock.h"
#include "journal/tables.h"
#include "mailbox/chunks.h"
#include "mailbox/lacking.h"

#include <stdlib.h>
#include <string.h>

#define STAGE_BATCH (1u << 20) /* deflated bytes in one transaction of a draft's own */
#define SWEEP_BATCH 256u       /* chunks removed in one transaction */
#define STAGED_SIZE 12u

static int stage_chunks(struct draft *draft, struct db_txn *txn, bool whole, size_t *written)
{
    uint32_t chunk = draft->chunks;
    size_t at = 0;
    while (at < draft->waiting.size && at < STAGE_BATCH) {
        size_t left = draft->waiting.size - at;
        if (!whole && left < 2 * CHUNK_MAX_SIZE)
            break;
        size_t size = chunk_size(left);
        int rc = chunk_put(txn, draft->number, chunk++, draft->waiting.data + at, size);
        if (rc)
            return rc;
        at += size;
    }
    *written = at;
    return ERR_OK;
}

/* Gives drafts that have no owner yet one that they share. */
static int own_all(struct draft *const *drafts, size_t count)
{
    struct draft_owner *owner = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!drafts[i] || drafts[i]->owner)
            continue;
        if (!owner) {
            owner = calloc(1, sizeof *owner);
            if (!owner)
                return fail(ERR_NOMEM, "out of memory");
            int rc = owner_lock_take(db_writer_lock(drafts[i]->db), &owner->number);
            if (rc) {
                free(owner);
                return rc;
            }
        }
        drafts[i]->owner = owner;
        atomic_fetch_add(&owner->drafts, 1);
    }
    return ERR_OK;
}

static void disown(struct draft *draft)
{
    struct draft_owner *owner = draft->owner;
    draft->owner = NULL;
    if (!owner || atomic_fetch_sub(&owner->drafts, 1) != 1)
        return;
    owner_lock_release(db_writer_lock(draft->db), owner->number);
    free(owner);
}

static int begin_staging(struct draft *draft, struct db_txn *txn)
{
    uint8_t key[8], owner[STAGED_SIZE];
    int rc = content_take_number(txn, &draft->number);
    if (rc)
        return rc;
    save_be64(key, draft->number);
    save_u64(owner, draft->owner->number);
    save_u32(owner + 8, hash_crc32(key, sizeof key) ^ hash_crc32(owner, 8));
    return db_put(txn, TABLE_STAGED, bytes_of(key, sizeof key), bytes_of(owner, sizeof owner));
}

/* One bounded transaction of staging. */
static int stage_once(struct draft *draft, bool whole)
{
    struct db_txn *txn;
    size_t written = 0;
    int rc = own_all(&draft, 1);
    if (rc)
        return rc;
    for (;;) {
        bool fresh = draft->number == 0;
        rc = db_begin_write(draft->db, &txn);
        if (rc)
            return rc;
        rc = fresh ? begin_staging(draft, txn) : ERR_OK;
        if (rc == ERR_OK)
            rc = stage_chunks(draft, txn, whole, &written);
        if (rc == ERR_OK)
            rc = db_commit(txn);
        else
            db_abort(txn);
        if (rc == ERR_OK)
            break;
        if (fresh)
            draft->number = 0;
        if (rc == ERR_AGAIN)
            rc = db_grow(draft->db);
        if (rc)
            return rc;
    }
    draft->chunks += (uint32_t)((written + CHUNK_MAX_SIZE - 1) / CHUNK_MAX_SIZE);
    memmove(draft->waiting.data, draft->waiting.data + written, draft->waiting.size - written);
    draft->waiting.size -= written;
    return ERR_OK;
}

int draft_stage_if_large(struct draft *draft)
{
    while (draft->waiting.size >= CONTENT_STAGE_SIZE + 2 * CHUNK_MAX_SIZE) {
        int rc = stage_once(draft, false);
        if (rc)
            return rc;
    }
    return draft->waiting.failed ? fail(ERR_NOMEM, "out of memory") : ERR_OK;
}

int draft_stage(struct draft *draft)
{
    while (draft->waiting.size || !draft->number) {
        int rc = stage_once(draft, true);
        if (rc)
            return rc;
    }
    buf_free(&draft->waiting);
    return ERR_OK;
}

/* What `draft` holds in memory becomes the chunks of `number`, in a transaction of the caller's. */
static int put_waiting(struct db_txn *txn, const struct draft *draft, uint64_t number)
{
    uint32_t chunk = 0;
    int rc = ERR_OK;
    for (size_t at = 0; rc == ERR_OK && at < draft->waiting.size;) {
        size_t size = chunk_size(draft->waiting.size - at);
        rc = chunk_put(txn, number, chunk++, draft->waiting.data + at, size);
        at += size;
    }
    return rc;
}

static bool is_small(const struct draft *draft)
{
    return draft && draft->number == 0 && draft->waiting.size;
}

static int stage_small(struct draft **drafts, size_t count, struct db *db)
{
    struct db_txn *txn;
    int rc = db_begin_write(db, &txn);
    if (rc)
        return rc;
    for (size_t i = 0; rc == ERR_OK && i < count; i++)
        if (is_small(drafts[i])) {
            rc = begin_staging(drafts[i], txn);
            if (rc == ERR_OK)
                rc = put_waiting(txn, drafts[i], drafts[i]->number);
        }
    if (rc == ERR_OK)
        rc = db_commit(txn);
    else
        db_abort(txn);
    for (size_t i = 0; i < count; i++) {
        if (!drafts[i] || !drafts[i]->waiting.size)
            continue;
        if (rc)
            drafts[i]->number = 0;
        else
            buf_free(&drafts[i]->waiting);
    }
    return rc;
}

int draft_stage_all(struct draft **drafts, size_t count)
{
    struct db *db = NULL;
    int rc = ERR_OK;
    for (size_t i = 0; rc == ERR_OK && i < count; i++) {
        if (drafts[i] && drafts[i]->number)
            rc = draft_stage(drafts[i]);
        if (is_small(drafts[i]))
            db = drafts[i]->db;
    }
    if (rc == ERR_OK && db)
        rc = own_all(drafts, count);
    if (rc || !db)
        return rc;
    while ((rc = stage_small(drafts, count, db)) == ERR_AGAIN) {
        rc = db_grow(db);
        if (rc)
            return rc;
    }
    return rc;
}

int draft_adopt(struct db_txn *txn, struct draft *draft, bool *introduced)
{
    uint8_t key[8];
    struct content content;
    int rc = content_get(txn, &draft->guid, &content);
    if (rc && rc != ERR_END)
        return rc;
    bool fresh = rc == ERR_END;
    if (introduced)
        *introduced = fresh || content.references == 0;
    if (fresh)
        content = (struct content){.guid = draft->guid};
    else if (content.number)
        return ERR_OK;
    content.size = draft->size;
    content.stored = draft->stored;
    if (draft->number) {
        save_be64(key, draft->number);
        rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
        if (rc)
            return rc == ERR_END ? fail(ERR_CORRUPT, "content: what was staged is no longer there")
                                 : rc;
        content.number = draft->number;
    } else {
        rc = content_take_number(txn, &content.number);
        if (rc == ERR_OK)
            rc = put_waiting(txn, draft, content.number);
        if (rc)
            return rc;
    }
    rc = content_put(txn, &content);
    return rc || fresh ? rc : lacking_unmark(txn, &content.guid);
}

/* Removes staged content in bounded transactions, the row that names its owner last. */
static int unstage(struct db *db, uint64_t number)
{
    uint8_t key[8];
    uint32_t chunk = 0;
    struct db_txn *txn;
    save_be64(key, number);
    for (;;) {
        uint32_t start = chunk;
        int rc = db_begin_write(db, &txn);
        if (rc)
            return rc;
        rc = db_get(txn, TABLE_STAGED, bytes_of(key, sizeof key), NULL);
        if (rc) { /* adopted, or swept by another */
            db_abort(txn);
            return rc == ERR_END ? ERR_OK : rc;
        }
        rc = chunks_remove(txn, number, &chunk, SWEEP_BATCH);
        bool last = rc == ERR_END;
        if (last)
            rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
        if (rc == ERR_OK)
            rc = db_commit(txn);
        else
            db_abort(txn);
        if (rc == ERR_AGAIN) {
            chunk = start;
            rc = db_grow(db);
        } else if (rc == ERR_OK && last) {
            return ERR_OK;
        }
        if (rc)
            return rc;
    }
}

void draft_unstage(struct draft *draft)
{
    /* A failure leaves it to draft_sweep(): the owner is gone with the last of its drafts. */
    if (draft->number)
        (void)unstage(draft->db, draft->number);
    disown(draft);
}

/* What one draft staged goes in a transaction of the caller's, unless it was adopted. */
static int unstage_within(struct db_txn *txn, uint64_t number)
{
    uint8_t key[8];
    save_be64(key, number);
    int rc = db_delete(txn, TABLE_STAGED, bytes_of(key, sizeof key));
    if (rc == ERR_OK)
        rc = chunks_remove_all(txn, number);
    return rc == ERR_END ? ERR_OK : rc;
}

/* What drafts from `from` on staged goes in one bounded transaction; gives where to go on. After a
 * failure the rest is left to draft_close(). */
static size_t unstage_some(struct draft **drafts, size_t count, size_t from)
{
    struct db_txn *txn = NULL;
    uint64_t bytes = 0;
    size_t at = from;
    int rc = ERR_OK;
    for (; rc == ERR_OK && at < count && bytes < CONTENT_STAGE_SIZE; at++) {
        const struct draft *draft = drafts[at];
        if (!draft || !draft->number || draft->stored > CONTENT_STAGE_SIZE)
            continue;
        if (!txn)
            rc = db_begin_write(draft->db, &txn);
        if (rc == ERR_OK)
            rc = unstage_within(txn, draft->number);
        bytes += draft->stored;
    }
    if (rc == ERR_OK && txn)
        rc = db_commit(txn);
    else
        db_abort(txn);
    for (size_t i = from; rc == ERR_OK && i < at; i++)
        if (drafts[i] && drafts[i]->stored <= CONTENT_STAGE_SIZE)
            drafts[i]->number = 0;
    return rc == ERR_OK ? at : count;
}

void draft_close_all(struct draft **drafts, size_t count)
{
    for (size_t at = 0; at < count;)
        at = unstage_some(drafts, count, at);
    for (size_t i = 0; i < count; i++)
        draft_close(drafts[i]);
}

int draft_staged_decode(struct bytes key, struct bytes value, uint64_t *number)
{
    if (key.size != 8 || value.size != STAGED_SIZE ||
        load_u32(value.data + 8) != (hash_crc32(key.data, 8) ^ hash_crc32(value.data, 8)))
        return fail(ERR_CORRUPT, "table of staged content: CRC-32 of a row does not match");
    *number = load_be64(key.data);
    return ERR_OK;
}

/* The first staged content at or above *number whose owner is dead. ERR_END: none. */
static int find_orphan(struct db *db, uint64_t *number)
{
    uint8_t key[8];
    struct bytes found, value;
    struct db_txn *txn;
    struct db_cursor *cursor;
    int rc = db_begin_read(db, &txn);
    if (rc)
        return rc;
    rc = db_cursor_open(txn, TABLE_STAGED, &cursor);
    if (rc) {
        db_abort(txn);
        return rc;
    }
    save_be64(key, *number);
    for (rc = db_seek(cursor, bytes_of(key, sizeof key), &found, &value); rc == ERR_OK;
         rc = db_next(cursor, &found, &value)) {
        uint64_t staged;
        rc = draft_staged_decode(found, value, &staged);
        if (rc)
            break;
        if (owner_lock_is_dead(db_writer_lock(db), load_u64(value.data))) {
            *number = staged;
            break;
        }
    }
    db_cursor_close(cursor);
    db_abort(txn);
    return rc;
}

int draft_sweep(struct db *db, uint64_t *swept)
{
    uint64_t number = 0;
    uint64_t count = 0;
    int rc;
    while ((rc = find_orphan(db, &number)) == ERR_OK) {
        rc = unstage(db, number++);
        if (rc)
            break;
        count++;
    }
    if (swept)
        *swept = count;
    return rc == ERR_END ? ERR_OK : rc;
}
