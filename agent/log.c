#include "agent/log.h"

#include "base/text.h"
#include "base/times.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

static bool quiet;

void log_quiet(void)
{
    quiet = true;
}

static void line(const char *level, const char *event, const char *format, va_list args)
{
    char time[TIMES_TEXT_SIZE];
    char text[1024];
    if (quiet)
        return;
    times_print(times_now(), time);
    vsnprintf(text, sizeof text, format, args);
    text_to_line(text);
    fprintf(stderr, "time=%s level=%s event=%s %s\n", time, level, event, text);
}

void log_info(const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line("info", event, format, args);
    va_end(args);
}

void log_warning(const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    line("warning", event, format, args);
    va_end(args);
}
