/* Where a store is, as `sync` takes it: a path, tcp:HOST:PORT[/STORE-ID], ssh:HOST:PATH. */
#ifndef SHIPLOG_TOOLS_PLACE_H
#define SHIPLOG_TOOLS_PLACE_H

#include "agent/address.h"

#include <stdint.h>

enum place_kind { PLACE_PATH, PLACE_TCP, PLACE_SSH };

struct place {
    enum place_kind kind;
    char address[ADDRESS_TEXT_SIZE]; /* tcp */
    uint64_t store;                  /* tcp: id; 0: not said */
    char host[256];                  /* ssh */
    const char *path;                /* path, ssh: within the text that was parsed */
};

int place_parse(const char *text, struct place *place); /* ERR_INVALID */

#endif
