/* qos.c - how much a channel's consumers may have: basic.qos, and the window that all of them share. See private.h. */
#include <stdlib.h>

#include "front/amqp/private.h"

struct window_job {
    struct queue_job job;
    struct broker_window *window; /* reference */
    unsigned prefetch;
};

static void run_window(struct queue_job *job, struct broker *broker, uint64_t now_us)
{
    struct window_job *w = container_of(job, struct window_job, job);

    (void)broker;
    (void)now_us;
    broker_window_change(w->window, w->prefetch);
}

static void free_window(struct queue_job *job)
{
    struct window_job *w = container_of(job, struct window_job, job);

    broker_window_unref(w->window);
    free(w);
}

/* Behind what its consumers were told before. Without memory it stays as it is. */
static void change_window(struct amqp_channel *channel)
{
    struct window_job *w = malloc(sizeof *w);

    if (!w)
        return;
    *w = (struct window_job){.job = {.run = run_window, .free = free_window},
                             .window = broker_window_ref(channel->window),
                             .prefetch = channel->window_prefetch};
    queue_job_post(channel->connection->port, &w->job);
}

/* The window is there from the first basic.qos with global on, or the first consumer. */
bool amqp_window_make(struct amqp_channel *channel)
{
    if (!channel->window)
        channel->window = broker_window_create(channel->window_prefetch);
    if (!channel->window)
        amqp_drop_connection(channel->connection, "no memory");
    return channel->window != NULL;
}

void amqp_window_end(struct amqp_channel *channel)
{
    broker_window_unref(channel->window);
    channel->window = NULL;
}

void amqp_qos(struct amqp_channel *channel, const struct amqp_method *method)
{
    struct amqp_connection *c = channel->connection;

    if (method->prefetch_size) {
        amqp_fail_connection(c, AMQP_NOT_IMPLEMENTED, method->id, "prefetch_size!=0 (%u)",
                             method->prefetch_size);
        return;
    }
    if (method->global) {
        channel->window_prefetch = method->prefetch_count;
        if (channel->window)
            change_window(channel);
    } else {
        channel->prefetch = method->prefetch_count;
    }
    amqp_send(c, channel->number, &(struct amqp_method){.id = AMQP_BASIC_QOS_OK});
}
