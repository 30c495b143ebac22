/* arena.h - memory that is freed all at once: what one exchange needs besides its body.
 *
 * Blocks come from the thread's slab; an arena stays on its thread. What it hands out is 16-byte aligned, not
 * zeroed, and lives until arena_free. Errors: NULL when there is no memory. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/slab.h"
#include "base/slice.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    char *at, *end;
};

/* An arena of zeros is empty and ready. */
void *arena_alloc(struct arena *arena, size_t bytes);
/* Gives back what lies behind end, in what was handed out last. */
void arena_trim(struct arena *arena, void *end);
/* A copy of s; ptr NULL when there is no memory. */
struct slice arena_copy(struct arena *arena, struct slice s);
void arena_free(struct arena *arena);

#endif
