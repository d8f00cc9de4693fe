/* The three hashes, each for one purpose: SHA-256 names content, XXH3 makes chains and digests,
 * CRC-32 finds damage. */
#ifndef SHIPLOG_BASE_HASH_H
#define SHIPLOG_BASE_HASH_H

#include "base/bytes.h"

#include <stdbool.h>
#include <stdint.h>

#define GUID_SIZE 32
#define GUID_TEXT_SIZE 65

/* The name of a message's content: SHA-256 of its raw bytes (RFC 8474's EMAILID by content). */
struct guid {
    uint8_t bytes[GUID_SIZE];
};

bool guid_equal(const struct guid *a, const struct guid *b);
int guid_compare(const struct guid *a, const struct guid *b); /* memcmp's order */
void guid_print(const struct guid *guid, char out[GUID_TEXT_SIZE]);

/* SHA-256 in pieces. hash_guid_start() gives NULL when memory is short; hash_guid_finish() frees.
 */
struct guid_hash;
struct guid_hash *hash_guid_start(void);
void hash_guid_update(struct guid_hash *hash, const void *data, size_t size);
void hash_guid_finish(struct guid_hash *hash, struct guid *guid); /* guid may be NULL: only free */

uint64_t hash_xxh3(const void *data, size_t size);  /* XXH3, 64 bits, seed 0 */
uint32_t hash_crc32(const void *data, size_t size); /* zlib's */

/* `size` bytes from the system's random source; ends the process if there is none (getrandom()
 * cannot fail later). */
void hash_random(void *to, size_t size);
uint64_t hash_random_id(void); /* never 0 */

#endif
