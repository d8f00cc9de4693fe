/* Strangers: connections to an agent by hand, for tests of cmocka that link shiplog_agent. Every
 * function ends the test when something fails; waiting for bytes has a bound.
 */
#ifndef SHIPLOG_TESTS_SUPPORT_STRANGER_H
#define SHIPLOG_TESTS_SUPPORT_STRANGER_H

#include "agent/message.h"
#include "tests/support/hosts.h"

struct stranger {
    int fd;
    struct frame_parser parser;
    uint64_t got; /* bytes */
};

void stranger_dial(struct stranger *stranger, const struct host *host);
void stranger_hang_up(struct stranger *stranger);
void stranger_say(struct stranger *stranger, struct bytes bytes);
/* Whether something can be read, or the other end has closed, within so long. */
bool stranger_readable(struct stranger *stranger, int milliseconds);
/* Takes more bytes in. False: the other end has closed. */
bool stranger_take(struct stranger *stranger);
/* The next frame; its type is 0 at the end of the connection. */
struct frame stranger_hear(struct stranger *stranger);

/* A greeting of a node that has nothing yet. */
struct hello stranger_hello(const char *name, uint64_t node_id);
void stranger_greet(struct stranger *stranger, const struct hello *hello);
/* Who greets so is told why not, and the connection is closed. */
void stranger_assert_refused(struct host *host, const struct hello *hello, enum refusal why);

#endif
