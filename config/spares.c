#include "config/spares.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "config/sanitizer.h"

#define KEPT (SANITIZED ? 0 : SPARES_KEPT)

/* In front of every block. */
struct spare {
    alignas(max_align_t) union {
        struct spares *owner; /* while it is in use */
        struct spare *next;   /* while it is kept */
    };
    size_t class;
};

/* SPARES_CLASSES: too large to be kept. */
static size_t class_of(size_t size)
{
    if (size <= SPARES_FINE) {
        return size == 0 ? 0 : (size - 1) / SPARES_STEP;
    }
    size_t class = SPARES_FINE / SPARES_STEP;
    for (size_t most = 2 * SPARES_FINE; size > most && class < SPARES_CLASSES; most *= 2) {
        class ++;
    }
    return class;
}

static size_t size_of(size_t class)
{
    const size_t fine = SPARES_FINE / SPARES_STEP;
    return class < fine ? (class + 1) * SPARES_STEP : (size_t)2 * SPARES_FINE << (class - fine);
}

void *spare_take(struct spares *spares, size_t size)
{
    const size_t class = class_of(size);
    struct spare *spare = class < SPARES_CLASSES ? spares->kept[class] : NULL;
    if (spare != NULL) {
        spares->kept[class] = spare->next;
        spares->count[class]--;
    } else {
        spare = malloc(sizeof *spare + (class < SPARES_CLASSES ? size_of(class) : size));
        if (spare == NULL) {
            return NULL;
        }
    }
    spare->class = class;
    spare->owner = spares;
    return spare + 1;
}

void *spare_new(struct spares *spares, size_t size)
{
    void *block = spare_take(spares, size);
    if (block != NULL) {
        memset(block, 0, size);
    }
    return block;
}

void spare_free(void *block)
{
    if (block == NULL) {
        return;
    }
    struct spare *spare = (struct spare *)block - 1;
    struct spares *spares = spare->owner;
    const size_t class = spare->class;
    if (class == SPARES_CLASSES || (spares->count[class] + 1) * size_of(class) > KEPT) {
        free(spare);
        return;
    }
    spare->next = spares->kept[class];
    spares->kept[class] = spare;
    spares->count[class]++;
}

void spares_release(struct spares *spares)
{
    for (size_t i = 0; i < SPARES_CLASSES; i++) {
        while (spares->kept[i] != NULL) {
            struct spare *next = spares->kept[i]->next;
            free(spares->kept[i]);
            spares->kept[i] = next;
        }
        spares->count[i] = 0;
    }
}
