/* bottleneck.c - see bottleneck.h. What makes a thing one is in bottleneck_judge.c; here is how long, and which is told. */
#include "admin/bottleneck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/bottleneck_private.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/list.h"

/* What a pool's p95 was at its best is what it was in the last half hour to hour. */
#define TURN_US (1800 * US_PER_S)

/* A tick that came late does not put off the next one. */
#define LATE_US (US_PER_S / 2)

const char *const bottleneck_layer_names[N_BOTTLENECK_LAYERS] = {
    [BOTTLENECK_NONE] = "none",   [BOTTLENECK_SERVERS] = "servers", [BOTTLENECK_SERVER] = "server",
    [BOTTLENECK_QUEUE] = "queue", [BOTTLENECK_WORKERS] = "workers", [BOTTLENECK_DATABASE] = "database",
};

void bottleneck_say(struct bottleneck_lines *lines, const char *format, ...)
{
    va_list args;

    if (lines->n == BOTTLENECK_LINES)
        return;
    va_start(args, format);
    vsnprintf(lines->at[lines->n++], BOTTLENECK_LINE_MAX, format, args);
    va_end(args);
}

/* ---- the last seconds -------------------------------------------------------------------------------------- */

void trend_add(struct trend *trend, uint64_t now_us, const double figures[TREND_LANES])
{
    trend->newest = (trend->newest + 1) % TREND_SAMPLES;
    trend->at_us[trend->newest] = now_us;
    for (size_t lane = 0; lane < TREND_LANES; lane++)
        trend->lanes[lane][trend->newest] = figures[lane];
    if (trend->n < TREND_SAMPLES)
        trend->n++;
}

double trend_figure(const struct trend *trend, unsigned lane, unsigned ago)
{
    return trend->lanes[lane][(trend->newest + TREND_SAMPLES - ago) % TREND_SAMPLES];
}

unsigned trend_rises(const struct trend *trend, unsigned lane)
{
    unsigned n = 0;

    for (unsigned ago = 0; ago + 1 < trend->n; ago++)
        n += trend_figure(trend, lane, ago) > trend_figure(trend, lane, ago + 1);
    return n;
}

double trend_rise(const struct trend *trend, unsigned lane)
{
    return trend->n ? trend_figure(trend, lane, 0) - trend_figure(trend, lane, trend->n - 1) : 0;
}

double trend_seconds(const struct trend *trend)
{
    unsigned oldest = (trend->newest + TREND_SAMPLES + 1 - trend->n) % TREND_SAMPLES;

    return trend->n ? (double)(trend->at_us[trend->newest] - trend->at_us[oldest]) / US_PER_S : 0;
}

/* ---- things ------------------------------------------------------------------------------------------------ */

static void free_thing(struct bottleneck_thing *thing)
{
    free(thing->name);
    free(thing->pool);
    free(thing->finding);
    free(thing);
}

void bottleneck_free(struct bottleneck *bottleneck)
{
    for (size_t i = 0; i < bottleneck->n; i++)
        free_thing(bottleneck->things[i]);
    free(bottleneck->things);
    hash_table_free(&bottleneck->by_name);
    *bottleneck = (struct bottleneck){0};
}

struct thing_key {
    enum thing_kind kind;
    const char *pool; /* of a server, else NULL */
    struct slice name;
};

static uint64_t hash_of(const struct thing_key *key)
{
    return hash_bytes(key->name) ^
           ((uint64_t)key->kind + 1) * (key->pool ? hash_bytes(slice_from_text(key->pool)) : 1);
}

static bool is_thing(const struct bottleneck_thing *thing, const struct thing_key *key)
{
    return thing->kind == key->kind && slice_equal(slice_from_text(thing->name), key->name) &&
           (!key->pool || strcmp(thing->pool, key->pool) == 0);
}

static bool make_room(struct bottleneck *bottleneck)
{
    size_t room = bottleneck->room ? 2 * bottleneck->room : 16;
    struct bottleneck_thing **things;

    if (bottleneck->n == BOTTLENECK_THINGS_MAX || !hash_table_reserve(&bottleneck->by_name))
        return false;
    if (bottleneck->n < bottleneck->room)
        return true;
    things = realloc(bottleneck->things, room * sizeof *things);
    if (!things)
        return false;
    bottleneck->things = things;
    bottleneck->room = room;
    return true;
}

static struct bottleneck_thing *add_thing(struct bottleneck *bottleneck, const struct thing_key *key)
{
    struct bottleneck_thing *thing = make_room(bottleneck) ? calloc(1, sizeof *thing) : NULL;

    if (!thing)
        return NULL;
    thing->kind = key->kind;
    thing->least_us[0] = thing->least_us[1] = NAN;
    thing->turn_us = bottleneck->now_us;
    thing->name = strndup(key->name.ptr, key->name.len);
    thing->pool = key->pool ? strdup(key->pool) : NULL;
    if (!thing->name || (key->pool && !thing->pool)) {
        free_thing(thing);
        return NULL;
    }
    hash_table_add(&bottleneck->by_name, &thing->by_name, hash_of(key));
    bottleneck->things[bottleneck->n++] = thing;
    return thing;
}

/* NULL: no memory, or there are enough. */
static struct bottleneck_thing *thing_of(struct bottleneck *bottleneck, const struct thing_key *key)
{
    struct hash_item *item = hash_table_find(&bottleneck->by_name, hash_of(key));
    struct bottleneck_thing *thing = NULL;

    for (; item && !thing; item = hash_table_next(item)) {
        struct bottleneck_thing *its = container_of(item, struct bottleneck_thing, by_name);

        if (is_thing(its, key))
            thing = its;
    }
    if (!thing)
        thing = add_thing(bottleneck, key);
    if (thing)
        thing->seen_us = bottleneck->now_us;
    return thing;
}

/* found: what was found of it now; NULL: nothing. */
static void settle(struct bottleneck_thing *thing, uint64_t now_us, const struct bottleneck_finding *found)
{
    if (found) {
        if (!thing->finding) {
            thing->finding = malloc(sizeof *thing->finding);
            thing->since_us = now_us;
        }
        if (!thing->finding)
            return;
        *thing->finding = *found;
        thing->found_us = now_us;
        thing->stands |= now_us - thing->since_us >= BOTTLENECK_HOLD_US;
        return;
    }
    if (!thing->finding)
        return;
    if (thing->stands && now_us - thing->found_us < BOTTLENECK_END_US) {
        thing->finding->ended_s = (double)(now_us - thing->found_us) / US_PER_S;
        return;
    }
    free(thing->finding);
    thing->finding = NULL;
    thing->stands = false;
}

/* ---- a tick ------------------------------------------------------------------------------------------------ */

bool bottleneck_is_due(const struct bottleneck *bottleneck, uint64_t now_us)
{
    return !bottleneck->now_us || now_us - bottleneck->now_us >= BOTTLENECK_TICK_US - LATE_US;
}

void bottleneck_begin(struct bottleneck *bottleneck, uint64_t now_us)
{
    bottleneck->now_us = now_us;
}

static void note_latency(struct bottleneck_thing *thing, double p95_us, uint64_t now_us)
{
    if (now_us - thing->turn_us >= TURN_US) {
        thing->least_us[1] = thing->least_us[0];
        thing->least_us[0] = NAN;
        thing->turn_us = now_us;
    }
    thing->least_us[0] = fmin(thing->least_us[0], p95_us); /* of a number and NAN it is the number */
}

static void add_server(struct bottleneck *bottleneck, const struct bottleneck_pool *pool,
                       const struct bottleneck_server *server)
{
    struct bottleneck_thing *thing =
        thing_of(bottleneck, &(struct thing_key){THING_SERVER, pool->name, server->name});
    struct bottleneck_finding found = {0};

    if (!thing)
        return;
    if (thing->is_known && server->ejections > thing->ejections)
        thing->ejected_us = bottleneck->now_us;
    thing->is_known = true;
    thing->ejections = server->ejections;
    settle(thing, bottleneck->now_us,
           bottleneck_judge_server(thing, pool, server, bottleneck->now_us, &found) ? &found : NULL);
}

void bottleneck_add_pool(struct bottleneck *bottleneck, const struct bottleneck_pool *pool)
{
    struct bottleneck_thing *thing =
        thing_of(bottleneck, &(struct thing_key){THING_POOL, NULL, slice_from_text(pool->name)});
    struct bottleneck_finding found = {0};
    unsigned in_flight = 0;

    if (!thing)
        return;
    for (size_t i = 0; i < pool->n_servers; i++)
        in_flight += pool->servers[i].active;
    trend_add(&thing->trend, bottleneck->now_us,
              (double[TREND_LANES]){[LANE_IN_LINE] = pool->in_line,
                                    [LANE_IN_FLIGHT] = in_flight,
                                    [LANE_REFUSED] = (double)pool->refused});
    settle(thing, bottleneck->now_us, bottleneck_judge_pool(thing, pool, &found) ? &found : NULL);
    note_latency(thing, pool->p95_us, bottleneck->now_us);
    for (size_t i = 0; i < pool->n_servers; i++)
        add_server(bottleneck, pool, &pool->servers[i]);
}

void bottleneck_add_queue(struct bottleneck *bottleneck, const struct bottleneck_queue *queue)
{
    struct bottleneck_thing *thing =
        thing_of(bottleneck, &(struct thing_key){THING_QUEUE, NULL, slice_from_text(queue->name)});
    struct bottleneck_finding found = {0};

    if (!thing)
        return;
    trend_add(&thing->trend, bottleneck->now_us,
              (double[TREND_LANES]){[LANE_BACKLOG] = (double)(queue->waiting + queue->in_flight),
                                    [LANE_TURNED_AWAY] = (double)(queue->refused + queue->dropped)});
    settle(thing, bottleneck->now_us, bottleneck_judge_queue(thing, queue, &found) ? &found : NULL);
}

void bottleneck_add_gauge(struct bottleneck *bottleneck, const struct bottleneck_gauge *gauge)
{
    struct bottleneck_thing *thing =
        thing_of(bottleneck, &(struct thing_key){THING_GAUGE, NULL, slice_from_text(gauge->name)});
    struct bottleneck_finding found = {0};

    if (thing)
        settle(thing, bottleneck->now_us, bottleneck_judge_gauge(gauge, &found) ? &found : NULL);
}

/* ---- which of them ----------------------------------------------------------------------------------------- */

/* Something is told of the pool that the queue is pushed to. */
static bool is_explained(const struct bottleneck *bottleneck, const struct bottleneck_finding *queue)
{
    if (queue->layer != BOTTLENECK_QUEUE || !queue->pool[0])
        return false;
    for (size_t i = 0; i < bottleneck->n; i++) {
        const struct bottleneck_thing *thing = bottleneck->things[i];

        if (thing->stands && ((thing->kind == THING_POOL && strcmp(thing->name, queue->pool) == 0) ||
                              (thing->kind == THING_SERVER && strcmp(thing->pool, queue->pool) == 0)))
            return true;
    }
    return false;
}

static bool is_rather(const struct bottleneck *bottleneck, const struct bottleneck_thing *thing,
                      const struct bottleneck_thing *than)
{
    if (!than || thing->finding->layer != than->finding->layer)
        return !than || thing->finding->layer > than->finding->layer;
    if (thing == bottleneck->shown || than == bottleneck->shown)
        return thing == bottleneck->shown;
    return thing->since_us < than->since_us;
}

static void forget_gone(struct bottleneck *bottleneck)
{
    size_t n = 0;

    for (size_t i = 0; i < bottleneck->n; i++) {
        struct bottleneck_thing *thing = bottleneck->things[i];

        if (thing->seen_us == bottleneck->now_us) {
            bottleneck->things[n++] = thing;
            continue;
        }
        if (thing == bottleneck->shown)
            bottleneck->shown = NULL;
        hash_table_remove(&bottleneck->by_name, &thing->by_name);
        free_thing(thing);
    }
    bottleneck->n = n;
}

void bottleneck_end(struct bottleneck *bottleneck)
{
    const struct bottleneck_thing *best = NULL;

    forget_gone(bottleneck);
    for (size_t i = 0; i < bottleneck->n; i++) {
        const struct bottleneck_thing *thing = bottleneck->things[i];

        if (thing->stands && !is_explained(bottleneck, thing->finding) && is_rather(bottleneck, thing, best))
            best = thing;
    }
    bottleneck->shown = best;
}

const struct bottleneck_finding *bottleneck_shown(const struct bottleneck *bottleneck)
{
    return bottleneck->shown ? bottleneck->shown->finding : NULL;
}

const struct bottleneck_finding *bottleneck_other(const struct bottleneck *bottleneck, size_t at)
{
    for (size_t i = 0; i < bottleneck->n; i++)
        if (bottleneck->things[i]->stands && bottleneck->things[i] != bottleneck->shown && at-- == 0)
            return bottleneck->things[i]->finding;
    return NULL;
}
