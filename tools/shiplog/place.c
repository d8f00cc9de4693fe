#include "tools/shiplog/place.h"

#include "base/err.h"
#include "tools/shiplog/cli.h"

#include <stdio.h>
#include <string.h>

static int parse_tcp(const char *text, struct place *place)
{
    char id[20];
    const char *slash = strchr(text, '/');
    size_t size = slash ? (size_t)(slash - text) : strlen(text);
    if (size == 0 || size >= sizeof place->address)
        return fail(ERR_INVALID, "tcp:%s: not tcp:HOST:PORT[/STORE]", text);
    snprintf(place->address, sizeof place->address, "%.*s", (int)size, text);
    place->kind = PLACE_TCP;
    if (!slash)
        return ERR_OK;
    snprintf(id, sizeof id, "id:%.16s", slash + 1);
    if (strlen(slash + 1) != 16 || !cli_parse_id(id, &place->store))
        return fail(ERR_INVALID, "%s: not a store's id of 16 hexadecimal digits", slash + 1);
    return ERR_OK;
}

int place_parse(const char *text, struct place *place)
{
    *place = (struct place){.path = text};
    if (strncmp(text, "tcp:", 4) == 0)
        return parse_tcp(text + 4, place);
    if (strncmp(text, "ssh:", 4) != 0)
        return ERR_OK;
    const char *colon = strchr(text + 4, ':');
    size_t size = colon ? (size_t)(colon - text - 4) : 0;
    /* A host that begins with a dash would be an option of ssh's. */
    if (size == 0 || size >= sizeof place->host || !colon[1] || text[4] == '-')
        return fail(ERR_INVALID, "%s: not ssh:HOST:PATH", text);
    snprintf(place->host, sizeof place->host, "%.*s", (int)size, text + 4);
    place->path = colon + 1;
    place->kind = PLACE_SSH;
    return ERR_OK;
}
