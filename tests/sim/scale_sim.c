/* scale_sim.c - the autoscaler against traces of arrivals, in a world of messages and workers that is reckoned from a seed.
 *
 * A story's trace is one of those in the table: steps, ramps, bursts, the curve of a day (that takes minutes), poison messages,
 * workers that start slowly or crash, a gauge that is full, or a mix of them with hands and reloads. scale_judge.h says what
 * has to hold. In the end nothing arrives, and min workers have to be what is left. */
#include <math.h>
#include <stdio.h>

#include "sim/scale_judge.h"
#include "sim/sim.h"

#define STEPS_MAX 8
#define RATE_MOST 400.0 /* messages per second, so that a story is soon told */
#define LOAD_MOST 0.75  /* of what max workers can do */
#define BURST_MOST 20000.0
#define BACKLOG_MOST (WORLD_MESSAGES_MAX / 2)
#define PI 3.14159265358979323846

enum step_kind { QUIET, CONSTANT, RAMP, BURST, DAY, POISON, SLOW, CRASH, GAUGE, HAND, RELOAD, KINDS };

static const struct trace {
    const char *worst;
    enum step_kind first; /* QUIET: any */
    unsigned char often[KINDS];
} traces[] = {
    {"% of the ideal, at most: step", QUIET, {[CONSTANT] = 2, [QUIET] = 1}},
    {"% of the ideal, at most: ramp", QUIET, {[RAMP] = 1}},
    {"% of the ideal, at most: burst", QUIET, {[BURST] = 3, [CONSTANT] = 1, [QUIET] = 1}},
    {"% of the ideal, at most: day", DAY, {[DAY] = 1}},
    {"% of the ideal, at most: poison", POISON, {[POISON] = 1, [CONSTANT] = 2, [BURST] = 1, [RAMP] = 1}},
    {"% of the ideal, at most: slow start", SLOW, {[CONSTANT] = 2, [BURST] = 1, [RAMP] = 1, [QUIET] = 1}},
    {"% of the ideal, at most: crash on start",
     CRASH,
     {[CRASH] = 2, [CONSTANT] = 2, [BURST] = 1, [RAMP] = 1}},
    {"% of the ideal, at most: gauge", GAUGE, {[GAUGE] = 2, [CONSTANT] = 2, [BURST] = 1, [RAMP] = 1}},
    {"% of the ideal, at most: mix",
     QUIET,
     {[QUIET] = 1,
      [CONSTANT] = 2,
      [RAMP] = 2,
      [BURST] = 2,
      [POISON] = 1,
      [SLOW] = 1,
      [CRASH] = 1,
      [GAUGE] = 1,
      [HAND] = 2,
      [RELOAD] = 1}},
};
#define TRACES (sizeof traces / sizeof traces[0])

enum mode { ITSELF, PAUSED, BY_HAND };

static struct story {
    struct world world;
    struct judge judge;
    struct scale scale;
    struct rng ticks;
    enum mode mode;
    unsigned by_hand;
    uint64_t tick_us; /* the next one */
    double rate;      /* per second */
    double credit;    /* parts of a message that have arrived */
} s;

/* ---- who starts and stops workers ----------------------------------------------------------------------------------------- */

static unsigned free_workers(const struct scale_sight *sight)
{
    return sight->starting + sight->idle + sight->backing_off;
}

static void carry_out(unsigned desired, unsigned stop)
{
    unsigned workers;

    world_stop(&s.world, stop);
    workers = world_workers(&s.world);
    if (workers < desired)
        world_start(&s.world, desired - workers);
}

/* As many as somebody said; of those that are too many, the free ones go. */
static void obey_hand(const struct scale_sight *sight)
{
    unsigned workers = world_workers(&s.world);
    unsigned stop = workers > s.by_hand ? workers - s.by_hand : 0;

    scale_watch(&s.scale, sight);
    if (s.judge.desired != s.by_hand)
        scale_set(&s.scale, s.by_hand, s.world.now_us);
    judge_hand(&s.judge, &s.world, s.by_hand);
    carry_out(s.by_hand, stop < free_workers(sight) ? stop : free_workers(sight));
}

static void supervise(void)
{
    struct scale_sight sight = world_sight(&s.world);
    struct scale_decision decision;

    if (s.mode == BY_HAND) {
        obey_hand(&sight);
        return;
    }
    if (s.mode == PAUSED) {
        scale_watch(&s.scale, &sight);
        judge_hand(&s.judge, &s.world, s.judge.desired);
        return;
    }
    scale_tick(&s.scale, &s.world.limits, &sight, &decision);
    judge_decision(&s.judge, &s.world, &sight, &decision);
    carry_out(decision.desired, decision.stop);
}

/* ---- time ------------------------------------------------------------------------------------------------------------------- */

/* A queue has a limit, too: what comes while it is full is refused. */
static void publish(unsigned n)
{
    for (; n > 0 && s.world.tail - s.world.head < BACKLOG_MOST; n--) {
        world_publish(&s.world);
        judge_publish(&s.judge);
    }
}

/* Messages do not come like a clock. */
static void arrive(void)
{
    double jitter = (double)rng_below(&s.world.arrivals, 2001) / 1000;
    unsigned whole;

    if (s.judge.waiting)
        rng_below(&s.judge.twin.arrivals, 2001); /* the twin's chances are the same */
    s.credit += s.rate * jitter * WORLD_STEP_US / SECOND;
    whole = (unsigned)s.credit;
    s.credit -= whole;
    publish(whole);
}

static void pass_step(void)
{
    arrive();
    world_step(&s.world);
    judge_step(&s.judge, &s.world);
    if (s.world.now_us < s.tick_us)
        return;
    supervise();
    s.tick_us = s.world.now_us + SECOND / 2 + rng_below(&s.ticks, 21) * WORLD_STEP_US;
}

static void pass(uint64_t seconds)
{
    for (uint64_t i = 0; i < seconds * SECOND / WORLD_STEP_US; i++)
        pass_step();
}

/* ---- arrivals ----------------------------------------------------------------------------------------------------------------- */

/* What max workers can do without being overrun; a poison message fails three times on average. */
static double peak(void)
{
    double rate =
        world_capacity(&s.world) * s.world.limits.max * LOAD_MOST / (1 + 3 * s.world.poison / 1000.0);

    return rate < RATE_MOST ? rate : RATE_MOST;
}

static double part(uint64_t random)
{
    return (double)(random % 101) / 100;
}

static void do_quiet(const struct sim_step *step)
{
    s.rate = 0;
    pass(20 + step->a % 180);
}

static void do_constant(const struct sim_step *step)
{
    s.rate = peak() * part(step->b);
    pass(30 + step->a % 210);
}

static void do_ramp(const struct sim_step *step)
{
    uint64_t seconds = 20 + step->a % 180;
    double from = s.rate, to = peak() * part(step->b);

    for (uint64_t i = 0; i < seconds; i++) {
        s.rate = from + (to - from) * (double)(i + 1) / (double)seconds;
        pass(1);
    }
    pass(30);
}

static void do_burst(const struct sim_step *step)
{
    double n = peak() * (double)(1 + step->b % 60);

    publish((unsigned)(n < BURST_MOST ? n : BURST_MOST));
    pass(5 + step->a % 60);
}

static void do_day(const struct sim_step *step)
{
    uint64_t seconds = 300 + step->a % 600;
    double most = peak() * part(step->b);

    for (uint64_t i = 0; i < seconds; i++) {
        s.rate = most * (1 - cos(2 * PI * (double)i / (double)seconds)) / 2;
        pass(1);
    }
}

/* ---- what else goes on ----------------------------------------------------------------------------------------------------------- */

static void do_poison(const struct sim_step *step)
{
    s.world.poison = step->a % 3 ? 20 + (unsigned)(step->b % 180) : 0;
    if (s.rate > peak())
        s.rate = peak();
}

static void do_slow(const struct sim_step *step)
{
    s.world.start_us = (2000 + step->a % 8000) * 1000;
}

static void do_crash(const struct sim_step *step)
{
    static const unsigned percents[] = {0, 10, 50, 100};

    s.world.crash = percents[step->a % 4];
    judge_forget(&s.judge);
}

static void do_gauge(const struct sim_step *step)
{
    s.world.gauge_full = step->a % 2;
    judge_forget(&s.judge);
}

static void resume(void)
{
    if (s.mode != ITSELF)
        scale_set(&s.scale, s.judge.desired, s.world.now_us);
    s.mode = ITSELF;
}

static void do_hand(const struct sim_step *step)
{
    sim_count("by hand");
    if (step->a % 3 == 0) {
        resume();
        return;
    }
    s.mode = step->a % 3 == 1 ? PAUSED : BY_HAND;
    s.by_hand = (unsigned)(step->b % (s.world.limits.max + 1));
}

static void do_reload(const struct sim_step *step)
{
    struct scale_limits *limits = &s.world.limits;

    sim_count("reloads");
    limits->max = 4 + (unsigned)(step->a % (WORLD_WORKERS_MAX - 3));
    limits->min = (unsigned)(step->a / 100 % 4);
    limits->cooldown_us = step->b % 120 * SECOND;
    limits->drain_target_us = (5 + step->b / 120 % 15) * SECOND;
    if (s.rate > peak())
        s.rate = peak();
    judge_reload(&s.judge, &s.world);
}

/* ---- stories ------------------------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    void (*run)(const struct sim_step *step);
} steps_of[KINDS] = {
    [QUIET] = {"quiet", do_quiet},    [CONSTANT] = {"constant", do_constant},
    [RAMP] = {"ramp", do_ramp},       [BURST] = {"burst", do_burst},
    [DAY] = {"day", do_day},          [POISON] = {"poison", do_poison},
    [SLOW] = {"slow", do_slow},       [CRASH] = {"crash", do_crash},
    [GAUGE] = {"gauge", do_gauge},    [HAND] = {"hand", do_hand},
    [RELOAD] = {"reload", do_reload},
};

static const struct trace *trace_of(uint64_t seed)
{
    return &traces[seed % TRACES];
}

static size_t plan(uint64_t seed, struct sim_step *steps)
{
    const struct trace *trace = trace_of(seed);
    struct rng rng = {seed};
    size_t n = trace->first == DAY ? 2 : 3 + (size_t)rng_below(&rng, STEPS_MAX - 2);
    unsigned all = 0;

    for (unsigned kind = 0; kind < KINDS; kind++)
        all += trace->often[kind];
    for (size_t i = 0; i < n; i++) {
        unsigned kind = 0;
        uint64_t at = rng_below(&rng, all);

        while (at >= trace->often[kind])
            at -= trace->often[kind++];
        if (i == 0 && trace->first != QUIET)
            kind = trace->first;
        steps[i] = (struct sim_step){kind, rng_next(&rng), rng_next(&rng)};
    }
    return n;
}

/* Averages fade, the cooldown passes, and a quarter after the other goes. */
static void end_quietly(void)
{
    s.rate = 0;
    s.world.crash = s.world.poison = 0;
    s.world.gauge_full = false;
    resume();
    judge_forget(&s.judge);
    while (!world_is_quiet(&s.world))
        pass(1);
    pass(s.world.limits.cooldown_us * 33 / 32 / SECOND + 120 + 16 * 16);
    sim_check(s.judge.desired == s.world.limits.min, "nothing is to do, and %u are desired instead of %u",
              s.judge.desired, s.world.limits.min);
    sim_check(world_workers(&s.world) == s.world.limits.min,
              "nothing is to do, and there are %u instead of %u", world_workers(&s.world),
              s.world.limits.min);
}

static void tell_world(void)
{
    const struct scale_limits *limits = &s.world.limits;

    sim_tell("%u to %u workers of %u %s slots, %u of the backlog each, drain target %.0f s, cooldown %.0f s; "
             "service time %.2f s (spread %u), start %.1f s",
             limits->min, limits->max, limits->slots, s.world.serial ? "serial" : "parallel",
             limits->backlog_per_worker, (double)limits->drain_target_us / SECOND,
             (double)limits->cooldown_us / SECOND, (double)s.world.service_us / SECOND, s.world.spread,
             (double)s.world.start_us / SECOND);
}

static void run_story(uint64_t seed, const struct sim_step *steps, size_t n)
{
    world_begin(&s.world, seed);
    judge_begin(&s.judge, &s.world, trace_of(seed)->worst);
    scale_init(&s.scale, s.world.limits.min, s.world.now_us);
    s.ticks.state = seed;
    s.mode = ITSELF;
    s.tick_us = s.world.now_us;
    s.rate = s.credit = 0;
    tell_world();
    for (size_t i = 0; i < n; i++) {
        sim_tell("%8.2f s: %s, %zu ready", (double)s.world.now_us / SECOND, steps_of[steps[i].kind].name,
                 (size_t)(s.world.tail - s.world.head));
        steps_of[steps[i].kind].run(&steps[i]);
    }
    sim_tell("%8.2f s: the end", (double)s.world.now_us / SECOND);
    end_quietly();
    judge_end(&s.judge);
    world_end(&s.world);
}

int main(int argc, char **argv)
{
    static const struct sim sim = {"scale_sim", STEPS_MAX, plan, run_story};

    return sim_main(&sim, argc, argv);
}
