/* broker.c - see broker.h: opening, publishing, what is gathered, turns. */
#include "queue/broker.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/hash.h"
#include "queue/broker_private.h"

/* What is gathered is appended when there is so much of it, or as much as a record may have, at the latest. */
#define GATHER_MOST 65536u

/* ---- a life ------------------------------------------------------------------------------------------------------ */

struct broker *broker_create(const struct broker_options *options)
{
    struct broker *broker = calloc(1, sizeof *broker);

    if (!broker)
        return NULL;
    broker->log = options->log;
    broker->storage = options->storage;
    broker->events = options->events;
    broker->arg = options->arg;
    broker->rng.state = options->seed;
    broker->now_us = options->now_us;
    broker->next_number = broker->next_id = 1;
    broker->next_body = 1;
    broker->compacting = UINT64_MAX;
    list_init(&broker->queues);
    list_init(&broker->exchanges);
    list_init(&broker->to_run);
    list_init(&broker->to_mark);
    list_init(&broker->fresh);
    list_init(&broker->ended);
    list_init(&broker->leaving);
    recent_init(&broker->finished, sizeof(struct finished), FINISHED_KEPT);
    recent_init(&broker->idempotency, sizeof(struct same_key), IDEMPOTENCY_KEPT);
    return broker;
}

int broker_open(struct broker **result, const struct broker_options *options, struct log_report *report)
{
    struct broker *broker = broker_create(options);
    int error;

    *result = NULL;
    *report = (struct log_report){0};
    if (!broker)
        return -ENOMEM;
    error = broker_recover(broker, options->storage, report);
    if (!error) {
        broker->replayed_end = log_end(broker->log);
        error = topology_drop_transient(broker);
        if (!error)
            error = broker_delete_transient(broker);
        if (error == -ENOSPC) /* those that stay go with the next start */
            error = 0;
    }
    if (error) {
        broker_close(broker);
        return error;
    }
    *result = broker;
    return 0;
}

uint64_t broker_replayed_end(const struct broker *broker)
{
    return broker->replayed_end;
}

static void free_held(struct broker *broker)
{
    for (uint64_t i = 0; i < broker->n_held_buckets; i++)
        for (struct held *next, *held = broker->held[i]; held; held = next) {
            next = held->next_in_bucket;
            free(held);
        }
    free(broker->held);
}

static void free_keys(struct queue *queue)
{
    for (uint32_t i = 0; i < queue->n_key_buckets; i++)
        for (struct ordered_key *next, *key = queue->keys[i]; key; key = next) {
            next = key->next_in_bucket;
            free(key);
        }
    queue->n_keys = 0;
}

/* Consumers that were not unsubscribed go with it. */
static void free_consumers(struct list *consumers)
{
    struct list *at;

    while ((at = list_pop_front(consumers)))
        consumer_free(container_of(at, struct broker_consumer, link));
}

void broker_close(struct broker *broker)
{
    free_held(broker);
    broker_free_exchanges(broker);
    while (!list_empty(&broker->queues)) {
        struct queue *queue = container_of(broker->queues.next, struct queue, link);

        free_keys(queue);
        free_consumers(&queue->consumers);
        free_consumers(&queue->stopped);
        queue_free(queue);
    }
    free_consumers(&broker->ended);
    timer_heap_free(&broker->deadlines);
    timer_heap_free(&broker->wakes);
    timer_heap_free(&broker->expiries);
    timer_heap_free(&broker->idles);
    recent_free(&broker->finished);
    recent_free(&broker->idempotency);
    bodies_free(broker);
    log_buffer_free(&broker->buffer);
    index_close(broker->index);
    hash_table_free(&broker->queues_by_name);
    hash_table_free(&broker->queues_by_id);
    free(broker->segments);
    free(broker->done);
    free(broker->retries);
    free(broker);
}

bool broker_index_was_rebuilt(const struct broker *broker)
{
    return broker->index_rebuilt;
}

void broker_fail(struct broker *broker, const char *format, ...)
{
    va_list arguments;

    if (broker->failure[0])
        return;
    va_start(arguments, format);
    vsnprintf(broker->failure, sizeof broker->failure, format, arguments);
    va_end(arguments);
}

const char *broker_failure(const struct broker *broker)
{
    const char *of_log = log_failure(broker->log);

    return of_log ? of_log : broker->failure[0] ? broker->failure : NULL;
}

int broker_read(struct broker *broker, uint64_t position, struct message *message)
{
    struct log_record record;
    int error = log_read(broker->log, position, 0, &broker->buffer, &record);

    if (error)
        return error;
    if ((record.kind != RECORD_MESSAGE && record.kind != RECORD_COPY) ||
        !message_parse(record.payload, message))
        return -EBADMSG;
    return 0;
}

/* ---- what is gathered -------------------------------------------------------------------------------------------- */

static void append_list(struct broker *broker, enum log_claim claim, uint8_t kind, const char *list,
                        size_t *len)
{
    struct iovec part = {(void *)(uintptr_t)list, *len};
    uint64_t position;

    /* What cannot be appended is not remembered after a restart: a message comes once more. */
    if (*len && log_append(broker->log, claim, 0, kind, &part, 1, &position) != 0)
        broker->lost_done |= kind == RECORD_DONE;
    *len = 0;
}

static void append_lists(struct broker *broker);

/* Room for one more; where the list is full, all lists are appended, in their order: a message's RETRY stands before its DONE.
 * NULL: no memory at all. */
static char *gather(struct broker *broker, char **list, size_t *len, size_t *room, size_t bytes)
{
    size_t most = log_promised_payload_max(broker->log) < GATHER_MOST ? log_promised_payload_max(broker->log)
                                                                      : GATHER_MOST;
    char *grown;

    if (*len + bytes > most)
        append_lists(broker);
    if (*len + bytes > *room) {
        grown = realloc(*list, *room ? *room * 2 : 1024);
        if (!grown)
            return NULL;
        *list = grown;
        *room = *room ? *room * 2 : 1024;
    }
    *len += bytes;
    return *list + *len - bytes;
}

void broker_gather_done(struct broker *broker, const struct done_entry *entry)
{
    char *at = gather(broker, &broker->done, &broker->done_len, &broker->done_room, DONE_BYTES);

    if (at)
        done_entry_put(at, entry);
    broker->lost_done |= !at;
}

void broker_gather_retry(struct broker *broker, const struct retry_entry *entry)
{
    char *at = gather(broker, &broker->retries, &broker->retries_len, &broker->retries_room, RETRY_BYTES);

    if (at)
        retry_entry_put(at, entry);
}

/* How far each queue has delivered. */
static void append_marks(struct broker *broker)
{
    char block[64 * DELIVERED_BYTES];
    struct list *at;
    size_t len = 0;

    while ((at = list_pop_front(&broker->to_mark))) {
        const struct queue *queue = container_of(at, struct queue, to_mark);

        for (unsigned i = 0; i < queue->n_levels; i++) {
            struct level *level = &queue->levels[i];

            if (!level->to_mark)
                continue;
            level->to_mark = false;
            delivered_entry_put(block + len, &(struct message_ref){queue->id, level->delivered});
            len += DELIVERED_BYTES;
            if (len == sizeof block)
                append_list(broker, LOG_MORE, RECORD_DELIVERED, block, &len);
        }
    }
    append_list(broker, LOG_MORE, RECORD_DELIVERED, block, &len);
}

static void append_lists(struct broker *broker)
{
    append_marks(broker);
    append_list(broker, LOG_MORE, RECORD_RETRY, broker->retries, &broker->retries_len);
    append_list(broker, LOG_PROMISED, RECORD_DONE, broker->done, &broker->done_len);
}

void broker_flush(struct broker *broker)
{
    append_lists(broker);
    bodies_flushed(broker);
}

/* ---- a message into its queues ----------------------------------------------------------------------------------- */

int broker_reserve(struct queue *queue, const struct message *message, bool delayed)
{
    return delayed ? held_reserve(queue) : ready_reserve(&queue_level(queue, message->priority)->ready);
}

static uint32_t order_key(const struct queue *queue, const struct message *message)
{
    struct slice name = queue->options.order_by, value;
    uint32_t key;

    if (!name.len)
        return 0;
    value = envelope_field(message->head, name);
    if (!value.ptr)
        return 0;
    key = (uint32_t)hash_bytes(value);
    return key ? key : 1;
}

uint64_t broker_bytes_of(const struct message *message)
{
    return message_body_bytes(message) +
           (envelope_find(message->head, ENVELOPE_AMQP).ptr ? 0 : message->head.len);
}

struct ready_entry broker_entry(const struct queue *queue, const struct message *message, uint64_t position)
{
    return (struct ready_entry){
        .number = message->number,
        .position = position,
        .queued_ms = message->queued_us / US_PER_MS & ((UINT64_C(1) << 48) - 1),
        .bytes = (uint32_t)broker_bytes_of(message),
        .key = order_key(queue, message),
        .has_ttl = message->ttl_us != 0,
        .stored = message->stored.id != 0,
        .priority = message->priority,
    };
}

void broker_enqueue(struct queue *queue, const struct message *message, uint64_t position)
{
    struct broker *broker = queue->broker;
    struct ready_entry entry = broker_entry(queue, message, position);

    queue->bytes += entry.bytes;
    if (entry.stored)
        body_need(broker, message);
    if (message->due_us > broker->now_us || (broker->replaying && message->due_us))
        held_create(queue, &entry, HELD_DELAYED, message->due_us);
    else
        ready_push(&queue_level(queue, entry.priority)->ready, &entry);
    if (list_empty(&queue->fresh))
        list_push_back(&broker->fresh, &queue->fresh);
}

enum publish_result broker_error_result(int error)
{
    switch (error) {
    case -ENOSPC:
        return PUBLISH_NO_SPACE;
    case -ENOMEM:
        return PUBLISH_NO_MEMORY;
    case -EFBIG:
        return PUBLISH_TOO_LARGE;
    default:
        return PUBLISH_CLOSED;
    }
}

enum publish_result broker_append(struct broker *broker, struct message *message,
                                  struct queue *const *targets, unsigned n, uint64_t *position)
{
    char block[MESSAGE_BLOCK_BYTES];
    struct iovec parts[MESSAGE_PARTS];
    int error = segments_reserve(broker);

    if (!error && message->stored.id)
        error = body_prepare(broker, message);
    assert(n && n <= MESSAGE_TARGETS_MAX);
    message->number = broker->next_number;
    message->queued_us = broker->now_us;
    if (!message->origin)
        message->origin = message->number;
    for (unsigned i = 0; i < n; i++) {
        put_u32le(broker->target_ids + i * sizeof(uint32_t), targets[i]->id);
        if (!error)
            error = broker_reserve(targets[i], message, message->due_us > broker->now_us);
    }
    message->targets = slice_of(broker->target_ids, n * sizeof(uint32_t));
    message_parts(message, block, parts);
    if (!error)
        error = log_append(broker->log, LOG_MORE, n * DONE_PROMISE, RECORD_MESSAGE, parts, MESSAGE_PARTS,
                           position);
    if (error)
        return broker_error_result(error);
    broker->next_number++;
    broker->appended_upto = log_end(broker->log);
    segments_add(broker, *position, n);
    for (unsigned i = 0; i < n; i++)
        broker_enqueue(targets[i], message, *position);
    return PUBLISH_OK;
}

/* ---- publishing -------------------------------------------------------------------------------------------------- */

static bool is_same_key(const struct recent_item *item, const void *wanted)
{
    return memcmp(((const struct same_key *)item)->key, wanted, IDEMPOTENCY_KEY_BYTES) == 0;
}

static void forget_old_keys(struct broker *broker)
{
    const struct recent_item *item;

    while ((item = recent_at(&broker->idempotency, 0)) &&
           ((const struct same_key *)item)->until_us <= broker->now_us)
        recent_drop_oldest(&broker->idempotency);
}

/* Tells a key from others, of this address: two hashes of both. */
static void digest_key(uint32_t address, struct slice text, char key[IDEMPOTENCY_KEY_BYTES])
{
    put_u64le(key, hash_bytes_seeded(text, address));
    put_u64le(key + 8, hash_bytes_seeded(text, ~(uint64_t)address));
}

static const struct same_key *find_same(struct broker *broker, const char key[IDEMPOTENCY_KEY_BYTES])
{
    const struct same_key *same =
        (const struct same_key *)recent_find(&broker->idempotency, get_u64le(key), is_same_key, key);

    return same && same->until_us > broker->now_us ? same : NULL;
}

void broker_remember_key(struct broker *broker, const struct message *message, uint64_t position)
{
    struct same_key same = {
        .item.hash = get_u64le(message->idempotency.ptr),
        .number = message->number,
        .until_us = message->idempotency_until_us,
        .position = position,
        .address = message->origin_address,
    };

    memcpy(same.key, message->idempotency.ptr, IDEMPOTENCY_KEY_BYTES);
    recent_add(&broker->idempotency, &same.item);
}

static void refuse(struct queue *queue, const struct message *message, struct broker_published *published)
{
    queue->tallies.refused++;
    published->full = queue->name;
    if (queue->options.overflow == LIMIT_BURY_NEW)
        queue_bury_new(queue, message);
}

/* Those that have no room go behind the others; how many these are. */
static unsigned leave_out_full(struct queue **targets, unsigned n, uint64_t bytes)
{
    struct queue *full;

    while (n && (full = queues_make_room(targets, n, bytes))) {
        unsigned i = 0;

        while (targets[i] != full)
            i++;
        targets[i] = targets[--n];
        targets[n] = full;
    }
    return n;
}

/* Where it goes: how many queues, or the result that says why it goes nowhere. */
static int find_targets(struct broker *broker, const struct broker_publication *p, struct message *message,
                        struct queue **targets, enum publish_result *result)
{
    struct exchange *exchange = p->exchange.len ? broker_exchange(broker, p->exchange) : NULL;
    struct routing routing = {exchange, p->key, p->more_keys, p->head};
    int n;

    *result = PUBLISH_NO_EXCHANGE;
    if (p->exchange.len && !exchange)
        return 0;
    *result = PUBLISH_INTERNAL;
    if (exchange && exchange->options.internal)
        return 0;
    n = broker_route(broker, &routing, targets, MESSAGE_TARGETS_MAX);
    *result = n < 0 ? PUBLISH_TOO_LARGE : PUBLISH_UNROUTABLE;
    if (n <= 0)
        return 0;
    message->exchange = exchange ? exchange->id : 0;
    message->origin_address = exchange ? exchange->id | ADDRESS_IS_EXCHANGE : targets[0]->id;
    return n;
}

/* Into all of the targets or, when it is partial, those that have room. What is buried of it for the others comes behind it. */
static enum publish_result put_in(struct broker *broker, struct message *message, struct queue **targets,
                                  unsigned n, bool partial, struct broker_published *published)
{
    uint64_t bytes = broker_bytes_of(message);
    struct queue *full = partial ? NULL : queues_make_room(targets, n, bytes);
    unsigned n_room = partial ? leave_out_full(targets, n, bytes) : full ? 0 : n;
    enum publish_result result = PUBLISH_OK;

    if (n_room)
        result = broker_append(broker, message, targets, n_room, &published->position);
    if (result != PUBLISH_OK)
        return result;
    if (n_room) {
        if (message->idempotency.len)
            broker_remember_key(broker, message, published->position);
        exchange_count(broker, message->exchange);
        published->number = message->number;
    }
    for (unsigned i = 0; i < n_room; i++)
        targets[i]->tallies.published++;
    if (full)
        refuse(full, message, published);
    for (unsigned i = n_room; partial && i < n; i++)
        refuse(targets[i], message, published);
    return n_room < n ? PUBLISH_FULL : PUBLISH_OK;
}

enum publish_result broker_publish(struct broker *broker, const struct broker_publication *p,
                                   struct broker_published *published, uint64_t now_us)
{
    struct message message = {
        .routing_key = p->key,
        .head = p->head,
        .body = p->body,
        .stored = p->stored,
        .published_us = now_us,
        .due_us = p->delay_us ? now_us + p->delay_us : 0,
        .ttl_us = p->ttl_us,
        .priority = p->priority,
    };
    struct queue **targets = broker->targets;
    char key[IDEMPOTENCY_KEY_BYTES];
    const struct same_key *same;
    enum publish_result result;
    int n;

    broker->now_us = now_us;
    *published = (struct broker_published){0};
    if (broker_failure(broker))
        return PUBLISH_CLOSED;
    if (p->key.len > BROKER_KEY_MAX)
        return PUBLISH_TOO_LARGE;
    n = find_targets(broker, p, &message, targets, &result);
    if (n == 0)
        return result;
    published->address = message.origin_address;
    if (p->idempotency.len && p->idempotency_window_us) {
        forget_old_keys(broker);
        digest_key(message.origin_address, p->idempotency, key);
        same = find_same(broker, key);
        if (same) {
            published->number = same->number;
            published->position = same->position;
            return PUBLISH_SAME;
        }
        message.idempotency = slice_of(key, sizeof key);
        message.idempotency_until_us = now_us + p->idempotency_window_us;
    }
    return put_in(broker, &message, targets, (unsigned)n, p->partial, published);
}

/* ---- turns ------------------------------------------------------------------------------------------------------- */

bool broker_needs_commit(const struct broker *broker)
{
    return broker->durable_number < broker->next_number && log_durable(broker->log) < broker->appended_upto;
}

void broker_run(struct broker *broker, uint64_t now_us)
{
    struct list *at;

    broker->now_us = now_us;
    if (log_durable(broker->log) >= broker->appended_upto && broker->durable_number < broker->next_number) {
        broker->durable_number = broker->next_number;
        while ((at = list_pop_front(&broker->fresh)))
            queue_kick(container_of(at, struct queue, fresh));
    }
    broker_expire_deadlines(broker);
    broker_pump(broker);
}

uint64_t broker_next_us(const struct broker *broker)
{
    const struct timer_heap *heaps[] = {&broker->deadlines, &broker->wakes, &broker->expiries,
                                        &broker->idles};
    uint64_t next = UINT64_MAX;

    for (size_t i = 0; i < sizeof heaps / sizeof heaps[0]; i++)
        if (timer_next(heaps[i]) < next)
            next = timer_next(heaps[i]);
    return next;
}
