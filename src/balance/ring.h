/* ring.h - a consistent hash ring with virtual nodes.
 *
 * Invariants:
 * 1. A point is the hash of "NAME#i": only names and weights count, so any order of members gives the same
 *    ring, in every process and on every machine.
 * 2. A member has weight times virtual_nodes points, and those of a smaller weight are among those of a
 *    greater one: a change of one member moves keys from or to that member only.
 * 3. Two points of the same hash stand in the order of their names.
 * A ring never changes once made: any thread. It costs 12 bytes a point, and up to 8 more for its index. */
#ifndef BALANCE_RING_H
#define BALANCE_RING_H

#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define RING_POINTS_MAX ((size_t)1 << 26)

struct ring_member {
    struct slice name; /* unique in the ring; borrowed until ring_create returns */
    unsigned weight;
};

struct ring; /* private to ring.c */

/* NULL: no memory, or more than RING_POINTS_MAX points. */
struct ring *ring_create(const struct ring_member *members, size_t n, unsigned virtual_nodes);
void ring_free(struct ring *ring);

/* How many positions there are, which is also the most steps a walk needs to see every member. */
size_t ring_points(const struct ring *ring);

/* Where a key of this hash is at home: the first point at or after it, round the end. The ring has a
 * point. */
size_t ring_find(const struct ring *ring, uint64_t hash);
size_t ring_next(const struct ring *ring, size_t position);
/* The index, in the array that ring_create was given, of the member a position belongs to. */
size_t ring_member_at(const struct ring *ring, size_t position);

#endif
