/*
 * sanitizer: whether this program is built with one that looks at its memory or threads (ASan,
 * TSan).
 */
#ifndef SPLITMX_CONFIG_SANITIZER_H
#define SPLITMX_CONFIG_SANITIZER_H

#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED true
#else
#define SANITIZED false
#endif

#endif
