/*
 * status_page: the status page, one HTML file that is part of the program (sources:
 * proxy/admin/page, joined by the Makefile), and the policy that lets a browser run its own style
 * and script and nothing else.
 */
#ifndef SPLITMX_PROXY_ADMIN_STATUS_PAGE_H
#define SPLITMX_PROXY_ADMIN_STATUS_PAGE_H

#include <stdbool.h>

#include "config/span.h"

#define STATUS_PAGE_TYPE   "text/html; charset=utf-8"
#define STATUS_PAGE_POLICY 320 /* room for the policy and its NUL */

/* What the Makefile has made of proxy/admin/page. */
extern const unsigned char status_page_bytes[];
extern const size_t status_page_bytes_size;

/* Lives for ever. Any thread. */
struct span status_page_html(void);

/* The value of Content-Security-Policy, with the hashes of what is in the page. False: it could
 * not be computed. Any thread. */
bool status_page_policy(char text[static STATUS_PAGE_POLICY]);

#endif
