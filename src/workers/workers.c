/* workers.c - see workers.h. */
#include "workers/workers.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "workers/crew_private.h"
#include "workers/process.h"

#define TICK_US US_PER_S
#define LOOK_WAIT_US (2 * US_PER_S)
#define QUEUE_NAME_MAX 65

static struct crew *crew_at(struct list *node)
{
    return container_of(node, struct crew, list);
}

static struct gauge *gauge_at(struct list *node)
{
    return container_of(node, struct gauge, list);
}

/* ---- how the queues are ------------------------------------------------------------------------------------------ */

/* Of the queue thread; it may be forgotten by who asked. */
struct watch {
    struct queue_job job;
    size_t n;
    struct watch_row {
        char name[QUEUE_NAME_MAX];
        bool found;
        struct crew_queue queue;
    } rows[];
};

static void run_watch(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct watch *watch = container_of(job, struct watch, job);

    (void)now_us;
    for (size_t i = 0; i < watch->n; i++) {
        struct watch_row *row = &watch->rows[i];
        struct broker_queue_view view;
        const struct broker_queue_numbers *n = &view.numbers;

        row->found = broker_find_queue(broker, slice_from_text(row->name), &view);
        if (!row->found)
            continue;
        row->queue = (struct crew_queue){
            .came = n->published + n->redelivered,
            .gone = n->delivered > n->in_flight ? n->delivered - n->in_flight : 0,
            .ready = n->ready,
            .in_flight = n->in_flight,
            .oldest_us = n->oldest_us,
            .paused = n->paused,
        };
    }
}

static void free_watch(struct queue_job *job)
{
    free(container_of(job, struct watch, job));
}

static struct watch *create_watch(const struct workers *workers)
{
    struct watch *watch;
    size_t n = 0;

    for (const struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        n++;
    watch = calloc(1, sizeof *watch + n * sizeof watch->rows[0]);
    if (!watch)
        return NULL;
    watch->job = (struct queue_job){.run = run_watch, .free = free_watch};
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        memcpy(watch->rows[watch->n++].name, crew_at(at)->section->queue->name,
               strlen(crew_at(at)->section->queue->name) + 1);
    return watch;
}

/* Crews may have come and gone since it was asked. */
static void take_watch(struct workers *workers, const struct watch *watch)
{
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        for (size_t i = 0; i < watch->n; i++)
            if (watch->rows[i].found && strcmp(watch->rows[i].name, crew_at(at)->section->queue->name) == 0) {
                crew_at(at)->queue = watch->rows[i].queue;
                crew_at(at)->looked = true;
            }
}

/* In the fiber. Where it cannot be known, nothing is decided. */
static void look(struct workers *workers)
{
    struct watch *watch;

    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        crew_at(at)->looked = false;
    if (workers->draining || !workers->port->thread || list_empty(&workers->crews))
        return;
    watch = create_watch(workers);
    if (!watch || queue_job_run(workers->port, &watch->job, false, loop_deadline(LOOK_WAIT_US)) != 0)
        return;
    take_watch(workers, watch);
    free_watch(&watch->job);
}

/* ---- gauges ------------------------------------------------------------------------------------------------------ */

struct gauge *workers_find_gauge(const struct workers *workers, struct slice name)
{
    for (struct list *at = workers->gauges.next; at != &workers->gauges; at = at->next)
        if (slice_equal(slice_from_text(gauge_at(at)->name), name))
            return gauge_at(at);
    return NULL;
}

static void watch_gauge(struct gauge *gauge)
{
    bool full = gauge_state(gauge, loop_now_us()) == GAUGE_FULL;
    char reason[GAUGE_TEXT_MAX];

    if (full == gauge->was_full)
        return;
    gauge->was_full = full;
    gauge_reason(gauge, loop_now_us(), reason);
    event_say(full ? EVENT_GAUGE_FULL : EVENT_GAUGE_OK, SLICE(""), SLICE(""), "gauge %s: %s: %s", gauge->name,
              full ? "full, so that its workers are not made more" : "not full any more", reason);
}

void workers_restore_gauge(struct gauge *gauge, double value, uint64_t age_us)
{
    gauge->told = true;
    gauge->value = value;
    gauge->told_us = loop_now_us() > age_us ? loop_now_us() - age_us : 0;
    watch_gauge(gauge);
}

void workers_tell_gauge(struct gauge *gauge, double value)
{
    workers_restore_gauge(gauge, value, 0);
}

void workers_free_gauges(struct list *gauges)
{
    while (!list_empty(gauges)) {
        struct gauge *gauge = gauge_at(list_pop_front(gauges));

        free(gauge->name);
        free(gauge);
    }
}

/* ---- the fiber --------------------------------------------------------------------------------------------------- */

void crew_free(struct crew *crew)
{
    list_remove(&crew->list);
    config_unref(crew->config);
    free(crew->name);
    free(crew);
}

static void settle(struct workers *workers)
{
    struct list *next;

    for (struct list *at = workers->crews.next; at != &workers->crews; at = next) {
        crew_settle(crew_at(at));
        next = at->next;
        if (crew_at(at)->leaving && list_empty(&crew_at(at)->workers))
            crew_free(crew_at(at));
    }
}

static void tick(struct workers *workers)
{
    look(workers);
    for (struct list *at = workers->gauges.next; at != &workers->gauges; at = at->next)
        watch_gauge(gauge_at(at));
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        crew_tick(crew_at(at));
}

static bool some_are_left(const struct workers *workers)
{
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        if (!list_empty(&crew_at(at)->workers))
            return true;
    return workers->n_passes > 0;
}

static void workers_main(void *arg)
{
    struct workers *workers = arg;
    uint64_t next_us = loop_now_us();

    while (!workers->draining || some_are_left(workers)) {
        if (loop_now_us() >= next_us) {
            tick(workers);
            next_us = next_us + TICK_US > loop_now_us() ? next_us + TICK_US : loop_now_us() + TICK_US;
        }
        settle(workers);
        fiber_park(next_us);
    }
    keeper_free(workers->keeper);
    workers->keeper = NULL;
    workers->gone(workers->arg);
}

void workers_wake(struct workers *workers)
{
    fiber_wake(workers->fiber);
}

struct workers *workers_create(const struct workers_options *options)
{
    struct workers *workers = calloc(1, sizeof *workers);

    if (!workers)
        return NULL;
    list_init(&workers->crews);
    list_init(&workers->gauges);
    workers->port = options->port;
    workers->mailboxes = options->mailboxes;
    workers->n_threads = options->n_threads;
    workers->gone = options->gone;
    workers->arg = options->arg;
    workers->rng.state = clock_monotonic_us();
    workers->keeper = keeper_create();
    workers->fiber = workers->keeper ? fiber_spawn("workers", workers_main, workers) : NULL;
    if (workers->fiber)
        return workers;
    if (workers->keeper)
        keeper_free(workers->keeper);
    free(workers);
    return NULL;
}

void workers_serve(struct workers *workers)
{
    workers->serving = true;
    workers_wake(workers);
}

void workers_drain(struct workers *workers, uint64_t deadline_us, uint64_t kill_us)
{
    workers->hurry = workers->draining;
    workers->draining = true;
    workers->deadline_us = deadline_us;
    workers->kill_us = kill_us;
    workers_wake(workers);
}

bool workers_are_gone(const struct workers *workers)
{
    return !workers->keeper;
}

void workers_free(struct workers *workers)
{
    fiber_join(workers->fiber, NEVER);
    while (!list_empty(&workers->crews))
        crew_free(crew_at(workers->crews.next));
    workers_free_gauges(&workers->gauges);
    config_unref(workers->config);
    free(workers);
}

struct crew *workers_find(const struct workers *workers, struct slice name)
{
    for (struct list *at = workers->crews.next; at != &workers->crews; at = at->next)
        if (!crew_at(at)->leaving && slice_equal(slice_from_text(crew_at(at)->name), name))
            return crew_at(at);
    return NULL;
}

const struct worker_feed *worker_feed_of(enum worker_kind kind)
{
    static const struct worker_feed *const feeds[] = {
        [WORKER_CONSUMER] = &consumer_feed,
        [WORKER_HTTP] = &service_feed,
        [WORKER_FILTER] = &filter_feed,
    };

    return feeds[kind];
}
