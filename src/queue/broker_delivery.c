/* broker_delivery.c - messages that are on their way: held, delivered, late. See broker_private.h. */
#include <string.h>

#include "base/clock.h"
#include "queue/broker_private.h"

/* A consumer with a rate that waited for its turn may make good for so long of having been late. */
#define LATE_MOST_US (100 * US_PER_MS)
/* Counted beside the bytes of each message on its way to a consumer: what it takes without them, roughly. */
#define TRANSIT_OVERHEAD 256
/* An open file on its way to one, instead of the bytes in it. */
#define TRANSIT_OF_FILE (64u * 1024)
/* Of a back-off, what chance may take off. */
#define JITTER_SHARE 4

/* ---- who gets the next message ----------------------------------------------------------------------------------- */

void queue_kick(struct queue *queue)
{
    if (list_empty(&queue->to_run))
        list_push_back(&queue->broker->to_run, &queue->to_run);
}

static bool has_token(const struct broker *broker, struct broker_consumer *consumer)
{
    const struct broker_consumer_options *o = &consumer->options;
    bool waited = consumer->timer.index != TIMER_IDLE;
    double most = o->burst, late = o->rate * ((double)LATE_MOST_US / US_PER_S);

    if (o->rate <= 0)
        return true;
    if (waited && late > most)
        most = late;
    consumer->tokens += (double)(broker->now_us - consumer->filled_us) * o->rate / US_PER_S;
    consumer->filled_us = broker->now_us;
    if (consumer->tokens > most)
        consumer->tokens = most;
    return consumer->tokens >= 1;
}

/* When a consumer without a token has the next one. */
static uint64_t token_us(const struct broker *broker, const struct broker_consumer *consumer)
{
    double us = (1 - consumer->tokens) * US_PER_S / consumer->options.rate;

    return broker->now_us + (us < 1 ? 1 : (uint64_t)us + 1);
}

static bool has_full_window(const struct broker_consumer_options *options)
{
#ifdef MAITRED_PLANT_WINDOW /* a fault for the simulator to find: only each consumer's first window counts */
    const unsigned n = 1;
#else
    const unsigned n = BROKER_WINDOWS;
#endif

    for (unsigned i = 0; i < n; i++) {
        const struct broker_window *window = options->windows[i];

        if (window && window->prefetch && window->in_flight >= window->prefetch)
            return true;
    }
    return false;
}

static bool may_take(struct broker *broker, struct broker_consumer *consumer)
{
    const struct broker_consumer_options *o = &consumer->options;

    if (!o->auto_ack && ((o->prefetch && consumer->in_flight >= o->prefetch) || has_full_window(o)))
        return false;
    if (o->transit_most && consumer->transit >= o->transit_most)
        return false;
    if (consumer->until_us > broker->now_us) {
        timer_arm(&broker->wakes, &consumer->timer, consumer->until_us);
        return false;
    }
    if (has_token(broker, consumer))
        return true;
    timer_arm(&broker->wakes, &consumer->timer, token_us(broker, consumer));
    return false;
}

void consumer_line_up(struct queue *queue, struct broker_consumer *consumer)
{
    struct list *at = &queue->consumers;

    while (!queue->options.single_active && at->prev != &queue->consumers &&
           container_of(at->prev, struct broker_consumer, link)->options.priority <
               consumer->options.priority)
        at = at->prev;
    list_push_back(at, &consumer->link);
}

/* The first who may take one; it goes behind its equals, so that all get their share. */
static struct broker_consumer *next_consumer(struct queue *queue)
{
    for (struct list *at = queue->consumers.next; at != &queue->consumers; at = at->next) {
        struct broker_consumer *consumer = container_of(at, struct broker_consumer, link);
        bool may = may_take(queue->broker, consumer);

        if (queue->options.single_active)
            return may ? consumer : NULL;
        if (!may)
            continue;
        list_remove(&consumer->link);
        consumer_line_up(queue, consumer);
        return consumer;
    }
    return NULL;
}

/* A queue whose messages wait for nothing any more starts to count its consumers' silence. */
static void rest_consumers(struct queue *queue)
{
    struct broker *broker = queue->broker;

    for (struct list *at = queue->consumers.next; at != &queue->consumers; at = at->next) {
        struct broker_consumer *consumer = container_of(at, struct broker_consumer, link);

        if (consumer->until_us <= broker->now_us)
            timer_disarm(&broker->wakes, &consumer->timer);
    }
}

/* ---- delivering -------------------------------------------------------------------------------------------------- */

/* Of the highest priority that has any. */
static const struct ready_entry *first_ready(struct queue *queue, int *error)
{
    unsigned i = queue->n_levels - 1;

    while (i && !queue->levels[i].ready.count)
        i--;
    *error = 0;
    return ready_front(&queue->levels[i].ready, error);
}

bool queue_oldest(struct queue *queue, struct held **held, struct ready_entry *entry, int *error)
{
    const struct ready_entry *front = first_ready(queue, error);

    *held = queue->again.count ? container_of(queue->again.entries[0].timer, struct held, turn) : NULL;
    if (*error || (!*held && !front))
        return false;
    if (front && *held) {
        const struct level *a = queue_level(queue, front->priority),
                           *b = queue_level(queue, (*held)->entry.priority);

        if (a > b || (a == b && front->number < (*held)->entry.number))
            *held = NULL;
    }
    *entry = *held ? (*held)->entry : *front;
    return true;
}

void queue_pop(struct queue *queue, const struct ready_entry *entry)
{
    ready_pop(&queue_level(queue, entry->priority)->ready);
}

int queue_find_ready(const struct queue *queue, uint64_t number, struct ready_entry *entry,
                     struct level **level)
{
    int found = 0;

    for (unsigned i = 0; !found && i < queue->n_levels; i++) {
        *level = &queue->levels[i];
        found = ready_find(&queue->levels[i].ready, number, entry);
    }
    return found;
}

/* One that was delayed before its first delivery: how far its queue has delivered does not tell of it. */
static void mark_delivered(struct held *held)
{
    struct retry_entry entry = {.ref = held_ref(held), .attempts = held->attempts};

    if (!held->marked && !held->entry.redelivered)
        broker_gather_retry(held->queue->broker, &entry);
    held->marked = true;
    held->entry.redelivered = true;
}

static uint32_t transit_of(const struct ready_entry *entry)
{
    return (entry->stored ? TRANSIT_OF_FILE : entry->bytes) + TRANSIT_OVERHEAD;
}

void held_deliver(struct held *held, struct broker_consumer *consumer)
{
    struct queue *queue = held->queue;
    struct broker *broker = queue->broker;
    struct broker_delivery delivery;

    held_set_state(held, HELD_IN_FLIGHT, broker->now_us + queue->options.ack_timeout_us);
    held->consumer = consumer;
    list_push_back(&consumer->held, &held->link);
    consumer->in_flight++;
    for (unsigned i = 0; i < BROKER_WINDOWS; i++)
        window_enter(consumer->options.windows[i]);
    consumer->transit += transit_of(&held->entry);
    if (consumer->options.rate > 0)
        consumer->tokens -= 1;
    queue->tallies.delivered++;
    queue->tallies.delivered_auto += consumer->options.auto_ack && !consumer->options.on_demand;
    queue->tallies.taken += consumer->options.on_demand;
    queue->tallies.taken_auto += consumer->options.on_demand && consumer->options.auto_ack;
    queue->tallies.redelivered += held->entry.redelivered;
    delivery = (struct broker_delivery){
        .ref = held_ref(held),
        .position = held->entry.position,
        .transit = transit_of(&held->entry),
        .attempt = held->attempts + 1,
        .redelivered = held->entry.redelivered,
        .deadline_us = held->when_us,
    };
    mark_delivered(held);
    broker->events->deliver(broker->arg, consumer, &delivery);
    if (!consumer->options.auto_ack)
        return;
    held->attempts++;
    held_end(held, END_ACKED);
}

/* Takes the oldest message out of what waits. NULL: there is none that may go now. */
static struct held *take_next(struct queue *queue)
{
    struct broker *broker = queue->broker;
    struct ready_entry entry;
    struct level *level;
    struct held *held;
    int error = 0;

    if (!queue_oldest(queue, &held, &entry, &error)) {
        if (error)
            broker_fail(broker,
                        "queue %.*s: the index of what waits cannot be read: %s; a restart makes it anew",
                        SLICE_ARG(queue->name), strerror(-error));
        return NULL;
    }
    if (entry.number >= broker->durable_number)
        return NULL;
    if (held)
        return held;
    if (queue->n_held[HELD_BLOCKED] >= BLOCKED_MOST)
        return NULL;
    held = held_create(queue, &entry, HELD_AGAIN, 0);
    if (!held)
        return NULL;
    queue_pop(queue, &entry);
    held->marked = true;
    level = queue_level(queue, entry.priority);
    level->delivered = entry.number;
    level->to_mark = true;
    if (list_empty(&queue->to_mark))
        list_push_back(&broker->to_mark, &queue->to_mark);
    return held;
}

struct held *queue_take_next(struct queue *queue)
{
    struct held *held;

    do {
        held = take_next(queue);
    } while (held && !held_take_key(held) && held->state == HELD_BLOCKED);
    return held && held->state == HELD_AGAIN && (!held->entry.key || held->owns_key) ? held : NULL;
}

static bool has_waiting(const struct queue *queue)
{
    return queue->again.count || queue_n_ready(queue);
}

static void deliver_waiting(struct queue *queue)
{
    while (!queue->paused && !queue->broker->failure[0] && has_waiting(queue)) {
        struct broker_consumer *consumer = next_consumer(queue);
        struct held *held = consumer ? queue_take_next(queue) : NULL;

        if (!held)
            return;
        held_deliver(held, consumer);
    }
    rest_consumers(queue);
}

/* What came since the last time is offered before it may be too old: one that may not wait at all goes to who takes it now. */
static void pump_queue(struct queue *queue)
{
    queue_expire(queue);
    deliver_waiting(queue);
    queue->offered = queue->broker->durable_number;
#ifndef MAITRED_PLANT_EXPIRY /* a fault for the simulator to find: what becomes the oldest stays */
    queue_expire(queue);     /* of what was delivered too: another one is the oldest */
#endif
    queue_trim(queue);
}

void broker_pump(struct broker *broker)
{
    struct list *at;

    while ((at = list_pop_front(&broker->to_run)))
        pump_queue(container_of(at, struct queue, to_run));
}

/* ---- deadlines --------------------------------------------------------------------------------------------------- */

static uint64_t backoff_us(struct broker *broker, const struct queue *queue, unsigned attempts)
{
    uint64_t wait = queue->options.retry_first_us, most = queue->options.retry_most_us;

    while (--attempts && wait < most)
        wait = wait > most / 2 ? most : wait * 2;
    if (wait > most)
        wait = most;
    return wait - (wait >= JITTER_SHARE ? rng_below(&broker->rng, wait / JITTER_SHARE + 1) : 0);
}

void held_fail(struct held *held)
{
    struct queue *queue = held->queue;
    struct broker *broker = queue->broker;
    struct retry_entry entry = {.ref = held_ref(held)};

    held->attempts++;
    queue->tallies.retried++;
    if (queue->options.attempts && held->attempts >= queue->options.attempts) {
        held_die(held, END_ATTEMPTS);
        return;
    }
    entry.attempts = held->attempts;
    if (queue->options.retry_first_us) {
        held_set_state(held, HELD_DELAYED, broker->now_us + backoff_us(broker, queue, held->attempts));
        entry.due_us = held->when_us;
    } else {
        held_set_state(held, HELD_AGAIN, 0);
    }
    broker_gather_retry(broker, &entry);
}

/* A consumer that is told keeps its message, and is told again after as long. */
static void fail_late(struct held *held)
{
    struct broker *broker = held->queue->broker;
    struct broker_consumer *consumer = held->consumer;

    if (!consumer->options.tells_late) {
        queue_kick(held->queue); /* its consumer has room for another one */
        held_fail(held);
        return;
    }
    held->when_us = broker->now_us + held->queue->options.ack_timeout_us;
    timer_arm(&broker->deadlines, &held->timer, held->when_us);
    broker->events->late(broker->arg, consumer);
}

/* Those that nobody used for so long. One whose end cannot be logged is tried again later. */
static void expire_idle(struct broker *broker)
{
    struct timer *timer;

    while ((timer = timer_pop(&broker->idles, broker->now_us))) {
        struct queue *queue = container_of(timer, struct queue, idle);

        if (queue_delete(queue) != 0)
            queue_touch(queue);
    }
}

void broker_expire_deadlines(struct broker *broker)
{
    struct timer *timer;

    while ((timer = timer_pop(&broker->wakes, broker->now_us))) {
        struct broker_consumer *consumer = container_of(timer, struct broker_consumer, timer);

        /* It stays a consumer that waited until it was given something, or nothing is left. */
        timer_arm(&broker->wakes, timer, UINT64_MAX);
        if (consumer->queue)
            queue_kick(consumer->queue);
    }
    while ((timer = timer_pop(&broker->expiries, broker->now_us)))
        queue_kick(container_of(timer, struct queue, expiry));
    expire_idle(broker);
    while ((timer = timer_pop(&broker->deadlines, broker->now_us))) {
        struct held *held = container_of(timer, struct held, timer);

        if (held->state == HELD_IN_FLIGHT) {
            fail_late(held);
        } else if (held->dies_of) {
            held_die(held, (enum message_end)(held->dies_of - 1));
        } else {
            held_set_state(held, HELD_AGAIN, 0);
        }
    }
}
