/*
 * quota: counts by key, for the whole process, in a fixed table without locks (design: sections 3
 * and 11).
 *
 * A cell packs the key's tag and its count into one 64-bit word; an empty count frees the cell.
 * Two threads that meet a new key at once may give it two cells; then a limit is overrun by at most
 * the number of threads. Thread: all. Memory is fixed at creation.
 */
#ifndef SPLITMX_PROXY_SESSION_QUOTA_H
#define SPLITMX_PROXY_SESSION_QUOTA_H

#include <stdint.h>

#include "config/net_address.h"

struct quota;

/* For at most `keys` keys at once; seed keeps strangers from aiming at one cell. NULL: no memory.
 */
struct quota *quota_new(size_t keys, uint64_t seed);
void quota_free(struct quota *quota);

/* A cell to give back; QUOTA_NONE where none was taken. */
typedef uint32_t quota_cell;
#define QUOTA_NONE UINT32_MAX

/* Adds one to the key's count unless it has reached limit. QUOTA_NONE: at the limit, or the table
 * is full. */
quota_cell quota_take(struct quota *quota, const void *key, size_t key_len, unsigned limit);
void quota_give(struct quota *quota, quota_cell cell); /* QUOTA_NONE is accepted */
unsigned quota_count(const struct quota *quota, const void *key, size_t key_len);

/* The key of a client: its IPv4 address or IPv6 /64. Returns the length; out holds 16 bytes. */
size_t quota_client_key(const struct net_address *address, unsigned char *out);

#endif
