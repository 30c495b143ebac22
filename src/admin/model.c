/* model.c - see model.h. */
#include "admin/model.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* So many servers or routes are summed up at a turn: some 50 us. */
#define THINGS_A_TURN 32

/* ---- who is there ------------------------------------------------------------------------------------------ */

static size_t count_list(const struct list *head)
{
    size_t n = 0;

    for (const struct list *node = head->next; node != head; node = node->next)
        n++;
    return n;
}

static size_t count_servers(const struct survey *survey)
{
    size_t n = 0;

    for (size_t i = 0; i < survey->n; i++) {
        const struct control_pool *cp = survey->pools[i].pool;

        for (size_t j = 0; j < cp->n_members; j++)
            n += count_list(&cp->members[j]->servers);
        n += count_list(&cp->leaving);
    }
    return n;
}

bool model_has_routes(const struct http_shared *shared, const struct config *config)
{
    for (size_t i = 0; shared && i < config->n_http; i++)
        if (shared->config == &config->http[i])
            return true;
    return false;
}

static size_t count_routes(const struct system *system)
{
    size_t n = 0;

    for (const struct list *node = system->listeners.next; node != &system->listeners; node = node->next) {
        const struct system_listener *sl = container_of(node, struct system_listener, list);

        if (model_has_routes(sl->shared, system->config))
            n += sl->shared->n_routes + 1;
    }
    return n;
}

static void take_server(struct model *model, struct model_pool *pool, const struct control_server *cs)
{
    struct server *server = cs->server;
    struct model_server *ms = &pool->servers[pool->n_servers++];

    *ms = (struct model_server){
        .server = server_ref(server),
        .standing = standing_of(cs, model->now_us),
        .since_us = cs->since_us,
        .checks_ok = cs->checks_ok,
        .checks_failed = cs->checks_failed,
        .weight = atomic_load_explicit(&server->weight, memory_order_relaxed),
        .weight_now = server_weight(server, model->now_us, pool->config->health.slow_start_us),
        .hand = cs->hand,
        .backup = server_is_backup(server),
        .active = atomic_load_explicit(&server->active, memory_order_relaxed),
        .waiting = atomic_load_explicit(&server->waiting, memory_order_relaxed),
        .max_connections = atomic_load_explicit(&server->max_connections, memory_order_relaxed),
        .idle = atomic_load_explicit(&server->idle, memory_order_relaxed),
        .ejections = atomic_load_explicit(&server->ejections, memory_order_relaxed),
    };
    ms->usable = ms->standing == STANDING_UP || ms->standing == STANDING_STARTING;
    standing_reason(cs, ms->standing, model->now_us, ms->reason);
    model->n_servers++;
}

static void take_servers(struct model *model, struct model_pool *pool, const struct list *servers)
{
    for (const struct list *node = servers->next; node != servers; node = node->next)
        take_server(model, pool, container_of(node, struct control_server, list));
}

static void take_pool(struct model *model, const struct survey_pool *survey)
{
    const struct control_pool *cp = survey->pool;
    struct model_pool *pool = &model->pools[model->n_pools++];

    *pool = (struct model_pool){
        .pool = pool_ref(cp->pool),
        .config = cp->config,
        .tally = survey->tally,
        .level = survey->level,
        .used = survey->used,
        .in_line = atomic_load_explicit(&cp->pool->in_line, memory_order_relaxed),
        .servers = model->servers + model->n_servers,
    };
    for (unsigned i = 0; i < cp->pool->n_threads; i++)
        for (unsigned j = 0; j < N_POOL_REFUSALS; j++)
            pool->refused[j] += counter_get(&cp->pool->threads[i].refused[j]);
    for (size_t i = 0; i < cp->n_members; i++)
        take_servers(model, pool, &cp->members[i]->servers);
    take_servers(model, pool, &cp->leaving);
}

static void take_routes(struct model *model, struct model_listener *ml)
{
    const struct http_shared *shared = ml->shared;

    assert(shared);
    ml->routes = model->routes + model->n_routes;
    ml->n_routes = shared->n_routes + 1;
    for (size_t i = 0; i < ml->n_routes; i++)
        ml->routes[i] = (struct model_route){
            .config = i < shared->n_routes ? &shared->config->routes[i] : NULL,
            .stats = shared->stats[i],
        };
    model->n_routes += ml->n_routes;
}

static bool take_listener(struct model *model, const struct system_listener *sl, bool draining)
{
    const struct listener *listener = sl->listener;
    struct model_listener *ml = &model->listeners[model->n_listeners++];

    *ml = (struct model_listener){
        .key = listener,
        .name = strdup(listener->name),
        .kind = sl->admin ? "admin" : listener->kind->name,
        .tcp = draining ? NULL : sl->tcp,
        .shared = !draining && sl->shared ? http_shared_ref(sl->shared) : NULL,
        .draining = draining,
    };
    for (unsigned i = 0; i < listener->n_threads; i++) {
        const struct listener_counters *counters = &listener->threads[i].counters;

        ml->open += counter_get(&counters->open);
        ml->accepted += counter_get(&counters->accepted);
        ml->refused += counter_get(&counters->refused);
        ml->received_bytes += counter_get(&counters->received_bytes);
        ml->sent_bytes += counter_get(&counters->sent_bytes);
    }
    model->n_draining += draining;
    if (model_has_routes(ml->shared, model->config))
        take_routes(model, ml);
    return ml->name != NULL;
}

static bool take_listeners(struct model *model, const struct list *listeners, bool draining)
{
    bool ok = true;

    for (const struct list *node = listeners->next; ok && node != listeners; node = node->next)
        ok = take_listener(model, container_of(node, struct system_listener, list), draining);
    return ok;
}

static void take_generations(struct model *model, const struct list *generations)
{
    for (const struct list *node = generations->next; node != generations; node = node->next) {
        const struct generation *generation = container_of(node, struct generation, list);
        unsigned users = atomic_load_explicit(&generation->left, memory_order_relaxed);

        if (!users && node->next != generations) /* past, and about to be forgotten */
            continue;
        model->generations[model->n_generations++] = (struct model_generation){
            .number = generation->number,
            .loaded_us = generation->loaded_us,
            .users = users,
        };
    }
}

static void *room_for(size_t n, size_t bytes)
{
    return calloc(n ? n : 1, bytes);
}

static bool take_all(struct model *model, const struct system *system, const struct survey *survey)
{
    size_t n_listeners = count_list(&system->listeners) + count_list(&system->draining);

    model->listeners = room_for(n_listeners, sizeof *model->listeners);
    model->routes = room_for(count_routes(system), sizeof *model->routes);
    model->pools = room_for(survey->n, sizeof *model->pools);
    model->servers = room_for(count_servers(survey), sizeof *model->servers);
    model->generations = room_for(count_list(&system->generations), sizeof *model->generations);
    if (!model->listeners || !model->routes || !model->pools || !model->servers || !model->generations)
        return false;
    take_generations(model, &system->generations);
    for (size_t i = 0; i < survey->n; i++)
        take_pool(model, &survey->pools[i]);
    return take_listeners(model, &system->listeners, false) && take_listeners(model, &system->draining, true);
}

struct model *model_create(const struct system *system)
{
    struct model *model = calloc(1, sizeof *model);
    struct survey *survey = survey_create(system, loop_now_us());
    bool ok = model && survey;

    if (ok) {
        *model = (struct model){
            .config = config_ref(system->config),
            .file = system->file,
            .now_us = loop_now_us(),
            .started_us = system->started_us,
            .loaded_us = system->loaded_us,
            .reloads = system->reloads,
            .reloads_failed = system->reloads_failed,
            .n_threads = system->n_threads,
            .connections = atomic_load(&system->seats->total),
            .connections_max = atomic_load(&system->seats->max),
            .drains = system->drains,
            .reload_failed = system->reload_failed,
            .level = survey->level,
        };
        log_see(system->port, &model->log);
        ok = take_all(model, system, survey);
    }
    free(survey);
    if (ok)
        return model;
    model_free(model);
    return NULL;
}

void model_free(struct model *model)
{
    if (!model)
        return;
    for (size_t i = 0; i < model->n_servers; i++)
        server_unref(model->servers[i].server);
    for (size_t i = 0; i < model->n_pools; i++)
        pool_unref(model->pools[i].pool);
    for (size_t i = 0; i < model->n_listeners; i++) {
        if (model->listeners[i].shared)
            http_shared_unref(model->listeners[i].shared);
        free(model->listeners[i].name);
    }
    queue_look_free(model->look);
    free(model->log.folder);
    config_unref(model->config);
    free(model->generations);
    free(model->listeners);
    free(model->routes);
    free(model->pools);
    free(model->servers);
    free(model);
}

void model_look(struct model *model, const struct system *system)
{
    if (model->log.folder)
        model->look_error = queue_look(system->port, NULL, &model->look);
}

/* ---- what is counted --------------------------------------------------------------------------------------- */

static struct series_totals totals_of_server(const struct server *server, unsigned n_threads)
{
    struct series_totals totals = {0};

    for (unsigned i = 0; i < n_threads; i++) {
        const struct server_counters *counters = &server->counters[i];

        totals.requests += counter_get(&counters->requests);
        for (unsigned j = 0; j < N_SERVER_ERRORS; j++)
            totals.errors += counter_get(&counters->errors[j]);
        histogram_add_to(&totals.latency, &counters->latency);
    }
    return totals;
}

static struct series_totals totals_of_route(const struct route_stats *stats)
{
    struct series_totals totals = {0};

    for (unsigned i = 0; i < stats->n_threads; i++) {
        const struct route_counters *counters = &stats->threads[i];

        for (unsigned j = 0; j < MODEL_STATUSES; j++)
            totals.requests += counter_get(&counters->statuses[j]);
        totals.errors += counter_get(&counters->statuses[MODEL_STATUSES - 1]);
        histogram_add_to(&totals.latency, &counters->latency);
    }
    return totals;
}

static void add_totals(struct series_totals *sum, const struct series_totals *totals)
{
    sum->requests += totals->requests;
    sum->errors += totals->errors;
    histogram_add_sum(&sum->latency, &totals->latency);
}

static void add_window(struct series_window *sum, const struct series_window *window)
{
    sum->rate += window->rate;
    sum->error_rate += window->error_rate;
    histogram_add_sum(&sum->latency, &window->latency);
}

static void fill_figures(struct model_figures *figures, const struct series_totals *totals,
                         const struct series_window *window)
{
    *figures = (struct model_figures){
        .requests = totals->requests,
        .errors = totals->errors,
        .rate = window->rate,
        .error_rate = window->error_rate,
        .p50_us = histogram_percentile(&window->latency, 0.5),
        .p90_us = histogram_percentile(&window->latency, 0.9),
        .p95_us = histogram_percentile(&window->latency, 0.95),
        .p99_us = histogram_percentile(&window->latency, 0.99),
        .latency_sum_us = totals->latency.sum_us,
    };
    histogram_counts(&totals->latency, histogram_otel_bounds_us, HISTOGRAM_OTEL_BOUNDS, figures->latency);
}

static void take_turn(size_t i)
{
    if (i % THINGS_A_TURN == THINGS_A_TURN - 1)
        fiber_yield();
}

static void count_server(struct model_server *ms, unsigned n_threads)
{
    for (unsigned i = 0; i < n_threads; i++) {
        const struct server_counters *counters = &ms->server->counters[i];

        ms->retries += counter_get(&counters->retries);
        ms->sent_bytes += counter_get(&counters->sent_bytes);
        ms->received_bytes += counter_get(&counters->received_bytes);
        for (unsigned j = 0; j < N_SERVER_ERRORS; j++)
            ms->errors[j] += counter_get(&counters->errors[j]);
    }
}

static void count_pool(struct model_pool *pool, const struct sample *sample, uint64_t now_us)
{
    struct series_totals sum = {0};
    struct series_window sum_window = {0};

    for (size_t i = 0; i < pool->n_servers; i++) {
        struct model_server *ms = &pool->servers[i];
        struct series_totals totals = totals_of_server(ms->server, pool->pool->n_threads);
        struct series_window window = {0};

        sample_add_window(sample, ms->server, &totals, now_us, &window);
        count_server(ms, pool->pool->n_threads);
        fill_figures(&ms->figures, &totals, &window);
        add_totals(&sum, &totals);
        add_window(&sum_window, &window);
        take_turn(i);
    }
    fill_figures(&pool->figures, &sum, &sum_window);
}

static void count_route(struct model_listener *ml, struct model_route *route)
{
    for (unsigned i = 0; i < route->stats->n_threads; i++)
        for (unsigned j = 0; j < MODEL_STATUSES; j++)
            route->statuses[j] += counter_get(&route->stats->threads[i].statuses[j]);
    for (unsigned j = 0; j < MODEL_STATUSES; j++)
        ml->statuses[j] += route->statuses[j];
}

static void count_listener(struct model_listener *ml, const struct sample *sample, uint64_t now_us)
{
    struct series_totals sum = {.requests = ml->tcp ? ml->accepted : 0};
    struct series_window sum_window = {0};

    if (ml->tcp)
        sample_add_window(sample, ml->key, &sum, now_us, &sum_window);
    for (size_t i = 0; i < ml->n_routes; i++) {
        struct model_route *route = &ml->routes[i];
        struct series_totals totals = totals_of_route(route->stats);
        struct series_window window = {0};

        sample_add_window(sample, route->stats, &totals, now_us, &window);
        count_route(ml, route);
        fill_figures(&route->figures, &totals, &window);
        add_totals(&sum, &totals);
        add_window(&sum_window, &window);
        take_turn(i);
    }
    fill_figures(&ml->figures, &sum, &sum_window);
}

void model_count(struct model *model, const struct sample *sample)
{
    for (size_t i = 0; i < model->n_listeners; i++) {
        count_listener(&model->listeners[i], sample, loop_now_us());
        take_turn(i);
    }
    for (size_t i = 0; i < model->n_pools; i++) {
        count_pool(&model->pools[i], sample, loop_now_us());
        take_turn(i);
    }
}

void model_sample(const struct model *model, struct sample *sample)
{
    sample_begin_round(sample, loop_now_us());
    for (size_t i = 0; i < model->n_servers; i++) {
        const struct server *server = model->servers[i].server;
        struct series_totals totals = totals_of_server(server, model->n_threads);

        sample_add(sample, server, &totals, loop_now_us());
        take_turn(i);
    }
    for (size_t i = 0; i < model->n_routes; i++) {
        struct series_totals totals = totals_of_route(model->routes[i].stats);

        sample_add(sample, model->routes[i].stats, &totals, loop_now_us());
        take_turn(i);
    }
    for (size_t i = 0; i < model->n_listeners; i++) {
        struct series_totals totals = {.requests = model->listeners[i].accepted};

        if (model->listeners[i].tcp)
            sample_add(sample, model->listeners[i].key, &totals, loop_now_us());
    }
    sample_end_round(sample);
}
