/* What long work says on standard error while it goes on. Any thread may call. */
#ifndef SHIPLOG_TOOLS_PROGRESS_H
#define SHIPLOG_TOOLS_PROGRESS_H

/* Shows how far it is, in place of what was shown before; on a terminal only, a few times a second.
 * printf-style, no newline. */
void progress_show(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* A line that stays: "shiplog: " and the text. */
void progress_line(const char *format, ...) __attribute__((format(printf, 1, 2)));
void progress_end(void); /* takes away what is shown */

#endif
