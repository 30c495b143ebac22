/* broker_consumer.c - who gets messages: coming, going, and what they say of what they were given. See broker_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "queue/broker_private.h"

/* ---- windows ------------------------------------------------------------------------------------------------------- */

struct broker_window *broker_window_create(unsigned prefetch)
{
    struct broker_window *window = malloc(sizeof *window);

    if (!window)
        return NULL;
    window->prefetch = prefetch;
    window->in_flight = 0;
    atomic_init(&window->refs, 1);
    list_init(&window->shares);
    return window;
}

struct broker_window *broker_window_ref(struct broker_window *window)
{
    if (window)
        atomic_fetch_add_explicit(&window->refs, 1, memory_order_relaxed);
    return window;
}

void broker_window_unref(struct broker_window *window)
{
    if (window && atomic_fetch_sub_explicit(&window->refs, 1, memory_order_acq_rel) == 1)
        free(window);
}

/* What waits for its consumers may go now. */
static void kick_window(struct broker_window *window)
{
    for (struct list *at = window->shares.next; at != &window->shares; at = at->next) {
        struct broker_consumer *consumer = container_of(at, struct window_share, list)->consumer;

        if (consumer->queue)
            queue_kick(consumer->queue);
    }
}

void broker_window_change(struct broker_window *window, unsigned prefetch)
{
    window->prefetch = prefetch;
    kick_window(window);
}

void window_enter(struct broker_window *window)
{
    if (window)
        window->in_flight++;
}

void window_leave(struct broker_window *window)
{
    if (!window)
        return;
    window->in_flight--;
    if (window->in_flight + 1 == window->prefetch)
        kick_window(window);
}

/* ---- coming and going -------------------------------------------------------------------------------------------- */

/* Into its queue. */
static void join(struct broker_consumer *consumer)
{
    struct queue *queue = consumer->queue;

    if (consumer->options.on_demand) {
        consumer->stopped = true;
        list_push_back(&queue->stopped, &consumer->link);
        return;
    }
    consumer_line_up(queue, consumer);
    queue->n_consumers++;
    queue->had_consumer = true;
    queue->has_exclusive = consumer->options.exclusive;
    queue_touch(queue);
    queue_kick(queue);
}

/* Out of those that count. */
static void leave_line(struct broker_consumer *consumer)
{
    struct queue *queue = consumer->queue;

    if (consumer->stopped)
        return;
    consumer->stopped = true;
    timer_disarm(&queue->broker->wakes, &consumer->timer);
    list_remove(&consumer->link);
    list_push_back(&queue->stopped, &consumer->link);
    queue->n_consumers--;
    queue->has_exclusive = false;
    queue_touch(queue);
    queue_kick(queue); /* the next one may be the active one now */
}

/* An auto-delete queue goes with its last consumer. */
static void delete_unused(struct queue *queue)
{
    if (queue->options.auto_delete && queue->had_consumer && !queue->n_consumers && !queue->deleted)
        queue_delete(queue);
}

int broker_subscribe(struct broker *broker, struct slice name, const struct broker_consumer_options *options,
                     struct broker_consumer **result)
{
    struct queue *queue = broker_queue(broker, name);
    struct broker_consumer *consumer;

    *result = NULL;
    if (!queue)
        return -ENOENT;
    if (!options->on_demand && ((queue->n_consumers && (options->exclusive || queue->has_exclusive)) ||
                                (options->exclusive && queue->options.single_active)))
        return -EBUSY;
    consumer = calloc(1, sizeof *consumer);
    if (!consumer || timer_heap_reserve(&broker->wakes, broker->n_consumers + 1)) {
        free(consumer);
        return -ENOMEM;
    }
    consumer->queue = queue;
    consumer->options = *options;
    consumer->tokens = options->burst;
    consumer->filled_us = broker->now_us;
    timer_init(&consumer->timer);
    list_init(&consumer->held);
    for (unsigned i = 0; i < BROKER_WINDOWS; i++) {
        consumer->shares[i].consumer = consumer;
        list_init(&consumer->shares[i].list);
        if (options->windows[i])
            list_push_back(&options->windows[i]->shares, &consumer->shares[i].list);
    }
    broker->n_consumers++;
    join(consumer);
    *result = consumer;
    return 0;
}

void broker_consumer_change(struct broker *broker, struct broker_consumer *consumer,
                            const struct broker_consumer_options *options)
{
    consumer->options = *options;
    timer_disarm(&broker->wakes, &consumer->timer);
    if (consumer->queue)
        queue_kick(consumer->queue);
}

void broker_consumer_hold(struct broker *broker, struct broker_consumer *consumer, uint64_t until_us)
{
    consumer->until_us = until_us;
    timer_disarm(&broker->wakes, &consumer->timer);
    if (consumer->queue)
        queue_kick(consumer->queue);
}

void *broker_consumer_owner(const struct broker_consumer *consumer)
{
    return consumer->options.owner;
}

bool broker_consumer_ended(const struct broker_consumer *consumer)
{
    return consumer->queue == NULL;
}

/* What it has in flight waits again. */
static void give_back(struct broker_consumer *consumer)
{
    while (!list_empty(&consumer->held)) {
        struct held *held = container_of(consumer->held.next, struct held, link);

        if (consumer->options.counts_loss && !consumer->queue->deleted)
            held_fail(held);
        else
            held_set_state(held, HELD_AGAIN, 0);
    }
}

void consumer_free(struct broker_consumer *consumer)
{
    for (unsigned i = 0; i < BROKER_WINDOWS; i++)
        list_remove(&consumer->shares[i].list);
    free(consumer);
}

void consumer_end(struct broker_consumer *consumer)
{
    struct queue *queue = consumer->queue;
    struct broker *broker = queue->broker;

    leave_line(consumer);
    give_back(consumer);
    list_remove(&consumer->link);
    list_push_back(&broker->ended, &consumer->link);
    consumer->queue = NULL;
}

void broker_consumer_stop(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us)
{
    broker->now_us = now_us;
    if (!consumer->queue)
        return;
    leave_line(consumer);
    delete_unused(consumer->queue);
}

void broker_unsubscribe(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us)
{
    struct queue *queue = consumer->queue;

    broker->now_us = now_us;
    if (queue) {
        consumer_end(consumer);
        delete_unused(queue);
    }
    list_remove(&consumer->link);
    broker->n_consumers--;
    consumer_free(consumer);
}

int broker_take(struct broker *broker, struct broker_consumer *consumer, uint64_t now_us)
{
    struct queue *queue = consumer->queue;
    struct held *held;

    broker->now_us = now_us;
    if (!queue)
        return -ENOENT;
    queue_touch(queue);
    queue_expire(queue);
    held = queue->paused || broker->failure[0] ? NULL : queue_take_next(queue);
    queue_kick(queue); /* another one may be the oldest */
    if (held)
        held_deliver(held, consumer);
    return held != NULL;
}

uint64_t broker_left(const struct broker_consumer *consumer)
{
    const struct queue *queue = consumer->queue;

    return queue ? queue_n_ready(queue) + queue->n_held[HELD_AGAIN] : 0;
}

void broker_credit(struct broker *broker, struct broker_consumer *consumer, uint64_t bytes)
{
    (void)broker;
    consumer->transit -= bytes < consumer->transit ? bytes : consumer->transit;
    if (consumer->queue)
        queue_kick(consumer->queue);
}

/* The delivery, while it is the consumer's. */
static struct held *in_flight(struct broker *broker, const struct broker_consumer *consumer,
                              struct message_ref ref, uint64_t now_us)
{
    struct held *held = held_find(broker, ref);

    broker->now_us = now_us;
    if (!held || held->state != HELD_IN_FLIGHT || held->consumer != consumer)
        return NULL;
    queue_kick(held->queue);
    return held;
}

int broker_ack(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
               uint64_t now_us)
{
    struct held *held = in_flight(broker, consumer, ref, now_us);

    if (!held)
        return -ENOENT;
    held->attempts++;
    held_end(held, END_ACKED);
    return 0;
}

int broker_retry(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                 uint64_t now_us)
{
    struct held *held = in_flight(broker, consumer, ref, now_us);

    if (!held)
        return -ENOENT;
    held_fail(held);
    return 0;
}

int broker_return(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                  uint64_t delay_us, uint64_t now_us)
{
    struct held *held = in_flight(broker, consumer, ref, now_us);
    struct retry_entry entry = {.ref = ref};

    if (!held)
        return -ENOENT;
    if (!delay_us) {
        held_set_state(held, HELD_AGAIN, 0);
        return 0;
    }
    held_set_state(held, HELD_DELAYED, now_us + delay_us);
    entry.attempts = held->attempts;
    entry.due_us = held->when_us;
    broker_gather_retry(broker, &entry);
    return 0;
}

int broker_reject(struct broker *broker, struct broker_consumer *consumer, struct message_ref ref,
                  uint64_t now_us)
{
    struct held *held = in_flight(broker, consumer, ref, now_us);

    if (!held)
        return -ENOENT;
    held->attempts++;
    held_die(held, END_REJECTED);
    return 0;
}
