/* tunnel.c - see tunnel.h. */
#include "balance/tunnel.h"

#include <errno.h>

#include "balance/line.h"

#define TRIED_MAX 32

static int send_proxy(const struct tunnel *tunnel, const struct server *server, struct stream *stream,
                      uint64_t deadline_us)
{
    char header[SERVER_PROXY_MAX];
    const struct endpoint *destination = tunnel->destination;
    struct endpoint own;
    size_t n;

    if (!server_wants_proxy(server))
        return 0;
    if (!destination) {
        stream_local_endpoint(tunnel->client, &own);
        destination = &own;
    }
    n = server_put_proxy(server, header, tunnel->source, destination);
    return stream_write_all(stream, header, n, deadline_us);
}

/* Connects to one server: 0, or what it did wrong is noted. */
static int connect_to(const struct tunnel *tunnel, struct server *server, struct stream *stream)
{
    struct pool_thread *pt = tunnel->pt;
    struct server_counters *counters = &server->counters[pt->thread];
    uint64_t start_us = loop_now_us(), deadline_us = loop_deadline(pt->config->connect_timeout_us);
    int error = stream_connect(stream, &server->endpoint, deadline_us);

    counter_add(&counters->requests, 1);
    if (!error) {
        error = send_proxy(tunnel, server, stream, deadline_us);
        if (error)
            stream_close(stream);
    }
    if (!error) {
        server_observe(server, loop_now_us() - start_us, loop_now_us());
        histogram_add(&counters->latency, loop_now_us() - start_us);
    } else if (error != -ECANCELED && !stream_error_is_ours(error)) {
        counter_add(&counters->errors[error == -ETIMEDOUT ? SERVER_CONNECT_TIMEOUT : SERVER_REFUSED], 1);
        pool_thread_note_failure(pt, server,
                                 error == -ETIMEDOUT ? "no connection within connect-timeout"
                                                     : "the connection was refused");
    }
    return error;
}

/* A server that is connected, and a place at it, which the caller holds until line_leave. */
static int find_server(const struct tunnel *tunnel, struct server **server, struct stream *stream)
{
    struct pool_thread *pt = tunnel->pt;
    struct ip client = ip_from_endpoint(tunnel->source);
    struct server *tried[TRIED_MAX];
    struct strategy_input input = {.key = strategy_ip_key(&client), .tried = tried};
    int error;

    for (;;) {
        error = line_enter(pt, &input, server);
        if (error) {
            pool_thread_note_refusal(pt, error);
            break;
        }
        error = connect_to(tunnel, *server, stream);
        if (!error)
            break;
        counter_add(&(*server)->counters[pt->thread].retries, 1);
        tried[input.n_tried++] = server_ref(*server);
        line_leave(pt, *server);
        if (error == -ECANCELED || stream_error_is_ours(error) || input.n_tried == TRIED_MAX)
            break;
    }
    while (input.n_tried)
        server_unref(tried[--input.n_tried]);
    return error;
}

static int join(struct tunnel *tunnel, struct server *server, struct stream *stream)
{
    struct server_counters *counters = &server->counters[tunnel->pt->thread];
    struct relay relay;
    int error;

    relay_init(&relay, tunnel->client, stream);
    relay.up.counters[0] = tunnel->received;
    relay.up.counters[1] = &counters->sent_bytes;
    relay.down.counters[0] = tunnel->sent;
    relay.down.counters[1] = &counters->received_bytes;
    error = relay_run(&relay, tunnel->idle_us);
    if (relay.broken == stream)
        counter_add(&counters->errors[SERVER_BROKEN], 1);
    return error;
}

int tunnel_run(struct tunnel *tunnel)
{
    struct pool_thread *pt = tunnel->pt;
    struct server *server;
    struct stream stream;
    int error;

    pool_thread_hold(pt);
    error = find_server(tunnel, &server, &stream);
    if (!error) {
        tunnel->on_connected(tunnel);
        error = join(tunnel, server, &stream);
        stream_close(&stream);
        line_leave(pt, server);
    }
    pool_thread_release(pt);
    return error;
}
