/* slab.c - see slab.h. */
#include "base/slab.h"

#include <stdlib.h>

/* 16 MiB of warm blocks a thread; what a burst needed beyond that goes back to the system. */
#define SPARE_MAX 1024

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
