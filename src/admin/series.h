/* series.h - what was counted in the last seconds: the difference between now and some seconds ago.
 *
 * Somebody adds the totals of one thing, which only grow, about once a second. A total that shrank belongs to another
 * thing of that name, which began at nothing. One series takes 3 KiB. Pure: time is an argument; one thread at a time. */
#ifndef ADMIN_SERIES_H
#define ADMIN_SERIES_H

#include "base/histogram.h"

#define SERIES_SECONDS 10

struct series_totals {
    uint64_t requests, errors;
    struct histogram_sum latency;
};

/* What came between two additions. More than fits counts as the most that does. */
struct series_step {
    uint64_t us;
    uint32_t requests, errors;
    uint32_t buckets[HISTOGRAM_BUCKETS];
};

struct series {
    struct series_totals last;
    uint64_t last_us;
    unsigned next; /* the step that is written next; one that took no time is not there */
    struct series_step steps[SERIES_SECONDS];
};

/* Of one thing, or of several together. All zeros: of nothing. */
struct series_window {
    double rate, error_rate; /* per second */
    struct histogram_sum latency;
};

/* The thing began at nothing after now_us. */
void series_init(struct series *series, uint64_t now_us);
/* It counted totals by now_us, nobody knows in what time: only what comes later is looked at. */
void series_init_with(struct series *series, const struct series_totals *totals, uint64_t now_us);
void series_add(struct series *series, const struct series_totals *totals, uint64_t now_us);
/* Adds to window what came in the last steps and since, totals being those of now. */
void series_add_window(struct series_window *window, const struct series *series,
                       const struct series_totals *totals, uint64_t now_us);

#endif
