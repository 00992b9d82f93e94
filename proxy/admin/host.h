/*
 * host: whether the Host that an HTTP request names may be answered (DNS rebinding: a page from
 * elsewhere whose name leads to 127.0.0.1 would read what is here, but it cannot choose the Host
 * that the browser sends). Pure.
 */
#ifndef SPLITMX_PROXY_ADMIN_HOST_H
#define SPLITMX_PROXY_ADMIN_HOST_H

#include <stdbool.h>
#include <sys/socket.h>

/* `at`: our own address, that the request came in at. Where that is a loopback address, the Host,
 * with a port or without, has to be an IP address or a name of this machine: localhost,
 * *.localhost. NULL: there is none, so it is no browser that asks. */
bool host_is_fine(const struct sockaddr *at, const char *host);

#endif
