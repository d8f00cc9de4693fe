/* The names in `archive/`; private to journal/. */
#ifndef SHIPLOG_JOURNAL_ARCHIVE_NAMES_H
#define SHIPLOG_JOURNAL_ARCHIVE_NAMES_H

#include "journal/archive.h"

/* A file holds what is behind `base` up to and including `last`. */
struct archive_name {
    uint64_t base;
    uint64_t last;
};

bool archive_name_equal(const struct archive_name *a, const struct archive_name *b);
void archive_name_print(const struct archive_name *name, char text[ARCHIVE_NAME_SIZE]);
/* Those of the directory, in the order of their ends; free(*names). None when there is no archive.
 */
int archive_names(int directory, struct archive_name **names, size_t *count);

/* The run that archive_reach() found, in ascending order; the archive's. */
const struct archive_name *archive_run(const struct archive *archive, size_t *count);
/* Has the error say which file it was. Returns `rc`. */
int archive_in_file(const struct archive_name *name, int rc);

#endif
