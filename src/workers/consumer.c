/* consumer.c - see consumer.h. */
#include "workers/consumer.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/event.h"
#include "front/amqp/pass.h"
#include "workers/crew.h"
#include "workers/worker.h"

#define SECRET_BYTES 24u
/* How often it is looked at whether one takes messages. */
#define LOOK_US US_PER_S

struct consuming {
    struct worker *worker;
    struct amqp_pass *pass;
    struct fiber *watcher;
    uint64_t asked, handled; /* as of the last look */
    uint64_t alive_us;       /* when it was seen last with a consumer or a message, or had asked for one */
};

void consumer_host(const struct config_amqp *amqp, char text[CONSUMER_HOST_MAX])
{
    const struct address *address = &amqp->address;
    struct endpoint endpoint;

    if (address->kind == ADDRESS_NAME) {
        snprintf(text, CONSUMER_HOST_MAX, "%s:%u", address->host, address->port);
        return;
    }
    endpoint_from_address(&endpoint, address, false);
    endpoint_text(&endpoint, text);
}

static void pass_freed(void *arg)
{
    struct workers *workers = arg;

    workers->n_passes--;
    workers_wake(workers);
}

/* Letters and digits alone, which a URL has as they are. False: there is no chance to be had. */
static bool make_secret(char text[2 * SECRET_BYTES + 1])
{
    unsigned char bytes[SECRET_BYTES];

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return false;
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
    OPENSSL_cleanse(bytes, sizeof bytes);
    return true;
}

static int open_pass(struct consuming *c, const char *name, const char *secret)
{
    struct workers *workers = c->worker->crew->owner;
    const struct config_workers *section = c->worker->crew->section;
    struct amqp_pass_options options = {
        .name = name,
        .secret = secret,
        .queue = section->queue->name,
        .slots = section->slots,
        .freed = pass_freed,
        .arg = workers,
    };

    c->pass = amqp_pass_create(workers->mailboxes, workers->n_threads, &options);
    if (!c->pass)
        return -ENOMEM;
    workers->n_passes++;
    return amqp_pass_issue(c->pass);
}

static int consumer_open(struct worker *worker, struct environment *environment)
{
    char secret[2 * SECRET_BYTES + 1], name[128], host[CONSUMER_HOST_MAX];
    struct consuming *c;
    int error;

    if (!make_secret(secret))
        return -EIO;
    c = calloc(1, sizeof *c);
    if (!c)
        return -ENOMEM;
    c->worker = worker;
    c->alive_us = loop_now_us();
    /* The end of the secret is no secret then: 12 of 48 digits. */
    snprintf(name, sizeof name, "worker.%s.%u.%s", worker->crew->name, worker->number, secret + 36);
    secret[36] = '\0';
    consumer_host(worker->crew->section->amqp, host);
    error = open_pass(c, name, secret);
    if (!error) {
        worker->fed = c;
        environment_add(environment, "AMQP_URL", "amqp://%s:%s@%s/%%2F", name, secret, host);
    } else {
        free(c);
    }
    OPENSSL_cleanse(secret, sizeof secret);
    return error;
}

/* ---- whether it takes messages ----------------------------------------------------------------------------------- */

static bool is_silent(const struct consuming *c)
{
    return loop_now_us() >= c->alive_us + c->worker->crew->section->start_timeout_us;
}

/* One that has no consumer but asks for each message itself is ready while it does. */
static void consumer_look(const struct worker *worker, struct feed_sight *sight)
{
    struct consuming *c = worker->fed;
    struct amqp_pass_sight seen;

    amqp_pass_look(c->pass, &seen);
    if (seen.consumers || seen.in_flight || seen.asked != c->asked || seen.handled != c->handled)
        c->alive_us = loop_now_us();
    c->asked = seen.asked;
    c->handled = seen.handled;
    *sight = (struct feed_sight){
        .ready = seen.consumers || seen.in_flight || (seen.asked && !is_silent(c)),
        .stopped = seen.stopped,
        .in_flight = seen.in_flight,
        .handled = seen.handled,
        .busy_us = seen.busy_us,
    };
}

static void kill_silent(struct worker *worker)
{
    worker->crew->kills++;
    event_say(EVENT_WORKER_KILLED, SLICE(""), SLICE(""),
              "workers %s/%u: killed, as for start-timeout it had no consumer of queue %s and asked for no "
              "message: it did not log in with AMQP_URL, lost its connection or channel, or hangs; let it "
              "end when it loses them, or raise start-timeout where it takes longer to begin",
              worker->crew->name, worker->number, worker->crew->section->queue->name);
    process_signal(&worker->process, SIGKILL);
}

/* Until it is cancelled. */
static void watcher_main(void *arg)
{
    struct consuming *c = arg;

    while (fiber_sleep_until(loop_now_us() + LOOK_US) == 0) {
        worker_look(c->worker);
        if (!is_silent(c) || c->worker->stopping)
            continue;
        kill_silent(c->worker);
        return;
    }
}

/* ---- a feed ------------------------------------------------------------------------------------------------------ */

static void consumer_started(struct worker *worker)
{
    struct consuming *c = worker->fed;

    c->alive_us = loop_now_us();
    c->watcher = fiber_spawn("consumer's watcher", watcher_main, c);
    if (!c->watcher)
        process_signal(&worker->process, SIGKILL);
}

static void consumer_stop(struct worker *worker)
{
    const struct consuming *c = worker->fed;

    amqp_pass_stop(c->pass);
}

static void consumer_close(struct worker *worker)
{
    struct consuming *c = worker->fed;

    if (c->watcher)
        fiber_cancel_and_join(c->watcher);
    amqp_pass_revoke(c->pass);
    free(c);
    worker->fed = NULL;
}

const struct worker_feed consumer_feed = {
    .run = worker_run_process,
    .open = consumer_open,
    .started = consumer_started,
    .look = consumer_look,
    .stop = consumer_stop,
    .close = consumer_close,
};
