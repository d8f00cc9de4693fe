/* The body of a mark as a peer or a damaged disk may give it: what decodes encodes to what decodes
 * to the same. */
#include "base/err.h"
#include "journal/epoch.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define MOST 256u /* marks and epochs of one body that are looked at */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct body {
    struct mark marks[MOST];
    size_t mark_count;
    struct epoch epochs[MOST];
    size_t epoch_count;
};

static int keep_mark(const struct mark *mark, void *arg)
{
    struct body *body = arg;
    if (body->mark_count == MOST)
        return ERR_NO;
    body->marks[body->mark_count++] = *mark;
    return ERR_OK;
}

static int keep_epoch(const struct epoch *epoch, void *arg)
{
    struct body *body = arg;
    if (body->epoch_count == MOST)
        return ERR_NO;
    body->epochs[body->epoch_count++] = *epoch;
    return ERR_OK;
}

static int decode(struct bytes from, struct buf *again)
{
    struct body body = {.mark_count = 0};
    int rc = mark_body_decode(from, keep_mark, keep_epoch, &body);
    if (rc == ERR_OK)
        mark_body_encode(body.marks, body.mark_count, body.epochs, body.epoch_count, again);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first = {0};
    struct buf second = {0};
    if (decode(bytes_of(data, size), &first) == ERR_OK && !first.failed) {
        if (decode(buf_view(&first), &second) != ERR_OK)
            abort();
        if (!second.failed && !bytes_equal(buf_view(&first), buf_view(&second)))
            abort();
    }
    buf_free(&first);
    buf_free(&second);
    return 0;
}
