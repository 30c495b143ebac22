/* broker_topology.c - queues: declared, looked up, deleted, logged; broker_exchange.c has exchanges. See broker_private.h.
 *
 * Topology records hold what broker.h's functions say, texts with their length (u16) before them. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/hash.h"
#include "queue/broker_private.h"
#include "queue/text.h"

/* ---- a queue's options ------------------------------------------------------------------------------------------- */

static void free_options(struct broker_queue_options *options)
{
    free_text(&options->dead_exchange);
    free_text(&options->dead_key);
    free_text(&options->order_by);
    free_text(&options->arguments);
}

static bool copy_options(struct broker_queue_options *copy, const struct broker_queue_options *options)
{
    *copy = *options;
    copy->dead_exchange = copy->dead_key = copy->order_by = copy->arguments = (struct slice){0};
    if (copy_text(&copy->dead_exchange, options->dead_exchange) &&
        copy_text(&copy->dead_key, options->dead_key) && copy_text(&copy->order_by, options->order_by) &&
        copy_text(&copy->arguments, options->arguments))
        return true;
    free_options(copy);
    return false;
}

enum option_flag {
    FLAG_MANAGED = 1,
    FLAG_TRANSIENT = 2,
    FLAG_EXCLUSIVE = 4,
    FLAG_AUTO_DELETE = 8,
    FLAG_SINGLE_ACTIVE = 16,
    FLAG_DEAD_LETTER = 32,
    FLAG_DEAD_KEEPS_KEY = 64,
    FLAG_NOTHING_WAITS = 128,
};

static unsigned option_flags(const struct broker_queue_options *o)
{
    return (o->managed ? FLAG_MANAGED : 0) | (o->transient ? FLAG_TRANSIENT : 0) |
           (o->exclusive ? FLAG_EXCLUSIVE : 0) | (o->auto_delete ? FLAG_AUTO_DELETE : 0) |
           (o->single_active ? FLAG_SINGLE_ACTIVE : 0) | (o->has_dead_letter ? FLAG_DEAD_LETTER : 0) |
           (o->dead_keeps_key ? FLAG_DEAD_KEEPS_KEY : 0) | (o->nothing_waits ? FLAG_NOTHING_WAITS : 0);
}

static void set_option_flags(struct broker_queue_options *o, unsigned flags)
{
    o->managed = flags & FLAG_MANAGED;
    o->transient = flags & FLAG_TRANSIENT;
    o->exclusive = flags & FLAG_EXCLUSIVE;
    o->auto_delete = flags & FLAG_AUTO_DELETE;
    o->single_active = flags & FLAG_SINGLE_ACTIVE;
    o->has_dead_letter = flags & FLAG_DEAD_LETTER;
    o->dead_keeps_key = flags & FLAG_DEAD_KEEPS_KEY;
    o->nothing_waits = flags & FLAG_NOTHING_WAITS;
}

static bool same_options(const struct broker_queue_options *a, const struct broker_queue_options *b)
{
    return a->max_length == b->max_length && a->max_bytes == b->max_bytes && a->max_age_us == b->max_age_us &&
           a->ack_timeout_us == b->ack_timeout_us && a->retry_first_us == b->retry_first_us &&
           a->retry_most_us == b->retry_most_us && a->idle_us == b->idle_us && a->attempts == b->attempts &&
           a->overflow == b->overflow && a->priorities == b->priorities &&
           option_flags(a) == option_flags(b) && slice_equal(a->dead_exchange, b->dead_exchange) &&
           slice_equal(a->dead_key, b->dead_key) && slice_equal(a->order_by, b->order_by) &&
           slice_equal(a->arguments, b->arguments);
}

#define OPTIONS_FIXED (7 * 8 + 4 + 3)

size_t queue_options_bytes(const struct broker_queue_options *options)
{
    return OPTIONS_FIXED + 4 * 2 + options->dead_exchange.len + options->dead_key.len +
           options->order_by.len + options->arguments.len;
}

char *queue_options_put(char *at, const struct broker_queue_options *options)
{
    put_u64le(at, options->max_length);
    put_u64le(at + 8, options->max_bytes);
    put_u64le(at + 16, options->max_age_us);
    put_u64le(at + 24, options->ack_timeout_us);
    put_u64le(at + 32, options->retry_first_us);
    put_u64le(at + 40, options->retry_most_us);
    put_u64le(at + 48, options->idle_us);
    put_u32le(at + 56, options->attempts);
    at[60] = (char)options->overflow;
    at[61] = (char)options->priorities;
    at[62] = (char)option_flags(options);
    at = put_text(put_text(at + OPTIONS_FIXED, options->dead_exchange), options->dead_key);
    return put_text(put_text(at, options->order_by), options->arguments);
}

bool queue_options_take(struct slice *s, struct broker_queue_options *options)
{
    struct slice fixed;

    if (!take_slice(s, OPTIONS_FIXED, &fixed))
        return false;
    *options = (struct broker_queue_options){
        .max_length = get_u64le(fixed.ptr),
        .max_bytes = get_u64le(fixed.ptr + 8),
        .max_age_us = get_u64le(fixed.ptr + 16),
        .ack_timeout_us = get_u64le(fixed.ptr + 24),
        .retry_first_us = get_u64le(fixed.ptr + 32),
        .retry_most_us = get_u64le(fixed.ptr + 40),
        .idle_us = get_u64le(fixed.ptr + 48),
        .attempts = get_u32le(fixed.ptr + 56),
        .overflow = (enum queue_limit_rule)(uint8_t)fixed.ptr[60],
        .priorities = (uint8_t)fixed.ptr[61],
    };
    set_option_flags(options, (uint8_t)fixed.ptr[62]);
    return options->overflow <= LIMIT_DROP_HEAD && take_text(s, &options->dead_exchange) &&
           take_text(s, &options->dead_key) && take_text(s, &options->order_by) &&
           take_text(s, &options->arguments);
}

/* ---- looking up -------------------------------------------------------------------------------------------------- */

struct queue *broker_queue_by_id(const struct broker *broker, uint32_t id)
{
    struct hash_item *item = hash_table_find(&broker->queues_by_id, id);

    return item ? container_of(item, struct queue, by_id) : NULL;
}

struct queue *broker_queue(const struct broker *broker, struct slice name)
{
    struct hash_item *item = hash_table_find(&broker->queues_by_name, hash_bytes(name));

    for (; item; item = hash_table_next(item)) {
        struct queue *queue = container_of(item, struct queue, by_name);

        if (slice_equal(queue->name, name))
            return queue;
    }
    return NULL;
}

/* ---- making and freeing ------------------------------------------------------------------------------------------ */

/* False: no memory, or its id is taken. */
static bool place_queue(struct broker *broker, struct queue *queue)
{
    if (broker_queue_by_id(broker, queue->id) || !hash_table_reserve(&broker->queues_by_name) ||
        !hash_table_reserve(&broker->queues_by_id))
        return false;
    hash_table_add(&broker->queues_by_name, &queue->by_name, hash_bytes(queue->name));
    hash_table_add(&broker->queues_by_id, &queue->by_id, queue->id);
    return true;
}

/* The levels of a queue are as many for good: what waits is sorted by them. */
static bool make_levels(struct queue *queue, unsigned priorities)
{
    queue->n_levels = priorities + 1;
    queue->levels = priorities ? calloc(queue->n_levels, sizeof *queue->levels) : &queue->level;
    for (unsigned i = 0; queue->levels && i < queue->n_levels; i++)
        ready_init(&queue->levels[i].ready, queue->broker->index);
    return queue->levels != NULL;
}

static void free_levels(struct queue *queue)
{
    for (unsigned i = 0; queue->levels && i < queue->n_levels; i++)
        ready_clear(&queue->levels[i].ready);
    if (queue->levels != &queue->level)
        free(queue->levels);
}

struct queue *queue_create(struct broker *broker, uint32_t id, struct slice name,
                           const struct broker_queue_options *options)
{
    struct queue *queue = calloc(1, sizeof *queue);

    if (!queue)
        return NULL;
    queue->broker = broker;
    queue->id = id;
    destination_init(&queue->destination, false);
    list_init(&queue->link);
    list_init(&queue->consumers);
    list_init(&queue->stopped);
    list_init(&queue->owned);
    list_init(&queue->held);
    list_init(&queue->to_run);
    list_init(&queue->to_mark);
    list_init(&queue->fresh);
    timer_init(&queue->expiry);
    timer_init(&queue->idle);
    if (!make_levels(queue, options->priorities) ||
        timer_heap_reserve(&broker->expiries, broker->n_queues + 1) ||
        timer_heap_reserve(&broker->idles, broker->n_queues + 1) || !copy_text(&queue->name, name) ||
        !copy_options(&queue->options, options) || !place_queue(broker, queue)) {
        free_levels(queue);
        free_options(&queue->options);
        free_text(&queue->name);
        free(queue);
        return NULL;
    }
    list_push_back(&broker->queues, &queue->link);
    broker->n_queues++;
    if (id >= broker->next_id)
        broker->next_id = id + 1;
    return queue;
}

void queue_free(struct queue *queue)
{
    assert(list_empty(&queue->consumers) && list_empty(&queue->stopped) && queue->n_keys == 0 &&
           list_empty(&queue->destination.bindings));
    hash_table_remove(&queue->broker->queues_by_name, &queue->by_name);
    hash_table_remove(&queue->broker->queues_by_id, &queue->by_id);
    queue->broker->n_queues--;
    timer_disarm(&queue->broker->expiries, &queue->expiry);
    timer_disarm(&queue->broker->idles, &queue->idle);
    list_remove(&queue->link);
    list_remove(&queue->owned);
    list_remove(&queue->to_run);
    list_remove(&queue->to_mark);
    list_remove(&queue->fresh);
    free_levels(queue);
    timer_heap_free(&queue->again);
    free(queue->keys);
    free_options(&queue->options);
    free_text(&queue->name);
    free(queue);
}

/* With all that is in it. An error: the index could not be read, and what its messages held in the log is not known; then no
 * checkpoint may be made of it. */
static int destroy_queue(struct queue *queue)
{
    struct broker *broker = queue->broker;
    struct ready_entry entry;
    struct held *held;
    int error = 0;

    queue->deleted = true;
    while (!list_empty(&queue->consumers)) {
        struct broker_consumer *consumer = container_of(queue->consumers.next, struct broker_consumer, link);

        consumer_end(consumer);
        if (broker->events->cancelled)
            broker->events->cancelled(broker->arg, consumer);
    }
    while (!list_empty(&queue->stopped))
        consumer_end(container_of(queue->stopped.next, struct broker_consumer, link));
    for (struct list *at = queue->held.next; at != &queue->held; at = at->next)
        if (container_of(at, struct held, in_queue)->state == HELD_BLOCKED)
            held_set_state(container_of(at, struct held, in_queue), HELD_AGAIN, 0);
    while (!list_empty(&queue->held))
        held_end(container_of(queue->held.next, struct held, in_queue), END_PURGED);
    while (queue_oldest(queue, &held, &entry, &error)) {
        queue_pop(queue, &entry);
        message_ended(queue, &entry, 0, END_PURGED);
    }
    exchange_unbind_all(broker, &queue->destination);
    queue_free(queue);
    return error;
}

/* ---- commands ---------------------------------------------------------------------------------------------------- */

int broker_append_block(struct broker *broker, enum log_claim claim, uint8_t kind, const char *block,
                        size_t n)
{
    struct iovec part = {(void *)(uintptr_t)block, n};
    uint64_t position;

    return log_append(broker->log, claim, 0, kind, &part, 1, &position);
}

static int log_queue(struct broker *broker, uint32_t id, struct slice name,
                     const struct broker_queue_options *options)
{
    size_t n = 4 + 2 + name.len + queue_options_bytes(options);
    char *block = malloc(n);
    int error;

    if (!block)
        return -ENOMEM;
    put_u32le(block, id);
    queue_options_put(put_text(block + 4, name), options);
    error = broker_append_block(broker, LOG_MORE, RECORD_QUEUE, block, n);
    free(block);
    return error;
}

static int append_pause(struct broker *broker, const struct queue *queue)
{
    char block[5];

    put_u32le(block, queue->id);
    block[4] = queue->paused ? 1 : 0;
    return broker_append_block(broker, LOG_RELIEF, RECORD_PAUSE, block, sizeof block);
}

static int change_queue(struct queue *queue, const struct broker_queue_options *options)
{
    struct broker_queue_options copy;
    int error;

    if (!copy_options(&copy, options))
        return -ENOMEM;
    error = queue->broker->replaying ? 0 : log_queue(queue->broker, queue->id, queue->name, options);
    if (error) {
        free_options(&copy);
        return error;
    }
    copy.priorities = queue->options.priorities;
    free_options(&queue->options);
    queue->options = copy;
    queue_touch(queue);
    queue_kick(queue);
    return 0;
}

static bool name_is_too_long(struct slice name)
{
    return name.len > BROKER_NAME_MAX;
}

int broker_declare_queue(struct broker *broker, struct slice name, const struct broker_queue_options *options,
                         enum declare_rule rule)
{
    struct queue *queue = broker_queue(broker, name);
    int error;

    if (name_is_too_long(name) || name_is_too_long(options->dead_exchange) ||
        options->dead_key.len > BROKER_KEY_MAX || name_is_too_long(options->order_by) ||
        options->arguments.len > BROKER_ARGUMENTS_MAX)
        return -ENAMETOOLONG;
    if (queue && same_options(&queue->options, options))
        return 0;
    if (queue)
        return rule == DECLARE_SET ? change_queue(queue, options) : -EEXIST;
    queue = queue_create(broker, broker->next_id, name, options);
    if (!queue)
        return -ENOMEM;
    error = log_queue(broker, queue->id, name, options);
    if (error)
        queue_free(queue);
    else
        queue_touch(queue);
    return error;
}

int broker_delete_queue(struct broker *broker, struct slice name, bool if_empty, uint64_t now_us)
{
    struct queue *queue = broker_queue(broker, name);

    broker->now_us = now_us;
    if (!queue)
        return -ENOENT;
    if (if_empty && (queue_n_ready(queue) || !list_empty(&queue->held)))
        return -ENOTEMPTY;
    return queue_delete(queue);
}

int queue_delete(struct queue *queue)
{
    struct broker *broker = queue->broker;
    char block[4];
    int error;

    broker_flush(broker);
    put_u32le(block, queue->id);
    error = broker_append_block(broker, LOG_RELIEF, RECORD_QUEUE_DELETE, block, sizeof block);
    if (!error && destroy_queue(queue) != 0)
        broker_fail(broker, "the index of what waits cannot be read; a restart makes it anew");
    return error;
}

int topology_drop_transient(struct broker *broker)
{
    struct list *next;
    int error = 0;

    for (struct list *at = broker->queues.next; !error && at != &broker->queues; at = next) {
        struct queue *queue = container_of(at, struct queue, link);

        next = at->next;
        if (queue->options.transient || queue->options.exclusive)
            error = queue_delete(queue);
        else
            queue_touch(queue);
    }
    return error;
}

/* ---- who uses a queue -------------------------------------------------------------------------------------------- */

void queue_touch(struct queue *queue)
{
    struct broker *broker = queue->broker;

    if (!queue->options.idle_us || queue->n_consumers)
        timer_disarm(&broker->idles, &queue->idle);
    else
        timer_arm(&broker->idles, &queue->idle, broker->now_us + queue->options.idle_us);
}

void broker_touch_queue(struct broker *broker, struct slice name, uint64_t now_us)
{
    struct queue *queue = broker_queue(broker, name);

    broker->now_us = now_us;
    if (queue)
        queue_touch(queue);
}

struct broker_session *broker_session_open(struct broker *broker)
{
    struct broker_session *session = malloc(sizeof *session);

    (void)broker;
    if (session)
        list_init(&session->queues);
    return session;
}

void broker_session_close(struct broker *broker, struct broker_session *session, uint64_t now_us)
{
    struct list *at;

    broker->now_us = now_us;
    while ((at = list_pop_front(&session->queues))) {
        struct queue *queue = container_of(at, struct queue, owned);

        queue->owner = NULL;
        if (queue_delete(queue) != 0)
            queue->options.exclusive = false; /* it goes with the next start */
    }
    free(session);
}

void broker_own_queue(struct broker *broker, struct slice name, struct broker_session *session)
{
    struct queue *queue = broker_queue(broker, name);

    if (!queue || queue->owner)
        return;
    queue->owner = session;
    list_push_back(&session->queues, &queue->owned);
}

bool broker_queue_is_locked(const struct broker *broker, struct slice name,
                            const struct broker_session *session)
{
    const struct queue *queue = broker_queue(broker, name);

    return queue && queue->owner && queue->owner != session;
}

int broker_pause(struct broker *broker, struct slice name, bool pause)
{
    struct queue *queue = broker_queue(broker, name);
    int error;

    if (!queue)
        return -ENOENT;
    if (queue->paused == pause)
        return 0;
    queue->paused = pause;
    error = append_pause(broker, queue);
    if (error)
        queue->paused = !pause;
    else
        queue_kick(queue);
    return error;
}

int topology_append(struct broker *broker)
{
    int error = 0;

    for (struct list *at = broker->queues.next; at != &broker->queues && !error; at = at->next) {
        const struct queue *queue = container_of(at, struct queue, link);

        error = log_queue(broker, queue->id, queue->name, &queue->options);
        if (!error && queue->paused)
            error = append_pause(broker, queue);
    }
    return error ? error : exchange_append_all(broker);
}

/* ---- replay ------------------------------------------------------------------------------------------------------ */

static int replay_queue(struct broker *broker, struct slice s)
{
    struct broker_queue_options options;
    struct slice name;
    struct queue *queue;
    uint32_t id;

    if (!take_u32le(&s, &id) || !take_text(&s, &name) || !queue_options_take(&s, &options))
        return -EBADMSG;
    queue = broker_queue_by_id(broker, id);
    if (queue)
        return change_queue(queue, &options);
    return queue_create(broker, id, name, &options) ? 0 : -ENOMEM;
}

int topology_replay(struct broker *broker, const struct log_record *record)
{
    struct slice s = record->payload;
    struct queue *queue;
    uint32_t id;
    uint8_t pause;

    switch (record->kind) {
    case RECORD_QUEUE:
        return replay_queue(broker, s);
    case RECORD_EXCHANGE:
    case RECORD_EXCHANGE_DELETE:
    case RECORD_BIND:
    case RECORD_UNBIND:
        return exchange_replay(broker, record);
    default:
        break;
    }
    if (!take_u32le(&s, &id))
        return -EBADMSG;
    queue = broker_queue_by_id(broker, id);
    if (!queue)
        return -EBADMSG;
    if (record->kind == RECORD_QUEUE_DELETE)
        return destroy_queue(queue);
    if (!take_u8(&s, &pause))
        return -EBADMSG;
    queue->paused = pause != 0;
    return 0;
}
