#include "base/text.h"

#include <string.h>

/* RFC 3629, section 4: what may follow a first byte. Only the second byte has limits of its own. */
static const struct {
    uint8_t first_from, first_to;
    uint8_t second_from, second_to;
    uint8_t length;
} sequences[] = {
    {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3}, {0xe1, 0xec, 0x80, 0xbf, 3},
    {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3}, {0xf0, 0xf0, 0x90, 0xbf, 4},
    {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
};

size_t text_utf8(const void *data, size_t size, uint32_t *code_point)
{
    const uint8_t *b = data;
    if (size == 0)
        return 0;
    if (b[0] < 0x80) {
        *code_point = b[0];
        return 1;
    }
    for (size_t i = 0; i < sizeof sequences / sizeof sequences[0]; i++) {
        if (b[0] < sequences[i].first_from || b[0] > sequences[i].first_to)
            continue;
        size_t length = sequences[i].length;
        if (size < length || b[1] < sequences[i].second_from || b[1] > sequences[i].second_to)
            return 0;
        uint32_t value = b[0] & (0x7fu >> length);
        for (size_t k = 1; k < length; k++) {
            if ((b[k] & 0xc0) != 0x80)
                return 0;
            value = value << 6 | (b[k] & 0x3fu);
        }
        *code_point = value;
        return length;
    }
    return 0;
}

bool text_is_control(uint32_t code_point)
{
    return code_point < 0x20 || (code_point >= 0x7f && code_point < 0xa0);
}

void text_to_line(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            *text = '?';
}

static size_t escape(const uint8_t *bytes, size_t count, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < count; i++) {
        *out++ = '\\';
        *out++ = 'x';
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return count * 4;
}

const char *text_quote(const void *data, size_t size, char out[TEXT_QUOTE_SIZE])
{
    static const char cut[] = "...\"";
    const uint8_t *at = data;
    size_t used = 0;
    out[used++] = '"';
    while (size > 0) {
        char shown[4]; /* a character, or an escaped byte */
        uint32_t code_point = 0;
        size_t length = text_utf8(at, size, &code_point);
        size_t wide = length;
        if (length == 0 || text_is_control(code_point)) {
            length = 1;
            wide = escape(at, length, shown);
        } else {
            memcpy(shown, at, length);
        }
        if (used + wide + sizeof cut > TEXT_QUOTE_SIZE) {
            memcpy(out + used, cut, sizeof cut);
            return out;
        }
        memcpy(out + used, shown, wide);
        used += wide;
        at += length;
        size -= length;
    }
    out[used++] = '"';
    out[used] = '\0';
    return out;
}
