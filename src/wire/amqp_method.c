/* amqp_method.c - methods; see amqp.h.
 *
 * All of them are rows of a table, with one reader and one writer over it. Those that come or go with every message
 * have a reader and a writer of their own, which do the same in less time. */
#include <assert.h>
#include <stddef.h>

#include "wire/amqp.h"
#include "wire/amqp_bytes.h"

/* ---- the table of methods ------------------------------------------------------------------------------------ */

enum field_type {
    NO_FIELD,
    OCTET,
    SHORT,
    LONG,
    LONGLONG,
    SHORT_TEXT,
    LONG_TEXT, /* tables are long texts, here */
    BIT,       /* neighbours share octets, the first in the lowest bit */
    /* Kept for nothing: written as zero or empty, and whatever is read is passed over. */
    RESERVED_SHORT,
    RESERVED_SHORT_TEXT,
    RESERVED_LONG_TEXT,
    RESERVED_BIT,
};

struct field {
    uint8_t type;
    uint16_t offset; /* in struct amqp_method */
};

#define FIELDS_MAX 9

struct method_row {
    uint32_t id;
    const char *name;
    struct field fields[FIELDS_MAX];
};

#define F(type, member)                            \
    {                                              \
        type, offsetof(struct amqp_method, member) \
    }
#define R(type)            \
    {                      \
        RESERVED_##type, 0 \
    }

static const struct method_row methods[] = {
    {AMQP_CONNECTION_START,
     "connection.start",
     {F(OCTET, version_major), F(OCTET, version_minor), F(LONG_TEXT, table), F(LONG_TEXT, mechanism),
      F(LONG_TEXT, locale)}},
    {AMQP_CONNECTION_START_OK,
     "connection.start-ok",
     {F(LONG_TEXT, table), F(SHORT_TEXT, mechanism), F(LONG_TEXT, response), F(SHORT_TEXT, locale)}},
    {AMQP_CONNECTION_SECURE, "connection.secure", {F(LONG_TEXT, challenge)}},
    {AMQP_CONNECTION_SECURE_OK, "connection.secure-ok", {F(LONG_TEXT, response)}},
    {AMQP_CONNECTION_TUNE,
     "connection.tune",
     {F(SHORT, channel_max), F(LONG, frame_max), F(SHORT, heartbeat)}},
    {AMQP_CONNECTION_TUNE_OK,
     "connection.tune-ok",
     {F(SHORT, channel_max), F(LONG, frame_max), F(SHORT, heartbeat)}},
    {AMQP_CONNECTION_OPEN, "connection.open", {F(SHORT_TEXT, virtual_host), R(SHORT_TEXT), R(BIT)}},
    {AMQP_CONNECTION_OPEN_OK, "connection.open-ok", {R(SHORT_TEXT)}},
    {AMQP_CONNECTION_CLOSE,
     "connection.close",
     {F(SHORT, reply_code), F(SHORT_TEXT, reply_text), F(SHORT, class_id), F(SHORT, method_id)}},
    {AMQP_CONNECTION_CLOSE_OK, "connection.close-ok", {{0}}},
    {AMQP_CONNECTION_BLOCKED, "connection.blocked", {F(SHORT_TEXT, reason)}},
    {AMQP_CONNECTION_UNBLOCKED, "connection.unblocked", {{0}}},
    {AMQP_CONNECTION_UPDATE_SECRET,
     "connection.update-secret",
     {F(LONG_TEXT, secret), F(SHORT_TEXT, reason)}},
    {AMQP_CONNECTION_UPDATE_SECRET_OK, "connection.update-secret-ok", {{0}}},
    {AMQP_CHANNEL_OPEN, "channel.open", {R(SHORT_TEXT)}},
    {AMQP_CHANNEL_OPEN_OK, "channel.open-ok", {R(LONG_TEXT)}},
    {AMQP_CHANNEL_FLOW, "channel.flow", {F(BIT, active)}},
    {AMQP_CHANNEL_FLOW_OK, "channel.flow-ok", {F(BIT, active)}},
    {AMQP_CHANNEL_CLOSE,
     "channel.close",
     {F(SHORT, reply_code), F(SHORT_TEXT, reply_text), F(SHORT, class_id), F(SHORT, method_id)}},
    {AMQP_CHANNEL_CLOSE_OK, "channel.close-ok", {{0}}},
    {AMQP_ACCESS_REQUEST,
     "access.request",
     {F(SHORT_TEXT, realm), F(BIT, exclusive), F(BIT, passive), F(BIT, active), F(BIT, write), F(BIT, read)}},
    {AMQP_ACCESS_REQUEST_OK, "access.request-ok", {F(SHORT, ticket)}},
    {AMQP_EXCHANGE_DECLARE,
     "exchange.declare",
     {R(SHORT), F(SHORT_TEXT, exchange), F(SHORT_TEXT, type), F(BIT, passive), F(BIT, durable),
      F(BIT, auto_delete), F(BIT, internal), F(BIT, no_wait), F(LONG_TEXT, table)}},
    {AMQP_EXCHANGE_DECLARE_OK, "exchange.declare-ok", {{0}}},
    {AMQP_EXCHANGE_DELETE,
     "exchange.delete",
     {R(SHORT), F(SHORT_TEXT, exchange), F(BIT, if_unused), F(BIT, no_wait)}},
    {AMQP_EXCHANGE_DELETE_OK, "exchange.delete-ok", {{0}}},
    {AMQP_EXCHANGE_BIND,
     "exchange.bind",
     {R(SHORT), F(SHORT_TEXT, destination), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key),
      F(BIT, no_wait), F(LONG_TEXT, table)}},
    {AMQP_EXCHANGE_BIND_OK, "exchange.bind-ok", {{0}}},
    {AMQP_EXCHANGE_UNBIND,
     "exchange.unbind",
     {R(SHORT), F(SHORT_TEXT, destination), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key),
      F(BIT, no_wait), F(LONG_TEXT, table)}},
    {AMQP_EXCHANGE_UNBIND_OK, "exchange.unbind-ok", {{0}}},
    {AMQP_QUEUE_DECLARE,
     "queue.declare",
     {R(SHORT), F(SHORT_TEXT, queue), F(BIT, passive), F(BIT, durable), F(BIT, exclusive),
      F(BIT, auto_delete), F(BIT, no_wait), F(LONG_TEXT, table)}},
    {AMQP_QUEUE_DECLARE_OK,
     "queue.declare-ok",
     {F(SHORT_TEXT, queue), F(LONG, message_count), F(LONG, consumer_count)}},
    {AMQP_QUEUE_BIND,
     "queue.bind",
     {R(SHORT), F(SHORT_TEXT, queue), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key), F(BIT, no_wait),
      F(LONG_TEXT, table)}},
    {AMQP_QUEUE_BIND_OK, "queue.bind-ok", {{0}}},
    {AMQP_QUEUE_PURGE, "queue.purge", {R(SHORT), F(SHORT_TEXT, queue), F(BIT, no_wait)}},
    {AMQP_QUEUE_PURGE_OK, "queue.purge-ok", {F(LONG, message_count)}},
    {AMQP_QUEUE_DELETE,
     "queue.delete",
     {R(SHORT), F(SHORT_TEXT, queue), F(BIT, if_unused), F(BIT, if_empty), F(BIT, no_wait)}},
    {AMQP_QUEUE_DELETE_OK, "queue.delete-ok", {F(LONG, message_count)}},
    {AMQP_QUEUE_UNBIND,
     "queue.unbind",
     {R(SHORT), F(SHORT_TEXT, queue), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key),
      F(LONG_TEXT, table)}},
    {AMQP_QUEUE_UNBIND_OK, "queue.unbind-ok", {{0}}},
    {AMQP_BASIC_QOS, "basic.qos", {F(LONG, prefetch_size), F(SHORT, prefetch_count), F(BIT, global)}},
    {AMQP_BASIC_QOS_OK, "basic.qos-ok", {{0}}},
    {AMQP_BASIC_CONSUME,
     "basic.consume",
     {R(SHORT), F(SHORT_TEXT, queue), F(SHORT_TEXT, consumer_tag), F(BIT, no_local), F(BIT, no_ack),
      F(BIT, exclusive), F(BIT, no_wait), F(LONG_TEXT, table)}},
    {AMQP_BASIC_CONSUME_OK, "basic.consume-ok", {F(SHORT_TEXT, consumer_tag)}},
    {AMQP_BASIC_CANCEL, "basic.cancel", {F(SHORT_TEXT, consumer_tag), F(BIT, no_wait)}},
    {AMQP_BASIC_CANCEL_OK, "basic.cancel-ok", {F(SHORT_TEXT, consumer_tag)}},
    {AMQP_BASIC_PUBLISH,
     "basic.publish",
     {R(SHORT), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key), F(BIT, mandatory), F(BIT, immediate)}},
    {AMQP_BASIC_RETURN,
     "basic.return",
     {F(SHORT, reply_code), F(SHORT_TEXT, reply_text), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key)}},
    {AMQP_BASIC_DELIVER,
     "basic.deliver",
     {F(SHORT_TEXT, consumer_tag), F(LONGLONG, delivery_tag), F(BIT, redelivered), F(SHORT_TEXT, exchange),
      F(SHORT_TEXT, routing_key)}},
    {AMQP_BASIC_GET, "basic.get", {R(SHORT), F(SHORT_TEXT, queue), F(BIT, no_ack)}},
    {AMQP_BASIC_GET_OK,
     "basic.get-ok",
     {F(LONGLONG, delivery_tag), F(BIT, redelivered), F(SHORT_TEXT, exchange), F(SHORT_TEXT, routing_key),
      F(LONG, message_count)}},
    {AMQP_BASIC_GET_EMPTY, "basic.get-empty", {R(SHORT_TEXT)}},
    {AMQP_BASIC_ACK, "basic.ack", {F(LONGLONG, delivery_tag), F(BIT, multiple)}},
    {AMQP_BASIC_REJECT, "basic.reject", {F(LONGLONG, delivery_tag), F(BIT, requeue)}},
    {AMQP_BASIC_RECOVER_ASYNC, "basic.recover-async", {F(BIT, requeue)}},
    {AMQP_BASIC_RECOVER, "basic.recover", {F(BIT, requeue)}},
    {AMQP_BASIC_RECOVER_OK, "basic.recover-ok", {{0}}},
    {AMQP_BASIC_NACK, "basic.nack", {F(LONGLONG, delivery_tag), F(BIT, multiple), F(BIT, requeue)}},
    {AMQP_CONFIRM_SELECT, "confirm.select", {F(BIT, no_wait)}},
    {AMQP_CONFIRM_SELECT_OK, "confirm.select-ok", {{0}}},
    {AMQP_TX_SELECT, "tx.select", {{0}}},
    {AMQP_TX_SELECT_OK, "tx.select-ok", {{0}}},
    {AMQP_TX_COMMIT, "tx.commit", {{0}}},
    {AMQP_TX_COMMIT_OK, "tx.commit-ok", {{0}}},
    {AMQP_TX_ROLLBACK, "tx.rollback", {{0}}},
    {AMQP_TX_ROLLBACK_OK, "tx.rollback-ok", {{0}}},
};

#define N_METHODS (sizeof methods / sizeof methods[0])

/* Rows are sorted by id. */
static const struct method_row *find_row(uint32_t id)
{
    size_t low = 0, high = N_METHODS;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (methods[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < N_METHODS && methods[low].id == id ? &methods[low] : NULL;
}

const char *amqp_method_name(uint32_t id)
{
    const struct method_row *row = find_row(id);

    return row ? row->name : NULL;
}

static bool is_bit(uint8_t type)
{
    return type == BIT || type == RESERVED_BIT;
}

/* ---- reading ------------------------------------------------------------------------------------------------- */

static bool take_field(struct slice *in, uint8_t type, void *member)
{
    struct slice passed;
    uint16_t reserved;

    switch ((enum field_type)type) {
    case OCTET:
        return take_u8(in, member);
    case SHORT:
        return take_u16be(in, member);
    case LONG:
        return take_u32be(in, member);
    case LONGLONG:
        return take_u64be(in, member);
    case SHORT_TEXT:
        return take_short_text(in, member);
    case LONG_TEXT:
        return take_long_text(in, member);
    case RESERVED_SHORT:
        return take_u16be(in, &reserved);
    case RESERVED_SHORT_TEXT:
        return take_short_text(in, &passed);
    case RESERVED_LONG_TEXT:
        return take_long_text(in, &passed);
    case BIT:
    case RESERVED_BIT:
    case NO_FIELD:
        break;
    }
    return false;
}

static bool take_row(struct slice *in, struct amqp_method *method)
{
    const struct method_row *row = find_row(method->id);
    uint8_t octet = 0;
    unsigned bits = 0; /* of octet, that are taken */

    for (unsigned i = 0; row && i < FIELDS_MAX && row->fields[i].type != NO_FIELD; i++) {
        const struct field *field = &row->fields[i];
        char *member = (char *)method + field->offset;

        if (!is_bit(field->type)) {
            bits = 0;
            if (!take_field(in, field->type, member))
                return false;
            continue;
        }
        if (bits == 0 && !take_u8(in, &octet))
            return false;
        if (field->type == BIT)
            *(bool *)member = octet >> bits & 1;
        bits = (bits + 1) % 8;
    }
    return row;
}

static bool take_bits(struct slice *in, bool *first, bool *second)
{
    uint8_t octet;

    if (!take_u8(in, &octet))
        return false;
    *first = octet & 1;
    if (second)
        *second = octet >> 1 & 1;
    return true;
}

static bool take_arguments(struct slice *in, struct amqp_method *m)
{
    uint16_t ticket;

    switch (m->id) {
    case AMQP_BASIC_PUBLISH:
        return take_u16be(in, &ticket) && take_short_text(in, &m->exchange) &&
               take_short_text(in, &m->routing_key) && take_bits(in, &m->mandatory, &m->immediate);
    case AMQP_BASIC_RETURN:
        return take_u16be(in, &m->reply_code) && take_short_text(in, &m->reply_text) &&
               take_short_text(in, &m->exchange) && take_short_text(in, &m->routing_key);
    case AMQP_BASIC_DELIVER:
        return take_short_text(in, &m->consumer_tag) && take_u64be(in, &m->delivery_tag) &&
               take_bits(in, &m->redelivered, NULL) && take_short_text(in, &m->exchange) &&
               take_short_text(in, &m->routing_key);
    case AMQP_BASIC_GET_OK:
        return take_u64be(in, &m->delivery_tag) && take_bits(in, &m->redelivered, NULL) &&
               take_short_text(in, &m->exchange) && take_short_text(in, &m->routing_key) &&
               take_u32be(in, &m->message_count);
    case AMQP_BASIC_ACK:
        return take_u64be(in, &m->delivery_tag) && take_bits(in, &m->multiple, NULL);
    case AMQP_BASIC_REJECT:
        return take_u64be(in, &m->delivery_tag) && take_bits(in, &m->requeue, NULL);
    case AMQP_BASIC_NACK:
        return take_u64be(in, &m->delivery_tag) && take_bits(in, &m->multiple, &m->requeue);
    default:
        return take_row(in, m);
    }
}

enum amqp_result amqp_take_method(struct slice in, struct amqp_method *method, const char **why)
{
    const char *fault = NULL;
    uint32_t id = 0;

    *method = (struct amqp_method){0};
    if (take_u32be(&in, &id))
        method->id = (enum amqp_method_id)id;
    if (!id || !take_arguments(&in, method))
        fault = !id || find_row(id) ? "the method is cut short" : "there is no such method";
    else if (in.len)
        fault = "something stands behind the method";
    if (fault)
        *why = fault;
    return fault ? AMQP_BAD : AMQP_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------- */

static void put_field(struct amqp_out *out, uint8_t type, const void *member)
{
    switch ((enum field_type)type) {
    case OCTET:
        write_u8(out, *(const uint8_t *)member);
        break;
    case SHORT:
        write_u16be(out, *(const uint16_t *)member);
        break;
    case LONG:
        write_u32be(out, *(const uint32_t *)member);
        break;
    case LONGLONG:
        write_u64be(out, *(const uint64_t *)member);
        break;
    case SHORT_TEXT:
        write_short_text(out, *(const struct slice *)member);
        break;
    case LONG_TEXT:
        write_long_text(out, *(const struct slice *)member);
        break;
    case RESERVED_SHORT:
        write_u16be(out, 0);
        break;
    case RESERVED_SHORT_TEXT:
        write_u8(out, 0);
        break;
    case RESERVED_LONG_TEXT:
        write_u32be(out, 0);
        break;
    case BIT:
    case RESERVED_BIT:
    case NO_FIELD:
        break;
    }
}

static void put_row(struct amqp_out *out, const struct method_row *row, const struct amqp_method *method)
{
    char *octet = NULL;
    unsigned bits = 0; /* of octet, that are put */

    for (unsigned i = 0; i < FIELDS_MAX && row->fields[i].type != NO_FIELD; i++) {
        const struct field *field = &row->fields[i];
        const char *member = (const char *)method + field->offset;

        if (!is_bit(field->type)) {
            bits = 0;
            put_field(out, field->type, member);
            continue;
        }
        if (bits == 0) {
            octet = amqp_out_reserve(out, 1);
            if (!octet)
                return;
            *octet = 0;
        }
        if (field->type == BIT && *(const bool *)member)
            *octet = (char)(*octet | 1 << bits);
        bits = (bits + 1) % 8;
    }
}

static char put_bits(bool first, bool second)
{
    return (char)(first | second << 1);
}

/* Room for arguments of that many bytes and texts, with the method's id put before it. */
static char *begin_arguments(struct amqp_out *out, const struct amqp_method *m, size_t fixed, struct slice a,
                             struct slice b, struct slice c)
{
    char *at = NULL;

    if (is_not_longer(out, a, AMQP_SHORT_TEXT_MAX) && is_not_longer(out, b, AMQP_SHORT_TEXT_MAX) &&
        is_not_longer(out, c, AMQP_SHORT_TEXT_MAX))
        at = amqp_out_reserve(out, 4 + fixed + a.len + b.len + c.len);
    return at ? put_u32be(at, m->id) : NULL;
}

static void put_publish(struct amqp_out *out, const struct amqp_method *m)
{
    char *at = begin_arguments(out, m, 5, m->exchange, m->routing_key, (struct slice){0});

    if (!at)
        return;
    at = put_u16be(at, 0);
    at = put_short_text(at, m->exchange);
    at = put_short_text(at, m->routing_key);
    *at = put_bits(m->mandatory, m->immediate);
}

static void put_return(struct amqp_out *out, const struct amqp_method *m)
{
    char *at = begin_arguments(out, m, 5, m->reply_text, m->exchange, m->routing_key);

    if (!at)
        return;
    at = put_u16be(at, m->reply_code);
    at = put_short_text(at, m->reply_text);
    at = put_short_text(at, m->exchange);
    put_short_text(at, m->routing_key);
}

static void put_deliver(struct amqp_out *out, const struct amqp_method *m)
{
    char *at = begin_arguments(out, m, 12, m->consumer_tag, m->exchange, m->routing_key);

    if (!at)
        return;
    at = put_short_text(at, m->consumer_tag);
    at = put_u64be(at, m->delivery_tag);
    *at++ = put_bits(m->redelivered, false);
    at = put_short_text(at, m->exchange);
    put_short_text(at, m->routing_key);
}

static void put_get_ok(struct amqp_out *out, const struct amqp_method *m)
{
    char *at = begin_arguments(out, m, 15, m->exchange, m->routing_key, (struct slice){0});

    if (!at)
        return;
    at = put_u64be(at, m->delivery_tag);
    *at++ = put_bits(m->redelivered, false);
    at = put_short_text(at, m->exchange);
    at = put_short_text(at, m->routing_key);
    put_u32be(at, m->message_count);
}

/* Of ack, reject and nack. */
static void put_verdict(struct amqp_out *out, const struct amqp_method *m, char bits)
{
    char *at = amqp_out_reserve(out, 4 + 8 + 1);

    if (at)
        *put_u64be(put_u32be(at, m->id), m->delivery_tag) = bits;
}

void amqp_put_method(struct amqp_out *out, const struct amqp_method *method)
{
    const struct method_row *row;

    switch (method->id) {
    case AMQP_BASIC_PUBLISH:
        put_publish(out, method);
        return;
    case AMQP_BASIC_RETURN:
        put_return(out, method);
        return;
    case AMQP_BASIC_DELIVER:
        put_deliver(out, method);
        return;
    case AMQP_BASIC_GET_OK:
        put_get_ok(out, method);
        return;
    case AMQP_BASIC_ACK:
        put_verdict(out, method, put_bits(method->multiple, false));
        return;
    case AMQP_BASIC_REJECT:
        put_verdict(out, method, put_bits(method->requeue, false));
        return;
    case AMQP_BASIC_NACK:
        put_verdict(out, method, put_bits(method->multiple, method->requeue));
        return;
    default:
        row = find_row(method->id);
        assert(row);
        write_u32be(out, method->id);
        put_row(out, row, method);
    }
}
