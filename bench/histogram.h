/* histogram.h - latencies in nanoseconds, in buckets: below 64 exact, above with 64 steps per power of two (1.6 %). */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define STEP_BITS 6
#define BUCKETS ((64 - STEP_BITS + 1) << STEP_BITS)

struct histogram {
    uint64_t count, max_ns;
    uint64_t buckets[BUCKETS];
};

static inline unsigned bucket_of(uint64_t ns)
{
    unsigned shift;

    if (ns < (1u << STEP_BITS))
        return (unsigned)ns;
    shift = 63u - (unsigned)__builtin_clzll(ns) - STEP_BITS;
    return ((shift + 1) << STEP_BITS) + (unsigned)(ns >> shift) - (1u << STEP_BITS);
}

/* The lowest value that falls into the bucket. */
static inline uint64_t bucket_floor(unsigned bucket)
{
    unsigned shift = bucket >> STEP_BITS;
    uint64_t step = bucket & ((1u << STEP_BITS) - 1);

    return shift == 0 ? step : (step + (1u << STEP_BITS)) << (shift - 1);
}

static inline void histogram_add(struct histogram *h, uint64_t ns)
{
    h->count++;
    h->buckets[bucket_of(ns)]++;
    if (ns > h->max_ns)
        h->max_ns = ns;
}

static inline double histogram_us(const struct histogram *h, double share)
{
    uint64_t left = (uint64_t)((double)h->count * share);

    for (unsigned i = 0; i < BUCKETS; i++) {
        if (h->buckets[i] > left)
            return (double)bucket_floor(i) / 1e3;
        left -= h->buckets[i];
    }
    return (double)h->max_ns / 1e3;
}

#endif
