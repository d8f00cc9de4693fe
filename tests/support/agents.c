#include "tests/support/agents.h"

#include "base/err.h"
#include "base/times.h"
#include "mailbox/draft.h"
#include "mailbox/retain.h"
#include "mailbox/role.h"
#include "tests/support/clock.h"
#include "tests/support/post.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAP_SIZE (UINT64_C(64) << 20)
#define MIDDAY (INT64_C(1764000000) * 1000000)
#define SECOND INT64_C(1000000)
#define LINGER SECOND
#define CONNECT (5 * SECOND)
#define TICK SECOND
#define KEEP (10 * SECOND)
#define POLL 250000u /* microseconds until news are noticed, at most */
#define SLOW 40000u  /* microseconds until work is begun, and until its end is noticed, at most */
#define VERY_SLOW 2000000u
/* A source below its window fills once more, and ends with a piece of content. */
#define UNDER_WAY_MOST (SOURCE_WINDOW + SOURCE_FILL_SIZE + (256u << 10))

static const struct store_options options = {.map_size = MAP_SIZE, .actor = "users"};

void agents_fail(const struct agents *agents, const char *file, int line, const char *format, ...)
{
    va_list args;
    printf("%s:%d: seed %llu, second %.6f: ", file, line, (unsigned long long)agents->run->seed,
           (double)agents->wire.now / (double)SECOND);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    printf(" (%s)\n", err_message());
    fflush(stdout);
    _Exit(1);
}

#define REQUIRE(line, condition, ...) AGENTS_REQUIRE((line)->agents, condition, __VA_ARGS__)
#define MUST(site, call) REQUIRE(site, (call) == ERR_OK, "node %u: %s", (site)->number, #call)

static int64_t now_of(const struct site *site)
{
    return site->agents->wire.now;
}

static void tell(const struct site *site, const char *what, const char *more)
{
    seeds_tell(site->agents->run, "  %10.6f %s: %s%s%s", (double)now_of(site) / (double)SECOND,
               site->name, what, *more ? ": " : "", more);
}

/* --- what happens later at a node, if it is still up --- */

struct errand {
    struct site *site;
    unsigned life;
    void (*run)(struct site *site);
};

static void run_errand(void *arg)
{
    struct errand errand = *(struct errand *)arg;
    free(arg);
    if (errand.site->store && errand.site->life == errand.life)
        errand.run(errand.site);
}

static void later(struct site *site, int64_t delay, void (*run)(struct site *site))
{
    struct errand *errand = malloc(sizeof *errand);
    if (!errand)
        abort();
    *errand = (struct errand){.site = site, .life = site->life, .run = run};
    wire_at(&site->agents->wire, delay, run_errand, errand);
}

static int64_t slowness(struct site *site)
{
    struct wire *wire = &site->agents->wire;
    bool very = !wire->good && dice_below(&wire->dice, 60) == 0;
    return dice_below(&wire->dice, very ? VERY_SLOW : SLOW);
}

/* --- the ends of a connection --- */

static void maybe_release(struct line *line);

static void release(struct line *line)
{
    line->released = line->closed = line->ending = true;
    source_job_free(&line->source_job);
    sink_job_free(&line->sink_job);
    source_free(&line->source);
    sink_free(&line->sink);
    frame_parser_free(&line->parser);
    plan_free(&line->plan);
    buf_free(&line->question);
    buf_free(&line->answer);
}

static void on_closed(void *arg)
{
    maybe_release(arg);
}

static void close_line(struct line *line)
{
    if (line->closed)
        return;
    line->closed = true;
    if (line->end)
        wire_close(line->end);
    wire_at(&line->site->agents->wire, 0, on_closed, line);
}

static void cancel_repair(void *arg)
{
    struct line *line = arg;
    if (line->repairer)
        repairer_cancel(line->repairer);
    while (line->repairer)
        uv_run(&line->site->agents->loop, UV_RUN_ONCE);
}

static void touch(struct site *site)
{
    site->agents->touched(site->agents->arg, site->number);
}

static void fence(struct site *site)
{
    MUST(site, store_fence(site->store, FENCE_EPOCH, site->later_epoch));
    site->agents->fenced++;
    touch(site);
}

static void save(struct site *site);

static void save_within(struct site *site, uint64_t milliseconds)
{
    if (milliseconds != UINT64_MAX)
        later(site, (int64_t)milliseconds * 1000, save);
}

static void saved(struct site *site)
{
    site->saving = false;
    save_within(site, moorings_saved(&site->moorings, false, now_of(site)));
}

static void save(struct site *site)
{
    if (site->saving || !moorings_collect(&site->moorings))
        return;
    site->saving = true;
    MUST(site, moorings_write(&site->moorings, site->store));
    later(site, slowness(site), saved);
}

static void on_close(void *context, const char *reason)
{
    struct line *line = context;
    struct site *site = line->site;
    if (line->ending)
        return;
    line->ending = true;
    line->ended = now_of(site);
    tell(site, line->is_source ? "follower gone" : "upstream gone", reason);
    if (line->repairer)
        wire_at(&site->agents->wire, 0, cancel_repair, line);
    if (!line->is_source && sink_is_deposed(&line->sink)) {
        site->later_epoch = line->sink.later_epoch;
        later(site, slowness(site), fence);
    }
    if (!line->is_source)
        upstream_gone(&site->upstream, now_of(site));
    else if (line->admitted && moorings_gone(&site->moorings, line->source.name))
        save_within(site, 0);
    if (line->end)
        wire_shut(line->end);
    else
        close_line(line);
}

static void end_line(struct line *line, const char *reason)
{
    if (line->is_source)
        source_end(&line->source, reason);
    else if (line->end)
        sink_end(&line->sink, reason);
    else
        on_close(line, reason);
}

static void break_off(struct line *line, const char *reason)
{
    if (line->is_source)
        source_closed(&line->source, reason);
    else if (line->end)
        sink_closed(&line->sink, reason);
    else
        on_close(line, reason);
    close_line(line);
}

/* What one end says is looked at: nothing is acknowledged that is not durable, and no more is under
 * way than may be. */
static void look_at_frame(struct line *line, const struct frame *frame)
{
    struct site *site = line->site;
    struct line *other = line->end->other->context;
    struct ack ack;
    struct post_facts facts;
    site->agents->frames++;
    if (line->is_source && (frame->type == FRAME_ENTRIES || frame->type == FRAME_CONTENT)) {
        line->sent += frame->whole.size;
        REQUIRE(site, line->sent - line->consumed <= UNDER_WAY_MOST,
                "node %u has %llu bytes under way", site->number,
                (unsigned long long)(line->sent - line->consumed));
    }
    if (line->is_source || frame->type != FRAME_ACK)
        return;
    MUST(site, message_decode_ack(frame->payload, &ack));
    MUST(site, post_facts(site->store, &facts));
    REQUIRE(site, ack.position.modseq <= facts.position.modseq,
            "node %u acknowledges %llu, and has %llu", site->number,
            (unsigned long long)ack.position.modseq, (unsigned long long)facts.position.modseq);
    REQUIRE(site, ack.consumed <= other->sent && ack.consumed >= other->consumed,
            "node %u has consumed %llu bytes of %llu", site->number,
            (unsigned long long)ack.consumed, (unsigned long long)other->sent);
    other->consumed = ack.consumed;
}

static void on_send(void *context, struct bytes frames)
{
    struct line *line = context;
    struct bytes left = frames;
    struct frame frame;
    while (left.size) {
        MUST(line->site, frame_decode(left, FRAME_MAX_PAYLOAD, &frame));
        look_at_frame(line, &frame);
        left = bytes_of(left.data + frame.whole.size, left.size - frame.whole.size);
    }
    wire_send(line->end, frames);
}

static void on_bytes(void *context, struct bytes bytes)
{
    struct line *line = context;
    struct frame frame;
    int rc = ERR_OK;
    if (line->ending)
        return;
    uint8_t *room = frame_parser_room(&line->parser, bytes.size);
    REQUIRE(line->site, room, "memory is short");
    memcpy(room, bytes.data, bytes.size);
    frame_parser_add(&line->parser, bytes.size);
    while (!line->ending && (rc = frame_parser_next(&line->parser, &frame)) == ERR_OK) {
        if (line->is_source)
            source_frame(&line->source, &frame, now_of(line->site));
        else
            sink_frame(&line->sink, &frame, now_of(line->site));
    }
    if (rc && rc != ERR_END)
        end_line(line, err_message());
}

static void on_gone(void *context, const char *reason)
{
    break_off(context, reason);
}

static const struct wire_user wire_user = {on_bytes, on_gone};

/* --- work --- */

static bool is_fed(const struct line *line)
{
    return line->is_source && line->admitted && !line->ending;
}

/* As station_admit(). */
static void admit(struct line *line)
{
    const struct verdict *verdict = &line->source_job.verdict;
    if (line->ending || verdict->judgement == JUDGE_REFUSE)
        return;
    for (struct line *other = line->site->lines; other; other = other->next)
        if (other != line && is_fed(other) &&
            source_job_replaces(&line->source_job, &other->source))
            end_line(other, "the same follower connected again");
    if (verdict->judgement == JUDGE_REFUSE)
        return;
    line->admitted = true;
    line->parser.most = FRAME_MAX_PAYLOAD;
}

static void end_job(void *arg)
{
    struct line *line = arg;
    if (line->released)
        return;
    line->working = false;
    if (line->is_source && line->source_job.work == SOURCE_CHECK)
        admit(line);
    if (line->is_source)
        source_job_end(&line->source_job, now_of(line->site));
    else
        sink_job_end(&line->sink_job, line->site->name, 0, now_of(line->site));
    maybe_release(line);
}

static void run_job(void *arg)
{
    struct line *line = arg;
    struct site *site = line->site;
    if (line->released)
        return;
    if (line->is_source)
        source_job_run(&line->source_job, site->store);
    else
        sink_job_run(&line->sink_job, site->store);
    touch(site);
    wire_at(&site->agents->wire, slowness(site), end_job, line);
}

/* Until the repair's thread waits, or has ended. */
static void await(struct line *line)
{
    while (!line->spoke)
        uv_run(&line->site->agents->loop, UV_RUN_ONCE);
    touch(line->site);
}

static void send_question(void *arg)
{
    struct line *line = arg;
    if (line->released)
        return;
    if (line->is_source)
        source_ask(&line->source, buf_view(&line->question), now_of(line->site));
    else
        sink_ask(&line->sink, buf_view(&line->question), now_of(line->site));
}

static void on_question(void *context, struct bytes question)
{
    struct line *line = context;
    line->spoke = true;
    buf_reset(&line->question);
    buf_put(&line->question, question.data, question.size);
    wire_at(&line->site->agents->wire, slowness(line->site), send_question, line);
}

static void on_repaired(void *context, int rc)
{
    struct line *line = context;
    line->spoke = true;
    line->repairer = NULL;
    tell(line->site, line->is_source ? "took in" : "was made equal", rc ? err_message() : "");
    if (line->is_source)
        source_job_result(&line->source_job, rc);
    else
        sink_job_result(&line->sink_job, rc);
    wire_at(&line->site->agents->wire, slowness(line->site), end_job, line);
}

static void give_answer(void *arg)
{
    struct line *line = arg;
    const struct answered answer = {.failed = line->answer_failed,
                                    .bytes = buf_view(&line->answer)};
    if (!line->repairer)
        return;
    line->spoke = false;
    repairer_answer(line->repairer, &answer);
    await(line);
}

static void on_answered(void *context, const struct answered *answer)
{
    struct line *line = context;
    line->answer_failed = answer->failed;
    buf_reset(&line->answer);
    buf_put(&line->answer, answer->bytes.data, answer->bytes.size);
    wire_at(&line->site->agents->wire, slowness(line->site), give_answer, line);
}

static int run_take_in(void *context, const struct asker *asker)
{
    struct line *line = context;
    return source_job_take_in(&line->source_job, line->site->store, asker, &line->plan);
}

static int run_equalise(void *context, const struct asker *asker)
{
    struct line *line = context;
    struct equal_report report = {0};
    int rc = sink_job_equalise(&line->sink_job, line->site->store, asker, &line->plan, &report);
    free(report.aside);
    return rc;
}

static int run_heal(void *context, const struct asker *asker)
{
    struct line *line = context;
    struct healed healed;
    return heal(line->site->store, asker, &healed);
}

static const struct repairer_work *repair_of(const struct line *line)
{
    static const struct repairer_work take_in = {run_take_in, on_question, on_repaired};
    static const struct repairer_work healing = {run_heal, on_question, on_repaired};
    static const struct repairer_work equalise = {run_equalise, on_question, on_repaired};
    if (!line->is_source)
        return &equalise;
    return line->source_job.work == SOURCE_HEAL ? &healing : &take_in;
}

static void begin_repair(void *arg)
{
    struct line *line = arg;
    if (line->released)
        return;
    plan_free(&line->plan);
    line->spoke = false;
    if (line->ending) {
        on_repaired(line, fail(ERR_PEER, "the connection ended before the repair"));
        return;
    }
    MUST(line->site,
         repairer_start(&line->site->agents->loop, repair_of(line), line, &line->repairer));
    await(line);
}

static void start_work(struct line *line, bool repair)
{
    line->working = true;
    wire_at(&line->site->agents->wire, slowness(line->site), repair ? begin_repair : run_job, line);
}

static void on_source_work(void *context, enum source_work work)
{
    struct line *line = context;
    source_job_begin(&line->source_job, work);
    start_work(line, work == SOURCE_TAKE_IN || work == SOURCE_HEAL);
}

static void on_sink_work(void *context, enum sink_work work, struct bytes frames)
{
    struct line *line = context;
    sink_job_begin(&line->sink_job, work, frames);
    start_work(line, work == SINK_EQUALISE);
}

static void on_acknowledged(void *context, struct position position)
{
    struct line *line = context;
    save_within(line->site, moorings_acknowledged(&line->site->moorings, line->source.name,
                                                  position, now_of(line->site), times_now()));
}

static void on_welcomed(void *context, const struct welcome *welcome)
{
    struct line *line = context;
    receiver_welcome(line->sink_job.receiver, welcome);
    upstream_welcomed(&line->site->upstream, now_of(line->site));
    line->site->welcomes++;
    tell(line->site, "follows", line->site->upstream.follow);
}

static void on_repairing(void *context, const char *reason)
{
    struct line *line = context;
    line->site->repairs++;
    tell(line->site, "is repaired", reason);
}

static void on_caught_up(void *context)
{
    (void)context;
}

static const struct source_actions source_actions = {
    {on_send, on_close, on_answered}, on_source_work, on_acknowledged};
static const struct sink_actions sink_actions = {
    {on_send, on_close, on_answered}, on_sink_work, on_welcomed, on_repairing, on_caught_up};

/* --- dialling --- */

static struct line *add_line(struct site *site, bool is_source)
{
    struct line *line = calloc(1, sizeof *line);
    if (!line)
        abort();
    line->site = site;
    line->is_source = is_source;
    line->since = now_of(site);
    line->source_job.source = &line->source;
    line->sink_job.sink = &line->sink;
    frame_parser_init(&line->parser, is_source ? 64u << 10 : FRAME_MAX_PAYLOAD);
    line->next = site->lines;
    site->lines = line;
    return line;
}

static struct site *find_site(struct agents *agents, const char *name)
{
    for (unsigned i = 0; i < agents->count; i++)
        if (strcmp(agents->sites[i].name, name) == 0)
            return &agents->sites[i];
    return NULL;
}

static void arrive(void *arg)
{
    struct line *line = arg;
    struct agents *agents = line->site->agents;
    struct site *target = find_site(agents, line->site->upstream.follow);
    if (line->ending)
        return;
    if (target && now_of(target) < target->cut_off_until[line->site->number])
        return;
    if (!target || !target->store) {
        break_off(line, "connection refused");
        return;
    }
    struct line *other = add_line(target, true);
    wire_connect(&agents->wire, &line->end, &other->end);
    wire_listen(line->end, &wire_user, line);
    wire_listen(other->end, &wire_user, other);
    source_init(&other->source, &source_actions, other, now_of(target));
    sink_init(&line->sink, &sink_actions, line, now_of(target));
}

static void dial(struct site *site)
{
    struct receiver *receiver;
    if (site->sink || !site->upstream.follow[0])
        return;
    MUST(site,
         receiver_open(site->store, site->upstream.follow, site->upstream.duty.master, &receiver));
    site->sink = add_line(site, false);
    site->sink->sink_job.receiver = receiver;
    site->dials++;
    wire_at(&site->agents->wire, slowness(site), arrive, site->sink);
}

static void maybe_release(struct line *line)
{
    struct site *site = line->site;
    if (!line->closed || line->working || line->released)
        return;
    release(line);
    if (line->is_source)
        return;
    site->sink = NULL;
    uint64_t random = dice_next(&site->agents->wire.dice);
    later(site, (int64_t)upstream_pause(&site->upstream, random) * 1000, dial);
}

/* --- what a node's agent does by itself --- */

/* As station.c's. */
static void look(struct site *site)
{
    struct duty duty;
    MUST(site, upstream_look(site->store, &duty));
    if (upstream_take_duty(&site->upstream, &duty) && find_site(site->agents, duty.master)) {
        upstream_follow(&site->upstream, duty.master);
        if (site->sink)
            end_line(site->sink, "another upstream is to be followed");
    }
    if (site->sink && upstream_is_over(&site->upstream))
        end_line(site->sink, "this node was promoted");
    dial(site);
}

static void news(struct site *site)
{
    site->telling = false;
    for (struct line *line = site->lines; line; line = line->next)
        if (is_fed(line))
            source_changed(&line->source);
    look(site);
}

void agents_wake(struct agents *agents, unsigned node)
{
    struct site *site = &agents->sites[node];
    if (site->telling || !site->store)
        return;
    site->telling = true;
    later(site, dice_below(&agents->wire.dice, POLL), news);
}

static void tick_line(struct line *line, int64_t now)
{
    if (line->released || line->closed)
        return;
    if (line->ending && now - line->ended > LINGER)
        close_line(line);
    else if (line->ending)
        return;
    else if (line->is_source)
        source_tick(&line->source, now);
    else if (line->end)
        sink_tick(&line->sink, now);
    else if (now - line->since > CONNECT)
        break_off(line, "no answer");
}

static void tick(struct site *site)
{
    for (struct line *line = site->lines; line; line = line->next)
        tick_line(line, now_of(site));
    later(site, TICK, tick);
}

static void keep(struct site *site)
{
    struct retained done;
    save(site);
    MUST(site, store_retain(site->store, times_now(), false, &done));
    touch(site);
    later(site, KEEP, keep);
}

/* --- from start to end --- */

void agents_start(struct agents *agents, unsigned node)
{
    struct site *site = &agents->sites[node];
    struct duty duty;
    if (site->store)
        return;
    tell(site, "starts", "");
    MUST(site, store_open(site->path, &options, &site->store));
    site->life++;
    MUST(site, draft_sweep(store_db(site->store), NULL));
    MUST(site, moorings_disconnect(site->store));
    MUST(site, upstream_look(site->store, &duty));
    /* The others are started with node 0's address, unless their stores name another. */
    upstream_init(&site->upstream,
                  duty.master[0] ? duty.master
                  : node         ? agents->sites[0].name
                                 : "",
                  &duty);
    touch(site);
    later(site, slowness(site), look);
    later(site, TICK, tick);
    later(site, KEEP, keep);
}

static void go_down(struct site *site)
{
    for (struct line *line = site->lines; line; line = line->next) {
        cancel_repair(line);
        if (!line->released)
            release(line);
    }
    touch(site);
    moorings_free(&site->moorings);
    store_close(site->store);
    site->store = NULL;
    site->sink = NULL;
    site->telling = site->saving = false;
}

void agents_kill(struct agents *agents, unsigned node, bool quietly)
{
    struct site *site = &agents->sites[node];
    if (!site->store)
        return;
    tell(site, quietly ? "loses power" : "is killed", "");
    for (struct line *line = site->lines; line; line = line->next)
        if (!line->released && line->end && quietly)
            wire_mute(line->end);
        else if (!line->released && line->end)
            wire_lose(line->end);
    for (struct line *line = site->lines; line; line = line->next)
        if (!line->released && line->end)
            wire_close(line->end);
    go_down(site);
}

void agents_stop(struct agents *agents, unsigned node)
{
    struct site *site = &agents->sites[node];
    if (!site->store)
        return;
    tell(site, "stops", "");
    for (struct line *line = site->lines; line; line = line->next)
        if (!line->released)
            end_line(line, "the agent there stops");
    for (struct line *line = site->lines; line; line = line->next)
        if (!line->released && line->end)
            wire_close(line->end);
    if (site->saving)
        moorings_saved(&site->moorings, false, now_of(site));
    if (moorings_collect(&site->moorings))
        MUST(site, moorings_write(&site->moorings, site->store));
    go_down(site);
}

void agents_part(struct agents *agents, unsigned a, unsigned b, int64_t time)
{
    struct site *site = &agents->sites[a];
    site->cut_off_until[b] = agents->sites[b].cut_off_until[a] = agents->wire.now + time;
    for (struct line *line = site->lines; line; line = line->next) {
        const struct line *other = line->end ? line->end->other->context : NULL;
        if (!line->released && other && other->site->number == b)
            wire_hold(line->end, time);
    }
}

void agents_heal(struct agents *agents)
{
    agents->wire.good = true;
    for (unsigned a = 0; a < agents->count; a++)
        for (unsigned b = 0; b < agents->count; b++)
            if (a != b)
                agents_part(agents, a, b, 0);
}

struct line *agents_pick_line(struct agents *agents, struct dice *dice)
{
    struct line *picked = NULL;
    unsigned count = 0;
    for (unsigned i = 0; i < agents->count; i++) {
        struct line *line = agents->sites[i].sink;
        if (line && line->end && !line->ending && dice_below(dice, ++count) == 0)
            picked = line;
    }
    return picked;
}

bool agents_is_repairing(const struct agents *agents, unsigned node)
{
    const struct line *line = agents->sites[node].sink;
    return line && line->working && line->sink_job.work == SINK_EQUALISE;
}

bool agents_is_quiet(const struct agents *agents, unsigned node)
{
    const struct line *line = agents->sites[node].sink;
    return line && line->end && !line->ending && line->sink.state == SINK_TAILING &&
           !line->working && !line->sink.queued.size && !line->sink.looking;
}

void agents_begin(struct agents *agents, const struct seed_run *run, const char *directory,
                  unsigned count, void (*touched)(void *arg, unsigned node), void *arg)
{
    *agents = (struct agents){.run = run, .count = count, .touched = touched, .arg = arg};
    wire_begin(&agents->wire, run->seed);
    clock_begin(MIDDAY, run->seed);
    uv_loop_init(&agents->loop);
    for (unsigned i = 0; i < count; i++) {
        struct site *site = &agents->sites[i];
        site->agents = agents;
        site->number = i;
        snprintf(site->name, sizeof site->name, "node%u", i);
        scratch_path(site->path, directory, site->name);
        MUST(site, store_init(site->path, i ? ROLE_REPLICA : ROLE_MASTER, NULL, &options));
    }
    for (unsigned i = 0; i < count; i++)
        agents_start(agents, i);
}

void agents_end(struct agents *agents)
{
    for (unsigned i = 0; i < agents->count; i++)
        agents_kill(agents, i, false);
    wire_free(&agents->wire);
    uv_loop_close(&agents->loop);
    for (unsigned i = 0; i < agents->count; i++)
        while (agents->sites[i].lines) {
            struct line *line = agents->sites[i].lines;
            agents->sites[i].lines = line->next;
            free(line);
        }
}
