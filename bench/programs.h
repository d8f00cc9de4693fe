/* Running shiplog's programs from a benchmark. */
#ifndef SHIPLOG_BENCH_PROGRAMS_H
#define SHIPLOG_BENCH_PROGRAMS_H

#include "bench/bench.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* `words` are the program's path, its arguments, NULL. *out reads what it prints. */
static inline pid_t program_start(char *const *words, int *out)
{
    int ends[2];
    bench_require(pipe(ends), "pipe", "failed");
    pid_t pid = fork();
    bench_require(pid < 0, "fork", "failed");
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execv(words[0], words);
        _exit(127);
    }
    close(ends[1]);
    *out = ends[0];
    return pid;
}

static inline void program_line(int out, char *line, size_t size)
{
    size_t at = 0;
    while (at + 1 < size && read(out, line + at, 1) == 1 && line[at] != '\n')
        at++;
    line[at] = '\0';
}

static inline int program_wait(pid_t pid)
{
    int status = 1;
    waitpid(pid, &status, 0);
    return status;
}

/* Runs it to its end, which must be a success. `line` gets the first line that it prints. */
static inline void program_run(char *const *words, char *line, size_t size)
{
    int out;
    pid_t pid = program_start(words, &out);
    program_line(out, line, size);
    bench_require(program_wait(pid), words[0], "failed");
    close(out);
}

static inline void program_end(pid_t pid, int out)
{
    kill(pid, SIGTERM);
    program_wait(pid);
    close(out);
}

#endif
