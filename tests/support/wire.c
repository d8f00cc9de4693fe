#include "tests/support/wire.h"

#include "tests/support/clock.h"

#include <stdlib.h>

#define LATE_MOST 60000u      /* microseconds that bytes are late */
#define VERY_LATE_MOST 900000 /* a few of them */
#define PIECES 32u            /* into so many, at most, what is under way is cut */
#define SMALL 24u             /* bytes of a small piece */

struct wire_happening {
    int64_t at;
    uint64_t order;
    wire_event *event;
    void *arg;
};

void wire_begin(struct wire *wire, uint64_t seed)
{
    *wire = (struct wire){.dice = {.state = seed}};
}

void wire_free(struct wire *wire)
{
    while (wire->ends) {
        struct wire_end *end = wire->ends;
        wire->ends = end->next;
        buf_free(&end->coming);
        free(end);
    }
    free(wire->heap);
}

/* --- the clock: a heap of what is to happen --- */

static bool is_before(const struct wire_happening *a, const struct wire_happening *b)
{
    return a->at < b->at || (a->at == b->at && a->order < b->order);
}

static void swap(struct wire_happening *a, struct wire_happening *b)
{
    struct wire_happening kept = *a;
    *a = *b;
    *b = kept;
}

void wire_at(struct wire *wire, int64_t delay, wire_event *event, void *arg)
{
    struct wire_happening new = {
        .at = wire->now + delay, .order = wire->order++, .event = event, .arg = arg};
    if (wire->count == wire->capacity) {
        wire->capacity = wire->capacity ? 2 * wire->capacity : 64;
        wire->heap = realloc(wire->heap, wire->capacity * sizeof *wire->heap);
        if (!wire->heap)
            abort();
    }
    size_t at = wire->count++;
    wire->heap[at] = new;
    for (; at && is_before(&wire->heap[at], &wire->heap[(at - 1) / 2]); at = (at - 1) / 2)
        swap(&wire->heap[at], &wire->heap[(at - 1) / 2]);
}

static struct wire_happening take_first(struct wire *wire)
{
    struct wire_happening first = wire->heap[0];
    wire->heap[0] = wire->heap[--wire->count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < wire->count && is_before(&wire->heap[child], &wire->heap[least]))
                least = child;
        if (least == at)
            return first;
        swap(&wire->heap[at], &wire->heap[least]);
        at = least;
    }
}

static void go_to(struct wire *wire, int64_t then)
{
    clock_move(then - wire->now);
    wire->now = then;
}

void wire_run_until(struct wire *wire, int64_t then)
{
    while (wire->count && wire->heap[0].at <= then) {
        struct wire_happening first = take_first(wire);
        go_to(wire, first.at);
        first.event(first.arg);
    }
    go_to(wire, then);
}

/* --- connections --- */

static struct wire_end *add_end(struct wire *wire)
{
    struct wire_end *end = calloc(1, sizeof *end);
    if (!end)
        abort();
    end->wire = wire;
    end->next = wire->ends;
    wire->ends = end;
    return end;
}

void wire_connect(struct wire *wire, struct wire_end **a, struct wire_end **b)
{
    *a = add_end(wire);
    *b = add_end(wire);
    (*a)->other = *b;
    (*b)->other = *a;
}

void wire_listen(struct wire_end *end, const struct wire_user *user, void *context)
{
    end->user = user;
    end->context = context;
}

static int64_t lateness(struct wire *wire)
{
    struct dice *dice = &wire->dice;
    if (!wire->good && dice_below(dice, 40) == 0)
        return dice_below(dice, VERY_LATE_MOST);
    return dice_below(dice, wire->good ? LATE_MOST / 20 : LATE_MOST);
}

static void deliver(void *arg);

static void schedule(struct wire_end *end)
{
    if (end->scheduled || end->closed || end->deaf)
        return;
    end->scheduled = true;
    wire_at(end->wire, lateness(end->wire), deliver, end);
}

static size_t piece_of(struct wire_end *end)
{
    struct dice *dice = &end->wire->dice;
    size_t all = end->coming.size;
    size_t least = all / PIECES + 1;
    switch (dice_below(dice, 4)) {
    case 0:
        return all;
    case 1:
        least += dice_below(dice, SMALL);
        return least < all ? least : all;
    default:
        return least + dice_below(dice, (uint32_t)(all - least + 1));
    }
}

static void hear(struct wire_end *end)
{
    size_t size = piece_of(end);
    struct buf piece = {0};
    struct buf rest = {0};
    buf_put(&piece, end->coming.data, size);
    buf_put(&rest, end->coming.data + size, end->coming.size - size);
    if (piece.failed || rest.failed)
        abort();
    buf_free(&end->coming);
    end->coming = rest;
    end->user->bytes(end->context, buf_view(&piece));
    buf_free(&piece);
}

static void deliver(void *arg)
{
    struct wire_end *end = arg;
    end->scheduled = false;
    if (end->closed || end->deaf)
        return;
    if (end->wire->now < end->held_until) {
        end->scheduled = true;
        wire_at(end->wire, end->held_until - end->wire->now, deliver, end);
        return;
    }
    if (end->coming.size) {
        hear(end);
        if (end->coming.size || end->ending)
            schedule(end);
    } else if (end->ending) {
        end->user->gone(end->context, end->lost ? end->lost : "the other end closed");
    }
}

void wire_send(struct wire_end *end, struct bytes bytes)
{
    struct wire_end *other = end->other;
    if (end->closed || other->closed || other->deaf || other->ending)
        return;
    buf_put(&other->coming, bytes.data, bytes.size);
    if (other->coming.failed)
        abort();
    schedule(other);
}

void wire_shut(struct wire_end *end)
{
    struct wire_end *other = end->other;
    if (end->closed || other->ending)
        return;
    other->ending = true;
    schedule(other);
}

void wire_close(struct wire_end *end)
{
    wire_shut(end);
    end->closed = true;
    buf_free(&end->coming);
}

static void cut(struct wire_end *end)
{
    if (end->closed || end->ending)
        return;
    if (end->coming.size)
        end->coming.size = dice_below(&end->wire->dice, (uint32_t)end->coming.size);
    end->ending = true;
    end->lost = "connection reset by peer";
    schedule(end);
}

void wire_lose(struct wire_end *end)
{
    cut(end);
    cut(end->other);
}

void wire_mute(struct wire_end *end)
{
    end->deaf = end->other->deaf = true;
}

void wire_hold(struct wire_end *end, int64_t time)
{
    end->held_until = end->other->held_until = end->wire->now + time;
}
