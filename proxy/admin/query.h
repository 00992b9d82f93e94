/*
 * query: an address out of a URL. Pure.
 */
#ifndef SPLITMX_PROXY_ADMIN_QUERY_H
#define SPLITMX_PROXY_ADMIN_QUERY_H

#include "routing/address.h"

/* Takes what stands behind `address=` out of its percent encoding. NULL, or what is wrong with it,
 * in words that live for ever. */
const char *query_address(const char *encoded, char out[ADDRESS_MAX + 1]);

#endif
