/* UID sets from text and from bytes: whatever is accepted must come back the same. */
#include "base/uidset.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

static void check_set(const struct uidset *set)
{
    for (size_t i = 0; i < set->count; i++) {
        check(set->ranges[i].first > 0 && set->ranges[i].first <= set->ranges[i].last);
        check(i == 0 || set->ranges[i].first - 1 > set->ranges[i - 1].last);
    }
}

static void try_bytes(const uint8_t *data, size_t size)
{
    struct uidset set = {0};
    struct buf out = {0};
    struct reader reader = reader_of(bytes_of(data, size));
    if (uidset_decode(&set, &reader, UINT32_MAX) == ERR_OK) {
        check_set(&set);
        uidset_encode(&set, &out);
        check(bytes_equal(buf_view(&out), bytes_of(data, (size_t)(reader.at - data))));
    }
    buf_free(&out);
    uidset_free(&set);
}

static void try_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    check(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    struct uidset set = {0};
    struct uidset again = {0};
    struct buf out = {0};
    if (uidset_parse(&set, text, 1000, NULL) == ERR_OK) {
        check_set(&set);
        uidset_print(&set, &out);
        buf_u8(&out, 0);
        check(set.count > 0);
        check(uidset_parse(&again, (const char *)out.data, 1, NULL) == ERR_OK);
        check(uidset_equal(&set, &again));
        buf_reset(&out);
        uidset_encode(&set, &out);
        struct reader reader = reader_of(buf_view(&out));
        check(uidset_decode(&again, &reader, uidset_size(&set)) == ERR_OK);
        check(reader_done(&reader) && uidset_equal(&set, &again));
    }
    buf_free(&out);
    uidset_free(&again);
    uidset_free(&set);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_bytes(data, size);
    try_text(data, size);
    return 0;
}
