/* attempts.c - see attempts.h. */
#include "balance/attempts.h"

#include <errno.h>

#include "balance/line.h"
#include "http/head.h"

#define INTERIM_MAX 32

/* ---- whose fault it is ------------------------------------------------------------------------------------- */

static bool out_of_time(const struct attempts *a)
{
    return a->latest_us != NEVER && loop_now_us() >= a->latest_us;
}

bool attempts_beyond_help(const struct attempts *a, int error)
{
    return error == -ECANCELED || stream_error_is_ours(error) || out_of_time(a);
}

/* A request's own time is a server's fault when that one had all of it, and not when it had what others left. */
static bool is_servers_fault(const struct attempts *a, int error)
{
    if (error == -ECANCELED || stream_error_is_ours(error))
        return false;
    return error != -ETIMEDOUT || !a->n_tried || !out_of_time(a);
}

static void fail(struct attempts *a, unsigned status, const char *note)
{
    a->status = status;
    a->note = note;
}

static void fail_without_fault(struct attempts *a, int error)
{
    if (error == -ETIMEDOUT)
        fail(a, 504, "no time was left");
    else if (error == -ECANCELED)
        fail(a, 503, "the client left, or maitred stops");
    else
        fail(a, 503, error == -ENOMEM || error == -ENOBUFS ? "no memory" : "no file descriptor is free");
}

static void count_error(const struct attempts *a, const struct server *server, enum server_error error)
{
    counter_add(&server->counters[a->pt->thread].errors[error], 1);
}

static void fail_by_server(struct attempts *a, struct server *server, enum server_error error,
                           unsigned status, const char *note)
{
    fail(a, status, note);
    count_error(a, server, error);
    pool_thread_note_failure(a->pt, server, note);
}

/* ---- a place and a connection ------------------------------------------------------------------------------ */

int attempts_enter(struct attempts *a, struct server **server)
{
    struct strategy_input input = {.key = a->key, .tried = a->tried, .n_tried = a->n_tried};
    int error = line_enter_until(a->pt, &input, a->latest_us, server);

    if (!error) {
        counter_add(&(*server)->counters[a->pt->thread].requests, 1);
        return 0;
    }
    pool_thread_note_refusal(a->pt, error);
    if (error == -EAGAIN)
        fail(a, 503, "the waiting line is full");
    else if (error == -ETIMEDOUT)
        fail(a, 503, "over queue-timeout in line");
    else if (error != -EHOSTUNREACH)
        fail_without_fault(a, error);
    else if (!a->status) /* else all were tried, and how the last one failed says more */
        fail(a, 503, "no server is usable");
    return error;
}

bool attempts_pass_over(struct attempts *a, struct server *server)
{
    if (a->n_tried == TRIED_MAX)
        return false;
    a->tried[a->n_tried++] = server_ref(server);
    counter_add(&server->counters[a->pt->thread].retries, 1);
    return true;
}

void attempts_end(struct attempts *a)
{
    while (a->n_tried)
        server_unref(a->tried[--a->n_tried]);
}

int attempts_connect(struct attempts *a, struct server *server, bool fresh, bool must_be_alive,
                     struct upstream **upstream)
{
    bool alone = fresh || server_wants_proxy(server); /* such a connection speaks for one client */
    int error;

    *upstream = alone ? NULL : upstream_take(a->pt, server, must_be_alive);
    if (*upstream)
        return 0;
    error = upstream_connect(a->pt, server, a->latest_us, upstream);
    if (!error)
        return 0;
    if (!is_servers_fault(a, error))
        fail_without_fault(a, error);
    else if (error == -ETIMEDOUT)
        fail_by_server(a, server, SERVER_CONNECT_TIMEOUT, 503, "no connection within connect-timeout");
    else
        fail_by_server(a, server, SERVER_REFUSED, 503, "the connection was refused");
    return error;
}

/* ---- one attempt over a connection ------------------------------------------------------------------------- */

/* Without a block: many requests wait for their servers at a time, and what each holds grows cold. */
static int wait_readable(struct upstream *upstream, uint64_t deadline_us)
{
    if (!input_empty(&upstream->in))
        return 0;
    input_drop(&upstream->in);
    return stream_wait_readable(&upstream->stream, deadline_us);
}

int attempts_read_head(struct attempts *a, struct upstream *upstream, struct answer_wait *wait,
                       struct http_response *response, struct http1_error *why)
{
    uint64_t deadline_us = loop_deadline(a->pt->config->response_timeout_us);
    struct slice head;
    int error;

    if (wait->n_interim == INTERIM_MAX) {
        *why = (struct http1_error){502, "interim answers without end"};
        return -EBADMSG;
    }
    if (deadline_us > a->latest_us)
        deadline_us = a->latest_us;
    error = wait_readable(upstream, deadline_us);
    if (!error)
        error = head_read(&upstream->in, wait->head_max, deadline_us, &head);
    if (!error)
        error = http1_parse_response(head, wait->asked, response, why);
    if (error || response->status >= 200)
        return error;
    if (response->status == 101) {
        *why = (struct http1_error){502, "an answer 101 that nobody asked for"};
        return wait->upgrades ? 0 : -EBADMSG;
    }
    wait->n_interim++;
    return 0;
}

static bool is_stale(const struct upstream *upstream, int error)
{
    return upstream->n_requests && input_empty(&upstream->in) &&
           (error == -ENODATA || error == -ECONNRESET || error == -EPIPE);
}

enum attempt attempts_judge(struct attempts *a, struct upstream *upstream, int error,
                            const struct http1_error *why)
{
    struct server *server = upstream->server;
    bool begun = !input_empty(&upstream->in); /* a part of a head: that is an answer, though a broken one */

    if (!is_servers_fault(a, error)) {
        fail_without_fault(a, error);
        return ATTEMPT_SETTLED;
    }
    if (is_stale(upstream, error)) {
        fail(a, 502, "the server closed without an answer");
        server_note_hasty(server, loop_now_us());
        return ATTEMPT_STALE;
    }
    if (error == -EBADMSG || error == -EMSGSIZE) {
        fail_by_server(a, server, SERVER_GARBAGE, 502,
                       error == -EBADMSG ? why->why : "an answer's head over max-head");
        return ATTEMPT_SETTLED;
    }
    if (error == -ETIMEDOUT)
        fail_by_server(a, server, SERVER_RESPONSE_TIMEOUT, 504,
                       out_of_time(a) ? "no answer in time" : "no answer within response-timeout");
    else if (begun)
        fail_by_server(a, server, SERVER_BROKEN, 502, "the server closed within the head of its answer");
    else
        fail_by_server(a, server, SERVER_CLOSED, 502, "the server closed without an answer");
    return begun ? ATTEMPT_SETTLED : ATTEMPT_UNANSWERED;
}

void attempts_note_answer(struct attempts *a, struct upstream *upstream, unsigned status)
{
    struct server *server = upstream->server;
    uint64_t now_us = loop_now_us(), latency_us = now_us - a->asked_us;

    histogram_add(&server->counters[a->pt->thread].latency, latency_us);
    if (status >= 502 && status <= 504)
        fail_by_server(a, server, SERVER_STATUS, status, "the server answered 502, 503 or 504");
    else
        server_observe(server, latency_us, now_us);
}

void attempts_note_cut(struct attempts *a, struct upstream *upstream, int error, const char *why)
{
    if (!is_servers_fault(a, error)) {
        fail_without_fault(a, error);
        return;
    }
    fail(a, 502, error == -EBADMSG ? why : "the server broke off its answer");
    count_error(a, upstream->server,
                error == -EBADMSG     ? SERVER_GARBAGE
                : error == -ETIMEDOUT ? SERVER_RESPONSE_TIMEOUT
                                      : SERVER_BROKEN);
}

static bool is_clean(const struct upstream *upstream, const struct http_response *response)
{
    return response->keep_alive && response->body.kind != BODY_UNTIL_CLOSE && input_empty(&upstream->in);
}

void attempts_finish(struct attempts *a, struct upstream *upstream, const struct http_response *response)
{
    struct server_counters *counters = &upstream->server->counters[a->pt->thread];

    counter_add(&counters->sent_bytes, upstream->out.written - a->written);
    counter_add(&counters->received_bytes, upstream->in.received - a->received);
    if (response && is_clean(upstream, response))
        upstream_keep(upstream);
    else
        upstream_close(upstream);
}
