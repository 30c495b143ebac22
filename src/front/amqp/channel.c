/* channel.c - channels, and which method does what. See private.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/amqp/private.h"
#include "wire/amqp_bytes.h"

/* ---- channels ---------------------------------------------------------------------------------------------------- */

/* The place of the first channel whose number is not below it. Most clients count from 1 without holes. */
static unsigned place_of(const struct amqp_connection *c, uint16_t number)
{
    unsigned low = 0, high = c->n_channels;

    if (number - 1u < high && c->channels[number - 1]->number == number)
        return number - 1u;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;

        if (c->channels[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct amqp_channel *amqp_channel_find(const struct amqp_connection *c, uint16_t number)
{
    unsigned place = place_of(c, number);

    return place < c->n_channels && c->channels[place]->number == number ? c->channels[place] : NULL;
}

/* False: no memory. */
static bool insert(struct amqp_connection *c, struct amqp_channel *channel)
{
    unsigned place = place_of(c, channel->number), room = c->channels_room ? c->channels_room * 2 : 4;
    struct amqp_channel **channels = c->channels;

    if (c->n_channels == c->channels_room) {
        channels = realloc(channels, room * sizeof(struct amqp_channel *));
        if (!channels)
            return false;
        c->channels = channels;
        c->channels_room = room;
    }
    memmove(channels + place + 1, channels + place, (c->n_channels - place) * sizeof(struct amqp_channel *));
    channels[place] = channel;
    c->n_channels++;
    return true;
}

static void remove_from(struct amqp_connection *c, const struct amqp_channel *channel)
{
    unsigned place = place_of(c, channel->number);

    c->n_channels--;
    memmove(c->channels + place, c->channels + place + 1,
            (c->n_channels - place) * sizeof(struct amqp_channel *));
}

static void open_channel(struct amqp_connection *c, uint16_t number)
{
    static uint64_t generations;
    struct amqp_channel *channel;

    if (c->n_channels >= c->channel_max) {
        amqp_fail_connection(c, AMQP_NOT_ALLOWED, 0,
                             "number of channels opened (%u) has reached the negotiated channel_max (%u)",
                             c->n_channels, c->channel_max);
        return;
    }
    channel = calloc(1, sizeof *channel);
    if (channel)
        channel->number = number;
    if (!channel || !insert(c, channel)) {
        free(channel);
        amqp_drop_connection(c, "no memory");
        return;
    }
    channel->connection = c;
    channel->generation = __atomic_add_fetch(&generations, 1, __ATOMIC_RELAXED);
    channel->next_tag = 1;
    list_init(&channel->consumers);
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
    remove_from(c, channel);
    free(channel->unacked);
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

void amqp_fail_unknown(struct amqp_channel *channel, const struct amqp_method *method)
{
    amqp_fail_connection(channel->connection, AMQP_COMMAND_INVALID, method->id, "unimplemented method");
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
    case AMQP_ACCESS_REQUEST:
        amqp_send(channel->connection, channel->number,
                  &(struct amqp_method){.id = AMQP_ACCESS_REQUEST_OK, .ticket = 1});
        break;
    default:
        amqp_fail_unknown(channel, method);
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
        if (method->id == AMQP_CONFIRM_SELECT)
            amqp_confirm_select(channel, method);
        else
            amqp_fail_unknown(channel, method);
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
        amqp_give_up(c); /* who hears close-ok finds nothing of it any more */
        amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_CLOSE_OK});
        c->state = AMQP_STATE_CLOSED;
        break;
    case AMQP_CONNECTION_UPDATE_SECRET:
        /* Passwords do not expire: there is nothing to renew. */
        amqp_send(c, 0, &(struct amqp_method){.id = AMQP_CONNECTION_UPDATE_SECRET_OK});
        break;
    default:
        amqp_fail_connection(c, AMQP_CHANNEL_ERROR, method->id,
                             "unexpected method in connection state running");
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
    if (!method->id || amqp_method_name(method->id))
        amqp_fail_connection(c, AMQP_FRAME_ERROR, method->id, "%s", why);
    else
        amqp_fail_connection(c, AMQP_COMMAND_INVALID, method->id, "%s", why);
    return false;
}

/* A frame where a method's has to be. False: it is another, and the connection was failed. */
static bool is_method(struct amqp_connection *c, const struct amqp_frame *frame)
{
    if (frame->type == AMQP_METHOD)
        return true;
    if (frame->type == AMQP_CONTENT_HEADER && frame->payload.len < AMQP_CONTENT_LEAST)
        amqp_fail_connection(c, AMQP_FRAME_ERROR, 0, "the content header is cut short");
    else
        amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, 0,
                             "expected method frame, got non method frame instead");
    return false;
}

/* On channel 0. */
static void take_for_connection(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (!is_method(c, frame) || !parse(c, frame, &method))
        return;
    if (c->state == AMQP_STATE_CLOSING && method.id == AMQP_CONNECTION_CLOSE_OK)
        c->state = AMQP_STATE_CLOSED;
    else if (c->state == AMQP_STATE_OPEN || method.id == AMQP_CONNECTION_CLOSE)
        take_connection_method(c, &method);
}

/* Of a channel that is not open. */
static void take_without_channel(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (!is_method(c, frame) || !parse(c, frame, &method))
        return;
    if (method.id == AMQP_CHANNEL_OPEN)
        open_channel(c, frame->channel);
    else
        amqp_fail_connection(c, AMQP_CHANNEL_ERROR, method.id, "expected 'channel.open'");
}

/* What a client sent before it heard of the end of its channel counts for nothing. */
static void take_method_while_closing(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (method->id == AMQP_CHANNEL_CLOSE)
        amqp_send(channel->connection, channel->number, &(struct amqp_method){.id = AMQP_CHANNEL_CLOSE_OK});
    else if (method->id == AMQP_CHANNEL_CLOSE_OK)
        amqp_channel_free(channel);
}

static void take_while_closing(struct amqp_channel *channel, const struct amqp_frame *frame)
{
    struct amqp_method method;

    if (frame->type == AMQP_METHOD && parse(channel->connection, frame, &method))
        take_method_while_closing(channel, &method);
}

/* Answers to these do not wait for those to what was published before. */
static bool has_no_answer(const struct amqp_method *method)
{
    return method->id == AMQP_BASIC_PUBLISH || method->id == AMQP_BASIC_ACK ||
           method->id == AMQP_BASIC_NACK || method->id == AMQP_BASIC_REJECT;
}

static void take_in_turn(struct amqp_channel *channel, const struct amqp_method *method)
{
    if (!channel->n_doubtful || has_no_answer(method) || amqp_publish_told(channel))
        take_method(channel, method);
    else if (channel->state == CHANNEL_CLOSING && channel->connection->state == AMQP_STATE_OPEN)
        take_method_while_closing(channel, method);
}

static void expected_content(struct amqp_channel *channel)
{
    amqp_fail_connection(channel->connection, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH,
                         channel->publishing.has_content
                             ? "expected content body, got non content body frame instead"
                             : "expected content header for class 60, got non content header frame instead");
}

void amqp_fail_content(struct amqp_connection *c, struct slice payload, const char *why)
{
    uint16_t class_id = 0, weight = 0;

    if (payload.len < AMQP_CONTENT_LEAST) {
        amqp_fail_connection(c, AMQP_FRAME_ERROR, 0, "%s", why);
        return;
    }
    take_u16be(&payload, &class_id);
    take_u16be(&payload, &weight);
    if (weight)
        amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH,
                             "expected content header for class 60, got non content header frame instead");
    else if (class_id != AMQP_BASIC_PUBLISH >> 16)
        amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, AMQP_BASIC_PUBLISH,
                             "expected content header for class 60, got one for class %u instead", class_id);
    else
        amqp_fail_connection(c, AMQP_SYNTAX_ERROR, AMQP_BASIC_PUBLISH, "%s", why);
}

static void take_for_channel(struct amqp_channel *channel, const struct amqp_frame *frame)
{
    struct amqp_connection *c = channel->connection;
    const struct amqp_publishing *p = &channel->publishing;
    struct amqp_method method;

    if (!p->active) {
        if (is_method(c, frame) && parse(c, frame, &method))
            take_in_turn(channel, &method);
    } else if (frame->type != (p->has_content ? AMQP_BODY : AMQP_CONTENT_HEADER)) {
        expected_content(channel);
    } else if (p->has_content) {
        amqp_publish_body(channel, frame->payload);
    } else {
        amqp_publish_head(channel, frame->payload);
    }
}

/* False: it is a heartbeat, and that is all. */
static bool is_for_somebody(struct amqp_connection *c, const struct amqp_frame *frame)
{
    if (frame->type == AMQP_HEARTBEAT && frame->channel != 0)
        amqp_fail_connection(c, AMQP_UNEXPECTED_FRAME, 0, "a heartbeat is not a channel's");
    return frame->type != AMQP_HEARTBEAT;
}

void amqp_channel_take(struct amqp_connection *c, const struct amqp_frame *frame)
{
    struct amqp_channel *channel = amqp_channel_find(c, frame->channel);

    if (!is_for_somebody(c, frame))
        return;
    if (frame->channel == 0)
        take_for_connection(c, frame);
    else if (c->state != AMQP_STATE_OPEN)
        return;
    else if (!channel)
        take_without_channel(c, frame);
    else if (channel->state == CHANNEL_CLOSING)
        take_while_closing(channel, frame);
    else
        take_for_channel(channel, frame);
}
