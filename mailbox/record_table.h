/* Records in memory by UID: an array, with an open-addressed table of places in it. */
#ifndef SHIPLOG_MAILBOX_RECORD_TABLE_H
#define SHIPLOG_MAILBOX_RECORD_TABLE_H

#include "mailbox/record.h"

/* All zero: empty. */
struct record_table {
    struct record *all; /* uid 0: a place that is free again */
    size_t count;
    size_t capacity;
    struct record_place *places;
    size_t place_count; /* a power of two */
    unsigned shift;     /* 32 less its logarithm */
};

/* The UID must not be there yet. Other records move. ERR_NOMEM. */
int record_table_add(struct record_table *table, const struct record *record);
struct record *record_table_find(const struct record_table *table, uint32_t uid); /* NULL: none */
void record_table_remove(struct record_table *table, uint32_t uid); /* it must be there */
void record_table_free(struct record_table *table);

#endif
