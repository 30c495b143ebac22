/* slab.c - see slab.h. */
#include "base/slab.h"

#include <stdlib.h>

/* 4 MiB of warm blocks a thread; what a burst needed beyond that goes back to the system. */
#define SPARE_MAX 256

#if defined(__SANITIZE_ADDRESS__)
#define SLAB_PLAIN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SLAB_PLAIN 1
#endif
#endif
#ifndef SLAB_PLAIN
#define SLAB_PLAIN 0
#endif

static _Thread_local void *spare[SPARE_MAX];
static _Thread_local unsigned n_spare;

void *slab_take(void)
{
    if (n_spare)
        return spare[--n_spare];
    return malloc(SLAB_BYTES);
}

void slab_give(void *block)
{
    if (SLAB_PLAIN || n_spare == SPARE_MAX)
        free(block);
    else
        spare[n_spare++] = block;
}

void slab_trim(void)
{
    while (n_spare)
        free(spare[--n_spare]);
}
