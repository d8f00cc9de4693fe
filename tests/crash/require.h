/* For programs that end at the first thing wrong, and say where. */
#ifndef SHIPLOG_TESTS_CRASH_REQUIRE_H
#define SHIPLOG_TESTS_CRASH_REQUIRE_H

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("%s:%d: %s (%s)\n", __FILE__, __LINE__, #condition, err_message());             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
