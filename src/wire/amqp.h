/* amqp.h - AMQP 0-9-1 as RabbitMQ speaks it, as pure functions over bytes: the protocol header, frames, methods,
 * content headers, reply codes. Field tables are amqp_table.h's, the cursor that is written to is amqp_out.h's.
 *
 * Follows the specification of 0-9-1 with RabbitMQ's errata and extensions: nack, confirm, bindings between exchanges,
 * blocked, update-secret. Each method is read and written, so that this is for servers and for clients.
 *
 * What is taken borrows the input. What is wrong is refused with a constant string that says what. Whether frames come
 * in an order that makes sense is the caller's matter. Nothing here allocates or waits. Fuzzed: fuzz/. Any thread. */
#ifndef WIRE_AMQP_H
#define WIRE_AMQP_H

#include <assert.h>

#include "base/slice.h"
#include "wire/amqp_out.h"

enum amqp_result { AMQP_OK, AMQP_MORE, AMQP_BAD };

/* ---- the protocol header ------------------------------------------------------------------------------------- */

#define AMQP_HEADER_BYTES 8
/* "AMQP" 0 0 9 1: what a client begins with, and what a server answers, before it closes, to anything else. Taken are
 * 0-9 and 0-8 too, as with RabbitMQ: their clients get along with 0-9-1. */
extern const char amqp_header[AMQP_HEADER_BYTES];

enum amqp_header_result {
    AMQP_HEADER_OK,
    AMQP_HEADER_MORE,
    AMQP_HEADER_VERSION, /* AMQP, but none of these: the four bytes after the name say which */
    AMQP_HEADER_BAD,     /* not AMQP; told at the first byte that shows it */
};

/* Takes it off the front of *in, which is untouched unless it is OK. */
enum amqp_header_result amqp_take_header(struct slice *in);
void amqp_put_header(struct amqp_out *out);

/* ---- frames -------------------------------------------------------------------------------------------------- */

enum amqp_frame_type { AMQP_METHOD = 1, AMQP_CONTENT_HEADER = 2, AMQP_BODY = 3, AMQP_HEARTBEAT = 8 };

#define AMQP_FRAME_HEAD 7
#define AMQP_FRAME_END ((char)0xce)
#define AMQP_FRAME_OVERHEAD 8 /* head and end */
#define AMQP_FRAME_MIN 4096u  /* a peer takes frames of that size whatever was agreed on */

/* Bytes of a whole frame, its overhead included; each at least AMQP_FRAME_MIN, there is no zero for "no limit". A server
 * has frame_max for both, as RabbitMQ does. A client needs more for methods and content headers: they are not split, and
 * RabbitMQ sends them at whatever length they have. */
struct amqp_frame_limits {
    uint32_t body;   /* what was agreed on: frame_max */
    uint32_t method; /* of methods and content headers */
};

struct amqp_frame {
    enum amqp_frame_type type;
    uint16_t channel;
    struct slice payload; /* borrows */
};

/* Takes one whole frame off the front of *in; on MORE or BAD *in and *frame are untouched, and on BAD *why is a constant
 * string (the answer is AMQP_FRAME_ERROR). A size over the limit is refused before its bytes are waited for. As with
 * RabbitMQ it may be AMQP_FRAME_OVERHEAD over, since there are clients that forget to count that. A heartbeat is empty;
 * on a channel but 0 it is as wrong, but for the caller to tell, with AMQP_UNEXPECTED_FRAME. */
enum amqp_result amqp_take_frame(struct slice *in, const struct amqp_frame_limits *limits,
                                 struct amqp_frame *frame, const char **why);

/* A frame around a payload that is written in between, where it stays. begin is what amqp_begin_frame returned. Unless
 * the result is AMQP_WRITTEN, nothing of the frame is there. */
char *amqp_begin_frame(struct amqp_out *out);
enum amqp_written amqp_end_frame(struct amqp_out *out, char *begin, enum amqp_frame_type type,
                                 uint16_t channel);

/* A frame around a body that is sent from where it is: this before it, AMQP_FRAME_END behind it. */
void amqp_put_frame_head(char at[AMQP_FRAME_HEAD], enum amqp_frame_type type, uint16_t channel,
                         uint32_t payload_bytes);

/* Whole frames. A body is up to frame_max - AMQP_FRAME_OVERHEAD bytes of one; an empty body has no frame. */
struct amqp_method;
struct amqp_content;
enum amqp_written amqp_put_method_frame(struct amqp_out *out, uint16_t channel,
                                        const struct amqp_method *method);
enum amqp_written amqp_put_content_frame(struct amqp_out *out, uint16_t channel,
                                         const struct amqp_content *content);
enum amqp_written amqp_put_body_frame(struct amqp_out *out, uint16_t channel, struct slice body);
enum amqp_written amqp_put_heartbeat(struct amqp_out *out);

/* ---- methods ------------------------------------------------------------------------------------------------- */

#define AMQP_ID(class, method) ((uint32_t)(class) << 16 | (method))

enum amqp_method_id {
    AMQP_CONNECTION_START = AMQP_ID(10, 10),
    AMQP_CONNECTION_START_OK = AMQP_ID(10, 11),
    AMQP_CONNECTION_SECURE = AMQP_ID(10, 20),
    AMQP_CONNECTION_SECURE_OK = AMQP_ID(10, 21),
    AMQP_CONNECTION_TUNE = AMQP_ID(10, 30),
    AMQP_CONNECTION_TUNE_OK = AMQP_ID(10, 31),
    AMQP_CONNECTION_OPEN = AMQP_ID(10, 40),
    AMQP_CONNECTION_OPEN_OK = AMQP_ID(10, 41),
    AMQP_CONNECTION_CLOSE = AMQP_ID(10, 50),
    AMQP_CONNECTION_CLOSE_OK = AMQP_ID(10, 51),
    AMQP_CONNECTION_BLOCKED = AMQP_ID(10, 60),
    AMQP_CONNECTION_UNBLOCKED = AMQP_ID(10, 61),
    AMQP_CONNECTION_UPDATE_SECRET = AMQP_ID(10, 70),
    AMQP_CONNECTION_UPDATE_SECRET_OK = AMQP_ID(10, 71),
    AMQP_CHANNEL_OPEN = AMQP_ID(20, 10),
    AMQP_CHANNEL_OPEN_OK = AMQP_ID(20, 11),
    AMQP_CHANNEL_FLOW = AMQP_ID(20, 20),
    AMQP_CHANNEL_FLOW_OK = AMQP_ID(20, 21),
    AMQP_CHANNEL_CLOSE = AMQP_ID(20, 40),
    AMQP_CHANNEL_CLOSE_OK = AMQP_ID(20, 41),
    AMQP_ACCESS_REQUEST = AMQP_ID(30, 10),
    AMQP_ACCESS_REQUEST_OK = AMQP_ID(30, 11),
    AMQP_EXCHANGE_DECLARE = AMQP_ID(40, 10),
    AMQP_EXCHANGE_DECLARE_OK = AMQP_ID(40, 11),
    AMQP_EXCHANGE_DELETE = AMQP_ID(40, 20),
    AMQP_EXCHANGE_DELETE_OK = AMQP_ID(40, 21),
    AMQP_EXCHANGE_BIND = AMQP_ID(40, 30),
    AMQP_EXCHANGE_BIND_OK = AMQP_ID(40, 31),
    AMQP_EXCHANGE_UNBIND = AMQP_ID(40, 40),
    AMQP_EXCHANGE_UNBIND_OK = AMQP_ID(40, 51), /* 51, not 41 */
    AMQP_QUEUE_DECLARE = AMQP_ID(50, 10),
    AMQP_QUEUE_DECLARE_OK = AMQP_ID(50, 11),
    AMQP_QUEUE_BIND = AMQP_ID(50, 20),
    AMQP_QUEUE_BIND_OK = AMQP_ID(50, 21),
    AMQP_QUEUE_PURGE = AMQP_ID(50, 30),
    AMQP_QUEUE_PURGE_OK = AMQP_ID(50, 31),
    AMQP_QUEUE_DELETE = AMQP_ID(50, 40),
    AMQP_QUEUE_DELETE_OK = AMQP_ID(50, 41),
    AMQP_QUEUE_UNBIND = AMQP_ID(50, 50),
    AMQP_QUEUE_UNBIND_OK = AMQP_ID(50, 51),
    AMQP_BASIC_QOS = AMQP_ID(60, 10),
    AMQP_BASIC_QOS_OK = AMQP_ID(60, 11),
    AMQP_BASIC_CONSUME = AMQP_ID(60, 20),
    AMQP_BASIC_CONSUME_OK = AMQP_ID(60, 21),
    AMQP_BASIC_CANCEL = AMQP_ID(60, 30),
    AMQP_BASIC_CANCEL_OK = AMQP_ID(60, 31),
    AMQP_BASIC_PUBLISH = AMQP_ID(60, 40),
    AMQP_BASIC_RETURN = AMQP_ID(60, 50),
    AMQP_BASIC_DELIVER = AMQP_ID(60, 60),
    AMQP_BASIC_GET = AMQP_ID(60, 70),
    AMQP_BASIC_GET_OK = AMQP_ID(60, 71),
    AMQP_BASIC_GET_EMPTY = AMQP_ID(60, 72),
    AMQP_BASIC_ACK = AMQP_ID(60, 80),
    AMQP_BASIC_REJECT = AMQP_ID(60, 90),
    AMQP_BASIC_RECOVER_ASYNC = AMQP_ID(60, 100),
    AMQP_BASIC_RECOVER = AMQP_ID(60, 110),
    AMQP_BASIC_RECOVER_OK = AMQP_ID(60, 111),
    AMQP_BASIC_NACK = AMQP_ID(60, 120),
    AMQP_CONFIRM_SELECT = AMQP_ID(85, 10),
    AMQP_CONFIRM_SELECT_OK = AMQP_ID(85, 11),
    AMQP_TX_SELECT = AMQP_ID(90, 10),
    AMQP_TX_SELECT_OK = AMQP_ID(90, 11),
    AMQP_TX_COMMIT = AMQP_ID(90, 20),
    AMQP_TX_COMMIT_OK = AMQP_ID(90, 21),
    AMQP_TX_ROLLBACK = AMQP_ID(90, 30),
    AMQP_TX_ROLLBACK_OK = AMQP_ID(90, 31),
};

/* A method with its arguments, under the specification's names; those that a method does not have stay zero. Slices
 * borrow the frame. What the specification keeps for nothing is not here: it is passed over, and written as zero. */
struct amqp_method {
    enum amqp_method_id id;
    uint64_t delivery_tag;
    uint32_t frame_max, prefetch_size, message_count, consumer_count;
    uint16_t reply_code, class_id, method_id, channel_max, heartbeat, prefetch_count, ticket;
    uint8_t version_major, version_minor;
    struct slice
        table; /* arguments, or a peer's properties: without its length, its items not yet looked at */
    struct slice exchange, queue, routing_key, consumer_tag;
    struct slice destination;                            /* of exchange.bind; its source is exchange */
    struct slice type;                                   /* of an exchange */
    struct slice mechanism, locale, response, challenge; /* mechanism, locale: of start lists with spaces */
    struct slice virtual_host, reply_text, reason, secret, realm;
    bool passive, durable, auto_delete, internal, exclusive, no_wait, if_unused, if_empty;
    bool no_local, no_ack, mandatory, immediate, redelivered, multiple, requeue, global, active, write, read;
};

/* Of a method frame's payload: AMQP_OK, or AMQP_BAD, and *why a constant string, when it is not exactly one method. Then
 * method->id is set all the same where it could be read, also of a method that is not known; nothing else of *method is
 * to be looked at. */
enum amqp_result amqp_take_method(struct slice payload, struct amqp_method *method, const char **why);
/* Writes the payload; the method is known. A short string that may be over 255 bytes goes through amqp_clip first. */
void amqp_put_method(struct amqp_out *out, const struct amqp_method *method);
/* "basic.publish"; NULL: it is not known. */
const char *amqp_method_name(uint32_t id);

/* Whether a content header, and a body, follow it. */
static inline bool amqp_method_has_content(uint32_t id)
{
    return id == AMQP_BASIC_PUBLISH || id == AMQP_BASIC_DELIVER || id == AMQP_BASIC_GET_OK ||
           id == AMQP_BASIC_RETURN;
}

/* ---- content headers ----------------------------------------------------------------------------------------- */

/* By the bit of its flag. */
enum amqp_property {
    AMQP_CONTENT_TYPE = 15,
    AMQP_CONTENT_ENCODING = 14,
    AMQP_HEADERS = 13,
    AMQP_DELIVERY_MODE = 12,
    AMQP_PRIORITY = 11,
    AMQP_CORRELATION_ID = 10,
    AMQP_REPLY_TO = 9,
    AMQP_EXPIRATION = 8,
    AMQP_MESSAGE_ID = 7,
    AMQP_TIMESTAMP = 6,
    AMQP_TYPE = 5,
    AMQP_USER_ID = 4,
    AMQP_APP_ID = 3,
    AMQP_CLUSTER_ID = 2,
};

/* The others are a table, two octets and a time. */
static inline bool amqp_property_is_text(enum amqp_property property)
{
    return property != AMQP_HEADERS && property != AMQP_DELIVERY_MODE && property != AMQP_PRIORITY &&
           property != AMQP_TIMESTAMP;
}

struct amqp_content {
    uint64_t body_bytes;
    uint16_t flags; /* 1 << property: it is there */
    uint8_t delivery_mode, priority;
    uint64_t timestamp;     /* seconds */
    struct slice headers;   /* a table, without its length, its items not yet looked at */
    struct slice texts[16]; /* by property: the short strings */
};

static inline bool amqp_content_has(const struct amqp_content *content, enum amqp_property property)
{
    return content->flags >> property & 1;
}

/* Change what is there before it is written again: the other properties stay as they were taken. */
static inline void amqp_content_drop(struct amqp_content *content, enum amqp_property property)
{
    content->flags &= (uint16_t) ~(1u << property);
}

static inline void amqp_content_set_text(struct amqp_content *content, enum amqp_property property,
                                         struct slice text)
{
    assert(amqp_property_is_text(property));
    content->flags |= (uint16_t)(1u << property);
    content->texts[property] = text;
}

static inline void amqp_content_set_headers(struct amqp_content *content, struct slice table)
{
    content->flags |= 1u << AMQP_HEADERS;
    content->headers = table;
}

/* Class, weight and size: a payload with less is no content header. */
#define AMQP_CONTENT_LEAST 12

/* Of a content header frame's payload: what amqp_take_method is to methods. Flags for a second list of properties, which
 * no class has, are refused. */
enum amqp_result amqp_take_content(struct slice payload, struct amqp_content *content, const char **why);
void amqp_put_content(struct amqp_out *out, const struct amqp_content *content);

/* ---- reply codes --------------------------------------------------------------------------------------------- */

enum amqp_reply {
    AMQP_SUCCESS = 200,
    AMQP_CONTENT_TOO_LARGE = 311,
    AMQP_NO_ROUTE = 312,
    AMQP_NO_CONSUMERS = 313,
    AMQP_CONNECTION_FORCED = 320,
    AMQP_INVALID_PATH = 402,
    AMQP_ACCESS_REFUSED = 403,
    AMQP_NOT_FOUND = 404,
    AMQP_RESOURCE_LOCKED = 405,
    AMQP_PRECONDITION_FAILED = 406,
    AMQP_FRAME_ERROR = 501,
    AMQP_SYNTAX_ERROR = 502,
    AMQP_COMMAND_INVALID = 503,
    AMQP_CHANNEL_ERROR = 504,
    AMQP_UNEXPECTED_FRAME = 505,
    AMQP_RESOURCE_ERROR = 506,
    AMQP_NOT_ALLOWED = 530,
    AMQP_NOT_IMPLEMENTED = 540,
    AMQP_INTERNAL_ERROR = 541,
};

/* What an error of that code ends; one on channel 0 ends the connection, whatever its code. */
enum amqp_reply_scope {
    AMQP_ENDS_NOTHING, /* 200, and what stands in basic.return */
    AMQP_ENDS_CHANNEL,
    AMQP_ENDS_CONNECTION,
};

/* "NOT_FOUND", as reply texts begin; NULL: it is not known. */
const char *amqp_reply_name(unsigned code);
/* Of a code that is not known: the connection. */
enum amqp_reply_scope amqp_reply_scope(unsigned code);

/* As much of a text as a short string holds, without half a character of UTF-8 at its end. */
struct slice amqp_clip(struct slice text);

#endif
