/* state.c - GET /api/state: the model as JSON. docs/admin.md says what each member means. */
#include <stdlib.h>
#include <unistd.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/process_usage.h"
#include "admin/reply.h"
#include "admin/workers_look.h"
#include "balance/router_explain.h"
#include "base/event.h"

#define EVENTS_SHOWN 50

static void put_latency(struct json *json, const struct model_figures *figures)
{
    json_key(json, "latency");
    json_put_object(json);
    json_key(json, "p50_ms");
    reply_put_ms(json, figures->p50_us);
    json_key(json, "p90_ms");
    reply_put_ms(json, figures->p90_us);
    json_key(json, "p95_ms");
    reply_put_ms(json, figures->p95_us);
    json_key(json, "p99_ms");
    reply_put_ms(json, figures->p99_us);
    json_put_end(json);
}

static void put_figures(struct json *json, const struct model_figures *figures)
{
    PUT_U64(json, "requests", figures->requests);
    PUT_DOUBLE(json, "rate", figures->rate);
    PUT_U64(json, "errors", figures->errors);
    PUT_DOUBLE(json, "error_rate", figures->error_rate);
    put_latency(json, figures);
}

static void put_statuses(struct json *json, const uint64_t statuses[MODEL_STATUSES])
{
    json_key(json, "statuses");
    json_put_object(json);
    PUT_U64(json, "1xx", statuses[0]);
    PUT_U64(json, "2xx", statuses[1]);
    PUT_U64(json, "3xx", statuses[2]);
    PUT_U64(json, "4xx", statuses[3]);
    PUT_U64(json, "5xx", statuses[4]);
    json_put_end(json);
}

static void put_bytes(struct json *json, uint64_t in, uint64_t out)
{
    json_key(json, "bytes");
    json_put_object(json);
    PUT_U64(json, "in", in);
    PUT_U64(json, "out", out);
    json_put_end(json);
}

/* ---- listeners --------------------------------------------------------------------------------------------- */

static void put_route(struct json *json, const struct model_route *route)
{
    char *action = router_action(route->config);

    json_put_object(json);
    PUT_TEXT(json, "name", route->config->name);
    json_key(json, "place");
    reply_put_place(json, &route->config->place);
    PUT_TEXT(json, "action", action ? action : "");
    put_figures(json, &route->figures);
    put_statuses(json, route->statuses);
    json_put_end(json);
    free(action);
}

static void put_listener(struct json *json, const struct model_listener *ml)
{
    json_put_object(json);
    PUT_TEXT(json, "name", ml->name);
    PUT_TEXT(json, "kind", ml->kind);
    if (ml->tcp)
        PUT_TEXT(json, "pool", ml->tcp->pool->name);
    PUT_BOOL(json, "draining", ml->draining);
    json_key(json, "connections");
    json_put_object(json);
    PUT_U64(json, "open", ml->open);
    PUT_U64(json, "accepted", ml->accepted);
    PUT_U64(json, "refused", ml->refused);
    json_put_end(json);
    put_figures(json, &ml->figures);
    put_statuses(json, ml->statuses);
    put_bytes(json, ml->received_bytes, ml->sent_bytes);
    if (ml->n_routes) {
        json_key(json, "routes");
        json_put_array(json);
        for (size_t i = 0; i + 1 < ml->n_routes; i++) /* the last one is no route */
            put_route(json, &ml->routes[i]);
        json_put_end(json);
    }
    json_put_end(json);
}

/* ---- pools ------------------------------------------------------------------------------------------------- */

static void put_by_hand(struct json *json, const struct control_hand *hand)
{
    json_key(json, "by_hand");
    if (!hand->set_drain && !hand->weight) {
        json_put_null(json);
        return;
    }
    json_put_object(json);
    if (hand->set_drain)
        PUT_BOOL(json, "drain", hand->drain);
    if (hand->weight)
        PUT_U64(json, "weight", hand->weight);
    json_put_end(json);
}

static void put_server_errors(struct json *json, const struct model_server *ms)
{
    json_key(json, "errors");
    json_put_object(json);
    for (size_t i = 0; i < N_SERVER_ERRORS; i++) {
        json_key_slice(json, slice_from_text(server_error_names[i]));
        json_put_u64(json, ms->errors[i]);
    }
    json_put_end(json);
}

static void put_server_use(struct json *json, const struct model_server *ms)
{
    PUT_U64(json, "active", ms->active);
    PUT_U64(json, "waiting", ms->waiting);
    PUT_U64(json, "max_connections", ms->max_connections);
    PUT_U64(json, "idle", ms->idle);
    PUT_U64(json, "requests", ms->figures.requests);
    PUT_DOUBLE(json, "rate", ms->figures.rate);
    put_server_errors(json, ms);
    PUT_DOUBLE(json, "error_rate", ms->figures.error_rate);
    PUT_U64(json, "retries", ms->retries);
    PUT_U64(json, "ejections", ms->ejections);
    json_key(json, "checks");
    json_put_object(json);
    PUT_U64(json, "ok", ms->checks_ok);
    PUT_U64(json, "failed", ms->checks_failed);
    json_put_end(json);
    put_bytes(json, ms->received_bytes, ms->sent_bytes);
    put_latency(json, &ms->figures);
}

static void put_server(struct json *json, const struct model_server *ms)
{
    char address[ADDRESS_TEXT_MAX];

    endpoint_text(&ms->server->endpoint, address);
    json_put_object(json);
    json_key(json, "name");
    json_put_string(json, ms->server->name);
    PUT_TEXT(json, "address", address);
    PUT_TEXT(json, "state", standing_name(ms->standing));
    PUT_TEXT(json, "reason", ms->reason);
    PUT_TIME(json, "since", ms->since_us);
    PUT_BOOL(json, "usable", ms->usable);
    PUT_U64(json, "weight", ms->weight);
    PUT_DOUBLE(json, "weight_now", (double)ms->weight_now / SERVER_WEIGHT_UNIT);
    PUT_BOOL(json, "backup", ms->backup);
    put_by_hand(json, &ms->hand);
    put_server_use(json, ms);
    json_put_end(json);
}

static void put_pool(struct json *json, const struct model_pool *pool)
{
    json_put_object(json);
    PUT_TEXT(json, "name", pool->config->name);
    PUT_TEXT(json, "balance", strategy_table[pool->config->balance].name);
    PUT_TEXT(json, "state", level_name(pool->level));
    PUT_U64(json, "waiting", pool->in_line);
    PUT_U64(json, "max_waiting", pool->config->max_queue);
    json_key(json, "refused");
    json_put_object(json);
    for (size_t i = 0; i < N_POOL_REFUSALS; i++) {
        json_key_slice(json, slice_from_text(pool_refusal_names[i]));
        json_put_u64(json, pool->refused[i]);
    }
    json_put_end(json);
    put_figures(json, &pool->figures);
    json_key(json, "servers");
    json_put_array(json);
    for (size_t i = 0; i < pool->n_servers; i++)
        put_server(json, &pool->servers[i]);
    json_put_end(json);
    json_put_end(json);
}

/* ---- the whole --------------------------------------------------------------------------------------------- */

static void put_reasons(struct json *json, const struct model *model)
{
    char text[STANDING_TEXT_MAX];

    json_key(json, "reasons");
    json_put_array(json);
    for (size_t i = 0; i < model->n_pools; i++)
        if (standing_pool_reason(model->pools[i].config->name, &model->pools[i].tally, text))
            json_put_string(json, slice_from_text(text));
    if (model->log.failure[0]) {
        snprintf(text, sizeof text, "queue log: %.170s", model->log.failure);
        json_put_string(json, slice_from_text(text));
    }
    if (model->reload_failed)
        json_put_string(json, SLICE("the last reload failed: the file in force is an older one"));
    json_put_end(json);
}

static void put_config(struct json *json, const struct model *model)
{
    json_key(json, "config");
    json_put_object(json);
    PUT_TEXT(json, "file", model->file);
    PUT_TIME(json, "loaded", model->loaded_us);
    PUT_U64(json, "reloads", model->reloads);
    PUT_U64(json, "reloads_failed", model->reloads_failed);
    json_put_end(json);
    json_key(json, "generations");
    json_put_array(json);
    for (size_t i = 0; i < model->n_generations; i++) {
        const struct model_generation *generation = &model->generations[i];
        bool current = i + 1 == model->n_generations;

        json_put_object(json);
        PUT_U64(json, "number", generation->number);
        PUT_TIME(json, "loaded", generation->loaded_us);
        PUT_BOOL(json, "current", current);
        json_key(json, "users");
        if (current) /* nobody counts them: that would cost each request something */
            json_put_null(json);
        else
            json_put_u64(json, generation->users);
        json_put_end(json);
    }
    json_put_end(json);
}

static void put_process(struct json *json, const struct model *model, const struct process_usage *usage)
{
    PUT_TEXT(json, "version", MAITRED_VERSION);
    PUT_U64(json, "pid", (uint64_t)getpid());
    PUT_TIME(json, "started", model->started_us);
    PUT_DOUBLE(json, "uptime", (double)(clock_wall_us() - model->started_us) / US_PER_S);
    PUT_BOOL(json, "draining", model->drains);
    PUT_TEXT(json, "state", level_name(model->level));
    put_reasons(json, model);
    put_config(json, model);
    PUT_U64(json, "threads", model->n_threads);
    json_key(json, "connections");
    json_put_object(json);
    PUT_U64(json, "open", model->connections);
    PUT_U64(json, "max", model->connections_max);
    json_put_end(json);
    PUT_U64(json, "memory_bytes", usage->resident_bytes);
    json_key(json, "descriptors");
    json_put_object(json);
    PUT_U64(json, "open", usage->open_fds);
    PUT_U64(json, "max", usage->max_fds);
    json_put_end(json);
}

static void put_events(struct json *json)
{
    uint64_t last = event_last_id();
    struct event *events = calloc(EVENTS_SHOWN, sizeof *events);
    size_t n =
        events ? event_copy_since(last > EVENTS_SHOWN ? last - EVENTS_SHOWN : 0, events, EVENTS_SHOWN) : 0;

    json_key(json, "events");
    json_put_array(json);
    for (size_t i = 0; i < n; i++)
        event_put(json, &events[i]);
    json_put_end(json);
    free(events);
}

static void put_state(struct json *json, const struct model *model, const struct process_usage *usage,
                      const struct workers_look *workers, const struct admin *admin)
{
    json_put_object(json);
    put_process(json, model, usage);
    json_key(json, "listeners");
    json_put_array(json);
    for (size_t i = 0; i < model->n_listeners; i++)
        put_listener(json, &model->listeners[i]);
    json_put_end(json);
    json_key(json, "pools");
    json_put_array(json);
    for (size_t i = 0; i < model->n_pools; i++)
        put_pool(json, &model->pools[i]);
    json_put_end(json);
    queues_put(json, model, &admin->queues);
    workers_put(json, workers);
    bottleneck_put(json, &admin->bottleneck);
    put_events(json);
    json_put_end(json);
}

void state_serve(struct admin_call *call)
{
    struct process_usage usage = process_usage_now();
    struct model *model = model_create(call->admin->system);
    struct workers_look *workers;
    struct reply reply;

    if (model)
        model_look(model, call->admin->system);
    workers = model ? workers_look(call->admin->system) : NULL;
    if (!workers) {
        reply_no_memory(call->x);
        model_free(model);
        return;
    }
    model_count(model, &call->admin->sample);
    if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        put_state(&reply.json, model, &usage, workers, call->admin);
        reply_end(&reply);
    }
    workers_look_free(workers);
    model_free(model);
}
