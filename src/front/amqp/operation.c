/* operation.c - jobs at the broker that a channel waits for, the names in them, and who may. See private.h.
 *
 * A job has copies of all names, because it runs even when the client has gone meanwhile. What it made is durable before
 * the client hears of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "front/amqp/private.h"

/* ---- names ------------------------------------------------------------------------------------------------------- */

struct slice amqp_qualify(const struct amqp_connection *c, struct slice name, char block[BROKER_NAME_MAX])
{
    if (!c->prefix.len || !name.len)
        return name;
    memcpy(block, c->prefix.ptr, c->prefix.len);
    memcpy(block + c->prefix.len, name.ptr, name.len);
    return slice_of(block, c->prefix.len + name.len);
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
    struct amqp_connection *c = channel->connection;
    struct access_user *user = c->pass ? NULL : amqp_user(c);

    if (c->pass ? amqp_pass_may(c->pass, kind, name) : user && access_may(user, kind, name))
        return true;
    if (exchange && !name.len)
        name = SLICE("amq.default");
    amqp_fail(channel, AMQP_ACCESS_REFUSED, method, "access to %s '%.*s' in vhost '%s' refused for user '%s'",
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

bool amqp_is_name(struct slice name)
{
    return slice_find(name, '\0') == name.len;
}

/* Whether it has a NUL behind its virtual host: it would be a name in another one. */
static bool is_foreign(struct slice prefix, struct slice name)
{
    if (name.len < prefix.len)
        return false;
    slice_drop(&name, prefix.len);
    return !amqp_is_name(name);
}

static void run_operation(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct amqp_operation *o = container_of(job, struct amqp_operation, job);

    o->code = AMQP_SUCCESS;
    if (is_foreign(o->prefix, o->name) || is_foreign(o->prefix, o->other))
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "a name has a NUL in it");
    else
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

static struct slice take_qualified(char **at, struct slice prefix, struct slice name)
{
    char *start = *at;

    if (name.len)
        take_copy(at, prefix);
    take_copy(at, name);
    return slice_of(start, (size_t)(*at - start));
}

struct amqp_operation *amqp_operation_make(const struct amqp_place *place, const struct amqp_method *method,
                                           struct slice name, struct slice other)
{
    struct amqp_operation *o = calloc(1, sizeof *o);
    size_t n = method->exchange.len + method->queue.len + method->destination.len + method->routing_key.len +
               method->type.len + method->table.len + name.len + other.len + place->virtual_host.len +
               3 * place->prefix.len + 1;
    char *at = o ? malloc(n) : NULL;

    if (!at) {
        free(o);
        return NULL;
    }
    o->block = at;
    o->job = (struct queue_job){.run = run_operation, .free = free_operation};
    o->session = place->session;
    o->code = AMQP_INTERNAL_ERROR;
    snprintf(o->text, sizeof o->text, "the queue's log cannot be opened");
    o->method = *method;
    o->method.exchange = take_copy(&at, method->exchange);
    o->method.queue = take_copy(&at, method->queue);
    o->method.destination = take_copy(&at, method->destination);
    o->method.routing_key = take_copy(&at, method->routing_key);
    o->method.type = take_copy(&at, method->type);
    o->method.table = take_copy(&at, method->table);
    o->virtual_host = take_copy(&at, place->virtual_host);
    o->prefix = take_copy(&at, place->prefix);
    o->name = take_qualified(&at, place->prefix, name);
    o->other = take_qualified(&at, place->prefix, other);
    return o;
}

struct amqp_operation *amqp_operation_create(struct amqp_channel *channel, const struct amqp_method *method,
                                             struct slice name, struct slice other)
{
    struct amqp_connection *c = channel->connection;
    struct amqp_place place = {c->session, slice_from_text(c->virtual_host), c->prefix};
    struct amqp_operation *o = amqp_operation_make(&place, method, name, other);

    if (!o)
        amqp_drop_connection(c, "no memory");
    return o;
}

bool amqp_operation_run(struct amqp_channel *channel, struct amqp_operation *o, bool durable)
{
    struct amqp_connection *c = channel->connection;

    amqp_flush(c); /* what was asked for before is done before */
    if (queue_job_run(c->port, &o->job, durable && !o->method.no_wait, NEVER) != 0)
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

void amqp_refuse_error(struct amqp_operation *o, int error)
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

void amqp_no_queue(struct amqp_operation *o)
{
    amqp_refuse(o, AMQP_NOT_FOUND, "no queue '%.*s' in vhost '%.*s'", SLICE_ARG(o->method.queue),
                SLICE_ARG(o->virtual_host));
}

void amqp_no_exchange(struct amqp_operation *o, struct slice name)
{
    amqp_refuse(o, AMQP_NOT_FOUND, "no exchange '%.*s' in vhost '%.*s'", SLICE_ARG(name),
                SLICE_ARG(o->virtual_host));
}

void amqp_operation_do(struct amqp_channel *channel, const struct amqp_method *method, struct slice name,
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

int amqp_declare_built_in(struct broker *broker, struct slice prefix)
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
    s->error = s->session ? amqp_declare_built_in(broker, slice_of(s->prefix, s->prefix_len)) : -ENOMEM;
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
