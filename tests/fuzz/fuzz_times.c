/* Every parser of times: whatever it accepts must print, and the printed form must parse back. */
#include "base/times.h"

#include "base/err.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

/* Years 1 to 9998: what a zone moves out of the printable years is clamped. */
static void check_time(int64_t time)
{
    char text[TIMES_TEXT_SIZE];
    int64_t again = 0;
    times_print(time, text);
    check(times_parse_rfc3339(text, &again) == ERR_OK);
    if (time > INT64_C(-62135596800000000) && time < INT64_C(253370764800000000))
        check(again == time);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t time = 0;
    char *text = malloc(size + 1);
    check(text != NULL);
    if (size)
        memcpy(text, data, size);
    text[size] = '\0';
    if (times_parse_rfc3339(text, &time) == ERR_OK)
        check_time(time);
    if (times_parse_rfc5322((const char *)data, size, &time) == ERR_OK)
        check_time(time);
    if (times_parse_asctime((const char *)data, size, &time) == ERR_OK)
        check_time(time);
    if (times_parse_age(text, true, &time) == ERR_OK ||
        times_parse_age(text, false, &time) == ERR_OK)
        check(time >= 0);
    free(text);
    return 0;
}
