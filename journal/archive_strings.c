#include "journal/archive_strings.h"

#include "base/err.h"
#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define PLACES_FIRST 1024u

void strings_free(struct strings *strings)
{
    buf_free(&strings->all);
    free(strings->places);
    *strings = (struct strings){0};
}

uint32_t strings_count(const struct strings *strings)
{
    return (uint32_t)(strings->all.size / ARCHIVE_STRING_SIZE);
}

static const uint8_t *string_at(const struct strings *strings, uint32_t string)
{
    return strings->all.data + (size_t)string * ARCHIVE_STRING_SIZE;
}

/* Where this string's number is, or belongs. */
static uint32_t *place_of(const struct strings *strings, const uint8_t *string)
{
    size_t mask = strings->place_count - 1;
    for (size_t i = hash_xxh3(string, ARCHIVE_STRING_SIZE) & mask;; i = (i + 1) & mask) {
        uint32_t *place = &strings->places[i];
        if (!*place || memcmp(string_at(strings, *place - 1), string, ARCHIVE_STRING_SIZE) == 0)
            return place;
    }
}

static int grow(struct strings *strings)
{
    size_t count = strings->place_count ? strings->place_count * 2 : PLACES_FIRST;
    uint32_t *places = calloc(count, sizeof *places);
    if (!places)
        return fail(ERR_NOMEM, "out of memory");
    free(strings->places);
    strings->places = places;
    strings->place_count = count;
    for (uint32_t i = 0; i < strings_count(strings); i++)
        *place_of(strings, string_at(strings, i)) = i + 1;
    return ERR_OK;
}

int strings_add(struct strings *strings, const uint8_t *string, uint32_t *number)
{
    uint32_t count = strings_count(strings);
    if ((size_t)count * 2 >= strings->place_count) {
        int rc = grow(strings);
        if (rc)
            return rc;
    }
    uint32_t *place = place_of(strings, string);
    *number = *place ? *place - 1 : count;
    if (*place)
        return ERR_OK;
    buf_put(&strings->all, string, ARCHIVE_STRING_SIZE);
    if (strings->all.failed)
        return fail(ERR_NOMEM, "out of memory");
    *place = count + 1;
    return ERR_OK;
}

int strings_fetch(void *arg, uint32_t string, uint8_t out[ARCHIVE_STRING_SIZE])
{
    const struct strings *strings = arg;
    if (string >= strings_count(strings))
        return fail(ERR_CORRUPT, "a string that is not there");
    memcpy(out, string_at(strings, string), ARCHIVE_STRING_SIZE);
    return ERR_OK;
}
