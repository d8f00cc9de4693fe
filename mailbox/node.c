/* The row in which a node knows itself. */
#include "mailbox/tx.h"

#include "base/err.h"
#include "base/hash.h"
#include "journal/tables.h"

#include <string.h>

#define NODE_KEY "node"

bool node_exists(struct db_txn *txn)
{
    return db_get(txn, TABLE_STATE, bytes_text(NODE_KEY), NULL) != ERR_END;
}

uint64_t node_digest(const struct node *node)
{
    return node->mailboxes + node->meta;
}

int node_load(struct db_txn *txn, struct node *node)
{
    struct bytes value;
    *node = (struct node){0};
    int rc = db_get(txn, TABLE_STATE, bytes_text(NODE_KEY), &value);
    if (rc)
        return rc == ERR_END ? fail(ERR_CORRUPT, "not a shiplog store: it does not know itself")
                             : rc;
    struct reader in = reader_of(value);
    node->format = read_u32(&in);
    if (!in.failed && node->format > STORE_FORMAT)
        return fail(ERR_NEWER, "the store has format %u, of a newer version; this program knows %u",
                    node->format, STORE_FORMAT);
    uint8_t role = read_u8(&in);
    uint8_t fence = read_u8(&in);
    uint8_t discard = read_u8(&in);
    node->store_id = read_u64(&in);
    node->node_id = read_u64(&in);
    node->epoch.number = read_u32(&in);
    node->epoch.node = read_u64(&in);
    node->next_number = read_u32(&in);
    node->mailboxes = read_u64(&in);
    node->meta = read_u64(&in);
    node->meta_modseq = read_u64(&in);
    node->last_uidvalidity = read_u32(&in);
    node->file.device = (dev_t)read_u64(&in);
    node->file.inode = (ino_t)read_u64(&in);
    struct bytes user = read_bytes(&in);
    struct bytes domain = read_bytes(&in);
    struct bytes master = read_bytes(&in);
    uint32_t crc = hash_crc32(value.data, (size_t)(in.at - value.data));
    if (read_u32(&in) != crc || !reader_done(&in) || role > ROLE_REPLICA || fence > FENCE_BEHIND ||
        discard > 1 || user.size >= sizeof node->owner.user ||
        domain.size >= sizeof node->owner.domain || master.size >= sizeof node->master)
        return fail(ERR_CORRUPT, "the store's knowledge of itself is damaged");
    node->role = (enum role)role;
    node->fence = (enum fence)fence;
    node->discard = discard;
    memcpy(node->owner.user, user.data, user.size);
    memcpy(node->owner.domain, domain.data, domain.size);
    memcpy(node->master, master.data, master.size);
    return ERR_OK;
}

int node_save(struct db_txn *txn, const struct node *node)
{
    struct buf out = {0};
    buf_u32(&out, node->format);
    buf_u8(&out, (uint8_t)node->role);
    buf_u8(&out, (uint8_t)node->fence);
    buf_u8(&out, node->discard);
    buf_u64(&out, node->store_id);
    buf_u64(&out, node->node_id);
    buf_u32(&out, node->epoch.number);
    buf_u64(&out, node->epoch.node);
    buf_u32(&out, node->next_number);
    buf_u64(&out, node->mailboxes);
    buf_u64(&out, node->meta);
    buf_u64(&out, node->meta_modseq);
    buf_u32(&out, node->last_uidvalidity);
    buf_u64(&out, (uint64_t)node->file.device);
    buf_u64(&out, (uint64_t)node->file.inode);
    buf_bytes(&out, bytes_text(node->owner.user));
    buf_bytes(&out, bytes_text(node->owner.domain));
    buf_bytes(&out, bytes_text(node->master));
    buf_u32(&out, hash_crc32(out.data, out.size));
    int rc = out.failed ? fail(ERR_NOMEM, "out of memory")
                        : db_put(txn, TABLE_STATE, bytes_text(NODE_KEY), buf_view(&out));
    buf_free(&out);
    return rc;
}
