#include "base/hash.h"

#include <libdeflate.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

bool guid_equal(const struct guid *a, const struct guid *b)
{
    return memcmp(a->bytes, b->bytes, GUID_SIZE) == 0;
}

int guid_compare(const struct guid *a, const struct guid *b)
{
    return memcmp(a->bytes, b->bytes, GUID_SIZE);
}

void guid_print(const struct guid *guid, char out[GUID_TEXT_SIZE])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < GUID_SIZE; i++) {
        out[2 * i] = digits[guid->bytes[i] >> 4];
        out[2 * i + 1] = digits[guid->bytes[i] & 15];
    }
    out[GUID_TEXT_SIZE - 1] = '\0';
}

struct guid_hash {
    EVP_MD_CTX *context;
};

struct guid_hash *hash_guid_start(void)
{
    struct guid_hash *hash = calloc(1, sizeof *hash);
    if (!hash)
        return NULL;
    hash->context = EVP_MD_CTX_new();
    if (!hash->context || EVP_DigestInit_ex(hash->context, EVP_sha256(), NULL) != 1) {
        hash_guid_finish(hash, NULL);
        return NULL;
    }
    return hash;
}

void hash_guid_update(struct guid_hash *hash, const void *data, size_t size)
{
    EVP_DigestUpdate(hash->context, data, size);
}

void hash_guid_finish(struct guid_hash *hash, struct guid *guid)
{
    if (!hash)
        return;
    if (guid)
        EVP_DigestFinal_ex(hash->context, guid->bytes, NULL);
    EVP_MD_CTX_free(hash->context);
    free(hash);
}

uint64_t hash_xxh3(const void *data, size_t size)
{
    return XXH3_64bits(data, size);
}

uint32_t hash_crc32(const void *data, size_t size)
{
    return libdeflate_crc32(0, data, size);
}

void hash_random(void *to, size_t size)
{
    uint8_t *at = to;
    while (size) {
        ssize_t got = getrandom(at, size, 0);
        if (got < 0)
            abort();
        at += got;
        size -= (size_t)got;
    }
}

uint64_t hash_random_id(void)
{
    uint64_t id = 0;
    while (id == 0)
        hash_random(&id, sizeof id);
    return id;
}
