/* The agent's log: one line an event on standard error, key=value, which journald takes as it is.
 */
#ifndef SHIPLOG_AGENT_LOG_H
#define SHIPLOG_AGENT_LOG_H

void log_quiet(void); /* from here on nothing is logged: a command says what went wrong itself */
/* `event` is a word; `format` makes the key=value pairs behind it. Any thread. */
void log_info(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));
void log_warning(const char *event, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
