/* recent.h - the latest n things that happened, found by a hash: who sent which key, how a message ended.
 *
 * First in, first out: a new one takes the place of the oldest when all places are taken. Items are of one size, copied in,
 * and begin with their hash. Memory grows with use up to the most. Threads: belongs to its thread. */
#ifndef QUEUE_RECENT_H
#define QUEUE_RECENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct recent_item {
    uint64_t hash;
};

struct recent {
    char *items;       /* owned; a ring of room places */
    uint32_t *chains;  /* per place: the next older one of its bucket, plus one */
    uint32_t *buckets; /* as many as places: the youngest, plus one */
    size_t item_bytes;
    uint32_t room, most;  /* powers of two */
    uint64_t first, next; /* of all that were ever added: those that are there */
};

void recent_init(struct recent *recent, size_t item_bytes, uint32_t most);
void recent_free(struct recent *recent);

/* False: no memory, and it is not there. */
bool recent_add(struct recent *recent, const struct recent_item *item);
/* The youngest with the hash for which is_it says yes; good until the next add. NULL: none. */
struct recent_item *recent_find(const struct recent *recent, uint64_t hash,
                                bool (*is_it)(const struct recent_item *item, const void *wanted),
                                const void *wanted);
/* From 0, the oldest; NULL: no more. */
struct recent_item *recent_at(const struct recent *recent, uint64_t i);
void recent_drop_oldest(struct recent *recent);

#endif
