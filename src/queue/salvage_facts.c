/* salvage_facts.c - what the checkpoint and the records say of messages. See salvage_private.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "queue/broker_saved.h"
#include "queue/salvage_private.h"

static int add_fact(struct salvage *s, const struct fact *fact)
{
    size_t room = s->room ? s->room * 2 : 4096;
    struct fact *facts;

    if (s->n == s->room) {
        facts = realloc(s->facts, room * sizeof *facts);
        if (!facts)
            return -ENOMEM;
        s->facts = facts;
        s->room = room;
    }
    s->facts[s->n++] = *fact;
    if (fact->number >= s->next)
        s->next = fact->number + 1;
    return 0;
}

/* ---- what the checkpoint says ------------------------------------------------------------------------------------- */

static int know(struct salvage *s, uint32_t queue, const struct ready_entry *entry, uint32_t attempts,
                uint64_t due_us)
{
    return add_fact(s, &(struct fact){.kind = FACT_KNOWN,
                                      .queue = queue,
                                      .number = entry->number,
                                      .place = s->survey.state_position,
                                      .attempts = attempts,
                                      .due_us = due_us,
                                      .redelivered = entry->redelivered,
                                      .priority = entry->priority,
                                      .has_priority = true});
}

static int know_entries(struct salvage *s, uint32_t queue, struct slice list)
{
    struct ready_entry entry;
    int error = 0;

    while (!error && saved_take_entry(&list, &entry))
        error = know(s, queue, &entry, 0, 0);
    return error;
}

static int add_range(struct salvage *s, const struct range *range)
{
    struct range *ranges = realloc(s->ranges, (s->n_ranges + 1) * sizeof *ranges);

    if (!ranges)
        return -ENOMEM;
    s->ranges = ranges;
    ranges[s->n_ranges++] = *range;
    return 0;
}

/* Where a slot cannot be read, what waits is every message of its level from its first to the next one's. */
static int know_slots(struct salvage *s, const struct queue *queue, unsigned level,
                      const struct saved_level *saved, const struct index *index)
{
    struct slice slots = saved->slots, next, back = saved->back;
    struct ready_entry *entries = malloc(READY_SLOT_BYTES), first_behind;
    struct ready_slot slot, behind;
    uint64_t first = saved_take_entry(&back, &first_behind) ? first_behind.number : saved->last + 1;
    int error = entries ? 0 : -ENOMEM;

    while (!error && saved_take_slot(&slots, &slot)) {
        int unread = index_read(index, &slot, entries);

        next = slots;
        for (unsigned i = 0; !unread && !error && i < READY_SLOT_ENTRIES; i++)
            error = know(s, queue->id, &entries[i], 0, 0);
        if (unread && !error)
            error = add_range(s, &(struct range){queue->id, level, queue->n_levels, slot.first,
                                                 saved_take_slot(&next, &behind) ? behind.first : first});
    }
    free(entries);
    return error;
}

static int know_levels(struct salvage *s, struct queue *queue, struct slice *state, const struct index *index)
{
    struct saved_level saved;
    int error = 0;

    for (unsigned i = 0; !error && i < queue->n_levels; i++) {
        if (!saved_take_level(state, &saved))
            return -EBADMSG;
        queue->levels[i].delivered = saved.delivered;
        error = know_entries(s, queue->id, saved.front);
        if (!error)
            error = know_slots(s, queue, i, &saved, index);
        if (!error)
            error = know_entries(s, queue->id, saved.back);
    }
    return error;
}

static int know_queues(struct salvage *s, struct slice *state, const struct index *index)
{
    struct saved_queue q;
    struct queue *queue;
    uint32_t n;
    int error = take_u32le(state, &n) ? 0 : -EBADMSG;

    while (!error && n--) {
        if (!saved_take_queue(state, &q))
            return -EBADMSG;
        queue = queue_create(s->broker, q.id, q.name, &q.options);
        if (!queue)
            return -ENOMEM;
        queue->paused = q.paused;
        error = know_levels(s, queue, state, index);
    }
    return error;
}

static int know_held(struct salvage *s, struct slice *state)
{
    struct saved_held held;
    uint64_t n;
    int error = take_u64le(state, &n) ? 0 : -EBADMSG;

    while (!error && n--)
        error = saved_take_held(state, &held) ? know(s, held.queue, &held.entry, held.attempts, held.due_us)
                                              : -EBADMSG;
    return error;
}

int salvage_know_checkpoint(struct salvage *s)
{
    struct storage *shadow = storage_open_shadow(s->survey.storage);
    struct slice state = slice_of(s->survey.state, s->survey.state_len);
    struct saved_state saved;
    struct index *index = NULL;
    int error = shadow ? index_open(&index, shadow) : -ENOMEM;

    if (!error)
        error = saved_take_state(&state, &saved) ? 0 : -EBADMSG;
    if (!error) {
        s->next = saved.next_number;
        s->segments = saved.segments;
        s->broker->next_id = saved.next_id;
        error = know_queues(s, &state, index);
    }
    if (!error)
        error = broker_load_exchanges(s->broker, &state);
    if (!error)
        error = know_held(s, &state);
    index_close(index);
    if (shadow)
        storage_close_shadow(shadow);
    return error;
}

/* ---- what records say --------------------------------------------------------------------------------------------- */

static bool in_range(const struct salvage *s, uint32_t queue, const struct message *m)
{
    for (size_t i = 0; i < s->n_ranges; i++) {
        const struct range *r = &s->ranges[i];
        unsigned level = m->priority < r->n_levels ? m->priority : r->n_levels - 1;

        if (r->queue == queue && r->level == level && m->number >= r->first && m->number < r->behind &&
            !m->due_us)
            return true;
    }
    return false;
}

/* As replay does: what is older than one that left or failed had been delivered before. */
static int note_delivered(struct salvage *s, struct message_ref upto)
{
    struct queue *queue = broker_queue_by_id(s->broker, upto.queue);
    size_t room = s->marks_room ? s->marks_room * 2 : 256;
    struct mark *marks;

    if (queue && queue->n_levels == 1 && upto.number > queue->levels[0].delivered)
        queue->levels[0].delivered = upto.number;
    if (!queue || queue->n_levels == 1)
        return 0;
    if (s->n_marks == s->marks_room) {
        marks = realloc(s->marks, room * sizeof *marks);
        if (!marks)
            return -ENOMEM;
        s->marks = marks;
        s->marks_room = room;
    }
    s->marks[s->n_marks++] = (struct mark){upto.queue, upto.number};
    return 0;
}

static int take_done(struct salvage *s, struct message_ref ref, uint64_t place)
{
    int error = note_delivered(s, ref);

    return error ? error
                 : add_fact(s,
                            &(struct fact){
                                .kind = FACT_DONE, .queue = ref.queue, .number = ref.number, .place = place});
}

static int take_message(struct salvage *s, const struct log_record *record, bool is_new)
{
    struct message m;
    int error = 0;

    if (!message_parse(record->payload, &m)) {
        salvage_say(s, "the message at position %" PRIu64 " cannot be understood", record->position);
        return 0;
    }
    for (unsigned i = 0; !error && i < message_n_targets(&m); i++) {
        struct fact fact = {.kind = FACT_RECORD,
                            .queue = message_target(&m, i),
                            .number = m.number,
                            .place = record->position,
                            .waits = is_new || in_range(s, message_target(&m, i), &m),
                            .priority = m.priority,
                            .has_priority = true,
                            .stored = m.stored.id != 0,
                            .was_delayed = m.due_us != 0};

        error = add_fact(s, &fact);
    }
    return !error && is_new && m.removes.queue ? take_done(s, m.removes, record->position) : error;
}

static int take_list(struct salvage *s, const struct log_record *record)
{
    struct slice list = record->payload;
    struct done_entry done;
    struct retry_entry retry;
    struct message_ref upto;
    int error = 0;

    while (!error && record->kind == RECORD_DONE && take_done_entry(&list, &done))
        error = take_done(s, done.ref, record->position);
    while (!error && record->kind == RECORD_RETRY && take_retry_entry(&list, &retry)) {
        error = note_delivered(s, retry.ref);
        if (!error)
            error = add_fact(s, &(struct fact){.kind = FACT_RETRY,
                                               .queue = retry.ref.queue,
                                               .number = retry.ref.number,
                                               .place = record->position,
                                               .attempts = retry.attempts,
                                               .due_us = retry.due_us,
                                               .redelivered = true});
    }
    while (!error && record->kind == RECORD_DELIVERED && take_delivered_entry(&list, &upto))
        error = note_delivered(s, upto);
    return error;
}

static int note_deleted(struct salvage *s, uint32_t queue)
{
    uint32_t *deleted = realloc(s->deleted, (s->n_deleted + 1) * sizeof *deleted);

    if (!deleted)
        return -ENOMEM;
    s->deleted = deleted;
    deleted[s->n_deleted++] = queue;
    return 0;
}

static int take_topology(struct salvage *s, const struct log_record *record)
{
    int error = topology_replay(s->broker, record);

    if (error == -EBADMSG)
        salvage_say(s,
                    "the record at position %" PRIu64
                    " tells of a queue or topic that is not known, and is left out",
                    record->position);
    else if (error)
        return error;
    return record->kind == RECORD_QUEUE_DELETE && record->payload.len >= 4
               ? note_deleted(s, get_u32le(record->payload.ptr))
               : 0;
}

int salvage_take_record(void *arg, const struct log_record *record)
{
    struct salvage *s = arg;
    bool is_new = !s->survey.state || record->position >= s->survey.state_position;

    if (record->position >= s->end)
        return 0;
    switch (record->kind) {
    case RECORD_MESSAGE:
    case RECORD_COPY:
        return take_message(s, record, is_new);
    case RECORD_DONE:
    case RECORD_RETRY:
    case RECORD_DELIVERED:
        return is_new ? take_list(s, record) : 0;
    default:
        return is_new ? take_topology(s, record) : 0;
    }
}
