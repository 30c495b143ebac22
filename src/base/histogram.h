/* histogram.h - how long things took: durations counted in buckets with fixed bounds.
 *
 * The bounds go from 50 us to 60 s, nine a decade, and hold all of OpenTelemetry's for HTTP, so that one histogram gives both
 * percentiles for people and exact buckets for Prometheus. A bound belongs to its bucket ("le"). One bucket more takes
 * what is over the last bound.
 * Threads: a struct histogram is written by one thread and read by any (counter.h): a reader may see a duration counted
 * whose time is not in the sum yet. A struct histogram_sum belongs to its thread. */
#ifndef BASE_HISTOGRAM_H
#define BASE_HISTOGRAM_H

#include <stddef.h>

#include "base/counter.h"

#define HISTOGRAM_BOUNDS 56
#define HISTOGRAM_BUCKETS (HISTOGRAM_BOUNDS + 1)
#define HISTOGRAM_OTEL_BOUNDS 14

/* All zeros is an empty one. */
struct histogram {
    struct counter buckets[HISTOGRAM_BUCKETS];
    struct counter sum_us;
};

/* What one or several histograms held at a moment, or between two. All zeros is an empty one. */
struct histogram_sum {
    uint64_t buckets[HISTOGRAM_BUCKETS];
    uint64_t sum_us;
};

/* Ascending, in microseconds. */
extern const uint32_t histogram_bounds_us[HISTOGRAM_BOUNDS];
extern const uint32_t histogram_otel_bounds_us[HISTOGRAM_OTEL_BOUNDS];

void histogram_add(struct histogram *histogram, uint64_t duration_us);

void histogram_add_to(struct histogram_sum *sum, const struct histogram *histogram);
void histogram_add_sum(struct histogram_sum *sum, const struct histogram_sum *other);
/* Takes away what the same histograms held earlier: what came since is left. Where there was more earlier, because a
 * histogram went away in between, nothing is. */
void histogram_subtract(struct histogram_sum *sum, const struct histogram_sum *earlier);

uint64_t histogram_count(const struct histogram_sum *sum);
/* In microseconds, q from 0 to 1, the bucket taken as evenly filled. Over the last bound it is the last bound.
 * NAN: nothing was counted. */
double histogram_percentile(const struct histogram_sum *sum, double q);
/* How many took at most as long as each of n bounds, which are some of histogram_bounds_us; counts[n] is all (Prometheus'
 * "+Inf"). */
void histogram_counts(const struct histogram_sum *sum, const uint32_t *bounds_us, size_t n, uint64_t *counts);

#endif
