/* slab.c - see slab.h.
 *
 * The first REGION_BLOCKS blocks of a thread lie side by side in one region that asks for huge pages: with hundreds
 * of requests under way, a page each is more than the processor remembers, and every look at one costs a walk through
 * the page tables. The region is only resident as far as it was ever used. What a burst needs beyond it comes from
 * malloc and goes back there. */
#include "base/slab.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define REGION_BLOCKS 1024u
#define REGION_BYTES ((size_t)REGION_BLOCKS * SLAB_BYTES)
#define HUGE_PAGE ((size_t)2 << 20)

static _Thread_local char *region;  /* aligned to a huge page */
static _Thread_local void *mapping; /* what munmap gets back */
static _Thread_local unsigned used; /* blocks of the region that were ever taken */
static _Thread_local unsigned n_spare;
static _Thread_local void *spare[REGION_BLOCKS]; /* blocks of the region that are free, the warmest last */

static void open_region(void)
{
    mapping = mmap(NULL, REGION_BYTES + HUGE_PAGE, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED) {
        mapping = NULL;
        return;
    }
    region = (char *)mapping + (HUGE_PAGE - (uintptr_t)mapping % HUGE_PAGE) % HUGE_PAGE;
    madvise(region, REGION_BYTES, MADV_HUGEPAGE); /* without it everything works, a little slower */
}

void *slab_take(void)
{
    if (n_spare)
        return spare[--n_spare];
    if (!SLAB_PLAIN && !region)
        open_region();
    if (region && used < REGION_BLOCKS)
        return region + (size_t)used++ * SLAB_BYTES;
    return malloc(SLAB_BYTES);
}

void slab_give(void *block)
{
    if (region && (uintptr_t)block - (uintptr_t)region < REGION_BYTES)
        spare[n_spare++] = block;
    else
        free(block);
}

void slab_trim(void)
{
    if (n_spare != used) /* somebody still holds a block */
        return;
    if (mapping)
        munmap(mapping, REGION_BYTES + HUGE_PAGE);
    mapping = region = NULL;
    used = n_spare = 0;
}
