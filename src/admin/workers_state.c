/* workers_state.c - workers and gauges as JSON: a part of GET /api/state, and GET /api/workers. docs/admin.md says what each member
 * means. */
#include <math.h>
#include <string.h>

#include "admin/private.h"
#include "admin/reply.h"
#include "admin/workers_look.h"
#include "base/clock.h"
#include "config/nearest.h"

/* ---- a section --------------------------------------------------------------------------------------------------- */

static void put_process(struct json *json, const struct worker_seen *w)
{
    json_put_object(json);
    PUT_U64(json, "number", w->number);
    json_key(json, "pid");
    if (w->pid)
        json_put_i64(json, w->pid);
    else
        json_put_null(json);
    PUT_TEXT(json, "state", worker_phase_name(w->phase));
    PUT_TIME(json, "since", w->since_us);
    PUT_U64(json, "in_flight", w->in_flight);
    PUT_U64(json, "handled", w->handled);
    PUT_U64(json, "restarts", w->restarts);
    json_key(json, "port");
    if (w->port)
        json_put_u64(json, w->port);
    else
        json_put_null(json);
    PUT_TEXT(json, "reason", w->reason);
    json_put_end(json);
}

static void put_decision(struct json *json, const struct crew_decision *d)
{
    json_put_object(json);
    PUT_TIME(json, "time", d->wall_us);
    PUT_U64(json, "from", d->from);
    PUT_U64(json, "to", d->to);
    PUT_TEXT(json, "text", d->text);
    json_put_end(json);
}

static void put_counts(struct json *json, const struct crew_seen *crew)
{
    const struct crew_count *n = &crew->count;

    PUT_U64(json, "desired", crew->desired);
    PUT_U64(json, "running", n->starting + n->idle + n->busy);
    PUT_U64(json, "busy", n->busy);
    PUT_U64(json, "idle", n->idle);
    PUT_U64(json, "starting", n->starting);
    PUT_U64(json, "stopping", n->stopping);
    PUT_U64(json, "backing_off", n->backing_off);
    PUT_U64(json, "min", crew->section->min);
    PUT_U64(json, "max", crew->section->max);
    PUT_U64(json, "slots", crew->section->slots);
    PUT_U64(json, "in_flight", n->in_flight);
}

static void put_rates(struct json *json, const struct crew_seen *crew)
{
    json_key(json, "service_time_ms");
    reply_put_ms(json, crew->service_s < 0 ? NAN : crew->service_s * US_PER_S);
    PUT_DOUBLE(json, "arrival_rate", crew->arrival_rate);
    PUT_DOUBLE(json, "handled_rate", crew->handled_rate);
    PUT_U64(json, "handled", crew->count.handled);
    PUT_U64(json, "starts", crew->starts);
    PUT_U64(json, "crashes", crew->crashes);
    PUT_U64(json, "kills", crew->kills);
}

static void put_hand(struct json *json, enum crew_hand hand)
{
    static const char *const names[] = {[HAND_PAUSED] = "paused", [HAND_SET] = "set"};

    json_key(json, "by_hand");
    if (hand == HAND_NONE)
        json_put_null(json);
    else
        json_put_string(json, slice_from_text(names[hand]));
}

static void put_crew(struct json *json, const struct crew_seen *crew)
{
    const struct config_workers *section = crew->section;

    json_put_object(json);
    PUT_TEXT(json, "name", section->name);
    PUT_TEXT(json, "queue", section->queue->name);
    PUT_TEXT(json, "kind", config_worker_kind_name(section->kind));
    json_key(json, "place");
    reply_put_place(json, &section->place);
    PUT_TEXT(json, "state", crew_state_name(crew->state));
    PUT_TEXT(json, "reason", crew->reason);
    put_hand(json, crew->hand);
    put_counts(json, crew);
    put_rates(json, crew);
    json_key(json, "decision");
    if (crew->decision.wall_us)
        put_decision(json, &crew->decision);
    else
        json_put_null(json);
    json_key(json, "processes");
    json_put_array(json);
    for (size_t i = 0; i < crew->n; i++)
        put_process(json, &crew->workers[i]);
    json_put_end(json);
    json_put_end(json);
}

static void put_crews(struct json *json, const struct workers_look *look)
{
    json_put_array(json);
    for (size_t i = 0; i < look->n; i++)
        put_crew(json, &look->crews[i]);
    json_put_end(json);
}

/* ---- gauges ------------------------------------------------------------------------------------------------------ */

static void put_gauge(struct json *json, const struct gauge_seen *gauge)
{
    json_put_object(json);
    PUT_TEXT(json, "name", gauge->config->name);
    PUT_DOUBLE(json, "value", gauge->value);
    PUT_DOUBLE(json, "full", gauge->config->full);
    PUT_TEXT(json, "unit", gauge->config->unit ? gauge->config->unit : "");
    PUT_TEXT(json, "state", gauge_state_name(gauge->state));
    PUT_TEXT(json, "reason", gauge->reason);
    PUT_DOUBLE(json, "age", gauge->age);
    json_put_end(json);
}

void workers_put(struct json *json, const struct workers_look *look)
{
    json_key(json, "workers");
    put_crews(json, look);
    json_key(json, "gauges");
    json_put_array(json);
    for (size_t i = 0; i < look->n_gauges; i++)
        put_gauge(json, &look->gauges[i]);
    json_put_end(json);
}

/* ---- on its own -------------------------------------------------------------------------------------------------- */

void workers_refuse(struct admin_call *call)
{
    const struct config *config = call->admin->system->config;
    const char *name = actions_text(call->x, call->args[0]);
    struct config_nearest nearest;

    config_nearest_init(&nearest, name);
    for (size_t i = 0; i < config->n_workers; i++)
        config_nearest_try(&nearest, config->workers[i].name);
    reply_error(call->x, 404, NULL, "there are no workers %.100s; %s%.100s%s", name,
                nearest.best ? "did you mean " : "",
                nearest.best ? nearest.best : "GET /api/workers names all", nearest.best ? "?" : "");
}

/* One that leaves may have the name of one that does not, and stands behind it. */
static const struct crew_seen *find(const struct workers_look *look, struct slice name)
{
    for (size_t i = 0; i < look->n; i++)
        if (!look->crews[i].leaving && slice_equal(slice_from_text(look->crews[i].section->name), name))
            return &look->crews[i];
    return NULL;
}

void workers_serve_all(struct admin_call *call)
{
    struct workers_look *look = workers_look(call->admin->system);
    struct reply reply;

    if (!look) {
        reply_no_memory(call->x);
        return;
    }
    if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        json_put_object(&reply.json);
        workers_put(&reply.json, look);
        json_put_end(&reply.json);
        reply_end(&reply);
    }
    workers_look_free(look);
}

static void serve_one(struct admin_call *call, void (*put)(struct json *json, const struct crew_seen *crew))
{
    struct workers_look *look = workers_look(call->admin->system);
    const struct crew_seen *crew = look ? find(look, call->args[0]) : NULL;
    struct reply reply;

    if (!look)
        reply_no_memory(call->x);
    else if (!crew)
        workers_refuse(call);
    else if (reply_begin(&reply, call->x, 200, REPLY_JSON)) {
        put(&reply.json, crew);
        reply_end(&reply);
    }
    workers_look_free(look);
}

void workers_serve_one(struct admin_call *call)
{
    serve_one(call, put_crew);
}

/* As KEDA's scaler metrics-api reads it; what else it says is for people. */
static void put_desired(struct json *json, const struct crew_seen *crew)
{
    json_put_object(json);
    PUT_U64(json, "desired", crew->desired);
    PUT_U64(json, "running", crew->count.starting + crew->count.idle + crew->count.busy);
    PUT_U64(json, "min", crew->section->min);
    PUT_U64(json, "max", crew->section->max);
    PUT_TEXT(json, "reason", crew->reason);
    json_put_end(json);
}

void workers_serve_desired(struct admin_call *call)
{
    serve_one(call, put_desired);
}

/* ---- decisions --------------------------------------------------------------------------------------------------- */

static void put_whole_decision(struct json *json, const struct crew_decision *d)
{
    json_put_object(json);
    PUT_TIME(json, "time", d->wall_us);
    PUT_U64(json, "from", d->from);
    PUT_U64(json, "to", d->to);
    PUT_TEXT(json, "why", d->why);
    PUT_TEXT(json, "text", d->text);
    json_key(json, "inputs");
    json_put_object(json);
    PUT_DOUBLE(json, "arrival_rate", d->arrival_rate);
    json_key(json, "service_time_ms");
    reply_put_ms(json, d->service_s < 0 ? NAN : d->service_s * US_PER_S);
    PUT_U64(json, "ready", d->ready);
    PUT_U64(json, "in_flight", d->in_flight);
    PUT_U64(json, "starting", d->starting);
    PUT_U64(json, "idle", d->idle);
    PUT_U64(json, "busy", d->busy);
    PUT_U64(json, "backing_off", d->backing_off);
    PUT_BOOL(json, "gauge_full", d->gauge_full);
    json_put_end(json);
    json_put_end(json);
}

/* Copied first: writing may wait. */
static unsigned copy_decisions(const struct crew *crew, struct crew_decision *copies)
{
    unsigned n = 0;

    for (const struct crew_decision *d; n < CREW_DECISIONS && (d = crew_decision(crew, n)) != NULL;)
        copies[n++] = *d;
    return n;
}

void workers_serve_decisions(struct admin_call *call)
{
    const struct crew *crew = workers_find(call->admin->system->workers, call->args[0]);
    struct crew_decision *copies;
    struct reply reply;
    unsigned n;

    if (!crew) {
        workers_refuse(call);
        return;
    }
    copies = arena_alloc(&call->x->arena, CREW_DECISIONS * sizeof *copies);
    if (!copies) {
        reply_no_memory(call->x);
        return;
    }
    n = copy_decisions(crew, copies);
    if (!reply_begin(&reply, call->x, 200, REPLY_JSON))
        return;
    json_put_object(&reply.json);
    json_key(&reply.json, "decisions");
    json_put_array(&reply.json);
    for (unsigned i = 0; i < n; i++)
        put_whole_decision(&reply.json, &copies[i]);
    json_put_end(&reply.json);
    json_put_end(&reply.json);
    reply_end(&reply);
}
