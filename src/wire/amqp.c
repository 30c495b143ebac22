/* amqp.c - see amqp.h. Methods are a table of fields; one reader and one writer go over it. */
#include "wire/amqp.h"

#include <assert.h>
#include <stddef.h>

#include "wire/amqp_bytes.h"

#define FRAME_END ((char)0xce)

const char amqp_header[AMQP_HEADER_BYTES] = {'A', 'M', 'Q', 'P', 0, 0, 9, 1};

enum amqp_result amqp_take_header(struct slice *in)
{
    size_t n = in->len < AMQP_HEADER_BYTES ? in->len : AMQP_HEADER_BYTES;

    if (n && memcmp(in->ptr, amqp_header, n) != 0)
        return AMQP_BAD;
    if (n < AMQP_HEADER_BYTES)
        return AMQP_MORE;
    slice_drop(in, n);
    return AMQP_OK;
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

static bool is_frame_type(uint8_t type)
{
    return (type >= AMQP_METHOD && type <= AMQP_BODY) || type == AMQP_HEARTBEAT;
}

enum amqp_result amqp_take_frame(struct slice *in, uint32_t frame_max, struct amqp_frame *frame,
                                 const char **why)
{
    struct slice cur = *in;
    uint16_t channel;
    uint32_t size;
    uint8_t type;

    if (!take_u8(&cur, &type))
        return AMQP_MORE;
    *why = "it is no frame of AMQP 0-9-1";
    if (!is_frame_type(type))
        return AMQP_BAD;
    if (!take_u16be(&cur, &channel) || !take_u32be(&cur, &size))
        return AMQP_MORE;
    *why = "the frame is larger than was agreed on";
    if (size > frame_max - AMQP_FRAME_OVERHEAD)
        return AMQP_BAD;
    if (cur.len < (size_t)size + 1)
        return AMQP_MORE;
    *why = "the frame does not end where its size says";
    if (cur.ptr[size] != FRAME_END)
        return AMQP_BAD;
    *frame = (struct amqp_frame){(enum amqp_frame_type)type, channel, slice_take(&cur, size)};
    slice_drop(&cur, 1);
    *in = cur;
    return AMQP_OK;
}

char *amqp_begin_frame(char *at)
{
    return at + AMQP_FRAME_HEAD;
}

char *amqp_end_frame(char *begin, char *payload_end, enum amqp_frame_type type, uint16_t channel)
{
    begin[0] = (char)type;
    put_u16be(begin + 1, channel);
    put_u32be(begin + 3, (uint32_t)(payload_end - begin - AMQP_FRAME_HEAD));
    *payload_end = FRAME_END;
    return payload_end + 1;
}

/* ---- the table of methods ---------------------------------------------------------------------------------------- */

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

/* ---- reading a method -------------------------------------------------------------------------------------------- */

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

enum amqp_result amqp_take_method(struct slice in, struct amqp_method *method, const char **why)
{
    const struct method_row *row;
    uint8_t octet = 0;
    unsigned bits = 0; /* of octet, that are taken */
    uint32_t id;

    *method = (struct amqp_method){0};
    *why = "the method is cut short";
    if (!take_u32be(&in, &id))
        return AMQP_BAD;
    method->id = (enum amqp_method_id)id;
    row = find_row(id);
    if (!row) {
        *why = "there is no such method";
        return AMQP_BAD;
    }
    for (unsigned i = 0; i < FIELDS_MAX && row->fields[i].type != NO_FIELD; i++) {
        const struct field *field = &row->fields[i];
        char *member = (char *)method + field->offset;

        if (!is_bit(field->type)) {
            bits = 0;
            if (!take_field(&in, field->type, member))
                return AMQP_BAD;
            continue;
        }
        if (bits == 0 && !take_u8(&in, &octet))
            return AMQP_BAD;
        if (field->type == BIT)
            *(bool *)member = octet >> bits & 1;
        bits = (bits + 1) % 8;
    }
    *why = "something stands behind the method";
    return in.len ? AMQP_BAD : AMQP_OK;
}

/* ---- writing a method -------------------------------------------------------------------------------------------- */

static size_t field_bytes(uint8_t type, const void *member)
{
    switch ((enum field_type)type) {
    case OCTET:
    case RESERVED_SHORT_TEXT:
        return 1;
    case SHORT:
    case RESERVED_SHORT:
        return 2;
    case LONG:
    case RESERVED_LONG_TEXT:
        return 4;
    case LONGLONG:
        return 8;
    case SHORT_TEXT:
        return 1 + ((const struct slice *)member)->len;
    case LONG_TEXT:
        return 4 + ((const struct slice *)member)->len;
    case BIT:
    case RESERVED_BIT:
    case NO_FIELD:
        break;
    }
    return 0;
}

size_t amqp_method_bytes(const struct amqp_method *method)
{
    const struct method_row *row = find_row(method->id);
    unsigned bits = 0;
    size_t n = 4;

    for (unsigned i = 0; row && i < FIELDS_MAX && row->fields[i].type != NO_FIELD; i++) {
        const struct field *field = &row->fields[i];
        const void *member = (const char *)method + field->offset;

        if (field->type == SHORT_TEXT && ((const struct slice *)member)->len > AMQP_SHORT_TEXT_MAX)
            return 0;
        n += is_bit(field->type) ? bits == 0 : field_bytes(field->type, member);
        bits = is_bit(field->type) ? (bits + 1) % 8 : 0;
    }
    return row ? n : 0;
}

static char *put_field(char *at, uint8_t type, const void *member)
{
    switch ((enum field_type)type) {
    case OCTET:
        *at = *(const char *)member;
        return at + 1;
    case SHORT:
        return put_u16be(at, *(const uint16_t *)member);
    case LONG:
        return put_u32be(at, *(const uint32_t *)member);
    case LONGLONG:
        return put_u64be(at, *(const uint64_t *)member);
    case SHORT_TEXT:
        return put_short_text(at, *(const struct slice *)member);
    case LONG_TEXT:
        return put_long_text(at, *(const struct slice *)member);
    case RESERVED_SHORT:
        return put_u16be(at, 0);
    case RESERVED_SHORT_TEXT:
        *at = 0;
        return at + 1;
    case RESERVED_LONG_TEXT:
        return put_u32be(at, 0);
    case BIT:
    case RESERVED_BIT:
    case NO_FIELD:
        break;
    }
    return at;
}

char *amqp_put_method(char *at, const struct amqp_method *method)
{
    const struct method_row *row = find_row(method->id);
    unsigned bits = 0;

    assert(row);
    at = put_u32be(at, method->id);
    for (unsigned i = 0; i < FIELDS_MAX && row->fields[i].type != NO_FIELD; i++) {
        const struct field *field = &row->fields[i];
        const char *member = (const char *)method + field->offset;

        if (!is_bit(field->type)) {
            bits = 0;
            at = put_field(at, field->type, member);
            continue;
        }
        if (bits == 0)
            *at++ = 0;
        if (field->type == BIT && *(const bool *)member)
            at[-1] = (char)(at[-1] | 1 << bits);
        bits = (bits + 1) % 8;
    }
    return at;
}

/* ---- reply codes ------------------------------------------------------------------------------------------------- */

static const struct {
    unsigned code;
    const char *name;
    bool ends_connection;
} replies[] = {
    {AMQP_SUCCESS, "OK", false},
    {AMQP_CONTENT_TOO_LARGE, "CONTENT_TOO_LARGE", false},
    {AMQP_NO_ROUTE, "NO_ROUTE", false},
    {AMQP_NO_CONSUMERS, "NO_CONSUMERS", false},
    {AMQP_CONNECTION_FORCED, "CONNECTION_FORCED", true},
    {AMQP_INVALID_PATH, "INVALID_PATH", true},
    {AMQP_ACCESS_REFUSED, "ACCESS_REFUSED", false},
    {AMQP_NOT_FOUND, "NOT_FOUND", false},
    {AMQP_RESOURCE_LOCKED, "RESOURCE_LOCKED", false},
    {AMQP_PRECONDITION_FAILED, "PRECONDITION_FAILED", false},
    {AMQP_FRAME_ERROR, "FRAME_ERROR", true},
    {AMQP_SYNTAX_ERROR, "SYNTAX_ERROR", true},
    {AMQP_COMMAND_INVALID, "COMMAND_INVALID", true},
    {AMQP_CHANNEL_ERROR, "CHANNEL_ERROR", true},
    {AMQP_UNEXPECTED_FRAME, "UNEXPECTED_FRAME", true},
    {AMQP_RESOURCE_ERROR, "RESOURCE_ERROR", true},
    {AMQP_NOT_ALLOWED, "NOT_ALLOWED", true},
    {AMQP_NOT_IMPLEMENTED, "NOT_IMPLEMENTED", true},
    {AMQP_INTERNAL_ERROR, "INTERNAL_ERROR", true},
};

const char *amqp_reply_name(unsigned code)
{
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        if (replies[i].code == code)
            return replies[i].name;
    return NULL;
}

bool amqp_reply_ends_connection(unsigned code)
{
    for (size_t i = 0; i < sizeof replies / sizeof replies[0]; i++)
        if (replies[i].code == code)
            return replies[i].ends_connection;
    return true;
}
