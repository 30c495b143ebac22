/* pattern.h - regular expressions (PCRE2, bytes, unanchored) that cannot hold up the thread that matches with them.
 *
 * A pattern is compiled where the stack is large, which a fiber's is not, and constant from then on: any thread may match
 * with it, by a matcher of its own. The empty pattern matches nothing but the empty text, as RabbitMQ has it.
 * Matching is bounded in steps and memory: what takes more is no match. Compiled code is not made (no JIT): that would
 * run on the fiber's stack, and needs memory that is writable and executable. */
#ifndef BASE_PATTERN_H
#define BASE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/slice.h"

#define PATTERN_TEXT_MAX 4096
#define PATTERN_WHY_MAX 128

struct pattern;

struct pattern_error {
    size_t at;                 /* the byte of the text where it was noticed */
    char why[PATTERN_WHY_MAX]; /* ends in a NUL */
};

/* Where a pattern lives: take returns NULL when there is no memory, and arg frees what was taken when the pattern is not
 * needed any more. Nothing is given back before. */
struct pattern_room {
    void *(*take)(void *arg, size_t bytes);
    void *arg;
};

/* NULL: *error says why. Needs up to 200 KiB of stack. */
const struct pattern *pattern_compile(struct slice text, const struct pattern_room *room,
                                      struct pattern_error *error);

/* What a thread needs for matching. */
struct matcher;

/* NULL: no memory. */
struct matcher *matcher_create(void);
void matcher_free(struct matcher *matcher);

/* Whether the pattern matches anywhere in the text. False also where that took too many steps. */
bool matcher_matches(struct matcher *matcher, const struct pattern *pattern, struct slice text);

#endif
