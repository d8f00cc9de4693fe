/* The agent's log: one line an event on standard error, key=value, which journald takes as it is.
 */
#ifndef SHIPLOG_AGENT_LOG_H
#define SHIPLOG_AGENT_LOG_H

/* From here on nothing is logged: a command says what went wrong itself. Of the whole process, as
 * standard error is, and before it has threads. */
void log_quiet(void);
/* "debug", "info" (which is what is logged unless told) or "warning": that and what matters more.
 * NULL changes nothing. Before there are threads. ERR_INVALID: none of these. */
int log_level(const char *least);
/* `event` is a word; `format` makes the key=value pairs behind it. Any thread. */
void log_debug(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_info(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_warning(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
