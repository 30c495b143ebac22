/* workers_look.c - see workers_look.h. */
#include "admin/workers_look.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

static size_t count(const struct list *list)
{
    size_t n = 0;

    for (const struct list *at = list->next; at != list; at = at->next)
        n++;
    return n;
}

static int compare_numbers(const void *a, const void *b)
{
    const struct worker_seen *x = a, *y = b;

    return (x->number > y->number) - (x->number < y->number);
}

static void see_workers(struct crew_seen *seen, struct list *workers)
{
    for (struct list *at = workers->next; at != workers; at = at->next) {
        const struct worker *worker = container_of(at, struct worker, list);
        struct worker_seen *w = &seen->workers[seen->n++];

        *w = (struct worker_seen){
            .number = worker->number,
            .pid = worker->process.state == PROCESS_RUNS ? worker->process.pid : 0,
            .phase = worker->phase,
            .since_us = worker->since_us,
            .in_flight = worker->sight.in_flight,
            .handled = worker->handled + worker->sight.handled,
            .restarts = worker->restarts,
            .port = worker->port,
        };
        snprintf(w->reason, sizeof w->reason, "%s", worker->reason);
    }
    qsort(seen->workers, seen->n, sizeof *seen->workers, compare_numbers);
}

static bool see_crew(struct crew_seen *seen, struct crew *crew)
{
    const struct crew_decision *decision = crew_decision(crew, 0);

    *seen = (struct crew_seen){
        .config = config_ref(crew->config),
        .section = crew->section,
        .desired = crew->desired,
        .leaving = crew->leaving,
        .hand = crew->hand,
        .service_s = scale_service_time(&crew->scale),
        .arrival_rate = scale_arrival_rate(&crew->scale),
        .handled_rate = crew->handled_rate,
        .starts = crew->starts,
        .crashes = crew->crashes,
        .kills = crew->kills,
    };
    crew_count(crew, &seen->count);
    seen->state = crew_state(crew, &seen->count, seen->reason);
    if (decision)
        seen->decision = *decision;
    seen->workers = calloc(seen->count.workers + 1, sizeof *seen->workers);
    if (!seen->workers)
        return false;
    see_workers(seen, &crew->workers);
    return true;
}

static void see_gauge(struct gauge_seen *seen, const struct gauge *gauge)
{
    uint64_t now_us = loop_now_us();

    *seen = (struct gauge_seen){.config = gauge->config, .state = gauge_state(gauge, now_us)};
    gauge_reason(gauge, now_us, seen->reason);
    seen->value = seen->state == GAUGE_UNKNOWN ? NAN : gauge->value;
    seen->age = gauge->told ? (double)(now_us - gauge->told_us) / US_PER_S : NAN;
}

struct workers_look *workers_look(const struct system *system)
{
    struct workers *workers = system->workers;
    struct workers_look *look = calloc(1, sizeof *look);
    bool ok = true;

    if (!look)
        return NULL;
    look->config = config_ref(system->config);
    look->crews = calloc(count(&workers->crews) + 1, sizeof *look->crews);
    look->gauges = calloc(count(&workers->gauges) + 1, sizeof *look->gauges);
    ok = look->crews && look->gauges;
    for (struct list *at = workers->crews.next; ok && at != &workers->crews; at = at->next)
        ok = see_crew(&look->crews[look->n++], container_of(at, struct crew, list));
    for (struct list *at = workers->gauges.next; ok && at != &workers->gauges; at = at->next)
        see_gauge(&look->gauges[look->n_gauges++], container_of(at, struct gauge, list));
    if (ok)
        return look;
    workers_look_free(look);
    return NULL;
}

void workers_look_free(struct workers_look *look)
{
    if (!look)
        return;
    for (size_t i = 0; i < look->n; i++) {
        config_unref(look->crews[i].config);
        free(look->crews[i].workers);
    }
    free(look->crews);
    free(look->gauges);
    config_unref(look->config);
    free(look);
}
