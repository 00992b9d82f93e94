/*
 * require: what fuzz targets hold to be true of whatever they were given; libFuzzer keeps the input
 * of one that aborts.
 */
#ifndef SPLITMX_TESTS_FUZZ_REQUIRE_H
#define SPLITMX_TESTS_FUZZ_REQUIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "config/span.h"

static inline void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* No C0, no DEL. */
static inline void require_no_control(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        require((unsigned char)s.ptr[i] >= ' ' && s.ptr[i] != 0x7f);
    }
}

/* ' ' to '~' only. */
static inline void require_printable(struct span s)
{
    require_no_control(s);
    for (size_t i = 0; i < s.len; i++) {
        require((unsigned char)s.ptr[i] < 0x80);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
