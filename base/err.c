#include "base/err.h"

#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static _Thread_local char message[1024];

static const struct {
    const char *name;
    int exit_code;
    const char *text;
} table[] = {
#define X(name, exit_code, text) {#name, exit_code, text},
    ERR_MAP(X)
#undef X
};

int(fail)(int code, const char *format, ...)
{
    /* The old message may be an argument of the new one. */
    char fresh[sizeof message];
    va_list args;
    va_start(args, format);
    vsnprintf(fresh, sizeof fresh, format, args);
    va_end(args);
    text_to_line(fresh);
    memcpy(message, fresh, sizeof message);
    return code;
}

static int code_of_errno(int error)
{
    switch (error) {
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_PERMISSION;
    case ENOSPC:
    case EDQUOT:
        return ERR_FULL;
    case ENOENT:
    case ENOTDIR:
        return ERR_NOTFOUND;
    case ENOMEM:
        return ERR_NOMEM;
    default:
        return ERR_IO;
    }
}

int fail_errno(const char *format, ...)
{
    int error = errno;
    char what[512];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return fail(code_of_errno(error), "%s: %s", what, strerror(error));
}

const char *err_message(void)
{
    return message;
}

const char *err_name(int code)
{
    return code >= 0 && (size_t)code < sizeof table / sizeof table[0] ? table[code].name
                                                                      : "UNKNOWN";
}

const char *err_text(int code)
{
    return code >= 0 && (size_t)code < sizeof table / sizeof table[0] ? table[code].text
                                                                      : "unknown error";
}

int err_exit_code(int code)
{
    return code >= 0 && (size_t)code < sizeof table / sizeof table[0] ? table[code].exit_code : 5;
}
