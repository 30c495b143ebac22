/* histogram.c - see histogram.h.
 *
 * The bucket is found without a search: first[] says how many bounds are below the duration's highest bit, and no more
 * than BOUNDS_PER_OCTAVE bounds lie between one power of two and the next, so that as many comparisons settle it. */
#include "base/histogram.h"

#include <assert.h>
#include <math.h>

#define BOUNDS_PER_OCTAVE 3
#define OCTAVES 27 /* 2^26 us, 67 s, is over every bound */

const uint32_t histogram_bounds_us[HISTOGRAM_BOUNDS] = {
    50,       60,       75,       100,      150,      200,      250,     300,     400,      500,
    600,      750,      1000,     1500,     2000,     2500,     3000,    4000,    5000,     6000,
    7500,     10000,    15000,    20000,    25000,    30000,    40000,   50000,   60000,    75000,
    100000,   150000,   200000,   250000,   300000,   400000,   500000,  600000,  750000,   1000000,
    1500000,  2000000,  2500000,  3000000,  4000000,  5000000,  6000000, 7500000, 10000000, 15000000,
    20000000, 25000000, 30000000, 40000000, 50000000, 60000000,
};

const uint32_t histogram_otel_bounds_us[HISTOGRAM_OTEL_BOUNDS] = {
    5000,   10000,  25000,   50000,   75000,   100000,  250000,
    500000, 750000, 1000000, 2500000, 5000000, 7500000, 10000000,
};

/* How many bounds are below 2^n; at most so many that BOUNDS_PER_OCTAVE more are there to compare with. */
static const uint8_t first[OCTAVES] = {0,  0,  0,  0,  0,  0,  2,  4,  7,  10, 13, 15, 18, 21,
                                       23, 26, 29, 31, 34, 37, 40, 42, 45, 48, 50, 53, 53};

static unsigned bucket_of(uint64_t us)
{
    unsigned octave = 63 - (unsigned)__builtin_clzll(us | 1);
    unsigned bucket = first[octave < OCTAVES ? octave : OCTAVES - 1];
    const uint32_t *bound = &histogram_bounds_us[bucket];

    for (unsigned i = 0; i < BOUNDS_PER_OCTAVE; i++)
        bucket += us > bound[i];
    return bucket;
}

void histogram_add(struct histogram *histogram, uint64_t duration_us)
{
    counter_add(&histogram->buckets[bucket_of(duration_us)], 1);
    counter_add(&histogram->sum_us, duration_us);
}

void histogram_add_to(struct histogram_sum *sum, const struct histogram *histogram)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->buckets[i] += counter_get(&histogram->buckets[i]);
    sum->sum_us += counter_get(&histogram->sum_us);
}

void histogram_add_sum(struct histogram_sum *sum, const struct histogram_sum *other)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->buckets[i] += other->buckets[i];
    sum->sum_us += other->sum_us;
}

static void subtract(uint64_t *n, uint64_t earlier)
{
    *n = *n > earlier ? *n - earlier : 0;
}

void histogram_subtract(struct histogram_sum *sum, const struct histogram_sum *earlier)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        subtract(&sum->buckets[i], earlier->buckets[i]);
    subtract(&sum->sum_us, earlier->sum_us);
}

uint64_t histogram_count(const struct histogram_sum *sum)
{
    uint64_t count = 0;

    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        count += sum->buckets[i];
    return count;
}

double histogram_percentile(const struct histogram_sum *sum, double q)
{
    uint64_t count = histogram_count(sum);
    double rank = q * (double)count, before = 0, lower = 0;

    assert(q >= 0 && q <= 1);
    if (count == 0)
        return NAN;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        double upper = histogram_bounds_us[i], n = (double)sum->buckets[i];

        if (n > 0 && before + n >= rank)
            return lower + (upper - lower) * (rank - before) / n;
        before += n;
        lower = upper;
    }
    return lower;
}

void histogram_counts(const struct histogram_sum *sum, const uint32_t *bounds_us, size_t n, uint64_t *counts)
{
    uint64_t count = 0;
    size_t next = 0;

    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        count += sum->buckets[i];
        if (next < n && histogram_bounds_us[i] == bounds_us[next])
            counts[next++] = count;
    }
    assert(next == n);
    counts[next] = count + sum->buckets[HISTOGRAM_BOUNDS];
}
