/*
 * page_json: a snapshot as the status page reads it. Times are Unix seconds, durations
 * milliseconds; null is what is not known.
 */
#ifndef SPLITMX_PROXY_ADMIN_PAGE_JSON_H
#define SPLITMX_PROXY_ADMIN_PAGE_JSON_H

#include "proxy/admin/snapshot.h"

/* The caller frees; NULL: no memory. Admin thread. */
char *page_json(const struct snapshot *snapshot);

/* {"error":"…"}; the same. */
char *page_json_error(const char *words);

#endif
