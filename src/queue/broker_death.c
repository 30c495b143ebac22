/* broker_death.c - how messages leave their queues otherwise than by acknowledgement. See broker_private.h.
 *
 * A message that dies, or is moved, leaves its queue in the same record that puts it into the next one: there is no moment
 * at which it is in both or in none. Where the next one cannot take it, it stays where it is. */
#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_private.h"

/* How long a dead message waits when its dead letters cannot take it. */
#define DEATH_RETRY_US US_PER_S

/* ---- leaving ----------------------------------------------------------------------------------------------------- */

static void remember_end(struct queue *queue, const struct ready_entry *entry, const struct done_entry *done)
{
    struct broker *broker = queue->broker;
    struct finished finished = {
        .item.hash = done->ref.number,
        .ref = done->ref,
        .time_us = broker->now_us,
        .queued_ms = entry->queued_ms,
        .end = (uint16_t)done->end,
        .attempts = (uint16_t)(done->attempts < UINT16_MAX ? done->attempts : UINT16_MAX),
    };

    recent_add(&broker->finished, &finished.item);
}

/* Counts and tells; what the log says of it is the caller's. */
static void take_leave(struct queue *queue, const struct ready_entry *entry, const struct done_entry *done)
{
    struct broker *broker = queue->broker;
    struct broker_ending ending = {done->ref, done->end, done->attempts, broker->now_us};

    queue->bytes -= entry->bytes;
    segments_drop(broker, entry->position);
    if (entry->stored)
        body_unneed(broker, entry->number);
    remember_end(queue, entry, done);
    if (broker->replaying)
        return;
    log_fulfil(broker->log, DONE_PROMISE);
    queue->tallies.ended[done->end]++;
    broker->events->ended(broker->arg, &ending);
}

void message_ended(struct queue *queue, const struct ready_entry *entry, unsigned attempts,
                   enum message_end end)
{
    struct done_entry done = {{queue->id, entry->number}, end, attempts};

    take_leave(queue, entry, &done);
    if (!queue->broker->replaying && !queue->deleted)
        broker_gather_done(queue->broker, &done);
}

void held_end(struct held *held, enum message_end end)
{
    struct ready_entry entry = held->entry;
    struct queue *queue = held->queue;
    unsigned attempts = held->attempts;

    held_free(held);
    message_ended(queue, &entry, attempts, end);
}

/* ---- to another queue -------------------------------------------------------------------------------------------- */

/* Mostly enough; the broker may run on a small stack. */
#define DEAD_TARGETS_FEW 16

/* What becomes of a message that goes on to other queues. */
struct passage {
    enum message_end end;
    const struct exchange *exchange; /* NULL: the default one */
    struct slice key;
    struct queue **targets;                      /* few, many, or borrowed */
    struct queue *few[DEAD_TARGETS_FEW], **many; /* owned; NULL: a few are all */
    unsigned n;
    unsigned attempts; /* that it had */
    bool bury;         /* its head tells of its death */
    char key_block[BROKER_KEY_MAX];
};

/* As many of the keys as a death can tell of. */
static struct slice cut_copies(struct slice copies)
{
    size_t len = 0, next = 0;

    while (next <= UINT16_MAX && next <= copies.len) {
        len = next;
        next = len < copies.len ? len + 1 + (unsigned char)copies.ptr[len] : SIZE_MAX;
    }
    return slice_of(copies.ptr, len);
}

/* head anew, with its death in it; malloc's. ptr NULL: no memory. */
static struct slice bury(const struct queue *queue, const struct message *message, enum message_end end)
{
    const struct exchange *exchange = broker_exchange_by_id(queue->broker, message->exchange);
    struct death death = {
        .reason = end,
        .count = 1,
        .time_us = queue->broker->now_us,
        .queue = queue->name,
        .exchange = exchange ? exchange->name : SLICE(""),
        .routing_key = message->routing_key,
        .copies = cut_copies(envelope_find(message->head, ENVELOPE_COPIES)),
    };
    char *head = malloc(envelope_bury_bytes(message->head, &death));

    return slice_of(head,
                    head ? envelope_bury(head, message->head, &death, queue->options.dead_keeps_key) : 0);
}

/* Appends the message that takes the place of one in queue, whose entry is in no list any more once this returned 0. */
static int pass_on(struct queue *queue, const struct ready_entry *entry, const struct passage *passage)
{
    struct broker *broker = queue->broker;
    enum publish_result result;
    struct message message;
    struct slice head = {0};
    uint64_t position;
    int error;

    /* before it is read, because that reads others */
    if (queues_make_room(passage->targets, passage->n, entry->bytes))
        return -EXFULL;
    error = broker_read(broker, entry->position, &message);
    if (error)
        return error;
    if (passage->bury) {
        head = bury(queue, &message, passage->end);
        if (!head.ptr)
            return -ENOMEM;
        message.head = head;
    }
    if (broker->retries_len) /* one may be this message's, and stands before its end */
        broker_flush(broker);
    message.removes = (struct message_ref){queue->id, entry->number};
    message.removes_end = passage->end;
    message.removes_attempts = passage->attempts;
    message.due_us = 0;
    if (passage->bury)
        message.ttl_us = 0;
    message.idempotency = (struct slice){0};
    message.exchange = passage->exchange ? passage->exchange->id : 0;
    message.routing_key = passage->key;
    result = broker_append(broker, &message, passage->targets, passage->n, &position);
    free((char *)(uintptr_t)head.ptr);
    switch (result) {
    case PUBLISH_OK:
        return 0;
    case PUBLISH_NO_SPACE:
        return -ENOSPC;
    case PUBLISH_NO_MEMORY:
        return -ENOMEM;
    case PUBLISH_TOO_LARGE:
        return -EFBIG;
    default:
        return -EIO;
    }
}

/* Whether a message that dies in queue would come back to target by dying alone, where it died before without anybody having
 * said no to it since: it would go round for ever. */
static bool goes_round(const struct queue *queue, enum message_end end, const struct queue *target,
                       struct slice head)
{
    struct envelope_item item;
    struct death death;

    if (end == END_REJECTED)
        return false;
    if (target == queue)
        return true;
    while (envelope_take(&head, &item)) {
        if (item.tag != ENVELOPE_DEATH || !death_parse(item.value, &death))
            continue;
        if (death.reason == END_REJECTED)
            return false;
        if (slice_equal(death.queue, target->name))
            return true;
    }
    return false;
}

/* What stands before the queue's own name: its virtual host and a NUL; nothing in the default one. */
static struct slice virtual_host(const struct queue *queue)
{
    size_t n = slice_find(queue->name, '\0');

    return n < queue->name.len ? slice_of(queue->name.ptr, n + 1) : SLICE("");
}

static struct slice copied_key(char block[BROKER_KEY_MAX], struct slice host, struct slice key)
{
    size_t n = 0;

    if (host.len + key.len > BROKER_KEY_MAX)
        return SLICE(""); /* nobody has that name */
    for (size_t i = 0; i < host.len; i++)
        block[n++] = host.ptr[i];
    for (size_t i = 0; i < key.len; i++)
        block[n++] = key.ptr[i];
    return slice_of(block, n);
}

/* A message's key, as the exchange that it goes to has it: to the default one it is a queue's name, with its virtual host. */
static struct slice kept_key(char block[BROKER_KEY_MAX], struct slice key, struct slice host,
                             bool from_default, bool to_default)
{
    if (!from_default && to_default && slice_find(key, '\0') < key.len)
        return SLICE(""); /* it would be a name in another virtual host */
    if (from_default && !to_default && slice_starts_with(key, host))
        slice_drop(&key, host.len);
    return copied_key(block, !from_default && to_default ? host : SLICE(""), key);
}

/* As many as one that is published may have. */
static int find_dead_targets(struct broker *broker, const struct routing *routing, struct passage *passage)
{
    int n = broker_route(broker, routing, passage->few, DEAD_TARGETS_FEW);

    passage->targets = passage->few;
    if (n != -EMSGSIZE)
        return n;
    passage->many = malloc(MESSAGE_TARGETS_MAX * sizeof *passage->many);
    if (!passage->many)
        return -ENOMEM;
    passage->targets = passage->many;
    return broker_route(broker, routing, passage->many, MESSAGE_TARGETS_MAX);
}

/* Where a message goes that dies in the queue: 1, 0: nowhere, or an error. The caller frees passage->many. */
static int dead_passage(const struct queue *queue, const struct message *message, enum message_end end,
                        struct passage *passage)
{
    const struct broker_queue_options *o = &queue->options;
    struct slice key = o->dead_keeps_key ? message->routing_key : o->dead_key, host = virtual_host(queue);
    struct routing routing = {.exchange = broker_exchange(queue->broker, o->dead_exchange),
                              .head = message->head};
    int n;

    *passage = (struct passage){.end = end, .bury = true, .exchange = routing.exchange};
    routing.key = passage->key =
        o->dead_keeps_key ? kept_key(passage->key_block, key, host, !message->exchange, !routing.exchange)
                          : copied_key(passage->key_block, SLICE(""), key);
    /* Copies' keys have no virtual host before them, which the default exchange would want. */
    if (o->dead_keeps_key && !(host.len && !routing.exchange))
        routing.more_keys = envelope_find(message->head, ENVELOPE_COPIES);
    if (!o->has_dead_letter || (o->dead_exchange.len && !passage->exchange))
        return 0;
    n = find_dead_targets(queue->broker, &routing, passage);
    for (int i = 0; i < n; i++)
        if (goes_round(queue, end, passage->targets[i], message->head))
            passage->targets[i--] = passage->targets[--n];
    passage->n = n > 0 ? (unsigned)n : 0;
    return n > 0 ? 1 : n;
}

/* The same of one that is in the queue: 1, 0, or why it cannot be read. */
static int find_passage(const struct queue *queue, const struct ready_entry *entry, enum message_end end,
                        struct passage *passage)
{
    const struct broker_queue_options *o = &queue->options;
    struct message message;
    int error;

    *passage = (struct passage){.n = 0};
    if (!o->has_dead_letter ||
        (!o->dead_exchange.len && !o->dead_keeps_key && !broker_queue(queue->broker, o->dead_key)))
        return 0;
    error = broker_read(queue->broker, entry->position, &message);
    return error ? error : dead_passage(queue, &message, end, passage);
}

void queue_bury_new(struct queue *queue, const struct message *refused)
{
    struct message message = *refused;
    struct passage passage = {.n = 0};
    uint64_t position, bytes = broker_bytes_of(&message);
    bool takes = queue->options.has_dead_letter && dead_passage(queue, &message, END_MAXLEN, &passage) == 1 &&
                 !queues_make_room(passage.targets, passage.n, bytes);

    message.head = takes ? bury(queue, refused, END_MAXLEN) : (struct slice){0};
    message.routing_key = passage.key;
    message.exchange = passage.exchange ? passage.exchange->id : 0;
    message.idempotency = (struct slice){0};
    message.due_us = message.ttl_us = 0;
    if (message.head.ptr)
        broker_append(queue->broker, &message, passage.targets, passage.n, &position);
    free((char *)(uintptr_t)message.head.ptr);
    free(passage.many);
}

void held_die(struct held *held, enum message_end end)
{
    struct queue *queue = held->queue;
    struct ready_entry entry = held->entry;
    struct done_entry done = {{queue->id, entry.number}, end, held->attempts};
    struct retry_entry retry = {.ref = done.ref, .attempts = held->attempts};
    struct passage passage;
    int found = find_passage(queue, &entry, end, &passage);
    bool went;

    if (found == 0) {
        held_end(held, end);
        return;
    }
    passage.attempts = held->attempts;
    went = found == 1 && pass_on(queue, &entry, &passage) == 0;
    free(passage.many);
    if (went) {
        held_free(held);
        take_leave(queue, &entry, &done);
        return;
    }
    held_set_state(held, HELD_DELAYED, queue->broker->now_us + DEATH_RETRY_US);
    held->dies_of = (uint8_t)(end + 1);
    retry.due_us = held->when_us;
    broker_gather_retry(queue->broker, &retry);
}

/* Takes the oldest that waits out of its list, once what becomes of it is certain. */
static void take_out(struct queue *queue, struct held *held, const struct ready_entry *entry,
                     enum message_end end, struct done_entry *done)
{
    *done = (struct done_entry){{queue->id, entry->number}, end, held ? held->attempts : 0};
    if (held)
        held_free(held);
    else
        queue_pop(queue, entry);
    queue_kick(queue); /* another one is the oldest, and may be too old */
    take_leave(queue, entry, done);
}

/* The oldest that waits leaves, for other queues or for good (passage NULL). 0 or why it cannot; -ENODATA: none waits. */
static int drop_oldest(struct queue *queue, enum message_end end, const struct passage *passage)
{
    struct ready_entry entry;
    struct done_entry done;
    struct held *held;
    int error = 0;

    if (queue->dropping)
        return -EBUSY;
    if (!queue_oldest(queue, &held, &entry, &error))
        return error ? error : -ENODATA;
    if (passage) {
        queue->dropping = true;
        error = pass_on(queue, &entry, passage);
        queue->dropping = false;
        if (error)
            return error;
    }
    take_out(queue, held, &entry, end, &done);
    if (!passage)
        broker_gather_done(queue->broker, &done);
    return 0;
}

/* To the dead letters, if there are any. */
static bool kill_oldest(struct queue *queue, enum message_end end)
{
    struct passage passage;
    bool went;
    struct ready_entry entry;
    struct held *held;
    int error = 0, found;

    if (!queue_oldest(queue, &held, &entry, &error))
        return false;
    found = find_passage(queue, &entry, end, &passage);
    went = found >= 0 && drop_oldest(queue, end, found ? &passage : NULL) == 0;
    free(passage.many);
    return went;
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

static uint64_t queue_length(const struct queue *queue)
{
    return queue_n_ready(queue) + queue->n_held[HELD_AGAIN] + queue->n_held[HELD_DELAYED] +
           queue->n_held[HELD_BLOCKED];
}

static bool is_over(const struct queue *queue, uint64_t more_bytes)
{
    const struct broker_queue_options *o = &queue->options;

    return o->nothing_waits || (o->max_length && queue_length(queue) + 1 > o->max_length) ||
           (o->max_bytes && queue->bytes - queue->in_flight_bytes + more_bytes > o->max_bytes);
}

static bool refuses_new(const struct queue *queue)
{
    return queue->options.overflow == LIMIT_REJECT_NEW || queue->options.overflow == LIMIT_BURY_NEW;
}

/* Queues that are each other's dead letters may go on for ever; a few are enough for anybody. */
#define DEPTH_MOST 4

/* Room for one message more: drops what the rules say. False: it is full. */
static bool queue_make_room(struct queue *queue, uint64_t bytes)
{
    struct broker *broker = queue->broker;
    bool room = true;

    if (queue->options.overflow == LIMIT_DROP_HEAD || !is_over(queue, bytes))
        return true;
    if (refuses_new(queue) || broker->depth == DEPTH_MOST ||
        (queue->options.max_bytes && bytes > queue->options.max_bytes))
        return false;
    broker->depth++;
    while (room && is_over(queue, bytes))
        room = queue->options.overflow == LIMIT_DEAD_LETTER ? kill_oldest(queue, END_MAXLEN)
                                                            : drop_oldest(queue, END_MAXLEN, NULL) == 0;
    broker->depth--;
    return room;
}

/* What one drops may go to another one that had room: then they are asked once more, so many times. */
#define ROUNDS_MOST 4

struct queue *queues_make_room(struct queue *const *queues, unsigned n, uint64_t bytes)
{
    struct queue *full = NULL;

    for (unsigned i = 0; i < n; i++)
        if (refuses_new(queues[i]) && is_over(queues[i], bytes))
            return queues[i];
    for (unsigned round = 0; round < ROUNDS_MOST; round++) {
        full = NULL;
        for (unsigned i = 0; i < n; i++)
            if (!queue_make_room(queues[i], bytes))
                return queues[i];
        for (unsigned i = 0; i < n && !full; i++)
            if (queues[i]->options.overflow != LIMIT_DROP_HEAD && is_over(queues[i], bytes))
                full = queues[i];
        if (!full)
            break;
    }
    return full;
}

static bool has_too_many(const struct queue *queue)
{
    const struct broker_queue_options *o = &queue->options;
    uint64_t n = queue_length(queue);

    return n && (o->nothing_waits || (o->max_length && n > o->max_length) ||
                 (o->max_bytes && queue->bytes - queue->in_flight_bytes > o->max_bytes));
}

void queue_trim(struct queue *queue)
{
    struct ready_entry entry;
    struct held *held;
    int error = 0;

    while (queue->options.overflow == LIMIT_DROP_HEAD && has_too_many(queue) &&
           queue_oldest(queue, &held, &entry, &error) && entry.number < queue->offered)
        if (!kill_oldest(queue, END_MAXLEN)) {
            timer_arm(&queue->broker->expiries, &queue->expiry, queue->broker->now_us + DEATH_RETRY_US);
            break;
        }
}

/* For how long a message may wait, by its record; UINT64_MAX: that does not say. The last answer is kept: the same one stays the
 * oldest for a while. */
static uint64_t own_ttl_us(struct queue *queue, const struct ready_entry *entry)
{
    struct message message;

    if (!entry->has_ttl)
        return UINT64_MAX;
    if (queue->ttl_number != entry->number) {
        if (broker_read(queue->broker, entry->position, &message) != 0)
            return UINT64_MAX;
        queue->ttl_number = entry->number;
        queue->ttl_us = message.ttl_us;
    }
    return queue->ttl_us;
}

/* When the oldest that waits is too old; UINT64_MAX: none will be, or it was not offered to anybody yet. */
static uint64_t oldest_expires_us(struct queue *queue)
{
    uint64_t most_us = queue->options.max_age_us ? queue->options.max_age_us : UINT64_MAX, own_us, at_us;
    struct ready_entry entry;
    struct held *held;
    int error = 0;

    if (!queue_oldest(queue, &held, &entry, &error) || entry.number >= queue->offered)
        return UINT64_MAX;
    own_us = own_ttl_us(queue, &entry);
    if (own_us < most_us)
        most_us = own_us;
    at_us = ready_queued_us(&entry) + most_us;
    return most_us == UINT64_MAX || at_us < most_us ? UINT64_MAX : at_us;
}

void queue_expire(struct queue *queue)
{
    struct broker *broker = queue->broker;
    uint64_t at_us;

    while ((at_us = oldest_expires_us(queue)) <= broker->now_us)
        if (!kill_oldest(queue, END_EXPIRED)) {
            at_us = broker->now_us + DEATH_RETRY_US;
            break;
        }
    if (at_us == UINT64_MAX)
        timer_disarm(&broker->expiries, &queue->expiry);
    else
        timer_arm(&broker->expiries, &queue->expiry, at_us);
}

/* ---- by hand ----------------------------------------------------------------------------------------------------- */

/* What waits and is held, oldest first; the caller frees it. NULL with *n 0: none; with *n > 0: no memory. */
static struct held **waiting(const struct queue *queue, uint64_t *n)
{
    uint64_t room = queue->n_held[HELD_AGAIN] + queue->n_held[HELD_DELAYED] + queue->n_held[HELD_BLOCKED];
    struct held **list = room ? malloc(room * sizeof(struct held *)) : NULL;

    *n = list ? 0 : room;
    for (struct list *at = queue->held.next; list && at != &queue->held; at = at->next)
        if (container_of(at, struct held, in_queue)->state != HELD_IN_FLIGHT)
            list[(*n)++] = container_of(at, struct held, in_queue);
    return list;
}

int broker_purge(struct broker *broker, struct slice name, uint64_t *n, uint64_t now_us)
{
    struct queue *queue = broker_queue(broker, name);
    uint64_t n_held = 0;
    struct ready_entry entry;
    struct held **list, *held;
    int error = 0;

    *n = 0;
    broker->now_us = now_us;
    if (!queue)
        return -ENOENT;
    list = waiting(queue, &n_held);
    if (!list && n_held)
        return -ENOMEM;
    for (uint64_t i = 0; i < n_held; i++) /* none of a key follows another, whose end would wake it */
        if (list[i]->state == HELD_BLOCKED)
            held_set_state(list[i], HELD_AGAIN, 0);
    for (uint64_t i = 0; i < n_held; i++, ++*n)
        held_end(list[i], END_PURGED);
    free(list);
    while (queue_oldest(queue, &held, &entry, &error)) {
        queue_pop(queue, &entry);
        message_ended(queue, &entry, 0, END_PURGED);
        ++*n;
    }
    return error;
}

int broker_move(struct broker *broker, struct slice from_name, struct slice to_name, uint64_t most,
                uint64_t *n, uint64_t now_us)
{
    struct queue *from = broker_queue(broker, from_name), *to = broker_queue(broker, to_name);
    struct passage passage = {.end = END_MOVED, .targets = &to, .n = 1};
    int error = 0;

    *n = 0;
    broker->now_us = now_us;
    if (!from || !to)
        return -ENOENT;
    if (from == to)
        return -EINVAL;
    passage.key = to->name;
    if (passage.key.len > BROKER_KEY_MAX) /* its end: the virtual host is in front */
        slice_drop(&passage.key, passage.key.len - BROKER_KEY_MAX);
    while (*n < most && (error = drop_oldest(from, END_MOVED, &passage)) == 0)
        ++*n;
    return error == -ENODATA ? 0 : error;
}
