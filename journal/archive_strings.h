/* The strings that the entries of one archive file share, while it is written; private to journal/.
 */
#ifndef SHIPLOG_JOURNAL_ARCHIVE_STRINGS_H
#define SHIPLOG_JOURNAL_ARCHIVE_STRINGS_H

#include "journal/archive_file.h"

/* Zero-initialise; strings_free(). */
struct strings {
    struct buf all;   /* one behind another, in the order of their numbers */
    uint32_t *places; /* number + 1 by hash; 0: empty */
    size_t place_count;
};

void strings_free(struct strings *strings);
uint32_t strings_count(const struct strings *strings);
/* The number of this string, which is new or not. ERR_NOMEM. */
int strings_add(struct strings *strings, const uint8_t *string, uint32_t *number);
/* An archive_fetch; `arg` is the strings. */
int strings_fetch(void *arg, uint32_t string, uint8_t out[ARCHIVE_STRING_SIZE]);

#endif
