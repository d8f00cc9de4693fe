#include "agent/log.h"

#include "base/err.h"
#include "base/text.h"
#include "base/times.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum level { DEBUG, INFO, WARNING, NOTHING };

static const char *const names[] = {"debug", "info", "warning"};
static enum level least = INFO;

void log_quiet(void)
{
    least = NOTHING;
}

int log_level(const char *name)
{
    if (!name)
        return ERR_OK;
    for (enum level level = DEBUG; level < NOTHING; level++)
        if (strcmp(name, names[level]) == 0) {
            least = level;
            return ERR_OK;
        }
    return fail(ERR_INVALID, "%s: not a level of the log (debug, info, warning)", name);
}

static void line(enum level level, const char *event, const char *format, va_list args)
{
    char time[TIMES_TEXT_SIZE];
    char text[1024];
    if (level < least)
        return;
    times_print(times_now(), time);
    vsnprintf(text, sizeof text, format, args);
    text_to_line(text);
    fprintf(stderr, "time=%s level=%s event=%s %s\n", time, names[level], event, text);
}

void log_debug(const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line(DEBUG, event, format, args);
    va_end(args);
}

void log_info(const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line(INFO, event, format, args);
    va_end(args);
}

void log_warning(const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line(WARNING, event, format, args);
    va_end(args);
}
