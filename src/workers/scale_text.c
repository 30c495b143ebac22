/* scale_text.c - a decision in words: what it was reckoned from, and what came between the wish and the number. */
#include <stdarg.h>
#include <stdio.h>

#include "workers/scale_private.h"

#define SECOND_US 1e6

static const char *const names[SCALE_WHYS] = {
    [SCALE_ENOUGH] = "enough",     [SCALE_BOUNDS] = "bounds", [SCALE_GROW] = "grow",
    [SCALE_GROW_AGE] = "grow-age", [SCALE_SHRINK] = "shrink", [SCALE_STEP] = "step",
    [SCALE_COOLDOWN] = "cooldown", [SCALE_BUSY] = "busy",     [SCALE_AT_MAX] = "at-max",
    [SCALE_CRASHING] = "crashing", [SCALE_GAUGE] = "gauge",
};

const char *scale_why_name(enum scale_why why)
{
    return names[why];
}

/* A text that is cut off where it is full. */
struct text {
    char *to;
    size_t n;
};

static void add(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void add(struct text *text, const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(text->to + text->n, SCALE_TEXT_MAX - text->n, format, arguments);
    va_end(arguments);
    if (n > 0)
        text->n = (size_t)n < SCALE_TEXT_MAX - text->n ? text->n + (size_t)n : SCALE_TEXT_MAX - 1;
}

/* Two digits that say something, and no more than people read. */
static int decimals(double value)
{
    if (value >= 9.95)
        return 0;
    if (value >= 0.0995)
        return 2;
    return value >= 0.00995 ? 3 : 4;
}

static void add_rate(struct text *text, double rate)
{
    add(text, "%.*f/s", rate >= 9.95 ? 0 : 1, rate);
}

static void add_formula(struct text *text, const struct scale_reckoning *r)
{
    const struct scale_limits *limits = r->limits;
    unsigned long long ready = r->sight->ready, in_flight = r->sight->in_flight;
    int digits = decimals(r->service_s);
    uint64_t workers = r->wish / 10 + (r->wish % 10 != 0);

    if (r->service_s < 0) {
        add(text, "(%llu + %llu in flight) / %u", ready, in_flight, limits->backlog_per_worker);
    } else {
        add(text, "%s", limits->slots > 1 ? "(" : "");
        add_rate(text, r->arrival);
        add(text, " x %.*f s / 0.8 + %llu x %.*f s / %g s", digits, r->service_s, ready, digits, r->service_s,
            (double)limits->drain_target_us / SECOND_US);
        if (limits->slots > 1)
            add(text, ") / %u", limits->slots);
    }
    add(text, " = %.1f -> %llu", r->formula, (unsigned long long)workers);
    if (r->formula * 10 + 0.5 >= (double)r->wish)
        return;
    if (in_flight > 0)
        add(text, " for %llu in flight", in_flight);
    else
        add(text, " for what waits");
}

static void add_growth(struct text *text, const struct scale_reckoning *r, const struct scale_decision *d)
{
    if (d->why == SCALE_GROW_AGE)
        add(text, "; the oldest waits for %.0f s: one more", (double)r->sight->oldest_age_us / SECOND_US);
    if (d->desired * UINT64_C(10) >= r->wish)
        return;
    if (d->desired == r->limits->max)
        add(text, "; max is %u", d->desired);
    else
        add(text, "; 4 more or twice as many in 15 s: %u", d->desired);
}

static void add_shrinking(struct text *text, const struct scale_reckoning *r, const struct scale_decision *d)
{
    add(text, "; highest of %g s: %.1f", (double)r->limits->cooldown_us / SECOND_US, (double)r->highest / 10);
    if (d->desired > r->limits->min && d->desired * UINT64_C(10) >= r->highest + 10)
        add(text, "; a quarter in 15 s, those without a message: %u", d->desired);
}

void scale_describe(const struct scale_reckoning *r, struct scale_decision *d)
{
    struct text text = {.to = d->text};

    add_formula(&text, r);
    switch (d->why) {
    case SCALE_BOUNDS:
        add(&text, d->desired > d->from ? "; min is %u" : "; max is %u", d->desired);
        break;
    case SCALE_GROW:
    case SCALE_GROW_AGE:
        add_growth(&text, r, d);
        break;
    case SCALE_SHRINK:
        add_shrinking(&text, r, d);
        break;
    case SCALE_STEP:
        add(&text, "; 4 more or twice as many in 15 s");
        break;
    case SCALE_COOLDOWN:
        add(&text, "; highest of %g s: %.1f", (double)r->limits->cooldown_us / SECOND_US,
            (double)r->highest / 10);
        break;
    case SCALE_BUSY:
        add(&text, "; all of them are busy");
        break;
    case SCALE_AT_MAX:
        add(&text, "; max is %u", r->limits->max);
        break;
    case SCALE_CRASHING:
        add(&text, "; of %llu starts in a minute %llu crashed", (unsigned long long)r->starts,
            (unsigned long long)r->crashes);
        break;
    case SCALE_GAUGE:
        add(&text, "; the gauge is full");
        break;
    case SCALE_ENOUGH:
    case SCALE_WHYS:
        break;
    }
}
