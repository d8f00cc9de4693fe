/* A set of events, told by their index in the list of one mailbox's events. Ends the program when
 * memory is short. */
#ifndef SHIPLOG_TESTS_SUPPORT_KNOWLEDGE_H
#define SHIPLOG_TESTS_SUPPORT_KNOWLEDGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Empty when it is all zero. Owns its bits: knowledge_free(). */
struct knowledge {
    uint64_t *bits;
    size_t words;
};

bool knowledge_has(const struct knowledge *knowledge, size_t event);
void knowledge_add(struct knowledge *knowledge, size_t event);
void knowledge_unite(struct knowledge *knowledge, const struct knowledge *more);
void knowledge_assign(struct knowledge *to, const struct knowledge *from);
bool knowledge_is_subset(const struct knowledge *less, const struct knowledge *more);
/* Leaves it empty. */
void knowledge_free(struct knowledge *knowledge);

#endif
