/* arena.c - see arena.h. */
#include "base/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#define ALIGN 16u

struct arena_block {
    struct arena_block *next;
    size_t big; /* from malloc, not the slab */
};

_Static_assert(sizeof(struct arena_block) == ALIGN, "the first object of a block must be aligned");

static void *add_block(struct arena *arena, size_t bytes)
{
    size_t big = SLAB_PLAIN || bytes > SLAB_BYTES - sizeof(struct arena_block);
    struct arena_block *block = big ? malloc(sizeof *block + bytes) : slab_take();

    if (!block)
        return NULL;
    block->big = big;
    if (big && arena->blocks) { /* keeps the open block on top */
        block->next = arena->blocks->next;
        arena->blocks->next = block;
        return block + 1;
    }
    block->next = arena->blocks;
    arena->blocks = block;
    arena->at = (char *)(block + 1) + bytes;
    arena->end = big ? arena->at : (char *)block + SLAB_BYTES;
    return block + 1;
}

void *arena_alloc(struct arena *arena, size_t bytes)
{
    char *p = arena->at;

    if (!bytes)
        bytes = 1;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    bytes = (bytes + ALIGN - 1) & ~(size_t)(ALIGN - 1);
    if (SLAB_PLAIN || bytes > (size_t)(arena->end - p))
        return add_block(arena, bytes);
    arena->at += bytes;
    return p;
}

void arena_trim(struct arena *arena, void *end)
{
    char *at = (char *)(((uintptr_t)end + ALIGN - 1) & ~(uintptr_t)(ALIGN - 1));

    if (!SLAB_PLAIN && at <= arena->at && at > arena->end - SLAB_BYTES)
        arena->at = at;
}

struct slice arena_copy(struct arena *arena, struct slice s)
{
    char *p = arena_alloc(arena, s.len ? s.len : 1);

    if (!p)
        return slice_of(NULL, 0);
    if (s.len)
        memcpy(p, s.ptr, s.len);
    return slice_of(p, s.len);
}

void arena_free(struct arena *arena)
{
    struct arena_block *block = arena->blocks;

    while (block) {
        struct arena_block *next = block->next;

        if (block->big)
            free(block);
        else
            slab_give(block);
        block = next;
    }
    *arena = (struct arena){0};
}
