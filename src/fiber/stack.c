/* stack.c - see stack.h.
 *
 * A slab is SLAB_STACKS stacks in one mapping, and a header from malloc that remembers the free ones.
 * Invariants: a slab is in with_room exactly when it has a free stack, else in full; at most one slab, the spare,
 * is wholly free. */
#include "fiber/stack.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fiber/context.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

#if defined(CONTEXT_ASAN) || defined(CONTEXT_TSAN)
#define STACK_SPAN (256u * 1024) /* guard and stack; instrumented frames are large */
#else
#define STACK_SPAN (32u * 1024)
#endif
#define SLAB_STACKS 64u
#define SLAB_SPAN ((size_t)STACK_SPAN * SLAB_STACKS)

/* mprotect splits a mapping in two: half of the default vm.max_map_count of 65530 is left to the rest. */
#define MPROTECT_GUARDS_MAX 16000

struct stack_slab {
    struct list list;
    char *base;
    unsigned n_guards; /* by mprotect */
    unsigned n_free;
    uint8_t free[SLAB_STACKS]; /* indexes, the next to go last */
};

static _Atomic unsigned mprotect_guards;

void stack_pool_init(struct stack_pool *pool)
{
    long page = sysconf(_SC_PAGESIZE);

    assert(page > 0 && page < (long)STACK_SPAN);
    pool->page_bytes = (size_t)page;
    list_init(&pool->with_room);
    list_init(&pool->full);
    pool->spare = NULL;
    pool->n_slabs = 0;
}

static void install_guard(struct stack_pool *pool, struct stack_slab *slab, char *guard)
{
    if (madvise(guard, pool->page_bytes, MADV_GUARD_INSTALL) == 0)
        return;
    if (atomic_load(&mprotect_guards) >= MPROTECT_GUARDS_MAX ||
        mprotect(guard, pool->page_bytes, PROT_NONE) != 0)
        return;
    atomic_fetch_add(&mprotect_guards, 1);
    slab->n_guards++;
}

static struct stack_slab *slab_create(struct stack_pool *pool)
{
    struct stack_slab *slab = malloc(sizeof *slab);

    if (!slab)
        return NULL;
    slab->base =
        mmap(NULL, SLAB_SPAN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (slab->base == MAP_FAILED) {
        free(slab);
        return NULL;
    }
    madvise(slab->base, SLAB_SPAN, MADV_NOHUGEPAGE); /* a huge page would make every stack resident */
    slab->n_guards = 0;
    for (unsigned i = 0; i < SLAB_STACKS; i++) {
        install_guard(pool, slab, slab->base + (size_t)i * STACK_SPAN);
        slab->free[i] = (uint8_t)(SLAB_STACKS - 1 - i);
    }
    slab->n_free = SLAB_STACKS;
    list_push_front(&pool->with_room, &slab->list);
    pool->n_slabs++;
    return slab;
}

static void slab_destroy(struct stack_pool *pool, struct stack_slab *slab)
{
    list_remove(&slab->list);
    atomic_fetch_sub(&mprotect_guards, slab->n_guards);
    munmap(slab->base, SLAB_SPAN);
    free(slab);
    pool->n_slabs--;
}

void stack_pool_free(struct stack_pool *pool)
{
    if (pool->spare)
        slab_destroy(pool, pool->spare);
    pool->spare = NULL;
    assert(pool->n_slabs == 0);
}

int stack_take(struct stack_pool *pool, struct stack *stack)
{
    struct stack_slab *slab;

    if (list_empty(&pool->with_room))
        slab = slab_create(pool);
    else
        slab = container_of(pool->with_room.next, struct stack_slab, list);
    if (!slab)
        return -ENOMEM;
    if (slab == pool->spare)
        pool->spare = NULL;
    stack->slab = slab;
    stack->low = slab->base + (size_t)slab->free[--slab->n_free] * STACK_SPAN + pool->page_bytes;
    stack->bytes = STACK_SPAN - pool->page_bytes;
    if (slab->n_free == 0) {
        list_remove(&slab->list);
        list_push_back(&pool->full, &slab->list);
    }
    return 0;
}

void stack_give(struct stack_pool *pool, const struct stack *stack)
{
    struct stack_slab *slab = stack->slab;

    if (slab->n_free == 0) {
        list_remove(&slab->list);
        list_push_front(&pool->with_room, &slab->list);
    }
    slab->free[slab->n_free++] = (uint8_t)((size_t)(stack->low - slab->base) / STACK_SPAN);
    if (slab->n_free < SLAB_STACKS)
        return;
    if (pool->spare) {
        slab_destroy(pool, slab);
        return;
    }
    /* Kept warm for the next burst, and the last to be used again. */
    pool->spare = slab;
    list_remove(&slab->list);
    list_push_back(&pool->with_room, &slab->list);
}
