/* http.c - see http.h.
 *
 * A client holds its thread's scene while a request of it is served, and no longer: between requests, and in a tunnel,
 * a reload does not have to wait for it. */
#include "front/http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "balance/forward.h"
#include "base/clock.h"
#include "front/enqueue.h"
#include "wire/proxy.h"

struct http_service {
    struct service service;
    struct http_shared *shared;    /* reference */
    struct access_log_buffer *log; /* NULL: off, or nobody logged yet */
    unsigned thread;
};

struct http_client {
    struct client client;
    struct http_connection connection;
    struct http_service *serving;     /* the request under way; NULL: between requests, or in a tunnel */
    struct route_counters *counters;  /* of its route; NULL: not counted */
    const struct config_route *route; /* while it has counters; NULL: none was found */
    uint64_t seen_in, seen_out;       /* bytes that were counted */
};

/* ---- one request ------------------------------------------------------------------------------------------- */

#define LOCATION_BYTES_MAX (64u * 1024)

/* The next piece of a redirect: a placeholder's value, with the query behind it where it stands for a path, or one
 * byte as it is. What placeholders stand for was checked to hold no space or control byte. */
static struct slice take_piece(struct slice *pattern, const struct exchange *x, struct slice rest,
                               bool *is_path)
{
    const struct {
        struct slice name, value;
        bool is_path;
    } placeholders[] = {
        {SLICE("{host}"), x->request.authority, false},
        {SLICE("{uri}"), x->request.path, true},
        {SLICE("{rest}"), rest, true},
    };

    for (size_t i = 0; i < sizeof placeholders / sizeof placeholders[0]; i++) {
        if (!slice_starts_with(*pattern, placeholders[i].name))
            continue;
        slice_drop(pattern, placeholders[i].name.len);
        *is_path = placeholders[i].is_path;
        return placeholders[i].value;
    }
    *is_path = false;
    return slice_take(pattern, 1);
}

static bool append(char *location, size_t *n, struct slice s)
{
    if (s.len > LOCATION_BYTES_MAX - *n)
        return false;
    if (s.len)
        memcpy(location + *n, s.ptr, s.len);
    *n += s.len;
    return true;
}

/* Sends the client elsewhere. */
static void redirect(struct exchange *x, const struct config_route *route, struct slice rest)
{
    struct slice pattern = slice_from_text(route->redirect);
    char *location = arena_alloc(&x->arena, LOCATION_BYTES_MAX);
    bool fits = location != NULL;
    size_t n = 0;

    while (fits && pattern.len) {
        bool is_path;

        fits = append(location, &n, take_piece(&pattern, x, rest, &is_path));
        if (fits && is_path && x->request.query.ptr)
            fits = append(location, &n, SLICE("?")) && append(location, &n, x->request.query);
    }
    if (fits)
        exchange_redirect(x, route->status, slice_of(location, n));
    else
        exchange_fail(x, location ? 414 : 503, location ? "a redirect over 64 KiB" : "no memory");
}

static void serve_route(struct http_client *client, struct exchange *x, const struct config_route *route,
                        struct slice rest)
{
    const struct scene *scene = client->serving->service.scene;
    struct enqueue_body body = {0};

    switch (route->action) {
    case ROUTE_POOL:
        if ((route->queue || route->topic) && enqueue_is_preferred(&x->request)) {
            enqueue(x, scene->port, route, &body);
        } else if (!forward(x, scene->pools[route->pool - scene->generation->config->pools], route, rest,
                            &body.bytes)) {
            body.here = x->body.done;
            enqueue(x, scene->port, route, &body);
        }
        break;
    case ROUTE_QUEUE:
        enqueue(x, scene->port, route, &body);
        break;
    case ROUTE_REDIRECT:
        redirect(x, route, rest);
        break;
    case ROUTE_RESPOND:
        exchange_respond(x, route->status, SLICE("text/plain; charset=utf-8"), route->body);
        break;
    }
}

static void stop_serving(struct http_client *client)
{
    if (client->serving)
        scene_release(client->serving->service.scene);
    client->serving = NULL;
}

static void count_bytes(struct http_client *client)
{
    struct http_connection *c = &client->connection;
    struct listener_counters *counters = &client->client.at->counters;

    counter_add(&counters->received_bytes, c->in.received - client->seen_in);
    counter_add(&counters->sent_bytes, c->out.written - client->seen_out);
    client->seen_in = c->in.received;
    client->seen_out = c->out.written;
}

/* Where it went, in words. */
static void name_route(const struct config_route *route, const struct exchange *x,
                       struct slice texts[N_TAIL_TEXTS])
{
    bool is_stored = route->queue || route->topic;

    if (route->action == ROUTE_POOL)
        is_stored &= x->status == 202 && !x->upstream.len;
    texts[TAIL_ROUTE] = slice_from_text(route->name);
    texts[TAIL_SERVER] = x->upstream;
    if (is_stored)
        texts[TAIL_QUEUE] = slice_from_text(route->queue ? route->queue->name : route->topic->name);
    else if (route->action == ROUTE_POOL)
        texts[TAIL_POOL] = slice_from_text(route->pool->name);
}

static void tell_watchers(const struct http_client *client, const struct exchange *x, uint64_t duration_us)
{
    const struct http_service *service = client->serving;
    char ip[INET6_ADDRSTRLEN];
    struct tail_request told = {
        .texts = {[TAIL_LISTENER] = slice_from_text(service->shared->config->name),
                  [TAIL_METHOD] = x->request.method,
                  [TAIL_HOST] = x->request.authority,
                  [TAIL_PATH] = x->request.path,
                  [TAIL_CLIENT] = slice_of(ip, ip_text(&x->client, ip))},
        .status = x->status,
        .duration_us = duration_us,
        .bytes = x->answer_body_bytes,
    };

    if (client->route)
        name_route(client->route, x, told.texts);
    tail_put(service->shared->tail, service->thread, &told);
}

/* Once for each request: when it was answered, or became a tunnel. */
static void count_answer(struct http_client *client, const struct exchange *x)
{
    struct route_counters *counters = client->counters;
    uint64_t now_us = loop_now_us(), duration_us = now_us - x->start_us;
    unsigned class = x->status / 100;
    struct tail *tail;

    client->counters = NULL;
    if (!counters || class < 1 || class > 5)
        return;
    counter_add(&counters->statuses[class - 1], 1);
    histogram_add(&counters->latency, duration_us);
    tail = client->serving->shared->tail;
    if (tail_is_watched(tail, now_us) && tail_wants(tail, client->serving->thread, now_us, x->status))
        tell_watchers(client, x, duration_us);
}

static void on_tunnel(struct exchange *x)
{
    struct http_client *client = container_of(x->connection, struct http_client, connection);

    count_answer(client, x);
    stop_serving(client);
}

static void count_at(struct http_client *client, const struct config_route *route)
{
    const struct http_shared *shared = client->serving->shared;
    size_t i = route ? (size_t)(route - shared->config->routes) : shared->n_routes;

    client->route = route;
    client->counters = &shared->stats[i]->threads[client->serving->thread];
}

/* The one way to the access log: by the service of now, for the one that it was served by may be gone. */
static void log_exchange(struct http_client *client, const struct exchange *x)
{
    struct http_service *service = container_of(client->client.at->service, struct http_service, service);

    if (!service->shared->log || !(x->answer_started || x->request.method.len))
        return;
    if (!service->log)
        service->log = access_log_buffer_open(service->shared->log);
    if (service->log)
        access_log_put(service->log, x);
}

static void serve(struct http_client *client, struct exchange *x)
{
    const struct http_shared *shared = client->serving->shared;
    const struct config_route *route;
    struct slice rest;

    if (shared->serve) {
        shared->serve(x, shared->owner);
        return;
    }
    if (shared->stores && slice_starts_with(x->request.path, SLICE(STATUS_PATH))) {
        count_at(client, NULL);
        enqueue_status(x, client->serving->service.scene->port);
        return;
    }
    route = router_find(shared->router, &x->request, &rest);
    count_at(client, route);
    if (route)
        serve_route(client, x, route, rest);
    else
        exchange_fail(x, 404, "no route matches");
}

static enum close_reason serve_request(struct http_client *client)
{
    struct http_connection *c = &client->connection;
    struct exchange x;
    enum close_reason why;

    client->serving = container_of(client->client.at->service, struct http_service, service);
    scene_hold(client->serving->service.scene);
    c->limits = &client->serving->shared->limits;
    why = exchange_read(&x, c);
    x.on_tunnel = on_tunnel;
    if (why == CLOSE_NOT)
        serve(client, &x);
    else if (!client->serving->shared->serve)
        count_at(client, NULL); /* refused before there was a route */
    count_answer(client, &x);
    log_exchange(client, &x); /* the request is not there any more once it is finished */
    if (why == CLOSE_NOT)
        why = exchange_finish(&x);
    else if (x.answer_started)
        exchange_finish(&x);
    exchange_free(&x);
    count_bytes(client);
    stop_serving(client);
    return why;
}

/* ---- one client -------------------------------------------------------------------------------------------- */

static const struct http_shared *shared_now(const struct http_client *client)
{
    return container_of(client->client.at->service, struct http_service, service)->shared;
}

/* Until the first byte of the next request. Holds no buffer. */
static enum close_reason wait_request(struct http_client *client)
{
    struct http_connection *c = &client->connection;
    uint64_t wait_us = c->last ? LISTENER_LAST_REQUEST_US : shared_now(client)->limits.idle_timeout_us;
    int error;

    if (!input_empty(&c->in))
        return CLOSE_NOT;
    list_push_back(&client->client.at->idle, &client->client.idle);
    error = stream_wait_readable(&c->stream, loop_deadline(wait_us));
    list_remove(&client->client.idle);
    if (error == -ETIMEDOUT)
        return CLOSE_IDLE;
    return error ? CLOSE_DRAIN : CLOSE_NOT;
}

/* Something came while nobody reads: the request is being served. When it is the end of the connection, there is
 * nobody left to serve: the exchange is cancelled, and its server and place in line are free again. More requests
 * behind this one are no end, even when the client has closed its side after them. */
static void on_input(struct io *io)
{
    struct http_client *client = container_of(io, struct http_client, connection.stream.io);
    char byte;
    ssize_t n;

    if (!(io->ready & IO_HUNG_UP) || !input_empty(&client->connection.in))
        return;
    n = recv(io->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN))
        fiber_cancel(client->client.fiber);
}

static int open_client(struct http_client *client)
{
    struct http_connection *c = &client->connection;
    const struct http_shared *shared = shared_now(client);
    const struct http_limits *limits = &shared->limits;
    struct scene *scene = client->client.at->service->scene;
    int error;

    scene_hold(scene); /* its networks are looked at while the header comes */
    error = listener_open_client(&client->client, &c->stream, limits->proxies, limits->n_proxies,
                                 loop_deadline(limits->head_timeout_us));
    if (!error) {
        c->stream.io.on_input = on_input;
        c->in.stream = c->out.stream = &c->stream;
        c->out.pace = &c->write_pace;
        c->read_pace = c->write_pace = (struct pace){
            .idle_us = limits->body_timeout_us,
            .grace_us = limits->rate_grace_us,
            .min_rate = limits->min_rate,
        };
        c->source = &client->client.peer;
        c->destination = client->client.proxied ? &client->client.proxied->destination : NULL;
        c->peer = ip_from_endpoint(&client->client.peer);
        c->peer_len = (uint8_t)ip_text(&c->peer, c->peer_text);
        for (size_t i = 0; i < limits->n_trusted && !c->peer_trusted; i++)
            c->peer_trusted = ip_network_has(&limits->trusted[i], &c->peer);
    }
    scene_release(scene);
    return error;
}

/* One client, from accept to close. */
static void run_client(struct client *base)
{
    struct http_client *client = container_of(base, struct http_client, client);
    struct http_connection *c = &client->connection;
    enum close_reason why = CLOSE_NOT;

    if (open_client(client) != 0)
        return;
    while (why == CLOSE_NOT) {
        why = wait_request(client);
        if (why == CLOSE_NOT)
            why = serve_request(client);
    }
    stream_close(&c->stream);
    input_drop(&c->in);
    output_drop(&c->out);
}

static void drain_client(struct client *base)
{
    container_of(base, struct http_client, client)->connection.last = true;
}

const struct listener_kind http_listener_kind = {
    .name = "http",
    .client_bytes = sizeof(struct http_client),
    .run = run_client,
    .drain = drain_client,
};

/* ---- services ---------------------------------------------------------------------------------------------- */

static void free_service(struct service *base)
{
    struct http_service *service = container_of(base, struct http_service, service);

    if (service->log)
        access_log_buffer_close(service->log);
    http_shared_unref(service->shared);
    free(service);
}

struct service *http_service_create(struct http_shared *shared, struct scene *scene, unsigned thread)
{
    struct http_service *service = calloc(1, sizeof *service);

    if (!service)
        return NULL;
    service->service = (struct service){.scene = scene, .free = free_service};
    service->shared = http_shared_ref(shared);
    service->thread = thread;
    return &service->service;
}

static struct http_limits limits_of(const struct config_http *config)
{
    return (struct http_limits){
        .head_timeout_us = config->head_timeout_us,
        .idle_timeout_us = config->idle_timeout_us,
        .body_timeout_us = config->body_timeout_us,
        .rate_grace_us = config->rate_grace_us,
        .min_rate = config->min_rate,
        .tunnel_timeout_us = config->tunnel_timeout_us,
        .max_head = config->max_head,
        .max_line = config->max_line,
        .max_fields = config->max_fields,
        .max_body = config->max_body,
        .max_requests = config->max_requests,
        .trusted = config->trusted_proxies,
        .n_trusted = config->n_trusted_proxies,
        .proxies = config->accept_proxy,
        .n_proxies = config->n_accept_proxy,
    };
}

static void unref_stats(struct route_stats *stats)
{
    if (atomic_fetch_sub(&stats->references, 1) != 1)
        return;
    free(stats->threads);
    free(stats->name);
    free(stats);
}

static struct route_stats *create_stats(const char *name, unsigned n_threads)
{
    struct route_stats *stats = calloc(1, sizeof *stats);

    if (!stats)
        return NULL;
    atomic_init(&stats->references, 1);
    stats->n_threads = n_threads;
    stats->name = strdup(name);
    stats->threads = aligned_alloc(alignof(struct route_counters), n_threads * sizeof *stats->threads);
    if (!stats->name || !stats->threads) {
        unref_stats(stats);
        return NULL;
    }
    memset(stats->threads, 0, n_threads * sizeof *stats->threads);
    return stats;
}

/* What the route counted before, or a new beginning. NULL: no memory. */
static struct route_stats *stats_of(const char *name, const struct http_shared *before, unsigned n_threads)
{
    for (size_t i = 0; before && i <= before->n_routes; i++)
        if (strcmp(before->stats[i]->name, name) == 0) {
            atomic_fetch_add(&before->stats[i]->references, 1);
            return before->stats[i];
        }
    return create_stats(name, n_threads);
}

struct http_shared *http_shared_create(const struct config_http *config, const struct http_shared *before,
                                       struct access_log *log, struct tail *tail, unsigned n_threads)
{
    struct http_shared *shared = calloc(1, sizeof *shared);
    bool ok;

    if (!shared)
        return NULL;
    atomic_init(&shared->references, 1);
    shared->config = config;
    shared->limits = limits_of(config);
    shared->log = log;
    shared->tail = tail;
    shared->n_routes = config->n_routes;
    for (size_t i = 0; i < config->n_routes; i++)
        shared->stores |= config->routes[i].queue || config->routes[i].topic;
    shared->router = router_create(config);
    shared->stats = calloc(config->n_routes + 1, sizeof(struct route_stats *));
    ok = shared->router && shared->stats;
    for (size_t i = 0; ok && i <= config->n_routes; i++) {
        shared->stats[i] = stats_of(i < config->n_routes ? config->routes[i].name : "", before, n_threads);
        ok = shared->stats[i] != NULL;
    }
    if (ok)
        return shared;
    http_shared_unref(shared);
    return NULL;
}

struct http_shared *http_shared_serving(void (*serve_all)(struct exchange *x, void *owner), void *owner)
{
    struct http_shared *shared = calloc(1, sizeof *shared);

    if (!shared)
        return NULL;
    atomic_init(&shared->references, 1);
    shared->serve = serve_all;
    shared->owner = owner;
    shared->limits = (struct http_limits){
        .head_timeout_us = 10 * US_PER_S,
        .idle_timeout_us = 75 * US_PER_S,
        .body_timeout_us = 30 * US_PER_S,
        .max_head = 16384,
        .max_line = 8192,
        .max_fields = 64,
        .max_body = 16u * 1024 * 1024, /* of a message that is published by hand */
    };
    return shared;
}

struct http_shared *http_shared_ref(struct http_shared *shared)
{
    atomic_fetch_add(&shared->references, 1);
    return shared;
}

void http_shared_unref(struct http_shared *shared)
{
    if (atomic_fetch_sub(&shared->references, 1) != 1)
        return;
    for (size_t i = 0; shared->stats && i <= shared->n_routes; i++)
        if (shared->stats[i])
            unref_stats(shared->stats[i]);
    free(shared->stats);
    if (shared->router)
        router_free(shared->router);
    free(shared);
}
