/* listener.c - see listener.h. */
#include "front/listener.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "wire/proxy.h"

/* A thread may have this many more clients than the emptiest one before it passes new ones on. */
#define SEATS_SLACK 2

/* How long a listener rests when there is no room for another client and nobody idle to send away. */
#define REST_US (50 * US_PER_MS)

struct seats *seats_create(unsigned n_threads, unsigned max)
{
    struct seats *seats = calloc(1, sizeof *seats + n_threads * sizeof seats->threads[0]);

    if (!seats)
        return NULL;
    seats->n_threads = n_threads;
    atomic_init(&seats->max, max);
    return seats;
}

/* ---- one client -------------------------------------------------------------------------------------------- */

static void free_client(struct client *client)
{
    struct listener_thread *at = client->at;
    struct seats *seats = at->listener->seats;

    atomic_fetch_sub_explicit(&seats->threads[at->thread].count, 1, memory_order_relaxed);
    atomic_fetch_sub_explicit(&seats->total, 1, memory_order_relaxed);
    free(client->proxied);
    free(client);
}

static void client_main(void *arg)
{
    struct client *client = arg;
    struct listener_thread *at = client->at;

    at->listener->kind->run(client);
    counter_sub(&at->counters.open, 1);
    list_remove(&client->list);
    free_client(client);
    wait_queue_wake_all(&at->left);
}

static void turn_away(struct client *client)
{
    counter_add(&client->at->counters.refused, 1);
    close(client->fd);
    free_client(client);
}

static void start_client(struct client *client)
{
    struct listener_thread *at = client->at;

    list_init(&client->idle);
    client->fiber = fiber_spawn("client", client_main, client);
    if (!client->fiber) { /* no memory: this one goes, those who are here stay */
        turn_away(client);
        return;
    }
    fiber_detach(client->fiber);
    counter_add(&at->counters.accepted, 1);
    counter_add(&at->counters.open, 1);
    list_push_back(&at->clients, &client->list);
    if (at->draining && at->listener->kind->drain)
        at->listener->kind->drain(client);
}

static void say_bad_header(const struct client *client, const char *why)
{
    char text[ADDRESS_TEXT_MAX];

    endpoint_text(&client->peer, text);
    log_warning("listener %s: %s should begin with a PROXY header: %s", client->at->listener->name, text,
                why);
}

/* Peeks until the header is whole, and then takes exactly that: what follows is the client's. */
static int read_proxy_header(struct client *client, struct stream *stream, uint64_t deadline_us)
{
    char bytes[PROXY_HEADER_MAX];
    const char *why;
    struct proxy_header header;
    struct slice in;

    for (;;) {
        int error = io_wait_readable(&stream->io, deadline_us);
        ssize_t n = error ? 0 : recv(stream->io.fd, bytes, sizeof bytes, MSG_PEEK);
        enum proxy_result result;

        if (error)
            return error;
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            stream->io.ready &= (uint8_t)~IO_READABLE;
            continue;
        }
        if (n <= 0) /* who only looks whether we listen says nothing */
            return n < 0 ? -errno : -ECONNRESET;
        in = slice_of(bytes, (size_t)n);
        result = proxy_take(&in, &header, &why);
        if (result == PROXY_BAD) {
            say_bad_header(client, why);
            return -EBADMSG;
        }
        if (result == PROXY_OK)
            break;
        stream->io.ready &= (uint8_t)~IO_READABLE;
    }
    if (recv(stream->io.fd, bytes, (size_t)(in.ptr - bytes), 0) < 0)
        return -errno;
    if (header.local)
        return 0;
    client->proxied = malloc(sizeof header);
    if (!client->proxied)
        return -ENOMEM;
    *client->proxied = header;
    client->peer = header.source;
    return 0;
}

int listener_open_client(struct client *client, struct stream *stream, const struct ip_network *proxies,
                         size_t n_proxies, uint64_t deadline_us)
{
    int error = stream_from_socket(stream, client->fd);
    struct ip peer = ip_from_endpoint(&client->peer);
    bool listed = false;

    if (error) {
        counter_add(&client->at->counters.refused, 1);
        return error;
    }
    for (size_t i = 0; i < n_proxies && !listed; i++)
        listed = ip_network_has(&proxies[i], &peer);
    if (!listed)
        return 0;
    error = read_proxy_header(client, stream, deadline_us);
    if (error) {
        counter_add(&client->at->counters.refused, 1);
        stream_close(stream);
    }
    return error;
}

/* ---- accepting --------------------------------------------------------------------------------------------- */

static void on_passed(struct mail *message)
{
    struct client *client = container_of(message, struct client, message);

    atomic_fetch_sub(&client->at->coming, 1);
    if (client->at->draining && !client->at->fiber) /* it has closed already */
        turn_away(client);
    else if (!client->at->fiber)
        list_push_back(&client->at->early, &client->list);
    else
        start_client(client);
}

static void on_pass_dropped(struct mail *message)
{
    struct client *client = container_of(message, struct client, message);

    close(client->fd);
    free_client(client);
}

/* The thread with the fewest clients, or this one when it is not far behind. */
static unsigned choose_thread(const struct listener_thread *at)
{
    const struct seats *seats = at->listener->seats;
    unsigned own = atomic_load_explicit(&seats->threads[at->thread].count, memory_order_relaxed);
    unsigned best = at->thread, least = own;

    for (unsigned i = 0; i < at->listener->n_threads; i++) {
        unsigned count = atomic_load_explicit(&seats->threads[i].count, memory_order_relaxed);

        if (count < least) {
            best = i;
            least = count;
        }
    }
    return own <= least + SEATS_SLACK + least / 8 ? at->thread : best;
}

static void seat_client(struct listener_thread *at, int fd, const struct endpoint *peer)
{
    struct listener *listener = at->listener;
    struct seats *seats = listener->seats;
    struct client *client = calloc(1, listener->kind->client_bytes);
    unsigned thread = choose_thread(at);

    if (!client) {
        counter_add(&at->counters.refused, 1);
        close(fd);
        return;
    }
    client->at = &listener->threads[thread];
    client->fd = fd;
    client->peer = *peer;
    atomic_fetch_add_explicit(&seats->threads[thread].count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&seats->total, 1, memory_order_relaxed);
    if (thread == at->thread) {
        start_client(client);
        return;
    }
    client->message = (struct mail){.deliver = on_passed, .drop = on_pass_dropped};
    atomic_fetch_add(&client->at->coming, 1);
    mailbox_send(client->at->mailbox, &client->message);
}

static void complain(struct listener_thread *at, const char *why)
{
    if (at->complained_us && loop_now_us() - at->complained_us < 10 * US_PER_S)
        return;
    at->complained_us = loop_now_us();
    event_say(EVENT_LIMIT, SLICE(""), SLICE(""),
              "listener %s: %s; new clients wait, the longest idle ones go", at->listener->name, why);
}

/* Waits until there may be room for one more client: an idle one is sent away for it. */
static int make_room(struct listener_thread *at)
{
    int error;

    if (!list_empty(&at->idle)) {
        struct client *oldest = container_of(at->idle.next, struct client, idle);

        list_remove(&oldest->idle);
        fiber_cancel(oldest->fiber);
    }
    error = wait_queue_wait(&at->left, loop_now_us() + REST_US);
    return error == -ETIMEDOUT ? 0 : error;
}

/* Every seat is taken: nobody has to go before somebody new is really there. */
static int wait_at_limit(struct acceptor *acceptor)
{
    struct pollfd door = {.fd = acceptor->io.fd, .events = POLLIN};

    if (poll(&door, 1, 0) == 1) {
        complain(acceptor->at, "max-connections is reached");
        return make_room(acceptor->at);
    }
    acceptor->io.ready = 0;
    return io_wait_readable(&acceptor->io, NEVER);
}

static int accept_one(struct acceptor *acceptor)
{
    struct listener_thread *at = acceptor->at;
    const struct seats *seats = at->listener->seats;
    struct endpoint peer;
    int fd;

    if (atomic_load_explicit(&seats->total, memory_order_relaxed) >=
        atomic_load_explicit(&seats->max, memory_order_relaxed))
        return wait_at_limit(acceptor);
    fd = socket_accept(&acceptor->io, &peer, NEVER);
    if (fd >= 0) {
        seat_client(at, fd, &peer);
        return 0;
    }
    if (fd == -ECANCELED)
        return fd;
    complain(at, strerror(-fd)); /* no descriptors, no memory, or the network's own trouble: it passes */
    return make_room(at);
}

static void accept_main(void *arg)
{
    struct acceptor *acceptor = arg;

    while (accept_one(acceptor) == 0)
        ;
}

static int start_acceptor(struct listener_thread *at, size_t i)
{
    struct acceptor *acceptor = &at->acceptors[i];
    int error = io_watch(&acceptor->io, at->listener->fds[i], IO_READABLE, true);

    if (error)
        return error;
    acceptor->at = at;
    acceptor->fiber = fiber_spawn("accept", accept_main, acceptor);
    if (acceptor->fiber)
        return 0;
    io_forget(&acceptor->io);
    return -ENOMEM;
}

static void stop_acceptors(struct listener_thread *at)
{
    struct listener *listener = at->listener;

    for (size_t i = 0; i < listener->n_fds; i++) {
        struct acceptor *acceptor = &at->acceptors[i];

        if (!acceptor->fiber)
            continue;
        fiber_cancel_and_join(acceptor->fiber);
        acceptor->fiber = NULL;
        io_forget(&acceptor->io);
    }
    if (atomic_fetch_sub(&listener->accepting, 1) != 1)
        return;
    /* From now on the kernel refuses new clients, instead of letting them wait for nobody. */
    for (size_t i = 0; i < listener->n_fds; i++) {
        close(listener->fds[i]);
        listener->fds[i] = -1;
    }
}

/* ---- a listener's life on a thread ------------------------------------------------------------------------- */

static void cut_off(struct listener_thread *at)
{
    for (struct list *node = at->clients.next; node != &at->clients; node = node->next)
        fiber_cancel(container_of(node, struct client, list)->fiber);
}

static void send_idle_away(struct listener_thread *at)
{
    for (struct list *node = at->idle.next; node != &at->idle; node = node->next)
        fiber_cancel(container_of(node, struct client, idle)->fiber);
}

/* No other thread can pass a client on to this one any more: in this order, for who accepts nothing passes nothing on. */
static bool nobody_comes(struct listener_thread *at)
{
    return atomic_load(&at->listener->accepting) == 0 && atomic_load(&at->coming) == 0;
}

/* Sends away whoever has to go by now. Returns when to look again. */
static uint64_t send_away(struct listener_thread *at, uint64_t patience_us)
{
    uint64_t now_us = loop_now_us();

    if (list_empty(&at->clients)) /* the other threads are about to stop accepting, too */
        return now_us + US_PER_MS;
    if (now_us >= at->deadline_us) {
        cut_off(at);
        return now_us + REST_US; /* somebody may still be passed on to us */
    }
    if (now_us >= patience_us) {
        send_idle_away(at);
        return at->deadline_us;
    }
    return patience_us < at->deadline_us ? patience_us : at->deadline_us;
}

/* Until every client has gone, and none can come. */
static void see_off(struct listener_thread *at)
{
    uint64_t patience_us = loop_now_us() + LISTENER_LAST_REQUEST_US;

    while (!list_empty(&at->clients) || !nobody_comes(at))
        wait_queue_wait(&at->left, send_away(at, patience_us));
}

static void listener_main(void *arg)
{
    struct listener_thread *at = arg;

    while (!at->draining)
        fiber_park(NEVER);
    stop_acceptors(at);
    see_off(at);
    at->fiber = NULL;
    if (at->closed)
        at->closed(at);
}

int listener_thread_start(struct listener_thread *at)
{
    int error = 0;

    at->fiber = fiber_spawn("listener", listener_main, at);
    if (!at->fiber) {
        at->draining = true;
        stop_acceptors(at);
        while (!list_empty(&at->early))
            turn_away(container_of(list_pop_front(&at->early), struct client, list));
        return -ENOMEM;
    }
    fiber_detach(at->fiber);
    while (!list_empty(&at->early))
        start_client(container_of(list_pop_front(&at->early), struct client, list));
    for (size_t i = 0; !error && i < at->listener->n_fds; i++)
        error = start_acceptor(at, i);
    return error;
}

void listener_thread_drain(struct listener_thread *at, uint64_t deadline_us)
{
    void (*drain)(struct client * client) = at->listener->kind->drain;

    at->deadline_us = deadline_us;
    for (struct list *node = at->clients.next; drain && !at->draining && node != &at->clients;
         node = node->next)
        drain(container_of(node, struct client, list));
    at->draining = true;
    if (at->fiber)
        fiber_wake(at->fiber);
    wait_queue_wake_all(&at->left);
}

/* ---- making one -------------------------------------------------------------------------------------------- */

void listener_free(struct listener *listener)
{
    for (unsigned i = 0; listener->threads && i < listener->n_threads; i++) {
        free(listener->threads[i].acceptors);
        if (listener->threads[i].mailbox)
            mailbox_unref(listener->threads[i].mailbox);
    }
    for (size_t i = 0; i < listener->n_fds; i++)
        if (listener->fds[i] >= 0)
            close(listener->fds[i]);
    free(listener->fds);
    free(listener->threads);
    free(listener->name);
    free(listener);
}

static bool init_thread(struct listener *listener, unsigned i, struct mailbox *mailbox)
{
    struct listener_thread *at = &listener->threads[i];

    at->listener = listener;
    at->thread = i;
    at->mailbox = mailbox_ref(mailbox);
    at->deadline_us = NEVER;
    list_init(&at->clients);
    list_init(&at->idle);
    list_init(&at->early);
    list_init(&at->list);
    wait_queue_init(&at->left);
    at->acceptors = calloc(listener->n_fds, sizeof *at->acceptors);
    return at->acceptors != NULL;
}

struct listener *listener_create(const struct listener_kind *kind, const char *name, int *fds, size_t n_fds,
                                 struct seats *seats, struct mailbox *const *mailboxes, unsigned n_threads)
{
    struct listener *listener = calloc(1, sizeof *listener);
    bool ok;

    if (!listener) {
        for (size_t i = 0; i < n_fds; i++)
            close(fds[i]);
        free(fds);
        return NULL;
    }
    listener->kind = kind;
    listener->fds = fds;
    listener->n_fds = n_fds;
    listener->seats = seats;
    listener->n_threads = n_threads;
    atomic_init(&listener->accepting, n_threads);
    listener->name = strdup(name);
    listener->threads = calloc(n_threads, sizeof *listener->threads);
    ok = listener->name && listener->threads;
    for (unsigned i = 0; ok && i < n_threads; i++)
        ok = init_thread(listener, i, mailboxes[i]);
    if (ok)
        return listener;
    listener_free(listener);
    return NULL;
}
