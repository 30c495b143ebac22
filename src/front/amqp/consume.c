/* consume.c - consumers, what they are given, and what they say of it. See private.h.
 *
 * A delivery waits at its connection until the output has room. What the client has and has not acknowledged is kept by its tag, in
 * order, without its bytes. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "front/amqp/private.h"

/* Bytes of deliveries on their way to a client that have not gone into its output; one is always allowed. */
#define TRANSIT_MOST (128u * 1024)
/* The queue thread hears of what left when it is so much. */
#define CREDIT_LEAST (TRANSIT_MOST / 4)
/* Queues that a channel reads by basic.get without having to ask for them anew. */
#define GETTERS_MOST 8

/* ---- a consumer's life ------------------------------------------------------------------------------------------- */

static void free_delivery(struct amqp_delivery *delivery)
{
    list_remove(&delivery->list);
    queue_delivery_free(delivery->delivery);
    free(delivery);
}

/* Deliveries that were not written go back as if they had never left. */
static void return_unwritten(struct amqp_consumer *consumer)
{
    struct list *lists[] = {&consumer->early, &consumer->channel->connection->deliveries}, *next;

    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        for (struct list *at = lists[i]->next; at != lists[i]; at = next) {
            struct amqp_delivery *delivery = container_of(at, struct amqp_delivery, list);

            next = at->next;
            if (delivery->consumer != consumer)
                continue;
            if (consumer->no_ack)
                queue_delivery_free(delivery->delivery);
            else
                queue_settle(delivery->delivery, VERDICT_RETURN);
            delivery->delivery = NULL;
            free_delivery(delivery);
        }
}

/* What is unacked goes back, too. */
static void consumer_end(struct amqp_consumer *consumer)
{
    struct amqp_connection *c = consumer->channel->connection;

    return_unwritten(consumer);
    if (c->pass && !consumer->gets)
        amqp_pass_consumes(c->pass, false);
    amqp_flush(c); /* what was said of its messages goes before it */
    queue_unsubscribe(consumer->consumer);
    list_remove(&consumer->list);
    free(consumer);
}

/* One that was cancelled stays while the client has something of it. */
void amqp_consumer_release(struct amqp_consumer *consumer)
{
    if (consumer->cancelled && !consumer->n_unacked)
        consumer_end(consumer);
}

void amqp_consumers_end(struct amqp_channel *channel)
{
    amqp_flush(channel->connection); /* what was acknowledged before is */
    while (!list_empty(&channel->consumers))
        consumer_end(container_of(channel->consumers.next, struct amqp_consumer, list));
    channel->n_consumers = 0;
    if (channel->connection->pass && channel->n_unacked)
        amqp_pass_gave(channel->connection->pass, channel->n_unacked);
    channel->unacked_start = channel->unacked_end = channel->n_unacked = 0;
    channel->reply_to = NULL;
    queue_delivery_free(channel->got);
    channel->got = NULL;
    amqp_window_end(channel);
}

/* Its process is ended by us, so that what it has then has not failed. */
static void consumer_stop(struct amqp_consumer *consumer)
{
    consumer->stopped = true;
    return_unwritten(consumer);
    queue_consumer_forgive(consumer->consumer);
    queue_consumer_stop(consumer->consumer);
}

void amqp_consumers_stop(struct amqp_connection *c)
{
    for (unsigned i = 0; i < c->n_channels; i++) {
        struct list *consumers = &c->channels[i]->consumers;

        for (struct list *at = consumers->next; at != consumers; at = at->next)
            consumer_stop(container_of(at, struct amqp_consumer, list));
    }
}

/* ---- deliveries -------------------------------------------------------------------------------------------------- */

static void on_delivery(void *arg, struct queue_delivery *d)
{
    struct amqp_consumer *consumer = arg;
    struct amqp_connection *c = consumer->channel->connection;
    struct amqp_delivery *delivery;

    if (consumer->gets) {
        queue_delivery_free(consumer->channel->got);
        consumer->channel->got = d;
        return;
    }
    delivery = consumer->cancelled || consumer->stopped ? NULL : malloc(sizeof *delivery);
    if (!delivery) {
        if (consumer->no_ack)
            queue_delivery_free(d);
        else
            queue_settle(d, VERDICT_RETURN);
        return;
    }
    *delivery = (struct amqp_delivery){.consumer = consumer, .delivery = d};
    list_push_back(consumer->started ? &c->deliveries : &consumer->early, &delivery->list);
    if (consumer->started)
        amqp_wake_writer(c);
}

/* The client is told, if it wants to be: nothing comes any more. */
static void on_gone(void *arg)
{
    struct amqp_consumer *consumer = arg;
    struct amqp_channel *channel = consumer->channel;

    if (consumer->cancelled)
        return;
    return_unwritten(consumer);
    if (channel->connection->takes_cancel && consumer->started)
        amqp_send(
            channel->connection, channel->number,
            &(struct amqp_method){.id = AMQP_BASIC_CANCEL, .consumer_tag = consumer->tag, .no_wait = true});
    consumer->cancelled = true;
    channel->n_consumers--;
    if (channel->reply_to == consumer)
        channel->reply_to = NULL;
    if (consumer->started)
        amqp_consumer_release(consumer);
}

static void on_late(void *arg)
{
    const struct amqp_consumer *consumer = arg;

    amqp_fail(consumer->channel, AMQP_PRECONDITION_FAILED, 0,
              "delivery acknowledgement on channel %u timed out. This timeout value can be configured, see "
              "ack-timeout and x-consumer-timeout",
              consumer->channel->number);
}

int amqp_write_delivery(struct amqp_connection *c)
{
    struct amqp_delivery *delivery = container_of(c->deliveries.next, struct amqp_delivery, list);
    struct amqp_consumer *consumer = delivery->consumer;
    struct amqp_channel *channel = consumer->channel;
    struct queue_delivery *d = delivery->delivery;
    struct amqp_unacked unacked = {.tag = channel->next_tag++, .consumer = consumer, .ref = d->ref};
    struct amqp_method method = {
        .id = AMQP_BASIC_DELIVER,
        .consumer_tag = consumer->tag,
        .delivery_tag = unacked.tag,
        .redelivered = d->redelivered,
        .exchange = amqp_unqualify(c, d->exchange),
        .routing_key = amqp_routing_key(c, d),
    };
    uint64_t bytes = d->bytes;
    int error = consumer->no_ack || amqp_unacked_push(channel, &unacked) ? 0 : -ENOMEM;

    list_remove(&delivery->list);
    free(delivery);
    consumer->credit += bytes;
    channel->counts[AMQP_COUNT_DELIVER] += !consumer->no_ack;
    channel->counts[AMQP_COUNT_DELIVER_NO_ACK] += consumer->no_ack;
    channel->counts[AMQP_COUNT_REDELIVER] += d->redelivered;
    if (consumer->credit >= CREDIT_LEAST) {
        struct amqp_batch *batch = amqp_batch_of(c);

        if (batch && amqp_batch_credit(batch, consumer->consumer, consumer->credit))
            consumer->credit = 0;
        c->has_credit = true;
    }
    if (!error) /* the consumer may be gone when a large body is out */
        error = amqp_write_message(c, channel->number, &method, d, consumer->counts);
    queue_delivery_free(d);
    return error;
}

void amqp_send_credit(struct amqp_connection *c)
{
    if (c->has_credit)
        amqp_flush(c);
    c->has_credit = false;
}

/* ---- basic.consume ----------------------------------------------------------------------------------------------- */

static struct amqp_consumer *find_tag(const struct amqp_channel *channel, struct slice tag)
{
    for (struct list *at = channel->consumers.next; at != &channel->consumers; at = at->next) {
        struct amqp_consumer *consumer = container_of(at, struct amqp_consumer, list);

        if (!consumer->gets && !consumer->cancelled && slice_equal(consumer->tag, tag))
            return consumer;
    }
    return NULL;
}

static struct amqp_consumer *consumer_create(struct amqp_channel *channel, struct slice queue,
                                             struct slice tag, struct slice arguments)
{
    struct amqp_consumer *consumer = calloc(1, sizeof *consumer + queue.len + tag.len + arguments.len);

    if (!consumer)
        return NULL;
    consumer->channel = channel;
    list_init(&consumer->list);
    list_init(&consumer->early);
    memcpy(consumer->block, queue.ptr, queue.len);
    if (tag.len)
        memcpy(consumer->block + queue.len, tag.ptr, tag.len);
    if (arguments.len)
        memcpy(consumer->block + queue.len + tag.len, arguments.ptr, arguments.len);
    consumer->queue = slice_of(consumer->block, queue.len);
    consumer->tag = slice_of(consumer->block + queue.len, tag.len);
    consumer->arguments = slice_of(consumer->block + queue.len + tag.len, arguments.len);
    return consumer;
}

/* Whether it may be consumed from, and what it is. Runs at the broker. */
static void run_look(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_queue_view view;

    if (amqp_is_locked(o, broker, o->name, o->method.queue))
        return;
    if (!broker_find_queue(broker, o->name, &view)) {
        amqp_refuse(o, AMQP_NOT_FOUND, "no queue '%.*s' in vhost '%.*s'", SLICE_ARG(o->method.queue),
                    SLICE_ARG(o->virtual_host));
        return;
    }
    broker_touch_queue(broker, o->name, now_us);
    o->flag = amqp_counts_deliveries(view.options->arguments);
    if (o->flag && view.options->single_active && o->method.id == AMQP_BASIC_GET)
        amqp_refuse(o, AMQP_RESOURCE_LOCKED,
                    "cannot obtain access to locked queue '%.*s' in vhost '%.*s'. basic.get operations are "
                    "not supported by quorum queues with single active consumer",
                    SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
    o->n_consumers = view.numbers.consumers;
}

static bool look(struct amqp_channel *channel, const struct amqp_method *method, struct slice queue,
                 bool *counts)
{
    struct amqp_method named = *method;
    struct amqp_operation *o;
    bool ok;

    named.queue = queue;
    o = amqp_operation_create(channel, &named, queue, SLICE(""));
    if (!o)
        return false;
    o->run = run_look;
    ok = amqp_operation_run(channel, o, false);
    if (ok)
        *counts = o->flag;
    if (ok)
        amqp_operation_free(o);
    return ok;
}

static int priority_of(struct slice arguments)
{
    struct amqp_value value;

    if (!amqp_table_find(arguments, SLICE("x-priority"), &value) || value.type != AMQP_INTEGER)
        return 0;
    return value.integer > 1000000 ? 1000000 : value.integer < -1000000 ? -1000000 : (int)value.integer;
}

static void subscribe_failed(struct amqp_channel *channel, const struct amqp_method *method, int error)
{
    if (error == -EBUSY)
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id, "queue '%.*s' in vhost '%s' in exclusive use",
                  SLICE_ARG(method->queue), channel->connection->virtual_host);
    else if (error == -ENOENT)
        amqp_fail(channel, AMQP_NOT_FOUND, method->id, "no queue '%.*s' in vhost '%s'",
                  SLICE_ARG(method->queue), channel->connection->virtual_host);
    else
        amqp_drop_connection(channel->connection, "no memory");
}

/* 0, or why it cannot be; qualified: the queue's name at the broker. */
static int subscribe(struct amqp_consumer *consumer, const struct amqp_method *method, struct slice qualified)
{
    struct amqp_channel *channel = consumer->channel;
    const struct amqp_pass_part *pass = channel->connection->pass;
    struct queue_consumer_options options = {
        .prefetch = consumer->prefetch,
        .priority = priority_of(method->table),
        .auto_ack = method->no_ack,
        .exclusive = method->exclusive,
        .on_demand = consumer->gets,
        .counts_loss = true,
        .transit_most = consumer->gets ? 0 : TRANSIT_MOST,
        .deliver = on_delivery,
        .gone = on_gone,
        .late = on_late,
        .arg = consumer,
    };

    if (!consumer->gets) {
        options.windows[0] = channel->window;
        options.windows[1] = pass ? amqp_pass_window(pass, qualified) : NULL;
    }
    return queue_subscribe(channel->connection->port, qualified, &options, &consumer->consumer);
}

/* Its first deliveries may have come already: they go behind consume-ok. */
static void start(struct amqp_consumer *consumer, bool no_wait)
{
    struct amqp_channel *channel = consumer->channel;
    struct amqp_connection *c = channel->connection;
    struct list *at;

    if (!no_wait)
        amqp_send(c, channel->number,
                  &(struct amqp_method){.id = AMQP_BASIC_CONSUME_OK, .consumer_tag = consumer->tag});
    consumer->started = true;
    while ((at = list_pop_front(&consumer->early)))
        list_push_back(&c->deliveries, at);
    if (consumer->cancelled && c->takes_cancel)
        amqp_send(
            c, channel->number,
            &(struct amqp_method){.id = AMQP_BASIC_CANCEL, .consumer_tag = consumer->tag, .no_wait = true});
    amqp_wake_writer(c);
    amqp_consumer_release(consumer);
}

void amqp_random_name(const char *prefix, char text[48])
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    unsigned char bytes[22] = {0};
    size_t n = strlen(prefix);

    if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
        snprintf((char *)bytes, sizeof bytes, "%llu", (unsigned long long)clock_wall_us());
    memcpy(text, prefix, n);
    for (size_t i = 0; i < sizeof bytes; i++)
        text[n++] = letters[bytes[i] % 64];
    text[n] = '\0';
}

/* Nothing is delivered to it any more, but what it has may be acknowledged. */
static bool is_stopped(const struct amqp_connection *c)
{
    return c->pass && (c->draining || amqp_pass_is_stopped(c->pass));
}

/* The consumer is the channel's, or it is freed and *error says why. */
static bool join(struct amqp_consumer *consumer, const struct amqp_method *method, struct slice queue)
{
    struct amqp_channel *channel = consumer->channel;
    char block[BROKER_NAME_MAX];
    int error = subscribe(consumer, method, amqp_qualify(channel->connection, queue, block));

    if (error) {
        free(consumer);
        if (error != -ECANCELED)
            subscribe_failed(channel, method, error);
        return false;
    }
    list_push_back(&channel->consumers, &consumer->list);
    if (channel->connection->pass && !consumer->gets)
        amqp_pass_consumes(channel->connection->pass, true);
    if (channel->state == CHANNEL_OPEN) {
        if (is_stopped(channel->connection))
            consumer_stop(consumer);
        return true;
    }
    consumer_end(consumer); /* the channel was failed meanwhile */
    return false;
}

/* Consumes from a queue that is there. */
static void consume_from(struct amqp_channel *channel, const struct amqp_method *method, struct slice queue,
                         struct slice tag, bool counts)
{
    struct amqp_consumer *consumer =
        amqp_window_make(channel) ? consumer_create(channel, queue, tag, method->table) : NULL;

    if (!consumer) {
        amqp_drop_connection(channel->connection, "no memory");
        return;
    }
    consumer->no_ack = method->no_ack;
    consumer->exclusive = method->exclusive;
    consumer->prefetch = channel->prefetch;
    consumer->counts = counts;
    if (!join(consumer, method, queue))
        return;
    channel->n_consumers++;
    if (slice_starts_with(queue, SLICE(AMQP_REPLIES)) && !consumer->cancelled)
        channel->reply_to = consumer;
    start(consumer, method->no_wait);
}

static void consume(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;
    struct slice tag = method->consumer_tag, queue;
    char generated[48];
    bool counts = false;

    if (!amqp_table_is_valid(method->table)) {
        amqp_fail_connection(c, AMQP_SYNTAX_ERROR, method->id, "the arguments cannot be read");
        return;
    }
    if (find_tag(channel, tag)) {
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, method->id, "attempt to reuse consumer tag '%.*s'",
                             SLICE_ARG(tag));
        return;
    }
    if (!tag.len) {
        amqp_random_name("amq.ctag-", generated);
        tag = slice_from_text(generated);
    }
    if (slice_equal(method->queue, SLICE(AMQP_REPLIES))) {
        amqp_consume_replies(channel, method, tag);
        return;
    }
    if (!amqp_queue_name(channel, method->queue, method->id, &queue) ||
        !amqp_may(channel, ACCESS_READ, false, queue, method->id) || !look(channel, method, queue, &counts) ||
        !amqp_check_consumer(channel, method->table, queue, counts))
        return;
    consume_from(channel, method, queue, tag, counts);
}

void amqp_consume_from(struct amqp_channel *channel, const struct amqp_method *method, struct slice queue,
                       struct slice tag)
{
    consume_from(channel, method, queue, tag, false);
}

/* ---- basic.cancel ------------------------------------------------------------------------------------------------ */

/* What comes of it from now on goes back, so that the client gets nothing behind cancel-ok. */
static void cancel(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_consumer *consumer = find_tag(channel, method->consumer_tag);

    if (consumer) {
        consumer->cancelled = true;
        channel->n_consumers--;
        if (channel->reply_to == consumer)
            channel->reply_to = NULL;
        return_unwritten(consumer);
        queue_consumer_stop(consumer->consumer);
        amqp_consumer_release(consumer);
    }
    if (!method->no_wait)
        amqp_send(c, channel->number,
                  &(struct amqp_method){.id = AMQP_BASIC_CANCEL_OK, .consumer_tag = method->consumer_tag});
}

/* ---- basic.get --------------------------------------------------------------------------------------------------- */

static struct amqp_consumer *find_getter(struct amqp_channel *channel, struct slice queue, bool no_ack)
{
    struct list *next;
    unsigned n = 0;

    for (struct list *at = channel->consumers.next; at != &channel->consumers; at = next) {
        struct amqp_consumer *consumer = container_of(at, struct amqp_consumer, list);

        next = at->next;
        if (!consumer->gets || consumer->cancelled)
            continue;
        if (slice_equal(consumer->queue, queue) && consumer->no_ack == no_ack)
            return consumer;
        if (++n >= GETTERS_MOST && !consumer->n_unacked)
            consumer_end(consumer);
    }
    return NULL;
}

static struct amqp_consumer *make_getter(struct amqp_channel *channel, const struct amqp_method *method,
                                         struct slice queue)
{
    struct amqp_consumer *consumer = consumer_create(channel, queue, SLICE(""), SLICE(""));

    if (!consumer)
        return NULL;
    consumer->gets = true;
    consumer->no_ack = method->no_ack;
    consumer->prefetch = channel->prefetch;
    return join(consumer, method, queue) ? consumer : NULL;
}

static void send_got(struct amqp_consumer *consumer, uint64_t left)
{
    struct amqp_channel *channel = consumer->channel;
    struct amqp_connection *c = channel->connection;
    struct queue_delivery *d = channel->got;
    struct amqp_unacked unacked = {.tag = channel->next_tag++, .consumer = consumer, .ref = d->ref};
    struct amqp_method method = {
        .id = AMQP_BASIC_GET_OK,
        .delivery_tag = unacked.tag,
        .redelivered = d->redelivered,
        .exchange = amqp_unqualify(c, d->exchange),
        .routing_key = amqp_routing_key(c, d),
        .message_count = left > UINT32_MAX ? UINT32_MAX : (uint32_t)left,
    };

    channel->got = NULL;
    channel->counts[AMQP_COUNT_GET] += !consumer->no_ack;
    channel->counts[AMQP_COUNT_GET_NO_ACK] += consumer->no_ack;
    channel->counts[AMQP_COUNT_REDELIVER] += d->redelivered;
    if (consumer->no_ack || amqp_unacked_push(channel, &unacked))
        amqp_send_message(c, channel->number, &method, d, consumer->counts);
    else
        amqp_drop_connection(c, "no memory");
    queue_delivery_free(d);
}

/* Through a getter that the channel has, or a new one. As queue_take; NULL in *consumer: the channel was failed. */
static int take(struct amqp_channel *channel, const struct amqp_method *method, struct slice queue,
                bool counts, struct amqp_consumer **consumer, uint64_t *left)
{
    *consumer = find_getter(channel, queue, method->no_ack);
    if (!*consumer)
        *consumer = make_getter(channel, method, queue);
    if (!*consumer)
        return -ENOENT;
    (*consumer)->counts = counts;
    return queue_take((*consumer)->consumer, left);
}

/* What is got is put into the output whole: one who does not read gets no more. */
static void get(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_consumer *consumer;
    struct slice queue;
    bool counts = false;
    uint64_t left;
    int taken;

    if (!amqp_queue_name(channel, method->queue, method->id, &queue) ||
        !amqp_may(channel, ACCESS_READ, false, queue, method->id) || !look(channel, method, queue, &counts))
        return;
    if (c->pass)
        amqp_pass_asked(c->pass);
    amqp_flush(c);
    if (amqp_wait_drained(c) != 0 || channel->state != CHANNEL_OPEN)
        return;
    if (is_stopped(c)) {
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_BASIC_GET_EMPTY});
        return;
    }
    taken = take(channel, method, queue, counts, &consumer, &left);
    if (taken == -ENOENT && consumer && channel->state == CHANNEL_OPEN) {
        consumer->cancelled = true; /* its queue was deleted; this is another one of that name */
        amqp_consumer_release(consumer);
        taken = take(channel, method, queue, counts, &consumer, &left);
    }
    if (!consumer || taken == -ECANCELED || channel->state != CHANNEL_OPEN)
        return;
    if (taken == 1 && channel->got) {
        send_got(consumer, left);
        return;
    }
    channel->counts[AMQP_COUNT_GET_EMPTY]++;
    amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_BASIC_GET_EMPTY});
}

/* ---- methods ----------------------------------------------------------------------------------------------------- */

void amqp_basic_take(struct amqp_channel *channel, const struct amqp_method *method)
{
    switch (method->id) {
    case AMQP_BASIC_QOS:
        amqp_qos(channel, method);
        break;
    case AMQP_BASIC_CONSUME:
        consume(channel, method);
        break;
    case AMQP_BASIC_CANCEL:
        cancel(channel, method);
        break;
    case AMQP_BASIC_GET:
        get(channel, method);
        break;
    case AMQP_BASIC_ACK:
        amqp_settle(channel, method->id, method->delivery_tag, method->multiple, VERDICT_ACK);
        break;
    case AMQP_BASIC_NACK:
        amqp_settle(channel, method->id, method->delivery_tag, method->multiple,
                    method->requeue ? VERDICT_RETRY : VERDICT_REJECT);
        break;
    case AMQP_BASIC_REJECT:
        amqp_settle(channel, method->id, method->delivery_tag, false,
                    method->requeue ? VERDICT_RETRY : VERDICT_REJECT);
        break;
    case AMQP_BASIC_RECOVER:
    case AMQP_BASIC_RECOVER_ASYNC:
        amqp_recover(channel, method);
        break;
    default:
        amqp_fail_unknown(channel, method);
        break;
    }
}
