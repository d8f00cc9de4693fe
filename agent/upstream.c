#include "agent/upstream.h"

#include "base/err.h"

#include <stdio.h>
#include <string.h>

#define REDIAL_FIRST 50u  /* milliseconds */
#define REDIAL_MOST 5000u /* milliseconds */
/* Microseconds of following after which the pause is short again. */
#define LASTING INT64_C(1000000)

static int get_duty(struct tx *tx, void *arg)
{
    struct duty *duty = arg;
    duty->role = tx_node(tx)->role;
    duty->fence = tx_node(tx)->fence;
    snprintf(duty->master, sizeof duty->master, "%s", tx_node(tx)->master);
    return ERR_OK;
}

int upstream_look(struct store *store, struct duty *duty)
{
    return store_read(store, get_duty, duty);
}

void upstream_follow(struct upstream *upstream, const char *address)
{
    snprintf(upstream->follow, sizeof upstream->follow, "%s", address);
}

void upstream_init(struct upstream *upstream, const char *follow, const struct duty *duty)
{
    *upstream = (struct upstream){.pause = REDIAL_FIRST, .duty = *duty};
    upstream_follow(upstream, follow);
}

bool upstream_take_duty(struct upstream *upstream, const struct duty *duty)
{
    bool changed = strcmp(upstream->duty.master, duty->master) != 0;
    upstream->duty = *duty;
    return changed && duty->role == ROLE_REPLICA && strcmp(duty->master, upstream->follow) != 0;
}

bool upstream_is_over(const struct upstream *upstream)
{
    const struct duty *duty = &upstream->duty;
    return duty->role == ROLE_MASTER && duty->fence == FENCE_NONE && upstream->welcomed;
}

void upstream_welcomed(struct upstream *upstream, int64_t now)
{
    upstream->welcomed = now;
}

void upstream_gone(struct upstream *upstream, int64_t now)
{
    if (upstream->welcomed && now - upstream->welcomed >= LASTING)
        upstream->pause = REDIAL_FIRST;
    upstream->welcomed = 0;
}

uint64_t upstream_pause(struct upstream *upstream, uint64_t random)
{
    uint64_t half = upstream->pause / 2;
    upstream->pause = upstream->pause * 2 < REDIAL_MOST ? upstream->pause * 2 : REDIAL_MOST;
    return half + random % (half + 1);
}
