/* queues.c - queues, as a client declares them, and queues of answers. See private.h. */
#include <errno.h>

#include "front/amqp/private.h"

static void count(struct amqp_operation *o, const struct broker_queue_view *view)
{
    o->n_messages = view->numbers.ready;
    o->n_consumers = view->numbers.consumers;
}

static void declare_queue(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_queue_view view;
    int error;

    if (amqp_is_locked(o, broker, o->name, o->method.queue))
        return;
    if (broker_find_queue(broker, o->name, &view)) {
        if (!o->method.passive)
            amqp_compare_queue(o, view.options);
        count(o, &view);
        broker_touch_queue(broker, o->name, now_us);
        return;
    }
    if (o->method.passive) {
        amqp_no_queue(o);
        return;
    }
    if (slice_starts_with(o->method.queue, AMQP_RESERVED) && !o->flag) {
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "queue name '%.*s' contains reserved prefix 'amq.*'",
                    SLICE_ARG(o->method.queue));
        return;
    }
    amqp_queue_options(o);
    if (o->code != AMQP_SUCCESS)
        return;
    error = broker_declare_queue(broker, o->name, &o->queue, DECLARE_SAME);
    if (!error && o->queue.exclusive)
        broker_own_queue(broker, o->name, o->session);
    if (!error)
        broker_touch_queue(broker, o->name, now_us);
    amqp_refuse_error(o, error);
}

/* Of what is declared: the exchange that its dead go to. False: the channel was failed. */
static bool may_dead_letter(struct amqp_channel *channel, const struct amqp_method *method,
                            struct slice queue)
{
    struct amqp_value value;

    if (!amqp_table_find(method->table, SLICE("x-dead-letter-exchange"), &value) || value.type != AMQP_TEXT)
        return true;
    return amqp_may(channel, ACCESS_READ, false, queue, method->id) &&
           amqp_may(channel, ACCESS_WRITE, true, value.bytes, method->id);
}

static void remember_queue(struct amqp_channel *channel, struct slice name)
{
    memcpy(channel->last_queue, name.ptr, name.len);
    channel->last_queue_len = name.len;
}

/* Declares it by that name. server_named: nobody else has it. */
static bool declare_named(struct amqp_channel *channel, const struct amqp_method *method, struct slice name,
                          bool server_named, bool durable, uint64_t *n_messages, uint64_t *n_consumers)
{
    struct amqp_method named = *method;
    struct amqp_value dead;
    struct amqp_operation *o;

    named.queue = name;
    if (!amqp_table_find(method->table, SLICE("x-dead-letter-exchange"), &dead) || dead.type != AMQP_TEXT ||
        dead.bytes.len > 255)
        dead.bytes = SLICE("");
    o = amqp_operation_create(channel, &named, name, dead.bytes);
    if (!o)
        return false;
    o->run = declare_queue;
    o->flag = server_named;
    if (!amqp_operation_run(channel, o, durable))
        return false;
    *n_messages = o->n_messages;
    *n_consumers = o->n_consumers;
    amqp_operation_free(o);
    return true;
}

static void look_for_replies(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_queue_view view;

    (void)now_us;
    o->n_consumers = 1;
    if (!broker_find_queue(broker, o->name, &view))
        amqp_no_queue(o);
}

static void look_nowhere(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    (void)broker;
    (void)now_us;
    o->n_consumers = 1;
}

/* Whoever is asked to answer may look whether somebody waits for it. */
static void declare_replies(struct amqp_channel *channel, const struct amqp_method *method)
{
    bool is_any = slice_equal(method->queue, SLICE(AMQP_REPLIES));

    amqp_operation_do(channel, method, method->queue, SLICE(""), AMQP_QUEUE_DECLARE_OK, false,
                      is_any ? look_nowhere : look_for_replies);
}

static void queue_declare(struct amqp_channel *channel, const struct amqp_method *method)
{
    bool server_named = !method->queue.len && !method->passive;
    struct slice name = method->queue;
    uint64_t n_messages = 0, n_consumers = 0;
    char generated[48], kept[256];

    if (slice_starts_with(method->queue, SLICE(AMQP_REPLIES))) {
        declare_replies(channel, method);
        return;
    }
    if (server_named) {
        amqp_random_name("amq.gen-", generated);
        name = slice_from_text(generated);
    } else if (!amqp_queue_name(channel, method->queue, method->id, &name)) {
        return;
    }
    if (!method->passive && (!amqp_may(channel, ACCESS_CONFIGURE, false, name, method->id) ||
                             !may_dead_letter(channel, method, name)))
        return;
    memcpy(kept, name.ptr, name.len);
    name = slice_of(kept, name.len);
    if (!declare_named(channel, method, name, server_named, method->durable && !method->passive, &n_messages,
                       &n_consumers))
        return;
    remember_queue(channel, name);
    if (!method->no_wait)
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = AMQP_QUEUE_DECLARE_OK,
                                        .queue = name,
                                        .message_count = (uint32_t)n_messages,
                                        .consumer_count = (uint32_t)n_consumers});
}

static void delete_queue(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_queue_view view;

    if (amqp_is_locked(o, broker, o->name, o->method.queue) || !broker_find_queue(broker, o->name, &view))
        return;
    if (o->method.if_unused && view.numbers.consumers) {
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "queue '%.*s' in vhost '%.*s' in use",
                    SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
        return;
    }
    if (o->method.if_empty && view.numbers.ready) {
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "queue '%.*s' in vhost '%.*s' not empty",
                    SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
        return;
    }
    if (view.options->managed) {
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "queue '%.*s' in vhost '%.*s' is the configuration's",
                    SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
        return;
    }
    count(o, &view);
    amqp_refuse_error(o, broker_delete_queue(broker, o->name, false, now_us));
}

static void purge_queue(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    int error;

    if (amqp_is_locked(o, broker, o->name, o->method.queue))
        return;
    error = broker_purge(broker, o->name, &o->n_messages, now_us);
    if (error == -ENOENT)
        amqp_no_queue(o);
    else
        amqp_refuse_error(o, error);
}

static void queue_operation(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_method named = *method;
    bool purges = method->id == AMQP_QUEUE_PURGE;

    if (!amqp_queue_name(channel, method->queue, method->id, &named.queue) ||
        !amqp_may(channel, purges ? ACCESS_READ : ACCESS_CONFIGURE, false, named.queue, method->id))
        return;
    if (purges)
        amqp_operation_do(channel, &named, named.queue, SLICE(""), AMQP_QUEUE_PURGE_OK, false, purge_queue);
    else
        amqp_operation_do(channel, &named, named.queue, SLICE(""), AMQP_QUEUE_DELETE_OK, true, delete_queue);
}

void amqp_queue_take(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!amqp_table_is_valid(method->table) || method->table.len > BROKER_ARGUMENTS_MAX) {
        amqp_fail_connection(channel->connection, AMQP_SYNTAX_ERROR, method->id,
                             "the arguments cannot be read");
        return;
    }
    switch (method->id) {
    case AMQP_QUEUE_DECLARE:
        queue_declare(channel, method);
        break;
    case AMQP_QUEUE_BIND:
    case AMQP_QUEUE_UNBIND:
        amqp_queue_bind(channel, method);
        break;
    case AMQP_QUEUE_PURGE:
    case AMQP_QUEUE_DELETE:
        queue_operation(channel, method);
        break;
    default:
        amqp_fail_unknown(channel, method);
        break;
    }
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

void amqp_consume_replies(struct amqp_channel *channel, const struct amqp_method *method, struct slice tag)
{
    struct amqp_method declare = {.id = method->id, .exclusive = true, .auto_delete = true},
                       consume = *method;
    uint64_t n_messages, n_consumers;
    char name[48];

    if (!method->no_ack) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "reply consumer cannot acknowledge");
        return;
    }
    if (channel->reply_to) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id, "reply consumer already set");
        return;
    }
    amqp_random_name(AMQP_REPLIES ".", name);
    if (!declare_named(channel, &declare, slice_from_text(name), true, false, &n_messages, &n_consumers))
        return;
    consume.queue = slice_from_text(name);
    amqp_consume_from(channel, &consume, consume.queue, tag);
}
