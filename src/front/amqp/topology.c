/* topology.c - exchanges and bindings, as a client declares them. See private.h. */
#include <errno.h>

#include "front/amqp/private.h"

/* ---- exchanges --------------------------------------------------------------------------------------------------- */

bool amqp_exchange_type(struct slice name, enum exchange_type *type)
{
    static const char *const names[] = {
        [EXCHANGE_DIRECT] = "direct",
        [EXCHANGE_FANOUT] = "fanout",
        [EXCHANGE_TOPIC] = "topic",
        [EXCHANGE_HEADERS] = "headers",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (slice_equal(name, slice_from_text(names[i]))) {
            *type = (enum exchange_type)i;
            return true;
        }
    return false;
}

static void declare_exchange(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_exchange_view view;

    (void)now_us;
    o->was_there = broker_find_exchange(broker, o->name, &view);
    if (o->was_there) {
        if (!o->method.passive)
            amqp_compare_exchange(o, view.options);
        return;
    }
    if (o->method.passive) {
        amqp_no_exchange(o, o->method.exchange);
        return;
    }
    if (slice_starts_with(o->method.exchange, AMQP_RESERVED)) {
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "exchange name '%.*s' contains reserved prefix 'amq.*'",
                    SLICE_ARG(o->method.exchange));
        return;
    }
    amqp_check_exchange(o);
    if (o->code != AMQP_SUCCESS)
        return;
    amqp_refuse_error(o, broker_declare_exchange(broker, o->name, &o->exchange, DECLARE_SAME));
}

/* Of the arguments: where what is led nowhere goes. False: the channel was failed. */
static bool take_alternate(struct amqp_channel *channel, const struct amqp_method *method, struct slice *name)
{
    struct amqp_value value;

    *name = SLICE("");
    if (!amqp_table_find(method->table, SLICE("alternate-exchange"), &value) || value.type != AMQP_TEXT)
        return true;
    *name = value.bytes;
    return amqp_may(channel, ACCESS_READ, true, method->exchange, method->id) &&
           amqp_may(channel, ACCESS_WRITE, true, value.bytes, method->id);
}

static void exchange_declare(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_operation *o;
    enum exchange_type type = EXCHANGE_DIRECT;
    struct slice alternate = SLICE("");

    if (!method->passive && !amqp_exchange_type(method->type, &type)) {
        amqp_fail_connection(channel->connection, AMQP_COMMAND_INVALID, method->id, "%s exchange type '%.*s'",
                             method->type.len ? "unknown" : "invalid", SLICE_ARG(method->type));
        return;
    }
    if (!method->exchange.len) {
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "operation not permitted on the default exchange");
        return;
    }
    if (!method->passive && (!amqp_may(channel, ACCESS_CONFIGURE, true, method->exchange, method->id) ||
                             !take_alternate(channel, method, &alternate)))
        return;
    o = amqp_operation_create(channel, method, method->exchange, alternate);
    if (!o)
        return;
    o->run = declare_exchange;
    o->exchange = (struct broker_exchange_options){
        .type = type,
        .durable = method->durable,
        .auto_delete = method->auto_delete,
        .internal = method->internal,
        .alternate = o->other,
        .arguments = o->method.table,
    };
    if (!amqp_operation_run(channel, o, method->durable && !method->passive))
        return;
    amqp_operation_free(o);
    if (!method->no_wait)
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = AMQP_EXCHANGE_DECLARE_OK});
}

static void look_for_exchange(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    struct broker_exchange_view view;

    (void)now_us;
    if (!broker_find_exchange(broker, o->name, &view))
        amqp_no_exchange(o, o->method.exchange);
    else if (view.options->internal)
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "cannot publish to internal exchange '%.*s' in vhost '%.*s'",
                    SLICE_ARG(o->method.exchange), SLICE_ARG(o->virtual_host));
}

bool amqp_exchange_takes(struct amqp_channel *channel, struct slice name)
{
    struct amqp_method method = {.id = AMQP_BASIC_PUBLISH, .exchange = name};
    struct amqp_operation *o = amqp_operation_create(channel, &method, name, SLICE(""));

    if (!o)
        return false;
    o->run = look_for_exchange;
    if (!amqp_operation_run(channel, o, false))
        return false;
    amqp_operation_free(o);
    return true;
}

static void delete_exchange(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    int error = broker_delete_exchange(broker, o->name, o->method.if_unused);

    (void)now_us;
    if (error == -EBUSY)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "exchange '%.*s' in vhost '%.*s' in use",
                    SLICE_ARG(o->method.exchange), SLICE_ARG(o->virtual_host));
    else if (error != -ENOENT)
        amqp_refuse_error(o, error);
}

static void exchange_delete(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!method->exchange.len) {
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "operation not permitted on the default exchange");
        return;
    }
    if (slice_starts_with(method->exchange, AMQP_RESERVED)) {
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "deletion of system exchange '%.*s' in vhost '%s' not allowed", SLICE_ARG(method->exchange),
                  channel->connection->virtual_host);
        return;
    }
    if (amqp_may(channel, ACCESS_CONFIGURE, true, method->exchange, method->id))
        amqp_operation_do(channel, method, method->exchange, SLICE(""), AMQP_EXCHANGE_DELETE_OK, true,
                          delete_exchange);
}

/* ---- bindings ---------------------------------------------------------------------------------------------------- */

/* name: the source; other: the destination. */
static void change_binding(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    bool to_exchange = o->method.id == AMQP_EXCHANGE_BIND || o->method.id == AMQP_EXCHANGE_UNBIND;
    bool binds = o->method.id == AMQP_EXCHANGE_BIND || o->method.id == AMQP_QUEUE_BIND;
    struct broker_destination to = {o->other, to_exchange};
    struct broker_exchange_view exchange;
    struct broker_queue_view queue;
    int error;

    (void)now_us;
    if (!to_exchange && amqp_is_locked(o, broker, o->other, o->method.queue))
        return;
    if (!to_exchange && !broker_find_queue(broker, o->other, &queue)) {
        if (binds)
            amqp_no_queue(o);
        return;
    }
    if (!broker_find_exchange(broker, o->name, &exchange)) {
        if (binds)
            amqp_no_exchange(o, o->method.exchange);
        return;
    }
    if (to_exchange && !broker_find_exchange(broker, o->other, &exchange)) {
        if (binds)
            amqp_no_exchange(o, o->method.destination);
        return;
    }
    error = binds ? broker_bind(broker, o->name, &to, o->method.routing_key, o->method.table)
                  : broker_unbind(broker, o->name, &to, o->method.routing_key, o->method.table);
    if (error == -EINVAL)
        amqp_refuse_match(o);
    else if (error != -ENOENT)
        amqp_refuse_error(o, error);
}

static bool is_default(struct amqp_channel *channel, const struct amqp_method *method, struct slice exchange)
{
    if (!exchange.len)
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "operation not permitted on the default exchange");
    return !exchange.len;
}

void amqp_queue_bind(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_method named = *method;

    if (!amqp_queue_name(channel, method->queue, method->id, &named.queue))
        return;
    if (!method->queue.len && !method->routing_key.len)
        named.routing_key = named.queue;
    if (amqp_may(channel, ACCESS_WRITE, false, named.queue, method->id) &&
        !is_default(channel, method, method->exchange) &&
        amqp_may(channel, ACCESS_READ, true, method->exchange, method->id))
        amqp_operation_do(channel, &named, method->exchange, named.queue,
                          method->id == AMQP_QUEUE_BIND ? AMQP_QUEUE_BIND_OK : AMQP_QUEUE_UNBIND_OK, true,
                          change_binding);
}

static void exchange_bind(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!is_default(channel, method, method->destination) && !is_default(channel, method, method->exchange) &&
        amqp_may(channel, ACCESS_WRITE, true, method->destination, method->id) &&
        amqp_may(channel, ACCESS_READ, true, method->exchange, method->id))
        amqp_operation_do(channel, method, method->exchange, method->destination,
                          method->id == AMQP_EXCHANGE_BIND ? AMQP_EXCHANGE_BIND_OK : AMQP_EXCHANGE_UNBIND_OK,
                          true, change_binding);
}

amqp_work *amqp_exchange_work(enum amqp_method_id id)
{
    return id == AMQP_EXCHANGE_DECLARE  ? declare_exchange
           : id == AMQP_EXCHANGE_DELETE ? delete_exchange
                                        : change_binding;
}

void amqp_exchange_take(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!amqp_table_is_valid(method->table)) {
        amqp_fail_connection(channel->connection, AMQP_SYNTAX_ERROR, method->id,
                             "the arguments cannot be read");
        return;
    }
    switch (method->id) {
    case AMQP_EXCHANGE_DECLARE:
        exchange_declare(channel, method);
        break;
    case AMQP_EXCHANGE_DELETE:
        exchange_delete(channel, method);
        break;
    case AMQP_EXCHANGE_BIND:
    case AMQP_EXCHANGE_UNBIND:
        exchange_bind(channel, method);
        break;
    default:
        amqp_fail_unknown(channel, method);
        break;
    }
}
