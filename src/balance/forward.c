/* forward.c - see forward.h.
 *
 * One attempt after another until one settles the exchange. A request's body that is small is read whole first, so
 * that a slow client holds no server and the request can be repeated; a large one streams through a second
 * fiber, because an answer may come before its end. */
#include "balance/forward.h"

#include <errno.h>
#include <string.h>

#include "balance/attempts.h"
#include "balance/line.h"
#include "balance/request_key.h"

#define BUFFERED_BODY_MAX (64u * 1024)

struct forwarding {
    struct exchange *x;
    const struct config_route *route;
    struct attempts attempts;
    struct head_forwarding head;
    struct slice body; /* whole, when has_body */
    bool has_body;     /* the body is here and can be sent again */
    bool streams;      /* the body comes through a pump */
    bool repeatable;
    unsigned repeats;
};

/* The second fiber of a request whose body streams: client to server. */
struct pump {
    struct forwarding *f;
    struct upstream *upstream;
    struct fiber *fiber;
    int client_error; /* why the client's body could not be read */
    bool done;        /* all of it was sent */
};

/* ---- before the first attempt ------------------------------------------------------------------------------ */

static bool may_repeat(const struct forwarding *f)
{
    const struct http_request *r = &f->x->request;

    if (http_method_idempotent(r->method_id))
        return true;
    for (unsigned i = 0; f->route->retry_with_key && i < r->fields.count; i++)
        if (r->fields.at[i].id == FIELD_IDEMPOTENCY_KEY)
            return true;
    return false;
}

/* The whole path for the server: as sent, or without the route's prefix. */
static struct slice forwarded_path(struct exchange *x, const struct config_route *route, struct slice rest)
{
    char *path;

    if (!route->strip_prefix)
        return x->request.path;
    if (rest.len && rest.ptr[0] == '/')
        return rest;
    path = arena_alloc(&x->arena, rest.len + 1);
    if (!path)
        return SLICE("/");
    path[0] = '/';
    if (rest.len)
        memcpy(path + 1, rest.ptr, rest.len);
    return slice_of(path, rest.len + 1);
}

/* Reads a small body whole. 0, or the error it failed with. */
static int buffer_body(struct forwarding *f)
{
    struct exchange *x = f->x;
    size_t length = (size_t)x->request.body.length, have = 0;
    struct slice piece;
    char *copy;
    int result;

    f->has_body = true;
    if (x->body.done)
        return 0;
    if (input_bytes(&x->connection->in).len >= length) {
        result =
            exchange_read_body(x, &f->body); /* one piece, which stays where it is until the next request */
        return result < 0 ? result : 0;
    }
    copy = arena_alloc(&x->arena, length);
    if (!copy)
        return -ENOMEM;
    while ((result = exchange_read_body(x, &piece)) > 0) {
        memcpy(copy + have, piece.ptr, piece.len);
        have += piece.len;
    }
    f->body = slice_of(copy, have);
    return result;
}

static int prepare_body(struct forwarding *f)
{
    const struct exchange *x = f->x;
    const struct http_request *r = &x->request;
    bool here = r->body.kind == BODY_LENGTH && input_bytes(&x->connection->in).len >= r->body.length;

    if (r->body.kind == BODY_NONE ||
        (r->body.kind == BODY_LENGTH && r->body.length <= BUFFERED_BODY_MAX && (here || !r->expect_continue)))
        return buffer_body(f);
    f->streams = true;
    f->head.expect_continue = r->expect_continue;
    return 0;
}

/* ---- the request's body, when it streams ------------------------------------------------------------------- */

static void pump_main(void *arg)
{
    struct pump *pump = arg;
    struct exchange *x = pump->f->x;
    struct body_writer writer = {&pump->upstream->out, x->request.body.kind};
    int result;

    x->body.flush = &pump->upstream->out;
    result = body_move(&x->body, &writer);
    x->body.flush = NULL;
    if (result < 0 && result != -ECANCELED) {
        pump->client_error = result;
        stream_abort(
            &pump->upstream
                 ->stream); /* wakes the other fiber, and the server must not take this for the end */
    }
    if (result != 0 || writer.out->error)
        return; /* the server wants no more of it; its answer, if any, is read by the other fiber */
    body_write_end(&writer, &x->body.trailers);
    pump->done = output_flush(&pump->upstream->out) == 0;
}

/* ---- one attempt ------------------------------------------------------------------------------------------- */

/* As the last attempt failed. */
static void fail(struct forwarding *f)
{
    exchange_fail(f->x, f->attempts.status, f->attempts.note);
}

/* Sends the head, and the body when it is here. */
static int send_request(struct forwarding *f, struct upstream *upstream)
{
    const struct http_connection *c = f->x->connection;
    char header[SERVER_PROXY_MAX];
    struct endpoint own;
    size_t n;

    if (server_wants_proxy(upstream->server)) {
        stream_local_endpoint(&c->stream, &own);
        n = server_put_proxy(upstream->server, header, c->source, c->destination ? c->destination : &own);
        output_put(&upstream->out, slice_of(header, n));
    }
    head_put_request(&upstream->out, &f->x->request, &f->head);
    if (f->has_body)
        output_send(&upstream->out, f->body);
    return output_flush(&upstream->out);
}

/* Reads heads until a final one. 0 or an error as head_read's, or -EBADMSG with *why. */
static int read_answer_head(struct forwarding *f, struct upstream *upstream, const struct pump *pump,
                            struct http_response *response, struct http1_error *why)
{
    struct exchange *x = f->x;
    struct answer_wait wait = {
        .head_max = x->connection->limits->max_head,
        .asked = x->request.method_id,
        .upgrades = x->request.upgrade.len > 0,
    };
    uint64_t seen = x->body.bytes;

    for (;;) {
        int error = attempts_read_head(&f->attempts, upstream, &wait, response, why);

        if (error == -ETIMEDOUT && pump->fiber && !pump->done && x->body.bytes != seen) {
            seen = x->body.bytes; /* the upload is moving: the server's silence is no fault */
            continue;
        }
        if (error || response->status >= 200 || response->status == 101)
            return error;
        exchange_interim(x, response);
    }
}

/* The answer's head is here: from now on nothing can be repeated. Returns true when it was read to its end. */
static bool relay_answer(struct forwarding *f, struct upstream *upstream,
                         const struct http_response *response)
{
    struct exchange *x = f->x;
    struct body_reader body;
    int result;

    body_reader_init(&body, &upstream->in, response->body, &upstream->pace, &x->arena);
    body.flush = &x->connection->out;
    exchange_answer(x, response);
    result = body_move(&body, &x->writer);
    x->answer_body_bytes += body.bytes;
    if (x->connection->out.error)
        return false; /* the client has gone */
    if (result < 0) {
        attempts_note_cut(&f->attempts, upstream, result, body.why);
        fail(f);
        return false;
    }
    return exchange_end(x, &body.trailers) == 0;
}

static void relay_tunnel(struct forwarding *f, struct upstream *upstream,
                         const struct http_response *response)
{
    struct exchange *x = f->x;

    exchange_answer(x, response);
    if (exchange_end(x, NULL) == 0)
        exchange_tunnel(x, &upstream->stream, &upstream->in, x->connection->limits->tunnel_timeout_us);
    upstream->out.written += x->body.bytes; /* a request that asks for a tunnel has no body of its own */
}

/* A final head, or why there is none. */
static enum attempt judge_answer(struct forwarding *f, struct upstream *upstream, const struct pump *pump,
                                 int error, const struct http1_error *why)
{
    enum attempt outcome;

    if (pump->client_error) {
        f->x->close = true;
        exchange_fail(f->x, exchange_body_status(pump->client_error),
                      pump->client_error == -EBADMSG ? f->x->body.why
                                                     : "the request's body did not come whole");
        return ATTEMPT_SETTLED;
    }
    if (!error)
        return ATTEMPT_SETTLED;
    outcome = attempts_judge(&f->attempts, upstream, error, why);
    if (outcome == ATTEMPT_SETTLED)
        fail(f);
    return outcome;
}

static bool allot_fields(struct exchange *x, struct http_response *response)
{
    response->fields.max = x->connection->limits->max_fields;
    response->fields.at = arena_alloc(&x->arena, response->fields.max * sizeof *response->fields.at);
    return response->fields.at != NULL;
}

/* Sends the request over a connection and relays the answer. Ends with the connection kept or closed. */
static enum attempt exchange_over(struct forwarding *f, struct upstream *upstream)
{
    struct exchange *x = f->x;
    struct pump pump = {.f = f, .upstream = upstream};
    struct http_response response;
    struct http1_error why = {0};
    enum attempt outcome;
    bool whole = false;
    int error;

    if (!allot_fields(x, &response)) {
        exchange_fail(x, 503, "no memory");
        upstream_close(upstream);
        return ATTEMPT_SETTLED;
    }
    attempts_begin(&f->attempts, upstream);
    error = send_request(f, upstream);
    if (!error && f->streams) {
        pump.fiber = fiber_spawn("request body", pump_main, &pump);
        f->has_body = f->repeatable = false;
        error = pump.fiber ? 0 : -ENOMEM;
    }
    if (!error || error == -EPIPE || error == -ECONNRESET) /* it may have answered before it closed */
        error = read_answer_head(f, upstream, &pump, &response, &why);
    outcome = judge_answer(f, upstream, &pump, error, &why);
    if (!error && !x->answer_started) {
        x->upstream_us += loop_now_us() - f->attempts.asked_us;
        attempts_note_answer(&f->attempts, upstream, response.status);
        if (response.status == 101)
            relay_tunnel(f, upstream, &response);
        else
            whole = relay_answer(f, upstream, &response);
    }
    if (pump.fiber) {
        fiber_cancel_and_join(pump.fiber);
        whole &= pump.done;
    }
    attempts_finish(&f->attempts, upstream, whole ? &response : NULL);
    return outcome;
}

static enum attempt attempt(struct forwarding *f, struct server *server, bool fresh)
{
    struct upstream *upstream;
    int error = attempts_connect(&f->attempts, server, fresh, !f->repeatable || f->streams, &upstream);

    f->head.default_host = server->name;
    if (!error)
        return exchange_over(f, upstream);
    if (!attempts_beyond_help(&f->attempts, error))
        return ATTEMPT_UNREACHED;
    fail(f);
    return ATTEMPT_SETTLED;
}

/* ---- all attempts ------------------------------------------------------------------------------------------ */

/* Whether, after this outcome, another server may be tried. */
static bool goes_on(struct forwarding *f, enum attempt outcome, struct server *server)
{
    struct pool_thread *pt = f->attempts.pt;
    unsigned retries;

    if (outcome == ATTEMPT_SETTLED) /* after a tunnel the route may be gone */
        return false;
    retries = f->route->retries >= 0 ? (unsigned)f->route->retries : pt->config->retries;
    if (outcome != ATTEMPT_UNREACHED) {
        bool allowed = f->repeatable && f->repeats < retries;

        if (allowed && !budget_take(&pt->pool->budget)) {
            counter_add(&pt->refused[REFUSED_BUDGET], 1);
            allowed = false;
        }
        if (!allowed) {
            fail(f);
            return false;
        }
        f->repeats++;
    }
    if (!attempts_pass_over(&f->attempts, server)) {
        fail(f);
        return false;
    }
    f->x->retries++;
    return true;
}

/* Whether the request is to be stored, now that the pool cannot take it: no server has seen any of it. */
static bool spills(const struct forwarding *f, int error)
{
    enum route_spill rule = f->route->spill;

    if (rule == SPILL_NO || f->repeats || (f->streams && f->x->body.bytes))
        return false;
    return error == -EHOSTUNREACH || (rule == SPILL_SATURATED && (error == -EAGAIN || error == -ETIMEDOUT));
}

/* False: the request is to be stored. */
static bool try_servers(struct forwarding *f)
{
    struct exchange *x = f->x;
    enum attempt outcome;
    bool more;

    f->attempts.key = request_key(f->attempts.pt->config, &x->request, &x->client);
    do {
        struct server *server;
        uint64_t start_us = loop_now_us();
        int error = attempts_enter(&f->attempts, &server);

        x->queue_us += loop_now_us() - start_us;
        if (error && spills(f, error))
            return false;
        if (error) {
            fail(f);
            return true;
        }
        x->upstream = arena_copy(&x->arena, server->name);
        outcome = attempt(f, server, false);
        if (outcome == ATTEMPT_STALE && f->repeatable)
            outcome = attempt(f, server, true);
        more = goes_on(f, outcome, server);
        line_leave(f->attempts.pt, server);
    } while (more);
    return true;
}

bool forward(struct exchange *x, struct pool_thread *pt, const struct config_route *route, struct slice rest,
             struct slice *body)
{
    struct http_connection *c = x->connection;
    struct forwarding f = {.x = x, .route = route};
    bool done;
    int error;

    f.head = (struct head_forwarding){
        .peer = slice_of(c->peer_text, c->peer_len),
        .peer_is_v6 = !ip_is_v4(&c->peer),
        .trusted = c->peer_trusted,
        .request_id = exchange_request_id(x),
        .path = forwarded_path(x, route, rest),
    };
    pool_thread_hold(pt); /* a tunnel may outlive the configuration it began under */
    f.attempts.pt = pt;
    f.attempts.latest_us = NEVER;
    f.repeatable = may_repeat(&f);
    budget_request(&pt->pool->budget);
    error = prepare_body(&f);
    if (error) {
        x->close = true;
        exchange_fail(x, exchange_body_status(error), "the request's body did not come whole");
        pool_thread_release(pt);
        return true;
    }
    done = try_servers(&f);
    *body = f.has_body ? f.body : (struct slice){0};
    attempts_end(&f.attempts);
    pool_thread_release(pt);
    return done;
}
