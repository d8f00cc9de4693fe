/* mbox, as mboxrd: a message ends before an empty line with a "From " line behind it, or at the
 * end of the file, where one empty line is the separator's too. Lines that begin with any number of
 * `>` and "From " have lost one `>` when they come out. */
#include "tools/mail/internal.h"

#include "base/err.h"
#include "base/times.h"

#include <string.h>

#define SEPARATOR_MAX 1024u /* bytes of a "From " line; a longer one is text */

static bool begins_with_from(struct bytes text)
{
    return text.size >= 5 && memcmp(text.data, "From ", 5) == 0;
}

size_t mbox_separator(struct bytes text, int64_t *date)
{
    size_t look = text.size < SEPARATOR_MAX ? text.size : SEPARATOR_MAX;
    const uint8_t *newline = begins_with_from(text) ? memchr(text.data, '\n', look) : NULL;
    if (!newline)
        return 0;
    size_t end = (size_t)(newline - text.data);
    size_t size = end + 1;
    if (text.data[end - 1] == '\r')
        end--;
    /* The sender may contain spaces, or be missing: the date begins at any word. */
    for (size_t at = 5; at < end; at++) {
        bool word = text.data[at] != ' ' && text.data[at - 1] == ' ';
        if (word && times_parse_asctime((const char *)text.data + at, end - at, date) == ERR_OK)
            return size;
    }
    return 0;
}

static size_t empty_line(struct bytes text)
{
    if (text.size >= 1 && text.data[0] == '\n')
        return 1;
    return text.size >= 2 && text.data[0] == '\r' && text.data[1] == '\n' ? 2 : 0;
}

/* Looks at a line's beginning, where the message may end. */
static int begin_line(struct mbox *mbox)
{
    int rc = stream_fill(mbox->in, SEPARATOR_MAX + 2);
    if (rc)
        return rc;
    struct bytes text = stream_view(mbox->in);
    size_t empty = empty_line(text);
    struct bytes behind = bytes_of(text.data + empty, text.size - empty);
    int64_t date;
    mbox->state = MBOX_LINE;
    if (behind.size == 0 || (empty > 0 && mbox_separator(behind, &date) > 0)) {
        stream_take(mbox->in, empty);
        mbox->state = MBOX_END;
    } else if (text.data[0] == '>') {
        stream_take(mbox->in, 1);
        mbox->state = MBOX_QUOTES;
    }
    return ERR_OK;
}

/* One `>` is held back; behind the others it shows whether it was a quote. */
static int go_on_quotes(struct mbox *mbox)
{
    int rc = stream_fill(mbox->in, 5);
    if (rc)
        return rc;
    struct bytes text = stream_view(mbox->in);
    while (mbox->run < text.size && text.data[mbox->run] == '>')
        mbox->run++;
    if (mbox->run > 0)
        return ERR_OK;
    mbox->owed = !begins_with_from(text);
    mbox->state = MBOX_LINE;
    return ERR_OK;
}

static int go_on_line(struct mbox *mbox)
{
    int rc = stream_fill(mbox->in, 1);
    if (rc)
        return rc;
    struct bytes text = stream_view(mbox->in);
    const uint8_t *newline = text.size > 0 ? memchr(text.data, '\n', text.size) : NULL;
    mbox->run = newline ? (size_t)(newline - text.data) + 1 : text.size;
    if (newline)
        mbox->state = MBOX_LINE_START;
    else if (text.size == 0)
        mbox->state = MBOX_END;
    return ERR_OK;
}

static int look_ahead(struct mbox *mbox)
{
    switch (mbox->state) {
    case MBOX_LINE_START:
        return begin_line(mbox);
    case MBOX_QUOTES:
        return go_on_quotes(mbox);
    case MBOX_LINE:
        return go_on_line(mbox);
    case MBOX_END:
        break;
    }
    return ERR_OK;
}

int mbox_read(struct mbox *mbox, uint8_t *to, size_t size, size_t *got)
{
    *got = 0;
    while (*got < size) {
        if (mbox->owed) {
            to[(*got)++] = '>';
            mbox->owed = false;
            continue;
        }
        if (mbox->run == 0) {
            int rc = look_ahead(mbox);
            if (rc || mbox->state == MBOX_END)
                return rc;
            continue;
        }
        size_t part = mbox->run < size - *got ? mbox->run : size - *got;
        memcpy(to + *got, stream_view(mbox->in).data, part);
        stream_take(mbox->in, part);
        mbox->run -= part;
        *got += part;
    }
    return ERR_OK;
}
