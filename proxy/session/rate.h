/*
 * rate: how often a key came in the running minute, for the whole process, in a fixed table without
 * locks (design: sections 6 and 11).
 *
 * A minute is one of the clock's, so that up to twice the limit may fall into sixty seconds. In a
 * full table a new key is refused. Thread: all, but for new and free.
 */
#ifndef SPLITMX_PROXY_SESSION_RATE_H
#define SPLITMX_PROXY_SESSION_RATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rate;

/* For some `keys` keys a minute; seed keeps strangers from aiming at one cell. NULL: no memory. */
struct rate *rate_new(size_t keys, uint64_t seed);
void rate_free(struct rate *rate);

/* Counts one at `now` (milliseconds); false, and nothing, where the minute has had `limit`, at most
 * 255. */
bool rate_take(struct rate *rate, const void *key, size_t key_len, unsigned limit, uint64_t now);

#endif
