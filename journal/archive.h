/* The archive: entries that left the window, in files of the store's directory `archive/`.
 *
 * A file holds an unbroken range of whole commits and is named by it: the modseq before its first
 * entry and that of its last. It is written under another name, synced, renamed, and never changed
 * again. Entries are trimmed from the window only after that; between the two they are in both.
 *
 * Reading is by search: over the names, over a file's index, within one block. Files that are
 * missing end what can be reached; one that is damaged is named by the error of whoever needs it.
 *
 * Threads: a reader is used by one at a time. Readers and the one writer need not know each other.
 */
#ifndef SHIPLOG_JOURNAL_ARCHIVE_H
#define SHIPLOG_JOURNAL_ARCHIVE_H

#include "journal/archive_file.h"

#define ARCHIVE_DIRECTORY "archive"
#define ARCHIVE_NAME_SIZE 48u

struct archive;

/* `directory`: the store's, open; it must stay so. Without `archive/` there is nothing to find. */
int archive_open(int directory, struct archive **archive);
void archive_close(struct archive *archive); /* NULL is fine */

/* Finds the files that lead back, unbroken, from the window's base: what the others look at. Does
 * nothing when it has been done for this base. `forgotten`: entries up to this modseq need not be
 * there (journal_forgotten()). Goes by names; what is in them is looked at when it is asked for.
 * ERR_IO, ERR_PERMISSION. */
int archive_reach(struct archive *archive, struct position base, uint64_t forgotten);
bool archive_reaches(const struct archive *archive, uint64_t modseq); /* this entry's place */
/* The modseq before the oldest entry that is reached; the window's base when none is. */
uint64_t archive_oldest(const struct archive *archive);
/* Why nothing older is reached, for people: "" when there should be nothing older. */
const char *archive_gap(const struct archive *archive);
/* The last of the entries that were not forgotten and are in no file that is here; 0: none is
 * missing. archive_gap() says so until they are forgotten. */
uint64_t archive_missing(const struct archive *archive);

/* The entry at or below `modseq`; the first above it. Views are valid until the next call. ERR_END:
 * none is reached. */
int archive_at_or_below(struct archive *archive, uint64_t modseq, struct entry *entry,
                        struct bytes *encoded);
int archive_above(struct archive *archive, uint64_t modseq, struct entry *entry,
                  struct bytes *encoded);
/* The modseq of the last entry that is not later, at least that before the oldest. ERR_END: it is
 * earlier than that, too. */
int archive_at_time(struct archive *archive, int64_t time, uint64_t *modseq);

/* Proves every file that is reached: CRCs, chain, and how they follow each other. Calls `report`
 * for each thing that is wrong; the file's name is valid until it returns. Entries that lie behind
 * a file, are in no other and were not forgotten are told: a file is missing. */
int archive_prove(struct archive *archive,
                  void (*report)(void *arg, const char *file, const char *what), void *arg);

/* Copies the files that lead back from `base` to `archive/` of another store, which must not be
 * there yet, and makes them durable. What is written when it fails is left. ERR_NOTFOUND: a file
 * went meanwhile; ERR_EXISTS, ERR_FULL, ERR_IO, ERR_PERMISSION. */
struct archive_copy {
    int from; /* directories of the stores, open */
    int to;
    /* Told now and then how many of how many bytes are done; NULL: nobody is. */
    void (*progress)(void *arg, uint64_t done, uint64_t total);
    void *arg;
};
int archive_copy(const struct archive_copy *copy, struct position base);

/* Finds strings of ARCHIVE_STRING_SIZE bytes in an entry's body that do not deflate and are likely
 * to come again: appends the offset of each as a u32 to `offsets`, in ascending order, without
 * overlap. What a body means is the business of whoever wrote it. */
typedef int archive_find_strings(const struct entry *entry, struct buf *offsets);

/* Writes one file. One writer at a time, in all processes: ERR_BUSY when another has not ended
 * after `wait` microseconds. */
#define ARCHIVE_WAIT INT64_C(10000000)
struct archive_writer;
int archive_write_begin(int directory, int64_t wait, struct archive_writer **writer);
/* Once, before the first entry: whose entries these are, what comes before them, and what finds
 * strings in them (NULL: nothing does). */
void archive_write_base(struct archive_writer *writer, uint64_t store_id, struct journal_point base,
                        archive_find_strings *find);
/* Whole encoded entries, each chained to the one before: ERR_CORRUPT when it is not. */
int archive_write(struct archive_writer *writer, struct bytes encoded);
/* Makes the file durable under its name. The last entry must end a commit. */
int archive_write_end(struct archive_writer *writer);
/* Ends in every case; without archive_write_end() before it nothing was written. NULL is fine. */
void archive_write_close(struct archive_writer *writer);

/* The last entry that files which begin at or before `base` hold, when that is above `base`: what a
 * writer that was cut off before trimming left. ERR_END: none. */
int archive_ahead(struct archive *archive, uint64_t base, struct position *last);
/* Takes files that end above `base` out of sight: they are of a branch that was given up. ERR_BUSY
 * after ARCHIVE_WAIT. */
int archive_set_aside(int directory, uint64_t base);

#endif
