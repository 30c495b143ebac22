/* history.c - see history.h.
 *
 * A step's samples stand at the step's number modulo HISTORY_SAMPLES. What stands there from before is overwritten when the
 * thing's next sample comes: with that, or, where it missed some, with gaps. */
#include "admin/history.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

const struct history_format history_formats[N_HISTORY_KINDS] = {
    [HISTORY_LISTENER] = {"listener", {"rate", "p95_ms", "errors", NULL}},
    [HISTORY_POOL] = {"pool", {"rate", "p95_ms", "errors", NULL}},
    [HISTORY_QUEUE] = {"queue", {"published", "acked", "ready", "oldest_age"}},
    [HISTORY_WORKERS] = {"workers", {"running", "desired", "busy", NULL}},
    [HISTORY_GAUGE] = {"gauge", {"value", NULL}},
};

static void free_thing(struct history_thing *thing)
{
    free(thing->name);
    free(thing);
}

void history_free(struct history *history)
{
    for (size_t i = 0; i < history->n; i++)
        free_thing(history->things[i]);
    free(history->things);
    *history = (struct history){0};
}

static uint64_t step_of(uint64_t now_us)
{
    return now_us / (HISTORY_STEP_S * US_PER_S);
}

bool history_is_due(const struct history *history, uint64_t now_us)
{
    return step_of(now_us) > history->step;
}

void history_begin(struct history *history, uint64_t now_us)
{
    history->step = step_of(now_us);
    history->hint = 0;
}

static bool is_thing(const struct history_thing *thing, enum history_kind kind, const char *name)
{
    return thing->kind == kind && strcmp(thing->name, name) == 0;
}

/* NULL: there is none. */
static struct history_thing *find_thing(struct history *history, enum history_kind kind, const char *name)
{
    for (size_t i = 0; i < history->n; i++) {
        size_t at = (history->hint + i) % history->n;

        if (!is_thing(history->things[at], kind, name))
            continue;
        history->hint = at + 1;
        return history->things[at];
    }
    return NULL;
}

static bool make_room(struct history *history)
{
    size_t room = history->room ? 2 * history->room : 16;
    struct history_thing **things;

    if (history->n == HISTORY_THINGS_MAX)
        return false;
    if (history->n < history->room)
        return true;
    things = realloc(history->things, room * sizeof *things);
    if (!things)
        return false;
    history->things = things;
    history->room = room;
    return true;
}

static void clear_sample(struct history_thing *thing, uint64_t step)
{
    for (size_t lane = 0; lane < HISTORY_LANES; lane++)
        thing->lanes[lane][step % HISTORY_SAMPLES] = NAN;
}

/* NULL: no memory, or there are enough. */
static struct history_thing *add_thing(struct history *history, enum history_kind kind, const char *name)
{
    struct history_thing *thing = make_room(history) ? calloc(1, sizeof *thing) : NULL;

    if (!thing)
        return NULL;
    thing->kind = kind;
    thing->name = strdup(name);
    if (!thing->name) {
        free(thing);
        return NULL;
    }
    for (uint64_t step = 0; step < HISTORY_SAMPLES; step++)
        clear_sample(thing, step);
    thing->step = history->step;
    history->things[history->n++] = thing;
    return thing;
}

void history_add(struct history *history, enum history_kind kind, const char *name,
                 const double figures[HISTORY_LANES])
{
    struct history_thing *thing = find_thing(history, kind, name);
    uint64_t step = history->step, missed;

    if (!thing)
        thing = add_thing(history, kind, name);
    if (!thing)
        return;
    missed = step - thing->step < HISTORY_SAMPLES ? step - thing->step : HISTORY_SAMPLES;
    for (uint64_t i = 1; i < missed; i++)
        clear_sample(thing, step - i);
    for (size_t lane = 0; lane < HISTORY_LANES; lane++)
        thing->lanes[lane][step % HISTORY_SAMPLES] = (float)figures[lane];
    thing->step = step;
}

void history_end(struct history *history)
{
    size_t n = 0;

    if (history->readers)
        return;
    for (size_t i = 0; i < history->n; i++) {
        if (history->things[i]->step + HISTORY_SAMPLES > history->step)
            history->things[n++] = history->things[i];
        else
            free_thing(history->things[i]);
    }
    history->n = n;
}

double history_figure(const struct history_thing *thing, size_t lane, uint64_t step)
{
    if (step > thing->step || step + HISTORY_SAMPLES <= thing->step)
        return NAN;
    return (double)thing->lanes[lane][step % HISTORY_SAMPLES];
}
