/* arguments.c - what queues and exchanges are declared with: read, refused, compared, with RabbitMQ's words. See private.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "front/amqp/private.h"

#define MS_MAX UINT64_C(4294967295) /* RabbitMQ's timers */
#define ACK_TIMEOUT_US (30 * 60 * US_PER_S)

/* ---- words ------------------------------------------------------------------------------------------------------- */

/* RabbitMQ's name of a value's type. */
static const char *type_name(const struct amqp_value *value)
{
    switch (value->letter) {
    case 't':
        return "bool";
    case 'b':
        return "byte";
    case 'B':
        return "unsignedbyte";
    case 's':
        return "short";
    case 'u':
        return "unsignedshort";
    case 'I':
        return "signedint";
    case 'i':
        return "unsignedint";
    case 'l':
    case 'L':
        return "long";
    case 'f':
        return "float";
    case 'd':
        return "double";
    case 'D':
        return "decimal";
    case 'S':
        return "longstr";
    case 'A':
        return "array";
    case 'T':
        return "timestamp";
    case 'F':
        return "table";
    case 'x':
        return "binary";
    default:
        return "void";
    }
}

static void value_text(const struct amqp_value *value, char *text, size_t room)
{
    switch (value->type) {
    case AMQP_TEXT:
        snprintf(text, room, "%.*s", (int)(value->bytes.len < 100 ? value->bytes.len : 100),
                 value->bytes.ptr);
        break;
    case AMQP_BOOL:
        snprintf(text, room, "%s", value->truth ? "true" : "false");
        break;
    case AMQP_INTEGER:
        snprintf(text, room, "%lld", (long long)value->integer);
        break;
    default:
        snprintf(text, room, "%s", type_name(value));
        break;
    }
}

static void inequivalent(struct amqp_operation *o, const char *kind, struct slice name, const char *argument,
                         const char *received, const char *current)
{
    amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                "inequivalent arg '%s' for %s '%.*s' in vhost '%.*s': received %s but current is %s",
                argument, kind, SLICE_ARG(name), SLICE_ARG(o->virtual_host), received, current);
}

static void inequivalent_flag(struct amqp_operation *o, const char *kind, struct slice name,
                              const char *argument, bool received)
{
    inequivalent(o, kind, name, argument, received ? "'true'" : "'false'", received ? "'false'" : "'true'");
}

/* ---- comparing --------------------------------------------------------------------------------------------------- */

/* The arguments that make a queue what it is. */
static const char *const compared[] = {
    "x-expires",
    "x-message-ttl",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-length",
    "x-max-length-bytes",
    "x-max-priority",
    "x-overflow",
    "x-queue-mode",
    "x-single-active-consumer",
    "x-queue-type",
    "x-delivery-limit",
    "x-consumer-timeout",
};

static void describe(const struct amqp_value *value, bool there, bool with_type, char *text, size_t room)
{
    char inner[128];

    if (!there) {
        snprintf(text, room, "none");
        return;
    }
    value_text(value, inner, sizeof inner);
    if (with_type)
        snprintf(text, room, "the value '%s' of type '%s'", inner, type_name(value));
    else
        snprintf(text, room, "'%s'", inner);
}

static bool compare_argument(struct amqp_operation *o, const char *kind, struct slice name,
                             const char *argument, struct slice have)
{
    struct amqp_value asked, current;
    bool is_asked = amqp_table_find(o->method.table, slice_from_text(argument), &asked);
    bool is_there = amqp_table_find(have, slice_from_text(argument), &current);
    char received[192], was[192];

    if (is_asked == is_there && (!is_there || amqp_value_equal(&asked, &current)))
        return true;
    describe(&asked, is_asked, !(is_asked && is_there), received, sizeof received);
    describe(&current, is_there, !(is_asked && is_there), was, sizeof was);
    inequivalent(o, kind, name, argument, received, was);
    return false;
}

void amqp_compare_queue(struct amqp_operation *o, const struct broker_queue_options *have)
{
    struct slice name = o->method.queue;

    if (have->managed)
        return; /* what the operator says of it holds */
    if (o->method.exclusive != have->exclusive) {
        amqp_refuse(o, AMQP_RESOURCE_LOCKED,
                    "cannot obtain exclusive access to locked queue '%.*s' in vhost '%.*s'. It could be "
                    "originally declared on another connection or the exclusive property value does not "
                    "match that of the original declaration.",
                    SLICE_ARG(name), SLICE_ARG(o->virtual_host));
        return;
    }
    if (!have->exclusive && o->method.durable == have->transient) {
        inequivalent_flag(o, "queue", name, "durable", o->method.durable);
        return;
    }
    if (o->method.auto_delete != have->auto_delete) {
        inequivalent_flag(o, "queue", name, "auto_delete", o->method.auto_delete);
        return;
    }
    for (size_t i = 0; i < sizeof compared / sizeof compared[0]; i++)
        if (!compare_argument(o, "queue", name, compared[i], have->arguments))
            return;
}

void amqp_compare_exchange(struct amqp_operation *o, const struct broker_exchange_options *have)
{
    static const char *const types[] = {"direct", "fanout", "topic", "headers"};
    struct slice name = o->method.exchange;
    char received[64], current[64];

    snprintf(received, sizeof received, "'%s'", types[o->exchange.type]);
    snprintf(current, sizeof current, "'%s'", types[have->type]);
    if (o->exchange.type != have->type)
        inequivalent(o, "exchange", name, "type", received, current);
    else if (o->method.durable != have->durable)
        inequivalent_flag(o, "exchange", name, "durable", o->method.durable);
    else if (o->method.auto_delete != have->auto_delete)
        inequivalent_flag(o, "exchange", name, "auto_delete", o->method.auto_delete);
    else if (o->method.internal != have->internal)
        inequivalent_flag(o, "exchange", name, "internal", o->method.internal);
    else
        compare_argument(o, "exchange", name, "alternate-exchange", have->arguments);
}

/* ---- what a queue is made of ------------------------------------------------------------------------------------- */

static bool invalid(struct amqp_operation *o, const char *argument, const char *why)
{
    amqp_refuse(o, AMQP_PRECONDITION_FAILED, "invalid arg '%s' for queue '%.*s' in vhost '%.*s': %s",
                argument, SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host), why);
    return false;
}

/* A whole number of at least and at most so much. */
static bool take_number(struct amqp_operation *o, const char *argument, const struct amqp_value *value,
                        int64_t least, uint64_t most, uint64_t *number)
{
    char why[96];

    if (value->type != AMQP_INTEGER)
        snprintf(why, sizeof why, "{unacceptable_type,%s}", type_name(value));
    else if (value->integer < 0)
        snprintf(why, sizeof why, "{value_negative,%lld}", (long long)value->integer);
    else if (value->integer < least)
        snprintf(why, sizeof why, "{value_zero,%lld}", (long long)value->integer);
    else if ((uint64_t)value->integer > most)
        snprintf(why, sizeof why, "{value_too_large,%lld}", (long long)value->integer);
    else {
        *number = (uint64_t)value->integer;
        return true;
    }
    return invalid(o, argument, why);
}

static bool take_time(struct amqp_operation *o, const char *argument, const struct amqp_value *value,
                      int64_t least, uint64_t *us)
{
    uint64_t ms;

    if (!take_number(o, argument, value, least, MS_MAX, &ms))
        return false;
    *us = ms ? ms * US_PER_MS : 1;
    return true;
}

static bool take_text(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    char why[96];

    snprintf(why, sizeof why, "{unacceptable_type,%s}", type_name(value));
    return (value->type == AMQP_TEXT && value->bytes.len <= 255) || invalid(o, argument, why);
}

static bool set_expires(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    return take_time(o, argument, value, 1, &o->queue.idle_us);
}

static bool set_ttl(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    return take_time(o, argument, value, 0, &o->queue.max_age_us);
}

static bool set_consumer_timeout(struct amqp_operation *o, const char *argument,
                                 const struct amqp_value *value)
{
    return take_time(o, argument, value, 1, &o->queue.ack_timeout_us);
}

static bool set_max_length(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    if (!take_number(o, argument, value, 0, INT64_MAX, &o->queue.max_length))
        return false;
    o->queue.nothing_waits |= o->queue.max_length == 0;
    return true;
}

static bool set_max_bytes(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    if (!take_number(o, argument, value, 0, INT64_MAX, &o->queue.max_bytes))
        return false;
    o->queue.nothing_waits |= o->queue.max_bytes == 0;
    return true;
}

static bool set_priorities(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n = 0;

    if (!take_number(o, argument, value, 0, 255, &n))
        return false;
    o->queue.priorities = (uint8_t)n;
    return true;
}

static bool set_delivery_limit(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n = 0;

    if (!take_number(o, argument, value, 0, UINT32_MAX - 1, &n))
        return false;
    o->queue.attempts = (uint32_t)n + 1;
    return true;
}

static bool set_overflow(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    if (!take_text(o, argument, value))
        return false;
    if (slice_equal(value->bytes, SLICE("drop-head")))
        o->queue.overflow = LIMIT_DROP_HEAD;
    else if (slice_equal(value->bytes, SLICE("reject-publish")))
        o->queue.overflow = LIMIT_REJECT_NEW;
    else if (slice_equal(value->bytes, SLICE("reject-publish-dlx")))
        o->queue.overflow = LIMIT_BURY_NEW;
    else
        return invalid(o, argument, "invalid_overflow");
    return true;
}

static bool set_dead_exchange(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    if (!take_text(o, argument, value))
        return false;
    o->queue.has_dead_letter = true;
    o->queue.dead_exchange = o->other;
    return true;
}

static bool set_dead_key(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    struct amqp_value exchange;

    if (!take_text(o, argument, value))
        return false;
    if (!amqp_table_find(o->method.table, SLICE("x-dead-letter-exchange"), &exchange))
        return invalid(o, argument, "routing_key_but_no_dlx_defined");
    o->queue.dead_keeps_key = false;
    o->queue.dead_key = value->bytes;
    if (o->other.len || !o->prefix.len || !value->bytes.len)
        return true;
    /* To the default exchange it is a queue's name, which has its virtual host before it. */
    if (value->bytes.len + o->prefix.len > BROKER_KEY_MAX)
        return invalid(o, argument, "too long");
    memcpy(o->dead_key, o->prefix.ptr, o->prefix.len);
    memcpy(o->dead_key + o->prefix.len, value->bytes.ptr, value->bytes.len);
    o->queue.dead_key = slice_of(o->dead_key, o->prefix.len + value->bytes.len);
    return true;
}

static bool set_single_active(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    char why[96];

    snprintf(why, sizeof why, "{unacceptable_type,%s}", type_name(value));
    if (value->type != AMQP_BOOL)
        return invalid(o, argument, why);
    o->queue.single_active = value->truth;
    return true;
}

/* Both types are on the log. */
static bool check_type(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    bool quorum;

    if (!take_text(o, argument, value))
        return false;
    quorum = slice_equal(value->bytes, SLICE("quorum"));
    if (!quorum && !slice_equal(value->bytes, SLICE("classic")))
        return invalid(o, argument, "unsupported queue type");
    if (quorum && (!o->method.durable || o->method.exclusive || o->method.auto_delete)) {
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "invalid property '%s' for queue '%.*s' in vhost '%.*s'",
                    !o->method.durable      ? "non-durable"
                    : o->method.auto_delete ? "auto-delete"
                                            : "exclusive-owner",
                    SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
        return false;
    }
    return true;
}

static const struct {
    const char *name;
    bool (*set)(struct amqp_operation *o, const char *argument, const struct amqp_value *value);
} arguments[] = {
    {"x-queue-type", check_type},
    {"x-expires", set_expires},
    {"x-message-ttl", set_ttl},
    {"x-dead-letter-exchange", set_dead_exchange},
    {"x-dead-letter-routing-key", set_dead_key},
    {"x-dead-letter-strategy", take_text},
    {"x-max-length", set_max_length},
    {"x-max-length-bytes", set_max_bytes},
    {"x-max-priority", set_priorities},
    {"x-overflow", set_overflow},
    {"x-queue-mode", take_text},
    {"x-single-active-consumer", set_single_active},
    {"x-delivery-limit", set_delivery_limit},
    {"x-consumer-timeout", set_consumer_timeout},
};

void amqp_queue_options(struct amqp_operation *o)
{
    struct amqp_value value;

    o->queue = (struct broker_queue_options){
        .ack_timeout_us = ACK_TIMEOUT_US,
        .overflow = LIMIT_DROP_HEAD,
        .transient = !o->method.durable,
        .exclusive = o->method.exclusive,
        .auto_delete = o->method.auto_delete,
        .dead_keeps_key = true,
        .arguments = o->method.table,
    };
    for (size_t i = 0; i < sizeof arguments / sizeof arguments[0]; i++)
        if (amqp_table_find(o->method.table, slice_from_text(arguments[i].name), &value) &&
            !arguments[i].set(o, arguments[i].name, &value))
            return;
}

bool amqp_counts_deliveries(struct slice declared)
{
    struct amqp_value value;

    return amqp_table_find(declared, SLICE("x-queue-type"), &value) && value.type == AMQP_TEXT &&
           slice_equal(value.bytes, SLICE("quorum"));
}
