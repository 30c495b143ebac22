/* scale.c - see scale.h.
 *
 * A wish is kept in tenths of a worker: what people read in the text is what is compared, and no residue of an average that
 * fades keeps a worker. */
#include "workers/scale.h"

#include <assert.h>
#include <math.h>

#include "workers/scale_private.h"

#define SECOND_US 1e6
#define LOAD 0.8 /* how full the workers shall be */
#define CRASHES_US (60u * UINT64_C(1000000))
#define CRASHES_MIN 2u
#define STEP_LEAST 4u
#define TENTHS_MOST 100000000u

/* ---- windows ---------------------------------------------------------------------------------------------------------------- */

static void window_add(struct scale_window *window, uint64_t now_us, uint64_t time_us, uint64_t value)
{
    unsigned at = window->newest;

    if (window->n > 0 && now_us - window->pieces[at].from_us < time_us / 32) {
        window->pieces[at].until_us = now_us;
        if (value < window->pieces[at].least)
            window->pieces[at].least = value;
        if (value > window->pieces[at].greatest)
            window->pieces[at].greatest = value;
        return;
    }
    at = (at + 1) % SCALE_PIECES;
    window->newest = at;
    window->n += window->n < SCALE_PIECES;
    window->pieces[at].from_us = window->pieces[at].until_us = now_us;
    window->pieces[at].least = window->pieces[at].greatest = value;
}

/* The least and the greatest that was added in that time before now, or a 32nd longer ago. Something was. */
static struct scale_range window_range(const struct scale_window *window, uint64_t now_us, uint64_t time_us)
{
    struct scale_range range = {UINT64_MAX, 0};

    for (unsigned i = 0; i < window->n; i++) {
        unsigned at = (window->newest + SCALE_PIECES - i) % SCALE_PIECES;

        if (i > 0 && window->pieces[at].until_us + time_us <= now_us)
            break;
        if (window->pieces[at].least < range.least)
            range.least = window->pieces[at].least;
        if (window->pieces[at].greatest > range.greatest)
            range.greatest = window->pieces[at].greatest;
    }
    return range;
}

/* ---- averages --------------------------------------------------------------------------------------------------------------- */

static uint64_t risen(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

/* The service time fades with the time in which something was handled, so that a pause does not forget it. */
static void take_averages(struct scale *scale, const struct scale_sight *sight)
{
    double seconds = (double)(sight->now_us - scale->last.now_us) / SECOND_US;
    double fade = exp(-seconds * SECOND_US / SCALE_STEP_US);
    uint64_t handled = risen(sight->handled, scale->last.handled);
    double arrived = (double)risen(sight->published, scale->last.published);

    scale->arrival = scale->arrival * fade + arrived / seconds * (1 - fade);
    if (handled == 0)
        return;
    scale->handled = scale->handled * fade + (double)handled;
    scale->busy_s = scale->busy_s * fade + (double)risen(sight->busy_us, scale->last.busy_us) / SECOND_US;
    scale->handled_n += handled;
    if (scale->handled_n > SCALE_HANDLED_MIN)
        scale->handled_n = SCALE_HANDLED_MIN;
}

/* Totals that began anew have no history. */
static void take_total(struct scale_window *window, uint64_t now_us, uint64_t total, uint64_t before)
{
    if (total < before)
        window->n = 0;
    window_add(window, now_us, CRASHES_US, total);
}

void scale_watch(struct scale *scale, const struct scale_sight *sight)
{
    if (scale->seen && sight->now_us <= scale->last.now_us)
        return;
    if (scale->seen)
        take_averages(scale, sight);
    take_total(&scale->starts, sight->now_us, sight->starts, scale->last.starts);
    take_total(&scale->crashes, sight->now_us, sight->crashes, scale->last.crashes);
    scale->last = *sight;
    scale->seen = true;
}

double scale_arrival_rate(const struct scale *scale)
{
    return scale->arrival;
}

double scale_service_time(const struct scale *scale)
{
    return scale->handled_n < SCALE_HANDLED_MIN ? -1 : scale->busy_s / scale->handled;
}

/* ---- what is wished for ----------------------------------------------------------------------------------------------------- */

static unsigned workers_seen(const struct scale_sight *sight)
{
    return sight->starting + sight->idle + sight->busy + sight->backing_off;
}

/* Those that nothing is lost with. */
static unsigned workers_free(const struct scale_sight *sight)
{
    return sight->starting + sight->idle + sight->backing_off;
}

static uint64_t ceil_div(uint64_t n, uint64_t by)
{
    return n / by + (n % by != 0);
}

static uint64_t to_tenths(double workers)
{
    return workers * 10 < TENTHS_MOST ? (uint64_t)llround(workers * 10) : TENTHS_MOST;
}

static double formula(const struct scale_reckoning *r)
{
    const struct scale_limits *limits = r->limits;
    double ready = (double)r->sight->ready;

    if (r->service_s < 0)
        return (ready + (double)r->sight->in_flight) / limits->backlog_per_worker;
#ifdef MAITRED_PLANT_SCALE_DRAIN /* a fault for the simulator to find: what waits is not worked off */
    ready = 0;
#endif
    return (r->arrival * r->service_s / LOAD +
            ready * r->service_s / ((double)limits->drain_target_us / SECOND_US)) /
           limits->slots;
}

/* Something to do wants one; what is in flight, those that hold it. */
static uint64_t wish_least(const struct scale_reckoning *r)
{
    uint64_t holders = ceil_div(r->sight->in_flight, r->limits->slots);

    if (holders == 0 && r->sight->ready > 0)
        holders = 1;
    return holders < TENTHS_MOST / 10 ? holders * 10 : TENTHS_MOST;
}

/* The model has not seen what holds the oldest up. More would not help where somebody is idle, or about to be. */
static bool is_overdue(const struct scale *scale, const struct scale_reckoning *r)
{
    const struct scale_sight *sight = r->sight;

    return sight->ready > 0 && sight->oldest_age_us / 2 > r->limits->drain_target_us && sight->idle == 0 &&
           sight->starting == 0 && r->steps.least == scale->desired;
}

static void reckon_crashes(const struct scale *scale, struct scale_reckoning *r)
{
    uint64_t now_us = r->sight->now_us;

    r->starts = r->sight->starts - window_range(&scale->starts, now_us, CRASHES_US).least;
    r->crashes = r->sight->crashes - window_range(&scale->crashes, now_us, CRASHES_US).least;
    /* Of many that run well, one that crashes again and again has all starts to itself. */
    r->crashing =
        r->crashes >= CRASHES_MIN && r->crashes * 2 >= r->starts && r->crashes * 2 >= workers_seen(r->sight);
}

static struct scale_reckoning reckon(struct scale *scale, const struct scale_limits *limits,
                                     const struct scale_sight *sight)
{
    struct scale_reckoning r = {.limits = limits, .sight = sight};
    uint64_t least;

    r.arrival = scale->arrival;
    r.service_s = scale_service_time(scale);
    window_add(&scale->steps, sight->now_us, SCALE_STEP_US, scale->desired); /* it was so until now */
    r.steps = window_range(&scale->steps, sight->now_us, SCALE_STEP_US);
    r.formula = formula(&r);
    r.wish = to_tenths(r.formula);
    least = wish_least(&r);
    if (r.wish < least)
        r.wish = least;
    r.overdue = is_overdue(scale, &r);
    window_add(&scale->wishes, sight->now_us, limits->cooldown_us,
               r.overdue && r.wish < (scale->desired + 1) * UINT64_C(10) ? (scale->desired + 1) * UINT64_C(10)
                                                                         : r.wish);
    r.highest = window_range(&scale->wishes, sight->now_us, limits->cooldown_us).greatest;
    reckon_crashes(scale, &r);
    return r;
}

/* ---- what is decided -------------------------------------------------------------------------------------------------------- */

static unsigned least_of(uint64_t a, uint64_t b)
{
    return (unsigned)(a < b ? a : b);
}

static unsigned most_of(uint64_t a, uint64_t b)
{
    return (unsigned)(a > b ? a : b);
}

static enum scale_why grow(const struct scale_reckoning *r, unsigned *desired)
{
    uint64_t wanted = ceil_div(r->wish, 10);
#ifdef MAITRED_PLANT_SCALE_STEP /* a fault for the simulator to find: at once */
    uint64_t most = UINT64_MAX;
#else
    uint64_t most = r->steps.least + most_of(STEP_LEAST, r->steps.least);
#endif
    enum scale_why why = SCALE_GROW;
    unsigned target;

    if (r->overdue && wanted <= *desired) {
        wanted = *desired + UINT64_C(1);
        why = SCALE_GROW_AGE;
    }
#ifdef MAITRED_PLANT_SCALE_MAX /* a fault for the simulator to find */
    target = least_of(wanted, most);
#else
    if (*desired >= r->limits->max)
        return SCALE_AT_MAX;
    target = least_of(least_of(wanted, most), r->limits->max);
#endif
#ifndef MAITRED_PLANT_SCALE_CRASH /* a fault for the simulator to find */
    if (r->crashing)
        return SCALE_CRASHING;
#endif
#ifndef MAITRED_PLANT_SCALE_GAUGE /* a fault for the simulator to find */
    if (r->sight->gauge_full)
        return SCALE_GAUGE;
#endif
    if (target <= *desired)
        return SCALE_STEP;
    *desired = target;
    return why;
}

static enum scale_why shrink(const struct scale_reckoning *r, unsigned *desired)
{
    const struct scale_limits *limits = r->limits;
    uint64_t step = r->steps.greatest >= 8 ? r->steps.greatest / 4 : 1;
    uint64_t floor = r->steps.greatest - least_of(step, r->steps.greatest);
    unsigned target = most_of(limits->min, ceil_div(r->highest, 10));
#ifndef MAITRED_PLANT_SCALE_BUSY
    unsigned free = workers_free(r->sight);
#endif

    target = most_of(target, floor);
    if (target >= *desired)
        return SCALE_COOLDOWN;
#ifndef MAITRED_PLANT_SCALE_BUSY /* a fault for the simulator to find: whoever it hits */
    if (free == 0)
        return SCALE_BUSY;
    target = most_of(target, *desired - least_of(free, *desired));
#endif
    *desired = target;
    return SCALE_SHRINK;
}

/* How far a wish is from what is there is judged before min and max: else one over min would stay for good. */
static enum scale_why decide(const struct scale_reckoning *r, unsigned *desired)
{
    const struct scale_limits *limits = r->limits;
    uint64_t now = *desired;

    if (now < limits->min || now > limits->max) {
        *desired = now < limits->min ? limits->min : limits->max;
        return SCALE_BOUNDS;
    }
    if (r->wish > now * 11 || r->overdue)
        return grow(r, desired);
#ifdef MAITRED_PLANT_SCALE_FLAP /* a fault for the simulator to find: what is wished for now */
    if (r->wish < now * 9)
        return shrink(
            &(struct scale_reckoning){
                .limits = limits, .sight = r->sight, .steps = r->steps, .highest = r->wish},
            desired);
#endif
#ifdef MAITRED_PLANT_SCALE_MIN /* a fault for the simulator to find: one over min is within a tenth of it */
    if (limits->min * UINT64_C(10) >= now * 9)
        return SCALE_ENOUGH;
#endif
    if (r->wish >= now * 9 || now == limits->min)
        return SCALE_ENOUGH;
    return r->highest < now * 9 ? shrink(r, desired) : SCALE_COOLDOWN;
}

static bool holds(enum scale_why why)
{
    return why == SCALE_AT_MAX || why == SCALE_CRASHING || why == SCALE_GAUGE;
}

/* A hold that comes and goes with every breath of the load is one. */
static bool is_news(struct scale *scale, const struct scale_reckoning *r,
                    const struct scale_decision *decision)
{
    enum scale_why before = scale->held;
    enum scale_why now = decision->why;

    if (decision->from != decision->desired && decision->desired == r->limits->max &&
        r->wish > decision->desired * UINT64_C(11))
        now = SCALE_AT_MAX; /* which the text says along with it */
    if (holds(now))
        scale->held_us = r->sight->now_us;
    if (holds(now) || decision->from != decision->desired ||
        r->sight->now_us - scale->held_us >= SCALE_STEP_US)
        scale->held = holds(now) ? now : SCALE_ENOUGH;
    return decision->from != decision->desired || scale->held != before;
}

void scale_tick(struct scale *scale, const struct scale_limits *limits, const struct scale_sight *sight,
                struct scale_decision *decision)
{
    struct scale_reckoning r;
    unsigned workers = workers_seen(sight);

    assert(limits->max >= 1 && limits->min <= limits->max && limits->slots >= 1);
    assert(limits->backlog_per_worker >= 1 && limits->drain_target_us >= 1);
    scale_watch(scale, sight);
    r = reckon(scale, limits, sight);
    *decision = (struct scale_decision){.from = scale->desired};
    decision->why = decide(&r, &scale->desired);
    decision->desired = scale->desired;
    if (workers > scale->desired)
        decision->stop = least_of(workers - scale->desired, workers_free(sight));
#ifdef MAITRED_PLANT_SCALE_BUSY
    if (workers > scale->desired)
        decision->stop = workers - scale->desired;
#endif
    window_add(&scale->steps, sight->now_us, SCALE_STEP_US, scale->desired);
    decision->say = is_news(scale, &r, decision);
    scale_describe(&r, decision);
}

/* ---- from outside ----------------------------------------------------------------------------------------------------------- */

void scale_init(struct scale *scale, unsigned desired, uint64_t now_us)
{
    *scale = (struct scale){.desired = desired, .held = SCALE_ENOUGH};
    window_add(&scale->starts, now_us, CRASHES_US, 0);
    window_add(&scale->crashes, now_us, CRASHES_US, 0);
    scale_set(scale, desired, now_us);
}

void scale_set(struct scale *scale, unsigned desired, uint64_t now_us)
{
    window_add(&scale->steps, now_us, 0, scale->desired); /* it was so until now */
    window_add(&scale->steps, now_us, 0, desired);
    scale->desired = desired;
    window_add(&scale->wishes, now_us, 0, desired * UINT64_C(10));
}

void scale_forget(struct scale *scale)
{
    scale->seen = false;
    scale->arrival = scale->handled = scale->busy_s = 0;
    scale->handled_n = 0;
}
