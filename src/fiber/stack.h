/* stack.h - small stacks for fibers, cut from slabs, each with a guard below it.
 *
 * A stack costs only the pages it has touched. Guards are MADV_GUARD_INSTALL where the kernel has it (6.13),
 * which costs no mapping; else mprotect, for as many stacks as vm.max_map_count leaves room; the rest of that
 * kernel's stacks have none. A slab goes back to the system when none of its stacks is in use, but one spare.
 * A pool belongs to one thread. Errors: NULL when there is no memory. */
#ifndef FIBER_STACK_H
#define FIBER_STACK_H

#include <stddef.h>

#include "base/list.h"

struct stack_pool {
    struct list with_room; /* slabs that have a free stack */
    struct list full;
    struct stack_slab *spare; /* wholly free, kept; in with_room too */
    unsigned n_slabs;
    size_t page_bytes;
};

void stack_pool_init(struct stack_pool *pool);
void stack_pool_free(struct stack_pool *pool); /* every stack has been given back */

struct stack {
    char *low; /* the lowest usable byte */
    size_t bytes;
    struct stack_slab *slab;
};

int stack_take(struct stack_pool *pool, struct stack *stack); /* 0 or -ENOMEM */
void stack_give(struct stack_pool *pool, const struct stack *stack);

#endif
