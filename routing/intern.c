#include "routing/intern.h"

#include <stdlib.h>

#include "config/hash.h"

#define EMPTY UINT32_MAX

struct intern {
    struct span *items; /* owned copies */
    uint32_t count;
    uint32_t room;
    uint32_t *slots;     /* open addressing; item numbers or EMPTY */
    uint32_t slot_count; /* a power of two, at least twice count */
};

/* The slot that holds `bytes`, or the empty one where it belongs. */
static uint32_t *find_slot(const struct intern *intern, struct span bytes)
{
    uint32_t mask = intern->slot_count - 1;
    uint32_t at = (uint32_t)hash_own(bytes.ptr, bytes.len) & mask;
    while (intern->slots[at] != EMPTY && !span_equal(intern->items[intern->slots[at]], bytes)) {
        at = (at + 1) & mask;
    }
    return &intern->slots[at];
}

static bool grow(struct intern *intern)
{
    if (intern->count < intern->room) {
        return true;
    }
    if (intern->room > UINT32_MAX / 8) {
        return false;
    }
    uint32_t room = intern->room ? intern->room * 2 : 16;
    struct span *items = realloc(intern->items, room * sizeof(*items));
    if (!items) {
        return false;
    }
    intern->items = items;
    uint32_t *slots = malloc((size_t)room * 2 * sizeof(*slots));
    if (!slots) {
        return false;
    }
    free(intern->slots);
    intern->slots = slots;
    intern->slot_count = room * 2;
    intern->room = room;
    for (uint32_t i = 0; i < intern->slot_count; i++) {
        slots[i] = EMPTY;
    }
    for (uint32_t i = 0; i < intern->count; i++) {
        *find_slot(intern, items[i]) = i;
    }
    return true;
}

struct intern *intern_new(void)
{
    return calloc(1, sizeof(struct intern));
}

void intern_free(struct intern *intern)
{
    if (!intern) {
        return;
    }
    for (uint32_t i = 0; i < intern->count; i++) {
        free((char *)(uintptr_t)intern->items[i].ptr);
    }
    free(intern->items);
    free(intern->slots);
    free(intern);
}

enum intern_result intern_add(struct intern *intern, struct span bytes, uint32_t *number)
{
    if (!grow(intern)) {
        return INTERN_NO_MEMORY;
    }
    uint32_t *slot = find_slot(intern, bytes);
    if (*slot != EMPTY) {
        *number = *slot;
        return INTERN_KNOWN;
    }
    const char *copy = span_dup(bytes);
    if (!copy) {
        return INTERN_NO_MEMORY;
    }
    intern->items[intern->count] = span_make(copy, bytes.len);
    *slot = intern->count;
    *number = intern->count++;
    return INTERN_NEW;
}

uint32_t intern_count(const struct intern *intern)
{
    return intern->count;
}

struct span intern_at(const struct intern *intern, uint32_t number)
{
    return intern->items[number];
}
