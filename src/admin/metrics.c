/* metrics.c - GET /metrics: the model in Prometheus' text format 0.0.4. A family of metrics is a row of one table. */
#include <stdio.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/process_usage.h"
#include "admin/reply.h"
#include "admin/workers_look.h"

/* What a sample is about; NULL: not about such a thing. */
struct thing {
    const struct model *model;
    const struct process_usage *usage;
    const struct model_listener *listener;
    const struct model_route *route;
    const struct model_pool *pool;
    const struct model_server *server;
    const struct queue_seen *queue;
    const struct workers_look *workers;
    const struct crew_seen *crew;
    const struct gauge_seen *gauge;
};

enum type { COUNTER, GAUGE, HISTOGRAM };
enum per {
    PER_PROCESS,
    PER_LISTENER,
    PER_ROUTE,
    PER_POOL,
    PER_SERVER,
    PER_QUEUE,
    PER_LOG,
    PER_WORKERS,
    PER_GAUGE
};

struct family {
    const char *name;
    enum type type;
    enum per per;
    const char *help;
    uint64_t (*value)(const struct thing *thing, size_t i); /* i: of names; NULL: a histogram */
    const char *label; /* one more, which takes each of names; NULL: there is none */
    const char *const *names;
    size_t n_names;
    bool is_time; /* value is in microseconds, and shown in seconds */
};

/* ---- values ------------------------------------------------------------------------------------------------ */

#define VALUE(function, expression)                               \
    static uint64_t function(const struct thing *thing, size_t i) \
    {                                                             \
        (void)thing;                                              \
        (void)i;                                                  \
        return (expression);                                      \
    }

VALUE(one, 1)
VALUE(process_started, thing->model->started_us)
VALUE(process_cpu, thing->usage->cpu_us)
VALUE(process_resident, thing->usage->resident_bytes)
VALUE(process_open_fds, thing->usage->open_fds)
VALUE(process_max_fds, thing->usage->max_fds)
VALUE(config_reloads, i ? thing->model->reloads_failed : thing->model->reloads)
VALUE(config_loaded, thing->model->loaded_us)
VALUE(connections_max, thing->model->connections_max)
VALUE(listener_open, thing->listener->open)
VALUE(listener_accepted, thing->listener->accepted)
VALUE(listener_refused, thing->listener->refused)
VALUE(listener_received, thing->listener->received_bytes)
VALUE(listener_sent, thing->listener->sent_bytes)
VALUE(route_requests, thing->route->statuses[i])
VALUE(pool_waiting, thing->pool->in_line)
VALUE(pool_refused, thing->pool->refused[i])
VALUE(server_up, thing->server->usable)
VALUE(server_weight_set, thing->server->weight)
VALUE(server_active, thing->server->active)
VALUE(server_waiting, thing->server->waiting)
VALUE(server_idle, thing->server->idle)
VALUE(server_requests, thing->server->figures.requests)
VALUE(server_errors, thing->server->errors[i])
VALUE(server_retries, thing->server->retries)
VALUE(server_ejections, thing->server->ejections)
VALUE(server_checks, i ? thing->server->checks_failed : thing->server->checks_ok)
VALUE(server_sent, thing->server->sent_bytes)
VALUE(server_received, thing->server->received_bytes)
VALUE(queue_ready, thing->queue->numbers.ready)
VALUE(queue_delayed, thing->queue->numbers.delayed)
VALUE(queue_blocked, thing->queue->numbers.blocked)
VALUE(queue_in_flight, thing->queue->numbers.in_flight)
VALUE(queue_bytes, thing->queue->numbers.bytes)
VALUE(queue_consumers, thing->queue->numbers.consumers)
VALUE(queue_paused, thing->queue->numbers.paused)
VALUE(queue_published, thing->queue->numbers.published)
VALUE(queue_refused, thing->queue->numbers.refused)
VALUE(queue_delivered, thing->queue->numbers.delivered)
VALUE(queue_redelivered, thing->queue->numbers.redelivered)
VALUE(queue_retried, thing->queue->numbers.retried)
VALUE(queue_ended, thing->queue->numbers.ended[i])
VALUE(log_up, !thing->model->log.failure[0] && thing->model->look)
VALUE(log_bytes, thing->model->log.bytes)
VALUE(log_segments, thing->model->log.segments)
VALUE(log_appended, thing->model->log.appended_bytes)
VALUE(log_syncs, thing->model->log.syncs)
VALUE(log_checkpoints, thing->model->log.checkpoints)
VALUE(log_confirmed, thing->model->log.confirmed)
VALUE(workers_desired, thing->crew->desired)
VALUE(workers_min, thing->crew->section->min)
VALUE(workers_max, thing->crew->section->max)
VALUE(workers_in_flight, thing->crew->count.in_flight)
VALUE(workers_handled, thing->crew->count.handled)
VALUE(workers_busy, thing->crew->count.busy_us)
VALUE(workers_starts, thing->crew->starts)
VALUE(workers_crashes, thing->crew->crashes)
VALUE(workers_kills, thing->crew->kills)
VALUE(gauge_full, thing->gauge->state == GAUGE_FULL)
VALUE(gauge_known, thing->gauge->state != GAUGE_UNKNOWN)

/* In the order of worker_phases. */
static uint64_t workers_by_phase(const struct thing *thing, size_t i)
{
    const struct crew_count *n = &thing->crew->count;
    const unsigned counts[] = {n->starting, n->idle, n->busy, n->stopping, n->backing_off};

    return counts[i];
}

static uint64_t queue_oldest_age(const struct thing *thing, size_t i)
{
    uint64_t now_us = clock_wall_us(), oldest_us = thing->queue->numbers.oldest_us;

    (void)i;
    return oldest_us && oldest_us < now_us ? now_us - oldest_us : 0;
}

/* ---- the table --------------------------------------------------------------------------------------------- */

static const char *const versions[] = {MAITRED_VERSION};
static const char *const results[] = {"ok", "failed"};
static const char *const worker_phases[] = {"starting", "idle", "busy", "draining", "backing-off"};
static const char *const codes[MODEL_STATUSES] = {"1xx", "2xx", "3xx", "4xx", "5xx"};

#define EACH_OF(label, names) label, names, sizeof(names) / sizeof(names)[0], false
#define ALONE NULL, NULL, 1, false
#define ALONE_IN_SECONDS NULL, NULL, 1, true

static const struct family families[] = {
    {"maitred_build_info", GAUGE, PER_PROCESS, "Always 1; the version is its label.", one,
     EACH_OF("version", versions)},
    {"process_start_time_seconds", GAUGE, PER_PROCESS, "When the process started, in seconds since 1970.",
     process_started, ALONE_IN_SECONDS},
    {"process_cpu_seconds_total", COUNTER, PER_PROCESS, "CPU time taken, by user and system together.",
     process_cpu, ALONE_IN_SECONDS},
    {"process_resident_memory_bytes", GAUGE, PER_PROCESS, "Memory that is in RAM.", process_resident, ALONE},
    {"process_open_fds", GAUGE, PER_PROCESS, "Open file descriptors.", process_open_fds, ALONE},
    {"process_max_fds", GAUGE, PER_PROCESS, "How many file descriptors may be open.", process_max_fds, ALONE},
    {"maitred_config_reloads_total", COUNTER, PER_PROCESS, "Reloads of the configuration, by how they went.",
     config_reloads, EACH_OF("result", results)},
    {"maitred_config_last_reload_timestamp_seconds", GAUGE, PER_PROCESS,
     "When the configuration in force was loaded, in seconds since 1970.", config_loaded, ALONE_IN_SECONDS},
    {"maitred_connections_max", GAUGE, PER_PROCESS,
     "Clients that may be connected at a time, over all listeners.", connections_max, ALONE},

    {"maitred_listener_connections_open", GAUGE, PER_LISTENER, "Clients that are connected.", listener_open,
     ALONE},
    {"maitred_listener_connections_accepted_total", COUNTER, PER_LISTENER, "Clients that were accepted.",
     listener_accepted, ALONE},
    {"maitred_listener_connections_refused_total", COUNTER, PER_LISTENER,
     "Clients that were turned away: no memory, or no PROXY header where one must be.", listener_refused,
     ALONE},
    {"maitred_listener_received_bytes_total", COUNTER, PER_LISTENER, "Bytes from clients.", listener_received,
     ALONE},
    {"maitred_listener_sent_bytes_total", COUNTER, PER_LISTENER, "Bytes to clients.", listener_sent, ALONE},

    {"maitred_http_requests_total", COUNTER, PER_ROUTE,
     "Requests that were answered, by the class of their status; route is empty where none was found.",
     route_requests, EACH_OF("code", codes)},
    {"maitred_http_request_duration_seconds", HISTOGRAM, PER_ROUTE,
     "From the last byte of a request's head to the last byte of its answer.", NULL, ALONE},

    {"maitred_pool_waiting_requests", GAUGE, PER_POOL, "Requests that wait in line for a server.",
     pool_waiting, ALONE},
    {"maitred_pool_refused_total", COUNTER, PER_POOL,
     "Requests that were given up without asking a server (again).", pool_refused,
     EACH_OF("reason", pool_refusal_names)},

    {"maitred_server_up", GAUGE, PER_SERVER, "1 when it takes new requests: up, not drained, not ejected.",
     server_up, ALONE},
    {"maitred_server_weight", GAUGE, PER_SERVER, "Its weight, by the file or by hand.", server_weight_set,
     ALONE},
    {"maitred_server_active_requests", GAUGE, PER_SERVER, "Requests that are at it now.", server_active,
     ALONE},
    {"maitred_server_waiting_requests", GAUGE, PER_SERVER, "Requests in line that wait for it first.",
     server_waiting, ALONE},
    {"maitred_server_idle_connections", GAUGE, PER_SERVER,
     "Connections to it that are kept for the next request.", server_idle, ALONE},
    {"maitred_server_requests_total", COUNTER, PER_SERVER,
     "Requests, or connections of a tcp listener, sent to it.", server_requests, ALONE},
    {"maitred_server_errors_total", COUNTER, PER_SERVER, "What it did wrong, by kind.", server_errors,
     EACH_OF("kind", server_error_names)},
    {"maitred_server_retries_total", COUNTER, PER_SERVER,
     "Requests that failed at it and went on to another server.", server_retries, ALONE},
    {"maitred_server_ejections_total", COUNTER, PER_SERVER,
     "How often it was put aside for failing requests.", server_ejections, ALONE},
    {"maitred_server_checks_total", COUNTER, PER_SERVER, "Active checks, by result.", server_checks,
     EACH_OF("result", results)},
    {"maitred_server_sent_bytes_total", COUNTER, PER_SERVER, "Bytes to it.", server_sent, ALONE},
    {"maitred_server_received_bytes_total", COUNTER, PER_SERVER, "Bytes from it.", server_received, ALONE},
    {"maitred_server_response_duration_seconds", HISTOGRAM, PER_SERVER,
     "From a request's last byte to its answer's head; of a tcp listener, to the connection.", NULL, ALONE},

    {"maitred_queue_ready_messages", GAUGE, PER_QUEUE, "Messages that wait to be delivered.", queue_ready,
     ALONE},
    {"maitred_queue_delayed_messages", GAUGE, PER_QUEUE,
     "Messages that wait for their time: a delay, or the next attempt.", queue_delayed, ALONE},
    {"maitred_queue_blocked_messages", GAUGE, PER_QUEUE,
     "Messages that wait for an older one of their key (order-by).", queue_blocked, ALONE},
    {"maitred_queue_in_flight_messages", GAUGE, PER_QUEUE, "Messages that a worker has and has not answered.",
     queue_in_flight, ALONE},
    {"maitred_queue_bytes", GAUGE, PER_QUEUE,
     "Bodies of all its messages, and fields of those that came by HTTP.", queue_bytes, ALONE},
    {"maitred_queue_oldest_age_seconds", GAUGE, PER_QUEUE,
     "How long the oldest message that is ready has been in the queue; 0 when none is.", queue_oldest_age,
     ALONE_IN_SECONDS},
    {"maitred_queue_consumers", GAUGE, PER_QUEUE, "Who takes its messages: pushes and clients.",
     queue_consumers, ALONE},
    {"maitred_queue_paused", GAUGE, PER_QUEUE, "1 while it was paused by hand.", queue_paused, ALONE},
    {"maitred_queue_published_total", COUNTER, PER_QUEUE, "Messages that came in.", queue_published, ALONE},
    {"maitred_queue_refused_total", COUNTER, PER_QUEUE, "Messages that were refused: the queue was full.",
     queue_refused, ALONE},
    {"maitred_queue_delivered_total", COUNTER, PER_QUEUE, "Deliveries to workers.", queue_delivered, ALONE},
    {"maitred_queue_redelivered_total", COUNTER, PER_QUEUE,
     "Of them, those of messages that may have been delivered before.", queue_redelivered, ALONE},
    {"maitred_queue_retried_total", COUNTER, PER_QUEUE, "Attempts that failed.", queue_retried, ALONE},
    {"maitred_queue_ended_total", COUNTER, PER_QUEUE, "Messages that left, by why.", queue_ended,
     EACH_OF("reason", message_end_names)},

    {"maitred_workers", GAUGE, PER_WORKERS, "Processes, by what they do.", workers_by_phase,
     EACH_OF("state", worker_phases)},
    {"maitred_workers_desired", GAUGE, PER_WORKERS, "How many there should be.", workers_desired, ALONE},
    {"maitred_workers_min", GAUGE, PER_WORKERS, "How many there are at least, by the file.", workers_min,
     ALONE},
    {"maitred_workers_max", GAUGE, PER_WORKERS, "How many there are at most, by the file.", workers_max,
     ALONE},
    {"maitred_workers_in_flight_messages", GAUGE, PER_WORKERS, "Messages that they have.", workers_in_flight,
     ALONE},
    {"maitred_workers_handled_total", COUNTER, PER_WORKERS, "Messages that ended at them, well or not.",
     workers_handled, ALONE},
    {"maitred_workers_busy_seconds_total", COUNTER, PER_WORKERS,
     "How long messages were at them, all together; by those handled, it is the service time.", workers_busy,
     ALONE_IN_SECONDS},
    {"maitred_workers_starts_total", COUNTER, PER_WORKERS, "Processes that were started.", workers_starts,
     ALONE},
    {"maitred_workers_crashes_total", COUNTER, PER_WORKERS,
     "Processes that ended without having been told to, or did not start.", workers_crashes, ALONE},
    {"maitred_workers_kills_total", COUNTER, PER_WORKERS,
     "Processes that were killed because they did not end in time.", workers_kills, ALONE},
    {"maitred_external_known", GAUGE, PER_GAUGE, "1 while there is a value that is believed.", gauge_known,
     ALONE},
    {"maitred_external_full", GAUGE, PER_GAUGE, "1 while it is full, and holds its workers back.", gauge_full,
     ALONE},

    {"maitred_log_up", GAUGE, PER_LOG, "1 while messages can be stored, 0 once the queue's log has failed.",
     log_up, ALONE},
    {"maitred_log_bytes", GAUGE, PER_LOG, "Size of the log's files.", log_bytes, ALONE},
    {"maitred_log_segments", GAUGE, PER_LOG, "Segments with records that are needed, or may be.",
     log_segments, ALONE},
    {"maitred_log_appended_bytes_total", COUNTER, PER_LOG, "Bytes of records.", log_appended, ALONE},
    {"maitred_log_syncs_total", COUNTER, PER_LOG, "How often it was synced.", log_syncs, ALONE},
    {"maitred_log_checkpoints_total", COUNTER, PER_LOG, "Checkpoints that were written.", log_checkpoints,
     ALONE},
    {"maitred_log_confirmed_total", COUNTER, PER_LOG, "Publishes whose client was told yes.", log_confirmed,
     ALONE},
    {"maitred_log_commit_duration_seconds", HISTOGRAM, PER_LOG, "A write and its sync.", NULL, ALONE},
};

/* Of a histogram. */
#define BOUNDS HISTOGRAM_OTEL_BOUNDS
/* Of a thing, written once for all its lines. */
#define LABELS_KEPT_MAX 1024

/* ---- text -------------------------------------------------------------------------------------------------- */

static void put_text(struct json *out, const char *text)
{
    json_put(out, slice_from_text(text));
}

/* As JSON has it, but for control characters, which the format has no escape for. */
static void put_label_value(struct json *out, struct slice value)
{
    bool plain = true;

    for (size_t i = 0; i < value.len; i++)
        plain &= (unsigned char)value.ptr[i] >= ' ' && value.ptr[i] != 0x7f;
    if (plain) {
        json_put_string(out, value);
        return;
    }
    json_put(out, SLICE("\""));
    for (size_t i = 0; i < value.len; i++) {
        char text[8];

        snprintf(text, sizeof text, "\\\\x%02x", (unsigned char)value.ptr[i]);
        put_text(out, text);
    }
    json_put(out, SLICE("\""));
}

static void put_label(struct json *out, const char *before, struct slice value)
{
    put_text(out, before);
    put_label_value(out, value);
}

/* The labels of the thing, open for one more: {a="b",c="d", or nothing. */
static void put_own_labels(struct json *out, const struct thing *thing)
{
    if (thing->listener)
        put_label(out, "{listener=", slice_from_text(thing->listener->name));
    if (thing->route)
        put_label(out, ",route=", slice_from_text(thing->route->stats->name));
    if (thing->pool)
        put_label(out, "{pool=", slice_from_text(thing->pool->config->name));
    if (thing->server)
        put_label(out, ",server=", thing->server->server->name);
    if (thing->queue)
        put_label(out, "{queue=", slice_from_text(thing->queue->name));
    if (thing->crew)
        put_label(out, "{workers=", slice_from_text(thing->crew->section->name));
    if (thing->gauge)
        put_label(out, "{gauge=", slice_from_text(thing->gauge->config->name));
}

/* And that one, where there is one. own: what put_own_labels wrote, or NULL where it was too long to be kept. */
static void put_labels(struct json *out, const struct thing *thing, struct slice own, const char *label,
                       const char *name)
{
    bool is_about = thing->listener || thing->pool || thing->queue || thing->crew || thing->gauge;

    if (own.ptr)
        json_put(out, own);
    else
        put_own_labels(out, thing);
    if (label) {
        put_text(out, is_about ? "," : "{");
        put_text(out, label);
        json_put(out, SLICE("=\""));
        put_text(out, name); /* one of our own words */
        json_put(out, SLICE("\""));
    }
    if (label || is_about)
        json_put(out, SLICE("}"));
}

static void put_value(struct json *out, uint64_t value, bool is_time)
{
    char digits[6];
    uint64_t rest = value % US_PER_S;

    json_put(out, SLICE(" "));
    json_put_u64(out, is_time ? value / US_PER_S : value);
    if (is_time) {
        for (size_t i = sizeof digits; i-- > 0; rest /= 10)
            digits[i] = (char)('0' + rest % 10);
        json_put(out, SLICE("."));
        json_put(out, slice_of(digits, sizeof digits));
    }
    json_put(out, SLICE("\n"));
}

static void put_line(struct json *out, const struct family *family, const char *suffix,
                     const struct thing *thing, struct slice own, const char *label, const char *name,
                     uint64_t value, bool is_time)
{
    put_text(out, family->name);
    put_text(out, suffix);
    put_labels(out, thing, own, label, name);
    put_value(out, value, is_time);
}

/* counts: as histogram_counts gives them for the bounds, which are written in seconds. */
static void put_buckets(struct json *out, const struct family *family, const struct thing *thing,
                        struct slice own, const char *const bounds[BOUNDS], const uint64_t counts[BOUNDS + 1],
                        uint64_t sum_us)
{
    for (size_t i = 0; i <= BOUNDS; i++)
        put_line(out, family, "_bucket", thing, own, "le", i < BOUNDS ? bounds[i] : "+Inf", counts[i], false);
    put_line(out, family, "_sum", thing, own, NULL, NULL, sum_us, true);
    put_line(out, family, "_count", thing, own, NULL, NULL, counts[BOUNDS], false);
}

/* A commit takes a tenth of a millisecond where a request takes ten. */
static void put_commits(struct json *out, const struct family *family, const struct thing *thing,
                        struct slice own)
{
    static const char *const bounds[BOUNDS] = {"0.0001", "0.00025", "0.0005", "0.001", "0.0025",
                                               "0.005",  "0.01",    "0.025",  "0.05",  "0.1",
                                               "0.25",   "0.5",     "1",      "2.5"};
    static const uint32_t bounds_us[BOUNDS] = {100,   250,   500,    1000,   2500,   5000,    10000,
                                               25000, 50000, 100000, 250000, 500000, 1000000, 2500000};
    uint64_t counts[BOUNDS + 1];

    histogram_counts(&thing->model->log.commits, bounds_us, BOUNDS, counts);
    put_buckets(out, family, thing, own, bounds, counts, thing->model->log.commits.sum_us);
}

static void put_histogram(struct json *out, const struct family *family, const struct thing *thing,
                          struct slice own)
{
    static const char *const bounds[BOUNDS] = {"0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25",
                                               "0.5",   "0.75", "1",     "2.5",  "5",     "7.5", "10"};
    const struct model_figures *figures = thing->route    ? &thing->route->figures
                                          : thing->server ? &thing->server->figures
                                                          : NULL;

    if (figures)
        put_buckets(out, family, thing, own, bounds, figures->latency, figures->latency_sum_us);
    else
        put_commits(out, family, thing, own);
}

static void put_thing(struct json *out, const struct family *family, const struct thing *thing)
{
    char block[LABELS_KEPT_MAX];
    struct json labels;
    struct slice own;

    json_init(&labels, block, sizeof block, NULL, NULL);
    put_own_labels(&labels, thing);
    own = labels.failed ? slice_of(NULL, 0) : json_text(&labels);
    if (family->type == HISTOGRAM) {
        put_histogram(out, family, thing, own);
        return;
    }
    for (size_t i = 0; i < family->n_names; i++)
        put_line(out, family, "", thing, own, family->label, family->label ? family->names[i] : NULL,
                 family->value(thing, i), family->is_time);
}

static void put_listeners(struct json *out, const struct family *family, struct thing thing)
{
    /* One that drains may have the name of one that does not. */
    for (size_t i = 0; i + thing.model->n_draining < thing.model->n_listeners; i++) {
        thing.listener = &thing.model->listeners[i];
        if (family->per == PER_LISTENER)
            put_thing(out, family, &thing);
        for (size_t j = 0; family->per == PER_ROUTE && j < thing.listener->n_routes; j++) {
            thing.route = &thing.listener->routes[j];
            put_thing(out, family, &thing);
        }
    }
}

static void put_pools(struct json *out, const struct family *family, struct thing thing)
{
    for (size_t i = 0; i < thing.model->n_pools; i++) {
        thing.pool = &thing.model->pools[i];
        if (family->per == PER_POOL)
            put_thing(out, family, &thing);
        for (size_t j = 0; family->per == PER_SERVER && j < thing.pool->n_servers; j++) {
            thing.server = &thing.pool->servers[j];
            if (thing.server->standing != STANDING_LEAVING) /* another one may have its name already */
                put_thing(out, family, &thing);
        }
    }
}

static void put_queues(struct json *out, const struct family *family, struct thing thing)
{
    for (size_t i = 0; thing.model->look && i < thing.model->look->n; i++) {
        thing.queue = &thing.model->look->queues[i];
        put_thing(out, family, &thing);
    }
}

static void put_crews(struct json *out, const struct family *family, struct thing thing)
{
    for (size_t i = 0; i < thing.workers->n; i++) {
        thing.crew = &thing.workers->crews[i];
        if (!thing.crew->leaving) /* another one may have its name already */
            put_thing(out, family, &thing);
    }
}

static void put_gauges(struct json *out, const struct family *family, struct thing thing)
{
    for (size_t i = 0; i < thing.workers->n_gauges; i++) {
        thing.gauge = &thing.workers->gauges[i];
        put_thing(out, family, &thing);
    }
}

static bool is_of_queues(const struct family *family)
{
    return family->per == PER_QUEUE || family->per == PER_LOG;
}

/* Whether there can be any of it, by the file. */
static bool is_there(const struct family *family, const struct thing *thing)
{
    if (family->per == PER_WORKERS)
        return thing->workers->n > 0;
    if (family->per == PER_GAUGE)
        return thing->workers->n_gauges > 0;
    return !is_of_queues(family) || thing->model->log.folder;
}

static void put_family(struct json *out, const struct family *family, const struct thing *thing)
{
    static const char *const types[] = {
        [COUNTER] = " counter\n", [GAUGE] = " gauge\n", [HISTOGRAM] = " histogram\n"};

    if (!is_there(family, thing))
        return;
    put_text(out, "# HELP ");
    put_text(out, family->name);
    json_put(out, SLICE(" "));
    put_text(out, family->help);
    put_text(out, "\n# TYPE ");
    put_text(out, family->name);
    put_text(out, types[family->type]);
    if (family->per == PER_PROCESS || family->per == PER_LOG)
        put_thing(out, family, thing);
    else if (family->per == PER_QUEUE)
        put_queues(out, family, *thing);
    else if (family->per == PER_WORKERS)
        put_crews(out, family, *thing);
    else if (family->per == PER_GAUGE)
        put_gauges(out, family, *thing);
    else if (family->per == PER_LISTENER || family->per == PER_ROUTE)
        put_listeners(out, family, *thing);
    else
        put_pools(out, family, *thing);
}

void metrics_serve(struct admin_call *call)
{
    struct process_usage usage = process_usage_now();
    struct model *model = model_create(call->admin->system);
    struct thing whole = {.model = model, .usage = &usage};
    struct workers_look *workers;
    struct reply reply;

    if (model)
        model_look(model, call->admin->system);
    whole.workers = workers = model ? workers_look(call->admin->system) : NULL;
    if (!workers) {
        reply_no_memory(call->x);
        model_free(model);
        return;
    }
    model_count(model, &call->admin->sample);
    if (reply_begin(&reply, call->x, 200, SLICE("text/plain; version=0.0.4; charset=utf-8"))) {
        for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
            put_family(&reply.json, &families[i], &whole);
        reply_end(&reply);
    }
    workers_look_free(workers);
    model_free(model);
}
