/* Journal entries and their bodies, as a peer or a damaged disk may give them. The CRC-32 is made
 * right first, or nothing would get past it. What decodes must encode to the same bytes. */
#include "base/hash.h"
#include "mailbox/change.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_body(const struct entry *entry)
{
    struct change change = {0};
    struct uidset uids = {0};
    struct buf again = {0};
    if (entry->kind != ENTRY_EPOCH && change_decode(entry, &change) == 0) {
        if (change_uids(&change, &uids) != 0)
            abort();
        /* Facts that did not change may be encoded as changed by a peer: only a body that is
         * canonical comes back as it was. */
        if (change_encode(&change, &again) == 0 && again.size == entry->body.size && again.size &&
            change.facts_changed == 0 && memcmp(again.data, entry->body.data, again.size) != 0)
            abort();
    }
    buf_free(&again);
    uidset_free(&uids);
    change_free(&change);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct entry entry;
    if (size < ENTRY_HEADER_SIZE || size > ENTRY_MAX_SIZE)
        return 0;
    uint8_t *copy = malloc(size);
    if (!copy)
        return 0;
    memcpy(copy, data, size);
    save_u32(copy + 4, (uint32_t)size);
    save_u32(copy, hash_crc32(copy + 4, size - 4));
    if (entry_decode(bytes_of(copy, size), &entry) == 0)
        try_body(&entry);
    free(copy);
    return 0;
}
