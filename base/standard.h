/* The files 0, 1 and 2 of a process. */
#ifndef SHIPLOG_BASE_STANDARD_H
#define SHIPLOG_BASE_STANDARD_H

/* Before anything is opened: a program that was started with one of them closed would get a store's
 * file under that number, and write its output there. What was closed fails as it would have. */
void standard_files_hold(void);

#endif
