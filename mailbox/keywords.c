#include "mailbox/keywords.h"

#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/flags.h"

int keywords_intern(struct db_txn *txn, struct bytes set)
{
    uint8_t key[8];
    struct bytes value;
    if (set.size == 0)
        return ERR_OK;
    save_be64(key, keywords_hash(set));
    int rc = db_get(txn, TABLE_KEYWORDS, bytes_of(key, sizeof key), &value);
    if (rc == ERR_END)
        return db_put(txn, TABLE_KEYWORDS, bytes_of(key, sizeof key), set);
    if (rc == ERR_OK && !bytes_equal(value, set))
        return fail(ERR_INVALID, "these keywords cannot be told from another set of keywords");
    return rc;
}

int keywords_lookup(struct db_txn *txn, uint64_t hash, struct bytes *set)
{
    uint8_t key[8];
    *set = bytes_of(NULL, 0);
    if (hash == 0)
        return ERR_OK;
    save_be64(key, hash);
    int rc = db_get(txn, TABLE_KEYWORDS, bytes_of(key, sizeof key), set);
    if (rc == ERR_END)
        return fail(ERR_CORRUPT, "keyword set %016llx is missing", (unsigned long long)hash);
    if (rc == ERR_OK && keywords_hash(*set) != hash)
        return fail(ERR_CORRUPT, "keyword set %016llx is damaged", (unsigned long long)hash);
    return rc;
}
