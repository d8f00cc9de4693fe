/* Agents with real sockets on loopback, each in a thread of its own, and strangers who talk to them
 * by hand. Waiting is for a state of the stores or for bytes, with a bound. */
#include "agent/agent.h"

#include "agent/address.h"
#include "agent/message.h"
#include "agent/source.h"
#include "agent/wake.h"
#include "base/err.h"
#include "journal/slots.h"
#include "journal/tables.h"
#include "mailbox/check.h"
#include "mailbox/mailbox.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "mailbox/stop.h"
#include "mailbox/wait.h"
#include "tests/support/post.h"
#include "tests/support/scratch.h"

#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define NODES 4u
#define WAITS 10000u /* of a millisecond */

struct host {
    struct store *store;
    struct agent *agent;
    pthread_t thread;
    char address[ADDRESS_TEXT_SIZE];
};

struct world {
    char directory[PATH_MAX];
    struct host nodes[NODES];
};

static void rest(void)
{
    const struct timespec moment = {.tv_nsec = 1000000};
    nanosleep(&moment, NULL);
}

static int set_up(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    scratch_make(world->directory);
    *state = world;
    return 0;
}

static struct host *make_node(struct world *world, unsigned index, enum role role)
{
    struct host *node = &world->nodes[index];
    char path[PATH_MAX];
    char name[8];
    snprintf(name, sizeof name, "%u", index);
    scratch_path(path, world->directory, name);
    assert_int_equal(store_init(path, role, NULL, NULL), ERR_OK);
    assert_int_equal(store_open(path, NULL, &node->store), ERR_OK);
    return node;
}

static void *run(void *arg)
{
    agent_run(arg);
    return NULL;
}

/* The address may be in use for a moment after its last owner went. */
static void open_agent(struct host *node, const char *listen)
{
    const struct agent_options options = {.listen = listen};
    int rc = agent_open(&options, &node->agent);
    for (unsigned tries = 0; rc == ERR_IO && tries < WAITS; tries++) {
        rest();
        rc = agent_open(&options, &node->agent);
    }
    assert_int_equal(rc, ERR_OK);
}

static void add_store(struct host *agent, struct store *store, const char *follow, const char *name)
{
    const struct agent_store options = {.store = store, .follow = follow, .name = name};
    assert_int_equal(agent_add(agent->agent, &options), ERR_OK);
}

static void run_agent(struct host *node)
{
    snprintf(node->address, sizeof node->address, "%s", agent_address(node->agent));
    assert_int_equal(pthread_create(&node->thread, NULL, run, node->agent), 0);
}

static void start(struct host *node, const char *listen, const char *follow)
{
    open_agent(node, listen);
    add_store(node, node->store, follow, NULL);
    run_agent(node);
}

static void stop(struct host *node)
{
    if (!node->agent)
        return;
    agent_stop(node->agent);
    pthread_join(node->thread, NULL);
    agent_close(node->agent);
    node->agent = NULL;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < NODES; i++)
        stop(&world->nodes[i]);
    for (unsigned i = 0; i < NODES; i++)
        store_close(world->nodes[i].store);
    scratch_remove(world->directory);
    free(world);
    return 0;
}

/* Mail. */

static const struct owner owner = {.user = "owner"};

struct wish {
    struct name name;
    struct draft *draft;
    uint32_t uid;
};

static struct wish wish_for(const char *mailbox)
{
    struct wish wish = {0};
    assert_int_equal(name_parse(mailbox, strlen(mailbox), &owner, &wish.name), ERR_OK);
    return wish;
}

static int do_create(struct tx *tx, void *arg)
{
    struct wish *wish = arg;
    return mailbox_create(tx, &wish->name, NULL);
}

static int do_append(struct tx *tx, void *arg)
{
    struct wish *wish = arg;
    struct mailbox *mailbox;
    struct append append = {.draft = wish->draft};
    int rc = mailbox_open(tx, &wish->name, NULL, &mailbox);
    return rc ? rc : mailbox_append(mailbox, &append, &wish->uid);
}

static int do_expunge(struct tx *tx, void *arg)
{
    struct wish *wish = arg;
    struct mailbox *mailbox;
    struct uidset uids = {0};
    uint64_t expunged;
    int rc = mailbox_open(tx, &wish->name, NULL, &mailbox);
    if (rc == ERR_OK)
        rc = uidset_add(&uids, wish->uid);
    if (rc == ERR_OK)
        rc = mailbox_expunge(mailbox, &uids, true, &expunged);
    uidset_free(&uids);
    return rc;
}

static void create(struct host *node, const char *mailbox)
{
    struct wish wish = wish_for(mailbox);
    assert_int_equal(store_commit(node->store, do_create, &wish, NULL), ERR_OK);
}

static uint32_t append(struct host *node, const char *mailbox, struct bytes message,
                       struct guid *guid)
{
    struct wish wish = wish_for(mailbox);
    assert_int_equal(draft_open(store_db(node->store), DRAFT_RAW, &wish.draft), ERR_OK);
    assert_int_equal(draft_write(wish.draft, message.data, message.size), ERR_OK);
    assert_int_equal(draft_finish(wish.draft), ERR_OK);
    assert_int_equal(store_commit(node->store, do_append, &wish, NULL), ERR_OK);
    if (guid)
        *guid = *draft_guid(wish.draft);
    draft_close(wish.draft);
    return wish.uid;
}

static void append_text(struct host *node, const char *mailbox, const char *text)
{
    append(node, mailbox, bytes_text(text), NULL);
}

/* A message that cannot be deflated. */
static void append_noise(struct host *node, size_t size)
{
    uint8_t *noise = malloc(size);
    assert_non_null(noise);
    hash_random(noise, size);
    append(node, "INBOX", bytes_of(noise, size), NULL);
    free(noise);
}

static void expunge(struct host *node, const char *mailbox, uint32_t uid)
{
    struct wish wish = wish_for(mailbox);
    wish.uid = uid;
    assert_int_equal(store_commit(node->store, do_expunge, &wish, NULL), ERR_OK);
}

struct view_of_store {
    struct position position;
    uint64_t digest;
    uint64_t store_id;
    uint64_t node_id;
};

static int look(struct tx *tx, void *arg)
{
    *(struct view_of_store *)arg = (struct view_of_store){.position = tx_window(tx)->last,
                                                          .digest = node_digest(tx_node(tx)),
                                                          .store_id = tx_node(tx)->store_id,
                                                          .node_id = tx_node(tx)->node_id};
    return ERR_OK;
}

static struct view_of_store view_of(struct host *node)
{
    struct view_of_store view;
    assert_int_equal(store_read(node->store, look, &view), ERR_OK);
    return view;
}

static void wait_equal(struct host *a, struct host *b)
{
    for (unsigned waits = 0; waits < WAITS; waits++) {
        if (position_equal(view_of(a).position, view_of(b).position))
            break;
        rest();
    }
    assert_true(position_equal(view_of(a).position, view_of(b).position));
    assert_int_equal(view_of(a).digest, view_of(b).digest);
}

static void print_fault(void *arg, const char *where, const char *what)
{
    (void)arg;
    print_error("%s: %s\n", where, what);
}

static void assert_sound(struct host *node)
{
    uint64_t wrong;
    assert_int_equal(check_store(node->store, true, print_fault, NULL, &wrong), ERR_OK);
    assert_int_equal(wrong, 0);
}

/* Strangers: connections by hand. */

struct stranger {
    int fd;
    struct frame_parser parser;
    uint64_t got; /* bytes */
};

static void dial(struct stranger *stranger, const struct host *node)
{
    struct sockaddr_storage address;
    *stranger = (struct stranger){0};
    assert_int_equal(address_parse(node->address, &address), ERR_OK);
    stranger->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(stranger->fd >= 0);
    assert_int_equal(connect(stranger->fd, (struct sockaddr *)&address, sizeof(struct sockaddr_in)),
                     0);
    frame_parser_init(&stranger->parser, FRAME_MAX_PAYLOAD);
}

static void hang_up(struct stranger *stranger)
{
    close(stranger->fd);
    frame_parser_free(&stranger->parser);
}

static void say(struct stranger *stranger, struct bytes bytes)
{
    assert_int_equal(send(stranger->fd, bytes.data, bytes.size, MSG_NOSIGNAL), (ssize_t)bytes.size);
}

static bool readable(struct stranger *stranger, int milliseconds)
{
    struct pollfd poller = {.fd = stranger->fd, .events = POLLIN};
    return poll(&poller, 1, milliseconds) == 1;
}

/* Takes more bytes in. False: the other end has closed. */
static bool take_bytes(struct stranger *stranger)
{
    uint8_t *room = frame_parser_room(&stranger->parser, 65536);
    assert_non_null(room);
    assert_true(readable(stranger, 10000));
    ssize_t got = recv(stranger->fd, room, 65536, 0);
    if (got <= 0)
        return false;
    frame_parser_add(&stranger->parser, (size_t)got);
    stranger->got += (size_t)got;
    return true;
}

/* The next frame; its type is 0 at the end of the connection. */
static struct frame hear(struct stranger *stranger)
{
    struct frame frame = {0};
    int rc;
    while ((rc = frame_parser_next(&stranger->parser, &frame)) == ERR_END)
        if (!take_bytes(stranger))
            return (struct frame){0};
    assert_int_equal(rc, ERR_OK);
    return frame;
}

static struct hello hello_of(const char *name, uint64_t node_id)
{
    return (struct hello){.oldest = PROTOCOL_VERSION,
                          .newest = PROTOCOL_VERSION,
                          .node_id = node_id,
                          .name = bytes_text(name)};
}

static void greet(struct stranger *stranger, const struct hello *hello)
{
    struct buf out = {0};
    message_encode_hello(hello, &out);
    say(stranger, buf_view(&out));
    buf_free(&out);
}

static void assert_refused(struct host *node, const struct hello *hello, enum refusal why)
{
    struct stranger stranger;
    struct refuse refuse;
    dial(&stranger, node);
    greet(&stranger, hello);
    struct frame frame = hear(&stranger);
    assert_int_equal(frame.type, FRAME_REFUSE);
    assert_int_equal(message_decode_refuse(frame.payload, &refuse), ERR_OK);
    assert_int_equal(refuse.why, why);
    assert_true(refuse.text.size > 0);
    assert_int_equal(hear(&stranger).type, 0);
    hang_up(&stranger);
}

/* The tests. */

static struct host *start_master(struct world *world)
{
    struct host *master = make_node(world, 0, ROLE_MASTER);
    create(master, "INBOX");
    start(master, "127.0.0.1:0", NULL);
    return master;
}

static struct host *start_replica(struct world *world, unsigned index, const struct host *upstream)
{
    struct host *replica = make_node(world, index, ROLE_REPLICA);
    start(replica, NULL, upstream->address);
    return replica;
}

static void a_commit_appears_at_the_replica(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    wait_equal(a, b);
    append_text(a, "INBOX", "Subject: one\r\n\r\nfirst\r\n");
    wait_equal(a, b);
    append_text(a, "INBOX", "");
    append_noise(a, 3u << 20);
    create(a, "Elsewhere");
    append_text(a, "Elsewhere", "Subject: one\r\n\r\nfirst\r\n");
    wait_equal(a, b);
    assert_sound(b);
    assert_int_equal(view_of(a).store_id, view_of(b).store_id);
    assert_int_not_equal(view_of(a).node_id, view_of(b).node_id);
}

static void a_replica_feeds_replicas(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    start(b, "127.0.0.1:0", a->address);
    wait_equal(a, b);
    struct host *c = start_replica(*state, 2, b);
    append_text(a, "INBOX", "through two");
    wait_equal(a, c);
    assert_sound(c);
}

static void a_backlog_of_many_windows_arrives(void **state)
{
    struct host *a = start_master(*state);
    for (unsigned i = 0; i < 40; i++)
        append_noise(a, 300000);
    struct host *b = start_replica(*state, 1, a);
    wait_equal(a, b);
    assert_sound(b);
}

static void stores_of_one_agent_keep_to_their_own(void **state)
{
    struct world *world = *state;
    struct host *x = start_master(world);
    struct host *b = start_replica(world, 1, x);
    wait_equal(x, b);
    stop(b);
    stop(x);
    /* From here on x's agent has two stores, and so has b's: y's replica is empty still. */
    struct host *y = make_node(world, 2, ROLE_MASTER);
    struct host *c = make_node(world, 3, ROLE_REPLICA);
    create(y, "Y");
    open_agent(x, "127.0.0.1:0");
    add_store(x, x->store, NULL, NULL);
    add_store(x, y->store, NULL, NULL);
    run_agent(x);
    open_agent(b, NULL);
    add_store(b, b->store, x->address, NULL);
    add_store(b, c->store, x->address, NULL);
    run_agent(b);
    append_text(x, "INBOX", "for b");
    append_text(y, "Y", "for nobody yet");
    wait_equal(x, b);
    struct hello hello = hello_of("empty", 99);
    assert_refused(x, &hello, REFUSAL_STORE);
    assert_int_equal(view_of(c).store_id, 0);
    hello.store_id = view_of(y).store_id;
    hello.position = view_of(y).position;
    hello.digest = view_of(y).digest;
    struct stranger stranger;
    struct welcome welcome;
    dial(&stranger, x);
    greet(&stranger, &hello);
    struct frame frame = hear(&stranger);
    assert_int_equal(frame.type, FRAME_WELCOME);
    assert_int_equal(message_decode_welcome(frame.payload, &welcome), ERR_OK);
    assert_int_equal(welcome.store_id, view_of(y).store_id);
    assert_int_equal(welcome.digest, view_of(y).digest);
    hang_up(&stranger);
}

static void who_cannot_be_fed_is_told_why(void **state)
{
    struct host *a = start_master(*state);
    struct view_of_store view = view_of(a);
    struct hello hello = hello_of("rosa", 99);
    hello.oldest = hello.newest = PROTOCOL_VERSION + 1;
    assert_refused(a, &hello, REFUSAL_VERSION);
    hello = hello_of("rosa", 99);
    hello.store_id = view.store_id + 1;
    assert_refused(a, &hello, REFUSAL_STORE);
    hello = hello_of("rosa", view.node_id);
    assert_refused(a, &hello, REFUSAL_STORE);
    hello = hello_of("rosa", 99);
    hello.store_id = view.store_id;
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    start(b, "127.0.0.1:0", NULL);
    hello = hello_of("rosa", 99);
    assert_refused(b, &hello, REFUSAL_NOT_READY);
}

/* It is not refused: it is asked what it has, so that it can be made equal. */
static void assert_repaired(struct host *node, const struct hello *hello, const char *why)
{
    struct stranger stranger;
    struct bytes reason;
    dial(&stranger, node);
    greet(&stranger, hello);
    struct frame frame = hear(&stranger);
    assert_int_equal(frame.type, FRAME_REPAIR);
    assert_int_equal(message_decode_repair(frame.payload, &reason), ERR_OK);
    assert_true(reason.size >= strlen(why));
    assert_memory_equal(reason.data, why, strlen(why));
    assert_int_equal(hear(&stranger).type, FRAME_ASK);
    hang_up(&stranger);
}

static int trim(struct tx *tx, void *arg)
{
    uint64_t removed;
    (void)arg;
    return journal_trim(tx_db(tx), tx_window(tx)->last.modseq, 1000, false, &removed);
}

static void a_follower_behind_the_window_or_on_another_branch_is_repaired(void **state)
{
    struct host *a = start_master(*state);
    struct view_of_store view = view_of(a);
    struct hello hello = hello_of("rosa", 99);
    hello.store_id = view.store_id;
    hello.position = (struct position){.modseq = 1, .chain = 1};
    assert_repaired(a, &hello, "fork: ");
    hello.position = (struct position){.modseq = view.position.modseq + 1, .chain = 1};
    assert_repaired(a, &hello, "fork: ");
    hello.position = view.position;
    hello.digest = view.digest + 1;
    assert_repaired(a, &hello, "at the same position the digests differ");
    hello.digest = view.digest;
    hello.repairing = true;
    assert_repaired(a, &hello, "mailboxes of the follower wait");
    assert_int_equal(store_maintain(a->store, trim, NULL), ERR_OK);
    hello = hello_of("rosa", 99);
    assert_repaired(a, &hello, "gap: ");
}

static int count_messages(struct tx *tx, void *arg)
{
    struct header header;
    uint64_t id = 0;
    int rc;
    while ((rc = header_next(tx_db(tx), &id, &header)) == ERR_OK)
        *(uint64_t *)arg += header.messages;
    return rc == ERR_END ? ERR_OK : rc;
}

static int is_repairing(struct tx *tx, void *arg)
{
    return stop_any(tx_db(tx), arg);
}

/* At both ends the same, nothing left to repair, this many messages, and nothing is wrong. */
static void wait_repaired(struct host *a, struct host *b, uint64_t messages)
{
    bool equal = false;
    for (unsigned waits = 0; !equal && waits < WAITS; waits++) {
        struct view_of_store here = view_of(a);
        struct view_of_store there = view_of(b);
        bool repairing;
        assert_int_equal(store_read(b->store, is_repairing, &repairing), ERR_OK);
        equal = !repairing && position_equal(here.position, there.position) &&
                here.digest == there.digest;
        if (!equal)
            rest();
    }
    assert_true(equal);
    uint64_t count = 0;
    assert_int_equal(store_read(b->store, count_messages, &count), ERR_OK);
    assert_int_equal(count, messages);
    assert_sound(a);
    assert_sound(b);
}

static void a_gap_is_repaired_between_agents(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    append_text(a, "INBOX", "before");
    wait_equal(a, b);
    stop(b);
    append_text(a, "INBOX", "within the gap");
    create(a, "Elsewhere");
    append_text(a, "Elsewhere", "within the gap");
    assert_int_equal(store_maintain(a->store, trim, NULL), ERR_OK);
    append_text(a, "INBOX", "behind it");
    start(b, NULL, a->address);
    wait_repaired(a, b, 4);
    append_text(a, "INBOX", "tailed again");
    wait_repaired(a, b, 5);
}

static void a_fork_is_merged_between_agents(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    append_text(a, "INBOX", "before");
    append_text(a, "INBOX", "expunged at one end");
    wait_equal(a, b);
    stop(b);
    assert_int_equal(store_promote(b->store, false), ERR_OK);
    append_text(b, "INBOX", "at the replica");
    append_text(a, "INBOX", "at the master");
    expunge(b, "INBOX", 2);
    assert_int_equal(store_demote(b->store, NULL, false), ERR_OK);
    start(b, NULL, a->address);
    wait_repaired(a, b, 3);
    append_text(a, "INBOX", "tailed again");
    wait_repaired(a, b, 4);
}

/* The first mailbox's first record, as if it had never come. */
static int lose_a_record(struct tx *tx, void *arg)
{
    struct header header;
    struct record record;
    uint64_t id = 0;
    (void)arg;
    int rc = header_next(tx_db(tx), &id, &header);
    if (rc == ERR_OK)
        rc = record_get(tx_db(tx), header.number, 1, &record);
    if (rc == ERR_OK)
        rc = record_delete(tx_db(tx), header.number, 1);
    return rc ? rc : content_unref(tx_db(tx), &record.guid);
}

static void damage_at_a_replica_is_healed_between_agents(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    append_text(a, "INBOX", "to be lost");
    append_text(a, "INBOX", "to stay");
    wait_equal(a, b);
    stop(b);
    assert_int_equal(store_maintain(b->store, lose_a_record, NULL), ERR_OK);
    start(b, NULL, a->address);
    /* It is noticed when a change concerns what was lost. */
    assert_int_equal(post_flag(a->store, "INBOX", "1", "work"), ERR_OK);
    wait_repaired(a, b, 2);
    append_text(a, "INBOX", "tailed again");
    wait_repaired(a, b, 3);
}

static int limit_window(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "away"};
    struct retention policy = {.entries = 5, .slot_bound = *(uint64_t *)arg};
    int rc = slot_put(tx_db(tx), &slot);
    return rc ? rc : retention_save(tx_db(tx), &policy);
}

static int get_window(struct tx *tx, void *arg)
{
    *(struct journal_window *)arg = *tx_window(tx);
    return ERR_OK;
}

/* A replica that never comes back holds the window up to the bound, and is lost beyond it. */
static void window_is_kept_within_its_limits(void **state)
{
    struct world *world = *state;
    struct host *master = make_node(world, 0, ROLE_MASTER);
    struct journal_window window;
    uint64_t bound = 1500;
    create(master, "INBOX");
    for (unsigned i = 0; i < 30; i++)
        append_text(master, "INBOX", "window");
    assert_int_equal(store_maintain(master->store, limit_window, &bound), ERR_OK);
    start(master, "127.0.0.1:0", NULL);
    for (unsigned i = 0; i < WAITS; i++) {
        assert_int_equal(store_read(master->store, get_window, &window), ERR_OK);
        if (window.entries == 5)
            break;
        rest();
    }
    assert_int_equal(window.entries, 5);
    assert_sound(master);
}

static void one_name_is_one_follower(void **state)
{
    struct host *a = start_master(*state);
    struct stranger first, second;
    struct hello hello = hello_of("rosa", 98);
    dial(&first, a);
    greet(&first, &hello);
    assert_int_equal(hear(&first).type, FRAME_WELCOME);
    struct hello other = hello_of("rosa", 99);
    assert_refused(a, &other, REFUSAL_NAME);
    /* The same node again: it has noticed the end of its connection first. */
    dial(&second, a);
    greet(&second, &hello);
    assert_int_equal(hear(&second).type, FRAME_WELCOME);
    struct frame frame;
    for (frame = hear(&first); frame.type == FRAME_ENTRIES; frame = hear(&first))
        continue;
    assert_int_equal(frame.type, FRAME_BYE);
    assert_int_equal(hear(&first).type, 0);
    hang_up(&first);
    hang_up(&second);
}

static enum frame_type answer_to(struct host *host, const struct hello *hello)
{
    struct stranger stranger;
    dial(&stranger, host);
    greet(&stranger, hello);
    enum frame_type type = hear(&stranger).type;
    hang_up(&stranger);
    return type;
}

static void a_name_is_free_when_its_bearer_hangs_up(void **state)
{
    struct host *a = start_master(*state);
    struct hello hello = hello_of("rosa", 98);
    struct hello other = hello_of("rosa", 99);
    assert_int_equal(answer_to(a, &hello), FRAME_WELCOME);
    enum frame_type type = answer_to(a, &other);
    for (unsigned waits = 0; type == FRAME_REFUSE && waits < 1000; waits++) {
        rest();
        type = answer_to(a, &other);
    }
    assert_int_equal(type, FRAME_WELCOME);
}

static void assert_thrown_out(struct host *node, struct bytes bytes)
{
    struct stranger stranger;
    dial(&stranger, node);
    say(&stranger, bytes);
    struct frame frame = hear(&stranger);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_true(frame.payload.size > 0);
    assert_int_equal(hear(&stranger).type, 0);
    hang_up(&stranger);
}

static void garbage_changes_nothing_and_the_agent_goes_on(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    struct view_of_store before = view_of(a);
    struct buf out = {0};
    wait_equal(a, b);
    assert_thrown_out(a, bytes_text("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_thrown_out(a, bytes_of("\xff\xff\xff\xff\0\0\0\0\1", 9));
    struct hello hello = hello_of("rosa", 99);
    message_encode_hello(&hello, &out);
    out.data[out.size - 1] ^= 1;
    assert_thrown_out(a, buf_view(&out));
    buf_reset(&out);
    frame_end(&out, frame_begin(&out, FRAME_ENTRIES));
    assert_thrown_out(a, buf_view(&out));
    buf_reset(&out);
    message_encode_want(bytes_of("12345678901234567890123456789012", GUID_SIZE), &out);
    assert_thrown_out(a, buf_view(&out));
    buf_free(&out);
    assert_true(position_equal(view_of(a).position, before.position));
    assert_int_equal(view_of(a).digest, before.digest);
    append_text(a, "INBOX", "after all that");
    wait_equal(a, b);
}

static void an_upstream_that_talks_nonsense_changes_nothing(void **state)
{
    struct world *world = *state;
    struct host *b = make_node(world, 1, ROLE_REPLICA);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f000001)};
    socklen_t size = sizeof address;
    char text[ADDRESS_TEXT_SIZE];
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener, 1), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &size), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(address.sin_port));
    start(b, NULL, text);
    /* Welcomes it, then sends entries that are none. */
    struct welcome welcome = {.version = PROTOCOL_VERSION,
                              .store_id = 5,
                              .node_id = 6,
                              .last = {.modseq = 1, .chain = 1},
                              .heartbeat = 5000,
                              .window = SOURCE_WINDOW};
    struct buf out = {0};
    message_encode_welcome(&welcome, &out);
    size_t begun = frame_begin(&out, FRAME_ENTRIES);
    buf_put(&out, "no entries at all", 17);
    frame_end(&out, begun);
    for (unsigned round = 0; round < 2; round++) {
        struct stranger stranger = {.fd = accept(listener, NULL, NULL)};
        frame_parser_init(&stranger.parser, FRAME_MAX_PAYLOAD);
        assert_int_equal(hear(&stranger).type, FRAME_HELLO);
        say(&stranger, buf_view(&out));
        assert_int_equal(hear(&stranger).type, FRAME_BYE);
        assert_int_equal(hear(&stranger).type, 0);
        hang_up(&stranger);
    }
    buf_free(&out);
    close(listener);
    assert_int_equal(view_of(b).position.modseq, 0);
    assert_int_equal(view_of(b).store_id, 0);
    assert_sound(b);
}

static void a_slow_follower_slows_nobody_and_costs_a_window(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    struct stranger slow;
    struct hello hello = hello_of("slow", 99);
    dial(&slow, a);
    greet(&slow, &hello);
    assert_int_equal(hear(&slow).type, FRAME_WELCOME);
    for (unsigned i = 0; i < 30; i++)
        append_noise(a, 200000);
    wait_equal(a, b);
    /* It gets its window and not much more, until it acknowledges. */
    while (slow.got < SOURCE_WINDOW)
        assert_true(take_bytes(&slow));
    while (readable(&slow, 100))
        assert_true(take_bytes(&slow));
    assert_true(slow.got < SOURCE_WINDOW + 2 * SOURCE_FILL_SIZE);
    hang_up(&slow);
}

static void content_that_was_expunged_before_it_went_out_is_gone(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    struct guid guid;
    uint32_t uid = append(a, "INBOX", bytes_text("not for long"), &guid);
    append_text(a, "INBOX", "this one stays");
    expunge(a, "INBOX", uid);
    start(b, NULL, a->address);
    wait_equal(a, b);
    assert_sound(b);
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
    struct host *a = start_master(*state);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    struct chunk chunk = {0};
    append(a, "INBOX", bytes_text("Subject: hurt\r\n\r\nbut not for ever\r\n"), &chunk.guid);
    assert_int_equal(store_maintain(a->store, turn_a_bit, &chunk), ERR_OK);
    start(b, NULL, a->address);
    wait_equal(a, b);
    assert_int_equal(store_read(b->store, is_here, &chunk), ERR_OK);
    assert_false(chunk.whole);
    assert_int_equal(store_maintain(a->store, turn_a_bit, &chunk), ERR_OK);
    stop(b);
    start(b, NULL, a->address);
    for (unsigned waits = 0; !chunk.whole && waits < WAITS; waits++) {
        rest();
        assert_int_equal(store_read(b->store, is_here, &chunk), ERR_OK);
    }
    assert_true(chunk.whole);
    assert_sound(b);
}

static void a_follower_comes_back_when_its_upstream_does(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = start_replica(*state, 1, a);
    char address[ADDRESS_TEXT_SIZE];
    wait_equal(a, b);
    memcpy(address, a->address, sizeof address);
    stop(a);
    append_text(a, "INBOX", "while nobody listens");
    start(a, address, NULL);
    wait_equal(a, b);
}

/* More datagrams than a socket holds: they go only as the agent takes them, which it does without
 * any follower to feed and so without polling. */
static void an_agent_listens_to_commits(void **state)
{
    struct world *world = *state;
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    struct host *a = start_master(world);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    unsigned sent = 0;
    assert_true(fd >= 0);
    snprintf(to.sun_path, sizeof to.sun_path, "/proc/self/fd/%d/%s",
             db_directory_fd(store_db(a->store)), STORE_WAKE_SOCKET);
    for (unsigned waits = 0; sent < 2000 && waits < WAITS;) {
        if (sendto(fd, "", 1, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof to) == 1) {
            sent++;
        } else {
            waits++;
            rest();
        }
    }
    close(fd);
    assert_int_equal(sent, 2000);
}

/* As if every datagram of theirs were lost. */
static void commits_that_wake_nobody_are_found(void **state)
{
    struct world *world = *state;
    struct host *a = start_master(world);
    struct host *b = start_replica(world, 1, a);
    char path[PATH_MAX];
    wait_equal(a, b);
    scratch_path(path, world->directory, "0/" STORE_WAKE_SOCKET);
    assert_int_equal(unlink(path), 0);
    append_text(a, "INBOX", "quietly");
    wait_equal(a, b);
    append_text(a, "INBOX", "again");
    wait_equal(a, b);
}

static int get_slot(struct tx *tx, void *arg)
{
    struct slot *slot = arg;
    return slot_get(tx_db(tx), "rosa", slot);
}

static void a_slot_says_how_far_a_follower_is(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    struct slot slot = {0};
    int rc = ERR_END;
    open_agent(b, NULL);
    add_store(b, b->store, a->address, "rosa");
    run_agent(b);
    for (unsigned waits = 0; rc == ERR_END && waits < WAITS; waits++) {
        rest();
        rc = store_read(a->store, get_slot, &slot);
    }
    assert_int_equal(rc, ERR_OK);
    assert_true(slot.connected);
    append_text(a, "INBOX", "one more");
    /* Until its acknowledgement is here: one that stops takes what it has not sent with it. */
    struct store_wait acknowledged = {.replicas = 1, .timeout = 8000000};
    assert_int_equal(store_wait(a->store, &acknowledged), ERR_OK);
    stop(b);
    for (unsigned waits = 0; slot.connected && waits < WAITS; waits++) {
        rest();
        assert_int_equal(store_read(a->store, get_slot, &slot), ERR_OK);
    }
    assert_false(slot.connected);
    assert_true(position_equal(slot.position, view_of(a).position));
}

/* Slots are written every ten seconds; who waits has a shorter limit than that. */
static void a_writer_waits_until_followers_have_its_commit(void **state)
{
    struct host *a = start_master(*state);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    struct store_wait one = {.replicas = 1, .timeout = 8000000};
    start(b, NULL, a->address);
    for (unsigned i = 0; i < 3; i++) {
        append_text(a, "INBOX", "one more");
        one.modseq = 0;
        assert_int_equal(store_wait(a->store, &one), ERR_OK);
        assert_int_equal(one.modseq, view_of(a).position.modseq);
        assert_int_equal(one.holders, 1);
        assert_true(position_equal(view_of(b).position, view_of(a).position));
    }
    struct store_wait two = {.replicas = 2, .timeout = 1000};
    assert_int_equal(store_wait(a->store, &two), ERR_TIMEOUT);
    assert_int_equal(two.holders, 1);
    stop(b);
    append_text(a, "INBOX", "for nobody yet");
    one = (struct store_wait){.replicas = 1};
    assert_int_equal(store_wait(a->store, &one), ERR_TIMEOUT);
    assert_int_equal(one.holders, 0);
    one.modseq--;
    assert_int_equal(store_wait(a->store, &one), ERR_OK);
}

/* A slot of another branch is none. */
static int put_false_slot(struct tx *tx, void *arg)
{
    struct slot slot = {.name = "liar", .position = tx_window(tx)->last};
    (void)arg;
    slot.position.chain++;
    int rc = slot_put(tx_db(tx), &slot);
    snprintf(slot.name, sizeof slot.name, "prophet");
    slot.position.modseq++;
    return rc ? rc : slot_put(tx_db(tx), &slot);
}

static void only_what_this_journal_holds_is_waited_for(void **state)
{
    struct host *a = make_node(*state, 0, ROLE_MASTER);
    struct host *b = make_node(*state, 1, ROLE_REPLICA);
    create(a, "INBOX");
    assert_int_equal(store_maintain(a->store, put_false_slot, NULL), ERR_OK);
    struct store_wait wait = {.replicas = 1};
    assert_int_equal(store_wait(a->store, &wait), ERR_TIMEOUT);
    assert_int_equal(wait.holders, 0);
    wait = (struct store_wait){.replicas = 0};
    assert_int_equal(store_wait(a->store, &wait), ERR_OK);
    wait.modseq = view_of(a).position.modseq + 1;
    assert_int_equal(store_wait(a->store, &wait), ERR_NOTFOUND);
    assert_int_equal(store_wait(b->store, &wait), ERR_TIMEOUT); /* it may arrive */
}

static void an_agent_that_stops_says_so(void **state)
{
    struct host *a = start_master(*state);
    struct stranger stranger;
    struct hello hello = hello_of("rosa", 99);
    dial(&stranger, a);
    greet(&stranger, &hello);
    assert_int_equal(hear(&stranger).type, FRAME_WELCOME);
    agent_stop(a->agent);
    struct frame frame = hear(&stranger);
    while (frame.type == FRAME_ENTRIES)
        frame = hear(&stranger);
    assert_int_equal(frame.type, FRAME_BYE);
    assert_true(bytes_equal(frame.payload, bytes_text("the agent there stops")));
    assert_int_equal(hear(&stranger).type, 0);
    hang_up(&stranger);
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
    struct world *world = *state;
    struct host *a = make_node(world, 0, ROLE_MASTER);
    struct host *b = make_node(world, 1, ROLE_REPLICA);
    struct agent_options options = {.listen = "0.0.0.0:0"};
    struct agent_store replica = {.store = b->store, .follow = "192.0.2.1:1"};
    assert_int_equal(agent_open(&options, &a->agent), ERR_REFUSED);
    options.listen = "nowhere";
    assert_int_equal(agent_open(&options, &a->agent), ERR_INVALID);
    assert_null(a->agent);
    open_agent(a, NULL);
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

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_commit_appears_at_the_replica),
        TEST(a_replica_feeds_replicas),
        TEST(a_backlog_of_many_windows_arrives),
        TEST(stores_of_one_agent_keep_to_their_own),
        TEST(who_cannot_be_fed_is_told_why),
        TEST(a_follower_behind_the_window_or_on_another_branch_is_repaired),
        TEST(a_gap_is_repaired_between_agents),
        TEST(a_fork_is_merged_between_agents),
        TEST(damage_at_a_replica_is_healed_between_agents),
        TEST(window_is_kept_within_its_limits),
        TEST(one_name_is_one_follower),
        TEST(a_name_is_free_when_its_bearer_hangs_up),
        TEST(garbage_changes_nothing_and_the_agent_goes_on),
        TEST(an_upstream_that_talks_nonsense_changes_nothing),
        TEST(a_slow_follower_slows_nobody_and_costs_a_window),
        TEST(content_that_was_expunged_before_it_went_out_is_gone),
        TEST(content_that_could_not_be_read_comes_when_it_can),
        TEST(a_follower_comes_back_when_its_upstream_does),
        TEST(an_agent_listens_to_commits),
        TEST(commits_that_wake_nobody_are_found),
        TEST(a_slot_says_how_far_a_follower_is),
        TEST(a_writer_waits_until_followers_have_its_commit),
        TEST(only_what_this_journal_holds_is_waited_for),
        TEST(an_agent_that_stops_says_so),
        TEST(what_cannot_be_served_is_refused_at_the_start),
    };
    signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
