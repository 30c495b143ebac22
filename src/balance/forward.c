/* forward.c - see forward.h.
 *
 * One attempt after another until one settles the exchange. A request's body that is small is read whole first, so
 * that a slow client holds no server and the request can be repeated; a large one streams through a second
 * fiber, because an answer may come before its end. */
#include "balance/forward.h"

#include <errno.h>
#include <string.h>

#include "balance/line.h"
#include "balance/request_key.h"
#include "balance/upstream.h"

#define TRIED_MAX 32
#define BUFFERED_BODY_MAX (64u * 1024)
#define INTERIM_MAX 32

/* How an attempt ended. */
enum outcome {
    SETTLED,    /* answered, or beyond help: nothing more to do */
    UNREACHED,  /* the server never had the request */
    STALE,      /* a kept connection was dead: nothing says that the server is */
    UNANSWERED, /* it may have had the request, and no byte of an answer came */
};

struct forwarding {
    struct exchange *x;
    struct pool_thread *pt;
    const struct config_route *route;
    struct head_forwarding head;
    struct slice body; /* whole, when has_body */
    bool has_body;     /* the body is here and can be sent again */
    bool streams;      /* the body comes through a pump */
    bool repeatable;
    struct server *tried[TRIED_MAX];
    size_t n_tried;
    unsigned repeats;
    unsigned status; /* to answer with when nothing is left to try */
    const char *note;
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

static struct server_counters *counters_of(const struct forwarding *f, const struct server *server)
{
    return &server->counters[f->pt->thread];
}

static void count_error(const struct forwarding *f, const struct server *server, enum server_error error)
{
    counter_add(&counters_of(f, server)->errors[error], 1);
}

/* What is no fault of a server's. */
static const char *why_ended(int error)
{
    if (error == -ECANCELED)
        return "the client left, or maitred stops";
    return error == -ENOMEM || error == -ENOBUFS ? "no memory" : "no file descriptor is free";
}

/* Sends the head, and the body when it is here. */
static int send_request(struct forwarding *f, struct upstream *upstream)
{
    const struct http_connection *c = f->x->connection;
    char header[SERVER_PROXY_MAX];
    struct endpoint own;
    size_t n;

    pace_start(&upstream->pace);
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

/* Without a block: many requests wait for their servers at a time, and what each holds grows cold. */
static int wait_answer(struct upstream *upstream, uint64_t deadline_us)
{
    if (!input_empty(&upstream->in))
        return 0;
    input_drop(&upstream->in);
    return stream_wait_readable(&upstream->stream, deadline_us);
}

/* Reads heads until a final one. 0 or an error as head_read's, or -EBADMSG with *why. */
static int read_answer_head(struct forwarding *f, struct upstream *upstream, const struct pump *pump,
                            struct http_response *response, struct http1_error *why)
{
    struct exchange *x = f->x;
    uint64_t seen = x->body.bytes;

    for (int interim = 0; interim < INTERIM_MAX; interim++) {
        uint64_t deadline_us = loop_deadline(f->pt->config->response_timeout_us);
        struct slice head;
        int error = wait_answer(upstream, deadline_us);

        if (!error)
            error = head_read(&upstream->in, x->connection->limits->max_head, deadline_us, &head);
        if (error == -ETIMEDOUT && pump->fiber && !pump->done && x->body.bytes != seen) {
            seen = x->body.bytes; /* the upload is moving: the server's silence is no fault */
            interim--;
            continue;
        }
        if (!error)
            error = http1_parse_response(head, x->request.method_id, response, why);
        if (error || response->status >= 200)
            return error;
        if (response->status == 101) {
            *why = (struct http1_error){502, "an answer 101 that nobody asked for"};
            return x->request.upgrade.len ? 0 : -EBADMSG;
        }
        exchange_interim(x, response);
    }
    *why = (struct http1_error){502, "interim answers without end"};
    return -EBADMSG;
}

/* The answer's head is here: from now on nothing can be repeated. Returns true when the connection may be kept. */
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
    if (result == -ECANCELED || stream_error_is_ours(result)) {
        exchange_fail(x, 503, why_ended(result));
        return false;
    }
    if (result < 0) {
        exchange_fail(x, 502, result == -EBADMSG ? body.why : "the server broke off its answer");
        count_error(f, upstream->server,
                    result == -EBADMSG     ? SERVER_GARBAGE
                    : result == -ETIMEDOUT ? SERVER_RESPONSE_TIMEOUT
                                           : SERVER_BROKEN);
        return false;
    }
    if (exchange_end(x, &body.trailers) != 0)
        return false;
    return response->keep_alive && response->body.kind != BODY_UNTIL_CLOSE && input_empty(&upstream->in);
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

static void note_failure(struct forwarding *f, struct server *server, enum server_error error,
                         unsigned status, const char *note)
{
    f->status = status;
    f->note = note;
    count_error(f, server, error);
    pool_thread_note_failure(f->pt, server, note);
}

/* A final head, or why there is none. */
static enum outcome judge_answer(struct forwarding *f, struct upstream *upstream, const struct pump *pump,
                                 int error, const struct http1_error *why)
{
    bool begun;

    if (pump->client_error) {
        f->x->close = true;
        exchange_fail(f->x, exchange_body_status(pump->client_error),
                      pump->client_error == -EBADMSG ? f->x->body.why
                                                     : "the request's body did not come whole");
        return SETTLED;
    }
    if (error == -ECANCELED || stream_error_is_ours(error)) {
        exchange_fail(f->x, 503, why_ended(error));
        return SETTLED;
    }
    if (!error)
        return SETTLED;
    if (upstream->n_requests && (error == -ENODATA || error == -ECONNRESET || error == -EPIPE) &&
        input_empty(&upstream->in)) {
        server_note_hasty(upstream->server, loop_now_us());
        return STALE;
    }
    if (error == -EBADMSG || error == -EMSGSIZE) {
        note_failure(f, upstream->server, SERVER_GARBAGE, 502,
                     error == -EBADMSG ? why->why : "an answer's head over max-head");
        exchange_fail(f->x, 502, f->note);
        return SETTLED;
    }
    /* A part of a head came: that is an answer, though a broken one. */
    begun = !input_empty(&upstream->in);
    if (error == -ETIMEDOUT)
        note_failure(f, upstream->server, SERVER_RESPONSE_TIMEOUT, 504, "no answer within response-timeout");
    else if (begun)
        note_failure(f, upstream->server, SERVER_BROKEN, 502,
                     "the server closed within the head of its answer");
    else
        note_failure(f, upstream->server, SERVER_CLOSED, 502, "the server closed without an answer");
    if (begun)
        exchange_fail(f->x, f->status, f->note);
    return begun ? SETTLED : UNANSWERED;
}

static bool allot_fields(struct exchange *x, struct http_response *response)
{
    response->fields.max = x->connection->limits->max_fields;
    response->fields.at = arena_alloc(&x->arena, response->fields.max * sizeof *response->fields.at);
    return response->fields.at != NULL;
}

/* Sends the request over a connection and relays the answer. Ends with the connection kept or closed. */
static enum outcome exchange_over(struct forwarding *f, struct upstream *upstream)
{
    struct exchange *x = f->x;
    struct pump pump = {.f = f, .upstream = upstream};
    struct http_response response;
    struct http1_error why = {0};
    enum outcome outcome;
    uint64_t sent_us = loop_now_us(), written = upstream->out.written, received = upstream->in.received;
    struct server_counters *counters = counters_of(f, upstream->server);
    bool keep = false;
    int error;

    if (!allot_fields(x, &response)) {
        exchange_fail(x, 503, "no memory");
        upstream_close(upstream);
        return SETTLED;
    }
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
        x->upstream_us += loop_now_us() - sent_us;
        histogram_add(&counters->latency, loop_now_us() - sent_us);
        if (response.status >= 502 && response.status <= 504)
            note_failure(f, upstream->server, SERVER_STATUS, response.status,
                         "the server answered 502, 503 or 504");
        else
            server_observe(upstream->server, loop_now_us() - sent_us, loop_now_us());
        if (response.status == 101)
            relay_tunnel(f, upstream, &response);
        else
            keep = relay_answer(f, upstream, &response);
    }
    if (pump.fiber)
        fiber_cancel_and_join(pump.fiber);
    counter_add(&counters->sent_bytes, upstream->out.written - written);
    counter_add(&counters->received_bytes, upstream->in.received - received);
    if (keep && (!pump.fiber || pump.done))
        upstream_keep(upstream);
    else
        upstream_close(upstream);
    return outcome;
}

static enum outcome attempt(struct forwarding *f, struct server *server, bool fresh)
{
    bool alone = fresh || server_wants_proxy(server); /* such a connection speaks for one client */
    struct upstream *upstream = alone ? NULL : upstream_take(f->pt, server, !f->repeatable || f->streams);
    int error;

    f->head.default_host = server->name;
    if (upstream)
        return exchange_over(f, upstream);
    error = upstream_connect(f->pt, server, &upstream);
    if (!error)
        return exchange_over(f, upstream);
    if (error == -ECANCELED || stream_error_is_ours(error)) {
        exchange_fail(f->x, 503, why_ended(error));
        return SETTLED;
    }
    if (error == -ETIMEDOUT)
        note_failure(f, server, SERVER_CONNECT_TIMEOUT, 503, "no connection within connect-timeout");
    else
        note_failure(f, server, SERVER_REFUSED, 503, "the connection was refused");
    return UNREACHED;
}

/* ---- all attempts ------------------------------------------------------------------------------------------ */

static void fail_without_server(struct forwarding *f, int error)
{
    pool_thread_note_refusal(f->pt, error);
    if (error == -EHOSTUNREACH && f->status)
        exchange_fail(f->x, f->status, f->note); /* all were tried: say how the last one failed */
    else if (error == -EHOSTUNREACH)
        exchange_fail(f->x, 503, "no server is usable");
    else if (error == -EAGAIN)
        exchange_fail(f->x, 503, "the waiting line is full");
    else if (error == -ETIMEDOUT)
        exchange_fail(f->x, 503, "over queue-timeout in line");
    else
        exchange_fail(f->x, 503, why_ended(error));
}

/* Whether, after this outcome, another server may be tried. */
static bool goes_on(struct forwarding *f, enum outcome outcome, struct server *server)
{
    unsigned retries;

    if (outcome == SETTLED) /* after a tunnel the route may be gone */
        return false;
    retries = f->route->retries >= 0 ? (unsigned)f->route->retries : f->pt->config->retries;
    if (outcome == STALE)
        f->status = 502, f->note = "the server closed without an answer";
    if (outcome != UNREACHED) {
        bool allowed = f->repeatable && f->repeats < retries;

        if (allowed && !budget_take(&f->pt->pool->budget)) {
            counter_add(&f->pt->refused[REFUSED_BUDGET], 1);
            allowed = false;
        }
        if (!allowed) {
            exchange_fail(f->x, f->status, f->note);
            return false;
        }
        f->repeats++;
    }
    if (f->n_tried == TRIED_MAX) {
        exchange_fail(f->x, f->status, f->note);
        return false;
    }
    f->tried[f->n_tried++] = server_ref(server);
    f->x->retries++;
    counter_add(&counters_of(f, server)->retries, 1);
    return true;
}

static void release_tried(struct forwarding *f)
{
    while (f->n_tried)
        server_unref(f->tried[--f->n_tried]);
}

static void try_servers(struct forwarding *f)
{
    struct strategy_input input = {.key = request_key(f->pt->config, &f->x->request, &f->x->client),
                                   .tried = f->tried};
    enum outcome outcome;
    bool more;

    do {
        struct server *server;
        uint64_t start_us = loop_now_us();
        int error;

        input.n_tried = f->n_tried;
        error = line_enter(f->pt, &input, &server);
        f->x->queue_us += loop_now_us() - start_us;
        if (error) {
            fail_without_server(f, error);
            return;
        }
        f->x->upstream = arena_copy(&f->x->arena, server->name);
        counter_add(&counters_of(f, server)->requests, 1);
        outcome = attempt(f, server, false);
        if (outcome == STALE && f->repeatable)
            outcome = attempt(f, server, true);
        more = goes_on(f, outcome, server);
        line_leave(f->pt, server);
    } while (more);
}

void forward(struct exchange *x, struct pool_thread *pt, const struct config_route *route, struct slice rest)
{
    struct http_connection *c = x->connection;
    struct forwarding f = {.x = x, .pt = pt, .route = route};
    int error;

    f.head = (struct head_forwarding){
        .peer = slice_of(c->peer_text, c->peer_len),
        .peer_is_v6 = !ip_is_v4(&c->peer),
        .trusted = c->peer_trusted,
        .request_id = exchange_request_id(x),
        .path = forwarded_path(x, route, rest),
    };
    pool_thread_hold(pt); /* a tunnel may outlive the configuration it began under */
    f.repeatable = may_repeat(&f);
    budget_request(&pt->pool->budget);
    error = prepare_body(&f);
    if (error) {
        x->close = true;
        exchange_fail(x, exchange_body_status(error), "the request's body did not come whole");
        pool_thread_release(pt);
        return;
    }
    try_servers(&f);
    release_tried(&f);
    pool_thread_release(pt);
}
