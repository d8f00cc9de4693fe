#include "mailbox/record_table.h"

#include "base/err.h"

#include <stdlib.h>

#define CAPACITY_LEAST 256u

/* Where a UID's record is. */
struct record_place {
    uint32_t uid; /* 0 with a place: it was given up, searching goes on past it */
    uint32_t at;  /* in the array, + 1; 0: empty */
};

/* The upper bits: they are spread however the UIDs are. */
static size_t home(const struct record_table *table, uint32_t uid)
{
    return (uid * 2654435761u) >> table->shift;
}

static void index_put(struct record_table *table, uint32_t uid, size_t at)
{
    size_t mask = table->place_count - 1;
    size_t i = home(table, uid);
    while (table->places[i].at)
        i = (i + 1) & mask;
    table->places[i] = (struct record_place){.uid = uid, .at = (uint32_t)at + 1};
}

static int make_places(struct record_table *table)
{
    table->place_count = 2;
    table->shift = 31;
    while (table->place_count < table->capacity * 2) {
        table->place_count *= 2;
        table->shift--;
    }
    free(table->places);
    table->places = calloc(table->place_count, sizeof *table->places);
    return table->places ? ERR_OK : fail(ERR_NOMEM, "out of memory");
}

static int grow(struct record_table *table)
{
    size_t live = 0;
    for (size_t i = 0; table->all && i < table->count; i++)
        if (table->all[i].uid)
            table->all[live++] = table->all[i];
    table->count = live;
    if (live * 2 > table->capacity || !table->all) {
        size_t capacity = table->capacity ? table->capacity * 2 : CAPACITY_LEAST;
        struct record *all = realloc(table->all, capacity * sizeof *all);
        if (!all)
            return fail(ERR_NOMEM, "out of memory");
        table->all = all;
        table->capacity = capacity;
    }
    int rc = make_places(table);
    for (size_t i = 0; i < live && rc == ERR_OK; i++)
        index_put(table, table->all[i].uid, i);
    return rc;
}

int record_table_add(struct record_table *table, const struct record *record)
{
    if (!table->all || table->count == table->capacity) {
        int rc = grow(table);
        if (rc)
            return rc;
    }
    table->all[table->count] = *record;
    index_put(table, record->uid, table->count++);
    return ERR_OK;
}

static struct record_place *find_place(const struct record_table *table, uint32_t uid)
{
    if (!table->place_count)
        return NULL;
    size_t mask = table->place_count - 1;
    for (size_t i = home(table, uid); table->places[i].at; i = (i + 1) & mask)
        if (table->places[i].uid == uid)
            return &table->places[i];
    return NULL;
}

struct record *record_table_find(const struct record_table *table, uint32_t uid)
{
    const struct record_place *place = find_place(table, uid);
    return place ? &table->all[place->at - 1] : NULL;
}

void record_table_remove(struct record_table *table, uint32_t uid)
{
    struct record_place *place = find_place(table, uid);
    table->all[place->at - 1].uid = 0;
    place->uid = 0;
}

void record_table_free(struct record_table *table)
{
    free(table->all);
    free(table->places);
}
