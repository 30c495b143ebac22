/* consumer.c - see consumer.h. */
#include "workers/consumer.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <sys/random.h>

#include "front/amqp/pass.h"
#include "workers/crew.h"
#include "workers/worker.h"

#define SECRET_BYTES 24u

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

static int open_pass(struct worker *worker, const char *name, const char *secret)
{
    struct workers *workers = worker->crew->owner;
    const struct config_workers *section = worker->crew->section;
    struct amqp_pass_options options = {
        .name = name,
        .secret = secret,
        .queue = section->queue->name,
        .slots = section->slots,
        .freed = pass_freed,
        .arg = workers,
    };
    struct amqp_pass *pass = amqp_pass_create(workers->mailboxes, workers->n_threads, &options);

    if (!pass)
        return -ENOMEM;
    workers->n_passes++;
    worker->fed = pass;
    return amqp_pass_issue(pass);
}

static int consumer_open(struct worker *worker, struct environment *environment)
{
    char secret[2 * SECRET_BYTES + 1], name[128], host[CONSUMER_HOST_MAX];
    int error;

    if (!make_secret(secret))
        return -EIO;
    /* The end of the secret is no secret then: 12 of 48 digits. */
    snprintf(name, sizeof name, "worker.%s.%u.%s", worker->crew->name, worker->number, secret + 36);
    secret[36] = '\0';
    consumer_host(worker->crew->section->amqp, host);
    error = open_pass(worker, name, secret);
    if (!error)
        environment_add(environment, "AMQP_URL", "amqp://%s:%s@%s/%%2F", name, secret, host);
    OPENSSL_cleanse(secret, sizeof secret);
    return error;
}

/* One that has none but asks for each message itself is ready once it has had one. */
static void consumer_look(const struct worker *worker, struct feed_sight *sight)
{
    struct amqp_pass_sight seen;

    amqp_pass_look(worker->fed, &seen);
    *sight = (struct feed_sight){
        .ready = seen.consumers || seen.in_flight || seen.handled,
        .stopped = seen.stopped,
        .in_flight = seen.in_flight,
        .handled = seen.handled,
        .busy_us = seen.busy_us,
    };
}

static void consumer_stop(struct worker *worker)
{
    amqp_pass_stop(worker->fed);
}

static void consumer_close(struct worker *worker)
{
    amqp_pass_revoke(worker->fed);
    worker->fed = NULL;
}

const struct worker_feed consumer_feed = {
    .run = worker_run_process,
    .open = consumer_open,
    .look = consumer_look,
    .stop = consumer_stop,
    .close = consumer_close,
};
