#include "mailbox/count.h"

#include "base/err.h"
#include "mailbox/record.h"
#include "mailbox/values.h"

#define BATCH 64u

int count_mailbox(struct db_txn *txn, const struct header *header, struct header *counted)
{
    struct record records[BATCH];
    size_t count = BATCH;
    struct buf row = {0};
    struct bytes user, key;
    struct versioned value;
    struct uidset uids = {0};
    int rc = ERR_OK;
    *counted = (struct header){0};
    for (uint32_t from = 1; rc == ERR_OK && count == BATCH && from;) {
        rc = record_batch(txn, header->number, from, records, BATCH, &count);
        for (size_t i = 0; rc == ERR_OK && i < count; i++) {
            if (!record_live(&records[i])) {
                counted->tombstones++;
                continue;
            }
            counted->items += record_digest(&records[i]);
            counted->messages++;
            counted->bytes += records[i].size;
            counted->unseen += !(records[i].flags & FLAG_SEEN);
        }
        from = count ? records[count - 1].uid + 1 : 0;
    }
    while (rc == ERR_OK && (rc = seen_next(txn, header->id, &row, &user, &uids, &value)) == ERR_OK)
        counted->items += seen_digest(user, &uids, value.version);
    buf_reset(&row);
    if (rc == ERR_END)
        rc = ERR_OK;
    while (rc == ERR_OK && (rc = meta_next(txn, header->id, &row, &user, &key, &value)) == ERR_OK)
        counted->items += meta_digest(user, key, &value);
    uidset_free(&uids);
    buf_free(&row);
    return rc == ERR_END ? ERR_OK : rc;
}

int count_proves(struct db_txn *txn, const struct header *header, bool *sound)
{
    struct header counted;
    int rc = count_mailbox(txn, header, &counted);
    *sound = rc == ERR_OK && counted.items == header->items &&
             counted.messages == header->messages && counted.bytes == header->bytes &&
             counted.unseen == header->unseen;
    return rc == ERR_CORRUPT ? ERR_OK : rc;
}
