/* port.c - see port.h: the serving thread's side. What it sends is taken by thread.c. */
#include "queue/port.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "queue/thread_private.h"

/* ---- a port ------------------------------------------------------------------------------------------------------ */

void queue_port_open(struct queue_port *port, struct queue_thread *thread, uint64_t bytes_most)
{
    *port = (struct queue_port){
        .thread = thread,
        .home = mailbox_ref(loop_mailbox(loop_self())),
        .bytes_most = bytes_most,
    };
    wait_queue_init(&port->room);
    list_init(&port->holds);
}

void queue_port_close(struct queue_port *port)
{
    while (port->users)
        if (wait_queue_wait(&port->room, NEVER) == -ECANCELED)
            fiber_yield();
    token_key_close(&port->key);
    mailbox_unref(port->home);
}

/* Nothing but waiting for the queue thread to do it. */
static void run_nothing(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    (void)job;
    (void)broker;
    (void)now_us;
}

static void free_nothing(struct queue_job *job)
{
    free(job);
}

const struct token_key *queue_port_key(struct queue_port *port)
{
    struct queue_job *job;

    if (port->key.encipher)
        return &port->key;
    job = malloc(sizeof *job);
    if (!job)
        return NULL;
    *job = (struct queue_job){.run = run_nothing, .free = free_nothing};
    if (queue_job_run(port, job, false, NEVER) != 0)
        return NULL;
    free(job);
    if (port->key.encipher)
        return &port->key;
    return token_key_open(&port->key, port->thread->key) == 0 ? &port->key : NULL;
}

static void let_go(struct queue_port *port)
{
    port->users--;
    wait_queue_wake_all(&port->room);
}

static void send(const struct queue_port *port, struct mail *mail, void (*deliver)(struct mail *mail),
                 void (*drop)(struct mail *mail))
{
    mail->deliver = deliver;
    mail->drop = drop;
    mailbox_send(queue_thread_mailbox(port->thread), mail);
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

int queue_request_create(struct queue_port *port, size_t block_bytes, uint64_t bytes, uint64_t deadline_us,
                         struct queue_request **result)
{
    struct queue_request *request;
    int error = 0;

    *result = NULL;
    if (bytes > port->bytes_most)
        return -EMSGSIZE;
    while (!error && port->bytes + bytes > port->bytes_most)
        error = wait_queue_wait(&port->room, deadline_us);
    if (error)
        return error;
    request = malloc(sizeof *request + block_bytes);
    if (!request)
        return -ENOMEM;
    *request = (struct queue_request){.port = port, .bytes = bytes};
    port->bytes += bytes;
    port->users++;
    *result = request;
    return 0;
}

void queue_request_free(struct queue_request *request)
{
    struct queue_port *port = request->port;

    port->bytes -= request->bytes;
    let_go(port);
    free((char *)(uintptr_t)request->body.ptr);
    free(request->answer);
    free(request);
}

/* Both answers that were to come have come, and nobody wants them. */
static void free_abandoned(struct queue_request *request)
{
    if (request->abandoned && request->published_done &&
        (!request->wants_answer || request->result != PUBLISH_OK || request->answered))
        queue_request_free(request);
}

static void on_published(struct mail *mail)
{
    struct queue_request *request = container_of(mail, struct queue_request, mail);

    request->published_done = true;
    if (request->waiter)
        fiber_wake(request->waiter);
    free_abandoned(request);
}

static void on_answered(struct mail *mail)
{
    struct queue_request *request = container_of(mail, struct queue_request, answer_mail);

    request->answered = true;
    if (request->waiter)
        fiber_wake(request->waiter);
    free_abandoned(request);
}

/* A mailbox that is closed drops what comes: the queue thread's when it has ended, the port's never before its users. */
static void drop_request(struct mail *mail)
{
    struct queue_request *request = container_of(mail, struct queue_request, mail);

    request->result = PUBLISH_CLOSED;
    request->mail.deliver = on_published;
    mailbox_send(request->port->home, mail);
}

static void take_request(struct mail *mail)
{
    struct queue_request *request = container_of(mail, struct queue_request, mail);

    request->mail.deliver = on_published;
    request->mail.drop = NULL;
    request->answer_mail = (struct mail){.deliver = on_answered};
    queue_thread_take_request(request->port->thread, request);
}

int queue_publish(struct queue_request *request)
{
    int error = 0;

    request->waiter = fiber_self();
    send(request->port, &request->mail, take_request, drop_request);
    while (!error && !request->published_done)
        error = fiber_park(NEVER);
    request->waiter = NULL;
    if (!error || request->published_done)
        return 0;
    request->abandoned = true;
    return error;
}

/* Tells the queue thread that nobody waits for a request's answer any more; which then comes as nothing. */
struct forgetting {
    struct mail mail;
    struct queue_thread *thread;
    const struct queue_request *request; /* compared only */
    uint64_t number;
};

static void take_forgetting(struct mail *mail)
{
    struct forgetting *forgetting = container_of(mail, struct forgetting, mail);

    queue_thread_forget_waiter(forgetting->thread, forgetting->request, forgetting->number);
    free(forgetting);
}

static void drop_forgetting(struct mail *mail)
{
    free(container_of(mail, struct forgetting, mail));
}

static void abandon_answer(struct queue_request *request)
{
    struct forgetting *forgetting = malloc(sizeof *forgetting);

    request->abandoned = true;
    if (!forgetting)
        return; /* it is freed when the message ends */
    forgetting->thread = request->port->thread;
    forgetting->request = request;
    forgetting->number = request->published.number;
    send(request->port, &forgetting->mail, take_forgetting, drop_forgetting);
}

int queue_wait_answer(struct queue_request *request, uint64_t deadline_us)
{
    int error = 0;

    assert(request->wants_answer && request->published_done && request->result == PUBLISH_OK);
    request->waiter = fiber_self();
    while (!error && !request->answered)
        error = fiber_park(deadline_us);
    request->waiter = NULL;
    if (request->answered)
        return 0;
    abandon_answer(request);
    return error;
}

/* ---- consuming --------------------------------------------------------------------------------------------------- */

struct subscription {
    struct queue_job job;
    struct queue_consumer *consumer; /* owned until it is the caller's */
    int error;
    char name[BROKER_NAME_MAX];
    size_t name_len;
};

static struct broker_consumer_options options_of(struct queue_consumer *consumer)
{
    return (struct broker_consumer_options){
        .owner = consumer,
        .prefetch = consumer->options.prefetch,
        .rate = consumer->options.rate,
        .burst = consumer->options.burst ? consumer->options.burst : 1,
        .priority = consumer->options.priority,
        .auto_ack = consumer->options.auto_ack,
        .exclusive = consumer->options.exclusive,
        .on_demand = consumer->options.on_demand,
        .counts_loss = consumer->options.counts_loss,
        .tells_late = consumer->options.late != NULL,
        .transit_most = consumer->options.transit_most,
        .windows = {consumer->options.windows[0], consumer->options.windows[1]},
    };
}

static void free_consumer(struct queue_consumer *consumer)
{
    for (unsigned i = 0; i < BROKER_WINDOWS; i++)
        broker_window_unref(consumer->options.windows[i]);
    free(consumer);
}

static void run_subscribe(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct subscription *s = container_of(job, struct subscription, job);
    struct broker_consumer_options options = options_of(s->consumer);

    (void)now_us;
    s->error = broker_subscribe(broker, slice_of(s->name, s->name_len), &options, &s->consumer->at_broker);
}

/* Nobody waits for it any more: what was subscribed is given back. */
static void free_subscription(struct queue_job *job)
{
    struct subscription *s = container_of(job, struct subscription, job);

    if (!s->error) {
        s->consumer->port->users++;
        queue_unsubscribe(s->consumer);
    } else {
        free_consumer(s->consumer);
    }
    free(s);
}

static void on_gone(struct mail *mail)
{
    struct queue_consumer *consumer = container_of(mail, struct queue_consumer, gone);

    if (!consumer->ended && consumer->options.gone)
        consumer->options.gone(consumer->options.arg);
}

static void on_late(struct mail *mail)
{
    struct queue_consumer *consumer = container_of(mail, struct queue_consumer, late);

    if (!consumer->ended)
        consumer->options.late(consumer->options.arg);
}

int queue_subscribe(struct queue_port *port, struct slice queue, const struct queue_consumer_options *options,
                    struct queue_consumer **result)
{
    struct subscription *s = calloc(1, sizeof *s);
    int error;

    *result = NULL;
    if (!port->thread || queue.len > sizeof s->name) {
        free(s);
        return port->thread ? -ENOENT : -EPIPE;
    }
    if (!s || !(s->consumer = calloc(1, sizeof *s->consumer))) {
        free(s);
        return -ENOMEM;
    }
    s->job = (struct queue_job){.run = run_subscribe, .free = free_subscription};
    s->consumer->port = port;
    s->consumer->options = *options;
    for (unsigned i = 0; i < BROKER_WINDOWS; i++)
        broker_window_ref(options->windows[i]);
    s->consumer->gone.deliver = on_gone;
    s->consumer->late.deliver = on_late;
    s->error = -ECANCELED;
    memcpy(s->name, queue.ptr, queue.len);
    s->name_len = queue.len;
    error = queue_job_run(port, &s->job, false, NEVER);
    if (error)
        return error;
    error = s->error;
    if (error) {
        free_consumer(s->consumer);
    } else {
        port->users++;
        *result = s->consumer;
    }
    free(s);
    return error;
}

static void on_farewell(struct mail *mail)
{
    struct queue_consumer *consumer = container_of(mail, struct queue_consumer, farewell);

    let_go(consumer->port);
    free_consumer(consumer);
}

static void take_farewell(struct mail *mail)
{
    struct queue_consumer *consumer = container_of(mail, struct queue_consumer, farewell);
    struct queue_thread *thread = consumer->port->thread;

    if (queue_thread_put_off(thread, mail))
        return;
    broker_unsubscribe(thread->broker, consumer->at_broker, queue_thread_now_us(thread));
    queue_thread_kick(thread);
    mail->deliver = on_farewell;
    mailbox_send(consumer->port->home, mail);
}

/* The queue thread has ended. */
static void drop_farewell(struct mail *mail)
{
    mail->deliver = on_farewell;
    mailbox_send(container_of(mail, struct queue_consumer, farewell)->port->home, mail);
}

void queue_unsubscribe(struct queue_consumer *consumer)
{
    consumer->ended = true;
    send(consumer->port, &consumer->farewell, take_farewell, drop_farewell);
}

enum adjusting { ADJUST_OPTIONS, ADJUST_HOLD, ADJUST_STOP };

struct adjustment {
    struct mail mail;
    struct queue_consumer *consumer;
    struct broker_consumer_options options;
    enum adjusting what;
    uint64_t hold_us;
};

static void take_adjustment(struct mail *mail)
{
    struct adjustment *a = container_of(mail, struct adjustment, mail);
    struct queue_thread *thread = a->consumer->port->thread;

    if (a->what == ADJUST_HOLD)
        broker_consumer_hold(thread->broker, a->consumer->at_broker,
                             a->hold_us ? queue_thread_now_us(thread) + a->hold_us : 0);
    else if (a->what == ADJUST_STOP)
        broker_consumer_stop(thread->broker, a->consumer->at_broker, queue_thread_now_us(thread));
    else
        broker_consumer_change(thread->broker, a->consumer->at_broker, &a->options);
    queue_thread_kick(thread);
    free(a);
}

static void drop_adjustment(struct mail *mail)
{
    free(container_of(mail, struct adjustment, mail));
}

/* Without memory all stays as it is. */
static void adjust(struct queue_consumer *consumer, enum adjusting what, uint64_t hold_us)
{
    struct adjustment *a = malloc(sizeof *a);

    if (!a)
        return;
    *a = (struct adjustment){
        .consumer = consumer, .options = options_of(consumer), .what = what, .hold_us = hold_us};
    send(consumer->port, &a->mail, take_adjustment, drop_adjustment);
}

void queue_consumer_change(struct queue_consumer *consumer, const struct queue_consumer_options *options)
{
    consumer->options = *options;
    adjust(consumer, ADJUST_OPTIONS, 0);
}

void queue_consumer_stop(struct queue_consumer *consumer)
{
    adjust(consumer, ADJUST_STOP, 0);
}

void queue_consumer_forgive(struct queue_consumer *consumer)
{
    consumer->options.counts_loss = false;
    adjust(consumer, ADJUST_OPTIONS, 0);
}

void queue_hold(struct queue_consumer *consumer, uint64_t hold_us)
{
    adjust(consumer, ADJUST_HOLD, hold_us);
}

static void take_verdict(struct mail *mail)
{
    struct queue_delivery *delivery = container_of(mail, struct queue_delivery, mail);

    queue_thread_take_verdict(delivery->consumer->port->thread, delivery);
}

/* The queue thread has ended: the message is delivered again after a restart. */
static void drop_verdict(struct mail *mail)
{
    struct queue_delivery *delivery = container_of(mail, struct queue_delivery, mail);

    free(delivery->answer);
    queue_delivery_free(delivery);
}

struct taking {
    struct queue_job job;
    struct queue_consumer *consumer;
    uint64_t left;
    int result;
};

static void run_take(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct taking *t = container_of(job, struct taking, job);

    t->result = broker_take(broker, t->consumer->at_broker, now_us);
    t->left = broker_left(t->consumer->at_broker);
}

static void free_taking(struct queue_job *job)
{
    free(container_of(job, struct taking, job));
}

int queue_take(struct queue_consumer *consumer, uint64_t *left)
{
    struct taking *t = calloc(1, sizeof *t);
    int result;

    *left = 0;
    if (!t)
        return -ENOMEM;
    t->job = (struct queue_job){.run = run_take, .free = free_taking, .late = true};
    t->consumer = consumer;
    t->result = -EIO;
    result = queue_job_run(consumer->port, &t->job, false, NEVER);
    if (result)
        return result;
    result = t->result;
    *left = t->left;
    free(t);
    return result;
}

void queue_delivery_free(struct queue_delivery *delivery)
{
    if (!delivery)
        return;
    stored_body_close(&delivery->body);
    free(delivery);
}

void queue_settle(struct queue_delivery *delivery, enum queue_verdict verdict)
{
    stored_body_close(&delivery->body);
    delivery->verdict = verdict;
    send(delivery->consumer->port, &delivery->mail, take_verdict, drop_verdict);
}

/* ---- at the broker ----------------------------------------------------------------------------------------------- */

static void on_job_done(struct mail *mail)
{
    struct queue_job *job = container_of(mail, struct queue_job, mail);

    let_go(job->port);
    job->done = true;
    if (job->waiter)
        fiber_wake(job->waiter);
    else
        job->free(job);
}

static void take_job(struct mail *mail)
{
    struct queue_job *job = container_of(mail, struct queue_job, mail);

    job->mail.deliver = on_job_done;
    job->mail.drop = NULL;
    queue_thread_take_job(job->port->thread, job);
}

/* The queue thread has ended: it comes back without having been run. */
static void drop_job(struct mail *mail)
{
    struct queue_job *job = container_of(mail, struct queue_job, mail);

    job->mail.deliver = on_job_done;
    mailbox_send(job->port->home, mail);
}

void queue_job_post(struct queue_port *port, struct queue_job *job)
{
    job->port = port;
    job->durable = job->done = false;
    job->waiter = NULL;
    port->users++;
    send(port, &job->mail, take_job, drop_job);
}

int queue_job_run(struct queue_port *port, struct queue_job *job, bool durable, uint64_t deadline_us)
{
    int error = 0;

    job->port = port;
    job->durable = durable;
    job->done = false;
    job->waiter = fiber_self();
    port->users++;
    send(port, &job->mail, take_job, drop_job);
    while (!error && !job->done)
        error = fiber_park(deadline_us);
    if (job->done)
        return 0;
    job->waiter = NULL;
    return error;
}
