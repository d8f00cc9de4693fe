/* A file of any bytes as an mbox or a message: what comes out does not depend on the pieces that it
 * is read in, and comes back the same from an mbox that it was written to. */
#include "tools/mail/sink.h"
#include "tools/mail/source.h"

#include "base/err.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
    if (!promise)
        abort();
}

struct memory_file {
    int fd;
    char path[64];
};

static struct memory_file memory_file(const void *data, size_t size)
{
    struct memory_file file = {.fd = memfd_create("mail", MFD_CLOEXEC)};
    check(file.fd >= 0 && write(file.fd, data, size) == (ssize_t)size);
    snprintf(file.path, sizeof file.path, "/proc/self/fd/%d", file.fd);
    return file;
}

static void read_message(struct mail_source *source, size_t piece, struct buf *out)
{
    uint8_t bytes[4096];
    size_t got = 1;
    while (got) {
        check(mail_source_read(source, bytes, piece, &got) == ERR_OK && got <= piece);
        buf_put(out, bytes, got);
    }
    check(mail_source_read(source, bytes, piece, &got) == ERR_OK && got == 0);
}

/* All messages, each as buf_bytes() writes it, and how many there are. */
static size_t read_all(const char *path, size_t piece, bool end_lines, struct buf *out)
{
    struct mail_source *source;
    struct mail_item item;
    struct buf message = {0};
    size_t count = 0;
    check(mail_source_open(path, &source) == ERR_OK);
    while (mail_source_next(source, &item) == ERR_OK) {
        count++;
        buf_reset(&message);
        read_message(source, piece, &message);
        if (end_lines && message.size && message.data[message.size - 1] != '\n')
            buf_u8(&message, '\n');
        buf_bytes(out, buf_view(&message));
    }
    mail_source_close(source);
    buf_free(&message);
    return count;
}

static void write_all(struct bytes messages, const char *path)
{
    static const struct mail_sink_options options = {.format = MAIL_MBOX};
    static const struct mail_item item = {0};
    struct mail_sink *sink;
    struct reader reader = reader_of(messages);
    check(mail_sink_open(path, &options, &sink) == ERR_OK);
    while (!reader_done(&reader)) {
        struct bytes message = read_bytes(&reader);
        check(!reader.failed && mail_sink_begin(sink, &item) == ERR_OK);
        check(mail_sink_write(sink, message.data, message.size / 2) == ERR_OK);
        check(mail_sink_write(sink, message.data + message.size / 2,
                              message.size - message.size / 2) == ERR_OK);
        check(mail_sink_end(sink) == ERR_OK);
    }
    check(mail_sink_finish(sink) == ERR_OK);
    mail_sink_close(sink);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf first = {0};
    struct buf second = {0};
    struct memory_file file = memory_file(data, size);
    char directory[] = "/dev/shm/fuzz-mbox-XXXXXX";
    char path[PATH_MAX];

    size_t count = read_all(file.path, 4096, true, &first);
    check(read_all(file.path, 1, true, &second) == count);
    check(bytes_equal(buf_view(&first), buf_view(&second)));
    check(first.size <= size + 11 * count);

    check(mkdtemp(directory) != NULL);
    snprintf(path, sizeof path, "%s/mbox", directory);
    write_all(buf_view(&first), path);
    buf_reset(&second);
    check(read_all(path, 3, false, &second) == count);
    check(bytes_equal(buf_view(&first), buf_view(&second)));

    check(unlink(path) == 0 && rmdir(directory) == 0);
    close(file.fd);
    buf_free(&first);
    buf_free(&second);
    return 0;
}
