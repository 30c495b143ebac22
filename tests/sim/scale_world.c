/* scale_world.c - see scale_world.h. */
#include "sim/scale_world.h"

#include <stdlib.h>

#include "sim/sim.h"

#define BACKOFF_FIRST_US (SECOND / 5)
#define BACKOFF_MOST_US (30 * SECOND)
#define FAILURES_MAX 5u
/* The shortest drain target. Where one message, or what a worker has taken ahead, needs much longer, it cannot be held. */
#define TARGET_LEAST_US (5 * SECOND)

/* ---- messages ------------------------------------------------------------------------------------------------------ */

static uint64_t ready_n(const struct world *world)
{
    return world->tail - world->head;
}

static void make_ready(struct world *world, struct message message)
{
    sim_check(ready_n(world) < WORLD_MESSAGES_MAX, "the story has too many messages");
    world->ready[world->tail++ % WORLD_MESSAGES_MAX] = message;
    world->published++;
}

static uint32_t draw_service_us(struct world *world)
{
    uint64_t us = world->service_us;

    if (world->spread == 1)
        us = us / 2 + rng_below(&world->arrivals, us);
    else if (world->spread == 2)
        us = rng_below(&world->arrivals, 10) > 0 ? us / 2 : us * 11 / 2;
    return (uint32_t)us;
}

void world_publish(struct world *world)
{
    struct message message = {.stored_us = world->now_us, .service_us = draw_service_us(world)};

    if (rng_below(&world->arrivals, 1000) < world->poison)
        message.failures = (uint8_t)(1 + rng_below(&world->arrivals, FAILURES_MAX));
    make_ready(world, message);
}

static void bring_back(struct world *world, struct message message)
{
    if (world->retry_us == 0 || world->delayed_n == WORLD_DELAYED_MAX) {
        make_ready(world, message);
        return;
    }
    world->delayed[world->delayed_n].at_us = world->now_us + world->retry_us;
    world->delayed[world->delayed_n++].message = message;
}

static void wake_delayed(struct world *world)
{
    for (unsigned i = 0; i < world->delayed_n;) {
        if (world->delayed[i].at_us > world->now_us) {
            i++;
            continue;
        }
        make_ready(world, world->delayed[i].message);
        world->delayed[i] = world->delayed[--world->delayed_n];
    }
}

/* ---- workers ------------------------------------------------------------------------------------------------------- */

static void start(struct world *world, struct worker *worker)
{
    worker->state = WORKER_STARTING;
    worker->until_us = world->now_us + world->start_us;
    worker->crashes = rng_below(&world->chance, 100) < world->crash;
    world->starts++;
}

static void crash(struct world *world, struct worker *worker)
{
    world->crashes++;
    sim_count("crashes");
    if (worker->backoff_us == 0)
        worker->backoff_us = BACKOFF_FIRST_US;
    worker->state = WORKER_BACKING_OFF;
    worker->until_us = world->now_us + worker->backoff_us;
    worker->backoff_us *= 2;
    if (worker->backoff_us > BACKOFF_MOST_US)
        worker->backoff_us = BACKOFF_MOST_US;
}

static void pass_time(struct world *world, struct worker *worker)
{
    if (worker->until_us > world->now_us)
        return;
    if (worker->state == WORKER_BACKING_OFF) {
        start(world, worker);
    } else if (worker->state == WORKER_STARTING && worker->crashes) {
        crash(world, worker);
    } else if (worker->state == WORKER_STARTING) {
        worker->state = WORKER_READY;
        worker->backoff_us = 0;
    }
}

static void finish(struct world *world, struct worker *worker)
{
    for (unsigned i = 0; i < worker->holds;) {
        struct message message = worker->slots[i].message;

        if (worker->slots[i].until_us > world->now_us) {
            i++;
            continue;
        }
        world->handled++;
        world->busy_us += world->now_us - worker->slots[i].from_us;
        worker->slots[i] = worker->slots[--worker->holds];
        if (message.failures-- == 0)
            continue;
        sim_count("attempts that failed");
        bring_back(world, message);
    }
}

static void take(struct world *world, struct worker *worker)
{
    uint64_t begin = world->now_us;
    unsigned at = worker->holds++;

    worker->slots[at].message = world->ready[world->head++ % WORLD_MESSAGES_MAX];
    worker->slots[at].from_us = begin;
    if (world->serial && worker->free_us > begin)
        begin = worker->free_us;
    worker->free_us = worker->slots[at].until_us = begin + worker->slots[at].message.service_us;
}

/* One each in turn, as a broker deals them out. */
static void deal(struct world *world)
{
    unsigned passed = 0;

    while (ready_n(world) > 0 && passed < world->used) {
        struct worker *worker = &world->workers[world->turn++ % world->used];

        passed++;
        if (worker->state != WORKER_READY || worker->holds == world->limits.slots)
            continue;
        take(world, worker);
        passed = 0;
    }
}

void world_step(struct world *world)
{
    world->now_us += WORLD_STEP_US;
    for (unsigned i = 0; i < world->used; i++) {
        pass_time(world, &world->workers[i]);
        finish(world, &world->workers[i]);
    }
    wake_delayed(world);
    deal(world);
}

/* ---- what there is --------------------------------------------------------------------------------------------------- */

unsigned world_workers(const struct world *world)
{
    unsigned n = 0;

    for (unsigned i = 0; i < world->used; i++)
        n += world->workers[i].state != WORKER_GONE;
    return n;
}

struct scale_sight world_sight(const struct world *world)
{
    struct scale_sight sight = {
        .now_us = world->now_us,
        .published = world->published,
        .handled = world->handled,
        .busy_us = world->busy_us,
        .ready = ready_n(world),
        .starts = world->starts,
        .crashes = world->crashes,
        .gauge_full = world->gauge_full,
    };

    if (sight.ready > 0)
        sight.oldest_age_us = world->now_us - world->ready[world->head % WORLD_MESSAGES_MAX].stored_us;
    for (unsigned i = 0; i < world->used; i++) {
        const struct worker *worker = &world->workers[i];

        sight.starting += worker->state == WORKER_STARTING;
        sight.backing_off += worker->state == WORKER_BACKING_OFF;
        sight.idle += worker->state == WORKER_READY && worker->holds == 0;
        sight.busy += worker->holds > 0;
        sight.in_flight += worker->holds;
    }
    return sight;
}

bool world_is_quiet(const struct world *world)
{
    struct scale_sight sight = world_sight(world);

    return sight.ready == 0 && sight.in_flight == 0 && world->delayed_n == 0;
}

/* ---- who starts and stops them ----------------------------------------------------------------------------------------- */

void world_start(struct world *world, unsigned n)
{
    for (unsigned i = 0; i < WORLD_WORKERS_MAX && n > 0; i++)
        if (world->workers[i].state == WORKER_GONE) {
            world->workers[i] = (struct worker){0};
            start(world, &world->workers[i]);
            if (world->used <= i)
                world->used = i + 1;
            n--;
        }
    sim_check(n == 0, "there is no room for %u workers more", n);
}

static bool stop_one(struct world *world, enum worker_state state)
{
    unsigned i = world->used;

    while (i > 0 && (world->workers[i - 1].state != state || world->workers[i - 1].holds > 0))
        i--;
    if (i == 0)
        return false;
    world->workers[i - 1].state = WORKER_GONE;
    while (world->used > 0 && world->workers[world->used - 1].state == WORKER_GONE)
        world->used--;
    return true;
}

void world_stop(struct world *world, unsigned n)
{
    for (; n > 0; n--)
        if (!stop_one(world, WORKER_BACKING_OFF) && !stop_one(world, WORKER_READY))
            sim_check(stop_one(world, WORKER_STARTING),
                      "a worker is to stop, and all that are left are busy");
}

/* ---- worlds ---------------------------------------------------------------------------------------------------------- */

static uint64_t between(struct rng *rng, uint64_t least, uint64_t most)
{
    return least + rng_below(rng, most - least + 1);
}

/* From 50 ms to 5 s, each magnitude as often as the others. */
static uint64_t draw_mean_us(struct rng *rng)
{
    static const uint64_t means[] = {50000, 100000, 200000, 500000, 1000000, 2000000, 5000000};

    return means[rng_below(rng, sizeof means / sizeof means[0])];
}

/* A step is as short as time gets: what ends within one is seen at its end. */
double world_capacity(const struct world *world)
{
    double us = (double)world->service_us + (double)WORLD_STEP_US / 2;

    return (world->serial ? 1 : world->limits.slots) * (double)SECOND / us;
}

/* The backlog that one worker works off in the drain target, or half of that: as who knows his messages writes it. */
static unsigned backlog_that_suits(const struct world *world, struct rng *rng)
{
    uint64_t n = (uint64_t)((double)world->limits.drain_target_us / (double)SECOND * world_capacity(world));

    n = between(rng, (n + 1) / 2, n);
    return n > 0 ? (unsigned)n : 1;
}

static struct message *ready_of(const struct world *world)
{
    struct message *ready = world->ready ? world->ready : calloc(WORLD_MESSAGES_MAX, sizeof *ready);

    if (!ready)
        abort();
    return ready;
}

void world_begin(struct world *world, uint64_t seed)
{
    struct rng rng = {seed};

    *world = (struct world){.ready = ready_of(world), .now_us = 1000 * SECOND};
    world->arrivals.state = rng_next(&rng);
    world->chance.state = rng_next(&rng);
    world->limits = (struct scale_limits){
        .max = (unsigned)between(&rng, 4, WORLD_WORKERS_MAX),
        .slots = (unsigned)between(&rng, 1, rng_below(&rng, 2) ? 1 : WORLD_SLOTS_MAX),
        .drain_target_us = TARGET_LEAST_US + rng_below(&rng, 16) * SECOND,
        .cooldown_us = between(&rng, 0, 120) * SECOND,
    };
    world->limits.min = (unsigned)rng_below(&rng, rng_below(&rng, 4) > 0 ? 4 : world->limits.max / 2);
    world->service_us = draw_mean_us(&rng);
    world->spread = (unsigned)rng_below(&rng, world->service_us > TARGET_LEAST_US / 5 ? 2 : 3);
    world->serial = rng_below(&rng, 3) == 0;
    if (world->serial && world->limits.slots > TARGET_LEAST_US / world->service_us)
        world->limits.slots = (unsigned)(TARGET_LEAST_US / world->service_us);
    world->retry_us = rng_below(&rng, 3) * 5 * SECOND;
    world->start_us = between(&rng, 0, 1000) * 1000;
    world->limits.backlog_per_worker = backlog_that_suits(world, &rng);
    world_start(world, world->limits.min);
}

void world_end(struct world *world)
{
    free(world->ready);
    world->ready = NULL;
}

void world_copy(struct world *to, const struct world *from)
{
    struct message *ready = ready_of(to);

    *to = *from;
    to->ready = ready;
    for (uint64_t i = from->head; i < from->tail; i++)
        ready[i % WORLD_MESSAGES_MAX] = from->ready[i % WORLD_MESSAGES_MAX];
}
