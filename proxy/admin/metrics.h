/*
 * metrics: a snapshot as Prometheus reads it (design: section 10). Names are a promise to whoever
 * has them in dashboards and alerts: section METRICS of splitmx(8) lists them.
 */
#ifndef SPLITMX_PROXY_ADMIN_METRICS_H
#define SPLITMX_PROXY_ADMIN_METRICS_H

#include "proxy/admin/snapshot.h"

/* The caller frees; NULL: no memory. */
char *metrics_text(const struct snapshot *snapshot, size_t *size);

#endif
