#include "mailbox/count.h"

#include "base/err.h"
#include "mailbox/values.h"

#define BATCH 64u

void count_record(struct header *counted, const struct record *record, uint64_t sign)
{
    if (!record_live(record)) {
        counted->tombstones += sign;
        return;
    }
    counted->items += sign * record_digest(record);
    counted->messages += sign;
    counted->bytes += sign * record->size;
    if (!(record->flags & FLAG_SEEN))
        counted->unseen += sign;
}

int count_records(struct db_txn *txn, const struct header *header, struct header *counted,
                  struct uidset *damaged)
{
    struct record records[BATCH];
    size_t count = BATCH;
    int rc = ERR_OK;
    *counted = (struct header){0};
    for (uint32_t from = 1; rc == ERR_OK && count == BATCH && from;) {
        rc = record_batch(txn, header->number, from, records, BATCH, &count);
        for (size_t i = 0; i < count; i++)
            count_record(counted, &records[i], 1);
        from = count ? records[count - 1].uid + 1 : 0;
        if (rc == ERR_CORRUPT && damaged && records[count].uid) {
            rc = uidset_add(damaged, records[count].uid);
            from = records[count].uid + 1;
            count = BATCH;
        }
    }
    return rc;
}

int count_mailbox(struct db_txn *txn, const struct header *header, struct header *counted)
{
    uint64_t items, rows;
    int rc = count_records(txn, header, counted, NULL);
    if (rc == ERR_OK)
        rc = values_digest(txn, header->id, &items, &rows);
    if (rc == ERR_OK)
        counted->items += items;
    return rc;
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
