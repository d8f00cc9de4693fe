#include "tests/support/stranger.h"

#include "base/err.h"

#include <netinet/in.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

void stranger_dial(struct stranger *stranger, const struct host *host)
{
    struct sockaddr_storage address;
    *stranger = (struct stranger){0};
    assert_int_equal(address_parse(host->address, &address), ERR_OK);
    stranger->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(stranger->fd >= 0);
    assert_int_equal(connect(stranger->fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in)),
                     0);
    frame_parser_init(&stranger->parser, FRAME_MAX_PAYLOAD);
}

void stranger_hang_up(struct stranger *stranger)
{
    close(stranger->fd);
    frame_parser_free(&stranger->parser);
}

void stranger_say(struct stranger *stranger, struct bytes bytes)
{
    assert_int_equal(send(stranger->fd, bytes.data, bytes.size, MSG_NOSIGNAL), (ssize_t)bytes.size);
}

bool stranger_readable(struct stranger *stranger, int milliseconds)
{
    struct pollfd poller = {.fd = stranger->fd, .events = POLLIN};
    return poll(&poller, 1, milliseconds) == 1;
}

bool stranger_take(struct stranger *stranger)
{
    uint8_t *room = frame_parser_room(&stranger->parser, 65536);
    assert_non_null(room);
    assert_true(stranger_readable(stranger, 10000));
    ssize_t got = recv(stranger->fd, room, 65536, 0);
    if (got <= 0)
        return false;
    frame_parser_add(&stranger->parser, (size_t)got);
    stranger->got += (size_t)got;
    return true;
}

struct frame stranger_hear(struct stranger *stranger)
{
    struct frame frame = {0};
    int rc;
    while ((rc = frame_parser_next(&stranger->parser, &frame)) == ERR_END)
        if (!stranger_take(stranger))
            return (struct frame){0};
    assert_int_equal(rc, ERR_OK);
    return frame;
}

struct hello stranger_hello(const char *name, uint64_t node_id)
{
    return (struct hello){.oldest = PROTOCOL_VERSION,
                          .newest = PROTOCOL_VERSION,
                          .node_id = node_id,
                          .name = bytes_text(name)};
}

void stranger_greet(struct stranger *stranger, const struct hello *hello)
{
    struct buf out = {0};
    message_encode_hello(hello, &out);
    stranger_say(stranger, buf_view(&out));
    buf_free(&out);
}

void stranger_assert_refused(struct host *host, const struct hello *hello, enum refusal why)
{
    struct stranger stranger;
    struct refuse refuse;
    stranger_dial(&stranger, host);
    stranger_greet(&stranger, hello);
    struct frame frame = stranger_hear(&stranger);
    assert_int_equal(frame.type, FRAME_REFUSE);
    assert_int_equal(message_decode_refuse(frame.payload, &refuse), ERR_OK);
    assert_int_equal(refuse.why, why);
    assert_true(refuse.text.size > 0);
    assert_int_equal(stranger_hear(&stranger).type, 0);
    stranger_hang_up(&stranger);
}
