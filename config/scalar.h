/*
 * scalar: sizes and times as the operator writes them, and back. Pure.
 */
#ifndef SPLITMX_CONFIG_SCALAR_H
#define SPLITMX_CONFIG_SCALAR_H

#include <stdint.h>

#include "config/span.h"

#define SCALAR_TEXT 32 /* enough for any size or time as text */

/* Bytes: digits, then nothing, K, M or G (powers of 1024, either case). False on anything else, or
 * when it does not fit. */
bool scalar_size(struct span text, uint64_t *bytes);

/* Milliseconds: digits and ms, s, m, h or d; "0" needs no unit. False on anything else. */
bool scalar_time(struct span text, uint64_t *milliseconds);

/* What was probably meant by a number with another unit, "50M" by "50 MB", "5m" by "5 minutes";
 * false when that is not known. */
bool scalar_size_meant(struct span text, char *out, size_t cap);
bool scalar_time_meant(struct span text, char *out, size_t cap);

/* The shortest exact form: "50M", "1000"; "5m", "1500ms", "0". */
void scalar_size_text(uint64_t bytes, char *out, size_t cap);
void scalar_time_text(uint64_t milliseconds, char *out, size_t cap);

/* What YAML takes for "nothing": an empty plain scalar, ~ or null. */
bool scalar_is_null(struct span text, bool plain);

#endif
