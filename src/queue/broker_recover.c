/* broker_recover.c - from the newest checkpoint, and the records behind it, to the state. See broker_private.h.
 *
 * A DONE, RETRY or DELIVERED says that everything older of its queue had been delivered before: replay takes those out of
 * ready, as redelivered, and so ends with what was in flight waiting to be delivered again. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_private.h"

/* ---- replay ------------------------------------------------------------------------------------------------------ */

/* Everything up to number had been delivered. */
static int catch_up_level(struct queue *queue, struct level *level, uint64_t number)
{
    const struct ready_entry *front;
    int error = 0;

    while ((front = ready_front(&level->ready, &error)) && front->number <= number) {
        struct ready_entry entry = *front;

        entry.redelivered = true;
        if (!held_create(queue, &entry, HELD_AGAIN, 0))
            return -ENOMEM;
        ready_pop(&level->ready);
    }
    if (number > level->delivered)
        level->delivered = number;
    return error;
}

/* Everything of its priority. One that does not wait any more was caught up with before. */
static int catch_up(struct queue *queue, uint64_t number)
{
    struct ready_entry entry;
    struct level *level;
    int found;

#ifdef MAITRED_PLANT_RECOVERY /* a fault for the simulator to find: one too few */
    number--;
#endif
    if (queue->n_levels == 1)
        return catch_up_level(queue, queue->levels, number);
    if (held_find(queue->broker,
                  (struct message_ref){queue->id, number})) /* mostly: looking into ready is slow */
        return 0;
    found = queue_find_ready(queue, number, &entry, &level);
    return found <= 0 ? found : catch_up_level(queue, level, number);
}

static int replay_end(struct broker *broker, struct message_ref ref, enum message_end end, unsigned attempts)
{
    struct queue *queue = broker_queue_by_id(broker, ref.queue);
    struct held *held;
    int error = queue ? catch_up(queue, ref.number) : 0;

    if (error || !queue)
        return error;
    held = held_find(broker, ref);
    if (!held)
        return -EBADMSG;
    held->attempts = attempts;
    held_end(held, end);
    return 0;
}

static int replay_message(struct broker *broker, const struct log_record *record)
{
    struct message m;
    int error = 0;

    if (!message_parse(record->payload, &m) || m.number < broker->next_number)
        return -EBADMSG;
    broker->next_number = m.number + 1;
    for (unsigned i = 0; !error && i < message_n_targets(&m); i++) {
        struct queue *queue = broker_queue_by_id(broker, message_target(&m, i));

        if (!queue)
            return -EBADMSG;
        if (m.stored.id)
            error = body_prepare(broker, &m);
        if (!error)
            error = broker_reserve(queue, &m, m.due_us != 0);
        if (!error)
            error = segments_add(broker, record->position, 1);
        if (!error)
            broker_enqueue(queue, &m, record->position);
    }
    if (!error && m.idempotency.len)
        broker_remember_key(broker, &m, record->position);
    if (!error && m.removes.queue)
        error = replay_end(broker, m.removes, m.removes_end, m.removes_attempts);
    return error;
}

static int replay_copy(struct broker *broker, const struct log_record *record)
{
    struct message m;
    int error = 0;

    if (!message_parse(record->payload, &m))
        return -EBADMSG;
    for (unsigned i = 0; !error && i < message_n_targets(&m); i++) {
        struct queue *queue = broker_queue_by_id(broker, message_target(&m, i));

        error = queue ? broker_move_entry(queue, m.number, record->position) : -EBADMSG;
    }
    return error == -ENOENT ? -EBADMSG : error;
}

static int replay_retry(struct broker *broker, const struct retry_entry *entry)
{
    struct queue *queue = broker_queue_by_id(broker, entry->ref.queue);
    struct held *held;
    int error = queue ? catch_up(queue, entry->ref.number) : 0;

    if (error || !queue)
        return error;
    held = held_find(broker, entry->ref);
    if (!held)
        return -EBADMSG;
    held->attempts = entry->attempts;
    held->entry.redelivered = true;
    held_set_state(held, entry->due_us ? HELD_DELAYED : HELD_AGAIN, entry->due_us);
    return 0;
}

static int replay_lists(struct broker *broker, const struct log_record *record)
{
    struct slice list = record->payload;
    struct done_entry done;
    struct retry_entry retry;
    struct message_ref upto;
    int error = 0;

    while (!error && list.len) {
        struct queue *queue;

        if (record->kind == RECORD_DONE)
            error = take_done_entry(&list, &done) ? replay_end(broker, done.ref, done.end, done.attempts)
                                                  : -EBADMSG;
        else if (record->kind == RECORD_RETRY)
            error = take_retry_entry(&list, &retry) ? replay_retry(broker, &retry) : -EBADMSG;
        else if (!take_delivered_entry(&list, &upto))
            error = -EBADMSG;
        else if ((queue = broker_queue_by_id(broker, upto.queue)))
            error = catch_up(queue, upto.number);
    }
    return error;
}

static int replay_record(void *arg, const struct log_record *record)
{
    struct broker *broker = arg;

    switch (record->kind) {
    case RECORD_MESSAGE:
        return replay_message(broker, record);
    case RECORD_COPY:
        return replay_copy(broker, record);
    case RECORD_DONE:
    case RECORD_RETRY:
    case RECORD_DELIVERED:
        return replay_lists(broker, record);
    case RECORD_EXCHANGE:
    case RECORD_EXCHANGE_DELETE:
    case RECORD_QUEUE:
    case RECORD_QUEUE_DELETE:
    case RECORD_BIND:
    case RECORD_UNBIND:
    case RECORD_PAUSE:
        return topology_replay(broker, record);
    default:
        return -EBADMSG;
    }
}

struct replaying {
    struct broker *broker;
    uint64_t position; /* of the record that failed */
};

static int replay_one(void *arg, const struct log_record *record)
{
    struct replaying *replaying = arg;
    int error = replay_record(replaying->broker, record);

    if (error)
        replaying->position = record->position;
    return error;
}

/* ---- the whole --------------------------------------------------------------------------------------------------- */

/* Segments that the checkpoint does not point into, and that replay does not need. What replay empties is freed by the next
 * checkpoint: this one still points there. */
struct unneeded {
    uint64_t *numbers; /* owned */
    size_t n;
};

static int find_unneeded(const struct broker *broker, uint64_t before, struct unneeded *unneeded)
{
    size_t n = 0;

    for (uint64_t i = log_segment_first(broker->log); i < before; i = log_segment_next(broker->log, i))
        n++;
    *unneeded = (struct unneeded){calloc(n + 1, sizeof *unneeded->numbers), 0};
    if (!unneeded->numbers)
        return -ENOMEM;
    for (uint64_t i = log_segment_first(broker->log); i < before; i = log_segment_next(broker->log, i))
        if (!segments_has(broker, i))
            unneeded->numbers[unneeded->n++] = i;
    return 0;
}

/* Nobody is told what replay did, and what is needed for later is made sure of. */
static int settle(struct broker *broker, const struct unneeded *unneeded)
{
    uint64_t live = 0;
    int error = held_claim_keys(broker);

    for (size_t i = 0; i < broker->n_segments; i++)
        live += broker->segments[i].live;
    log_promise(broker->log, live * DONE_PROMISE);
    for (size_t i = 0; i < unneeded->n; i++)
        segments_release(broker, unneeded->numbers[i]);
    while (!list_empty(&broker->fresh))
        list_pop_front(&broker->fresh);
    for (struct list *at = broker->queues.next; at != &broker->queues; at = at->next)
        queue_kick(container_of(at, struct queue, link)); /* what is too old, or too much, goes */
    broker->durable_number = broker->next_number;
    broker->appended_upto = 0;
    broker->replaying = false;
    return error;
}

int broker_recover(struct broker *broker, struct storage *storage, struct log_report *report)
{
    uint64_t position = log_checkpoint_position(broker->log);
    struct replaying replaying = {broker, position};
    struct unneeded unneeded = {0};
    int error = index_open(&broker->index, storage);

    broker->replaying = true;
    if (error)
        return error;
    error = broker_load(broker, log_checkpoint(broker->log), report);
    broker->compactable = log_segment_of(position, log_segment_bytes(broker->log));
    if (!error)
        error = find_unneeded(broker, broker->compactable, &unneeded);
    if (!error)
        error = log_replay(broker->log, replay_one, &replaying, report);
    if (error == -EBADMSG && !report->text[0])
        snprintf(
            report->text, sizeof report->text,
            "the log's record at position %llu does not fit what stands before it; run `maitred log check`",
            (unsigned long long)replaying.position);
    if (!error)
        error = bodies_settle(broker, report);
    if (!error)
        error = settle(broker, &unneeded);
    free(unneeded.numbers);
    return error;
}
