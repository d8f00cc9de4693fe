#include "agent/address.h"

#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#define PORT_MAX 65535

static int refuse(const char *text)
{
    return fail(ERR_INVALID, "%s: not ADDRESS:PORT (numbers; IPv6 as [ADDRESS]:PORT)", text);
}

/* Only digits, and no more than a port has. */
static bool parse_port(const char *text, int *port)
{
    size_t size = strlen(text);
    if (size == 0 || size > 5 || strspn(text, "0123456789") != size)
        return false;
    *port = (int)strtol(text, NULL, 10);
    return *port <= PORT_MAX;
}

int address_parse(const char *text, struct sockaddr_storage *address)
{
    char host[64];
    int port;
    const char *colon = strrchr(text, ':');
    if (!colon || !parse_port(colon + 1, &port))
        return refuse(text);
    const char *start = text;
    size_t size = (size_t)(colon - text);
    bool brackets = size > 2 && text[0] == '[' && text[size - 1] == ']';
    if (brackets) {
        start++;
        size -= 2;
    }
    if (size == 0 || size >= sizeof host)
        return refuse(text);
    memcpy(host, start, size);
    host[size] = '\0';
    if (!brackets && strcmp(host, "localhost") == 0)
        memcpy(host, "127.0.0.1", sizeof "127.0.0.1");
    *address = (struct sockaddr_storage){0};
    int error = brackets ? uv_ip6_addr(host, port, (struct sockaddr_in6 *)address)
                         : uv_ip4_addr(host, port, (struct sockaddr_in *)address);
    return error ? refuse(text) : ERR_OK;
}

static unsigned port_of(const struct sockaddr_storage *address)
{
    return ntohs(address->ss_family == AF_INET6 ? ((const struct sockaddr_in6 *)address)->sin6_port
                                                : ((const struct sockaddr_in *)address)->sin_port);
}

void address_print(const struct sockaddr_storage *address, char out[ADDRESS_TEXT_SIZE])
{
    char host[64] = "?";
    bool six = address->ss_family == AF_INET6;
    uv_ip_name((const struct sockaddr *)address, host, sizeof host);
    snprintf(out, ADDRESS_TEXT_SIZE, six ? "[%s]:%u" : "%s:%u", host, port_of(address));
}

bool address_is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    uint32_t ip = ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr);
    return ip >> 24 == 127;
}

int address_to_listen(const char *text, struct sockaddr_storage *address)
{
    int rc = address_parse(text, address);
    if (rc == ERR_OK && !address_is_loopback(address))
        rc = fail(ERR_REFUSED, "%s: not loopback: mail would travel in plain text", text);
    return rc;
}

int address_to_follow(const char *text, struct sockaddr_storage *address)
{
    int rc = address_to_listen(text, address);
    if (rc == ERR_OK && port_of(address) == 0)
        rc = fail(ERR_INVALID, "%s: nobody can be found at port 0", text);
    return rc;
}
