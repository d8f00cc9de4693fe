/* The plan of a repair as an upstream may send it: what decodes encodes to what decodes to the
 * same. */
#include "agent/plan.h"
#include "base/err.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Numbers may be written in more bytes than they need, so only the second encoding is compared. */
static void again(const struct buf *first)
{
    struct plan plan;
    struct buf second = {0};
    if (plan_decode(buf_view(first), &plan) != ERR_OK)
        abort();
    plan_encode(&plan, &second);
    if (!second.failed && !bytes_equal(buf_view(first), buf_view(&second)))
        abort();
    buf_free(&second);
    plan_free(&plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct plan plan;
    struct buf first = {0};
    if (plan_decode(bytes_of(data, size), &plan) != ERR_OK)
        return 0;
    plan_encode(&plan, &first);
    if (!first.failed)
        again(&first);
    buf_free(&first);
    plan_free(&plan);
    return 0;
}
