#include "tools/shiplog/progress.h"

#include "base/times.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define PAUSE (TIMES_SECOND / 5) /* between two shows */
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
    va_list args;
    pthread_mutex_lock(&lock);
    clear();
    fputs("shiplog: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    pthread_mutex_unlock(&lock);
}

void progress_end(void)
{
    pthread_mutex_lock(&lock);
    clear();
    pthread_mutex_unlock(&lock);
}
