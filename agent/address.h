/* Addresses as they are typed: ADDRESS:PORT, [ADDRESS]:PORT for IPv6, localhost:PORT. Names are
 * looked up by nobody here. */
#ifndef SHIPLOG_AGENT_ADDRESS_H
#define SHIPLOG_AGENT_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#define ADDRESS_TEXT_SIZE 80 /* of a printed address with its NUL */

int address_parse(const char *text, struct sockaddr_storage *address); /* ERR_INVALID */
void address_print(const struct sockaddr_storage *address, char out[ADDRESS_TEXT_SIZE]);
bool address_is_loopback(const struct sockaddr_storage *address);

/* As address_parse(), and within what is allowed: ERR_REFUSED. Port 0 may be listened on, not
 * followed. */
int address_to_listen(const char *text, struct sockaddr_storage *address);
int address_to_follow(const char *text, struct sockaddr_storage *address);

#endif
