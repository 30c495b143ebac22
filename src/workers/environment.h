/* environment.h - the variables that a process is given, and what it has with those of its parent. Any thread; pure but for
 * memory. */
#ifndef WORKERS_ENVIRONMENT_H
#define WORKERS_ENVIRONMENT_H

#include <stdbool.h>
#include <stddef.h>

#define ENVIRONMENT_BYTES 4096u

/* NAME=VALUE and a NUL, one after the other. Zeros: there is none. */
struct environment {
    char texts[ENVIRONMENT_BYTES];
    size_t bytes;
    unsigned n;
    bool full; /* one had no room */
};

void environment_add(struct environment *environment, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* All of more, and those of base that have none of their names; NULL after the last. The texts are borrowed, the array is the
 * caller's to free. NULL: no memory. */
char **environment_merge(char *const *base, char *const *more);

#endif
