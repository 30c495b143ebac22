/* names.c - see names.h. */
#include "config/names.h"

#include <stdlib.h>
#include <string.h>

struct names_entry {
    const char *name;
    size_t at;
};

static int compare_entries(const void *left, const void *right)
{
    const struct names_entry *a = left, *b = right;

    return strcmp(a->name, b->name);
}

bool names_open(struct names *names, const char *const *first, size_t n, size_t size)
{
    *names = (struct names){calloc(n + 1, sizeof *names->sorted), n};
    if (!names->sorted) {
        names->n = 0;
        return false;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name;

        memcpy(&name, (const char *)first + i * size, sizeof name);
        names->sorted[i] = (struct names_entry){name, i};
    }
    qsort(names->sorted, n, sizeof *names->sorted, compare_entries);
    return true;
}

size_t names_find(const struct names *names, const char *name)
{
    const struct names_entry key = {name, 0};
    const struct names_entry *entry = bsearch(&key, names->sorted, names->n, sizeof key, compare_entries);

    return entry ? entry->at : SIZE_MAX;
}

void names_close(struct names *names)
{
    free(names->sorted);
}
