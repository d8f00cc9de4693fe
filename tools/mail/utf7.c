/* Modified UTF-7 (RFC 3501, section 5.1.3): what Dovecot and Courier call Maildir folders by.
 *
 * Only the one right form of a name is taken for such: two forms of one name would be two folders
 * that become one mailbox. So no printable ASCII is encoded, no run follows another at once, and
 * no bits are left over. Courier's exceptions stay apart, as these characters never stand for
 * themselves there. */
#include "base/text.h"
#include "tools/mail/internal.h"

#include <string.h>

/* The value of a digit of the alphabet of RFC 3501 (',' for '/'); -1: none. */
static int digit_of(uint8_t c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

static void put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_u8(out, (uint8_t)c);
        return;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
    buf_u8(out, (uint8_t)(lead[more] | c >> 6 * more));
    while (more--)
        buf_u8(out, (uint8_t)(0x80 | (c >> 6 * more & 0x3f)));
}

/* Neither printable ASCII nor what no level of a mailbox's name may hold. */
static bool may_be_encoded(uint32_t c)
{
    return !text_is_control(c) && (c > 0x7e || c == '.' || c == ':' || c == '~');
}

/* One more unit of UTF-16; *high is the first half of a pair that waits for its second, or 0. */
static bool take_unit(struct buf *out, uint32_t unit, uint32_t *high)
{
    bool second = unit >= 0xdc00 && unit <= 0xdfff;
    if (second != (*high != 0))
        return false;
    if (unit >= 0xd800 && unit <= 0xdbff) {
        *high = unit;
        return true;
    }
    if (second)
        unit = 0x10000 + ((*high - 0xd800) << 10) + (unit - 0xdc00);
    *high = 0;
    put_utf8(out, unit);
    return may_be_encoded(unit);
}

/* What stands between '&' and '-'. */
static bool decode_run(struct bytes run, struct buf *out)
{
    uint32_t bits = 0;
    uint32_t high = 0;
    unsigned held = 0;
    for (size_t i = 0; i < run.size; i++) {
        int digit = digit_of(run.data[i]);
        if (digit < 0)
            return false;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held < 16)
            continue;
        held -= 16;
        if (!take_unit(out, bits >> held, &high))
            return false;
        bits &= (1u << held) - 1;
    }
    return held < 6 && bits == 0 && high == 0;
}

bool utf7_decode(struct bytes text, struct buf *out)
{
    size_t after_run = SIZE_MAX; /* where a run ended: none may begin there */
    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c < 0x20 || c > 0x7e)
            return false;
        if (c != '&') {
            buf_u8(out, c);
            continue;
        }
        const uint8_t *run = text.data + i + 1;
        const uint8_t *end = memchr(run, '-', text.size - i - 1);
        if (!end)
            return false;
        size_t size = (size_t)(end - run);
        if (size == 0)
            buf_u8(out, '&');
        else if (i == after_run || !decode_run(bytes_of(run, size), out))
            return false;
        i += size + 1;
        after_run = size ? i + 1 : SIZE_MAX;
    }
    return !out->failed;
}
