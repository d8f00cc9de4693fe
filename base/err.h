/* Errors: one list of codes, and one sentence of context for the last failure of this thread.
 *
 * Every function that can fail returns `int`: ERR_OK (0) or one of these codes. Whoever finds a
 * failure describes it once with fail(); everyone above passes the code on. ERR_END is not a
 * failure: it is the third result of a lookup or an iteration ("there is none", "there are no
 * more"), and carries no message.
 */
#ifndef SHIPLOG_BASE_ERR_H
#define SHIPLOG_BASE_ERR_H

/* name, the process exit code that it leads to (docs/shiplog.1), the text for it when there is no
 * context */
#define ERR_MAP(X)                                                                                 \
    X(OK, 0, "done")                                                                               \
    X(END, 3, "nothing there")                                                                     \
    X(NO, 1, "the answer is no")                                                                   \
    X(USAGE, 2, "wrong usage")                                                                     \
    X(INVALID, 2, "malformed argument")                                                            \
    X(NOTFOUND, 3, "not found")                                                                    \
    X(TRIMMED, 3, "no longer in the journal")                                                      \
    X(GONE, 3, "content is gone")                                                                  \
    X(REFUSED, 4, "refused")                                                                       \
    X(EXISTS, 4, "exists already")                                                                 \
    X(IO, 5, "input/output error")                                                                 \
    X(FULL, 5, "no space left on the disk")                                                        \
    X(CORRUPT, 5, "damaged")                                                                       \
    X(NEWER, 5, "written by a newer version")                                                      \
    X(PERMISSION, 5, "no permission")                                                              \
    X(PEER, 5, "peer not reachable")                                                               \
    X(PROTOCOL, 5, "peer broke the protocol")                                                      \
    X(NOMEM, 5, "out of memory")                                                                   \
    X(TIMEOUT, 6, "timed out")                                                                     \
    X(BUSY, 6, "held by another")                                                                  \
    X(DIFFERS, 1, "differs")                                                                       \
    X(AGAIN, 5, "must be run again")

enum err {
#define X(name, exit_code, text) ERR_##name,
    ERR_MAP(X)
#undef X
};

/* Keeps a sentence about this failure for err_message() and returns `code`. printf-style; control
 * characters in it are replaced, so that it stays one line. */
int fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Compilers and analysers do not look into err.c: this tells them that the code comes back. */
#define fail(code, ...) (fail(code, __VA_ARGS__), (code))

/* As fail(), for a failed system call: chooses the code from errno (EACCES → ERR_PERMISSION, ENOSPC
 * → ERR_FULL, ENOENT → ERR_NOTFOUND, ENOMEM → ERR_NOMEM, others → ERR_IO) and appends
 * strerror(errno). */
int fail_errno(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The sentence of this thread's last fail(), valid until its next one. For a code without one, see
 * err_text(). */
const char *err_message(void);

/* "ERR_NOTFOUND"-like name without the prefix, and the general text, of a code. Never NULL. */
const char *err_name(int code);
const char *err_text(int code);

/* The exit code of a process that ends because of `code`. */
int err_exit_code(int code);

#endif
