/* messages.c - messages that are published and taken over the management interface, to look at what a queue does. See private.h. */
#include <errno.h>
#include <stdlib.h>

#include "admin/management/private.h"

/* A table is tried in rooms of these sizes. */
static const size_t rooms[] = {1024, 16384, 262144};

#define N_ROOMS (sizeof rooms / sizeof rooms[0])

/* ---- tables ------------------------------------------------------------------------------------------------------ */

struct slice table_of_json(const json_t *object, char **owned)
{
    bool is_empty = !object || json_is_null(object) || (json_is_array(object) && !json_array_size(object));

    *owned = NULL;
    if (is_empty)
        return SLICE("");
    if (!json_is_object(object))
        return (struct slice){0};
    for (size_t i = 0; i < N_ROOMS; i++) {
        char *block = malloc(rooms[i]);
        struct amqp_out out;
        enum amqp_written written;

        if (!block)
            break;
        out = amqp_out_of(block, rooms[i]);
        if (terms_put_table(&out, object))
            written = amqp_out_close(&out, block);
        else
            written = AMQP_TOO_LONG;
        if (written == AMQP_WRITTEN) {
            *owned = block;
            return slice_of(block, (size_t)(out.at - block));
        }
        free(block);
        if (written != AMQP_FULL)
            break;
    }
    return (struct slice){0};
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

/* Properties in memory that *owned gets. False: the call is answered. */
static bool take_properties(struct management_call *call, struct amqp_content *content, char **owned)
{
    const json_t *given = json_object_get(call->body, "properties");
    const char *wrong = NULL;
    bool written = false;

    *content = (struct amqp_content){0};
    for (size_t i = 0; i < N_ROOMS && !written; i++) {
        struct amqp_out out;

        free(*owned);
        *owned = malloc(rooms[i]);
        if (!*owned) {
            management_refuse_error(call, -ENOMEM);
            return false;
        }
        out = amqp_out_of(*owned, rooms[i]);
        *content = (struct amqp_content){0};
        wrong = terms_take_properties(given, content, &out);
        written = !wrong;
    }
    if (wrong)
        management_refuse(call, 400, "bad_request", "the property %s makes no sense", wrong);
    return !wrong;
}

/* The payload as bytes; *owned: to be freed. ptr NULL: the call is answered. */
static struct slice take_payload(struct management_call *call, char **owned)
{
    struct slice payload = terms_get(call->body, "payload");
    struct slice encoding = terms_get(call->body, "payload_encoding");

    *owned = NULL;
    if (slice_equal(encoding, SLICE("string")))
        return payload;
    if (!slice_equal(encoding, SLICE("base64"))) {
        management_refuse(call, 400, "bad_request", "payload_encoding is string or base64");
        return (struct slice){0};
    }
    payload = terms_from_base64(payload);
    *owned = (char *)(uintptr_t)payload.ptr;
    if (!payload.ptr)
        management_refuse(call, 400, "bad_request", "the payload is no base64");
    return payload;
}

static bool has_keys(struct management_call *call, const char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!json_object_get(call->body, names[i])) {
            management_refuse(call, 400, "bad_request", "[{key_missing,%s}]", names[i]);
            return false;
        }
    return true;
}

static json_t *routed_json(bool routed)
{
    json_t *o = json_object();

    terms_put(o, "routed", json_boolean(routed));
    return o;
}

/* A client of RabbitMQ's hears of what ends its channel, and so says the code of AMQP, too. */
static void answer_published(struct management_call *call, int error, const struct amqp_outcome *outcome)
{
    if (!error && (outcome->code == AMQP_NOT_FOUND || outcome->code == AMQP_PRECONDITION_FAILED))
        management_refuse(call, 400, "bad_request", "%u %s - %s", (unsigned)outcome->code,
                          amqp_reply_name(outcome->code), outcome->text);
    else if (!management_refuse_outcome(call, error, outcome))
        management_answer(call, routed_json(outcome->routed));
}

void message_publish(struct management_call *call)
{
    static const char *const needed[] = {"properties", "routing_key", "payload", "payload_encoding"};
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct slice exchange = call->args[1], payload;
    char *decoded = NULL, *table = NULL;
    struct amqp_content content;
    struct amqp_outcome outcome;
    int error;

    if (!has_keys(call, needed, sizeof needed / sizeof needed[0]))
        return;
    if (slice_equal(exchange, SLICE("amq.default")))
        exchange = SLICE("");
    payload = take_payload(call, &decoded);
    if (payload.ptr && take_properties(call, &content, &table)) {
        struct slice key = terms_get(call->body, "routing_key");

        error = amqp_publish_by_hand(&who, exchange, key.ptr ? key : SLICE(""), &content, payload, &outcome);
        answer_published(call, error, &outcome);
    } else if (!payload.ptr && !decoded &&
               slice_equal(terms_get(call->body, "payload_encoding"), SLICE("string"))) {
        management_refuse(call, 400, "bad_request", "the payload is a text");
    }
    free(decoded);
    free(table);
}

/* ---- taking ------------------------------------------------------------------------------------------------------ */

struct getting {
    json_t *messages;
    bool as_base64; /* whatever it is; else as a text where it is one */
    uint64_t truncate;
};

/* cut: it goes on, and may end within a character. */
static bool is_text(struct slice body, bool cut)
{
    bool text = terms_is_utf8(body);

    for (int i = 0; i < 3 && !text && cut && body.len; i++) {
        body.len--;
        text = terms_is_utf8(body);
    }
    return text;
}

static void put_payload(json_t *o, const struct getting *g, const struct amqp_taken *taken)
{
    struct slice body = taken->body;
    bool as_text = !g->as_base64 && is_text(body, body.len < taken->body_bytes);
    struct slice encoded;

    terms_put(o, "payload_bytes", json_integer((json_int_t)taken->body_bytes));
    if (body.len > g->truncate)
        body.len = (size_t)g->truncate;
    if (as_text) {
        while (!terms_is_utf8(body)) /* cut within a character */
            body.len--;
        terms_put(o, "payload", terms_text(body));
    } else {
        encoded = terms_to_base64(body);
        terms_put(o, "payload", terms_text(encoded));
        free((char *)(uintptr_t)encoded.ptr);
    }
    terms_put(o, "payload_encoding", json_string(as_text ? "string" : "base64"));
}

static void add_message(void *arg, const struct amqp_taken *taken)
{
    struct getting *g = arg;
    json_t *o = json_object();

    terms_put(o, "redelivered", json_boolean(taken->redelivered));
    terms_put(o, "exchange", terms_text(taken->exchange));
    terms_put(o, "routing_key", terms_text(taken->routing_key));
    terms_put(o, "message_count", json_integer((json_int_t)taken->left));
    terms_put(o, "properties", terms_of_properties(&taken->content));
    put_payload(o, g, taken);
    json_array_append_new(g->messages, o);
}

/* A whole number, also as a text. */
static bool take_count(const json_t *value, uint64_t *count)
{
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        *count = (uint64_t)json_integer_value(value);
    else
        return json_is_string(value) &&
               slice_to_u64(slice_of(json_string_value(value), json_string_length(value)), count);
    return true;
}

static bool take_mode(struct slice text, enum amqp_taking *taking)
{
    static const struct {
        const char *name;
        enum amqp_taking taking;
    } modes[] = {
        {"ack_requeue_true", AMQP_TAKE_BACK},
        {"reject_requeue_true", AMQP_TAKE_BACK},
        {"ack_requeue_false", AMQP_TAKE_AWAY},
        {"reject_requeue_false", AMQP_TAKE_REJECT},
    };

    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++)
        if (slice_equal(text, slice_from_text(modes[i].name))) {
            *taking = modes[i].taking;
            return true;
        }
    return false;
}

static bool read_getting(struct management_call *call, struct getting *g, uint64_t *count,
                         enum amqp_taking *taking)
{
    static const char *const needed[] = {"count", "ackmode", "encoding"};
    struct slice encoding = terms_get(call->body, "encoding");
    const json_t *truncate = json_object_get(call->body, "truncate");

    if (!has_keys(call, needed, sizeof needed / sizeof needed[0]))
        return false;
    g->truncate = UINT64_MAX;
    g->as_base64 = slice_equal(encoding, SLICE("base64"));
    if (!take_count(json_object_get(call->body, "count"), count) || *count > UINT32_MAX)
        management_refuse(call, 400, "bad_request", "count is how many messages at most");
    else if (!take_mode(terms_get(call->body, "ackmode"), taking))
        management_refuse(call, 400, "bad_request",
                          "ackmode is ack_requeue_true, ack_requeue_false, reject_requeue_true or "
                          "reject_requeue_false");
    else if (!g->as_base64 && !slice_equal(encoding, SLICE("auto")))
        management_refuse(call, 400, "bad_request", "encoding is auto or base64");
    else if (truncate && !take_count(truncate, &g->truncate))
        management_refuse(call, 400, "bad_request", "truncate is a number of bytes");
    else
        return true;
    return false;
}

void messages_get(struct management_call *call)
{
    struct amqp_operator who = management_operator(call, call->args[0]);
    enum amqp_taking taking = AMQP_TAKE_BACK;
    struct getting g = {0};
    struct amqp_outcome outcome;
    uint64_t count = 0;
    int error;

    if (!read_getting(call, &g, &count, &taking))
        return;
    g.messages = json_array();
    error = amqp_take_by_hand(&who, call->args[1], taking, (unsigned)count, g.truncate, add_message, &g,
                              &outcome);
    if (management_refuse_outcome(call, error, &outcome))
        json_decref(g.messages);
    else
        management_answer(call, g.messages);
}

/* ---- a message there and back ------------------------------------------------------------------------------------ */

static json_t *status_json(const char *status)
{
    json_t *o = json_object();

    terms_put(o, "status", json_string(status));
    return o;
}

/* One that is published to a queue of its own, and taken again. */
void aliveness_serve(struct management_call *call)
{
    struct slice queue = SLICE("aliveness-test");
    struct amqp_operator who = management_operator(call, call->args[0]);
    struct amqp_content content = {0};
    struct getting g = {.messages = json_array(), .truncate = 64};
    struct amqp_outcome outcome;
    int error = amqp_operate(&who, &(struct amqp_method){.id = AMQP_QUEUE_DECLARE, .queue = queue}, &outcome);

    if (!error && outcome.code == AMQP_SUCCESS)
        error = amqp_publish_by_hand(&who, SLICE(""), queue, &content, SLICE("test_message"), &outcome);
    if (!error && outcome.code == AMQP_SUCCESS)
        error = amqp_take_by_hand(&who, queue, AMQP_TAKE_AWAY, 1, UINT64_MAX, add_message, &g, &outcome);
    if (!management_refuse_outcome(call, error, &outcome))
        management_answer(call, status_json(json_array_size(g.messages) == 1 ? "ok" : "failed"));
    json_decref(g.messages);
}
