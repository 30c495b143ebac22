/* exact.h - what the harnesses share: input in heap blocks of its exact size, so that the address sanitizer sees a
 * look one byte too far. */
#ifndef FUZZ_EXACT_H
#define FUZZ_EXACT_H

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/slice.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The caller frees it with exact_free. */
static inline struct slice exact_copy(struct slice s)
{
    char *copy = malloc(s.len);

    assert(copy || !s.len);
    if (s.len)
        memcpy(copy, s.ptr, s.len);
    return slice_of(copy, s.len);
}

static inline void exact_free(struct slice s)
{
    free((char *)(uintptr_t)s.ptr);
}

#endif
