/* Does to a store what a faulty disk or program might: behind the back of journal and counts.
 *
 *   damage STORE MAILBOX UID lose      the record's row is gone
 *   damage STORE MAILBOX UID change    it says something else, with a valid checksum
 *   damage STORE MAILBOX UID spoil     its checksum does not hold
 *   damage STORE MAILBOX UID cut       its row is too short
 *   damage STORE MAILBOX UID garble    its content's first byte is another
 */
#include "base/err.h"
#include "base/text.h"
#include "journal/tables.h"
#include "mailbox/content.h"
#include "mailbox/header.h"
#include "mailbox/record.h"
#include "mailbox/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct damage {
    const char *mailbox;
    uint32_t uid;
    const char *how;
};

static int spoil(struct db_txn *txn, uint32_t number, uint32_t uid, bool cut)
{
    uint8_t key[8];
    struct bytes row;
    struct buf spoilt = {0};
    save_be32(key, number);
    save_be32(key + 4, uid);
    int rc = db_get(txn, TABLE_RECORDS, bytes_of(key, sizeof key), &row);
    if (rc)
        return rc;
    buf_put(&spoilt, row.data, row.size - cut);
    spoilt.data[0] ^= 0x55;
    rc = db_put(txn, TABLE_RECORDS, bytes_of(key, sizeof key), buf_view(&spoilt));
    buf_free(&spoilt);
    return rc;
}

static int garble(struct db_txn *txn, const struct guid *guid)
{
    struct content content;
    uint8_t key[12] = {0};
    struct bytes row;
    struct buf garbled = {0};
    int rc = content_get(txn, guid, &content);
    save_be64(key, content.number);
    if (rc == ERR_OK)
        rc = db_get(txn, TABLE_CONTENT, bytes_of(key, sizeof key), &row);
    if (rc)
        return rc;
    buf_put(&garbled, row.data, row.size);
    garbled.data[4] ^= 0x55; /* behind its CRC-32 */
    rc = db_put(txn, TABLE_CONTENT, bytes_of(key, sizeof key), buf_view(&garbled));
    buf_free(&garbled);
    return rc;
}

static int damage(struct tx *tx, void *arg)
{
    const struct damage *work = arg;
    struct name name;
    struct header header;
    struct record record;
    uint64_t id;
    int rc = name_parse(work->mailbox, strlen(work->mailbox), &tx_node(tx)->owner, &name);
    if (rc == ERR_OK)
        rc = header_id_of(tx_db(tx), &name, &id);
    if (rc == ERR_OK)
        rc = header_get(tx_db(tx), id, &header);
    if (rc == ERR_OK)
        rc = record_get(tx_db(tx), header.number, work->uid, &record);
    if (rc)
        return rc;
    if (strcmp(work->how, "lose") == 0)
        return record_delete(tx_db(tx), header.number, work->uid);
    if (strcmp(work->how, "spoil") == 0)
        return spoil(tx_db(tx), header.number, work->uid, false);
    if (strcmp(work->how, "cut") == 0)
        return spoil(tx_db(tx), header.number, work->uid, true);
    if (strcmp(work->how, "garble") == 0)
        return garble(tx_db(tx), &record.guid);
    record.flags ^= FLAG_DRAFT;
    return record_put(tx_db(tx), header.number, &record);
}

int main(int argc, char **argv)
{
    if (argc != 5) {
        fprintf(stderr, "usage: damage STORE MAILBOX UID lose|change|spoil|cut|garble\n");
        return 2;
    }
    struct damage work = {
        .mailbox = argv[2], .uid = (uint32_t)strtoul(argv[3], NULL, 10), .how = argv[4]};
    struct store *store;
    int rc = store_open(argv[1], NULL, &store);
    if (rc == ERR_OK) {
        rc = store_maintain(store, damage, &work);
        store_close(store);
    }
    if (rc)
        fprintf(stderr, "damage: %s\n", rc == ERR_END ? "no such record" : err_message());
    return rc ? 1 : 0;
}
