/* names.h - the names of an array of sections, sorted, to find one of them. One thread at a time. */
#ifndef CONFIG_NAMES_H
#define CONFIG_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct names {
    struct names_entry *sorted; /* owned */
    size_t n;
};

/* first is where the first section keeps its name, size how far the next one is. The names are borrowed. False: no memory; it
 * is to be closed all the same. */
bool names_open(struct names *names, const char *const *first, size_t n, size_t size);
/* Where the section of that name stands in the array; SIZE_MAX: there is none. */
size_t names_find(const struct names *names, const char *name);
void names_close(struct names *names);

#endif
