/* slab.h - blocks of 16 KiB, the one size that connections read into and exchanges live in.
 *
 * Each thread keeps its free blocks on a stack, so that a request touches the system's allocator never and warm
 * memory always. A block is given back on the thread that took it. Sanitizer builds go straight to malloc, so that
 * each block's life is seen. Errors: NULL when there is no memory. */
#ifndef BASE_SLAB_H
#define BASE_SLAB_H

#include <stddef.h>

#define SLAB_BYTES 16384u

/* 1 where every object is malloc's own, so that the address sanitizer sees its bounds and life. */
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

void *slab_take(void);
void slab_give(void *block);
/* Gives this thread's memory back to the system, when no block is out: before the thread ends. */
void slab_trim(void);

#endif
