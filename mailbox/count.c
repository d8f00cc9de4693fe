#include "mailbox/count.h"

#include "base/err.h"
#include "mailbox/values.h"

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
                  struct uidset *damaged, const struct record_sums *sums)
{
    struct record_count count;
    int rc = record_count(txn, header->number, &count, damaged, sums);
    *counted = (struct header){.messages = count.messages,
                               .unseen = count.unseen,
                               .bytes = count.bytes,
                               .tombstones = count.tombstones,
                               .items = count.items};
    return rc;
}

int count_mailbox(struct db_txn *txn, const struct header *header, struct header *counted)
{
    uint64_t items, rows;
    int rc = count_records(txn, header, counted, NULL, NULL);
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
