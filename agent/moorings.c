#include "agent/moorings.h"

#include "base/array.h"
#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int disconnect(struct tx *tx, void *arg)
{
    struct slot slot = {0};
    int rc;
    (void)arg;
    while ((rc = slot_next(tx_db(tx), &slot)) == ERR_OK) {
        slot.connected = false;
        if ((rc = slot_put(tx_db(tx), &slot)) != ERR_OK)
            break;
    }
    return rc == ERR_END ? ERR_OK : rc;
}

static int find_connected(struct tx *tx, void *arg)
{
    struct slot slot = {0};
    bool *found = arg;
    int rc;
    *found = false;
    while (!*found && (rc = slot_next(tx_db(tx), &slot)) == ERR_OK)
        *found = slot.connected;
    return *found || rc == ERR_END ? ERR_OK : rc;
}

int moorings_disconnect(struct store *store)
{
    bool connected;
    int rc = store_read(store, find_connected, &connected);
    return rc || !connected ? rc : store_maintain(store, disconnect, NULL);
}

static void release_saved(struct moorings *moorings)
{
    free(moorings->to_save);
    moorings->to_save = NULL;
    moorings->to_save_count = 0;
}

void moorings_free(struct moorings *moorings)
{
    release_saved(moorings);
    free(moorings->all);
    *moorings = (struct moorings){0};
}

static struct mooring *find(struct moorings *moorings, const char *name)
{
    for (size_t i = 0; i < moorings->count; i++)
        if (strcmp(moorings->all[i].slot.name, name) == 0)
            return &moorings->all[i];
    return NULL;
}

static struct mooring *add(struct moorings *moorings, const char *name)
{
    struct mooring *room =
        array_room(moorings->all, moorings->count, &moorings->capacity, sizeof *room);
    if (!room)
        return NULL;
    moorings->all = room;
    struct mooring *mooring = &room[moorings->count++];
    *mooring = (struct mooring){0};
    snprintf(mooring->slot.name, sizeof mooring->slot.name, "%s", name);
    return mooring;
}

uint64_t moorings_acknowledged(struct moorings *moorings, const char *name,
                               struct position position, int64_t now, int64_t time)
{
    struct mooring *mooring = find(moorings, name);
    if (!mooring)
        mooring = add(moorings, name);
    if (!mooring)
        return UINT64_MAX;
    bool came = !mooring->slot.connected;
    mooring->slot.position = position;
    mooring->slot.time = time;
    mooring->slot.connected = true;
    mooring->dirty = true;
    return came || now < moorings->awaited ? 0 : SLOT_INTERVAL;
}

bool moorings_gone(struct moorings *moorings, const char *name)
{
    struct mooring *mooring = find(moorings, name);
    if (!mooring)
        return false;
    mooring->slot.connected = false;
    mooring->dirty = true;
    return true;
}

void moorings_await(struct moorings *moorings, int64_t now)
{
    moorings->awaited = now + AWAITED;
}

bool moorings_dirty(const struct moorings *moorings)
{
    for (size_t i = 0; i < moorings->count; i++)
        if (moorings->all[i].dirty)
            return true;
    return false;
}

bool moorings_collect(struct moorings *moorings)
{
    moorings->to_save = calloc(moorings->count + 1, sizeof *moorings->to_save);
    for (size_t i = 0; moorings->to_save && i < moorings->count; i++) {
        struct mooring *mooring = &moorings->all[i];
        if (mooring->dirty)
            moorings->to_save[moorings->to_save_count++] = mooring->slot;
        mooring->dirty = false;
    }
    if (!moorings->to_save_count)
        release_saved(moorings);
    return moorings->to_save_count > 0;
}

/* Nobody holds what is not on the journal here: then what was known of the follower stays. */
static int write_slot(struct tx *tx, struct slot slot)
{
    struct slot known;
    int rc = journal_holds(tx_db(tx), slot.position);
    if (rc == ERR_END || rc == ERR_CORRUPT) {
        rc = slot_get(tx_db(tx), slot.name, &known);
        if (rc)
            return rc == ERR_END ? ERR_OK : rc;
        slot.position = known.position;
    }
    return rc && rc != ERR_TRIMMED ? rc : slot_put(tx_db(tx), &slot);
}

static int write_slots(struct tx *tx, void *arg)
{
    const struct moorings *moorings = arg;
    int rc = ERR_OK;
    for (size_t i = 0; i < moorings->to_save_count && rc == ERR_OK; i++)
        rc = write_slot(tx, moorings->to_save[i]);
    return rc;
}

int moorings_write(const struct moorings *moorings, struct store *store)
{
    return store_maintain(store, write_slots, (void *)(uintptr_t)moorings);
}

/* Those that are written and whose followers are away need not be remembered here. */
static void forget(struct moorings *moorings)
{
    size_t kept = 0;
    for (size_t i = 0; i < moorings->count; i++)
        if (moorings->all[i].dirty || moorings->all[i].slot.connected)
            moorings->all[kept++] = moorings->all[i];
    moorings->count = kept;
}

uint64_t moorings_saved(struct moorings *moorings, bool failed, int64_t now)
{
    for (size_t i = 0; failed && i < moorings->to_save_count; i++) {
        struct mooring *mooring = find(moorings, moorings->to_save[i].name);
        if (mooring)
            mooring->dirty = true;
    }
    release_saved(moorings);
    forget(moorings);
    if (failed)
        return SLOT_INTERVAL;
    return now < moorings->awaited && moorings_dirty(moorings) ? 0 : UINT64_MAX;
}
