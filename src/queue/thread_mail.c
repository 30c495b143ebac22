/* thread_mail.c - what the queue thread does with mail, and what it sends: see thread_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/log.h"
#include "queue/thread_private.h"

/* Read along with a message, when the reader goes through a backlog. */
#define AHEAD_BYTES (64u * 1024)

/* ---- waiters for answers ----------------------------------------------------------------------------------------- */

static struct queue_request **waiter_bucket(const struct queue_thread *thread, uint64_t number)
{
    return &thread->waiters[number & (thread->n_waiter_buckets - 1)];
}

static bool grow_waiters(struct queue_thread *thread)
{
    uint32_t n = thread->n_waiter_buckets ? thread->n_waiter_buckets * 2 : 64,
             n_old = thread->n_waiter_buckets;
    struct queue_request **old = thread->waiters, **grown = calloc(n, sizeof(struct queue_request *));

    if (!grown)
        return false;
    thread->waiters = grown;
    thread->n_waiter_buckets = n;
    for (uint32_t i = 0; i < n_old; i++)
        for (struct queue_request *next, *request = old[i]; request; request = next) {
            struct queue_request **bucket = waiter_bucket(thread, request->published.number);

            next = request->next;
            request->next = *bucket;
            *bucket = request;
        }
    free(old);
    return true;
}

static void send_answer(struct queue_request *request, struct queue_answer *answer)
{
    request->answer = answer;
    mailbox_send(request->port->home, &request->answer_mail);
}

/* Without memory nobody waits: the client hears 202. */
void queue_thread_add_waiter(struct queue_thread *thread, struct queue_request *request)
{
    struct queue_request **bucket;

    if (thread->n_waiters == thread->n_waiter_buckets && !grow_waiters(thread)) {
        send_answer(request, NULL);
        return;
    }
    bucket = waiter_bucket(thread, request->published.number);
    request->next = *bucket;
    *bucket = request;
    thread->n_waiters++;
}

/* The one that waits for number's answer, which is not among the waiters any more; request: only that one. */
static struct queue_request *take_waiter(struct queue_thread *thread, uint64_t number,
                                         const struct queue_request *request)
{
    struct queue_request **at = thread->n_waiters ? waiter_bucket(thread, number) : NULL, *found;

    while (at && *at && ((*at)->published.number != number || (request && *at != request)))
        at = &(*at)->next;
    found = at ? *at : NULL;
    if (!found)
        return NULL;
    *at = found->next;
    thread->n_waiters--;
    return found;
}

static bool find_waiter(const struct queue_thread *thread, uint64_t number)
{
    const struct queue_request *at = thread->n_waiters ? *waiter_bucket(thread, number) : NULL;

    while (at && at->published.number != number)
        at = at->next;
    return at != NULL;
}

void queue_thread_forget_waiter(struct queue_thread *thread, const struct queue_request *request,
                                uint64_t number)
{
    struct queue_request *waiter = take_waiter(thread, number, request);

    if (waiter)
        send_answer(waiter, NULL);
}

/* ---- what mail does ---------------------------------------------------------------------------------------------- */

static void publish(struct queue_thread *thread, struct queue_request *request)
{
    struct broker_publication publication = {
        .exchange = request->exchange,
        .key = request->key,
        .head = request->head,
        .body = request->body,
        .delay_us = request->delay_us,
        .idempotency = request->idempotency,
        .idempotency_window_us = request->idempotency_window_us,
    };

    request->result =
        broker_publish(thread->broker, &publication, &request->published, queue_thread_now_us(thread));
    if (request->result != PUBLISH_OK && request->result != PUBLISH_SAME) {
        mailbox_send(request->port->home, &request->mail);
        return;
    }
    request->next = NULL;
    *thread->published.last = request;
    thread->published.last = &request->next;
    queue_thread_kick(thread);
}

void queue_thread_take_request(struct queue_thread *thread, struct queue_request *request)
{
    if (!thread->broker) {
        request->result = PUBLISH_CLOSED;
        mailbox_send(request->port->home, &request->mail);
        return;
    }
    publish(thread, request);
}

static void append_job(struct job_list *list, struct queue_job *job)
{
    job->next = NULL;
    *list->last = job;
    list->last = &job->next;
}

void queue_thread_take_job(struct queue_thread *thread, struct queue_job *job)
{
    queue_thread_kick(thread);
    if (job->late && thread->broker) {
        append_job(&thread->late_jobs, job);
        return;
    }
    if (thread->broker)
        job->run(job, thread->broker, queue_thread_now_us(thread));
    if (job->durable && thread->broker)
        append_job(&thread->jobs, job);
    else
        mailbox_send(job->port->home, &job->mail);
}

/* What they do is written with the deliveries of the turn. */
void queue_thread_run_late_jobs(struct queue_thread *thread)
{
    struct queue_job *job;

    for (job = thread->late_jobs.first; job; job = job->next)
        job->run(job, thread->broker, queue_thread_now_us(thread));
}

bool queue_thread_put_off(struct queue_thread *thread, struct mail *mail)
{
    if (!thread->late_jobs.first)
        return false;
    mail->next = thread->late_mail;
    thread->late_mail = mail;
    return true;
}

/* After the deliveries that they made. */
void queue_thread_send_late_jobs(struct queue_thread *thread)
{
    struct mail *mail, *in_order = NULL;
    struct queue_job *job;

    while ((job = thread->late_jobs.first)) {
        thread->late_jobs.first = job->next;
        mailbox_send(job->port->home, &job->mail);
    }
    thread->late_jobs.last = &thread->late_jobs.first;
    while ((mail = thread->late_mail)) {
        thread->late_mail = mail->next;
        mail->next = in_order;
        in_order = mail;
    }
    while ((mail = in_order)) {
        in_order = mail->next;
        mail->deliver(mail);
    }
}

static void publish_one(struct queue_thread *thread, struct queue_batch *batch, struct queue_publication *p,
                        uint64_t now_us)
{
    struct broker_publication publication = {
        .exchange = p->exchange,
        .key = p->key,
        .more_keys = p->more_keys,
        .head = p->head,
        .body = p->body,
        .stored = p->stored,
        .ttl_us = p->ttl_us,
        .priority = p->priority,
        .partial = true,
    };
    struct broker_published published;

    if (batch->again && p->result != PUBLISH_NO_SPACE)
        return;
    p->result = broker_publish(thread->broker, &publication, &published, now_us);
    if (published.position)
        batch->position = published.position;
}

static void settle_one(struct queue_thread *thread, const struct queue_settlement *s, uint64_t now_us)
{
    struct broker_consumer *consumer = s->consumer->at_broker;

    switch (s->verdict) {
    case VERDICT_ACK:
        broker_ack(thread->broker, consumer, s->ref, now_us);
        break;
    case VERDICT_RETRY:
        broker_retry(thread->broker, consumer, s->ref, now_us);
        break;
    case VERDICT_RETURN:
        broker_return(thread->broker, consumer, s->ref, 0, now_us);
        break;
    case VERDICT_REJECT:
        broker_reject(thread->broker, consumer, s->ref, now_us);
        break;
    }
}

void queue_thread_take_batch(struct queue_thread *thread, struct queue_batch *batch)
{
    uint64_t now_us = queue_thread_now_us(thread);

    batch->position = 0;
    batch->next = NULL;
    for (unsigned i = 0; i < batch->n_publications; i++)
        if (thread->broker)
            publish_one(thread, batch, &batch->publications[i], now_us);
        else
            batch->publications[i].result = PUBLISH_CLOSED;
    for (unsigned i = 0; thread->broker && !batch->again && i < batch->n_settlements; i++)
        settle_one(thread, &batch->settlements[i], now_us);
    for (unsigned i = 0; thread->broker && !batch->again && i < batch->n_credits; i++)
        broker_credit(thread->broker, batch->credits[i].consumer->at_broker, batch->credits[i].bytes);
    queue_thread_kick(thread);
    if (!batch->n_publications || !thread->broker) {
        mailbox_send(batch->port->home, &batch->mail);
        return;
    }
    *thread->batches.last = batch;
    thread->batches.last = &batch->next;
}

void queue_thread_take_verdict(struct queue_thread *thread, struct queue_delivery *d)
{
    struct broker_consumer *consumer = d->consumer->at_broker;
    struct queue_request *waiter = NULL;
    uint64_t now_us = queue_thread_now_us(thread);

    if (d->hold_us)
        broker_consumer_hold(thread->broker, consumer, now_us + d->hold_us);
    switch (d->verdict) {
    case VERDICT_ACK:
        waiter = d->answer ? take_waiter(thread, d->ref.number, NULL) : NULL;
        broker_ack(thread->broker, consumer, d->ref, now_us);
        break;
    case VERDICT_RETRY:
        broker_retry(thread->broker, consumer, d->ref, now_us);
        break;
    case VERDICT_RETURN:
        broker_return(thread->broker, consumer, d->ref, d->delay_us, now_us);
        break;
    case VERDICT_REJECT:
        broker_reject(thread->broker, consumer, d->ref, now_us);
        break;
    }
    if (waiter)
        send_answer(waiter, d->answer);
    else
        free(d->answer);
    free(d);
    queue_thread_kick(thread);
}

/* ---- what the broker says ---------------------------------------------------------------------------------------- */

static void on_delivery(struct mail *mail)
{
    struct queue_delivery *delivery = container_of(mail, struct queue_delivery, mail);
    struct queue_consumer *consumer = delivery->consumer;

    if (consumer->ended)
        queue_delivery_free(delivery);
    else
        consumer->options.deliver(consumer->options.arg, delivery);
}

static void drop_delivery(struct mail *mail)
{
    queue_delivery_free(container_of(mail, struct queue_delivery, mail));
}

/* What it says of itself, and its body, where that has a file; who gets one that could not be opened finds that out. 0 or a negative
 * errno. */
static int read_delivery(struct queue_thread *thread, struct queue_delivery *delivery, size_t bytes)
{
    struct message *m = &delivery->message;
    int error = message_parse(slice_of(delivery->block, bytes), m) ? 0 : -EBADMSG;

    if (!error && m->stored.id)
        error = broker_body_open(thread->broker, m->stored, &delivery->body);
    if (error != -EMFILE && error != -ENFILE && error != -ENOMEM)
        return error;
    log_line(LOG_WARNING, "queue: the body of a message cannot be opened, which ends who was to get it: %s",
             strerror(-error));
    return 0;
}

static void say_unreadable(uint64_t position, int error)
{
    log_line(LOG_ERROR,
             "queue: the message at position %llu of the log cannot be read: %s; run `maitred log check`",
             (unsigned long long)position, strerror(-error));
}

/* A copy of the message goes to the consumer's thread. One that cannot be made, for want of memory or because the log is
 * damaged there, comes back when its deadline passes. */
static void deliver(void *arg, struct broker_consumer *at_broker, const struct broker_delivery *d)
{
    struct queue_thread *thread = arg;
    struct queue_consumer *consumer = broker_consumer_owner(at_broker);
    struct queue_delivery *delivery;
    struct log_record record;
    struct slice exchange;
    int error = log_read(thread->log, d->position, AHEAD_BYTES, &thread->buffer, &record);

    if (error) {
        say_unreadable(d->position, error);
        return;
    }
    delivery = malloc(sizeof *delivery + record.payload.len + BROKER_NAME_MAX);
    if (!delivery)
        return;
    *delivery = (struct queue_delivery){
        .mail = {.deliver = on_delivery, .drop = drop_delivery},
        .consumer = consumer,
        .ref = d->ref,
        .bytes = d->transit,
        .attempt = d->attempt,
        .redelivered = d->redelivered,
        .awaited = find_waiter(thread, d->ref.number),
    };
    memcpy(delivery->block, record.payload.ptr, record.payload.len);
    error = read_delivery(thread, delivery, record.payload.len);
    if (error) {
        say_unreadable(d->position, error);
        queue_delivery_free(delivery);
        return;
    }
    exchange = broker_exchange_name(thread->broker, delivery->message.exchange);
    delivery->exchange = slice_of(delivery->block + record.payload.len, exchange.len);
    if (exchange.len)
        memcpy(delivery->block + record.payload.len, exchange.ptr, exchange.len);
    *thread->deliveries.last = delivery;
    thread->deliveries.last = &delivery->next;
}

/* What the broker delivered goes out once the log says so, so that after a crash of this process it is marked as redelivered. */
bool queue_thread_send_deliveries(struct queue_thread *thread)
{
    struct queue_delivery *delivery;

    if (!thread->deliveries.first)
        return false;
    broker_flush(thread->broker);
    log_write(thread->log);
    while ((delivery = thread->deliveries.first)) {
        thread->deliveries.first = delivery->next;
        mailbox_send(delivery->consumer->port->home, &delivery->mail);
    }
    thread->deliveries.last = &thread->deliveries.first;
    return true;
}

static void ended(void *arg, const struct broker_ending *ending)
{
    struct queue_thread *thread = arg;
    struct queue_request *waiter = take_waiter(thread, ending->ref.number, NULL);

    if (waiter)
        send_answer(waiter, NULL);
}

static void cancelled(void *arg, struct broker_consumer *at_broker)
{
    struct queue_consumer *consumer = broker_consumer_owner(at_broker);

    (void)arg;
    mailbox_send(consumer->port->home, &consumer->gone);
}

static void late(void *arg, struct broker_consumer *at_broker)
{
    struct queue_consumer *consumer = broker_consumer_owner(at_broker);

    (void)arg;
    if (!consumer->was_late)
        mailbox_send(consumer->port->home, &consumer->late);
    consumer->was_late = true;
}

const struct broker_events queue_thread_events = {
    .deliver = deliver, .ended = ended, .cancelled = cancelled, .late = late};

/* ---- nobody waits any more ---------------------------------------------------------------------------------------- */

struct release_mail {
    struct mail mail;
    struct queue_thread *thread;
};

static void take_release(struct mail *mail)
{
    struct release_mail *release = container_of(mail, struct release_mail, mail);
    struct queue_thread *thread = release->thread;

    for (uint32_t i = 0; i < thread->n_waiter_buckets; i++)
        while (thread->waiters[i])
            send_answer(take_waiter(thread, thread->waiters[i]->published.number, thread->waiters[i]), NULL);
    free(release);
}

static void drop_release(struct mail *mail)
{
    free(container_of(mail, struct release_mail, mail));
}

void queue_thread_release_waiters(struct queue_thread *thread)
{
    struct release_mail *release = malloc(sizeof *release);

    if (!release)
        return; /* they wait until their time is over */
    *release = (struct release_mail){{.deliver = take_release, .drop = drop_release}, thread};
    mailbox_send(thread->mailbox, &release->mail);
}
