/* bottleneck_state.c - what bottleneck.h is told of the running system, and what it says as a member of GET /api/state. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "admin/model.h"
#include "admin/private.h"
#include "admin/reply.h"
#include "admin/workers_look.h"

/* Of what stands beside what is told. */
#define OTHERS_MAX 10

/* ---- a tick ------------------------------------------------------------------------------------------------ */

static bool is_pushed_to(const struct config *config, const struct config_pool *pool)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (config->queues[i].push.active && config->queues[i].push.pool == pool)
            return true;
    return false;
}

static struct bottleneck_server server_of(const struct model_server *ms)
{
    return (struct bottleneck_server){
        .name = ms->server->name,
        .usable = ms->usable,
        .down = ms->standing == STANDING_DOWN,
        .ejected = ms->standing == STANDING_EJECTED,
        .reason = ms->reason,
        .rate = ms->figures.rate,
        .error_rate = ms->figures.error_rate,
        .p95_us = ms->figures.p95_us,
        .active = ms->active,
        .max_connections = ms->max_connections,
        .ejections = ms->ejections,
    };
}

/* servers: room for those of the largest pool. */
static void add_pool(struct bottleneck *bottleneck, const struct model *model, const struct model_pool *mp,
                     struct bottleneck_server *servers)
{
    for (size_t i = 0; i < mp->n_servers; i++)
        servers[i] = server_of(&mp->servers[i]);
    bottleneck_add_pool(bottleneck,
                        &(struct bottleneck_pool){
                            .name = mp->config->name,
                            .used = mp->used || is_pushed_to(model->config, mp->config),
                            .in_line = mp->in_line,
                            .refused = mp->refused[REFUSED_LINE_FULL] + mp->refused[REFUSED_LINE_TIMEOUT],
                            .rate = mp->figures.rate,
                            .p95_us = mp->figures.p95_us,
                            .servers = servers,
                            .n_servers = mp->n_servers,
                        });
}

static bool is_dead_letter(const struct config *config, const struct config_queue *queue)
{
    for (size_t i = 0; i < config->n_queues; i++)
        if (config->queues[i].dead_letter == queue)
            return true;
    return false;
}

/* NULL: there are none. */
static const struct crew_seen *crew_of(const struct workers_look *look, const char *queue)
{
    for (size_t i = 0; i < look->n; i++)
        if (!look->crews[i].leaving && strcmp(look->crews[i].section->queue->name, queue) == 0)
            return &look->crews[i];
    return NULL;
}

static bool is_gauge_full(const struct workers_look *look, const struct config_gauge *gauge)
{
    for (size_t i = 0; gauge && i < look->n_gauges; i++)
        if (strcmp(look->gauges[i].config->name, gauge->name) == 0)
            return look->gauges[i].state == GAUGE_FULL;
    return false;
}

/* What they do instead of growing. NULL: nothing, or that is explained by their most or by their gauge. */
static const char *held_by(const struct workers_look *look, const struct crew_seen *crew)
{
    if (crew->state == CREW_CRASHING)
        return "crash";
    if (crew->state == CREW_PAUSED)
        return "are paused by hand";
    if (crew->state == CREW_HELD && crew->desired < crew->section->max &&
        !is_gauge_full(look, crew->section->gauge))
        return "are held back";
    return NULL;
}

/* Those of a section without a command are somebody else's: there are as many as there should be. */
static struct bottleneck_workers workers_of(const struct workers_look *look, const struct crew_seen *crew)
{
    const struct crew_count *n = &crew->count;

    return (struct bottleneck_workers){
        .name = crew->section->name,
        .running = crew->section->command.text ? n->starting + n->idle + n->busy : crew->desired,
        .max = crew->section->max,
        .held = held_by(look, crew),
        .reason = crew->reason,
    };
}

static void add_queue(struct bottleneck *bottleneck, const struct model *model, const struct queue_seen *q,
                      const struct config_queue *in_file, const struct queue_rates *rates,
                      const struct workers_look *look)
{
    const struct crew_seen *crew = crew_of(look, q->name);
    const struct broker_queue_numbers *n = &q->numbers;
    uint64_t now_us = clock_wall_us();
    struct bottleneck_queue queue = {
        .name = q->name,
        .push = in_file && in_file->push.active ? in_file->push.pool->name : NULL,
        .is_store = n->ended[END_EXPIRED] || (in_file && is_dead_letter(model->config, in_file)),
        .paused = n->paused,
        .waiting = n->ready + n->blocked,
        .in_flight = n->in_flight,
        .oldest_age_s = !n->oldest_us           ? NAN
                        : now_us > n->oldest_us ? (double)(now_us - n->oldest_us) / US_PER_S
                                                : 0,
        .published = rates->published,
        .acked = rates->acked,
        .refused = n->refused,
        .dropped = n->ended[END_MAXLEN],
        .consumers = n->consumers,
        .resting = n->resting,
    };
    struct bottleneck_workers workers;

    if (crew) {
        workers = workers_of(look, crew);
        queue.workers = &workers;
    }
    bottleneck_add_queue(bottleneck, &queue);
}

/* Those of the file, and of the others those that are in use: there may be any number. */
static void add_queues(struct bottleneck *bottleneck, const struct model *model,
                       const struct queue_history *rates_of, const struct workers_look *look)
{
    for (size_t i = 0; model->look && i < model->look->n; i++) {
        const struct queue_seen *q = &model->look->queues[i];
        const struct config_queue *in_file = config_queue_find(model->config, q->name);
        struct queue_rates rates;

        if (!in_file && !q->numbers.ready && !q->numbers.blocked && !q->numbers.in_flight)
            continue;
        rates = queue_history_rates(rates_of, q, model->look->now_us);
        add_queue(bottleneck, model, q, in_file, &rates, look);
    }
}

static uint64_t backlog_of(const struct queue_look *look, const char *queue)
{
    for (size_t i = 0; look && i < look->n; i++) {
        const struct broker_queue_numbers *n = &look->queues[i].numbers;

        if (strcmp(look->queues[i].name, queue) == 0)
            return n->ready + n->blocked + n->in_flight;
    }
    return 0;
}

/* The first of the workers that it holds back speak for all of them. */
static void add_gauge(struct bottleneck *bottleneck, const struct model *model, const struct gauge_seen *seen,
                      const struct workers_look *look)
{
    struct bottleneck_gauge gauge = {
        .name = seen->config->name,
        .unit = seen->config->unit ? seen->config->unit : "",
        .value = seen->value,
        .full = seen->config->full,
    };

    for (size_t i = 0; i < look->n && !gauge.workers; i++) {
        const struct crew_seen *crew = &look->crews[i];

        if (crew->leaving || !crew->section->gauge || strcmp(crew->section->gauge->name, gauge.name) != 0)
            continue;
        gauge.workers = crew->section->name;
        gauge.backlog = backlog_of(model->look, crew->section->queue->name);
    }
    bottleneck_add_gauge(bottleneck, &gauge);
}

void bottleneck_sample(struct bottleneck *bottleneck, const struct model *model,
                       const struct queue_history *rates_of, const struct workers_look *look)
{
    struct bottleneck_server *servers =
        calloc(model->n_servers ? model->n_servers : 1, sizeof(struct bottleneck_server));

    if (!servers)
        return;
    bottleneck_begin(bottleneck, model->now_us);
    for (size_t i = 0; i < model->n_pools; i++)
        add_pool(bottleneck, model, &model->pools[i], servers);
    add_queues(bottleneck, model, rates_of, look);
    for (size_t i = 0; i < look->n_gauges; i++)
        add_gauge(bottleneck, model, &look->gauges[i], look);
    bottleneck_end(bottleneck);
    free(servers);
}

/* ---- the answer -------------------------------------------------------------------------------------------- */

static void put_name(struct json *json, const char *key, const char *name)
{
    json_key_slice(json, slice_from_text(key));
    if (name[0])
        json_put_string(json, slice_from_text(name));
    else
        json_put_null(json);
}

static void put_lines(struct json *json, const char *key, const struct bottleneck_lines *lines)
{
    json_key_slice(json, slice_from_text(key));
    json_put_array(json);
    for (size_t i = 0; i < lines->n; i++)
        json_put_string(json, slice_from_text(lines->at[i]));
    json_put_end(json);
}

static void put_finding(struct json *json, const struct bottleneck_finding *finding)
{
    PUT_TEXT(json, "layer", bottleneck_layer_names[finding->layer]);
    put_name(json, "name", finding->name);
    put_name(json, "pool", finding->pool);
    PUT_TEXT(json, "text", finding->text);
    json_key(json, "ended_s");
    if (finding->ended_s > 0)
        json_put_double(json, finding->ended_s);
    else
        json_put_null(json);
    put_lines(json, "figures", &finding->figures);
    put_lines(json, "relief", &finding->relief);
}

/* One that is over does not say "is". */
static void put_other(struct json *json, const struct bottleneck_finding *finding)
{
    char text[sizeof finding->text + 40];
    int n = finding->ended_s > 0
                ? snprintf(text, sizeof text, "until %.0f s ago: %s", finding->ended_s, finding->text)
                : snprintf(text, sizeof text, "%s", finding->text);

    assert(n > 0 && (size_t)n < sizeof text);
    json_put_string(json, slice_from_text(text));
}

/* Of a copy: while it is written, which may wait, the next tick may come. */
void bottleneck_put(struct json *json, const struct bottleneck *bottleneck)
{
    static const struct bottleneck_finding none = {.text = "nothing holds anything up"};
    const struct bottleneck_finding *shown = bottleneck_shown(bottleneck), *other;
    struct bottleneck_finding *copy = calloc(1 + OTHERS_MAX, sizeof *copy);
    size_t n = 0;

    json_key(json, "bottleneck");
    if (!copy) {
        json_put_null(json);
        return;
    }
    copy[0] = shown ? *shown : none;
    while (n < OTHERS_MAX && (other = bottleneck_other(bottleneck, n)))
        copy[++n] = *other;
    json_put_object(json);
    put_finding(json, &copy[0]);
    json_key(json, "others");
    json_put_array(json);
    for (size_t i = 1; i <= n; i++)
        put_other(json, &copy[i]);
    json_put_end(json);
    json_put_end(json);
    free(copy);
}
