/*
 * intern: distinct byte strings, numbered from 0 in the order of their first coming.
 *
 * Not thread-safe. Memory grows with the distinct strings only.
 */
#ifndef SPLITMX_ROUTING_INTERN_H
#define SPLITMX_ROUTING_INTERN_H

#include <stdint.h>

#include "config/span.h"

struct intern;

enum intern_result { INTERN_NEW, INTERN_KNOWN, INTERN_NO_MEMORY };

struct intern *intern_new(void); /* NULL when memory is short */
void intern_free(struct intern *intern);

/* The number of `bytes`, which are copied when they are new. */
enum intern_result intern_add(struct intern *intern, struct span bytes, uint32_t *number);
uint32_t intern_count(const struct intern *intern);
struct span intern_at(const struct intern *intern, uint32_t number); /* lives as long as intern */

#endif
