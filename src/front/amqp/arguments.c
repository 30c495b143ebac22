/* arguments.c - what queues and exchanges are declared with: read, refused, compared, with RabbitMQ's words. See private.h. */
#include <stdio.h>

#include "base/clock.h"
#include "front/amqp/private.h"

#define MS_MAX UINT64_C(315360000000) /* ten years, as with RabbitMQ */
#define PRIORITY_MAX 255
#define ACK_TIMEOUT_US (30 * 60 * US_PER_S)

/* ---- words ------------------------------------------------------------------------------------------------------- */

const char *amqp_type_name(const struct amqp_value *value)
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
    case AMQP_TIME:
        snprintf(text, room, "%llu", (unsigned long long)value->seconds);
        break;
    default:
        snprintf(text, room, "%s", amqp_type_name(value));
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

static void describe(const struct amqp_value *value, bool there, bool with_type, char *text, size_t room)
{
    char inner[128];

    if (!there || value->type == AMQP_VOID) {
        snprintf(text, room, "none");
        return;
    }
    value_text(value, inner, sizeof inner);
    if (with_type)
        snprintf(text, room, "the value '%s' of type '%s'", inner, amqp_type_name(value));
    else
        snprintf(text, room, "'%s'", inner);
}

/* By the number that they are, as RabbitMQ's clients have more types of numbers than numbers. */
static bool is_same(struct amqp_value asked, struct amqp_value current)
{
    struct amqp_value *both[] = {&asked, &current};

    for (size_t i = 0; i < 2; i++)
        if (both[i]->type == AMQP_TIME) {
            both[i]->type = AMQP_INTEGER;
            both[i]->integer = (int64_t)both[i]->seconds;
        }
    return amqp_value_equal(&asked, &current);
}

static bool compare_argument(struct amqp_operation *o, const char *kind, struct slice name,
                             const char *argument, struct slice have)
{
    struct amqp_value asked, current;
    bool is_asked = amqp_table_find(o->method.table, slice_from_text(argument), &asked);
    bool is_there = amqp_table_find(have, slice_from_text(argument), &current);
    char received[192], was[192];

    if (is_asked == is_there && (!is_there || is_same(asked, current)))
        return true;
    describe(&asked, is_asked, !(is_asked && is_there), received, sizeof received);
    describe(&current, is_there, !(is_asked && is_there), was, sizeof was);
    inequivalent(o, kind, name, argument, received, was);
    return false;
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

void amqp_check_exchange(struct amqp_operation *o)
{
    struct amqp_value value;

    if (amqp_table_find(o->method.table, SLICE("alternate-exchange"), &value) && value.type != AMQP_TEXT)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                    "invalid type '%s' for arg 'alternate-exchange' in exchange '%.*s' in vhost '%.*s'",
                    amqp_type_name(&value), SLICE_ARG(o->method.exchange), SLICE_ARG(o->virtual_host));
}

void amqp_refuse_match(struct amqp_operation *o)
{
    struct amqp_value value = {.type = AMQP_TEXT};
    char text[128];

    amqp_table_find(o->method.table, SLICE("x-match"), &value);
    value_text(&value, text, sizeof text);
    if (value.type == AMQP_TEXT)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                    "Invalid x-match field value <<\"%s\">>; expected all, any, all-with-x, or any-with-x",
                    text);
    else
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "Invalid x-match field type %s (value %s); expected longstr",
                    amqp_type_name(&value), text);
}

/* ---- what a consumer may ask for --------------------------------------------------------------------------------- */

static bool refuse_consumer(struct amqp_channel *channel, struct slice queue, const char *argument,
                            const char *why)
{
    amqp_fail(channel, AMQP_PRECONDITION_FAILED, AMQP_BASIC_CONSUME,
              "invalid arg '%s' for queue '%.*s' in vhost '%s'%s", argument, SLICE_ARG(queue),
              channel->connection->virtual_host, why);
    return false;
}

bool amqp_check_consumer(struct amqp_channel *channel, struct slice arguments, struct slice queue,
                         bool quorum)
{
    struct amqp_value value;
    char why[96];

    if (amqp_table_find(arguments, SLICE("x-priority"), &value) && value.type != AMQP_INTEGER) {
        snprintf(why, sizeof why, ": \"expected integer, got %s\"", amqp_type_name(&value));
        return refuse_consumer(channel, queue, "x-priority", why);
    }
    if (amqp_table_find(arguments, SLICE("x-cancel-on-ha-failover"), &value) && value.type != AMQP_BOOL) {
        snprintf(why, sizeof why, ": {unacceptable_type,%s}", amqp_type_name(&value));
        return refuse_consumer(channel, queue, "x-cancel-on-ha-failover", why);
    }
    if (amqp_table_find(arguments, SLICE("x-stream-offset"), &value)) {
        snprintf(why, sizeof why, " of queue type rabbit_%s_queue", quorum ? "quorum" : "classic");
        return refuse_consumer(channel, queue, "x-stream-offset", why);
    }
    return true;
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
        snprintf(why, sizeof why, "\"expected integer, got %s\"", amqp_type_name(value));
    else if (value->integer < 0)
        snprintf(why, sizeof why, "{value_negative,%lld}", (long long)value->integer);
    else if (value->integer < least)
        snprintf(why, sizeof why, "{value_zero,%lld}", (long long)value->integer);
    else if ((uint64_t)value->integer > most)
        snprintf(why, sizeof why, "{%s,%lld}",
                 most == PRIORITY_MAX ? "max_value_exceeded" : "value_too_large", (long long)value->integer);
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

    snprintf(why, sizeof why, "{unacceptable_type,%s}", amqp_type_name(value));
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

    if (!take_number(o, argument, value, 0, PRIORITY_MAX, &n))
        return false;
    o->queue.priorities = (uint8_t)n;
    return true;
}

/* Below zero there is none. */
static bool set_delivery_limit(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n = 0;

    if (value->type == AMQP_INTEGER && value->integer < 0)
        return true;
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
    if (!amqp_is_name(value->bytes))
        return invalid(o, argument, "a name has a NUL in it");
    o->queue.dead_keeps_key = false;
    o->queue.dead_key = value->bytes;
    if (slice_find(value->bytes, '\0') < value->bytes.len)
        return invalid(o, argument, "it has a NUL byte in it");
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

    snprintf(why, sizeof why, "{unacceptable_type,%s}", amqp_type_name(value));
    if (value->type != AMQP_BOOL)
        return invalid(o, argument, why);
    o->queue.single_active = value->truth;
    return true;
}

static bool is_word(const struct amqp_value *value, const char *const *words)
{
    for (size_t i = 0; words[i]; i++)
        if (slice_equal(value->bytes, slice_from_text(words[i])))
            return true;
    return false;
}

static bool unsupported(struct amqp_operation *o, const char *argument, const char *what,
                        const struct amqp_value *value)
{
    char why[160], text[128];

    value_text(value, text, sizeof text);
    snprintf(why, sizeof why, "\"unsupported queue %s '%s'\"", what, text);
    return invalid(o, argument, why);
}

/* Everything is on the log, so that neither mode changes anything; nor does a version. */
static bool check_mode(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    static const char *const modes[] = {"default", "lazy", NULL};

    if (!take_text(o, argument, value))
        return false;
    return is_word(value, modes) || unsupported(o, argument, "mode", value);
}

static bool check_version(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n = 0;

    if (!take_number(o, argument, value, 0, INT64_MAX, &n))
        return false;
    return n == 1 || n == 2 || unsupported(o, argument, "version", value);
}

static bool check_type(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    static const char *const types[] = {"classic", "quorum", NULL};

    if (!take_text(o, argument, value))
        return false;
    return is_word(value, types) || unsupported(o, argument, "type", value);
}

static bool check_strategy(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    static const char *const strategies[] = {"at-most-once", "at-least-once", NULL};

    if (!take_text(o, argument, value))
        return false;
    return is_word(value, strategies) || invalid(o, argument, "invalid_dlx_strategy");
}

static bool check_locator(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    static const char *const locators[] = {"client-local", "balanced", "least-leaders", "random", NULL};

    if (!take_text(o, argument, value))
        return false;
    return is_word(value, locators) || invalid(o, argument, "invalid_queue_locator_arg");
}

static bool check_count(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n;

    return take_number(o, argument, value, 0, INT64_MAX, &n);
}

static bool check_size(struct amqp_operation *o, const char *argument, const struct amqp_value *value)
{
    uint64_t n;

    return take_number(o, argument, value, 1, INT64_MAX, &n);
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

enum queue_type { CLASSIC = 1, QUORUM = 2 };

/* In the order in which RabbitMQ looks at them. Those of streams are no queue's here. */
static const struct {
    const char *name;
    unsigned types; /* of queue, that may have it */
    bool (*set)(struct amqp_operation *o, const char *argument, const struct amqp_value *value);
} arguments[] = {
    {"x-expires", CLASSIC | QUORUM, set_expires},
    {"x-message-ttl", CLASSIC | QUORUM, set_ttl},
    {"x-dead-letter-exchange", CLASSIC | QUORUM, set_dead_exchange},
    {"x-dead-letter-routing-key", CLASSIC | QUORUM, set_dead_key},
    {"x-dead-letter-strategy", QUORUM, check_strategy},
    {"x-max-length", CLASSIC | QUORUM, set_max_length},
    {"x-max-length-bytes", CLASSIC | QUORUM, set_max_bytes},
    {"x-max-in-memory-length", QUORUM, check_count},
    {"x-max-in-memory-bytes", QUORUM, check_count},
    {"x-max-priority", CLASSIC, set_priorities},
    {"x-overflow", CLASSIC | QUORUM, set_overflow},
    {"x-queue-mode", CLASSIC, check_mode},
    {"x-queue-version", CLASSIC, check_version},
    {"x-single-active-consumer", CLASSIC | QUORUM, set_single_active},
    {"x-queue-type", CLASSIC | QUORUM, check_type},
    {"x-quorum-initial-group-size", QUORUM, check_size},
    {"x-max-age", 0, NULL},
    {"x-stream-max-segment-size-bytes", 0, NULL},
    {"x-initial-cluster-size", 0, NULL},
    {"x-queue-leader-locator", QUORUM, check_locator},
    {"x-delivery-limit", QUORUM, set_delivery_limit},
    {"x-consumer-timeout", CLASSIC | QUORUM, set_consumer_timeout},
};

#define N_ARGUMENTS (sizeof arguments / sizeof arguments[0])

bool amqp_counts_deliveries(struct slice declared)
{
    struct amqp_value value;

    return amqp_table_find(declared, SLICE("x-queue-type"), &value) && value.type == AMQP_TEXT &&
           slice_equal(value.bytes, SLICE("quorum"));
}

/* One that has no type is classic, whether it says so or not. */
static bool is_type_unchanged(const struct amqp_operation *o, const char *argument,
                              const struct broker_queue_options *have)
{
    struct amqp_value asked;

    if (strcmp(argument, "x-queue-type") != 0 || amqp_counts_deliveries(have->arguments))
        return false;
    return !amqp_table_find(o->method.table, SLICE("x-queue-type"), &asked) ||
           (asked.type == AMQP_TEXT && slice_equal(asked.bytes, SLICE("classic")));
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
    for (size_t i = 0; i < N_ARGUMENTS; i++)
        if (!is_type_unchanged(o, arguments[i].name, have) &&
            !compare_argument(o, "queue", name, arguments[i].name, have->arguments))
            return;
}

/* One that its type does not have. */
static bool refuse_name(struct amqp_operation *o, const char *argument, enum queue_type type)
{
    amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                "invalid arg '%s' for queue '%.*s' in vhost '%.*s' of queue type rabbit_%s_queue", argument,
                SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host),
                type == QUORUM ? "quorum" : "classic");
    return false;
}

static bool check_arguments(struct amqp_operation *o, enum queue_type type)
{
    struct amqp_value value;

    for (size_t i = 0; i < N_ARGUMENTS; i++) {
        const char *name = arguments[i].name;

        if (!amqp_table_find(o->method.table, slice_from_text(name), &value))
            continue;
        if (!(arguments[i].types & type))
            return refuse_name(o, name, type);
        if (!arguments[i].set(o, name, &value))
            return false;
    }
    return true;
}

static void check_quorum(struct amqp_operation *o)
{
    const char *wrong = !o->method.durable      ? "non-durable"
                        : o->method.auto_delete ? "auto-delete"
                        : o->method.exclusive   ? "exclusive-owner"
                                                : NULL;

    if (wrong)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED, "invalid property '%s' for queue '%.*s' in vhost '%.*s'",
                    wrong, SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
}

void amqp_queue_options(struct amqp_operation *o)
{
    struct slice table = o->method.table;
    struct amqp_value value;
    bool quorum = amqp_counts_deliveries(table);

    o->queue = (struct broker_queue_options){
        .ack_timeout_us = ACK_TIMEOUT_US,
        .overflow = LIMIT_DROP_HEAD,
        .transient = !o->method.durable,
        .exclusive = o->method.exclusive,
        .auto_delete = o->method.auto_delete,
        .dead_keeps_key = true,
        .arguments = table,
    };
    if (amqp_table_find(table, SLICE("x-dead-letter-exchange"), &value) && value.type != AMQP_TEXT)
        amqp_refuse(o, AMQP_PRECONDITION_FAILED,
                    "invalid type '%s' for arg 'x-dead-letter-exchange' in queue '%.*s' in vhost '%.*s'",
                    amqp_type_name(&value), SLICE_ARG(o->method.queue), SLICE_ARG(o->virtual_host));
    else if ((!amqp_table_find(table, SLICE("x-queue-type"), &value) ||
              check_type(o, "x-queue-type", &value)) &&
             check_arguments(o, quorum ? QUORUM : CLASSIC) && quorum)
        check_quorum(o);
}
