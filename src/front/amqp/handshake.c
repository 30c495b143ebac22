/* handshake.c - from the first byte to an open connection. See private.h. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/amqp/private.h"

#define PROPERTIES_MAX 1024
/* Whose dialect is spoken: clients choose by it what basic.qos means, and more. What answers them is the platform. */
#define SPOKEN_PRODUCT "RabbitMQ"
#define SPOKEN_VERSION "3.10.8"
/* What RabbitMQ's clients look at: there is none of it that maitred has not. */
static const char *const capabilities[] = {
    "publisher_confirms",           "exchange_exchange_bindings", "basic.nack",
    "consumer_cancel_notify",       "connection.blocked",         "consumer_priorities",
    "authentication_failure_close", "per_consumer_qos",           "direct_reply_to",
};

/* ---- what each side says of itself ------------------------------------------------------------------------------- */

static void put_text(struct amqp_out *out, const char *name, const char *text)
{
    amqp_table_put(out, &(struct amqp_value){.name = slice_from_text(name),
                                             .type = AMQP_TEXT,
                                             .letter = 'S',
                                             .bytes = slice_from_text(text)});
}

static struct slice put_properties(char *block, size_t room)
{
    struct amqp_out out = amqp_out_of(block, room);
    char *nested = amqp_table_begin(&out, SLICE("capabilities"), AMQP_TABLE);

    for (size_t i = 0; i < sizeof capabilities / sizeof capabilities[0]; i++)
        amqp_table_put(&out, &(struct amqp_value){.name = slice_from_text(capabilities[i]),
                                                  .type = AMQP_BOOL,
                                                  .letter = 't',
                                                  .truth = true});
    amqp_nested_end(&out, nested);
    put_text(&out, "cluster_name", "maitred");
    put_text(&out, "product", SPOKEN_PRODUCT);
    put_text(&out, "version", SPOKEN_VERSION);
    put_text(&out, "platform", "maitred " MAITRED_VERSION);
    put_text(&out, "copyright", "Copyright (c) 2026 The maitred authors; MIT licence");
    put_text(&out, "information", "AMQP 0-9-1 as RabbitMQ 3 speaks it");
    return amqp_out_close(&out, block) == AMQP_WRITTEN ? slice_of(block, (size_t)(out.at - block))
                                                       : SLICE("");
}

static bool has_capability(struct slice table, const char *name)
{
    struct amqp_value value;

    return amqp_table_find(table, slice_from_text(name), &value) && value.type == AMQP_BOOL && value.truth;
}

/* Of a client's properties, which are kept for whoever looks at connections. */
static int take_properties(struct amqp_connection *c, struct slice table)
{
    struct amqp_value value;
    char *copy;

    if (!amqp_table_is_valid(table))
        return -EPROTO;
    copy = malloc(table.len + 1);
    if (!copy)
        return -ENOMEM;
    if (table.len)
        memcpy(copy, table.ptr, table.len);
    c->client_properties = slice_of(copy, table.len);
    if (!amqp_table_find(table, SLICE("capabilities"), &value) || value.type != AMQP_TABLE)
        return 0;
    c->tells_failure = has_capability(value.bytes, "authentication_failure_close");
    c->takes_cancel = has_capability(value.bytes, "consumer_cancel_notify");
    c->takes_blocked = has_capability(value.bytes, "connection.blocked");
    return 0;
}

/* ---- one step after the other ------------------------------------------------------------------------------------ */

/* The next method, which has to be this one; on the way to it heartbeats are passed over. */
static int expect(struct amqp_connection *c, enum amqp_method_id id, struct amqp_method *method,
                  uint64_t deadline_us)
{
    struct amqp_frame frame;
    const char *why = "";
    int error;

    do {
        error = amqp_next_frame(c, &frame, deadline_us);
    } while (!error && frame.type == AMQP_HEARTBEAT);
    if (error)
        return error;
    if (frame.type != AMQP_METHOD || frame.channel != 0 ||
        amqp_take_method(frame.payload, method, &why) != AMQP_OK) {
        amqp_fail_connection(c, AMQP_COMMAND_INVALID, 0, "expected %s", amqp_method_name(id));
        return -EPROTO;
    }
    if (method->id == AMQP_CONNECTION_CLOSE) {
        amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_CLOSE_OK});
        return -ECONNRESET;
    }
    if (method->id == id)
        return 0;
    amqp_fail_connection(c, AMQP_COMMAND_INVALID, method->id, "expected %s, got %s", amqp_method_name(id),
                         amqp_method_name(method->id));
    return -EPROTO;
}

/* Anything but AMQP 0-9-1 hears what is spoken here. */
static int take_header(struct amqp_connection *c, uint64_t deadline_us)
{
    int error = 0;

    for (;;) {
        struct slice in = c->block ? slice_of(c->block->bytes + c->at, c->block->len - c->at) : SLICE("");

        switch (amqp_take_header(&in)) {
        case AMQP_HEADER_OK:
            c->at += AMQP_HEADER_BYTES;
            return 0;
        case AMQP_HEADER_MORE:
            error = amqp_need_bytes(c, in.len + 1, deadline_us);
            if (error)
                return error;
            break;
        case AMQP_HEADER_VERSION:
        case AMQP_HEADER_BAD:
            stream_write_all(&c->stream, amqp_header, AMQP_HEADER_BYTES, deadline_us);
            return -EPROTONOSUPPORT;
        }
    }
}

/* NUL name NUL password. */
static bool take_plain(struct slice response, struct slice *name, struct slice *password)
{
    size_t n;

    if (!response.len || response.ptr[0] != '\0')
        return false;
    slice_drop(&response, 1);
    n = slice_find(response, '\0');
    if (n == response.len)
        return false;
    *name = slice_take(&response, n);
    slice_drop(&response, 1);
    *password = response;
    return true;
}

/* A table without its length. */
static bool take_amqplain(struct slice response, struct slice *name, struct slice *password)
{
    struct amqp_value login, secret;

    if (!amqp_table_is_valid(response) || !amqp_table_find(response, SLICE("LOGIN"), &login) ||
        !amqp_table_find(response, SLICE("PASSWORD"), &secret) || login.type != AMQP_TEXT ||
        secret.type != AMQP_TEXT)
        return false;
    *name = login.bytes;
    *password = secret.bytes;
    return true;
}

static int refuse_login(struct amqp_connection *c, struct slice mechanism, struct slice name, const char *why)
{
    char text[INET6_ADDRSTRLEN];
    struct ip ip = ip_from_endpoint(&c->client.peer);
    size_t n = ip_text(&ip, text);

    log_line(LOG_WARNING, "amqp: login of %.*s from %.*s refused: %s", SLICE_ARG(name), (int)n, text, why);
    if (c->tells_failure)
        amqp_fail_connection(c, AMQP_ACCESS_REFUSED, 0,
                             "Login was refused using authentication mechanism %.*s. For details see the "
                             "broker logfile.",
                             SLICE_ARG(mechanism));
    return c->tells_failure ? -EPROTO : -EACCES;
}

static int log_in(struct amqp_connection *c, const struct amqp_method *method, uint64_t deadline_us)
{
    struct slice name = SLICE(""), password = SLICE("");
    enum access_result result;
    struct ip from = ip_from_endpoint(&c->client.peer);
    bool read = false;

    c->mechanism = slice_equal(method->mechanism, SLICE("PLAIN")) ? "PLAIN" : "AMQPLAIN";
    if (slice_equal(method->mechanism, SLICE("PLAIN")))
        read = take_plain(method->response, &name, &password);
    else if (slice_equal(method->mechanism, SLICE("AMQPLAIN")))
        read = take_amqplain(method->response, &name, &password);
    else
        return refuse_login(c, method->mechanism, SLICE("a client"), "the mechanism is not known");
    if (!read || name.len >= sizeof c->user_name)
        return refuse_login(c, method->mechanism, SLICE("a client"), "the response cannot be read");
    if (amqp_pass_log_in(c, name, password)) {
        memcpy(c->user_name, name.ptr, name.len);
        return 0;
    }
    result = access_login(amqp_access(c), name, password, &from, deadline_us, &c->user);
    if (result != ACCESS_GRANTED)
        return refuse_login(c, method->mechanism, name, access_result_text(result));
    memcpy(c->user_name, name.ptr, name.len);
    c->looked = 0;
    return 0;
}

/* A client's choice: not over what was offered, and not below what makes sense. */
static bool is_agreed(struct amqp_connection *c, const char *what, unsigned offered, unsigned chosen,
                      unsigned least)
{
    if (chosen && chosen < least)
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, AMQP_CONNECTION_TUNE_OK,
                             "negotiated %s = %u is lower than the minimum allowed value (%u)", what, chosen,
                             least);
    else if (!chosen || chosen > offered)
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, AMQP_CONNECTION_TUNE_OK,
                             "negotiated %s = %u is higher than the maximum allowed value (%u)", what, chosen,
                             offered);
    else
        return true;
    return false;
}

static int tune(struct amqp_connection *c, const struct config_amqp *config, uint64_t deadline_us)
{
    struct amqp_method method = {
        .id = AMQP_CONNECTION_TUNE,
        .channel_max = (uint16_t)config->channel_max,
        .frame_max = (uint32_t)config->frame_max,
        .heartbeat = (uint16_t)(config->heartbeat_us / US_PER_S),
    };
    int error;

    amqp_send(c, 0, &method);
    c->frame_max = (uint32_t)config->frame_max;
    error = expect(c, AMQP_CONNECTION_TUNE_OK, &method, deadline_us);
    if (error)
        return error;
    if (!is_agreed(c, "channel_max", config->channel_max, method.channel_max, 1) ||
        !is_agreed(c, "frame_max", (unsigned)config->frame_max, method.frame_max, AMQP_FRAME_MIN))
        return -EPROTO;
    c->channel_max = method.channel_max;
    c->frame_max = method.frame_max;
    c->heartbeat_us = method.heartbeat * US_PER_S;
    return 0;
}

/* Names in the default virtual host are as they are; in others they have its name before them. */
static int set_virtual_host(struct amqp_connection *c, struct slice name)
{
    char *copy = malloc(name.len + 2);

    if (!copy)
        return -ENOMEM;
    memcpy(copy, name.ptr, name.len);
    copy[name.len] = copy[name.len + 1] = '\0';
    c->virtual_host = copy;
    c->prefix = slice_equal(name, SLICE("/")) ? SLICE("") : slice_of(copy, name.len + 1);
    return 0;
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int open_virtual_host(struct amqp_connection *c, uint64_t deadline_us)
{
    struct amqp_method method;
    int error = expect(c, AMQP_CONNECTION_OPEN, &method, deadline_us);

    if (error)
        return error;
    if (c->pass ? !slice_equal(method.virtual_host, SLICE("/"))
                : !amqp_has_virtual_host(c, method.virtual_host)) {
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, method.id, "vhost %.*s not found",
                             SLICE_ARG(method.virtual_host));
        return -EPROTO;
    }
    if (!c->pass && !access_vhost(amqp_user(c), method.virtual_host)) {
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, method.id, "access to vhost '%.*s' refused for user '%s'",
                             SLICE_ARG(method.virtual_host), c->user_name);
        return -EPROTO;
    }
    error = set_virtual_host(c, method.virtual_host);
    if (!error)
        error = amqp_session_open(c);
    if (!error && !(c->key = queue_port_key(c->port)))
        error = -ENOMEM;
    if (error)
        return error;
    c->message_max = least(amqp_config(c)->max_message, queue_body_max(c->port)); /* the log is open now */
    c->stored_from = queue_stored_from(c->port);
    amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_OPEN_OK});
    return 0;
}

static int start(struct amqp_connection *c, uint64_t deadline_us)
{
    char block[PROPERTIES_MAX];
    struct amqp_method method = {
        .id = AMQP_CONNECTION_START,
        .version_major = 0,
        .version_minor = 9,
        .table = put_properties(block, sizeof block),
        .mechanism = SLICE("PLAIN AMQPLAIN"),
        .locale = SLICE("en_US"),
    };
    int error;

    amqp_send(c, 0, &method);
    error = expect(c, AMQP_CONNECTION_START_OK, &method, deadline_us);
    if (!error)
        error = take_properties(c, method.table);
    return error ? error : log_in(c, &method, deadline_us);
}

int amqp_shake_hands(struct amqp_connection *c)
{
    const struct config_amqp *config = amqp_config(c);
    uint64_t deadline_us = loop_deadline(config->handshake_timeout_us);
    int error = take_header(c, deadline_us);

    if (error)
        return error;
    c->writer = fiber_spawn("amqp writer", amqp_writer_main, c);
    if (!c->writer)
        return -ENOMEM;
    c->port = c->scene->port;
    error = start(c, deadline_us);
    if (!error)
        error = tune(c, config, deadline_us);
    if (!error)
        error = open_virtual_host(c, deadline_us);
    if (error == -EPROTO && c->state == AMQP_STATE_CLOSING)
        amqp_wait_closed(c);
    return error;
}
