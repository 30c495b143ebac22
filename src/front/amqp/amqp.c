/* amqp.c - see amqp.h and private.h: one connection from accept to close. */
#include "front/amqp/amqp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "front/amqp/private.h"

/* How long a client may take to answer connection.close. */
#define CLOSE_US (5 * US_PER_S)

struct amqp_service {
    struct service service;
    const struct config_amqp *config;
    struct access *access; /* owned */
};

/* ---- ends -------------------------------------------------------------------------------------------------------- */

void amqp_drop_connection(struct amqp_connection *c, const char *why)
{
    if (!c->failed)
        c->failed = why;
    c->broken = true;
    c->state = AMQP_STATE_CLOSED;
    stream_abort(&c->stream);
    amqp_wake_writer(c);
    wait_queue_wake_all(&c->drained);
}

void amqp_fail_connection(struct amqp_connection *c, enum amqp_reply code, uint32_t method,
                          const char *format, ...)
{
    char text[AMQP_TEXT_MAX];
    int n = snprintf(text, sizeof text, "%s - ", amqp_reply_name(code));
    va_list arguments;

    if (c->state != AMQP_STATE_OPEN)
        return;
    va_start(arguments, format);
    vsnprintf(text + n, sizeof text - (size_t)n, format, arguments);
    va_end(arguments);
    log_line(LOG_INFO, "amqp: connection %llu of %s is closed: %s", (unsigned long long)c->number,
             c->user_name[0] ? c->user_name : "a client", text);
    c->failed = amqp_reply_name(code);
    c->state = AMQP_STATE_CLOSING;
    c->close_by_us = loop_deadline(CLOSE_US);
    amqp_send(c, 0,
              &(struct amqp_method){
                  .id = AMQP_CONNECTION_CLOSE,
                  .reply_code = (uint16_t)code,
                  .reply_text = amqp_clip(slice_from_text(text)),
                  .class_id = (uint16_t)(method >> 16),
                  .method_id = (uint16_t)method,
              });
}

/* ---- a connection ------------------------------------------------------------------------------------------------ */

/* Others want the room that it has for bodies which do not come. */
static void give_up_parts(struct queue_hold *hold)
{
    struct amqp_connection *c = container_of(hold, struct amqp_connection, hold);

    amqp_fail_connection(c, AMQP_RESOURCE_ERROR, AMQP_BASIC_PUBLISH,
                         "a message comes too slowly, and others wait for the room that it has");
    for (unsigned i = 0; i < c->n_channels; i++)
        amqp_publish_abandon(c->channels[i]);
}

static void begin(struct amqp_connection *c)
{
    static _Atomic uint64_t numbers;

    c->number = ++numbers;
    c->opened_us = clock_wall_us();
    c->frame_max = AMQP_FRAME_MIN;
    list_init(&c->batches);
    list_init(&c->registered);
    list_init(&c->deliveries);
    list_init(&c->behind);
    list_init(&c->passing);
    queue_hold_init(&c->hold, give_up_parts);
    wait_queue_init(&c->drained);
    wait_queue_init(&c->batch_back);
}

static const struct amqp_service *service_of(const struct amqp_connection *c)
{
    return container_of(c->client.at->service, struct amqp_service, service);
}

const struct config_amqp *amqp_config(const struct amqp_connection *c)
{
    return service_of(c)->config;
}

struct access *amqp_access(const struct amqp_connection *c)
{
    return service_of(c)->access;
}

struct access_user *amqp_user(struct amqp_connection *c)
{
    const struct amqp_service *service = service_of(c);
    uint64_t number = service->service.scene->generation->number;

    if (c->looked != number) { /* a service's address may be that of one that has gone */
        c->looked = number;
        c->user = access_find(service->access, slice_from_text(c->user_name));
    }
    return c->user;
}

/* Who is silent for longer than two heartbeats has gone. */
static uint64_t silence_us(const struct amqp_connection *c)
{
    if (c->state == AMQP_STATE_CLOSING)
        return c->close_by_us;
    return c->heartbeat_us ? loop_now_us() + 2 * c->heartbeat_us : NEVER;
}

static void serve(struct amqp_connection *c)
{
    struct amqp_frame frame;
    int error = 0;

    while (!error && c->state != AMQP_STATE_CLOSED) {
        error = amqp_next_frame(c, &frame, silence_us(c));
        if (error == -EPROTO) /* what comes now makes no sense any more */
            amqp_wait_closed(c);
        else if (!error)
            amqp_channel_take(c, &frame);
    }
    if (error == -ETIMEDOUT && c->state == AMQP_STATE_OPEN)
        c->failed = "missed heartbeats";
}

/* The client may still read why. Nothing that it sends is looked at but its last word, connection.close-ok. */
void amqp_wait_closed(struct amqp_connection *c)
{
    static const char close_ok[] = {AMQP_METHOD, 0, 0, 0, 0, 0, 4, 0, 10, 0, 51, AMQP_FRAME_END};
    char bytes[1024];
    size_t len = 0;
    ssize_t n;

    while ((n = stream_read(&c->stream, bytes + len, sizeof bytes - len, c->close_by_us)) > 0) {
        size_t kept = len + (size_t)n;
        const char *end = bytes + kept;

        if (kept >= sizeof close_ok && memcmp(end - sizeof close_ok, close_ok, sizeof close_ok) == 0)
            break;
        len = kept < sizeof close_ok - 1 ? kept : sizeof close_ok - 1;
        memmove(bytes, end - len, len);
    }
    c->state = AMQP_STATE_CLOSED;
}

/* What is at the queue thread comes back without us. */
static void let_batches_go(struct amqp_connection *c)
{
    struct list *at;

    while ((at = list_pop_front(&c->batches)))
        container_of(at, struct amqp_batch, list)->connection = NULL;
    while ((at = list_pop_front(&c->behind)))
        amqp_batch_free(container_of(at, struct amqp_batch, list));
    if (c->stuck)
        amqp_batch_free(c->stuck);
    c->stuck = NULL;
}

static void end_writer(struct amqp_connection *c)
{
    struct fiber *writer = c->writer;

    c->writer_ends = true;
    amqp_wake_writer(c);
    if (writer && !c->broken && fiber_join(writer, loop_deadline(CLOSE_US)) == 0)
        writer = NULL;
    if (writer)
        fiber_cancel_and_join(writer);
    c->writer = NULL;
    c->broken = true;
}

void amqp_give_up(struct amqp_connection *c)
{
    amqp_flush(c);
    while (c->n_channels)
        amqp_channel_free(c->channels[c->n_channels - 1]);
    amqp_flush(c);
    if (c->session)
        amqp_session_close(c);
}

static void end(struct amqp_connection *c)
{
    amqp_give_up(c);
    free(c->channels);
    c->channels = NULL;
    amqp_pass_leave(c);
    end_writer(c);
    let_batches_go(c);
    amqp_block_release(c->block);
    free(c->virtual_host);
    free(c->mark);
    free((char *)(uintptr_t)c->client_properties.ptr);
}

static void let_scene_go(struct amqp_connection *c)
{
    if (c->scene)
        scene_release(c->scene);
    c->scene = NULL;
}

static void tell_shutdown(struct amqp_connection *c)
{
    amqp_fail_connection(c, AMQP_CONNECTION_FORCED, 0,
                         "broker forced connection closure with reason 'shutdown'");
}

/* One client, from accept to close. */
static void run_client(struct client *base)
{
    struct amqp_connection *c = container_of(base, struct amqp_connection, client);
    const struct config_amqp *config = amqp_config(c);

    begin(c);
    c->scene = service_of(c)->service.scene;
    scene_hold(c->scene);
    if (listener_open_client(base, &c->stream, config->accept_proxy, config->n_accept_proxy,
                             loop_deadline(config->handshake_timeout_us)) == 0) {
        if (amqp_shake_hands(c) == 0) {
            amqp_register(c);
            if (c->draining && !c->pass) /* since before it was open: its service goes with the scene */
                tell_shutdown(c);
            let_scene_go(c);
            serve(c);
        }
        amqp_unregister(c);
        end(c);
        if (c->failed)
            log_line(LOG_INFO, "amqp: connection %llu ended: %s", (unsigned long long)c->number, c->failed);
        stream_close(&c->stream);
    }
    let_scene_go(c);
}

static void drain(struct client *base)
{
    struct amqp_connection *c = container_of(base, struct amqp_connection, client);

    c->draining = true;
    if (c->pass) /* its process is to finish what it has: whoever started that ends it */
        amqp_consumers_stop(c);
    else if (c->number && !c->scene) /* it has begun, and is open */
        tell_shutdown(c);
}

const struct listener_kind amqp_listener_kind = {
    .name = "amqp",
    .client_bytes = sizeof(struct amqp_connection),
    .run = run_client,
    .drain = drain,
};

/* ---- a service --------------------------------------------------------------------------------------------------- */

static void free_service(struct service *base)
{
    struct amqp_service *service = container_of(base, struct amqp_service, service);

    access_free(service->access);
    free(service);
}

struct service *amqp_service_create(const struct config_amqp *config, struct scene *scene)
{
    struct amqp_service *service = calloc(1, sizeof *service);

    if (!service || access_create(&service->access, config) != 0) {
        free(service);
        return NULL;
    }
    service->service = (struct service){.scene = scene, .free = free_service};
    service->config = config;
    return &service->service;
}
