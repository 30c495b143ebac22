/* http.c - see http.h. */
#include "front/http.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "balance/forward.h"
#include "base/log.h"

/* A thread may have this many more clients than the emptiest one before it passes new ones on. */
#define SEATS_SLACK 2

/* How long a listener rests when there is no room for another client and nobody idle to send away. */
#define REST_US (50 * US_PER_MS)

struct acceptor {
    struct http_front *front;
    struct io io;
    struct fiber *fiber;
};

struct http_front {
    struct http_shared *shared;
    struct http_limits limits;
    unsigned thread;
    struct mailbox *mailbox;
    struct pool_thread **pools;
    const struct config_pool *first_pool;
    struct access_log_buffer *log; /* NULL: off */
    struct acceptor *acceptors;    /* by socket */
    struct list clients, idle;     /* idle: the longest first */
    struct wait_queue left;        /* a client has gone */
    bool draining;
    uint64_t complained_us; /* when we last said that there is no room */
};

struct client {
    struct message message; /* brings it to the thread that will serve it */
    struct list list, idle;
    struct http_front *front;
    struct fiber *fiber;
    struct http_connection connection;
    int fd;
    struct endpoint peer;
};

/* ---- one client -------------------------------------------------------------------------------------------- */

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

static void serve_route(struct client *client, struct exchange *x)
{
    struct http_front *front = client->front;
    struct slice rest;
    const struct config_route *route = router_find(front->shared->router, &x->request, &rest);

    if (!route) {
        exchange_fail(x, 404, "no route matches");
        return;
    }
    switch (route->action) {
    case ROUTE_POOL:
        forward(x, front->pools[route->pool - front->first_pool], route, rest);
        break;
    case ROUTE_REDIRECT:
        redirect(x, route, rest);
        break;
    case ROUTE_RESPOND:
        exchange_respond(x, route->status, SLICE("text/plain; charset=utf-8"), route->body);
        break;
    }
}

static enum close_reason serve_request(struct client *client)
{
    struct exchange x;
    enum close_reason why = exchange_read(&x, &client->connection);

    if (why == CLOSE_NOT) {
        serve_route(client, &x);
    }
    if (client->front->log && (x.answer_started || x.request.method.len))
        access_log_put(client->front->log, &x); /* the request is not there any more once it is finished */
    if (why == CLOSE_NOT)
        why = exchange_finish(&x);
    else if (x.answer_started)
        exchange_finish(&x);
    exchange_free(&x);
    return why;
}

/* Until the first byte of the next request. Holds no buffer. */
static enum close_reason wait_request(struct client *client)
{
    struct http_connection *c = &client->connection;
    int error;

    if (!input_empty(&c->in))
        return CLOSE_NOT;
    if (c->last)
        return CLOSE_DRAIN;
    list_push_back(&client->front->idle, &client->idle);
    error = stream_wait_readable(&c->stream, loop_deadline(client->front->shared->config->idle_timeout_us));
    list_remove(&client->idle);
    if (error == -ETIMEDOUT)
        return CLOSE_IDLE;
    return error ? CLOSE_DRAIN : CLOSE_NOT;
}

/* Something came while nobody reads: the request is being served. When it is the end of the connection, there is
 * nobody left to serve: the exchange is cancelled, and its server and place in line are free again. More requests
 * behind this one are no end, even when the client has closed its side after them. */
static void on_input(struct io *io)
{
    struct client *client = container_of(io, struct client, connection.stream.io);
    char byte;

    if ((io->ready & IO_HUNG_UP) && input_empty(&client->connection.in) &&
        recv(io->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0)
        fiber_cancel(client->fiber);
}

static void client_open(struct client *client)
{
    struct http_connection *c = &client->connection;
    const struct http_limits *limits = &client->front->limits;

    c->limits = limits;
    c->stream.io.on_input = on_input;
    c->in.stream = c->out.stream = &c->stream;
    c->out.pace = &c->write_pace;
    c->read_pace = c->write_pace = (struct pace){
        .idle_us = limits->body_timeout_us,
        .grace_us = limits->rate_grace_us,
        .min_rate = limits->min_rate,
    };
    c->peer = ip_from_endpoint(&client->peer);
    c->peer_len = (uint8_t)ip_text(&c->peer, c->peer_text);
    for (size_t i = 0; i < limits->n_trusted && !c->peer_trusted; i++)
        c->peer_trusted = ip_network_has(&limits->trusted[i], &c->peer);
}

static void give_seat(struct http_front *front)
{
    struct seats *seats = front->shared->seats;

    atomic_fetch_sub_explicit(&seats->threads[front->thread].count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&seats->total, 1, memory_order_relaxed);
}

static void client_free(struct client *client)
{
    give_seat(client->front);
    free(client);
}

/* One client, from accept to close. */
static void client_main(void *arg)
{
    struct client *client = arg;
    struct http_connection *c = &client->connection;
    struct http_front *front = client->front;
    enum close_reason why = CLOSE_NOT;

    client_open(client);
    while (why == CLOSE_NOT) {
        why = wait_request(client);
        if (why == CLOSE_NOT)
            why = serve_request(client);
    }
    stream_close(&c->stream);
    input_drop(&c->in);
    output_drop(&c->out);
    list_remove(&client->list);
    client_free(client);
    wait_queue_wake_all(&front->left);
}

/* ---- accepting --------------------------------------------------------------------------------------------- */

static void client_start(struct client *client)
{
    struct http_front *front = client->front;

    list_init(&client->idle);
    if (stream_from_socket(&client->connection.stream, client->fd) != 0) {
        client_free(client);
        return;
    }
    client->fiber = fiber_spawn("client", client_main, client);
    if (!client->fiber) { /* no memory: this one goes, those who are here stay */
        stream_close(&client->connection.stream);
        client_free(client);
        return;
    }
    fiber_detach(client->fiber);
    list_push_back(&front->clients, &client->list);
}

static void on_passed(struct message *message)
{
    struct client *client = container_of(message, struct client, message);

    if (client->front->draining) {
        close(client->fd);
        client_free(client);
        return;
    }
    client_start(client);
}

static void on_pass_dropped(struct message *message)
{
    struct client *client = container_of(message, struct client, message);

    close(client->fd);
    client_free(client);
}

/* The thread with the fewest clients, or this one when it is not far behind. */
static unsigned choose_thread(const struct http_front *front)
{
    const struct seats *seats = front->shared->seats;
    unsigned own = atomic_load_explicit(&seats->threads[front->thread].count, memory_order_relaxed);
    unsigned best = front->thread, least = own;

    for (unsigned i = 0; i < seats->n_threads; i++) {
        unsigned count = atomic_load_explicit(&seats->threads[i].count, memory_order_relaxed);

        if (count < least) {
            best = i;
            least = count;
        }
    }
    return own <= least + SEATS_SLACK + least / 8 ? front->thread : best;
}

static void seat_client(struct http_front *front, int fd, const struct endpoint *peer)
{
    struct seats *seats = front->shared->seats;
    struct client *client = calloc(1, sizeof *client);
    unsigned thread = choose_thread(front);

    if (!client) {
        close(fd);
        return;
    }
    client->front = front->shared->fronts[thread];
    client->fd = fd;
    client->peer = *peer;
    atomic_fetch_add_explicit(&seats->threads[thread].count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&seats->total, 1, memory_order_relaxed);
    if (thread == front->thread) {
        client_start(client);
        return;
    }
    client->message = (struct message){.deliver = on_passed, .drop = on_pass_dropped};
    mailbox_send(client->front->mailbox, &client->message);
}

static void complain(struct http_front *front, const char *why)
{
    if (front->complained_us && loop_now_us() - front->complained_us < 10 * US_PER_S)
        return;
    front->complained_us = loop_now_us();
    log_warning("listener %s: %s; new clients wait, the longest idle ones go", front->shared->config->name,
                why);
}

/* Waits until there may be room for one more client: an idle one is sent away for it. */
static int make_room(struct http_front *front)
{
    int error;

    if (!list_empty(&front->idle)) {
        struct client *oldest = container_of(front->idle.next, struct client, idle);

        list_remove(&oldest->idle);
        fiber_cancel(oldest->fiber);
    }
    error = wait_queue_wait(&front->left, loop_now_us() + REST_US);
    return error == -ETIMEDOUT ? 0 : error;
}

/* Every seat is taken: nobody has to go before somebody new is really there. */
static int wait_at_limit(struct acceptor *acceptor)
{
    struct pollfd door = {.fd = acceptor->io.fd, .events = POLLIN};

    if (poll(&door, 1, 0) == 1) {
        complain(acceptor->front, "max-connections is reached");
        return make_room(acceptor->front);
    }
    acceptor->io.ready = 0;
    return io_wait_readable(&acceptor->io, NEVER);
}

static int accept_one(struct acceptor *acceptor)
{
    struct http_front *front = acceptor->front;
    const struct seats *seats = front->shared->seats;
    struct endpoint peer;
    int fd;

    if (atomic_load_explicit(&seats->total, memory_order_relaxed) >= seats->max) {
        return wait_at_limit(acceptor);
    }
    fd = socket_accept(&acceptor->io, &peer, NEVER);
    if (fd >= 0) {
        seat_client(front, fd, &peer);
        return 0;
    }
    if (fd == -ECANCELED)
        return fd;
    complain(front, strerror(-fd)); /* no descriptors, no memory, or the network's own trouble: it passes */
    return make_room(front);
}

static void accept_main(void *arg)
{
    struct acceptor *acceptor = arg;

    while (accept_one(acceptor) == 0)
        ;
}

/* ---- the listener on this thread --------------------------------------------------------------------------- */

static struct http_limits limits_of(const struct config_http *config)
{
    return (struct http_limits){
        .head_timeout_us = config->head_timeout_us,
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
    };
}

struct http_front *http_front_open(struct http_shared *shared, unsigned thread, struct pool_thread **pools,
                                   const struct config_pool *first_pool)
{
    struct http_front *front = calloc(1, sizeof *front);

    if (!front)
        return NULL;
    front->acceptors = calloc(shared->n_fds, sizeof *front->acceptors);
    if (shared->log)
        front->log = access_log_buffer_open(shared->log);
    if (!front->acceptors || (shared->log && !front->log)) {
        if (front->log)
            access_log_buffer_close(front->log);
        free(front->acceptors);
        free(front);
        return NULL;
    }
    front->shared = shared;
    front->limits = limits_of(shared->config);
    front->thread = thread;
    front->mailbox = mailbox_ref(loop_mailbox(loop_self()));
    front->pools = pools;
    front->first_pool = first_pool;
    list_init(&front->clients);
    list_init(&front->idle);
    wait_queue_init(&front->left);
    return front;
}

int http_front_start(struct http_front *front)
{
    for (size_t i = 0; i < front->shared->n_fds; i++) {
        struct acceptor *acceptor = &front->acceptors[i];
        int error = io_watch(&acceptor->io, front->shared->fds[i], IO_READABLE, true);

        if (error)
            return error;
        acceptor->front = front;
        acceptor->fiber = fiber_spawn("accept", accept_main, acceptor);
        if (!acceptor->fiber)
            return -ENOMEM;
    }
    return 0;
}

/* From now on the kernel refuses new clients, instead of letting them wait for nobody. */
static void close_sockets(struct http_shared *shared)
{
    for (size_t i = 0; i < shared->n_fds; i++) {
        close(shared->fds[i]);
        shared->fds[i] = -1;
    }
}

void http_front_drain(struct http_front *front)
{
    if (front->draining)
        return;
    front->draining = true;
    for (size_t i = 0; i < front->shared->n_fds; i++) {
        struct acceptor *acceptor = &front->acceptors[i];

        if (!acceptor->fiber)
            continue;
        fiber_cancel_and_join(acceptor->fiber);
        acceptor->fiber = NULL;
        io_forget(&acceptor->io);
    }
    if (atomic_fetch_sub(&front->shared->accepting, 1) == 1)
        close_sockets(front->shared);
    for (struct list *node = front->clients.next; node != &front->clients; node = node->next)
        container_of(node, struct client, list)->connection.last = true;
    for (struct list *node = front->idle.next; node != &front->idle; node = node->next)
        fiber_cancel(container_of(node, struct client, idle)->fiber);
}

void http_front_cut(struct http_front *front)
{
    for (struct list *node = front->clients.next; node != &front->clients; node = node->next)
        fiber_cancel(container_of(node, struct client, list)->fiber);
}

void http_front_close(struct http_front *front, uint64_t deadline_us)
{
    http_front_drain(front);
    while (!list_empty(&front->clients)) {
        int error = wait_queue_wait(&front->left, deadline_us);

        if (error == -ETIMEDOUT) {
            http_front_cut(front);
            deadline_us = NEVER;
        }
    }
    if (front->log)
        access_log_buffer_close(front->log);
    front->log = NULL;
}

void http_front_free(struct http_front *front)
{
    mailbox_unref(front->mailbox);
    free(front->acceptors);
    free(front);
}
