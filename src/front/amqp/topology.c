/* topology.c - exchanges, queues and bindings, as a client declares them: jobs at the broker. See private.h.
 *
 * A job has copies of all names, because it runs even when the client has gone meanwhile. What it made is durable before
 * the client hears of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "front/amqp/private.h"

#define RESERVED SLICE("amq.")

/* ---- names ------------------------------------------------------------------------------------------------------- */

struct slice amqp_qualify(const struct amqp_connection *c, struct slice name, char block[BROKER_NAME_MAX])
{
    if (!c->prefix.len || !name.len)
        return name;
    memcpy(block, c->prefix.ptr, c->prefix.len);
    memcpy(block + c->prefix.len, name.ptr, name.len);
    return slice_of(block, c->prefix.len + name.len);
}

/* A NUL is what stands between a virtual host and a name in it, and so in no name. */
bool amqp_is_name(struct amqp_channel *channel, struct slice name, uint32_t method)
{
    if (slice_find(name, '\0') == name.len)
        return true;
    amqp_fail(channel, AMQP_PRECONDITION_FAILED, method, "a name has a NUL byte in it");
    return false;
}

bool amqp_queue_name(struct amqp_channel *channel, struct slice given, uint32_t method, struct slice *name)
{
    *name = given.len ? given : slice_of(channel->last_queue, channel->last_queue_len);
    if (name->len)
        return true;
    amqp_fail(channel, AMQP_NOT_FOUND, method, "no previously declared queue");
    return false;
}

bool amqp_may(struct amqp_channel *channel, enum access_kind kind, bool exchange, struct slice name,
              uint32_t method)
{
    static const char *const what[] = {
        [ACCESS_CONFIGURE] = "configure", [ACCESS_WRITE] = "write", [ACCESS_READ] = "read"};
    struct amqp_connection *c = channel->connection;
    struct access_user *user = amqp_user(c);

    if (user && access_may(user, kind, name))
        return true;
    if (exchange && !name.len)
        name = SLICE("amq.default");
    amqp_fail(channel, AMQP_ACCESS_REFUSED, method,
              "%s access to %s '%.*s' in vhost '%s' refused for user '%s'", what[kind],
              exchange ? "exchange" : "queue", SLICE_ARG(name), c->virtual_host, c->user_name);
    return false;
}

bool amqp_has_virtual_host(const struct amqp_connection *c, struct slice name)
{
    const struct config_amqp *config = amqp_config(c);

    for (size_t i = 0; i < config->n_users; i++)
        for (size_t k = 0; k < config->users[i].n_virtual_hosts; k++)
            if (slice_equal(config->users[i].virtual_hosts[k], name))
                return true;
    return false;
}

/* ---- operations -------------------------------------------------------------------------------------------------- */

void amqp_operation_free(struct amqp_operation *o)
{
    free(o->block);
    free(o);
}

static void free_operation(struct queue_job *job)
{
    amqp_operation_free(container_of(job, struct amqp_operation, job));
}

static void run_operation(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct amqp_operation *o = container_of(job, struct amqp_operation, job);

    o->code = AMQP_SUCCESS;
    o->run(o, broker, now_us);
}

static struct slice take_copy(char **at, struct slice s)
{
    char *copy = *at;

    if (s.len)
        memcpy(copy, s.ptr, s.len);
    *at += s.len;
    return slice_of(copy, s.len);
}

static struct slice take_qualified(char **at, const struct amqp_connection *c, struct slice name)
{
    char *start = *at;

    if (name.len)
        take_copy(at, c->prefix);
    take_copy(at, name);
    return slice_of(start, (size_t)(*at - start));
}

struct amqp_operation *amqp_operation_create(struct amqp_channel *channel, const struct amqp_method *method,
                                             struct slice name, struct slice other)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_operation *o = calloc(1, sizeof *o);
    struct slice vhost = slice_from_text(c->virtual_host);
    size_t n = method->exchange.len + method->queue.len + method->destination.len + method->routing_key.len +
               method->type.len + method->table.len + name.len + other.len + vhost.len + 3 * c->prefix.len +
               1;
    char *at = o ? malloc(n) : NULL;

    if (!amqp_is_name(channel, name, method->id) || !amqp_is_name(channel, other, method->id)) {
        free(at);
        free(o);
        return NULL;
    }
    if (!at) {
        free(o);
        amqp_drop_connection(c, "no memory");
        return NULL;
    }
    o->block = at;
    o->job = (struct queue_job){.run = run_operation, .free = free_operation};
    o->session = c->session;
    o->code = AMQP_INTERNAL_ERROR;
    snprintf(o->text, sizeof o->text, "the queue's log cannot be opened");
    o->method = *method;
    o->method.exchange = take_copy(&at, method->exchange);
    o->method.queue = take_copy(&at, method->queue);
    o->method.destination = take_copy(&at, method->destination);
    o->method.routing_key = take_copy(&at, method->routing_key);
    o->method.type = take_copy(&at, method->type);
    o->method.table = take_copy(&at, method->table);
    o->virtual_host = take_copy(&at, vhost);
    o->prefix = take_copy(&at, c->prefix);
    o->name = take_qualified(&at, c, name);
    o->other = take_qualified(&at, c, other);
    return o;
}

bool amqp_operation_run(struct amqp_channel *channel, struct amqp_operation *o, bool durable)
{
    struct amqp_connection *c = channel->connection;

    amqp_flush(c); /* what was asked for before is done before */
    if (queue_job_run(c->port, &o->job, durable, NEVER) != 0)
        return false;
    if (o->code == AMQP_SUCCESS && channel->state == CHANNEL_OPEN)
        return true;
    if (o->code != AMQP_SUCCESS)
        amqp_fail(channel, o->code, o->method.id, "%s", o->text);
    amqp_operation_free(o);
    return false;
}

void amqp_refuse(struct amqp_operation *o, enum amqp_reply code, const char *format, ...)
{
    va_list arguments;

    o->code = code;
    va_start(arguments, format);
    vsnprintf(o->text, sizeof o->text, format, arguments);
    va_end(arguments);
}

/* What the broker could not do. */
static void refuse_error(struct amqp_operation *o, int error)
{
    if (error)
        amqp_refuse(o, error == -ENOSPC ? AMQP_RESOURCE_ERROR : AMQP_INTERNAL_ERROR, "%s", strerror(-error));
}

bool amqp_is_locked(struct amqp_operation *o, const struct broker *broker, struct slice qualified,
                    struct slice name)
{
    if (!broker_queue_is_locked(broker, qualified, o->session))
        return false;
    amqp_refuse(
        o, AMQP_RESOURCE_LOCKED,
        "cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be originally "
        "declared on another connection or the exclusive property value does not match that of the "
        "original declaration.",
        SLICE_ARG(name), SLICE_ARG(o->virtual_host));
    return true;
}

static void no_queue(struct amqp_operation *o)
{
    amqp_refuse(o, AMQP_NOT_FOUND, "no queue '%.*s' in vhost '%.*s'", SLICE_ARG(o->method.queue),
                SLICE_ARG(o->virtual_host));
}

static void no_exchange(struct amqp_operation *o, struct slice name)
{
    amqp_refuse(o, AMQP_NOT_FOUND, "no exchange '%.*s' in vhost '%.*s'", SLICE_ARG(name),
                SLICE_ARG(o->virtual_host));
}

static void count(struct amqp_operation *o, const struct broker_queue_view *view)
{
    o->n_messages = view->numbers.ready;
    o->n_consumers = view->numbers.consumers;
}

/* Runs what the client asked for, and answers with one of the methods that have nothing in them but counts. */
static void do_operation(struct amqp_channel *channel, const struct amqp_method *method, struct slice name,
                         struct slice other, enum amqp_method_id answer, bool durable,
                         void (*run)(struct amqp_operation *o, struct broker *broker, uint64_t now_us))
{
    struct amqp_operation *o = amqp_operation_create(channel, method, name, other);

    if (!o)
        return;
    o->run = run;
    if (!amqp_operation_run(channel, o, durable))
        return;
    if (!method->no_wait)
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = answer,
                                        .queue = name,
                                        .message_count = (uint32_t)o->n_messages,
                                        .consumer_count = (uint32_t)o->n_consumers});
    amqp_operation_free(o);
}

/* ---- the connection's session ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    enum exchange_type type;
} built_in[] = {
    {"amq.direct", EXCHANGE_DIRECT},   {"amq.fanout", EXCHANGE_FANOUT}, {"amq.topic", EXCHANGE_TOPIC},
    {"amq.headers", EXCHANGE_HEADERS}, {"amq.match", EXCHANGE_HEADERS},
};

struct session_job {
    struct queue_job job;
    struct broker_session *session;
    bool opens;
    int error;
    size_t prefix_len;
    char prefix[CONFIG_AMQP_NAME_MAX + 1];
};

/* The exchanges that every virtual host has. */
static int declare_built_in(struct broker *broker, struct slice prefix)
{
    int error = 0;

    for (size_t i = 0; i < sizeof built_in / sizeof built_in[0] && !error; i++) {
        struct broker_exchange_options options = {.type = built_in[i].type, .durable = true};
        char name[BROKER_NAME_MAX];
        size_t n = strlen(built_in[i].name);

        if (prefix.len)
            memcpy(name, prefix.ptr, prefix.len);
        memcpy(name + prefix.len, built_in[i].name, n);
        error = broker_declare_exchange(broker, slice_of(name, prefix.len + n), &options, DECLARE_SET);
    }
    return error == -ENOSPC ? 0 : error;
}

static void run_session(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct session_job *s = container_of(job, struct session_job, job);

    if (!s->opens) {
        broker_session_close(broker, s->session, now_us);
        s->session = NULL;
        return;
    }
    s->session = broker_session_open(broker);
    s->error = s->session ? declare_built_in(broker, slice_of(s->prefix, s->prefix_len)) : -ENOMEM;
}

static void free_session(struct queue_job *job)
{
    free(container_of(job, struct session_job, job));
}

static struct session_job *session_job(struct amqp_connection *c, bool opens)
{
    struct session_job *s = calloc(1, sizeof *s);

    if (!s)
        return NULL;
    s->job = (struct queue_job){.run = run_session, .free = free_session};
    s->opens = opens;
    s->session = c->session;
    s->error = -EIO;
    s->prefix_len = c->prefix.len;
    memcpy(s->prefix, c->virtual_host, c->prefix.len);
    return s;
}

int amqp_session_open(struct amqp_connection *c)
{
    struct session_job *s = session_job(c, true);
    int error = s ? queue_job_run(c->port, &s->job, false, NEVER) : -ENOMEM;

    if (error)
        return error;
    c->session = s->session;
    error = s->error;
    free(s);
    if (error == -EIO)
        amqp_fail_connection(c, AMQP_INTERNAL_ERROR, 0, "the queue's log takes nothing");
    return error == -EIO ? -EPROTO : error;
}

void amqp_session_close(struct amqp_connection *c)
{
    struct session_job *s = session_job(c, false);

    if (s) /* else its queues stay until the next start */
        queue_job_post(c->port, &s->job);
    c->session = NULL;
}

/* ---- exchanges --------------------------------------------------------------------------------------------------- */

static bool type_of(struct slice name, enum exchange_type *type)
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
    if (broker_find_exchange(broker, o->name, &view)) {
        if (!o->method.passive)
            amqp_compare_exchange(o, view.options);
        return;
    }
    if (o->method.passive) {
        no_exchange(o, o->method.exchange);
        return;
    }
    if (slice_starts_with(o->method.exchange, RESERVED)) {
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "exchange name '%.*s' contains reserved prefix 'amq.*'",
                    SLICE_ARG(o->method.exchange));
        return;
    }
    refuse_error(o, broker_declare_exchange(broker, o->name, &o->exchange, DECLARE_SAME));
}

/* Of the arguments: where what is led nowhere goes. False: the channel was failed. */
static bool take_alternate(struct amqp_channel *channel, const struct amqp_method *method, struct slice *name)
{
    struct amqp_value value;

    *name = SLICE("");
    if (!amqp_table_find(method->table, SLICE("alternate-exchange"), &value))
        return true;
    if (value.type != AMQP_TEXT || value.bytes.len > 255) {
        amqp_fail(channel, AMQP_PRECONDITION_FAILED, method->id,
                  "invalid arg 'alternate-exchange' for exchange '%.*s': it is no name",
                  SLICE_ARG(method->exchange));
        return false;
    }
    *name = value.bytes;
    return amqp_may(channel, ACCESS_READ, true, method->exchange, method->id) &&
           amqp_may(channel, ACCESS_WRITE, true, value.bytes, method->id);
}

static void exchange_declare(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_operation *o;
    enum exchange_type type = EXCHANGE_DIRECT;
    struct slice alternate = SLICE("");

    if (!method->passive && !type_of(method->type, &type)) {
        amqp_fail_connection(channel->connection, AMQP_COMMAND_INVALID, method->id,
                             "unknown exchange type '%.*s'", SLICE_ARG(method->type));
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

static void delete_exchange(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    int error = broker_delete_exchange(broker, o->name, o->method.if_unused);

    (void)now_us;
    if (error == -EBUSY)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "exchange '%.*s' in vhost '%.*s' in use",
                    SLICE_ARG(o->method.exchange), SLICE_ARG(o->virtual_host));
    else if (error != -ENOENT)
        refuse_error(o, error);
}

static void exchange_delete(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!method->exchange.len) {
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "operation not permitted on the default exchange");
        return;
    }
    if (slice_starts_with(method->exchange, RESERVED)) {
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "deletion of system exchange '%.*s' in vhost '%s' not allowed", SLICE_ARG(method->exchange),
                  channel->connection->virtual_host);
        return;
    }
    if (amqp_may(channel, ACCESS_CONFIGURE, true, method->exchange, method->id))
        do_operation(channel, method, method->exchange, SLICE(""), AMQP_EXCHANGE_DELETE_OK, true,
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
            no_queue(o);
        return;
    }
    if (!broker_find_exchange(broker, o->name, &exchange)) {
        if (binds)
            no_exchange(o, o->method.exchange);
        return;
    }
    if (to_exchange && !broker_find_exchange(broker, o->other, &exchange)) {
        if (binds)
            no_exchange(o, o->method.destination);
        return;
    }
    error = binds ? broker_bind(broker, o->name, &to, o->method.routing_key, o->method.table)
                  : broker_unbind(broker, o->name, &to, o->method.routing_key, o->method.table);
    if (error == -EINVAL)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                    "Invalid x-match field value; expected all, any, all-with-x or any-with-x");
    else if (error != -ENOENT)
        refuse_error(o, error);
}

static bool is_default(struct amqp_channel *channel, const struct amqp_method *method, struct slice exchange)
{
    if (!exchange.len)
        amqp_fail(channel, AMQP_ACCESS_REFUSED, method->id,
                  "operation not permitted on the default exchange");
    return !exchange.len;
}

static void queue_bind(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_method named = *method;

    if (!amqp_queue_name(channel, method->queue, method->id, &named.queue))
        return;
    if (!method->queue.len && !method->routing_key.len)
        named.routing_key = named.queue;
    if (amqp_may(channel, ACCESS_WRITE, false, named.queue, method->id) &&
        !is_default(channel, method, method->exchange) &&
        amqp_may(channel, ACCESS_READ, true, method->exchange, method->id))
        do_operation(channel, &named, method->exchange, named.queue,
                     method->id == AMQP_QUEUE_BIND ? AMQP_QUEUE_BIND_OK : AMQP_QUEUE_UNBIND_OK, true,
                     change_binding);
}

static void exchange_bind(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!is_default(channel, method, method->destination) && !is_default(channel, method, method->exchange) &&
        amqp_may(channel, ACCESS_WRITE, true, method->destination, method->id) &&
        amqp_may(channel, ACCESS_READ, true, method->exchange, method->id))
        do_operation(channel, method, method->exchange, method->destination,
                     method->id == AMQP_EXCHANGE_BIND ? AMQP_EXCHANGE_BIND_OK : AMQP_EXCHANGE_UNBIND_OK, true,
                     change_binding);
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
        amqp_fail_connection(channel->connection, AMQP_COMMAND_INVALID, method->id, "%s",
                             amqp_method_name(method->id));
        break;
    }
}

/* ---- queues ------------------------------------------------------------------------------------------------------ */

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
        no_queue(o);
        return;
    }
    if (slice_starts_with(o->method.queue, RESERVED) && !o->flag) {
        amqp_refuse(o, AMQP_ACCESS_REFUSED, "queue name '%.*s' contains reserved prefix 'amq.*'",
                    SLICE_ARG(o->method.queue));
        return;
    }
    error = broker_declare_queue(broker, o->name, &o->queue, DECLARE_SAME);
    if (!error && o->queue.exclusive)
        broker_own_queue(broker, o->name, o->session);
    if (!error)
        broker_touch_queue(broker, o->name, now_us);
    refuse_error(o, error);
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
    o->code = AMQP_SUCCESS;
    if (!method->passive)
        amqp_queue_options(o);
    if (o->code != AMQP_SUCCESS) {
        amqp_fail(channel, o->code, method->id, "%s", o->text);
        amqp_operation_free(o);
        return false;
    }
    if (!amqp_operation_run(channel, o, durable))
        return false;
    *n_messages = o->n_messages;
    *n_consumers = o->n_consumers;
    amqp_operation_free(o);
    return true;
}

static void queue_declare(struct amqp_channel *channel, const struct amqp_method *method)
{
    bool server_named = !method->queue.len && !method->passive;
    struct slice name = method->queue;
    uint64_t n_messages = 0, n_consumers = 0;
    char generated[48], kept[256];

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
    refuse_error(o, broker_delete_queue(broker, o->name, false, now_us));
}

static void purge_queue(struct amqp_operation *o, struct broker *broker, uint64_t now_us)
{
    int error;

    if (amqp_is_locked(o, broker, o->name, o->method.queue))
        return;
    error = broker_purge(broker, o->name, &o->n_messages, now_us);
    if (error == -ENOENT)
        no_queue(o);
    else
        refuse_error(o, error);
}

static void queue_operation(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_method named = *method;
    bool purges = method->id == AMQP_QUEUE_PURGE;

    if (!amqp_queue_name(channel, method->queue, method->id, &named.queue) ||
        !amqp_may(channel, purges ? ACCESS_READ : ACCESS_CONFIGURE, false, named.queue, method->id))
        return;
    if (purges)
        do_operation(channel, &named, named.queue, SLICE(""), AMQP_QUEUE_PURGE_OK, false, purge_queue);
    else
        do_operation(channel, &named, named.queue, SLICE(""), AMQP_QUEUE_DELETE_OK, true, delete_queue);
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
        queue_bind(channel, method);
        break;
    case AMQP_QUEUE_PURGE:
    case AMQP_QUEUE_DELETE:
        queue_operation(channel, method);
        break;
    default:
        amqp_fail_connection(channel->connection, AMQP_COMMAND_INVALID, method->id, "%s",
                             amqp_method_name(method->id));
        break;
    }
}

/* ---- replies ----------------------------------------------------------------------------------------------------- */

/* amq.rabbitmq.reply-to stands for a queue of this channel's own, which others reach by the name that its requests carry. */
void amqp_consume_replies(struct amqp_channel *channel, const struct amqp_method *method, struct slice tag)
{
    struct amqp_connection *c = channel->connection;
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
    (void)c;
    amqp_random_name(AMQP_REPLIES ".", name);
    if (!declare_named(channel, &declare, slice_from_text(name), true, false, &n_messages, &n_consumers))
        return;
    consume.queue = slice_from_text(name);
    amqp_consume_from(channel, &consume, consume.queue, tag);
}
