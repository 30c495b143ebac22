/* admin.c - see admin.h.
 *
 * A request finds its row by path and method; but for the health of the process, it needs the token of the
 * configuration in force, or an AMQP user's name and password where RabbitMQ's interface has the path (management/). */
#include "admin/admin.h"

#include <errno.h>
#include <stdlib.h>

#include "admin/management/management.h"
#include "admin/model.h"
#include "admin/private.h"
#include "admin/query.h"
#include "admin/reply.h"
#include "admin/requests.h"
#include "admin/workers_look.h"

/* ---- the state of the process ------------------------------------------------------------------------------ */

static void serve_healthz(struct admin_call *call)
{
    reply_text(call->x, 200, "ok\n");
}

/* A line for each pool that is in the way, and for the queue's log. */
static void serve_down(struct exchange *x, const struct survey *survey)
{
    struct reply reply;

    if (!reply_begin(&reply, x, 503, REPLY_TEXT))
        return;
    for (size_t i = 0; i < survey->n && !reply.started;
         i++) { /* a block of them is enough, and the survey is of now */
        const struct survey_pool *pool = &survey->pools[i];
        char text[STANDING_TEXT_MAX];

        if (!pool->used || pool->level != LEVEL_DOWN)
            continue;
        standing_pool_reason(pool->pool->pool->name, &pool->tally, text);
        json_put(&reply.json, SLICE("down: "));
        json_put(&reply.json, slice_from_text(text));
        json_put(&reply.json, SLICE("\n"));
    }
    if (survey->log_failure && !reply.started) {
        json_put(&reply.json, SLICE("down: queue log: "));
        json_put(&reply.json, slice_from_text(survey->log_failure));
        json_put(&reply.json, SLICE("\n"));
    }
    reply_end(&reply);
}

static void serve_readyz(struct admin_call *call)
{
    const struct system *system = call->admin->system;
    struct survey *survey;

    if (system->drains) {
        reply_text(call->x, 503, "draining\n");
        return;
    }
    survey = survey_create(system, loop_now_us());
    if (!survey)
        reply_no_memory(call->x);
    else if (survey->level == LEVEL_DOWN)
        serve_down(call->x, survey);
    else
        reply_text(call->x, 200, "ready\n");
    free(survey);
}

/* ---- who may ask ------------------------------------------------------------------------------------------- */

/* Takes as long wherever they differ. */
static bool same_secret(struct slice given, struct slice secret)
{
    size_t differs = given.len ^ secret.len;

    for (size_t i = 0; i < given.len; i++)
        differs |= (size_t)(unsigned char)(given.ptr[i] ^ secret.ptr[i % secret.len]);
    return differs == 0;
}

static bool has_token(const struct exchange *x, const char *token)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Authorization"));
    struct slice given = field ? field->value : SLICE(""), secret = slice_from_text(token);
    struct slice scheme = slice_take(&given, given.len < 7 ? 0 : 7);

    return slice_equal_nocase(scheme, SLICE("Bearer ")) && secret.len &&
           same_secret(slice_trim(given), secret);
}

/* The address is of this machine by its form: no name, which somebody else could make mean this machine. */
static bool is_own_host(struct slice host)
{
    struct ip ip;

    if (host.len > 2 && host.ptr[0] == '[')
        host = slice_of(host.ptr + 1, host.len - 2);
    return slice_equal_nocase(host, SLICE("localhost")) || ip_parse(host, &ip);
}

/* By a name that somebody else may have made mean this machine: then a browser takes a page of his for one of ours. Where no
 * token is needed, the configuration has seen to it that we listen on loopback or a unix socket, which no browser asks. */
static bool is_called_by_a_name(const struct config_admin *config, const struct exchange *x)
{
    struct slice host = http_host_of(x->request.authority);

    return config->address.kind != ADDRESS_UNIX && host.len && !is_own_host(host);
}

/* A page of another site in somebody's browser must not act here, where no token stands in its way. */
static bool comes_from_elsewhere(const struct exchange *x)
{
    const struct http_field *field = http_field_find(&x->request.fields, SLICE("Origin"));
    struct slice origin = field ? field->value : slice_of(NULL, 0);

    if (!field)
        return false;
    if (!slice_starts_with(origin, SLICE("http://")))
        return true;
    slice_drop(&origin, 7);
    return !slice_equal_nocase(origin, x->request.authority);
}

/* False: it is answered. */
static bool is_configured(const struct admin *admin, struct exchange *x)
{
    if (admin->system->config->admin)
        return true;
    reply_error(x, 503, NULL,
                "the configuration in force has no admin section any more; this connection is an old one");
    return false;
}

/* Whether the call may go on; otherwise it is answered. */
static bool admit(const struct admin *admin, struct exchange *x)
{
    static const struct http_field bearer = {.name = {"WWW-Authenticate", 16}, .value = {"Bearer", 6}};
    const struct config_admin *config = admin->system->config->admin;

    if (!is_configured(admin, x))
        return false;
    if (config->token && !has_token(x, config->token)) {
        reply_error(x, 401, &bearer, "a token is needed; send it as \"Authorization: Bearer TOKEN\"");
        return false;
    }
    if (!config->token && is_called_by_a_name(config, x)) {
        reply_error(
            x, 403, NULL,
            "this is asked for by a name that may be somebody else's (see Host); use localhost or the "
            "address, or set a token");
        return false;
    }
    if (!config->token && x->request.method_id == METHOD_POST && comes_from_elsewhere(x)) {
        reply_error(x, 403, NULL,
                    "the page that asks for this is not maitred's own (see its Origin); use the command "
                    "line, or set a token");
        return false;
    }
    return true;
}

/* ---- streams ----------------------------------------------------------------------------------------------- */

/* Of the listener's places (server.c); the others are for probes, commands, and pages. */
#define STREAMS_MAX 64

int admin_stream_begin(struct admin_call *call)
{
    int error;

    if (call->admin->n_streams >= STREAMS_MAX) {
        reply_error(call->x, 503, NULL,
                    "%d streams of events and requests are open already; close one, or ask for a list "
                    "now and then",
                    STREAMS_MAX);
        return -EBUSY;
    }
    error = reply_stream(call->x, SLICE("text/event-stream"));
    call->admin->n_streams += !error;
    return error;
}

void admin_stream_end(struct admin_call *call)
{
    call->admin->n_streams--;
    exchange_end(call->x, NULL);
}

/* ---- rows -------------------------------------------------------------------------------------------------- */

struct row {
    enum http_method method; /* GET stands for HEAD, too */
    const char *path;        /* a segment that is '*' takes any */
    void (*serve)(struct admin_call *call);
    bool open; /* to those without a token */
};

static const struct row rows[] = {
    {METHOD_GET, "/", page_serve, true},
    {METHOD_GET, "/healthz", serve_healthz, true},
    {METHOD_GET, "/readyz", serve_readyz, true},
    {METHOD_GET, "/metrics", metrics_serve, false},
    {METHOD_GET, "/api/state", state_serve, false},
    {METHOD_GET, "/api/events", events_serve, false},
    {METHOD_GET, "/api/explain", explain_serve, false},
    {METHOD_GET, "/api/history", history_serve, false},
    {METHOD_GET, "/api/requests", requests_serve, false},
    {METHOD_GET, "/api/queues", queues_serve, false},
    {METHOD_GET, "/api/queues/*", queues_serve_one, false},
    {METHOD_GET, "/api/queues/*/messages", queues_peek, false},
    {METHOD_POST, "/api/queues/*/publish", queues_publish, false},
    {METHOD_POST, "/api/queues/*/purge", queues_purge, false},
    {METHOD_POST, "/api/queues/*/pause", queues_pause, false},
    {METHOD_POST, "/api/queues/*/resume", queues_resume, false},
    {METHOD_POST, "/api/queues/*/move", queues_move, false},
    {METHOD_POST, "/api/pools/*/servers/*/drain", actions_drain, false},
    {METHOD_POST, "/api/pools/*/servers/*/enable", actions_enable, false},
    {METHOD_POST, "/api/pools/*/servers/*/reset", actions_reset, false},
    {METHOD_POST, "/api/pools/*/servers/*/weight", actions_weight, false},
    {METHOD_GET, "/api/workers", workers_serve_all, false},
    {METHOD_GET, "/api/workers/*", workers_serve_one, false},
    {METHOD_GET, "/api/workers/*/desired", workers_serve_desired, false},
    {METHOD_GET, "/api/workers/*/decisions", workers_serve_decisions, false},
    {METHOD_POST, "/api/workers/*/pause", workers_pause, false},
    {METHOD_POST, "/api/workers/*/resume", workers_resume, false},
    {METHOD_POST, "/api/workers/*/set", workers_set, false},
    {METHOD_POST, "/api/workers/*/restart", workers_restart, false},
    {METHOD_POST, "/api/gauges/*", gauges_tell, false},
    {METHOD_POST, "/api/reload", actions_reload, false},
    {METHOD_POST, "/api/upgrade", actions_upgrade, false},
};

/* What stands for each '*' goes to args, as sent. */
static bool path_matches(const char *pattern, struct slice path, struct slice args[ADMIN_ARGS_MAX])
{
    struct slice rest = slice_from_text(pattern);
    size_t n = 0;

    while (rest.len && path.len) {
        struct slice expected, segment;

        slice_drop(&rest, 1); /* both start with '/' */
        slice_drop(&path, 1);
        expected = slice_take(&rest, slice_find(rest, '/'));
        segment = slice_take(&path, slice_find(path, '/'));
        if (slice_equal(expected, SLICE("*")))
            args[n++] = segment;
        else if (!slice_equal(expected, segment))
            return false;
    }
    return !rest.len && !path.len;
}

static const struct row *find_row(struct slice path, struct slice args[ADMIN_ARGS_MAX])
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (path_matches(rows[i].path, path, args))
            return &rows[i];
    return NULL;
}

static bool method_fits(const struct row *row, const struct http_request *request)
{
    return request->method_id == row->method ||
           (row->method == METHOD_GET && request->method_id == METHOD_HEAD);
}

static void refuse_method(struct exchange *x, const struct row *row)
{
    struct http_field allow = {.name = SLICE("Allow"),
                               .value = row->method == METHOD_GET ? SLICE("GET, HEAD") : SLICE("POST")};

    reply_error(x, 405, &allow, "%s takes no %.*s; use %.*s", row->path, SLICE_ARG(x->request.method),
                SLICE_ARG(allow.value));
}

static void serve_row(struct admin_call *call, const struct row *row)
{
    for (size_t i = 0; i < ADMIN_ARGS_MAX; i++) {
        int error = query_decode_segment(&call->x->arena, call->args[i], &call->args[i]);

        if (error == -ENOMEM) {
            reply_no_memory(call->x);
            return;
        }
        if (error) {
            reply_error(call->x, 400, NULL,
                        "a name in the path is not percent-encoded as it should be, as in "
                        "unix%%3A%%2Frun%%2Fapp.sock");
            return;
        }
    }
    row->serve(call);
}

/* Whether it is for RabbitMQ's interface: of paths that both have, who asks as a user means that one; where only one of
 * them knows the method, it is that. */
static bool is_for_management(const struct exchange *x, const struct row *row)
{
    bool ours = row && method_fits(row, &x->request);

    if (management_is_user(x))
        return management_has(x) || (!ours && management_has_path(x));
    return !row && management_has_path(x);
}

/* A user's password does not help against the page of such a name: where it is guest's, everybody knows it. From another machine
 * tools may call us by any name, for that takes a token in the file, and guest is let in on this machine alone. */
static void serve_management(struct admin *admin, struct exchange *x)
{
    const struct config_admin *config;
    bool knows_token;

    if (!is_configured(admin, x))
        return;
    config = admin->system->config->admin;
    knows_token = config->token && has_token(x, config->token);
    if (!knows_token && (!config->token || ip_is_loopback(&x->connection->peer)) &&
        is_called_by_a_name(config, x))
        management_refuse_name(x);
    else
        management_serve(admin, x, knows_token);
}

void admin_serve(struct exchange *x, void *owner)
{
    struct admin_call call = {.admin = owner, .x = x};
    bool is_path = x->request.path.len && x->request.path.ptr[0] == '/';
    const struct row *row = is_path ? find_row(x->request.path, call.args) : NULL;

    if (is_path && is_for_management(x, row)) {
        serve_management(call.admin, x);
        return;
    }
    if ((!row || !row->open) && !admit(call.admin, x))
        return;
    if (!row)
        reply_error(
            x, 404, NULL,
            "there is no %.*s here; GET /api/state has everything, docs/admin.md says what else there is",
            x->request.path.len < 200 ? (int)x->request.path.len : 200, x->request.path.ptr);
    else if (!method_fits(row, &x->request))
        refuse_method(x, row);
    else
        serve_row(&call, row);
}

/* ---- life -------------------------------------------------------------------------------------------------- */

static void look_closer(struct admin *admin, struct model *model)
{
    struct workers_look *look;

    model_look(model, admin->system);
    model_count(model, &admin->sample);
    look = workers_look(admin->system);
    if (look && history_is_due(&admin->history, model->now_us))
        history_sample(&admin->history, model, &admin->queues, look);
    if (look && bottleneck_is_due(&admin->bottleneck, model->now_us))
        bottleneck_sample(&admin->bottleneck, model, &admin->queues, look);
    workers_look_free(look);
}

static void take_sample(struct admin *admin)
{
    struct model *model = model_create(admin->system);
    struct queue_look *look;

    if (model) {
        model_sample(model, &admin->sample);
        if (history_is_due(&admin->history, model->now_us) ||
            bottleneck_is_due(&admin->bottleneck, model->now_us))
            look_closer(admin, model);
    }
    model_free(model);
    if (queue_history_wants(&admin->queues, clock_monotonic_us()) &&
        queue_look(admin->system->port, NULL, &look) == 0)
        queue_history_add(&admin->queues, look);
}

static void forget_samples(struct admin *admin)
{
    sample_forget(&admin->sample);
    history_free(&admin->history);
    bottleneck_free(&admin->bottleneck);
    queue_history_forget(&admin->queues);
}

/* Once a second, while there is somebody to tell. */
static void sample_main(void *arg)
{
    struct admin *admin = arg;
    uint64_t next_us = loop_now_us();

    do {
        if (admin->system->config->admin)
            take_sample(admin);
        else
            forget_samples(admin);
        next_us = next_us + US_PER_S > loop_now_us() ? next_us + US_PER_S : loop_now_us() + US_PER_S;
    } while (fiber_sleep_until(next_us) == 0);
}

struct admin *admin_create(struct system *system)
{
    struct admin *admin = calloc(1, sizeof *admin);

    if (!admin)
        return NULL;
    admin->system = system;
    sample_init(&admin->sample, loop_now_us());
    admin->bell = bell_create(admin);
    admin->requests = requests_create(system->tail);
    if (admin->bell && admin->requests)
        admin->sampler = fiber_spawn("admin sampler", sample_main, admin);
    if (admin->sampler)
        return admin;
    if (admin->bell)
        bell_free(admin->bell);
    requests_free(admin->requests);
    free(admin);
    return NULL;
}

void admin_free(struct admin *admin)
{
    fiber_cancel_and_join(admin->sampler);
    bell_free(admin->bell);
    requests_free(admin->requests);
    manager_free(admin->manager);
    sample_free(&admin->sample);
    history_free(&admin->history);
    bottleneck_free(&admin->bottleneck);
    queue_history_forget(&admin->queues);
    free(admin);
}
