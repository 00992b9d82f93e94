/*
 * recent: a set of short strings that may forget, for work that need not be done twice.
 *
 * Each string has two slots, which it shares with others: those who came last have them. Not
 * thread-safe.
 */
#ifndef SPLITMX_ROUTING_RECENT_H
#define SPLITMX_ROUTING_RECENT_H

#include "config/span.h"

#define RECENT_TEXT 63 /* longer strings are not remembered */

struct recent;

/* `slots`, a power of two, of 64 bytes each. NULL when memory is short: a set that remembers
 * nothing, which the functions below accept. */
struct recent *recent_new(size_t slots);
void recent_free(struct recent *recent);

/* Whether the string was added, and is not forgotten. Never true of one that was not added. */
bool recent_has(const struct recent *recent, struct span text);
void recent_add(struct recent *recent, struct span text);

#endif
