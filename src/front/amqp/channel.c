/* channel.c - channels, and which method does what. See private.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/amqp/private.h"

/* ---- channels ---------------------------------------------------------------------------------------------------- */

struct amqp_channel *amqp_channel_find(const struct amqp_connection *c, uint16_t number)
{
    return number < c->n_channel_places ? c->channels[number] : NULL;
}

/* A place for its number. False: no memory. */
static bool make_place(struct amqp_connection *c, uint16_t number)
{
    unsigned n = c->n_channel_places ? c->n_channel_places : 4;
    struct amqp_channel **channels;

    if (number < c->n_channel_places)
        return true;
    while (n <= number)
        n *= 2;
    channels = realloc(c->channels, n * sizeof(struct amqp_channel *));
    if (!channels)
        return false;
    memset(channels + c->n_channel_places, 0, (n - c->n_channel_places) * sizeof(struct amqp_channel *));
    c->channels = channels;
    c->n_channel_places = n;
    return true;
}

static void open_channel(struct amqp_connection *c, uint16_t number)
{
    static uint64_t generations;
    struct amqp_channel *channel;

    if (number > c->channel_max) {
        amqp_fail_connection(c, AMQP_CHANNEL_ERROR, AMQP_CHANNEL_OPEN,
                             "number of channel %u is greater than the negotiated channel_max (%u)", number,
                             c->channel_max);
        return;
    }
    channel = make_place(c, number) ? calloc(1, sizeof *channel) : NULL;
    if (!channel) {
        amqp_drop_connection(c, "no memory");
        return;
    }
    channel->connection = c;
    channel->number = number;
    channel->generation = __atomic_add_fetch(&generations, 1, __ATOMIC_RELAXED);
    channel->next_tag = 1;
    channel->opened_us = loop_now_us();
    list_init(&channel->consumers);
    c->channels[number] = channel;
    c->n_channels++;
    amqp_send(c, number, &(struct amqp_method){.id = AMQP_CHANNEL_OPEN_OK});
}

/* What it has at the broker and under way, but not its number. */
static void give_up(struct amqp_channel *channel)
{
    amqp_publish_abandon(channel);
    amqp_consumers_end(channel);
    if (channel->transaction)
        amqp_batch_free(channel->transaction);
    channel->transaction = NULL;
}

void amqp_channel_free(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;

    give_up(channel);
    c->channels[channel->number] = NULL;
    c->n_channels--;
    free(channel->unacked);
    free(channel->mark);
    free(channel);
}

void amqp_fail(struct amqp_channel *channel, enum amqp_reply code, uint32_t method, const char *format, ...)
{
    struct amqp_connection *c = channel->connection;
    char text[AMQP_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%s - ", amqp_reply_name(code));
    va_list arguments;

    if (channel->state == CHANNEL_CLOSING || c->state != AMQP_STATE_OPEN)
        return;
    va_start(arguments, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, arguments);
    va_end(arguments);
    if (amqp_reply_scope(code) != AMQP_ENDS_CHANNEL) {
        amqp_fail_connection(c, code, method, "%s", text + n);
        return;
    }
    log_line(LOG_INFO, "amqp: channel %u of connection %llu of %s is closed: %s", channel->number,
             (unsigned long long)c->number, c->user_name, text);
    channel->state = CHANNEL_CLOSING;
    give_up(channel);
    amqp_send(c, channel->number,
              &(struct amqp_method){
                  .id = AMQP_CHANNEL_CLOSE,
                  .reply_code = (uint16_t)code,
                  .reply_text = amqp_clip(slice_from_text(text)),
                  .class_id = (uint16_t)(method >> 16),
                  .method_id = (uint16_t)method,
              });
}

/* ---- methods ----------------------------------------------------------------------------------------------------- */

static void not_implemented(struct amqp_channel *channel, const struct amqp_method *method)
{
    amqp_fail_connection(channel->connection, AMQP_NOT_IMPLEMENTED, method->id, "%s",
                         amqp_method_name(method->id));
}

static void flow(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!method->active)
        amqp_fail_connection(channel->connection, AMQP_NOT_IMPLEMENTED, method->id, "active=false");
    else
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = AMQP_CHANNEL_FLOW_OK, .active = true});
}

static void close_channel(struct amqp_channel *channel)
{
    struct amqp_connection *c = channel->connection;
    uint16_t number = channel->number;

    amqp_channel_free(channel);
    amqp_flush(c);
    amqp_send(c, number, &(struct amqp_method){.id = AMQP_CHANNEL_CLOSE_OK});
}

static void take_channel_method(struct amqp_channel *channel, const struct amqp_method *method)
{
    switch (method->id) {
    case AMQP_CHANNEL_OPEN:
        amqp_fail_connection(channel->connection, AMQP_CHANNEL_ERROR, method->id,
                             "second 'channel.open' seen");
        break;
    case AMQP_CHANNEL_CLOSE:
        close_channel(channel);
        break;
    case AMQP_CHANNEL_FLOW:
        flow(channel, method);
        break;
    case AMQP_CHANNEL_FLOW_OK:
    case AMQP_CHANNEL_CLOSE_OK:
        break;
    case AMQP_ACCESS_REQUEST:
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = AMQP_ACCESS_REQUEST_OK, .ticket = 1});
        break;
    default:
        not_implemented(channel, method);
        break;
    }
}

static void take_method(struct amqp_channel *channel, const struct amqp_method *method)
{
    switch (method->id >> 16) {
    case AMQP_BASIC_QOS >> 16:
        if (method->id == AMQP_BASIC_PUBLISH)
            amqp_publish_begin(channel, method);
        else
            amqp_basic_take(channel, method);
        break;
    case AMQP_EXCHANGE_DECLARE >> 16:
        amqp_exchange_take(channel, method);
        break;
    case AMQP_QUEUE_DECLARE >> 16:
        amqp_queue_take(channel, method);
        break;
    case AMQP_CONFIRM_SELECT >> 16:
        amqp_confirm_select(channel, method);
        break;
    case AMQP_TX_SELECT >> 16:
        amqp_tx_take(channel, method);
        break;
    default:
        take_channel_method(channel, method);
        break;
    }
}

/* ---- the connection's own ---------------------------------------------------------------------------------------- */

static void take_connection_method(struct amqp_connection *c, const struct amqp_method *method)
{
    switch (method->id) {
    case AMQP_CONNECTION_CLOSE:
        amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_CLOSE_OK});
        c->state = AMQP_STATE_CLOSED;
        break;
    case AMQP_CONNECTION_CLOSE_OK:
        c->state = AMQP_STATE_CLOSED;
        break;
    case AMQP_CONNECTION_UPDATE_SECRET:
        /* Passwords do not expire: there is nothing to renew. */
        amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_UPDATE_SECRET_OK});
        break;
    case AMQP_CONNECTION_BLOCKED:
    case AMQP_CONNECTION_UNBLOCKED:
        break;
    default:
        amqp_fail_connection(c, AMQP_COMMAND_INVALID, method->id, "%s on channel 0",
                             amqp_method_name(method->id));
        break;
    }
}

/* ---- frames ------------------------------------------------------------------------------------------------------ */

/* False: it is no method, and the connection was failed. */
static bool parse(struct amqp_connection *c, const struct amqp_frame *frame, struct amqp_method *method)
{
    const char *why = "";

    *method = (struct amqp_method){0};
    if (amqp_take_method(frame->payload, method, &why) == AMQP_OK)
        return true;
    if (c->state == AMQP_STATE_OPEN)
        amqp_fail_connection(c, amqp_method_name(method->id) ? AMQP_SYNTAX_ERROR : AMQP_COMMAND_INVALID,
                             method->id, "%s", why);
    return false;
}

/* On channel 0. */
static void take_for_connection(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (frame->type != AMQP_METHOD) {
        amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, 0, "content on channel 0");
        return;
    }
    if (!parse(c, frame, &method))
        return;
    if (c->state == AMQP_STATE_OPEN || method.id == AMQP_CONNECTION_CLOSE ||
        method.id == AMQP_CONNECTION_CLOSE_OK)
        take_connection_method(c, &method);
}

/* Of a channel that is not open. */
static void take_without_channel(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (frame->type != AMQP_METHOD || !parse(c, frame, &method)) {
        amqp_fail_connection(c, AMQP_CHANNEL_ERROR, 0, "expected 'channel.open'");
        return;
    }
    if (method.id == AMQP_CHANNEL_OPEN)
        open_channel(c, frame->channel);
    else
        amqp_fail_connection(c, AMQP_CHANNEL_ERROR, method.id, "expected 'channel.open'");
}

/* What a client sent before it heard of the end of its channel counts for nothing. */
static void take_while_closing(struct amqp_connection *c, struct amqp_channel *channel,
                               const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (frame->type != AMQP_METHOD || !parse(c, frame, &method))
        return;
    if (method.id == AMQP_CHANNEL_CLOSE)
        amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_CHANNEL_CLOSE_OK});
    else if (method.id == AMQP_CHANNEL_CLOSE_OK)
        amqp_channel_free(channel);
}

static void expected_content(struct amqp_channel *channel)
{
    amqp_fail_connection(channel->connection, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH,
                         channel->publishing.has_content
                             ? "expected content body, got non content body frame instead"
                             : "expected content header for class 60, got non content header frame instead");
}

static void take_for_channel(struct amqp_channel *channel, const struct amqp_frame *frame)
{
    struct amqp_connection *c = channel->connection;
    const struct amqp_publishing *p = &channel->publishing;
    enum amqp_frame_type wanted = !p->active        ? AMQP_METHOD
                                  : !p->has_content ? AMQP_CONTENT_HEADER
                                                    : AMQP_BODY;
    struct amqp_method method;

    if (frame->type != wanted) {
        if (p->active)
            expected_content(channel);
        else
            amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, 0,
                                 "expected method frame, got non method frame instead");
        return;
    }
    if (wanted == AMQP_CONTENT_HEADER)
        amqp_publish_head(channel, frame->payload);
    else if (wanted == AMQP_BODY)
        amqp_publish_body(channel, frame->payload);
    else if (parse(c, frame, &method))
        take_method(channel, &method);
}

void amqp_channel_take(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_channel *channel = amqp_channel_find(c, frame->channel);

    if (frame->type == AMQP_HEARTBEAT)
        return;
    if (frame->channel == 0)
        take_for_connection(c, frame);
    else if (c->state != AMQP_STATE_OPEN)
        return;
    else if (!channel)
        take_without_channel(c, frame);
    else if (channel->state == CHANNEL_CLOSING)
        take_while_closing(c, channel, frame);
    else
        take_for_channel(channel, frame);
}
