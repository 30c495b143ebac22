/* broker_load.c - from a checkpoint to the state as of its position. See broker_private.h.
 *
 * Slots of the index that do not verify are made anew, with all others, from the messages in the log: what a queue has in
 * slots is every message of it whose number lies between what the checkpoint has before and behind them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "queue/broker_saved.h"

/* ---- the index made anew ----------------------------------------------------------------------------------------- */

/* An entry that belongs into a queue's slots. */
struct found {
    uint32_t queue;
    const struct level *level;
    struct ready_entry entry;
};

/* Which numbers of a queue stand in slots. */
struct slot_range {
    uint32_t queue;
    const struct level *level;
    uint64_t first, behind;
};

struct rebuilding {
    struct broker *broker;
    struct slot_range *ranges;
    size_t n_ranges;
    struct found *found;
    size_t n, room;
};

static int note_range(struct rebuilding *r, uint32_t queue, const struct level *level,
                      const struct saved_level *saved)
{
    struct slice slots = saved->slots, back = saved->back;
    struct ready_entry entry;
    struct ready_slot slot;
    struct slot_range *ranges;

    if (!saved_take_slot(&slots, &slot))
        return 0;
    ranges = realloc(r->ranges, (r->n_ranges + 1) * sizeof *ranges);
    if (!ranges)
        return -ENOMEM;
    r->ranges = ranges;
    ranges[r->n_ranges++] = (struct slot_range){
        queue, level, slot.first, saved_take_entry(&back, &entry) ? entry.number : saved->last + 1};
    return 0;
}

static int note_found(struct rebuilding *r, const struct slot_range *range, const struct ready_entry *entry)
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
    r->found[r->n++] = (struct found){range->queue, range->level, *entry};
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
        for (size_t k = 0; !error && k < r->n_ranges; k++) {
            const struct slot_range *range = &r->ranges[k];
            const struct queue *queue = broker_queue_by_id(r->broker, range->queue);
            struct ready_entry entry;

            if (range->queue != message_target(&message, i) ||
                range->level != queue_level(queue, message.priority) || message.number < range->first ||
                message.number >= range->behind || message.due_us)
                continue;
            entry = broker_entry(queue, &message, record->position);
            error = note_found(r, range, &entry);
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
static int push_found(struct level *level, const struct rebuilding *r, uint64_t wanted)
{
    uint64_t n = 0, last = 0;

    for (size_t i = 0; i < r->n; i++) {
        const struct found *found = &r->found[i];

        if (found->level != level || found->entry.number == last)
            continue;
        last = found->entry.number;
        if (ready_reserve(&level->ready))
            return -ENOMEM;
        ready_push(&level->ready, &found->entry);
        n++;
    }
    return n == wanted ? 0 : -EBADMSG;
}

/* ---- loading a checkpoint ---------------------------------------------------------------------------------------- */

static int push_entries(struct level *level, struct slice list)
{
    struct ready_entry entry;

    while (saved_take_entry(&list, &entry)) {
        if (entry.number <= level->ready.last)
            return -EBADMSG;
        if (ready_reserve(&level->ready))
            return -ENOMEM;
        ready_push(&level->ready, &entry);
    }
    return 0;
}

/* rebuilding NULL: slots are taken as they are. */
static int load_level(struct level *level, const struct saved_level *saved,
                      const struct rebuilding *rebuilding)
{
    struct slice slots = saved->slots;
    struct ready_slot slot;
    int error = push_entries(level, saved->front);

    if (!error && rebuilding)
        error = push_found(level, rebuilding, slots.len / CHECKPOINT_SLOT_BYTES * READY_SLOT_ENTRIES);
    while (!error && !rebuilding && saved_take_slot(&slots, &slot))
        error = ready_adopt(&level->ready, &slot);
    if (!error)
        error = push_entries(level, saved->back);
    level->ready.last = saved->last;
    return error;
}

static int load_levels(struct queue *queue, struct slice *s, bool with_ready, struct rebuilding *rebuilding)
{
    struct saved_level saved;
    int error = 0;

    for (unsigned i = 0; !error && i < queue->n_levels; i++) {
        struct level *level = &queue->levels[i];

        if (!saved_take_level(s, &saved))
            return -EBADMSG;
        level->delivered = saved.delivered;
        error = with_ready ? load_level(level, &saved, rebuilding)
                           : note_range(rebuilding, queue->id, level, &saved);
    }
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
        if (!saved_take_queue(s, &q))
            return -EBADMSG;
        queue = broker_queue_by_id(broker, q.id);
        if (!queue)
            queue = queue_create(broker, q.id, q.name, &q.options);
        if (!queue)
            return -ENOMEM;
        queue->paused = q.paused;
        error = load_levels(queue, s, with_ready, rebuilding);
    }
    return error;
}

static int load_held(struct broker *broker, struct slice *s)
{
    struct saved_held saved;
    struct queue *queue;
    struct held *held;
    uint64_t n;

    if (!take_u64le(s, &n))
        return -EBADMSG;
    while (n--) {
        if (!saved_take_held(s, &saved))
            return -EBADMSG;
        queue = broker_queue_by_id(broker, saved.queue);
        if (!queue)
            return -EBADMSG;
        held = held_create(queue, &saved.entry, saved.due_us ? HELD_DELAYED : HELD_AGAIN, saved.due_us);
        if (!held || segments_add(broker, saved.entry.position, 1))
            return -ENOMEM;
        held->attempts = saved.attempts;
        queue->bytes += saved.entry.bytes;
        if (body_count(broker, &saved.entry))
            return -EBADMSG;
    }
    return 0;
}

/* What there ever was in a segment, for telling how sparse it is. What there is now was counted: it must be the same. */
static int load_segments(struct broker *broker, struct slice list, struct log_report *report)
{
    struct saved_segment segment;
    size_t n = 0;

    while (saved_take_segment(&list, &segment)) {
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
        if (body_count(queue->broker, &entries[i]))
            return -EBADMSG;
    }
    return 0;
}

/* Looks at all that waits: what it points to, and whether it verifies. */
static int count_ready(struct broker *broker)
{
    int error = 0;

    for (struct list *at = broker->queues.next; !error && at != &broker->queues; at = at->next) {
        struct queue *queue = container_of(at, struct queue, link);

        for (unsigned i = 0; !error && i < queue->n_levels; i++)
            error = ready_each(&queue->levels[i].ready, count_entries, queue);
    }
    return error;
}

/* Empties what load_queues put in. */
static void clear_ready(struct broker *broker)
{
    for (struct list *at = broker->queues.next; at != &broker->queues; at = at->next) {
        struct queue *queue = container_of(at, struct queue, link);

        for (unsigned i = 0; i < queue->n_levels; i++)
            ready_clear(&queue->levels[i].ready);
        queue->bytes = 0;
    }
    bodies_uncount(broker);
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
    while (!error && saved_take_segment(&segments, &segment))
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

int broker_load(struct broker *broker, struct slice s, struct log_report *report)
{
    struct saved_state state;
    struct slice queues;
    int error;

    if (!s.len) {
        index_clear(broker->index);
        return 0;
    }
    if (!saved_take_state(&s, &state))
        return -EBADMSG;
    broker->next_number = state.next_number;
    broker->next_id = state.next_id;
    broker->next_body = state.next_body;
    error = bodies_load(broker, state.bodies);
    if (error)
        return error;
    queues = s;
    error = load_queues(broker, &s, true, NULL);
    if (!error) {
        index_claimed(broker->index);
        error = count_ready(broker);
    }
    if (error == -EBADMSG || error == -EIO) {
        s = queues;
        error = rebuild_index(broker, &s, state.segments, report);
    }
    if (!error)
        error = broker_load_exchanges(broker, &s);
    if (!error)
        error = load_held(broker, &s);
    if (!error)
        error = load_segments(broker, state.segments, report);
    if (!error)
        error = bodies_check(broker, state.bodies, report);
    if (!error)
        error = load_memory(broker, &s);
    return error ? error : find_missing(broker, report);
}
