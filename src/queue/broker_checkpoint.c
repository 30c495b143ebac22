/* broker_checkpoint.c - the state as bytes, and the segments that it still points into. See broker_private.h.
 *
 * A segment is used again when a durable checkpoint lies behind it and pointed to nothing in it: then no replay will ever
 * ask for it. So what is not durable (acknowledgements are not) never frees anything. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "queue/broker_saved.h"

/* A segment of whose messages less than one in so many is needed is copied forward. */
#define SPARSE_SHARE 4
/* So many segments that nothing is needed of are worth a checkpoint. */
#define EMPTY_MOST 2

/* ---- what points into segments ----------------------------------------------------------------------------------- */

static struct segment_refs *find_segment(const struct broker *broker, uint64_t number)
{
    size_t low = 0, high = broker->n_segments;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (broker->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < broker->n_segments && broker->segments[low].number == number ? &broker->segments[low] : NULL;
}

bool segments_has(const struct broker *broker, uint64_t number)
{
    const struct segment_refs *segment = find_segment(broker, number);

    return segment && segment->live;
}

int segments_reserve(struct broker *broker)
{
    size_t room = broker->segments_room ? broker->segments_room * 2 : 16;
    struct segment_refs *segments;

    if (broker->n_segments < broker->segments_room)
        return 0;
    segments = realloc(broker->segments, room * sizeof *segments);
    if (!segments)
        return -ENOMEM;
    broker->segments = segments;
    broker->segments_room = room;
    return 0;
}

/* Mostly the last one; only while a checkpoint is read others come late. */
int segments_add(struct broker *broker, uint64_t position, unsigned n)
{
    uint64_t number = log_segment_of(position, log_segment_bytes(broker->log));
    struct segment_refs *segment = find_segment(broker, number);
    size_t at = broker->n_segments;

    if (!segment) {
        if (segments_reserve(broker))
            return -ENOMEM;
        while (at && broker->segments[at - 1].number > number)
            at--;
        memmove(broker->segments + at + 1, broker->segments + at,
                (broker->n_segments - at) * sizeof *broker->segments);
        segment = &broker->segments[at];
        *segment = (struct segment_refs){.number = number};
        broker->n_segments++;
    } else if (segment->live == 0)
        broker->n_empty--;
    segment->live += n;
    segment->total += n;
    return 0;
}

void segments_drop(struct broker *broker, uint64_t position)
{
    struct segment_refs *segment =
        find_segment(broker, log_segment_of(position, log_segment_bytes(broker->log)));

    assert(segment && segment->live);
    segment->live--;
    broker->n_empty += segment->live == 0;
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

/* What is written; failed once there is no memory. */
struct writing {
    char *bytes;
    size_t len, room;
    bool failed;
};

static char *room_for(struct writing *w, size_t n)
{
    size_t room = w->room ? w->room : 4096;
    char *bytes;

    while (room - w->len < n)
        room *= 2;
    if (room != w->room) {
        bytes = w->failed ? NULL : realloc(w->bytes, room);
        if (!bytes) {
            w->failed = true;
            return NULL;
        }
        w->bytes = bytes;
        w->room = room;
    }
    w->len += n;
    return w->bytes + w->len - n;
}

static void write_u8(struct writing *w, uint8_t value)
{
    char *at = room_for(w, 1);

    if (at)
        *at = (char)value;
}

static void write_u32(struct writing *w, uint32_t value)
{
    char *at = room_for(w, sizeof value);

    if (at)
        put_u32le(at, value);
}

static void write_u64(struct writing *w, uint64_t value)
{
    char *at = room_for(w, sizeof value);

    if (at)
        put_u64le(at, value);
}

static void write_bytes(struct writing *w, const void *bytes, size_t n)
{
    char *at = room_for(w, n);

    if (at && n)
        memcpy(at, bytes, n);
}

static void write_text(struct writing *w, struct slice text)
{
    write_u32(w, (uint32_t)text.len);
    write_bytes(w, text.ptr, text.len);
}

/* As it stands in memory, and in the index: little-endian machines are what there is. */
static void write_entries(struct writing *w, const struct ready_block *block)
{
    uint32_t n = block->end - block->start;

    write_u32(w, n);
    if (n)
        write_bytes(w, block->entries + block->start, n * sizeof *block->entries);
}

static void write_level(struct writing *w, const struct level *level)
{
    const struct ready *ready = &level->ready;

    write_u64(w, level->delivered);
    write_u64(w, ready->last);
    write_entries(w, &ready->front);
    write_u32(w, ready->slots_end - ready->slots_start);
    for (uint32_t i = ready->slots_start; i < ready->slots_end; i++) {
        write_u64(w, ready->slots[i].first);
        write_u32(w, ready->slots[i].slot);
        write_u32(w, ready->slots[i].crc);
    }
    write_entries(w, &ready->back);
}

static void write_queue(struct writing *w, const struct queue *queue)
{
    char *at;

    write_u32(w, queue->id);
    write_text(w, queue->name);
    at = room_for(w, queue_options_bytes(&queue->options));
    if (at)
        queue_options_put(at, &queue->options);
    write_u8(w, queue->paused);
    for (unsigned i = 0; i < queue->n_levels; i++)
        write_level(w, &queue->levels[i]);
}

/* Payloads of the records that make exchanges and bindings. */
static void write_exchanges(struct writing *w, const struct broker *broker)
{
    size_t n = exchanges_bytes(broker);
    char *at = room_for(w, n);

    if (at)
        exchanges_put(at, broker);
}

static void write_topology(struct writing *w, const struct broker *broker)
{
    write_u32(w, broker->n_queues);
    for (const struct list *at = broker->queues.next; at != &broker->queues; at = at->next)
        write_queue(w, container_of(at, struct queue, link));
    write_exchanges(w, broker);
}

/* One in flight will be there again, and delivered once more. */
static void write_held(struct writing *w, const struct broker *broker)
{
    write_u64(w, broker->n_held);
    for (uint64_t i = 0; i < broker->n_held_buckets; i++)
        for (const struct held *held = broker->held[i]; held; held = held->next_in_bucket) {
            write_u32(w, held->queue->id);
            write_bytes(w, &held->entry, sizeof held->entry);
            write_u32(w, held->attempts);
            write_u64(w, held->state == HELD_DELAYED ? held->when_us : 0);
        }
}

static void write_segments(struct writing *w, const struct broker *broker)
{
    write_u32(w, (uint32_t)broker->n_segments);
    for (size_t i = 0; i < broker->n_segments; i++) {
        write_u64(w, broker->segments[i].number);
        write_u64(w, broker->segments[i].live);
        write_u64(w, broker->segments[i].total);
    }
}

static void write_bodies(struct writing *w, const struct broker *broker)
{
    write_u32(w, (uint32_t)broker->stored.n);
    for (size_t i = 0; i < broker->stored.n_buckets; i++)
        for (struct hash_item *item = broker->stored.buckets[i]; item; item = item->next) {
            const struct stored_message *message = container_of(item, struct stored_message, by_number);

            write_u64(w, message->number);
            write_u64(w, message->body->ref.id);
            write_u64(w, message->body->ref.bytes);
            write_u64(w, message->n_entries);
        }
}

static void write_memory(struct writing *w, const struct broker *broker)
{
    const struct recent_item *item;

    write_u64(w, broker->idempotency.next - broker->idempotency.first);
    for (uint64_t i = 0; (item = recent_at(&broker->idempotency, i)); i++) {
        const struct same_key *same = (const struct same_key *)item;

        write_bytes(w, same->key, sizeof same->key);
        write_u64(w, same->number);
        write_u64(w, same->until_us);
        write_u32(w, same->address);
    }
    write_u64(w, broker->finished.next - broker->finished.first);
    for (uint64_t i = 0; (item = recent_at(&broker->finished, i)); i++) {
        const struct finished *finished = (const struct finished *)item;

        write_u64(w, finished->ref.number);
        write_u32(w, finished->ref.queue);
        write_u64(w, finished->time_us);
        write_u64(w, finished->queued_ms);
        write_u32(w, finished->end);
        write_u32(w, finished->attempts);
    }
}

/* ---- a checkpoint ------------------------------------------------------------------------------------------------ */

struct broker_checkpoint {
    struct index *index; /* borrowed */
    struct log_checkpointing *checkpointing;
    char *state;     /* owned */
    uint64_t *freed; /* segments that nothing points into; owned */
    size_t n_freed;
    uint64_t before; /* the segment that replay will begin in */
};

static void free_checkpoint(struct broker_checkpoint *checkpoint)
{
    free(checkpoint->state);
    free(checkpoint->freed);
    free(checkpoint);
}

/* Segments behind which replay will begin, and that nothing points into; one that never had a message among them. */
static bool list_freed(struct broker *broker, struct broker_checkpoint *checkpoint)
{
    size_t n = 0;

    for (uint64_t i = log_segment_first(broker->log); i < checkpoint->before;
         i = log_segment_next(broker->log, i))
        n++;
    checkpoint->freed = calloc(n + 1, sizeof *checkpoint->freed);
    if (!checkpoint->freed)
        return false;
    for (uint64_t i = log_segment_first(broker->log); i < checkpoint->before;
         i = log_segment_next(broker->log, i)) {
        if (!segments_has(broker, i))
            checkpoint->freed[checkpoint->n_freed++] = i;
    }
    return true;
}

bool broker_checkpoint_due(const struct broker *broker)
{
    return log_checkpoint_due(broker->log) || broker->n_empty > EMPTY_MOST;
}

struct broker_checkpoint *broker_checkpoint_begin(struct broker *broker)
{
    struct broker_checkpoint *checkpoint;
    struct writing w = {0};

    if (broker->checkpointing || broker_failure(broker) || log_end(broker->log) != log_durable(broker->log))
        return NULL;
    checkpoint = calloc(1, sizeof *checkpoint);
    if (!checkpoint)
        return NULL;
    write_u32(&w, CHECKPOINT_VERSION);
    write_u64(&w, broker->next_number);
    write_u32(&w, broker->next_id);
    write_u64(&w, broker->next_body);
    write_segments(&w, broker);
    write_bodies(&w, broker);
    write_topology(&w, broker);
    write_held(&w, broker);
    write_memory(&w, broker);
    checkpoint->index = broker->index;
    checkpoint->state = w.bytes;
    checkpoint->before = log_segment_of(log_end(broker->log), log_segment_bytes(broker->log));
    if (!w.failed && list_freed(broker, checkpoint))
        checkpoint->checkpointing = log_checkpoint_begin(broker->log, slice_of(w.bytes, w.len));
    if (!checkpoint->checkpointing) {
        free_checkpoint(checkpoint);
        return NULL;
    }
    index_checkpoint_begin(broker->index);
    broker->checkpointing = true;
    return checkpoint;
}

/* What it points to in the index goes to disk before it. */
int broker_checkpoint_make(struct broker_checkpoint *checkpoint)
{
    int error = index_sync(checkpoint->index);

    return error ? error : log_checkpoint_make(checkpoint->checkpointing);
}

void segments_release(struct broker *broker, uint64_t number)
{
    struct segment_refs *segment = find_segment(broker, number);

    if (segment && segment->live)
        return;
    if (segment) {
        broker->n_empty--;
        broker->n_segments--;
        memmove(segment, segment + 1,
                (size_t)(broker->segments + broker->n_segments - segment) * sizeof *segment);
    }
    if (number == broker->compacting)
        broker->compacting = UINT64_MAX;
    log_release(broker->log, number);
}

void broker_checkpoint_end(struct broker *broker, struct broker_checkpoint *checkpoint, int error)
{
    log_checkpoint_end(broker->log, checkpoint->checkpointing, error);
    index_checkpoint_end(broker->index, error == 0);
    broker->checkpointing = false;
    if (!error) {
        broker->compactable = checkpoint->before;
        for (size_t i = 0; i < checkpoint->n_freed; i++)
            segments_release(broker, checkpoint->freed[i]);
    }
    free_checkpoint(checkpoint);
}

/* ---- copying forward --------------------------------------------------------------------------------------------- */

static bool is_at(struct queue *queue, uint64_t number, uint64_t position)
{
    struct held *held = held_find(queue->broker, (struct message_ref){queue->id, number});
    struct ready_entry entry;
    struct level *level;

    if (held)
        return held->entry.position == position;
    return queue_find_ready(queue, number, &entry, &level) == 1 && entry.position == position;
}

int broker_move_entry(struct queue *queue, uint64_t number, uint64_t position)
{
    struct broker *broker = queue->broker;
    struct held *held = held_find(broker, (struct message_ref){queue->id, number});
    struct ready_entry entry;
    struct level *level;
    uint64_t from;
    int result;

    if (segments_add(broker, position, 1))
        return -ENOMEM;
    if (held) {
        from = held->entry.position;
        held->entry.position = position;
        result = 0;
    } else {
        result = queue_find_ready(queue, number, &entry, &level);
        from = entry.position;
        result = result == 0 ? -ENOENT : result < 0 ? result : ready_move(&level->ready, number, position);
    }
    segments_drop(broker, result ? position : from);
    return result;
}

/* Copies a message for the queues that still have it from here. */
static int copy_message(struct broker *broker, struct message *message, uint64_t position)
{
    char block[MESSAGE_BLOCK_BYTES];
    struct iovec parts[MESSAGE_PARTS];
    uint64_t copied;
    size_t n = 0;
    int error;

    for (unsigned i = 0; i < message_n_targets(message); i++) {
        struct queue *queue = broker_queue_by_id(broker, message_target(message, i));

        if (queue && is_at(queue, message->number, position))
            put_u32le(broker->target_ids + n++ * sizeof(uint32_t), queue->id);
    }
    if (n == 0)
        return 0;
    message->targets = slice_of(broker->target_ids, n * sizeof(uint32_t));
    message->removes = (struct message_ref){0};
    message_parts(message, block, parts);
    error = log_append(broker->log, LOG_RELIEF, 0, RECORD_COPY, parts, MESSAGE_PARTS, &copied);
    for (size_t i = 0; !error && i < n; i++)
        error = broker_move_entry(broker_queue_by_id(broker, message_target(message, (unsigned)i)),
                                  message->number, copied);
    return error;
}

/* The oldest segment of which little is needed, and which the next checkpoint could free. */
static uint64_t find_sparse(const struct broker *broker)
{
    for (size_t i = 0; i < broker->n_segments && broker->segments[i].number < broker->compactable; i++)
        if (broker->segments[i].live && broker->segments[i].live * SPARSE_SHARE < broker->segments[i].total)
            return broker->segments[i].number;
    return UINT64_MAX;
}

/* One record of the segment. False: the segment is done. */
static bool compact_one(struct broker *broker, uint64_t *bytes)
{
    struct log_record record;
    struct message message;
    int error = log_read(broker->log, broker->compact_at, 65536, &broker->buffer, &record);

    if (!error && log_kind_ends_segment(record.kind))
        return false;
    if (!error && (record.kind == RECORD_MESSAGE || record.kind == RECORD_COPY)) {
        error = message_parse(record.payload, &message) ? 0 : -EBADMSG;
        if (!error)
            error = copy_message(broker, &message, record.position);
    }
    if (error == -ENOSPC || error == -ENOMEM || error == -EIO)
        return false; /* it stays as it is until there is room again */
    if (error) {
        broker_fail(broker, "the log is damaged at position %llu: stop and run `maitred log check`",
                    (unsigned long long)broker->compact_at);
        return false;
    }
    broker->compact_at += log_record_bytes(record.payload.len);
    *bytes += log_record_bytes(record.payload.len);
    return true;
}

bool broker_compact(struct broker *broker, uint64_t bytes)
{
    uint64_t seen = 0;

    if (broker_failure(broker))
        return false;
    if (broker->compacting == UINT64_MAX) {
        broker->compacting = find_sparse(broker);
        if (broker->compacting == UINT64_MAX)
            return false;
        broker->compact_at = log_segment_begin(broker->log, broker->compacting);
    }
    while (seen < bytes)
        if (!compact_one(broker, &seen)) {
            broker->compacting = UINT64_MAX;
            return false;
        }
    return true;
}
