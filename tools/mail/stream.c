#include "tools/mail/internal.h"

#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Twice what can be asked for: bytes are moved once for every STREAM_AHEAD at least. */
#define STREAM_SIZE (2 * STREAM_AHEAD)

int stream_open(struct stream *stream, const char *path)
{
    *stream = (struct stream){.fd = -1, .path = path};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    if (fd < 0)
        return fail_errno("%s", path);
    uint8_t *data = malloc(STREAM_SIZE);
    if (!data) {
        close(fd);
        return fail(ERR_NOMEM, "%s: out of memory", path);
    }
    stream->fd = fd;
    stream->data = data;
    return ERR_OK;
}

void stream_close(struct stream *stream)
{
    if (stream->data)
        close(stream->fd);
    free(stream->data);
    *stream = (struct stream){.fd = -1};
}

int stream_fill(struct stream *stream, size_t want)
{
    if (stream->end - stream->at >= want || stream->ended)
        return ERR_OK;
    if (stream->at + want > STREAM_SIZE) {
        memmove(stream->data, stream->data + stream->at, stream->end - stream->at);
        stream->end -= stream->at;
        stream->at = 0;
    }
    while (stream->end - stream->at < want && !stream->ended) {
        ssize_t got = read(stream->fd, stream->data + stream->end, STREAM_SIZE - stream->end);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_errno("%s", stream->path);
        stream->ended = got == 0;
        stream->end += (size_t)got;
    }
    return ERR_OK;
}

struct bytes stream_view(const struct stream *stream)
{
    return bytes_of(stream->data + stream->at, stream->end - stream->at);
}

void stream_take(struct stream *stream, size_t size)
{
    stream->at += size;
    stream->taken += size;
}
