/* environment.c - see environment.h. */
#include "workers/environment.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void environment_add(struct environment *environment, const char *name, const char *format, ...)
{
    size_t room = sizeof environment->texts - environment->bytes;
    int n = snprintf(environment->texts + environment->bytes, room, "%s=", name);
    size_t used = (size_t)n;
    va_list args;

    if (n < 0 || used >= room) {
        environment->full = true;
        return;
    }
    va_start(args, format);
    n = vsnprintf(environment->texts + environment->bytes + used, room - used, format, args);
    va_end(args);
    if (n < 0 || used + (size_t)n >= room) {
        environment->full = true;
        return;
    }
    environment->bytes += used + (size_t)n + 1;
    environment->n++;
}

static size_t count(char *const *texts)
{
    size_t n = 0;

    while (texts[n])
        n++;
    return n;
}

static bool has_name(char *const *texts, const char *variable)
{
    size_t bytes = strcspn(variable, "=") + 1;

    for (; *texts; texts++)
        if (strncmp(*texts, variable, bytes) == 0)
            return true;
    return false;
}

char **environment_merge(char *const *base, char *const *more)
{
    size_t n_more = count(more), n = n_more;
    char **merged = calloc(count(base) + n_more + 1, sizeof(char *));

    if (!merged)
        return NULL;
    memcpy(merged, more, n_more * sizeof(char *));
    for (; *base; base++)
        if (!has_name(more, *base))
            merged[n++] = *base;
    return merged;
}
