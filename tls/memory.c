#include "tls/memory.h"

#include <openssl/crypto.h>
#include <stdlib.h>

static _Thread_local bool was_short;

static void *note(void *block)
{
    if (block == NULL) {
        was_short = true;
    }
    return block;
}

static void *on_malloc(size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return note(malloc(size));
}

/* The library frees by itself what it wants no bytes of. */
static void *on_realloc(void *block, size_t size, const char *file, int line)
{
    (void)file;
    (void)line;
    return note(realloc(block, size));
}

static void on_free(void *block, const char *file, int line)
{
    (void)file;
    (void)line;
    free(block);
}

void tls_memory_watch(void)
{
    CRYPTO_set_mem_functions(on_malloc, on_realloc, on_free);
}

void tls_memory_clear(void)
{
    was_short = false;
}

bool tls_memory_was_short(void)
{
    return was_short;
}
