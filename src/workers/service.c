/* service.c - workers that are services: each listens at the port that it is told in PORT, and is sent messages as a push sends them.
 *
 * A service has a pool of its own, of one server, and a push to that with as many messages on their way as it has slots: so one
 * that comes, ends or is to stop concerns nobody else, and the queue deals its messages out among those that are ready. It is
 * ready once it accepts a connection, or its health path answers; while that fails it is given nothing. One without a health path
 * is not asked while it has requests: what becomes of those says more, and whoever does one thing at a time would accept nothing.
 * Threads: the control thread's. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "balance/checker.h"
#include "base/clock.h"
#include "base/event.h"
#include "base/log.h"
#include "fiber/stream.h"
#include "front/push.h"
#include "workers/crew.h"
#include "workers/worker.h"

#define CONNECT_US (2 * US_PER_S)
#define HEALTH_US (5 * US_PER_S)
/* How often it is asked whether it is ready, and then whether it is still well. */
#define READY_EVERY_US (50 * US_PER_MS)
#define HEALTH_EVERY_US US_PER_S
/* So many times in a row it has to be unwell to be given nothing more. */
#define FALL 3u
/* Kept connections are closed by us first: most services wait for longer. */
#define IDLE_US US_PER_S
#define MAX_ANSWER (64u * 1024)
/* What was on its way to a process that has ended finds its connection closed within that. */
#define BROKEN_US US_PER_S
/* Given to it while it is unwell. */
#define UNWELL_US (UINT64_C(365) * 24 * 3600 * US_PER_S)
#define PORT_TRIES 16

struct http_worker {
    struct worker *worker;
    const struct config *config; /* reference: what it was started by */
    const struct config_workers *section;
    struct config_pool pool_config;
    struct config_push push_config;
    struct config_health health;
    struct pool *pool;
    struct push *push; /* NULL: it was not ready yet, or has ended */
    struct fiber *watcher;
    bool well;
    uint64_t unwell_us;        /* since when it is not */
    unsigned failures;         /* in a row */
    uint64_t handled, busy_us; /* of a push that has ended */
};

static struct pool_thread *thread_of(const struct http_worker *s)
{
    return &s->pool->threads[0];
}

/* ---- its port ---------------------------------------------------------------------------------------------------- */

static bool is_taken(const struct workers *workers, unsigned port)
{
    for (const struct list *at = workers->crews.next; at != &workers->crews; at = at->next) {
        const struct list *crew = &container_of(at, struct crew, list)->workers;

        for (const struct list *w = crew->next; w != crew; w = w->next)
            if (container_of(w, struct worker, list)->port == port)
                return true;
    }
    return false;
}

/* One that nobody has at this moment, or a negative errno. Who comes before our service makes it end, and it is given another. */
static int find_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), port = 0;

    if (fd < 0)
        return -errno;
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0)
        port = -errno;
    close(fd);
    return port ? port : ntohs(address.sin_port);
}

/* None that another worker was told, and may be about to listen at. */
static int choose_port(const struct workers *workers)
{
    int port = find_port();

    for (int i = 1; i < PORT_TRIES && port > 0 && is_taken(workers, (unsigned)port); i++)
        port = find_port();
    return port;
}

/* ---- its pool ---------------------------------------------------------------------------------------------------- */

/* As the queue has it now. One that is to be replaced may be of another queue, and keeps what it has. */
static void follow_queue(struct http_worker *s)
{
    const struct worker *worker = s->worker;

    if (worker->epoch == worker->crew->epoch)
        s->pool_config.response_timeout_us = s->push_config.timeout_us =
            worker_message_us(worker->crew->section);
}

static void configure(struct http_worker *s)
{
    uint64_t timeout_us = worker_message_us(s->section);

    s->pool_config = (struct config_pool){
        .name = s->section->name,
        .balance = BALANCE_ROUND_ROBIN,
        .connect_timeout_us = CONNECT_US,
        .response_timeout_us = timeout_us,
        .queue_timeout_us = CONNECT_US,
        .idle_timeout_us = IDLE_US,
        .max_idle = s->section->slots,
    };
    s->push_config = (struct config_push){
        .active = true,
        .path = s->section->path,
        .concurrency = s->section->slots,
        .timeout_us = timeout_us,
        .max_answer = MAX_ANSWER,
    };
    s->health = (struct config_health){
        .path = s->section->health,
        .status_low = 200,
        .status_high = 399,
        .timeout_us = HEALTH_US,
    };
}

static int fill_pool(struct http_worker *s, const struct config_server *config,
                     const struct endpoint *endpoint)
{
    struct server *server = server_create(config, 0, endpoint, 1);
    struct roster *roster = server ? roster_create(&server, NULL, 1, BALANCE_ROUND_ROBIN, 0) : NULL;
    struct kept *slots = pool_slots(1);

    if (server)
        server_unref(server);
    if (!roster || !slots) {
        if (roster)
            roster_unref(roster);
        free(slots);
        return -ENOMEM;
    }
    pool_thread_open(thread_of(s), s->worker->crew->owner->mailboxes[0]);
    pool_thread_install(thread_of(s), roster, slots, 1);
    pool_thread_hold(thread_of(s));
    roster_unref(roster);
    return 0;
}

static int make_pool(struct http_worker *s)
{
    char name[ADDRESS_TEXT_MAX];
    struct config_server config = {.name = name, .weight = 1};
    struct endpoint endpoint;
    const char *why;
    int error;

    snprintf(name, sizeof name, "127.0.0.1:%u", s->worker->port);
    if (address_parse(slice_from_text(name), &config.address, &why) != 0)
        return -EINVAL;
    endpoint_from_address(&endpoint, &config.address, false);
    s->pool = pool_create(&s->pool_config, 1);
    if (!s->pool)
        return -ENOMEM;
    error = fill_pool(s, &config, &endpoint);
    if (error)
        pool_unref(s->pool);
    return error;
}

/* ---- its messages ------------------------------------------------------------------------------------------------ */

static void push_ended(struct push *push)
{
    struct http_worker *s = push->owner;

    s->handled += push->handled;
    s->busy_us += push_busy_us(push);
    s->push = NULL;
    push_free(push);
    fiber_wake(s->worker->fiber);
}

static int begin_push(struct http_worker *s)
{
    struct push_aim aim = {.pool = thread_of(s), .config = &s->push_config};

    s->push = push_create(s->worker->crew->owner->port, s->section->queue->name, &aim);
    if (!s->push)
        return -ENOMEM;
    s->push->ended = push_ended;
    s->push->owner = s;
    return 0;
}

/* ---- whether it is well ------------------------------------------------------------------------------------------ */

static void become_well(struct http_worker *s)
{
    s->failures = 0;
    if (s->well || s->worker->stopping || (!s->push && begin_push(s) != 0))
        return;
    s->well = true;
    if (s->push->consumer)
        queue_hold(s->push->consumer, 0);
}

static void become_unwell(struct http_worker *s, const char *why)
{
    if (++s->failures != FALL || !s->well)
        return;
    s->well = false;
    s->unwell_us = loop_now_us();
    log_warning("workers %s/%u: is not well, and is given nothing more until it is: %s",
                s->worker->crew->name, s->worker->number, why);
    if (s->push && s->push->consumer)
        queue_hold(s->push->consumer, UNWELL_US);
}

static bool is_unwell_for_long(const struct http_worker *s)
{
    return !s->well && !s->worker->stopping &&
           loop_now_us() >= s->unwell_us + s->worker->crew->section->start_timeout_us;
}

static void kill_unwell(struct http_worker *s, const char *why)
{
    s->worker->crew->kills++;
    event_say(EVENT_WORKER_KILLED, SLICE(""), SLICE(""),
              "workers %s/%u: killed, as it was not ready at port %u for start-timeout: %s",
              s->worker->crew->name, s->worker->number, s->worker->port, why);
    process_signal(&s->worker->process, SIGKILL);
}

/* What it did with its requests. One that was stopped, or hangs, still has connections accepted by the kernel. */
static bool is_mute(const struct http_worker *s)
{
    return !s->health.path && s->push && s->push->timeouts >= FALL;
}

static bool is_at_work(const struct http_worker *s)
{
    return !s->health.path && s->push && s->push->on_their_way;
}

/* As checker_check. */
static int ask(const struct http_worker *s, char why[CHECK_WHY_MAX])
{
    if (!is_mute(s))
        return checker_check(&s->health, thread_of(s)->roster->servers[0], why);
    snprintf(why, CHECK_WHY_MAX, "%u requests in a row had no answer in time", s->push->timeouts);
    return -ETIMEDOUT;
}

/* Once. False: there is nothing more to look for. */
static bool check(struct http_worker *s)
{
    char why[CHECK_WHY_MAX];
    int error;

    if (s->worker->stopping)
        return false;
    if (is_at_work(s) && !is_mute(s))
        return true;
    error = ask(s, why);
    if (error == -ECANCELED)
        return false;
    if (stream_error_is_ours(error))
        return true;
    if (!error)
        become_well(s);
    else
        become_unwell(s, why);
    if (!is_unwell_for_long(s))
        return true;
    kill_unwell(s, why);
    return false;
}

/* Until it is cancelled. */
static void watcher_main(void *arg)
{
    struct http_worker *s = arg;

    while (check(s))
        if (fiber_sleep_until(loop_now_us() + (s->push ? HEALTH_EVERY_US : READY_EVERY_US)) != 0)
            return;
}

/* ---- a feed ------------------------------------------------------------------------------------------------------ */

static int service_open(struct worker *worker, struct environment *environment)
{
    struct http_worker *s = calloc(1, sizeof *s);
    int port = choose_port(worker->crew->owner), error;

    if (!s || port < 0) {
        free(s);
        return s ? port : -ENOMEM;
    }
    worker->port = (unsigned)port;
    s->worker = worker;
    s->config = config_ref(worker->crew->config);
    s->section = worker->crew->section;
    configure(s);
    error = make_pool(s);
    if (error) {
        config_unref(s->config);
        free(s);
        return error;
    }
    environment_add(environment, "PORT", "%d", port);
    environment_add(environment, "HOST", "127.0.0.1");
    worker->fed = s;
    return 0;
}

static void service_started(struct worker *worker)
{
    struct http_worker *s = worker->fed;

    s->unwell_us = loop_now_us();
    s->watcher = fiber_spawn("service's health", watcher_main, s);
    if (!s->watcher)
        process_signal(&worker->process, SIGKILL);
}

static void service_look(const struct worker *worker, struct feed_sight *sight)
{
    struct http_worker *s = worker->fed;
    const struct push *push = s->push;

    follow_queue(s); /* the first look after a reload is part of it */
    *sight = (struct feed_sight){
        .ready = s->well && push && push->consumer,
        .stopped = !push || push->stopping,
        .in_flight = push ? push->on_their_way : 0,
        .handled = s->handled + (push ? push->handled : 0),
        .busy_us = s->busy_us + (push ? push_busy_us(push) : 0),
    };
}

static void service_stop(struct worker *worker)
{
    struct http_worker *s = worker->fed;

    if (!s->push)
        return;
    s->push->forgives = true;
    push_stop(s->push);
}

/* What was on its way has been attempted: its connection is closed. Only who keeps one open for a process that has gone is broken
 * off. */
static void end_push(struct http_worker *s)
{
    uint64_t deadline_us = loop_now_us() + BROKEN_US;

    if (s->push)
        push_stop(s->push);
    while (s->push) {
        if (fiber_park(deadline_us) == 0 || loop_now_us() < deadline_us)
            continue;
        push_hurry(s->push);
        deadline_us = NEVER;
    }
}

static void service_close(struct worker *worker)
{
    struct http_worker *s = worker->fed;

    if (s->watcher)
        fiber_cancel_and_join(s->watcher);
    end_push(s);
    pool_thread_release(thread_of(s));
    pool_unref(s->pool);
    config_unref(s->config);
    free(s);
    worker->fed = NULL;
    worker->port = 0;
}

const struct worker_feed service_feed = {
    .run = worker_run_process,
    .open = service_open,
    .started = service_started,
    .look = service_look,
    .stop = service_stop,
    .close = service_close,
};
