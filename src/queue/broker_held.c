/* broker_held.c - messages that are out of what waits and not done: by queue and number, by state, one at a time by key.
 * See broker_private.h. */
#include <errno.h>
#include <stdlib.h>

#include "queue/broker_private.h"

/* ---- held messages by queue and number --------------------------------------------------------------------------- */

static uint64_t ref_hash(struct message_ref ref)
{
    uint64_t h = ref.number * 0x9e3779b97f4a7c15u + ref.queue;

    return (h ^ (h >> 29)) * 0xbf58476d1ce4e5b9u >> 20;
}

struct message_ref held_ref(const struct held *held)
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
            struct held **bucket = bucket_of(broker, held_ref(held));

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
    bucket = bucket_of(broker, held_ref(held));
    held->next_in_bucket = *bucket;
    *bucket = held;
    broker->n_held++;
    queue->n_held[HELD_BLOCKED]++;
    held_set_state(held, state, when_us);
    return held;
}

static void leave_consumer(struct held *held)
{
    struct broker_consumer *consumer = held->consumer;

    consumer->in_flight--;
    held->consumer = NULL;
    for (unsigned i = 0; i < BROKER_WINDOWS; i++)
        window_leave(consumer->options.windows[i]);
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

bool held_take_key(struct held *held)
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
    struct held **at = bucket_of(broker, held_ref(held));

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
