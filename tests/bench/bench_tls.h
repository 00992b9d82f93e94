/*
 * bench_tls: the TLS contexts of the load generator and the sink: the program's own, without a
 * configuration file.
 */
#ifndef SPLITMX_TESTS_BENCH_BENCH_TLS_H
#define SPLITMX_TESTS_BENCH_BENCH_TLS_H

#include "tls/context.h"

/* For clients that verify nothing and, where a certificate is given, for servers: paths of PEM
 * files. NULL, said on standard error, when they cannot be had. */
struct tls_contexts *bench_tls_new(const char *certificate, const char *key);

#endif
