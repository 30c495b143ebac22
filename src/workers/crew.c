/* crew.c - see crew.h. What is decided once a second (crew_tick), and what is done about it, then and whenever a worker has ended
 * (crew_settle). */
#include "workers/crew.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "workers/crew_private.h"
#include "workers/worker.h"

#define RATE_US (10.0 * US_PER_S)

static struct worker *worker_at(struct list *node)
{
    return container_of(node, struct worker, list);
}

/* ---- counting ---------------------------------------------------------------------------------------------------- */

void crew_count(struct crew *crew, struct crew_count *count)
{
    *count = (struct crew_count){.handled = crew->handled, .busy_us = crew->busy_us};
    for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next) {
        struct worker *worker = worker_at(at);
        unsigned *const counts[WORKER_PHASES] = {
            [WORKER_STARTING] = &count->starting,
            [WORKER_IDLE] = &count->idle,
            [WORKER_BUSY] = &count->busy,
            [WORKER_DRAINING] = &count->stopping,
            [WORKER_BACKING_OFF] = &count->backing_off,
        };

        worker_look(worker);
        ++*counts[worker->phase];
        count->workers++;
        count->in_flight += worker->sight.in_flight;
        count->in_flight_kept += worker->stopping ? 0 : worker->sight.in_flight;
        count->handled += worker->sight.handled;
        count->busy_us += worker->sight.busy_us;
    }
}

bool crew_runs(const struct crew *crew)
{
    return crew->section->command.text && worker_feed_of(crew->section->kind) && !crew->leaving &&
           !crew->owner->draining;
}

static bool gauge_is_full(const struct crew *crew)
{
    const struct config_gauge *config = crew->section->gauge;
    const struct gauge *gauge =
        config ? workers_find_gauge(crew->owner, slice_from_text(config->name)) : NULL;

    return gauge && gauge_state(gauge, loop_now_us()) == GAUGE_FULL;
}

/* Where nothing is started, somebody else is taken to have as many as there should be. */
static void guess(const struct crew *crew, struct scale_sight *sight)
{
    const struct crew_queue *queue = &crew->queue;
    uint64_t busy = (queue->in_flight + crew->section->slots - 1) / crew->section->slots;

    sight->in_flight = queue->in_flight;
    sight->handled = queue->gone;
    sight->busy_us = crew->guessed_us;
    sight->busy = busy < crew->desired ? (unsigned)busy : crew->desired;
    sight->idle = crew->desired - sight->busy;
}

static void see(const struct crew *crew, const struct crew_count *count, struct scale_sight *sight)
{
    uint64_t wall_us = clock_wall_us(), oldest_us = crew->queue.oldest_us;
    bool is_paused = crew->queue.paused; /* nobody can work on what waits */

    *sight = (struct scale_sight){
        .now_us = loop_now_us(),
        .published = crew->queue.came,
        .handled = count->handled,
        .busy_us = count->busy_us,
        .ready = is_paused ? 0 : crew->queue.ready,
        .in_flight = count->in_flight_kept,
        .oldest_age_us = !is_paused && oldest_us && wall_us > oldest_us ? wall_us - oldest_us : 0,
        .starting = count->starting,
        .idle = count->idle,
        .busy = count->busy,
        .backing_off = count->backing_off,
        .starts = crew->starts,
        .crashes = crew->crashes,
        .gauge_full = gauge_is_full(crew),
    };
    if (!crew->section->command.text)
        guess(crew, sight);
}

static void take_rate(struct crew *crew, const struct scale_sight *sight)
{
    double us = (double)(sight->now_us - crew->ticked_us), fade = exp(-us / RATE_US);

    if (crew->ticked_us && us > 0 && sight->handled >= crew->handled_then)
        crew->handled_rate = crew->handled_rate * fade +
                             (double)(sight->handled - crew->handled_then) / us * US_PER_S * (1 - fade);
    if (crew->ticked_us)
        crew->guessed_us += crew->queue.in_flight * (sight->now_us - crew->ticked_us);
    crew->ticked_us = sight->now_us;
    crew->handled_then = sight->handled;
}

void crew_forget_queue(struct crew *crew)
{
    crew->queue = (struct crew_queue){0};
    crew->looked = false;
    crew->ticked_us = 0;
    scale_forget(&crew->scale);
}

/* ---- deciding ---------------------------------------------------------------------------------------------------- */

const struct crew_decision *crew_decision(const struct crew *crew, unsigned ago)
{
    const struct crew_decision *d = &crew->decisions[(crew->newest + CREW_DECISIONS - ago) % CREW_DECISIONS];

    return ago < CREW_DECISIONS && d->wall_us ? d : NULL;
}

static void note(struct crew *crew, const struct scale_sight *sight, const struct crew_decision *what)
{
    struct crew_decision *d;

    crew->newest = (crew->newest + 1) % CREW_DECISIONS;
    d = &crew->decisions[crew->newest];
    *d = *what;
    d->wall_us = clock_wall_us();
    d->arrival_rate = scale_arrival_rate(&crew->scale);
    d->service_s = scale_service_time(&crew->scale);
    d->ready = sight->ready;
    d->in_flight = sight->in_flight;
    d->starting = sight->starting;
    d->idle = sight->idle;
    d->busy = sight->busy;
    d->backing_off = sight->backing_off;
    d->gauge_full = sight->gauge_full;
}

static bool holds(enum scale_why why)
{
    return why == SCALE_AT_MAX || why == SCALE_CRASHING || why == SCALE_GAUGE;
}

static void say(const struct crew *crew, const struct scale_decision *d)
{
    if (d->from != d->desired)
        event_say(EVENT_WORKERS_SCALED, SLICE(""), SLICE(""), "workers %s: %u -> %u: %s", crew->name, d->from,
                  d->desired, d->text);
    else
        event_say(holds(d->why) ? EVENT_WORKERS_HELD : EVENT_WORKERS_SCALED, SLICE(""), SLICE(""),
                  "workers %s: stay at %u: %s", crew->name, d->desired, d->text);
}

static void decide(struct crew *crew, const struct scale_sight *sight)
{
    const struct config_workers *section = crew->section;
    struct scale_limits limits = {
        .min = section->min,
        .max = section->max,
        .slots = section->slots,
        .backlog_per_worker = section->backlog_per_worker,
        .drain_target_us = section->drain_target_us,
        .cooldown_us = section->cooldown_us,
    };
    struct scale_decision d;
    struct crew_decision noted;

    scale_tick(&crew->scale, &limits, sight, &d);
    crew->desired = d.desired;
    crew->why = d.why;
    snprintf(crew->text, sizeof crew->text, "%s", d.text);
    if (d.say) {
        noted = (struct crew_decision){.from = d.from, .to = d.desired};
        snprintf(noted.why, sizeof noted.why, "%s", scale_why_name(d.why));
        snprintf(noted.text, sizeof noted.text, "%s", d.text);
        note(crew, sight, &noted);
        say(crew, &d);
    }
    crew_stop_some(crew, d.stop, false);
}

void crew_tick(struct crew *crew)
{
    struct crew_count count;
    struct scale_sight sight;

    crew_count(crew, &count);
    see(crew, &count, &sight);
    take_rate(crew, &sight);
    if (!crew->looked || crew->leaving || crew->owner->draining)
        return;
    if (crew->hand == HAND_NONE)
        decide(crew, &sight);
    else
        scale_watch(&crew->scale, &sight);
}

/* ---- doing ------------------------------------------------------------------------------------------------------- */

/* In the order in which they go; of those of a phase the newest first. Whoever has a message goes only by hand, or when there may
 * not be as many. */
static const enum worker_phase leaving_order[] = {WORKER_BACKING_OFF, WORKER_IDLE, WORKER_STARTING,
                                                  WORKER_BUSY};

void crew_stop_some(struct crew *crew, unsigned n, bool busy_too)
{
    size_t n_phases = sizeof leaving_order / sizeof leaving_order[0] - !busy_too;

    for (size_t i = 0; i < n_phases; i++)
        for (struct list *at = crew->workers.prev; n && at != &crew->workers; at = at->prev)
            if (worker_at(at)->phase == leaving_order[i]) {
                worker_stop(worker_at(at), NEVER, NEVER);
                n--;
            }
}

static void stop_all(struct crew *crew)
{
    struct workers *owner = crew->owner;

    for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next)
        if (owner->hurry)
            worker_hurry(worker_at(at));
        else
            worker_stop(worker_at(at), owner->draining ? owner->deadline_us : NEVER,
                        owner->draining ? owner->kill_us : NEVER);
}

/* The lowest that no worker has; 0: all that may be are taken. */
static unsigned free_number(const struct crew *crew)
{
    bool taken[CONFIG_WORKERS_MOST + 1] = {false};

    for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next)
        taken[worker_at(at)->number] = true;
    for (unsigned number = 1; number <= crew->section->max; number++)
        if (!taken[number])
            return number;
    return 0;
}

static void start_missing(struct crew *crew, unsigned there)
{
    for (; there < crew->desired; there++) {
        unsigned number = free_number(crew);
        struct worker *worker = number ? worker_create(crew, number) : NULL;

        if (!worker)
            return; /* a number is free once one that stops has ended, memory perhaps in a second */
        list_push_back(&crew->workers, &worker->list);
    }
}

/* One of an earlier epoch that goes next: who has least to lose. NULL: there is none. */
static struct worker *next_old(struct crew *crew)
{
    for (size_t i = 0; i < sizeof leaving_order / sizeof leaving_order[0]; i++)
        for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next)
            if (worker_at(at)->phase == leaving_order[i] && worker_at(at)->epoch != crew->epoch)
                return worker_at(at);
    return NULL;
}

/* The next go only when those who took the place of the last ones take messages: a new command that does not work ends here.
 * there: workers that do not stop. */
static void replace_old(struct crew *crew, unsigned there)
{
    unsigned at_once = crew->desired / 4 ? crew->desired / 4 : 1;
    unsigned on_the_way = there < crew->desired ? crew->desired - there : 0;
    struct worker *old;

    for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next) {
        const struct worker *worker = worker_at(at);

        if (worker->epoch == crew->epoch &&
            (worker->phase == WORKER_STARTING || worker->phase == WORKER_BACKING_OFF))
            on_the_way++;
    }
    for (; on_the_way < at_once && (old = next_old(crew)); on_the_way++)
        worker_stop(old, NEVER, NEVER);
}

static void free_done(struct crew *crew)
{
    struct list *next;

    for (struct list *at = crew->workers.next; at != &crew->workers; at = next) {
        next = at->next;
        if (!worker_at(at)->done)
            continue;
        list_remove(at);
        worker_free(worker_at(at));
    }
}

void crew_settle(struct crew *crew)
{
    struct crew_count count;
    unsigned there, most;

    free_done(crew);
    if (!crew_runs(crew)) {
        stop_all(crew);
        return;
    }
    crew_count(crew, &count);
    there = count.workers - count.stopping;
    most = crew->hand == HAND_NONE ? crew->section->max : crew->desired;
    if (there > most)
        crew_stop_some(crew, there - most, true);
    else if (crew->owner->serving)
        start_missing(crew, there);
    replace_old(crew, there);
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

static void change_by_hand(struct crew *crew, enum crew_hand hand, unsigned desired, const char *text)
{
    struct crew_decision noted = {.from = crew->desired, .to = desired, .by_hand = true, .why = "by-hand"};
    struct crew_count count;
    struct scale_sight sight;

    crew_count(crew, &count);
    see(crew, &count, &sight);
    snprintf(noted.text, sizeof noted.text, "%s", text);
    note(crew, &sight, &noted);
    crew->hand = hand;
    crew->hand_count = desired;
    crew->desired = desired;
    scale_set(&crew->scale, desired, loop_now_us());
    workers_wake(crew->owner);
}

void crew_pause(struct crew *crew)
{
    change_by_hand(crew, HAND_PAUSED, 0, "paused by hand");
    event_say(EVENT_WORKERS_PAUSED, SLICE(""), SLICE(""),
              "workers %s: paused by hand: those that run finish what they have, and stop", crew->name);
}

void crew_set(struct crew *crew, unsigned count)
{
    char text[64];

    snprintf(text, sizeof text, "set to %u by hand", count);
    change_by_hand(crew, HAND_SET, count, text);
    event_say(EVENT_WORKERS_SET, SLICE(""), SLICE(""),
              "workers %s: set to %u by hand, until they are resumed", crew->name, count);
}

void crew_resume(struct crew *crew)
{
    const struct config_workers *section = crew->section;
    unsigned count = crew->desired < section->min ? section->min : crew->desired;

    change_by_hand(crew, HAND_NONE, count, "resumed by hand");
    event_say(EVENT_WORKERS_RESUMED, SLICE(""), SLICE(""),
              "workers %s: resumed by hand: there are as many as are needed again", crew->name);
}

void crew_restore(struct crew *crew, enum crew_hand hand, unsigned count, unsigned desired)
{
    const struct config_workers *section = crew->section;

    if (desired > section->max)
        desired = section->max;
    if (hand == HAND_NONE && desired < section->min)
        desired = section->min;
    crew->hand = hand;
    crew->hand_count = count < section->max ? count : section->max;
    crew->desired = desired;
    scale_set(&crew->scale, desired, loop_now_us());
}

void crew_restart(struct crew *crew)
{
    crew->epoch++;
    event_say(EVENT_WORKERS_RESTARTED, SLICE(""), SLICE(""),
              "workers %s: restarted by hand, a few at a time; each finishes what it has", crew->name);
    workers_wake(crew->owner);
}

/* ---- how it is --------------------------------------------------------------------------------------------------- */

const char *crew_state_name(enum crew_state state)
{
    static const char *const names[] = {
        [CREW_RUNNING] = "running",   [CREW_GROWING] = "growing", [CREW_SHRINKING] = "shrinking",
        [CREW_CRASHING] = "crashing", [CREW_HELD] = "held",       [CREW_PAUSED] = "paused",
        [CREW_IDLE] = "idle",
    };

    return names[state];
}

static bool all_fail(const struct crew_count *count)
{
    return count->backing_off && !count->idle && !count->busy;
}

static const char *last_failure(const struct crew *crew)
{
    for (struct list *at = crew->workers.next; at != &crew->workers; at = at->next)
        if (worker_at(at)->phase == WORKER_BACKING_OFF)
            return worker_at(at)->reason;
    return "";
}

enum crew_state crew_state(const struct crew *crew, const struct crew_count *count,
                           char reason[CREW_REASON_MAX])
{
    unsigned there = count->workers - count->stopping;
    const char *failure = last_failure(crew);

    snprintf(reason, CREW_REASON_MAX, "%s", crew->text);
    if (crew->hand == HAND_PAUSED) {
        snprintf(reason, CREW_REASON_MAX, "paused by hand; resume them when they are to work again");
        return CREW_PAUSED;
    }
    if (all_fail(count) || crew->why == SCALE_CRASHING) {
        snprintf(reason, CREW_REASON_MAX, "%s%s%s", failure, *failure && crew->text[0] ? "; " : "",
                 crew->text);
        return CREW_CRASHING;
    }
    if (crew->hand == HAND_SET) {
        snprintf(reason, CREW_REASON_MAX, "set to %u by hand; resume them to have as many as are needed",
                 crew->hand_count);
        return CREW_HELD;
    }
    if (crew->queue.paused) {
        snprintf(reason, CREW_REASON_MAX,
                 "queue %s is paused; resume it when its messages are to be worked on",
                 crew->section->queue->name);
        return CREW_HELD;
    }
    if (holds(crew->why))
        return CREW_HELD;
    if (crew->section->command.text && (there < crew->desired || count->starting))
        return CREW_GROWING;
    if (count->stopping)
        return CREW_SHRINKING;
    return count->busy || crew->queue.ready || crew->queue.in_flight ? CREW_RUNNING : CREW_IDLE;
}
