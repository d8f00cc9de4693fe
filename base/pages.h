/* The pages of an LMDB 0.9 data file, looked at without LMDB, which trusts what it finds in them:
 * sizes, offsets and page numbers outside their bounds, keys out of order, pages that are used
 * twice or by nobody, counts that are not those of the pages, and a meta page that is not the
 * newest.
 *
 * Everything is read with pread(), nothing is written, nothing is locked.
 */
#ifndef SHIPLOG_BASE_PAGES_H
#define SHIPLOG_BASE_PAGES_H

#include <stdbool.h>
#include <stdint.h>

/* The row of LMDB's main table in which every transaction that changes anything leaves its number,
 * as u64: what the meta page says of itself can be compared with it. */
#define PAGES_COMMIT_KEY "commit"

/* Compares the two meta pages with each other, and the newest with the tree that it leads to, so
 * that a store is not taken for what it was some commits ago. `where` is for the message. Others
 * may commit meanwhile. ERR_CORRUPT, ERR_IO; ERR_BUSY: too many did. */
int pages_check_metas(int fd, const char *where);

/* Gives the newest of a data file's commits the number `last`, and the one before it the one
 * before. For a file that nobody has open. ERR_CORRUPT: the newest is not on that number's meta
 * page. */
int pages_number_metas(int fd, uint64_t last);

typedef void pages_report(void *arg, const char *what);

/* Looks at all pages of the state that transaction `txnid` left, which a reader must hold. `older`:
 * at the meta page before it, too; it is overwritten by nothing but a commit that is missing, which
 * a relaxed one may be. Each thing that is wrong is reported. ERR_BUSY: its meta page has been
 * overwritten since; begin again with a newer one. ERR_CORRUPT: there is no such meta page. ERR_IO,
 * ERR_NOMEM. */
int pages_check(int fd, uint64_t txnid, bool older, pages_report *report, void *arg);

#endif
