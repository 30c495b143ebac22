/* scale_judge.c - see scale_judge.h. */
#include "sim/scale_judge.h"

#include "sim/sim.h"

#define STEP_LEAST 4u
#define MINUTE (60 * SECOND)
/* The autoscaler counts the crashes of a minute, and of a tick and a 32nd more. */
#define MINUTE_FUZZ (4 * SECOND)

/* ---- the past -------------------------------------------------------------------------------------------------------- */

static void past_add(struct past *past, struct past_tick tick)
{
    past->ticks[past->n++ % PAST_MAX] = tick;
}

/* The i-th before the newest; NULL: there was none. */
static const struct past_tick *past_at(const struct past *past, unsigned i)
{
    return i < past->n && i < PAST_MAX ? &past->ticks[(past->n - 1 - i) % PAST_MAX] : NULL;
}

struct extremes {
    unsigned least, most, holders;
};

/* Of what was so since then, with what was so at that moment. */
static struct extremes past_extremes(const struct past *past, uint64_t since_us)
{
    struct extremes e = {.least = UINT32_MAX};
    const struct past_tick *tick;

    for (unsigned i = 0; (tick = past_at(past, i)); i++) {
        if (tick->desired < e.least)
            e.least = tick->desired;
        if (tick->desired > e.most)
            e.most = tick->desired;
        if (tick->at_us > since_us && tick->holders > e.holders)
            e.holders = tick->holders;
        if (tick->at_us <= since_us)
            break;
    }
    return e;
}

static unsigned more_than(unsigned n)
{
    return n + (n > STEP_LEAST ? n : STEP_LEAST);
}

/* ---- decisions -------------------------------------------------------------------------------------------------------- */

static unsigned free_workers(const struct scale_sight *sight)
{
    return sight->starting + sight->idle + sight->backing_off;
}

static bool half_crashed(const struct scale_sight *sight, const struct past_tick *since)
{
    uint64_t crashes = sight->crashes - since->crashes;
    uint64_t starts = sight->starts - since->starts;

    return crashes >= 2 && crashes * 2 >= starts && crashes * 2 >= free_workers(sight) + sight->busy;
}

/* Whether half of the starts of a minute crashed, however long a minute is taken to be; or with some of the ways to take it. */
static bool crashing(const struct judge *judge, const struct scale_sight *sight, bool certainly)
{
    const struct past_tick beginning = {0};
    const struct past_tick *tick;
    bool any = false, all = true;

    for (unsigned i = 0; (tick = past_at(&judge->past, i)); i++) {
        bool half = half_crashed(sight, tick);

        if (tick->at_us + MINUTE > sight->now_us + MINUTE_FUZZ)
            continue;
        any = any || half;
        all = all && half;
        if (tick->at_us + MINUTE + MINUTE_FUZZ < sight->now_us)
            break;
    }
    /* While the story is shorter than a minute, its beginning stands for that. */
    if (!past_at(&judge->past, PAST_MAX - 1) &&
        judge->past.ticks[0].at_us + MINUTE + MINUTE_FUZZ >= sight->now_us) {
        any = any || half_crashed(sight, &beginning);
        all = all && half_crashed(sight, &beginning);
    }
    return certainly ? any && all : any;
}

static void take_growth(struct judge *judge, uint64_t now_us)
{
    judge->grown = true;
    judge->grown_us = now_us;
}

static void check_growth(struct judge *judge, const struct scale_sight *sight, const struct scale_decision *d)
{
    unsigned least = past_extremes(&judge->past, sight->now_us - SCALE_STEP_US).least;

    sim_check(d->desired <= more_than(least), "from %u to %u; 15 s ago or since there were %u", d->from,
              d->desired, least);
    sim_check(!sight->gauge_full, "from %u to %u though the gauge is full", d->from, d->desired);
    sim_check(!crashing(judge, sight, true), "from %u to %u though half of the starts crash", d->from,
              d->desired);
    take_growth(judge, sight->now_us);
    sim_count("growths");
}

static void check_shrinking(const struct judge *judge, const struct world *world,
                            const struct scale_sight *sight, const struct scale_decision *d)
{
    uint64_t cooldown_us = world->limits.cooldown_us;
    unsigned most = past_extremes(&judge->past, sight->now_us - SCALE_STEP_US).most;
    uint64_t since_us = sight->now_us - cooldown_us;
    unsigned holders =
        past_extremes(&judge->past, since_us > judge->reloaded_us ? since_us : judge->reloaded_us).holders;

    sim_check(!judge->grown || judge->grown_us <= since_us, "from %u to %u, %.1f s after it grew", d->from,
              d->desired, (double)(sight->now_us - judge->grown_us) / SECOND);
    sim_check(d->desired >= holders, "from %u to %u, and within the cooldown %u held messages", d->from,
              d->desired, holders);
    sim_check(d->desired + (most >= 8 ? most / 4 : 1) >= most, "from %u to %u; 15 s ago there were %u",
              d->from, d->desired, most);
    sim_check(d->from - d->desired <= free_workers(sight), "from %u to %u with %u free", d->from, d->desired,
              free_workers(sight));
    sim_count("shrinkings");
}

static void remember(struct judge *judge, const struct world *world, const struct scale_sight *sight,
                     unsigned desired)
{
    unsigned slots = world->limits.slots;

    judge->desired = desired;
    past_add(&judge->past, (struct past_tick){.at_us = sight->now_us,
                                              .desired = desired,
                                              .holders = ((unsigned)sight->in_flight + slots - 1) / slots,
                                              .starts = sight->starts,
                                              .crashes = sight->crashes});
}

void judge_decision(struct judge *judge, const struct world *world, const struct scale_sight *sight,
                    const struct scale_decision *d)
{
    const struct scale_limits *limits = &world->limits;

    sim_tell("%8.2f s: %u -> %u (%s; %u starting, %u idle, %u busy, %u back off): %s",
             (double)sight->now_us / SECOND, d->from, d->desired, scale_why_name(d->why), sight->starting,
             sight->idle, sight->busy, sight->backing_off, d->text);
    sim_check(d->from == judge->desired, "it begins with %u of %u", d->from, judge->desired);
    sim_check(d->desired >= limits->min && d->desired <= limits->max, "%u are not between %u and %u",
              d->desired, limits->min, limits->max);
    sim_check(d->stop == 0 || d->stop <= free_workers(sight), "%u are to go with %u free", d->stop,
              free_workers(sight));
    sim_check(d->desired == d->from || d->say, "from %u to %u, and nothing is said", d->from, d->desired);
    if (d->from < limits->min || d->from > limits->max)
        judge_forget(judge);
    else if (d->desired > d->from)
        check_growth(judge, sight, d);
    else if (d->desired < d->from)
        check_shrinking(judge, world, sight, d);
    if (d->why == SCALE_CRASHING || d->why == SCALE_GAUGE) {
        sim_check(d->why == SCALE_GAUGE ? sight->gauge_full : crashing(judge, sight, false),
                  "it is held by what is not so");
        sim_count(d->why == SCALE_GAUGE ? "ticks held by the gauge" : "ticks held by crashes");
        judge_forget(judge);
    }
    remember(judge, world, sight, d->desired);
}

void judge_hand(struct judge *judge, const struct world *world, unsigned desired)
{
    struct scale_sight sight = world_sight(world);

    judge_forget(judge);
    remember(judge, world, &sight, desired);
    take_growth(judge, sight.now_us);
}

void judge_reload(struct judge *judge, const struct world *world)
{
    judge_forget(judge);
    judge->grown = false;
    judge->reloaded_us = world->now_us;
}

/* ---- the backlog ------------------------------------------------------------------------------------------------------ */

static void wait_for(struct judge *judge, const struct world *world)
{
    struct scale_sight sight = world_sight(world);

    judge->starts = sight.starts;
    judge->crashes = sight.crashes;
    judge->waiting = true;
    judge->since_us = world->now_us;
    judge->mark = world->tail;
    judge->ideal_us = 0;
    world_copy(&judge->twin, world);
    judge->twin_past = judge->past;
}

/* Whoever wants max. */
static void grow_twin(struct judge *judge, const struct world *world)
{
    struct world *twin = &judge->twin;
    unsigned workers = world_workers(twin);
    unsigned most = more_than(past_extremes(&judge->twin_past, twin->now_us - SCALE_STEP_US).least);

    if (most > world->limits.max)
        most = world->limits.max;
    if (most <= workers)
        return;
    world_start(twin, most - workers);
    past_add(&judge->twin_past, (struct past_tick){.at_us = twin->now_us, .desired = most});
}

static void step_twin(struct judge *judge, const struct world *world)
{
    judge->twin.poison = world->poison;
    judge->twin.start_us = world->start_us;
    judge->twin.crash = world->crash;
    grow_twin(judge, world);
    world_step(&judge->twin);
    if (judge->twin.head < judge->mark)
        return;
    judge->ideal_us = judge->twin.now_us - judge->since_us;
    if (judge->ideal_us < world->limits.drain_target_us)
        judge->ideal_us = world->limits.drain_target_us;
}

static bool has_bad_luck(const struct judge *judge, const struct world *world)
{
    struct scale_sight sight = world_sight(world);
    uint64_t crashes = sight.crashes - judge->crashes;

    return crashes >= 2 && crashes * 2 >= sight.starts - judge->starts;
}

void judge_step(struct judge *judge, const struct world *world)
{
    uint64_t waited_us = world->now_us - judge->since_us;

    if (judge->waiting && has_bad_luck(judge, world))
        judge_forget(judge);
    if (judge->waiting && judge->ideal_us == 0)
        step_twin(judge, world);
    if (judge->waiting && judge->ideal_us > 0)
        sim_check(waited_us <= judge->ideal_us * 2, "a backlog is not gone after %.1f s; ideal are %.1f s",
                  (double)waited_us / SECOND, (double)judge->ideal_us / SECOND);
    if (judge->waiting && world->head >= judge->mark) {
        judge->waiting = false;
        sim_count("backlogs");
        if (judge->ideal_us > 0)
            sim_most(judge->worst, waited_us * 100 / judge->ideal_us);
    }
    if (!judge->waiting && world->head < world->tail)
        wait_for(judge, world);
}

void judge_publish(struct judge *judge)
{
    if (judge->waiting && judge->ideal_us == 0)
        world_publish(&judge->twin);
}

void judge_forget(struct judge *judge)
{
    judge->waiting = false;
}

/* ---- begin and end ------------------------------------------------------------------------------------------------------- */

void judge_begin(struct judge *judge, const struct world *world, const char *worst)
{
    struct scale_sight sight = world_sight(world);
    struct world twin = judge->twin;

    *judge = (struct judge){.twin = twin, .worst = worst};
    remember(judge, world, &sight, world->limits.min);
    take_growth(judge, world->now_us);
}

void judge_end(struct judge *judge)
{
    world_end(&judge->twin);
}
