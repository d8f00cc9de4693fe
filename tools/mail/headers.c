/* The few headers of a message that say something about it as a whole. */
#include "tools/mail/internal.h"

#include "base/err.h"
#include "base/times.h"

#include <string.h>
#include <strings.h>

/* Size of the first line of `text`, with its end. */
static size_t line_size(struct bytes text)
{
    const uint8_t *newline = memchr(text.data, '\n', text.size);
    return newline ? (size_t)(newline - text.data) + 1 : text.size;
}

static struct bytes behind(struct bytes text, size_t size)
{
    return bytes_of(text.data + size, text.size - size);
}

static bool ends_headers(struct bytes text)
{
    return text.data[0] == '\n' || (text.size >= 2 && text.data[0] == '\r' && text.data[1] == '\n');
}

static bool has_name(struct bytes line, const char *name, size_t size)
{
    return line.size > size && line.data[size] == ':' &&
           strncasecmp((const char *)line.data, name, size) == 0;
}

/* The value of the first header of this name, its continuation lines included. */
static bool find_header(struct bytes head, const char *name, struct bytes *value)
{
    size_t name_size = strlen(name);
    while (head.size > 0 && !ends_headers(head)) {
        size_t size = line_size(head);
        while (size < head.size && (head.data[size] == ' ' || head.data[size] == '\t'))
            size += line_size(behind(head, size));
        if (has_name(head, name, name_size)) {
            *value = bytes_of(head.data + name_size + 1, size - name_size - 1);
            return true;
        }
        head = behind(head, size);
    }
    return false;
}

/* When it came: the topmost Received header's date, else when it was written. */
int64_t headers_date(struct bytes head, int64_t otherwise)
{
    struct bytes value;
    int64_t date;
    if (find_header(head, "Received", &value)) {
        const uint8_t *mark = memrchr(value.data, ';', value.size);
        size_t before = mark ? (size_t)(mark - value.data) + 1 : value.size;
        if (mark && times_parse_rfc5322((const char *)mark + 1, value.size - before, &date) == 0)
            return date;
    }
    if (find_header(head, "Date", &value) &&
        times_parse_rfc5322((const char *)value.data, value.size, &date) == ERR_OK)
        return date;
    return otherwise;
}

static uint32_t letters(struct bytes head, const char *name, const char *known,
                        const uint32_t *meaning)
{
    struct bytes value = {0};
    uint32_t found = 0;
    find_header(head, name, &value);
    for (size_t i = 0; i < value.size; i++) {
        const char *letter = value.data[i] ? strchr(known, value.data[i]) : NULL;
        found |= letter ? meaning[letter - known] : 0;
    }
    return found;
}

uint32_t headers_status(struct bytes head)
{
    static const uint32_t status[] = {FLAG_SEEN};
    static const uint32_t x_status[] = {FLAG_ANSWERED, FLAG_FLAGGED, FLAG_DELETED, FLAG_DRAFT};
    return letters(head, "Status", "R", status) | letters(head, "X-Status", "AFDT", x_status);
}
