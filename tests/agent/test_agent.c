/* Agents that serve, follow, and are woken. */
#include "agent/agent.h"

#include "agent/wake.h"
#include "base/err.h"
#include "journal/tables.h"
#include "mailbox/mailbox.h"
#include "mailbox/role.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"
#include "tests/support/stranger.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

static void a_commit_appears_at_the_replica(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    hosts_wait_equal(a, b);
    host_append(a, "INBOX", "Subject: one\r\n\r\nfirst\r\n");
    hosts_wait_equal(a, b);
    host_append(a, "INBOX", "");
    host_append_noise(a, 3u << 20);
    host_create(a, "Elsewhere");
    host_append(a, "Elsewhere", "Subject: one\r\n\r\nfirst\r\n");
    hosts_wait_equal(a, b);
    host_assert_sound(b);
    assert_int_equal(host_view(a).store_id, host_view(b).store_id);
    assert_int_not_equal(host_view(a).node_id, host_view(b).node_id);
}

static void a_replica_feeds_replicas(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    host_start(b, "127.0.0.1:0", a->address);
    hosts_wait_equal(a, b);
    struct host *c = host_start_replica(*state, 2, b);
    host_append(a, "INBOX", "through two");
    hosts_wait_equal(a, c);
    host_assert_sound(c);
}

static void a_backlog_of_many_windows_arrives(void **state)
{
    struct host *a = host_start_master(*state);
    for (unsigned i = 0; i < 40; i++)
        host_append_noise(a, 300000);
    struct host *b = host_start_replica(*state, 1, a);
    hosts_wait_equal(a, b);
    host_assert_sound(b);
}

static void stores_of_one_agent_keep_to_their_own(void **state)
{
    struct hosts *hosts = *state;
    struct host *x = host_start_master(hosts);
    struct host *b = host_start_replica(hosts, 1, x);
    hosts_wait_equal(x, b);
    host_stop(b);
    host_stop(x);
    /* From here on x's agent has two stores, and so has b's: y's replica is empty still. */
    struct host *y = host_make(hosts, 2, ROLE_MASTER);
    struct host *c = host_make(hosts, 3, ROLE_REPLICA);
    host_create(y, "Y");
    host_open_agent(x, "127.0.0.1:0");
    host_add_store(x, x->store, NULL, NULL);
    host_add_store(x, y->store, NULL, NULL);
    host_run_agent(x);
    host_open_agent(b, NULL);
    host_add_store(b, b->store, x->address, NULL);
    host_add_store(b, c->store, x->address, NULL);
    host_run_agent(b);
    host_append(x, "INBOX", "for b");
    host_append(y, "Y", "for nobody yet");
    hosts_wait_equal(x, b);
    struct hello hello = stranger_hello("empty", 99);
    stranger_assert_refused(x, &hello, REFUSAL_STORE);
    assert_int_equal(host_view(c).store_id, 0);
    hello.store_id = host_view(y).store_id;
    hello.position = host_view(y).position;
    hello.digest = host_view(y).digest;
    struct stranger stranger;
    struct welcome welcome;
    stranger_dial(&stranger, x);
    stranger_greet(&stranger, &hello);
    struct frame frame = stranger_hear(&stranger);
    assert_int_equal(frame.type, FRAME_WELCOME);
    assert_int_equal(message_decode_welcome(frame.payload, &welcome), ERR_OK);
    assert_int_equal(welcome.store_id, host_view(y).store_id);
    assert_int_equal(welcome.digest, host_view(y).digest);
    stranger_hang_up(&stranger);
}

static void content_that_was_expunged_before_it_went_out_is_gone(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    host_append(a, "INBOX", "not for long");
    host_append(a, "INBOX", "this one stays");
    assert_int_equal(post_expunge(a->store, "INBOX", "1", true), ERR_OK);
    host_start(b, NULL, a->address);
    hosts_wait_equal(a, b);
    host_assert_sound(b);
}

/* The first chunk of a message's content, to be damaged and mended. */
struct chunk {
    struct guid guid;
    bool whole;
};

static int turn_a_bit(struct tx *tx, void *arg)
{
    struct chunk *chunk = arg;
    struct content content;
    struct bytes value;
    uint8_t key[12];
    uint8_t copy[1024];
    int rc = content_get(tx_db(tx), &chunk->guid, &content);
    if (rc)
        return rc;
    save_be64(key, content.number);
    save_be32(key + 8, 0);
    rc = db_get(tx_db(tx), TABLE_CONTENT, bytes_of(key, sizeof key), &value);
    if (rc)
        return rc;
    assert_true(value.size > 4 && value.size <= sizeof copy);
    memcpy(copy, value.data, value.size);
    copy[4] ^= 1;
    return db_put(tx_db(tx), TABLE_CONTENT, bytes_of(key, sizeof key), bytes_of(copy, value.size));
}

static int is_here(struct tx *tx, void *arg)
{
    struct chunk *chunk = arg;
    struct content content;
    int rc = content_get(tx_db(tx), &chunk->guid, &content);
    chunk->whole = rc == ERR_OK && content.number != 0;
    return rc == ERR_END ? ERR_OK : rc;
}

static void content_that_could_not_be_read_comes_when_it_can(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_make(*state, 1, ROLE_REPLICA);
    struct chunk chunk = {0};
    assert_int_equal(
        post_message(a->store, "INBOX", bytes_text("hurt, but not for ever"), &chunk.guid), ERR_OK);
    assert_int_equal(store_maintain(a->store, turn_a_bit, &chunk), ERR_OK);
    host_start(b, NULL, a->address);
    hosts_wait_equal(a, b);
    assert_int_equal(store_read(b->store, is_here, &chunk), ERR_OK);
    assert_false(chunk.whole);
    assert_int_equal(store_maintain(a->store, turn_a_bit, &chunk), ERR_OK);
    host_stop(b);
    host_start(b, NULL, a->address);
    for (unsigned waits = 0; !chunk.whole && waits < HOSTS_WAITS; waits++) {
        hosts_rest();
        assert_int_equal(store_read(b->store, is_here, &chunk), ERR_OK);
    }
    assert_true(chunk.whole);
    host_assert_sound(b);
}

static void a_follower_comes_back_when_its_upstream_does(void **state)
{
    struct host *a = host_start_master(*state);
    struct host *b = host_start_replica(*state, 1, a);
    char address[ADDRESS_TEXT_SIZE];
    hosts_wait_equal(a, b);
    memcpy(address, a->address, sizeof address);
    host_stop(a);
    host_append(a, "INBOX", "while nobody listens");
    host_start(a, address, NULL);
    hosts_wait_equal(a, b);
}

/* More datagrams than a socket holds: they go only as the agent takes them, which it does without
 * any follower to feed and so without polling. */
static void an_agent_listens_to_commits(void **state)
{
    struct hosts *hosts = *state;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct host *a = host_start_master(hosts);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned sent = 0;
    assert_true(fd >= 0);
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/%s",
             db_directory_fd(store_db(a->store)), STORE_WAKE_SOCKET);
    for (unsigned waits = 0; sent < 2000 && waits < HOSTS_WAITS;) {
        if (sendto(fd, "", 1, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) == 1) {
            sent++;
        } else {
            waits++;
            hosts_rest();
        }
    }
    close(fd);
    assert_int_equal(sent, 2000);
}

/* As if every datagram of theirs were lost. */
static void commits_that_wake_nobody_are_found(void **state)
{
    struct hosts *hosts = *state;
    struct host *a = host_start_master(hosts);
    struct host *b = host_start_replica(hosts, 1, a);
    char path[PATH_MAX];
    hosts_wait_equal(a, b);
    scratch_path(path, hosts->directory, "0/" STORE_WAKE_SOCKET);
    assert_int_equal(unlink(path), 0);
    host_append(a, "INBOX", "quietly");
    hosts_wait_equal(a, b);
    host_append(a, "INBOX", "again");
    hosts_wait_equal(a, b);
}

/* Somebody else's address, who takes connections and says nothing. */
static int listen_silently(char address[ADDRESS_TEXT_SIZE])
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof to;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&to, &size), 0);
    snprintf(address, ADDRESS_TEXT_SIZE, "127.0.0.1:%u", (unsigned)ntohs(to.sin_port));
    return fd;
}

/* What the store says of its node is looked at when something was committed. It may change while
 * it is looked at because of another commit. */
static void a_change_of_role_is_noticed_in_the_midst_of_others(void **state)
{
    struct hosts *hosts = *state;
    struct host *b = host_make(hosts, 1, ROLE_REPLICA);
    char first[ADDRESS_TEXT_SIZE];
    char second[ADDRESS_TEXT_SIZE];
    int listener = listen_silently(first);
    int other = listen_silently(second);
    for (unsigned round = 0; round < 400; round++) {
        struct stranger upstream = {0};
        assert_int_equal(store_demote(b->store, first, false), ERR_OK);
        host_start(b, NULL, NULL);
        upstream.fd = accept(listener, NULL, NULL);
        assert_true(upstream.fd >= 0);
        frame_parser_init(&upstream.parser, FRAME_MAX_PAYLOAD);
        assert_int_equal(stranger_hear(&upstream).type, FRAME_HELLO);
        store_wake_agent(b->store, WAKE_CHANGED);
        for (volatile unsigned spins = 0; spins < round * 250; spins++)
            continue;
        assert_int_equal(store_demote(b->store, second, false), ERR_OK);
        assert_int_equal(stranger_hear(&upstream).type, FRAME_BYE);
        stranger_hang_up(&upstream);
        host_stop(b);
    }
    close(listener);
    close(other);
}

/* An older data file is put in the place of an idle replica's. */
static void a_replica_that_was_put_back_catches_up(void **state)
{
    struct hosts *hosts = *state;
    struct host *a = host_start_master(hosts);
    struct host *b = host_start_replica(hosts, 1, a);
    char data[PATH_MAX], copy[PATH_MAX];
    scratch_path(data, store_path(b->store), "data.mdb");
    scratch_path(copy, hosts->directory, "copy");
    host_append(a, "INBOX", "in the backup");
    hosts_wait_equal(a, b);
    scratch_copy_file(data, copy);
    host_append(a, "INBOX", "since the backup");
    hosts_wait_equal(a, b);
    assert_int_equal(rename(copy, data), 0);
    store_wake_agent(b->store, WAKE_CHANGED);
    hosts_wait_equal(a, b);
    host_assert_sound(b);
}

static void reopen(struct host *node, const struct store_options *options)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s", store_path(node->store));
    store_close(node->store);
    assert_int_equal(store_open(path, options, &node->store), ERR_OK);
}

static void what_cannot_be_served_is_refused_at_the_start(void **state)
{
    static const struct store_options relaxed = {.relaxed = true};
    struct hosts *hosts = *state;
    struct host *a = host_make(hosts, 0, ROLE_MASTER);
    struct host *b = host_make(hosts, 1, ROLE_REPLICA);
    struct agent_options options = {.listen = "0.0.0.0:0"};
    struct agent_store replica = {.store = b->store, .follow = "192.0.2.1:1"};
    assert_int_equal(agent_open(&options, &a->agent), ERR_REFUSED);
    options.listen = "nowhere";
    assert_int_equal(agent_open(&options, &a->agent), ERR_INVALID);
    assert_null(a->agent);
    host_open_agent(a, NULL);
    assert_int_equal(agent_add(a->agent, &replica), ERR_REFUSED);
    replica.follow = "[::1]";
    assert_int_equal(agent_add(a->agent, &replica), ERR_INVALID);
    assert_false(wake_is_open(store_db(b->store)));
    replica.follow = "[::1]:1";
    reopen(b, &relaxed);
    replica.store = b->store;
    assert_int_equal(agent_add(a->agent, &replica), ERR_REFUSED);
    assert_false(wake_is_open(store_db(b->store)));
    reopen(b, NULL);
    replica.store = b->store;
    assert_int_equal(agent_add(a->agent, &replica), ERR_OK);
    assert_true(wake_is_open(store_db(b->store)));
    assert_int_equal(agent_add(a->agent, &replica), ERR_REFUSED);
    agent_close(a->agent);
    a->agent = NULL;
    assert_false(wake_is_open(store_db(b->store)));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, hosts_set_up, hosts_tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_commit_appears_at_the_replica),
        TEST(a_replica_feeds_replicas),
        TEST(a_backlog_of_many_windows_arrives),
        TEST(stores_of_one_agent_keep_to_their_own),
        TEST(content_that_was_expunged_before_it_went_out_is_gone),
        TEST(content_that_could_not_be_read_comes_when_it_can),
        TEST(a_follower_comes_back_when_its_upstream_does),
        TEST(an_agent_listens_to_commits),
        TEST(commits_that_wake_nobody_are_found),
        TEST(a_change_of_role_is_noticed_in_the_midst_of_others),
        TEST(a_replica_that_was_put_back_catches_up),
        TEST(what_cannot_be_served_is_refused_at_the_start),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
