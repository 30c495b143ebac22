/* broker_recover.c - from the newest checkpoint, and the records behind it, to the state. See broker_private.h.
 *
 * A DONE, RETRY or DELIVERED says that everything older of its queue had been delivered before: replay takes those out of
 * ready, as redelivered, and so ends with what was in flight waiting to be delivered again.
 *
 * Slots of the index that do not verify are made anew, with all others, from the messages in the log: what a queue has in
 * slots is every message of it whose number lies between what the checkpoint has before and behind them. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_private.h"

/* ---- reading a checkpoint ---------------------------------------------------------------------------------------- */

static bool take_text32(struct slice *s, struct slice *text)
{
    uint32_t len;

    return take_u32le(s, &len) && take_slice(s, len, text);
}

static bool take_flag(struct slice *s, bool *flag)
{
    uint8_t value;

    if (!take_u8(s, &value))
        return false;
    *flag = value != 0;
    return true;
}

/* A list of n things of a size, n before it. */
static bool take_list(struct slice *s, size_t bytes_each, struct slice *list)
{
    uint32_t n;

    return take_u32le(s, &n) && take_slice(s, (size_t)n * bytes_each, list);
}

/* A queue as a checkpoint has it; everything borrows it. */
struct saved_queue {
    uint32_t id;
    struct slice name;
    struct broker_queue_options options;
    bool paused;
    uint64_t delivered, last;
    struct slice front, slots, back;
};

static bool take_queue(struct slice *s, struct saved_queue *q)
{
    return take_u32le(s, &q->id) && take_text32(s, &q->name) && queue_options_take(s, &q->options) &&
           take_flag(s, &q->paused) && take_u64le(s, &q->delivered) && take_u64le(s, &q->last) &&
           take_list(s, CHECKPOINT_ENTRY_BYTES, &q->front) &&
           take_list(s, CHECKPOINT_SLOT_BYTES, &q->slots) && take_list(s, CHECKPOINT_ENTRY_BYTES, &q->back);
}

static bool take_entry(struct slice *list, struct ready_entry *entry)
{
    struct slice bytes;

    if (!take_slice(list, CHECKPOINT_ENTRY_BYTES, &bytes))
        return false;
    memcpy(entry, bytes.ptr, sizeof *entry);
    return true;
}

static bool take_slot(struct slice *list, struct ready_slot *slot)
{
    return take_u64le(list, &slot->first) && take_u32le(list, &slot->slot) && take_u32le(list, &slot->crc);
}

/* A segment as a checkpoint has it. */
struct saved_segment {
    uint64_t number, live, total;
};

#define SAVED_SEGMENT_BYTES 24

static bool take_segment(struct slice *list, struct saved_segment *segment)
{
    return take_u64le(list, &segment->number) && take_u64le(list, &segment->live) &&
           take_u64le(list, &segment->total);
}

/* ---- the index made anew ----------------------------------------------------------------------------------------- */

/* An entry that belongs into a queue's slots. */
struct found {
    uint32_t queue;
    struct ready_entry entry;
};

/* Which numbers of a queue stand in slots. */
struct slot_range {
    uint32_t queue;
    uint64_t first, behind;
};

struct rebuilding {
    struct broker *broker;
    struct slot_range *ranges;
    size_t n_ranges;
    struct found *found;
    size_t n, room;
};

static int note_range(struct rebuilding *r, const struct saved_queue *q)
{
    struct slice slots = q->slots, back = q->back;
    struct ready_entry entry;
    struct ready_slot slot;
    struct slot_range *ranges;

    if (!take_slot(&slots, &slot))
        return 0;
    ranges = realloc(r->ranges, (r->n_ranges + 1) * sizeof *ranges);
    if (!ranges)
        return -ENOMEM;
    r->ranges = ranges;
    ranges[r->n_ranges++] =
        (struct slot_range){q->id, slot.first, take_entry(&back, &entry) ? entry.number : q->last + 1};
    return 0;
}

static int note_found(struct rebuilding *r, uint32_t queue, const struct ready_entry *entry)
{
    size_t room = r->room ? r->room * 2 : 4096;
    struct found *found;

    if (r->n == r->room) {
        found = realloc(r->found, room * sizeof *found);
        if (!found)
            return -ENOMEM;
        r->found = found;
        r->room = room;
    }
    r->found[r->n++] = (struct found){queue, *entry};
    return 0;
}

static int find_in_record(void *arg, const struct log_record *record)
{
    struct rebuilding *r = arg;
    struct message message;
    int error = 0;

    if (record->kind != RECORD_MESSAGE && record->kind != RECORD_COPY)
        return 0;
    if (!message_parse(record->payload, &message))
        return -EBADMSG;
    for (unsigned i = 0; !error && i < message_n_targets(&message); i++)
        for (size_t k = 0; !error && k < r->n_ranges; k++)
            if (r->ranges[k].queue == message_target(&message, i) && message.number >= r->ranges[k].first &&
                message.number < r->ranges[k].behind && !message.due_us) {
                struct queue *queue = broker_queue_by_id(r->broker, r->ranges[k].queue);
                struct ready_entry entry = broker_entry(queue, &message, record->position);

                error = note_found(r, queue->id, &entry);
            }
    return error;
}

/* By queue, number, and the latest place of a message first. */
static int compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->queue != y->queue)
        return x->queue < y->queue ? -1 : 1;
    if (x->entry.number != y->entry.number)
        return x->entry.number < y->entry.number ? -1 : 1;
    return x->entry.position > y->entry.position ? -1 : x->entry.position < y->entry.position;
}

/* The queue's slots, by the messages that were found. -EBADMSG: there are more or fewer than there were. */
static int push_found(struct queue *queue, const struct rebuilding *r, uint64_t wanted)
{
    uint64_t n = 0, last = 0;

    for (size_t i = 0; i < r->n; i++) {
        const struct found *found = &r->found[i];

        if (found->queue != queue->id || found->entry.number == last)
            continue;
        last = found->entry.number;
        if (ready_reserve(&queue->ready))
            return -ENOMEM;
        ready_push(&queue->ready, &found->entry);
        n++;
    }
    return n == wanted ? 0 : -EBADMSG;
}

/* ---- loading a checkpoint ---------------------------------------------------------------------------------------- */

static int push_entries(struct queue *queue, struct slice list)
{
    struct ready_entry entry;

    while (take_entry(&list, &entry)) {
        if (entry.number <= queue->ready.last)
            return -EBADMSG;
        if (ready_reserve(&queue->ready))
            return -ENOMEM;
        ready_push(&queue->ready, &entry);
    }
    return 0;
}

/* rebuilding NULL: slots are taken as they are. */
static int load_ready(struct queue *queue, const struct saved_queue *q, const struct rebuilding *rebuilding)
{
    struct slice slots = q->slots;
    struct ready_slot slot;
    int error = push_entries(queue, q->front);

    if (!error && rebuilding)
        error = push_found(queue, rebuilding, slots.len / CHECKPOINT_SLOT_BYTES * READY_SLOT_ENTRIES);
    while (!error && !rebuilding && take_slot(&slots, &slot))
        error = ready_adopt(&queue->ready, &slot);
    if (!error)
        error = push_entries(queue, q->back);
    queue->ready.last = q->last;
    return error;
}

static int load_queues(struct broker *broker, struct slice *s, bool with_ready, struct rebuilding *rebuilding)
{
    struct saved_queue q;
    struct queue *queue;
    uint32_t n;
    int error = 0;

    if (!take_u32le(s, &n))
        return -EBADMSG;
    while (!error && n--) {
        if (!take_queue(s, &q))
            return -EBADMSG;
        queue = broker_queue_by_id(broker, q.id);
        if (!queue)
            queue = queue_create(broker, q.id, q.name, &q.options);
        if (!queue)
            return -ENOMEM;
        queue->paused = q.paused;
        queue->delivered = q.delivered;
        if (with_ready)
            error = load_ready(queue, &q, rebuilding);
        else
            error = note_range(rebuilding, &q);
    }
    return error;
}

static int load_exchanges(struct broker *broker, struct slice *s)
{
    struct exchange *exchange;
    struct slice name, key;
    uint32_t n, id, n_bindings, queue;
    uint8_t type;
    int error = 0;

    if (!take_u32le(s, &n))
        return -EBADMSG;
    while (n--) {
        if (!take_u32le(s, &id) || !take_u8(s, &type) || type > EXCHANGE_FANOUT || !take_text32(s, &name) ||
            !take_u32le(s, &n_bindings))
            return -EBADMSG;
        exchange = broker_create_exchange(broker, id, name, (enum exchange_type)type);
        if (!exchange)
            return -ENOMEM;
        while (!error && n_bindings--) {
            if (!take_u32le(s, &queue) || !take_text32(s, &key) || !broker_queue_by_id(broker, queue))
                return -EBADMSG;
            error = broker_add_binding(exchange, queue, key);
        }
        if (error)
            return error;
    }
    return 0;
}

static int load_held(struct broker *broker, struct slice *s)
{
    struct ready_entry entry;
    struct queue *queue;
    struct held *held;
    uint64_t n, due_us;
    uint32_t id, attempts;

    if (!take_u64le(s, &n))
        return -EBADMSG;
    while (n--) {
        if (!take_u32le(s, &id) || !take_entry(s, &entry) || !take_u32le(s, &attempts) ||
            !take_u64le(s, &due_us))
            return -EBADMSG;
        queue = broker_queue_by_id(broker, id);
        if (!queue)
            return -EBADMSG;
        held = held_create(queue, &entry, due_us ? HELD_DELAYED : HELD_AGAIN, due_us);
        if (!held || segments_add(broker, entry.position, 1))
            return -ENOMEM;
        held->attempts = attempts;
        queue->bytes += entry.bytes;
    }
    return 0;
}

/* What there ever was in a segment, for telling how sparse it is. What there is now was counted: it must be the same. */
static int load_segments(struct broker *broker, struct slice list, struct log_report *report)
{
    struct saved_segment segment;
    size_t n = 0;

    while (take_segment(&list, &segment)) {
        struct segment_refs *refs = n < broker->n_segments ? &broker->segments[n] : NULL;
        bool same = refs && refs->number == segment.number;

        if (segment.live == 0 && !same)
            continue;
        if (!same || refs->live != segment.live) {
            snprintf(report->text, sizeof report->text,
                     "the checkpoint contradicts itself about segment %llu; run `maitred log check`",
                     (unsigned long long)segment.number);
            return -EBADMSG;
        }
        refs->total = segment.total;
        n++;
    }
    return n == broker->n_segments ? 0 : -EBADMSG;
}

static int load_memory(struct broker *broker, struct slice *s)
{
    struct same_key same = {0};
    struct finished finished = {0};
    struct slice key;
    uint64_t n;
    uint32_t end, attempts;

    if (!take_u64le(s, &n))
        return -EBADMSG;
    while (n--) {
        if (!take_slice(s, sizeof same.key, &key) || !take_u64le(s, &same.number) ||
            !take_u64le(s, &same.until_us) || !take_u32le(s, &same.address))
            return -EBADMSG;
        memcpy(same.key, key.ptr, sizeof same.key);
        same.item.hash = get_u64le(same.key);
        recent_add(&broker->idempotency, &same.item);
    }
    if (!take_u64le(s, &n))
        return -EBADMSG;
    while (n--) {
        if (!take_u64le(s, &finished.ref.number) || !take_u32le(s, &finished.ref.queue) ||
            !take_u64le(s, &finished.time_us) || !take_u64le(s, &finished.queued_ms) ||
            !take_u32le(s, &end) || !take_u32le(s, &attempts) || end >= N_MESSAGE_ENDS)
            return -EBADMSG;
        finished.end = (uint16_t)end;
        finished.attempts = (uint16_t)attempts;
        finished.item.hash = finished.ref.number;
        recent_add(&broker->finished, &finished.item);
    }
    return 0;
}

static int count_entries(void *arg, const struct ready_entry *entries, uint32_t n)
{
    struct queue *queue = arg;

    for (uint32_t i = 0; i < n; i++) {
        queue->bytes += entries[i].bytes;
        if (segments_add(queue->broker, entries[i].position, 1))
            return -ENOMEM;
    }
    return 0;
}

/* Looks at all that waits: what it points to, and whether it verifies. */
static int count_ready(struct broker *broker)
{
    int error = 0;

    for (struct list *at = broker->queues.next; !error && at != &broker->queues; at = at->next) {
        struct queue *queue = container_of(at, struct queue, link);

        error = ready_each(&queue->ready, count_entries, queue);
    }
    return error;
}

/* Empties what load_queues put in. */
static void clear_ready(struct broker *broker)
{
    for (struct list *at = broker->queues.next; at != &broker->queues; at = at->next) {
        struct queue *queue = container_of(at, struct queue, link);

        ready_clear(&queue->ready);
        queue->bytes = 0;
    }
    index_clear(broker->index);
    broker->n_segments = broker->n_empty = 0;
}

/* *s: the queues of a checkpoint, which are taken off it. */
static int rebuild_index(struct broker *broker, struct slice *s, struct slice segments,
                         struct log_report *report)
{
    struct rebuilding rebuilding = {.broker = broker};
    struct slice queues = *s;
    struct saved_segment segment;
    int error;

    broker->index_rebuilt = true;
    clear_ready(broker);
    error = load_queues(broker, &queues, false, &rebuilding);
    while (!error && take_segment(&segments, &segment))
        if (segment.live)
            error = log_scan(broker->log, segment.number, find_in_record, &rebuilding, report);
    if (!error && rebuilding.n)
        qsort(rebuilding.found, rebuilding.n, sizeof *rebuilding.found, compare_found);
    if (!error)
        error = load_queues(broker, s, true, &rebuilding);
    free(rebuilding.ranges);
    free(rebuilding.found);
    return error ? error : count_ready(broker);
}

/* Every segment that something points into is there. */
static int find_missing(const struct broker *broker, struct log_report *report)
{
    uint64_t at = log_segment_first(broker->log);

    for (size_t i = 0; i < broker->n_segments; i++) {
        while (at < broker->segments[i].number)
            at = log_segment_next(broker->log, at);
        if (at == broker->segments[i].number)
            continue;
        snprintf(report->text, sizeof report->text,
                 "the log is damaged: segment %llu is gone, with %llu messages in it; run `maitred log "
                 "check`, and "
                 "`maitred log salvage` to copy what can be read into a new folder",
                 (unsigned long long)broker->segments[i].number,
                 (unsigned long long)broker->segments[i].live);
        return -EBADMSG;
    }
    return 0;
}

static int load_checkpoint(struct broker *broker, struct slice s, struct log_report *report)
{
    struct slice queues, segments;
    uint32_t version;
    int error;

    if (!s.len) {
        index_clear(broker->index);
        return 0;
    }
    if (!take_u32le(&s, &version) || version != CHECKPOINT_VERSION || !take_u64le(&s, &broker->next_number) ||
        !take_u32le(&s, &broker->next_id) || !take_list(&s, SAVED_SEGMENT_BYTES, &segments))
        return -EBADMSG;
    queues = s;
    error = load_queues(broker, &s, true, NULL);
    if (!error) {
        index_claimed(broker->index);
        error = count_ready(broker);
    }
    if (error == -EBADMSG || error == -EIO) {
        s = queues;
        error = rebuild_index(broker, &s, segments, report);
    }
    if (!error)
        error = load_exchanges(broker, &s);
    if (!error)
        error = load_held(broker, &s);
    if (!error)
        error = load_segments(broker, segments, report);
    if (!error)
        error = load_memory(broker, &s);
    return error ? error : find_missing(broker, report);
}

/* ---- replay ------------------------------------------------------------------------------------------------------ */

/* Everything up to number had been delivered. */
static int catch_up(struct queue *queue, uint64_t number)
{
    const struct ready_entry *front;
    int error = 0;

#ifdef MAITRED_PLANT_RECOVERY /* a fault for the simulator to find: one too few */
    number--;
#endif
    while ((front = ready_front(&queue->ready, &error)) && front->number <= number) {
        struct ready_entry entry = *front;

        entry.redelivered = true;
        if (!held_create(queue, &entry, HELD_AGAIN, 0))
            return -ENOMEM;
        ready_pop(&queue->ready);
    }
    if (number > queue->delivered)
        queue->delivered = number;
    return error;
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
        error = broker_reserve(queue, m.due_us != 0);
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
    error = load_checkpoint(broker, log_checkpoint(broker->log), report);
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
        error = settle(broker, &unneeded);
    free(unneeded.numbers);
    return error;
}
