/* ring.c - see ring.h.
 *
 * Look-up: the top bits of a hash give, by an index of about one entry per point, the first point that may
 * be it; from there the points are looked at in order. Hashes being even, that is one or two steps
 * whatever the size. Hashes and members are kept apart so that a look-up touches as few cache lines as it
 * can. */
#include "balance/ring.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

#define INDEX_BITS_MAX 20
#define NUMBER_TEXT_MAX 12 /* '#', ten digits, NUL */

struct ring {
    size_t n_points;
    unsigned shift;    /* what is left after it are the index's bits */
    uint32_t *index;   /* by top bits: the first point whose top bits are not below them */
    uint64_t *hashes;  /* rising */
    uint32_t *members; /* beside hashes */
};

struct point {
    uint64_t hash;
    uint32_t rank; /* of the member's name, among all sorted */
};

struct ranked {
    struct slice name;
    uint32_t member;
};

static int ranked_compare(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    size_t shorter = a->name.len < b->name.len ? a->name.len : b->name.len;
    int order = shorter ? memcmp(a->name.ptr, b->name.ptr, shorter) : 0;

    return order ? order : (a->name.len > b->name.len) - (a->name.len < b->name.len);
}

static int point_compare(const void *left, const void *right)
{
    const struct point *a = left, *b = right;

    if (a->hash != b->hash)
        return a->hash > b->hash ? 1 : -1;
    return (a->rank > b->rank) - (a->rank < b->rank);
}

/* Writes count points of one name; false: no memory. */
static bool points_of_name(struct point *points, size_t count, struct slice name, uint32_t rank)
{
    char *text = malloc(name.len + NUMBER_TEXT_MAX);

    if (!text)
        return false;
    if (name.len)
        memcpy(text, name.ptr, name.len);
    for (size_t i = 0; i < count; i++) {
        int digits = snprintf(text + name.len, NUMBER_TEXT_MAX, "#%zu", i);

        points[i] = (struct point){hash_bytes(slice_of(text, name.len + (size_t)digits)), rank};
    }
    free(text);
    return true;
}

static struct ranked *ranks_create(const struct ring_member *members, size_t n)
{
    struct ranked *ranks = malloc((n ? n : 1) * sizeof *ranks);

    if (!ranks)
        return NULL;
    for (size_t i = 0; i < n; i++)
        ranks[i] = (struct ranked){members[i].name, (uint32_t)i};
    qsort(ranks, n, sizeof *ranks, ranked_compare);
    return ranks;
}

static struct point *points_create(const struct ring_member *members, const struct ranked *ranks, size_t n,
                                   unsigned virtual_nodes, size_t n_points)
{
    struct point *points = malloc((n_points ? n_points : 1) * sizeof *points);
    size_t at = 0;

    if (!points)
        return NULL;
    for (size_t rank = 0; rank < n; rank++) {
        size_t count = (size_t)members[ranks[rank].member].weight * virtual_nodes;

        if (!points_of_name(points + at, count, ranks[rank].name, (uint32_t)rank)) {
            free(points);
            return NULL;
        }
        at += count;
    }
    qsort(points, n_points, sizeof *points, point_compare);
    return points;
}

static void index_fill(struct ring *ring)
{
    size_t entries = (size_t)1 << (64 - ring->shift);
    size_t at = 0;

    for (size_t i = 0; i < entries; i++) {
        while (at < ring->n_points && ring->hashes[at] >> ring->shift < i)
            at++;
        ring->index[i] = (uint32_t)at;
    }
}

/* A ring with room for n_points, its arrays not filled. */
static struct ring *ring_alloc(size_t n_points)
{
    struct ring *ring = calloc(1, sizeof *ring);
    unsigned bits = 1;

    if (!ring)
        return NULL;
    while (bits < INDEX_BITS_MAX && (size_t)1 << bits < n_points)
        bits++;
    ring->n_points = n_points;
    ring->shift = 64 - bits;
    ring->index = malloc(((size_t)1 << bits) * sizeof *ring->index);
    ring->hashes = malloc((n_points ? n_points : 1) * sizeof *ring->hashes);
    ring->members = malloc((n_points ? n_points : 1) * sizeof *ring->members);
    if (!ring->index || !ring->hashes || !ring->members) {
        ring_free(ring);
        return NULL;
    }
    return ring;
}

struct ring *ring_create(const struct ring_member *members, size_t n, unsigned virtual_nodes)
{
    uint64_t n_points = 0;
    struct ranked *ranks;
    struct point *points = NULL;
    struct ring *ring = NULL;

    for (size_t i = 0; i < n; i++) {
        n_points += (uint64_t)members[i].weight * virtual_nodes;
        if (n_points > RING_POINTS_MAX)
            return NULL;
    }
    ranks = ranks_create(members, n);
    if (ranks)
        points = points_create(members, ranks, n, virtual_nodes, (size_t)n_points);
    if (points)
        ring = ring_alloc((size_t)n_points);
    if (ring) {
        for (size_t i = 0; i < ring->n_points; i++) {
            ring->hashes[i] = points[i].hash;
            ring->members[i] = ranks[points[i].rank].member;
        }
        index_fill(ring);
    }
    free(points);
    free(ranks);
    return ring;
}

void ring_free(struct ring *ring)
{
    if (!ring)
        return;
    free(ring->index);
    free(ring->hashes);
    free(ring->members);
    free(ring);
}

size_t ring_points(const struct ring *ring)
{
    return ring->n_points;
}

size_t ring_find(const struct ring *ring, uint64_t hash)
{
    size_t at = ring->index[hash >> ring->shift];

    assert(ring->n_points > 0);
    while (at < ring->n_points && ring->hashes[at] < hash)
        at++;
    return at < ring->n_points ? at : 0;
}

size_t ring_next(const struct ring *ring, size_t position)
{
    return position + 1 < ring->n_points ? position + 1 : 0;
}

size_t ring_member_at(const struct ring *ring, size_t position)
{
    assert(position < ring->n_points);
    return ring->members[position];
}
