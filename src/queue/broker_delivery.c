/* broker_delivery.c - messages that are on their way: held, delivered, late. See broker_private.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "queue/broker_private.h"

/* A consumer with a rate that waited for its turn may make good for so long of having been late. */
#define LATE_MOST_US (100 * US_PER_MS)
/* Counted beside the bytes of each message on its way to a consumer: what it takes without them, roughly. */
#define TRANSIT_OVERHEAD 256
/* An open file on its way to one, instead of the bytes in it. */
#define TRANSIT_OF_FILE (64u * 1024)
/* Of a back-off, what chance may take off. */
#define JITTER_SHARE 4

/* ---- held messages by queue and number --------------------------------------------------------------------------- */

static uint64_t ref_hash(struct message_ref ref)
{
    uint64_t h = ref.number * 0x9e3779b97f4a7c15u + ref.queue;

    return (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u >> 20;
}

static struct message_ref ref_of(const struct held *held)
{
    return (struct message_ref){held->queue->id, held->entry.number};
}

static struct held **bucket_of(const struct broker *broker, struct message_ref ref)
{
    return &broker->held[ref_hash(ref) & (broker->n_held_buckets - 1)];
}

struct held *held_find(const struct broker *broker, struct message_ref ref)
{
    struct held *held = broker->n_held_buckets ? *bucket_of(broker, ref) : NULL;

    while (held && (held->entry.number != ref.number || held->queue->id != ref.queue))
        held = held->next_in_bucket;
    return held;
}

static int grow_buckets(struct broker *broker)
{
    uint64_t n = broker->n_held_buckets ? broker->n_held_buckets * 2 : 64, n_old = broker->n_held_buckets;
    struct held **old = broker->held, **grown = calloc(n, sizeof(struct held *));

    if (!grown)
        return -ENOMEM;
    broker->held = grown;
    broker->n_held_buckets = n;
    for (uint64_t i = 0; i < n_old; i++)
        for (struct held *next, *held = old[i]; held; held = next) {
            struct held **bucket = bucket_of(broker, ref_of(held));

            next = held->next_in_bucket;
            held->next_in_bucket = *bucket;
            *bucket = held;
        }
    free(old);
    return 0;
}

int held_reserve(struct queue *queue)
{
    struct broker *broker = queue->broker;
    uint64_t in_queue = 1;

    for (unsigned i = 0; i < sizeof queue->n_held / sizeof queue->n_held[0]; i++)
        in_queue += queue->n_held[i];
    if (broker->n_held >= UINT32_MAX / 2 ||
        (broker->n_held == broker->n_held_buckets && grow_buckets(broker)) ||
        timer_heap_reserve(&broker->deadlines, (uint32_t)broker->n_held + 1) ||
        timer_heap_reserve(&queue->again, (uint32_t)in_queue))
        return -ENOMEM;
    return 0;
}

struct held *held_create(struct queue *queue, const struct ready_entry *entry, enum held_state state,
                         uint64_t when_us)
{
    struct broker *broker = queue->broker;
    struct held *held = malloc(sizeof *held), **bucket;

    if (!held || held_reserve(queue)) {
        free(held);
        return NULL;
    }
    *held = (struct held){.entry = *entry, .queue = queue, .state = HELD_BLOCKED};
    timer_init(&held->timer);
    timer_init(&held->turn);
    list_init(&held->link);
    list_init(&held->in_queue);
    list_push_back(&queue->held, &held->in_queue);
    bucket = bucket_of(broker, ref_of(held));
    held->next_in_bucket = *bucket;
    *bucket = held;
    broker->n_held++;
    queue->n_held[HELD_BLOCKED]++;
    held_set_state(held, state, when_us);
    return held;
}

/* A window that was full lets its other consumers' queues go on. */
static void leave_window(struct broker_window *window)
{
    bool was_full = window->prefetch && window->in_flight >= window->prefetch;

    window->in_flight--;
    if (!was_full || window->in_flight >= window->prefetch)
        return;
    for (struct list *at = window->consumers.next; at != &window->consumers; at = at->next) {
        struct broker_consumer *consumer = container_of(at, struct broker_consumer, in_window);

        if (consumer->queue)
            queue_kick(consumer->queue);
    }
}

static void leave_consumer(struct held *held)
{
    struct broker_consumer *consumer = held->consumer;

    consumer->in_flight--;
    held->consumer = NULL;
    if (consumer->options.window)
        leave_window(consumer->options.window);
}

/* Where among those that come again: as ready has it, by priority and then by number. */
static uint64_t turn_of(const struct held *held)
{
    const struct queue *queue = held->queue;
    uint64_t above =
        (uint64_t)(&queue->levels[queue->n_levels - 1] - queue_level(queue, held->entry.priority));

#ifdef MAITRED_PLANT_REQUEUE /* a fault for the simulator to find: it comes back behind the younger ones */
    return UINT64_MAX - held->entry.number - above;
#else
    return above << 56 | held->entry.number;
#endif
}

void held_set_state(struct held *held, enum held_state state, uint64_t when_us)
{
    struct queue *queue = held->queue;
    struct broker *broker = queue->broker;

    timer_disarm(&broker->deadlines, &held->timer);
    timer_disarm(&queue->again, &held->turn);
    if (held->consumer)
        leave_consumer(held);
    list_remove(&held->link);
    if (held->state == HELD_IN_FLIGHT)
        queue->in_flight_bytes -= held->entry.bytes;
    if (state == HELD_IN_FLIGHT)
        queue->in_flight_bytes += held->entry.bytes;
    queue->n_held[held->state]--;
    queue->n_held[state]++;
    held->state = (uint8_t)state;
    held->when_us = when_us;
    if (state == HELD_AGAIN) {
        timer_arm(&queue->again, &held->turn, turn_of(held));
        queue_kick(queue);
    } else if (state != HELD_BLOCKED) {
        timer_arm(&broker->deadlines, &held->timer, when_us);
    }
}

/* ---- one at a time by key ---------------------------------------------------------------------------------------- */

static struct ordered_key **key_bucket(const struct queue *queue, uint32_t key)
{
    return &queue->keys[key & (queue->n_key_buckets - 1)];
}

static struct ordered_key *find_key(const struct queue *queue, uint32_t key)
{
    struct ordered_key *at = queue->n_key_buckets ? *key_bucket(queue, key) : NULL;

    while (at && at->key != key)
        at = at->next_in_bucket;
    return at;
}

static bool grow_keys(struct queue *queue)
{
    uint32_t n = queue->n_key_buckets ? queue->n_key_buckets * 2 : 16, n_old = queue->n_key_buckets;
    struct ordered_key **old = queue->keys, **grown = calloc(n, sizeof(struct ordered_key *));

    if (!grown)
        return false;
    queue->keys = grown;
    queue->n_key_buckets = n;
    for (uint32_t i = 0; i < n_old; i++)
        for (struct ordered_key *next, *at = old[i]; at; at = next) {
            struct ordered_key **bucket = key_bucket(queue, at->key);

            next = at->next_in_bucket;
            at->next_in_bucket = *bucket;
            *bucket = at;
        }
    free(old);
    return true;
}

/* Makes held the one of its key that is on its way. False: no memory. */
static bool own_key(struct held *held)
{
    struct queue *queue = held->queue;
    struct ordered_key *key, **bucket;

    if (queue->n_keys == queue->n_key_buckets && !grow_keys(queue))
        return false;
    key = malloc(sizeof *key);
    if (!key)
        return false;
    bucket = key_bucket(queue, held->entry.key);
    *key = (struct ordered_key){.key = held->entry.key, .next_in_bucket = *bucket};
    list_init(&key->blocked);
    *bucket = key;
    queue->n_keys++;
    held->owns_key = true;
    return true;
}

static void drop_key(struct queue *queue, struct ordered_key *key)
{
    struct ordered_key **at = key_bucket(queue, key->key);

    while (*at != key)
        at = &(*at)->next_in_bucket;
    *at = key->next_in_bucket;
    queue->n_keys--;
    free(key);
}

/* held is done: the next one of its key may go. */
static void pass_key(struct held *held)
{
    struct ordered_key *key = find_key(held->queue, held->entry.key);
    struct list *next = list_pop_front(&key->blocked);

    held->owns_key = false;
    if (!next) {
        drop_key(held->queue, key);
        return;
    }
    container_of(next, struct held, link)->owns_key = true;
    held_set_state(container_of(next, struct held, link), HELD_AGAIN, 0);
}

/* Waits, in order of age, for the one of its key. */
static void block_on_key(struct held *held, struct ordered_key *key)
{
    struct list *at = &key->blocked;

    held_set_state(held, HELD_BLOCKED, 0);
    while (at->prev != &key->blocked &&
           container_of(at->prev, struct held, link)->entry.number > held->entry.number)
        at = at->prev;
    list_push_back(at, &held->link);
    held->marked = false; /* it waits once more */
}

int held_claim_keys(struct broker *broker)
{
    for (uint64_t i = 0; i < broker->n_held_buckets; i++)
        for (struct held *held = broker->held[i]; held; held = held->next_in_bucket)
            if (held->entry.key && held->entry.redelivered && held->state == HELD_DELAYED &&
                !find_key(held->queue, held->entry.key) && !own_key(held))
                return -ENOMEM;
    return 0;
}

void held_free(struct held *held)
{
    struct broker *broker = held->queue->broker;
    struct held **at = bucket_of(broker, ref_of(held));

    if (held->owns_key)
        pass_key(held);
    held_set_state(held, HELD_BLOCKED, 0); /* out of every heap and list */
    held->queue->n_held[HELD_BLOCKED]--;
    while (*at != held)
        at = &(*at)->next_in_bucket;
    *at = held->next_in_bucket;
    list_remove(&held->in_queue);
    broker->n_held--;
    free(held);
}

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

static bool may_take(struct broker *broker, struct broker_consumer *consumer)
{
    const struct broker_consumer_options *o = &consumer->options;
#ifdef MAITRED_PLANT_WINDOW /* a fault for the simulator to find: only each consumer's own prefetch counts */
    const struct broker_window *window = NULL;
#else
    const struct broker_window *window = o->window;
#endif

    if (!o->auto_ack && ((o->prefetch && consumer->in_flight >= o->prefetch) ||
                         (window && window->prefetch && window->in_flight >= window->prefetch)))
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
    struct retry_entry entry = {.ref = ref_of(held), .attempts = held->attempts};

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
    if (consumer->options.window)
        consumer->options.window->in_flight++;
    consumer->transit += transit_of(&held->entry);
    if (consumer->options.rate > 0)
        consumer->tokens -= 1;
    queue->tallies.delivered++;
    queue->tallies.delivered_auto += consumer->options.auto_ack && !consumer->options.on_demand;
    queue->tallies.taken += consumer->options.on_demand;
    queue->tallies.taken_auto += consumer->options.on_demand && consumer->options.auto_ack;
    queue->tallies.redelivered += held->entry.redelivered;
    delivery = (struct broker_delivery){
        .ref = ref_of(held),
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

/* Whether it may go now, with its key; otherwise it waits for the older one. */
static bool take_key(struct held *held)
{
    struct ordered_key *key;

    if (held->entry.key == 0 || held->owns_key)
        return true;
    key = find_key(held->queue, held->entry.key);
    if (!key)
        return own_key(held);
    block_on_key(held, key);
    return false;
}

struct held *queue_take_next(struct queue *queue)
{
    struct held *held;

    do {
        held = take_next(queue);
    } while (held && !take_key(held) && held->state == HELD_BLOCKED);
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
    struct retry_entry entry = {.ref = ref_of(held)};

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
