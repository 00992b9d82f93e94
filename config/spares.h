/*
 * spares: memory that one thread gives back and takes again. What every message needs for a while
 * is so not asked of the allocator with every message: once a server is warm it takes none.
 *
 * Blocks that are kept are bounded (SPARES_KEPT in each class of sizes); what is beyond goes back
 * to the allocator. With a sanitizer nothing is kept, so that it sees what is used after its end.
 * Thread: all calls with one `spares` from one thread, spare_free too.
 */
#ifndef SPLITMX_CONFIG_SPARES_H
#define SPLITMX_CONFIG_SPARES_H

#include <stddef.h>

/* Bytes of one class that are kept at most. */
#define SPARES_KEPT ((size_t)256 * 1024)
/* Classes: up to SPARES_FINE bytes in steps of SPARES_STEP, then by doubling up to SPARES_LARGEST;
 * what is larger is never kept. */
#define SPARES_STEP    128
#define SPARES_FINE    4096
#define SPARES_LARGEST 32768
#define SPARES_CLASSES (SPARES_FINE / SPARES_STEP + 3)

struct spare;

struct spares {
    struct spare *kept[SPARES_CLASSES];
    unsigned count[SPARES_CLASSES];
};

/* `spares` is all zero at first. NULL: memory is short. The bytes are zero with spare_new, anything
 * with spare_take. */
void *spare_new(struct spares *spares, size_t size);
void *spare_take(struct spares *spares, size_t size);
/* Back to the spares it is from, which must be there still. NULL is accepted. */
void spare_free(void *block);

/* Frees what is kept. What is still in use stays valid, and may be given back. */
void spares_release(struct spares *spares);

#endif
