/* series.c - see series.h. */
#include "admin/series.h"

#include <stddef.h>

#include "base/clock.h"

void series_init(struct series *series, uint64_t now_us)
{
    *series = (struct series){.last_us = now_us};
}

void series_init_with(struct series *series, const struct series_totals *totals, uint64_t now_us)
{
    *series = (struct series){.last = *totals, .last_us = now_us};
}

static uint32_t clamp(uint64_t n)
{
    return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static struct series_step step_since(const struct series *series, const struct series_totals *totals,
                                     uint64_t now_us)
{
    static const struct series_totals nothing;
    const struct series_totals *last = &series->last;
    struct series_step step = {.us = now_us > series->last_us ? now_us - series->last_us : 0};

    if (totals->requests < last->requests || totals->errors < last->errors)
        last = &nothing;
    step.requests = clamp(totals->requests - last->requests);
    step.errors = clamp(totals->errors - last->errors);
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t before = last->latency.buckets[i], n = totals->latency.buckets[i];

        step.buckets[i] = n > before ? clamp(n - before) : 0;
    }
    return step;
}

void series_add(struct series *series, const struct series_totals *totals, uint64_t now_us)
{
    if (now_us <= series->last_us)
        return;
    series->steps[series->next] = step_since(series, totals, now_us);
    series->next = (series->next + 1) % SERIES_SECONDS;
    series->last = *totals;
    series->last_us = now_us;
}

/* What a window is made of. */
struct sums {
    uint64_t us, requests, errors;
};

static void add_step(struct series_window *window, struct sums *sums, const struct series_step *step)
{
    sums->us += step->us;
    sums->requests += step->requests;
    sums->errors += step->errors;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
        window->latency.buckets[i] += step->buckets[i];
}

void series_add_window(struct series_window *window, const struct series *series,
                       const struct series_totals *totals, uint64_t now_us)
{
    struct series_step since = step_since(series, totals, now_us);
    struct sums sums = {0, 0, 0};
    double seconds;

    for (size_t i = 0; i < SERIES_SECONDS; i++)
        add_step(window, &sums, &series->steps[i]);
    add_step(window, &sums, &since);
    /* The first moments are no measure for a second. */
    seconds = (double)(sums.us < US_PER_S ? US_PER_S : sums.us) / US_PER_S;
    window->rate += (double)sums.requests / seconds;
    window->error_rate += (double)sums.errors / seconds;
}
