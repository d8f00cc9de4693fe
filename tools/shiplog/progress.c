#include "tools/shiplog/progress.h"

#include "base/text.h"
#include "base/times.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define PAUSE (TIMES_SECOND / 5) /* between two shows */
#define LINE_SIZE 1024
#define CLEAR "\r\033[K"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t shown; /* when; 0: nothing is on the line */

static void clear(void)
{
    if (shown)
        fputs(CLEAR, stderr);
    shown = 0;
}

void progress_show(const char *format, ...)
{
    va_list args;
    int64_t now = times_now();
    pthread_mutex_lock(&lock);
    bool due = now - shown >= PAUSE || now < shown;
    if (due && isatty(STDERR_FILENO)) {
        clear();
        va_start(args, format);
        vfprintf(stderr, format, args);
        va_end(args);
        fflush(stderr);
        shown = now;
    }
    pthread_mutex_unlock(&lock);
}

void progress_line(const char *format, ...)
{
    char text[LINE_SIZE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_to_line(text);
    pthread_mutex_lock(&lock);
    clear();
    fprintf(stderr, "shiplog: %s\n", text);
    pthread_mutex_unlock(&lock);
}

void progress_end(void)
{
    pthread_mutex_lock(&lock);
    clear();
    pthread_mutex_unlock(&lock);
}
